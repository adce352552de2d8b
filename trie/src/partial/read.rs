//! Reading a bag of nodes: each gets its places in the trie by its hash, from the root down, and none is left over.

use alloc::vec;
use alloc::vec::Vec;
use core::marker::PhantomData;

use alloy_primitives::B256;

use super::{Bounds, PartialError};
use crate::account::trim;
use crate::page::{ACCOUNT_DEPTH, Shape};
use crate::path::{MAX_KEY_BYTES, Path};
use crate::proof::node::{Branch, BranchValue, Child, Node, Place, ProofScheme, Value};
use crate::proof::{Flaw, MAX_NODE_BYTES};
use crate::scheme::NodeRef;
use crate::update::{Shown, What};

/// Walks the nodes from the root down, in key order, without recursion.
pub(super) struct Reader<'n, S, N> {
    shape: Shape,
    nodes: &'n [N],
    /// The hash of each node, ascending, and its index.
    by_hash: Vec<(B256, usize)>,
    linked: Vec<bool>,
    /// What is left of the bounds.
    left: Bounds,
    bounds: Bounds,
    /// The nibbles from the root to where the walk is.
    path: Vec<u8>,
    steps: Vec<Step<'n>>,
    shown: Vec<Shown>,
    scheme: PhantomData<S>,
}

/// A place that the walk has not come to yet.
struct Step<'n> {
    child: Child<'n>,
    place: Place,
    /// So many nibbles of the path lead to the node above, or to the end of its extension.
    depth: usize,
    /// The nibble that leads on from there.
    nibble: Option<u8>,
    /// Whether only a branch may stand there.
    extended: bool,
    is_storage: bool,
    /// The node that names it.
    parent: B256,
}

impl<'n, S: ProofScheme, N: AsRef<[u8]>> Reader<'n, S, N> {
    pub(super) fn new(shape: Shape, nodes: &'n [N], bounds: Bounds) -> Result<Self, PartialError> {
        if nodes.len() > bounds.nodes {
            return Err(PartialError::TooMuch { what: "nodes", limit: bounds.nodes });
        }
        let mut by_hash = Vec::with_capacity(nodes.len());
        for (node, bytes) in nodes.iter().map(AsRef::as_ref).enumerate() {
            if bytes.len() > MAX_NODE_BYTES {
                return Err(PartialError::NodeTooLarge { node, bytes: bytes.len() });
            }
            by_hash.push((S::hash(bytes).map_err(|flaw| PartialError::NoNode { node, flaw })?, node));
        }
        by_hash.sort_unstable();
        for pair in by_hash.windows(2) {
            if let [(first, _), (second, node)] = pair
                && first == second
            {
                return Err(PartialError::Repeated { node: *node, hash: *second });
            }
        }
        Ok(Self {
            shape,
            nodes,
            by_hash,
            linked: vec![false; nodes.len()],
            left: bounds,
            bounds,
            path: Vec::new(),
            steps: Vec::new(),
            shown: Vec::new(),
            scheme: PhantomData,
        })
    }

    /// The entries that the nodes show of the trie under `root`, in key order.
    pub(super) fn read(mut self, root: B256) -> Result<Vec<Shown>, PartialError> {
        if root != S::empty_root() {
            let at = self.find(&root).ok_or(PartialError::NoRoot(root))?;
            self.node(at, root, Place::Root, false, false)?;
            while let Some(step) = self.steps.pop() {
                self.step(&step)?;
            }
        }
        // A server may give the node of an empty trie: of a storage, or of the state.
        let is_empty =
            |node: usize| S::EMPTY_NODE.is_some() && self.nodes.get(node).map(AsRef::as_ref) == S::EMPTY_NODE;
        let unlinked = |node: &usize| self.linked.get(*node) == Some(&false) && !is_empty(*node);
        match (0..self.nodes.len()).find(unlinked) {
            None => Ok(self.shown),
            Some(node) => {
                let hash = self.by_hash.iter().find(|(_, at)| *at == node).map(|(hash, _)| *hash);
                Err(PartialError::Unlinked { node, hash: hash.unwrap_or_default() })
            }
        }
    }

    /// Where the node with this hash is in the witness.
    fn find(&self, hash: &B256) -> Option<usize> {
        let at = self.by_hash.binary_search_by(|(known, _)| known.cmp(hash)).ok()?;
        self.by_hash.get(at).map(|(_, node)| *node)
    }

    /// The longest path that a node of this trie may have.
    fn deepest(&self, is_storage: bool) -> usize {
        match (self.shape, is_storage) {
            (Shape::Flat, _) => 2 * MAX_KEY_BYTES,
            (Shape::Accounts, false) => ACCOUNT_DEPTH,
            (Shape::Accounts, true) => 2 * ACCOUNT_DEPTH,
        }
    }

    fn step(&mut self, step: &Step<'n>) -> Result<(), PartialError> {
        self.path.truncate(step.depth);
        if let Some(nibble) = step.nibble {
            self.extend(Path::range(&[nibble], 1, 2), step.is_storage)?;
        }
        match step.child {
            Child::Empty => Ok(()),
            // It is there, but without its hash: neither can it be read, nor what is above it be hashed.
            Child::Closed => Err(PartialError::Node { hash: step.parent, flaw: Flaw::WrongOpening }),
            Child::Embedded(bytes) => {
                self.decoded(bytes, step.parent, Place::Embedded, step.extended, step.is_storage)
            }
            Child::Hash(hash) => {
                let hash = B256::new(*hash);
                match self.find(&hash) {
                    Some(at) => self.node(at, hash, step.place, step.extended, step.is_storage),
                    None => self.blinded(hash, step),
                }
            }
        }
    }

