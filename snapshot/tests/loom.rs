//! The protocols, explored by loom:
//! `RUSTFLAGS="--cfg loom" cargo test --release -p bristlecone-snapshot --test loom`
//!
//! Each block carries a cell through which loom sees its writing, reading and freeing, and reports those that are not
//! ordered; freed blocks are also overwritten with `0xDE` bytes and kept, so that a late reader is caught by what it reads. The
//! epoch is a stand-in that frees as early as an epoch may (see the `epoch` module). `LOOM_MAX_PREEMPTIONS=n` sets another
//! bound than those given here.
#![cfg(loom)]
#![cfg_attr(loom, expect(unsafe_code, reason = "loom's checked cells are read through pointers"))]

use std::sync::Arc;
use std::time::Duration;

use bristlecone_snapshot::{Lives, Lookup, SlotId, Slots, Versions, pin};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use loom::thread;

type Table = Slots<u64, u64>;

/// As many as there are steps: every interleaving.
const ALL: usize = 100;

/// Explores, with at most `preemptions` switches of a thread that could have gone on.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

fn versions<T: Send + Sync>() -> Arc<Versions<T>> {
    Arc::new(Versions::new(|| Duration::ZERO))
}

/// What a version stands on: good until it is reclaimed. Loom reports accesses that are not ordered.
struct Ground(UnsafeCell<u64>);

const RECLAIMED: u64 = 0;

impl Ground {
    fn new(value: u64) -> Arc<Self> {
        let ground = Self(UnsafeCell::new(RECLAIMED));
        // A write of its own: loom does not count the making of a cell as an event.
        // SAFETY: nobody else has it yet.
        ground.0.with_mut(|cell| unsafe { *cell = value });
        Arc::new(ground)
    }

    fn stand(&self) -> u64 {
        // SAFETY: `reclaim` is ordered after the last call, or loom reports it.
        let value = self.0.with(|value| unsafe { *value });
        assert_ne!(value, RECLAIMED, "reclaimed under a lease");
        value
    }

    fn reclaim(&self) {
        // SAFETY: as above.
        self.0.with_mut(|value| unsafe { *value = RECLAIMED });
    }
}

// SAFETY: loom's cells check how they are accessed.
unsafe impl Sync for Ground {}

/// Looks an id up, and reads what it got to the end of the guard.
fn read(slots: &Table, id: SlotId) -> Option<u64> {
    let guard = pin();
    match slots.get(id, &guard) {
        Lookup::Block(block) => {
            let first = block[0];
            // Let others run, while the guard holds.
            thread::yield_now();
            assert_eq!(block, [first, first], "freed under a guard");
            Some(first)
        }
        Lookup::Located(locator) => Some(locator),
        Lookup::Gone => None,
    }
}

#[test]
fn whoever_sees_an_id_sees_the_block() {
    explore(ALL, || {
        let slots = Arc::new(Table::new());
        let board = Arc::new(AtomicU64::new(0));
        let writer = {
            let (slots, board) = (Arc::clone(&slots), Arc::clone(&board));
            thread::spawn(move || board.store(slots.insert(&[7, 7]).unwrap().to_word(), Release))
        };
        if let Some(id) = SlotId::from_word(board.load(Acquire)) {
            assert_eq!(read(&slots, id), Some(7));
        }
        writer.join().unwrap();
    });
}

