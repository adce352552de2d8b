//! Memory comes back: what no version needs, what was evicted, and what only looked at.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use bristlecone::vfs::sim::SimVfs;
use bristlecone::{Batch, MemoryStats, Namespace, SchemeKind, Store};
use bristlecone_torture::{Config, Model, Rng, Universe, batches, sequences};

fn open(config: &Config) -> Store {
    config.options(SimVfs::new(0)).open("/store").unwrap()
}

fn flat() -> Config {
    Config {
        seal_keys: 100,
        log_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        ..Config::small(vec![Namespace::flat(SchemeKind::Blake3)])
    }
}

fn fill(store: &Store, keys: u64, value: &[u8]) {
    let mut batch = Batch::new();
    for key in 0..keys {
        batch.put(&key.to_be_bytes(), value);
    }
    store.commit(batch).unwrap();
}

/// Pages with child pages stay in memory; in the small tries here there are few.
const INNER_PAGES: u64 = 24;

/// What stays after everything was sealed and nobody looks at the past.
fn settled(store: &Store) -> MemoryStats {
    for _ in 0..2 {
        store.commit(Batch::new()).unwrap();
        store.flush().unwrap();
    }
    store.stats().unwrap().memory
}

#[test]
fn everything_that_is_sealed_can_be_evicted() {
    let store = open(&flat());
    fill(&store, 3_000, b"x");
    let memory = settled(&store);
    assert_eq!((memory.superseded_pages, memory.batch_bytes), (0, 0), "{memory:?}");
    assert!(memory.pages <= INNER_PAGES, "{memory:?}");
}

#[test]
fn pages_that_were_loaded_for_a_batch_without_effect_leave_memory_again() {
    let store = open(&flat());
    fill(&store, 3_000, b"x");
    settled(&store);
    for _ in 0..5 {
        fill(&store, 3_000, b"x");
        let mut absent = Batch::new();
        for key in 3_000..6_000u64 {
            absent.delete(&key.to_be_bytes());
        }
        store.commit(absent).unwrap();
    }
    let memory = settled(&store);
    assert_eq!(memory.superseded_pages, 0, "{memory:?}");
    assert!(memory.pages <= INNER_PAGES, "{memory:?}");
}

#[test]
fn pages_that_were_loaded_for_a_refused_batch_leave_memory_again() {
    let config = Config { namespaces: vec![Namespace::accounts(SchemeKind::Ethereum)], ..flat() };
    let store = open(&config);
    let mut genesis = Batch::new();
    for number in 0..2_000u64 {
        genesis.set_account(&number.to_be_bytes(), &Default::default());
    }
    store.commit(genesis).unwrap();
    settled(&store);
    for _ in 0..3 {
        let mut bad = Batch::new();
        for number in 0..2_001u64 {
            bad.set_slot(&number.to_be_bytes(), Default::default(), bristlecone::U256::from(1));
        }
        store.commit(bad).unwrap_err();
    }
    let memory = settled(&store);
    assert_eq!(memory.superseded_pages, 0, "{memory:?}");
    assert!(memory.pages <= INNER_PAGES, "{memory:?}");
}

#[test]
fn files_of_the_log_are_used_again() {
    let sim = SimVfs::new(0);
    let config = Config { log_bytes: 4 << 10, ..flat() };
    let store = config.options(sim.clone()).open("/store").unwrap();
    let in_log = || sim.files().iter().filter(|file| file.parent().unwrap().ends_with("log")).count();
    let mut most = 0;
    for version in 0..1_500u64 {
        let mut batch = Batch::new();
        for key in 0..20u64 {
            batch.put(&key.to_be_bytes(), &version.to_be_bytes());
        }
        store.commit(batch).unwrap();
        if version % 10 == 9 {
            store.flush().unwrap();
        }
        most = most.max(in_log());
    }
    assert!(most <= 20, "{most} files of 4 KiB for a log of at most 10 versions");
    assert!(store.versions().len() == 1_500 && sim.overwritten_maps().is_empty());
}

#[test]
fn slots_do_not_pile_up_where_pages_come_and_go() {
    let config = Config { cache_bytes: 0, seal_keys: 400, segment_bytes: 1 << 24, ..flat() };
    let store = open(&config);
    fill(&store, 20_000, b"x");
    let mut rng = Rng::new(1);
    let mut slots = Vec::new();
    for version in 1..=600u64 {
        let mut batch = Batch::new();
        for _ in 0..100 {
            batch.put(&rng.below(20_000).to_be_bytes(), &version.to_be_bytes());
        }
        store.commit(batch).unwrap();
        if version.is_multiple_of(150) {
            slots.push(settled(&store).slots);
        }
    }
    // Once each page was in memory it has a slot.
    assert!(slots[3] <= slots[1] + slots[1] / 20, "{slots:?}");
}

