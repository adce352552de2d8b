//! The packed page: a sub-trie under one nibble prefix, as one immutable run of bytes.
//!
//! A page holds the *entries* of its sub-trie in key order; branches and extensions are not written down,
//! for they follow from the entries' paths. The page is rooted at a branch: its entries part at nibble
//! `depth` (the root page, at depth 0, may hold any entries). The nibbles above `depth` are the *stem*;
//! they belong to the parent, whose child entry has exactly the stem as its path. That is the path
//! compression between pages, and why a page never changes when its parent does.
//!
//! ```text
//! header   entries u16 | depth u16 | sources u16 | 0 u16 | stamp u64
//! sources  × 16 bytes: page u64 | new start u16 | new length u16 | old start u16 | old length u16
//! prints   × u16: the first four nibbles after the stem, as a number (0 past the end of a path)
//! ends     × u32: where each entry's bytes end, counted from the start of the first
//! entries  kind u8 | end u16 | tail | payload
//! ```
//!
//! `end` is the number of nibbles of the entry's whole path, counted from the root of the trie. `tail` is the
//! key from byte `depth / 2` on (so that it compares bytewise), or from byte 32 on for an entry *below* an
//! account: a slot, or a page of slots, of the account entry that precedes it.
//!
//! This encoding lives in memory only; the stored form is the log's.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::path::{self, nibble};
use crate::scheme::NodeRef;

/// Nibble depth of the account boundary in the accounts shape: slots live below it.
pub const ACCOUNT_DEPTH: usize = 64;

/// Key bytes above the account boundary.
pub const ACCOUNT_BYTES: usize = ACCOUNT_DEPTH / 2;

const HEADER: usize = 16;
const SOURCE: usize = 16;
const ENTRY_HEAD: usize = 3;
const KIND_LEAF: u8 = 0;
const KIND_ACCOUNT: u8 = 1;
const KIND_CHILD: u8 = 2;
const KIND_BLINDED: u8 = 3;
const BELOW: u8 = 0x10;
const BLINDED_BRANCH: u8 = 0x80;

/// Whether keys are flat, or accounts that own storage. Independent of the scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Keys of any length up to [`MAX_KEY_BYTES`](crate::path::MAX_KEY_BYTES), values as they are.
    Flat,
    /// Keys of 32 bytes are accounts; keys of 64 are the slots below them.
    Accounts,
}

impl Shape {
    /// Whether a leaf whose path has `end` nibbles is a storage slot.
    pub fn is_slot(self, end: usize) -> bool {
        self == Self::Accounts && end > ACCOUNT_DEPTH
    }
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A value: of a flat key, or of a storage slot (big-endian, without leading zeros).
    Leaf {
        /// The commit that last changed it.
        stamp: u64,
        /// The value.
        value: &'a [u8],
    },
    /// An account's own body. Its slots follow it as entries [below](Entry::below).
    Account {
        /// The commit that last changed the body.
        stamp: u64,
        /// The commit that last wiped the storage; 0 if none did.
        wiped: u64,
        /// The body ([`Account::encode`](crate::Account::encode)).
        body: &'a [u8],
    },
    /// Another page, whose stem is this entry's path.
    Child {
        /// One word that the caller gives a meaning to.
        reference: u64,
    },
    /// A node of which only the reference is known (partial tries). The path ends where the edge to it begins, or, of
    /// a branch below an extension, where it branches.
    Blinded {
        /// The reference.
        node: NodeRef,
        /// Whether it is known to be a branch: then its edge may begin above the end of the path.
        is_branch: bool,
    },
}

/// One entry of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whether the path runs through the account entry that precedes it, and `tail` starts below that.
    pub below: bool,
    /// Nibbles of the whole path, from the root of the trie.
    pub end: usize,
    /// The path's bytes from byte `depth / 2` of the key on, or from [`ACCOUNT_BYTES`] on where `below`.
    /// Where `end` is odd the last half-byte is 0.
    pub tail: &'a [u8],
    /// What is there.
    pub item: Item<'a>,
}

impl Entry<'_> {
    /// Whether it refers to another page.
    pub fn is_child(&self) -> bool {
        matches!(self.item, Item::Child { .. })
    }
}

