//! Ethereum's scheme: RLP, hex-prefix paths and Keccak-256 (Yellow Paper, appendices B to D).
//!
//! A node whose encoding has fewer than 32 bytes stands in its parent itself; every other one, and the root
//! always, is named by its hash.

use alloc::vec::Vec;
#[cfg(not(feature = "lanes"))]
use alloy_primitives::keccak256;
use alloy_primitives::{B256, b256};
#[cfg(feature = "lanes")]
use p3_keccak::Keccak256Hash;
#[cfg(feature = "lanes")]
use p3_symmetric::CryptographicHasher;

use super::{LeafValue, NodeRef, Scheme};
use crate::account::trim;
use crate::{Account, Path};

/// RLP, hex-prefix paths and Keccak-256: roots and proofs are exactly Ethereum's.
///
/// A value of no bytes cannot be told from no value where it stands at a branch: an Ethereum trie does not hold any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethereum;

/// Keccak-256 of the RLP of the empty string.
pub(crate) const EMPTY_ROOT: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");

const STRING: u8 = 0x80;
const LIST: u8 = 0xc0;
/// Longest payload whose length fits into the head byte.
const SHORT: usize = 55;
/// Bytes of a hash.
const HASH: usize = 32;
const LEAF_FLAG: u8 = 0x20;
const ODD_FLAG: u8 = 0x10;

impl Scheme for Ethereum {
    const NAME: &'static str = "ethereum";

    fn empty_root() -> B256 {
        EMPTY_ROOT
    }

    fn encode_leaf(path: Path<'_>, value: LeafValue<'_>, out: &mut Vec<u8>) -> usize {
        let path_len = path_item_len(&path);
        match value {
            LeafValue::Raw(value) => {
                write_head(LIST, path_len + string_len(value), out);
                write_path(&path, true, out);
                write_string(value, out);
            }
            LeafValue::Slot(value) => {
                let inner = string_len(value);
                // The leaf's value string is the slot's RLP: a string in a string, unless it is one low byte.
                let plain = matches!(value, [byte] if *byte < STRING);
                let item = if plain { 1 } else { head_len(inner) + inner };
                write_head(LIST, path_len + item, out);
                write_path(&path, true, out);
                if !plain {
                    write_head(STRING, inner, out);
                }
                write_string(value, out);
            }
            LeafValue::Account(account, storage_root) => {
                let account = AccountItem::new(account, storage_root);
                let list = account.list_len();
                let item = head_len(list) + list;
                write_head(LIST, path_len + head_len(item) + item, out);
                write_path(&path, true, out);
                write_head(STRING, item, out);
                account.write(out);
            }
        }
        // The storage root and the code hash, each behind its head, are the last of an account.
        out.len().saturating_sub(HASH + 1 + HASH)
    }

    fn encode_extension(path: Path<'_>, child: &NodeRef, out: &mut Vec<u8>) -> usize {
        write_head(LIST, path_item_len(&path) + reference_len(child), out);
        write_path(&path, false, out);
        write_reference(child, out);
        out.len().saturating_sub(HASH)
    }