#[test]
fn an_id_that_was_passed_on_without_any_order_is_whole_or_gone() {
    explore(ALL, || {
        let slots = Arc::new(Table::new());
        let board = Arc::new(AtomicU64::new(0));
        let writer = {
            let (slots, board) = (Arc::clone(&slots), Arc::clone(&board));
            thread::spawn(move || board.store(slots.insert(&[7, 7]).unwrap().to_word(), Relaxed))
        };
        if let Some(id) = SlotId::from_word(board.load(Relaxed)) {
            assert!(matches!(read(&slots, id), Some(7) | None));
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_filled_block_is_seen_whole() {
    explore(ALL, || {
        let slots = Arc::new(Table::new());
        let id = slots.insert_with_locator(1).unwrap();
        let writer = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || assert!(slots.fill(id, &[2, 2])))
        };
        assert!(matches!(read(&slots, id), Some(1 | 2)));
        writer.join().unwrap();
    });
}

#[test]
fn a_retired_id_is_its_own_content_or_gone_also_when_its_slot_is_reused() {
    explore(ALL, || {
        let slots = Arc::new(Table::new());
        let id = slots.insert(&[1, 1]).unwrap();
        let reader = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || {
                let seen = read(&slots, id);
                assert!(matches!(seen, Some(1) | None), "{seen:?}");
            })
        };
        assert!(slots.retire(id));
        slots.reclaim();
        // The same slot, where the reader was not in the way.
        let next = slots.insert(&[2, 2]).unwrap();
        assert_ne!(next, id);
        assert_eq!(read(&slots, id), None);
        reader.join().unwrap();
        assert_eq!(read(&slots, next), Some(2));
    });
}

#[test]
fn a_reused_slot_does_not_lend_its_locator_to_an_old_id() {
    explore(ALL, || {
        let slots = Arc::new(Table::new());
        let id = slots.insert_with_locator(1).unwrap();
        let reader = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || {
                let seen = (read(&slots, id), slots.locator(id));
                assert!(matches!(seen.0, Some(1) | None) && matches!(seen.1, Some(1) | None), "{seen:?}");
            })
        };
        slots.retire(id);
        slots.reclaim();
        let next = slots.insert_with_locator(2).unwrap();
        reader.join().unwrap();
        assert_eq!(read(&slots, next), Some(2));
    });
}

#[test]
fn readers_do_not_notice_eviction_and_filling() {
    explore(ALL, || {
        let slots = Arc::new(Table::new());
        let id = slots.insert(&[1, 1]).unwrap();
        slots.set_locator(id, 1);
        let reader = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || {
                assert_eq!(read(&slots, id), Some(1));
                assert_eq!(read(&slots, id), Some(1));
            })
        };
        assert!(slots.evict(id));
        slots.reclaim();
        assert!(slots.fill(id, &[1, 1]));
        reader.join().unwrap();
    });
}

#[test]
fn what_is_put_into_a_slot_that_retires_does_not_reach_its_next_use() {
    explore(5, || {
        let slots = Arc::new(Table::new());
        let id = slots.insert_with_locator(1).unwrap();
        let other = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || {
                slots.fill(id, &[1, 1]);
                slots.set_companion(id, 1);
                slots.set_locator(id, 5);
            })
        };
        slots.retire(id);
        slots.reclaim();
        let next = slots.insert_with_locator(2).unwrap();
        assert_eq!(read(&slots, next), Some(2));
        other.join().unwrap();
        assert_eq!(read(&slots, next), Some(2));
        assert_eq!(slots.companion(next, &pin()), None);
        assert_eq!(read(&slots, id), None);
        let stats = slots.stats();
        assert_eq!((stats.slots, stats.blocks, stats.block_bytes, stats.companions), (1, 0, 0, 0));
    });
}

/// A companion that knows its end.
struct Companion(Arc<Ground>);

impl Drop for Companion {
    fn drop(&mut self) {
        self.0.reclaim();
    }
}

#[test]
fn of_two_companions_one_wins_and_is_seen_whole_until_the_slot_retires() {
    explore(ALL, || {
        let slots = Arc::new(Slots::<u64, Companion>::new());
        let id = slots.insert(&[1, 1]).unwrap();
        let other = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || slots.set_companion(id, Companion(Ground::new(5))))
        };
        let mine = slots.set_companion(id, Companion(Ground::new(6)));
        let guard = pin();
        let companion = slots.companion(id, &guard).unwrap();
        let seen = companion.0.stand();
        thread::yield_now();
        assert_eq!(companion.0.stand(), seen, "and it stays");
        drop(guard);
        assert_ne!(mine, other.join().unwrap(), "exactly one");
        assert_eq!(seen, if mine { 6 } else { 5 });
    });
}

