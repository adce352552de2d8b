//! The pages of a run on their way into the segments: children before parents, in key order.
//!
//! What costs is waiting for memory: pages lie scattered. So the pages below one parent are touched some at a time, which
//! overlaps the waiting, before each is written. And nothing is read back from the segments for a page whose chain is
//! known and whose entries tell by their stamps what changed.

use std::hint::black_box;

use bristlecone_delta::{Chain, ChildEntry, GroupWriter, Locator, Stamp, format};
use bristlecone_snapshot::{Guard, Lookup, SlotId, pin};
use bristlecone_trie::{Item, NodeRef, Page};

use crate::graph::{head, mark_of};
use crate::pipeline::Core;
use crate::reference::Reference;
use crate::{Error, Result};

/// So many pages are touched before the first of them is written: enough to overlap, few enough to stay in the cache.
const WINDOW: usize = 32;

/// So far back it is looked for where a page came from, in advance.
const ANCESTORS: usize = 3;

/// Bytes that come from memory at a time.
const LINE: usize = 64;

/// Nibbles in the head of a key.
const HEAD_NIBBLES: usize = 16;

/// The chains of pages in memory, by the place of their slots. A chain follows from its newest record alone; so it is right wherever
/// the slot's locator is that record, whatever became of the slot meanwhile.
#[derive(Debug, Default)]
pub(super) struct Chains {
    kept: Vec<Option<Box<Chain>>>,
    /// What they hold.
    bytes: usize,
}

impl Chains {
    /// Slots are numbered from 0 on, in the low half of their ids.
    fn place(id: SlotId) -> usize {
        (id.to_word() & u64::from(u32::MAX)) as usize
    }

    fn get(&self, id: SlotId, newest: Locator) -> Option<&Chain> {
        self.kept.get(Self::place(id))?.as_deref().filter(|chain| chain.newest() == newest)
    }

    /// Whether the page in the slot has large values, if that is remembered.
    pub(super) fn has_large_values(&self, id: SlotId, newest: Locator) -> Option<bool> {
        self.get(id, newest).map(Chain::has_large_values)
    }

    fn set(&mut self, id: SlotId, chain: Chain) {
        let place = Self::place(id);
        if place >= self.kept.len() {
            self.kept.resize(place + 1, None);
        }
        self.bytes += size_of::<Chain>() + chain.size();
        if let Some(kept) = self.kept.get_mut(place) {
            let old = kept.replace(Box::new(chain));
            self.drop(old);
        }
    }

    /// Forgets what is remembered of a page that left memory.
    pub(super) fn forget(&mut self, id: SlotId) {
        let old = self.kept.get_mut(Self::place(id)).and_then(Option::take);
        self.drop(old);
    }

    fn drop(&mut self, chain: Option<Box<Chain>>) {
        if let Some(chain) = chain {
            self.bytes -= size_of::<Chain>() + chain.size();
        }
    }

    /// Memory that they take, in bytes.
    pub(super) fn size(&self) -> usize {
        self.kept.capacity() * size_of::<Option<Box<Chain>>>() + self.bytes
    }
}

/// The nibbles above a page, as far as they are in the head of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stem {
    head: u64,
    nibbles: usize,
}

impl Stem {
    const ROOT: Self = Self { head: 0, nibbles: 0 };

    /// The heads of keys with this stem.
    fn heads(self) -> std::ops::RangeInclusive<u64> {
        let free = u64::MAX.checked_shr(self.nibbles as u32 * 4).unwrap_or(0);
        self.head & !free..=self.head | free
    }

    /// The stem that goes on with `tail` from byte `from` on, and has `nibbles` in all.
    fn join(self, from: usize, tail: &[u8], nibbles: usize) -> Self {
        let kept = u64::MAX.checked_shr(from as u32 * 8).unwrap_or(0);
        let tail = head(tail).checked_shr(from as u32 * 8).unwrap_or(0);
        Self { head: self.head & !kept | tail, nibbles: nibbles.min(HEAD_NIBBLES) }
    }
}

/// A child entry of a page.
struct Below {
    word: u64,
    stem: Stem,
    node: NodeRef,
}

