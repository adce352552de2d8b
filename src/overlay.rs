//! Pages of one version for proofs, scans and roots of the past: those in memory as they are, stored ones loaded once and
//! kept as long as the overlay, and scratch pages that exist nowhere else.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bristlecone_delta::Locator;
use bristlecone_snapshot::{Guard, Lookup, pin};
use bristlecone_trie::levels::{Pages, Refs, Workspace};
use bristlecone_trie::update::{self, Arena};
use bristlecone_trie::{B256, NodeRef, Op, Page, Shape};

use crate::graph::{Graph, hash_below_with, hash_with, load};
use crate::options::SchemeKind;
use crate::past_pages::LoadedPage;
use crate::reference::Reference;
use crate::{Error, Result};

/// A page that the overlay holds.
enum Held {
    /// Its own; the references as soon as they are known.
    Own { bytes: Vec<u8>, refs: OnceLock<Box<Refs>> },
    /// One that others read too.
    Shared(Arc<LoadedPage>),
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own { bytes, .. } => bytes,
            Self::Shared(page) => &page.bytes,
        }
    }

    fn refs(&self) -> Option<&Refs> {
        match self {
            Self::Own { refs, .. } => refs.get().map(|refs| &**refs),
            Self::Shared(page) => Some(&page.refs),
        }
    }

    /// Notes references that were not known.
    fn set_refs(&self, known: &Refs) {
        if let Self::Own { refs, .. } = self {
            let _ = refs.set(known.into());
        }
    }
}

/// See the module. Holds an epoch pin as long as it lives: for single questions, not for keeping.
pub(crate) struct Overlay<'g> {
    graph: &'g Graph,
    guard: Guard,
    scheme: SchemeKind,
    shape: Shape,
    held: boxcar::Vec<Held>,
    by_word: RefCell<HashMap<u64, usize>>,
    /// The root page, whose reference is the root.
    root: Cell<Option<u64>>,
    failure: RefCell<Option<Error>>,
}

impl<'g> Overlay<'g> {
    pub(crate) fn new(graph: &'g Graph, scheme: SchemeKind, shape: Shape, root: Option<u64>) -> Self {
        Self {
            graph,
            guard: pin(),
            scheme,
            shape,
            held: boxcar::Vec::new(),
            by_word: RefCell::default(),
            root: Cell::new(root),
            failure: RefCell::new(None),
        }
    }

    /// The word of the root page.
    pub(crate) fn root(&self) -> Option<u64> {
        self.root.get()
    }

    /// From now on the page that `word` names is this one, with these references.
    pub(crate) fn put_page(&self, word: u64, bytes: Vec<u8>, refs: Vec<NodeRef>) {
        self.hold(Some(word), Held::Own { bytes, refs: OnceLock::from(refs.into_boxed_slice()) });
    }

    /// From now on the page that `word` names is the root page.
    pub(crate) fn set_root(&self, word: u64) {
        self.root.set(Some(word));
    }

    /// Applies `ops` in scratch pages; the root is then that of the result.
    pub(crate) fn apply(&self, ops: &[Op<'_>], stamp: u64) -> Result<()> {
        let updated = update::update(self, self.shape, self.root.get(), ops, stamp)?;
        self.root.set(updated.root);
        Ok(())
    }

    /// Computes what references are missing; the root hash.
    pub(crate) fn hash(&self) -> Result<B256> {
        if let Some(root) = self.root.get() {
            // A stored root page is loaded with its references, so that nothing is hashed twice.
            let _ = self.page(root);
        }
        let mut workspace = Workspace::default();
        let hashed = hash_with(&Known(self), self.scheme, self.shape, self.root.get(), &mut workspace);
        let hashed = match self.take_failure() {
            Some(failure) => return Err(failure),
            None => hashed?,
        };
        for (word, refs) in workspace.pages() {
            if let Some(held) = self.held_at(word) {
                held.set_refs(refs);
            }
        }
        Ok(hashed.root)
    }

    /// The references of a page, where they are known.
    fn known(&self, word: u64) -> Option<&Refs> {
        if let Some(held) = self.held_at(word) {
            return held.refs();
        }
        match Reference::from_word(word) {
            Some(Reference::Slot(id)) => self.graph.slots.companion(id, &self.guard),
            _ => None,
        }
    }

    /// The references of a page in memory whose own were dropped when it was superseded: computed again, with those below it that
    /// were dropped too.
    fn rehash(&self, word: u64) -> Option<&Refs> {
        let mut workspace = Workspace::default();
        let hashed = hash_below_with(&Known(self), self.scheme, self.shape, &[word], &mut workspace);
        if let Err(error) = hashed {
            self.failure.borrow_mut().get_or_insert(error);
            return None;
        }
        for (word, refs) in workspace.pages() {
            if self.held_at(word).is_none() {
                let bytes = self.page(word)?.bytes().to_vec();
                self.hold(Some(word), Held::Own { bytes, refs: OnceLock::new() });
            }
            self.held_at(word)?.set_refs(refs);
        }
        self.held_at(word)?.refs()
    }

    /// All pages that it holds, by their numbers as scratch pages.
    pub(crate) fn into_pages(self) -> Vec<Vec<u8>> {
        let own = |held| match held {
            Held::Own { bytes, .. } => bytes,
            Held::Shared(page) => page.bytes.clone(),
        };
        self.held.into_iter().map(own).collect()
    }

    /// The error behind a page that was missing.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.borrow_mut().take()
    }