/// The path of an entry, and its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) below: bool,
    pub(crate) end: usize,
    pub(crate) tail: &'a [u8],
    kind: u8,
}

impl Head<'_> {
    pub(crate) fn is_child(&self) -> bool {
        self.kind == KIND_CHILD
    }

    pub(crate) fn is_account(&self) -> bool {
        self.kind == KIND_ACCOUNT
    }

    pub(crate) fn is_blinded(&self) -> bool {
        self.kind == KIND_BLINDED
    }
}

/// From which older page a run of entries came: hashes of what did not change are taken from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The older page.
    pub page: u64,
    /// First entry here.
    pub new_start: u16,
    /// Number of entries here.
    pub new_len: u16,
    /// First entry there.
    pub old_start: u16,
    /// Number of entries there.
    pub old_len: u16,
}

/// A read view of a packed page.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    bytes: &'a [u8],
    len: usize,
    prints: usize,
}

/// Where a key is, in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// The entry of exactly this key.
    Here(usize),
    /// The entry whose path is a proper or improper prefix of the key: a child page or a blinded node.
    Into(usize),
    /// No entry; it would stand before this one.
    Absent(usize),
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The first four nibbles after a stem of `depth`, as a number; `tail` starts at byte `depth / 2`. It ends where accounts do:
/// an account, what is below it, and the keys of both have one print.
#[inline]
fn print(tail: &[u8], depth: usize) -> u16 {
    let byte = |i: usize| u32::from(tail.get(i).copied().unwrap_or(0));
    let three = byte(0) << 16 | byte(1) << 8 | byte(2);
    let print = (if depth.is_multiple_of(2) { three >> 8 } else { three >> 4 }) as u16;
    match ACCOUNT_DEPTH.checked_sub(depth) {
        Some(left @ 1..=3) => print & !(0xffff >> (4 * left)),
        _ => print,
    }
}

/// Orders a path (whole bytes `tail`, cut at `nibbles`) against a key that starts at the same byte; a path that is
/// a prefix of the key sorts first.
fn compare(tail: &[u8], nibbles: usize, key: &[u8]) -> Ordering {
    let whole = nibbles / 2;
    let head = tail.get(..whole).unwrap_or(tail);
    let cut = head.len().min(key.len());
    let (key_head, key_rest) = key.split_at(cut);
    head.cmp(key_head).then_with(|| match (nibbles % 2, key_rest.first()) {
        (0, None) => Ordering::Equal,
        (0, Some(_)) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (_, Some(byte)) => nibble(tail, nibbles - 1).cmp(&(byte >> 4)).then(Ordering::Less),
    })
}

