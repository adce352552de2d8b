//! Partial tries: what a witness shows of a trie, to be read and changed.
//!
//! A witness is a bag of nodes, from a stranger. [`Partial::new`] takes exactly those that hang together under a root: each node has
//! its place by its hash, and all have one. What is shown is then the same pages as in a store; a node that is not shown is
//! known by its hash alone, and that is enough as long as nothing leads through it. Where something does, the answer is an error that
//! says where, never absence.
//!
//! A removal can leave a node alone in what was a branch, and then it depends on that node what becomes of it: the witness must have
//! it too ([`PartialError::Sibling`]). [`witness`](crate::witness::witness) makes such bags.

mod error;
mod read;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;

use alloy_primitives::B256;

pub use self::error::{Missing, NodePath, PartialError};
use self::read::Reader;
use crate::levels::{self, Pages, Refs, Workspace};
use crate::op::Op;
use crate::page::{Find, Item, Page, Shape};
use crate::proof::ProofScheme;
use crate::scheme::NodeRef;
use crate::structure::edge_from;
use crate::update::{self, Arena, UpdateError};

/// How much a witness may show. A node counts at each of its places: many accounts may have the same storage, and a
/// forged trie may hold the same node in all sixteen places of a branch, level by level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Places of nodes.
    pub nodes: usize,
    /// Bytes of the nodes in all their places.
    pub bytes: usize,
}

impl Default for Bounds {
    /// A million nodes, 256 MiB: some twenty times the largest witness of a block on mainnet.
    fn default() -> Self {
        Self { nodes: 1 << 20, bytes: 256 << 20 }
    }
}

/// A trie of which some nodes are known.
#[derive(Clone, Debug)]
pub struct Partial {
    shape: Shape,
    root: Option<u64>,
    pages: BTreeMap<u64, (Vec<u8>, Vec<NodeRef>)>,
    next: u64,
}

impl Partial {
    /// The part of the trie under `root` that `nodes` show, in any order; state and storage lie together. Leaves get the stamp 0.
    /// Nodes of the `Blake3` scheme must name all children of a branch.
    ///
    /// Cost: a hash a node; time and memory in proportion to the nodes in all their places, which `bounds` bounds.
    ///
    /// # Errors
    ///
    /// The root's node is missing; a node is not canonical, is there twice or has no place; a key has an impossible
    /// length; the bounds are exceeded. An empty bag shows the empty trie only.
    pub fn new<S: ProofScheme>(
        shape: Shape,
        root: B256,
        nodes: &[impl AsRef<[u8]>],
        bounds: Bounds,
    ) -> Result<Self, PartialError> {
        let mut this = Self { shape, root: None, pages: BTreeMap::new(), next: 1 };
        let shown = Reader::<S, _>::new(shape, nodes, bounds)?.read(root)?;
        let (root, inserted) = {
            let phase = Phase::new(&this);
            let root = update::build(&phase, shape, &shown);
            (root, phase.inserted.into_inner())
        };
        this.keep(inserted, root);
        Ok(this)
    }

