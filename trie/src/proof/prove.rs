//! Making proofs out of pages whose references are known.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::marker::PhantomData;

use alloy_primitives::B256;

use super::{MultiProof, ProofScheme};
use crate::levels::{HashError, Pages, Refs, branch_value, encode_leaf};
use crate::page::{ACCOUNT_DEPTH, Item, Page, Shape};
use crate::path::{Path, nibble};
use crate::scheme::{NodeRef, Scheme};
use crate::structure::{Branch, Edge, Structure, Target, path_of};

/// What stands at a key, and the nodes that prove it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proved {
    /// The stored value: of a flat key as it is, of a slot without leading zeros, of an account its body.
    /// `None`: the nodes prove that the key is absent.
    pub value: Option<Vec<u8>>,
    /// The nodes from the root down.
    pub nodes: Vec<Vec<u8>>,
}

/// An account with its storage root and some of its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedAccount {
    /// The account; its value is the body.
    pub account: Proved,
    /// The root of its storage; that of the empty trie for an absent account.
    pub storage_root: B256,
    /// The slots that were asked for, in that order.
    pub slots: Vec<Proved>,
}

/// Many keys with one proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvedMany {
    /// What stands at each key, in the order in which they were asked for.
    pub values: Vec<Option<Vec<u8>>>,
    /// The nodes on the ways of all keys.
    pub proof: MultiProof,
}

/// Proves what stands at `key` in the trie under `root`, whose references must be known (see
/// [`hash`](crate::levels::hash)).
///
/// Cost: the pages on the path; for each branch on it, its encoding.
///
/// # Errors
///
/// A page on the path is missing or has no references.
pub fn prove<S: ProofScheme>(
    pages: &impl Pages,
    shape: Shape,
    root: Option<u64>,
    key: &[u8],
) -> Result<Proved, HashError> {
    let mut many = prove_many::<S>(pages, shape, root, &[key])?;
    Ok(Proved { value: many.values.pop().flatten(), nodes: many.proof.nodes })
}

/// Proves what stands at each of `keys`, with every node once.
///
/// # Errors
///
/// As [`prove`].
pub fn prove_many<S: ProofScheme>(
    pages: &impl Pages,
    shape: Shape,
    root: Option<u64>,
    keys: &[&[u8]],
) -> Result<ProvedMany, HashError> {
    let mut walk = Walk::<S, _>::new(pages, shape, keys);
    if let Some(start) = Place::root(pages, root)? {
        walk.all(start)?;
    }
    let Walk { values, nodes, .. } = walk;
    Ok(ProvedMany { values, proof: MultiProof { nodes } })
}

/// The nodes on the ways of `keys`, which may be accounts and slots together, each node once at each of its places, in pre-order.
/// Branches name all their children.
pub(crate) fn nodes_on_ways<S: ProofScheme>(
    pages: &impl Pages,
    shape: Shape,
    root: Option<u64>,
    keys: &[&[u8]],
) -> Result<Vec<Vec<u8>>, HashError> {
    let mut walk = Walk::<S, _>::new(pages, shape, keys);
    walk.whole_branches = true;
    if let Some(start) = Place::root(pages, root)? {
        walk.all(start)?;
    }
    Ok(walk.nodes)
}

/// Proves an account and `slots` of it. `account` is its key in the trie (32 bytes), `slots` those of its slots.
///
/// # Errors
///
/// As [`prove`].
pub fn prove_account<S: ProofScheme>(
    pages: &impl Pages,
    root: Option<u64>,
    account: &[u8],
    slots: &[B256],
) -> Result<ProvedAccount, HashError> {
    let mut out = ProvedAccount {
        account: Proved::default(),
        storage_root: S::empty_root(),
        slots: vec![Proved::default(); slots.len()],
    };
    let Some(start) = Place::root(pages, root)? else { return Ok(out) };
    let keys = [account];
    let mut walk = Walk::<S, _>::new(pages, Shape::Accounts, &keys);
    walk.all(start)?;
    out.account = Proved { value: walk.values.pop().flatten(), nodes: walk.nodes };
    let Some((at, entry)) = walk.last else { return Ok(out) };
    let Some(edge) = at.structure.storage(entry) else { return Ok(out) };
    out.storage_root = at.edge_ref::<S>(&edge, true).as_hash().unwrap_or_default();
    for (slot, proved) in slots.iter().zip(&mut out.slots) {
        let key = [account, slot.as_slice()].concat();
        let keys = [&key[..]];
        let mut walk = Walk::<S, _>::new(pages, Shape::Accounts, &keys);
        walk.all(Place { edge, is_root: true, ..at.clone() })?;
        *proved = Proved { value: walk.values.pop().flatten(), nodes: walk.nodes };
    }
    Ok(out)
}