    /// The page that `word` names.
    pub(crate) fn open_page(&self, word: u64) -> Result<Page<'_>> {
        self.page(word).ok_or_else(|| self.take_failure().unwrap_or(Error::Internal("a page is gone")))
    }

    fn held_at(&self, word: u64) -> Option<&Held> {
        let at = *self.by_word.borrow().get(&word)?;
        self.held.get(at)
    }

    fn hold(&self, word: Option<u64>, held: Held) -> u64 {
        let at = self.held.push(held);
        let word = word.unwrap_or(Reference::Scratch(at as u64).word());
        self.by_word.borrow_mut().insert(word, at);
        word
    }

    /// The locator of a page that must come from the log.
    fn stored(&self, word: u64) -> Option<Locator> {
        match Reference::from_word(word)? {
            Reference::Stored(locator) => Some(locator),
            // Whether it is in memory too: it may be evicted, or come back, at any moment.
            Reference::Slot(id) => Locator::from_word(self.graph.slots.locator(id)?),
            Reference::Scratch(_) => None,
        }
    }

    fn load(&self, word: u64) -> Option<&Held> {
        let locator = self.stored(word)?;
        let past = &self.graph.past;
        if let Some(page) = past.get(locator) {
            self.hold(Some(word), Held::Shared(page));
            return self.held_at(word);
        }
        let is_root = self.root.get() == Some(word);
        match load(&self.graph.segments, locator, self.scheme, self.shape, is_root, None) {
            Ok(loaded) => {
                let page = Arc::new(loaded);
                if Page::new(&page.bytes).is_inner() {
                    past.keep(locator, page.clone());
                }
                self.hold(Some(word), Held::Shared(page));
                self.held_at(word)
            }
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                None
            }
        }
    }
}

impl Pages for Overlay<'_> {
    fn page(&self, word: u64) -> Option<Page<'_>> {
        if let Some(held) = self.held_at(word) {
            return Some(Page::new(held.bytes()));
        }
        if let Some(Reference::Slot(id)) = Reference::from_word(word)
            && let Lookup::Block(bytes) = self.graph.slots.get(id, &self.guard)
        {
            return Some(Page::new(bytes));
        }
        self.load(word).map(|held| Page::new(held.bytes()))
    }

    fn refs(&self, word: u64) -> Option<&Refs> {
        match self.known(word) {
            Some(refs) => Some(refs),
            None => self.rehash(word),
        }
    }

    fn top(&self, word: u64) -> Option<NodeRef> {
        self.load(word)?.refs()?.last().copied()
    }
}

/// The same without computing any reference: what is not known is left to the one who hashes.
struct Known<'a, 'g>(&'a Overlay<'g>);

impl Pages for Known<'_, '_> {
    fn page(&self, word: u64) -> Option<Page<'_>> {
        self.0.page(word)
    }

    fn refs(&self, word: u64) -> Option<&Refs> {
        self.0.known(word)
    }

    fn top(&self, word: u64) -> Option<NodeRef> {
        self.0.top(word)
    }
}

impl Arena for Overlay<'_> {
    type Error = Error;

    fn open(&self, word: u64, _: Option<(u64, usize)>) -> Result<(u64, Page<'_>)> {
        Ok((word, self.open_page(word)?))
    }

    fn insert(&self, page: &[u8]) -> u64 {
        self.hold(None, Held::Own { bytes: page.to_vec(), refs: OnceLock::new() })
    }

    fn superseded(&self, _: u64) {}

    fn dropped(&self, _: u64) {}
}
