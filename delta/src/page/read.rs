//! Reading pages: a point read on the records as they lie, and a page put together again.

use bristlecone_trie::{Entry, Item, NodeRef, PageBuilder};

use super::base::Base;
use super::delta::{Delta, Says};
use super::entry::{Place, Stored};
use super::{Found, Loaded};
use crate::codec::Bad;
use crate::format::record_kind;
use crate::segment::SegmentView;
use crate::value::Large;
use crate::{Locator, Result, Segments, Stamp};

/// A record of a page.
pub(crate) enum Record<'a> {
    Base(Base<'a>),
    Delta(Delta<'a>),
}

/// Something that is, or was since the base, in a page.
pub(crate) struct Slot<'a> {
    pub(crate) place: Place<'a>,
    /// What is there; `None` if it is gone.
    pub(crate) item: Option<Stored<'a>>,
    /// Its position in the base.
    pub(crate) position: Option<usize>,
}

/// A page as its records leave it.
pub(crate) struct State<'a> {
    pub(crate) depth: usize,
    pub(crate) base: Locator,
    pub(crate) base_size: usize,
    pub(crate) deltas: usize,
    pub(crate) deltas_size: usize,
    /// Which of the base's first positions they have operations on.
    pub(crate) touched: u64,
    /// In order.
    pub(crate) slots: Vec<Slot<'a>>,
}

impl State<'_> {
    /// The large values that the page refers to, with the stamps of their entries.
    pub(crate) fn larges(&self) -> impl Iterator<Item = (Stamp, Large)> {
        self.slots.iter().filter_map(|slot| match slot.item {
            Some(Stored::Large { stamp, large }) => Some((stamp, large)),
            _ => None,
        })
    }
}

impl Segments {
    /// See [`SegmentView::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(&self, page: Locator) -> Result<Loaded> {
        self.view().load(page)
    }
}

impl SegmentView<'_> {
    /// Looks `key` up as [`find_located`](Self::find_located) does.
    ///
    /// # Errors
    /// As there.
    pub fn find(&self, page: Locator, key: &[u8]) -> Result<Found<'_>> {
        self.find_located(page, key).map(|(_, found)| found)
    }

    /// Looks `key` (whole, from the root of the trie on; it must lie under the page's stem) up in the page whose newest
    /// record is `page`. Works on the mapped bytes: nothing is rebuilt or allocated. Says too which record holds what is found:
    /// one of the page's, or that of a large value.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn find_located(&self, page: Locator, key: &[u8]) -> Result<(Locator, Found<'_>)> {
        self.search(page, key, &mut 0)
    }

    /// The same; adds the records that it touched to `records`.
    #[inline]
    pub(crate) fn search(
        &self,
        page: Locator,
        key: &[u8],
        records: &mut u32,
    ) -> Result<(Locator, Found<'_>)> {
        *records += 1;
        let (base, mut next) = match self.page_record(page)? {
            Record::Base(base) => (base, None),
            Record::Delta(delta) => (self.base_of(page, &delta)?, Some((page, delta))),
        };
        let base_at = next.as_ref().map_or(page, |(_, delta)| delta.base);
        let bad = |bad| self.bad_record(base_at, bad);
        let located = base.locate(key).map_err(bad)?;
        // The newest record that says anything of the key decides.
        while let Some((at, delta)) = next {
            *records += 1;
            match delta.says(key, located).map_err(|bad| self.bad_record(at, bad))? {
                Says::Now(item) => return self.found(at, item),
                Says::Gone => return Ok((at, Found::Absent)),
                Says::Nothing if delta.is_silent_before(located) => break,
                Says::Nothing => next = self.before(at, &delta)?,
            }
        }
        let Some(index) = located.entry else { return Ok((base_at, Found::Absent)) };
        self.found(base_at, base.head(index).and_then(|head| base.item(&head)).map_err(bad)?)
    }

    /// What is stored in the record at `at`, and where it is.
    fn found<'a>(&'a self, at: Locator, item: Stored<'a>) -> Result<(Locator, Found<'a>)> {
        Ok(match item {
            Stored::Leaf { stamp, value } => (at, Found::Leaf { stamp, value }),
            Stored::Large { stamp, large } => {
                (large.locator, Found::Leaf { stamp, value: self.value(large)? })
            }
            Stored::Account { stamp, wiped, body } => (at, Found::Account { stamp, wiped, body }),
            Stored::Child { locator, node } => (at, Found::Child { locator, node }),
        })
    }

    /// Rebuilds the page whose newest record is `page`. Costs its base and its deltas.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn load(&self, page: Locator) -> Result<Loaded> {
        let state = self.state(page)?;
        let mut builder = PageBuilder::new(state.depth);
        let mut children: Vec<NodeRef> = Vec::new();
        let mut account = None;
        for slot in &state.slots {
            let (place, Some(item)) = (&slot.place, &slot.item) else { continue };
            if !place.below {
                account = place.is_account().then_some(place.tail);
            } else if account != Some(place.account) {
                return Err(self.bad_record(page, Bad::new("an entry below an account that is not there")));
            }
            let item = match *item {
                Stored::Leaf { stamp, value } => Item::Leaf { stamp: stamp.word(), value },
                Stored::Large { stamp, large } => {
                    Item::Leaf { stamp: stamp.word(), value: self.value(large)? }
                }
                Stored::Account { stamp, wiped, body } => {
                    Item::Account { stamp: stamp.word(), wiped: wiped.map_or(0, Stamp::word), body }
                }
                Stored::Child { locator, node } => {
                    children.push(node);
                    Item::Child { reference: locator.word() }
                }
            };
            builder.push(&Entry { below: place.below, end: place.end, tail: place.tail, item });
        }
        Ok(Loaded { bytes: builder.finish(), children })
    }

    #[inline]
    pub(crate) fn page_record(&self, at: Locator) -> Result<Record<'_>> {
        let record = self.record(at)?;
        let parsed = match record.first() {
            Some(&record_kind::BASE) => Base::parse(record, at.segment()).map(Record::Base),
            Some(&record_kind::DELTA) => Delta::parse(record, at).map(Record::Delta),
            _ => Err(Bad::new("not a page")),
        };
        parsed.map_err(|bad| self.bad_record(at, bad))
    }

    /// The base that the delta at `at` stands on.
    fn base_of(&self, at: Locator, delta: &Delta<'_>) -> Result<Base<'_>> {
        match self.page_record(delta.base)? {
            Record::Base(base) if base.depth == delta.depth => Ok(base),
            _ => Err(self.bad_record(at, Bad::new("a delta on what is not its base"))),
        }
    }

    /// The delta before the one at `at`, if there is one.
    pub(crate) fn before<'a>(
        &'a self,
        at: Locator,
        delta: &Delta<'a>,
    ) -> Result<Option<(Locator, Delta<'a>)>> {
        if delta.previous == delta.base {
            return Ok(None);
        }
        match self.page_record(delta.previous)? {
            Record::Delta(before)
                if (before.base, before.depth, before.touched())
                    == (delta.base, delta.depth, delta.earlier) =>
            {
                Ok(Some((delta.previous, before)))
            }
            _ => Err(self.bad_record(at, Bad::new("a delta of another page before it"))),
        }
    }

    /// Puts a page together, borrowing everything from its records.
    pub(crate) fn state(&self, page: Locator) -> Result<State<'_>> {
        let mut deltas = Vec::new();
        let (base, base_at) = match self.page_record(page)? {
            Record::Base(base) => (base, page),
            Record::Delta(delta) => {
                let (base, base_at) = (self.base_of(page, &delta)?, delta.base);
                let mut next = Some((page, delta));
                while let Some((at, delta)) = next {
                    next = self.before(at, &delta)?;
                    deltas.push((at, delta));
                }
                (base, base_at)
            }
        };
        let mut now: Vec<Option<Option<Stored<'_>>>> = vec![None; base.len];
        let mut spelled = Vec::new();
        // Newest first: what is said first of a place holds.
        for (at, delta) in &deltas {
            gather(&base, delta, &mut now, &mut spelled).map_err(|bad| self.bad_record(*at, bad))?;
        }
        // The sort is stable, so that the newest one of a place comes first.
        spelled.sort_by(|a: &Slot<'_>, b| a.place.order(&b.place));
        spelled.dedup_by(|later, first| later.place == first.place);
        let slots = merge(&base, &now, spelled).map_err(|bad| self.bad_record(base_at, bad))?;
        Ok(State {
            depth: base.depth,
            base: base_at,
            base_size: base.size,
            deltas: deltas.len(),
            deltas_size: deltas.iter().map(|(_, delta)| delta.size).sum(),
            touched: deltas.first().map_or(0, |(_, delta)| delta.touched()),
            slots,
        })
    }
}

