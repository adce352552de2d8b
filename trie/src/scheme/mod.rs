//! Hash schemes: how leaves, extensions and branches become bytes, and bytes become references.

use alloc::vec::Vec;
use alloy_primitives::B256;

use crate::{Account, Path};

pub mod blake3;
pub mod ethereum;

/// How a parent names a child: by the hash of its encoding, or, in the `Ethereum` scheme, by the
/// encoding itself when that is shorter than 32 bytes. The two are told apart by a length, never by looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeRef {
    /// 32 for a hash; the length of an embedded encoding otherwise.
    len: u8,
    bytes: [u8; 32],
}

impl NodeRef {
    /// No reference yet: equal to no real one.
    pub(crate) const UNKNOWN: Self = Self { len: 0, bytes: [0; 32] };

    /// Room for a hash that is not known yet.
    pub(crate) const ROOM: Self = Self { len: 32, bytes: [0; 32] };

    /// A reference by hash.
    pub fn hash(hash: B256) -> Self {
        Self { len: 32, bytes: hash.0 }
    }

    /// A reference that holds the encoding itself. `None` unless `encoding` has 1 to 31 bytes.
    pub fn embedded(encoding: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        let len = encoding.len();
        if len == 0 || len > 31 {
            return None;
        }
        bytes.get_mut(..len)?.copy_from_slice(encoding);
        Some(Self { len: len as u8, bytes })
    }

    /// The hash, unless the node is embedded.
    pub fn as_hash(&self) -> Option<B256> {
        (self.len == 32).then_some(B256::new(self.bytes))
    }

    /// The hash, where it stands.
    #[inline]
    pub(crate) fn hash_bytes(&self) -> Option<&[u8; 32]> {
        (self.len == 32).then_some(&self.bytes)
    }

    /// The encoding of an embedded node, or the 32 bytes of a hash.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl core::fmt::Debug for NodeRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kind = if self.len == 32 { "hash" } else { "embedded" };
        write!(f, "{kind} {}", alloy_primitives::hex::encode(self.as_slice()))
    }
}

/// What a leaf holds, before the scheme encodes it.
#[derive(Clone, Copy, Debug)]
pub enum LeafValue<'a> {
    /// A flat value, taken as it is.
    Raw(&'a [u8]),
    /// A storage slot: the value big-endian, without leading zeros.
    Slot(&'a [u8]),
    /// An account with the root of its storage.
    Account(&'a Account, B256),
}

/// A hash rule.
///
/// What encodes says where in `out` a hash stands that may not be known yet: encodings are made before the nodes below are
/// hashed, and filled in.
pub trait Scheme: Copy + Send + Sync + 'static {
    /// The name in options, files and messages.
    const NAME: &'static str;

    /// The root of a trie without keys.
    fn empty_root() -> B256;

    /// Appends the encoding of a leaf to `out`. `path` is what is left of the key below the parent branch. The answer is where the
    /// storage root of an account begins in `out`; of other leaves it says nothing.
    fn encode_leaf(path: Path<'_>, value: LeafValue<'_>, out: &mut Vec<u8>) -> usize;

    /// Appends the encoding of an extension of at least one nibble over `child`; where the child's hash begins in `out`.
    fn encode_extension(path: Path<'_>, child: &NodeRef, out: &mut Vec<u8>) -> usize;

    /// Appends the encoding of a branch; where the hash of each child begins in `out`. `value` is that of a key which ends
    /// here (flat keys of several lengths).
    fn encode_branch_over(
        children: &[Option<&NodeRef>; 16],
        value: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> [usize; 16];

    /// The same over children that stand together.
    fn encode_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> [usize; 16] {
        Self::encode_branch_over(&children.each_ref().map(Option::as_ref), value, out)
    }

    /// The reference of a node that stands in its parent itself; `None` for one that is named by its hash.
    fn embed(encoding: &[u8]) -> Option<NodeRef>;

    /// The hashes of as many encodings as `hashes` has places, which all have the same length and stand end to end.
    fn hash_equal(encodings: &[u8], hashes: &mut [[u8; 32]]);

    /// The reference of one node; of the root of a trie, which has no parent to be embedded in, always a hash.
    fn reference(encoding: &[u8], is_root: bool) -> NodeRef {
        if let Some(node) = Self::embed(encoding).filter(|_| !is_root) {
            return node;
        }
        let mut hash = [[0; 32]];
        Self::hash_equal(encoding, &mut hash);
        let [hash] = hash;
        NodeRef::hash(B256::new(hash))
    }

    /// Appends what a proof carries of a branch when the path goes on at `nibble` (`None`: it ends here).
    fn prove_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        nibble: Option<u8>,
        out: &mut Vec<u8>,
    );
}
