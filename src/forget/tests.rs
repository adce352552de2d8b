//! What is left after a compaction, against what kept versions reach.

use std::collections::BTreeSet;

use bristlecone_delta::Locator;
use bristlecone_delta::vfs::sim::SimVfs;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Store;
use crate::pipeline::seal::dead::tests::{below, commit, options};
use crate::runs::Run;

/// All pages and large values that are there, in segments that may be compacted.
fn present(store: &Store) -> BTreeSet<Locator> {
    let segments = &store.inner.core.graph.segments;
    let view = segments.view();
    let all = (1..segments.finished()).flat_map(|segment| (0..5_000).map(move |record| (segment, record)));
    let all = all.filter_map(|(segment, record)| Locator::new(segment, record));
    all.filter(|at| view.record(*at).is_ok_and(|record| matches!(record.first(), Some(1 | 2 | 6)))).collect()
}

/// All pages and large values that kept versions need: those below the root of their run, and of the one before, and those of its tables.
fn needed(store: &Store) -> BTreeSet<Locator> {
    let core = &store.inner.core;
    let view = core.graph.segments.view();
    let mut out = BTreeSet::new();
    let mut reach = |run: &Run| {
        for table in run.seal.namespaces.iter().filter_map(|namespace| namespace.table) {
            out.extend(view.table(table).unwrap().own_values().unwrap());
        }
        let before = run.seal.previous.map(|before| core.graph.segments.seal(before).unwrap());
        for seal in before.iter().chain([&run.seal]) {
            let roots = seal.namespaces.iter().filter_map(|namespace| namespace.root_page);
            // Each root by itself: a newer record of a page stands for the older ones, but not for the pages that those reach.
            for root in roots {
                let mut found = BTreeSet::new();
                below(&view, root, &mut found);
                out.append(&mut found);
            }
        }
    };
    core.runs.now().iter().for_each(|run| reach(run));
    core.kept.load().pins.iter().for_each(|pin| reach(&pin.past.run));
    out
}

#[test]
fn what_is_left_is_what_kept_versions_reach() {
    let (mut gone, mut left) = (0, 0);
    for seed in 0..12 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let sim = SimVfs::new(seed);
        let mut store = options(seed, &sim).segment_bytes(4 << 10).open("/store").unwrap();
        for step in 0..60 {
            commit(&store, &mut rng);
            let last = store.latest_version().unwrap();
            match rng.random_range(0..12) {
                0 => drop(store.prune(rng.random_range(1..12)).unwrap()),
                1 => drop(store.pin(["a", "b"][step % 2], last - last.min(3))),
                2 => drop(store.unpin(["a", "b"][step % 2])),
                3 => {
                    store.close().unwrap();
                    store = options(seed, &sim).segment_bytes(4 << 10).open("/store").unwrap();
                }
                4 => drop(store.compact(|_| ()).unwrap()),
                5 => {
                    let oldest = store.stats().unwrap().forget.oldest;
                    store.rollback(last - rng.random_range(0..=(last - oldest).min(6))).unwrap();
                }
                _ => {}
            }
        }
        let before = present(&store).len();
        store.prune(5).unwrap();
        store.compact(|_| ()).unwrap();
        let (present, needed) = (present(&store), needed(&store));
        let finished = store.inner.core.graph.segments.finished();
        let missing: Vec<_> =
            needed.iter().filter(|at| at.segment() < finished && !present.contains(at)).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?} are needed and gone");
        let dead: Vec<_> = present.difference(&needed).collect();
        let known = store.stats().unwrap().forget.dead_records;
        assert!(dead.len() as u64 <= known, "seed {seed}: {dead:?} are dead, {known} known to be");
        gone += before.saturating_sub(present.len());
        left += dead.len();
        store.close().unwrap();
    }
    assert!(gone > 500 && left < gone / 20, "{gone} records went, {left} were left");
}
