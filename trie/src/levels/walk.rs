//! One page: which of its nodes are to be hashed, and their encodings.
//!
//! The branches of a page follow from what neighbouring entries share, so one pass over the entries from left to right meets
//! every node after those below it, with a stack of the branches that are open.

use alloc::vec::Vec;

use super::carry::Carry;
use super::jobs::{Jobs, Pending, Value};
use super::{HashError, UNKNOWN, branch_value, encode_leaf};
use crate::page::{ACCOUNT_DEPTH, Item, Page, Shape};
use crate::scheme::{NodeRef, Scheme};
use crate::structure::{nibble_of, path_of};

/// A page on its way.
pub(super) struct Sheet<'p, 'c> {
    page: Page<'p>,
    shape: Shape,
    carry: Carry<'p>,
    /// The child pages that are not carried, by entry.
    children: &'c [(u16, Value)],
    /// Where its references begin among those of all pages.
    base: usize,
    /// Branches so far.
    branches: usize,
    /// The end of an entry that is kept where it is.
    kept_end: u16,
}

/// A part of a page that is a trie or the whole rest of one: entries `low..high`, reached by an edge that begins at nibble `from`.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) from: usize,
    /// Whether its topmost node is the root of a trie.
    pub(super) is_root: bool,
}

/// A node that was met. Small, for every entry of every page makes one.
#[derive(Clone, Copy)]
struct Node {
    /// Its place among the references of its page: where its own is, unless it is pending.
    index: u16,
    /// Its first entry, whose path is that of all below.
    first: u16,
    /// The nibble depth at which it branches; of a leaf 0, for there is no extension over it.
    end: u16,
    /// Whether it is not what it was in the page that references are carried from.
    changed: bool,
    pending: Option<Pending>,
}

/// The end of an entry that was not looked at.
const LATER: u16 = u16::MAX;

/// Where a child's reference is, if not among those of its page: nowhere, or beside them.
const NO_SLOT: usize = usize::MAX;
const EXTENDED: usize = usize::MAX - 1;

impl Node {
    /// An entry that is what it was.
    #[inline]
    fn same(index: usize, end: u16) -> Self {
        Self { index: index as u16, first: index as u16, end, changed: false, pending: None }
    }

    /// An entry that is not.
    fn changed(index: usize, end: usize, value: Value) -> Self {
        Self { pending: value.pending(), changed: true, ..Self::same(index, end as u16) }
    }
}

/// A branch that may get more children.
struct Open {
    /// Nibbles below the stem of the page at which it branches.
    gap: i32,
    low: u16,
    /// Whether some child so far is not what it was.
    changed: bool,
    /// The entry whose key ends at it.
    value: Option<u16>,
    /// Its first child among the nodes.
    nodes: usize,
}

/// Less than any gap: there is no neighbour on that side.
const NO_GAP: i32 = -1;

/// Memory that serves one page after the other.
#[derive(Default)]
pub(super) struct Stacks {
    open: Vec<Open>,
    nodes: Vec<Node>,
}

impl Stacks {
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.nodes.clear();
    }
}

impl<'p, 'c> Sheet<'p, 'c> {
    pub(super) fn new(
        page: Page<'p>,
        shape: Shape,
        carry: Carry<'p>,
        children: &'c [(u16, Value)],
        base: usize,
    ) -> Self {
        let kept_end = if page.is_inner() { LATER } else { 0 };
        Self { page, shape, carry, children, base, branches: 0, kept_end }
    }

    /// How many branches there were.
    pub(super) fn branches(&self) -> usize {
        self.branches
    }

    /// Encodes what is to be hashed of `span`, and gives what stands at its edge: the topmost node, or the extension over it.
    pub(super) fn edge<S: Scheme>(
        &mut self,
        span: Span,
        stacks: &mut Stacks,
        jobs: &mut Jobs,
    ) -> Result<(Value, bool), HashError> {
        let top = self.span::<S>(span, stacks, jobs)?;
        Ok((self.over::<S>(&top, span.from, span.is_root, jobs), top.changed))
    }

