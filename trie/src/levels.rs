//! Hashing by levels: all nodes of one depth that have no reference yet, from all pages, are encoded and
//! hashed together, the deepest first. A level is counted in edges from the root, through accounts into
//! their storage, so that a storage root is there before its account.
//!
//! What did not change since an older page whose references are known is taken over from there: an entry by
//! its path and its stamp (or child reference), a branch by the entries below it.

mod carry;

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use alloy_primitives::B256;
use thiserror::Error;

use crate::account::Account;
use crate::page::{Item, Page, Shape};
use crate::scheme::{Encoded, LeafValue, NodeRef, Scheme};
use crate::structure::{Edge, Structure, Target, path_of};

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
        let is_root = parent.is_none();
        let at = run.add(reference, page, parent);
        carry::carry(pages, run.page(at));
        // A page can be new and yet hold nothing new: a part that was cut off whole.
        run.tell_parent(at);
        run.schedule(pages, at, level, is_root, &mut queue)?;
    }
    let (nodes, bytes) = run.compute::<S>()?;
    let root = run.root::<S>();
    let pages = run.pages.into_iter().map(|page| (page.reference, page.refs)).collect();
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
    let at = run.add(0, page, (!is_root).then_some((usize::MAX, 0)));
    let work = run.page(at);
    let mut children = children.iter();
    for (index, entry) in page.entries().enumerate() {
        if let Item::Child { reference } = entry.item {
            let node = children.next().ok_or(HashError::MissingPage(reference))?;
            work.set(index, *node);
        }
    }
    run.schedule(&Nothing, at, 0, is_root, &mut VecDeque::new())?;
    run.compute::<S>()?;
    if is_root {
        run.root::<S>();
    }
    Ok(run.pages.pop().map(|page| page.refs).unwrap_or_default())
}

const UNKNOWN: NodeRef = NodeRef::UNKNOWN;
const NO_EXTENSION: u32 = u32::MAX;

/// A page on its way to having references.
struct Work<'a> {
    reference: u64,
    page: Page<'a>,
    structure: Structure,
    refs: Vec<NodeRef>,
    /// For each edge of the structure, the extension over it, if there is one.
    extensions: Vec<u32>,
    /// The same for the edges below accounts and for the top edge of a root (entry `u16::MAX`).
    side_extensions: Vec<(u16, u32)>,
    parent: Option<(usize, usize)>,
}

