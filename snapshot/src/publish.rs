//! Publication of versions by number, and leases on them.
//!
//! Safety of memory. An entry belongs to the table through one strong count of its `Arc`, which stands in the cell
//! of its version; `latest` and `oldest` only repeat the pointer. Removal (under the writer's lock) first takes the pointer out of all
//! three and then gives the strong count to [`Guard::defer`]. A reader that found the pointer in any of them under its guard
//! may therefore read the entry, and raise its count, for as long as the guard lives; from then on the lease's own
//! count keeps it. The directory of chunks is copied when it grows or shrinks, swapped, and the old one deferred likewise. Entries and
//! directories are complete before the release that publishes them, and readers load with acquire: nothing unpublished is seen.
//!
//! Safety of leases. That no lease comes to exist after `forget`, unless `live_stamps` lists it, is argued in `lease`: the
//! mark is the entry's `gone`, set before the fence in `remove`; a leaser looks at it after the fence in
//! [`Registry::register`]. The mark belongs to the entry, not to the version number, so that a number that is published again after
//! a rollback does not validate a lease on its former bearer. `latest` retries where the latest entry is gone: before marking it,
//! `remove` has stored another one.
#![expect(unsafe_code, reason = "entries are shared by raw pointers under epoch pins")]

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, RangeInclusive};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use crate::Error;
use crate::epoch::{Guard, pin};
use crate::lease::{Clock, LAST_STAMP, LeaseInfo, Registry};
use crate::sync::{AtomicBool, AtomicPtr, Mutex, fence, lock};

/// log2 of the versions in a chunk.
const CHUNK_BITS: u32 = if cfg!(loom) { 1 } else { 10 };
const CHUNK: usize = 1 << CHUNK_BITS;

struct Entry<T> {
    version: u64,
    stamp: u64,
    /// Left the table: no lease may begin.
    gone: AtomicBool,
    value: T,
}

/// The versions of one aligned range.
struct Chunk<T> {
    /// Null where the version is not published. Each pointer is a strong count, given up by `remove` or by the
    /// table's `Drop`.
    cells: Box<[AtomicPtr<Entry<T>>]>,
}

impl<T> Chunk<T> {
    fn new() -> Self {
        Self { cells: (0..CHUNK).map(|_| AtomicPtr::new(ptr::null_mut())).collect() }
    }

    fn cell(&self, version: u64) -> Option<&AtomicPtr<Entry<T>>> {
        self.cells.get((version % CHUNK as u64) as usize)
    }

    /// The cells of those versions of chunk `number` that are in the range.
    fn cells_in(&self, number: u64, versions: &RangeInclusive<u64>) -> &[AtomicPtr<Entry<T>>] {
        let start = number << CHUNK_BITS;
        let last = CHUNK as u64 - 1;
        let from = versions.start().saturating_sub(start);
        let to = versions.end().saturating_sub(start).min(last);
        self.cells.get(from as usize..=to as usize).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.cells.iter().all(|cell| cell.load(Relaxed).is_null())
    }
}

/// Chunks by the number of their range, ascending. Immutable.
struct Directory<T> {
    chunks: Vec<(u64, Arc<Chunk<T>>)>,
}

impl<T> Directory<T> {
    fn chunk(&self, version: u64) -> Option<&Arc<Chunk<T>>> {
        let number = version >> CHUNK_BITS;
        let at = self.chunks.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.chunks.get(at).map(|(_, chunk)| chunk)
    }

    fn cell(&self, version: u64) -> Option<&AtomicPtr<Entry<T>>> {
        self.chunk(version)?.cell(version)
    }

    /// The chunks that overlap a range of versions.
    fn chunks_in(&self, versions: &RangeInclusive<u64>) -> &[(u64, Arc<Chunk<T>>)] {
        let (low, high) = (versions.start() >> CHUNK_BITS, versions.end() >> CHUNK_BITS);
        let from = self.chunks.partition_point(|(number, _)| *number < low);
        let to = self.chunks.partition_point(|(number, _)| *number <= high);
        self.chunks.get(from..to).unwrap_or_default()
    }

