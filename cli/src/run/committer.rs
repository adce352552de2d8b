//! The committing thread, and two that wait beside it: for durability and for roots.

use std::{
    ops::RangeInclusive,
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use bristlecone::{B256, Pending, Store};

use super::{
    measure::{self, Times},
    workload::Plan,
};
use crate::{failure::Failure, interrupt, progress::Progress};

/// Commits whose events may be awaited at a time; the store bounds its own queues below that.
const AWAITED: usize = 4096;
/// The process's memory is looked at after so many commits.
const SAMPLED: u64 = 4;

/// What committing a range of versions took.
#[derive(Debug)]
pub(crate) struct Phase {
    /// Commits made.
    pub(crate) commits: u64,
    /// Distinct keys that they changed, summed over the versions.
    pub(crate) changed: u64,
    /// From the first commit until the last one was durable and its scheduled root known.
    pub(crate) elapsed: Duration,
    /// From the call of commit to its return.
    pub(crate) visible: Times,
    /// From the call of commit until it was durable.
    pub(crate) durable: Times,
    /// From the call of commit until its root was known; scheduled roots only.
    pub(crate) root: Times,
    /// Whether a stop was asked for before the range was done.
    pub(crate) stopped: bool,
}

impl Phase {
    pub(crate) fn keys_per_second(&self) -> f64 {
        rate(self.changed, self.elapsed)
    }

    pub(crate) fn commits_per_second(&self) -> f64 {
        rate(self.commits, self.elapsed)
    }
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// Commits `versions`, as fast as the store takes them.
pub(crate) fn commit(
    store: &Store,
    plan: &Plan,
    versions: RangeInclusive<u64>,
    root_every: u64,
    what: &'static str,
) -> Result<Phase, Failure> {
    let (tell_durable, hear_durable) = sync_channel(AWAITED);
    let (tell_root, hear_root) = sync_channel(AWAITED);
    let mut visible = Times::new()?;
    let (mut commits, mut changed, mut stopped) = (0, 0, false);
    let mut progress = Progress::new(what, (versions.end() + 1).saturating_sub(*versions.start()));
    let begun = Instant::now();
    let (committed, durable, root) = thread::scope(|scope| {
        let durable = scope.spawn(move || await_each::<()>(&hear_durable));
        let root = scope.spawn(move || await_each::<B256>(&hear_root));
        let commit_all = || -> Result<(), Failure> {
            for version in versions {
                if interrupt::asked() {
                    stopped = true;
                    break;
                }
                let (batch, keys) = plan.batch(version);
                let called = Instant::now();
                let commit = store.commit(batch)?;
                visible.record(called.elapsed());
                commits += 1;
                changed += keys;
                // A waiter that ended has met an error, which its thread hands over below.
                if tell_durable.send((called, commit.durable())).is_err() {
                    break;
                }
                if version % root_every == 0 && tell_root.send((called, commit.root())).is_err() {
                    break;
                }
                if commits % SAMPLED == 0 {
                    measure::peak_anonymous_bytes();
                }
                progress.at(commits, || {
                    let durable =
                        store.latest_durable().map_or("none".to_owned(), |version| version.to_string());
                    format!("versions, the store is durable to version {durable}")
                });
            }
            Ok(())
        };
        let committed = commit_all();
        // The waiters end when nobody can send any more.
        drop((tell_durable, tell_root));
        (committed, durable.join(), root.join())
    });
    committed?;
    let gone = |_| Failure::new("a waiting thread ended unexpectedly");
    let durable = durable.map_err(gone)??;
    let root = root.map_err(gone)??;
    Ok(Phase { commits, changed, elapsed: begun.elapsed(), visible, durable, root, stopped })
}

/// Waits for events in the order of their commits, which is the order in which they happen.
fn await_each<T: Clone>(events: &Receiver<(Instant, Pending<T>)>) -> Result<Times, Failure> {
    let mut times = Times::new()?;
    for (called, pending) in events {
        pending.wait()?;
        times.record(called.elapsed());
    }
    Ok(times)
}
