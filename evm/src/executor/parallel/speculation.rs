//! What a block's transactions did on an older state than that of the block's parent, and how much of it still counts there.
//!
//! Nothing of the older state is believed on its own: a place that was read of it counts only where the newer state says that it did not change
//! since. Transactions that read any other place run again; those that read what such ones wrote are found out by the validation that all
//! runs go through.

use alloy_consensus::transaction::Recovered;
use alloy_primitives::{
    Address, B256, U256,
    map::{AddressSet, B256Map, HashSet},
};
use rayon::{ThreadPool, prelude::*};
use revm::state::{AccountInfo, Bytecode};

use super::{
    Outcome,
    memory::{Memory, Place, Write},
    scheduler::Run,
};
use crate::{
    StateError,
    block::{Block, Transaction},
    changes::Changes,
    db::State,
    executor::Surroundings,
};

/// Places that one thread asks for in one go.
const PORTION: usize = 64;

/// A block's transactions, executed before the state of its parent was there. [`Executor::speculate`](crate::Executor::speculate) makes
/// it, [`Executor::execute_speculated`](crate::Executor::execute_speculated) takes what still holds.
#[derive(Debug)]
pub struct Speculation<D> {
    pub(super) around: Surroundings,
    pub(super) transactions: Vec<Recovered<Transaction>>,
    pub(super) older: D,
    /// What the protocol changed on the older state before the first transaction.
    pub(super) first: Changes,
    pub(super) recorded: Recorded,
    /// The last run of each transaction, whether it stands, and what came of it.
    pub(super) outcomes: Vec<((u32, bool), Outcome)>,
}

impl<D> Speculation<D> {
    /// Whether it is of this block. By all that the transactions depend on: blocks that are being made have no hash.
    pub(in crate::executor) fn is_of(&self, around: &Surroundings, block: &Block) -> bool {
        self.around == *around && self.transactions == block.transactions
    }
}

/// What transactions wrote and read, taken out of the memory of their block.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// By transaction.
    pub(super) writes: Vec<Vec<Write>>,
    /// As they were before the block.
    pub(super) accounts: Vec<(Address, Option<AccountInfo>)>,
    pub(super) slots: Vec<((Address, U256), U256)>,
    pub(super) codes: B256Map<Bytecode>,
    /// Of blocks, with their numbers.
    pub(super) hashes: Vec<(u64, B256)>,
}

/// Places that are not as they were.
#[derive(Default)]
struct Stale {
    accounts: AddressSet,
    slots: HashSet<(Address, U256)>,
}

impl Stale {
    fn has(&self, place: &Place) -> bool {
        match place {
            Place::Account(address) => self.accounts.contains(address),
            Place::Slot(address, slot) => self.slots.contains(&(*address, *slot)),
            // A wipe before the block shows in the slots.
            Place::Wipe(_) => false,
        }
    }
}

/// What a memory and a scheduler begin with.
pub(super) struct Seed {
    pub(super) outcomes: Vec<Outcome>,
    /// The last run of each transaction, and whether it counts so far.
    pub(super) runs: Vec<(u32, bool)>,
}

impl<D: State> Speculation<D> {
    /// Puts what still counts into the memory of the block, which is to be executed on `state` with what the protocol changed `first`.
    pub(super) fn sow(
        self,
        memory: &Memory<'_, D>,
        state: &D,
        first: &Changes,
        pool: Option<&ThreadPool>,
    ) -> Result<Seed, StateError> {
        let Self { older, first: old_first, recorded, outcomes, .. } = self;
        let by_protocol = |address: &Address| {
            first.accounts.contains_key(address) || old_first.accounts.contains_key(address)
        };
        let same_account =
            |address: &Address| Ok(!by_protocol(address) && state.account_unchanged(&older, *address)?);
        let same_slot = |(address, slot): &(Address, U256)| {
            Ok(!by_protocol(address) && state.slot_unchanged(&older, *address, *slot)?)
        };
        let accounts = told(pool, &recorded.accounts, |(address, _)| same_account(address))?;
        let slots = told(pool, &recorded.slots, |(slot, _)| same_slot(slot))?;
        memory.count_reads((accounts.len() + slots.len()) as u64);
        let same_hash =
            |(number, hash): &(u64, B256)| state.block_hash_ref(*number).is_ok_and(|now| now == *hash);
        let same_hashes = recorded.hashes.iter().all(same_hash);
        let mut stale = Stale::default();
        for ((address, info), same) in recorded.accounts.into_iter().zip(accounts) {
            if same {
                memory.know_account(address, info);
            } else {
                stale.accounts.insert(address);
            }
        }
        for ((slot, value), same) in recorded.slots.into_iter().zip(slots) {
            if same {
                memory.know_slot(slot, value);
            } else {
                stale.slots.insert(slot);
            }
        }
        recorded.codes.into_iter().for_each(|(hash, code)| memory.add_code(hash, code));
        let mut seed = Seed { outcomes: Vec::new(), runs: Vec::new() };
        let outcomes = outcomes.into_iter().zip(recorded.writes);
        for (transaction, (((incarnation, stands), outcome), writes)) in outcomes.enumerate() {
            let counts = stands && same_hashes && !outcome.reads.iter().any(|read| stale.has(&read.place));
            memory.record(Run { transaction, incarnation }, writes);
            if !counts {
                // It will most likely write there again.
                memory.to_estimates(transaction);
            }
            seed.runs.push((incarnation, counts));
            seed.outcomes.push(outcome);
        }
        Ok(seed)
    }
}

/// What `tell` says of each, in order, on all threads.
fn told<T: Sync>(
    pool: Option<&ThreadPool>,
    all: &[T],
    tell: impl Fn(&T) -> Result<bool, StateError> + Sync,
) -> Result<Vec<bool>, StateError> {
    match pool {
        Some(pool) if all.len() > PORTION => {
            pool.install(|| all.par_iter().with_min_len(PORTION).map(&tell).collect())
        }
        _ => all.iter().map(tell).collect(),
    }
}
