//! Merging sorted operations into the entries of one page.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Arena, Merged, Outcome, Piece, UpdateError, Walk};
use crate::op::{Body, Change};
use crate::page::{ACCOUNT_BYTES, ACCOUNT_DEPTH, Find, Item, Page, Shape};
use crate::path;

/// The entries of the new page so far.
pub(super) struct Merge<'a> {
    word: u64,
    page: Page<'a>,
    /// The first old entry that was not looked at yet.
    next: usize,
    pieces: Vec<Piece<'a>>,
    changed: bool,
    reshape: bool,
}

impl<'a> Merge<'a> {
    pub(super) fn new(word: u64, page: Page<'a>, mut pieces: Vec<Piece<'a>>) -> Self {
        pieces.reserve(page.len() + 8);
        Self { word, page, next: 0, pieces, changed: false, reshape: false }
    }

    /// Takes the old entries before `end` over as they are.
    fn keep(&mut self, end: usize) {
        for index in self.next..end {
            self.pieces.push(Piece::of(self.page, self.word, index));
        }
        self.next = self.next.max(end);
    }

    fn replace(&mut self, index: usize, item: Item<'a>) {
        let piece = Piece::of(self.page, self.word, index);
        self.pieces.push(Piece { item, origin: None, ..piece });
        self.next = index + 1;
        self.changed = true;
    }

    /// Puts what became of child page `index` in its place.
    pub(super) fn settle(&mut self, index: usize, outcome: Outcome<'a>) {
        self.keep(index);
        match outcome {
            Outcome::Same => self.keep(index + 1),
            Outcome::Page(reference) => self.replace(index, Item::Child { reference }),
            Outcome::Entries(pieces) => {
                self.remove(index);
                self.pieces.extend(pieces);
            }
        }
    }

    /// All entries, with those that nothing was said of.
    pub(super) fn finish(mut self) -> Merged<'a> {
        self.keep(self.page.len());
        Merged { pieces: self.pieces, reshape: self.reshape }
    }

    fn insert(&mut self, piece: Piece<'a>) {
        self.pieces.push(piece);
        self.changed = true;
        self.reshape = true;
    }

    fn remove(&mut self, index: usize) {
        self.next = index + 1;
        self.changed = true;
        self.reshape = true;
    }
}

