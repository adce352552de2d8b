//! Witnesses made from a store: exactly the nodes that are needed, and a state on them that reads and changes as the store does.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use std::collections::{BTreeMap, BTreeSet};

use alloy_trie::proof::ProofRetainer;
use alloy_trie::{HashBuilder, Nibbles, TrieAccount};
use bristlecone::vfs::sim::SimVfs;
use bristlecone::{
    B256, Batch, Error, Key, Namespace, PartialError, SchemeKind, Snapshot, Stateless, Store, U256, Witness,
};
use bristlecone_torture::model::sorted_slots;
use bristlecone_torture::naive::{storage_root, trie_key};
use bristlecone_torture::{Change, Config, Model, Rng, Space, Universe, batches, sequences};

/// A key of the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Flat(Vec<u8>),
    Account(Vec<u8>),
    Slot(Vec<u8>, B256),
}

impl Asked {
    fn key(&self) -> Key<'_> {
        match self {
            Self::Flat(key) => Key::Flat(key),
            Self::Account(address) => Key::Account(address),
            Self::Slot(address, slot) => Key::Slot(address, *slot),
        }
    }

    /// Whether `state` says what `space` has; an error is as it is.
    fn holds(&self, state: &Stateless, space: &Space) -> Result<bool, Error> {
        Ok(match self {
            Self::Flat(key) => state.get(key)? == space.flat().get(key).cloned(),
            Self::Account(address) => {
                state.account(address)? == space.accounts().get(address).map(|(account, _)| *account)
            }
            Self::Slot(address, slot) => {
                let value = space.accounts().get(address).and_then(|(_, slots)| slots.get(slot)).copied();
                state.slot(address, *slot)? == value.unwrap_or_default()
            }
        })
    }
}

struct World {
    namespace: Namespace,
    store: Store,
    model: Model,
    all: Vec<Asked>,
    rng: Rng,
}

impl World {
    fn new(namespace: Namespace, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let scale = *rng.pick(&[4, 30, 120, 400]);
        let namespaces = vec![namespace.clone()];
        let universe = Universe::random(&namespaces, scale, &mut rng);
        let keys = &universe.spaces[0];
        let mut all = Vec::new();
        for key in &keys.keys {
            if keys.slots.is_empty() {
                all.push(Asked::Flat(key.clone()));
                continue;
            }
            all.push(Asked::Account(key.clone()));
            all.extend(keys.slots.iter().map(|slot| Asked::Slot(key.clone(), *slot)));
        }
        let config = Config::random(namespaces.clone(), &mut rng);
        let store = config.options(SimVfs::new(seed)).open("/store").unwrap();
        let model = Model::new(namespaces, config.first_version, universe);
        Self { namespace, store, model, all, rng }
    }

    fn changes(&mut self) -> (Vec<Change>, Batch) {
        let largest = self.rng.within(2, 150);
        let changes = batches::random(&self.model, largest, false, &mut self.rng);
        let batch = batches::batch_of(&self.model.namespaces, &changes);
        (changes, batch)
    }

    fn commit(&mut self) {
        let (changes, batch) = self.changes();
        self.model.commit(&changes).unwrap();
        self.store.commit(batch).unwrap();
    }

    fn asked(&mut self) -> Vec<Asked> {
        let share = *self.rng.pick(&[0, 2, 10, 60]);
        self.all.iter().filter(|_| self.rng.chance(share)).cloned().collect()
    }

    fn open(&self, witness: &Witness) -> Result<Stateless, Error> {
        Stateless::new(self.namespace.clone(), witness.root, &witness.nodes)
    }
}

fn keys_of(asked: &[Asked]) -> Vec<Key<'_>> {
    asked.iter().map(Asked::key).collect()
}

fn namespaces() -> Vec<Namespace> {
    let mut all = Vec::new();
    for scheme in [SchemeKind::Ethereum, SchemeKind::Blake3] {
        for namespace in [Namespace::accounts(scheme), Namespace::flat(scheme)] {
            all.extend([namespace.clone(), namespace.raw()]);
        }
    }
    all
}

/// The keys that `changes` speak of.
fn touched(changes: &[Change]) -> BTreeSet<Asked> {
    let asked = changes.iter().filter_map(|change| match change.clone() {
        Change::Put(_, key, _) | Change::Delete(_, key) => Some(Asked::Flat(key)),
        Change::SetAccount(_, address, _) | Change::DeleteAccount(_, address) | Change::Wipe(_, address) => {
            Some(Asked::Account(address))
        }
        Change::SetSlot(_, address, slot, _) => Some(Asked::Slot(address, slot)),
        Change::Code(..) => None,
    });
    asked.collect()
}

