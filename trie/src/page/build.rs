//! Making packed pages: entry by entry, by splicing changes into an older page, or in place.

use alloc::vec::Vec;

use super::{
    ACCOUNT_DEPTH, BELOW, BLINDED_BRANCH, ENTRY_HEAD, Entry, HEADER, Head, Item, KIND_ACCOUNT, KIND_BLINDED,
    KIND_CHILD, KIND_LEAF, NOWHERE, Page, flag, print,
};
use crate::path;

/// Packs entries, given in key order, into a page.
#[derive(Debug, Default)]
pub struct PageBuilder {
    depth: usize,
    stamp: u64,
    flags: u8,
    prints: Vec<u16>,
    ends: Vec<u32>,
    /// What each entry shares with the next one, below `depth`.
    shared: Vec<u16>,
    entries: Vec<u8>,
    sources: Vec<u64>,
    origins: Vec<(u16, u16)>,
    last_print: u16,
    /// Where the last entry and the last account stand in `entries`.
    last: usize,
    last_account: usize,
}

/// One change to a plain page: of an older entry, or before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit<'a> {
    pub(crate) at: usize,
    pub(crate) change: Change<'a>,
}

/// What an [`Edit`] does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    Replace(Item<'a>),
    /// Puts a leaf of this whole key before the entry.
    Insert {
        key: &'a [u8],
        item: Item<'a>,
    },
    Remove,
}

/// An older page on its way into a new one.
struct Splice<'a> {
    page: Page<'a>,
    /// The first entry that was not looked at yet.
    next: usize,
    /// What the last entry of the new page shares with `next`, if the older page tells.
    gap: Option<u16>,
}

impl PageBuilder {
    /// A page whose stem has `depth` nibbles.
    pub fn new(depth: usize) -> Self {
        Self { depth, ..Self::default() }
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

    /// Bytes of the entries so far.
    pub(crate) fn size(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry yet.
    pub fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }

    /// Appends an entry whose tail starts at byte `depth / 2` of the key (or below the account), as in
    /// [`Page::entry`] of a page of the same depth.
    pub fn push(&mut self, entry: &Entry<'_>) {
        self.push_after(entry, None);
    }

    /// Names the older page under the same stem, before anything is said to come from a page.
    pub fn source(&mut self, page: u64) {
        self.sources.push(page);
    }

    /// Says that the entry pushed last is entry `place` of `page`, as it stands there.
    pub fn origin(&mut self, page: u64, place: u16) {
        let known = self.sources.iter().rposition(|source| *source == page);
        let source = known.unwrap_or_else(|| {
            self.sources.push(page);
            self.sources.len() - 1
        });
        if let Some(origin) = self.origins.last_mut() {
            *origin = (source as u16, place);
        }
    }

    /// Begins another page, in the memory of the last one.
    pub fn restart(&mut self, depth: usize) {
        self.depth = depth;
        self.flags = 0;
        self.prints.clear();
        self.ends.clear();
        self.shared.clear();
        self.entries.clear();
        self.sources.clear();
        self.origins.clear();
        self.last_print = 0;
        self.last = 0;
        self.last_account = 0;
    }

    /// Appends an entry that shares `gap` nibbles below `depth` with the last one; `None`: compare them.
    fn push_after(&mut self, entry: &Entry<'_>, gap: Option<u16>) {
        self.close_gap(entry, gap);
        if !entry.below {
            self.last_print = print(entry.tail, self.depth);
        }
        self.prints.push(self.last_print);
        self.origins.push((NOWHERE, 0));
        self.last = self.entries.len();
        if !entry.below {
            self.last_account = self.last;
        }
        let kind = match entry.item {
            Item::Leaf { .. } => KIND_LEAF,
            Item::Account { .. } => KIND_ACCOUNT,
            Item::Child { .. } => KIND_CHILD,
            Item::Blinded { .. } => KIND_BLINDED,
        };
        self.flags |= match kind {
            KIND_CHILD | KIND_BLINDED => flag::INNER,
            KIND_ACCOUNT => flag::ACCOUNTS,
            _ => 0,
        };
        self.flags |= if entry.below { flag::ACCOUNTS } else { 0 };
        self.entries.push(kind | if entry.below { BELOW } else { 0 });
        self.entries.extend_from_slice(&(entry.end as u16).to_le_bytes());
        self.entries.extend_from_slice(entry.tail);
        append_item(&entry.item, &mut self.entries);
        self.ends.push(self.entries.len() as u32);
        self.shared.push(0);
    }

    /// Says what the last entry shares with the one that comes now.
    fn close_gap(&mut self, next: &Entry<'_>, gap: Option<u16>) {
        let Some(at) = self.len().checked_sub(1) else { return };
        let gap = gap.unwrap_or_else(|| (self.shared_with(next) - self.depth) as u16);
        if self.end_of_last() == self.depth + usize::from(gap) {
            self.flags |= flag::PREFIXES;
        }
        if let Some(shared) = self.shared.get_mut(at) {
            *shared = gap;
        }
    }

    fn end_of_last(&self) -> usize {
        Head::parse(self.entries.get(self.last..).unwrap_or_default(), self.depth).end
    }

    /// How many nibbles, from the root of the trie, the last entry shares with `next`.
    fn shared_with(&self, next: &Entry<'_>) -> usize {
        let head = |at: usize| Head::parse(self.entries.get(at..).unwrap_or_default(), self.depth);
        let last = head(self.last);
        if next.below && !last.below {
            return ACCOUNT_DEPTH;
        }
        if next.below {
            let to = last.end.min(next.end).saturating_sub(ACCOUNT_DEPTH);
            return ACCOUNT_DEPTH + path::common_prefix(last.tail, next.tail, 0, to);
        }
        let last = if last.below { head(self.last_account) } else { last };
        let to = last.end.min(next.end).saturating_sub(self.depth & !1);
        self.depth + path::common_prefix(last.tail, next.tail, self.depth % 2, to)
    }

    /// Begins with the entries of `page`, which `word` names and which is [plain](Page::is_plain), changed by `edits` in
    /// their order. False where what is left is not a page of the same depth: then nothing is to be made of it.
    pub(crate) fn splice(&mut self, word: u64, page: Page<'_>, edits: &[Edit<'_>]) -> bool {
        self.restart(page.depth());
        self.source(word);
        let mut splice = Splice { page, next: 0, gap: None };
        for edit in edits {
            self.take(&mut splice, edit.at);
            match edit.change {
                Change::Replace(item) => {
                    self.push_after(&Entry { item, ..page.entry(edit.at) }, splice.gap);
                    splice.gap = Some(page.shared_below(edit.at));
                    splice.next += 1;
                }
                Change::Insert { key, item } => {
                    let tail = key.get(page.depth() / 2..).unwrap_or_default();
                    self.push(&Entry { below: false, end: key.len() * 2, tail, item });
                    splice.gap = None;
                }
                Change::Remove => {
                    splice.gap = splice.gap.map(|gap| gap.min(page.shared_below(edit.at)));
                    splice.next += 1;
                }
            }
        }
        self.take(&mut splice, page.len());
        let gaps = self.len().checked_sub(1).and_then(|gaps| self.shared.get(..gaps)).unwrap_or_default();
        gaps.contains(&0)
    }