    fn span<S: Scheme>(
        &mut self,
        span: Span,
        stacks: &mut Stacks,
        jobs: &mut Jobs,
    ) -> Result<Node, HashError> {
        let bottom = stacks.open.len();
        let gaps = self.page.gaps();
        let depth = self.page.depth();
        let has_accounts = self.page.has_accounts();
        let mut left = NO_GAP;
        let mut low = span.low;
        loop {
            let end = if has_accounts { self.end_of(low) } else { low + 1 };
            let right = if end < span.high { gaps.get(end - 1) } else { NO_GAP };
            // A key that ends where others part is the value of the branch there, and no node.
            let is_value =
                self.page.has_prefixes() && right > left && self.ends_at(low, depth + right as usize);
            let mut node = if !has_accounts && self.carry.keeps(low) {
                Node::same(low, self.kept_end)
            } else if is_value {
                Node { changed: self.carry.entry(low, None).is_none(), ..Node::same(low, 0) }
            } else {
                let parting = left.max(right);
                let from = if parting == NO_GAP { span.from } else { depth + parting as usize + 1 };
                let is_root = span.is_root && parting == NO_GAP;
                self.entry::<S>(low..end, from, is_root, stacks, jobs)?
            };
            let mut value = is_value.then_some(low as u16);
            let mut opens = right > left;
            loop {
                if opens {
                    let nodes = stacks.nodes.len();
                    stacks.open.push(Open {
                        gap: right,
                        low: node.first,
                        changed: node.changed,
                        value,
                        nodes,
                    });
                    if value.take().is_none() {
                        stacks.nodes.push(node);
                    }
                } else if let Some(open) = stacks.open.get_mut(bottom..).and_then(<[Open]>::last_mut) {
                    open.changed |= node.changed;
                    stacks.nodes.push(node);
                } else {
                    return Ok(node);
                }
                let Some(open) = stacks.open.pop_if(|open| open.gap > right) else { break };
                let above =
                    stacks.open.get(bottom..).and_then(<[Open]>::last).map_or(NO_GAP, |open| open.gap);
                let is_top = above == NO_GAP && right == NO_GAP;
                let is_root = span.is_root && is_top && depth + open.gap as usize == span.from;
                node = self.close::<S>(&open, end, is_root, stacks, jobs);
                stacks.nodes.truncate(open.nodes);
                opens = above < right;
            }
            (left, low) = (right, end);
        }
    }

    /// The first entry after `index` that is not below it.
    fn end_of(&self, index: usize) -> usize {
        if self.page.head(index).is_account() { self.page.account_end(index) } else { index + 1 }
    }

    /// The nibble depth at which the node of an entry branches; of a leaf 0.
    fn branching(&self, index: u16) -> u16 {
        self.page.inner_end(usize::from(index)).unwrap_or(0)
    }

    /// Whether entry `index` is a key that ends at nibble `depth`.
    fn ends_at(&self, index: usize, depth: usize) -> bool {
        let head = self.page.head(index);
        head.end == depth && !head.is_child()
    }

    /// The node of an entry; `range` holds what lies below it, if it is an account, too.
    fn entry<S: Scheme>(
        &mut self,
        range: core::ops::Range<usize>,
        from: usize,
        is_root: bool,
        stacks: &mut Stacks,
        jobs: &mut Jobs,
    ) -> Result<Node, HashError> {
        let index = range.start;
        let slot = self.base + index;
        let head = self.page.head(index);
        if head.is_child() {
            let known = self.children.binary_search_by_key(&(index as u16), |(entry, _)| *entry).ok();
            return Ok(match known.and_then(|at| self.children.get(at)) {
                Some((_, value)) => {
                    jobs.keep_above(*value, slot);
                    Node::changed(index, head.end, *value)
                }
                None => {
                    jobs.set(slot, self.carry.entry(index, None).unwrap_or(UNKNOWN));
                    Node::same(index, head.end as u16)
                }
            });
        }
        if head.is_blinded()
            && let Item::Blinded { node, is_branch } = self.page.entry(index).item
        {
            // Its path says where its edge begins; only over a branch can there be a longer one.
            if !is_branch && head.end != from {
                return Err(HashError::Blinded);
            }
            jobs.set(slot, node);
            let changed = self.carry.entry(index, None).is_none();
            return Ok(Node { changed, ..Node::same(index, head.end as u16) });
        }
        let storage =
            if head.is_account() { Some(self.storage::<S>(range.clone(), stacks, jobs)?) } else { None };
        let carried = self.carry.entry(index, Some(from)).filter(|_| match storage {
            Some((_, changed)) => !changed && self.carry.has_same_storage(index, range.end),
            None => true,
        });
        if let Some(carried) = carried {
            jobs.set(slot, carried);
            return Ok(Node::same(index, 0));
        }
        let start = jobs.start();
        let root = storage.map(|(value, _)| value.placeholder().as_hash().unwrap_or_default());
        let place = encode_leaf::<S>(self.page, self.shape, index, from, root, &mut jobs.bytes)?;
        let below = storage.and_then(|(value, _)| value.pending()).map(|pending| (pending, place));
        Ok(Node::changed(index, 0, jobs.end::<S>(start, Some(slot), is_root, below.into_iter())))
    }

