//! Entries as bases and deltas hold them: paths, and what is there.
//!
//! ```text
//! leaf      newest stamp − stamp varint | value
//! large     newest stamp − stamp varint | locator | length varint
//! account   newest stamp − stamp varint | newest stamp − stamp of the wipe + 1 varint, or 0 | body
//! child     locator | length u8 | the node's reference
//! ```

use std::cmp::Ordering;

use bristlecone_trie::{B256, Item, NodeRef, path};

use crate::codec::{Bad, Reader, put_locator, put_varint};
use crate::format::{ACCOUNT_KEY_BYTES, ACCOUNT_NIBBLES, MAX_KEY_BYTES, entry_kind as kind};
use crate::value::{Large, is_large};
use crate::{Error, Locator, Result, Stamp};

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    Leaf {
        stamp: Stamp,
        value: &'a [u8],
    },
    /// A leaf whose value is elsewhere.
    Large {
        stamp: Stamp,
        large: Large,
    },
    Account {
        stamp: Stamp,
        wiped: Option<Stamp>,
        body: &'a [u8],
    },
    Child {
        locator: Locator,
        node: NodeRef,
    },
}

impl<'a> Stored<'a> {
    /// What is stored of a leaf or an account; `None` of what is no key.
    pub(crate) fn of_key(item: &Item<'a>) -> Option<Self> {
        Some(match *item {
            Item::Leaf { stamp, value } => Self::Leaf { stamp: Stamp::from_word(stamp), value },
            Item::Account { stamp, wiped, body } => Self::Account {
                stamp: Stamp::from_word(stamp),
                wiped: (wiped != 0).then_some(Stamp::from_word(wiped)),
                body,
            },
            Item::Child { .. } | Item::Blinded { .. } => return None,
        })
    }

    pub(crate) fn is_child(&self) -> bool {
        matches!(self, Self::Child { .. })
    }

    /// Whether it is a value that gets a record of its own.
    pub(crate) fn is_large(&self) -> bool {
        self.large_stamp().is_some()
    }

    /// The stamp of a value that gets a record of its own.
    pub(crate) fn large_stamp(&self) -> Option<Stamp> {
        match self {
            Self::Leaf { stamp, value } if is_large(value) => Some(*stamp),
            _ => None,
        }
    }

    /// Whether `other` is the same, told by stamps and references and not by values.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leaf { stamp: a, .. }, Self::Leaf { stamp: b, .. }) => a == b,
            (Self::Account { stamp: a, wiped: v, .. }, Self::Account { stamp: b, wiped: w, .. }) => {
                (a, v) == (b, w)
            }
            (Self::Child { .. }, Self::Child { .. }) | (Self::Large { .. }, Self::Large { .. }) => {
                self == other
            }
            _ => false,
        }
    }

    /// The greatest stamp in it.
    pub(crate) fn newest(&self) -> u64 {
        match self {
            Self::Leaf { stamp, .. } | Self::Large { stamp, .. } => stamp.word(),
            Self::Account { stamp, wiped, .. } => stamp.word().max(wiped.map_or(0, Stamp::word)),
            Self::Child { .. } => 0,
        }
    }

    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Leaf { .. } => kind::LEAF,
            Self::Large { .. } => kind::LARGE,
            Self::Account { .. } => kind::ACCOUNT,
            Self::Child { .. } => kind::CHILD,
        }
    }

    /// Appends it in a record of `segment` whose greatest stamp is `newest`.
    pub(crate) fn encode(&self, newest: u64, segment: u32, out: &mut Vec<u8>) -> Result<()> {
        debug_assert!(self.newest() <= newest);
        match self {
            Self::Leaf { stamp, value } => {
                put_varint(newest - stamp.word(), out);
                out.extend_from_slice(value);
            }
            Self::Large { stamp, large } => {
                put_varint(newest - stamp.word(), out);
                large.encode(segment, out)?;
            }
            Self::Account { stamp, wiped, body } => {
                put_varint(newest - stamp.word(), out);
                put_varint(wiped.map_or(0, |wiped| newest - wiped.word() + 1), out);
                out.extend_from_slice(body);
            }
            Self::Child { locator, node } => {
                put_locator(*locator, segment, out)?;
                let node = node.as_slice();
                if node.is_empty() || node.len() > 32 {
                    return Err(Error::Invalid { what: "a child without a reference" });
                }
                out.push(node.len() as u8);
                out.extend_from_slice(node);
            }
        }
        Ok(())
    }

    /// Reads all that is left of `reader` as what [`encode`](Self::encode) wrote.
    #[inline]
    pub(crate) fn decode(found: u8, newest: u64, segment: u32, reader: &mut Reader<'a>) -> Result<Self, Bad> {
        match found {
            kind::LEAF => Ok(Self::Leaf { stamp: read_stamp(newest, 0, reader)?, value: reader.rest() }),
            kind::LARGE => {
                let stamp = read_stamp(newest, 0, reader)?;
                let large = Large::decode(segment, reader)?;
                reader.end()?;
                Ok(Self::Large { stamp, large })
            }
            kind::ACCOUNT => {
                let stamp = read_stamp(newest, 0, reader)?;
                let start = *reader;
                let wiped = match reader.varint()? {
                    0 => None,
                    back => Some(
                        newest
                            .checked_sub(back - 1)
                            .filter(|word| *word > 0)
                            .ok_or(start.bad("no such stamp"))?,
                    ),
                };
                Ok(Self::Account { stamp, wiped: wiped.map(Stamp::from_word), body: reader.rest() })
            }
            kind::CHILD => {
                let locator = reader.locator(segment)?;
                let start = *reader;
                let len = usize::from(reader.u8()?);
                let node = reader.take(len)?;
                reader.end()?;
                let node = match len {
                    32 => Some(NodeRef::hash(B256::from_slice(node))),
                    _ => NodeRef::embedded(node),
                };
                Ok(Self::Child { locator, node: node.ok_or(start.bad("no such reference"))? })
            }
            _ => Err(reader.bad("no such entry")),
        }
    }
}

