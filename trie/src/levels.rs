//! Hashing by levels: all nodes of one depth that have no reference yet, from all pages, are encoded and
//! hashed together, the deepest first. A level is counted in edges from the root, through accounts into
//! their storage, so that a storage root is there before its account.
//!
//! What did not change since an older page whose references are known is taken over from there: an entry by
//! its path and its stamp (or child reference), a branch by the entries below it.

mod carry;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

use alloy_primitives::B256;
use thiserror::Error;

use crate::account::Account;
use crate::page::{Item, Page, Shape};
use crate::scheme::{Encoded, LeafValue, NodeRef, Scheme};
use crate::structure::{Branch, Edge, Target, path_of};

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
}

/// Why a root could not be computed.
#[derive(Debug, Error, PartialEq, Eq)]
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

/// What hashing a trie gave.
#[derive(Debug)]
pub struct Hashed {
    /// The root.
    pub root: B256,
    /// The references of each page that had none, to be kept beside it.
    pub pages: Vec<(u64, Vec<NodeRef>)>,
    /// How many nodes were hashed.
    pub nodes: u64,
    /// How many bytes of encodings were hashed.
    pub bytes: u64,
}

/// Computes the root of the trie under `root` (`None`: the empty trie) and the references of all pages that have none.
///
/// Cost: linear in the entries of those pages, plus one hash for each changed node.
///
/// # Errors
///
/// A page is missing, or an account cannot be decoded.
pub fn hash<S: Scheme>(pages: &impl Pages, shape: Shape, root: Option<u64>) -> Result<Hashed, HashError> {
    let Some(reference) = root else {
        return Ok(Hashed { root: S::empty_root(), pages: Vec::new(), nodes: 0, bytes: 0 });
    };
    if let Some(refs) = pages.refs(reference) {
        let root = refs.last().and_then(NodeRef::as_hash).unwrap_or(S::empty_root());
        return Ok(Hashed { root, pages: Vec::new(), nodes: 0, bytes: 0 });
    }
    let mut run = Run::new(shape);
    let mut queue = VecDeque::from([(reference, None, 0)]);
    while let Some((reference, parent, level)) = queue.pop_front() {
        let page = pages.page(reference).ok_or(HashError::MissingPage(reference))?;
        let at = run.add(reference, page, parent, Some(pages));
        // A page can be new and yet hold nothing new: a part that was cut off whole.
        run.tell_parent(at);
        run.schedule(pages, at, level, parent.is_none(), &mut queue)?;
    }
    let (nodes, bytes) = run.compute::<S>()?;
    let root = run.root();
    let taken = |at: usize| (run.page(at).reference, run.taken(at, root.filter(|_| at == 0)));
    let pages = (0..run.pages.len()).map(taken).collect();
    let root = root.and_then(|root| root.as_hash()).unwrap_or(S::empty_root());
    Ok(Hashed { root, pages, nodes, bytes })
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
    let mut run = Run::new(shape);
    let at = run.add(0, page, (!is_root).then_some((usize::MAX, 0)), None::<&Nothing>);
    let mut children = children.iter();
    for (index, entry) in page.entries().enumerate() {
        if let Item::Child { reference } = entry.item {
            let node = children.next().ok_or(HashError::MissingPage(reference))?;
            run.set(at, index, *node);
        }
    }
    run.schedule(&Nothing, at, 0, is_root, &mut VecDeque::new())?;
    run.compute::<S>()?;
    Ok(run.taken(at, if is_root { run.root() } else { None }))
}

const UNKNOWN: NodeRef = NodeRef::UNKNOWN;
const NO_EXTENSION: u32 = u32::MAX;
/// The owner of the edge at the very top, among the edges that belong to no branch.
const TOP: u16 = u16::MAX;