    /// The cells of published versions in a range, ascending.
    fn published(
        &self,
        versions: RangeInclusive<u64>,
    ) -> impl DoubleEndedIterator<Item = &AtomicPtr<Entry<T>>> {
        let chunks = self.chunks_in(&versions).iter();
        let cells = chunks.flat_map(move |(number, chunk)| chunk.cells_in(*number, &versions));
        cells.filter(|cell| !cell.load(Acquire).is_null())
    }
}

/// What keeps a version's value readable and its stamp alive.
struct Held<T> {
    // Dropped in this order: the stamp outlives the value.
    entry: Arc<Entry<T>>,
    ticket: Ticket,
}

/// A registration. Dropping it withdraws it.
struct Ticket {
    registry: Arc<Registry>,
    index: u32,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.withdraw(self.index);
    }
}

/// A lease on a published version: derefs to what was published, and keeps its stamp [alive](Versions::live_stamps)
/// until it and all its clones are dropped, even when the version is forgotten or the table dropped meanwhile. Or one on something that is
/// in no table ([`Versions::hold`]).
///
/// Cloning costs two atomic increments; dropping two decrements, and the last one of a forgotten version drops the value.
pub struct Lease<T> {
    held: Arc<Held<T>>,
}

impl<T> Lease<T> {
    /// The stamp it was published with.
    pub fn stamp(&self) -> u64 {
        self.held.entry.stamp
    }

    /// The version it was published as.
    pub fn version(&self) -> u64 {
        self.held.entry.version
    }

    /// Whether the version has been forgotten or rolled back since. The lease stays good.
    pub fn is_forgotten(&self) -> bool {
        self.held.entry.gone.load(Acquire)
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.held.entry.value
    }
}

impl<T> Clone for Lease<T> {
    fn clone(&self) -> Self {
        let ticket = &self.held.ticket;
        ticket.registry.count(ticket.index, 1);
        Self { held: Arc::clone(&self.held) }
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        let ticket = &self.held.ticket;
        ticket.registry.count(ticket.index, -1);
    }
}

impl<T: fmt::Debug> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("version", &self.version())
            .field("stamp", &self.stamp())
            .field("value", &**self)
            .finish()
    }
}

/// The table of published versions.
///
/// One committer publishes, forgets and rolls back (several would take turns at a lock); any number of readers take
/// leases without a lock.
pub struct Versions<T: Send + Sync + 'static> {
    /// Never null.
    directory: AtomicPtr<Directory<T>>,
    latest: AtomicPtr<Entry<T>>,
    oldest: AtomicPtr<Entry<T>>,
    writer: Mutex<()>,
    registry: Arc<Registry>,
    /// Leases on what is in no table.
    held: Arc<Registry>,
}

impl<T: Send + Sync + 'static> fmt::Debug for Versions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versions").field("range", &self.range()).finish_non_exhaustive()
    }
}

/// A raw strong count on its way to be dropped.
struct Count<T>(*const Entry<T>);

// SAFETY: it is an `Arc` in all but name.
unsafe impl<T: Send + Sync> Send for Count<T> {}

impl<T> Drop for Count<T> {
    fn drop(&mut self) {
        // SAFETY: made from a cell's strong count, once.
        drop(unsafe { Arc::from_raw(self.0) });
    }
}

