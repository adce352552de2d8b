//! Genesis states from geth's genesis.json.

mod read;

use alloy_consensus::{EMPTY_ROOT_HASH, Header};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_trie::TrieAccount;
use bristlecone::{Account, Batch};

use crate::chain::Rules;

pub use read::MAX_FILE_BYTES;

/// One account of a genesis state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenesisAccount {
    /// Who.
    pub address: Address,
    /// Number of transactions sent or contracts made.
    pub nonce: u64,
    /// In wei.
    pub balance: U256,
    /// Contract code; empty for an account without.
    pub code: Bytes,
    /// Slots and their values, sorted by slot, none of them zero.
    pub storage: Vec<(B256, U256)>,
}

impl GenesisAccount {
    /// Keccak-256 of the code.
    pub fn code_hash(&self) -> B256 {
        if self.code.is_empty() { KECCAK256_EMPTY } else { keccak256(&self.code) }
    }
}

/// A genesis state, and the rules of its chain where they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Genesis {
    /// Sorted by address, each once.
    pub accounts: Vec<GenesisAccount>,
    /// Block 0. Where the rules are not known, only what the file says is in it.
    pub header: Header,
    /// From the file's `config`; where it has none, those of a public network with the same state root.
    pub rules: Option<Rules>,
    /// The root that the file itself claims (`stateRoot`). Clients ignore that field; compare it with
    /// [`state_root`](Self::state_root) to warn about a file that was edited.
    pub stated_root: Option<B256>,
}

impl Genesis {
    /// The hash of block 0.
    pub fn hash(&self) -> B256 {
        self.header.hash_slow()
    }

    /// Fills in what follows from accounts and rules: the state root, and the fields that forks in force at the genesis
    /// brought.
    fn finish_header(&mut self) {
        self.header.state_root = self.state_root();
        let Some(rules) = &self.rules else { return };
        let header = &mut self.header;
        let reached = |fork: Option<u64>, at: u64| fork.is_some_and(|first| at >= first);
        let time = header.timestamp;
        // Clients put the fields of London and Shanghai into a genesis of proof of work too.
        header.base_fee_per_gas = reached(rules.forks.london, 0)
            .then(|| header.base_fee_per_gas.unwrap_or(alloy_eips::eip1559::INITIAL_BASE_FEE));
        header.withdrawals_root = reached(rules.forks.shanghai, time).then_some(EMPTY_ROOT_HASH);
        let cancun = reached(rules.forks.cancun, time);
        header.blob_gas_used = cancun.then(|| header.blob_gas_used.unwrap_or_default());
        header.excess_blob_gas = cancun.then(|| header.excess_blob_gas.unwrap_or_default());
        header.parent_beacon_block_root = cancun.then_some(B256::ZERO);
        header.requests_hash = reached(rules.forks.prague, time).then_some(EMPTY_REQUESTS_HASH);
    }

    /// The state root, computed with alloy-trie and not with Bristlecone, so that each checks the other.
    /// Costs a hash or two per account and slot.
    pub fn state_root(&self) -> B256 {
        alloy_trie::root::state_root_unhashed(self.accounts.iter().map(|account| {
            let storage = account.storage.iter().copied();
            let storage_root = alloy_trie::root::storage_root_unhashed(storage);
            let account_value =
                TrieAccount::new(account.nonce, account.balance, storage_root, account.code_hash());
            (account.address, account_value)
        }))
    }

    /// Everything as one batch, to be committed as the first version. Accounts that are empty are kept,
    /// as clients do.
    pub fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        self.add_to(&mut batch, "");
        batch
    }

    /// Adds everything to `batch`, in a namespace of the store; the empty name is the first.
    pub fn add_to(&self, batch: &mut Batch, namespace: &str) {
        for account in self.accounts.iter().filter(|account| !account.code.is_empty()) {
            batch.set_code(account.code_hash(), account.code.0.clone());
        }
        let mut batch = batch.namespace(namespace);
        for account in &self.accounts {
            let address = account.address.as_slice();
            let code_hash = account.code_hash();
            batch
                .set_account(address, &Account { nonce: account.nonce, balance: account.balance, code_hash });
            for (slot, value) in &account.storage {
                batch.set_slot(address, *slot, *value);
            }
        }
    }
}
