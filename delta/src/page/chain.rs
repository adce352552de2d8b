//! What a writer remembers of a page's records, so that it need not read them to write the next one.
//!
//! A delta wants four things of the records before it: where they are, how many, how heavy, and which place each entry of
//! the page has in the base. All follow from the newest record, so that they can be kept beside it; and a page without
//! children that lost nothing tells by the stamps of its entries what changed.

use bristlecone_trie::{Entry, Item, Page};

use super::delta::Changes;
use super::entry::{Place, Stored, tail_len};
use super::write::{Nearest, diff, entries};
use crate::codec::at_most;
use crate::format::MAX_VALUE_BYTES;
use crate::{GroupWriter, Locator, Result, Stamp};

/// The position of an entry that the base does not have. No base has so many entries.
const NOT_IN_BASE: u16 = u16::MAX;

/// The records of a page, newest to base, without their content. It depends on nothing but the newest record's bytes: for
/// a page with that record it is never outdated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub(crate) newest: Locator,
    pub(crate) base: Locator,
    pub(crate) base_size: u32,
    pub(crate) deltas: u32,
    pub(crate) deltas_size: u32,
    pub(crate) depth: u16,
    /// Entries of the page.
    pub(crate) len: u16,
    /// Whether no entry is another page.
    pub(crate) is_plain: bool,
    /// Whether the base has entries that the page has not: what comes there again is placed, not spelled.
    pub(crate) has_holes: bool,
    /// The position in the base of each entry; `None` where each has its own.
    pub(crate) positions: Option<Box<[u16]>>,
}

impl Chain {
    /// The newest record.
    pub fn newest(&self) -> Locator {
        self.newest
    }

    /// Nibbles of the page's stem.
    pub fn depth(&self) -> usize {
        usize::from(self.depth)
    }

    /// Entries of the page.
    #[expect(clippy::len_without_is_empty, reason = "a page that is written has entries; nobody asks")]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Puts `positions` in their smallest form.
    pub(crate) fn packed(positions: Vec<u16>) -> Option<Box<[u16]>> {
        let is_own = positions.iter().enumerate().all(|(index, position)| index == usize::from(*position));
        (!is_own).then(|| positions.into_boxed_slice())
    }

    fn position(&self, index: usize) -> Option<usize> {
        match &self.positions {
            None => Some(index),
            Some(positions) => {
                positions.get(index).filter(|position| **position != NOT_IN_BASE).map(|p| usize::from(*p))
            }
        }
    }
}

/// A position as a chain keeps it.
pub(crate) fn kept(position: Option<usize>) -> u16 {
    position.map_or(NOT_IN_BASE, |position| position as u16)
}

impl GroupWriter<'_> {
    /// Writes a page of which `chain` is known, without reading a record or touching the file, or says with `None` that it
    /// takes [`put_page`](Self::put_page). Every entry that came or changed since the chain's newest record has a stamp of
    /// at least `since`, no other has, and of a page without children nothing may be gone, moved or wiped; `old` is
    /// the page as of the newest record, and is only wanted where entries were added. After some calls,
    /// [`spill`](Self::spill).
    ///
    /// # Errors
    /// As of [`put_page`](Self::put_page), but for reading.
    pub fn put_changed(
        &mut self,
        chain: &Chain,
        old: Option<Page<'_>>,
        page: Page<'_>,
        since: Stamp,
    ) -> Result<Option<Chain>> {
        if !chain.is_plain || chain.depth() != page.depth() {
            return Ok(None);
        }
        let Some(changes) = fresh(chain, old, page, since) else { return Ok(None) };
        debug_assert!(self.agrees(chain, page, &changes), "a page lost what it was said to have kept");
        let positions = match changes.positions.is_empty() {
            true => chain.positions.clone(),
            false => Chain::packed(changes.positions.clone()),
        };
        let next = Chain { len: page.len() as u16, positions, ..*chain };
        match self.put_delta(next, &changes)? {
            Some(chain) => Ok(Some(chain)),
            None => self.put_base(page.depth(), &entries(page, &[])?).map(Some),
        }
    }

    /// Whether reading the records leads to the same changes. Damage is for readers to find.
    fn agrees(&self, chain: &Chain, page: Page<'_>, changes: &Changes<'_>) -> bool {
        let (Ok(state), Ok(entries)) = (self.writer().segments().state(chain.newest), entries(page, &[]))
        else {
            return true;
        };
        let read = diff(&state, &entries);
        (&read.placed, &read.spelled) == (&changes.placed, &changes.spelled)
    }
}

/// What has a stamp of `since` or later in a page that has grown from `old` or kept its entries; `None` where it is no
/// such page.
fn fresh<'a>(chain: &Chain, old: Option<Page<'_>>, page: Page<'a>, since: Stamp) -> Option<Changes<'a>> {
    let has_grown = page.len().checked_sub(chain.len())? > 0;
    let old = match has_grown {
        true => Some(old.filter(|old| !chain.has_holes && old.len() == chain.len())?),
        false => None,
    };
    let mut changes = Changes::default();
    let mut account = Nearest::default();
    // How many entries of the old page were met. They keep their order.
    let mut met = 0;
    for entry in page.entries() {
        let item = match entry.item {
            Item::Leaf { stamp, value } => Stored::Leaf { stamp: Stamp::from_word(stamp), value },
            Item::Account { stamp, wiped, body } => Stored::Account {
                stamp: Stamp::from_word(stamp),
                wiped: (wiped != 0).then_some(Stamp::from_word(wiped)),
                body,
            },
            Item::Child { .. } | Item::Blinded { .. } => return None,
        };
        let (below, end, tail) = (entry.below, entry.end, entry.tail);
        let mut place = Place { account: &[], below, end, tail, child: false };
        if below {
            place.account = account.tail;
        }
        let is_fresh = item.newest() >= since.word();
        let is_new =
            is_fresh && old.is_some_and(|old| met == old.len() || !same_path(&old.entry(met), &entry));
        let position = if is_new { None } else { chain.position(met) };
        met += usize::from(!is_new);
        account.meet(&place, position);
        if has_grown {
            changes.positions.push(kept(position));
        }
        if is_fresh {
            check(page.depth(), &place, &item)?;
            changes.add(position, place, Some(item), &account);
        }
    }
    (met == chain.len()).then_some(changes)
}

/// Two entries of which the pages have the same depth, in the same account if they are below one.
fn same_path(old: &Entry<'_>, new: &Entry<'_>) -> bool {
    !old.is_child() && (old.below, old.end, old.tail) == (new.below, new.end, new.tail)
}

/// `None` for what cannot be stored; who looks closer says why.
fn check(depth: usize, place: &Place<'_>, item: &Stored<'_>) -> Option<()> {
    let (Stored::Leaf { value, .. } | Stored::Account { body: value, .. }) = item else { return None };
    at_most("a value", value.len(), MAX_VALUE_BYTES).ok()?;
    let is_sound = tail_len(depth, place.below, place.end) == Some(place.tail.len());
    (is_sound && !(place.below && place.account.is_empty())).then_some(())
}
