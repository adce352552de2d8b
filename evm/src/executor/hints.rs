//! What is known of a block's transactions before they run.

use alloy_eips::eip7928::BlockAccessList;
use alloy_primitives::{
    Address, U256,
    map::{AddressMap, HashMap},
};

use crate::block::Block;

/// Who most likely depends on whom, and what will be read. It is used to order work and to read ahead: wrong hints cost time
/// and change no result.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// For each transaction the last one before it that it had better wait for.
    after: Vec<Option<usize>>,
    /// To be read before the first transaction, besides senders, receivers and access lists.
    pub(super) accounts: Vec<Address>,
    pub(super) slots: Vec<(Address, U256)>,
}

/// Who touched each place last, while the transactions are gone through in order.
#[derive(Default)]
struct Last {
    accounts: AddressMap<usize>,
    slots: HashMap<(Address, U256), usize>,
}

impl Last {
    /// `transaction` is at `account` now; the one before it there.
    fn account(&mut self, account: Address, transaction: usize) -> Option<usize> {
        self.accounts.insert(account, transaction).filter(|before| *before != transaction)
    }

    fn slot(&mut self, slot: (Address, U256), transaction: usize) -> Option<usize> {
        self.slots.insert(slot, transaction).filter(|before| *before != transaction)
    }
}

impl Hints {
    /// Nothing is known: transactions of one sender all the same follow each other.
    pub fn senders(block: &Block) -> Self {
        let mut last = Last::default();
        let senders = block.transactions.iter().map(|transaction| transaction.signer());
        let after = senders.enumerate().map(|(index, sender)| last.account(sender, index));
        Self { after: after.collect(), ..Self::default() }
    }

    /// From the access lists of the transactions (EIP-2930): two that name the same slot follow each other, as do those of one
    /// sender. Slots are read ahead anyhow.
    pub fn access_lists(block: &Block) -> Self {
        let mut last = Last::default();
        let after = block.transactions.iter().enumerate().map(|(index, transaction)| {
            let mut after = last.account(transaction.signer(), index);
            let list = alloy_consensus::Transaction::access_list(transaction.inner());
            for item in list.iter().flat_map(|list| list.iter()) {
                for slot in &item.storage_keys {
                    after = after.max(last.slot((item.address, (*slot).into()), index));
                }
            }
            after
        });
        Self { after: after.collect(), ..Self::default() }
    }

    /// From the access list of the block (EIP-7928): two that write to the same slot, or change the same account, follow each
    /// other, and everything that the block touches is read ahead. Balances of the beneficiary order nothing.
    pub fn block_access_list(block: &Block, list: &BlockAccessList) -> Self {
        let mut hints = Self::senders(block);
        let beneficiary = block.header.beneficiary;
        for account in list {
            let address = account.address;
            hints.accounts.push(address);
            hints.slots.extend(account.storage_reads.iter().map(|slot| (address, *slot)));
            for slot in &account.storage_changes {
                hints.slots.push((address, slot.slot));
                hints.chain(slot.changes.iter().map(|change| change.block_access_index.get()));
            }
            hints.chain(account.nonce_changes.iter().map(|change| change.block_access_index.get()));
            if address != beneficiary {
                hints.chain(account.balance_changes.iter().map(|change| change.block_access_index.get()));
            }
        }
        hints
    }

    /// Those who write one place, ascending, by their index in a block access list: 0 is what comes before the first
    /// transaction.
    fn chain(&mut self, writers: impl Iterator<Item = u64>) {
        let mut before = None;
        for index in writers {
            let Some(transaction) = index.checked_sub(1).and_then(|index| usize::try_from(index).ok()) else {
                continue;
            };
            if let Some(after) = self.after.get_mut(transaction) {
                *after = (*after).max(before);
                before = Some(transaction);
            }
        }
    }

    /// The transaction that `transaction` had better wait for.
    pub(super) fn after(&self, transaction: usize) -> Option<usize> {
        self.after.get(transaction).copied().flatten().filter(|before| *before < transaction)
    }

    /// How many transactions wait for another.
    pub fn ordered(&self) -> usize {
        self.after.iter().flatten().count()
    }
}
