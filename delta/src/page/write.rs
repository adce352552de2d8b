//! Writing pages: as a delta where that is worth it, as a base otherwise.

use std::cmp::Ordering;

use bristlecone_trie::Page;

use super::chain::{Chain, kept};
use super::delta::{Changes, NewPlace};
use super::entry::{Place, Stored, tail_len};
use super::read::{Slot, State};
use super::{ChildEntry, base};
use crate::codec::at_most;
use crate::format::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::value::Large;
use crate::{Error, GroupWriter, Locator, Result, Stamp};

impl GroupWriter<'_> {
    /// Writes the state of a page, as a delta on `previous` (the newest record of the same page in an earlier, finished group) or
    /// as a base, and says where. `children` has one item for each child entry of `page`, in order; the references inside
    /// `page` are not looked at. Where nothing changed, the newest record is `previous` still and nothing is written.
    ///
    /// # Errors
    /// `Invalid` where `children` does not fit, an entry is blinded or entries are out of order, `TooLarge`, `Corrupt`,
    /// `NoRecord` for `previous`, `Io`.
    pub fn put_page(
        &mut self,
        previous: Option<Locator>,
        page: Page<'_>,
        children: &[ChildEntry],
    ) -> Result<Chain> {
        self.put_moved(previous, &[], page, children)
    }

    /// As [`put_page`](Self::put_page). Large values that `previous` has not are looked for in the pages `others` before they are
    /// stored again: those that entries may have come from.
    ///
    /// # Errors
    /// As there.
    pub fn put_moved(
        &mut self,
        previous: Option<Locator>,
        others: &[Locator],
        page: Page<'_>,
        children: &[ChildEntry],
    ) -> Result<Chain> {
        let mut entries = entries(page, children)?;
        if entries.iter().any(|(_, item)| item.is_large()) {
            self.outline(previous, others, page.depth(), &mut entries)?;
        }
        let chain = match previous {
            Some(previous) => self.put_after(previous, page.depth(), &entries)?,
            None => None,
        };
        let chain = match chain {
            Some(chain) => chain,
            None => self.put_base(page.depth(), &entries)?,
        };
        self.spill()?;
        Ok(chain)
    }

    /// Puts references in the place of large values: to the record that `previous`, or one of the stored pages `others`, refers to already, or
    /// to a new one.
    fn outline(
        &mut self,
        previous: Option<Locator>,
        others: &[Locator],
        depth: usize,
        entries: &mut [(Place<'_>, Stored<'_>)],
    ) -> Result<()> {
        let segments = self.writer().segments().clone();
        let view = segments.view();
        let mut known: Vec<(Stamp, Large)> = Vec::new();
        if let Some(previous) = previous {
            let state = view.state(previous)?;
            // What stays where it is keeps its record, if no other entry took that for its own: then nothing is to be said of it.
            for (place, item) in entries.iter_mut().filter(|_| state.depth == depth) {
                let Some(stamp) = item.large_stamp() else { continue };
                let there = state.slots.iter().find(|slot| slot.place == *place).and_then(|slot| slot.item);
                if let Some(Stored::Large { stamp: at, large }) = there
                    && at == stamp
                    && self.kept_values.insert(large.locator)
                {
                    *item = Stored::Large { stamp, large };
                }
            }
            known.extend(state.larges());
        }
        for page in others {
            known.extend(view.state(*page)?.larges());
        }
        for (_, item) in entries {
            let (Some(stamp), Stored::Leaf { value, .. }) = (item.large_stamp(), *item) else { continue };
            let mut there = None;
            for (_, large) in known.iter().filter(|(at, large)| (*at, large.len) == (stamp, value.len())) {
                // A commit may have put several of one length, and only the bytes tell; or the same one several times, and each entry has
                // a record of its own.
                if !self.kept_values.contains(&large.locator) && view.value(*large)? == value {
                    there = Some(*large);
                    self.kept_values.insert(large.locator);
                    break;
                }
            }
            let large = there.map_or_else(|| self.put_value(value), Ok)?;
            *item = Stored::Large { stamp, large };
        }
        Ok(())
    }

    /// Writes a delta on `previous`, if that is worth it.
    fn put_after(
        &mut self,
        previous: Locator,
        depth: usize,
        entries: &[(Place<'_>, Stored<'_>)],
    ) -> Result<Option<Chain>> {
        let segments = self.writer().segments().clone();
        let view = segments.view();
        let state = view.state(previous)?;
        if state.depth != depth {
            return Ok(None);
        }
        let mut changes = diff(&state, entries);
        let in_base = state.slots.iter().filter(|slot| slot.position.is_some()).count();
        let positions = std::mem::take(&mut changes.positions);
        let has_holes = positions.iter().filter(|position| **position != kept(None)).count() < in_base;
        let chain = Chain {
            newest: previous,
            base: state.base,
            base_size: state.base_size as u32,
            deltas: state.deltas as u32,
            deltas_size: u32::try_from(state.deltas_size).unwrap_or(u32::MAX),
            touched: state.touched,
            depth: depth as u16,
            len: entries.len() as u16,
            is_plain: is_plain(entries),
            has_large: has_large(entries),
            has_holes,
            positions: Chain::packed(positions),
        };
        self.put_delta(chain, &changes)
    }

    /// Writes `changes` as a delta on what `chain` has so far, whose entries are those after it; or says that a base is better.
    pub(crate) fn put_delta(&mut self, chain: Chain, changes: &Changes<'_>) -> Result<Option<Chain>> {
        if changes.is_empty() {
            return Ok(Some(chain));
        }
        if chain.deltas >= self.writer().max_deltas() {
            return Ok(None);
        }
        let segment = self.segment();
        let mut scratch = self.scratch();
        changes.encode(&chain, segment, &mut scratch)?;
        // A chain that outweighs its base costs more than it saves.
        let size = scratch.record.len().saturating_add(chain.deltas_size as usize);
        let newest = match size <= chain.base_size as usize {
            true => Some(self.push_record(&scratch.record)?),
            false => None,
        };
        self.keep_scratch(scratch);
        let touched = changes.touched(chain.touched);
        let after =
            |newest| Chain { newest, deltas: chain.deltas + 1, deltas_size: size as u32, touched, ..chain };
        Ok(newest.map(after))
    }

    /// Writes a page whole.
    pub(crate) fn put_base(&mut self, depth: usize, entries: &[(Place<'_>, Stored<'_>)]) -> Result<Chain> {
        let segment = self.segment();
        let mut scratch = self.scratch();
        base::encode(depth, entries, segment, &mut scratch)?;
        let base = self.push_record(&scratch.record)?;
        let base_size = scratch.record.len() as u32;
        self.keep_scratch(scratch);
        Ok(Chain {
            newest: base,
            base,
            base_size,
            deltas: 0,
            deltas_size: 0,
            touched: 0,
            depth: depth as u16,
            len: entries.len() as u16,
            is_plain: is_plain(entries),
            has_large: has_large(entries),
            has_holes: false,
            positions: None,
        })
    }
}