    /// Takes the entries of the older page before `end` over as they are.
    fn take(&mut self, splice: &mut Splice<'_>, end: usize) {
        let (page, next) = (splice.page, splice.next);
        if next >= end {
            return;
        }
        self.close_gap(&page.entry(next), splice.gap);
        if page.has_prefixes() {
            self.flags |= flag::PREFIXES;
        }
        let raw = page.raw_range(next, end);
        let (before, after) = (page.end_before(next), self.entries.len());
        self.entries.extend_from_slice(raw);
        for index in next..end {
            self.prints.push(page.print_at(index));
            self.ends.push((page.end_before(index + 1) - before + after) as u32);
            self.shared.push(page.shared_below(index));
            self.origins.push((0, index as u16));
        }
        self.last = after + page.end_before(end - 1) - before;
        splice.gap = Some(page.shared_below(end - 1));
        splice.next = end;
    }

    /// The packed page.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.finish_into(&mut out);
        out
    }

    /// The packed page, in place of what `out` holds.
    pub fn finish_into(&self, out: &mut Vec<u8>) {
        let gaps = self.shared.get(..self.len().saturating_sub(1)).unwrap_or_default();
        let wide = self.entries.len() > usize::from(u16::MAX) || gaps.iter().any(|gap| *gap > 0xff);
        let len = self.len();
        let trailer = HEADER + len * if wide { 8 } else { 5 } + self.entries.len();
        out.clear();
        out.reserve(trailer + (self.sources.len() + 1) * 8 + len * 4);
        out.extend_from_slice(&(len as u16).to_le_bytes());
        out.extend_from_slice(&(self.depth as u16).to_le_bytes());
        out.extend_from_slice(&[self.flags | if wide { flag::WIDE } else { 0 }, 0]);
        out.extend_from_slice(&(self.sources.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.stamp.to_le_bytes());
        out.extend_from_slice(&(trailer as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        debug_assert_eq!(out.len(), HEADER);
        self.prints.iter().for_each(|print| out.extend_from_slice(&print.to_le_bytes()));
        if wide {
            self.ends.iter().for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
            gaps.iter().for_each(|gap| out.extend_from_slice(&gap.to_le_bytes()));
        } else {
            self.ends.iter().for_each(|end| out.extend_from_slice(&(*end as u16).to_le_bytes()));
            out.extend(gaps.iter().map(|gap| *gap as u8));
        }
        // The last entry shares nothing with a next one.
        out.resize(out.len() + usize::from(len > 0) * if wide { 2 } else { 1 }, 0);
        out.extend_from_slice(&self.entries);
        debug_assert_eq!(out.len(), trailer);
        self.sources.iter().for_each(|source| out.extend_from_slice(&source.to_le_bytes()));
        if !self.sources.is_empty() {
            for (source, place) in &self.origins {
                out.extend_from_slice(&source.to_le_bytes());
                out.extend_from_slice(&place.to_le_bytes());
            }
        }
    }
}

/// Makes of `page`, which `word` names, one in which the entries at `changes` hold these items, and puts it in place of what
/// `out` holds. False, with no use of `out`, where an item takes another length than the one before.
pub(crate) fn change_in_place(
    page: Page<'_>,
    word: u64,
    stamp: u64,
    changes: &[(usize, Item<'_>)],
    out: &mut Vec<u8>,
) -> bool {
    let trailer = page.trailer();
    out.clear();
    out.extend_from_slice(page.bytes().get(..trailer).unwrap_or_default());
    for (index, item) in changes {
        let start = page.offsets().entries + page.end_before(*index);
        let tail = page.head(*index).tail.len();
        let room =
            out.get_mut(start + ENTRY_HEAD + tail..page.offsets().entries + page.end_before(index + 1));
        if !room.is_some_and(|room| replace_item(item, room)) {
            return false;
        }
    }
    let flags = page.flags | flag::IN_PLACE;
    if let Some(head) = out.get_mut(4..16) {
        head.copy_from_slice(&head_of(flags, 1, stamp));
    }
    out.extend_from_slice(&word.to_le_bytes());
    let bits = out.len();
    out.resize(bits + page.len().div_ceil(8), 0);
    for (index, _) in changes {
        if let Some(byte) = out.get_mut(bits + index / 8) {
            *byte |= 1 << (index % 8);
        }
    }
    true
}

/// Bytes 4 to 16 of a header.
fn head_of(flags: u8, sources: u16, stamp: u64) -> [u8; 12] {
    let [low, high] = sources.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = stamp.to_le_bytes();
    [flags, 0, low, high, a, b, c, d, e, f, g, h]
}

/// Puts what stands at an entry behind its path.
fn append_item(item: &Item<'_>, out: &mut Vec<u8>) {
    match *item {
        Item::Leaf { stamp, value } => {
            out.extend_from_slice(&stamp.to_le_bytes());
            out.extend_from_slice(value);
        }
        Item::Account { stamp, wiped, body } => {
            out.extend_from_slice(&stamp.to_le_bytes());
            out.extend_from_slice(&wiped.to_le_bytes());
            out.extend_from_slice(body);
        }
        Item::Child { reference } => out.extend_from_slice(&reference.to_le_bytes()),
        Item::Blinded { node, is_branch } => {
            out.push(node.as_slice().len() as u8 | if is_branch { BLINDED_BRANCH } else { 0 });
            out.extend_from_slice(node.as_slice());
        }
    }
}

/// The same over what stands there already, if it takes the same room.
fn replace_item(item: &Item<'_>, room: &mut [u8]) -> bool {
    let mut put = |head: &[u8], rest: &[u8]| {
        let Some((first, second)) = room.split_at_mut_checked(head.len()) else { return false };
        if second.len() != rest.len() {
            return false;
        }
        first.copy_from_slice(head);
        second.copy_from_slice(rest);
        true
    };
    match *item {
        Item::Leaf { stamp, value } => put(&stamp.to_le_bytes(), value),
        Item::Account { stamp, wiped, body } => {
            let mut head = [0; 16];
            head[..8].copy_from_slice(&stamp.to_le_bytes());
            head[8..].copy_from_slice(&wiped.to_le_bytes());
            put(&head, body)
        }
        Item::Child { reference } => put(&reference.to_le_bytes(), &[]),
        Item::Blinded { .. } => false,
    }
}
