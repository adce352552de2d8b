//! What one run of a transaction reads, and a note of where it came from.

use alloy_primitives::{Address, B256, U256};
use revm::{
    Database,
    state::{AccountInfo, Bytecode},
};

use super::{
    base::Base,
    memory::{Memory, Origins, Place, Read},
};
use crate::{StateError, db::State};

pub(super) struct View<'a, D> {
    base: &'a Base<'a, D>,
    memory: &'a Memory,
    transaction: usize,
    reads: Vec<Read>,
    /// The last account whose wipe was looked for: slots come in runs of one account.
    wipe_of: Option<(Address, Origins)>,
}

impl<'a, D: State> View<'a, D> {
    pub(super) fn new(base: &'a Base<'a, D>, memory: &'a Memory) -> Self {
        Self { base, memory, transaction: 0, reads: Vec::new(), wipe_of: None }
    }

    /// For a run of this transaction from now on.
    pub(super) fn begin(&mut self, transaction: usize) {
        self.transaction = transaction;
        self.reads.clear();
        self.wipe_of = None;
    }

    /// What the run read.
    pub(super) fn take_reads(&mut self) -> Vec<Read> {
        std::mem::take(&mut self.reads)
    }

    /// Who wiped the account's storage before, noted once for slots that follow each other.
    fn wipe(&mut self, address: Address) -> Result<Origins, StateError> {
        if let Some((known, origins)) = &self.wipe_of
            && *known == address
        {
            return Ok(origins.clone());
        }
        let (_, origins) = self.memory.wiped(self.transaction, address).map_err(StateError::Waits)?;
        self.reads.push(Read { place: Place::Wipe(address), origins: origins.clone() });
        self.wipe_of = Some((address, origins.clone()));
        Ok(origins)
    }
}

impl<D: State> Database for View<'_, D> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let found = self.memory.account(self.transaction, address, || self.base.account(address))?;
        let (info, origins) = found.map_err(StateError::Waits)?;
        self.reads.push(Read { place: Place::Account(address), origins });
        Ok(info)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateError> {
        match self.memory.code(hash) {
            Some(code) => Ok(code),
            None => self.base.code(hash),
        }
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        let wipe = self.wipe(address)?;
        let found = self.memory.slot(self.transaction, address, slot).map_err(StateError::Waits)?;
        let (written, origins) = found;
        let by = |origins: &Origins| origins.first().map(|run| run.transaction);
        // Within a transaction the wipe comes before its writes.
        let wiped = by(&wipe) > by(&origins);
        self.reads.push(Read { place: Place::Slot(address, slot), origins });
        match written.filter(|_| !wiped) {
            Some(value) => Ok(value),
            None if !wipe.is_empty() => Ok(U256::ZERO),
            None => self.base.slot(address, slot),
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.base.block_hash(number)
    }
}
