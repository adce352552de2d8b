//! Operations that leave the form of a page as it is: values of leaves that are there, a leaf more or less in a page that has
//! room, child pages that stay pages. One copy of the old page, or a few, instead of a list of entries.

use alloc::vec::Vec;
use core::ops::Range;

use super::merge::Merge;
use super::{Arena, LEAF_BYTES, LEAF_ENTRIES, Outcome, Rewritten, Walk};
use crate::hint::{Hint, PAGE_AHEAD, PLACE_AHEAD};
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
        if self.edits.len() > self.changes.len() {
            for Edit { change, .. } in &self.edits {
                if let Change::Insert { key, .. } = change {
                    self.arena.added(key);
                }
            }
        }
        Some(Rewritten::Page(self.arena.insert(&self.packed)))
    }

    /// Hands the operations of `range` on to the pages below `page`. `None`, with nothing done, where some are not for a
    /// child page.
    ///
    /// From `page` down the pages are listed that have operations; those without child pages are changed as they come, the
    /// others once the list is complete, the last first. So the pages ahead are known, and asked for in time.
    pub(super) fn pass_on(
        &mut self,
        word: u64,
        page: Page<'a>,
        range: Range<usize>,
    ) -> Result<Option<Rewritten<'a>>, A::Error> {
        let mut list = Vec::new();
        let Some(top) = self.list_children(word, page, range, &mut list) else { return Ok(None) };
        self.work_off(&mut list)?;
        Ok(Some(self.gather(top, &mut list)))
    }

    /// Works a list off, and what is listed meanwhile: after that the tasks that were on it have their outcomes.
    pub(super) fn work_off(&mut self, list: &mut Vec<Task<'a>>) -> Result<(), A::Error> {
        let mut inner = Vec::new();
        let mut at = 0;
        while let Some(Task { reference, parent, range, .. }) = list.get(at).cloned() {
            self.hint_ahead(list, at);
            let (word, page) = self.arena.open(reference, Some(parent))?;
            let listed =
                if page.is_inner() { self.list_children(word, page, range.clone(), list) } else { None };
            if let Some(parent) = listed {
                inner.push((at, parent));
            } else {
                let key = self.ops.get(range.start).map_or(&[][..], |op| op.key);
                let rewritten = match page.is_plain().then(|| self.edit(word, page, range.clone())).flatten()
                {
                    Some(rewritten) => rewritten,
                    None => self.merge(word, page, range)?.map_or(Rewritten::Same, Rewritten::Pieces),
                };
                let outcome = self.outcome(reference, page, key, rewritten);
                settle(list, at, outcome);
            }
            at += 1;
        }
        for (at, parent) in inner.into_iter().rev() {
            let Some(Task { reference, range, .. }) = list.get(at).cloned() else { continue };
            let key = self.ops.get(range.start).map_or(&[][..], |op| op.key);
            let page = parent.page;
            let rewritten = self.gather(parent, list);
            let outcome = self.outcome(reference, page, key, rewritten);
            settle(list, at, outcome);
        }
        Ok(())
    }

    /// Lists the child pages of `page` that the operations of `range` are for. `None`, with nothing listed, where some are
    /// for none.
    pub(super) fn list_children(
        &self,
        word: u64,
        page: Page<'a>,
        range: Range<usize>,
        list: &mut Vec<Task<'a>>,
    ) -> Option<Parent<'a>> {
        let first = list.len();
        let mut at = range.start;
        while at < range.end {
            let key = self.ops.get(at).map_or(&[][..], |op| op.key);
            let group = match page.find(key) {
                Find::Into(index) if !page.entry(index).below => {
                    self.group(page, index, at..range.end).map(|(reference, count)| (index, reference, count))
                }
                _ => None,
            };
            let Some((index, reference, count)) = group else {
                list.truncate(first);
                return None;
            };
            list.push(Task {
                reference,
                parent: (word, index),
                range: at..at + count,
                outcome: Outcome::Same,
            });
            at += count;
        }
        Some(Parent { word, page, children: first..list.len() })
    }

    /// Makes a page of what became of its child pages.
    pub(super) fn gather(&mut self, parent: Parent<'a>, list: &mut [Task<'a>]) -> Rewritten<'a> {
        let Parent { word, page, children } = parent;
        let children = list.get_mut(children).unwrap_or_default();
        self.changes.clear();
        let mut form_stays = true;
        for Task { parent: (_, index), outcome, .. } in children.iter() {
            match outcome {
                Outcome::Same => {}
                Outcome::Page(reference) => {
                    self.changes.push((*index, Item::Child { reference: *reference }));
                }
                Outcome::Entries(_) => form_stays = false,
            }
        }
        if form_stays && self.changes.is_empty() {
            return Rewritten::Same;
        }
        if form_stays && change_in_place(page, word, self.stamp, &self.changes, &mut self.packed) {
            return Rewritten::Page(self.arena.insert(&self.packed));
        }
        let mut merge = Merge::new(word, page, self.spare.pop().unwrap_or_default());
        for Task { parent: (_, index), outcome, .. } in children {
            merge.settle(*index, core::mem::replace(outcome, Outcome::Same));
        }
        Rewritten::Pieces(merge.finish())
    }

    fn hint_ahead(&self, list: &[Task<'a>], at: usize) {
        for (ahead, hint) in [(PLACE_AHEAD, Hint::Place), (PAGE_AHEAD, Hint::Page)] {
            if let Some(task) = list.get(at + ahead) {
                self.arena.hint(task.reference, hint);
            }
        }
    }
}

/// A page that operations are for.
#[derive(Clone)]
pub(super) struct Task<'a> {
    pub(super) reference: u64,
    /// The page that refers to it, and the entry there.
    pub(super) parent: (u64, usize),
    pub(super) range: Range<usize>,
    /// What became of it.
    pub(super) outcome: Outcome<'a>,
}

/// A page whose operations were handed on.
pub(super) struct Parent<'a> {
    pub(super) word: u64,
    pub(super) page: Page<'a>,
    /// Where its child pages are in the list.
    pub(super) children: Range<usize>,
}

fn settle<'a>(list: &mut [Task<'a>], at: usize, outcome: Outcome<'a>) {
    if let Some(task) = list.get_mut(at) {
        task.outcome = outcome;
    }
}
