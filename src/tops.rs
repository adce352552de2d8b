//! Proofs in the middle of a run, without applying all of the run again.
//!
//! A proof needs the references beside its way, and those high up in the trie cover what the run changed everywhere. So run tables keep
//! the top of the trie ([`bristlecone_trie::tops`]) for versions in the middle of a run: with that only the operations below two
//! nibbles of the way are applied again, one in 256. That the top fits is not taken for granted: where the root that comes of it
//! is not the version's (the top two levels were not full, say), everything is applied as without it; and who makes a proof this way
//! verifies it.

use bristlecone_delta::Locator;
use bristlecone_trie::{B256, Page, tops};

use crate::graph::{Graph, load};
use crate::history::{Ways, operations_on};
use crate::options::Namespace;
use crate::overlay::Overlay;
use crate::reference::Reference;
use crate::runs::Past;
use crate::{Error, Result};

impl Past {
    /// The pages on the ways to `keys` of a version in the middle of a run, with all references beside them; `None` where the
    /// run's table has not what that needs, or it does not fit. What is proven with it is to be verified.
    pub(crate) fn overlay_on_ways<'g>(
        &self,
        graph: &'g Graph,
        namespace: &Namespace,
        space: usize,
        keys: &[&[u8]],
    ) -> Result<Option<Overlay<'g>>> {
        let Some(table) = self.run.table(space).filter(|_| !self.is_end()) else { return Ok(None) };
        let view = graph.segments.view();
        match view.table(table)?.top(self.stamp())? {
            Some(top) => self.overlay_below(top.hashes, graph, namespace, space, keys),
            None => Ok(None),
        }
    }

    /// As [`overlay_on_ways`](Self::overlay_on_ways), with the hashes of a top.
    fn overlay_below<'g>(
        &self,
        top: &[[u8; 32]],
        graph: &'g Graph,
        namespace: &Namespace,
        space: usize,
        keys: &[&[u8]],
    ) -> Result<Option<Overlay<'g>>> {
        let Some(before) = self.before.as_deref() else { return Ok(None) };
        let (Some(expected), Some(root)) = (self.root(space), before.root(space)) else { return Ok(None) };
        let Some(ways) = Ways::new(keys) else { return Ok(None) };
        let overlay = Overlay::new(graph, namespace.scheme, namespace.shape, None);
        let open = |locator: Locator, root: Option<B256>| -> Result<Option<Vec<u8>>> {
            let is_root = root.is_some();
            let page = load(&graph.segments, locator, namespace.scheme, namespace.shape, is_root, None)?;
            let mut refs = page.refs;
            if tops::put(Page::new(&page.bytes), &mut refs, root, top, ways.all()).is_none() {
                return Ok(None);
            }
            overlay.put_page(Reference::Stored(locator).word(), page.bytes.clone(), refs);
            Ok(Some(page.bytes))
        };
        let Some(root_page) = open(root, Some(expected))? else { return Ok(None) };
        overlay.set_root(Reference::Stored(root).word());
        let mut below: Vec<u64> =
            ways.all().iter().filter_map(|[first, _]| tops::page_at(Page::new(&root_page), *first)).collect();
        below.dedup();
        for word in below {
            let child = Locator::from_word(word).ok_or(Error::Internal("a stored child is no record"))?;
            if open(child, None)?.is_none() {
                return Ok(None);
            }
        }
        for (stamp, ops) in operations_on(graph, self, space, Some(&ways))? {
            overlay.apply(&ops.ops(), stamp.word())?;
        }
        // Where the top does not fit, hashing may fail too. What is damaged is found again by whoever applies everything.
        Ok(overlay.hash().is_ok_and(|root| root == expected).then_some(overlay))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use crate::{
        Account, B256, Batch, Blake3, Ethereum, Namespace, Options, SchemeKind, Snapshot, Store, U256,
    };
    use bristlecone_trie::Shape;
    use bristlecone_trie::proof::{ProofScheme, prove, verify, verify_account, verify_slot};

    const KEYS: u64 = 6_000;
    /// Enough that a top is worth it.
    const CHANGES: u64 = 800;
    const VERSIONS: u64 = 6;

    fn store(namespace: Namespace) -> (Store, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().namespace(namespace).segment_bytes(4 << 20).log_bytes(4 << 20);
        (options.seal_keys(u64::MAX).open(dir.path()).unwrap(), dir)
    }

    fn key(number: u64) -> [u8; 20] {
        let mut key = [0; 20];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    /// Whether the short way is there, in the middle of the run and nowhere else.
    fn assert_short(snapshot: &Snapshot, trie_key: &[u8], expected: bool) {
        let overlay = snapshot.overlay_on_ways(0, &[trie_key]).unwrap();
        assert_eq!(overlay.is_some(), expected, "version {}", snapshot.version());
        if let Some(overlay) = overlay {
            assert_eq!(overlay.hash().unwrap(), snapshot.first().root().unwrap());
        }
    }

    /// A first run of one version, and one of many.
    fn changed_in_a_run(scheme: SchemeKind) -> (Store, tempfile::TempDir) {
        let (store, dir) = store(Namespace::flat(scheme));
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut load = Batch::new();
        for number in 0..KEYS {
            load.put(&key(number), &number.to_le_bytes());
        }
        store.commit(load).unwrap();
        store.flush().unwrap();
        for version in 1..=VERSIONS {
            let mut batch = Batch::new();
            for _ in 0..CHANGES {
                let number = random.random_range(0..KEYS + 500);
                match random.random_range(0..8) {
                    0 => batch.delete(&key(number)),
                    _ => batch.put(&key(number), &[version as u8, number as u8]),
                };
            }
            store.commit(batch).unwrap();
        }
        store.flush().unwrap();
        (store, dir)
    }

    fn flat<S: ProofScheme>(scheme: SchemeKind) {
        let (store, _dir) = changed_in_a_run(scheme);
        for version in 0..=VERSIONS {
            let snapshot = store.at(version).unwrap();
            let root = snapshot.first().root().unwrap();
            for number in (0..KEYS + 600).step_by(97) {
                let key = key(number);
                let proof = snapshot.prove(&key).unwrap();
                assert_short(&snapshot, &proof.key, (1..VERSIONS).contains(&version));
                assert_eq!(proof.value, snapshot.get(&key).unwrap(), "{number} at {version}");
                assert_eq!(verify::<S>(root, &proof.key, &proof.nodes), Ok(proof.value));
            }
            let many: Vec<_> = (0..40).map(|number| key(number * 151)).collect();
            let proof = snapshot.prove_many(&many).unwrap();
            let values = bristlecone_trie::proof::verify_many::<S>(root, &proof.keys, &proof.proof);
            assert_eq!(values, Ok(proof.values));
        }
    }

    #[test]
    fn flat_proofs_in_the_middle_of_a_run_go_the_short_way() {
        flat::<Ethereum>(SchemeKind::Ethereum);
        flat::<Blake3>(SchemeKind::Blake3);
    }

    fn accounts<S: ProofScheme>(scheme: SchemeKind) {
        let (store, _dir) = store(Namespace::accounts(scheme));
        let mut random = ChaCha8Rng::seed_from_u64(4);
        let slot = |number: u64| B256::from(U256::from(number % 30));
        let mut load = Batch::new();
        for number in 0..KEYS {
            load.set_account(&key(number), &Account { nonce: number, ..Account::default() });
            load.set_slot(&key(number % 20), slot(number), U256::from(number + 1));
        }
        store.commit(load).unwrap();
        store.flush().unwrap();
        for version in 1..=VERSIONS {
            let mut batch = Batch::new();
            for _ in 0..3 * CHANGES {
                let number = random.random_range(0..KEYS);
                let account = Account { nonce: number, balance: U256::from(version), ..Account::default() };
                match random.random_range(0..40) {
                    0 => batch.delete_account(&key(number)),
                    1 => batch.wipe_storage(&key(number % 20)),
                    2..20 => {
                        batch.set_account(&key(number % 20), &account);
                        batch.set_slot(&key(number % 20), slot(number), U256::from(version * number))
                    }
                    _ => batch.set_account(&key(number), &account),
                };
            }
            store.commit(batch).unwrap();
        }
        store.flush().unwrap();
        for version in 0..=VERSIONS {
            let snapshot = store.at(version).unwrap();
            let root = snapshot.first().root().unwrap();
            for number in (0..20).chain((20..KEYS).step_by(97)) {
                let slots = [slot(0), slot(number), slot(29), B256::repeat_byte(1)];
                let proof = snapshot.prove_account(&key(number), &slots).unwrap();
                assert_short(&snapshot, proof.key.as_slice(), (1..VERSIONS).contains(&version));
                assert_eq!(proof.account, snapshot.account(&key(number)).unwrap());
                let found = verify_account::<S>(root, proof.key.as_slice(), &proof.nodes).unwrap();
                assert_eq!(found, proof.account.map(|account| (account, proof.storage_root)));
                for (proven, slot) in proof.slots.iter().zip(slots) {
                    assert_eq!(proven.value, snapshot.slot(&key(number), slot).unwrap());
                    let value = verify_slot::<S>(proof.storage_root, proven.key.as_slice(), &proven.nodes);
                    assert_eq!(value.unwrap().unwrap_or_default(), proven.value);
                }
            }
        }
    }

    #[test]
    fn account_proofs_in_the_middle_of_a_run_go_the_short_way() {
        accounts::<Ethereum>(SchemeKind::Ethereum);
        accounts::<Blake3>(SchemeKind::Blake3);
    }

    /// A top that is not the version's is found out by the root, unless what is wrong in it was not asked for: then the proof is the right one.
    fn wrong_tops<S: ProofScheme>(scheme: SchemeKind) {
        let (store, _dir) = changed_in_a_run(scheme);
        let namespace = Namespace::flat(scheme);
        let snapshot = store.at(2).unwrap();
        let core = &snapshot.inner.core;
        let past = snapshot.state().err().unwrap();
        let view = core.graph.segments.view();
        let table = view.table(past.run.table(0).unwrap()).unwrap();
        let right = table.top(past.stamp()).unwrap().unwrap().hashes.to_vec();
        let other = store.at(3).unwrap();
        let other = table.top(other.state().err().unwrap().stamp()).unwrap().unwrap().hashes.to_vec();
        assert_ne!(right, other);
        let mut wrong = vec![other, right[..100].to_vec(), Vec::new(), vec![[0; 32]; right.len()]];
        for position in 0..right.len() {
            let mut top = right.clone();
            top[position][position % 32] ^= 1;
            wrong.push(top);
        }
        let root = snapshot.first().root().unwrap();
        let key = key(4_711);
        let proved = snapshot.prove(&key).unwrap();
        let below = |top: &[[u8; 32]]| {
            let overlay =
                past.overlay_below(top, &core.graph, &namespace, 0, &[proved.key.as_slice()]).unwrap()?;
            assert_eq!(overlay.hash().unwrap(), root);
            prove::<S>(&overlay, Shape::Flat, overlay.root(), &proved.key).ok().map(|proof| proof.nodes)
        };
        assert_eq!(below(&right).unwrap(), proved.nodes);
        let mut refused = 0;
        for top in &wrong {
            match below(top) {
                Some(found) => assert_eq!(found, proved.nodes),
                None => refused += 1,
            }
        }
        // All of the whole wrong ones, and of single hashes the 15 and 15 beside the way: no other is asked for this key.
        assert_eq!(refused, 4 + 30);
    }

    #[test]
    fn a_wrong_top_is_not_believed() {
        wrong_tops::<Ethereum>(SchemeKind::Ethereum);
        wrong_tops::<Blake3>(SchemeKind::Blake3);
    }

    #[test]
    fn small_tries_and_small_versions_are_proven_all_the_same() {
        for keys in [0, 1, 40, 600, 3_000] {
            let (store, _dir) = store(Namespace::flat(SchemeKind::Ethereum));
            for version in 0..4u8 {
                let mut batch = Batch::new();
                for number in (0..keys).filter(|number| version == 0 || number % 3 == u64::from(version)) {
                    batch.put(&key(number), &[version, 1]);
                }
                store.commit(batch).unwrap();
                if version == 0 {
                    store.flush().unwrap();
                }
            }
            store.flush().unwrap();
            for version in 0..4 {
                let snapshot = store.at(version).unwrap();
                let root = snapshot.root().unwrap();
                for number in (0..keys + 3).step_by(7) {
                    let proof = snapshot.prove(&key(number)).unwrap();
                    assert_eq!(proof.value, snapshot.get(&key(number)).unwrap());
                    assert_eq!(verify::<Ethereum>(root, &proof.key, &proof.nodes), Ok(proof.value));
                }
            }
        }
    }
}