impl<T: Send + Sync + 'static> Versions<T> {
    /// An empty table. `clock` tells the time since some fixed moment; it serves the ages in [`leases`](Self::leases) alone.
    pub fn new(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let directory = Box::into_raw(Box::new(Directory { chunks: Vec::new() }));
        let clock: Clock = Arc::new(clock);
        Self {
            directory: AtomicPtr::new(directory),
            latest: AtomicPtr::new(ptr::null_mut()),
            oldest: AtomicPtr::new(ptr::null_mut()),
            writer: Mutex::new(()),
            registry: Arc::new(Registry::new(clock.clone())),
            held: Arc::new(Registry::new(clock)),
        }
    }

    /// Publishes a version: when the call returns, [`latest`](Self::latest) gives it to everybody. Everything that
    /// the caller did before is visible to whoever leases it.
    ///
    /// Versions ascend and start anywhere; gaps are allowed (a reopened store has them) and cost nothing. Costs an allocation, and
    /// once in 1,024 versions a copy of the directory, of 16 bytes for 1,024 versions.
    ///
    /// # Errors
    /// [`Error::NotAscending`] where a later version, or this one, is published; [`Error::ReservedStamp`] for the
    /// stamp `u64::MAX`.
    pub fn publish(&self, version: u64, stamp: u64, value: T) -> Result<(), Error> {
        if stamp > LAST_STAMP {
            return Err(Error::ReservedStamp { version });
        }
        let _writer = lock(&self.writer);
        let guard = pin();
        if let Some(latest) = self.load(&self.latest, &guard).filter(|latest| latest.version >= version) {
            return Err(Error::NotAscending { version, latest: latest.version });
        }
        let raw = self.enter(version, stamp, value, &guard);
        if let Some(cell) = self.directory(&guard).cell(version) {
            cell.store(raw, Release);
        }
        if self.oldest.load(Relaxed).is_null() {
            self.oldest.store(raw, Release);
        }
        self.latest.store(raw, Release);
        Ok(())
    }

    /// A lease on the latest version; None where none is published. Lock-free: it retries only where the version was taken
    /// back in the same moment.
    pub fn latest(&self) -> Option<Lease<T>> {
        let guard = pin();
        loop {
            let entry = self.load(&self.latest, &guard)?;
            match self.lease_entry(entry) {
                Leased::Yes(lease) => return Some(lease),
                Leased::Gone => {}
                Leased::Full => return None,
            }
        }
    }

    /// A lease on a version; None where it is not published, or not any more. Lock-free.
    ///
    /// Costs an allocation and about five atomic operations on shared memory (also where 2^32 leases are held, None).
    pub fn lease(&self, version: u64) -> Option<Lease<T>> {
        let guard = pin();
        let cell = self.directory(&guard).cell(version)?;
        let entry = self.load(cell, &guard)?;
        match self.lease_entry(entry) {
            Leased::Yes(lease) => Some(lease),
            Leased::Gone | Leased::Full => None,
        }
    }

    /// A lease on something of the caller's own that stands for `version` and `stamp` and is in no table: `value` is what it derefs to. The
    /// stamp is [kept](Self::kept_stamps) by it, but not [live](Self::live_stamps): it holds nothing back that only the table's values need.
    ///
    /// The caller found `value` somewhere, and from there it may have been taken before the lease was there. So the caller must *look again*:
    /// who gives something up first takes it from where it is found and then asks for the kept stamps; who leases it first has the lease and then
    /// looks whether it is still found. One of the two sees the other.
    ///
    /// Lock-free. None where 2^32 are held.
    pub fn hold<U>(&self, version: u64, stamp: u64, value: U) -> Option<Lease<U>> {
        let index = self.held.register(stamp, version)?;
        let ticket = Ticket { registry: Arc::clone(&self.held), index };
        let entry = Arc::new(Entry { version, stamp, gone: AtomicBool::new(false), value });
        Some(Lease { held: Arc::new(Held { entry, ticket }) })
    }

    /// Takes a version out of the table. Leases on it stay good. False where it is not published.
    ///
    /// When this has returned, and a later [`live_stamps`](Self::live_stamps) does not list the version's stamp, no
    /// lease on it exists, and none will.
    pub fn forget(&self, version: u64) -> bool {
        let _writer = lock(&self.writer);
        let guard = pin();
        let Some(cell) = self.directory(&guard).cell(version) else { return false };
        if cell.load(Relaxed).is_null() {
            return false;
        }
        self.remove(version..=version, &guard);
        true
    }

    /// Takes every version above `version` out of the table; the latest is then the highest that is
    /// left. Returns how many left. The same promise holds for them as for [`forget`](Self::forget).
    pub fn unpublish_after(&self, version: u64) -> usize {
        let _writer = lock(&self.writer);
        let guard = pin();
        match version.checked_add(1) {
            Some(first) => self.remove(first..=u64::MAX, &guard),
            None => 0,
        }
    }

    /// Rolls back: publishes `value` as `version`, in place of what stood there, and takes every version above it out of the table. At no
    /// moment is there no latest version. Returns how many left. The same promise holds for them as for [`forget`](Self::forget).
    ///
    /// # Errors
    /// [`Error::ReservedStamp`] for the stamp `u64::MAX`.
    pub fn roll_back(&self, version: u64, stamp: u64, value: T) -> Result<usize, Error> {
        if stamp > LAST_STAMP {
            return Err(Error::ReservedStamp { version });
        }
        let _writer = lock(&self.writer);
        let guard = pin();
        let raw = self.enter(version, stamp, value, &guard);
        let Some(cell) = self.directory(&guard).cell(version) else { return Ok(0) };
        let replaced = cell.swap(raw, AcqRel);
        let oldest = self.load(&self.oldest, &guard);
        if oldest.is_none_or(|oldest| oldest.version >= version) {
            self.oldest.store(raw, Release);
        }
        self.latest.store(raw, Release);
        if !replaced.is_null() {
            self.give_up(vec![replaced], &guard);
        }
        let later = version.checked_add(1).map_or(0, |first| self.remove(first..=u64::MAX, &guard));
        Ok(later + usize::from(!replaced.is_null()))
    }

    /// The lowest and the highest published version; None where none is. Between them versions may be missing. Lock-free.
    pub fn range(&self) -> Option<RangeInclusive<u64>> {
        let guard = pin();
        loop {
            let latest = self.load(&self.latest, &guard)?.version;
            let oldest = self.load(&self.oldest, &guard)?.version;
            // Otherwise the table changed between the loads.
            if oldest <= latest {
                return Some(oldest..=latest);
            }
        }
    }

    /// Every published version with its stamp, ascending. Costs a look at each. Lock-free.
    pub fn published(&self) -> Vec<(u64, u64)> {
        let guard = pin();
        let cells = self.directory(&guard).published(0..=u64::MAX);
        let entries = cells.filter_map(|cell| self.load(cell, &guard));
        entries.map(|entry| (entry.version, entry.stamp)).collect()
    }

    /// The stamps that leases on values of this table hold, sorted. A published version that nobody leases is not among them.
    pub fn live_stamps(&self) -> Vec<u64> {
        self.registry.stamps()
    }

    /// The stamps that leases of either kind hold, sorted: the live ones, and those of [`hold`](Self::hold).
    pub fn kept_stamps(&self) -> Vec<u64> {
        let mut stamps = self.registry.stamps();
        stamps.extend(self.held.stamps());
        stamps.sort_unstable();
        stamps.dedup();
        stamps
    }

    /// A listing of all leases, by stamp. For people: under concurrent changes it may miss a lease just taken.
    pub fn leases(&self) -> Vec<LeaseInfo> {
        let mut rows: BTreeMap<u64, LeaseInfo> = BTreeMap::new();
        for found in self.registry.list().into_iter().chain(self.held.list()) {
            rows.entry(found.stamp).and_modify(|row| row.join(found)).or_insert(found);
        }
        rows.into_values().collect()
    }

    fn directory<'g>(&self, _guard: &'g Guard) -> &'g Directory<T> {
        // SAFETY: never null, complete before it was published, and freed only through a deferral.
        unsafe { &*self.directory.load(Acquire) }
    }

    fn load<'g>(&self, from: &AtomicPtr<Entry<T>>, _guard: &'g Guard) -> Option<&'g Entry<T>> {
        let entry = from.load(Acquire);
        // SAFETY: complete before it was published, and its strong count is dropped only through a deferral after it was
        // taken out of wherever it is found.
        (!entry.is_null()).then(|| unsafe { &*entry })
    }

    /// Tries to lease an entry that was found in the table under a guard that is still alive.
    fn lease_entry(&self, entry: &Entry<T>) -> Leased<T> {
        let Some(index) = self.registry.register(entry.stamp, entry.version) else { return Leased::Full };
        let ticket = Ticket { registry: Arc::clone(&self.registry), index };
        // After the registration's fence.
        if entry.gone.load(Acquire) {
            return Leased::Gone;
        }
        // SAFETY: entries come from `Arc::into_raw`, and under the guard the table's strong count is not dropped.
        let entry = unsafe {
            Arc::increment_strong_count(ptr::from_ref(entry));
            Arc::from_raw(ptr::from_ref(entry))
        };
        Leased::Yes(Lease { held: Arc::new(Held { entry, ticket }) })
    }

    /// Makes an entry, and room for it in the directory. The caller holds the writer's lock, and puts the entry into its cell.
    fn enter(&self, version: u64, stamp: u64, value: T, guard: &Guard) -> *mut Entry<T> {
        if self.directory(guard).chunk(version).is_none() {
            let mut chunks = self.directory(guard).chunks.clone();
            let at = chunks.partition_point(|(number, _)| *number < version >> CHUNK_BITS);
            chunks.insert(at, (version >> CHUNK_BITS, Arc::new(Chunk::new())));
            self.replace_directory(chunks, guard);
        }
        Arc::into_raw(Arc::new(Entry { version, stamp, gone: AtomicBool::new(false), value })).cast_mut()
    }

    /// Takes a range of versions out of the table. The caller holds the writer's lock.
    fn remove(&self, versions: RangeInclusive<u64>, guard: &Guard) -> usize {
        let directory = self.directory(guard);
        let (low, high) = (*versions.start(), *versions.end());
        let removed: Vec<*mut Entry<T>> =
            directory.published(versions.clone()).map(|cell| cell.swap(ptr::null_mut(), Release)).collect();
        if removed.is_empty() {
            return 0;
        }
        let first =
            |cell: Option<&AtomicPtr<Entry<T>>>| cell.map_or(ptr::null_mut(), |cell| cell.load(Relaxed));
        if removed.contains(&self.latest.load(Relaxed)) {
            self.latest.store(first(directory.published(0..=low).next_back()), Release);
        }
        if removed.contains(&self.oldest.load(Relaxed)) {
            self.oldest.store(first(directory.published(high..=u64::MAX).next()), Release);
        }
        let count = removed.len();
        self.give_up(removed, guard);
        if directory.chunks_in(&versions).iter().any(|(_, chunk)| chunk.is_empty()) {
            let mut chunks = directory.chunks.clone();
            chunks.retain(|(_, chunk)| !chunk.is_empty());
            self.replace_directory(chunks, guard);
        }
        count
    }

    /// Marks entries that were just taken out of the table, wherever they stood, and leaves them to their leases.
    fn give_up(&self, removed: Vec<*mut Entry<T>>, guard: &Guard) {
        for entry in &removed {
            // SAFETY: taken out of the table just now; the strong count is still ours.
            unsafe { &**entry }.gone.store(true, Release);
        }
        // Orders the marks before every later scan of the registry, by whichever thread learns that this returned.
        fence(SeqCst);
        let counts: Vec<Count<T>> = removed.into_iter().map(|entry| Count(entry)).collect();
        guard.defer(move || drop(counts));
    }

    fn replace_directory(&self, chunks: Vec<(u64, Arc<Chunk<T>>)>, guard: &Guard) {
        let fresh = Box::into_raw(Box::new(Directory { chunks }));
        let old = self.directory.swap(fresh, AcqRel);
        // SAFETY: from a box; the swap gave it to the writer alone, and readers are waited for by the deferral.
        let old = unsafe { Box::from_raw(old) };
        guard.defer(move || drop(old));
    }
}

enum Leased<T> {
    Yes(Lease<T>),
    /// The entry has left the table.
    Gone,
    /// No cell is free.
    Full,
}

impl<T: Send + Sync + 'static> Drop for Versions<T> {
    fn drop(&mut self) {
        // SAFETY: from a box, and nobody borrows the table any more.
        let directory = unsafe { Box::from_raw(self.directory.load(Acquire)) };
        // Not left to the chunks: former directories that wait for the epoch still share them.
        for cell in directory.chunks.iter().flat_map(|(_, chunk)| chunk.cells.iter()) {
            let entry = cell.swap(ptr::null_mut(), Acquire);
            if !entry.is_null() {
                drop(Count(entry));
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
