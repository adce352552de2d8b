//! Commits one after the other, with a bound on how many are under way, and what each took.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    engines::{Commit, Engine, Rest},
    failure::{Failure, Result},
    interrupt,
    measure::{Milliseconds, Times, rate},
    workload::Changes,
};

/// How fast commits follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Commits whose root is not known yet, the next one included: a commit is held back above that. Where roots are
    /// on a schedule, this many times its period.
    pub(crate) in_flight: u64,
    /// The schedule of roots: those of versions that this divides.
    pub(crate) root_every: u64,
    /// A commit at every multiple of this; as fast as the engine goes if left out.
    pub(crate) every: Option<Duration>,
}

/// What a sequence of commits took.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) commits: u64,
    /// Distinct keys changed, summed over the versions.
    pub(crate) changed: u64,
    /// From the first commit until all were durable and all scheduled roots known.
    pub(crate) elapsed: Duration,
    /// The part of it in which the next changes were made.
    pub(crate) making: Duration,
    /// Commits that began later than they should have, where there was a clock to keep.
    pub(crate) late: u64,
    /// From the call until it returned.
    pub(crate) visible: Times,
    /// From the call until it was durable.
    pub(crate) durable: Times,
    /// From the call until its root was known.
    pub(crate) root: Times,
}

/// Figures of a phase.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PhaseFigures {
    pub(crate) commits: u64,
    pub(crate) changed_keys: u64,
    pub(crate) seconds: f64,
    pub(crate) making_seconds: f64,
    pub(crate) late: u64,
    pub(crate) keys_per_second: f64,
    pub(crate) commits_per_second: f64,
    pub(crate) visible_ms: Milliseconds,
    pub(crate) durable_ms: Milliseconds,
    pub(crate) root_ms: Milliseconds,
}

impl Phase {
    pub(crate) fn figures(&self) -> PhaseFigures {
        PhaseFigures {
            commits: self.commits,
            changed_keys: self.changed,
            seconds: self.elapsed.as_secs_f64(),
            making_seconds: self.making.as_secs_f64(),
            late: self.late,
            keys_per_second: rate(self.changed, self.elapsed),
            commits_per_second: rate(self.commits, self.elapsed),
            visible_ms: self.visible.milliseconds(),
            durable_ms: self.durable.milliseconds(),
            root_ms: self.root.milliseconds(),
        }
    }
}

/// How many commits are made, and of how many the root is known.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    known: u64,
    closed: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until fewer than `bound` of `made` commits have no root. False: nobody will learn of any root any more.
    fn wait(&self, made: u64, bound: u64) -> bool {
        let state = self.lock();
        let full = |state: &mut GateState| !state.closed && made.saturating_sub(state.known) >= bound;
        let state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        !state.closed
    }

    fn known(&self, known: u64) {
        self.lock().known = known;
        self.changed.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Something to wait for: when the commit was called, how many were made with it, and its handle.
type Awaited = (Instant, u64, Box<dyn Rest>);

/// Commits what `next` makes until it makes no more. `first` is the number of the first version.
pub(crate) fn commit_all(
    engine: &dyn Engine,
    first: u64,
    pace: Pace,
    mut next: impl FnMut() -> Option<Changes>,
) -> Result<Phase> {
    let (tell_durable, hear_durable) = channel::<Awaited>();
    let (tell_root, hear_root) = channel::<Awaited>();
    let gate = Gate::default();
    let bound = pace.in_flight.max(1).saturating_mul(pace.root_every.max(1));
    let mut phase = Phase {
        commits: 0,
        changed: 0,
        elapsed: Duration::ZERO,
        making: Duration::ZERO,
        late: 0,
        visible: Times::new()?,
        durable: Times::new()?,
        root: Times::new()?,
    };
    let begun = Instant::now();
    let (committed, durable, root) = thread::scope(|scope| {
        let durable = scope.spawn(|| await_each(hear_durable, |rest| rest.durable(), |_| {}));
        let root = scope.spawn(|| {
            let heard = await_each(hear_root, |rest| rest.root().map(drop), |made| gate.known(made));
            gate.close();
            heard
        });
        let mut commit_next = || -> Result<bool> {
            interrupt::check()?;
            let making = Instant::now();
            let Some(changes) = next() else { return Ok(false) };
            phase.making += making.elapsed();
            phase.changed += changes.len() as u64;
            if let Some(every) = pace.every {
                let due = begun + every.mul_f64(phase.commits as f64);
                match due.checked_duration_since(Instant::now()) {
                    Some(early) => thread::sleep(early),
                    None => phase.late += u64::from(phase.commits > 0),
                }
            }
            if !gate.wait(phase.commits, bound) {
                return Ok(false);
            }
            let version = first + phase.commits;
            let called = Instant::now();
            let commit = engine.commit(changes)?;
            let took = called.elapsed();
            phase.visible.record(took);
            phase.commits += 1;
            match commit {
                Commit::Done => {
                    phase.durable.record(took);
                    phase.root.record(took);
                    gate.known(phase.commits);
                }
                Commit::Visible(rest) => {
                    let again = rest.again();
                    // A waiter that ended has met an error, which its thread hands over below.
                    let heard = tell_durable.send((called, phase.commits, rest)).is_ok();
                    let scheduled = version.is_multiple_of(pace.root_every.max(1));
                    let heard =
                        heard && (!scheduled || tell_root.send((called, phase.commits, again)).is_ok());
                    return Ok(heard);
                }
            }
            Ok(true)
        };
        let committed = loop {
            match commit_next() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // The waiters end when nobody can send any more.
        drop((tell_durable, tell_root));
        (committed, durable.join(), root.join())
    });
    phase.elapsed = begun.elapsed();
    let gone = |_| Failure::new("a waiting thread ended unexpectedly");
    let (durable, root) = (durable.map_err(gone)?, root.map_err(gone)?);
    committed?;
    // Empty where the engine has nothing to wait for.
    let (durable, root) = (durable?, root?);
    if !durable.is_empty() {
        phase.durable = durable;
    }
    if !root.is_empty() {
        phase.root = root;
    }
    Ok(phase)
}

/// Waits in the order of the commits, which is the order in which things happen.
fn await_each(
    awaited: Receiver<Awaited>,
    wait: impl Fn(&dyn Rest) -> Result<()>,
    happened: impl Fn(u64),
) -> Result<Times> {
    let mut times = Times::new()?;
    for (called, made, rest) in awaited {
        wait(rest.as_ref())?;
        times.record(called.elapsed());
        happened(made);
    }
    Ok(times)
}