impl Work<'_> {
    fn set(&mut self, index: usize, node: NodeRef) {
        if let Some(slot) = self.refs.get_mut(index) {
            *slot = node;
        }
    }

    fn get(&self, index: usize) -> NodeRef {
        self.refs.get(index).copied().unwrap_or(UNKNOWN)
    }

    fn index(&self, target: Target) -> usize {
        match target {
            Target::Entry(entry) => usize::from(entry),
            Target::Branch(branch) => self.page.len() + usize::from(branch),
        }
    }

    fn side_extension(&self, entry: u16) -> Option<u32> {
        self.side_extensions.iter().find(|(owner, _)| *owner == entry).map(|(_, extension)| *extension)
    }

    /// Where the extension over `edge` ends, if there is one.
    fn extension_end(&self, edge: &Edge) -> Option<usize> {
        let end = match edge.target {
            Target::Branch(branch) => self.structure.branches.get(usize::from(branch))?.depth,
            Target::Entry(entry) => {
                let entry = self.page.entry(usize::from(entry));
                if !entry.is_child() {
                    return None;
                }
                entry.end
            }
        };
        (end > edge.from).then_some(end)
    }

    fn first_entry(&self, target: Target) -> usize {
        match target {
            Target::Entry(entry) => usize::from(entry),
            Target::Branch(branch) => {
                self.structure.branches.get(usize::from(branch)).map_or(0, |branch| usize::from(branch.low))
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Leaf { entry: u16, from: usize },
    Account { entry: u16, from: usize },
    Branch(u16),
    Extension { slot: u32, from: usize, to: usize, target: Target },
}

#[derive(Clone, Copy)]
struct Job {
    page: usize,
    kind: Kind,
    is_root: bool,
}

struct Run<'a> {
    shape: Shape,
    pages: Vec<Work<'a>>,
    levels: Vec<Vec<Job>>,
    extensions: Vec<NodeRef>,
}

type Queue = VecDeque<(u64, Option<(usize, usize)>, usize)>;

impl<'a> Run<'a> {
    fn new(shape: Shape) -> Self {
        Self { shape, pages: Vec::new(), levels: Vec::new(), extensions: Vec::new() }
    }

    fn add(&mut self, reference: u64, page: Page<'a>, parent: Option<(usize, usize)>) -> usize {
        let structure = Structure::new(page);
        let refs = vec![UNKNOWN; page.len() + structure.branches.len()];
        let extensions = vec![NO_EXTENSION; structure.edge_count()];
        self.pages.push(Work {
            reference,
            page,
            structure,
            refs,
            extensions,
            side_extensions: Vec::new(),
            parent,
        });
        self.pages.len() - 1
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "pages are only ever added, and named by the index `add` gave"
    )]
    fn page(&mut self, at: usize) -> &mut Work<'a> {
        &mut self.pages[at]
    }

    fn push(&mut self, level: usize, job: Job) {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        if let Some(jobs) = self.levels.get_mut(level) {
            jobs.push(job);
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
        let Some(top) = self.page(at).structure.top else { return Ok(()) };
        if is_root {
            let edge = Edge { from: 0, nibble: 0, target: top };
            let slot = self.edge(pages, at, &edge, level, true, queue)?;
            if let Some(slot) = slot {
                self.page(at).side_extensions.push((u16::MAX, slot));
            }
        } else {
            self.target(pages, at, top, 0, level, false, queue)?;
        }
        Ok(())
    }

    /// Schedules the extension over `edge`, if there is one, and what the edge leads to.
    fn edge(
        &mut self,
        pages: &impl Pages,
        at: usize,
        edge: &Edge,
        level: usize,
        is_root: bool,
        queue: &mut Queue,
    ) -> Result<Option<u32>, HashError> {
        let Some(to) = self.page(at).extension_end(edge) else {
            self.target(pages, at, edge.target, edge.from, level, is_root, queue)?;
            return Ok(None);
        };
        let slot = self.extensions.len() as u32;
        self.extensions.push(UNKNOWN);
        let kind = Kind::Extension { slot, from: edge.from, to, target: edge.target };
        self.push(level, Job { page: at, kind, is_root });
        self.target(pages, at, edge.target, edge.from, level + 1, false, queue)?;
        Ok(Some(slot))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one private step of a walk; a struct would only rename them"
    )]
    fn target(
        &mut self,
        pages: &impl Pages,
        at: usize,
        target: Target,
        from: usize,
        level: usize,
        is_root: bool,
        queue: &mut Queue,
    ) -> Result<(), HashError> {
        let work = self.page(at);
        let index = work.index(target);
        if work.get(index) != UNKNOWN {
            return Ok(());
        }
        match target {
            Target::Branch(branch) => {
                self.push(level, Job { page: at, kind: Kind::Branch(branch), is_root });
                self.branch_edges(pages, at, branch, level + 1, queue)
            }
            Target::Entry(entry) => match work.page.entry(usize::from(entry)).item {
                Item::Leaf { .. } => {
                    self.push(level, Job { page: at, kind: Kind::Leaf { entry, from }, is_root });
                    Ok(())
                }
                Item::Account { .. } => {
                    self.push(level, Job { page: at, kind: Kind::Account { entry, from }, is_root });
                    let Some(edge) = self.page(at).structure.storage(entry) else { return Ok(()) };
                    if let Some(slot) = self.edge(pages, at, &edge, level + 1, true, queue)? {
                        self.page(at).side_extensions.push((entry, slot));
                    }
                    Ok(())
                }
                Item::Blinded { node } => {
                    work.set(index, node);
                    Ok(())
                }
                Item::Child { reference } => {
                    if let Some(node) = pages.refs(reference).and_then(|refs| refs.last()) {
                        work.set(index, *node);
                    } else if pages.page(reference).is_some() {
                        queue.push_back((reference, Some((at, index)), level));
                    } else {
                        let node = pages.top(reference).ok_or(HashError::MissingPage(reference))?;
                        work.set(index, node);
                    }
                    Ok(())
                }
            },
        }
    }

    fn branch_edges(
        &mut self,
        pages: &impl Pages,
        at: usize,
        branch: u16,
        level: usize,
        queue: &mut Queue,
    ) -> Result<(), HashError> {
        let structure = &self.page(at).structure;
        let Some(branch) = structure.branches.get(usize::from(branch)) else { return Ok(()) };
        let first = structure.first_edge(branch);
        let edges: Vec<Edge> = structure.edges(branch).to_vec();
        for (offset, edge) in edges.iter().enumerate() {
            if let Some(slot) = self.edge(pages, at, edge, level, false, queue)?
                && let Some(extension) = self.page(at).extensions.get_mut(first + offset)
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
        if let Kind::Extension { slot, .. } = job.kind {
            if let Some(extension) = self.extensions.get_mut(slot as usize) {
                *extension = node;
            }
            return;
        }
        let work = self.page(job.page);
        let index = match job.kind {
            Kind::Branch(branch) => work.index(Target::Branch(branch)),
            Kind::Leaf { entry, .. } | Kind::Account { entry, .. } => usize::from(entry),
            Kind::Extension { .. } => return,
        };
        work.set(index, node);
        if index + 1 == work.refs.len() {
            self.tell_parent(job.page);
        }
    }

    /// Hands the reference of page `at` to its entry in the parent page.
    fn tell_parent(&mut self, at: usize) {
        let work = self.page(at);
        if let (Some((parent, entry)), Some(node)) = (work.parent, work.refs.last().copied())
            && let Some(parent) = self.pages.get_mut(parent)
        {
            parent.set(entry, node);
        }
    }

    fn encode<S: Scheme>(&self, job: &Job, out: &mut Vec<u8>) -> Result<(), HashError> {
        let Some(work) = self.pages.get(job.page) else { return Ok(()) };
        match job.kind {
            Kind::Leaf { entry, from } => {
                let index = usize::from(entry);
                encode_leaf::<S>(work.page, self.shape, index, from, None, out)?;
            }
            Kind::Account { entry, from } => {
                let root = self.storage_root::<S>(work, entry);
                encode_leaf::<S>(work.page, self.shape, usize::from(entry), from, Some(root), out)?;
            }
            Kind::Extension { from, to, target, .. } => {
                let path = path_of(work.page, work.first_entry(target), from, to);
                S::encode_extension(path, &work.get(work.index(target)), out);
            }
            Kind::Branch(index) => {
                let Some(branch) = work.structure.branches.get(usize::from(index)) else { return Ok(()) };
                let first = work.structure.first_edge(branch);
                let mut children = [None; 16];
                for (offset, edge) in work.structure.edges(branch).iter().enumerate() {
                    let slot = work.extensions.get(first + offset).copied().unwrap_or(NO_EXTENSION);
                    let node = match self.extensions.get(slot as usize) {
                        Some(node) => *node,
                        None => work.get(work.index(edge.target)),
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

    fn storage_root<S: Scheme>(&self, work: &Work<'_>, entry: u16) -> B256 {
        let Some(edge) = work.structure.storage(entry) else { return S::empty_root() };
        let node = match work.side_extension(entry).and_then(|slot| self.extensions.get(slot as usize)) {
            Some(node) => *node,
            None => work.get(work.index(edge.target)),
        };
        node.as_hash().unwrap_or_default()
    }

    fn root<S: Scheme>(&mut self) -> B256 {
        let Some(work) = self.pages.first_mut() else { return S::empty_root() };
        let Some(top) = work.structure.top else { return S::empty_root() };
        let node = match work.side_extension(u16::MAX).and_then(|slot| self.extensions.get(slot as usize)) {
            Some(node) => *node,
            None => work.get(work.index(top)),
        };
        // The root page's own reference is the root itself, the extension above its top branch included.
        work.refs.push(node);
        node.as_hash().unwrap_or_default()
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