#[test]
fn a_companion_is_seen_whole_and_not_freed_under_a_guard() {
    explore(ALL, || {
        let slots = Arc::new(Slots::<u64, Companion>::new());
        let id = slots.insert(&[1, 1]).unwrap();
        let writer = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || {
                slots.set_companion(id, Companion(Ground::new(1)));
                slots.retire(id);
                slots.reclaim();
            })
        };
        let guard = pin();
        if let Some(companion) = slots.companion(id, &guard) {
            companion.0.stand();
            thread::yield_now();
            companion.0.stand();
        }
        drop(guard);
        writer.join().unwrap();
        assert!(slots.companion(id, &pin()).is_none());
    });
}

#[test]
fn two_threads_that_retire_an_id_free_it_once() {
    explore(ALL, || {
        let slots = Arc::new(Table::new());
        let id = slots.insert(&[1, 1]).unwrap();
        let other = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || slots.retire(id))
        };
        let mine = slots.retire(id);
        assert_ne!(mine, other.join().unwrap());
        let stats = slots.stats();
        assert_eq!((stats.slots, stats.blocks), (0, 0));
    });
}

#[test]
fn the_latest_version_is_published_whole_and_only_grows() {
    explore(ALL, || {
        let versions = versions::<Arc<Ground>>();
        let writer = {
            let versions = Arc::clone(&versions);
            thread::spawn(move || {
                for version in 0..2 {
                    versions.publish(version, version + 10, Ground::new(version + 20)).unwrap();
                }
            })
        };
        let mut last = 0;
        for _ in 0..2 {
            if let Some(lease) = versions.latest() {
                assert_eq!(lease.stand(), lease.version() + 20);
                assert!(lease.version() >= last);
                last = lease.version();
                assert!(versions.lease(last).is_some(), "what is the latest can be leased by number");
                assert!(versions.range().unwrap().contains(&last));
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_forgotten_stamp_that_is_not_listed_has_no_lease_and_gets_none() {
    explore(ALL, || {
        let versions = versions::<Arc<Ground>>();
        let zero = Ground::new(1);
        versions.publish(0, 10, Arc::clone(&zero)).unwrap();
        let reader = {
            let versions = Arc::clone(&versions);
            thread::spawn(move || {
                if let Some(lease) = versions.lease(0) {
                    lease.stand();
                    let clone = lease.clone();
                    drop(lease);
                    thread::yield_now();
                    clone.stand();
                }
            })
        };
        assert!(versions.forget(0));
        if !versions.live_stamps().contains(&10) {
            zero.reclaim();
        }
        reader.join().unwrap();
        assert!(versions.lease(0).is_none());
        assert!(versions.live_stamps().is_empty());
    });
}

#[test]
fn the_same_holds_for_the_latest_while_another_is_published() {
    explore(ALL, || {
        let versions = versions::<Arc<Ground>>();
        let zero = Ground::new(1);
        versions.publish(0, 10, Arc::clone(&zero)).unwrap();
        let reader = {
            let versions = Arc::clone(&versions);
            thread::spawn(move || {
                let lease = versions.latest().unwrap();
                lease.stand();
                thread::yield_now();
                lease.stand();
            })
        };
        versions.publish(1, 11, Ground::new(1)).unwrap();
        versions.forget(0);
        if !versions.live_stamps().contains(&10) {
            zero.reclaim();
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_number_that_is_published_again_does_not_revive_its_former_bearer() {
    explore(5, || {
        let versions = versions::<Arc<Ground>>();
        let (zero, first, second) = (Ground::new(1), Ground::new(1), Ground::new(1));
        versions.publish(0, 10, zero).unwrap();
        versions.publish(1, 11, Arc::clone(&first)).unwrap();
        let reader = {
            let versions = Arc::clone(&versions);
            thread::spawn(move || {
                let lease = versions.latest().unwrap();
                lease.stand();
                assert!(matches!((lease.version(), lease.stamp()), (1, 11) | (0, 10) | (1, 12)));
                drop(lease);
                if let Some(lease) = versions.lease(1) {
                    lease.stand();
                }
            })
        };
        assert_eq!(versions.unpublish_after(0), 1);
        if !versions.live_stamps().contains(&11) {
            first.reclaim();
        }
        versions.publish(1, 12, second).unwrap();
        reader.join().unwrap();
        assert_eq!(versions.latest().unwrap().stamp(), 12);
    });
}

#[test]
fn leases_share_no_cell_of_the_registry() {
    explore(5, || {
        let versions = versions::<()>();
        versions.publish(0, 10, ()).unwrap();
        versions.publish(1, 11, ()).unwrap();
        // Two free cells; a third must not come of them.
        drop((versions.lease(0), versions.lease(0)));
        let other = {
            let versions = Arc::clone(&versions);
            thread::spawn(move || {
                let (first, second) = (versions.lease(1), versions.lease(1));
                drop(first);
                second
            })
        };
        drop((versions.lease(0), versions.lease(0)));
        let kept = other.join().unwrap();
        assert_eq!(versions.live_stamps(), [11]);
        drop(kept);
        assert!(versions.live_stamps().is_empty());
    });
}

#[test]
fn with_two_readers_it_holds_too() {
    explore(3, || {
        let versions = versions::<Arc<Ground>>();
        let zero = Ground::new(1);
        versions.publish(0, 10, Arc::clone(&zero)).unwrap();
        let readers = [0, 1].map(|_| {
            let versions = Arc::clone(&versions);
            thread::spawn(move || versions.lease(0).map(|lease| lease.stand()))
        });
        versions.forget(0);
        if !versions.live_stamps().contains(&10) {
            zero.reclaim();
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// The whole of it: a reader under a lease finds every block of its version, while the committer supersedes,
/// publishes, forgets, collects and retires.
#[test]
fn a_lease_finds_its_blocks_while_the_committer_reclaims() {
    explore(6, || {
        let slots = Arc::new(Table::new());
        let versions = versions::<SlotId>();
        let old = slots.insert(&[10, 10]).unwrap();
        versions.publish(0, 10, old).unwrap();
        let reader = {
            let (slots, versions) = (Arc::clone(&slots), Arc::clone(&versions));
            thread::spawn(move || {
                let lease = versions.latest().unwrap();
                assert_eq!(read(&slots, *lease), Some(lease.stamp()));
                thread::yield_now();
                assert_eq!(read(&slots, *lease), Some(lease.stamp()));
            })
        };
        let mut lives = Lives::new();
        let new = slots.insert(&[11, 11]).unwrap();
        lives.supersede(old, 10, 11, 16);
        versions.publish(1, 11, new).unwrap();
        versions.forget(0);
        slots.retire_all(lives.collect(&versions.live_stamps(), 11));
        reader.join().unwrap();
        slots.retire_all(lives.collect(&versions.live_stamps(), 11));
        assert_eq!(read(&slots, old), None);
        assert_eq!(read(&slots, new), Some(11));
    });
}

/// That the checks above can fail: the same with the marking order turned round is caught.
#[test]
#[should_panic(expected = "Causality violation")]
fn a_protocol_without_the_second_look_is_caught() {
    explore(3, || {
        let (leased, forgotten) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let zero = Ground::new(1);
        let reader = {
            let (leased, forgotten, zero) = (Arc::clone(&leased), Arc::clone(&forgotten), Arc::clone(&zero));
            thread::spawn(move || {
                if !forgotten.load(Acquire) {
                    leased.store(true, Release);
                    zero.stand();
                }
            })
        };
        forgotten.store(true, Release);
        if !leased.load(Relaxed) {
            zero.reclaim();
        }
        reader.join().unwrap();
    });
}
