//! Writing pages: as a delta where that is worth it, as a base otherwise.

use std::cmp::Ordering;

use bristlecone_trie::{Item, Page};

use super::delta::{Changes, NewPlace};
use super::entry::{Place, Stored, tail_len};
use super::read::{Slot, State};
use super::{ChildEntry, base};
use crate::codec::at_most;
use crate::format::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::{Error, GroupWriter, Locator, Result, Stamp};

impl GroupWriter<'_> {
    /// Writes the state of a page, as a delta on `previous` (the newest record of the same page in an earlier, finished group) or
    /// as a base, and says where. `children` has one item for each child entry of `page`, in order; the references inside
    /// `page` are not looked at. Where nothing changed, the answer is `previous` and nothing is written.
    ///
    /// # Errors
    /// `Invalid` where `children` does not fit, an entry is blinded or entries are out of order, `TooLarge`, `Corrupt`,
    /// `NoRecord` for `previous`, `Io`.
    pub fn put_page(
        &mut self,
        previous: Option<Locator>,
        page: Page<'_>,
        children: &[ChildEntry],
    ) -> Result<Locator> {
        let entries = entries(page, children)?;
        if let Some(previous) = previous {
            let segments = self.writer().segments().clone();
            let state = segments.state(previous)?;
            if state.depth == page.depth() {
                let changes = diff(&state, &entries);
                if changes.is_empty() {
                    return Ok(previous);
                }
                if state.deltas < self.writer().max_deltas() as usize {
                    let delta = changes.encode(page.depth(), state.base, previous, self.segment())?;
                    // A chain that outweighs its base costs more than it saves.
                    if state.deltas_size + delta.len() <= state.base_size {
                        return self.put_record(&delta);
                    }
                }
            }
        }
        let base = base::encode(page.depth(), &entries, self.segment())?;
        self.put_record(&base)
    }
}

/// The entries of a page as they are stored.
fn entries<'a>(page: Page<'a>, children: &[ChildEntry]) -> Result<Vec<(Place<'a>, Stored<'a>)>> {
    at_most("a page's depth", page.depth(), MAX_KEY_BYTES * 2)?;
    let mut out: Vec<(Place<'a>, Stored<'a>)> = Vec::with_capacity(page.len());
    let mut children = children.iter();
    let mut account: &[u8] = &[];
    let stays = |what| Error::Invalid { what };
    for entry in page.entries() {
        let item = match entry.item {
            Item::Leaf { stamp, value } => Stored::Leaf { stamp: Stamp::from_word(stamp), value },
            Item::Account { stamp, wiped, body } => Stored::Account {
                stamp: Stamp::from_word(stamp),
                wiped: (wiped != 0).then_some(Stamp::from_word(wiped)),
                body,
            },
            Item::Child { .. } => {
                let child = children.next().ok_or(stays("a page has more child entries than were given"))?;
                Stored::Child { locator: child.locator, node: child.node }
            }
            Item::Blinded { .. } => return Err(stays("a page with a blinded node")),
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
fn diff<'a>(state: &State<'a>, entries: &[(Place<'a>, Stored<'a>)]) -> Changes<'a> {
    let mut changes = Changes::default();
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
                if !slot.item.is_some_and(|before| before.same(item)) {
                    changes.add(slot.position, *place, Some(*item), &account);
                }
            }
            None => {
                account.meet(place, None);
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
struct Nearest<'a> {
    tail: &'a [u8],
    position: Option<usize>,
}

impl<'a> Nearest<'a> {
    fn meet(&mut self, place: &Place<'a>, position: Option<usize>) {
        if place.is_account() {
            *self = Self { tail: place.tail, position };
        }
    }
}

impl<'a> Changes<'a> {
    fn add(
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
