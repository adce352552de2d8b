//! A table of slots: a `Copy` id names a block in memory, its locator, or both, and a companion written once.
//!
//! A companion is a block too, of other elements.
//!
//! Safety. A slot's block and companion leave it only by an exchange of the pointer for null, so exactly one thread gets
//! each of them; that thread is pinned, and hands what it got to [`Guard::defer`]. A reader loads the pointer under its own guard; if it
//! still saw the pointer, its guard is one that the deferral waits for. So nothing is freed while a guard under which it was seen
//! lives, whatever ids callers make up or keep too long: ids decide what is *answered*, never what is *alive*.
//! Blocks and companions are written before the release that publishes them, and readers load with acquire.
//!
//! Answers. An id is answered only while the slot's generation is the id's. `retire` first moves the generation on, and only
//! then takes the pointers out. Two things, each enough for a pinned reader, keep the content of a slot's next use from an outdated id. The
//! index goes back to the free ones through the same deferral as the memory, so that a slot is not used again under a guard that may have seen its
//! generation. And whatever the next use writes (pointer, locator) comes after the new generation and is written with release, while
//! readers load it *first*, with acquire, and the generation *after*: who saw anything of a later use sees a later
//! generation too, and answers [`Lookup::Gone`]. (`locator`, which takes no guard, stands on the second alone.) Generations do not wrap: an
//! index whose generations are used up is never given out again.
//!
//! Writers. One that is pinned and saw its generation (`fill`, `set_companion`, `set_locator`, `evict`) has at worst a *retired* slot
//! before it, not a reused one. Having put something in, it looks at the generation again, and takes it out if that has moved. Its putting
//! and retire's taking are exchanges of one pointer: either retire took what was put, or the putting came after, and then sees the moved generation.
#![expect(unsafe_code, reason = "slots own what their atomic pointers point to")]

mod id;
mod indices;

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicI64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use crate::Error;
use crate::block::{self, Block, Header, prefetch};
use crate::chunks::{Chunks, Zeroed};
use crate::epoch::{Guard, pin};
use crate::handoff::{Handoff, Node};
use crate::shard::Sharded;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64};
pub use id::SlotId;
use indices::Indices;

/// The locator that means "none".
const NO_LOCATOR: u64 = 0;

/// Slots whose remains are freed in one go: a deferral costs once for all of them.
const BATCH: usize = 256;

/// What an id leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'g, E> {
    /// The block, in memory. Immutable, and valid for as long as the guard.
    Block(&'g [E]),
    /// Not in memory; the locator says where else.
    Located(u64),
    /// The slot was retired, or never was.
    Gone,
}

/// What a table holds. Exact while nobody changes it; under concurrent changes a momentary mixture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotStats {
    /// Slots in use.
    pub slots: u64,
    /// Slots with a block in memory.
    pub blocks: u64,
    /// Memory that those blocks take, in bytes. Blocks that wait to be freed do not count.
    pub block_bytes: u64,
    /// Slots with a companion.
    pub companions: u64,
    /// Memory that those companions take, counted likewise.
    pub companion_bytes: u64,
    /// Blocks and companions taken out of their slots and not yet freed, counted in slots.
    pub pending: u64,
    /// Memory that those take, in bytes.
    pub pending_bytes: u64,
    /// Memory that the table itself takes: its slots, used or not, and the list of those that are free.
    pub table_bytes: u64,
}

#[derive(Default)]
struct Counters {
    slots: AtomicI64,
    blocks: AtomicI64,
    block_bytes: AtomicI64,
    companions: AtomicI64,
    companion_bytes: AtomicI64,
    pending: AtomicI64,
    pending_bytes: AtomicI64,
}

/// 32 bytes, aligned: pointer and generation share a cache line.
#[repr(C, align(32))]
struct Slot<E, C> {
    block: AtomicPtr<Header<E>>,
    /// Odd while in use, even while free.
    generation: AtomicU32,
    locator: AtomicU64,
    companion: AtomicPtr<Header<C>>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot<u8, u8>>() == 32);

