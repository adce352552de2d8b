//! The transactions of a block on several threads, with the result that they have one after the other.
//!
//! Optimistic, after Block-STM: each transaction runs on what the ones before it wrote so far over the state before
//! the block ([`memory`]). Where that turns out to have changed, it runs again ([`scheduler`]). What is known beforehand about who depends on whom ([`Hints`](super::Hints)) saves runs and decides nothing.

mod cell;
mod changed;
mod fee;
mod memory;
mod scheduler;
mod speculation;
mod view;

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use alloy_consensus::{Transaction as _, transaction::Recovered};
use alloy_primitives::U256;
use rayon::ThreadPool;
use revm::{
    Context, ExecuteEvm, MainBuilder, MainContext,
    context::result::{EVMError, ExecutionResult},
    handler::{Handler, MainnetContext, MainnetEvm},
    state::EvmState,
};

use super::{
    ExecutionStats, Hints,
    env::{Surroundings, tx_env},
    evm_error,
};
use crate::{
    Error, StateError,
    block::{Block, Transaction},
    changes::{Left, Overlay},
    db::State,
};
use cell::Body;
use fee::FeeAside;
use memory::{Memory, Read, Write};
use scheduler::{Run, Scheduler, Task};
use speculation::Seed;
pub use speculation::Speculation;
use view::View;

/// Transactions whose accounts are read ahead in one go.
const PREFETCH: usize = 32;

type Failure = EVMError<StateError>;

/// What the last run of a transaction gave, besides what it wrote.
#[derive(Debug, Default)]
struct Outcome {
    reads: Vec<Read>,
    result: Option<Result<ExecutionResult, Failure>>,
}

struct Shared<'a, D> {
    around: &'a Surroundings,
    transactions: &'a [Recovered<Transaction>],
    hints: &'a Hints,
    memory: Memory<'a, D>,
    scheduler: Scheduler,
    outcomes: Vec<Mutex<Outcome>>,
    /// The next transactions to be prefetched.
    prefetch: AtomicUsize,
    runs: AtomicU64,
    waits: AtomicU64,
    /// Set by who wants no more of it.
    stop: Option<&'a AtomicBool>,
    /// Why everything stopped: the store failed.
    failed: Mutex<Option<(usize, StateError)>>,
}

/// Executes the transactions of `block` on `state`, which takes up their changes. What still holds of a speculation is not executed again.
pub(super) fn transactions<D: State>(
    pool: Option<&ThreadPool>,
    around: &Surroundings,
    block: &Block,
    hints: &Hints,
    state: &mut Overlay<'_, D>,
    speculation: Option<Speculation<D>>,
) -> Result<(Vec<ExecutionResult>, ExecutionStats), Error> {
    let number = block.header.number;
    let count = block.transactions.len();
    let mut first = std::mem::take(state.changes_mut());
    let mut shared = Shared::new(around, block, hints, Memory::new(state.base(), &first, count, around.spec));
    let mut seeds = Vec::new();
    if let Some(speculation) = speculation {
        let seed = speculation.sow(&shared.memory, state.base(), &first, pool);
        seeds = shared.begin_with(seed.map_err(|source| Error::Read { number, source })?);
    }
    let Shared { outcomes, runs, waits, memory, scheduler, .. } = shared.finish(pool, number)?;
    let mut results = Vec::with_capacity(count);
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        let missing = || Failure::Custom("a transaction was never run: this is a defect".into());
        let result = outcome.result.unwrap_or_else(|| Err(missing()));
        results.push(result.map_err(|error| evm_error(number, index, error))?);
    }
    let last = scheduler.into_runs();
    let held = |(seed, last): (&(u32, bool), &(u32, bool))| seed.1 && seed.0 == last.0;
    let stats = ExecutionStats {
        transactions: count as u64,
        runs: runs.into_inner(),
        waits: waits.into_inner(),
        reads: memory.reads(),
        held: seeds.iter().zip(&last).filter(|pair| held(*pair)).count() as u64,
    };
    let changed = memory.into_changes().map_err(|source| Error::Read { number, source })?;
    changed.add_to(&mut first);
    *state.changes_mut() = first;
    Ok((results, stats))
}