/// A page on its way to having references. What belongs to it stands in the arenas of [`Run`].
struct Work<'a> {
    reference: u64,
    page: Page<'a>,
    /// Its references: one an entry, one a branch.
    refs: Range<usize>,
    branches: Range<usize>,
    /// Where its edges begin.
    first_edge: usize,
    top: Option<Target>,
    /// The edges below accounts, by the account's entry.
    storages: Vec<(u16, Edge)>,
    /// The extensions over those, and over the top edge of a root.
    side_extensions: Vec<(u16, u32)>,
    parent: Option<(usize, usize)>,
}

impl Work<'_> {
    fn index(&self, target: Target) -> usize {
        match target {
            Target::Entry(entry) => usize::from(entry),
            Target::Branch(branch) => self.page.len() + usize::from(branch),
        }
    }

    fn side_extension(&self, entry: u16) -> Option<u32> {
        self.side_extensions.iter().find(|(owner, _)| *owner == entry).map(|(_, extension)| *extension)
    }

    fn storage(&self, entry: u16) -> Option<Edge> {
        let at = self.storages.binary_search_by_key(&entry, |(entry, _)| *entry).ok()?;
        self.storages.get(at).map(|(_, edge)| *edge)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Leaf { entry: u16, from: u16 },
    Account { entry: u16, from: u16 },
    Branch(u16),
    Extension { slot: u32, from: u16, to: u16, target: Target },
}

#[derive(Clone, Copy)]
struct Job {
    page: u32,
    kind: Kind,
    is_root: bool,
}

/// One computation. References, branches and edges of all pages stand in arenas, so that a page costs no
/// allocation of its own.
struct Run<'a> {
    shape: Shape,
    pages: Vec<Work<'a>>,
    refs: Vec<NodeRef>,
    branches: Vec<Branch>,
    edges: Vec<Edge>,
    /// For each edge, the extension over it.
    edge_extensions: Vec<u32>,
    extensions: Vec<NodeRef>,
    levels: Vec<Vec<Job>>,
    scratch: carry::Scratch,
}

type Queue = VecDeque<(u64, Option<(usize, usize)>, usize)>;

/// Where an edge is met, on the way down.
#[derive(Clone, Copy)]
struct At {
    page: usize,
    level: usize,
    is_root: bool,
}