/// An edge of the trie, with the page that it is in.
#[derive(Clone)]
struct Place<'a> {
    page: Page<'a>,
    structure: Rc<Structure>,
    refs: &'a Refs,
    edge: Edge,
    is_root: bool,
}

impl<'a> Place<'a> {
    fn open(pages: &'a impl Pages, reference: u64) -> Result<Option<Self>, HashError> {
        let page = pages.page(reference).ok_or(HashError::MissingPage(reference))?;
        let refs = pages.refs(reference).ok_or(HashError::MissingPage(reference))?;
        let structure = Structure::new(page);
        let Some(target) = structure.top else { return Ok(None) };
        let edge = Edge { from: page.depth() as u16, nibble: 0, target };
        Ok(Some(Self { page, structure: structure.into(), refs, edge, is_root: false }))
    }

    fn root(pages: &'a impl Pages, root: Option<u64>) -> Result<Option<Self>, HashError> {
        let Some(root) = root else { return Ok(None) };
        Ok(Self::open(pages, root)?.map(|place| Self { is_root: true, ..place }))
    }

    fn index(&self, target: Target) -> usize {
        match target {
            Target::Entry(entry) => usize::from(entry),
            Target::Branch(branch) => self.page.len() + usize::from(branch),
        }
    }

    fn target_ref(&self, target: Target) -> NodeRef {
        self.refs.get(self.index(target)).copied().unwrap_or(NodeRef::UNKNOWN)
    }

    fn branch(&self, target: Target) -> Option<&Branch> {
        match target {
            Target::Branch(branch) => self.structure.branches.get(usize::from(branch)),
            Target::Entry(_) => None,
        }
    }

    /// The path of the extension over `edge`, if there is one.
    fn extension(&self, edge: &Edge) -> Option<Path<'a>> {
        let (entry, end) = match edge.target {
            Target::Branch(_) => {
                let branch = self.branch(edge.target)?;
                (usize::from(branch.low), usize::from(branch.depth))
            }
            Target::Entry(entry) => {
                let index = usize::from(entry);
                (index, self.page.entry(index).end)
            }
        };
        let leads_on = matches!(edge.target, Target::Branch(_)) || self.page.entry(entry).is_child();
        let from = usize::from(edge.from);
        (leads_on && end > from).then(|| path_of(self.page, entry, from, end))
    }

    /// What the node above holds of `edge`.
    fn edge_ref<S: Scheme>(&self, edge: &Edge, is_root: bool) -> NodeRef {
        let below = self.target_ref(edge.target);
        let Some(path) = self.extension(edge) else { return below };
        let mut encoding = Vec::new();
        S::encode_extension(path, &below, &mut encoding);
        S::reference(&encoding, is_root)
    }
}

/// A walk down to some keys, which meets each node once, in pre-order.
struct Walk<'a, 'k, S, P> {
    pages: &'a P,
    shape: Shape,
    keys: &'k [&'k [u8]],
    values: Vec<Option<Vec<u8>>>,
    nodes: Vec<Vec<u8>>,
    /// The entry of the key that was found last.
    last: Option<(Place<'a>, u16)>,
    /// Whether branches name their children beside the ways too.
    whole_branches: bool,
    scheme: PhantomData<S>,
}

impl<'a, 'k, S: ProofScheme, P: Pages> Walk<'a, 'k, S, P> {
    fn new(pages: &'a P, shape: Shape, keys: &'k [&'k [u8]]) -> Self {
        let values = vec![None; keys.len()];
        let (nodes, last) = (Vec::new(), None);
        Self { pages, shape, keys, values, nodes, last, whole_branches: false, scheme: PhantomData }
    }

    fn key(&self, at: usize) -> &'k [u8] {
        self.keys.get(at).copied().unwrap_or_default()
    }

    /// Walks from `start` down to all keys.
    fn all(&mut self, start: Place<'a>) -> Result<(), HashError> {
        self.place(start, (0..self.keys.len()).collect())
    }

    /// Keeps a node that the one above refers to by its hash; an embedded one is part of that.
    fn keep(&mut self, node: Vec<u8>, reference: NodeRef, is_root: bool) {
        if is_root || reference.as_hash().is_some() {
            self.nodes.push(node);
        }
    }

