//! Which indices are free. Locked, but in groups, so that threads that insert seldom meet.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::shard::Sharded;
use crate::sync::{Mutex, lock};

/// Fresh indices that a group takes at a time: their slots are neighbours.
const RUN: u64 = 64;

struct Group {
    free: Vec<u32>,
    run: Range<u64>,
}

struct Locked(Mutex<Group>);

impl Default for Locked {
    fn default() -> Self {
        Self(Mutex::new(Group { free: Vec::new(), run: 0..0 }))
    }
}

/// The free indices.
pub(crate) struct Indices {
    groups: Sharded<Locked>,
    /// Below this every index was given to some group.
    fresh: AtomicU64,
}

impl Indices {
    pub(crate) fn new() -> Self {
        Self { groups: Sharded::new(), fresh: AtomicU64::new(0) }
    }

    /// Indices handed out so far, and a few that groups hold in reserve.
    pub(crate) fn used(&self) -> u64 {
        self.fresh.load(Relaxed)
    }

    /// A free index; None where all 2^32 are in use or worn out. `next` is told the one that this thread is likely to get next.
    pub(crate) fn take(&self, next: impl FnOnce(u32)) -> Option<u32> {
        {
            let mut group = lock(&self.groups.local().0);
            if let Some(index) = group.free.pop() {
                group.free.last().copied().map(next);
                return Some(index);
            }
            if let Some(index) = group.run.next() {
                return u32::try_from(index).ok();
            }
        }
        // One lock at a time: nobody waits in a circle.
        let stolen = self.steal().unwrap_or_default();
        let mut group = lock(&self.groups.local().0);
        group.free.extend(stolen);
        if let Some(index) = group.free.pop() {
            return Some(index);
        }
        if group.run.is_empty() {
            let start = self.fresh.fetch_update(Relaxed, Relaxed, |fresh| {
                (fresh <= u64::from(u32::MAX)).then_some(fresh + RUN)
            });
            let start = start.ok()?;
            group.run = start..start + RUN;
        }
        group.run.next().and_then(|index| u32::try_from(index).ok())
    }

    /// Memory of the lists, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.groups.all().map(|group| lock(&group.0).free.capacity() * size_of::<u32>()).sum()
    }

    /// Half of what another group has free.
    fn steal(&self) -> Option<Vec<u32>> {
        self.groups.all().find_map(|other| {
            let mut other = other.0.try_lock().ok()?;
            let keep = other.free.len() / 2;
            (!other.free.is_empty()).then(|| other.free.split_off(keep))
        })
    }

    /// Gives indices back.
    pub(crate) fn give(&self, indices: impl IntoIterator<Item = u32>) {
        lock(&self.groups.local().0).free.extend(indices);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_never_given_to_two() {
        let indices = Indices::new();
        let mut taken: Vec<u32> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        let mut held = Vec::new();
                        for round in 0..2_000 {
                            held.push(indices.take(|_| {}).unwrap());
                            if round % 3 == 0 {
                                indices.give(held.pop());
                            }
                        }
                        held
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        let count = taken.len();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), count);
    }

    #[test]
    fn what_one_thread_gave_back_another_takes_before_the_table_grows() {
        let indices = Indices::new();
        let all: Vec<u32> = (0..RUN).map(|_| indices.take(|_| {}).unwrap()).collect();
        std::thread::scope(|scope| scope.spawn(|| indices.give(all)).join().unwrap());
        for _ in 0..RUN {
            assert!(u64::from(indices.take(|_| {}).unwrap()) < RUN);
        }
        assert_eq!(indices.used(), RUN);
    }

    #[test]
    fn the_last_index_is_the_last() {
        let indices = Indices::new();
        indices.fresh.store(u64::from(u32::MAX) + 1 - RUN, Relaxed);
        for _ in 0..RUN {
            assert!(indices.take(|_| {}).is_some());
        }
        assert_eq!(indices.take(|_| {}), None);
        assert_eq!(indices.take(|_| {}), None);
    }
}