impl<'a, A: Arena> Walk<'a, A> {
    /// The entries of `page` after the operations of `range`; `None` if nothing changes.
    pub(super) fn merge(
        &mut self,
        word: u64,
        page: Page<'a>,
        range: Range<usize>,
    ) -> Result<Option<Merged<'a>>, A::Error> {
        let mut merge = Merge::new(word, page, self.spare.pop().unwrap_or_default());
        self.merge_all(&mut merge, range)?;
        if merge.changed {
            return Ok(Some(merge.finish()));
        }
        merge.pieces.clear();
        self.spare.push(merge.pieces);
        Ok(None)
    }

    /// The entries that the operations of `range` make where there is no page.
    pub(super) fn merge_into_nothing(&mut self, range: Range<usize>) -> Result<Vec<Piece<'a>>, A::Error> {
        let mut merge = Merge::new(0, Page::new(&[]), Vec::new());
        self.merge_all(&mut merge, range)?;
        Ok(merge.pieces)
    }

    fn merge_all(&mut self, merge: &mut Merge<'a>, range: Range<usize>) -> Result<(), A::Error> {
        let by_account = self.shape == Shape::Accounts && merge.page.depth() < ACCOUNT_DEPTH;
        let mut at = range.start;
        while let Some(op) = self.ops.get(at).filter(|_| at < range.end) {
            at = match merge.page.find(op.key) {
                Find::Into(index) if !merge.page.entry(index).below => {
                    self.descend(merge, index, at..range.end)?
                }
                _ if by_account => self.account(merge, at..range.end)?,
                found => self.one(merge, at, found)?,
            };
        }
        Ok(())
    }

    /// Applies one operation on a flat key or a slot; the answer is the next operation.
    fn one(&mut self, merge: &mut Merge<'a>, at: usize, found: Find) -> Result<usize, A::Error> {
        let Some(op) = self.ops.get(at) else { return Ok(at + 1) };
        match (found, op.change) {
            (Find::Here(index), Change::Put(value)) => {
                merge.keep(index);
                if !matches!(merge.page.entry(index).item, Item::Leaf { value: old, .. } if old == value) {
                    merge.replace(index, Item::Leaf { stamp: self.stamp, value });
                    self.changed += 1;
                }
            }
            (Find::Here(index), Change::Delete) => {
                merge.keep(index);
                merge.remove(index);
                self.changed += 1;
            }
            (Find::Absent(index), Change::Put(value)) => {
                merge.keep(index);
                self.add(merge, op.key, Item::Leaf { stamp: self.stamp, value });
            }
            (Find::Absent(_), Change::Delete) => {}
            (Find::Into(index), _) => return self.descend(merge, index, at..self.ops.len()),
            (_, Change::Account { .. }) => return Err(UpdateError::WrongShape(at).into()),
        }
        Ok(at + 1)
    }

    /// Applies the operations of `range` that lie under child entry `index`; the answer is the first one that does not.
    fn descend(
        &mut self,
        merge: &mut Merge<'a>,
        index: usize,
        range: Range<usize>,
    ) -> Result<usize, A::Error> {
        let start = range.start;
        let Some((reference, count)) = self.group(merge.page, index, range) else {
            return Err(UpdateError::Blinded(start).into());
        };
        let outcome = self.page(reference, (merge.word, index), start..start + count)?;
        merge.settle(index, outcome);
        Ok(start + count)
    }

    /// The page that child entry `index` of `page` refers to, and how many operations from the start of `range` on go there.
    pub(super) fn group(&self, page: Page<'a>, index: usize, range: Range<usize>) -> Option<(u64, usize)> {
        let entry = page.entry(index);
        let Item::Child { reference } = entry.item else { return None };
        let first = self.ops.get(range.start).map_or(&[][..], |op| op.key);
        let under = |key: &[u8]| {
            key.len() * 2 >= entry.end && path::common_prefix(first, key, 0, entry.end) == entry.end
        };
        let rest = self.ops.get(range).unwrap_or_default();
        Some((reference, rest.iter().take_while(|op| under(op.key)).count().max(1)))
    }

    /// Applies the operations on one account and its slots, whose entry is in this page or will be; the answer is
    /// the first operation on another account.
    fn account(&mut self, merge: &mut Merge<'a>, range: Range<usize>) -> Result<usize, A::Error> {
        let start = range.start;
        let Some(first) = self.ops.get(start) else { return Ok(range.end) };
        let key = first.key.get(..ACCOUNT_BYTES).unwrap_or(first.key);
        let rest = self.ops.get(start..range.end).unwrap_or_default();
        let end = start + rest.iter().take_while(|op| op.key.starts_with(key)).count();
        let (body, wipe, slots) = match first.change {
            Change::Account { body, wipe } => (body, wipe, start + 1..end),
            _ => (Body::Keep, false, start..end),
        };
        let here = match merge.page.find(key) {
            Find::Here(index) => Some(index),
            Find::Absent(index) | Find::Into(index) => {
                merge.keep(index);
                None
            }
        };
        match (here, body) {
            (Some(index), Body::Delete) => {
                merge.keep(index);
                self.drop_entries(merge, index..merge.page.account_end(index));
                self.changed += 1;
                self.refuse_slots(slots)?;
            }
            (None, Body::Delete | Body::Keep) => self.refuse_slots(slots)?,
            (None, Body::Put(body)) => {
                self.add(merge, key, Item::Account { stamp: self.stamp, wiped: 0, body });
                self.fresh_slots(merge, slots);
            }
            (Some(index), body) => self.present(merge, index, body, wipe, slots)?,
        }
        Ok(end)
    }

    fn present(
        &mut self,
        merge: &mut Merge<'a>,
        index: usize,
        body: Body<'a>,
        wipe: bool,
        slots: Range<usize>,
    ) -> Result<(), A::Error> {
        merge.keep(index);
        let Item::Account { stamp: old_stamp, wiped: old_wiped, body: old_body } =
            merge.page.entry(index).item
        else {
            return Err(UpdateError::WrongShape(slots.start).into());
        };
        let storage = index + 1..merge.page.account_end(index);
        let wipe = wipe && !storage.is_empty();
        let new_body = if let Body::Put(body) = body { body } else { old_body };
        let stamp = if new_body == old_body { old_stamp } else { self.stamp };
        let wiped = if wipe { self.stamp } else { old_wiped };
        if stamp != old_stamp || wiped != old_wiped {
            merge.replace(index, Item::Account { stamp, wiped, body: new_body });
            self.changed += 1;
        } else {
            merge.keep(index + 1);
        }
        if wipe {
            self.drop_entries(merge, storage);
            self.fresh_slots(merge, slots);
            return Ok(());
        }
        let mut at = slots.start;
        while let Some(op) = self.ops.get(at).filter(|_| at < slots.end) {
            let found = merge.page.find(op.key);
            at = match found {
                Find::Into(child) => self.descend(merge, child, at..slots.end)?,
                _ => self.one(merge, at, found)?,
            };
        }
        merge.keep(storage.end);
        Ok(())
    }

    fn fresh_slots(&mut self, merge: &mut Merge<'a>, slots: Range<usize>) {
        for op in self.ops.get(slots).unwrap_or_default() {
            if let Change::Put(value) = op.change {
                self.add(merge, op.key, Item::Leaf { stamp: self.stamp, value });
            }
        }
    }

    fn add(&mut self, merge: &mut Merge<'a>, key: &'a [u8], item: Item<'a>) {
        merge.insert(Piece::leaf(key, item));
        self.changed += 1;
        self.arena.added(key);
    }

    fn refuse_slots(&self, slots: Range<usize>) -> Result<(), UpdateError> {
        let start = slots.start;
        let ops = self.ops.get(slots).unwrap_or_default();
        match ops.iter().position(|op| matches!(op.change, Change::Put(_))) {
            Some(at) => Err(UpdateError::SlotWithoutAccount(start + at)),
            None => Ok(()),
        }
    }

    fn drop_entries(&mut self, merge: &mut Merge<'a>, range: Range<usize>) {
        for index in range {
            if let Item::Child { reference } = merge.page.entry(index).item {
                self.arena.dropped(reference);
            }
            merge.remove(index);
        }
    }
}
