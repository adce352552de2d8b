//! Decoding the nodes of the `Ethereum` scheme: RLP and hex-prefix paths, nothing but the canonical forms.

use alloc::vec::Vec;
use alloy_primitives::{B256, U256, keccak256};

use super::Flaw;
use super::node::{Branch, BranchValue, Child, Node, Place, ProofScheme, Value};
use crate::scheme::ethereum::Ethereum;
use crate::{Account, NodeRef, Path, Scheme};

/// Shortest encoding that is named by its hash.
const HASHED: usize = 32;

impl ProofScheme for Ethereum {
    /// The RLP of the empty string, whose hash is the root of the empty trie: some servers send it.
    const EMPTY_NODE: Option<&'static [u8]> = Some(&[0x80]);

    fn open_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        _opened: u16,
        _ends: bool,
        out: &mut Vec<u8>,
    ) {
        Self::encode_branch(children, value, out);
    }

    fn hash(bytes: &[u8]) -> Result<B256, Flaw> {
        Ok(keccak256(bytes))
    }

    fn decode(bytes: &[u8], place: Place) -> Result<Node<'_>, Flaw> {
        match place {
            Place::Hashed if bytes.len() < HASHED => return Err(Flaw::NotEmbedded),
            Place::Embedded if bytes.len() >= HASHED => return Err(Flaw::TooLongToEmbed),
            _ => {}
        }
        let mut payload = whole(bytes)?.list()?;
        let mut items = [Item::NONE; 17];
        let mut count = 0;
        while !payload.is_empty() {
            let (item, rest) = Item::first(payload)?;
            *items.get_mut(count).ok_or(Flaw::WrongItemCount)? = item;
            count += 1;
            payload = rest;
        }
        match (count, items) {
            (2, [path, target, ..]) => short(path.string()?, target),
            (17, [children @ .., value]) => branch(&children, value.string()?),
            _ => Err(Flaw::WrongItemCount),
        }
    }

    fn branch_value(bytes: &[u8]) -> Value<'_> {
        Value::Untyped(bytes)
    }

    fn raw<'a>(value: &Value<'a>) -> Result<&'a [u8], Flaw> {
        match value {
            Value::Untyped(bytes) => Ok(bytes),
            _ => Err(Flaw::WrongKind),
        }
    }

    fn slot(value: &Value<'_>) -> Result<U256, Flaw> {
        let number = number(whole(Self::raw(value)?)?.string()?)?;
        // A slot of zero is a slot that is not there.
        if number.is_zero() { Err(Flaw::BadNumber) } else { Ok(number) }
    }

    fn account(value: &Value<'_>) -> Result<(Account, B256), Flaw> {
        let list = whole(Self::raw(value)?)?.list()?;
        let (nonce, list) = Item::first(list)?;
        let (balance, list) = Item::first(list)?;
        let (storage_root, list) = Item::first(list)?;
        let (code_hash, list) = Item::first(list)?;
        if !list.is_empty() {
            return Err(Flaw::WrongItemCount);
        }
        let nonce = number(nonce.string()?)?.try_into().map_err(|_| Flaw::BadNumber)?;
        let balance = number(balance.string()?)?;
        Ok((Account { nonce, balance, code_hash: hash(code_hash)? }, hash(storage_root)?))
    }
}

/// A node of two items.
fn short<'a>(prefixed: &'a [u8], target: Item<'a>) -> Result<Node<'a>, Flaw> {
    let (leaf, path) = hex_prefix(prefixed)?;
    if leaf {
        return Ok(Node::Leaf { path, value: Value::Untyped(target.string()?) });
    }
    if path.is_empty() {
        return Err(Flaw::EmptyExtension);
    }
    let child = reference(&target)?;
    match child {
        Child::Hash(_) => {}
        Child::Embedded(bytes) => match Ethereum::decode(bytes, Place::Embedded)? {
            Node::Branch(_) => {}
            _ => return Err(Flaw::ExtensionChild),
        },
        _ => return Err(Flaw::BadReference),
    }
    Ok(Node::Extension { path, child })
}

fn branch<'a>(items: &[Item<'a>; 16], value: &'a [u8]) -> Result<Node<'a>, Flaw> {
    let mut children = [Child::Empty; 16];
    let mut occupied = usize::from(!value.is_empty());
    for (child, item) in children.iter_mut().zip(items) {
        *child = reference(item)?;
        if let Child::Embedded(bytes) = child {
            // Also those beside the way: at most a few levels, for each is shorter than its parent's 32 bytes.
            Ethereum::decode(bytes, Place::Embedded)?;
        }
        occupied += usize::from(*child != Child::Empty);
    }
    if occupied < 2 {
        return Err(Flaw::LoneBranch);
    }
    let value = if value.is_empty() { BranchValue::Absent } else { BranchValue::Whole(value) };
    Ok(Node::Branch(Branch { children, value, compact: false }))
}

