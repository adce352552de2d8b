//! The entries of one version in key order, a page at a time.

use std::cmp::Ordering;

use bristlecone_delta::Locator;
use bristlecone_snapshot::{Lookup, pin};
use bristlecone_trie::page::ACCOUNT_BYTES;
use bristlecone_trie::path::{common_prefix, nibble};
use bristlecone_trie::{Item, Page};

use crate::reference::Reference;
use crate::snapshot::{Snapshot, View};
use crate::{Error, Result};

/// A page on the way, and what comes next in it.
struct Frame {
    bytes: Vec<u8>,
    next: usize,
    /// The whole bytes of the path to the page, as far as its entries do not repeat them.
    stem: Vec<u8>,
    account: Vec<u8>,
}

/// An entry that a cursor came to.
#[derive(Debug)]
pub(crate) struct Met {
    /// The key, or the path to a page.
    pub(crate) key: Vec<u8>,
    /// Its nibbles. Where their number is odd the last half byte of the path is 0.
    pub(crate) end: usize,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// A page, by its word. The cursor goes past it, unless it is told to [enter](Cursor::enter).
    Page(u64),
    /// A flat value or a slot, or the body of an account.
    Value { stamp: u64, bytes: Vec<u8>, is_account: bool },
}

impl Met {
    /// In the order of paths, what lies on the way to others before those.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let both = self.end.min(other.end);
        let shared = common_prefix(&self.key, &other.key, 0, both);
        if shared == both {
            return self.end.cmp(&other.end);
        }
        nibble(&self.key, shared).cmp(&nibble(&other.key, shared))
    }
}

/// Walks the pages of one namespace of a snapshot; holds copies of the pages on the way only.
pub(crate) struct Cursor {
    pub(crate) snapshot: Snapshot,
    /// Scratch pages of a version inside a run, by their numbers.
    scratch: Vec<Vec<u8>>,
    frames: Vec<Frame>,
    /// Pages that it read.
    pub(crate) pages: u64,
}

impl Cursor {
    /// Before the first entry.
    pub(crate) fn new(view: &View<'_>) -> Result<Self> {
        let overlay = view.snapshot.overlay(view.space, false)?;
        let root = overlay.root();
        let scratch = overlay.into_pages();
        let mut this = Self { snapshot: view.snapshot.clone(), scratch, frames: Vec::new(), pages: 0 };
        if let Some(root) = root {
            this.enter(root, Vec::new())?;
        }
        Ok(this)
    }

    /// Goes on with the entries of the page that `word` names, which was met under `path`.
    pub(crate) fn enter(&mut self, word: u64, path: Vec<u8>) -> Result<()> {
        let bytes = self.page(word)?;
        let account = path.get(..ACCOUNT_BYTES).unwrap_or_default().to_vec();
        self.frames.push(Frame { bytes, next: 0, stem: path, account });
        self.pages += 1;
        Ok(())
    }

    /// Leaves nothing to come.
    pub(crate) fn stop(&mut self) {
        self.frames.clear();
    }

    fn page(&self, word: u64) -> Result<Vec<u8>> {
        let graph = &self.snapshot.inner.core.graph;
        let stored = match Reference::from_word(word) {
            Some(Reference::Scratch(at)) => {
                let page = usize::try_from(at).ok().and_then(|at| self.scratch.get(at));
                return page.cloned().ok_or(Error::Internal("a scratch page is gone"));
            }
            Some(Reference::Stored(locator)) => Some(locator),
            Some(Reference::Slot(id)) => match graph.slots.get(id, &pin()) {
                Lookup::Block(bytes) => return Ok(bytes.to_vec()),
                Lookup::Located(locator) => Locator::from_word(locator),
                Lookup::Gone => None,
            },
            None => None,
        };
        let locator = stored.ok_or(Error::Internal("a page that a snapshot sees is gone"))?;
        Ok(graph.segments.load(locator)?.bytes)
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Met>> {
        self.snapshot.check()?;
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let page = Page::new(&frame.bytes);
            if frame.next >= page.len() {
                self.frames.pop();
                continue;
            }
            let entry = page.entry(frame.next);
            frame.next += 1;
            let start = if entry.below { ACCOUNT_BYTES } else { page.depth() / 2 };
            let above = if entry.below { &frame.account } else { &frame.stem };
            let mut key = above.get(..start).unwrap_or_default().to_vec();
            key.extend_from_slice(entry.tail);
            let what = match entry.item {
                Item::Child { reference } => What::Page(reference),
                Item::Account { stamp, body, .. } => {
                    frame.account.clone_from(&key);
                    What::Value { stamp, bytes: body.to_vec(), is_account: true }
                }
                Item::Leaf { stamp, value } => {
                    What::Value { stamp, bytes: value.to_vec(), is_account: false }
                }
                Item::Blinded { .. } => return Err(Error::Internal("a blinded node in a store")),
            };
            return Ok(Some(Met { key, end: entry.end, what }));
        }
    }
}
