//! The transactions of a block on several threads, with the result that they have one after the other.
//!
//! Optimistic, after Block-STM: each transaction runs on what the ones before it wrote so far ([`memory`]) over the state before
//! the block ([`base`]), which all threads read without a lock of the store. Where that turns out to have changed, it runs
//! again ([`scheduler`]). What is known beforehand about who depends on whom ([`Hints`](super::Hints)) saves runs and decides nothing.

mod base;
mod fee;
mod memory;
mod scheduler;
mod view;

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use alloy_primitives::U256;
use rayon::ThreadPool;
use revm::{
    Context, ExecuteEvm, MainBuilder, MainContext,
    context::{
        TxEnv,
        result::{EVMError, ExecutionResult},
    },
    handler::{Handler, MainnetContext, MainnetEvm},
    state::EvmState,
};

use super::{
    ExecutionStats, Hints,
    env::{Surroundings, tx_env},
    evm_error,
};
use crate::{Error, StateError, block::Block, changes::Overlay, db::State};
use base::Base;
use fee::FeeAside;
use memory::{Memory, Place, Read, Value, with_fee};
use scheduler::{Run, Scheduler, Task};
use view::View;

/// Transactions whose accounts are read ahead in one go.
const PREFETCH: usize = 32;

type Failure = EVMError<StateError>;

/// What the last run of a transaction gave.
#[derive(Debug, Default)]
struct Outcome {
    reads: Vec<Read>,
    result: Option<Result<Success, Failure>>,
}

#[derive(Debug)]
struct Success {
    result: ExecutionResult,
    state: EvmState,
    /// What the beneficiary gets on top; `None` where `state` has it already.
    fee: Option<U256>,
}

struct Shared<'a, D> {
    around: &'a Surroundings,
    transactions: Vec<TxEnv>,
    hints: &'a Hints,
    base: &'a Base<'a, D>,
    memory: Memory,
    scheduler: Scheduler,
    outcomes: Vec<Mutex<Outcome>>,
    /// The next transactions to be prefetched.
    prefetch: AtomicUsize,
    runs: AtomicU64,
    waits: AtomicU64,
    /// Why everything stopped: the store failed.
    failed: Mutex<Option<(usize, StateError)>>,
}

/// Executes the transactions of `block` on `state`, which takes up their changes.
pub(super) fn transactions<D: State>(
    pool: &ThreadPool,
    around: &Surroundings,
    block: &Block,
    hints: &Hints,
    state: &mut Overlay<'_, D>,
) -> Result<(Vec<ExecutionResult>, ExecutionStats), Error> {
    let number = block.header.number;
    let count = block.transactions.len();
    let first = std::mem::take(state.changes_mut());
    let base = Base::new(state.base(), &first);
    let shared = Shared {
        around,
        transactions: block.transactions.iter().map(tx_env).collect(),
        hints,
        base: &base,
        memory: Memory::new(count, around.spec),
        scheduler: Scheduler::new(count),
        outcomes: (0..count).map(|_| Mutex::default()).collect(),
        prefetch: AtomicUsize::new(0),
        runs: AtomicU64::new(0),
        waits: AtomicU64::new(0),
        failed: Mutex::default(),
    };
    pool.broadcast(|_| shared.work());
    let Shared { outcomes, runs, waits, failed, memory, .. } = shared;
    drop(memory);
    if let Some((index, source)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(evm_error(number, index, EVMError::Database(source)));
    }
    let stats = ExecutionStats {
        transactions: count as u64,
        runs: runs.into_inner(),
        waits: waits.into_inner(),
        reads: base.reads(),
    };
    drop(base);
    *state.changes_mut() = first;
    let mut results = Vec::with_capacity(count);
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        let missing = || Failure::Custom("a transaction was never run: this is a defect".into());
        let success = outcome.result.unwrap_or_else(|| Err(missing()));
        let success = success.map_err(|error| evm_error(number, index, error))?;
        state.changes_mut().apply(success.state);
        if let Some(fee) = success.fee {
            pay(around, state, fee).map_err(|source| Error::Read { number, source })?;
        }
        results.push(success.result);
    }
    Ok((results, stats))
}

/// Pays a fee that was left aside.
fn pay<D: State>(around: &Surroundings, state: &mut Overlay<'_, D>, fee: U256) -> Result<(), StateError> {
    let beneficiary = around.block.beneficiary;
    let before = state.info(beneficiary)?;
    match with_fee(around.spec, before.clone(), fee) {
        Some(info) => state.changes_mut().set_info(beneficiary, info),
        None if before.is_some() => state.changes_mut().delete(beneficiary),
        None => {}
    }
    Ok(())
}

type Evm<'a, D> = MainnetEvm<MainnetContext<View<'a, D>>>;

impl<'a, D: State> Shared<'a, D> {
    /// What each thread does until all transactions stand.
    fn work(&'a self) {
        if let Err((index, error)) = self.read_ahead() {
            return self.fail(index, error);
        }
        let mut evm = Context::mainnet()
            .with_db(View::new(self.base, &self.memory))
            .with_block(self.around.block.clone())
            .with_cfg(self.around.cfg.clone())
            .build_mainnet();
        let mut task = None;
        let mut idle = 0u32;
        while !self.scheduler.is_done() {
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
                addresses.push(transaction.caller);
                addresses.extend(transaction.kind.to());
                for item in &transaction.access_list.0 {
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
            self.base.prefetch(&addresses, &slots).map_err(|error| (start, error))?;
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
                    let writes = result.as_ref().map(|done| self.writes(done)).unwrap_or_default();
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

    /// Runs a transaction once.
    fn run(&self, evm: &mut Evm<'a, D>, transaction: usize) -> Result<Success, Failure> {
        let Some(tx) = self.transactions.get(transaction) else {
            return Err(Failure::Custom("no such transaction: this is a defect".into()));
        };
        evm.ctx.journaled_state.database.begin(transaction);
        evm.ctx.tx = tx.clone();
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
        Ok(Success { result: result?, state, fee })
    }

    /// What a run wrote, and new codes put where later ones find them. That an account was touched is no write: else all
    /// who call one contract would wait for each other.
    fn writes(&self, done: &Success) -> Vec<(Place, Value)> {
        let mut writes = Vec::new();
        for (address, account) in done.state.iter().filter(|(_, account)| account.is_touched()) {
            let gone = account.is_selfdestructed() || account.is_empty() && !account.is_created();
            if gone {
                // One that never was need not go.
                if account.is_selfdestructed() || !account.is_loaded_as_not_existing() {
                    writes.push((Place::Account(*address), Value::Account(None)));
                    writes.push((Place::Wipe(*address), Value::Wiped));
                }
                continue;
            }
            if account.is_created() {
                writes.push((Place::Wipe(*address), Value::Wiped));
            }
            if account.is_created() || account.is_changed() {
                let mut info = account.info.clone();
                if let Some(code) = info.code.take()
                    && info.code_hash != account.original_info().code_hash
                {
                    self.memory.add_code(info.code_hash, code);
                }
                writes.push((
                    Place::Account(*address),
                    Value::Account(Some(crate::changes::with_known_code(info))),
                ));
            }
            let slots = account.storage.iter().filter(|(_, slot)| slot.is_changed());
            writes.extend(
                slots.map(|(slot, value)| (Place::Slot(*address, *slot), Value::Slot(value.present_value))),
            );
        }
        if let Some(fee) = done.fee {
            writes.push((Place::Account(self.around.block.beneficiary), Value::Fee(fee)));
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
