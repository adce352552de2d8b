//! What one run of a transaction reads, and a note of where it came from.

use alloy_primitives::{Address, B256, U256};
use revm::{
    Database,
    state::{AccountInfo, Bytecode},
};

use super::memory::{Memory, Place, Read};
use crate::{StateError, db::State};

pub(super) struct View<'a, D> {
    memory: &'a Memory<'a, D>,
    transaction: usize,
    reads: Vec<Read>,
    /// The last account whose wipe was looked for, and who wiped it: slots come in runs of one account.
    wipe_of: Option<(Address, Option<usize>)>,
}

impl<'a, D: State> View<'a, D> {
    pub(super) fn new(memory: &'a Memory<'a, D>) -> Self {
        Self { memory, transaction: 0, reads: Vec::new(), wipe_of: None }
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
    fn wiped(&mut self, address: Address) -> Result<Option<usize>, StateError> {
        if let Some((known, by)) = &self.wipe_of
            && *known == address
        {
            return Ok(*by);
        }
        let origins = self.memory.wiped(self.transaction, address).map_err(StateError::Waits)?;
        let by = origins.first().map(|run| run.transaction);
        self.reads.push(Read { place: Place::Wipe(address), origins });
        self.wipe_of = Some((address, by));
        Ok(by)
    }
}

impl<D: State> Database for View<'_, D> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let found = self.memory.account(self.transaction, address)?;
        let (info, origins) = found.map_err(StateError::Waits)?;
        self.reads.push(Read { place: Place::Account(address), origins });
        Ok(info)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateError> {
        self.memory.code(hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        let wiped = self.wiped(address)?;
        let found = self.memory.slot(self.transaction, address, slot, wiped)?;
        let (value, origins) = found.map_err(StateError::Waits)?;
        self.reads.push(Read { place: Place::Slot(address, slot), origins });
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.memory.block_hash(number)
    }
}
