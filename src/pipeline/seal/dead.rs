//! What dies in a run: the records that the stored trie of the run before needs and that of this one does not.
//!
//! Every page that the run's commits took out of the trie and that is stored is dead with all its records, but for those whose records a page
//! of this run goes on with: a delta needs what is before it. So is every large value that such a page refers to and none of this run does. Trees that were dropped whole are listed by their roots, so
//! that a wipe costs nothing in proportion to what it wipes.

use std::sync::Arc;

use bristlecone_delta::{Dead, GroupWriter, Locator};
use bristlecone_snapshot::{Lookup, pin};
use bristlecone_trie::{Item, Page, Shape};

use super::pages::{Chains, Written};
use crate::Result;
use crate::pipeline::Core;
use crate::reference::Reference;
use crate::state::VersionState;

/// What died in `run`, which was `written` to `group`. To be called while what the run superseded is there.
pub(super) fn died(
    core: &Core,
    chains: &Chains,
    run: &[Arc<VersionState>],
    mut written: Written,
    group: &GroupWriter<'_>,
) -> Result<Dead> {
    written.gone_on_from.sort_unstable();
    let is_gone_on = |newest: &Locator| written.gone_on_from.binary_search(newest).is_ok();
    let has_values = core.namespaces.iter().any(|namespace| namespace.shape == Shape::Flat);
    let view = core.graph.segments.view();
    let mut dead = Dead::default();
    for state in run {
        let replaced = state.replaced.get();
        let stored = replaced.pages().filter_map(|id| Some((Some(id), core.graph.slots.locator(id)?)));
        let stored = stored.filter_map(|(id, word)| Some((id, Locator::from_word(word)?)));
        for (id, newest) in stored.chain(replaced.records.iter().map(|newest| (None, *newest))) {
            // Where nothing is remembered of it, its records tell.
            if has_values && id.and_then(|id| chains.has_large_values(id, newest)).unwrap_or(true) {
                let values = view.large_values(newest)?;
                dead.pages.extend(values.into_iter().filter(|value| !group.kept_values().contains(value)));
            }
            dead.pages.extend(Some(newest).filter(|newest| !is_gone_on(newest)));
        }
        replaced.trees.iter().for_each(|word| stored_roots(core, *word, &mut dead.trees));
    }
    for list in [&mut dead.pages, &mut dead.trees] {
        list.sort_unstable();
        list.dedup();
    }
    Ok(dead)
}

