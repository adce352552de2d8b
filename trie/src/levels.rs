//! Hashing a trie's new pages: all nodes without a reference are encoded, and those of one *height* hashed together, equal lengths
//! side by side, from the leaves up.
//!
//! A node's height is the longest way down to a node that is not to be hashed, so that nodes of one height, from all pages and from
//! both levels of tries, need nothing of each other, and a storage root comes before its account. (Grouping by depth from the
//! root would do too; but then the leaves, which are a third of all nodes and wait for nothing, come in many small
//! groups instead of one.) Each encoding is written once, with room for the hashes below it that are not known yet; each hash is
//! put into that room as soon as it is there.
//!
//! What did not change since an older page whose references are known is taken over from there.

mod carry;
mod jobs;
mod walk;

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use alloy_primitives::B256;
use thiserror::Error;

use self::carry::Carry;
use self::jobs::{Jobs, Value};
use self::walk::{Sheet, Span, Stacks};
use crate::account::Account;
use crate::hint::{Hint, PAGE_AHEAD, PLACE_AHEAD, REFS_AHEAD, SOURCE_AHEAD};
use crate::page::{Item, Page, Shape};
use crate::scheme::{LeafValue, NodeRef, Scheme};
use crate::structure::path_of;

/// The references of a page: one an entry (what the edge to it holds; of a child page, its top branch), then one a branch in
/// post-order. The last one is the page's own.
pub type Refs = [NodeRef];

/// Pages and their references, as the caller keeps them.
pub trait Pages {
    /// The page that `reference` names, if it is in memory.
    fn page(&self, reference: u64) -> Option<Page<'_>>;

    /// Its references, once they are known.
    fn refs(&self, reference: u64) -> Option<&Refs>;

    /// The last of its references for a page that is not in memory. A fallback: references are
    /// carried from older pages wherever possible.
    fn top(&self, reference: u64) -> Option<NodeRef>;

    /// Says what will be asked for soon: memory can be fetched meanwhile.
    fn hint(&self, reference: u64, hint: Hint) {
        let _ = (reference, hint);
    }
}

/// Why a root could not be computed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashError {
    /// A page that was needed is neither in memory nor known by its hash.
    #[error("page {0:#x} is neither in memory nor known by its hash")]
    MissingPage(u64),
    /// A node that is known only by its hash is alone in what was a branch: what is there depends on what it is.
    #[error("a removal left a node alone that is known only by its hash: give that node too")]
    Blinded,
    /// A page does not have the hash that its parent holds.
    #[error("page {0:#x} does not have the hash that its parent holds")]
    Mismatch(u64),
    /// An account's body is not in the form of [`Account::encode`].
    #[error("an account's body of {0} bytes cannot be decoded")]
    BadAccount(usize),
}

/// What hashing a trie gave. The references of the pages are in the [`Workspace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// The root.
    pub root: B256,
    /// How many nodes were hashed.
    pub nodes: u64,
    /// How many bytes of encodings were hashed.
    pub bytes: u64,
}

/// Computes the root of the trie under `root` (`None`: the empty trie) and the references of all pages that have none, which
/// `workspace` holds until its next use.
///
/// Cost: linear in the entries of those pages, plus one hash for each changed node.
///
/// # Errors
///
/// A page is missing, or an account cannot be decoded.
pub fn hash<S: Scheme>(
    pages: &impl Pages,
    shape: Shape,
    root: Option<u64>,
    workspace: &mut Workspace,
) -> Result<Hashed, HashError> {
    let mut run = Run::new(pages, shape, workspace);
    let done = |root| Hashed { root, nodes: 0, bytes: 0 };
    let Some(reference) = root else { return Ok(done(S::empty_root())) };
    if let Some(refs) = pages.refs(reference) {
        return Ok(done(refs.last().and_then(NodeRef::as_hash).unwrap_or(S::empty_root())));
    }
    run.all::<S>(vec![Listed::new(reference)], true)?;
    workspace.jobs.run::<S>();
    // The root page comes last, for all others are below it, and the root is its last reference.
    let root = workspace.pages().last().and_then(|(_, refs)| refs.last()).and_then(NodeRef::as_hash);
    let (nodes, bytes) = (workspace.jobs.nodes, workspace.jobs.total_bytes());
    Ok(Hashed { root: root.unwrap_or(S::empty_root()), nodes, bytes })
}

