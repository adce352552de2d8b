//! Operations that leave the form of a page as it is: values of leaves that are there, a leaf more or less in a page that has
//! room, child pages that stay pages. One copy of the old page, or a few, instead of a list of entries.

use alloc::vec::Vec;
use core::ops::Range;

use super::merge::Merge;
use super::{Arena, LEAF_BYTES, LEAF_ENTRIES, Outcome, Rewritten, Walk};
use crate::op;
use crate::page::{Change, Edit, Find, Item, Page, change_in_place};

impl<'a, A: Arena> Walk<'a, A> {
    /// Applies the operations of `range` to a plain page. `None`: not this way.
    pub(super) fn edit(&mut self, word: u64, page: Page<'a>, range: Range<usize>) -> Option<Rewritten<'a>> {
        let Self { edits, changes, ops, stamp, builder, packed, .. } = self;
        edits.clear();
        changes.clear();
        for op in ops.get(range)? {
            let (at, change) = match (page.find(op.key), op.change) {
                (Find::Here(at), op::Change::Put(value)) => {
                    if matches!(page.entry(at).item, Item::Leaf { value: old, .. } if old == value) {
                        continue;
                    }
                    let item = Item::Leaf { stamp: *stamp, value };
                    changes.push((at, item));
                    (at, Change::Replace(item))
                }
                (Find::Here(at), op::Change::Delete) => (at, Change::Remove),
                (Find::Absent(at), op::Change::Put(value)) => {
                    (at, Change::Insert { key: op.key, item: Item::Leaf { stamp: *stamp, value } })
                }
                (Find::Absent(_), op::Change::Delete) => continue,
                _ => return None,
            };
            edits.push(Edit { at, change });
        }
        if edits.is_empty() {
            return Some(Rewritten::Same);
        }
        let in_place = changes.len() == edits.len() && change_in_place(page, word, *stamp, changes, packed);
        if !in_place {
            let fits = builder.splice(word, page, edits)
                && builder.len() <= LEAF_ENTRIES
                && builder.size() <= LEAF_BYTES;
            if !fits {
                return None;
            }
            builder.finish_into(packed);
        }
        self.changed += self.edits.len() as u64;
        Some(Rewritten::Page(self.arena.insert(&self.packed)))
    }

    /// Hands the operations of `range` on to the child pages of `page`. `None`, with nothing done, where some are not for
    /// a child page.
    pub(super) fn pass_on(
        &mut self,
        word: u64,
        page: Page<'a>,
        range: Range<usize>,
    ) -> Result<Option<Rewritten<'a>>, A::Error> {
        let mut groups = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let key = self.ops.get(at).map_or(&[][..], |op| op.key);
            let Find::Into(index) = page.find(key) else { break };
            let Some((reference, count)) = self.group(page, index, at..range.end) else { break };
            if page.entry(index).below {
                break;
            }
            self.arena.prefetch(reference);
            groups.push((index, reference, at..at + count));
            at += count;
        }
        if at < range.end {
            return Ok(None);
        }
        let mut outcomes = Vec::with_capacity(groups.len());
        for (index, reference, range) in groups {
            outcomes.push((index, self.page(reference, (word, index), range)?));
        }
        self.changes.clear();
        let mut form_stays = true;
        for (index, outcome) in &outcomes {
            match outcome {
                Outcome::Same => {}
                Outcome::Page(reference) => {
                    self.changes.push((*index, Item::Child { reference: *reference }));
                }
                Outcome::Entries(_) => form_stays = false,
            }
        }
        if form_stays && self.changes.is_empty() {
            return Ok(Some(Rewritten::Same));
        }
        if form_stays && change_in_place(page, word, self.stamp, &self.changes, &mut self.packed) {
            return Ok(Some(Rewritten::Page(self.arena.insert(&self.packed))));
        }
        let mut merge = Merge::new(word, page, self.spare.pop().unwrap_or_default());
        outcomes.into_iter().for_each(|(index, outcome)| merge.settle(index, outcome));
        Ok(Some(Rewritten::Pieces(merge.finish())))
    }
}
