//! Slots in memory and records in the log, as one source of pages.

use std::cell::RefCell;
use std::sync::Arc;

use bristlecone_delta::{Found as StoredFound, Locator, Segments, format};
use bristlecone_snapshot::{Guard, Lookup, SlotId, Slots, pin, prefetch_elements};
use bristlecone_trie::levels::{self, Refs, Workspace};
use bristlecone_trie::update::Arena;
use bristlecone_trie::{B256, Entry, Hint, Item, NodeRef, Page, Shape};
use bytes::Bytes;

use crate::options::SchemeKind;
use crate::past_pages::{LoadedPage, PastPages};
use crate::reference::Reference;
use crate::{Blake3, Error, Ethereum, Result};

/// What stands at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The commit that last changed it.
    pub(crate) stamp: u64,
    /// The value, or the body of an account.
    pub(crate) value: Vec<u8>,
}

/// All pages: those in memory, and behind them those in the log.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) slots: Slots<u8, NodeRef>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) past: PastPages,
}

/// Where a step of a lookup leads.
enum Step {
    Done(Option<Found>),
    To(u64),
}

/// Keys that are looked up side by side: about as many cache lines as a processor waits for at once.
pub(crate) const WINDOW: usize = 16;

/// How far the lookup of one of many keys has come.
enum Way {
    Done(Option<Found>),
    To(SlotId),
    Stored(Locator),
}

impl Way {
    #[inline]
    fn from_word(word: u64) -> Result<Self> {
        match Reference::from_word(word) {
            Some(Reference::Slot(id)) => Ok(Self::To(id)),
            Some(Reference::Stored(locator)) => Ok(Self::Stored(locator)),
            _ => Err(Error::Internal("a child reference is no reference")),
        }
    }
}

impl Graph {
    pub(crate) fn new(segments: Arc<Segments>, cache_bytes: u64) -> Self {
        Self { slots: Slots::new(), segments, past: PastPages::new(cache_bytes) }
    }

    /// Has what will be asked for of a page in memory fetched towards the processor.
    #[inline]
    fn hint(&self, word: u64, hint: Hint) {
        let Some(Reference::Slot(id)) = Reference::from_word(word) else { return };
        match hint {
            Hint::Place => self.slots.prefetch_slot(id),
            Hint::Page => self.slots.prefetch(id),
            Hint::Refs => self.slots.prefetch_companion(id),
        }
    }

    /// Looks `key` up in the trie under `root`. Takes no lock: an epoch is pinned while the way leads through memory, and left
    /// before a record of the log is touched.
    #[inline]
    pub(crate) fn find(&self, root: Option<u64>, key: &[u8]) -> Result<Option<Found>> {
        let Some(mut word) = root else { return Ok(None) };
        let guard = pin();
        loop {
            word = match Reference::from_word(word) {
                Some(Reference::Slot(id)) => match self.slots.get_ahead(id, &guard) {
                    Lookup::Block(bytes) => match step(Page::new(bytes), key)? {
                        Step::Done(found) => return Ok(found),
                        Step::To(next) => next,
                    },
                    Lookup::Located(locator) => locator,
                    Lookup::Gone => return Err(Error::Internal("a page that a snapshot sees is gone")),
                },
                Some(Reference::Stored(locator)) => {
                    drop(guard);
                    return self.find_stored(locator, key);
                }
                _ => return Err(Error::Internal("a child reference is no reference")),
            };
        }
    }

    /// The pages in memory on the way from `root` to `key`, how many, and the record that the way goes on from, if it does.
    pub(crate) fn way_to_log(&self, root: Option<u64>, key: &[u8]) -> Result<(u64, Option<Locator>)> {
        let guard = pin();
        let mut pages = 0;
        let mut way = root.map_or(Ok(Way::Done(None)), Way::from_word)?;
        loop {
            way = match way {
                Way::Done(_) => return Ok((pages, None)),
                Way::Stored(locator) => return Ok((pages, Some(locator))),
                Way::To(id) => match self.slots.get(id, &guard) {
                    Lookup::Block(bytes) => {
                        pages += 1;
                        match step(Page::new(bytes), key)? {
                            Step::Done(found) => Way::Done(found),
                            Step::To(word) => Way::from_word(word)?,
                        }
                    }
                    Lookup::Located(word) => Way::from_word(word)?,
                    Lookup::Gone => return Err(Error::Internal("a page that a snapshot sees is gone")),
                },
            };
        }
    }

