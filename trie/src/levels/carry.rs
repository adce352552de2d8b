//! Which references of a page can be taken over from older pages.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::{Pages, Refs, UNKNOWN};
use crate::page::{ACCOUNT_BYTES, ACCOUNT_DEPTH, Entry, Item, Page, Source};
use crate::scheme::NodeRef;
use crate::structure::Structure;

/// For each entry of a page: the hashed older page that holds the same entry, and its place there.
type Matches = Vec<Option<(u64, u16)>>;

/// Memory that serves one page after the other.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) structure: Structure,
    old: Structure,
    matches: Matches,
    done: Vec<u64>,
    clean: Vec<bool>,
}

/// Fills in the references that `page`, with `structure`, shares with its hashed ancestors.
pub(super) fn carry(
    pages: &impl Pages,
    page: Page<'_>,
    structure: &Structure,
    refs: &mut [NodeRef],
    scratch: &mut Scratch,
) {
    if carry_in_place(pages, page, structure, refs, &mut scratch.clean).is_some() {
        return;
    }
    let Scratch { old, matches, done, .. } = scratch;
    done.clear();
    matches.clear();
    matches.resize(page.len(), None);
    find_matches(pages, page, matches);
    for at in 0..matches.len() {
        let Some(Some((source, _))) = matches.get(at).copied() else { continue };
        if done.contains(&source) {
            continue;
        }
        done.push(source);
        if let (Some(source_page), Some(source_refs)) = (pages.page(source), pages.refs(source)) {
            old.fill(source_page);
            let pair = Pair {
                page,
                structure,
                matches,
                reference: source,
                old: source_page,
                old_structure: old,
                old_refs: source_refs,
            };
            pair.carry_entries(refs);
            pair.carry_branches(refs);
        }
    }
}

/// The same for a page that has exactly the paths of its one hashed ancestor, as most have that were only updated: then
/// everything stands in the same place there, and what is the same byte for byte has the same reference. `None`
/// where that is not so; nothing is carried then.
fn carry_in_place(
    pages: &impl Pages,
    page: Page<'_>,
    structure: &Structure,
    refs: &mut [NodeRef],
    clean: &mut Vec<bool>,
) -> Option<()> {
    let mut sources = page.sources();
    let source = sources.next().filter(|source| source.old_start == 0 && source.new_start == 0)?;
    let first = pages.page(source.page)?;
    if sources.next().is_some() || usize::from(source.new_len) != page.len() || first.depth() != page.depth()
    {
        return None;
    }
    let (reference, old) = match pages.refs(source.page) {
        Some(_) => (source.page, first),
        None => ancestor(pages, first, &source)?,
    };
    if old.len() != page.len() || old.depth() != page.depth() {
        return None;
    }
    let old_refs = pages.refs(reference)?;
    clean.clear();
    for index in 0..page.len() {
        clean.push(page.same_entry(old, index)?);
    }
    let all_clean =
        |low: usize, high: usize| clean.get(low..high).is_some_and(|run| run.iter().all(|same| *same));
    let (entries, branches) = refs.split_at_mut_checked(page.len())?;
    for (index, (slot, node)) in entries.iter_mut().zip(old_refs).enumerate() {
        let end = if page.head(index).is_account() { page.account_end(index) } else { index + 1 };
        if all_clean(index, end) {
            *slot = *node;
        }
    }
    let old_branches = old_refs.get(page.len()..).unwrap_or_default();
    for ((slot, node), branch) in branches.iter_mut().zip(old_branches).zip(&structure.branches) {
        if all_clean(usize::from(branch.low), usize::from(branch.high)) {
            *slot = *node;
        }
    }
    Some(())
}

/// A page and one of its hashed ancestors.
struct Pair<'a> {
    page: Page<'a>,
    structure: &'a Structure,
    matches: &'a Matches,
    reference: u64,
    old: Page<'a>,
    old_structure: &'a Structure,
    old_refs: &'a Refs,
}

impl Pair<'_> {
    /// Where entry `index` stands in the ancestor, if it came from there unchanged.
    fn at(&self, index: usize) -> Option<usize> {
        match self.matches.get(index) {
            Some(Some((source, at))) if *source == self.reference => Some(usize::from(*at)),
            _ => None,
        }
    }

    /// Whether the entries `low..high` all stand together there, from the answer on.
    fn run(&self, low: usize, high: usize) -> Option<usize> {
        let first = self.at(low)?;
        (low..high).all(|index| self.at(index) == Some(first + index - low)).then_some(first)
    }

    fn carry_entries(&self, refs: &mut [NodeRef]) {
        for (index, slot) in refs.iter_mut().enumerate().take(self.page.len()) {
            let Some(at) = self.at(index) else { continue };
            let Some(node) = self.old_refs.get(at).filter(|node| **node != UNKNOWN) else { continue };
            let head = self.page.head(index);
            let same = if head.is_account() {
                let end = self.page.account_end(index);
                self.same_edge(index, at)
                    && self.run(index, end).is_some()
                    && self.old.account_end(at) - at == end - index
            } else {
                // What a leaf comes to depends on where the edge to it begins.
                head.is_child() || self.same_edge(index, at)
            };
            if same {
                *slot = *node;
            }
        }
    }

    fn same_edge(&self, index: usize, at: usize) -> bool {
        self.structure.edge_from(self.page, index) == self.old_structure.edge_from(self.old, at)
    }

    fn carry_branches(&self, refs: &mut [NodeRef]) {
        for (branch, slot) in self.structure.branches.iter().zip(refs.iter_mut().skip(self.page.len())) {
            let (low, high) = (usize::from(branch.low), usize::from(branch.high));
            let Some(first) = self.run(low, high) else { continue };
            let here =
                self.old_structure.branches.iter().position(|old| {
                    usize::from(old.low) == first && usize::from(old.high) == first + high - low
                });
            if let Some(node) = here.and_then(|here| self.old_refs.get(self.old.len() + here)) {
                *slot = *node;
            }
        }
    }
}

