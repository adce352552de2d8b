//! Slots: generations, racing readers, companions, eviction and filling.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicUsize};

type Bytes = Slots<u8, u64>;

/// Reclaims until nothing waits: other tests of this process may be pinned in between.
fn drain<E: Copy + Send + Sync + 'static, C: Copy + Send + Sync + 'static>(slots: &Slots<E, C>) {
    let mut tries = 0;
    while slots.stats().pending > 0 {
        slots.reclaim();
        std::thread::yield_now();
        tries += 1;
        assert!(tries < 100_000, "{:?} are never freed", slots.stats());
    }
}

/// What a table without slots has: the memory of its cells, which it keeps.
fn nothing<E: Copy + Send + Sync + 'static, C: Copy + Send + Sync + 'static>(
    slots: &Slots<E, C>,
) -> SlotStats {
    SlotStats { table_bytes: slots.stats().table_bytes, ..SlotStats::default() }
}

#[test]
fn a_block_comes_back_as_it_was_put() {
    let slots = Bytes::new();
    let id = slots.insert(b"ring").unwrap();
    assert_eq!(slots.get(id, &pin()), Lookup::Block(b"ring"));
    assert_eq!(slots.locator(id), None);
    assert_eq!(slots.companion(id, &pin()), None);
    let empty = slots.insert(b"").unwrap();
    assert_eq!(slots.get(empty, &pin()), Lookup::Block(b""));
}

#[test]
fn made_up_ids_are_gone_and_can_change_nothing() {
    let slots = Bytes::new();
    let real = slots.insert(b"x").unwrap();
    for word in
        [1 << 32 | 77, 3 << 32 | real.to_word() & 0xffff_ffff, 1 << 32 | 0xffff_ffff, 1 << 32 | 900_000]
    {
        let id = SlotId::from_word(word).unwrap();
        assert_eq!(slots.get(id, &pin()), Lookup::Gone);
        assert!(!slots.fill(id, b"y") && !slots.set_companion(id, &[1], &pin()) && !slots.set_locator(id, 1));
        assert!(!slots.evict(id) && !slots.retire(id));
        assert_eq!((slots.locator(id), slots.companion(id, &pin())), (None, None));
    }
    assert_eq!(slots.get(real, &pin()), Lookup::Block(b"x"));
}

#[test]
fn an_evicted_block_is_located_and_can_be_brought_back() {
    let slots = Bytes::new();
    let id = slots.insert(b"page").unwrap();
    assert!(slots.set_companion(id, &[5], &pin()));
    assert!(!slots.evict(id), "nowhere else to be found");
    assert!(slots.set_locator(id, 42));
    assert!(slots.evict(id));
    assert!(!slots.evict(id));
    assert_eq!(slots.get(id, &pin()), Lookup::Located(42));
    assert_eq!(slots.companion(id, &pin()), None);
    assert!(slots.fill(id, b"page"));
    assert!(!slots.fill(id, b"other"));
    assert_eq!(slots.get(id, &pin()), Lookup::Block(b"page"));
    assert_eq!(slots.locator(id), Some(42));
    let located = slots.insert_with_locator(9).unwrap();
    assert_eq!(slots.get(located, &pin()), Lookup::Located(9));
}

#[test]
fn trimming_takes_companions_and_of_what_is_located_the_blocks() {
    let slots = Bytes::new();
    let (kept, located) = (slots.insert(b"kept").unwrap(), slots.insert(b"located").unwrap());
    slots.set_locator(located, 7);
    let with_companions = || {
        let guard = pin();
        [kept, located].map(|id| slots.set_companion(id, &[1], &guard))
    };
    assert_eq!(with_companions(), [true; 2]);
    slots.trim_all([kept, located], false);
    assert_eq!((slots.stats().companions, slots.stats().blocks), (0, 2));
    assert_eq!(with_companions(), [true; 2]);
    slots.trim_all([kept, located], true);
    assert_eq!(slots.get(kept, &pin()), Lookup::Block(b"kept"));
    assert_eq!(slots.get(located, &pin()), Lookup::Located(7));
    assert_eq!((slots.stats().companions, slots.stats().blocks), (0, 1));
    slots.retire(kept);
    slots.trim_all([kept], true);
    drain(&slots);
}

