//! Random batches against a map, with roots against alloy-trie or a naive recursion.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

#[cfg(test)]
mod memory;

use std::collections::BTreeMap;

use alloy_primitives::{B256, U256, keccak256};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount};
use bristlecone_trie::path::nibble;
use bristlecone_trie::scheme::LeafValue;
use bristlecone_trie::scheme::blake3::Blake3;
use bristlecone_trie::scheme::ethereum::Ethereum;
use bristlecone_trie::update::{self, Arena, UpdateError};
use bristlecone_trie::{Account, Body, Change, Find, Item, NodeRef, Op, Path, Scheme, Shape};
use memory::Memory;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

impl Memory {
    fn get(&self, root: Option<u64>, key: &[u8]) -> Option<(u64, Vec<u8>)> {
        let mut reference = root?;
        loop {
            let (_, page) = self.open(reference, None).unwrap();
            match page.find(key) {
                Find::Absent(_) => return None,
                Find::Into(at) => {
                    let Item::Child { reference: child } = page.entry(at).item else { panic!("not a child") };
                    reference = child;
                }
                Find::Here(at) => match page.entry(at).item {
                    Item::Leaf { stamp, value } => return Some((stamp, value.to_vec())),
                    Item::Account { stamp, body, .. } => return Some((stamp, body.to_vec())),
                    other => panic!("{other:?}"),
                },
            }
        }
    }

    /// Checks the form of every page and counts entries.
    fn check(&self, reference: u64, stem: usize) -> usize {
        let (_, page) = self.open(reference, None).unwrap();
        assert_eq!(page.depth(), stem);
        let children = page.entries().filter(|entry| entry.is_child()).count();
        assert!(
            children > 0 || page.len() <= update::LEAF_ENTRIES || page.bytes().len() > update::LEAF_BYTES
        );
        assert!(page.len() <= update::UPPER_ENTRIES, "{} entries", page.len());
        let mut leaves = page.len() - children;
        for entry in page.entries() {
            if let Item::Child { reference } = entry.item {
                leaves += self.check(reference, entry.end);
            }
        }
        leaves
    }
}

/// A trie without pages, straight from the definition: the oracle for keys that alloy's builder does not take.
fn naive<S: Scheme>(items: &[(Vec<u8>, Vec<u8>)], from: usize, root: bool) -> Option<NodeRef> {
    let mut out = Vec::new();
    match items {
        [] => return None,
        [(key, value)] => {
            S::encode_leaf(Path::range(key, from, usize::MAX), LeafValue::Raw(value), &mut out);
        }
        [(first, _), .., (last, _)] => {
            let depth = bristlecone_trie::path::common_prefix(first, last, 0, usize::MAX);
            if depth > from {
                let child = naive::<S>(items, depth, false).unwrap();
                S::encode_extension(Path::range(first, from, depth), &child, &mut out);
            } else {
                let (value, rest) = if first.len() * 2 == depth {
                    (Some(&items[0].1[..]), &items[1..])
                } else {
                    (None, items)
                };
                let mut children = [None; 16];
                for (at, child) in children.iter_mut().enumerate() {
                    let part: Vec<_> =
                        rest.iter().filter(|(k, _)| usize::from(nibble(k, depth)) == at).cloned().collect();
                    *child = naive::<S>(&part, depth + 1, false);
                }
                S::encode_branch(&children, value, &mut out);
            }
        }
    }
    Some(S::reference(&out, root))
}

fn naive_root<S: Scheme>(model: &BTreeMap<Vec<u8>, (u64, Vec<u8>)>) -> B256 {
    let items: Vec<_> = model.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect();
    naive::<S>(&items, 0, true).map_or(S::empty_root(), |node| node.as_hash().unwrap())
}

fn alloy_root<'a>(items: impl Iterator<Item = (&'a [u8], Vec<u8>)>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in items {
        builder.add_leaf(Nibbles::unpack(key), &value);
    }
    builder.root()
}

type Keys = fn(&mut StdRng) -> Vec<u8>;

fn spread_keys(rng: &mut StdRng) -> Vec<u8> {
    rng.random::<[u8; 32]>().to_vec()
}

/// 32 bytes, few of which vary: deep shared paths.
fn deep_keys(rng: &mut StdRng) -> Vec<u8> {
    let mut key = vec![0x11; 32];
    for at in [0, 5, 6, 20, 31] {
        if rng.random_bool(0.6) {
            key[at] = [0x11, 0x12, 0x21, 0xf1][rng.random_range(0..4)];
        }
    }
    key[rng.random_range(0..32)] ^= rng.random_range(0..3);
    key
}

fn uneven_keys(rng: &mut StdRng) -> Vec<u8> {
    let len = rng.random_range(0..6);
    (0..len).map(|_| [0, 1, 0x10, 0x7f][rng.random_range(0..4)]).collect()
}

