//! Partial tries: what a proof or a witness shows of a trie, to be read and changed.
//!
//! A node that is not shown is known by its reference alone, and that is enough as long as nothing leads through it. Where
//! something does, the answer is an error that says so, never absence.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;

use alloy_primitives::B256;
use thiserror::Error;

use crate::account::trim;
use crate::levels::{self, HashError, Pages, Refs, Workspace};
use crate::op::Op;
use crate::page::{ACCOUNT_DEPTH, Find, Item, Page, Shape};
use crate::proof::node::{BranchValue, Child, Node, Place};
use crate::proof::{Flaw, ProofScheme};
use crate::scheme::NodeRef;
use crate::update::{self, Arena, UpdateError};

/// Why a partial trie cannot answer.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartialError {
    /// A node does not decode.
    #[error("the node {hash} is not canonical: {flaw}")]
    Node {
        /// Its hash.
        hash: B256,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// What was given as the node of this hash has another.
    #[error("the bytes given for the node {0} have another hash")]
    WrongHash(B256),
    /// The node of the root is not among those given.
    #[error("the root node {0} is not among the nodes")]
    NoRoot(B256),
    /// A key in the trie is too long, or has an odd number of nibbles.
    #[error("a path of {0} nibbles cannot be a key")]
    BadPath(usize),
    /// The key leads through a node that was not given.
    #[error("the key leads through a node that is known only by its hash")]
    Blinded,
    /// A change cannot be applied.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The root cannot be computed: a removal left a node alone in a branch that was not given, for example.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// A trie of which some nodes are known.
#[derive(Debug)]
pub struct Partial {
    shape: Shape,
    root: Option<u64>,
    pages: BTreeMap<u64, (Vec<u8>, Vec<NodeRef>)>,
    next: u64,
}

/// One entry that was found in the nodes.
pub(crate) struct Shown {
    pub(crate) path: Vec<u8>,
    pub(crate) end: usize,
    pub(crate) what: What,
}

pub(crate) enum What {
    Leaf(Vec<u8>),
    Account(Vec<u8>),
    Blinded { node: NodeRef, is_branch: bool },
}

impl Partial {
    /// The part of the trie under `root` that `nodes` shows; each is verified against the hash that it is asked for by. Leaves
    /// get the stamp 0.
    ///
    /// Cost: linear in the nodes that are reached.
    ///
    /// # Errors
    ///
    /// The root node is missing, a node is not canonical or has another hash.
    pub fn new<'n, S: ProofScheme>(
        shape: Shape,
        root: B256,
        nodes: &impl Fn(&B256) -> Option<&'n [u8]>,
    ) -> Result<Self, PartialError> {
        let mut this = Self { shape, root: None, pages: BTreeMap::new(), next: 1 };
        if root == S::empty_root() {
            return Ok(this);
        }
        if nodes(&root).is_none() {
            return Err(PartialError::NoRoot(root));
        }
        let mut reader = Reader { shape, nodes, shown: Vec::new() };
        reader.hashed::<S>(root, Place::Root, &mut Vec::new())?;
        let shown = reader.shown;
        let (root, inserted) = {
            let phase = Phase::new(&this);
            let root = update::build(&phase, shape, &shown);
            (root, phase.inserted.into_inner())
        };
        this.keep(inserted, root);
        Ok(this)
    }

    /// The stored value at `key`: of a slot without leading zeros, of an account its body.
    ///
    /// # Errors
    ///
    /// [`PartialError::Blinded`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PartialError> {
        let mut next = self.root;
        while let Some(page) = next.and_then(|word| self.page(word)) {
            let at = match page.find(key) {
                Find::Absent(_) => return Ok(None),
                Find::Here(at) | Find::Into(at) => at,
            };
            match page.entry(at).item {
                Item::Child { reference } => next = Some(reference),
                Item::Leaf { value, .. } => return Ok(Some(value.to_vec())),
                Item::Account { body, .. } => return Ok(Some(body.to_vec())),
                Item::Blinded { .. } => return Err(PartialError::Blinded),
            }
        }
        Ok(None)
    }

    /// Applies sorted operations; nothing happens on an error.
    ///
    /// # Errors
    ///
    /// The batch does not fit, or leads through a node that was not given.
    pub fn apply(&mut self, ops: &[Op<'_>], stamp: u64) -> Result<(), PartialError> {
        let (updated, inserted) = {
            let phase = Phase::new(self);
            let updated = update::update(&phase, self.shape, self.root, ops, stamp)?;
            (updated, phase.inserted.into_inner())
        };
        self.keep(inserted, updated.root);
        Ok(())
    }

    /// The root.
    ///
    /// # Errors
    ///
    /// A removal left a node alone whose kind is not known, because it was not given.
    pub fn root<S: ProofScheme>(&mut self) -> Result<B256, PartialError> {
        let mut workspace = Workspace::default();
        let hashed = levels::hash::<S>(self, self.shape, self.root, &mut workspace)?;
        for (word, refs) in workspace.pages() {
            if let Some((_, known)) = self.pages.get_mut(&word) {
                *known = refs.to_vec();
            }
        }
        Ok(hashed.root)
    }

    fn keep(&mut self, inserted: Vec<Vec<u8>>, root: Option<u64>) {
        for page in inserted {
            self.pages.insert(self.next, (page, Vec::new()));
            self.next += 1;
        }
        self.root = root;
    }
}

impl Pages for Partial {
    fn page(&self, reference: u64) -> Option<Page<'_>> {
        self.pages.get(&reference).map(|(bytes, _)| Page::new(bytes))
    }

    fn refs(&self, reference: u64) -> Option<&Refs> {
        self.pages.get(&reference).map(|(_, refs)| &refs[..]).filter(|refs| !refs.is_empty())
    }

    fn top(&self, _: u64) -> Option<NodeRef> {
        None
    }
}

