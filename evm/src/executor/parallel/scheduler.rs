//! Who does what next: the collaborative scheduler of Block-STM (<https://arxiv.org/abs/2203.06871>, section 3 and
//! algorithms 4 and 5), with waiting for a transaction known beforehand.
//!
//! Transactions are executed and validated in waves. Two indices say where the next wave is; whoever finds out that a
//! transaction must be looked at again moves an index back. A transaction is in the hands of one thread at a time, by its
//! status under its lock.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

/// A run of a transaction: its place in the block, and how often it was begun before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) transaction: usize,
    pub(super) incarnation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Execute(Run),
    Validate(Run),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ready,
    Executing,
    Executed,
    /// Its last run does not count; somebody prepares the next one, or it waits for another transaction.
    Aborting,
}

#[derive(Debug)]
struct Transaction {
    incarnation: u32,
    status: Status,
    /// Those that wait until it was executed.
    waiting: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Scheduler {
    transactions: Vec<Mutex<Transaction>>,
    execution: AtomicUsize,
    validation: AtomicUsize,
    /// How often one of the two was moved back: so that the end is not taken for reached while that happens.
    moved_back: AtomicUsize,
    active: AtomicUsize,
    done: AtomicBool,
}

impl Scheduler {
    pub(super) fn new(transactions: usize) -> Self {
        let fresh = || Mutex::new(Transaction { incarnation: 0, status: Status::Ready, waiting: Vec::new() });
        Self {
            transactions: (0..transactions).map(|_| fresh()).collect(),
            execution: AtomicUsize::new(0),
            validation: AtomicUsize::new(0),
            moved_back: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            done: AtomicBool::new(transactions == 0),
        }
    }

    /// With transactions that were executed before: their last run, and whether it counts until it is validated.
    pub(super) fn after(runs: &[(u32, bool)]) -> Self {
        let begun = |(incarnation, counts): &(u32, bool)| {
            let (incarnation, status) = match counts {
                true => (*incarnation, Status::Executed),
                false => (*incarnation + 1, Status::Ready),
            };
            Mutex::new(Transaction { incarnation, status, waiting: Vec::new() })
        };
        Self { transactions: runs.iter().map(begun).collect(), ..Self::new(runs.len()) }
    }

    /// The last run of each transaction, and whether it is over and stands so far.
    pub(super) fn into_runs(self) -> Vec<(u32, bool)> {
        let of = |state: Mutex<Transaction>| {
            let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
            (state.incarnation, state.status == Status::Executed)
        };
        self.transactions.into_iter().map(of).collect()
    }

    fn len(&self) -> usize {
        self.transactions.len()
    }

    fn lock(&self, transaction: usize) -> MutexGuard<'_, Transaction> {
        #[expect(clippy::indexing_slicing, reason = "transactions are named by those who got them from here")]
        self.transactions[transaction].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all is done, or given up.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(SeqCst)
    }

    /// Ends the work of all threads after their current tasks.
    pub(super) fn halt(&self) {
        self.done.store(true, SeqCst);
    }

    /// The next task; `None` if there is none just now.
    pub(super) fn next(&self) -> Option<Task> {
        if self.validation.load(SeqCst) < self.execution.load(SeqCst) {
            self.next_validation().map(Task::Validate)
        } else {
            self.next_execution().map(Task::Execute)
        }
    }

    fn next_execution(&self) -> Option<Run> {
        if self.execution.load(SeqCst) >= self.len() {
            self.look_for_the_end();
            return None;
        }
        self.active.fetch_add(1, SeqCst);
        let transaction = self.execution.fetch_add(1, SeqCst);
        self.begin(transaction).or_else(|| self.idle())
    }

    fn next_validation(&self) -> Option<Run> {
        if self.validation.load(SeqCst) >= self.len() {
            self.look_for_the_end();
            return None;
        }
        self.active.fetch_add(1, SeqCst);
        let transaction = self.validation.fetch_add(1, SeqCst);
        if transaction < self.len() {
            let state = self.lock(transaction);
            if state.status == Status::Executed {
                return Some(Run { transaction, incarnation: state.incarnation });
            }
        }
        self.idle()
    }

    fn idle(&self) -> Option<Run> {
        self.active.fetch_sub(1, SeqCst);
        None
    }

    /// Takes a transaction that is ready.
    fn begin(&self, transaction: usize) -> Option<Run> {
        if transaction >= self.len() {
            return None;
        }
        let mut state = self.lock(transaction);
        if state.status != Status::Ready {
            return None;
        }
        state.status = Status::Executing;
        Some(Run { transaction, incarnation: state.incarnation })
    }

    fn look_for_the_end(&self) {
        let moved_back = self.moved_back.load(SeqCst);
        let at_the_end = self.execution.load(SeqCst).min(self.validation.load(SeqCst)) >= self.len();
        if at_the_end && self.active.load(SeqCst) == 0 && moved_back == self.moved_back.load(SeqCst) {
            self.done.store(true, SeqCst);
        }
    }

