//! Witnesses from strangers: what is wrong with them is said, one test for each way to be wrong; and what a partial trie does at the
//! edges of what it knows.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests"
)]

#[cfg(test)]
mod naive;

use std::collections::BTreeMap;

use bristlecone_trie::partial::{Bounds, NodePath};
use bristlecone_trie::proof::{Flaw, MAX_NODE_BYTES, ProofScheme};
use bristlecone_trie::scheme::{LeafValue, blake3::Blake3, ethereum::Ethereum};
use bristlecone_trie::update::UpdateError;
use bristlecone_trie::{
    Account, B256, Body, Change, NodeRef, Op, Partial, PartialError, Path, Scheme, Shape,
};
use naive::{Naive, Value};

type Opened = Result<Partial, PartialError>;

/// The witness under the hash of its first node.
fn open(shape: Shape, nodes: &[Vec<u8>]) -> Opened {
    Partial::new::<Ethereum>(shape, hash(&nodes[0]), nodes, Bounds::default())
}

#[track_caller]
fn flawed(opened: Opened, node: &[u8], flaw: Flaw) {
    assert_eq!(opened.unwrap_err(), PartialError::Node { hash: hash(node), flaw });
}

fn hash(node: &[u8]) -> B256 {
    Ethereum::hash(node).expect("a hash")
}

fn leaf(path: Path<'_>, value: LeafValue<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Ethereum::encode_leaf(path, value, &mut out);
    out
}

fn extension(path: Path<'_>, below: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Ethereum::encode_extension(path, &NodeRef::hash(hash(below)), &mut out);
    out
}

fn branch(children: &[(usize, &[u8])], value: Option<&[u8]>) -> Vec<u8> {
    let mut all = [None; 16];
    children.iter().for_each(|(nibble, child)| all[*nibble] = Some(NodeRef::hash(hash(child))));
    let mut out = Vec::new();
    Ethereum::encode_branch(&all, value, &mut out);
    out
}

const LONG: [u8; 40] = [7; 40];

/// A flat trie of three long values, at 12, 15 and 34: root, branch, leaves.
fn three() -> Vec<Vec<u8>> {
    let value = |fill| LeafValue::Raw(if fill { &LONG } else { &[9; 40] });
    let (two, five) = (leaf(Path::whole(&[]), value(true)), leaf(Path::whole(&[]), value(false)));
    let four = leaf(Path::range(&[0x34], 1, 2), value(true));
    let one = branch(&[(2, &two), (5, &five)], None);
    vec![branch(&[(1, &one), (3, &four)], None), one, two, five, four]
}

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Op<'a> {
    Op { key, change: Change::Put(value) }
}

fn delete(key: &[u8]) -> Op<'_> {
    Op { key, change: Change::Delete }
}

fn missing(error: PartialError) -> (&'static str, Vec<u8>, B256) {
    match error {
        PartialError::Blinded(missing) => ("blinded", missing.path.0, missing.hash),
        PartialError::Sibling(missing) => ("sibling", missing.path.0, missing.hash),
        error => panic!("{error}"),
    }
}

#[test]
fn what_is_shown_is_read_and_what_is_not_is_named_with_its_path() {
    let nodes = three();
    let whole = open(Shape::Flat, &nodes).unwrap();
    assert_eq!(whole.get(&[0x12]), Ok(Some(LONG.to_vec())));
    for absent in [&[][..], &[0x13], &[0x22], &[0x12, 0], &[0x35]] {
        assert_eq!(whole.get(absent), Ok(None), "{absent:x?}");
    }
    // Without the leaf at 12, and without the branch above it.
    let part = open(Shape::Flat, &[&nodes[..2], &nodes[3..]].concat()).unwrap();
    assert_eq!(missing(part.get(&[0x12]).unwrap_err()), ("blinded", vec![1, 2], hash(&nodes[2])));
    assert_eq!(part.get(&[0x13]), Ok(None));
    let error = part.get(&[0x12, 0x77]).unwrap_err();
    assert_eq!(error.to_string(), format!("the witness lacks the node {} at path 12", hash(&nodes[2])));
    let part = open(Shape::Flat, &[nodes[0].clone(), nodes[4].clone()]).unwrap();
    assert_eq!(missing(part.get(&[0x13]).unwrap_err()), ("blinded", vec![1], hash(&nodes[1])));
}

