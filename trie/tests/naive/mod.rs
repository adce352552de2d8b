//! A trie without any cleverness, over the `Scheme` trait: the oracle of the tests, and their source of proofs.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part of it")]

use std::collections::BTreeMap;

use bristlecone_trie::proof::ProofScheme;
use bristlecone_trie::scheme::LeafValue;
use bristlecone_trie::{Account, B256, NodeRef, Path};

/// A value of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Raw(Vec<u8>),
    Slot(Vec<u8>),
    Account(Account, B256),
}

impl Value {
    fn leaf(&self) -> LeafValue<'_> {
        match self {
            Self::Raw(bytes) => LeafValue::Raw(bytes),
            Self::Slot(bytes) => LeafValue::Slot(bytes),
            Self::Account(account, root) => LeafValue::Account(account, *root),
        }
    }

    fn raw(&self) -> &[u8] {
        match self {
            Self::Raw(bytes) => bytes,
            _ => panic!("only a flat value stands at a branch"),
        }
    }
}

/// The trie over a map.
pub(crate) struct Naive {
    entries: Vec<(Vec<u8>, Value)>,
}

/// The sub-tries below a branch: the reference of each, and which entries are in it.
type Children = [Option<(NodeRef, usize, usize)>; 16];

/// The node of a sub-trie.
enum Built {
    Leaf,
    Extension(Box<Built>, usize),
    Branch(Box<Children>, Option<usize>),
}

fn reference<S: ProofScheme>(bytes: Vec<u8>, root: bool) -> NodeRef {
    S::reference(&bytes, root)
}

impl Naive {
    pub(crate) fn new(map: &BTreeMap<Vec<u8>, Value>) -> Self {
        Self { entries: map.iter().map(|(key, value)| (key.clone(), value.clone())).collect() }
    }

    pub(crate) fn root<S: ProofScheme>(&self) -> B256 {
        match self.entries.len() {
            0 => S::empty_root(),
            len => self.node::<S>(0, len, 0, true).1.as_hash().expect("a root is a hash"),
        }
    }

    /// The node over the entries `from..to`, which share their first `depth` nibbles; as built, its reference, and
    /// its encoding.
    fn node<S: ProofScheme>(
        &self,
        from: usize,
        to: usize,
        depth: usize,
        root: bool,
    ) -> (Built, NodeRef, Vec<u8>) {
        let mut out = Vec::new();
        let (first, value) = &self.entries[from];
        if to - from == 1 {
            S::encode_leaf(Path::whole(first).skip(depth), value.leaf(), &mut out);
            return (Built::Leaf, reference::<S>(out.clone(), root), out);
        }
        let shared = Path::whole(first).common_prefix(&Path::whole(&self.entries[to - 1].0));
        if shared > depth {
            let (below, node, _) = self.node::<S>(from, to, shared, false);
            S::encode_extension(Path::range(first, depth, shared), &node, &mut out);
            return (Built::Extension(Box::new(below), shared), reference::<S>(out.clone(), root), out);
        }
        let (children, own) = self.parts::<S>(from, to, depth);
        let refs = children.map(|child| child.map(|(node, ..)| node));
        S::encode_branch(&refs, own.map(|own| self.entries[own].1.raw()), &mut out);
        (Built::Branch(Box::new(children), own), reference::<S>(out.clone(), root), out)
    }

    fn parts<S: ProofScheme>(&self, from: usize, to: usize, depth: usize) -> (Children, Option<usize>) {
        let own = (self.entries[from].0.len() * 2 == depth).then_some(from);
        let mut at = from + usize::from(own.is_some());
        let mut children = [None; 16];
        for (nibble, child) in children.iter_mut().enumerate() {
            let end = (at..to)
                .find(|index| usize::from(Path::whole(&self.entries[*index].0).at(depth)) != nibble)
                .unwrap_or(to);
            if end > at {
                *child = Some((self.node::<S>(at, end, depth + 1, false).1, at, end));
            }
            at = end;
        }
        (children, own)
    }

    /// The proof of many keys (of one: the plain proof), in pre-order.
    pub(crate) fn prove<S: ProofScheme>(&self, keys: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut keys = keys.to_vec();
        keys.sort();
        keys.dedup();
        let mut nodes = Vec::new();
        if !self.entries.is_empty() && !keys.is_empty() {
            self.collect::<S>((0, self.entries.len()), 0, true, &keys, &mut nodes);
        }
        nodes
    }

    fn collect<S: ProofScheme>(
        &self,
        (from, to): (usize, usize),
        depth: usize,
        root: bool,
        keys: &[Vec<u8>],
        nodes: &mut Vec<Vec<u8>>,
    ) {
        let (built, node, encoding) = self.node::<S>(from, to, depth, root);
        let shown = node.as_hash().is_some();
        match built {
            Built::Leaf => nodes.extend(shown.then_some(encoding)),
            Built::Extension(_, end) => {
                nodes.extend(shown.then_some(encoding));
                let prefix = Path::range(&self.entries[from].0, 0, end);
                let inside: Vec<_> =
                    keys.iter().filter(|key| Path::whole(key).starts_with(&prefix)).cloned().collect();
                if !inside.is_empty() {
                    self.collect::<S>((from, to), end, false, &inside, nodes);
                }
            }
            Built::Branch(children, own) => {
                let below = |nibble: usize| -> Vec<Vec<u8>> {
                    let goes = |key: &&Vec<u8>| {
                        key.len() * 2 > depth && usize::from(Path::whole(key).at(depth)) == nibble
                    };
                    keys.iter().filter(goes).cloned().collect()
                };
                let opened =
                    (0..16).filter(|nibble| !below(*nibble).is_empty()).fold(0, |mask, n| mask | 1 << n);
                let ends = keys.iter().any(|key| key.len() * 2 == depth);
                let refs = children.map(|child| child.map(|(node, ..)| node));
                let value = own.map(|own| self.entries[own].1.raw());
                let mut out = Vec::new();
                S::open_branch(&refs, value, opened, ends, &mut out);
                if keys.len() == 1 {
                    let nibble = (!ends).then(|| Path::whole(&keys[0]).at(depth));
                    let mut single = Vec::new();
                    S::prove_branch(&refs, value, nibble, &mut single);
                    assert_eq!(single, out, "one key is a case of many");
                }
                nodes.extend(shown.then_some(out));
                for (nibble, child) in children.iter().enumerate() {
                    let inside = below(nibble);
                    if let (Some((_, from, to)), false) = (child, inside.is_empty()) {
                        self.collect::<S>((*from, *to), depth + 1, false, &inside, nodes);
                    }
                }
            }
        }
    }
}
