//! A version of the store as revm reads it.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
};

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, map::B256Map};
use bristlecone::{Account, Key, Since, Snapshot, View};
use revm::{
    Database, DatabaseRef,
    state::{AccountInfo, Bytecode},
};

use crate::StateError;

/// The hashes of the last 256 blocks. Cloning it costs 8 KiB; the executor shares one for each block.
#[derive(Clone, Debug, Default)]
pub struct BlockHashes {
    /// The number of the newest one.
    newest: u64,
    /// The newest last.
    hashes: VecDeque<B256>,
}

impl BlockHashes {
    /// Blocks before the one that is executed whose hashes contracts may ask for.
    pub const WINDOW: u64 = 256;

    /// Adds the hash of block `number`. One that does not follow the newest begins anew.
    pub fn push(&mut self, number: u64, hash: B256) {
        if self.hashes.is_empty() || self.newest.checked_add(1) != Some(number) {
            self.hashes.clear();
        }
        if self.hashes.len() as u64 == Self::WINDOW {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash);
        self.newest = number;
    }

    /// The hash of block `number`, if it is among the last 256.
    pub fn get(&self, number: u64) -> Option<B256> {
        let back = usize::try_from(self.newest.checked_sub(number)?).ok()?;
        self.hashes.get(self.hashes.len().checked_sub(back + 1)?).copied()
    }

    /// Number and hash of the newest block.
    pub fn newest(&self) -> Option<(u64, B256)> {
        Some((self.newest, *self.hashes.back()?))
    }

    /// Forgets all blocks above `number`.
    pub fn truncate(&mut self, number: u64) {
        while self.newest > number && self.hashes.pop_back().is_some() {
            self.newest -= 1;
        }
    }
}

/// Contract code that was read, ready to run: revm finds the jump destinations of a code once. Shared by clones, bounded.
#[derive(Clone, Debug, Default)]
pub struct CodeCache {
    shards: Arc<[RwLock<B256Map<Bytecode>>; 16]>,
}

/// Codes in a shard at most: with 16 shards of codes of 24 KiB, about 400 MiB if every code is of the largest kind.
const CODES_A_SHARD: usize = 1024;

impl CodeCache {
    fn shard(&self, hash: B256) -> &RwLock<B256Map<Bytecode>> {
        let [first, ..] = hash.0;
        #[expect(clippy::indexing_slicing, reason = "four bits into sixteen shards")]
        &self.shards[usize::from(first & 15)]
    }

    fn get(&self, hash: B256) -> Option<Bytecode> {
        self.shard(hash).read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()
    }

    fn put(&self, hash: B256, code: Bytecode) {
        let mut shard = self.shard(hash).write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= CODES_A_SHARD {
            shard.clear();
        }
        shard.insert(hash, code);
    }
}

/// A version of the store, with what else a block's execution asks for. Clones share everything, so that many executors read
/// one version; none of them waits for the committer.
#[derive(Clone, Debug)]
pub struct StateDb {
    snapshot: Snapshot,
    /// The namespace with the accounts; empty: the first.
    namespace: Arc<str>,
    hashes: Arc<BlockHashes>,
    codes: CodeCache,
}

impl StateDb {
    /// Reads `snapshot`; `hashes` are those of its block and of the blocks before it.
    pub fn new(snapshot: Snapshot, hashes: Arc<BlockHashes>, codes: CodeCache) -> Self {
        Self { snapshot, namespace: "".into(), hashes, codes }
    }

    /// The same with the accounts of another namespace than the first: a chain may keep several networks in one store, which
    /// are committed together under one root. Codes are shared by all.
    ///
    /// # Errors
    ///
    /// [`bristlecone::Error::NoNamespace`].
    pub fn of_namespace(self, name: &str) -> Result<Self, StateError> {
        self.snapshot.namespace(name)?;
        Ok(Self { namespace: name.into(), ..self })
    }

    fn view(&self) -> Result<View<'_>, StateError> {
        match self.namespace.is_empty() {
            true => Ok(self.snapshot.first()),
            false => Ok(self.snapshot.namespace(&self.namespace)?),
        }
    }

    fn unchanged(&self, older: &Self, key: Key<'_>) -> Result<bool, StateError> {
        let known = self.namespace == older.namespace;
        Ok(known && self.view()?.changed_since(key, &older.snapshot)? == Since::Unchanged)
    }

    /// The version that is read.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// A state that blocks are executed on: revm's reads, from many threads, and many at once.