impl<'a> Page<'a> {
    /// A view of `bytes` that a [`PageBuilder`] made. Bytes of another origin give a page that answers wrongly
    /// or emptily, never a panic.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        let len = usize::from(u16_at(bytes, 0));
        let prints = HEADER + usize::from(u16_at(bytes, 4)) * SOURCE;
        Self { bytes, len, prints }
    }

    /// The packed bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry (an empty root).
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Nibbles of the stem.
    #[inline]
    pub fn depth(&self) -> usize {
        usize::from(u16_at(self.bytes, 2))
    }

    /// The commit that made the page; 0 for a page that was loaded.
    pub fn stamp(&self) -> u64 {
        u64_at(self.bytes, 8)
    }

    /// Where runs of entries came from.
    pub fn sources(&self) -> impl Iterator<Item = Source> + use<'a> {
        let bytes = self.bytes;
        (HEADER..self.prints).step_by(SOURCE).map(move |at| Source {
            page: u64_at(bytes, at),
            new_start: u16_at(bytes, at + 8),
            new_len: u16_at(bytes, at + 10),
            old_start: u16_at(bytes, at + 12),
            old_len: u16_at(bytes, at + 14),
        })
    }

    #[inline]
    fn print_at(&self, index: usize) -> u16 {
        u16_at(self.bytes, self.prints + index * 2)
    }

    #[inline]
    fn raw(&self, index: usize) -> &'a [u8] {
        let ends = self.prints + self.len * 2;
        let first = ends + self.len * 4;
        let start = if index == 0 { 0 } else { u32_at(self.bytes, ends + (index - 1) * 4) as usize };
        let end = u32_at(self.bytes, ends + index * 4) as usize;
        self.bytes.get(first + start..first + end).unwrap_or_default()
    }

    /// The path and the kind of entry `index`, without what it holds.
    #[inline]
    pub(crate) fn head(&self, index: usize) -> Head<'a> {
        let raw = if index < self.len { self.raw(index) } else { &[] };
        let kind = raw.first().copied().unwrap_or_default();
        let end = usize::from(u16_at(raw, 1));
        let below = kind & BELOW != 0;
        let start = if below { ACCOUNT_BYTES } else { self.depth() / 2 };
        let tail_end = ENTRY_HEAD + end.div_ceil(2).saturating_sub(start);
        Head { below, end, tail: raw.get(ENTRY_HEAD..tail_end).unwrap_or_default(), kind: kind & 0x0f }
    }

    /// Entry `index`. Past the end: an empty leaf.
    #[inline]
    pub fn entry(&self, index: usize) -> Entry<'a> {
        let raw = if index < self.len { self.raw(index) } else { &[] };
        let kind = raw.first().copied().unwrap_or_default();
        let end = usize::from(u16_at(raw, 1));
        let below = kind & BELOW != 0;
        let start = if below { ACCOUNT_BYTES } else { self.depth() / 2 };
        let tail_end = ENTRY_HEAD + end.div_ceil(2).saturating_sub(start);
        let tail = raw.get(ENTRY_HEAD..tail_end).unwrap_or_default();
        let payload = raw.get(tail_end..).unwrap_or_default();
        let item = match kind & 0x0f {
            KIND_ACCOUNT => Item::Account {
                stamp: u64_at(payload, 0),
                wiped: u64_at(payload, 8),
                body: payload.get(16..).unwrap_or_default(),
            },
            KIND_CHILD => Item::Child { reference: u64_at(payload, 0) },
            KIND_BLINDED => blinded(payload),
            _ => Item::Leaf { stamp: u64_at(payload, 0), value: payload.get(8..).unwrap_or_default() },
        };
        Entry { below, end, tail, item }
    }

    /// Compares entry `index` with the one in the same place of `other`, a page of the same depth: whether they are the
    /// same in everything, if they are of the same kind under the same path; `None` otherwise.
    #[inline]
    pub(crate) fn same_entry(&self, other: Page<'_>, index: usize) -> Option<bool> {
        let (a, b) = (self.raw(index), other.raw(index));
        if a == b {
            return Some(true);
        }
        let kind = a.first().copied().unwrap_or_default();
        let start = if kind & BELOW != 0 { ACCOUNT_BYTES } else { self.depth() / 2 };
        let head = ENTRY_HEAD + usize::from(u16_at(a, 1)).div_ceil(2).saturating_sub(start);
        (a.get(..head)? == b.get(..head)?).then_some(false)
    }

    /// All entries, in key order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'a>> + use<'a> {
        let page = *self;
        (0..self.len).map(move |index| page.entry(index))
    }

    /// Finds `key` (all of its bytes, from the root of the trie on). The key must have the stem as a prefix.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Find {
        let depth = self.depth();
        let key_tail = key.get(depth / 2..).unwrap_or_default();
        let target = print(key_tail, depth);
        let start = self.lower_bound(target);
        let mut index = start;
        // The last entry that is not greater than the key, if it is among those with an equal print.
        let mut last = None;
        let mut in_account = false;
        while index < self.len && self.print_at(index) == target {
            let entry = self.entry(index);
            let order = if entry.below {
                if !in_account {
                    index += 1;
                    continue;
                }
                compare(entry.tail, entry.end - ACCOUNT_DEPTH, key.get(ACCOUNT_BYTES..).unwrap_or_default())
            } else {
                compare(entry.tail, entry.end - (depth & !1), key_tail)
            };
            match order {
                Ordering::Greater => break,
                Ordering::Equal if !entry.is_child() => return Find::Here(index),
                _ => {}
            }
            in_account = entry.below
                || matches!(entry.item, Item::Account { .. })
                    && key.get(depth / 2..ACCOUNT_BYTES) == Some(entry.tail);
            last = Some(index);
            index += 1;
        }
        let candidate = match last {
            Some(index) => Some(index),
            None => start.checked_sub(1),
        };
        match candidate {
            Some(at) if self.holds(at, key, last.is_some()) => Find::Into(at),
            _ => Find::Absent(index),
        }
    }

    /// Whether entry `at` is a child or a blinded node whose path is a prefix of `key`.
    fn holds(&self, at: usize, key: &[u8], same_account: bool) -> bool {
        let entry = self.entry(at);
        let start = match entry.item {
            Item::Leaf { .. } | Item::Account { .. } => return false,
            _ if !entry.below => self.depth() / 2,
            _ if same_account && self.account_of(at, key) => ACCOUNT_BYTES,
            _ => return false,
        };
        let key_tail = key.get(start..).unwrap_or_default();
        let nibbles = entry.end - start * 2;
        key_tail.len() * 2 >= nibbles && path::common_prefix(entry.tail, key_tail, 0, nibbles) == nibbles
    }

    /// Whether the account entry before `at` is that of `key`.
    fn account_of(&self, at: usize, key: &[u8]) -> bool {
        (0..at)
            .rev()
            .map(|index| self.entry(index))
            .find(|entry| !entry.below)
            .is_some_and(|entry| Some(entry.tail) == key.get(self.depth() / 2..ACCOUNT_BYTES))
    }

    /// The first entry whose print is not below `target`.
    #[inline]
    fn lower_bound(&self, target: u16) -> usize {
        let prints = self.bytes.get(self.prints..self.prints + self.len * 2).unwrap_or_default();
        if self.len <= 64 {
            let (pairs, _) = prints.as_chunks::<2>();
            return pairs.iter().filter(|pair| u16::from_le_bytes(**pair) < target).count();
        }
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = (low + high) / 2;
            if self.print_at(middle) < target {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The first entry after `index` that is not below the account entry there.
    pub fn account_end(&self, index: usize) -> usize {
        let mut end = index + 1;
        while end < self.len && self.head(end).below {
            end += 1;
        }
        end
    }
}

impl core::fmt::Debug for Page<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Page")
            .field("depth", &self.depth())
            .field("entries", &self.entries().collect::<Vec<_>>())
            .finish()
    }
}

