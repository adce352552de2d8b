//! The form of pages: what goes up, what is cut off, what stays.
//!
//! Everything here works on pieces with *whole* paths (from byte 0 of the key on), so that entries of several pages and of
//! the batch compare with one another.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use super::{Arena, DISSOLVE_ENTRIES, LEAF_BYTES, LEAF_ENTRIES, Outcome, Piece, UPPER_ENTRIES, Walk};
use crate::page::{ACCOUNT_BYTES, ACCOUNT_DEPTH, Item};
use crate::path;

/// Pieces in key order, and how many nibbles each shares with the next.
struct Run<'a> {
    pieces: Vec<Piece<'a>>,
    shared: Vec<usize>,
}

impl<'a> Run<'a> {
    fn new(pieces: Vec<Piece<'a>>) -> Self {
        let shared = pieces
            .iter()
            .zip(pieces.iter().skip(1))
            .map(|(a, b)| path::common_prefix(&a.tail, &b.tail, 0, a.end.min(b.end)))
            .collect();
        Self { pieces, shared }
    }

    /// Nibbles that all of `range` share; 0 for fewer than two.
    fn depth(&self, range: Range<usize>) -> usize {
        let gaps = self.shared.get(range.start..range.end.saturating_sub(1)).unwrap_or_default();
        gaps.iter().copied().min().unwrap_or_default()
    }

    fn slice(&self, range: Range<usize>) -> &[Piece<'a>] {
        self.pieces.get(range).unwrap_or_default()
    }

    /// Whether `range` is one account and nothing but what lies below it.
    fn is_account(&self, range: &Range<usize>) -> bool {
        self.pieces.get(range.start).is_some_and(Piece::is_account)
            && (range.len() == 1 || self.depth(range.clone()) >= ACCOUNT_DEPTH)
    }

    /// The parts of `range` under the branch at its top, one a nibble; a key that ends at the branch comes first.
    fn parts(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let depth = self.depth(range.clone());
        let mut parts = Vec::with_capacity(16);
        let mut start = range.start;
        if self.pieces.get(start).is_some_and(|piece| piece.end == depth && !piece.is_child()) {
            parts.push(start..start + 1);
            start += 1;
        }
        for at in range.start..range.end {
            if at < start {
                continue;
            }
            if at + 1 == range.end || self.shared.get(at).is_none_or(|shared| *shared == depth) {
                parts.push(start..at + 1);
                start = at + 1;
            }
        }
        parts
    }
}

impl<'a, A: Arena> Walk<'a, A> {
    /// A root page of `pieces`, which are all that is left.
    pub(super) fn assemble_root(&mut self, pieces: Vec<Piece<'a>>) -> Option<u64> {
        if pieces.is_empty() {
            return None;
        }
        let pieces = self.reform(Run::new(whole(pieces, &[])));
        Some(self.build(&pieces, 0))
    }