pub trait State: DatabaseRef<Error = StateError> + Sync {
    /// Many accounts, in their order.
    fn accounts(&self, addresses: &[Address]) -> Result<Vec<Option<AccountInfo>>, StateError> {
        addresses.iter().map(|address| self.basic_ref(*address)).collect()
    }

    /// Many slots, in their order.
    fn slots(&self, slots: &[(Address, U256)]) -> Result<Vec<U256>, StateError> {
        slots.iter().map(|(address, slot)| self.storage_ref(*address, *slot)).collect()
    }

    /// Whether the body of an account is known to be what it is in `older`, a state that this one came from. *Yes* is never said where they
    /// differ. A state that cannot tell says no.
    fn account_unchanged(&self, older: &Self, address: Address) -> Result<bool, StateError> {
        let _ = (older, address);
        Ok(false)
    }

    /// The same of a slot.
    fn slot_unchanged(&self, older: &Self, address: Address, slot: U256) -> Result<bool, StateError> {
        let _ = (older, address, slot);
        Ok(false)
    }
}

impl State for StateDb {
    fn accounts(&self, addresses: &[Address]) -> Result<Vec<Option<AccountInfo>>, StateError> {
        let found = self.view()?.account_many(addresses)?;
        Ok(found.into_iter().map(|account| account.map(info)).collect())
    }

    fn slots(&self, slots: &[(Address, U256)]) -> Result<Vec<U256>, StateError> {
        let slots: Vec<_> = slots.iter().map(|(address, slot)| (*address, B256::from(*slot))).collect();
        Ok(self.view()?.slot_many(&slots)?)
    }

    fn account_unchanged(&self, older: &Self, address: Address) -> Result<bool, StateError> {
        self.unchanged(older, Key::Account(address.as_slice()))
    }

    fn slot_unchanged(&self, older: &Self, address: Address, slot: U256) -> Result<bool, StateError> {
        self.unchanged(older, Key::Slot(address.as_slice(), B256::from(slot)))
    }
}

fn info(account: Account) -> AccountInfo {
    AccountInfo {
        balance: account.balance,
        nonce: account.nonce,
        code_hash: account.code_hash,
        account_id: None,
        // The code of contracts is asked for by its hash when it is needed.
        code: (account.code_hash == KECCAK256_EMPTY).then(Bytecode::default),
    }
}

impl DatabaseRef for StateDb {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        Ok(self.view()?.account(address.as_slice())?.map(info))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        if hash == KECCAK256_EMPTY {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.codes.get(hash) {
            return Ok(code);
        }
        let code = self.snapshot.code(hash)?.ok_or(StateError::NoCode(hash))?;
        let code = Bytecode::new_raw(code.into());
        self.codes.put(hash, code.clone());
        Ok(code)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        Ok(self.view()?.slot(address.as_slice(), B256::from(slot))?)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.hashes.get(number).ok_or(StateError::NoBlockHash(number))
    }
}

impl Database for StateDb {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.basic_ref(address)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateError> {
        self.code_by_hash_ref(hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.storage_ref(address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.block_hash_ref(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_256_hashes_are_known() {
        let mut hashes = BlockHashes::default();
        assert_eq!((hashes.newest(), hashes.get(0)), (None, None));
        for number in 10..=300 {
            hashes.push(number, B256::with_last_byte(number as u8));
        }
        for (number, known) in [(9, false), (44, false), (45, true), (300, true), (301, false)] {
            let expected = known.then(|| B256::with_last_byte(number as u8));
            assert_eq!(hashes.get(number), expected, "{number}");
        }
        hashes.truncate(299);
        assert_eq!(hashes.newest(), Some((299, B256::with_last_byte(43))));
        assert_eq!(hashes.get(300), None);
        hashes.push(500, B256::ZERO);
        assert_eq!((hashes.get(299), hashes.newest()), (None, Some((500, B256::ZERO))));
    }
}