/// Writes the pages of one namespace.
pub(super) struct Pages<'r, 'w> {
    pub(super) core: &'r Core,
    pub(super) group: &'r mut GroupWriter<'w>,
    pub(super) chains: &'r mut Chains,
    /// The first stamp of the run.
    pub(super) since: Stamp,
    /// Heads of keys that may have gone in the run, ascending.
    pub(super) gone: Vec<u64>,
    /// Marks of keys that came in the run, ascending.
    pub(super) added: &'r [u64],
    pub(super) out: Written,
}

/// What became of pages.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Where they were written.
    pub(super) pages: Vec<(SlotId, Locator)>,
    /// Their newest records before, where those are a part of them still.
    pub(super) gone_on_from: Vec<Locator>,
}

impl Written {
    fn goes_on(&mut self, chain: &Chain, from: Option<Locator>) {
        self.gone_on_from.extend(from.filter(|newest| chain.goes_on_from(*newest)));
    }
}

impl Pages<'_, '_> {
    /// Writes the root page that `word` names and all below it that are not stored yet.
    pub(super) fn put(&mut self, word: u64) -> Result<Locator> {
        self.put_below(word, Stem::ROOT)
    }

    fn put_below(&mut self, word: u64, stem: Stem) -> Result<Locator> {
        if let Some(locator) = self.core.locator(word) {
            return Ok(locator);
        }
        let Some(Reference::Slot(id)) = Reference::from_word(word) else {
            return Err(Error::Internal("a page to be sealed is in no slot"));
        };
        let chain = match self.put_updated(id, stem)? {
            Some(chain) => chain,
            None => self.put_with_children(id, stem)?,
        };
        let newest = chain.newest();
        self.chains.set(id, chain);
        self.out.pages.push((id, newest));
        Ok(newest)
    }

    /// Writes a page that kept its entries by their stamps, which tell what changed where no key under the stem went and no child
    /// page is there, but for keys that came, which are known by their marks. What left or came any other way would have changed
    /// the number of entries.
    fn put_updated(&mut self, id: SlotId, stem: Stem) -> Result<Option<Chain>> {
        let heads = stem.heads();
        let first = self.gone.partition_point(|head| head < heads.start());
        if self.gone.get(first).is_some_and(|head| head <= heads.end()) {
            return Ok(None);
        }
        // Straight from the block: no file is touched while it is pinned.
        let (chain, newest) = {
            let guard = pin();
            let page = Page::new(self.block(id, &guard)?);
            let Some((old, newest)) = self.stored_ancestor(page, &guard) else { return Ok(None) };
            let Some(chain) = self.chains.get(old, newest) else { return Ok(None) };
            let added = page.len().checked_sub(chain.entries());
            let Some(added) = added.and_then(|count| self.added(page, stem, count)) else { return Ok(None) };
            (self.group.put_updated(chain, page, self.since, &added)?, newest)
        };
        if let Some(chain) = &chain {
            self.out.goes_on(chain, Some(newest));
        }
        self.group.spill()?;
        Ok(chain)
    }

    /// The places of the `count` entries of a page that came in the run. `None` where they are not told from others.
    fn added(&self, page: Page<'_>, stem: Stem, count: usize) -> Option<Vec<usize>> {
        let mut out = Vec::with_capacity(count);
        if count == 0 {
            return Some(out);
        }
        let from = page.depth() / 2;
        let mut account = stem;
        for (at, entry) in page.entries().enumerate() {
            let (head, stamp) = match entry.item {
                Item::Leaf { stamp, .. } if entry.below => (account.head, stamp),
                Item::Leaf { stamp, .. } => (stem.join(from, entry.tail, entry.end).head, stamp),
                Item::Account { stamp, .. } => {
                    account = stem.join(from, entry.tail, entry.end);
                    (account.head, stamp)
                }
                _ => return None,
            };
            // A mark is found that another key has: then there are too many, and none is taken for new that is not.
            if stamp >= self.since.word()
                && self.added.binary_search(&mark_of(head, entry.end / 2, entry.tail)?).is_ok()
            {
                out.push(at);
            }
        }
        (out.len() == count).then_some(out)
    }

