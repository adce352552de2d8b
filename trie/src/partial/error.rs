//! Why a partial trie cannot be made, read or changed.

use alloc::vec::Vec;
use core::fmt;

use alloy_primitives::B256;
use thiserror::Error;

use crate::levels::HashError;
use crate::path::nibble;
use crate::proof::Flaw;
use crate::scheme::NodeRef;
use crate::update::UpdateError;

/// Why a partial trie cannot answer. None of these means that a key is absent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartialError {
    /// A node does not decode, or may not stand where it is named.
    #[error("the node {hash} is not canonical: {flaw}")]
    Node {
        /// Its hash.
        hash: B256,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The bytes of a node cannot even be hashed.
    #[error("node {node} of the witness is no node: {flaw}")]
    NoNode {
        /// Its index in the witness.
        node: usize,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The node of the root is not among those given.
    #[error("the witness lacks the node of the root {0}")]
    NoRoot(B256),
    /// A node is in the witness twice.
    #[error("node {node} of the witness, {hash}, is there twice")]
    Repeated {
        /// Index of the second one.
        node: usize,
        /// Its hash.
        hash: B256,
    },
    /// No node leads to this one from the root.
    #[error("node {node} of the witness, {hash}, has no place under the root")]
    Unlinked {
        /// Its index in the witness.
        node: usize,
        /// Its hash.
        hash: B256,
    },
    /// A node is longer than [`MAX_NODE_BYTES`](crate::proof::MAX_NODE_BYTES).
    #[error("node {node} of the witness has {bytes} bytes, more than any node of a trie")]
    NodeTooLarge {
        /// Its index in the witness.
        node: usize,
        /// Its length.
        bytes: usize,
    },
    /// The witness shows more than the [`Bounds`](super::Bounds) allow.
    #[error("the witness shows more than {limit} {what}, each node counted at all its places")]
    TooMuch {
        /// Nodes or bytes.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A key in the trie has a length that no key has, or a path leads deeper than any key.
    #[error("a path of {0} nibbles cannot be, or lead to, a key")]
    BadPath(usize),
    /// The key leads through a node that was not given.
    #[error("the witness lacks {0}")]
    Blinded(Missing),
    /// A removal leaves alone in its branch a node that was not given: what is to stand there depends on what it is.
    #[error("a removal leaves a node alone in its branch, and the witness lacks it: {0}")]
    Sibling(Missing),
    /// A change cannot be applied.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The root cannot be computed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// A node that a witness lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Where it stands.
    pub path: NodePath,
    /// Its hash.
    pub hash: B256,
}

impl Missing {
    /// The node that stands after `nibbles` of the key `bytes`.
    pub(super) fn new(bytes: &[u8], nibbles: usize, node: &NodeRef) -> Self {
        let path = NodePath((0..nibbles).map(|at| nibble(bytes, at)).collect());
        Self { path, hash: node.as_hash().unwrap_or_default() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node {} at path {}", self.hash, self.path)
    }
}

/// The way from the root to a node: nibbles, one a byte. In the accounts shape those of the account come first (64), then those
/// of the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePath(pub Vec<u8>);

impl NodePath {
    /// A key that leads through the node: the path, filled up with zeros to `bytes` bytes.
    pub fn key(&self, bytes: usize) -> Vec<u8> {
        let at = |index: usize| self.0.get(index).copied().unwrap_or_default() & 0x0f;
        (0..bytes).map(|byte| at(2 * byte) << 4 | at(2 * byte + 1)).collect()
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|nibble| write!(f, "{nibble:x}"))
    }
}