/// The pages right below the root page that have no references, in `parts` lists of about the same length: what [`hash_below`] does for
/// each of them needs nothing of the others. Empty where there is nothing to share out.
pub fn split(pages: &impl Pages, root: Option<u64>, parts: usize) -> Vec<Vec<u64>> {
    let Some(page) = root.filter(|root| pages.refs(*root).is_none()).and_then(|root| pages.page(root)) else {
        return Vec::new();
    };
    let mut below: Vec<u64> = Vec::new();
    if page.is_inner() {
        let mut list = Vec::new();
        children(page, &Carry::new(pages, page), &mut list);
        below.extend(list.iter().map(|listed| listed.reference));
    }
    if parts < 2 || below.len() < parts {
        return Vec::new();
    }
    below.chunks(below.len().div_ceil(parts)).map(<[u64]>::to_vec).collect()
}

/// Computes the references of pages that are no root, and of all pages below them that have none. `workspace` holds them until its
/// next use. Once they are kept, [`hash`] has so much less to do.
///
/// # Errors
///
/// As [`hash`]. The answer's root says nothing.
pub fn hash_below<S: Scheme>(
    pages: &impl Pages,
    shape: Shape,
    references: &[u64],
    workspace: &mut Workspace,
) -> Result<Hashed, HashError> {
    let mut run = Run::new(pages, shape, workspace);
    run.all::<S>(references.iter().map(|reference| Listed::new(*reference)).collect(), false)?;
    workspace.jobs.run::<S>();
    let (nodes, bytes) = (workspace.jobs.nodes, workspace.jobs.total_bytes());
    Ok(Hashed { root: S::empty_root(), nodes, bytes })
}

/// The references of one page alone, given those of its child pages in the order of their entries.
///
/// # Errors
///
/// An account cannot be decoded, or there are fewer `children` than child entries.
pub fn refs_of<S: Scheme>(
    page: Page<'_>,
    shape: Shape,
    children: &[NodeRef],
    is_root: bool,
) -> Result<Vec<NodeRef>, HashError> {
    struct Nothing;
    impl Pages for Nothing {
        fn page(&self, _: u64) -> Option<Page<'_>> {
            None
        }
        fn refs(&self, _: u64) -> Option<&Refs> {
            None
        }
        fn top(&self, _: u64) -> Option<NodeRef> {
            None
        }
    }
    let mut workspace = Workspace::default();
    let mut run = Run::new(&Nothing, shape, &mut workspace);
    let mut children = children.iter();
    let mut known = Vec::new();
    for (index, entry) in page.entries().enumerate() {
        if let Item::Child { reference } = entry.item {
            let node = children.next().ok_or(HashError::MissingPage(reference))?;
            known.push((index as u16, Value::Known(*node)));
        }
    }
    run.sheet::<S>(0, page, Carry::Nothing, &known, is_root)?;
    workspace.jobs.run::<S>();
    Ok(workspace.pages().last().map(|(_, refs)| refs.to_vec()).unwrap_or_default())
}

const UNKNOWN: NodeRef = NodeRef::UNKNOWN;

/// A page on the list of those to be hashed.
#[derive(Clone, Copy)]
struct Listed<'p> {
    reference: u64,
    /// The page, and the first of those it came from, once they were looked at.
    page: Option<Page<'p>>,
    source: Option<u64>,
    /// What its parent names it by.
    known: Option<Value>,
}

impl Listed<'_> {
    fn new(reference: u64) -> Self {
        Self { reference, page: None, source: None, known: None }
    }
}

