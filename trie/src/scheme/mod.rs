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

/// A hash rule. Encodings of one depth are gathered in an [`Encoded`] and hashed together.
pub trait Scheme: Copy + Send + Sync + 'static {
    /// The name in options, files and messages.
    const NAME: &'static str;

    /// The root of a trie without keys.
    fn empty_root() -> B256;

    /// Appends the encoding of a leaf to `out`. `path` is what is left of the key below the parent branch.
    fn encode_leaf(path: Path<'_>, value: LeafValue<'_>, out: &mut Vec<u8>);

    /// Appends the encoding of an extension of at least one nibble over `child`.
    fn encode_extension(path: Path<'_>, child: &NodeRef, out: &mut Vec<u8>);

    /// Appends the encoding of a branch. `value` is that of a key which ends here (flat keys of several lengths).
    fn encode_branch(children: &[Option<NodeRef>; 16], value: Option<&[u8]>, out: &mut Vec<u8>);

    /// Turns each encoding of `batch` into a reference, in order; where `batch` says so, always into a hash
    /// (the root of a trie has no parent to be embedded in).
    fn reference(batch: &Encoded, out: &mut Vec<NodeRef>);

    /// Appends what a proof carries of a branch when the path goes on at `nibble` (`None`: it ends here).
    fn prove_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        nibble: Option<u8>,
        out: &mut Vec<u8>,
    );
}

/// Encodings one after another in one buffer.
#[derive(Default, Debug)]
pub struct Encoded {
    /// The encodings, end to end. Schemes append here.
    pub bytes: Vec<u8>,
    ends: Vec<(u32, bool)>,
}

impl Encoded {
    /// Marks the end of the encoding that was appended last. `root`: it must become a hash.
    pub fn end(&mut self, root: bool) {
        self.ends.push((self.bytes.len() as u32, root));
    }

    /// Each encoding, and whether it must become a hash.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut start = 0usize;
        self.ends.iter().map(move |&(end, root)| {
            let item = self.bytes.get(start..end as usize).unwrap_or_default();
            start = end as usize;
            (item, root)
        })
    }

    /// How many encodings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets all encodings, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}
