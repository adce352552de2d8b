//! The native scheme: BLAKE3 with a key of its own for each kind of node, and branches hashed as binary trees.
//!
//! `docs/blake3-scheme.md` is the specification, with the argument for its safety and worked examples.
//! Offsets and domains are defined here and only here; a test holds the page against them.

use alloc::vec::Vec;
use alloy_primitives::{B256, b256};

use super::{LeafValue, NodeRef, Scheme};
use crate::Path;

#[cfg(feature = "lanes")]
mod lanes;

/// BLAKE3, keyed by domain. Nodes are never embedded; a proof carries of a branch at most four hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blake3;

/// Bytes of a hash.
const HASH: usize = 32;
/// Bytes before the first child's hash in a branch: its tag, which children there are, which of them are named.
const BRANCH_HEAD: usize = 5;

/// First byte of an encoded node: what it is. It selects the key and is not hashed itself.
pub(crate) mod tag {
    pub(crate) const LEAF: u8 = 0;
    pub(crate) const EXTENSION: u8 = 1;
    /// A branch at which no key ends.
    pub(crate) const BRANCH: u8 = 2;
    /// A branch whose own value is known by its digest.
    pub(crate) const BRANCH_DIGEST: u8 = 3;
    /// A branch with its own value in whole.
    pub(crate) const BRANCH_VALUE: u8 = 4;
}

/// Bits 14 and 15 of a leaf's head: what its payload is. The other bits count the nibbles of its path.
pub(crate) mod kind {
    pub(crate) const RAW: u16 = 0;
    pub(crate) const SLOT: u16 = 1;
    pub(crate) const ACCOUNT: u16 = 2;
    pub(crate) const SHIFT: u32 = 14;
    pub(crate) const COUNT: u16 = (1 << SHIFT) - 1;
}

/// The root of the trie without keys: BLAKE3's `derive_key` of "bristlecone trie blake3 v1 empty" and no material.
pub(crate) const EMPTY_ROOT: B256 = b256!("5cd714cc9eeb191b36edda870b0b876833bf5d56e1b3c9574b44c4338fdadfce");

/// The key of each domain: BLAKE3's `derive_key` of "bristlecone trie blake3 v1 " with the domain's name, and no
/// material.
mod domain {
    use alloy_primitives::hex;

    pub(super) const LEAF: [u8; 32] =
        hex!("459a4a2d5e565802ff04a250a6435c898b85b6904f0fb540cf69a3eb5e814695");
    pub(super) const EXTENSION: [u8; 32] =
        hex!("3e8749c30006c88888ecb810c30659ef30ef3713da99812c158b7ada85acdf02");
    pub(super) const PAIR: [u8; 32] =
        hex!("c2d70b06de9f4f8d8873d399bfee105748c9b7b7fe99b2b638e6c5856c78053a");
    pub(super) const BRANCH: [u8; 32] =
        hex!("94cd2cd82cb832f38a528878b0ed2f7a9f8e66a49662f45fd3f4141fce0d92aa");
    pub(super) const VALUE: [u8; 32] =
        hex!("c55cae225a027371529e98090c00ba57650e1965ef450d0f33a1114fbb6d0639");
}

fn keyed(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    *::blake3::keyed_hash(key, bytes).as_bytes()
}

/// The hash of a leaf, of its bytes after the tag.
pub(crate) fn leaf_hash(body: &[u8]) -> B256 {
    B256::new(keyed(&domain::LEAF, body))
}

/// The hash of an extension, of its bytes after the tag.
pub(crate) fn extension_hash(body: &[u8]) -> B256 {
    B256::new(keyed(&domain::EXTENSION, body))
}

/// The digest of a branch's own value.
pub(crate) fn value_digest(value: &[u8]) -> [u8; 32] {
    keyed(&domain::VALUE, value)
}

/// The hash of a branch: which children there are, the root of the tree over them, the digest of its own value.
pub(crate) fn branch_hash(occupied: u16, tree: &[u8; 32], digest: Option<&[u8; 32]>) -> B256 {
    let mut body = [0; 66];
    let (head, rest) = body.split_at_mut(2);
    let (middle, last) = rest.split_at_mut(32);
    head.copy_from_slice(&occupied.to_le_bytes());
    middle.copy_from_slice(tree);
    let body = match digest {
        Some(digest) => {
            last.copy_from_slice(digest);
            &body[..]
        }
        None => body.get(..34).unwrap_or_default(),
    };
    B256::new(keyed(&domain::BRANCH, body))
}