#[test]
fn the_first_companion_wins() {
    let slots = Bytes::new();
    let id = slots.insert(b"page").unwrap();
    assert!(slots.set_companion(id, &[1], &pin()));
    assert!(!slots.set_companion(id, &[2], &pin()));
    assert_eq!(slots.companion(id, &pin()), Some(&[1][..]));
}

#[test]
fn a_retired_id_is_gone_and_its_slot_serves_again_under_another() {
    let slots = Bytes::new();
    let old = slots.insert(b"old").unwrap();
    slots.set_locator(old, 3);
    slots.set_companion(old, &[4], &pin());
    assert!(slots.retire(old));
    assert!(!slots.retire(old));
    assert_eq!(slots.get(old, &pin()), Lookup::Gone);
    drain(&slots);
    let new = slots.insert(b"new").unwrap();
    assert_eq!(new.index(), old.index());
    assert_ne!(new, old);
    assert_eq!(slots.get(old, &pin()), Lookup::Gone);
    assert_eq!((slots.locator(old), slots.companion(old, &pin())), (None, None));
    assert!(!slots.set_locator(old, 8) && !slots.fill(old, b"?") && !slots.set_companion(old, &[9], &pin()));
    assert!(!slots.retire(old) && !slots.evict(old));
    assert_eq!(slots.get(new, &pin()), Lookup::Block(b"new"));
    assert_eq!((slots.locator(new), slots.companion(new, &pin())), (None, None));
}

#[test]
fn a_slot_is_reused_only_after_the_guards_of_its_time() {
    let slots = Bytes::new();
    let id = slots.insert(b"kept").unwrap();
    let guard = pin();
    let Lookup::Block(block) = slots.get(id, &guard) else { panic!("not there") };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            slots.retire(id);
            for _ in 0..100 {
                slots.reclaim();
                let other = slots.insert(b"other").unwrap();
                assert_ne!(other.index(), id.index());
            }
        });
    });
    // The reader stalled all the while, and reads what it held.
    assert_eq!(block, b"kept");
    assert_eq!(slots.stats().pending, 1);
    assert_eq!(slots.get(id, &guard), Lookup::Gone);
    drop(guard);
    drain(&slots);
}

#[test]
fn an_index_with_worn_out_generations_is_never_used_again() {
    let slots = Bytes::new();
    let id = slots.insert(b"x").unwrap();
    let last = SlotId::new(id.index(), id::LAST_GENERATION).unwrap();
    slots.table.get(id.index()).unwrap().generation.store(id::LAST_GENERATION, Release);
    assert_eq!(slots.get(last, &pin()), Lookup::Block(b"x"));
    assert!(slots.retire(last));
    assert_eq!(slots.get(last, &pin()), Lookup::Gone);
    drain(&slots);
    for _ in 0..200 {
        assert_ne!(slots.insert(b"y").unwrap().index(), id.index());
    }
}

#[test]
fn generations_move_on_with_each_use() {
    let slots = Bytes::new();
    let mut seen = std::collections::HashSet::new();
    for round in 0..500_u32 {
        let id = slots.insert(&round.to_le_bytes()).unwrap();
        assert!(seen.insert(id), "{id:?} was given twice");
        slots.retire(id);
        slots.reclaim();
    }
    for old in seen {
        assert_eq!(slots.get(old, &pin()), Lookup::Gone);
    }
    assert_eq!(slots.stats().slots, 0);
}

#[test]
fn counts_and_bytes_are_those_of_what_is_there() {
    let slots = Slots::<u32, u8>::new();
    let ids: Vec<_> = (0..300).map(|len| slots.insert(&vec![7; len]).unwrap()).collect();
    let located = slots.insert_with_locator(1).unwrap();
    for id in &ids[..100] {
        slots.set_companion(*id, &[1, 2], &pin());
        slots.set_locator(*id, 1);
    }
    let stats = slots.stats();
    assert_eq!((stats.slots, stats.blocks, stats.companions), (301, 300, 100));
    let exact = 4 * (0..300).sum::<u64>();
    assert!((exact..exact + 300 * 128).contains(&stats.block_bytes), "{stats:?}");
    assert!((200..100 * 128).contains(&stats.companion_bytes), "{stats:?}");
    assert_eq!(slots.evict_all(ids.iter().copied()), 100);
    let stats = slots.stats();
    assert_eq!((stats.slots, stats.blocks, stats.companions), (301, 200, 0));
    assert_eq!(slots.retire_all(ids), 300);
    slots.retire(located);
    drain(&slots);
    assert_eq!(slots.stats(), nothing(&slots));
}