    /// Looks up many keys in the trie under `root`; what was found is added to `found`, in their order. They go through memory side
    /// by side, a few under one pin, so that they wait for it together; whose way leads into the log goes on alone, after
    /// the pin.
    pub(crate) fn find_many<K: AsRef<[u8]>>(
        &self,
        root: Option<u64>,
        keys: &[K],
        found: &mut Vec<Option<Found>>,
    ) -> Result<()> {
        for window in keys.chunks(WINDOW) {
            let mut ways = [const { Way::Done(None) }; WINDOW];
            if let Some(root) = root {
                for (way, _) in ways.iter_mut().zip(window) {
                    *way = Way::from_word(root)?;
                }
                self.walk(&mut ways, window)?;
            }
            for (way, key) in ways.into_iter().zip(window) {
                found.push(match way {
                    Way::Done(found) => found,
                    Way::Stored(locator) => self.find_stored(locator, key.as_ref())?,
                    Way::To(_) => return Err(Error::Internal("a walk ended on its way")),
                });
            }
        }
        Ok(())
    }

    /// Takes all ways to their ends in memory, level by level.
    fn walk<K: AsRef<[u8]>>(&self, ways: &mut [Way], keys: &[K]) -> Result<()> {
        let guard = pin();
        let on_way = |ways: &[Way]| ways.iter().any(|way| matches!(way, Way::To(_)));
        while on_way(ways) {
            for (way, key) in ways.iter_mut().zip(keys) {
                let Way::To(id) = *way else { continue };
                *way = match self.slots.get(id, &guard) {
                    Lookup::Block(bytes) => match step(Page::new(bytes), key.as_ref())? {
                        Step::Done(found) => Way::Done(found),
                        Step::To(word) => Way::from_word(word)?,
                    },
                    Lookup::Located(word) => Way::from_word(word)?,
                    Lookup::Gone => return Err(Error::Internal("a page that a snapshot sees is gone")),
                };
                if let Way::To(id) = *way {
                    self.slots.prefetch_slot(id);
                }
            }
            for way in ways.iter() {
                if let Way::To(id) = *way {
                    self.slots.prefetch_front(id);
                }
            }
            for (way, key) in ways.iter().zip(keys) {
                if let Way::To(id) = *way
                    && let Lookup::Block(bytes) = self.slots.get(id, &guard)
                {
                    prefetch_elements(Page::new(bytes).likely(key.as_ref()));
                }
            }
        }
        Ok(())
    }

    /// As [`find`](Self::find), with the value as bytes that share the map of the log where it comes from there. So does a large
    /// value of a page in memory that is stored too.
    pub(crate) fn find_bytes(&self, root: Option<u64>, key: &[u8]) -> Result<Option<(u64, Bytes)>> {
        let Some(mut word) = root else { return Ok(None) };
        let guard = pin();
        loop {
            let locator = match Reference::from_word(word) {
                Some(Reference::Slot(id)) => match self.slots.get(id, &guard) {
                    Lookup::Block(bytes) => match Page::new(bytes).look(key) {
                        None => return Ok(None),
                        Some(Item::Child { reference }) => {
                            word = reference;
                            continue;
                        }
                        Some(Item::Leaf { stamp, value }) => {
                            let stored = self.slots.locator(id).and_then(Locator::from_word);
                            match stored.filter(|_| value.len() > format::MAX_INLINE_BYTES) {
                                None => return Ok(Some((stamp, Bytes::copy_from_slice(value)))),
                                Some(locator) => locator,
                            }
                        }
                        Some(Item::Account { stamp, body, .. }) => {
                            return Ok(Some((stamp, Bytes::copy_from_slice(body))));
                        }
                        Some(Item::Blinded { .. }) => {
                            return Err(Error::Internal("a blinded node in a store"));
                        }
                    },
                    Lookup::Located(locator) => {
                        Locator::from_word(locator).ok_or(Error::Internal("a slot without a locator"))?
                    }
                    Lookup::Gone => return Err(Error::Internal("a page that a snapshot sees is gone")),
                },
                Some(Reference::Stored(locator)) => locator,
                _ => return Err(Error::Internal("a child reference is no reference")),
            };
            drop(guard);
            return self.find_stored_bytes(locator, key);
        }
    }

