//! Giving memory back: pages that are stored leave memory, the longest sealed first, while the store takes more than
//! `cache_bytes`. Readers do not notice: the slot goes on to say where the page is stored.
//!
//! Pages with child pages stay. They name their children by slots, and what is read back names them by records: those slots would be
//! named by nobody, and nothing would end them. They are one in some twenty, and what every way leads through.

use std::sync::atomic::{AtomicU64, Ordering};

use bristlecone_snapshot::{Lookup, SlotId, pin};
use bristlecone_trie::Page;

use super::Core;
use crate::sync::lock;

/// So many pages are evicted at a time, between two looks at what that gave.
const SOME: usize = 256;
/// One in so many bytes of the cache may be what the pool of blocks keeps for itself.
const IDLE_PART: u64 = 4;

/// Evicts until the store fits `cache_bytes`, or no page is left that may go. Says which ones went. `coming`: what the store will take besides before it
/// is asked again, about; for as much of it as half of the cache room is made ahead.
pub(super) fn evict(core: &Core, coming: u64) -> Vec<SlotId> {
    let mut evicted = Vec::new();
    let room = core.cache_bytes - coming.min(core.cache_bytes / 2);
    let mut over = in_use(core).saturating_sub(room);
    while over > 0 {
        let some: Vec<SlotId> = {
            let mut queue = lock(&core.evictable);
            let count = queue.len().min(SOME);
            queue.drain(..count).collect()
        };
        if some.is_empty() {
            break;
        }
        let (leaves, freed) = leaves(core, &some);
        core.graph.slots.evict_all(leaves.iter().copied());
        core.counters.evicted_pages.fetch_add(leaves.len() as u64, Ordering::Relaxed);
        evicted.extend(leaves);
        over = over.saturating_sub(freed);
    }
    tidy(core);
    evicted
}

/// Those of `ids` in memory that have no child pages, and the memory that they take.
fn leaves(core: &Core, ids: &[SlotId]) -> (Vec<SlotId>, u64) {
    let slots = &core.graph.slots;
    let guard = pin();
    let mut freed = 0;
    let is_leaf = |id: &SlotId| match slots.get(*id, &guard) {
        Lookup::Block(bytes) if !Page::new(bytes).is_inner() => {
            let (block, companion) = slots.footprint(*id, &guard);
            freed += (block + companion) as u64;
            true
        }
        _ => false,
    };
    let leaves = ids.iter().copied().filter(is_leaf).collect();
    (leaves, freed)
}

/// Ids of pages that were superseded since stand in the queue until they are met; they must not pile up.
fn tidy(core: &Core) {
    let slots = &core.graph.slots;
    let mut queue = lock(&core.evictable);
    if queue.len() > slots.stats().blocks as usize * 4 + 1024 {
        let guard = pin();
        queue.retain(|id| matches!(slots.get(*id, &guard), Lookup::Block(_)));
        queue.shrink_to_fit();
    }
}

/// What is held against `cache_bytes`: all that `stats` sums up, but for what is about to be freed, without a walk over lists. Of what is idle not more than a part counts: other stores of
/// the process may have it in use.
fn in_use(core: &Core) -> u64 {
    let slots = core.graph.slots.stats();
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let lists = lock(&core.lives).size() + lock(&core.evictable).capacity() * size_of::<SlotId>();
    let blocks = slots.block_bytes + slots.companion_bytes;
    let idle = bristlecone_snapshot::pool_bytes().saturating_sub(blocks + slots.pending_bytes);
    let idle = idle.min(core.cache_bytes / IDLE_PART);
    let threads = [&core.counters.workspace_bytes, &core.counters.chain_bytes, &core.counters.sealing_bytes];
    blocks
        + idle
        + core.graph.past.size()
        + slots.table_bytes
        + lists as u64
        + core.unsealed().bytes
        + threads.into_iter().map(get).sum::<u64>()
}