impl<'a> Run<'a> {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            pages: Vec::new(),
            refs: Vec::new(),
            branches: Vec::new(),
            edges: Vec::new(),
            edge_extensions: Vec::new(),
            extensions: Vec::new(),
            levels: Vec::new(),
            scratch: carry::Scratch::default(),
        }
    }

    /// Adds a page; with `pages` given, with the references that it shares with its hashed ancestors.
    fn add(
        &mut self,
        reference: u64,
        page: Page<'a>,
        parent: Option<(usize, usize)>,
        pages: Option<&impl Pages>,
    ) -> usize {
        let mut structure = core::mem::take(&mut self.scratch.structure);
        structure.fill(page);
        let first = self.refs.len();
        self.refs.resize(first + page.len() + structure.branches.len(), UNKNOWN);
        if let Some(pages) = pages {
            let refs = self.refs.get_mut(first..).unwrap_or_default();
            carry::carry(pages, page, &structure, refs, &mut self.scratch);
        }
        let first_branch = self.branches.len();
        let first_edge = self.edges.len();
        self.branches.extend_from_slice(&structure.branches);
        self.edges.extend_from_slice(&structure.edges);
        self.edge_extensions.resize(self.edges.len(), NO_EXTENSION);
        self.pages.push(Work {
            reference,
            page,
            refs: first..self.refs.len(),
            branches: first_branch..self.branches.len(),
            first_edge,
            top: structure.top,
            storages: core::mem::take(&mut structure.storages),
            side_extensions: Vec::new(),
            parent,
        });
        self.scratch.structure = structure;
        self.pages.len() - 1
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "pages are only ever added, and named by the index `add` gave"
    )]
    fn page(&self, at: usize) -> &Work<'a> {
        &self.pages[at]
    }

    fn branch(&self, work: &Work<'_>, branch: u16) -> Option<Branch> {
        self.branches.get(work.branches.start + usize::from(branch)).copied()
    }

    fn get(&self, work: &Work<'_>, index: usize) -> NodeRef {
        self.refs.get(work.refs.start + index).copied().unwrap_or(UNKNOWN)
    }

    fn set(&mut self, at: usize, index: usize, node: NodeRef) {
        let place = self.page(at).refs.start + index;
        if let Some(slot) = self.refs.get_mut(place) {
            *slot = node;
        }
    }

    fn push(&mut self, level: usize, job: Job) {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        if let Some(jobs) = self.levels.get_mut(level) {
            jobs.push(job);
        }
    }

    /// Where the extension over `edge` ends, if there is one.
    fn extension_end(&self, at: usize, edge: &Edge) -> Option<u16> {
        let work = self.page(at);
        let end = match edge.target {
            Target::Branch(branch) => self.branch(work, branch)?.depth,
            Target::Entry(entry) => {
                let head = work.page.head(usize::from(entry));
                if !head.is_child() && !head.is_blinded() {
                    return None;
                }
                head.end as u16
            }
        };
        (end > edge.from).then_some(end)
    }

    /// The first entry below `target`: its path is that of all.
    fn first_entry(&self, work: &Work<'_>, target: Target) -> usize {
        match target {
            Target::Entry(entry) => usize::from(entry),
            Target::Branch(branch) => self.branch(work, branch).map_or(0, |branch| usize::from(branch.low)),
        }
    }

    /// Walks the structure of page `at` and puts every node without a reference on its level.
    fn schedule(
        &mut self,
        pages: &impl Pages,
        at: usize,
        level: usize,
        is_root: bool,
        queue: &mut Queue,
    ) -> Result<(), HashError> {
        let Some(top) = self.page(at).top else { return Ok(()) };
        let place = At { page: at, level, is_root };
        if !is_root {
            return self.target(pages, place, top, 0, queue);
        }
        let edge = Edge { from: 0, nibble: 0, target: top };
        if let Some(slot) = self.edge(pages, place, &edge, queue)? {
            self.side_extension(at, TOP, slot);
        }
        Ok(())
    }

    fn side_extension(&mut self, at: usize, owner: u16, slot: u32) {
        if let Some(work) = self.pages.get_mut(at) {
            work.side_extensions.push((owner, slot));
        }
    }

    /// Schedules the extension over `edge`, if there is one, and what the edge leads to.
    fn edge(
        &mut self,
        pages: &impl Pages,
        at: At,
        edge: &Edge,
        queue: &mut Queue,
    ) -> Result<Option<u32>, HashError> {
        let Some(to) = self.extension_end(at.page, edge) else {
            self.target(pages, at, edge.target, edge.from, queue)?;
            return Ok(None);
        };
        let slot = self.extensions.len() as u32;
        self.extensions.push(UNKNOWN);
        let kind = Kind::Extension { slot, from: edge.from, to, target: edge.target };
        self.push(at.level, Job { page: at.page as u32, kind, is_root: at.is_root });
        let below = At { level: at.level + 1, is_root: false, ..at };
        self.target(pages, below, edge.target, edge.from, queue)?;
        Ok(Some(slot))
    }

    fn target(
        &mut self,
        pages: &impl Pages,
        at: At,
        target: Target,
        from: u16,
        queue: &mut Queue,
    ) -> Result<(), HashError> {
        let work = self.page(at.page);
        let index = work.index(target);
        if self.get(work, index) != UNKNOWN {
            return Ok(());
        }
        let job = |kind| Job { page: at.page as u32, kind, is_root: at.is_root };
        let entry = match target {
            Target::Branch(branch) => {
                self.push(at.level, job(Kind::Branch(branch)));
                return self.branch_edges(pages, at, branch, queue);
            }
            Target::Entry(entry) => entry,
        };
        match work.page.entry(usize::from(entry)).item {
            Item::Leaf { .. } => self.push(at.level, job(Kind::Leaf { entry, from })),
            Item::Account { .. } => {
                let storage = work.storage(entry);
                self.push(at.level, job(Kind::Account { entry, from }));
                let below = At { level: at.level + 1, is_root: true, ..at };
                if let Some(edge) = storage
                    && let Some(slot) = self.edge(pages, below, &edge, queue)?
                {
                    self.side_extension(at.page, entry, slot);
                }
            }
            Item::Blinded { node, is_branch } => {
                // Its path says where its edge begins; only over a branch can there be a longer one.
                if !is_branch && work.page.head(usize::from(entry)).end != usize::from(from) {
                    return Err(HashError::Blinded);
                }
                self.set(at.page, index, node);
            }
            Item::Child { reference } => {
                if let Some(node) = pages.refs(reference).and_then(|refs| refs.last()) {
                    self.set(at.page, index, *node);
                } else if pages.page(reference).is_some() {
                    queue.push_back((reference, Some((at.page, index)), at.level));
                } else {
                    let node = pages.top(reference).ok_or(HashError::MissingPage(reference))?;
                    self.set(at.page, index, node);
                }
            }
        }
        Ok(())
    }

    fn branch_edges(
        &mut self,
        pages: &impl Pages,
        at: At,
        branch: u16,
        queue: &mut Queue,
    ) -> Result<(), HashError> {
        let work = self.page(at.page);
        let Some(branch) = self.branch(work, branch) else { return Ok(()) };
        let first = work.first_edge + branch.first_edge as usize;
        let below = At { level: at.level + 1, is_root: false, ..at };
        for place in first..first + branch.edges as usize {
            let Some(edge) = self.edges.get(place).copied() else { continue };
            if let Some(slot) = self.edge(pages, below, &edge, queue)?
                && let Some(extension) = self.edge_extensions.get_mut(place)
            {
                *extension = slot;
            }
        }
        Ok(())
    }

    /// Encodes and hashes level by level, the deepest first.
    fn compute<S: Scheme>(&mut self) -> Result<(u64, u64), HashError> {
        let mut batch = Encoded::default();
        let mut refs = Vec::new();
        let (mut nodes, mut bytes) = (0, 0);
        while let Some(jobs) = self.levels.pop() {
            batch.clear();
            refs.clear();
            for job in &jobs {
                self.encode::<S>(job, &mut batch.bytes)?;
                batch.end(job.is_root);
            }
            nodes += batch.len() as u64;
            bytes += batch.bytes.len() as u64;
            S::reference(&batch, &mut refs);
            for (job, node) in jobs.iter().zip(&refs) {
                self.finish(job, *node);
            }
        }
        Ok((nodes, bytes))
    }

    fn finish(&mut self, job: &Job, node: NodeRef) {
        let at = job.page as usize;
        let index = match job.kind {
            Kind::Branch(branch) => self.page(at).index(Target::Branch(branch)),
            Kind::Leaf { entry, .. } | Kind::Account { entry, .. } => usize::from(entry),
            Kind::Extension { slot, .. } => {
                if let Some(extension) = self.extensions.get_mut(slot as usize) {
                    *extension = node;
                }
                return;
            }
        };
        self.set(at, index, node);
        if index + 1 == self.page(at).refs.len() {
            self.tell_parent(at);
        }
    }

    /// Hands the reference of page `at` to its entry in the parent page.
    fn tell_parent(&mut self, at: usize) {
        let work = self.page(at);
        let last = work.refs.len().checked_sub(1).map(|last| self.get(work, last));
        if let (Some((parent, entry)), Some(node)) = (work.parent, last)
            && parent < self.pages.len()
        {
            self.set(parent, entry, node);
        }
    }

    fn encode<S: Scheme>(&self, job: &Job, out: &mut Vec<u8>) -> Result<(), HashError> {
        let work = self.page(job.page as usize);
        match job.kind {
            Kind::Leaf { entry, from } => {
                encode_leaf::<S>(work.page, self.shape, usize::from(entry), usize::from(from), None, out)?;
            }
            Kind::Account { entry, from } => {
                let root = match work.storage(entry) {
                    Some(edge) => self.side_ref(work, entry, edge.target).as_hash().unwrap_or_default(),
                    None => S::empty_root(),
                };
                let index = usize::from(entry);
                encode_leaf::<S>(work.page, self.shape, index, usize::from(from), Some(root), out)?;
            }
            Kind::Extension { from, to, target, .. } => {
                let first = self.first_entry(work, target);
                let path = path_of(work.page, first, usize::from(from), usize::from(to));
                S::encode_extension(path, &self.get(work, work.index(target)), out);
            }
            Kind::Branch(branch) => {
                let Some(branch) = self.branch(work, branch) else { return Ok(()) };
                let mut children = [None; 16];
                let first = work.first_edge + branch.first_edge as usize;
                for place in first..first + branch.edges as usize {
                    let Some(edge) = self.edges.get(place) else { continue };
                    let slot = self.edge_extensions.get(place).copied().unwrap_or(NO_EXTENSION);
                    let node = match self.extensions.get(slot as usize) {
                        Some(node) => *node,
                        None => self.get(work, work.index(edge.target)),
                    };
                    if let Some(child) = children.get_mut(usize::from(edge.nibble)) {
                        *child = Some(node);
                    }
                }
                S::encode_branch(&children, branch_value(work.page, branch.value), out);
            }
        }
        Ok(())
    }

    /// What an edge below no branch holds: that of account `owner`, or the one at the very top.
    fn side_ref(&self, work: &Work<'_>, owner: u16, target: Target) -> NodeRef {
        match work.side_extension(owner).and_then(|slot| self.extensions.get(slot as usize)) {
            Some(node) => *node,
            None => self.get(work, work.index(target)),
        }
    }

    /// The reference of the first page as the root of a trie, its top extension included.
    fn root(&self) -> Option<NodeRef> {
        let work = self.pages.first()?;
        Some(self.side_ref(work, TOP, work.top?))
    }

    /// The references of page `at`, as they are kept beside it. A root page has one more, the root itself.
    fn taken(&self, at: usize, root: Option<NodeRef>) -> Vec<NodeRef> {
        let refs = self.refs.get(self.page(at).refs.clone()).unwrap_or_default();
        let mut out = Vec::with_capacity(refs.len() + usize::from(root.is_some()));
        out.extend_from_slice(refs);
        out.extend(root);
        out
    }
}