/// A page with child pages, which waits for them.
struct Inner<'p> {
    at: usize,
    page: Page<'p>,
    carry: Carry<'p>,
    /// Where its children begin in the list, and which entries they are.
    first: usize,
    children: Vec<u16>,
}

/// A page that has its references, or will.
struct Work {
    reference: u64,
    /// Its references among those of all pages.
    refs: Range<usize>,
}

/// Memory for hashing: the encodings and references of one version at a time.
#[derive(Default)]
pub struct Workspace {
    works: Vec<Work>,
    jobs: Jobs,
    stacks: Stacks,
}

impl Workspace {
    /// The encodings that were hashed last, in the order in which they were made.
    pub fn encodings(&self) -> impl Iterator<Item = &[u8]> {
        self.jobs.encodings()
    }

    /// Memory that it holds, in bytes.
    pub fn size(&self) -> usize {
        self.jobs.size() + self.works.capacity() * size_of::<Work>()
    }

    /// The pages that were hashed last, with the references to be kept beside them.
    pub fn pages(&self) -> impl DoubleEndedIterator<Item = (u64, &Refs)> {
        self.works
            .iter()
            .map(|work| (work.reference, self.jobs.refs.get(work.refs.clone()).unwrap_or_default()))
    }
}

impl core::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Workspace").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// One computation.
struct Run<'p, 'w, P> {
    pages: &'p P,
    shape: Shape,
    workspace: &'w mut Workspace,
}

impl<'p, 'w, P: Pages> Run<'p, 'w, P> {
    fn new(pages: &'p P, shape: Shape, workspace: &'w mut Workspace) -> Self {
        workspace.works.clear();
        workspace.jobs.clear();
        workspace.stacks.clear();
        Self { pages, shape, workspace }
    }

    /// Encodes what is to be hashed of the pages of `list`, the first of which may be a root, and of those below them.
    ///
    /// From there down the pages are listed that have no references; those without child pages are encoded as they
    /// come, the others once the list is complete, the last first, so that what is below a page is known before it.
    fn all<S: Scheme>(&mut self, mut list: Vec<Listed<'p>>, with_root: bool) -> Result<(), HashError> {
        let is_root = |at: usize| with_root && at == 0;
        let mut inner = Vec::new();
        let mut at = 0;
        while at < list.len() {
            self.hint_ahead(&mut list, at);
            let Some(Listed { reference, page, .. }) = list.get(at).copied() else { break };
            if let Some(node) = self.pages.refs(reference).and_then(|refs| refs.last()) {
                self.know(&mut list, at, Value::Known(*node));
                at += 1;
                continue;
            }
            let Some(page) = page.or_else(|| self.pages.page(reference)) else {
                let node = self.pages.top(reference).filter(|_| !is_root(at));
                self.know(&mut list, at, Value::Known(node.ok_or(HashError::MissingPage(reference))?));
                at += 1;
                continue;
            };
            let carry = Carry::new(self.pages, page);
            if page.is_inner() {
                let first = list.len();
                let children = children(page, &carry, &mut list);
                inner.push(Inner { at, page, carry, first, children });
            } else {
                let value = self.sheet::<S>(reference, page, carry, &[], is_root(at))?;
                self.know(&mut list, at, value);
            }
            at += 1;
        }
        for Inner { at, page, carry, first, children } in inner.into_iter().rev() {
            let known = list.get(first..).unwrap_or_default().iter().filter_map(|listed| listed.known);
            let children: Vec<(u16, Value)> = children.into_iter().zip(known).collect();
            let Some(Listed { reference, .. }) = list.get(at).copied() else { continue };
            let value = self.sheet::<S>(reference, page, carry, &children, is_root(at))?;
            self.know(&mut list, at, value);
        }
        Ok(())
    }