fn flat<S: Scheme>(seed: u64, keys: Keys, rounds: usize, batch: usize, root_every: usize) {
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let memory = Memory::default();
    let mut model: BTreeMap<Vec<u8>, (u64, Vec<u8>)> = BTreeMap::new();
    let mut root = None;
    for stamp in 1..=rounds as u64 {
        let shrinking = rng.random_bool(0.25);
        let mut changes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for _ in 0..rng.random_range(1..=batch) {
            let known = !model.is_empty() && rng.random_bool(if shrinking { 0.95 } else { 0.4 });
            let key = if known {
                model.keys().nth(rng.random_range(0..model.len())).unwrap().clone()
            } else {
                keys(&mut rng)
            };
            let put = rng.random_bool(if shrinking { 0.1 } else { 0.8 });
            let value = vec![rng.random::<u8>() | 1; rng.random_range(1..40)];
            changes.insert(key, put.then_some(value));
        }
        let ops: Vec<Op<'_>> = changes
            .iter()
            .map(|(key, value)| Op { key, change: value.as_ref().map_or(Change::Delete, |v| Change::Put(v)) })
            .collect();
        let updated = update::update(&memory, Shape::Flat, root, &ops, stamp).unwrap();
        root = updated.root;
        let mut changed = 0;
        for (key, value) in &changes {
            match value {
                Some(value) if model.get(key).is_some_and(|(_, old)| old == value) => {}
                Some(value) => {
                    changed += 1;
                    model.insert(key.clone(), (stamp, value.clone()));
                }
                None => changed += u64::from(model.remove(key).is_some()),
            }
        }
        assert_eq!(updated.changed, changed);
        for key in model.keys().chain(changes.keys()) {
            assert_eq!(memory.get(root, key), model.get(key).cloned(), "{key:?}");
        }
        if let Some(root) = root {
            assert_eq!(memory.check(root, 0), model.len());
        }
        if stamp.is_multiple_of(root_every as u64) || stamp as usize == rounds {
            let got = memory.root::<S>(Shape::Flat, root);
            assert_eq!(got, naive_root::<S>(&model), "stamp {stamp}");
        }
    }
}

#[test]
fn flat_tries_equal_a_map_and_a_naive_root() {
    let seed: u64 = rand::random();
    for (index, keys) in [spread_keys as Keys, deep_keys, uneven_keys].into_iter().enumerate() {
        for (batch, root_every) in [(4, 1), (60, 1), (400, 1), (30, 5)] {
            flat::<Ethereum>(seed + index as u64, keys, 30, batch, root_every);
            flat::<Blake3>(seed + 100 + index as u64, keys, 30, batch, root_every);
        }
    }
}

#[test]
fn a_large_trie_has_the_root_that_alloy_computes() {
    let mut rng = StdRng::seed_from_u64(7);
    let memory = Memory::default();
    let mut model = BTreeMap::new();
    let mut root = None;
    for stamp in 1..=8u64 {
        let batch: BTreeMap<Vec<u8>, Vec<u8>> =
            (0..4_000).map(|_| (spread_keys(&mut rng), rng.random::<[u8; 32]>().to_vec())).collect();
        let ops: Vec<Op<'_>> =
            batch.iter().map(|(key, value)| Op { key, change: Change::Put(value) }).collect();
        root = update::update(&memory, Shape::Flat, root, &ops, stamp).unwrap().root;
        model.extend(batch);
        let expected = alloy_root(model.iter().map(|(key, value)| (&key[..], value.clone())));
        assert_eq!(memory.root::<Ethereum>(Shape::Flat, root), expected, "stamp {stamp}");
    }
    memory.check(root.unwrap(), 0);
}

#[derive(Clone, Default)]
struct Entry {
    account: Account,
    storage: BTreeMap<B256, U256>,
}

fn accounts_root(model: &BTreeMap<B256, Entry>) -> B256 {
    alloy_root(model.iter().map(|(key, entry)| {
        let storage_root =
            alloy_root(entry.storage.iter().map(|(slot, value)| (&slot[..], alloy_rlp::encode(value))));
        let account = TrieAccount {
            nonce: entry.account.nonce,
            balance: entry.account.balance,
            storage_root,
            code_hash: entry.account.code_hash,
        };
        (&key[..], alloy_rlp::encode(account))
    }))
}

struct AccountBatch {
    accounts: BTreeMap<B256, (Option<Option<Account>>, bool)>,
    slots: BTreeMap<(B256, B256), U256>,
}