#[test]
fn a_state_on_a_witness_reads_and_changes_as_the_store_and_refuses_the_rest() {
    let (mut blinded, mut read, mut nodes) = (0, 0, 0);
    for namespace in namespaces() {
        sequences(&namespace.describe(), 30, |seed| {
            let mut world = World::new(namespace.clone(), seed);
            for _ in 0..world.rng.within(1, 15) {
                world.commit();
            }
            let (changes, batch) = world.changes();
            let asked = world.asked();
            let snapshot = world.store.latest().unwrap();
            let witness = snapshot.witness_for(&keys_of(&asked), &batch).unwrap();
            assert_eq!(witness.root, snapshot.first().root().unwrap());
            let before = world.model.latest().spaces[0].clone();
            world.model.commit(&changes).unwrap();
            let after = world.model.latest().clone();
            let read_first: BTreeSet<Asked> = asked.into_iter().collect();

            let mut state = world.open(&witness).unwrap();
            assert_eq!(state.root().unwrap(), witness.root);
            nodes += witness.nodes.len();
            for asked in &world.all {
                match asked.holds(&state, &before) {
                    Ok(same) => assert!(same, "{asked:?}"),
                    Err(Error::Witness(PartialError::Blinded(_))) if !read_first.contains(asked) => {
                        blinded += 1
                    }
                    Err(error) => panic!("{asked:?}: {error}"),
                }
                read += 1;
            }
            state.apply(&batch).unwrap();
            assert_eq!(state.root().unwrap(), after.roots[0], "after {changes:?}");
            // What is written can be read as well, then at the latest: of a storage that goes as a whole nothing was shown before.
            for asked in read_first.union(&touched(&changes)) {
                assert!(asked.holds(&state, &after.spaces[0]).unwrap(), "{asked:?} after");
            }
            let commit = world.store.commit(batch).unwrap();
            assert_eq!(commit.root().wait().unwrap(), after.root);
        });
    }
    eprintln!("{read} reads, {blinded} of them refused, on {nodes} nodes");
    assert!(blinded > 0 && blinded < read);
}

#[test]
fn no_node_of_a_witness_can_be_spared() {
    let (mut spared, mut siblings) = (0, 0);
    for namespace in namespaces() {
        sequences(&namespace.describe(), 40, |seed| {
            let mut world = World::new(namespace.clone(), seed);
            for _ in 0..world.rng.within(1, 12) {
                world.commit();
            }
            let (_, batch) = world.changes();
            let asked = world.asked();
            let before = world.model.latest().spaces[0].clone();
            let snapshot = world.store.latest().unwrap();
            let witness = snapshot.witness_for(&keys_of(&asked), &batch).unwrap();
            for node in 0..witness.nodes.len() {
                let mut fewer = witness.clone();
                fewer.nodes.remove(node);
                let needed = world.open(&fewer).and_then(|mut state| {
                    for asked in &asked {
                        assert!(asked.holds(&state, &before)?);
                    }
                    let root = state.root()?;
                    let done = state.apply(&batch);
                    if done.is_err() {
                        assert_eq!(state.root()?, root, "nothing happened");
                    }
                    done
                });
                let what = || {
                    format!(
                        "node {node} of {}: {:x?}\n{asked:?}\n{batch:?}",
                        witness.nodes.len(),
                        witness.nodes[node]
                    )
                };
                match needed.expect_err(&what()) {
                    Error::Witness(PartialError::Sibling(_)) => siblings += 1,
                    Error::Witness(_) => {}
                    error => panic!("{error}"),
                }
                spared += 1;
            }
        });
    }
    eprintln!("{spared} nodes left out one at a time, {siblings} of them siblings of what is removed");
    assert!(siblings > 0);
}

#[test]
fn a_witness_is_the_proofs_of_alloy_trie() {
    let namespace = Namespace::accounts(SchemeKind::Ethereum);
    let mut nodes = 0;
    sequences("alloy", 60, |seed| {
        let mut world = World::new(namespace.clone(), seed);
        for _ in 0..world.rng.within(1, 15) {
            world.commit();
        }
        let mut asked = world.asked();
        asked.push(world.rng.pick(&world.all).clone());
        let witness = world.store.latest().unwrap().witness(&keys_of(&asked)).unwrap();
        let made: BTreeSet<Vec<u8>> = witness.nodes.iter().cloned().collect();
        assert_eq!(made.len(), witness.nodes.len());
        let expected = alloy(&namespace, &world.model.latest().spaces[0], &asked);
        assert_eq!(made, expected);
        nodes += made.len();
    });
    eprintln!("{nodes} nodes");
}

