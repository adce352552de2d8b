//! Proofs and witnesses out of pages: node for node those of a naive trie, and what they say is what the map says.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "helpers of tests")]

#[cfg(test)]
mod memory;
#[cfg(test)]
mod naive;

use std::collections::BTreeMap;

use bristlecone_trie::levels::HashError;
use bristlecone_trie::partial::Bounds;
use bristlecone_trie::proof::{
    ProofScheme, Proved, ProvedMany, prove, prove_account, prove_many, verify, verify_account, verify_many,
    verify_slot,
};
use bristlecone_trie::scheme::{blake3::Blake3, ethereum::Ethereum};
use bristlecone_trie::witness::witness;
use bristlecone_trie::{Account, B256, Body, Change, NodeRef, Op, Partial, Scheme, Shape, U256, update};
use memory::Memory;
use naive::{Naive, Value};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

fn rng(name: &str) -> StdRng {
    let seed = std::env::var("BRISTLECONE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_127);
    println!("{name}: BRISTLECONE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Keys that share prefixes and end inside each other, or are spread.
fn key(rng: &mut StdRng, kind: u64) -> Vec<u8> {
    let narrow = |rng: &mut StdRng| [0x00, 0x01, 0x10, 0x11, 0x7f][rng.random_range(0..5)];
    match kind % 3 {
        0 => (0..rng.random_range(0..6)).map(|_| narrow(rng)).collect(),
        1 => [vec![narrow(rng); 20], vec![narrow(rng), narrow(rng), rng.random()]].concat(),
        _ => (0..4).map(|_| rng.random()).collect(),
    }
}

/// A trie of pages over a map.
struct Flat {
    memory: Memory,
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    root: Option<u64>,
}

impl Flat {
    fn random(rng: &mut StdRng, kind: u64, size: usize) -> Self {
        let mut flat = Self { memory: Memory::default(), map: BTreeMap::new(), root: None };
        for stamp in 1..=rng.random_range(1..4) {
            let batch = flat.changes(rng, kind, size);
            flat.apply(&batch, stamp);
        }
        flat
    }

    /// Puts and removals.
    fn changes(&self, rng: &mut StdRng, kind: u64, size: usize) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let mut batch = BTreeMap::new();
        for _ in 0..rng.random_range(0..=size) {
            let len = [1, 2, 8, 32, 40][rng.random_range(0..5)];
            let value: Vec<u8> = (0..len).map(|_| rng.random()).collect();
            batch.insert(key(rng, kind), Some(value));
        }
        for there in self.map.keys() {
            if rng.random_bool(0.1) {
                batch.insert(there.clone(), None);
            }
        }
        batch
    }

    fn apply(&mut self, batch: &BTreeMap<Vec<u8>, Option<Vec<u8>>>, stamp: u64) {
        let updated = update::update(&self.memory, Shape::Flat, self.root, &ops(batch), stamp).unwrap();
        self.root = updated.root;
        for (key, value) in batch {
            match value {
                Some(value) => drop(self.map.insert(key.clone(), value.clone())),
                None => drop(self.map.remove(key)),
            }
        }
    }

    fn naive(&self) -> Naive {
        Naive::new(&self.map.iter().map(|(key, value)| (key.clone(), Value::Raw(value.clone()))).collect())
    }

    /// Keys that are there, and some that are not.
    fn keys(&self, rng: &mut StdRng, kind: u64) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = self.map.keys().cloned().collect();
        keys.extend((0..8).map(|_| key(rng, kind)));
        keys.extend((0..4).map(|_| key(rng, kind + 1)));
        keys.shuffle(rng);
        keys
    }
}

fn ops(batch: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Vec<Op<'_>> {
    let change = |value| Option::map_or(value, Change::Delete, |value: &Vec<u8>| Change::Put(value));
    batch.iter().map(|(key, value)| Op { key, change: change(value.as_ref()) }).collect()
}

fn flat_proofs_are_those_of_a_naive_trie<S: ProofScheme>() {
    let mut rng = rng(S::NAME);
    for round in 0..90 {
        let size = [3, 30, 400][rng.random_range(0..3)];
        let flat = Flat::random(&mut rng, round, size);
        let (naive, root) = (flat.naive(), flat.memory.root::<S>(Shape::Flat, flat.root));
        assert_eq!(root, naive.root::<S>());
        let mut keys = flat.keys(&mut rng, round);
        for key in keys.iter().take(60) {
            let proved = prove::<S>(&flat.memory, Shape::Flat, flat.root, key).unwrap();
            let expected = Proved {
                value: flat.map.get(key).cloned(),
                nodes: naive.prove::<S>(std::slice::from_ref(key)),
            };
            assert_eq!(proved, expected, "round {round}, key {key:02x?}");
            assert_eq!(verify::<S>(root, key, &proved.nodes), Ok(proved.value));
        }
        keys.truncate(rng.random_range(0..30));
        let some: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let ProvedMany { values, proof } =
            prove_many::<S>(&flat.memory, Shape::Flat, flat.root, &some).unwrap();
        assert_eq!(values, keys.iter().map(|key| flat.map.get(key).cloned()).collect::<Vec<_>>());
        assert_eq!(proof.nodes, naive.prove::<S>(&keys), "round {round}");
        assert_eq!(verify_many::<S>(root, &some, &proof), Ok(values));
    }
}

#[test]
fn flat_proofs_are_those_of_a_naive_trie_ethereum() {
    flat_proofs_are_those_of_a_naive_trie::<Ethereum>();
}

#[test]
fn flat_proofs_are_those_of_a_naive_trie_blake3() {
    flat_proofs_are_those_of_a_naive_trie::<Blake3>();
}

#[test]
fn a_root_that_is_shorter_than_a_hash_is_a_node_of_the_proof() {
    // An extension over a branch with two leaves in itself: 24 bytes.
    let batch = [(vec![0x11], Some(vec![1])), (vec![0x12], Some(vec![2]))].into_iter().collect();
    let mut flat = Flat { memory: Memory::default(), map: BTreeMap::new(), root: None };
    flat.apply(&batch, 1);
    let root = flat.memory.root::<Ethereum>(Shape::Flat, flat.root);
    for key in [[0x11], [0x12], [0x13], [0x21]] {
        let proved = prove::<Ethereum>(&flat.memory, Shape::Flat, flat.root, &key).unwrap();
        assert_eq!(proved.nodes.iter().map(Vec::len).collect::<Vec<_>>(), [24]);
        assert_eq!(verify::<Ethereum>(root, &key, &proved.nodes), Ok(flat.map.get(&key[..]).cloned()));
    }
}

/// Reads keys and applies changes on nothing but the witness for them.
fn a_witness_is_enough<S: ProofScheme>() {
    let mut rng = rng(S::NAME);
    for round in 0..60 {
        let mut flat = Flat::random(&mut rng, round, [3, 60][round as usize % 2]);
        let root = flat.memory.root::<S>(Shape::Flat, flat.root);
        let mut keys = flat.keys(&mut rng, round);
        keys.truncate(10);
        let some: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let batch = flat.changes(&mut rng, round, 6);
        let nodes = witness::<S>(&flat.memory, Shape::Flat, flat.root, &some, &ops(&batch)).unwrap();
        assert_eq!(nodes.is_empty(), flat.root.is_none());
        let mut partial = Partial::new::<S>(Shape::Flat, root, &nodes, Bounds::default()).unwrap();
        for key in &keys {
            assert_eq!(partial.get(key), Ok(flat.map.get(key).cloned()), "round {round}");
        }
        partial.apply(&ops(&batch), 9).unwrap();
        flat.apply(&batch, 9);
        assert_eq!(
            partial.root::<S>().unwrap(),
            flat.memory.root::<S>(Shape::Flat, flat.root),
            "round {round}"
        );
    }
}

#[test]
fn a_witness_is_enough_ethereum() {
    a_witness_is_enough::<Ethereum>();
}

#[test]
fn a_witness_is_enough_blake3() {
    a_witness_is_enough::<Blake3>();
}

/// The nodes of a trie of accounts that a witness for `keys` has, in order.
fn shown(memory: &Memory, page: Option<u64>, keys: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut nodes = witness::<Ethereum>(memory, Shape::Accounts, page, keys, &[]).unwrap();
    nodes.sort();
    nodes
}

#[test]
fn a_witness_has_the_nodes_on_the_ways_and_accounts_that_part_at_their_ends() {
    let mut rng = rng("accounts");
    let mut all: Vec<B256> = (0..40).map(|_| rng.random::<[u8; 32]>().into()).collect();
    // Two that share all but their last nibble, and two that share all but the one before.
    let near = |of: &B256, flip: u8| {
        let mut other = *of;
        other.0[31] ^= flip;
        other
    };
    all.extend([near(&all[0], 0x01), near(&all[1], 0x10)]);
    let account = |address: &B256| Account { nonce: u64::from(address.0[31]) + 1, ..Account::default() };
    let body = |address: &B256| {
        let mut body = Vec::new();
        account(address).encode(&mut body);
        body
    };
    let sorted: BTreeMap<B256, Vec<u8>> = all.iter().map(|address| (*address, body(address))).collect();
    let change = |body| Change::Account { body: Body::Put(body), wipe: false };
    // One has slots.
    let slots: BTreeMap<Vec<u8>, Value> =
        (0..50).map(|_| (rng.random::<[u8; 32]>().to_vec(), Value::Slot(vec![7; 3]))).collect();
    let storage = Naive::new(&slots);
    let in_trie = |slot: &[u8]| [&all[2][..], slot].concat();
    let slot_keys: Vec<Vec<u8>> = slots.keys().map(|slot| in_trie(slot)).collect();
    let mut ops: Vec<Op<'_>> =
        sorted.iter().map(|(key, body)| Op { key: &key[..], change: change(body) }).collect();
    ops.extend(slot_keys.iter().map(|key| Op { key, change: Change::Put(&[7; 3]) }));
    ops.sort_by_key(|op| op.key);
    let memory = Memory::default();
    let page = update::update(&memory, Shape::Accounts, None, &ops, 1).unwrap().root;
    let root = memory.root::<Ethereum>(Shape::Accounts, page);
    let leaf = |address: &B256| {
        let root = if *address == all[2] { storage.root::<Ethereum>() } else { Ethereum::empty_root() };
        Value::Account(account(address), root)
    };
    let naive = Naive::new(&all.iter().map(|address| (address.to_vec(), leaf(address))).collect());
    assert_eq!(root, naive.root::<Ethereum>());
    let proven = |keys: &[B256]| {
        let mut nodes = naive.prove::<Ethereum>(&keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>());
        nodes.sort();
        nodes
    };
    for (index, key) in all.iter().enumerate() {
        let expected = match index {
            // Their leaves tell nothing of their keys: a partial trie reads the branch above as a whole.
            0 | 40 => proven(&[all[0], all[40]]),
            _ => proven(&[*key]),
        };
        let nodes = shown(&memory, page, &[&key[..]]);
        assert_eq!(nodes, expected, "account {index}");
        let partial = Partial::new::<Ethereum>(Shape::Accounts, root, &nodes, Bounds::default()).unwrap();
        assert_eq!(partial.get(&key[..]), Ok(Some(body(key))));
    }
    let absent = B256::from(rng.random::<[u8; 32]>());
    assert_eq!(shown(&memory, page, &[&absent[..]]), proven(&[absent]));
    assert_eq!(shown(&memory, page, &[&all[2][..], &all[3][..]]), proven(&all[2..4]));
    for slot in slots.keys().take(9).cloned().chain([vec![0x77; 32]]) {
        let mut expected = proven(&[all[2]]);
        expected.extend(storage.prove::<Ethereum>(std::slice::from_ref(&slot)));
        expected.sort();
        let nodes = shown(&memory, page, &[&in_trie(&slot)]);
        assert_eq!(nodes, expected);
        let partial = Partial::new::<Ethereum>(Shape::Accounts, root, &nodes, Bounds::default()).unwrap();
        let value = slots.contains_key(&slot).then(|| vec![7; 3]);
        assert_eq!(partial.get(&in_trie(&slot)), Ok(value));
    }
}

fn account_proofs_are_those_of_naive_tries<S: ProofScheme>() {
    let mut rng = rng(S::NAME);
    for round in 0..30 {
        let memory = Memory::default();
        let people = [1u64, 5, 300][round % 3];
        let mut accounts: BTreeMap<B256, (Account, BTreeMap<B256, Vec<u8>>)> = BTreeMap::new();
        for _ in 0..people {
            let slots = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..[4, 200][round % 2]) };
            let slot =
                |rng: &mut StdRng| (rng.random::<[u8; 32]>().into(), vec![rng.random_range(1..=255u8); 3]);
            let slots: BTreeMap<B256, Vec<u8>> = (0..slots).map(|_| slot(&mut rng)).collect();
            let account = Account {
                nonce: rng.random(),
                balance: U256::from(rng.random::<u64>()),
                ..Account::default()
            };
            accounts.insert(rng.random::<[u8; 32]>().into(), (account, slots));
        }
        let mut bodies = Vec::new();
        for (address, (account, slots)) in &accounts {
            let mut body = Vec::new();
            account.encode(&mut body);
            bodies.push((address.to_vec(), body, true));
            bodies.extend(
                slots
                    .iter()
                    .map(|(slot, value)| ([address.as_slice(), &slot[..]].concat(), value.clone(), false)),
            );
        }
        let change = |value, is_account| match is_account {
            true => Change::Account { body: Body::Put(value), wipe: false },
            false => Change::Put(value),
        };
        let ops: Vec<Op<'_>> = bodies
            .iter()
            .map(|(key, value, is_account)| Op { key, change: change(value, *is_account) })
            .collect();
        let page = update::update(&memory, Shape::Accounts, None, &ops, 1).unwrap().root;
        let root = memory.root::<S>(Shape::Accounts, page);
        let storage = |slots: &BTreeMap<B256, Vec<u8>>| {
            Naive::new(
                &slots.iter().map(|(slot, value)| (slot.to_vec(), Value::Slot(value.clone()))).collect(),
            )
        };
        let leaf = |(account, slots): &(Account, _)| Value::Account(*account, storage(slots).root::<S>());
        let naive = Naive::new(&accounts.iter().map(|(address, of)| (address.to_vec(), leaf(of))).collect());
        assert_eq!(root, naive.root::<S>());
        let absent = B256::from(rng.random::<[u8; 32]>());
        for address in accounts.keys().take(40).chain([&absent]) {
            let none = (Account::default(), BTreeMap::new());
            let (account, slots) = accounts.get(address).unwrap_or(&none);
            let mut asked: Vec<B256> = slots.keys().copied().take(12).collect();
            asked.push(rng.random::<[u8; 32]>().into());
            let proved = prove_account::<S>(&memory, page, &address[..], &asked).unwrap();
            assert_eq!(proved.account.nodes, naive.prove::<S>(&[address.to_vec()]), "round {round}");
            assert_eq!(proved.account.value.is_some(), *address != absent);
            let of = storage(slots);
            assert_eq!(proved.storage_root, of.root::<S>());
            let found = verify_account::<S>(root, &address[..], &proved.account.nodes).unwrap();
            assert_eq!(found, (*address != absent).then_some((*account, proved.storage_root)));
            assert_eq!(proved.slots.len(), asked.len());
            for (slot, proved_slot) in asked.iter().zip(&proved.slots) {
                let expected =
                    Proved { value: slots.get(slot).cloned(), nodes: of.prove::<S>(&[slot.to_vec()]) };
                assert_eq!(*proved_slot, expected, "round {round}");
                let number = slots.get(slot).map(|value| U256::from_be_slice(value));
                assert_eq!(verify_slot::<S>(proved.storage_root, &slot[..], &proved_slot.nodes), Ok(number));
            }
        }
    }
}