/// Whether a leaf, and the path. The high nibble of the first byte is the flags: 2 for a leaf, 1 for an odd path, whose
/// first nibble follows.
fn hex_prefix(bytes: &[u8]) -> Result<(bool, Path<'_>), Flaw> {
    let first = *bytes.first().ok_or(Flaw::BadPath)?;
    let (flags, low) = (first >> 4, first & 0x0f);
    let odd = flags & 1 == 1;
    if flags > 3 || !odd && low != 0 {
        return Err(Flaw::BadPath);
    }
    Ok((flags & 2 != 0, Path::range(bytes, if odd { 1 } else { 2 }, bytes.len() * 2)))
}

/// What an item says of a child: nothing, a hash, or the node itself. The kind of item decides, never its contents.
fn reference<'a>(item: &Item<'a>) -> Result<Child<'a>, Flaw> {
    if item.list {
        // Not too long either: who decodes it says so.
        return Ok(Child::Embedded(item.whole));
    }
    match (item.payload.is_empty(), item.payload.try_into()) {
        (true, _) => Ok(Child::Empty),
        (false, Ok(hash)) => Ok(Child::Hash(hash)),
        _ => Err(Flaw::BadReference),
    }
}

/// A number of at most 256 bits, big-endian, without leading zeros.
fn number(bytes: &[u8]) -> Result<U256, Flaw> {
    if bytes.first() == Some(&0) {
        return Err(Flaw::NotMinimal);
    }
    U256::try_from_be_slice(bytes).ok_or(Flaw::BadNumber)
}

fn hash(item: Item<'_>) -> Result<B256, Flaw> {
    B256::try_from(item.string()?).map_err(|_| Flaw::BadNumber)
}

/// One RLP item.
#[derive(Clone, Copy)]
struct Item<'a> {
    list: bool,
    /// Without the head.
    payload: &'a [u8],
    /// With it.
    whole: &'a [u8],
}

/// The one item that `bytes` are.
fn whole(bytes: &[u8]) -> Result<Item<'_>, Flaw> {
    let (item, rest) = Item::first(bytes)?;
    if rest.is_empty() { Ok(item) } else { Err(Flaw::TrailingBytes) }
}

impl<'a> Item<'a> {
    const NONE: Self = Self { list: false, payload: &[], whole: &[] };

    fn string(self) -> Result<&'a [u8], Flaw> {
        if self.list { Err(Flaw::WrongItem) } else { Ok(self.payload) }
    }

    fn list(self) -> Result<&'a [u8], Flaw> {
        if self.list { Ok(self.payload) } else { Err(Flaw::WrongItem) }
    }

    /// Cuts the first item off `bytes`.
    fn first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Flaw> {
        let head = *bytes.first().ok_or(Flaw::Truncated)?;
        let list = head >= 0xc0;
        let (head_len, len) = match head {
            0..0x80 => (0, 1),
            0x80..0xb8 => (1, usize::from(head - 0x80)),
            0xb8..0xc0 => long(bytes, usize::from(head - 0xb7))?,
            0xc0..0xf8 => (1, usize::from(head - 0xc0)),
            0xf8.. => long(bytes, usize::from(head - 0xf7))?,
        };
        let end = head_len.checked_add(len).ok_or(Flaw::Truncated)?;
        let (whole, rest) = bytes.split_at_checked(end).ok_or(Flaw::Truncated)?;
        let payload = whole.get(head_len..).ok_or(Flaw::Truncated)?;
        if !list && head_len == 1 && matches!(payload, [0..0x80]) {
            return Err(Flaw::NotMinimal);
        }
        Ok((Self { list, payload, whole }, rest))
    }
}

/// Lengths of a long head, whose length takes `count` (1 to 8) bytes, and of its payload.
fn long(bytes: &[u8], count: usize) -> Result<(usize, usize), Flaw> {
    let digits = bytes.get(1..=count).ok_or(Flaw::Truncated)?;
    let len = digits.iter().fold(0u64, |len, digit| (len << 8) + u64::from(*digit));
    if digits.first() == Some(&0) || len <= 55 {
        return Err(Flaw::NotMinimal);
    }
    Ok((1 + count, usize::try_from(len).map_err(|_| Flaw::Truncated)?))
}
