//! A node as a proof shows it, the same for both schemes.

use alloc::vec::Vec;
use alloy_primitives::{B256, U256};

use super::Flaw;
use crate::{Account, NodeRef, Path, Scheme};

/// Where a node stands: its encoding may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The top of the trie: named by its hash, whatever its length.
    Root,
    /// Below another node that names it by its hash.
    Hashed,
    /// Inside the node above.
    Embedded,
}

/// A node, borrowed from its encoding.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack for one step; a box would cost an allocation a node"
)]
pub enum Node<'a> {
    /// The end of a key.
    Leaf {
        /// What is left of the key.
        path: Path<'a>,
        /// The value.
        value: Value<'a>,
    },
    /// Nibbles that all keys below share.
    Extension {
        /// The nibbles; at least one.
        path: Path<'a>,
        /// The branch below.
        child: Child<'a>,
    },
    /// Keys that part.
    Branch(Branch<'a>),
}

/// A branch, as a proof shows it.
#[derive(Clone, Debug)]
pub struct Branch<'a> {
    /// What is below each nibble.
    pub children: [Child<'a>; 16],
    /// The value of the key that ends here.
    pub value: BranchValue<'a>,
    /// Whether the form depends on the keys: only the children on their way are named, and the value is in whole only
    /// where one of them ends.
    pub compact: bool,
}

/// What a branch holds below one nibble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child<'a> {
    /// Nothing: no key goes on here.
    Empty,
    /// A node, by its hash.
    Hash(&'a [u8; 32]),
    /// A node, by its encoding.
    Embedded(&'a [u8]),
    /// A node that this form of the branch does not name.
    Closed,
}

/// The value that a branch holds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchValue<'a> {
    /// No key ends here.
    Absent,
    /// The value.
    Whole(&'a [u8]),
    /// There is one, of which this form tells the digest only.
    Digest,
}

/// A value and, where the scheme tells, of what kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// The scheme does not tell the kinds apart: the value string.
    Untyped(&'a [u8]),
    /// A flat value.
    Raw(&'a [u8]),
    /// A slot: big-endian, without leading zeros.
    Slot(&'a [u8]),
    /// An account: root of its storage, then its body.
    Account(&'a [u8]),
}

/// What verifying takes of a scheme, beyond hashing: decoding, strictly.
pub trait ProofScheme: Scheme {
    /// The one node that may stand for the proof by no nodes that a trie is empty.
    const EMPTY_NODE: Option<&'static [u8]>;

    /// Appends what a proof for many keys carries of a branch: those keys go on at the nibbles in the mask `opened`,
    /// and one of them `ends` here.
    fn open_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        opened: u16,
        ends: bool,
        out: &mut Vec<u8>,
    );

    /// The hash of the node that `bytes` show. Every byte goes into it.
    ///
    /// # Errors
    /// The flaw that keeps `bytes` from being hashed at all.
    fn hash(bytes: &[u8]) -> Result<B256, Flaw>;

    /// Decodes a node. What this accepts, encodes again to the same bytes.
    ///
    /// # Errors
    /// What is not canonical in `bytes`.
    fn decode(bytes: &[u8], place: Place) -> Result<Node<'_>, Flaw>;

    /// What the value that a branch holds itself is.
    fn branch_value(bytes: &[u8]) -> Value<'_>;

    /// The bytes of a flat value.
    ///
    /// # Errors
    /// [`Flaw::WrongKind`] if the scheme says that it is not one.
    fn raw<'a>(value: &Value<'a>) -> Result<&'a [u8], Flaw>;

    /// A slot, never zero.
    ///
    /// # Errors
    /// What keeps the value from being one.
    fn slot(value: &Value<'_>) -> Result<U256, Flaw>;

    /// An account, and the root of its storage.
    ///
    /// # Errors
    /// What keeps the value from being one.
    fn account(value: &Value<'_>) -> Result<(Account, B256), Flaw>;
}