    /// What stands in the parent for `pieces`, which are all that is left under a child entry whose page had a
    /// stem of `old_depth` nibbles. `key` is any key below it.
    pub(super) fn assemble(&mut self, pieces: Vec<Piece<'a>>, key: &[u8], old_depth: usize) -> Outcome<'a> {
        let mut entries = self.fold(Run::new(whole(pieces, key)));
        match (entries.len(), entries.pop()) {
            (1, Some(Piece { end, item: Item::Child { reference }, origin: None, .. }))
                if end == old_depth =>
            {
                Outcome::Page(reference)
            }
            (_, last) => {
                entries.extend(last);
                Outcome::Entries(entries)
            }
        }
    }

    /// Packs `run` into a page of its own and gives its child entry, or gives the entries that go up instead.
    fn fold(&mut self, run: Run<'a>) -> Vec<Piece<'a>> {
        let all = 0..run.pieces.len();
        if all.len() <= 1 || run.is_account(&all) {
            let mut out = Vec::with_capacity(all.len());
            self.thin(&run, all, &mut out);
            return out;
        }
        let depth = run.depth(all.clone());
        let was_leaf = !run.pieces.iter().any(Piece::is_child);
        let pieces = self.reform(run);
        let was_cut = pieces.iter().any(Piece::is_child) && (was_leaf || all.len() > UPPER_ENTRIES);
        if was_cut && pieces.len() <= DISSOLVE_ENTRIES {
            return pieces;
        }
        let reference = self.build(&pieces, depth);
        pieces.first().map(|first| child(first, depth, reference)).into_iter().collect()
    }

    /// Brings `run` into the form of one page: as it is, or with parts of it cut off into pages of their own.
    fn reform(&mut self, run: Run<'a>) -> Vec<Piece<'a>> {
        let all = 0..run.pieces.len();
        let has_children = run.pieces.iter().any(Piece::is_child);
        let size: usize = run.pieces.iter().map(Piece::size).sum();
        if !has_children && (all.len() <= LEAF_ENTRIES && size <= LEAF_BYTES || all.len() < 2) {
            return run.pieces;
        }
        let mut out = Vec::with_capacity(all.len());
        self.thin(&run, all, &mut out);
        if out.len() <= UPPER_ENTRIES {
            return out;
        }
        let run = Run::new(out);
        let mut out = Vec::with_capacity(16);
        for part in run.parts(0..run.pieces.len()) {
            self.cut(&run, part, &mut out);
        }
        out
    }

    /// Appends `range`, the whole of a branch or of an account, with every cluster of leaves cut off.
    fn thin(&mut self, run: &Run<'a>, range: Range<usize>, out: &mut Vec<Piece<'a>>) {
        if range.len() < 2 {
            out.extend_from_slice(run.slice(range));
        } else if run.is_account(&range) {
            out.extend_from_slice(run.slice(range.start..range.start + 1));
            self.thin_part(run, range.start + 1..range.end, out);
        } else {
            for part in run.parts(range) {
                self.thin_part(run, part, out);
            }
        }
    }

    fn thin_part(&mut self, run: &Run<'a>, part: Range<usize>, out: &mut Vec<Piece<'a>>) {
        let has_children = run.slice(part.clone()).iter().any(Piece::is_child);
        if part.len() < 2 || has_children || run.is_account(&part) {
            self.thin(run, part, out);
        } else {
            self.cut(run, part, out);
        }
    }

    /// Appends what stands for `part` once it has a page of its own, if it is big enough for one.
    fn cut(&mut self, run: &Run<'a>, part: Range<usize>, out: &mut Vec<Piece<'a>>) {
        if part.len() < 2 {
            out.extend_from_slice(run.slice(part));
        } else if run.is_account(&part) {
            out.extend_from_slice(run.slice(part.start..part.start + 1));
            self.cut(run, part.start + 1..part.end, out);
        } else {
            let entries = self.fold(Run::new(run.slice(part).to_vec()));
            out.extend(entries);
        }
    }
}

/// The child entry for a new page at `depth` whose first entry is `first`.
fn child<'a>(first: &Piece<'a>, depth: usize, reference: u64) -> Piece<'a> {
    let mut path = first.tail.get(..depth.div_ceil(2)).unwrap_or_default().to_vec();
    if depth % 2 == 1
        && let Some(last) = path.last_mut()
    {
        *last &= 0xf0;
    }
    Piece { start: 0, tail: Cow::Owned(path), end: depth, item: Item::Child { reference }, origin: None }
}

/// The pieces with their whole paths, from byte 0 of the key on. What is above their own starts is taken from `key`, and
/// for slots from the account that they follow.
fn whole<'a>(mut pieces: Vec<Piece<'a>>, key: &[u8]) -> Vec<Piece<'a>> {
    let mut account = key.get(..ACCOUNT_BYTES).unwrap_or_default().to_vec();
    for piece in &mut pieces {
        if piece.start > 0 {
            let stem = if piece.start == ACCOUNT_BYTES { &account } else { key };
            let mut path = Vec::with_capacity(piece.start + piece.tail.len());
            path.extend_from_slice(stem.get(..piece.start).unwrap_or_default());
            path.extend_from_slice(&piece.tail);
            piece.start = 0;
            piece.tail = Cow::Owned(path);
        }
        if piece.is_account() {
            account.clear();
            account.extend_from_slice(&piece.tail);
        }
    }
    pieces
}
