//! Nodes and proofs: what strangers send.

use std::collections::BTreeMap;

use bristlecone_trie::account::trim;
use bristlecone_trie::proof::node::{Branch, BranchValue, Child, Node, Place, ProofScheme, Value as Shown};
use bristlecone_trie::proof::{MultiProof, verify, verify_account, verify_many, verify_slot};
use bristlecone_trie::scheme::{LeafValue, blake3::Blake3, ethereum::Ethereum};
use bristlecone_trie::{B256, NodeRef, Path};

use crate::bytes::Bytes;
use crate::naive::{Naive, Value};

/// What decodes, encodes again to the same bytes; all forms of a branch have the same hash. The first byte selects the
/// scheme, the place and the kind of input.
pub fn node_codec(data: &[u8]) {
    let Some((&mode, bytes)) = data.split_first() else { return };
    let place = [Place::Root, Place::Hashed, Place::Embedded][usize::from(mode >> 4) % 3];
    match mode % 6 {
        0 => node::<Ethereum>(bytes, place),
        1 => node::<Blake3>(bytes, place),
        2 => value::<Ethereum>(&Shown::Untyped(bytes)),
        3 => value::<Blake3>(&Shown::Slot(bytes)),
        4 => value::<Blake3>(&Shown::Account(bytes)),
        _ => openings(bytes),
    }
}

fn node<S: ProofScheme>(bytes: &[u8], place: Place) {
    let Ok(node) = S::decode(bytes, place) else { return };
    S::hash(bytes).expect("what decodes can be hashed");
    let mut again = Vec::new();
    match node {
        Node::Leaf { path, value } => {
            let account;
            let value = match value {
                Shown::Untyped(value) | Shown::Raw(value) => LeafValue::Raw(value),
                Shown::Slot(value) => LeafValue::Slot(value),
                Shown::Account(_) => match S::account(&value) {
                    Ok((shown, root)) => {
                        account = shown;
                        LeafValue::Account(&account, root)
                    }
                    Err(_) => return,
                },
            };
            S::encode_leaf(path, value, &mut again);
        }
        Node::Extension { path, child } => {
            let child = reference(&child).expect("an extension has a child");
            S::encode_extension(path, &child, &mut again);
        }
        Node::Branch(Branch { children, value, .. }) => {
            if children.contains(&Child::Closed) || value == BranchValue::Digest {
                return;
            }
            let value = match value {
                BranchValue::Whole(value) => Some(value),
                BranchValue::Absent | BranchValue::Digest => None,
            };
            S::encode_branch(&children.map(|child| reference(&child)), value, &mut again);
        }
    }
    assert_eq!(again, bytes, "a second encoding of {node:?}", node = S::decode(bytes, place));
}

fn reference(child: &Child<'_>) -> Option<NodeRef> {
    match child {
        Child::Hash(hash) => Some(NodeRef::hash(B256::new(**hash))),
        Child::Embedded(bytes) => NodeRef::embedded(bytes),
        Child::Empty | Child::Closed => None,
    }
}

/// A value that is accepted as a slot or as an account is what the leaf of that slot or account shows.
fn value<S: ProofScheme>(shown: &Shown<'_>) {
    let empty = Path::whole(&[]);
    let mut leaf = Vec::new();
    if let Ok(slot) = S::slot(shown) {
        S::encode_leaf(empty, LeafValue::Slot(trim(&slot.to_be_bytes::<32>())), &mut leaf);
    } else if let Ok((account, root)) = S::account(shown) {
        S::encode_leaf(empty, LeafValue::Account(&account, root), &mut leaf);
    } else {
        return;
    }
    match S::decode(&leaf, Place::Root).expect("a leaf") {
        Node::Leaf { value, .. } => assert_eq!(value, *shown, "a second encoding"),
        node => panic!("{node:?}"),
    }
}

/// Every way to open a branch has its hash, and names the children that it opens.
fn openings(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let occupied = u16::from_le_bytes([bytes.byte(), bytes.byte()]);
    let opened = u16::from_le_bytes([bytes.byte(), bytes.byte()]);
    let ends = bytes.byte() % 2 == 0;
    let value = (bytes.byte() % 2 == 0).then_some(bytes.0);
    if occupied.count_ones() + u32::from(value.is_some()) < 2 || occupied == 0 {
        return;
    }
    let children =
        std::array::from_fn(|n| (occupied >> n & 1 == 1).then(|| NodeRef::hash(B256::repeat_byte(n as u8))));
    let (mut full, mut form) = (Vec::new(), Vec::new());
    <Blake3 as ProofScheme>::open_branch(&children, value, u16::MAX, true, &mut full);
    <Blake3 as ProofScheme>::open_branch(&children, value, opened, ends, &mut form);
    assert_eq!(Blake3::hash(&full), Blake3::hash(&form));
    let Ok(Node::Branch(branch)) = Blake3::decode(&form, Place::Root) else { panic!("a branch") };
    for (n, child) in branch.children.iter().enumerate() {
        let hash = [n as u8; 32];
        let expected = match (occupied >> n & 1, opened >> n & 1) {
            (0, _) => Child::Empty,
            (_, 0) => Child::Closed,
            _ => Child::Hash(&hash),
        };
        assert_eq!(*child, expected);
    }
}

/// A key that is there: its proof verifies, and nothing else does. Or nodes as they come.
pub fn inclusion_proof(data: &[u8]) {
    let mut bytes = Bytes(data);
    match bytes.byte() % 4 {
        0 => present::<Ethereum>(&mut bytes),
        1 => present::<Blake3>(&mut bytes),
        2 => arbitrary::<Ethereum>(&mut bytes),
        _ => arbitrary::<Blake3>(&mut bytes),
    }
}

