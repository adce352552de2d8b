//! What a writer remembers of a page's records, so that it need not read them to write the next one.
//!
//! A delta wants four things of the records before it: where they are, how many, how heavy, and which place each entry of
//! the page has in the base. All follow from the newest record, so that they can be kept beside it. What changed, the pages in
//! memory tell: by the stamps of the entries, or by the page that the newest record was made of.

use bristlecone_trie::{Entry, Item, Page};

use super::ChildEntry;
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
    /// Which of the base's first positions the deltas have operations on.
    pub(crate) touched: u64,
    pub(crate) depth: u16,
    /// Entries of the page.
    pub(crate) len: u16,
    /// Whether no entry is another page.
    pub(crate) is_plain: bool,
    /// Whether an entry is a large value.
    pub(crate) has_large: bool,
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

    /// Whether the records up to `newest`, which was the page's newest one, are still a part of it: it was not written whole since.
    pub fn goes_on_from(&self, newest: Locator) -> bool {
        self.newest == newest || self.base <= newest
    }

    /// Nibbles of the page's stem.
    pub fn depth(&self) -> usize {
        usize::from(self.depth)
    }

    /// Memory that it takes besides its own size, in bytes.
    pub fn size(&self) -> usize {
        self.positions.as_ref().map_or(0, |positions| size_of_val(&positions[..]))
    }

    /// Entries of the page.
    pub fn entries(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether an entry of the page is a large value, which has a record of its own.
    pub fn has_large_values(&self) -> bool {
        self.has_large
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
    /// Writes a page whose entries are those of `chain`'s newest record, some of them changed: those with a stamp of at least
    /// `since`, and no other; and those at `added`, ascending, which came. Reads no record and touches no file. `None` where the page has
    /// children, large values or another number of entries, or where something came to a page whose base has entries that the page has
    /// not; and after some calls, [`spill`](Self::spill).
    ///
    /// # Errors
    /// As of [`put_page`](Self::put_page), but for reading.
    pub fn put_updated(
        &mut self,
        chain: &Chain,
        page: Page<'_>,
        since: Stamp,
        added: &[usize],
    ) -> Result<Option<Chain>> {
        let is_same = chain.depth() == page.depth() && chain.entries() + added.len() == page.len();
        if !chain.is_plain || !is_same || chain.has_holes && !added.is_empty() {
            return Ok(None);
        }
        let Some(mut changes) = updated(chain, page, since, added) else { return Ok(None) };
        debug_assert!(self.agrees(chain, page, &[], &changes), "more changed in a page than its stamps tell");
        let positions = match added {
            [] => chain.positions.clone(),
            _ => Chain::packed(std::mem::take(&mut changes.positions)),
        };
        // A page with a large value is none that comes so far.
        let next = Chain { len: page.len() as u16, has_large: false, positions, ..*chain };
        match self.put_delta(next, &changes)? {
            Some(chain) => Ok(Some(chain)),
            None => self.put_base(page.depth(), &entries(page, &[])?).map(Some),
        }
    }

    /// Writes a page by what differs from `old`, the page as of `chain`'s newest record. Of children only those in this group
    /// count as changed. Reads no record and touches no file; `None` where what is read would be needed,
    /// and after some calls, [`spill`](Self::spill).
    ///
    /// # Errors
    /// As of [`put_page`](Self::put_page), but for reading.
    pub fn put_compared(
        &mut self,
        chain: &Chain,
        old: Page<'_>,
        page: Page<'_>,
        children: &[ChildEntry],
    ) -> Result<Option<Chain>> {
        if (old.depth(), old.len()) != (page.depth(), chain.entries()) || chain.depth() != page.depth() {
            return Ok(None);
        }
        let entries = entries(page, children)?;
        if entries.iter().any(|(_, item)| item.is_large()) {
            return Ok(None);
        }
        let mut compared = Compared::new(chain);
        if compared.walk(old, &entries, |child| self.has(child)).is_none() {
            return Ok(None);
        }
        let mut changes = compared.changes;
        debug_assert!(self.agrees(chain, page, children, &changes), "a page is not what it was when stored");
        let next = Chain {
            len: entries.len() as u16,
            is_plain: children.is_empty(),
            has_large: false,
            has_holes: chain.has_holes || compared.has_new_holes,
            positions: Chain::packed(std::mem::take(&mut changes.positions)),
            ..*chain
        };
        match self.put_delta(next, &changes)? {
            Some(chain) => Ok(Some(chain)),
            None => self.put_base(page.depth(), &entries).map(Some),
        }
    }

    /// Whether reading the records leads to the same changes. Damage is for readers to find.
    fn agrees(&self, chain: &Chain, page: Page<'_>, children: &[ChildEntry], changes: &Changes<'_>) -> bool {
        let view = self.writer().segments().view();
        let (Ok(state), Ok(entries)) = (view.state(chain.newest), entries(page, children)) else {
            return true;
        };
        let read = diff(&state, &entries);
        (&read.placed, &read.spelled) == (&changes.placed, &changes.spelled)
    }
}

/// The entries with a stamp of `since` or later, those at `added` among them, and where there are such, the positions of all. `None` for
/// children, and for what cannot be stored: who looks closer says why.
fn updated<'a>(chain: &Chain, page: Page<'a>, since: Stamp, added: &[usize]) -> Option<Changes<'a>> {
    let mut changes = Changes::default();
    let mut account = Nearest::default();
    let mut added = added.iter().peekable();
    if added.peek().is_some() {
        changes.positions.reserve_exact(page.len());
    }
    // The entry's place among those that were there.
    let mut old = 0;
    for (at, entry) in page.entries().enumerate() {
        // Where the record of a large value is, the page's records tell.
        let item = Stored::of_key(&entry.item).filter(|item| !item.is_large())?;
        let (below, end, tail) = (entry.below, entry.end, entry.tail);
        let place = Place { account: if below { account.tail } else { &[] }, below, end, tail, child: false };
        let position = match added.next_if_eq(&&at) {
            Some(_) => None,
            None => {
                old += 1;
                chain.position(old - 1)
            }
        };
        if changes.positions.capacity() > 0 {
            changes.positions.push(kept(position));
        }
        account.meet(&place, position);
        if item.newest() >= since.word() {
            let (Stored::Leaf { value, .. } | Stored::Account { body: value, .. }) = item else {
                return None;
            };
            at_most("a value", value.len(), MAX_VALUE_BYTES).ok()?;
            let is_sound = tail_len(page.depth(), below, end) == Some(tail.len());
            if !is_sound || below && place.account.is_empty() {
                return None;
            }
            changes.add(position, place, Some(item), &account);
        }
    }
    Some(changes)
}

