//! The packed page: a sub-trie under one nibble prefix, as one immutable run of bytes.
//!
//! A page holds the *entries* of its sub-trie in key order; branches and extensions are not written down,
//! for they follow from the entries' paths. The page is rooted at a branch: its entries part at nibble
//! `depth` (the root page, at depth 0, may hold any entries). The nibbles above `depth` are the *stem*;
//! they belong to the parent, whose child entry has exactly the stem as its path. That is the path
//! compression between pages, and why a page never changes when its parent does.
//!
//! ```text
//! header   entries u16 | depth u16 | flags u8 | 0 u8 | sources u16 | stamp u64 | trailer u32 | 0 u32
//! prints   × u16: the first four nibbles after the stem, as a number (0 past the end of a path)
//! ends     × u16 (u32 in a wide page): where each entry's bytes end, counted from the start of the first
//! shared   × u8 (u16 in a wide page): how many nibbles below `depth` an entry shares with the next (the last one: 0)
//! entries  kind u8 | end u16 | tail | payload
//! trailer  sources × u64, then what came from where: in a page that was only changed *in place*, a bit an entry (1: it
//!          changed); in any other, × (source u16, place there u16), source `0xffff` for what came from nowhere
//! ```
//!
//! `end` is the number of nibbles of the entry's whole path, counted from the root of the trie. `tail` is the
//! key from byte `depth / 2` on (so that it compares bytewise), or from byte 32 on for an entry *below* an
//! account: a slot, or a page of slots, of the account entry that precedes it.
//!
//! The header and the prints of a page of twenty entries are one cache line. The trailer comes last, so that changing a page in
//! place is one copy of what lies before it. This encoding lives in memory only; the stored form is the log's.

mod build;
mod look;

use alloc::vec::Vec;

use crate::scheme::NodeRef;
pub use build::PageBuilder;
pub(crate) use build::{Change, Edit, change_in_place};
pub use look::Find;

/// Nibble depth of the account boundary in the accounts shape: slots live below it.
pub const ACCOUNT_DEPTH: usize = 64;

/// Key bytes above the account boundary.
pub const ACCOUNT_BYTES: usize = ACCOUNT_DEPTH / 2;

const HEADER: usize = 24;
/// A source, in the trailer.
const SOURCE: usize = 8;
/// Where an entry came from, in the trailer.
const ORIGIN: usize = 4;
/// The source of what came from nowhere.
const NOWHERE: u16 = u16::MAX;
const ENTRY_HEAD: usize = 3;
const KIND_LEAF: u8 = 0;
const KIND_ACCOUNT: u8 = 1;
const KIND_CHILD: u8 = 2;
const KIND_BLINDED: u8 = 3;
const BELOW: u8 = 0x10;
const BLINDED_BRANCH: u8 = 0x80;

/// Flags of a page.
mod flag {
    /// Ends take four bytes, shared nibbles two.
    pub(super) const WIDE: u8 = 1;
    /// It has exactly the paths of its one source, and a bit an entry says what changed.
    pub(super) const IN_PLACE: u8 = 2;
    /// It has entries that are no keys: child pages or blinded nodes.
    pub(super) const INNER: u8 = 4;
    /// It has entries that are accounts, or lie below one.
    pub(super) const ACCOUNTS: u8 = 8;
    /// It has keys that end where others go on.
    pub(super) const PREFIXES: u8 = 16;
}

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

impl<'a> Head<'a> {
    /// Reads the front of an entry of a page of `depth`.
    #[inline]
    fn parse(raw: &'a [u8], depth: usize) -> Self {
        let kind = raw.first().copied().unwrap_or_default();
        let end = usize::from(u16_at(raw, 1));
        let below = kind & BELOW != 0;
        let start = if below { ACCOUNT_BYTES } else { depth / 2 };
        let tail_end = ENTRY_HEAD + end.div_ceil(2).saturating_sub(start);
        Self { below, end, tail: raw.get(ENTRY_HEAD..tail_end).unwrap_or_default(), kind: kind & 0x0f }
    }