    /// The same from a stored page on.
    pub(crate) fn find_stored_bytes(&self, mut page: Locator, key: &[u8]) -> Result<Option<(u64, Bytes)>> {
        let view = self.segments.view();
        loop {
            let (at, found) = view.find_located(page, key)?;
            let (stamp, value) = match found {
                StoredFound::Absent => return Ok(None),
                StoredFound::Child { locator, .. } => {
                    page = locator;
                    continue;
                }
                StoredFound::Leaf { stamp, value } => (stamp, value),
                StoredFound::Account { stamp, body, .. } => (stamp, body),
            };
            return Ok(Some((stamp.word(), view.share(at, value)?)));
        }
    }

    /// The same from a stored page on, below which all pages are stored.
    pub(crate) fn find_stored(&self, mut page: Locator, key: &[u8]) -> Result<Option<Found>> {
        let view = self.segments.view();
        loop {
            page = match view.find(page, key)? {
                StoredFound::Absent => return Ok(None),
                StoredFound::Child { locator, .. } => locator,
                StoredFound::Leaf { stamp, value } => {
                    return Ok(Some(Found { stamp: stamp.word(), value: value.to_vec() }));
                }
                StoredFound::Account { stamp, body, .. } => {
                    return Ok(Some(Found { stamp: stamp.word(), value: body.to_vec() }));
                }
            };
        }
    }
}

#[inline]
fn step(page: Page<'_>, key: &[u8]) -> Result<Step> {
    let Some(item) = page.look(key) else { return Ok(Step::Done(None)) };
    Ok(match item {
        Item::Child { reference } => Step::To(reference),
        Item::Leaf { stamp, value } => Step::Done(Some(Found { stamp, value: value.to_vec() })),
        Item::Account { stamp, body, .. } => Step::Done(Some(Found { stamp, value: body.to_vec() })),
        Item::Blinded { .. } => return Err(Error::Internal("a blinded node in a store")),
    })
}

/// Loads the page at `locator`. `expected`: the reference that its parent holds, or the root.
pub(crate) fn load(
    segments: &Segments,
    locator: Locator,
    scheme: SchemeKind,
    shape: Shape,
    is_root: bool,
    expected: Option<NodeRef>,
) -> Result<LoadedPage> {
    let loaded = segments.load(locator)?;
    let page = Page::new(&loaded.bytes);
    let refs = match scheme {
        SchemeKind::Ethereum => levels::refs_of::<Ethereum>(page, shape, &loaded.children, is_root),
        SchemeKind::Blake3 => levels::refs_of::<Blake3>(page, shape, &loaded.children, is_root),
    };
    let damaged = || Error::Damaged { what: format!("the page at record {locator:?}") };
    let refs = refs.map_err(|_| damaged())?;
    if expected.is_some_and(|expected| refs.last() != Some(&expected)) {
        return Err(damaged());
    }
    Ok(LoadedPage { bytes: loaded.bytes, refs })
}

/// Pages in memory, read under one pin: for hashing.
pub(crate) struct Pinned<'g> {
    pub(crate) graph: &'g Graph,
    pub(crate) guard: &'g Guard,
    pub(crate) scheme: SchemeKind,
    pub(crate) shape: Shape,
}

impl levels::Pages for Pinned<'_> {
    fn hint(&self, word: u64, hint: Hint) {
        self.graph.hint(word, hint);
    }

    fn page(&self, word: u64) -> Option<Page<'_>> {
        let Some(Reference::Slot(id)) = Reference::from_word(word) else { return None };
        match self.graph.slots.get(id, self.guard) {
            Lookup::Block(bytes) => Some(Page::new(bytes)),
            Lookup::Located(_) | Lookup::Gone => None,
        }
    }

    fn refs(&self, word: u64) -> Option<&Refs> {
        let Some(Reference::Slot(id)) = Reference::from_word(word) else { return None };
        self.graph.slots.companion(id, self.guard)
    }

    fn top(&self, word: u64) -> Option<NodeRef> {
        let locator = match Reference::from_word(word)? {
            Reference::Stored(locator) => locator,
            Reference::Slot(id) => Locator::from_word(self.graph.slots.locator(id)?)?,
            Reference::Scratch(_) => return None,
        };
        let loaded = load(&self.graph.segments, locator, self.scheme, self.shape, false, None).ok()?;
        loaded.refs.last().copied()
    }
}