/// Superseded pages are trimmed long before their seal: what they held is computed or read again for whoever asks.
#[test]
fn an_old_snapshot_holds_what_it_sees_and_no_slot_of_what_came_and_went_since() {
    let store = open(&flat());
    fill(&store, 3_000, b"x");
    let old = store.latest().unwrap();
    let mut leased = Vec::new();
    for round in 0..30u8 {
        // Everything was evicted by now: it is loaded, changed, and evicted again.
        fill(&store, 3_000, &[round]);
        leased.push(settled(&store).leased_pages);
    }
    assert!(leased[29] <= leased[2], "{leased:?}");
    assert_eq!(old.get(&7u64.to_be_bytes()).unwrap().unwrap(), b"x"[..]);
}

#[test]
fn superseded_pages_are_trimmed_and_versions_before_their_seal_answer_and_prove_as_before() {
    const KEYS: u64 = 4_000;
    let value = |key: u64, version: u64| [version.to_be_bytes(), key.to_be_bytes()].concat();
    let changed = |version: u64| (0..KEYS).filter(move |key| (key * 7 + version).is_multiple_of(13));
    let config = Config { seal_keys: 1_000_000, cache_bytes: 1 << 30, ..flat() };
    let store = config.options(SimVfs::new(0)).max_unsealed_keys(1_000_000).open("/store").unwrap();
    fill(&store, KEYS, &value(0, 0));
    store.flush().unwrap();
    let versions = 1..=20u64;
    for version in versions.clone() {
        let mut batch = Batch::new();
        for key in changed(version) {
            batch.put(&key.to_be_bytes(), &value(key, version));
        }
        store.commit(batch).unwrap().root().wait().unwrap();
    }
    let memory = store.stats().unwrap().memory;
    assert_eq!(memory.waiting_for_seal, 20);
    // What the last versions superseded still has its hashes.
    assert!(memory.superseded_hash_bytes * 4 < memory.superseded_bytes, "{memory:?}");
    for version in versions {
        let snapshot = store.at(version).unwrap();
        let root = snapshot.root().unwrap();
        for key in (0..KEYS).step_by(97) {
            let newest = (1..=version).rev().find(|version| (key * 7 + version).is_multiple_of(13));
            let expected = newest.map_or(value(0, 0), |newest| value(key, newest));
            assert_eq!(snapshot.get(&key.to_be_bytes()).unwrap().as_ref(), Some(&expected));
            let proved = snapshot.first().prove(&key.to_be_bytes()).unwrap();
            let trie_key = blake3::hash(&key.to_be_bytes());
            let found = bristlecone::trie_proof::verify::<bristlecone::Blake3>(
                root,
                trie_key.as_bytes(),
                &proved.nodes,
            );
            assert_eq!(found.unwrap().as_deref(), Some(&expected[..]), "version {version}, key {key}");
        }
    }
}

#[test]
fn a_long_life_of_random_batches_leaves_nothing_behind() {
    sequences("memory", 12, |seed| {
        let mut rng = Rng::new(seed);
        let scheme = if seed.is_multiple_of(2) { SchemeKind::Ethereum } else { SchemeKind::Blake3 };
        let namespaces = vec![Namespace::accounts(scheme), Namespace::flat(scheme).named("f")];
        let config = Config { namespaces: namespaces.clone(), seal_keys: 200, ..flat() };
        let universe = Universe::random(&namespaces, 300, &mut rng);
        let mut model = Model::new(namespaces, 0, universe);
        let store = open(&config);
        let mut held = Vec::new();
        for _ in 0..40 {
            let changes = batches::random(&model, 300, true, &mut rng);
            let batch = batches::batch_of(&model.namespaces, &changes);
            assert_eq!(model.commit(&changes).is_some(), store.commit(batch).is_ok());
            if rng.chance(30)
                && let Ok(snapshot) = store.latest()
            {
                held.push(snapshot);
            }
            if rng.chance(20) {
                held.clear();
            }
            if rng.chance(20) {
                store.flush().unwrap();
            }
        }
        drop(held);
        let memory = settled(&store);
        assert_eq!(memory.superseded_pages, 0, "seed {seed}: {memory:?}");
        assert_eq!(memory.hashed_pages, memory.pages, "seed {seed}: {memory:?}");
        assert!(memory.pages <= INNER_PAGES, "seed {seed}: {memory:?}");
        assert!(store.stats().unwrap().leases.is_empty());
    });
}
