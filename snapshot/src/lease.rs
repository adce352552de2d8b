//! The registry of leases: which stamps somebody still reads.
//!
//! Safety (of memory: there is no `unsafe` here; of the protocol:). A lease is registered *before* it is valid: the
//! leaser writes the stamp into a cell of the registry, passes a sequentially consistent fence, and only then looks whether the version
//! has been given up; if so, it withdraws. Who gives a version up marks it so, passes such a fence, and only then scans the
//! registry, after another. The fences are totally ordered. Either the leaser's comes first: then the scan sees the cell. Or the
//! giver's comes first: then the leaser sees the mark and withdraws. There is no third case, so a stamp which a scan after giving up does not list has no lease and
//! gets none. (This is Dekker's argument, as for hazard pointers.)
//!
//! A cell is freed with release and scanned with acquire, so that all reading under a lease happens before whatever follows a scan that
//! no longer lists it, also when the cell was taken anew in between: taking it acquires its last freeing, and registering
//! releases both. A lease holds one cell all its life, and its clones share the cell: a stamp cannot slip from an unscanned cell into one that
//! was scanned already. Cells are type-stable (never freed before the registry), and the list of free cells carries a tag against ABA.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64 as PlainU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};
use std::time::Duration;

#[expect(unsafe_code, reason = "promises that zeroes are a valid cell; the rest of the module has none")]
mod cell {
    use super::{AtomicU32, AtomicU64, PlainU64};
    use crate::chunks::Zeroed;

    /// One lease and its clones.
    pub(super) struct Cell {
        /// The stamp plus one; 0 while free.
        pub(super) word: AtomicU64,
        /// The next free cell's index plus one, while this one is free.
        pub(super) next: AtomicU32,
        // For the listing only.
        pub(super) version: PlainU64,
        pub(super) count: PlainU64,
        pub(super) since_nanos: PlainU64,
    }

    impl Default for Cell {
        fn default() -> Self {
            Self {
                word: AtomicU64::new(0),
                next: AtomicU32::new(0),
                version: PlainU64::new(0),
                count: PlainU64::new(0),
                since_nanos: PlainU64::new(0),
            }
        }
    }

    // SAFETY: integers of zeroes are zero, the default.
    unsafe impl Zeroed for Cell {}
}

use crate::chunks::Chunks;
use crate::sync::{AtomicU32, AtomicU64, fence};
use cell::Cell;

/// Leases of one stamp, for a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// The stamp that they keep alive.
    pub stamp: u64,
    /// The version it was published as.
    pub version: u64,
    /// How many leases, clones included.
    pub count: u64,
    /// Age of the oldest.
    pub age: Duration,
}

impl LeaseInfo {
    /// Adds others of the same stamp.
    pub(crate) fn join(&mut self, other: Self) {
        self.count += other.count;
        self.age = self.age.max(other.age);
    }
}

/// Tells the time since some fixed moment.
pub(crate) type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The registry.
pub(crate) struct Registry {
    cells: Chunks<Cell>,
    /// Cells ever taken.
    len: AtomicU64,
    /// Top of the list of free cells: a tag, and the index plus one.
    free: AtomicU64,
    clock: Clock,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// The largest stamp that can be leased.
pub(crate) const LAST_STAMP: u64 = u64::MAX - 1;

impl Registry {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { cells: Chunks::new(), len: AtomicU64::new(0), free: AtomicU64::new(0), clock }
    }