/// A subtree of the binary tree over a branch's children: `width` (16, 8, 4, 2 or 1) nibbles from `start` on.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    width: u32,
}

impl Span {
    const WHOLE: Self = Self { start: 0, width: 16 };

    /// Its nibbles, as a mask.
    fn mask(self) -> u16 {
        (((1u32 << self.width) - 1) << self.start) as u16
    }

    fn halves(self) -> (Self, Self) {
        let width = self.width / 2;
        (Self { width, ..self }, Self { start: self.start + width, width })
    }
}

/// The root of the tree over the children in `occupied`, which must not be empty. `take` is asked, in the order of
/// nibbles, for the hash of each subtree that holds no opened child (with `None`) and of each opened child (with its
/// nibble); `None` from it ends the walk.
pub(crate) fn tree_root<'a>(
    occupied: u16,
    opened: u16,
    take: &mut impl FnMut(Option<usize>) -> Option<&'a [u8; 32]>,
) -> Option<[u8; 32]> {
    span_root(Span::WHOLE, occupied, opened, take)
}

/// Depth of the recursion: five.
fn span_root<'a>(
    span: Span,
    occupied: u16,
    opened: u16,
    take: &mut impl FnMut(Option<usize>) -> Option<&'a [u8; 32]>,
) -> Option<[u8; 32]> {
    let mask = span.mask();
    if opened & mask == 0 {
        return take(None).copied();
    }
    if span.width == 1 {
        return take(Some(span.start as usize)).copied();
    }
    let (low, high) = span.halves();
    // A half without children leaves the other one as it is: the bitmap, which is hashed with the root, says so.
    match (occupied & low.mask() != 0, occupied & high.mask() != 0) {
        (true, false) => span_root(low, occupied, opened, take),
        (false, _) => span_root(high, occupied, opened, take),
        (true, true) => {
            let mut pair = [0; 64];
            let (left, right) = pair.split_at_mut(32);
            left.copy_from_slice(&span_root(low, occupied, opened, take)?);
            right.copy_from_slice(&span_root(high, occupied, opened, take)?);
            Some(keyed(&domain::PAIR, &pair))
        }
    }
}

/// The hash by which a parent names `child`. Nothing of this scheme is embedded: such a reference, which only a
/// caller's mistake can bring here, becomes a hash that no node has.
fn child_hash(child: &NodeRef) -> [u8; 32] {
    child.as_hash().unwrap_or(B256::ZERO).0
}

impl Blake3 {
    /// Appends the form of a branch in which the children of the nibbles in `opened` are named, the others only
    /// bound. With `whole` the branch's own value stands in it, otherwise its digest.
    ///
    /// A proof for one key opens the child that the key goes through; one for many keys all of those.
    pub fn open_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        opened: u16,
        whole: bool,
        out: &mut Vec<u8>,
    ) {
        open_branch(&children.each_ref().map(Option::as_ref), value, opened, whole, out);
    }
}

fn open_branch(
    children: &[Option<&NodeRef>; 16],
    value: Option<&[u8]>,
    opened: u16,
    whole: bool,
    out: &mut Vec<u8>,
) {
    let mut hashes = [None; 16];
    let mut occupied = 0;
    for (index, (hash, child)) in hashes.iter_mut().zip(children).enumerate() {
        *hash = child.map(child_hash);
        occupied |= u16::from(child.is_some()) << index;
    }
    let opened = opened & occupied;
    out.push(match value {
        None => tag::BRANCH,
        Some(_) if whole => tag::BRANCH_VALUE,
        Some(_) => tag::BRANCH_DIGEST,
    });
    out.extend_from_slice(&occupied.to_le_bytes());
    out.extend_from_slice(&opened.to_le_bytes());
    if occupied != 0 {
        write_cover(Span::WHOLE, &hashes, occupied, opened, out);
    }
    match value {
        Some(value) if whole => out.extend_from_slice(value),
        Some(value) => out.extend_from_slice(&value_digest(value)),
        None => {}
    }
}