    /// What the entry holds whose front this is.
    #[inline]
    fn item(&self, raw: &'a [u8]) -> Item<'a> {
        let payload = raw.get(ENTRY_HEAD + self.tail.len()..).unwrap_or_default();
        match self.kind {
            KIND_ACCOUNT => Item::Account {
                stamp: u64_at(payload, 0),
                wiped: u64_at(payload, 8),
                body: payload.get(16..).unwrap_or_default(),
            },
            KIND_CHILD => Item::Child { reference: u64_at(payload, 0) },
            KIND_BLINDED => blinded(payload),
            _ => Item::Leaf { stamp: u64_at(payload, 0), value: payload.get(8..).unwrap_or_default() },
        }
    }

    #[inline]
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

/// A read view of a packed page.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    bytes: &'a [u8],
    len: usize,
    flags: u8,
}

/// What neighbouring entries of a page share.
#[derive(Clone, Copy)]
pub(crate) struct Gaps<'a> {
    bytes: &'a [u8],
    wide: bool,
}

impl Gaps<'_> {
    /// That of entry `index` and the next.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> i32 {
        if self.wide {
            u16_at(self.bytes, index * 2).into()
        } else {
            self.bytes.get(index).copied().unwrap_or_default().into()
        }
    }
}

/// Where the parts of a page begin, in its bytes.
struct Offsets {
    ends: usize,
    shared: usize,
    entries: usize,
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

impl<'a> Page<'a> {
    /// A view of `bytes` that a [`PageBuilder`] made. Bytes of another origin give a page that answers wrongly
    /// or emptily, never a panic.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, len: usize::from(u16_at(bytes, 0)), flags: bytes.get(4).copied().unwrap_or_default() }
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

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether all entries are keys of a flat trie, or all slots of one account: none is a page, an account or blinded.
    pub(crate) fn is_plain(&self) -> bool {
        !self.has(flag::INNER | flag::ACCOUNTS)
    }

    /// Whether some entry is a child page or a blinded node.
    pub fn is_inner(&self) -> bool {
        self.has(flag::INNER)
    }

    /// Whether some entry is an account, or lies below one.
    pub(crate) fn has_accounts(&self) -> bool {
        self.has(flag::ACCOUNTS)
    }

    /// Whether the path of some key is a prefix of others.
    pub(crate) fn has_prefixes(&self) -> bool {
        self.has(flag::PREFIXES)
    }

    /// Where the trailer begins.
    fn trailer(&self) -> usize {
        u32_at(self.bytes, 16) as usize
    }

    fn source_count(&self) -> usize {
        usize::from(u16_at(self.bytes, 6))
    }

    /// The older pages that entries came from; the one under the same stem, if there is one, is the first.
    pub fn sources(&self) -> impl Iterator<Item = u64> + use<'a> {
        let (bytes, trailer) = (self.bytes, self.trailer());
        (0..self.source_count()).map(move |at| u64_at(bytes, trailer + at * SOURCE))
    }

    /// Where this page has exactly the paths of an older one: that page, and a bit an entry (the lowest of the first byte
    /// is the first entry's) that says whether it changed.
    pub(crate) fn in_place(&self) -> Option<(u64, &'a [u8])> {
        if !self.has(flag::IN_PLACE) {
            return None;
        }
        let trailer = self.trailer();
        Some((u64_at(self.bytes, trailer), self.bytes.get(trailer + SOURCE..)?))
    }

    /// The older page that entry `index` was taken from as it is, and its place there.
    pub(crate) fn origin(&self, index: usize) -> Option<(u64, usize)> {
        if let Some((source, changed)) = self.in_place() {
            let byte = changed.get(index / 8)?;
            return (byte >> (index % 8) & 1 == 0).then_some((source, index));
        }
        let (trailer, count) = (self.trailer(), self.source_count());
        if count == 0 || index >= self.len {
            return None;
        }
        let at = trailer + count * SOURCE + index * ORIGIN;
        let source = u16_at(self.bytes, at);
        (source != NOWHERE).then(|| {
            (u64_at(self.bytes, trailer + usize::from(source) * SOURCE), u16_at(self.bytes, at + 2).into())
        })
    }