fn blinded(payload: &[u8]) -> Item<'_> {
    let (head, node) = payload.split_first().unwrap_or((&0, &[]));
    let node = match (head & !BLINDED_BRANCH, node.get(..32)) {
        (32, Some(hash)) => Some(NodeRef::hash(alloy_primitives::B256::from_slice(hash))),
        _ => NodeRef::embedded(node),
    };
    let node = node.unwrap_or(NodeRef::hash(alloy_primitives::B256::ZERO));
    Item::Blinded { node, is_branch: head & BLINDED_BRANCH != 0 }
}

/// Packs entries, given in key order, into a page.
#[derive(Debug)]
pub struct PageBuilder {
    depth: usize,
    stamp: u64,
    prints: Vec<u16>,
    ends: Vec<u32>,
    entries: Vec<u8>,
    sources: Vec<Source>,
    last_print: u16,
}

impl PageBuilder {
    /// A page whose stem has `depth` nibbles.
    pub fn new(depth: usize) -> Self {
        Self {
            depth,
            stamp: 0,
            prints: Vec::new(),
            ends: Vec::new(),
            entries: Vec::new(),
            sources: Vec::new(),
            last_print: 0,
        }
    }

    /// Says which commit makes the page.
    #[must_use]
    pub fn made_by(mut self, stamp: u64) -> Self {
        self.stamp = stamp;
        self
    }

    /// Number of entries so far.
    pub fn len(&self) -> usize {
        self.prints.len()
    }