    /// Writes any page, its children first.
    fn put_with_children(&mut self, id: SlotId, stem: Stem) -> Result<Chain> {
        let below = {
            let guard = pin();
            self.below(id, Page::new(self.block(id, &guard)?), stem, &guard)?
        };
        let mut children = Vec::with_capacity(below.len());
        for some in below.chunks(WINDOW) {
            self.touch(some);
            for child in some {
                let locator = self.put_below(child.word, child.stem)?;
                children.push(ChildEntry { locator, node: child.node });
            }
        }
        let (bytes, previous, others) = {
            let guard = pin();
            let bytes = self.block(id, &guard)?;
            let page = Page::new(bytes);
            let ancestor = self.stored_ancestor(page, &guard);
            if let Some((old, newest)) = ancestor
                && let Some(chain) = self.chains.get(old, newest)
                && let Lookup::Block(old) = self.core.graph.slots.get(old, &guard)
                && let Some(chain) = self.group.put_compared(chain, Page::new(old), page, &children)?
            {
                self.out.goes_on(&chain, Some(newest));
                return Ok(chain);
            }
            // Records are read for it, and no page is kept by a pin that long.
            (bytes.to_vec(), ancestor.map(|(_, newest)| newest), self.sources_of_large_values(page, &guard))
        };
        let chain = self.group.put_moved(previous, &others, Page::new(&bytes), &children)?;
        self.out.goes_on(&chain, previous);
        Ok(chain)
    }

    /// The stored pages that entries of `page` may have come from, if any of them is a large value: stored once, it is not stored
    /// again where the entry moves from page to page.
    fn sources_of_large_values(&self, page: Page<'_>, guard: &Guard) -> Vec<Locator> {
        let is_large =
            |item| matches!(item, Item::Leaf { value, .. } if value.len() > format::MAX_INLINE_BYTES);
        if !page.entries().any(|entry| is_large(entry.item)) {
            return Vec::new();
        }
        let slots = &self.core.graph.slots;
        let (mut stored, mut next) = (Vec::new(), origins(page.bytes()).collect::<Vec<_>>());
        while let Some(id) = next.pop() {
            match slots.locator(id).and_then(Locator::from_word) {
                Some(locator) => stored.push(locator),
                None => {
                    if let Lookup::Block(bytes) = slots.get(id, guard) {
                        next.extend(origins(bytes));
                    }
                }
            }
        }
        stored.sort_unstable();
        stored.dedup();
        stored
    }