    /// The node of the witness at `at`, in one of its places.
    fn node(
        &mut self,
        at: usize,
        hash: B256,
        place: Place,
        extended: bool,
        is_storage: bool,
    ) -> Result<(), PartialError> {
        let nodes: &'n [N] = self.nodes;
        let bytes = nodes.get(at).map(AsRef::as_ref).unwrap_or_default();
        let spent = |what, limit| PartialError::TooMuch { what, limit };
        self.left.nodes = self.left.nodes.checked_sub(1).ok_or(spent("nodes", self.bounds.nodes))?;
        self.left.bytes =
            self.left.bytes.checked_sub(bytes.len()).ok_or(spent("bytes", self.bounds.bytes))?;
        if let Some(linked) = self.linked.get_mut(at) {
            *linked = true;
        }
        self.decoded(bytes, hash, place, extended, is_storage)
    }

    /// A node at the end of the path; `hash` is its own, or that of the node it is embedded in.
    fn decoded(
        &mut self,
        bytes: &'n [u8],
        hash: B256,
        place: Place,
        extended: bool,
        is_storage: bool,
    ) -> Result<(), PartialError> {
        let flawed = |flaw| PartialError::Node { hash, flaw };
        match S::decode(bytes, place).map_err(flawed)? {
            Node::Leaf { .. } | Node::Extension { .. } if extended => Err(flawed(Flaw::ExtensionChild)),
            Node::Leaf { path, value } => {
                self.extend(path, is_storage)?;
                self.leaf(&value, hash, is_storage)
            }
            Node::Extension { path, child } => {
                self.extend(path, is_storage)?;
                let step = self.below(child, None, hash, is_storage);
                self.steps.push(Step { extended: true, ..step });
                Ok(())
            }
            Node::Branch(branch) => self.branch(branch, hash, is_storage),
        }
    }

    fn extend(&mut self, path: Path<'_>, is_storage: bool) -> Result<(), PartialError> {
        let len = self.path.len() + path.len();
        if len > self.deepest(is_storage) {
            return Err(PartialError::BadPath(len));
        }
        self.path.extend(path.nibbles());
        Ok(())
    }

    fn below(&self, child: Child<'n>, nibble: Option<u8>, parent: B256, is_storage: bool) -> Step<'n> {
        let depth = self.path.len();
        Step { child, place: Place::Hashed, depth, nibble, extended: false, is_storage, parent }
    }

    fn branch(&mut self, branch: Branch<'n>, hash: B256, is_storage: bool) -> Result<(), PartialError> {
        let flawed = |flaw| PartialError::Node { hash, flaw };
        match branch.value {
            BranchValue::Absent => {}
            BranchValue::Digest => return Err(flawed(Flaw::WrongValueForm)),
            // All keys of accounts are of one length.
            BranchValue::Whole(_) if self.shape == Shape::Accounts => {
                return Err(PartialError::BadPath(self.path.len()));
            }
            BranchValue::Whole(_) if !self.path.len().is_multiple_of(2) => {
                return Err(flawed(Flaw::HalfByte));
            }
            BranchValue::Whole(value) => {
                let value = S::raw(&S::branch_value(value)).map_err(flawed)?.to_vec();
                self.show(What::Leaf(value));
            }
        }
        for (nibble, child) in (0..16).zip(branch.children).rev() {
            if child != Child::Empty {
                self.steps.push(self.below(child, Some(nibble), hash, is_storage));
            }
        }
        Ok(())
    }

    fn leaf(&mut self, value: &Value<'_>, hash: B256, is_storage: bool) -> Result<(), PartialError> {
        let flawed = |flaw| PartialError::Node { hash, flaw };
        let len = self.path.len();
        let is_flat = self.shape == Shape::Flat;
        if is_flat && !len.is_multiple_of(2) || !is_flat && len != self.deepest(is_storage) {
            return Err(PartialError::BadPath(len));
        }
        match (self.shape, is_storage) {
            (Shape::Flat, _) => {
                let value = S::raw(value).map_err(flawed)?.to_vec();
                self.show(What::Leaf(value));
            }
            (Shape::Accounts, true) => {
                let value = S::slot(value).map_err(flawed)?.to_be_bytes::<32>();
                self.show(What::Leaf(trim(&value).to_vec()));
            }
            (Shape::Accounts, false) => {
                let (account, storage_root) = S::account(value).map_err(flawed)?;
                let mut body = Vec::new();
                account.encode(&mut body);
                self.show(What::Account(body));
                if storage_root != S::empty_root() {
                    self.storage(storage_root, hash)?;
                }
            }
        }
        Ok(())
    }

    /// The storage of the account at the end of the path.
    fn storage(&mut self, root: B256, parent: B256) -> Result<(), PartialError> {
        match self.find(&root) {
            Some(at) => self.node(at, root, Place::Root, false, true),
            None => {
                let step = Step { place: Place::Root, ..self.below(Child::Empty, None, parent, true) };
                self.blinded(root, &step)
            }
        }
    }

    /// A node at the end of the path of which only the hash is known.
    fn blinded(&mut self, hash: B256, step: &Step<'n>) -> Result<(), PartialError> {
        let is_account = self.shape == Shape::Accounts && !step.is_storage;
        if is_account && self.path.len() == ACCOUNT_DEPTH {
            // Here it could not be told from the storage of the account before; no two hashed keys come so close.
            return Err(PartialError::BadPath(self.path.len()));
        }
        self.show(What::Blinded { node: NodeRef::hash(hash), is_branch: step.extended });
        Ok(())
    }

    fn show(&mut self, what: What) {
        let pack = |pair: &[u8]| match pair {
            [high, low] => high << 4 | low,
            [high] => high << 4,
            _ => 0,
        };
        let path = self.path.chunks(2).map(pack).collect();
        self.shown.push(Shown { path, end: self.path.len(), what });
    }
}
