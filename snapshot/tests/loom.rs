//! The protocols, explored by loom:
//! `RUSTFLAGS="--cfg loom" cargo test --release -p bristlecone-snapshot --lib --test loom`
//!
//! Each block carries a cell through which loom sees its writing, reading and freeing, and reports those that are not
//! ordered; freed blocks are also overwritten with `0xDE` bytes and kept, so that a late reader is caught by what it reads. The
//! epoch is a stand-in that frees as early as an epoch may (see the `epoch` module). `LOOM_MAX_PREEMPTIONS=n` sets another
//! bound than those given here.
#![cfg(loom)]
#![cfg_attr(loom, expect(unsafe_code, reason = "loom's checked cells are read through pointers"))]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bristlecone_snapshot::{Lives, Lookup, SlotId, Slots, Versions, pin};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use loom::thread;

type Table = Slots<u64, u64>;

/// As many as there are steps: every interleaving that loom tells apart.
const ALL: usize = 100;

/// Explores, with at most `preemptions` switches of a thread that could have gone on.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Explores two threads over one state twice, with their roles exchanged: loom's reduction of schedules is not symmetric, and
/// passes over some in one arrangement (the crate's documentation says which).
fn explore_both<S: Send + Sync + 'static>(
    preemptions: usize,
    state: fn() -> S,
    one: fn(&S),
    other: fn(&S),
    after: fn(&S),
) {
    for (first, second) in [(one, other), (other, one)] {
        explore(preemptions, move || {
            let state = Arc::new(state());
            let spawned = {
                let state = Arc::clone(&state);
                thread::spawn(move || first(&state))
            };
            second(&state);
            spawned.join().unwrap();
            after(&state);
        });
    }
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

/// A table and one id in it, and a place for the next.
struct One {
    slots: Table,
    id: SlotId,
    next: Mutex<Option<SlotId>>,
}

impl One {
    fn in_memory() -> Self {
        let slots = Table::new();
        let id = slots.insert(&[1, 1]).unwrap();
        Self { slots, id, next: Mutex::new(None) }
    }

    fn located() -> Self {
        let slots = Table::new();
        let id = slots.insert_with_locator(1).unwrap();
        Self { slots, id, next: Mutex::new(None) }
    }

    fn both() -> Self {
        let one = Self::in_memory();
        one.slots.set_locator(one.id, 1);
        one
    }

    /// Notes the next id, which gets the same slot where nobody was in the way.
    fn reuse(&self, next: SlotId) {
        assert_ne!(next, self.id);
        assert_eq!(read(&self.slots, self.id), None);
        *self.next.lock().unwrap() = Some(next);
    }

    fn next(&self) -> SlotId {
        self.next.lock().unwrap().unwrap()
    }
}

/// A table, and a word through which an id is passed on.
#[derive(Default)]
struct Board {
    slots: Table,
    word: AtomicU64,
}

#[test]
fn whoever_sees_an_id_sees_the_block() {
    explore_both(
        ALL,
        Board::default,
        |board| board.word.store(board.slots.insert(&[7, 7]).unwrap().to_word(), Release),
        |board| {
            if let Some(id) = SlotId::from_word(board.word.load(Acquire)) {
                assert_eq!(read(&board.slots, id), Some(7));
            }
        },
        |_| {},
    );
}

#[test]
fn an_id_that_was_passed_on_without_any_order_is_whole_or_gone() {
    explore_both(
        ALL,
        Board::default,
        |board| board.word.store(board.slots.insert(&[7, 7]).unwrap().to_word(), Relaxed),
        |board| {
            if let Some(id) = SlotId::from_word(board.word.load(Relaxed)) {
                assert!(matches!(read(&board.slots, id), Some(7) | None));
            }
        },
        |_| {},
    );
}

#[test]
fn a_filled_block_is_seen_whole() {
    explore_both(
        ALL,
        One::located,
        |one| assert!(one.slots.fill(one.id, &[2, 2])),
        |one| assert!(matches!(read(&one.slots, one.id), Some(1 | 2))),
        |_| {},
    );
}

#[test]
fn a_retired_id_is_its_own_content_or_gone_also_when_its_slot_is_reused() {
    explore_both(
        5,
        One::in_memory,
        |one| {
            assert!(one.slots.retire(one.id));
            one.slots.reclaim();
            one.reuse(one.slots.insert(&[2, 2]).unwrap());
        },
        |one| assert!(matches!(read(&one.slots, one.id), Some(1) | None)),
        |one| assert_eq!(read(&one.slots, one.next()), Some(2)),
    );
}

#[test]
fn a_reused_slot_does_not_lend_its_locator_to_an_old_id() {
    explore_both(
        4,
        One::located,
        |one| {
            one.slots.retire(one.id);
            one.slots.reclaim();
            one.reuse(one.slots.insert_with_locator(2).unwrap());
        },
        |one| {
            assert!(matches!(read(&one.slots, one.id), Some(1) | None));
            assert!(matches!(one.slots.locator(one.id), Some(1) | None));
        },
        |one| assert_eq!(read(&one.slots, one.next()), Some(2)),
    );
}

#[test]
fn readers_do_not_notice_eviction_and_filling() {
    explore_both(
        5,
        One::both,
        |one| {
            assert!(one.slots.evict(one.id));
            one.slots.reclaim();
            assert!(one.slots.fill(one.id, &[1, 1]));
        },
        |one| {
            assert_eq!(read(&one.slots, one.id), Some(1));
            assert_eq!(read(&one.slots, one.id), Some(1));
        },
        |_| {},
    );
}

#[test]
fn what_is_put_into_a_slot_that_retires_does_not_reach_its_next_use() {
    explore_both(
        3,
        One::located,
        |one| {
            one.slots.retire(one.id);
            one.slots.reclaim();
            one.reuse(one.slots.insert_with_locator(2).unwrap());
            assert_eq!(read(&one.slots, one.next()), Some(2));
        },
        |one| {
            one.slots.fill(one.id, &[1, 1]);
            one.slots.set_companion(one.id, &[1, 1], &pin());
            one.slots.set_locator(one.id, 5);
        },
        |one| {
            assert_eq!(read(&one.slots, one.next()), Some(2));
            assert_eq!(one.slots.companion(one.next(), &pin()), None);
            assert_eq!(read(&one.slots, one.id), None);
            let stats = one.slots.stats();
            assert_eq!((stats.slots, stats.blocks, stats.block_bytes, stats.companions), (1, 0, 0, 0));
        },
    );
}

/// A table with one id, for companions.
struct Attached {
    slots: Table,
    id: SlotId,
}

impl Attached {
    fn new() -> Self {
        let slots = Slots::new();
        let id = slots.insert(&[1, 1]).unwrap();
        Self { slots, id }
    }

    fn read(&self) -> Option<u64> {
        let guard = pin();
        let companion = self.slots.companion(self.id, &guard)?;
        let seen = companion[0];
        thread::yield_now();
        assert_eq!(companion, [seen, seen], "it stays, and is not freed under the guard");
        Some(seen)
    }
}

#[test]
fn of_two_companions_one_wins_and_is_seen_whole() {
    explore(ALL, || {
        let one = Arc::new(Attached::new());
        let other = {
            let one = Arc::clone(&one);
            thread::spawn(move || one.slots.set_companion(one.id, &[5, 5], &pin()))
        };
        let mine = one.slots.set_companion(one.id, &[6, 6], &pin());
        let seen = one.read();
        assert_ne!(mine, other.join().unwrap(), "exactly one");
        assert_eq!(seen, Some(if mine { 6 } else { 5 }));
    });
}

#[test]
fn a_companion_is_seen_whole_and_not_freed_under_a_guard() {
    explore_both(
        5,
        Attached::new,
        |one| {
            one.slots.set_companion(one.id, &[7, 7], &pin());
            one.slots.retire(one.id);
            one.slots.reclaim();
        },
        |one| assert!(matches!(one.read(), Some(7) | None)),
        |one| assert_eq!(one.read(), None),
    );
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

type Grounds = Versions<Arc<Ground>>;

/// Versions, and what the first of them stands on.
struct First {
    versions: Grounds,
    ground: Arc<Ground>,
}

impl First {
    /// Version 0 with stamp 10.
    fn published() -> Self {
        let first = Self { versions: Versions::new(|| Duration::ZERO), ground: Ground::new(1) };
        first.versions.publish(0, 10, Arc::clone(&first.ground)).unwrap();
        first
    }

    /// Version 1 with stamp 11, above another.
    fn second_of_two() -> Self {
        let first = Self { versions: Versions::new(|| Duration::ZERO), ground: Ground::new(1) };
        first.versions.publish(0, 10, Ground::new(1)).unwrap();
        first.versions.publish(1, 11, Arc::clone(&first.ground)).unwrap();
        first
    }

    /// What a committer does once the version left the table.
    fn reclaim_unless_live(&self, stamp: u64) {
        if !self.versions.live_stamps().contains(&stamp) {
            self.ground.reclaim();
        }
    }
}

#[test]
fn the_latest_version_is_published_whole_and_only_grows() {
    explore_both(
        5,
        || Grounds::new(|| Duration::ZERO),
        |versions| {
            for version in 0..2 {
                versions.publish(version, version + 10, Ground::new(version + 20)).unwrap();
            }
        },
        |versions| {
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
        },
        |_| {},
    );
}

#[test]
fn a_forgotten_stamp_that_is_not_listed_has_no_lease_and_gets_none() {
    explore_both(
        ALL,
        First::published,
        |first| {
            assert!(first.versions.forget(0));
            first.reclaim_unless_live(10);
        },
        |first| {
            if let Some(lease) = first.versions.lease(0) {
                lease.stand();
                let clone = lease.clone();
                drop(lease);
                thread::yield_now();
                clone.stand();
            }
        },
        |first| {
            assert!(first.versions.lease(0).is_none());
            assert!(first.versions.live_stamps().is_empty());
        },
    );
}

#[test]
fn the_same_holds_for_the_latest_while_another_is_published() {
    explore_both(
        5,
        First::published,
        |first| {
            first.versions.publish(1, 11, Ground::new(1)).unwrap();
            first.versions.forget(0);
            first.reclaim_unless_live(10);
        },
        |first| {
            let lease = first.versions.latest().unwrap();
            lease.stand();
            thread::yield_now();
            lease.stand();
        },
        |_| {},
    );
}

#[test]
fn a_number_that_is_published_again_does_not_revive_its_former_bearer() {
    explore_both(
        3,
        First::second_of_two,
        |first| {
            assert_eq!(first.versions.unpublish_after(0), 1);
            first.reclaim_unless_live(11);
            first.versions.publish(1, 12, Ground::new(1)).unwrap();
        },
        |first| {
            let lease = first.versions.latest().unwrap();
            lease.stand();
            assert!(matches!((lease.version(), lease.stamp()), (1, 11) | (0, 10) | (1, 12)));
            drop(lease);
            if let Some(lease) = first.versions.lease(1) {
                lease.stand();
            }
        },
        |first| assert_eq!(first.versions.latest().unwrap().stamp(), 12),
    );
}

#[test]
fn while_it_is_rolled_back_there_is_a_latest_version() {
    explore_both(
        3,
        First::second_of_two,
        |first| {
            assert_eq!(first.versions.roll_back(0, 10, Ground::new(2)), Ok(2));
            first.reclaim_unless_live(11);
        },
        |first| {
            let lease = first.versions.latest().unwrap();
            lease.stand();
            assert!(matches!((lease.version(), lease.stamp()), (1, 11) | (0, 10)));
            drop(lease);
            if let Some(lease) = first.versions.lease(1) {
                lease.stand();
            }
        },
        |first| assert_eq!(first.versions.range(), Some(0..=0)),
    );
}

/// Something that is found in a list of the caller's, held, and looked for again; and taken out of the list meanwhile.
struct Listed {
    versions: Arc<Versions<()>>,
    is_listed: AtomicBool,
    ground: Arc<Ground>,
}

#[test]
fn what_is_held_and_found_again_is_not_reclaimed() {
    explore_both(
        ALL,
        || Listed { versions: versions(), is_listed: AtomicBool::new(true), ground: Ground::new(1) },
        |listed| {
            listed.is_listed.store(false, Release);
            if !listed.versions.kept_stamps().contains(&10) {
                listed.ground.reclaim();
            }
        },
        |listed| {
            if !listed.is_listed.load(Acquire) {
                return;
            }
            let held = listed.versions.hold(0, 10, Arc::clone(&listed.ground)).unwrap();
            if listed.is_listed.load(Acquire) {
                held.stand();
            }
        },
        |listed| assert!(listed.versions.kept_stamps().is_empty()),
    );
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

/// A little store.
struct Store {
    slots: Table,
    versions: Versions<SlotId>,
    old: SlotId,
    lives: Mutex<Lives<SlotId>>,
}

impl Store {
    fn new() -> Self {
        let slots = Table::new();
        let versions = Versions::new(|| Duration::ZERO);
        let old = slots.insert(&[10, 10]).unwrap();
        versions.publish(0, 10, old).unwrap();
        Self { slots, versions, old, lives: Mutex::new(Lives::new()) }
    }

    fn collect(&self) {
        // The standard mutex is invisible to loom: nothing that loom schedules may happen under it.
        let live = self.versions.live_stamps();
        let over = self.lives.lock().unwrap().collect(&live, 11);
        self.slots.retire_all(over);
    }
}

/// The whole of it: a reader under a lease finds every block of its version, while the committer supersedes,
/// publishes, forgets, collects and retires.
#[test]
fn a_lease_finds_its_blocks_while_the_committer_reclaims() {
    explore_both(
        4,
        Store::new,
        |store| {
            let new = store.slots.insert(&[11, 11]).unwrap();
            store.lives.lock().unwrap().supersede(store.old, 10, 11, 16);
            store.versions.publish(1, 11, new).unwrap();
            store.versions.forget(0);
            store.collect();
        },
        |store| {
            let lease = store.versions.latest().unwrap();
            assert_eq!(read(&store.slots, *lease), Some(lease.stamp()));
            thread::yield_now();
            assert_eq!(read(&store.slots, *lease), Some(lease.stamp()));
        },
        |store| {
            store.collect();
            assert_eq!(read(&store.slots, store.old), None);
            assert_eq!(read(&store.slots, *store.versions.latest().unwrap()), Some(11));
        },
    );
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