    /// Goes from `place` down along `keys`, by their numbers, as far as each agrees with what is there.
    fn place(&mut self, mut place: Place<'a>, mut keys: Vec<usize>) -> Result<(), HashError> {
        if keys.is_empty() {
            return Ok(());
        }
        let from = usize::from(place.edge.from);
        if let Some(path) = place.extension(&place.edge) {
            let mut node = Vec::new();
            S::encode_extension(path, &place.target_ref(place.edge.target), &mut node);
            let reference = place.edge_ref::<S>(&place.edge, place.is_root);
            self.keep(node, reference, place.is_root);
            place.is_root = false;
            keys.retain(|key| Path::range(self.key(*key), from, usize::MAX).starts_with(&path));
            if keys.is_empty() {
                return Ok(());
            }
        }
        let entry = match place.edge.target {
            Target::Branch(_) => return self.branch(&place, &keys),
            Target::Entry(entry) => entry,
        };
        match place.page.entry(usize::from(entry)).item {
            Item::Child { reference } => {
                let below = Place::open(self.pages, reference)?.ok_or(HashError::MissingPage(reference))?;
                if below.refs.last() != Some(&place.target_ref(place.edge.target)) {
                    return Err(HashError::Mismatch(reference));
                }
                self.place(Place { is_root: place.is_root, ..below }, keys)
            }
            Item::Blinded { .. } => Err(HashError::MissingPage(0)),
            Item::Leaf { .. } | Item::Account { .. } => self.leaf(&place, entry, &keys),
        }
    }

    fn branch(&mut self, place: &Place<'a>, keys: &[usize]) -> Result<(), HashError> {
        let Some(branch) = place.branch(place.edge.target) else { return Ok(()) };
        let depth = usize::from(branch.depth);
        let mut children = [None; 16];
        let edges = place.structure.edges(branch);
        for edge in edges {
            if let Some(child) = children.get_mut(usize::from(edge.nibble)) {
                *child = Some(place.edge_ref::<S>(edge, false));
            }
        }
        let value = branch_value(place.page, branch.value.map(usize::from));
        let goes_on = |key: usize| self.key(key).len() * 2 > depth;
        let opened = keys
            .iter()
            .filter(|key| goes_on(**key))
            .fold(0, |mask: u16, key| mask | 1 << nibble(self.key(*key), depth));
        let ends = keys.iter().any(|key| !goes_on(*key));
        let (opened, ends) = if self.whole_branches { (u16::MAX, true) } else { (opened, ends) };
        let mut node = Vec::new();
        S::open_branch(&children, value, opened, ends, &mut node);
        self.keep(node, place.target_ref(place.edge.target), place.is_root);
        for key in keys {
            if self.key(*key).len() * 2 == depth
                && let Some(slot) = self.values.get_mut(*key)
            {
                *slot = value.map(<[u8]>::to_vec);
            }
        }
        // Of accounts that part in their last nibble a partial trie wants all (keys that are not hashed may do that).
        let shows_all = self.whole_branches && self.shape == Shape::Accounts && depth + 1 == ACCOUNT_DEPTH;
        for edge in edges {
            let through = |key: &&usize| {
                let key = self.key(**key);
                key.len() * 2 > depth && nibble(key, depth) == edge.nibble
            };
            let keys: Vec<usize> = keys.iter().filter(through).copied().collect();
            let below = Place { edge: *edge, is_root: false, ..place.clone() };
            match edge.target {
                Target::Entry(entry) if keys.is_empty() && shows_all => self.leaf(&below, entry, &[])?,
                _ => self.place(below, keys)?,
            }
        }
        Ok(())
    }

    fn leaf(&mut self, place: &Place<'a>, entry: u16, keys: &[usize]) -> Result<(), HashError> {
        let index = usize::from(entry);
        let storage = place.structure.storage(entry);
        let root = storage.map(|edge| place.edge_ref::<S>(&edge, true).as_hash().unwrap_or_default());
        let from = usize::from(place.edge.from);
        let mut node = Vec::new();
        encode_leaf::<S>(place.page, self.shape, index, from, root, &mut node)?;
        self.keep(node, place.target_ref(place.edge.target), place.is_root);
        let found = place.page.entry(index);
        let value = match found.item {
            Item::Leaf { value, .. } => value,
            Item::Account { body, .. } => body,
            Item::Child { .. } | Item::Blinded { .. } => return Ok(()),
        };
        let path = path_of(place.page, index, from, found.end);
        let mut below = Vec::new();
        for key in keys {
            let whole = self.key(*key);
            if whole.len() * 2 < found.end || Path::range(whole, from, found.end) != path {
                continue;
            }
            if whole.len() * 2 > found.end {
                below.push(*key);
                continue;
            }
            if let Some(slot) = self.values.get_mut(*key) {
                *slot = Some(value.to_vec());
            }
            self.last = Some((place.clone(), entry));
        }
        match storage {
            Some(edge) => self.place(Place { edge, is_root: true, ..place.clone() }, below),
            None => Ok(()),
        }
    }
}