/// Appends the encoding of leaf or account entry `index` whose edge begins at nibble `from`.
pub(crate) fn encode_leaf<S: Scheme>(
    page: Page<'_>,
    shape: Shape,
    index: usize,
    from: usize,
    storage_root: Option<B256>,
    out: &mut Vec<u8>,
) -> Result<(), HashError> {
    let entry = page.entry(index);
    let path = path_of(page, index, from, entry.end);
    match entry.item {
        Item::Leaf { value, .. } if shape.is_slot(entry.end) => {
            S::encode_leaf(path, LeafValue::Slot(value), out)
        }
        Item::Leaf { value, .. } => S::encode_leaf(path, LeafValue::Raw(value), out),
        Item::Account { body, .. } => {
            let account = Account::decode(body).ok_or(HashError::BadAccount(body.len()))?;
            let root = storage_root.unwrap_or(S::empty_root());
            S::encode_leaf(path, LeafValue::Account(&account, root), out);
        }
        Item::Child { .. } | Item::Blinded { .. } => {}
    }
    Ok(())
}

/// The value of a branch at which a key ends.
pub(crate) fn branch_value(page: Page<'_>, entry: Option<u16>) -> Option<&[u8]> {
    match page.entry(usize::from(entry?)).item {
        Item::Leaf { value, .. } => Some(value),
        _ => None,
    }
}