/// Appends the hashes that `tree_root` takes, in its order.
fn write_cover(span: Span, hashes: &[Option<[u8; 32]>; 16], occupied: u16, opened: u16, out: &mut Vec<u8>) {
    let mask = span.mask();
    if occupied & mask == 0 {
        return;
    }
    if opened & mask == 0 {
        let all = occupied & mask;
        let root = span_root(span, all, all, &mut |nibble| hashes.get(nibble?)?.as_ref());
        out.extend_from_slice(&root.unwrap_or_default());
    } else if span.width == 1 {
        let hash = hashes.get(span.start as usize).copied().flatten();
        out.extend_from_slice(&hash.unwrap_or_default());
    } else {
        let (low, high) = span.halves();
        write_cover(low, hashes, occupied, opened, out);
        write_cover(high, hashes, occupied, opened, out);
    }
}

/// A branch as encoded, cut into its parts.
pub(crate) struct BranchParts<'a> {
    /// Nibbles that have a child.
    pub(crate) occupied: u16,
    /// The hash of each child that the form names.
    pub(crate) children: [Option<&'a [u8; 32]>; 16],
    /// The root of the tree over the children.
    pub(crate) tree: [u8; 32],
    /// What follows the hashes: nothing, a digest or the value.
    pub(crate) rest: &'a [u8],
}

/// Reads a branch's bytes after the tag. `None` unless `opened` is a subset of `occupied`, `occupied` is not empty
/// and all hashes are there.
pub(crate) fn branch_parts(body: &[u8]) -> Option<BranchParts<'_>> {
    let (occupied, body) = body.split_first_chunk::<2>()?;
    let (opened, body) = body.split_first_chunk::<2>()?;
    let (occupied, opened) = (u16::from_le_bytes(*occupied), u16::from_le_bytes(*opened));
    if occupied == 0 || opened & !occupied != 0 {
        return None;
    }
    let mut rest = body;
    let mut children = [None; 16];
    let tree = tree_root(occupied, opened, &mut |nibble| {
        let (hash, after) = rest.split_first_chunk::<32>()?;
        rest = after;
        if let Some(child) = nibble.and_then(|nibble| children.get_mut(nibble)) {
            *child = Some(hash);
        }
        Some(hash)
    })?;
    Some(BranchParts { occupied, children, tree, rest })
}

/// The hash of any encoded node; `None` if it is none. Whether it is canonical is the verifier's business.
pub(crate) fn node_hash(encoding: &[u8]) -> Option<B256> {
    let (kind, body) = encoding.split_first()?;
    match *kind {
        tag::LEAF => Some(leaf_hash(body)),
        tag::EXTENSION => Some(extension_hash(body)),
        tag::BRANCH | tag::BRANCH_DIGEST | tag::BRANCH_VALUE => {
            let parts = branch_parts(body)?;
            match *kind {
                tag::BRANCH => Some(branch_hash(parts.occupied, &parts.tree, None)),
                tag::BRANCH_DIGEST => {
                    let digest = parts.rest.first_chunk::<32>()?;
                    Some(branch_hash(parts.occupied, &parts.tree, Some(digest)))
                }
                _ => Some(branch_hash(parts.occupied, &parts.tree, Some(&value_digest(parts.rest)))),
            }
        }
        _ => None,
    }
}

/// An odd path's first nibble stands alone in the low half of the first byte; then two a byte.
fn write_path(path: &Path<'_>, out: &mut Vec<u8>) {
    let odd = path.len() % 2;
    if odd == 1 {
        out.push(path.at(0));
    }
    path.skip(odd).pack(out);
}

impl Scheme for Blake3 {
    const NAME: &'static str = "blake3";

    fn empty_root() -> B256 {
        EMPTY_ROOT
    }

    fn encode_leaf(path: Path<'_>, value: LeafValue<'_>, out: &mut Vec<u8>) -> usize {
        let kind = match value {
            LeafValue::Raw(_) => kind::RAW,
            LeafValue::Slot(_) => kind::SLOT,
            LeafValue::Account(..) => kind::ACCOUNT,
        };
        out.push(tag::LEAF);
        out.extend_from_slice(&(kind << kind::SHIFT | path.len() as u16).to_le_bytes());
        write_path(&path, out);
        let payload = out.len();
        match value {
            LeafValue::Raw(value) | LeafValue::Slot(value) => out.extend_from_slice(value),
            LeafValue::Account(account, storage_root) => {
                out.extend_from_slice(storage_root.as_slice());
                account.encode(out);
            }
        }
        payload
    }