/// One change of a partial trie: pages of before are read, new ones set aside, for an update never reads its own.
struct Phase<'a> {
    before: &'a Partial,
    inserted: RefCell<Vec<Vec<u8>>>,
}

impl<'a> Phase<'a> {
    fn new(before: &'a Partial) -> Self {
        Self { before, inserted: RefCell::default() }
    }
}

impl Arena for Phase<'_> {
    type Error = UpdateError;

    fn open(&self, reference: u64, _: Option<(u64, usize)>) -> Result<(u64, Page<'_>), UpdateError> {
        Ok((reference, self.before.page(reference).unwrap_or(Page::new(&[]))))
    }

    fn insert(&self, page: &[u8]) -> u64 {
        let mut inserted = self.inserted.borrow_mut();
        inserted.push(page.to_vec());
        self.before.next + inserted.len() as u64 - 1
    }

    fn superseded(&self, _: u64) {}

    fn dropped(&self, _: u64) {}
}

/// Walks the nodes from the root down, in key order.
struct Reader<'r, N> {
    shape: Shape,
    nodes: &'r N,
    shown: Vec<Shown>,
}

impl<'n, N: Fn(&B256) -> Option<&'n [u8]>> Reader<'_, N> {
    /// The node `hash` at the end of the nibbles `path`, which was given.
    fn hashed<S: ProofScheme>(
        &mut self,
        hash: B256,
        place: Place,
        path: &mut Vec<u8>,
    ) -> Result<(), PartialError> {
        let Some(bytes) = (self.nodes)(&hash) else { return Ok(()) };
        let flawed = |flaw| PartialError::Node { hash, flaw };
        if S::hash(bytes).map_err(flawed)? != hash {
            return Err(PartialError::WrongHash(hash));
        }
        self.node::<S>(S::decode(bytes, place).map_err(flawed)?, hash, path)
    }

    fn node<S: ProofScheme>(
        &mut self,
        node: Node<'_>,
        hash: B256,
        path: &mut Vec<u8>,
    ) -> Result<(), PartialError> {
        let flawed = |flaw| PartialError::Node { hash, flaw };
        let depth = path.len();
        match node {
            Node::Leaf { path: rest, value } => {
                path.extend(rest.nibbles());
                if !path.len().is_multiple_of(2) || path.len() > crate::path::MAX_KEY_BYTES * 2 {
                    return Err(PartialError::BadPath(path.len()));
                }
                if self.shape == Shape::Flat {
                    let value = S::raw(&value).map_err(flawed)?.to_vec();
                    self.show(path, What::Leaf(value));
                } else if path.len() == ACCOUNT_DEPTH {
                    let (account, storage_root) = S::account(&value).map_err(flawed)?;
                    let mut body = Vec::new();
                    account.encode(&mut body);
                    self.show(path, What::Account(body));
                    if storage_root != S::empty_root() {
                        self.child::<S>(Child::Hash(&storage_root.0), Place::Root, false, hash, path)?;
                    }
                } else if path.len() == 2 * ACCOUNT_DEPTH {
                    let value = S::slot(&value).map_err(flawed)?.to_be_bytes::<32>();
                    self.show(path, What::Leaf(trim(&value).to_vec()));
                } else {
                    return Err(PartialError::BadPath(path.len()));
                }
            }
            Node::Extension { path: rest, child } => {
                path.extend(rest.nibbles());
                self.child::<S>(child, Place::Hashed, true, hash, path)?;
            }
            Node::Branch(branch) => {
                if let BranchValue::Whole(value) = branch.value {
                    let value = S::raw(&S::branch_value(value)).map_err(flawed)?.to_vec();
                    self.show(path, What::Leaf(value));
                }
                for (nibble, child) in branch.children.into_iter().enumerate() {
                    path.push(nibble as u8);
                    self.child::<S>(child, Place::Hashed, false, hash, path)?;
                    path.pop();
                }
            }
        }
        path.truncate(depth);
        Ok(())
    }

    fn child<S: ProofScheme>(
        &mut self,
        child: Child<'_>,
        place: Place,
        is_branch: bool,
        parent: B256,
        path: &mut Vec<u8>,
    ) -> Result<(), PartialError> {
        match child {
            Child::Empty | Child::Closed => Ok(()),
            Child::Embedded(bytes) => {
                let flawed = |flaw| PartialError::Node { hash: parent, flaw };
                self.node::<S>(S::decode(bytes, Place::Embedded).map_err(flawed)?, parent, path)
            }
            Child::Hash(hash) => {
                let hash = B256::new(*hash);
                if (self.nodes)(&hash).is_some() {
                    return self.hashed::<S>(hash, place, path);
                }
                if self.shape == Shape::Accounts
                    && path.len() == ACCOUNT_DEPTH
                    && !matches!(place, Place::Root)
                {
                    // Here it could not be told from the storage of the account before; no two hashed keys come so close.
                    return Err(PartialError::BadPath(path.len()));
                }
                self.show(path, What::Blinded { node: NodeRef::hash(hash), is_branch });
                Ok(())
            }
        }
    }

    fn show(&mut self, nibbles: &[u8], what: What) {
        let pack = |pair: &[u8]| match pair {
            [high, low] => high << 4 | low,
            [high] => high << 4,
            _ => 0,
        };
        let path = nibbles.chunks(2).map(pack).collect();
        self.shown.push(Shown { path, end: nibbles.len(), what });
    }
}
