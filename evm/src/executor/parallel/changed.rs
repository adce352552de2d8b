//! What the transactions of a block changed together, taken out of their memory.

use alloy_primitives::{
    Address, U256,
    map::{AddressMap, B256Map},
};
use revm::state::{AccountInfo, Bytecode};

use crate::changes::{AccountChange, Changes};

/// What the transactions of a block changed together.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) accounts: Vec<(Address, Option<AccountInfo>)>,
    /// Bodies that were read and did not change.
    pub(super) before: AddressMap<Option<AccountInfo>>,
    pub(super) slots: Vec<(Address, U256, U256, usize)>,
    /// With the last transaction that did it.
    pub(super) wipes: AddressMap<usize>,
    pub(super) codes: B256Map<Bytecode>,
}

impl Changed {
    /// Adds it to `changes`, which come before.
    pub(super) fn add_to(self, changes: &mut Changes) {
        for address in self.wipes.keys() {
            changes.delete(*address);
        }
        for (address, info) in self.accounts {
            match info {
                Some(info) => changes.set_info(address, info),
                None => changes.delete(address),
            }
        }
        for (address, slot, value, transaction) in self.slots {
            if self.wipes.get(&address).is_some_and(|wiped| *wiped > transaction) {
                continue;
            }
            let change = changes.accounts.entry(address).or_insert_with(|| AccountChange {
                info: self.before.get(&address).cloned().flatten(),
                ..Default::default()
            });
            change.slots.insert(slot, value);
        }
        for (hash, code) in self.codes {
            changes.codes.entry(hash).or_insert(code);
        }
    }
}