/// Executes the transactions of `block` on `state`, an older one than that of its parent, until all are or `stop` is set.
pub(super) fn speculate<D: State + Clone>(
    pool: Option<&ThreadPool>,
    around: &Surroundings,
    block: &Block,
    hints: &Hints,
    state: &mut Overlay<'_, D>,
    stop: &AtomicBool,
) -> Result<Speculation<D>, Error> {
    let older = state.base().clone();
    let first = std::mem::take(state.changes_mut());
    let memory = Memory::new(state.base(), &first, block.transactions.len(), around.spec);
    let shared = Shared { stop: Some(stop), ..Shared::new(around, block, hints, memory) };
    let Shared { outcomes, memory, scheduler, .. } = shared.finish(pool, block.header.number)?;
    let outcomes =
        outcomes.into_iter().map(|outcome| outcome.into_inner().unwrap_or_else(PoisonError::into_inner));
    let outcomes = scheduler.into_runs().into_iter().zip(outcomes).collect();
    let recorded = memory.into_recorded();
    Ok(Speculation {
        around: around.clone(),
        transactions: block.transactions.clone(),
        older,
        first,
        recorded,
        outcomes,
    })
}

type Evm<'a, D> = MainnetEvm<MainnetContext<View<'a, D>>>;

impl<'a, D: State> Shared<'a, D> {
    fn new(around: &'a Surroundings, block: &'a Block, hints: &'a Hints, memory: Memory<'a, D>) -> Self {
        let count = block.transactions.len();
        Self {
            around,
            transactions: &block.transactions,
            hints,
            memory,
            scheduler: Scheduler::new(count),
            outcomes: (0..count).map(|_| Mutex::default()).collect(),
            prefetch: AtomicUsize::new(0),
            runs: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            stop: None,
            failed: Mutex::default(),
        }
    }

    /// Goes on from there. What is known of the state before the block stands in memory, so nothing is read ahead.
    fn begin_with(&mut self, seed: Seed) -> Vec<(u32, bool)> {
        self.scheduler = Scheduler::after(&seed.runs);
        self.outcomes = seed.outcomes.into_iter().map(Mutex::new).collect();
        self.prefetch = AtomicUsize::new(self.transactions.len());
        seed.runs
    }