    fn block<'g>(&self, id: SlotId, guard: &'g Guard) -> Result<&'g [u8]>
    where
        Self: 'g,
    {
        match self.core.graph.slots.get(id, guard) {
            Lookup::Block(bytes) => Ok(bytes),
            Lookup::Located(_) | Lookup::Gone => Err(Error::Internal("a page to be sealed is gone")),
        }
    }

    /// The child entries of a page.
    fn below(&self, id: SlotId, page: Page<'_>, stem: Stem, guard: &Guard) -> Result<Vec<Below>> {
        let from = page.depth() / 2;
        let mut account = stem;
        let mut out = Vec::new();
        let mut nodes: Option<&[NodeRef]> = None;
        for (at, entry) in page.entries().enumerate() {
            if let Item::Account { .. } = entry.item {
                account = stem.join(from, entry.tail, entry.end);
            }
            let Item::Child { reference } = entry.item else { continue };
            let known = match nodes {
                Some(nodes) => nodes,
                None => self
                    .core
                    .graph
                    .slots
                    .companion(id, guard)
                    .ok_or(Error::Internal("a page to be sealed has no hashes"))?,
            };
            nodes = Some(known);
            let node = known.get(at).copied().ok_or(Error::Internal("a child without a hash"))?;
            let stem = if entry.below { account } else { stem.join(from, entry.tail, entry.end) };
            out.push(Below { word: reference, stem, node });
        }
        Ok(out)
    }

    /// The page that `page` took the place of, under the same stem, and its newest record.
    fn stored_ancestor(&self, page: Page<'_>, guard: &Guard) -> Option<(SlotId, Locator)> {
        let slots = &self.core.graph.slots;
        let depth = page.depth();
        let mut at = page;
        // One that is stored and neither in memory nor remembered: it may be the one, and its records tell.
        let mut unseen = None;
        loop {
            let mut next = None;
            for id in origins(at.bytes()) {
                let stored = slots.locator(id).and_then(Locator::from_word);
                // Where its chain is known the old page need not be looked at, nor be in memory.
                if let Some(newest) = stored
                    && let Some(chain) = self.chains.get(id, newest)
                {
                    if chain.depth() == depth {
                        return Some((id, newest));
                    }
                    continue;
                }
                let Lookup::Block(bytes) = slots.get(id, guard) else {
                    unseen = unseen.or(stored.map(|newest| (id, newest)));
                    continue;
                };
                let old = Page::new(bytes);
                if old.depth() != depth {
                    continue;
                }
                if let Some(newest) = stored {
                    return Some((id, newest));
                }
                next = Some(old);
                break;
            }
            let Some(older) = next else { return unseen };
            at = older;
        }
    }

    /// Asks memory for pages that are to be written, and for what tells where they came from.
    fn touch(&self, below: &[Below]) {
        let slots = &self.core.graph.slots;
        let guard = pin();
        let mut sum = 0;
        let ids = below.iter().filter_map(|child| match Reference::from_word(child.word) {
            Some(Reference::Slot(id)) if slots.locator(id).is_none() => Some(id),
            _ => None,
        });
        let ids: Vec<SlotId> = ids.collect();
        let blocks: Vec<&[u8]> = ids
            .iter()
            .filter_map(|id| match slots.get(*id, &guard) {
                Lookup::Block(bytes) => Some(bytes),
                Lookup::Located(_) | Lookup::Gone => None,
            })
            .collect();
        for bytes in &blocks {
            sum ^= bytes.iter().step_by(LINE).fold(0, |sum, byte| sum ^ byte);
        }
        // Where they came from: pages of the same run, until one is stored.
        let mut ids: Vec<SlotId> = blocks.iter().flat_map(|bytes| origins(bytes)).collect();
        for _ in 0..ANCESTORS {
            let unsealed = |id: &SlotId| match slots.locator(*id).and_then(Locator::from_word) {
                Some(newest) => {
                    sum ^= u8::from(self.chains.get(*id, newest).is_some());
                    None
                }
                None => match slots.get(*id, &guard) {
                    Lookup::Block(bytes) => Some(bytes),
                    Lookup::Located(_) | Lookup::Gone => None,
                },
            };
            let olds: Vec<&[u8]> = ids.iter().filter_map(unsealed).collect();
            ids = olds.iter().flat_map(|bytes| origins(bytes)).collect();
        }
        black_box(sum);
    }
}

/// The slots that the entries of a page came from.
fn origins(page: &[u8]) -> impl Iterator<Item = SlotId> + use<'_> {
    Page::new(page).sources().filter_map(|source| match Reference::from_word(source) {
        Some(Reference::Slot(id)) => Some(id),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stem_is_the_range_of_the_heads_below_it() {
        assert_eq!(Stem::ROOT.heads(), 0..=u64::MAX);
        let three = Stem::ROOT.join(0, &[0xab, 0xc0], 3);
        assert_eq!(three.heads(), 0xabc0 << 48..=0xabcf_ffff_ffff_ffff);
        // The tail of a page at depth 3 starts with the byte that holds the stem's last nibble.
        let six = three.join(1, &[0xcd, 0xef], 6);
        assert_eq!(six.heads(), 0xab_cdef << 40..=0xabcd_efff_ffff_ffff);
        let deep = six.join(3, &[1, 2, 3, 4, 5, 6, 7], 20);
        assert_eq!(deep.heads(), 0xabcd_ef01_0203_0405..=0xabcd_ef01_0203_0405);
        assert_eq!(deep.join(10, &[9; 8], 36), deep);
    }
}