/// A key that is not there, and many keys at once: as [`inclusion_proof`].
pub fn absence_proof(data: &[u8]) {
    let mut bytes = Bytes(data);
    match bytes.byte() % 4 {
        0 => absent::<Ethereum>(&mut bytes),
        1 => absent::<Blake3>(&mut bytes),
        2 => many::<Ethereum>(&mut bytes),
        _ => many::<Blake3>(&mut bytes),
    }
}

pub(crate) type Map = BTreeMap<Vec<u8>, Value>;

pub(crate) fn key(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let len = bytes.below(5);
    // Few different nibbles, so that keys share them.
    bytes.take(len).iter().map(|byte| byte & 0x77).collect()
}

pub(crate) fn map(bytes: &mut Bytes<'_>) -> Map {
    let count = bytes.below(16);
    (0..count)
        .map(|_| {
            let key = key(bytes);
            let len = 1 + bytes.below(40);
            let fill = bytes.byte();
            (key, Value::Raw(vec![fill; len]))
        })
        .collect()
}

pub(crate) fn truth(map: &Map, key: &[u8]) -> Option<Vec<u8>> {
    match map.get(key) {
        Some(Value::Raw(value)) => Some(value.clone()),
        _ => None,
    }
}

/// Applies edits until the input ends. May leave the nodes as they were.
pub(crate) fn edit(nodes: &mut Vec<Vec<u8>>, bytes: &mut Bytes<'_>) {
    for _ in 0..8 {
        if nodes.is_empty() || bytes.is_empty() {
            return;
        }
        let (what, at, other) = (bytes.byte(), bytes.below(nodes.len()), bytes.below(nodes.len()));
        let place = bytes.below(nodes[at].len() + 1);
        match what % 8 {
            0 => drop(nodes.remove(at)),
            1 => nodes.insert(other, nodes[at].clone()),
            2 => nodes.swap(at, other),
            3 => nodes[at].truncate(place),
            4 => nodes[at].insert(place, bytes.byte()),
            5 => nodes[at].extend_from_slice(bytes.take(4)),
            6 => {
                let piece = nodes[at].split_off(place);
                nodes.insert(at + 1, piece);
            }
            _ => {
                let flip = bytes.byte();
                if let Some(byte) = nodes[at].get_mut(place) {
                    *byte ^= flip;
                }
            }
        }
    }
}

/// The honest proof of `key` verifies; any other list of nodes does not; under another key nothing false does.
fn single<S: ProofScheme>(map: &Map, key: &[u8], bytes: &mut Bytes<'_>) {
    let trie = Naive::new(map);
    let root = trie.root::<S>();
    let honest = trie.prove::<S>(&[key.to_vec()]);
    assert_eq!(verify::<S>(root, key, &honest), Ok(truth(map, key)));
    let other = self::key(bytes);
    if let Ok(answer) = verify::<S>(root, &other, &honest) {
        assert_eq!(answer, truth(map, &other), "the proof of {key:02x?} for {other:02x?}");
    }
    let mut nodes = honest.clone();
    edit(&mut nodes, bytes);
    if nodes != honest {
        let answer = verify::<S>(root, key, &nodes);
        assert!(answer.is_err(), "{answer:?} from {nodes:02x?}");
    }
}

fn present<S: ProofScheme>(bytes: &mut Bytes<'_>) {
    let map = map(bytes);
    let chosen = bytes.below(map.len());
    if let Some(key) = map.keys().nth(chosen) {
        single::<S>(&map, &key.clone(), bytes);
    }
}

fn absent<S: ProofScheme>(bytes: &mut Bytes<'_>) {
    let mut map = map(bytes);
    let key = key(bytes);
    map.remove(&key);
    single::<S>(&map, &key, bytes);
}

fn many<S: ProofScheme>(bytes: &mut Bytes<'_>) {
    let map = map(bytes);
    let mut keys: Vec<Vec<u8>> = map.keys().filter(|_| bytes.byte().is_multiple_of(2)).cloned().collect();
    let more = bytes.below(4);
    keys.extend((0..more).map(|_| key(bytes)));
    let trie = Naive::new(&map);
    let root = trie.root::<S>();
    let honest = trie.prove::<S>(&keys);
    let truths: Vec<_> = keys.iter().map(|key| truth(&map, key)).collect();
    assert_eq!(verify_many::<S>(root, &keys, &MultiProof { nodes: honest.clone() }), Ok(truths));
    let mut nodes = honest.clone();
    edit(&mut nodes, bytes);
    if nodes != honest {
        let answer = verify_many::<S>(root, &keys, &MultiProof { nodes });
        assert!(answer.is_err(), "{answer:?}");
    }
}

/// Nodes as they come, under the root that fits the first: whatever the answer, it comes without a panic, and is the
/// same for one key and for that key among many.
fn arbitrary<S: ProofScheme>(bytes: &mut Bytes<'_>) {
    let key = key(bytes);
    let mut nodes = Vec::new();
    while !bytes.is_empty() && nodes.len() < 16 {
        let len = bytes.below(600);
        nodes.push(bytes.take(len).to_vec());
    }
    let root = nodes.first().and_then(|node| S::hash(node).ok()).unwrap_or(S::empty_root());
    let one = verify::<S>(root, &key, &nodes);
    let proof = MultiProof { nodes };
    assert_eq!(
        verify_many::<S>(root, std::slice::from_ref(&key), &proof).map(|mut all| all.pop().flatten()),
        one
    );
    let _ = verify_slot::<S>(root, &key, &proof.nodes);
    let _ = verify_account::<S>(root, &key, &proof.nodes);
}