    fn know(&self, list: &mut [Listed<'p>], at: usize, value: Value) {
        if let Some(listed) = list.get_mut(at) {
            listed.known = Some(value);
        }
    }

    /// Asks for the pages ahead, and for the references that they carry on.
    fn hint_ahead(&self, list: &mut [Listed<'p>], at: usize) {
        for (ahead, hint) in [(PLACE_AHEAD, Hint::Place), (PAGE_AHEAD, Hint::Page)] {
            if let Some(listed) = list.get(at + ahead) {
                self.pages.hint(listed.reference, hint);
            }
        }
        if let Some(listed) = list.get_mut(at + SOURCE_AHEAD) {
            listed.page = self.pages.page(listed.reference);
            listed.source = listed.page.and_then(|page| page.sources().next());
            if let Some(source) = listed.source {
                self.pages.hint(source, Hint::Place);
            }
        }
        if let Some(source) = list.get(at + REFS_AHEAD).and_then(|listed| listed.source) {
            self.pages.hint(source, Hint::Refs);
        }
    }

    /// Encodes what is to be hashed of one page.
    fn sheet<S: Scheme>(
        &mut self,
        reference: u64,
        page: Page<'p>,
        carry: Carry<'p>,
        children: &[(u16, Value)],
        is_root: bool,
    ) -> Result<Value, HashError> {
        let Workspace { works, jobs, stacks } = &mut *self.workspace;
        let base = jobs.refs.len();
        jobs.refs.extend_from_slice(carry.refs());
        if jobs.refs.len() == base {
            // A branch has two children at least.
            jobs.refs.resize(base + 2 * page.len(), UNKNOWN);
        }
        let mut sheet = Sheet::new(page, self.shape, carry, children, base);
        let mut value = Value::Known(NodeRef::hash(S::empty_root()));
        if !page.is_empty() {
            let from = if is_root { 0 } else { page.depth() };
            let span = Span { low: 0, high: page.len(), from, is_root };
            (value, _) = sheet.edge::<S>(span, stacks, jobs)?;
        }
        let end = base + page.len() + sheet.branches();
        jobs.refs.truncate(end);
        if is_root {
            // One more: the root itself, with the extension at the top.
            jobs.refs.push(UNKNOWN);
            jobs.keep_above(value, end);
        }
        works.push(Work { reference, refs: base..jobs.refs.len() });
        Ok(value)
    }
}

/// Lists the child pages of `page` that are not carried; says which entries they are.
fn children<'p>(page: Page<'p>, carry: &Carry<'p>, list: &mut Vec<Listed<'p>>) -> Vec<u16> {
    let mut entries = Vec::new();
    for index in carry.changed(page.len()) {
        if let Item::Child { reference } = page.entry(index).item
            && carry.entry(index, None).is_none()
        {
            list.push(Listed::new(reference));
            entries.push(index as u16);
        }
    }
    entries
}

/// Appends the encoding of leaf or account entry `index` whose edge begins at nibble `from`. Says where the storage root of an
/// account stands in `out`.
pub(crate) fn encode_leaf<S: Scheme>(
    page: Page<'_>,
    shape: Shape,
    index: usize,
    from: usize,
    storage_root: Option<B256>,
    out: &mut Vec<u8>,
) -> Result<usize, HashError> {
    let entry = page.entry(index);
    let path = path_of(page, index, from, entry.end);
    Ok(match entry.item {
        Item::Leaf { value, .. } if shape.is_slot(entry.end) => {
            S::encode_leaf(path, LeafValue::Slot(value), out)
        }
        Item::Leaf { value, .. } => S::encode_leaf(path, LeafValue::Raw(value), out),
        Item::Account { body, .. } => {
            let account = Account::decode(body).ok_or(HashError::BadAccount(body.len()))?;
            let root = storage_root.unwrap_or(S::empty_root());
            S::encode_leaf(path, LeafValue::Account(&account, root), out)
        }
        Item::Child { .. } | Item::Blinded { .. } => 0,
    })
}

/// The value of a branch at which a key ends.
pub(crate) fn branch_value(page: Page<'_>, entry: Option<usize>) -> Option<&[u8]> {
    match page.entry(entry?).item {
        Item::Leaf { value, .. } => Some(value),
        _ => None,
    }
}
