//! What a page has from older pages whose references are known: each entry that was taken over as it stood, and each branch over
//! just such entries.
//!
//! A page says where its entries came from ([`Page::origin`]); where that page has no references itself, it says the same.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::cell::OnceCell;

use super::jobs::Jobs;
use super::{Pages, Refs};
use crate::page::Page;
use crate::scheme::NodeRef;
use crate::structure::{branches, edge_from};

/// What is carried into one page.
pub(super) enum Carry<'p> {
    /// Nothing.
    Nothing,
    /// The older page has the same paths: everything stands in the same place there.
    InPlace {
        refs: &'p Refs,
        /// A bit an entry: it changed.
        changed: Cow<'p, [u8]>,
    },
    /// Entries and branches come from here and there.
    Mapped {
        /// For each entry, which of `sources`, and its place there.
        origins: Vec<Option<(u16, u16)>>,
        sources: Vec<Carried<'p>>,
    },
}

/// An older page with its references.
pub(super) struct Carried<'p> {
    word: u64,
    page: Page<'p>,
    refs: &'p Refs,
    /// Its branches in post-order, as the entries `low..high` that they are over; filled in when they are asked for.
    branches: OnceCell<Vec<(u16, u16)>>,
}

impl Carried<'_> {
    /// The reference of the branch over exactly the entries `low..high`, if there is one.
    fn branch_over(&self, low: u16, high: u16) -> Option<NodeRef> {
        let branches = self.branches.get_or_init(|| branches(self.page));
        let number = branches.binary_search_by(|(l, h)| h.cmp(&high).then(low.cmp(l))).ok()?;
        self.refs.get(self.page.len() + number).copied()
    }
}

impl<'p> Carry<'p> {
    /// What `page` has from older pages.
    pub(super) fn new(pages: &'p impl Pages, page: Page<'p>) -> Self {
        if page.sources().next().is_none() {
            return Self::Nothing;
        }
        Self::in_place(pages, page).unwrap_or_else(|| Self::mapped(pages, page))
    }

    /// Follows pages that were changed in place back to one whose references are known.
    fn in_place(pages: &'p impl Pages, page: Page<'p>) -> Option<Self> {
        let (mut source, changed) = page.in_place()?;
        let mut changed = Cow::Borrowed(changed);
        loop {
            if let Some(refs) = pages.refs(source) {
                return Some(Self::InPlace { refs, changed });
            }
            let (next, more) = pages.page(source)?.in_place()?;
            changed.to_mut().iter_mut().zip(more).for_each(|(all, more)| *all |= more);
            source = next;
        }
    }

    fn mapped(pages: &'p impl Pages, page: Page<'p>) -> Self {
        let mut sources: Vec<Carried<'p>> = Vec::new();
        let origins = (0..page.len()).map(|index| {
            let (mut word, mut place) = page.origin(index)?;
            loop {
                if let Some(at) = sources.iter().rposition(|source| source.word == word) {
                    return Some((at as u16, place as u16));
                }
                let page = pages.page(word)?;
                if let Some(refs) = pages.refs(word) {
                    sources.push(Carried { word, page, refs, branches: OnceCell::new() });
                    continue;
                }
                (word, place) = page.origin(place)?;
            }
        });
        Self::Mapped { origins: origins.collect(), sources }
    }

    /// Whether entry `index` is in the same place of the older page, unchanged.
    pub(super) fn keeps(&self, index: usize) -> bool {
        matches!(self, Self::InPlace { changed, .. }
            if changed.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 0))
    }

    /// The entries that are not [kept](Self::keeps), of `len`.
    pub(super) fn changed(&self, len: usize) -> impl Iterator<Item = usize> {
        let changed = if let Self::InPlace { changed, .. } = self { &changed[..] } else { &[] };
        let all = matches!(self, Self::InPlace { .. });
        (0..len.div_ceil(8))
            .flat_map(move |at| {
                let mut byte = if all { changed.get(at).copied().unwrap_or_default() } else { u8::MAX };
                core::iter::from_fn(move || {
                    let bit = (byte != 0).then(|| byte.trailing_zeros() as usize)?;
                    byte &= byte - 1;
                    Some(at * 8 + bit)
                })
            })
            .filter(move |index| *index < len)
    }

    /// References to begin with: of a page that was changed in place those of the older one.
    pub(super) fn refs(&self) -> &'p Refs {
        match self {
            Self::InPlace { refs, .. } => refs,
            Self::Nothing | Self::Mapped { .. } => &[],
        }
    }

    /// The reference that entry `index`, whose edge begins at nibble `from` if that is of consequence, has in the older page.
    pub(super) fn entry(&self, index: usize, from: Option<usize>) -> Option<NodeRef> {
        match self {
            Self::Nothing => None,
            Self::InPlace { refs, .. } => self.keeps(index).then(|| refs.get(index).copied()).flatten(),
            Self::Mapped { origins, sources } => {
                let (source, place) = origins.get(index).copied().flatten()?;
                let source = sources.get(usize::from(source))?;
                let place = usize::from(place);
                if from.is_some_and(|from| edge_from(source.page, place) != from) {
                    return None;
                }
                source.refs.get(place).copied()
            }
        }
    }

    /// Whether account entry `index` has as many entries below it, up to `end`, as in the older page.
    pub(super) fn has_same_storage(&self, index: usize, end: usize) -> bool {
        let Self::Mapped { origins, sources } = self else { return true };
        origins.get(index).copied().flatten().is_some_and(|(source, place)| {
            let place = usize::from(place);
            sources
                .get(usize::from(source))
                .is_some_and(|source| source.page.account_end(place) - place == end - index)
        })
    }

    /// Whether the branch over the entries `low..high`, all of which are carried, was there before; then its reference is put
    /// at `slot`.
    pub(super) fn has_branch(&self, low: usize, high: usize, slot: usize, jobs: &mut Jobs) -> bool {
        match self {
            Self::Nothing => false,
            // It stands there already, with all others.
            Self::InPlace { .. } => true,
            Self::Mapped { .. } => match self.mapped_branch(low, high) {
                Some(node) => {
                    jobs.set(slot, node);
                    true
                }
                None => false,
            },
        }
    }

    fn mapped_branch(&self, low: usize, high: usize) -> Option<NodeRef> {
        let Self::Mapped { origins, sources } = self else { return None };
        let (source, first) = origins.get(low).copied().flatten()?;
        let all = origins.get(low..high)?.iter().zip(first..);
        if !all.into_iter().all(|(origin, place)| *origin == Some((source, place))) {
            return None;
        }
        sources.get(usize::from(source))?.branch_over(first, first + (high - low) as u16)
    }
}