fn find_matches(pages: &impl Pages, page: Page<'_>, found: &mut Matches) {
    for source in page.sources() {
        let Some(old) = pages.page(source.page) else { continue };
        if pages.refs(source.page).is_some() {
            join(page, old, &source, |new, at| set(found, new, Some((source.page, at as u16))));
        } else if let Some((reference, ancestor)) = ancestor(pages, old, &source) {
            let whole = Source { old_start: 0, old_len: ancestor.len() as u16, ..source };
            join(page, ancestor, &whole, |new, at| set(found, new, Some((reference, at as u16))));
        } else {
            let mut through = vec![None; old.len()];
            find_matches(pages, old, &mut through);
            join(page, old, &source, |new, at| set(found, new, through.get(at).copied().flatten()));
        }
    }
}

fn set(found: &mut Matches, index: usize, value: Option<(u64, u16)>) {
    if let (Some(slot), Some(_)) = (found.get_mut(index), value) {
        *slot = value;
    }
}

/// The nearest hashed page behind `old` where every page on the way is the whole of the one before, under the same
/// stem: what lies between can be skipped.
fn ancestor<'a>(pages: &'a impl Pages, old: Page<'a>, source: &Source) -> Option<(u64, Page<'a>)> {
    if source.old_start != 0 || usize::from(source.old_len) != old.len() {
        return None;
    }
    let mut at = old;
    loop {
        let mut sources = at.sources();
        let only = sources.next()?;
        let next = pages.page(only.page)?;
        if sources.next().is_some()
            || next.depth() != old.depth()
            || only.old_start != 0
            || usize::from(only.old_len) != next.len()
        {
            return None;
        }
        if pages.refs(only.page).is_some() {
            return Some((only.page, next));
        }
        at = next;
    }
}

/// Calls `found(new index, old index)` for each entry of the new range that stands unchanged in the old one.
fn join(new: Page<'_>, old: Page<'_>, source: &Source, mut found: impl FnMut(usize, usize)) {
    let (mut i, mut j) = (usize::from(source.new_start), usize::from(source.old_start));
    let new_end = (i + usize::from(source.new_len)).min(new.len());
    let old_end = (j + usize::from(source.old_len)).min(old.len());
    let mut new_account = account_before(new, i);
    let mut old_account = account_before(old, j);
    while i < new_end && j < old_end {
        let (a, b) = (new.entry(i), old.entry(j));
        let order = compare(&a, new, new_account, &b, old, old_account);
        if order == Ordering::Equal && unchanged(&a.item, &b.item) {
            found(i, j);
        }
        if order.is_le() {
            if !a.below {
                new_account = a.tail;
            }
            i += 1;
        }
        if order.is_ge() {
            if !b.below {
                old_account = b.tail;
            }
            j += 1;
        }
    }
}

fn unchanged(new: &Item<'_>, old: &Item<'_>) -> bool {
    match (new, old) {
        (Item::Leaf { stamp: a, .. }, Item::Leaf { stamp: b, .. }) => a == b,
        (Item::Account { stamp: a, wiped: v, .. }, Item::Account { stamp: b, wiped: w, .. }) => {
            a == b && v == w
        }
        _ => new == old,
    }
}

fn account_before(page: Page<'_>, index: usize) -> &[u8] {
    if index >= page.len() || !page.entry(index).below {
        return &[];
    }
    (0..index).rev().map(|at| page.entry(at)).find(|entry| !entry.below).map_or(&[], |entry| entry.tail)
}

/// Orders entries of two pages by their whole paths. Where one page lies wholly below an account, so does the
/// range of the other that it is compared with: then only what is below counts.
fn compare(
    a: &Entry<'_>,
    a_page: Page<'_>,
    a_account: &[u8],
    b: &Entry<'_>,
    b_page: Page<'_>,
    b_account: &[u8],
) -> Ordering {
    let start =
        |page: Page<'_>, entry: &Entry<'_>| if entry.below { ACCOUNT_BYTES } else { page.depth() / 2 };
    let tails = |a: &Entry<'_>, b: &Entry<'_>| {
        let (x, y) = (start(a_page, a), start(b_page, b));
        let from = x.max(y);
        skip(a.tail, from - x).cmp(skip(b.tail, from - y)).then(a.end.cmp(&b.end))
    };
    if a_page.depth() >= ACCOUNT_DEPTH || b_page.depth() >= ACCOUNT_DEPTH || (!a.below && !b.below) {
        return tails(a, b);
    }
    let x = if a.below { a_account } else { a.tail };
    let y = if b.below { b_account } else { b.tail };
    let from = a_page.depth().max(b_page.depth()) / 2;
    let accounts = skip(x, from - a_page.depth() / 2).cmp(skip(y, from - b_page.depth() / 2));
    accounts.then_with(|| a.below.cmp(&b.below)).then_with(|| {
        if a.below && b.below { a.tail.cmp(b.tail).then(a.end.cmp(&b.end)) } else { Ordering::Equal }
    })
}

fn skip(tail: &[u8], count: usize) -> &[u8] {
    tail.get(count..).unwrap_or_default()
}