/// Blocks name their id's use: a reader that finds another's content under an id has caught a stale answer.
#[test]
fn readers_racing_retire_evict_and_fill_never_see_anothers_content() {
    let slots = Slots::<u64, u64>::new();
    // Words of ids, and the content that each was inserted with.
    let board: Vec<(AtomicU64, AtomicU64)> = (0..64).map(|_| Default::default()).collect();
    let stop = AtomicBool::new(false);
    let (blocks, located, gone) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for writer in 0..2_usize {
            let (slots, board, stop) = (&slots, &board, &stop);
            scope.spawn(move || {
                let mine = &board[writer * 32..][..32];
                for round in 0..60_000_u64 {
                    let content = round << 1 | writer as u64;
                    let (word, tag) = &mine[(round % 32) as usize];
                    if let Some(old) = SlotId::from_word(word.load(Relaxed)) {
                        match round % 3 {
                            0 => drop((slots.set_locator(old, tag.load(Relaxed)), slots.evict(old))),
                            1 => drop(slots.fill(old, &[tag.load(Relaxed); 40])),
                            _ => {}
                        }
                        if round % 7 != 0 {
                            assert!(slots.retire(old));
                        } else {
                            continue;
                        }
                    }
                    let id = slots.insert(&[content; 40]).unwrap();
                    slots.set_companion(id, &[content; 9], &pin());
                    // The pair may be read torn: then the readers' second look differs.
                    word.store(0, Release);
                    tag.store(content, Release);
                    word.store(id.to_word(), Release);
                }
                stop.store(true, Relaxed);
            });
        }
        for reader in 0..2_usize {
            let (slots, board, stop) = (&slots, &board, &stop);
            let (blocks, located, gone) = (&blocks, &located, &gone);
            scope.spawn(move || {
                let mut at = reader;
                while !stop.load(Relaxed) {
                    at = (at + 13) % board.len();
                    let (word, tag) = &board[at];
                    let before = word.load(Acquire);
                    let content = tag.load(Acquire);
                    let (Some(id), true) = (SlotId::from_word(before), word.load(Acquire) == before) else {
                        continue;
                    };
                    let guard = pin();
                    match slots.get(id, &guard) {
                        Lookup::Block(block) => {
                            assert_eq!(block.len(), 40);
                            assert!(block.iter().all(|word| *word == content), "{id:?}: {block:?}");
                            blocks.fetch_add(1, Relaxed);
                        }
                        Lookup::Located(locator) => {
                            assert_eq!(locator, content);
                            located.fetch_add(1, Relaxed);
                            if at % 2 == 0 {
                                slots.fill(id, &[content; 40]);
                                slots.set_companion(id, &[content; 9], &pin());
                            }
                        }
                        Lookup::Gone => drop(gone.fetch_add(1, Relaxed)),
                    }
                    if let Some(companion) = slots.companion(id, &guard) {
                        assert_eq!(companion, [content; 9]);
                    }
                }
            });
        }
    });
    println!("{blocks:?} blocks, {located:?} located, {gone:?} gone");
    assert!(blocks.into_inner() > 0);
    let live: Vec<_> = board.iter().filter_map(|(word, _)| SlotId::from_word(word.load(Relaxed))).collect();
    assert_eq!(slots.stats().slots, live.len() as u64);
    assert_eq!(slots.retire_all(live.iter().copied()), live.len());
    drain(&slots);
    assert_eq!(slots.stats(), nothing(&slots), "counters must not drift");
    // Of more than 100,000 insertions; a reader that is preempted while it is pinned lets the table grow meanwhile.
    assert!(slots.indices.used() < 80_000, "indices are reused: {}", slots.indices.used());
}
