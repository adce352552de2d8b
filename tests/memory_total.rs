//! What `stats` says of memory is what the allocator gave. In a binary of its own: the allocator counts for all of it.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bristlecone::{Batch, Namespace, Options, SchemeKind, Store};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all work is the system allocator's, which is asked with what was given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_add(size, Relaxed);
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn commit(store: &Store, keys: impl Iterator<Item = u64>, round: u64) {
    let mut batch = Batch::new();
    for key in keys {
        batch.put(&key.to_be_bytes(), &[round as u8; 32]);
    }
    store.commit(batch).unwrap();
}

/// The pool takes memory by 4 MiB, of which the last may be untouched; threads, files and the catalog take some.
const APART: u64 = 6 << 20;

fn check(store: &Store, before: usize, what: &str) {
    // Before and after: the threads of the store go on working.
    let held = || (HELD.load(Relaxed) - before) as u64;
    let (low, memory, high) = (held(), store.stats().unwrap().memory, held());
    let (low, high) = (low.min(high), low.max(high));
    eprintln!("{what}: {low} to {high} allocated, {} said: {memory:?}", memory.total());
    let slack = high / 10 + APART;
    assert!(memory.total() <= high + slack && memory.total() + slack >= low, "{what}");
}

#[test]
fn the_total_is_what_was_allocated() {
    const KEYS: u64 = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let before = HELD.load(Relaxed);
    let options = Options::new().namespace(Namespace::flat(SchemeKind::Ethereum)).seal_keys(30_000);
    let store = options.open(dir.path()).unwrap();
    for start in (0..KEYS).step_by(5_000) {
        commit(&store, start..start + 5_000, 0);
    }
    check(&store, before, "loading");
    store.flush().unwrap();
    check(&store, before, "loaded");
    let held = store.latest().unwrap();
    for round in 1..60 {
        commit(&store, (0..500).map(|at| (at * 7_919 + round * 104_729) % KEYS), round);
        if round % 20 == 0 {
            check(&store, before, "committing");
        }
    }
    store.flush().unwrap();
    check(&store, before, "with a lease");
    drop(held);
    store.flush().unwrap();
    check(&store, before, "at rest");
    store.close().unwrap();
}