/// The nodes of the proofs of `asked`, by alloy-trie.
fn alloy(namespace: &Namespace, space: &Space, asked: &[Asked]) -> BTreeSet<Vec<u8>> {
    let mut by_account: BTreeMap<&Vec<u8>, Vec<B256>> = BTreeMap::new();
    for asked in asked {
        match asked {
            Asked::Account(address) => drop(by_account.entry(address).or_default()),
            Asked::Slot(address, slot) => by_account.entry(address).or_default().push(*slot),
            Asked::Flat(_) => {}
        }
    }
    let hashed = |key: &[u8]| Nibbles::unpack(trie_key(namespace, key));
    let mut leaves: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut nodes = BTreeSet::new();
    for (address, (account, slots)) in space.accounts() {
        let slots = sorted_slots(namespace, slots);
        let account = TrieAccount {
            nonce: account.nonce,
            balance: account.balance,
            storage_root: storage_root(namespace.scheme, &slots),
            code_hash: account.code_hash,
        };
        leaves.push((trie_key(namespace, address), alloy_rlp::encode(account)));
        let targets = by_account.get(address).into_iter().flatten().map(|slot| hashed(slot.as_slice()));
        let value = |value: &U256| alloy_rlp::encode(value);
        let slots: Vec<_> = slots.iter().map(|(key, slot)| (key.to_vec(), value(slot))).collect();
        nodes.extend(retained(&slots, targets.collect()));
    }
    leaves.sort();
    nodes.extend(retained(&leaves, by_account.keys().map(|address| hashed(address)).collect()));
    nodes
}

fn retained(leaves: &[(Vec<u8>, Vec<u8>)], targets: Vec<Nibbles>) -> Vec<Vec<u8>> {
    if leaves.is_empty() || targets.is_empty() {
        return Vec::new();
    }
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets));
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root();
    let nodes = builder.take_proof_nodes().into_nodes_sorted();
    // Embedded nodes, which alloy-trie lists too, stand in their parents.
    let hashed = nodes.into_iter().filter(|(path, node)| path.is_empty() || node.len() >= 32);
    hashed.map(|(_, node)| node.to_vec()).collect()
}

/// The store is asked for old versions as well, in the middle of a run too.
#[test]
fn any_kept_version_has_its_witness() {
    for namespace in namespaces() {
        sequences(&namespace.describe(), 4, |seed| {
            let mut world = World::new(namespace.clone(), seed);
            for _ in 0..8 {
                world.commit();
            }
            world.store.flush().unwrap();
            for version in world.model.versions() {
                let snapshot: Snapshot = world.store.at(version).unwrap();
                let asked = world.asked();
                let state = world.open(&snapshot.witness(&keys_of(&asked)).unwrap()).unwrap();
                let space = &world.model.at(version).spaces[0];
                for asked in &asked {
                    assert!(asked.holds(&state, space).unwrap(), "{asked:?} at {version}");
                }
            }
        });
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_errors_of_a_commit() {
    let namespace = Namespace::accounts(SchemeKind::Ethereum);
    let store = Config::small(vec![namespace.clone()]).options(SimVfs::new(0)).open("/store").unwrap();
    let mut genesis = Batch::new();
    genesis.set_account(b"a", &Default::default());
    store.commit(genesis).unwrap();
    let snapshot = store.latest().unwrap();
    let mut bad = Batch::new();
    bad.set_slot(b"b", B256::ZERO, U256::from(1));
    let asked = [Key::Account(b"b")];
    assert!(matches!(snapshot.witness_for(&asked, &bad), Err(Error::SlotWithoutAccount { .. })));
    let witness = snapshot.witness(&asked).unwrap();
    let mut state = Stateless::new(namespace.clone(), witness.root, &witness.nodes).unwrap();
    assert!(matches!(state.apply(&bad), Err(Error::SlotWithoutAccount { .. })));
    assert!(matches!(state.get(b"a"), Err(Error::WrongShape { .. })));
    let mut elsewhere = Batch::new();
    elsewhere.namespace("other").put(b"k", b"v");
    assert!(matches!(state.apply(&elsewhere), Err(Error::NoNamespace { .. })));
    let mut code = Batch::new();
    code.set_code(B256::ZERO, bristlecone::Bytes::from_static(b"code"));
    state.apply(&code).unwrap();
    assert_eq!(state.root().unwrap(), witness.root);
    // An empty trie needs no node, and shows that nothing is there.
    let empty = Stateless::new(namespace, alloy_trie::EMPTY_ROOT_HASH, &[] as &[&[u8]]).unwrap();
    assert_eq!(empty.account(b"a").unwrap(), None);
}