/// Adds the operations of a delta to those of the later ones.
fn gather<'a>(
    base: &Base<'a>,
    delta: &Delta<'a>,
    now: &mut [Option<Option<Stored<'a>>>],
    spelled: &mut Vec<Slot<'a>>,
) -> Result<(), Bad> {
    for index in 0..delta.placed {
        let (position, item) = delta.placed(index)?;
        let slot = now.get_mut(position).ok_or(Bad::new("an operation outside of the base"))?;
        slot.get_or_insert(item);
    }
    for index in 0..delta.spelled {
        let (place, item) = delta.spelled(index, base)?;
        spelled.push(Slot { place, item, position: None });
    }
    Ok(())
}

/// The entries of a base as they are now, with the `spelled` ones between them.
fn merge<'a>(
    base: &Base<'a>,
    now: &[Option<Option<Stored<'a>>>],
    spelled: Vec<Slot<'a>>,
) -> Result<Vec<Slot<'a>>, Bad> {
    let mut slots: Vec<Slot<'a>> = Vec::with_capacity(base.len + spelled.len());
    let mut spelled = spelled.into_iter().peekable();
    let mut account: &[u8] = &[];
    for (index, now) in now.iter().enumerate() {
        let head = base.head(index)?;
        if !head.below {
            account = if head.place(&[]).is_account() { head.tail } else { &[] };
        }
        let place = head.place(account);
        if place.below && account.is_empty() {
            return Err(Bad::new("an entry below an account that is not there"));
        }
        while let Some(earlier) = spelled.next_if(|slot| slot.place.order(&place).is_lt()) {
            push(&mut slots, earlier)?;
        }
        let item = match now {
            Some(item) => *item,
            None => Some(base.item(&head)?),
        };
        if item.is_some_and(|item| item.is_child() != place.child) {
            return Err(Bad::new("a page where an entry was, or an entry where a page was"));
        }
        push(&mut slots, Slot { place, item, position: Some(index) })?;
    }
    spelled.try_for_each(|slot| push(&mut slots, slot))?;
    Ok(slots)
}

fn push<'a>(slots: &mut Vec<Slot<'a>>, slot: Slot<'a>) -> Result<(), Bad> {
    if slots.last().is_some_and(|last| last.place.order(&slot.place).is_ge()) {
        return Err(Bad::new("entries out of order"));
    }
    slots.push(slot);
    Ok(())
}