#[test]
fn a_change_that_needs_a_node_which_is_not_there_names_it_and_changes_nothing() {
    let nodes = three();
    // Nothing is known of 15: 12 cannot be removed, for what is left goes up into the root's edge.
    let mut part = open(Shape::Flat, &[&nodes[..3], &nodes[4..]].concat()).unwrap();
    let root = part.root::<Ethereum>().unwrap();
    let five = hash(&nodes[3]);
    assert_eq!(missing(part.apply(&[delete(&[0x12])], 1).unwrap_err()), ("sibling", vec![1, 5], five));
    assert_eq!(missing(part.apply(&[put(&[0x15], b"v")], 1).unwrap_err()), ("blinded", vec![1, 5], five));
    let siblings = part.siblings(&[delete(&[0x12])]).unwrap();
    assert_eq!(siblings.iter().map(|missing| &missing.path).collect::<Vec<_>>(), [&NodePath(vec![1, 5])]);
    assert_eq!(part.root::<Ethereum>(), Ok(root), "nothing happened");
    assert_eq!(part.get(&[0x12]), Ok(Some(LONG.to_vec())));
    // With something put in its place it can.
    part.apply(&[delete(&[0x12]), put(&[0x13], &LONG)], 1).unwrap();
    assert_eq!(part.get(&[0x12]), Ok(None));
    // And what is left alone but was given moves up.
    let mut part = open(Shape::Flat, &nodes[..4]).unwrap();
    part.apply(&[delete(&[0x12])], 1).unwrap();
    let map = [(vec![0x15], [9; 40]), (vec![0x34], LONG)];
    let map: BTreeMap<_, _> = map.into_iter().map(|(key, value)| (key, Value::Raw(value.to_vec()))).collect();
    assert_eq!(part.root::<Ethereum>(), Ok(Naive::new(&map).root::<Ethereum>()));
    // The branch at 1 is known to be one by its extension alone, so that it may go up unseen.
    let below = &nodes[1];
    let over = extension(Path::range(&[0x77], 0, 2), below);
    let other = leaf(Path::range(&[0x34], 1, 4), LeafValue::Raw(&LONG));
    let root = branch(&[(1, &over), (3, &other)], None);
    let mut part = open(Shape::Flat, &[root, over, other]).unwrap();
    part.apply(&[delete(&[0x34])], 1).unwrap();
    let expected = extension(Path::range(&[0x17, 0x70], 0, 3), below);
    assert_eq!(part.root::<Ethereum>(), Ok(hash(&expected)));
}

#[test]
fn without_its_root_a_witness_shows_nothing() {
    let nodes = three();
    let root = hash(&nodes[0]);
    for bag in [&nodes[1..], &[]] {
        let opened = Partial::new::<Ethereum>(Shape::Flat, root, bag, Bounds::default());
        assert_eq!(opened.unwrap_err(), PartialError::NoRoot(root));
    }
    let none: [Vec<u8>; 0] = [];
    let empty = Ethereum::empty_root();
    let opened = Partial::new::<Ethereum>(Shape::Flat, empty, &none, Bounds::default()).unwrap();
    assert_eq!(opened.get(&[0x12]), Ok(None));
    // Some servers send the node of the empty trie along. It shows nothing where another is due.
    Partial::new::<Ethereum>(Shape::Flat, empty, &[[0x80]], Bounds::default()).unwrap();
    let with = [nodes.clone(), vec![vec![0x80]]].concat();
    assert!(open(Shape::Flat, &with).is_ok());
    assert!(open(Shape::Flat, &[with, vec![vec![0x80]]].concat()).is_err(), "twice");
}

#[test]
fn nodes_that_hang_nowhere_or_are_there_twice_are_refused() {
    let nodes = three();
    for at in 1..nodes.len() {
        let mut forged = nodes.clone();
        let last = forged[at].len() - 1;
        forged[at][last] ^= 1;
        let error = open(Shape::Flat, &forged).unwrap_err();
        let lowest = if at == 1 { 1 } else { at };
        assert_eq!(error, PartialError::Unlinked { node: lowest, hash: hash(&forged[lowest]) });
        let twice = [&nodes[..], &nodes[at..=at]].concat();
        let repeated = PartialError::Repeated { node: nodes.len(), hash: hash(&nodes[at]) };
        assert_eq!(open(Shape::Flat, &twice).unwrap_err(), repeated);
    }
    // A node of another trie, and one below a node that is not there.
    let other = leaf(Path::whole(&[0x77]), LeafValue::Raw(&LONG));
    let error = open(Shape::Flat, &[&nodes[..], std::slice::from_ref(&other)].concat()).unwrap_err();
    assert_eq!(error, PartialError::Unlinked { node: 5, hash: hash(&other) });
    let error = open(Shape::Flat, &[nodes[0].clone(), nodes[2].clone()]).unwrap_err();
    assert_eq!(error, PartialError::Unlinked { node: 1, hash: hash(&nodes[2]) });
}