/// Two states of a page, compared in memory.
struct Compared<'a, 'c> {
    chain: &'c Chain,
    changes: Changes<'a>,
    account: Nearest<'a>,
    has_new_holes: bool,
}

impl<'a, 'c> Compared<'a, 'c> {
    fn new(chain: &'c Chain) -> Self {
        let changes = Changes { positions: Vec::with_capacity(chain.entries()), ..Changes::default() };
        Self { chain, changes, account: Nearest::default(), has_new_holes: false }
    }

    /// Notes what leads from `old` to `entries`. `None` where something comes to a place that may be in the base still.
    fn walk(
        &mut self,
        old: Page<'a>,
        entries: &[(Place<'a>, Stored<'a>)],
        is_fresh: impl Fn(Locator) -> bool,
    ) -> Option<()> {
        let mut account: &[u8] = &[];
        let mut olds = old.entries().enumerate().map(|(at, entry)| {
            let mut place = place_of(&entry);
            if place.below {
                place.account = account;
            } else if place.is_account() {
                account = place.tail;
            }
            (at, place, entry.item)
        });
        let mut next = olds.next();
        for (place, item) in entries {
            while let Some((at, gone, _)) = next.filter(|(_, old, _)| old.order(place).is_lt()) {
                self.remove(at, gone);
                next = olds.next();
            }
            match next.filter(|(_, old, _)| old == place) {
                Some((at, _, before)) => {
                    next = olds.next();
                    let position = self.chain.position(at);
                    self.account.meet(place, position);
                    self.changes.positions.push(kept(position));
                    if differs(before, item, &is_fresh)? {
                        self.changes.add(position, *place, Some(*item), &self.account);
                    }
                }
                None if self.chain.has_holes => return None,
                None => {
                    self.account.meet(place, None);
                    self.changes.positions.push(kept(None));
                    self.changes.add(None, *place, Some(*item), &self.account);
                }
            }
        }
        while let Some((at, gone, _)) = next {
            self.remove(at, gone);
            next = olds.next();
        }
        Some(())
    }

    fn remove(&mut self, at: usize, place: Place<'a>) {
        let position = self.chain.position(at);
        self.has_new_holes |= position.is_some();
        self.account.meet(&place, position);
        self.changes.add(position, place, None, &self.account);
    }
}

/// Where an entry is, but for the account that it may be below.
fn place_of<'a>(entry: &Entry<'a>) -> Place<'a> {
    Place { account: &[], below: entry.below, end: entry.end, tail: entry.tail, child: entry.is_child() }
}

/// Whether an entry changed, told by stamps; `None` where another kind of it is in its place.
fn differs(before: Item<'_>, now: &Stored<'_>, is_fresh: impl Fn(Locator) -> bool) -> Option<bool> {
    match (before, now) {
        (Item::Leaf { stamp: old, .. }, Stored::Leaf { stamp, .. } | Stored::Large { stamp, .. }) => {
            Some(old != stamp.word())
        }
        (Item::Account { stamp: old, wiped: was, .. }, Stored::Account { stamp, wiped, .. }) => {
            Some((old, was) != (stamp.word(), wiped.map_or(0, Stamp::word)))
        }
        (Item::Child { .. }, Stored::Child { locator, .. }) => Some(is_fresh(*locator)),
        _ => None,
    }
}