fn read_stamp(newest: u64, less: u64, reader: &mut Reader<'_>) -> Result<Stamp, Bad> {
    let start = *reader;
    let back = reader.varint()?;
    let word = newest.checked_sub(back).and_then(|word| word.checked_sub(less));
    word.map(Stamp::from_word).ok_or(start.bad("no such stamp"))
}

/// Where an entry is in its page. Two entries of one page never share their place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Where `below`: the account's key from the page's first byte on. Empty otherwise.
    pub(crate) account: &'a [u8],
    /// Whether it lies below an account of the same page.
    pub(crate) below: bool,
    /// Nibbles of the whole path, from the root of the trie.
    pub(crate) end: usize,
    /// The path's bytes from the page's first byte on, or below the account.
    pub(crate) tail: &'a [u8],
    /// Whether another page is there.
    pub(crate) child: bool,
}

impl PartialEq for Place<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        (self.end, self.below, self.child) == (other.end, other.below, other.child)
            && self.tail == other.tail
            && self.is_in_account_of(other)
    }
}

impl Place<'_> {
    /// Whether both are below the same account, or below none.
    #[inline]
    fn is_in_account_of(&self, other: &Self) -> bool {
        // Most are below none. To compare nothing costs hundreds of nanoseconds: the library's masked load, of no byte at an
        // address where nothing is, takes the slow way of the processor.
        match self.account.is_empty() || other.account.is_empty() {
            true => self.account.len() == other.account.len(),
            false => self.account == other.account,
        }
    }

    /// Whether it is where an account can be.
    pub(crate) fn is_account(&self) -> bool {
        !self.below && !self.child && self.end == ACCOUNT_NIBBLES
    }

    /// The order of entries in a page. A path that is a prefix of another comes first; the half byte that an odd path leaves is 0,
    /// so that bytes compare as nibbles do.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let bytes = if self.is_in_account_of(other) {
            self.tail.cmp(other.tail)
        } else {
            self.account.iter().chain(self.tail).cmp(other.account.iter().chain(other.tail))
        };
        bytes.then_with(|| (self.end, self.below, self.child).cmp(&(other.end, other.below, other.child)))
    }
}

/// The first byte of the key that an entry's tail holds.
pub(crate) fn tail_start(depth: usize, below: bool) -> usize {
    if below { ACCOUNT_KEY_BYTES } else { depth / 2 }
}

/// How many bytes the tail of a path of `end` nibbles has in a page at `depth`; `None` where there is no such entry.
pub(crate) fn tail_len(depth: usize, below: bool, end: usize) -> Option<usize> {
    let least = if below { ACCOUNT_NIBBLES } else { depth };
    if end < least || end > MAX_KEY_BYTES * 2 || below && depth >= ACCOUNT_NIBBLES {
        return None;
    }
    end.div_ceil(2).checked_sub(tail_start(depth, below))
}

/// Whether an entry is what a lookup of a key meets: the key's own, or a page that it lies in. `rest` is the key from the
/// entry's first byte on.
#[inline]
pub(crate) fn meets(tail: &[u8], nibbles: usize, child: bool, rest: &[u8]) -> bool {
    if child {
        rest.len() * 2 >= nibbles && path::common_prefix(tail, rest, 0, nibbles) == nibbles
    } else {
        rest.len() * 2 == nibbles && tail == rest
    }
}

/// The first four nibbles after the stem, as a number; `tail` starts at byte `depth / 2`. A print ends where accounts do,
/// so that what lies below an account has the account's.
#[inline]
pub(crate) fn print(tail: &[u8], depth: usize) -> u16 {
    let byte = |index: usize| u32::from(tail.get(index).copied().unwrap_or(0));
    let three = byte(0) << 16 | byte(1) << 8 | byte(2);
    let print = if depth.is_multiple_of(2) { three >> 8 } else { three >> 4 } as u16;
    match ACCOUNT_NIBBLES.checked_sub(depth) {
        Some(left @ 1..=3) => print & !(0xffff >> (4 * left)),
        _ => print,
    }
}