    /// Whether there is no entry yet.
    pub fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }

    /// Appends an entry whose tail starts at byte `depth / 2` of the key (or below the account), as in
    /// [`Page::entry`] of a page of the same depth.
    pub fn push(&mut self, entry: &Entry<'_>) {
        if !entry.below {
            self.last_print = print(entry.tail, self.depth);
        }
        self.prints.push(self.last_print);
        let kind = match entry.item {
            Item::Leaf { .. } => KIND_LEAF,
            Item::Account { .. } => KIND_ACCOUNT,
            Item::Child { .. } => KIND_CHILD,
            Item::Blinded { .. } => KIND_BLINDED,
        };
        self.entries.push(kind | if entry.below { BELOW } else { 0 });
        self.entries.extend_from_slice(&(entry.end as u16).to_le_bytes());
        self.entries.extend_from_slice(entry.tail);
        match entry.item {
            Item::Leaf { stamp, value } => {
                self.entries.extend_from_slice(&stamp.to_le_bytes());
                self.entries.extend_from_slice(value);
            }
            Item::Account { stamp, wiped, body } => {
                self.entries.extend_from_slice(&stamp.to_le_bytes());
                self.entries.extend_from_slice(&wiped.to_le_bytes());
                self.entries.extend_from_slice(body);
            }
            Item::Child { reference } => self.entries.extend_from_slice(&reference.to_le_bytes()),
            Item::Blinded { node, is_branch } => {
                self.entries.push(node.as_slice().len() as u8 | if is_branch { BLINDED_BRANCH } else { 0 });
                self.entries.extend_from_slice(node.as_slice());
            }
        }
        self.ends.push(self.entries.len() as u32);
    }

    /// Says where a run of entries came from.
    pub fn source(&mut self, source: Source) {
        self.sources.push(source);
    }

    /// Begins another page, in the memory of the last one.
    pub fn restart(&mut self, depth: usize) {
        self.depth = depth;
        self.prints.clear();
        self.ends.clear();
        self.entries.clear();
        self.sources.clear();
        self.last_print = 0;
    }

    /// The packed page.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.finish_into(&mut out);
        out
    }

    /// The packed page, in place of what `out` holds.
    pub fn finish_into(&self, out: &mut Vec<u8>) {
        let size = HEADER
            + self.sources.len() * SOURCE
            + self.prints.len() * 2
            + self.ends.len() * 4
            + self.entries.len();
        out.clear();
        out.reserve(size);
        for word in [self.prints.len() as u16, self.depth as u16, self.sources.len() as u16, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.stamp.to_le_bytes());
        for source in &self.sources {
            out.extend_from_slice(&source.page.to_le_bytes());
            for word in [source.new_start, source.new_len, source.old_start, source.old_len] {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        self.prints.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        self.ends.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        out.extend_from_slice(&self.entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_that_part_in_their_last_nibbles_keep_their_slots() {
        for depth in 56..ACCOUNT_DEPTH {
            let account = |last: u8| [&[0x11; ACCOUNT_BYTES - 1][..], &[last]].concat();
            let slots = [[0; ACCOUNT_BYTES], [0x22; ACCOUNT_BYTES], [0xff; ACCOUNT_BYTES]];
            let mut builder = PageBuilder::new(depth);
            for last in [0x10, 0x11, 0x1f] {
                let item = Item::Account { stamp: 1, wiped: 0, body: &[] };
                builder.push(&Entry {
                    below: false,
                    end: ACCOUNT_DEPTH,
                    tail: account(last).get(depth / 2..).unwrap(),
                    item,
                });
                for slot in &slots {
                    let item = Item::Leaf { stamp: 1, value: &[1] };
                    builder.push(&Entry { below: true, end: 2 * ACCOUNT_DEPTH, tail: slot, item });
                }
            }
            let bytes = builder.finish();
            let page = Page::new(&bytes);
            for (at, last) in [(0, 0x10), (4, 0x11), (8, 0x1f)] {
                assert_eq!(page.find(&account(last)), Find::Here(at), "depth {depth}");
                for (below, slot) in slots.iter().enumerate() {
                    assert_eq!(
                        page.find(&[account(last), slot.to_vec()].concat()),
                        Find::Here(at + 1 + below)
                    );
                }
                let between = [&account(last)[..], &[0x21; ACCOUNT_BYTES]].concat();
                assert_eq!(page.find(&between), Find::Absent(at + 2), "depth {depth}");
            }
        }
    }
}
