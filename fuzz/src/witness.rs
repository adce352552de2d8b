//! Witnesses: bags of nodes from strangers, read and changed.

use bristlecone_trie::partial::{Bounds, Partial, PartialError};
use bristlecone_trie::proof::ProofScheme;
use bristlecone_trie::scheme::{blake3::Blake3, ethereum::Ethereum};
use bristlecone_trie::{Account, B256, Body, Change, Op, Shape};

use crate::bytes::Bytes;
use crate::naive::{Naive, Value};
use crate::proofs::{Map, edit, key, map, truth};

/// A witness with some edits tells the truth or fails; nodes as they come never panic, and what they show hangs together.
pub fn witness(data: &[u8]) {
    let mut bytes = Bytes(data);
    match bytes.byte() % 4 {
        0 => honest(&mut bytes),
        1 => arbitrary::<Ethereum>(Shape::Flat, &mut bytes),
        2 => arbitrary::<Ethereum>(Shape::Accounts, &mut bytes),
        _ => arbitrary::<Blake3>(Shape::Accounts, &mut bytes),
    }
}

/// Little, so that bags that fold out are refused soon.
const BOUNDS: Bounds = Bounds { nodes: 2_000, bytes: 1 << 20 };

/// The proofs of some keys, edited: what can be read is true, and the root after some changes is that of the changed map.
fn honest(bytes: &mut Bytes<'_>) {
    let mut map = map(bytes);
    let shown: Vec<Vec<u8>> = map.keys().filter(|_| !bytes.byte().is_multiple_of(4)).cloned().collect();
    let trie = Naive::new(&map);
    let root = trie.root::<Ethereum>();
    let mut nodes = trie.prove::<Ethereum>(&shown);
    // Sub-tries that are the same have the same nodes.
    let mut seen = std::collections::BTreeSet::new();
    nodes.retain(|node| seen.insert(node.clone()));
    let whole = nodes.clone();
    if bytes.byte().is_multiple_of(2) {
        edit(&mut nodes, bytes);
    }
    let Ok(mut partial) = Partial::new::<Ethereum>(Shape::Flat, root, &nodes, BOUNDS) else {
        assert!(nodes != whole || shown.is_empty(), "an honest witness is refused");
        return;
    };
    assert_eq!(partial.root::<Ethereum>(), Ok(root));
    for key in map.keys().chain([&key(bytes)]) {
        match partial.get(key) {
            Ok(value) => assert_eq!(value, truth(&map, key), "{key:02x?}"),
            Err(error) => assert!(matches!(error, PartialError::Blinded(_)), "{error}"),
        }
    }
    let changes = changes(&map, bytes);
    let ops: Vec<Op<'_>> = changes.iter().map(|(key, value)| op(key, value.as_deref())).collect();
    if partial.apply(&ops, 1).is_ok() {
        for (key, value) in changes {
            match value {
                Some(value) => drop(map.insert(key, Value::Raw(value))),
                None => drop(map.remove(&key)),
            }
        }
    }
    assert_eq!(partial.root::<Ethereum>(), Ok(Naive::new(&map).root::<Ethereum>()));
}

type Changes = std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Some puts and removals.
fn changes(map: &Map, bytes: &mut Bytes<'_>) -> Changes {
    let mut changes = Changes::new();
    for _ in 0..bytes.below(6) {
        let new = key(bytes);
        let old = map.keys().nth(bytes.below(map.len().max(1))).cloned();
        let fill = bytes.byte();
        let key = if fill.is_multiple_of(3) { new } else { old.unwrap_or(new) };
        changes.insert(key, (!fill.is_multiple_of(2)).then(|| vec![fill; 1 + usize::from(fill % 40)]));
    }
    changes
}

fn op<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> Op<'a> {
    Op { key, change: value.map_or(Change::Delete, Change::Put) }
}

/// Nodes as they come, under the root that fits the first.
fn arbitrary<S: ProofScheme>(shape: Shape, bytes: &mut Bytes<'_>) {
    let mut nodes = Vec::new();
    let count = bytes.below(64);
    while nodes.len() < count && !bytes.is_empty() {
        let len = bytes.below(600);
        nodes.push(bytes.take(len).to_vec());
    }
    let root = nodes.first().and_then(|node| S::hash(node).ok()).unwrap_or(S::empty_root());
    let Ok(mut partial) = Partial::new::<S>(shape, root, &nodes, BOUNDS) else { return };
    let before = partial.root::<S>();
    assert_eq!(before, Ok(root), "what was taken apart comes together to something else");
    let mut account = Vec::new();
    Account::default().encode(&mut account);
    for _ in 0..4 {
        let key = match shape {
            Shape::Flat => key(bytes),
            Shape::Accounts => {
                let len = if bytes.byte().is_multiple_of(2) { 32 } else { 64 };
                let mut key = bytes.take(len).to_vec();
                key.resize(len, 0);
                key
            }
        };
        let _ = partial.get(&key);
        let change = match (key.len() == 32 && shape == Shape::Accounts, bytes.byte() % 3) {
            (false, 0) => Change::Delete,
            (false, _) => Change::Put(&[7]),
            (true, 0) => Change::Account { body: Body::Delete, wipe: true },
            (true, 1) => Change::Account { body: Body::Keep, wipe: true },
            (true, _) => Change::Account { body: Body::Put(&account), wipe: false },
        };
        let before = partial.root::<S>().expect("the root of a trie that was accepted");
        match partial.apply(&[Op { key: &key, change }], 1) {
            Ok(()) => changed(&partial, &key, change, &account),
            Err(_) => assert_eq!(partial.root::<S>(), Ok(before), "something happened"),
        }
        partial.root::<S>().expect("the root of a trie that was changed");
    }
}

/// What was written is read.
fn changed(partial: &Partial, key: &[u8], change: Change<'_>, account: &[u8]) {
    let expected = match change {
        Change::Delete | Change::Account { body: Body::Delete, .. } => None,
        Change::Put(value) => Some(value.to_vec()),
        Change::Account { body: Body::Put(_), .. } => Some(account.to_vec()),
        Change::Account { body: Body::Keep, .. } => return,
    };
    assert_eq!(partial.get(key), Ok(expected));
}

/// Small tries with edits and changes; and nodes as they come.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut state = 11_u32;
    let mut byte = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut seeds: Vec<Vec<u8>> =
        (0..24_usize).map(|n| std::iter::once(0).chain((0..60 + n * 8).map(|_| byte())).collect()).collect();
    // A branch that holds itself would need a hash that names itself; one that holds the same leaf sixteen times needs none, and
    // folds out: four such levels are 65,536 leaves.
    let leaf = [&[0xf8, 0x44, 0xa0, 0x20][..], &[0; 31], &[0xa1], &[7; 33]].concat();
    let mut nodes = vec![leaf];
    for _ in 0..4 {
        let hash = Ethereum::hash(nodes.last().expect("a node")).expect("a hash");
        nodes.push(branch_of(hash));
    }
    nodes.reverse();
    for mode in [1, 2] {
        let mut seed = vec![mode, nodes.len() as u8];
        for node in &nodes {
            seed.extend_from_slice(&(node.len() as u16).to_le_bytes());
            seed.extend_from_slice(node);
        }
        seeds.push(seed);
    }
    seeds
}

fn branch_of(hash: B256) -> Vec<u8> {
    let mut node = vec![0xf9, 0x02, 0x11];
    for _ in 0..16 {
        node.push(0xa0);
        node.extend_from_slice(hash.as_slice());
    }
    node.push(0x80);
    node
}