    /// The stored value at `key`: of a slot without leading zeros, of an account its body. `None` where the nodes show that there
    /// is none.
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
            let entry = page.entry(at);
            match entry.item {
                Item::Child { reference } => next = Some(reference),
                Item::Leaf { value, .. } => return Ok(Some(value.to_vec())),
                Item::Account { body, .. } => return Ok(Some(body.to_vec())),
                Item::Blinded { node, .. } => {
                    return Err(PartialError::Blinded(Missing::new(key, entry.end, &node)));
                }
            }
        }
        Ok(None)
    }

    /// Applies sorted operations; nothing happens on an error.
    ///
    /// # Errors
    ///
    /// The batch does not fit, leads through a node that was not given, or leaves such a node alone in a branch.
    pub fn apply(&mut self, ops: &[Op<'_>], stamp: u64) -> Result<(), PartialError> {
        let (root, next) = (self.root, self.next);
        let alone = self.change(ops, stamp)?;
        match alone.into_iter().next() {
            None => Ok(()),
            Some(missing) => {
                self.undo(root, next);
                Err(PartialError::Sibling(missing))
            }
        }
    }

    /// The nodes, known by their hashes only, that `ops` would leave alone in their branches: [`apply`](Self::apply) needs them
    /// too. In the order of their paths; nothing is changed.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply), but for these nodes.
    pub fn siblings(&mut self, ops: &[Op<'_>]) -> Result<Vec<Missing>, PartialError> {
        let (root, next) = (self.root, self.next);
        let alone = self.change(ops, 0)?;
        self.undo(root, next);
        Ok(alone)
    }

    /// The root.
    ///
    /// Cost: a hash for each node that changed; the first time, for each node that was given.
    ///
    /// # Errors
    ///
    /// None that a trie which was read and changed without one can give.
    pub fn root<S: ProofScheme>(&mut self) -> Result<B256, PartialError> {
        let mut workspace = Workspace::default();
        let hashed = levels::hash::<S>(self, self.shape, self.root, &mut workspace)?;
        for (word, refs) in workspace.pages() {
            if let Some((_, known)) = self.pages.get_mut(&word) {
                *known = refs.to_vec();
            }
        }
        self.forget_superseded();
        Ok(hashed.root)
    }

    /// Applies operations, whatever is left alone: that, in the order of the paths.
    fn change(&mut self, ops: &[Op<'_>], stamp: u64) -> Result<Vec<Missing>, PartialError> {
        let first_new = self.next;
        let changed = {
            let phase = Phase::new(self);
            let updated = update::update(&phase, self.shape, self.root, ops, stamp);
            updated.map(|updated| (updated.root, phase.inserted.into_inner()))
        };
        let (root, inserted) = match changed {
            Ok(changed) => changed,
            Err(UpdateError::Blinded(at)) => {
                let key = ops.get(at).map_or(&[][..], |op| op.key);
                return Err(self.get(key).err().unwrap_or(UpdateError::Blinded(at).into()));
            }
            Err(error) => return Err(error.into()),
        };
        self.keep(inserted, root);
        let mut alone = self.alone(first_new);
        alone.sort_unstable_by(|a, b| a.path.0.cmp(&b.path.0));
        Ok(alone)
    }

    /// Takes back the change before which root and next page were these.
    fn undo(&mut self, root: Option<u64>, next: u64) {
        self.pages.split_off(&next);
        (self.root, self.next) = (root, next);
    }

    fn keep(&mut self, inserted: Vec<Vec<u8>>, root: Option<u64>) {
        for page in inserted {
            self.pages.insert(self.next, (page, Vec::new()));
            self.next += 1;
        }
        self.root = root;
    }

    /// Drops the pages that the root does not lead to. Those are where references are carried from, until the root is known.
    fn forget_superseded(&mut self) {
        let mut live = BTreeMap::new();
        let mut words: Vec<u64> = self.root.into_iter().collect();
        while let Some(word) = words.pop() {
            let Some(held) = self.pages.remove(&word) else { continue };
            let children = Page::new(&held.0).entries().filter_map(|entry| match entry.item {
                Item::Child { reference } => Some(reference),
                _ => None,
            });
            words.extend(children);
            live.insert(word, held);
        }
        self.pages = live;
    }

    /// The nodes known by their hashes only that pages from `first_new` on hold where their branches are gone.
    fn alone(&self, first_new: u64) -> Vec<Missing> {
        let mut alone = Vec::new();
        let mut open: Vec<(u64, Vec<u8>)> = self.root.map(|root| (root, Vec::new())).into_iter().collect();
        while let Some((word, stem)) = open.pop() {
            let Some(page) = self.page(word).filter(|_| word >= first_new) else { continue };
            let stem = stem.get(..page.depth() / 2).unwrap_or_default();
            let mut account = Vec::new();
            for (at, entry) in page.entries().enumerate() {
                let above = if entry.below { &account[..] } else { stem };
                let path = [above, entry.tail].concat();
                match entry.item {
                    Item::Leaf { .. } => {}
                    Item::Account { .. } => account = path,
                    Item::Child { reference } => open.push((reference, path)),
                    // Its path ends where the edge to it began; over a branch an extension may grow.
                    Item::Blinded { node, is_branch } if !is_branch && edge_from(page, at) != entry.end => {
                        alone.push(Missing::new(&path, entry.end, &node));
                    }
                    Item::Blinded { .. } => {}
                }
            }
        }
        alone
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
