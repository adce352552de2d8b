//! One value a group of threads, each on its own cache lines.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many groups. One under the model checker.
const SHARDS: usize = if cfg!(loom) { 1 } else { 8 };

/// Two lines: processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Padded<T>(T);

/// The values.
pub(crate) struct Sharded<T> {
    shards: [Padded<T>; SHARDS],
}

/// The group of the current thread.
fn group() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static GROUP: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    GROUP
        .try_with(|group| {
            if group.get() == usize::MAX {
                group.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
            }
            group.get()
        })
        .unwrap_or(0)
}

impl<T: Default> Sharded<T> {
    pub(crate) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Padded::default()) }
    }

    /// The value of this thread's group.
    pub(crate) fn local(&self) -> &T {
        let [first, ..] = &self.shards;
        &self.shards.get(if cfg!(loom) { 0 } else { group() }).unwrap_or(first).0
    }

    /// All of them, this thread's first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        let start = if cfg!(loom) { 0 } else { group() };
        self.shards.iter().cycle().skip(start).take(SHARDS).map(|shard| &shard.0)
    }
}