impl<E, C> Default for Slot<E, C> {
    fn default() -> Self {
        Self {
            block: AtomicPtr::new(ptr::null_mut()),
            generation: AtomicU32::new(0),
            locator: AtomicU64::new(NO_LOCATOR),
            companion: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

// SAFETY: null pointers and zero integers are all zeroes, valid, and the default.
unsafe impl<E: Send + Sync, C: Send + Sync> Zeroed for Slot<E, C> {}

/// What was taken out of a slot and waits for the epoch.
struct Remains<E, C> {
    /// Held for its `Drop`, like the companion.
    block: Option<Block<E>>,
    companion: Option<Block<C>>,
    /// The index, where the slot was retired and can be used again.
    index: Option<u32>,
}

impl<E, C> Remains<E, C> {
    fn footprint(&self) -> usize {
        let block = self.block.as_ref().map_or(0, Block::footprint);
        block + self.companion.as_ref().map_or(0, Block::footprint)
    }

    fn is_empty(&self) -> bool {
        self.block.is_none() && self.companion.is_none() && self.index.is_none()
    }
}

type Batch<E, C> = Vec<Remains<E, C>>;

/// The table of slots.
///
/// `E` is what blocks are made of (bytes, usually), `C` what companions are, which are attached to a block once, later. The table grows as needed, and a
/// slot never moves. Every method may be called from any thread. [`get`](Self::get) and [`companion`](Self::companion) take
/// no lock and write nothing; inserting locks a list of free indices that few threads share; all else is lock-free.
///
/// What is taken out of slots is freed neither at once nor by readers: it is handed back when the epoch allows, and freed
/// by the next call of [`retire_all`](Self::retire_all), [`evict_all`](Self::evict_all) or [`reclaim`](Self::reclaim).
pub struct Slots<E: Copy + Send + Sync + 'static, C: Copy + Send + Sync + 'static> {
    table: Chunks<Slot<E, C>>,
    indices: Indices,
    /// Batches whose epoch has passed.
    ready: Arc<Handoff<Batch<E, C>>>,
    counters: Sharded<Counters>,
}

impl<E: Copy + Send + Sync + 'static, C: Copy + Send + Sync + 'static> Default for Slots<E, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Copy + Send + Sync + 'static, C: Copy + Send + Sync + 'static> std::fmt::Debug for Slots<E, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<E: Copy + Send + Sync + 'static, C: Copy + Send + Sync + 'static> Slots<E, C> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            table: Chunks::new(),
            indices: Indices::new(),
            ready: Arc::new(Handoff::new()),
            counters: Sharded::new(),
        }
    }

    /// Puts a copy of `block` into a free slot. Costs an allocation and the copy.
    ///
    /// Whoever learns of the id must learn of it through something that orders threads (a lock, a release and acquire):
    /// otherwise it may find the slot still [`Gone`](Lookup::Gone).
    ///
    /// # Errors
    /// [`Error::SlotsExhausted`] after 2^32 slots.
    pub fn insert(&self, block: &[E]) -> Result<SlotId, Error> {
        self.occupy(Some(block), NO_LOCATOR)
    }

    /// Takes a free slot for a block that is not in memory. A `locator` of 0 means none: such a slot is
    /// [`Gone`](Lookup::Gone) until it is filled.
    ///
    /// # Errors
    /// [`Error::SlotsExhausted`] after 2^32 slots.
    pub fn insert_with_locator(&self, locator: u64) -> Result<SlotId, Error> {
        self.occupy(None, locator)
    }

    fn occupy(&self, block: Option<&[E]>, locator: u64) -> Result<SlotId, Error> {
        let exhausted = || Error::SlotsExhausted { slots: self.indices.used() };
        // Free slots lie scattered: the next one is fetched while the caller makes the next block.
        let ahead = |next| {
            if let Some(slot) = self.table.get(next) {
                prefetch(ptr::from_ref(slot).cast(), size_of::<Slot<E, C>>());
            }
        };
        let index = self.indices.take(ahead).ok_or_else(exhausted)?;
        let slot = self.table.get_or_grow(index).ok_or_else(exhausted)?;
        // Even, and last moved by the retire that this index came back from. Nobody else moves it: ids of this
        // generation do not exist.
        let generation = slot.generation.load(Relaxed) + 1;
        let id = SlotId::new(index, generation).ok_or_else(exhausted)?;
        // Both with release: outdated readers who see them must see the moved generation.
        slot.locator.store(locator, Release);
        if let Some(elements) = block {
            let block = Block::new(elements);
            self.count_block(block.footprint(), 1);
            slot.block.store(block.into_raw(), Release);
        }
        slot.generation.store(generation, Release);
        self.counters.local().slots.fetch_add(1, Relaxed);
        Ok(id)
    }

    /// What `id` leads to. Two dependent loads (slot, block) behind one that stays cached (the chunk); nothing is
    /// written, and no fence is stronger than acquire.
    #[inline]
    pub fn get<'g>(&'g self, id: SlotId, guard: &'g Guard) -> Lookup<'g, E> {
        let Some(slot) = self.table.get(id.index()) else { return Lookup::Gone };
        // Pointer first, generation after: see the module's argument.
        let block = slot.block.load(Acquire);
        if block.is_null() {
            return Self::locate(slot, id);
        }
        if slot.generation.load(Relaxed) != id.generation() {
            return Lookup::Gone;
        }
        // SAFETY: loaded with acquire under the guard from a slot; blocks leave slots only through a deferral.
        Lookup::Block(unsafe { block::view(block, guard) })
    }