    /// The root of the storage of an account, and whether it changed.
    fn storage<S: Scheme>(
        &mut self,
        range: core::ops::Range<usize>,
        stacks: &mut Stacks,
        jobs: &mut Jobs,
    ) -> Result<(Value, bool), HashError> {
        if range.len() < 2 {
            return Ok((Value::Known(NodeRef::hash(S::empty_root())), false));
        }
        let span = Span { low: range.start + 1, high: range.end, from: ACCOUNT_DEPTH, is_root: true };
        self.edge::<S>(span, stacks, jobs)
    }

    /// The branch `open`, which has all its children.
    fn close<S: Scheme>(
        &mut self,
        open: &Open,
        high: usize,
        is_root: bool,
        stacks: &Stacks,
        jobs: &mut Jobs,
    ) -> Node {
        let number = self.branches;
        self.branches += 1;
        let index = self.page.len() + number;
        let slot = self.base + index;
        let depth = self.page.depth() + open.gap as usize;
        let node = |pending, changed| Node {
            index: index as u16,
            first: open.low,
            end: depth as u16,
            changed,
            pending,
        };
        if !open.changed && self.carry.has_branch(usize::from(open.low), high, slot, jobs) {
            return node(None, false);
        }
        let children = stacks.nodes.get(open.nodes..).unwrap_or_default();
        let mut pending: [Option<Pending>; 16] = [None; 16];
        let mut slots = [NO_SLOT; 16];
        let mut extended = [NodeRef::ROOM; 16];
        for child in children {
            let nibble = usize::from(nibble_of(self.page, usize::from(child.first), depth)) % 16;
            let end = if child.end == LATER { self.branching(child.first) } else { child.end };
            let (waiting, slot) = if usize::from(end) > depth + 1 {
                let value = self.over::<S>(child, depth + 1, false, jobs);
                if let Some(room) = extended.get_mut(nibble) {
                    *room = value.placeholder();
                }
                (value.pending(), EXTENDED)
            } else if child.pending.is_some() {
                (child.pending, EXTENDED)
            } else {
                (None, self.base + usize::from(child.index))
            };
            if let (Some(place), Some(entry)) = (slots.get_mut(nibble), pending.get_mut(nibble)) {
                (*place, *entry) = (slot, waiting);
            }
        }
        let start = jobs.start();
        let value = branch_value(self.page, open.value.map(usize::from));
        let Jobs { refs, bytes, .. } = jobs;
        let mut over = [None; 16];
        for ((over, slot), extended) in over.iter_mut().zip(slots).zip(&extended) {
            *over = match slot {
                NO_SLOT => None,
                EXTENDED => Some(extended),
                slot => Some(refs.get(slot).unwrap_or(extended)),
            };
        }
        let places = S::encode_branch_over(&over, value, bytes);
        let below = pending.iter().zip(places).filter_map(|(pending, place)| Some(((*pending)?, place)));
        node(jobs.end::<S>(start, Some(slot), is_root, below).pending(), true)
    }

    /// What the edge to `node` that begins at nibble `from` holds: an extension over it, where it branches further down.
    fn over<S: Scheme>(&self, node: &Node, from: usize, is_root: bool, jobs: &mut Jobs) -> Value {
        let value = match node.pending {
            Some(pending) => Value::Pending(pending),
            None => Value::Known(jobs.get(self.base + usize::from(node.index))),
        };
        let end = if node.end == LATER { self.branching(node.first) } else { node.end }.into();
        if end <= from {
            return value;
        }
        let path = path_of(self.page, usize::from(node.first), from, end);
        let start = jobs.start();
        let place = S::encode_extension(path, &value.placeholder(), &mut jobs.bytes);
        jobs.end::<S>(start, None, is_root, node.pending.map(|pending| (pending, place)).into_iter())
    }
}