/// Hashes with the scheme that `scheme` names.
pub(crate) fn hash_with(
    pages: &impl levels::Pages,
    scheme: SchemeKind,
    shape: Shape,
    root: Option<u64>,
    workspace: &mut Workspace,
) -> Result<levels::Hashed> {
    match scheme {
        SchemeKind::Ethereum => levels::hash::<Ethereum>(pages, shape, root, workspace),
        SchemeKind::Blake3 => levels::hash::<Blake3>(pages, shape, root, workspace),
    }
    .map_err(|error| Error::Damaged { what: format!("a page below root {root:?} ({error})") })
}

/// The same below some pages.
pub(crate) fn hash_below_with(
    pages: &impl levels::Pages,
    scheme: SchemeKind,
    shape: Shape,
    part: &[u64],
    workspace: &mut Workspace,
) -> Result<levels::Hashed> {
    match scheme {
        SchemeKind::Ethereum => levels::hash_below::<Ethereum>(pages, shape, part, workspace),
        SchemeKind::Blake3 => levels::hash_below::<Blake3>(pages, shape, part, workspace),
    }
    .map_err(|error| Error::Damaged { what: format!("a page below the root ({error})") })
}

/// The pages of one commit on one namespace: new ones go into slots, stored ones are brought into slots.
pub(crate) struct Committing<'g> {
    graph: &'g Graph,
    guard: &'g Guard,
    scheme: SchemeKind,
    shape: Shape,
    /// The root's hash, if it is known: what a stored root page must come to.
    root_hash: Option<B256>,
    touched: RefCell<Touched>,
}

/// The first eight bytes of a key as a number, with zeros for those that it lacks: in the order of keys, but for keys that
/// have it in common.
pub(crate) fn head(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 8];
            chunk.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(chunk)
        }
    }
}

/// A word that tells a key from most others.
pub(crate) fn mark(key: &[u8]) -> u64 {
    mark_of(head(key), key.len(), key).unwrap_or_default()
}

/// The mark of a key of `len` bytes that begins with `head` and ends with `tail`; `None` where that does not tell it.
pub(crate) fn mark_of(head: u64, len: usize, tail: &[u8]) -> Option<u64> {
    // The slots of an account have their heads in common.
    match tail.last_chunk() {
        _ if len < 16 => Some(head),
        Some(chunk) => Some(head ^ u64::from_le_bytes(*chunk)),
        None => None,
    }
}

/// The commit that made the page, or one before it: a page that was loaded does not say it, and is not older than what stands in it. Were it taken for as
/// old as the store, a single old lease would hold the slot of every page that was ever evicted and changed.
fn born(page: Page<'_>) -> u64 {
    if page.stamp() != 0 {
        return page.stamp();
    }
    let newest = |entry: Entry<'_>| match entry.item {
        Item::Leaf { stamp, .. } => stamp,
        Item::Account { stamp, wiped, .. } => stamp.max(wiped),
        Item::Child { .. } | Item::Blinded { .. } => 0,
    };
    page.entries().map(newest).max().unwrap_or(0)
}

/// A page that has no place in the new version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Superseded {
    pub(crate) id: SlotId,
    /// The commit that made it.
    pub(crate) born: u64,
    pub(crate) bytes: u32,
    pub(crate) kind: PageKind,
}

/// Where in a trie a page is, as far as it matters for what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    /// The page at the top.
    Root,
    /// Another one with child pages.
    Inner,
    /// One without.
    Leaf,
}

impl PageKind {
    fn of(page: Page<'_>) -> Self {
        match page.depth() {
            0 => Self::Root,
            _ if page.is_inner() => Self::Inner,
            _ => Self::Leaf,
        }
    }
}

/// What a commit did to slots.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) inserted: Vec<SlotId>,
    /// What the pages of those take, in bytes.
    pub(crate) inserted_bytes: u64,
    pub(crate) loaded: Vec<SlotId>,
    /// Slots of the version before whose pages had been evicted and are in memory again.
    pub(crate) filled: Vec<SlotId>,
    pub(crate) superseded: Vec<Superseded>,
    /// Superseded pages that the version before has by their records alone.
    pub(crate) superseded_records: Vec<Locator>,
    pub(crate) dropped: Vec<u64>,
    /// The marks of keys that came where there were none: see [`mark`].
    pub(crate) added: Vec<u64>,
    /// The table of slots did not take every page.
    full: bool,
}

