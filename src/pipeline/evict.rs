//! Giving memory back: pages that are stored leave memory, the longest sealed first, while there is more than
//! `cache_bytes`. Readers do not notice: the slot goes on to say where the page is stored.

use std::sync::atomic::Ordering;

use super::{Core, lock};

/// Evicts until the pages in memory fit `cache_bytes`, or none is left that is stored.
pub(super) fn evict(core: &Core) {
    let bytes = core.graph.slots.stats().block_bytes;
    let mut over = bytes.saturating_sub(core.cache_bytes);
    let mut queue = lock(&core.evictable);
    // Ids of pages that were superseded since stand here until they are met; they must not pile up.
    let bound = core.graph.slots.stats().blocks as usize * 4 + 1024;
    while over > 0 || queue.len() > bound {
        let Some(id) = queue.pop_front() else { return };
        if over == 0 {
            continue;
        }
        let before = core.graph.slots.stats().block_bytes;
        if core.graph.slots.evict(id) {
            let freed = before.saturating_sub(core.graph.slots.stats().block_bytes);
            over = over.saturating_sub(freed);
            core.counters.evicted_pages.fetch_add(1, Ordering::Relaxed);
        }
    }
}