fn is_plain(entries: &[(Place<'_>, Stored<'_>)]) -> bool {
    !entries.iter().any(|(place, _)| place.child)
}

fn has_large(entries: &[(Place<'_>, Stored<'_>)]) -> bool {
    entries.iter().any(|(_, item)| matches!(item, Stored::Large { .. }))
}

/// The entries of a page as they are stored.
pub(crate) fn entries<'a>(page: Page<'a>, children: &[ChildEntry]) -> Result<Vec<(Place<'a>, Stored<'a>)>> {
    at_most("a page's depth", page.depth(), MAX_KEY_BYTES * 2)?;
    let mut out: Vec<(Place<'a>, Stored<'a>)> = Vec::with_capacity(page.len());
    let mut children = children.iter();
    let mut account: &[u8] = &[];
    let stays = |what| Error::Invalid { what };
    for entry in page.entries() {
        let item = match Stored::of_key(&entry.item) {
            Some(item) => item,
            None if entry.is_child() => {
                let child = children.next().ok_or(stays("a page has more child entries than were given"))?;
                Stored::Child { locator: child.locator, node: child.node }
            }
            None => return Err(stays("a page with a blinded node")),
        };
        if let Stored::Leaf { value, .. } | Stored::Account { body: value, .. } = item {
            at_most("a value", value.len(), MAX_VALUE_BYTES)?;
        }
        if tail_len(page.depth(), entry.below, entry.end) != Some(entry.tail.len()) {
            return Err(stays("an entry whose path does not fit its page"));
        }
        let mut place = Place {
            account: &[],
            below: entry.below,
            end: entry.end,
            tail: entry.tail,
            child: item.is_child(),
        };
        if entry.below {
            place.account = account;
        } else {
            account = if place.is_account() { place.tail } else { &[] };
        }
        let ordered = out.last().is_none_or(|(last, _)| last.order(&place) == Ordering::Less);
        if !ordered || place.below && account.is_empty() {
            return Err(stays("a page whose entries are out of order"));
        }
        out.push((place, item));
    }
    match children.next() {
        None => Ok(out),
        Some(_) => Err(stays("a page has fewer child entries than were given")),
    }
}

/// What leads from `state` to `entries`.
pub(crate) fn diff<'a>(state: &State<'a>, entries: &[(Place<'a>, Stored<'a>)]) -> Changes<'a> {
    let mut changes = Changes { positions: Vec::with_capacity(entries.len()), ..Changes::default() };
    let mut account = Nearest::default();
    let mut slots = state.slots.iter().peekable();
    for (place, item) in entries {
        while let Some(slot) = slots.next_if(|slot| slot.place.order(place).is_lt()) {
            account.meet(&slot.place, slot.position);
            removed(slot, &account, &mut changes);
        }
        match slots.next_if(|slot| slot.place == *place) {
            Some(slot) => {
                account.meet(&slot.place, slot.position);
                changes.positions.push(kept(slot.position));
                if !slot.item.is_some_and(|before| before.same(item)) {
                    changes.add(slot.position, *place, Some(*item), &account);
                }
            }
            None => {
                account.meet(place, None);
                changes.positions.push(kept(None));
                changes.add(None, *place, Some(*item), &account);
            }
        }
    }
    for slot in slots {
        account.meet(&slot.place, slot.position);
        removed(slot, &account, &mut changes);
    }
    changes
}

fn removed<'a>(slot: &Slot<'a>, account: &Nearest<'a>, changes: &mut Changes<'a>) {
    if slot.item.is_some() {
        changes.add(slot.position, slot.place, None, account);
    }
}

/// The account that was met last, and its position in the base.
#[derive(Default)]
pub(crate) struct Nearest<'a> {
    pub(crate) tail: &'a [u8],
    position: Option<usize>,
}

impl<'a> Nearest<'a> {
    pub(crate) fn meet(&mut self, place: &Place<'a>, position: Option<usize>) {
        if place.is_account() {
            *self = Self { tail: place.tail, position };
        }
    }
}

impl<'a> Changes<'a> {
    pub(crate) fn add(
        &mut self,
        position: Option<usize>,
        place: Place<'a>,
        item: Option<Stored<'a>>,
        nearest: &Nearest<'a>,
    ) {
        match position {
            Some(position) => self.placed.push((position, item)),
            None => {
                let account = nearest.position.filter(|_| place.below && nearest.tail == place.account);
                self.spelled.push(NewPlace { place, account, item });
            }
        }
    }
}
