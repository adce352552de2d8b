//! Giving space back. A thread of its own takes in what died in runs that went, and writes segments anew of which enough is dead.
//!
//! What may go is decided elsewhere and is durable before this hears of it (`pipeline/seal/keep.rs`). A record that was born in run *b* and died
//! in run *d* is needed by roots of the runs from *b* on and before *d*, and by nothing else. The runs that went have no version that is kept, but for
//! pins and leases; a version needs the root of its run and of the run before. So a record is dead for good where no such root lies in between; else it is
//! *held*, and looked at again when pins or leases went. What a rollback gave up is needed by nobody at once, and so is a seal that was said again. Nothing of this is in anybody's way: it is done a little at a time, with pauses.

#[cfg(test)]
mod tests;
mod work;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_delta::Locator;

use crate::Error;
use crate::event::Asked;
use crate::pipeline::Core;
use crate::runs::Run;
use crate::sync::{Condvar, Mutex, lock, wait_while};

pub(crate) use work::run;

/// So often leases are looked at that hold something back.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What [`Store::compact`](crate::Store::compact) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactReport {
    /// Segments that were written anew.
    pub segments: u64,
    /// Bytes in use in them before.
    pub before: u64,
    /// Bytes in use in them after.
    pub after: u64,
    /// Records that went.
    pub records: u64,
}

/// How far a compaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactProgress {
    /// Runs whose dead are not taken in yet.
    pub runs: u64,
    /// Bytes written so far.
    pub written: u64,
    /// Segments done.
    pub segments: u64,
    /// Segments in all, as far as is known.
    pub of: u64,
}

/// What is dead and what became of it, for `stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForgetStats {
    /// The oldest version that is kept, pins and leases apart.
    pub oldest: u64,
    /// Runs that went and whose dead are not counted yet.
    pub waiting_runs: u64,
    /// Records that are dead and there still.
    pub dead_records: u64,
    /// What they take in segments.
    pub dead_bytes: u64,
    /// Records that died and that pins or snapshots keep.
    pub held_records: u64,
    /// Segments that were compacted since opening, how often in all.
    pub compactions: u64,
    /// Bytes that this gave back.
    pub freed_bytes: u64,
    /// What went wrong last; it is tried again.
    pub failure: Option<String>,
}

/// Somebody who waits for a compaction of all that is dead.
pub(crate) struct Wanted {
    pub(crate) done: Asked<CompactReport>,
}

/// A stretch of the segments that no version reaches from now on.
pub(crate) struct GivenUp {
    pub(crate) records: Range<Locator>,
    /// Who leases a version of this run may see it still.
    pub(crate) seen: Option<Arc<Run>>,
}

/// What the thread is told.
#[derive(Default)]
pub(crate) struct Orders {
    /// Runs that went, oldest first.
    gone: VecDeque<Arc<Run>>,
    /// Stretches of the segments of which nothing is needed.
    given_up: Vec<GivenUp>,
    wanted: Vec<Wanted>,
    /// Pins went: what they held is to be looked at again.
    look: bool,
    stop: bool,
}

/// The desk of the thread: what it is told, and what it tells.
#[derive(Default)]
pub(crate) struct Forgetting {
    orders: Mutex<Orders>,
    bell: Condvar,
    stats: Mutex<ForgetStats>,
    progress: Mutex<Option<CompactProgress>>,
}

impl std::fmt::Debug for Forgetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forgetting").field("stats", &*lock(&self.stats)).finish_non_exhaustive()
    }
}

impl Forgetting {
    fn tell(&self, what: impl FnOnce(&mut Orders)) {
        what(&mut lock(&self.orders));
        self.bell.notify_all();
    }

    /// These runs went, oldest first.
    pub(crate) fn gone(&self, runs: impl IntoIterator<Item = Arc<Run>>) {
        self.tell(|orders| orders.gone.extend(runs));
    }

    /// Something is reached no more: a rollback gave it up, or it was said again.
    pub(crate) fn give_up(&self, what: GivenUp) {
        self.tell(|orders| orders.given_up.push(what));
    }

    /// A pin went.
    pub(crate) fn look_again(&self) {
        self.tell(|orders| orders.look = true);
    }

    /// Somebody wants all that is dead to go now.
    pub(crate) fn want(&self, done: Asked<CompactReport>) {
        self.tell(|orders| {
            // Where nobody does it any more, whoever asked is told when it is dropped.
            if !orders.stop {
                orders.wanted.push(Wanted { done });
            }
        });
    }

    pub(crate) fn stop(&self) {
        self.tell(|orders| orders.stop = true);
    }

    fn is_stopped(&self) -> bool {
        lock(&self.orders).stop
    }

    fn is_urgent(&self) -> bool {
        !lock(&self.orders).wanted.is_empty()
    }

    /// Waits to be told something, at most so long.
    fn wait(&self, most: Duration) {
        let idle = |orders: &mut Orders| {
            let nothing = orders.gone.is_empty() && orders.given_up.is_empty() && orders.wanted.is_empty();
            nothing && !orders.look && !orders.stop
        };
        wait_while(&self.bell, &self.orders, most, idle);
    }

    /// Sleeps so long, but not past being stopped or hurried.
    fn pause(&self, long: Duration) {
        let idle = |orders: &mut Orders| orders.wanted.is_empty() && !orders.stop;
        wait_while(&self.bell, &self.orders, long, idle);
    }

    /// How a compaction that somebody waits for goes on.
    pub(crate) fn progress(&self) -> Option<CompactProgress> {
        *lock(&self.progress)
    }

    pub(crate) fn stats(&self, core: &Core) -> ForgetStats {
        let waiting_runs = lock(&self.orders).gone.len() as u64;
        let told = lock(&self.stats).clone();
        ForgetStats {
            oldest: core.oldest().unwrap_or(0),
            waiting_runs: told.waiting_runs + waiting_runs,
            ..told
        }
    }

    fn failed(&self, error: &Error) {
        tracing::warn!(%error, "space is not given back for now");
        lock(&self.stats).failure = Some(error.to_string());
    }
}