    fn encode_extension(path: Path<'_>, child: &NodeRef, out: &mut Vec<u8>) -> usize {
        out.push(tag::EXTENSION);
        out.extend_from_slice(&(path.len() as u16).to_le_bytes());
        write_path(&path, out);
        out.extend_from_slice(&child_hash(child));
        out.len() - HASH
    }

    fn encode_branch_over(
        children: &[Option<&NodeRef>; 16],
        value: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> [usize; 16] {
        let mut next = out.len() + BRANCH_HEAD;
        open_branch(children, value, u16::MAX, true, out);
        children.map(|child| {
            let place = next;
            next += if child.is_some() { HASH } else { 0 };
            place
        })
    }

    fn embed(_: &[u8]) -> Option<NodeRef> {
        None
    }

    #[cfg(feature = "lanes")]
    fn hash_equal(encodings: &[u8], hashes: &mut [[u8; 32]]) {
        lanes::hash_equal(encodings, hashes);
    }

    #[cfg(not(feature = "lanes"))]
    fn hash_equal(encodings: &[u8], hashes: &mut [[u8; 32]]) {
        let len = encodings.len() / hashes.len().max(1);
        for (hash, encoding) in hashes.iter_mut().zip(encodings.chunks(len.max(1))) {
            // What the functions above wrote always is a node; anything else gets a hash that no node has.
            *hash = node_hash(encoding).unwrap_or_default().0;
        }
    }

    fn prove_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        nibble: Option<u8>,
        out: &mut Vec<u8>,
    ) {
        let opened = nibble.and_then(|nibble| 1u16.checked_shl(u32::from(nibble))).unwrap_or(0);
        Self::open_branch(children, value, opened, nibble.is_none(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_derived_from_the_names_of_the_domains() {
        for (name, key) in [
            ("empty", EMPTY_ROOT.0),
            ("leaf", domain::LEAF),
            ("extension", domain::EXTENSION),
            ("pair", domain::PAIR),
            ("branch", domain::BRANCH),
            ("value", domain::VALUE),
        ] {
            let context = std::format!("bristlecone trie blake3 v1 {name}");
            assert_eq!(::blake3::derive_key(&context, b""), key, "{name}");
        }
    }

    #[test]
    fn every_opening_of_every_shape_has_the_same_hash() {
        // All pairs of a few bitmaps with many openings: the whole square would be 2^32.
        for occupied in [1u16, 0x8000, 3, 0x8001, 0x0ff0, 0x1248, 0x5555, 0xfffe, 0xffff, 0x0102] {
            let children = core::array::from_fn(|index| {
                (occupied >> index & 1 == 1).then(|| NodeRef::hash(B256::repeat_byte(index as u8 + 1)))
            });
            let hash = |opened, whole| {
                let mut out = Vec::new();
                Blake3::open_branch(&children, Some(b"v"), opened, whole, &mut out);
                (node_hash(&out).unwrap(), out)
            };
            let (expected, _) = hash(u16::MAX, true);
            for opened in (0..=u16::MAX).step_by(if cfg!(miri) { 9_973 } else { 37 }) {
                let (whole, out) = hash(opened, true);
                assert_eq!(whole, expected, "{occupied:#x} opened at {opened:#x}");
                assert_eq!(hash(opened, false).0, expected);
                let parts = branch_parts(&out[1..]).unwrap();
                assert_eq!((parts.occupied, parts.rest), (occupied, &b"v"[..]));
                for (index, child) in parts.children.iter().enumerate() {
                    let named = (occupied & opened) >> index & 1 == 1;
                    assert_eq!(child.is_some(), named);
                    assert!(child.is_none_or(|hash| *hash == [index as u8 + 1; 32]));
                }
            }
        }
    }

    #[test]
    fn a_proof_of_one_child_takes_at_most_four_siblings() {
        let children = core::array::from_fn(|index| Some(NodeRef::hash(B256::repeat_byte(index as u8))));
        for nibble in 0..16 {
            let mut out = Vec::new();
            Blake3::prove_branch(&children, None, Some(nibble), &mut out);
            assert_eq!(out.len(), 1 + 4 + 5 * 32);
        }
    }
}