    fn move_back(&self, index: &AtomicUsize, to: usize) {
        index.fetch_min(to, SeqCst);
        self.moved_back.fetch_add(1, SeqCst);
    }

    /// The run of `transaction` met what `other` has yet to write: it begins anew once that was executed. `false` if it
    /// was meanwhile, so that the caller may begin anew at once.
    pub(super) fn wait_for(&self, transaction: usize, other: usize) -> bool {
        let mut blocking = self.lock(other);
        if blocking.status == Status::Executed {
            return false;
        }
        // Two locks at once, always the later transaction's second.
        debug_assert!(other < transaction);
        self.lock(transaction).status = Status::Aborting;
        blocking.waiting.push(transaction);
        drop(blocking);
        self.active.fetch_sub(1, SeqCst);
        true
    }

    fn set_ready(&self, transaction: usize) {
        let mut state = self.lock(transaction);
        state.incarnation += 1;
        state.status = Status::Ready;
    }

    /// The run is over and its writes stand in memory. Where it wrote to new places, later transactions are validated
    /// again; otherwise the caller may get its own validation.
    pub(super) fn executed(&self, run: Run, wrote_new: bool) -> Option<Task> {
        let mut state = self.lock(run.transaction);
        state.status = Status::Executed;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        if let Some(first) = waiting.iter().min() {
            for transaction in &waiting {
                self.set_ready(*transaction);
            }
            self.move_back(&self.execution, *first);
        }
        if self.validation.load(SeqCst) > run.transaction {
            if !wrote_new {
                return Some(Task::Validate(run));
            }
            self.move_back(&self.validation, run.transaction);
        }
        self.active.fetch_sub(1, SeqCst);
        None
    }

    /// Whether the caller is the one to abort this run, which did not hold.
    pub(super) fn abort(&self, run: Run) -> bool {
        let mut state = self.lock(run.transaction);
        let ours = state.status == Status::Executed && state.incarnation == run.incarnation;
        if ours {
            state.status = Status::Aborting;
        }
        ours
    }

    /// The run was validated. If it was aborted, its writes are marked as to come, and later transactions are validated
    /// again; the caller may get its next run.
    pub(super) fn validated(&self, run: Run, aborted: bool) -> Option<Task> {
        if aborted {
            self.set_ready(run.transaction);
            self.move_back(&self.validation, run.transaction + 1);
            if self.execution.load(SeqCst) > run.transaction
                && let Some(next) = self.begin(run.transaction)
            {
                return Some(Task::Execute(next));
            }
        }
        self.active.fetch_sub(1, SeqCst);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(transaction: usize, incarnation: u32) -> Run {
        Run { transaction, incarnation }
    }

    #[test]
    fn all_are_executed_and_validated_once_where_nothing_conflicts() {
        let scheduler = Scheduler::new(3);
        let (mut executed, mut validated) = (0, 0);
        while !scheduler.is_done() {
            let mut task = scheduler.next();
            while let Some(now) = task {
                task = match now {
                    Task::Execute(run) => {
                        executed += 1;
                        scheduler.executed(run, true)
                    }
                    Task::Validate(run) => {
                        validated += 1;
                        scheduler.validated(run, false)
                    }
                };
            }
        }
        assert_eq!((executed, validated), (3, 3));
        assert!(Scheduler::new(0).is_done());
    }

    #[test]
    fn one_that_waits_is_run_again_after_the_other() {
        let scheduler = Scheduler::new(2);
        assert_eq!(scheduler.next(), Some(Task::Execute(run(0, 0))));
        // The first is not executed yet, so there is nothing to validate.
        assert_eq!(scheduler.next(), None);
        assert_eq!(scheduler.next(), Some(Task::Execute(run(1, 0))));
        assert!(scheduler.wait_for(1, 0));
        assert_eq!(scheduler.next(), None);
        assert!(!scheduler.is_done());
        assert_eq!(scheduler.executed(run(0, 0), true), None);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.extend(scheduler.next());
        }
        assert!(
            seen.contains(&Task::Execute(run(1, 1))) && seen.contains(&Task::Validate(run(0, 0))),
            "{seen:?}"
        );
        assert!(!scheduler.wait_for(1, 0), "it was executed already");
    }

    #[test]
    fn an_aborted_run_is_aborted_once_and_comes_again() {
        let scheduler = Scheduler::new(1);
        assert_eq!(scheduler.next(), Some(Task::Execute(run(0, 0))));
        scheduler.executed(run(0, 0), true);
        assert_eq!(scheduler.next(), Some(Task::Validate(run(0, 0))));
        assert!(scheduler.abort(run(0, 0)));
        assert!(!scheduler.abort(run(0, 0)));
        assert_eq!(scheduler.validated(run(0, 0), true), Some(Task::Execute(run(0, 1))));
        // Nothing new was written, so only this run is to be validated.
        assert_eq!(scheduler.executed(run(0, 1), false), Some(Task::Validate(run(0, 1))));
        assert_eq!(scheduler.validated(run(0, 1), false), None);
        assert_eq!(scheduler.next(), None);
        assert!(scheduler.is_done());
    }
}