#[test]
fn nodes_that_are_not_canonical_or_stand_wrong_are_refused() {
    let nodes = three();
    let junk = b"\xc3\x20\x81\x05 and more than thirty-two bytes".to_vec();
    flawed(
        open(Shape::Flat, &[branch(&[(1, &junk), (2, &junk)], None), junk.clone()]),
        &junk,
        Flaw::TrailingBytes,
    );
    let short = leaf(Path::whole(&[]), LeafValue::Raw(b"x"));
    flawed(
        open(Shape::Flat, &[branch(&[(1, &short), (2, &junk)], None), short.clone()]),
        &short,
        Flaw::NotEmbedded,
    );
    // An extension over a leaf, and over another extension.
    for below in [nodes[4].clone(), extension(Path::range(&[0x77], 0, 1), &nodes[0])] {
        let over = extension(Path::range(&[0x77], 0, 1), &below);
        flawed(open(Shape::Flat, &[over, below.clone()]), &below, Flaw::ExtensionChild);
    }
    // A key that ends between two bytes: at a leaf, at a branch.
    let half = leaf(Path::range(&[0x34], 1, 2), LeafValue::Raw(&LONG));
    assert_eq!(open(Shape::Flat, &[half]).unwrap_err(), PartialError::BadPath(1));
    let odd = branch(&[(1, &junk), (2, &junk)], Some(b"v"));
    flawed(open(Shape::Flat, &[branch(&[(1, &odd), (2, &junk)], None), odd.clone()]), &odd, Flaw::HalfByte);
    let large = vec![0; MAX_NODE_BYTES + 1];
    let error = open(Shape::Flat, &[nodes[0].clone(), large]).unwrap_err();
    assert_eq!(error, PartialError::NodeTooLarge { node: 1, bytes: MAX_NODE_BYTES + 1 });
    let error = Partial::new::<Blake3>(Shape::Flat, B256::ZERO, &[[9]], Bounds::default()).unwrap_err();
    assert!(matches!(error, PartialError::NoRoot(_) | PartialError::NoNode { node: 0, .. }));
}

#[test]
fn the_same_node_in_every_place_is_bounded_before_it_folds_out() {
    // Eight levels of sixteen times the same: nine nodes, 4,294,967,296 leaves.
    let mut nodes = vec![leaf(Path::whole(&[7; 28]), LeafValue::Raw(&LONG))];
    for _ in 0..8 {
        let below = nodes.last().expect("a node").clone();
        let all: Vec<(usize, &[u8])> = (0..16).map(|nibble| (nibble, &below[..])).collect();
        nodes.push(branch(&all, None));
    }
    nodes.reverse();
    let bounds = Bounds { nodes: 50_000, bytes: usize::MAX };
    let folded = |bounds| Partial::new::<Ethereum>(Shape::Flat, hash(&nodes[0]), &nodes, bounds).unwrap_err();
    assert_eq!(folded(bounds), PartialError::TooMuch { what: "nodes", limit: 50_000 });
    let bounds = Bounds { nodes: usize::MAX, bytes: 1 << 20 };
    assert_eq!(folded(bounds), PartialError::TooMuch { what: "bytes", limit: 1 << 20 });
    assert_eq!(folded(Bounds { nodes: 8, bytes: 1 }), PartialError::TooMuch { what: "nodes", limit: 8 });
    // Less of it is a trie like any other.
    let few = Partial::new::<Ethereum>(Shape::Flat, hash(&nodes[6]), &nodes[6..], Bounds::default());
    assert_eq!(few.unwrap().get(&[&[0x5a][..], &[7; 28]].concat()), Ok(Some(LONG.to_vec())));
}

#[test]
fn a_way_deeper_than_any_key_is_refused_without_recursion() {
    let side = leaf(Path::whole(&[7]), LeafValue::Raw(&LONG));
    for (shape, deepest) in [(Shape::Flat, 1024), (Shape::Accounts, 64)] {
        let mut nodes = vec![side.clone()];
        for _ in 0..20_000 {
            let below = nodes.last().expect("a node").clone();
            nodes.push(branch(&[(0, &below), (1, &[1])], None));
        }
        nodes.reverse();
        assert_eq!(open(shape, &nodes).unwrap_err(), PartialError::BadPath(deepest + 1));
    }
    let long = leaf(Path::whole(&[7; 513]), LeafValue::Raw(&LONG));
    assert_eq!(open(Shape::Flat, &[long]).unwrap_err(), PartialError::BadPath(1026));
}

fn account(key: &[u8], storage: B256) -> Vec<u8> {
    leaf(Path::whole(key), LeafValue::Account(&Account::default(), storage))
}