    #[inline]
    fn print_at(&self, index: usize) -> u16 {
        u16_at(self.bytes, HEADER + index * 2)
    }

    /// Nibble `depth` of the path of entry `index`, if its print has it.
    #[inline]
    pub(crate) fn printed_nibble(&self, index: usize, depth: usize) -> Option<u8> {
        let place = depth.checked_sub(self.depth()).filter(|place| *place < 4 && !self.has_accounts())?;
        Some((self.print_at(index) >> (12 - 4 * place) & 0xf) as u8)
    }

    /// Where the path of entry `index` ends, if it is a child page or a blinded node. Cheaper than its [`head`](Self::head).
    #[inline]
    pub(crate) fn inner_end(&self, index: usize) -> Option<u16> {
        let at = self.offsets().entries + self.end_before(index);
        let kind = self.bytes.get(at)? & 0x0f;
        matches!(kind, KIND_CHILD | KIND_BLINDED).then(|| u16_at(self.bytes, at + 1))
    }

    /// Where the arrays after the prints and the entries begin.
    #[inline]
    fn offsets(&self) -> Offsets {
        let ends = HEADER + self.len * 2;
        if self.has(flag::WIDE) {
            Offsets { ends, shared: ends + self.len * 4, entries: ends + self.len * 6 }
        } else {
            Offsets { ends, shared: ends + self.len * 2, entries: ends + self.len * 3 }
        }
    }

    /// Where entry `index` begins, counted from the start of the first.
    #[inline]
    fn end_before(&self, index: usize) -> usize {
        let ends = self.offsets().ends;
        match index.checked_sub(1) {
            None => 0,
            Some(before) if self.has(flag::WIDE) => u32_at(self.bytes, ends + before * 4) as usize,
            Some(before) => usize::from(u16_at(self.bytes, ends + before * 2)),
        }
    }

    #[inline]
    fn raw(&self, index: usize) -> &'a [u8] {
        self.raw_range(index, index + 1)
    }

    /// The bytes of the entries from `index` to before `end`.
    #[inline]
    fn raw_range(&self, index: usize, end: usize) -> &'a [u8] {
        let first = self.offsets().entries;
        self.bytes.get(first + self.end_before(index)..first + self.end_before(end)).unwrap_or_default()
    }

    /// How many nibbles below `depth` each entry shares with the next one.
    #[inline]
    pub(crate) fn gaps(&self) -> Gaps<'a> {
        let wide = self.has(flag::WIDE);
        let at = self.offsets().shared;
        let bytes = self.bytes.get(at..at + self.len * if wide { 2 } else { 1 }).unwrap_or_default();
        Gaps { bytes, wide }
    }

    /// How many nibbles below `depth` entry `index` shares with the next one.
    #[inline]
    fn shared_below(&self, index: usize) -> u16 {
        self.gaps().get(index) as u16
    }

    /// How many nibbles, from the root of the trie, entry `index` shares with the next one.
    #[inline]
    pub(crate) fn shared(&self, index: usize) -> usize {
        self.depth() + usize::from(self.shared_below(index))
    }

    /// The path and the kind of entry `index`, without what it holds.
    #[inline]
    pub(crate) fn head(&self, index: usize) -> Head<'a> {
        Head::parse(if index < self.len { self.raw(index) } else { &[] }, self.depth())
    }

    /// Entry `index`. Past the end: an empty leaf.
    #[inline]
    pub fn entry(&self, index: usize) -> Entry<'a> {
        let raw = if index < self.len { self.raw(index) } else { &[] };
        let head = Head::parse(raw, self.depth());
        Entry { below: head.below, end: head.end, tail: head.tail, item: head.item(raw) }
    }

    /// All entries, in key order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'a>> + use<'a> {
        let page = *self;
        (0..self.len).map(move |index| page.entry(index))
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
