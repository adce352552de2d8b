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

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::path::nibble;
use crate::scheme::NodeRef;
pub use build::PageBuilder;
pub(crate) use build::{Change, Edit, change_in_place};

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
#[inline]
fn compare(tail: &[u8], nibbles: usize, key: &[u8]) -> Ordering {
    let whole = nibbles / 2;
    let head = tail.get(..whole).unwrap_or(tail);
    let cut = head.len().min(key.len());
    let (key_head, key_rest) = key.split_at(cut);
    // The comparison of no bytes is a call that some machines take long for.
    let order = if head.is_empty() { Ordering::Equal } else { head.cmp(key_head) };
    order.then_with(|| match (nibbles % 2, key_rest.first()) {
        (0, None) => Ordering::Equal,
        (0, Some(_)) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (_, Some(byte)) => nibble(tail, nibbles - 1).cmp(&(byte >> 4)).then(Ordering::Less),
    })
}

/// Whether the first `nibbles` of a path (whole bytes `tail`) are also the first of a key that starts at the same byte.
#[inline]
fn leads(tail: &[u8], nibbles: usize, key: &[u8]) -> bool {
    let whole = nibbles / 2;
    let (Some(head), Some(key_head)) = (tail.get(..whole), key.get(..whole)) else { return false };
    // Between pages it is a byte or two: less than a call to compare them takes.
    let same = if whole <= 4 { head.iter().zip(key_head).all(|(a, b)| a == b) } else { head == key_head };
    same && (nibbles.is_multiple_of(2)
        || key.get(whole).is_some_and(|byte| byte >> 4 == nibble(tail, nibbles - 1)))
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
    pub(crate) fn is_inner(&self) -> bool {
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
            let entry = self.head(index);
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
            in_account =
                entry.below || entry.is_account() && key.get(depth / 2..ACCOUNT_BYTES) == Some(entry.tail);
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

    /// The bytes that [`look`](Self::look) is likely to read behind the front of the page, found without reading them: for having them
    /// fetched. A guess; the answer does not depend on it.
    #[inline]
    pub fn likely(&self, key: &[u8]) -> &'a [u8] {
        let depth = self.depth();
        let target = print(key.get(depth / 2..).unwrap_or_default(), depth);
        let at = self.lower_bound(target);
        let is_here = at < self.len && self.print_at(at) == target;
        self.raw(if is_here { at } else { at.saturating_sub(1) })
    }

    /// What stands at `key`, or leads to it: the item of the entry that [`find`](Self::find) finds, with each entry parsed
    /// only once. The key must have the stem as a prefix.
    #[inline]
    pub fn look(&self, key: &[u8]) -> Option<Item<'a>> {
        if self.has_accounts() {
            return match self.find(key) {
                Find::Here(at) | Find::Into(at) => Some(self.entry(at).item),
                Find::Absent(_) => None,
            };
        }
        let depth = self.depth();
        let stem = depth & !1;
        let key_tail = key.get(depth / 2..).unwrap_or_default();
        let target = print(key_tail, depth);
        let mut index = self.lower_bound(target);
        let mut last = index.checked_sub(1);
        while index < self.len && self.print_at(index) == target {
            let raw = self.raw(index);
            let head = Head::parse(raw, depth);
            match compare(head.tail, head.end.saturating_sub(stem), key_tail) {
                Ordering::Greater => break,
                Ordering::Equal if !head.is_child() => return Some(head.item(raw)),
                _ => {}
            }
            last = Some(index);
            index += 1;
        }
        let raw = self.raw(last?);
        let head = Head::parse(raw, depth);
        let is_way = head.kind != KIND_LEAF && leads(head.tail, head.end.saturating_sub(stem), key_tail);
        is_way.then(|| head.item(raw))
    }

    /// Whether entry `at` is a child or a blinded node whose path is a prefix of `key`.
    fn holds(&self, at: usize, key: &[u8], same_account: bool) -> bool {
        let entry = self.head(at);
        let start = match entry.kind {
            KIND_LEAF | KIND_ACCOUNT => return false,
            _ if !entry.below => self.depth() / 2,
            _ if same_account && self.account_of(at, key) => ACCOUNT_BYTES,
            _ => return false,
        };
        leads(entry.tail, entry.end - start * 2, key.get(start..).unwrap_or_default())
    }

    /// Whether the account entry before `at` is that of `key`.
    fn account_of(&self, at: usize, key: &[u8]) -> bool {
        (0..at)
            .rev()
            .map(|index| self.head(index))
            .find(|entry| !entry.below)
            .is_some_and(|entry| Some(entry.tail) == key.get(self.depth() / 2..ACCOUNT_BYTES))
    }

    /// The first entry whose print is not below `target`.
    #[inline]
    fn lower_bound(&self, target: u16) -> usize {
        let prints = self.bytes.get(HEADER..HEADER + self.len * 2).unwrap_or_default();
        if self.len <= 64 {
            let (pairs, _) = prints.as_chunks::<2>();
            return pairs.iter().filter(|pair| u16::from_le_bytes(**pair) < target).count();
        }
        let (mut low, mut high) = self.around(target);
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

    /// Bounds of [`lower_bound`](Self::lower_bound) in a page of many entries: most have children of random keys, whose prints are
    /// spread evenly, so that it is found where the number says, or next to it.
    #[inline]
    fn around(&self, target: u16) -> (usize, usize) {
        let guess = (usize::from(target) * self.len) >> 16;
        let mut step = 1;
        if self.print_at(guess) < target {
            let mut low = guess + 1;
            loop {
                let probe = low + step - 1;
                if probe >= self.len || self.print_at(probe) >= target {
                    return (low, probe.min(self.len));
                }
                low = probe + 1;
                step *= 2;
            }
        }
        let mut high = guess;
        loop {
            match high.checked_sub(step) {
                None => return (0, high),
                Some(probe) if self.print_at(probe) < target => return (probe + 1, high),
                Some(probe) => high = probe,
            }
            step *= 2;
        }
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

    /// Whether [`Page::look`] says of `key` what [`Page::find`] does.
    fn look_agrees(bytes: &[u8], key: &[u8]) {
        let page = Page::new(bytes);
        let expected = match page.find(key) {
            Find::Here(at) | Find::Into(at) => Some(page.entry(at).item),
            Find::Absent(_) => None,
        };
        assert_eq!(page.look(key), expected, "{key:x?}");
        // Asked of any key, and never out of the page.
        assert!(page.likely(key).len() <= bytes.len());
    }

    #[test]
    fn a_look_gives_what_is_found() {
        // Leaves that are prefixes of others, and children of even and odd length, few and (in a wide page) many.
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..300 {
            let mut paths: Vec<(Vec<u8>, usize)> = Vec::new();
            for _ in 0..1 + random(if round % 3 == 0 { 600 } else { 20 }) {
                let bytes: Vec<u8> = (0..1 + random(3)).map(|_| (random(256) & 0xf3) as u8).collect();
                let odd = random(4) == 0;
                let end = bytes.len() * 2 - usize::from(odd);
                let last = if odd { 0xf0 } else { 0xff };
                let (front, tail) = bytes.split_at(bytes.len() - 1);
                paths.push(([front, &[tail[0] & last]].concat(), end));
            }
            paths.sort();
            paths.dedup_by(|a, b| a.0 == b.0);
            // What lies below a child is in the child.
            let mut kept: Vec<(Vec<u8>, usize, bool)> = Vec::new();
            for (path, end) in paths {
                let is_below =
                    |(parent, at, child): &(Vec<u8>, usize, bool)| *child && leads(parent, *at, &path);
                if !kept.iter().any(is_below) {
                    let child = end % 2 == 1 || random(3) == 0;
                    kept.push((path, end, child));
                }
            }
            let mut builder = PageBuilder::new(0);
            for (at, (path, end, child)) in kept.iter().enumerate() {
                let item = match child {
                    true => Item::Child { reference: at as u64 },
                    false => Item::Leaf { stamp: at as u64, value: path },
                };
                builder.push(&Entry { below: false, end: *end, tail: path, item });
            }
            let bytes = builder.finish();
            for (path, ..) in &kept {
                for key in [path.clone(), [&path[..], &[0]].concat(), [&path[..], &[7]].concat()] {
                    look_agrees(&bytes, &key);
                }
                look_agrees(&bytes, path.split_last().unwrap().1);
            }
            for _ in 0..50 {
                let key: Vec<u8> = (0..random(5)).map(|_| random(256) as u8).collect();
                look_agrees(&bytes, &key);
            }
        }
    }

    #[test]
    fn a_bound_is_found_wherever_the_prints_lie() {
        for spread in [1, 3, 200, 65_535] {
            let prints: Vec<u16> = (0..200_u32).map(|at| ((at * spread) % 65_536) as u16).collect();
            let mut sorted = prints;
            sorted.sort_unstable();
            sorted.dedup();
            let mut builder = PageBuilder::new(0);
            for print in &sorted {
                let item = Item::Leaf { stamp: 1, value: &[] };
                builder.push(&Entry { below: false, end: 4, tail: &print.to_be_bytes(), item });
            }
            let bytes = builder.finish();
            let page = Page::new(&bytes);
            for target in (0..=u16::MAX).step_by(7).chain(sorted.iter().copied()) {
                assert_eq!(page.lower_bound(target), sorted.partition_point(|print| *print < target));
            }
        }
    }
}