#[test]
fn accounts_and_slots_stand_at_their_depths_only() {
    let slot = leaf(Path::whole(&[5; 32]), LeafValue::Slot(&[5; 32]));
    let one = account(&[1; 32], hash(&slot));
    let state = open(Shape::Accounts, &[one.clone(), slot.clone()]).unwrap();
    assert_eq!(state.get(&[[1; 32], [5; 32]].concat()), Ok(Some(vec![5; 32])));
    assert_eq!(state.get(&[[1; 32], [6; 32]].concat()), Ok(None));
    assert_eq!(state.get(&[[2; 32], [5; 32]].concat()), Ok(None));
    // The storage blinded: its slots are not absent.
    let state = open(Shape::Accounts, std::slice::from_ref(&one)).unwrap();
    let error = state.get(&[[1; 32], [6; 32]].concat()).unwrap_err();
    assert_eq!(missing(error), ("blinded", Path::whole(&[1; 32]).nibbles().collect(), hash(&slot)));
    // A slot where accounts stand, an account in a storage, keys too short and too long, a value in a branch.
    let inner = account(&[5; 32], Ethereum::empty_root());
    flawed(open(Shape::Accounts, std::slice::from_ref(&slot)), &slot, Flaw::WrongItem);
    let outer = account(&[1; 32], hash(&inner));
    assert!(open(Shape::Accounts, &[outer, inner]).is_err());
    for len in [0, 31, 33, 64] {
        let wrong = account(&vec![1; len], Ethereum::empty_root());
        assert_eq!(open(Shape::Accounts, &[wrong]).unwrap_err(), PartialError::BadPath(len * 2));
        let wrong = leaf(Path::whole(&vec![5; len]), LeafValue::Slot(&[5; 32]));
        let over = account(&[1; 32], hash(&wrong));
        assert_eq!(open(Shape::Accounts, &[over, wrong]).unwrap_err(), PartialError::BadPath(64 + len * 2));
    }
    let valued = branch(&[(1, &one), (2, &slot)], Some(b"v"));
    assert_eq!(open(Shape::Accounts, &[valued]).unwrap_err(), PartialError::BadPath(0));
}

#[test]
fn an_account_goes_with_a_storage_that_is_not_shown() {
    let slot = leaf(Path::whole(&[5; 32]), LeafValue::Slot(&[5; 32]));
    let mut body = Vec::new();
    Account { nonce: 1, ..Account::default() }.encode(&mut body);
    let change = |body, wipe| Change::Account { body, wipe };
    let with = |change| {
        let mut state = open(Shape::Accounts, &[account(&[1; 32], hash(&slot))]).unwrap();
        state.apply(&[Op { key: &[1; 32], change }], 1).unwrap();
        state.root::<Ethereum>().unwrap()
    };
    assert_eq!(with(change(Body::Delete, true)), Ethereum::empty_root());
    assert_eq!(with(change(Body::Keep, true)), hash(&account(&[1; 32], Ethereum::empty_root())));
    // The body changes under the storage as it is.
    let kept = LeafValue::Account(&Account { nonce: 1, ..Account::default() }, hash(&slot));
    assert_eq!(with(change(Body::Put(&body), false)), hash(&leaf(Path::whole(&[1; 32]), kept)));
    let mut state = open(Shape::Accounts, &[account(&[1; 32], Ethereum::empty_root())]).unwrap();
    let key = [[2; 32], [5; 32]].concat();
    let error = state.apply(&[put(&key, &[1])], 1).unwrap_err();
    assert_eq!(error, PartialError::Update(UpdateError::SlotWithoutAccount(0)));
}

#[test]
fn a_branch_that_keeps_children_closed_is_no_part_of_a_witness() {
    let mut below = Vec::new();
    Blake3::encode_leaf(Path::range(&[0x12], 1, 2), LeafValue::Raw(b"bark"), &mut below);
    let mut children = [None; 16];
    children[1] = Some(NodeRef::hash(Blake3::hash(&below).unwrap()));
    children[5] = Some(NodeRef::hash(B256::repeat_byte(9)));
    let with = |opened, ends| {
        let mut node = Vec::new();
        Blake3::open_branch(&children, Some(b"root"), opened, ends, &mut node);
        let root = Blake3::hash(&node).unwrap();
        let nodes = [node, below.clone()];
        (root, Partial::new::<Blake3>(Shape::Flat, root, &nodes, Bounds::default()))
    };
    let (root, whole) = with(u16::MAX, true);
    let mut whole = whole.unwrap();
    assert_eq!(
        (whole.get(&[0x12]), whole.get(&[])),
        (Ok(Some(b"bark".to_vec())), Ok(Some(b"root".to_vec())))
    );
    assert!(matches!(whole.get(&[0x55]), Err(PartialError::Blinded(_))));
    assert_eq!(whole.root::<Blake3>(), Ok(root));
    // A proof of one key keeps the others closed: of them it could not be told that they are there.
    let closed = |flaw| PartialError::Node { hash: root, flaw };
    assert_eq!(with(1 << 1, true).1.unwrap_err(), closed(Flaw::WrongOpening));
    assert_eq!(with(u16::MAX, false).1.unwrap_err(), closed(Flaw::WrongValueForm));
}