    fn encode_branch_over(
        children: &[Option<&NodeRef>; 16],
        value: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> [usize; 16] {
        let value = value.unwrap_or_default();
        let payload: usize =
            children.iter().map(|child| child.map_or(1, reference_len)).sum::<usize>() + string_len(value);
        out.reserve(payload + 4);
        write_head(LIST, payload, out);
        // All children together are at most this long; one copy for all of them.
        let mut items = [STRING; 16 * (HASH + 1)];
        let mut len = 0;
        let mut places = [0; 16];
        for (child, place) in children.iter().zip(&mut places) {
            let Some(child) = child else {
                len += 1;
                continue;
            };
            let room = items.get_mut(len..).unwrap_or_default();
            if let (Some(hash), Some((head, room))) = (child.hash_bytes(), room.split_first_mut()) {
                *place = out.len() + len + 1;
                *head = STRING + HASH as u8;
                if let Some(room) = room.first_chunk_mut::<HASH>() {
                    *room = *hash;
                }
                len += HASH + 1;
            } else {
                let encoding = child.as_slice();
                room.iter_mut().zip(encoding).for_each(|(room, byte)| *room = *byte);
                len += encoding.len();
            }
        }
        out.extend_from_slice(items.get(..len).unwrap_or_default());
        write_string(value, out);
        places
    }

    fn embed(encoding: &[u8]) -> Option<NodeRef> {
        NodeRef::embedded(encoding)
    }

    #[cfg(feature = "lanes")]
    fn hash_equal(encodings: &[u8], hashes: &mut [[u8; 32]]) {
        Keccak256Hash.hash_many(encodings, hashes);
    }

    #[cfg(not(feature = "lanes"))]
    fn hash_equal(encodings: &[u8], hashes: &mut [[u8; 32]]) {
        let len = encodings.len() / hashes.len().max(1);
        for (hash, encoding) in hashes.iter_mut().zip(encodings.chunks(len.max(1))) {
            *hash = keccak256(encoding).0;
        }
    }

    fn prove_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        _nibble: Option<u8>,
        out: &mut Vec<u8>,
    ) {
        Self::encode_branch(children, value, out);
    }
}

/// The four items of an account, cut to their canonical lengths once.
struct AccountItem {
    nonce: [u8; 8],
    balance: [u8; 32],
    storage_root: B256,
    code_hash: B256,
}

impl AccountItem {
    fn new(account: &Account, storage_root: B256) -> Self {
        Self {
            nonce: account.nonce.to_be_bytes(),
            balance: account.balance.to_be_bytes(),
            storage_root,
            code_hash: account.code_hash,
        }
    }

    fn list_len(&self) -> usize {
        string_len(trim(&self.nonce)) + string_len(trim(&self.balance)) + 2 * 33
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_head(LIST, self.list_len(), out);
        write_string(trim(&self.nonce), out);
        write_string(trim(&self.balance), out);
        write_string(self.storage_root.as_slice(), out);
        write_string(self.code_hash.as_slice(), out);
    }
}

/// Bytes of the head before a payload of `len` bytes.
fn head_len(len: usize) -> usize {
    if len <= SHORT { 1 } else { 1 + length_bytes(len) }
}

/// Bytes of `len` without its leading zeros.
fn length_bytes(len: usize) -> usize {
    (usize::BITS as usize - len.leading_zeros() as usize).div_ceil(8)
}

/// Bytes of `value` as an RLP string.
fn string_len(value: &[u8]) -> usize {
    match value {
        [byte] if *byte < STRING => 1,
        _ => head_len(value.len()) + value.len(),
    }
}

fn write_head(kind: u8, len: usize, out: &mut Vec<u8>) {
    if len <= SHORT {
        out.push(kind + len as u8);
        return;
    }
    let bytes = (len as u64).to_be_bytes();
    let bytes = trim(&bytes);
    out.push(kind + SHORT as u8 + bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn write_string(value: &[u8], out: &mut Vec<u8>) {
    match value {
        [byte] if *byte < STRING => {}
        _ => write_head(STRING, value.len(), out),
    }
    out.extend_from_slice(value);
}

/// Bytes of the hex-prefix form of `path` as an RLP item. Its first byte is below 0x40, so one byte needs no head.
fn path_item_len(path: &Path<'_>) -> usize {
    match path.len() / 2 + 1 {
        1 => 1,
        len => head_len(len) + len,
    }
}

fn write_path(path: &Path<'_>, leaf: bool, out: &mut Vec<u8>) {
    let len = path.len() / 2 + 1;
    if len > 1 {
        write_head(STRING, len, out);
    }
    let flag = if leaf { LEAF_FLAG } else { 0 };
    let odd = path.len() % 2;
    out.push(if odd == 1 { flag | ODD_FLAG | path.at(0) } else { flag });
    path.skip(odd).pack(out);
}

fn reference_len(child: &NodeRef) -> usize {
    if child.as_hash().is_some() { 33 } else { child.as_slice().len() }
}

fn write_reference(child: &NodeRef, out: &mut Vec<u8>) {
    if child.as_hash().is_some() {
        out.push(STRING + 32);
    }
    out.extend_from_slice(child.as_slice());
}