/// The stored pages nearest to the root of the tree under `word`: its root, if that is stored. Costs a look at the pages above
/// them, which this run made.
fn stored_roots(core: &Core, word: u64, out: &mut Vec<Locator>) {
    let slots = &core.graph.slots;
    let guard = pin();
    let mut words = vec![word];
    while let Some(word) = words.pop() {
        if let Some(locator) = core.locator(word) {
            out.push(locator);
            continue;
        }
        let Some(Reference::Slot(id)) = Reference::from_word(word) else { continue };
        match slots.get(id, &guard) {
            Lookup::Block(bytes) => {
                words.extend(Page::new(bytes).entries().filter_map(|entry| match entry.item {
                    Item::Child { reference } => Some(reference),
                    _ => None,
                }))
            }
            // What is not listed is kept for ever: a leak, no loss.
            Lookup::Located(_) | Lookup::Gone => debug_assert!(false, "a page that was dropped is gone"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use bristlecone_delta::SegmentView;
    use bristlecone_delta::vfs::sim::SimVfs;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{Account, B256, Batch, Namespace, Options, SchemeKind, Store, U256};

    /// The records of a page and of all pages below it, and of their large values.
    pub(crate) fn below(segments: &SegmentView<'_>, page: Locator, out: &mut BTreeSet<Locator>) {
        if !out.contains(&page) {
            out.extend(segments.chain(page).unwrap());
            out.extend(segments.large_values(page).unwrap());
            segments.children(page).unwrap().into_iter().for_each(|child| below(segments, child, out));
        }
    }

    fn flat(batch: &mut Batch, rng: &mut ChaCha8Rng) {
        for _ in 0..rng.random_range(0..40) {
            // Some keys close together, so that pages are cut and dissolve.
            let key = [rng.random_range(0..3u8), rng.random_range(0..255), rng.random()];
            let key = key.get(..rng.random_range(1..4)).unwrap_or_default();
            match rng.random_bool(0.45) {
                true => batch.namespace("flat").delete(key),
                // Some large, and often the same at several keys.
                false if rng.random_bool(0.2) => {
                    let value = vec![7; rng.random_range(598..602)];
                    let _ = batch.namespace("flat").put(key, &value);
                    continue;
                }
                false => batch.namespace("flat").put(key, &[7; 40][..rng.random_range(1..40)]),
            };
        }
    }

    fn accounts(batch: &mut Batch, rng: &mut ChaCha8Rng) {
        for _ in 0..rng.random_range(0..6) {
            let address = [rng.random_range(0..12u8); 20];
            match rng.random_range(0..8) {
                0 => drop(batch.delete_account(&address)),
                1 => drop(batch.wipe_storage(&address)),
                _ => {
                    let balance = U256::from(rng.random::<u64>());
                    batch.set_account(&address, &Account { balance, ..Account::default() });
                    for _ in 0..rng.random_range(0..60) {
                        let slot = B256::with_last_byte(rng.random_range(0..200));
                        batch.set_slot(&address, slot, U256::from(rng.random_range(0..4u8)));
                    }
                }
            }
        }
    }

    /// Commits a random batch, if it fits.
    pub(crate) fn commit(store: &Store, rng: &mut ChaCha8Rng) {
        let mut batch = Batch::new();
        accounts(&mut batch, rng);
        flat(&mut batch, rng);
        match store.commit(batch) {
            Ok(_) | Err(crate::Error::SlotWithoutAccount { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn options(seed: u64, sim: &SimVfs) -> Options {
        Options::new()
            .namespace(Namespace::accounts(SchemeKind::Ethereum))
            .namespace(Namespace::flat(SchemeKind::Blake3).named("flat").raw())
            .seal_keys([1, 60, 400][seed as usize % 3])
            .cache_bytes([0, 20_000, 1 << 30][seed as usize / 3 % 3])
            .segment_bytes(32 << 10)
            .threads(1)
            .vfs(Arc::new(sim.clone()))
    }

    #[test]
    fn what_a_run_lists_is_what_its_trie_does_not_reach_any_more() {
        let (mut died, mut trees) = (0, 0);
        for seed in 0..18 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let sim = SimVfs::new(seed);
            let mut store = options(seed, &sim).open("/store").unwrap();
            for _ in 0..40 {
                commit(&store, &mut rng);
                if rng.random_bool(0.05) {
                    let latest = store.latest_version().unwrap();
                    store.rollback(latest - rng.random_range(0..=latest.min(9))).unwrap();
                }
                if rng.random_bool(0.1) {
                    store.close().unwrap();
                    store = options(seed, &sim).open("/store").unwrap();
                }
            }
            store.flush().unwrap();
            let (pages, roots) = compare(&store, seed);
            (died, trees) = (died + pages, trees + roots);
        }
        assert!(died > 1000 && trees > 10, "{died} records and {trees} trees died");
    }

    fn compare(store: &Store, seed: u64) -> (usize, usize) {
        let core = &store.inner.core;
        let segments = core.graph.segments.view();
        let mut before = BTreeSet::new();
        let (mut died, mut trees) = (0, 0);
        for run in core.runs.now().iter() {
            let mut now = BTreeSet::new();
            for page in run.seal.namespaces.iter().filter_map(|namespace| namespace.root_page) {
                below(&segments, page, &mut now);
            }
            let dead = run.seal.dead.map_or_else(Dead::default, |list| segments.dead(list).unwrap());
            let mut listed = BTreeSet::new();
            dead.pages.iter().for_each(|page| listed.extend(segments.chain(*page).unwrap()));
            dead.trees.iter().for_each(|root| below(&segments, *root, &mut listed));
            let gone: BTreeSet<Locator> = before.difference(&now).copied().collect();
            assert_eq!(listed, gone, "seed {seed}, version {}", run.last);
            died += gone.len();
            trees += dead.trees.len();
            before = now;
        }
        (died, trees)
    }
}
