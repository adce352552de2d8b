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
    pub(super) page: Page<'p>,
    pub(super) shape: Shape,
    pub(super) carry: Carry<'p>,
    /// The child pages that are not carried, by entry.
    pub(super) children: &'c [(u16, Value)],
    /// Where its references begin among those of all pages.
    pub(super) base: usize,
    /// Branches so far.
    pub(super) branches: usize,
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

/// A node that was met.
#[derive(Clone, Copy)]
struct Node {
    /// Its place among the references of its page: where its own is, unless it is pending.
    index: usize,
    pending: Option<Pending>,
    /// Whether it is not what it was in the page that references are carried from.
    changed: bool,
    /// Its first entry, whose path is that of all below.
    first: usize,
    /// The nibble depth at which it branches; of a leaf 0, for there is no extension over it.
    end: usize,
}

/// The end of an entry that was not looked at.
const LATER: usize = usize::MAX;

/// Where a child's reference is, if not among those of its page: nowhere, or beside them.
const NO_SLOT: usize = usize::MAX;
const EXTENDED: usize = usize::MAX - 1;

impl Node {
    /// An entry that is what it was.
    fn same(index: usize, end: usize) -> Self {
        Self { index, pending: None, changed: false, first: index, end }
    }

    /// An entry that is not.
    fn changed(index: usize, end: usize, value: Value) -> Self {
        Self { pending: value.pending(), changed: true, ..Self::same(index, end) }
    }
}

/// A branch that may get more children.
struct Open {
    depth: usize,
    low: usize,
    /// The entry whose key ends at it.
    value: Option<usize>,
    /// Its first child among the nodes.
    nodes: usize,
}

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

impl Sheet<'_, '_> {
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
        let mut left = None;
        let mut low = span.low;
        loop {
            let end = self.end_of(low);
            let right = (end < span.high).then(|| self.page.shared(end - 1));
            let from = left.max(right).map_or(span.from, |depth: usize| depth + 1);
            let is_root = span.is_root && left.is_none() && right.is_none();
            // A key that ends where others part is the value of the branch there, and no node.
            let is_value = self.page.has_prefixes()
                && right > left
                && right.is_some_and(|depth| self.ends_at(low, depth));
            let mut node = if is_value {
                Node::same(low, 0)
            } else {
                self.entry::<S>(low..end, from, is_root, stacks, jobs)?
            };
            let mut opens = right > left;
            loop {
                let depth = right.unwrap_or_default();
                if opens {
                    let value = (is_value && node.index == low).then_some(low);
                    stacks.open.push(Open { depth, low: node.first, value, nodes: stacks.nodes.len() });
                    if value.is_none() {
                        stacks.nodes.push(node);
                    }
                } else if stacks.open.len() > bottom {
                    stacks.nodes.push(node);
                } else {
                    return Ok(node);
                }
                let Some(open) = stacks.open.pop_if(|open| right.is_none_or(|right| open.depth > right)) else {
                    break;
                };
                let is_top = stacks.open.len() == bottom && right.is_none();
                let is_root = span.is_root && is_top && open.depth == span.from;
                node = self.close::<S>(&open, end, is_root, stacks, jobs);
                stacks.nodes.truncate(open.nodes);
                let above = stacks.open.get(bottom..).and_then(|open| open.last()).map(|open| open.depth);
                opens = right.is_some() && above.is_none_or(|above| Some(above) < right);
            }
            (left, low) = (right, end);
        }
    }

    /// The first entry after `index` that is not below it.
    fn end_of(&self, index: usize) -> usize {
        if self.page.has_accounts() && self.page.head(index).is_account() {
            self.page.account_end(index)
        } else {
            index + 1
        }
    }

    /// The nibble depth at which the node of an entry branches; of a leaf 0.
    fn branching(&self, index: usize) -> usize {
        let head = self.page.head(index);
        if head.is_child() || head.is_blinded() { head.end } else { 0 }
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
        if self.carry.keeps(index) && !self.page.has_accounts() {
            return Ok(Node::same(index, if self.page.is_plain() { 0 } else { LATER }));
        }
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
                    Node::same(index, head.end)
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
            return Ok(Node { changed, ..Node::same(index, head.end) });
        }
        let storage = if head.is_account() {
            Some(self.storage::<S>(range.clone(), stacks, jobs)?)
        } else {
            None
        };
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
        let children = stacks.nodes.get(open.nodes..).unwrap_or_default();
        let node = |pending, changed| Node { index, pending, changed, first: open.low, end: open.depth };
        let unchanged = children.iter().all(|child| !child.changed)
            && open.value.is_none_or(|value| self.carry.entry(value, None).is_some());
        let carried =
            unchanged.then(|| self.carry.branch(self.page.len(), number, open.low, high)).flatten();
        if let Some(carried) = carried {
            jobs.set(slot, carried);
            return node(None, false);
        }
        let mut pending: [Option<Pending>; 16] = [None; 16];
        let mut slots = [NO_SLOT; 16];
        let mut extended = [NodeRef::ROOM; 16];
        for child in children {
            let nibble = usize::from(nibble_of(self.page, child.first, open.depth)) % 16;
            let end = if child.end == LATER { self.branching(child.first) } else { child.end };
            let (waiting, slot) = if end > open.depth + 1 {
                let value = self.over::<S>(child, open.depth + 1, false, jobs);
                if let Some(room) = extended.get_mut(nibble) {
                    *room = value.placeholder();
                }
                (value.pending(), EXTENDED)
            } else if child.pending.is_some() {
                (child.pending, EXTENDED)
            } else {
                (None, self.base + child.index)
            };
            if let (Some(place), Some(entry)) = (slots.get_mut(nibble), pending.get_mut(nibble)) {
                (*place, *entry) = (slot, waiting);
            }
        }
        let start = jobs.start();
        let value = branch_value(self.page, open.value);
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
            None => Value::Known(jobs.get(self.base + node.index)),
        };
        let end = if node.end == LATER { self.branching(node.first) } else { node.end };
        if end <= from {
            return value;
        }
        let path = path_of(self.page, node.first, from, end);
        let start = jobs.start();
        let place = S::encode_extension(path, &value.placeholder(), &mut jobs.bytes);
        jobs.end::<S>(start, None, is_root, node.pending.map(|pending| (pending, place)).into_iter())
    }
}