fn account_batch(rng: &mut StdRng, model: &BTreeMap<B256, Entry>, size: usize, people: u64) -> AccountBatch {
    let mut batch = AccountBatch { accounts: BTreeMap::new(), slots: BTreeMap::new() };
    for _ in 0..rng.random_range(1..=size) {
        let key = keccak256(rng.random_range(0..people).to_be_bytes());
        let exists = model.contains_key(&key);
        let account = Account {
            nonce: rng.random_range(0..3),
            balance: U256::from(rng.random::<u32>()),
            code_hash: if rng.random_bool(0.2) { B256::repeat_byte(3) } else { Account::default().code_hash },
        };
        let body = match rng.random_range(0..10) {
            0 | 1 if exists => Some(None),
            0..=5 => Some(Some(account)),
            _ => None,
        };
        let wipe = rng.random_bool(0.1);
        let slots = if rng.random_bool(0.1) { 60 } else { 4 };
        if (exists || matches!(body, Some(Some(_)))) && !matches!(body, Some(None)) {
            for _ in 0..rng.random_range(0..=slots) {
                let slot = keccak256(rng.random_range(0..80u64).to_be_bytes());
                let zero = rng.random_bool(0.3);
                batch.slots.insert((key, slot), U256::from(if zero { 0 } else { rng.random::<u64>() }));
            }
        } else {
            batch.slots.retain(|(account, _), _| *account != key);
        }
        batch.accounts.insert(key, (body, wipe));
    }
    batch.slots.retain(|(account, _), _| !matches!(batch.accounts[account].0, Some(None)));
    batch
}

fn apply_to_model(model: &mut BTreeMap<B256, Entry>, batch: &AccountBatch) {
    for (key, (body, wipe)) in &batch.accounts {
        match body {
            Some(None) => {
                model.remove(key);
                continue;
            }
            Some(Some(account)) => model.entry(*key).or_default().account = *account,
            None => {}
        }
        if *wipe && let Some(entry) = model.get_mut(key) {
            entry.storage.clear();
        }
    }
    for ((account, slot), value) in &batch.slots {
        if let Some(entry) = model.get_mut(account) {
            if value.is_zero() {
                entry.storage.remove(slot);
            } else {
                entry.storage.insert(*slot, *value);
            }
        }
    }
}

/// A key, its value or body, and for an account what becomes of the body (kept, set, removed) and of the storage.
type OwnedOp = (Vec<u8>, Option<Vec<u8>>, Option<(u8, bool)>);

fn to_ops(batch: &AccountBatch) -> Vec<OwnedOp> {
    let mut ops = Vec::new();
    for (key, (body, wipe)) in &batch.accounts {
        let (kind, bytes) = match body {
            None => (0, None),
            Some(None) => (2, None),
            Some(Some(account)) => {
                let mut out = Vec::new();
                account.encode(&mut out);
                (1, Some(out))
            }
        };
        ops.push((key.to_vec(), bytes, Some((kind, *wipe))));
    }
    for ((account, slot), value) in &batch.slots {
        let key = [account.as_slice(), slot.as_slice()].concat();
        ops.push((key, (!value.is_zero()).then(|| value.to_be_bytes_trimmed_vec()), None));
    }
    ops.sort();
    ops
}

#[test]
fn account_tries_equal_a_map_and_the_root_that_alloy_computes() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    for (round, (people, size, root_every)) in
        [(3, 3, 1), (40, 10, 1), (2_000, 300, 1), (300, 60, 4), (12, 6, 3)].into_iter().enumerate()
    {
        let mut rng = StdRng::seed_from_u64(seed + round as u64);
        let memory = Memory::default();
        let mut model: BTreeMap<B256, Entry> = BTreeMap::new();
        let mut root = None;
        for stamp in 1..=40u64 {
            let batch = account_batch(&mut rng, &model, size, people);
            apply_to_model(&mut model, &batch);
            let owned = to_ops(&batch);
            let ops: Vec<Op<'_>> = owned
                .iter()
                .map(|(key, value, account)| Op {
                    key,
                    change: match (account, value) {
                        (Some((kind, wipe)), value) => Change::Account {
                            body: match kind {
                                0 => Body::Keep,
                                1 => Body::Put(value.as_ref().unwrap()),
                                _ => Body::Delete,
                            },
                            wipe: *wipe,
                        },
                        (None, Some(value)) => Change::Put(value),
                        (None, None) => Change::Delete,
                    },
                })
                .collect();
            root = update::update(&memory, Shape::Accounts, root, &ops, stamp).unwrap().root;
            let mut leaves = 0;
            for (key, entry) in &model {
                let (_, body) = memory.get(root, &key[..]).expect("account is there");
                assert_eq!(Account::decode(&body), Some(entry.account));
                leaves += 1 + entry.storage.len();
                for (slot, value) in &entry.storage {
                    let found = memory.get(root, &[key.as_slice(), slot.as_slice()].concat());
                    assert_eq!(found.map(|(_, v)| U256::from_be_slice(&v)), Some(*value));
                }
            }
            if let Some(root) = root {
                assert_eq!(memory.check(root, 0), leaves);
            }
            if stamp % root_every == 0 {
                assert_eq!(
                    memory.root::<Ethereum>(Shape::Accounts, root),
                    accounts_root(&model),
                    "stamp {stamp}"
                );
            }
        }
    }
}

#[test]
fn a_slot_of_an_absent_account_is_refused() {
    let memory = Memory::default();
    let ops = [Op { key: &[1; 64], change: Change::Put(&[1]) }];
    let error = update::update(&memory, Shape::Accounts, None, &ops, 1).unwrap_err();
    assert_eq!(error, UpdateError::SlotWithoutAccount(0));
}