    /// Has all transactions executed and validated, on the caller's thread where there is no pool.
    fn finish(self, pool: Option<&ThreadPool>, number: u64) -> Result<Self, Error> {
        match pool {
            Some(pool) => drop(pool.broadcast(|_| self.work())),
            None => self.work(),
        }
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((index, source)) => Err(evm_error(number, index, EVMError::Database(source))),
            None => Ok(()),
        }?;
        Ok(self)
    }

    /// What each thread does until all transactions stand.
    fn work(&self) {
        if let Err((index, error)) = self.read_ahead() {
            return self.fail(index, error);
        }
        let mut evm = Context::mainnet()
            .with_db(View::new(&self.memory))
            .with_block(self.around.block.clone())
            .with_cfg(self.around.cfg.clone())
            .build_mainnet();
        let mut task = None;
        let mut idle = 0u32;
        let stopped = || self.stop.is_some_and(|stop| stop.load(Relaxed));
        while !self.scheduler.is_done() && !stopped() {
            task = match task.or_else(|| self.scheduler.next()) {
                Some(Task::Execute(run)) => self.execute(&mut evm, run),
                Some(Task::Validate(run)) => self.validate(run),
                None => {
                    idle += 1;
                    // Somebody else is at work: mostly not for long.
                    if idle.is_multiple_of(64) {
                        std::thread::yield_now()
                    } else {
                        std::hint::spin_loop()
                    }
                    None
                }
            };
        }
    }

    /// Reads what transactions will surely ask for: senders, receivers, access lists.
    fn read_ahead(&self) -> Result<(), (usize, StateError)> {
        loop {
            let start = self.prefetch.fetch_add(PREFETCH, Relaxed);
            let Some(rest) = self.transactions.get(start..).filter(|rest| !rest.is_empty()) else {
                return Ok(());
            };
            let (mut addresses, mut slots) = (Vec::new(), Vec::new());
            for transaction in rest.iter().take(PREFETCH) {
                addresses.push(transaction.signer());
                addresses.extend(transaction.to());
                for item in transaction.access_list().into_iter().flat_map(|list| list.iter()) {
                    addresses.push(item.address);
                    slots.extend(
                        item.storage_keys.iter().map(|slot| (item.address, U256::from_be_bytes(slot.0))),
                    );
                }
            }
            if start == 0 {
                addresses.extend(&self.hints.accounts);
                slots.extend(&self.hints.slots);
            }
            addresses.sort_unstable();
            addresses.dedup();
            self.memory.prefetch(&addresses, &slots).map_err(|error| (start, error))?;
        }
    }

    fn fail(&self, index: usize, error: StateError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((index, error));
        self.scheduler.halt();
    }

    fn execute(&self, evm: &mut Evm<'a, D>, run: Run) -> Option<Task> {
        let Run { transaction, incarnation } = run;
        let known = self.hints.after(transaction).filter(|_| incarnation == 0);
        if let Some(other) = known
            && self.scheduler.wait_for(transaction, other)
        {
            return None;
        }
        loop {
            self.runs.fetch_add(1, Relaxed);
            match self.run(evm, transaction) {
                Err(EVMError::Database(StateError::Waits(other))) => {
                    self.waits.fetch_add(1, Relaxed);
                    if self.scheduler.wait_for(transaction, other) {
                        return None;
                    }
                }
                Err(EVMError::Database(error)) => {
                    self.fail(transaction, error);
                    return None;
                }
                result => {
                    let (result, writes) = match result {
                        Ok((result, writes)) => (Ok(result), writes),
                        Err(error) => (Err(error), Vec::new()),
                    };
                    let reads = evm.ctx.journaled_state.database.take_reads();
                    if let Some(outcome) = self.outcomes.get(transaction) {
                        *outcome.lock().unwrap_or_else(PoisonError::into_inner) =
                            Outcome { reads, result: Some(result) };
                    }
                    let wrote_new = self.memory.record(run, writes);
                    return self.scheduler.executed(run, wrote_new);
                }
            }
        }
    }

    /// Runs a transaction once: what came out, and what it wrote.
    fn run(
        &self,
        evm: &mut Evm<'a, D>,
        transaction: usize,
    ) -> Result<(ExecutionResult, Vec<Write>), Failure> {
        let Some(tx) = self.transactions.get(transaction) else {
            return Err(Failure::Custom("no such transaction: this is a defect".into()));
        };
        evm.ctx.journaled_state.database.begin(transaction);
        evm.ctx.tx = tx_env(tx);
        let mut handler = FeeAside::<_, Failure>::new();
        let result = handler.run(evm);
        let beneficiary = self.around.block.beneficiary;
        let mut fee = Some(handler.fee());
        // One whom the transaction changed is paid as revm does it. Before `finalize`, which looks for empty accounts.
        if let Some(account) =
            evm.ctx.journaled_state.inner.state.get_mut(&beneficiary).filter(|account| account.is_touched())
        {
            account.info.balance = account.info.balance.saturating_add(handler.fee());
            fee = None;
        }
        let state = evm.finalize();
        let result = result?;
        let mut writes = self.writes(state);
        writes.extend(fee.map(|fee| Write::Account(beneficiary, Body::Paid(fee))));
        Ok((result, writes))
    }

    /// What a run wrote, and new codes put where later ones find them.
    fn writes(&self, state: EvmState) -> Vec<Write> {
        let mut writes = Vec::new();
        for (address, account) in state {
            let Some(left) = Left::of(account) else { continue };
            if left.wiped {
                writes.push(Write::Wipe(address));
            }
            if let Some((hash, code)) = left.code {
                self.memory.add_code(hash, code);
            }
            if left.info_changed {
                writes.push(Write::Account(address, Body::Is(left.info)));
            }
            writes.extend(left.slots.into_iter().map(|(slot, value)| Write::Slot(address, slot, value)));
        }
        writes
    }

    fn validate(&self, run: Run) -> Option<Task> {
        let outcome = self.outcomes.get(run.transaction)?.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = self.memory.holds(run.transaction, &outcome.reads);
        drop(outcome);
        let aborted = !holds && self.scheduler.abort(run);
        if aborted {
            self.memory.to_estimates(run.transaction);
        }
        self.scheduler.validated(run, aborted)
    }
}
