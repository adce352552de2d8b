//! The state before the first transaction, as all of a block's threads read it: what the protocol changed first, then what
//! was read already, then the store.

use std::{
    hash::BuildHasher,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use alloy_primitives::{
    Address, B256, U256,
    map::{AddressMap, DefaultHashBuilder, HashMap},
};
use revm::state::{AccountInfo, Bytecode};

use crate::{StateError, changes::Changes, db::State};

#[derive(Debug, Default)]
struct Shard {
    accounts: AddressMap<Option<AccountInfo>>,
    slots: HashMap<(Address, U256), U256>,
}

/// What was read lies in one of these many maps, each under its own lock.
const SHARDS: usize = 256;

pub(super) struct Base<'a, D> {
    state: &'a D,
    first: &'a Changes,
    hasher: DefaultHashBuilder,
    shards: Vec<Mutex<Shard>>,
    reads: AtomicU64,
}

impl<'a, D: State> Base<'a, D> {
    /// `first` is what the protocol changed on top of `state`.
    pub(super) fn new(state: &'a D, first: &'a Changes) -> Self {
        Self {
            state,
            first,
            hasher: DefaultHashBuilder::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            reads: AtomicU64::new(0),
        }
    }

    /// Accounts and slots that were asked of the store.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    fn shard(&self, key: impl std::hash::Hash) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "a remainder of the number of shards")]
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn account(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        if let Some(change) = self.first.accounts.get(&address) {
            return Ok(change.info.clone());
        }
        if let Some(known) = self.shard(address).accounts.get(&address) {
            return Ok(known.clone());
        }
        // Not under the lock: two may read the same, which harms nobody.
        self.reads.fetch_add(1, Relaxed);
        let info = self.state.basic_ref(address)?;
        self.shard(address).accounts.insert(address, info.clone());
        Ok(info)
    }

    pub(super) fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        if let Some(change) = self.first.accounts.get(&address) {
            if let Some(value) = change.slots.get(&slot) {
                return Ok(*value);
            }
            if change.wiped {
                return Ok(U256::ZERO);
            }
        }
        let key = (address, slot);
        if let Some(known) = self.shard(key).slots.get(&key) {
            return Ok(*known);
        }
        self.reads.fetch_add(1, Relaxed);
        let value = self.state.storage_ref(address, slot)?;
        self.shard(key).slots.insert(key, value);
        Ok(value)
    }

    pub(super) fn code(&self, hash: B256) -> Result<Bytecode, StateError> {
        match self.first.codes.get(&hash) {
            Some(code) => Ok(code.clone()),
            None => self.state.code_by_hash_ref(hash),
        }
    }

    pub(super) fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.state.block_hash_ref(number)
    }

    /// Reads accounts and slots ahead, their cache misses overlapping.
    pub(super) fn prefetch(
        &self,
        addresses: &[Address],
        slots: &[(Address, U256)],
    ) -> Result<(), StateError> {
        self.reads.fetch_add((addresses.len() + slots.len()) as u64, Relaxed);
        for (address, info) in addresses.iter().zip(self.state.accounts(addresses)?) {
            self.shard(address).accounts.insert(*address, info);
        }
        for (key, value) in slots.iter().zip(self.state.slots(slots)?) {
            self.shard(key).slots.insert(*key, value);
        }
        Ok(())
    }
}