    fn now_nanos(&self) -> u64 {
        u64::try_from((self.clock)().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Registers `stamp` and passes the fence: what the caller loads next is ordered after the registration.
    /// Lock-free. None where 2^32 leases are held.
    pub(crate) fn register(&self, stamp: u64, version: u64) -> Option<u32> {
        let (index, cell) = match self.pop() {
            Some(popped) => popped,
            None => {
                let index = u32::try_from(self.len.fetch_add(1, AcqRel)).ok()?;
                (index, self.cells.get_or_grow(index)?)
            }
        };
        cell.version.store(version, Relaxed);
        cell.count.store(1, Relaxed);
        cell.since_nanos.store(self.now_nanos(), Relaxed);
        // With release: the last withdrawal, which popping the cell acquired, stays ordered before a scan of this word.
        cell.word.store(stamp.min(LAST_STAMP) + 1, Release);
        fence(SeqCst);
        Some(index)
    }

    /// Withdraws a registration. Lock-free.
    pub(crate) fn withdraw(&self, index: u32) {
        let Some(cell) = self.cells.get(index) else { return };
        cell.word.store(0, Release);
        let mut top = self.free.load(Relaxed);
        loop {
            cell.next.store(top as u32, Relaxed);
            let new = tagged(top, index.wrapping_add(1));
            match self.free.compare_exchange(top, new, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(current) => top = current,
            }
        }
    }

    fn pop(&self) -> Option<(u32, &Cell)> {
        let mut top = self.free.load(Acquire);
        loop {
            let index = (top as u32).checked_sub(1)?;
            let cell = self.cells.get(index)?;
            // Perhaps outdated; then the tag has changed.
            let new = tagged(top, cell.next.load(Relaxed));
            match self.free.compare_exchange(top, new, AcqRel, Acquire) {
                Ok(_) => return Some((index, cell)),
                Err(current) => top = current,
            }
        }
    }

    /// Counts a clone (`1`) or its end (`-1`), for the listing.
    pub(crate) fn count(&self, index: u32, delta: i64) {
        if let Some(cell) = self.cells.get(index) {
            cell.count.fetch_add(delta.cast_unsigned(), Relaxed);
        }
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        let len = u32::try_from(self.len.load(Acquire)).unwrap_or(u32::MAX);
        (0..len).filter_map(|index| self.cells.get(index))
    }

    /// Every registered stamp, sorted, once each. Costs a look at each cell: as many as there ever were leases at
    /// one time.
    pub(crate) fn stamps(&self) -> Vec<u64> {
        fence(SeqCst);
        let mut stamps: Vec<u64> =
            self.cells().filter_map(|cell| cell.word.load(Acquire).checked_sub(1)).collect();
        stamps.sort_unstable();
        stamps.dedup();
        stamps
    }

    /// The listing, by stamp.
    pub(crate) fn list(&self) -> Vec<LeaseInfo> {
        let now = self.now_nanos();
        let mut rows: BTreeMap<u64, LeaseInfo> = BTreeMap::new();
        for cell in self.cells() {
            let word = cell.word.load(Acquire);
            let Some(stamp) = word.checked_sub(1) else { continue };
            let (version, count) = (cell.version.load(Relaxed), cell.count.load(Relaxed));
            let age = Duration::from_nanos(now.saturating_sub(cell.since_nanos.load(Relaxed)));
            // Taken over in the meantime: the next listing has it.
            if cell.word.load(Acquire) != word {
                continue;
            }
            let row = rows.entry(stamp).or_insert(LeaseInfo { stamp, version, count: 0, age });
            row.join(LeaseInfo { stamp, version, count, age });
        }
        rows.into_values().collect()
    }
}

/// The next word of the list of free cells: another tag, and `head`.
fn tagged(old: u64, head: u32) -> u64 {
    ((old >> 32).wrapping_add(1) << 32) | u64::from(head)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new(Arc::new(|| Duration::ZERO))
    }

    #[test]
    fn stamps_are_listed_while_registered_and_cells_are_reused() {
        let registry = registry();
        let a = registry.register(7, 0).unwrap();
        let b = registry.register(0, 1).unwrap();
        let c = registry.register(7, 0).unwrap();
        assert_eq!(registry.stamps(), [0, 7]);
        registry.withdraw(a);
        assert_eq!(registry.stamps(), [0, 7]);
        registry.withdraw(c);
        assert_eq!(registry.stamps(), [0]);
        assert_eq!(registry.register(9, 2), Some(c));
        assert_eq!(registry.register(9, 2), Some(a));
        registry.withdraw(b);
        assert_eq!(registry.len.load(Relaxed), 3);
    }

    #[test]
    fn no_two_threads_hold_one_cell() {
        let registry = registry();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let registry = &registry;
                scope.spawn(move || {
                    for round in 0..20_000_u64 {
                        let index = registry.register(thread, round).unwrap();
                        let cell = registry.cells.get(index).unwrap();
                        assert_eq!(cell.word.load(Relaxed), thread + 1);
                        assert_eq!(cell.version.load(Relaxed), round);
                        registry.withdraw(index);
                    }
                });
            }
        });
        assert!(registry.stamps().is_empty());
        assert!(registry.len.load(Relaxed) <= 4);
    }
}
