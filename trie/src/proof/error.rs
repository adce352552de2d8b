//! What can be wrong with a proof, and where.

use alloy_primitives::B256;

/// Why a proof does not prove anything. None of these means that a key is absent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The key is longer than [`MAX_KEY_BYTES`](crate::path::MAX_KEY_BYTES).
    #[error("key {key} has {bytes} bytes, more than any key of a trie")]
    KeyTooLong {
        /// Which of the keys, counted from 0.
        key: usize,
        /// Its length.
        bytes: usize,
    },
    /// There are more nodes than the keys have nibbles.
    #[error("the proof has {nodes} nodes; the keys cannot use more than {limit}")]
    TooManyNodes {
        /// Nodes in the proof.
        nodes: usize,
        /// The most that the keys can use.
        limit: usize,
    },
    /// A node is longer than [`MAX_NODE_BYTES`](super::MAX_NODE_BYTES).
    #[error("node {node} has {bytes} bytes, more than any node of a trie")]
    NodeTooLarge {
        /// Index of the node in the proof.
        node: usize,
        /// Its length.
        bytes: usize,
    },
    /// A node does not hash to what its parent, or the root, says.
    #[error("node {node} hashes to {computed}, where {expected} is wanted")]
    HashMismatch {
        /// Index of the node in the proof.
        node: usize,
        /// The hash in the parent, or the root.
        expected: B256,
        /// The hash of the node.
        computed: B256,
    },
    /// The proof ends before it is decided what stands at a key.
    #[error("the proof ends where node {node}, with hash {expected}, is wanted")]
    MissingNode {
        /// Index that the node would have.
        node: usize,
        /// Its hash.
        expected: B256,
    },
    /// All keys are decided, and nodes are left over.
    #[error("node {node} is not needed for the keys")]
    UnusedNode {
        /// Index of the first such node.
        node: usize,
    },
    /// The bytes of a node, or of a node embedded in it, are not the encoding of any node that may stand there.
    #[error("node {node}: {flaw}")]
    Malformed {
        /// Index of the node in the proof.
        node: usize,
        /// What is wrong.
        flaw: Flaw,
    },
    /// What stands at the key is not a value of the kind that was asked for.
    #[error("the value in node {node}: {flaw}")]
    BadValue {
        /// Index of the node in the proof.
        node: usize,
        /// What is wrong.
        flaw: Flaw,
    },
}

/// What is wrong with the encoding of a node or of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The bytes end before the item does.
    #[error("the encoding is cut off")]
    Truncated,
    /// Bytes follow the item.
    #[error("bytes follow the end of the encoding")]
    TrailingBytes,
    /// A shorter encoding of the same thing exists.
    #[error("a length or a number is not in its shortest form")]
    NotMinimal,
    /// A string stands where RLP wants a list, or the other way round.
    #[error("a string and a list are confused")]
    WrongItem,
    /// A list that has neither 2 items nor 17, or an account that has not 4.
    #[error("the number of items in a list is wrong")]
    WrongItemCount,
    /// The flags of a hex-prefix path, its padding, or the count of its nibbles.
    #[error("a path has unknown flags or padding that is not zero")]
    BadPath,
    /// A leaf or a value between two bytes of a key.
    #[error("a key ends in the middle of a byte")]
    HalfByte,
    /// An extension without nibbles.
    #[error("an extension over no nibble")]
    EmptyExtension,
    /// An extension over a leaf or another extension.
    #[error("an extension over something that is not a branch")]
    ExtensionChild,
    /// A branch with fewer than two of children and value.
    #[error("a branch with fewer than two of children and value")]
    LoneBranch,
    /// A reference that is neither a hash, nor an embedded node, nor empty.
    #[error("a reference to a child is neither a hash nor a node")]
    BadReference,
    /// A node of 32 bytes or more inside its parent.
    #[error("a node of 32 bytes or more is embedded")]
    TooLongToEmbed,
    /// A node of fewer than 32 bytes that is named by its hash.
    #[error("a node of fewer than 32 bytes is not embedded")]
    NotEmbedded,
    /// The first byte names no kind of node, or of value.
    #[error("an unknown kind of node or value")]
    UnknownKind,
    /// The children named in a branch are not exactly those through which the keys go.
    #[error("a branch opens other children than the keys go through")]
    WrongOpening,
    /// A branch holds its value in whole where a digest is due, or the other way round.
    #[error("a branch holds its value in whole where a digest is due, or the other way round")]
    WrongValueForm,
    /// A flat value, a slot and an account are confused.
    #[error("a value of another kind")]
    WrongKind,
    /// A number is too large, zero where zero is never stored, or has leading zeros.
    #[error("a number out of its range")]
    BadNumber,
}
