//! Making proofs out of pages whose references are known.

use alloc::vec;
use alloc::vec::Vec;

use alloy_primitives::B256;

use crate::levels::{HashError, Pages, Refs, branch_value, encode_leaf};
use crate::page::{ACCOUNT_BYTES, ACCOUNT_DEPTH, Item, Page, Shape};
use crate::path::{Path, nibble};
use crate::scheme::{Encoded, NodeRef, Scheme};
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

/// Proves what stands at `key` in the trie under `root`, whose references must be known (see
/// [`hash`](crate::levels::hash)).
///
/// Cost: the pages on the path; for each branch on it, its encoding.
///
/// # Errors
///
/// A page on the path is missing or has no references.
pub fn prove<S: Scheme>(
    pages: &impl Pages,
    shape: Shape,
    root: Option<u64>,
    key: &[u8],
) -> Result<Proved, HashError> {
    let Some(start) = Place::root(pages, root)? else { return Ok(Proved::default()) };
    let mut walk = Walk::<S, _>::new(pages, shape);
    walk.follow(start, key)?;
    Ok(walk.proved)
}

/// Proves an account and `slots` of it. `account` is its key in the trie (32 bytes), `slots` those of its slots.
///
/// # Errors
///
/// As [`prove`].
pub fn prove_account<S: Scheme>(
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
    let mut walk = Walk::<S, _>::new(pages, Shape::Accounts);
    let found = walk.follow(start, account)?;
    out.account = walk.proved;
    let Some((at, entry)) = found else { return Ok(out) };
    let Some(edge) = at.structure.storage(entry) else { return Ok(out) };
    out.storage_root = at.edge_ref::<S>(&edge, true).as_hash().unwrap_or_default();
    for (slot, proved) in slots.iter().zip(&mut out.slots) {
        let mut key = [0; 2 * ACCOUNT_BYTES];
        let (head, tail) = key.split_at_mut(ACCOUNT_BYTES);
        head.copy_from_slice(account.get(..ACCOUNT_BYTES).unwrap_or(&[0; ACCOUNT_BYTES]));
        tail.copy_from_slice(slot.as_slice());
        let mut walk = Walk::<S, _>::new(pages, Shape::Accounts);
        let start = Place { edge, is_root: true, ..at.clone() };
        walk.follow(start, &key)?;
        *proved = walk.proved;
    }
    Ok(out)
}

/// An edge of the trie, with the page that it is in.
#[derive(Clone)]
struct Place<'a> {
    page: Page<'a>,
    structure: alloc::rc::Rc<Structure>,
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
        let mut batch = Encoded::default();
        S::encode_extension(path, &below, &mut batch.bytes);
        batch.end(is_root);
        let mut out = Vec::with_capacity(1);
        S::reference(&batch, &mut out);
        out.pop().unwrap_or(NodeRef::UNKNOWN)
    }
}

struct Walk<'a, S, P> {
    pages: &'a P,
    shape: Shape,
    proved: Proved,
    scheme: core::marker::PhantomData<S>,
}

impl<'a, S: Scheme, P: Pages> Walk<'a, S, P> {
    fn new(pages: &'a P, shape: Shape) -> Self {
        Self { pages, shape, proved: Proved::default(), scheme: core::marker::PhantomData }
    }

    /// Keeps a node that the one above refers to by its hash; an embedded one is part of that.
    fn keep(&mut self, node: Vec<u8>, reference: NodeRef, is_root: bool) {
        if is_root || reference.as_hash().is_some() {
            self.proved.nodes.push(node);
        }
    }

    /// Goes from `place` down along `key`, as far as they agree. Answers with the entry of the key, if it is there.
    fn follow(&mut self, mut place: Place<'a>, key: &[u8]) -> Result<Option<(Place<'a>, u16)>, HashError> {
        loop {
            if let Some(path) = place.extension(&place.edge) {
                let mut node = Vec::new();
                S::encode_extension(path, &place.target_ref(place.edge.target), &mut node);
                let reference = place.edge_ref::<S>(&place.edge, place.is_root);
                self.keep(node, reference, place.is_root);
                place.is_root = false;
                if !Path::range(key, usize::from(place.edge.from), usize::MAX).starts_with(&path) {
                    return Ok(None);
                }
            }
            match place.edge.target {
                Target::Branch(_) => match self.branch(&place, key) {
                    Some(edge) => place = Place { edge, is_root: false, ..place },
                    None => return Ok(None),
                },
                Target::Entry(entry) => match place.page.entry(usize::from(entry)).item {
                    Item::Child { reference } => {
                        let is_root = place.is_root;
                        let below =
                            Place::open(self.pages, reference)?.ok_or(HashError::MissingPage(reference))?;
                        place = Place { is_root, ..below };
                    }
                    Item::Blinded { .. } => return Err(HashError::MissingPage(0)),
                    Item::Leaf { .. } | Item::Account { .. } => return self.leaf(place, entry, key),
                },
            }
        }
    }

    fn branch(&mut self, place: &Place<'a>, key: &[u8]) -> Option<Edge> {
        let branch = place.branch(place.edge.target)?;
        let mut children = [None; 16];
        let edges = place.structure.edges(branch);
        for edge in edges {
            if let Some(child) = children.get_mut(usize::from(edge.nibble)) {
                *child = Some(place.edge_ref::<S>(edge, false));
            }
        }
        let value = branch_value(place.page, branch.value);
        let depth = usize::from(branch.depth);
        let next = (key.len() * 2 > depth).then(|| nibble(key, depth));
        let mut node = Vec::new();
        S::prove_branch(&children, value, next, &mut node);
        self.keep(node, place.target_ref(place.edge.target), place.is_root);
        if next.is_none() {
            self.proved.value = value.map(<[u8]>::to_vec);
        }
        edges.iter().find(|edge| Some(edge.nibble) == next).copied()
    }

    fn leaf(
        &mut self,
        place: Place<'a>,
        entry: u16,
        key: &[u8],
    ) -> Result<Option<(Place<'a>, u16)>, HashError> {
        let index = usize::from(entry);
        let storage = place.structure.storage(entry);
        let root = storage.map(|edge| place.edge_ref::<S>(&edge, true).as_hash().unwrap_or_default());
        let mut node = Vec::new();
        let from = usize::from(place.edge.from);
        encode_leaf::<S>(place.page, self.shape, index, from, root, &mut node)?;
        self.keep(node, place.target_ref(place.edge.target), place.is_root);
        let end = place.page.entry(index).end;
        let same = key.len() * 2 == end
            && Path::range(key, from, end) == path_of(place.page, index, from, end)
            && (end != ACCOUNT_DEPTH || self.shape == Shape::Flat || key.len() == ACCOUNT_BYTES);
        if !same {
            return Ok(None);
        }
        self.proved.value = match place.page.entry(index).item {
            Item::Leaf { value, .. } => Some(value.to_vec()),
            Item::Account { body, .. } => Some(body.to_vec()),
            Item::Child { .. } | Item::Blinded { .. } => None,
        };
        Ok(Some((place, entry)))
    }
}