impl Touched {
    /// Whether the table of slots took every page.
    pub(crate) fn is_whole(&self) -> bool {
        !self.full
    }

    /// Forgets the commit: what it brought into slots goes.
    pub(crate) fn undo(self, graph: &Graph) {
        graph.slots.retire_all(self.inserted.into_iter().chain(self.loaded));
    }
}

impl<'g> Committing<'g> {
    pub(crate) fn new(
        graph: &'g Graph,
        guard: &'g Guard,
        scheme: SchemeKind,
        shape: Shape,
        root_hash: Option<B256>,
    ) -> Self {
        Self { graph, guard, scheme, shape, root_hash, touched: RefCell::default() }
    }

    /// What it did so far.
    pub(crate) fn into_touched(self) -> Touched {
        self.touched.into_inner()
    }

    fn expected(&self, parent: Option<(u64, usize)>) -> Option<NodeRef> {
        let Some((parent, entry)) = parent else { return self.root_hash.map(NodeRef::hash) };
        let Some(Reference::Slot(id)) = Reference::from_word(parent) else { return None };
        self.graph.slots.companion(id, self.guard)?.get(entry).copied()
    }

    fn block(&self, id: SlotId) -> Option<Page<'_>> {
        match self.graph.slots.get(id, self.guard) {
            Lookup::Block(bytes) => Some(Page::new(bytes)),
            Lookup::Located(_) | Lookup::Gone => None,
        }
    }
}

impl Arena for Committing<'_> {
    type Error = Error;

    fn open(&self, word: u64, parent: Option<(u64, usize)>) -> Result<(u64, Page<'_>)> {
        let (slot, locator) = match Reference::from_word(word) {
            Some(Reference::Slot(id)) => match self.graph.slots.get(id, self.guard) {
                Lookup::Block(bytes) => return Ok((word, Page::new(bytes))),
                Lookup::Located(locator) => (Some(id), Locator::from_word(locator)),
                Lookup::Gone => return Err(Error::Internal("a page of the latest version is gone")),
            },
            Some(Reference::Stored(locator)) => (None, Some(locator)),
            _ => (None, None),
        };
        let locator = locator.ok_or(Error::Internal("a child reference is no reference"))?;
        let expected = self.expected(parent);
        let loaded =
            load(&self.graph.segments, locator, self.scheme, self.shape, parent.is_none(), expected)?;
        let id = match slot {
            Some(id) => {
                self.graph.slots.fill(id, &loaded.bytes);
                self.touched.borrow_mut().filled.push(id);
                id
            }
            None => {
                let id = self.graph.slots.insert(&loaded.bytes)?;
                self.graph.slots.set_locator(id, locator.word());
                self.touched.borrow_mut().loaded.push(id);
                id
            }
        };
        self.graph.slots.set_companion(id, &loaded.refs, self.guard);
        let page = self.block(id).ok_or(Error::Internal("a page went while it was being loaded"))?;
        Ok((Reference::Slot(id).word(), page))
    }

    fn hint(&self, word: u64, hint: Hint) {
        self.graph.hint(word, hint);
    }

    fn insert(&self, page: &[u8]) -> u64 {
        match self.graph.slots.insert(page) {
            Ok(id) => {
                let mut touched = self.touched.borrow_mut();
                touched.inserted.push(id);
                touched.inserted_bytes += page.len() as u64;
                Reference::Slot(id).word()
            }
            Err(_) => {
                self.touched.borrow_mut().full = true;
                0
            }
        }
    }

    fn added(&self, key: &[u8]) {
        self.touched.borrow_mut().added.push(mark(key));
    }

    fn superseded(&self, word: u64) {
        match Reference::from_word(word) {
            // Looked at now, while it is at hand: it was read to be replaced.
            Some(Reference::Slot(id)) => {
                // It may have been evicted this moment, as only leaves are. Then its birth is not known, and any older lease holds its slot.
                let (born, bytes, kind) = self.block(id).map_or((0, 0, PageKind::Leaf), |page| {
                    (born(page), page.bytes().len() as u32, PageKind::of(page))
                });
                self.touched.borrow_mut().superseded.push(Superseded { id, born, bytes, kind });
            }
            Some(Reference::Stored(locator)) => self.touched.borrow_mut().superseded_records.push(locator),
            _ => {}
        }
    }

    fn dropped(&self, word: u64) {
        self.touched.borrow_mut().dropped.push(word);
    }
}