#[test]
fn account_proofs_are_those_of_naive_tries_ethereum() {
    account_proofs_are_those_of_naive_tries::<Ethereum>();
}

#[test]
fn account_proofs_are_those_of_naive_tries_blake3() {
    account_proofs_are_those_of_naive_tries::<Blake3>();
}

#[test]
fn a_page_that_is_missing_or_is_not_what_its_parent_says_is_an_error() {
    let mut rng = rng("pages");
    let mut flat = Flat { memory: Memory::default(), map: BTreeMap::new(), root: None };
    let batch = (0..2_000).map(|_| (rng.random::<[u8; 4]>().to_vec(), Some(vec![7; 33]))).collect();
    flat.apply(&batch, 1);
    flat.memory.root::<Ethereum>(Shape::Flat, flat.root);
    let root = flat.root.unwrap();
    let (key, _) = flat.map.first_key_value().unwrap();
    let answer = || prove::<Ethereum>(&flat.memory, Shape::Flat, flat.root, key).map(|_| ());
    assert_eq!(answer(), Ok(()));
    // What the root page refers to is the way of some key; all of them in turn, so that it is the way of this one too.
    let below: Vec<u64> = flat.memory.refs.borrow().keys().copied().filter(|page| *page != root).collect();
    assert!(below.len() > 3);
    let mut met = 0;
    for page in below {
        let refs = flat.memory.refs.borrow_mut().remove(&page).unwrap();
        let without = answer();
        let mut other = refs.to_vec();
        *other.last_mut().unwrap() = NodeRef::hash(B256::repeat_byte(9));
        flat.memory.refs.borrow_mut().insert(page, Box::leak(other.into()));
        let wrong = answer();
        flat.memory.refs.borrow_mut().insert(page, refs);
        match without {
            Ok(()) => assert_eq!(wrong, Ok(())),
            Err(error) => {
                assert_eq!((error, wrong), (HashError::MissingPage(page), Err(HashError::Mismatch(page))));
                met += 1;
            }
        }
    }
    assert!(met > 0);
    assert_eq!(
        prove::<Ethereum>(&flat.memory, Shape::Flat, Some(u64::MAX), key),
        Err(HashError::MissingPage(u64::MAX))
    );
}