    /// Like [`get`](Self::get), for who will read in several places of the block: has its first
    /// [`PREFETCH_BYTES`](Self::PREFETCH_BYTES) fetched all at once, rather than waiting for one place after the other.
    #[inline]
    pub fn get_ahead<'g>(&'g self, id: SlotId, guard: &'g Guard) -> Lookup<'g, E> {
        self.prefetch(id);
        self.get(id, guard)
    }

    #[cold]
    fn locate(slot: &Slot<E, C>, id: SlotId) -> Lookup<'static, E> {
        let locator = slot.locator.load(Acquire);
        if locator == NO_LOCATOR || slot.generation.load(Relaxed) != id.generation() {
            return Lookup::Gone;
        }
        Lookup::Located(locator)
    }

    /// The companion of `id`; None where none was set, or it was evicted, or the slot is gone.
    #[inline]
    pub fn companion<'g>(&'g self, id: SlotId, guard: &'g Guard) -> Option<&'g [C]> {
        let slot = self.table.get(id.index())?;
        let companion = slot.companion.load(Acquire);
        if companion.is_null() || slot.generation.load(Relaxed) != id.generation() {
            return None;
        }
        // SAFETY: as in `get`: companions leave slots only through a deferral too.
        Some(unsafe { block::view(companion, guard) })
    }

    /// Attaches a copy of `companion`. The first wins; false where there is one or the slot is gone. Costs an allocation
    /// and the copy.
    pub fn set_companion(&self, id: SlotId, companion: &[C], guard: &Guard) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let companion = Block::new(companion);
        let footprint = companion.footprint();
        let raw = companion.into_raw();
        if slot.companion.compare_exchange(ptr::null_mut(), raw, AcqRel, Acquire).is_err() {
            // SAFETY: from `into_raw` just above, and not published.
            drop(unsafe { Block::from_raw(raw) });
            return false;
        }
        self.count_companion(footprint, 1);
        if slot.generation.load(Acquire) == id.generation() {
            return true;
        }
        let companion = self.take_companion(slot);
        self.defer(vec![Remains { block: None, companion, index: None }], guard);
        false
    }

    /// Has the slot of `id` fetched towards the processor, while the caller does something else. A hint without an answer, to be given
    /// some time before one of the next two, which read the slot.
    #[inline]
    pub fn prefetch_slot(&self, id: SlotId) {
        if let Some(slot) = self.table.get(id.index()) {
            prefetch(ptr::from_ref(slot).cast(), size_of::<Slot<E, C>>());
        }
    }

    /// The same for the front of its block: what [`get`](Self::get) reads, and a little more.
    #[inline]
    pub fn prefetch_front(&self, id: SlotId) {
        if let Some(slot) = self.table.get(id.index()) {
            prefetch(slot.block.load(Relaxed).cast(), Self::FRONT_BYTES);
        }
    }

    /// The same for its block: its first [`PREFETCH_BYTES`](Self::PREFETCH_BYTES).
    #[inline]
    pub fn prefetch(&self, id: SlotId) {
        if let Some(slot) = self.table.get(id.index()) {
            prefetch(slot.block.load(Relaxed).cast(), Self::PREFETCH_BYTES);
        }
    }

    /// The same for its companion.
    #[inline]
    pub fn prefetch_companion(&self, id: SlotId) {
        if let Some(slot) = self.table.get(id.index()) {
            prefetch(slot.companion.load(Relaxed).cast(), Self::PREFETCH_BYTES);
        }
    }

    /// So much of a block a prefetch fetches: more than most take, and little enough to wait for several at once.
    pub const PREFETCH_BYTES: usize = 1280;

    const FRONT_BYTES: usize = 128;

    /// The locator of `id`, whether or not its block is in memory.
    pub fn locator(&self, id: SlotId) -> Option<u64> {
        let slot = self.table.get(id.index())?;
        let locator = slot.locator.load(Acquire);
        (locator != NO_LOCATOR && slot.generation.load(Relaxed) == id.generation()).then_some(locator)
    }

    /// Says where the block is besides memory. 0 takes the saying back. False where the slot is gone.
    ///
    /// The caller sees to it that two threads do not set different locators of one id at once: the last to arrive
    /// would stay.
    pub fn set_locator(&self, id: SlotId, locator: u64) -> bool {
        // The pin keeps the slot from being reused between the look and the store.
        let _guard = pin();
        let Some(slot) = self.slot(id) else { return false };
        slot.locator.store(locator, Release);
        slot.generation.load(Acquire) == id.generation()
    }

    /// Brings a block back to a slot that has none. True where this copy is now in place; false where there was one already
    /// or the slot is gone. Costs an allocation and the copy.
    pub fn fill(&self, id: SlotId, block: &[E]) -> bool {
        let guard = pin();
        let Some(slot) = self.slot(id) else { return false };
        if !slot.block.load(Relaxed).is_null() {
            return false;
        }
        let block = Block::new(block);
        let footprint = block.footprint();
        let raw = block.into_raw();
        if slot.block.compare_exchange(ptr::null_mut(), raw, AcqRel, Acquire).is_err() {
            // SAFETY: from `into_raw` just above, and not published.
            drop(unsafe { Block::from_raw(raw) });
            return false;
        }
        self.count_block(footprint, 1);
        if slot.generation.load(Acquire) == id.generation() {
            return true;
        }
        let block = self.take_block(slot);
        self.defer(vec![Remains { block, companion: None, index: None }], &guard);
        false
    }

    /// Drops the block and the companion of `id` from memory, if it has a locator to be found by. True where a block
    /// was dropped. For many ids [`evict_all`](Self::evict_all) is cheaper.
    pub fn evict(&self, id: SlotId) -> bool {
        self.evict_all([id]) == 1
    }

    /// Evicts each id that has a locator; returns how many blocks were dropped.
    pub fn evict_all(&self, ids: impl IntoIterator<Item = SlotId>) -> usize {
        let mut evicted = 0;
        self.take_out(ids, |slot, id| {
            if slot.generation.load(Acquire) != id.generation() || slot.locator.load(Acquire) == NO_LOCATOR {
                return None;
            }
            let remains =
                Remains { block: self.take_block(slot), companion: self.take_companion(slot), index: None };
            evicted += usize::from(remains.block.is_some());
            Some(remains)
        });
        evicted
    }

    /// Drops the companion of each id, and where `blocks` says so also the blocks of those that have a locator.
    pub fn trim_all(&self, ids: impl IntoIterator<Item = SlotId>, blocks: bool) {
        self.take_out(ids, |slot, id| {
            if slot.generation.load(Acquire) != id.generation() {
                return None;
            }
            let is_stored = blocks && slot.locator.load(Acquire) != NO_LOCATOR;
            let block = if is_stored { self.take_block(slot) } else { None };
            Some(Remains { block, companion: self.take_companion(slot), index: None })
        });
    }

    /// Memory that the block and the companion of `id` take, in bytes; 0 for what is not there.
    pub fn footprint(&self, id: SlotId, _guard: &Guard) -> (usize, usize) {
        let Some(slot) = self.slot(id) else { return (0, 0) };
        // SAFETY: as in `get` and `companion`: loaded with acquire under the guard, and freed through a deferral only.
        unsafe {
            (block::footprint_of(slot.block.load(Acquire)), block::footprint_of(slot.companion.load(Acquire)))
        }
    }

    /// Ends the life of `id`: from now on it is [`Gone`](Lookup::Gone), and the slot is used again under another id. False where it
    /// was gone already. For many ids [`retire_all`](Self::retire_all) is cheaper.
    pub fn retire(&self, id: SlotId) -> bool {
        self.retire_all([id]) == 1
    }

    /// Retires each id; returns how many were alive.
    pub fn retire_all(&self, ids: impl IntoIterator<Item = SlotId>) -> usize {
        let mut retired = 0;
        self.take_out(ids, |slot, id| {
            let next = id.generation() + 1;
            slot.generation.compare_exchange(id.generation(), next, AcqRel, Relaxed).ok()?;
            let remains = Remains {
                block: self.take_block(slot),
                companion: self.take_companion(slot),
                index: (next < id::LAST_GENERATION).then_some(id.index()),
            };
            slot.locator.store(NO_LOCATOR, Release);
            retired += 1;
            Some(remains)
        });
        self.counters.local().slots.fetch_sub(retired, Relaxed);
        usize::try_from(retired).unwrap_or_default()
    }

    /// Frees what may be freed by now, and pushes the epoch on. Returns how many slots' remains were freed. To drain
    /// all, call it a few times while no other thread is pinned.
    pub fn reclaim(&self) -> usize {
        pin().flush();
        self.sweep()
    }

    /// What the table holds. Costs a few loads.
    pub fn stats(&self) -> SlotStats {
        let mut stats = SlotStats::default();
        let sum = |pick: fn(&Counters) -> &AtomicI64| {
            let sum: i64 = self.counters.all().map(|shard| pick(shard).load(Relaxed)).sum();
            u64::try_from(sum).unwrap_or_default()
        };
        stats.slots = sum(|shard| &shard.slots);
        stats.blocks = sum(|shard| &shard.blocks);
        stats.block_bytes = sum(|shard| &shard.block_bytes);
        stats.companions = sum(|shard| &shard.companions);
        stats.companion_bytes = sum(|shard| &shard.companion_bytes);
        stats.pending = sum(|shard| &shard.pending);
        stats.pending_bytes = sum(|shard| &shard.pending_bytes);
        stats.table_bytes = (self.table.bytes() + self.indices.bytes()) as u64;
        stats
    }

    /// The slot, where the id is alive at this moment. The caller is pinned, so that the slot is not reused under it.
    fn slot(&self, id: SlotId) -> Option<&Slot<E, C>> {
        let slot = self.table.get(id.index())?;
        (slot.generation.load(Acquire) == id.generation()).then_some(slot)
    }

    /// Applies `take` to the slot of each id, pinned, and defers what it yields in batches.
    fn take_out(
        &self,
        ids: impl IntoIterator<Item = SlotId>,
        mut take: impl FnMut(&Slot<E, C>, SlotId) -> Option<Remains<E, C>>,
    ) {
        self.sweep();
        let mut guard = pin();
        let mut batch = Batch::new();
        for id in ids {
            let remains = self.table.get(id.index()).and_then(|slot| take(slot, id));
            batch.extend(remains.filter(|remains| !remains.is_empty()));
            if batch.len() >= BATCH {
                self.defer(std::mem::take(&mut batch), &guard);
                // A long run must not hold the epoch back itself.
                guard.repin();
            }
        }
        if !batch.is_empty() {
            self.defer(batch, &guard);
        }
        guard.flush();
    }

    fn defer(&self, batch: Batch<E, C>, guard: &Guard) {
        let counters = self.counters.local();
        counters.pending.fetch_add(batch.len() as i64, Relaxed);
        counters.pending_bytes.fetch_add(batch.iter().map(Remains::footprint).sum::<usize>() as i64, Relaxed);
        let ready = Arc::clone(&self.ready);
        let node = Node::new(batch);
        guard.defer(move || ready.push(node));
    }

    /// Frees the batches whose epoch has passed.
    fn sweep(&self) -> usize {
        let (mut freed, mut bytes) = (0, 0);
        for batch in self.ready.take() {
            freed += batch.len();
            bytes += batch.iter().map(Remains::footprint).sum::<usize>();
            self.indices.give(batch.iter().filter_map(|remains| remains.index));
        }
        let counters = self.counters.local();
        counters.pending.fetch_sub(freed as i64, Relaxed);
        counters.pending_bytes.fetch_sub(bytes as i64, Relaxed);
        freed
    }

    fn take_block(&self, slot: &Slot<E, C>) -> Option<Block<E>> {
        // SAFETY: the pointer came from `into_raw`, and the swap gave it to this thread alone.
        let block = unsafe { Block::from_raw(slot.block.swap(ptr::null_mut(), AcqRel)) }?;
        self.count_block(block.footprint(), -1);
        Some(block)
    }

    fn take_companion(&self, slot: &Slot<E, C>) -> Option<Block<C>> {
        // SAFETY: as in `take_block`.
        let companion = unsafe { Block::from_raw(slot.companion.swap(ptr::null_mut(), AcqRel)) }?;
        self.count_companion(companion.footprint(), -1);
        Some(companion)
    }

    fn count_companion(&self, bytes: usize, sign: i64) {
        let counters = self.counters.local();
        counters.companions.fetch_add(sign, Relaxed);
        counters.companion_bytes.fetch_add(sign * bytes as i64, Relaxed);
    }

    fn count_block(&self, bytes: usize, sign: i64) {
        let counters = self.counters.local();
        counters.blocks.fetch_add(sign, Relaxed);
        counters.block_bytes.fetch_add(sign * bytes as i64, Relaxed);
    }
}

impl<E: Copy + Send + Sync + 'static, C: Copy + Send + Sync + 'static> Drop for Slots<E, C> {
    fn drop(&mut self) {
        // Nobody borrows the table any more. What waits for the epoch is freed with the last reference to `ready`.
        for index in 0..self.indices.used() {
            let slot = u32::try_from(index).ok().and_then(|index| self.table.get(index));
            if let Some(slot) = slot {
                drop(self.take_block(slot));
                drop(self.take_companion(slot));
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
