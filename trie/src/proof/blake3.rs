//! Decoding the nodes of the `Blake3` scheme, strictly.

use alloc::vec::Vec;
use alloy_primitives::{B256, U256};
use core::cmp::Ordering;

use super::Flaw;
use super::node::{Branch, BranchValue, Child, Node, Place, ProofScheme, Value};
use crate::path::MAX_KEY_BYTES;
use crate::scheme::blake3::{Blake3, branch_parts, kind, node_hash, tag};
use crate::{Account, NodeRef, Path};

impl ProofScheme for Blake3 {
    const EMPTY_NODE: Option<&'static [u8]> = None;

    fn open_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        opened: u16,
        ends: bool,
        out: &mut Vec<u8>,
    ) {
        Self::open_branch(children, value, opened, ends, out);
    }

    fn hash(bytes: &[u8]) -> Result<B256, Flaw> {
        node_hash(bytes).ok_or(Flaw::Truncated)
    }

    fn decode(bytes: &[u8], place: Place) -> Result<Node<'_>, Flaw> {
        if place == Place::Embedded {
            return Err(Flaw::TooLongToEmbed);
        }
        let (&kind, body) = bytes.split_first().ok_or(Flaw::Truncated)?;
        match kind {
            tag::LEAF => leaf(body),
            tag::EXTENSION => extension(body),
            tag::BRANCH | tag::BRANCH_DIGEST | tag::BRANCH_VALUE => branch(kind, body),
            _ => Err(Flaw::UnknownKind),
        }
    }

    fn branch_value(bytes: &[u8]) -> Value<'_> {
        Value::Raw(bytes)
    }

    fn raw<'a>(value: &Value<'a>) -> Result<&'a [u8], Flaw> {
        match value {
            Value::Raw(bytes) => Ok(bytes),
            _ => Err(Flaw::WrongKind),
        }
    }

    fn slot(value: &Value<'_>) -> Result<U256, Flaw> {
        match value {
            Value::Slot([] | [0, ..]) => Err(Flaw::BadNumber),
            Value::Slot(bytes) => U256::try_from_be_slice(bytes).ok_or(Flaw::BadNumber),
            _ => Err(Flaw::WrongKind),
        }
    }

    fn account(value: &Value<'_>) -> Result<(Account, B256), Flaw> {
        let Value::Account(bytes) = value else { return Err(Flaw::WrongKind) };
        let (storage_root, body) = bytes.split_first_chunk::<32>().ok_or(Flaw::Truncated)?;
        let account = Account::decode(body).ok_or(Flaw::NotMinimal)?;
        Ok((account, B256::new(*storage_root)))
    }
}

/// Takes a path of `nibbles` from the front of `body`: an odd one's first nibble stands alone in its byte.
fn path(nibbles: usize, body: &[u8]) -> Result<(Path<'_>, &[u8]), Flaw> {
    if nibbles > MAX_KEY_BYTES * 2 {
        return Err(Flaw::BadPath);
    }
    let (bytes, rest) = body.split_at_checked(nibbles.div_ceil(2)).ok_or(Flaw::Truncated)?;
    let odd = nibbles % 2;
    match bytes.first() {
        Some(first) if odd == 1 && first >> 4 != 0 => Err(Flaw::BadPath),
        _ => Ok((Path::range(bytes, odd, bytes.len() * 2), rest)),
    }
}

fn leaf(body: &[u8]) -> Result<Node<'_>, Flaw> {
    let (head, body) = body.split_first_chunk::<2>().ok_or(Flaw::Truncated)?;
    let head = u16::from_le_bytes(*head);
    let (path, payload) = path(usize::from(head & kind::COUNT), body)?;
    let value = match head >> kind::SHIFT {
        kind::RAW => Value::Raw(payload),
        kind::SLOT => Value::Slot(payload),
        kind::ACCOUNT => Value::Account(payload),
        _ => return Err(Flaw::UnknownKind),
    };
    Ok(Node::Leaf { path, value })
}

fn extension(body: &[u8]) -> Result<Node<'_>, Flaw> {
    let (count, body) = body.split_first_chunk::<2>().ok_or(Flaw::Truncated)?;
    let (path, child) = path(usize::from(u16::from_le_bytes(*count)), body)?;
    if path.is_empty() {
        return Err(Flaw::EmptyExtension);
    }
    let (child, rest) = child.split_first_chunk::<32>().ok_or(Flaw::Truncated)?;
    if !rest.is_empty() {
        return Err(Flaw::TrailingBytes);
    }
    Ok(Node::Extension { path, child: Child::Hash(child) })
}

fn branch(kind: u8, body: &[u8]) -> Result<Node<'_>, Flaw> {
    let parts = branch_parts(body).ok_or(Flaw::Truncated)?;
    let value = match (kind, parts.rest.len().cmp(&32)) {
        (tag::BRANCH_VALUE, _) => BranchValue::Whole(parts.rest),
        (tag::BRANCH, _) if parts.rest.is_empty() => BranchValue::Absent,
        (tag::BRANCH_DIGEST, Ordering::Equal) => BranchValue::Digest,
        (tag::BRANCH_DIGEST, Ordering::Less) => return Err(Flaw::Truncated),
        _ => return Err(Flaw::TrailingBytes),
    };
    if parts.occupied.count_ones() == 1 && value == BranchValue::Absent {
        return Err(Flaw::LoneBranch);
    }
    let mut children = [Child::Empty; 16];
    for (index, (child, hash)) in children.iter_mut().zip(parts.children).enumerate() {
        if let Some(hash) = hash {
            *child = Child::Hash(hash);
        } else if parts.occupied >> index & 1 == 1 {
            *child = Child::Closed;
        }
    }
    Ok(Node::Branch(Branch { children, value, compact: true }))
}
