//! The branches of a page: what follows from its entries' paths.

use alloc::vec::Vec;

use crate::page::{ACCOUNT_DEPTH, Entry, Item, Page};
use crate::path::{self, Path};

/// Where an edge of the trie leads, inside one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An entry: a leaf, an account, a child page or a blinded node.
    Entry(u16),
    /// A branch of this page, by its place in post-order.
    Branch(u16),
}

/// An edge below a branch, an account or the root. The path from `from` to the target's own branching depth is
/// an extension; the path from `from` to the end of a leaf belongs to the leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    /// Nibble depth at which the edge begins.
    pub(crate) from: usize,
    /// The nibble that leads here from the branch above.
    pub(crate) nibble: u8,
    /// What is there.
    pub(crate) target: Target,
}

/// A branch over the entries `low..high`.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) low: u16,
    pub(crate) high: u16,
    /// Nibble depth at which its children part.
    pub(crate) depth: usize,
    /// The entry whose key ends here.
    pub(crate) value: Option<u16>,
    first_edge: u32,
    edges: u32,
}

/// The structure of a page.
#[derive(Debug)]
pub(crate) struct Structure {
    /// Nibbles (from the root of the trie) that entry i shares with entry i + 1.
    pub(crate) shared: Vec<usize>,
    /// Post-order: children before parents.
    pub(crate) branches: Vec<Branch>,
    edges: Vec<Edge>,
    /// The edges below accounts, by the account's entry.
    storages: Vec<(u16, Edge)>,
    /// What the whole page comes to; `None` for an empty page.
    pub(crate) top: Option<Target>,
}

impl Structure {
    /// Works out the structure of `page`: linear in its entries.
    pub(crate) fn new(page: Page<'_>) -> Self {
        let len = page.len();
        let mut this = Self {
            shared: shared_prefixes(page),
            branches: Vec::new(),
            edges: Vec::new(),
            storages: Vec::new(),
            top: None,
        };
        if len > 0 {
            this.top = Some(this.node(page, 0, len));
        }
        this.storages.sort_unstable_by_key(|(entry, _)| *entry);
        this
    }

    /// The edges below `branch`.
    pub(crate) fn edges(&self, branch: &Branch) -> &[Edge] {
        let first = branch.first_edge as usize;
        self.edges.get(first..first + branch.edges as usize).unwrap_or_default()
    }

    /// Index of the first edge of `branch` among all edges of the page.
    pub(crate) fn first_edge(&self, branch: &Branch) -> usize {
        branch.first_edge as usize
    }

    /// How many edges the branches of the page have together.
    pub(crate) fn edge_count(&self) -> usize {
        self.edges.len()
    }

    /// The edge from account entry `entry` to its storage, if any of it is in this page or below it.
    pub(crate) fn storage(&self, entry: u16) -> Option<Edge> {
        let at = self.storages.binary_search_by_key(&entry, |(entry, _)| *entry).ok()?;
        self.storages.get(at).map(|(_, edge)| *edge)
    }

    /// The nibble depth at which the edge to entry `entry` begins, as far as this page tells (0 for the
    /// only entry of a root).
    pub(crate) fn edge_from(&self, page: Page<'_>, entry: usize) -> usize {
        let left = entry.checked_sub(1).and_then(|gap| self.shared.get(gap));
        let right = self.shared.get(entry);
        // Between an account and its storage there is no branch: the edge below it begins at the boundary.
        let below = page.entry(entry).below;
        let account = matches!(page.entry(entry).item, Item::Account { .. });
        let side = |shared: Option<&usize>| shared.copied().map_or(0, |s| s + 1);
        if below {
            let previous_is_account = entry.checked_sub(1).is_some_and(|i| !page.entry(i).below);
            let left = if previous_is_account { 0 } else { side(left) };
            let right = if page.entry(entry + 1).below && entry + 1 < page.len() { side(right) } else { 0 };
            return left.max(right).max(ACCOUNT_DEPTH);
        }
        let right = if account { side(self.shared.get(page.account_end(entry) - 1)) } else { side(right) };
        side(left).max(right)
    }

    fn node(&mut self, page: Page<'_>, low: usize, high: usize) -> Target {
        let first = page.entry(low);
        if high - low == 1 {
            return Target::Entry(low as u16);
        }
        let gaps = self.shared.get(low..high - 1).unwrap_or_default();
        let depth = gaps.iter().copied().min().unwrap_or_default();
        if depth >= ACCOUNT_DEPTH && matches!(first.item, Item::Account { .. }) {
            let target = self.node(page, low + 1, high);
            self.storages.push((low as u16, Edge { from: ACCOUNT_DEPTH, nibble: 0, target }));
            return Target::Entry(low as u16);
        }
        let value = (first.end == depth && !first.is_child()).then_some(low as u16);
        let mut edges = Vec::with_capacity(16);
        let mut start = if value.is_some() { low + 1 } else { low };
        while start < high {
            let mut end = start + 1;
            while end < high && self.shared.get(end - 1).is_some_and(|shared| *shared > depth) {
                end += 1;
            }
            let nibble = nibble_of(page, start, depth);
            let target = self.node(page, start, end);
            edges.push(Edge { from: depth + 1, nibble, target });
            start = end;
        }
        self.branches.push(Branch {
            low: low as u16,
            high: high as u16,
            depth,
            value,
            first_edge: self.edges.len() as u32,
            edges: edges.len() as u32,
        });
        self.edges.append(&mut edges);
        Target::Branch((self.branches.len() - 1) as u16)
    }
}

/// Nibble of the whole path at which `entry.tail` starts.
pub(crate) fn tail_start(page: Page<'_>, entry: &Entry<'_>) -> usize {
    if entry.below { ACCOUNT_DEPTH } else { page.depth() & !1 }
}

/// The nibbles `from..to` of the whole path of entry `index`; `from` must not lie above the page (or, for an
/// entry below an account, above the boundary).
pub(crate) fn path_of<'a>(page: Page<'a>, index: usize, from: usize, to: usize) -> Path<'a> {
    let entry = page.entry(index);
    let start = tail_start(page, &entry);
    Path::range(entry.tail, from.saturating_sub(start), to.min(entry.end).saturating_sub(start))
}

fn nibble_of(page: Page<'_>, index: usize, depth: usize) -> u8 {
    let entry = page.entry(index);
    path::nibble(entry.tail, depth - tail_start(page, &entry).min(depth))
}

fn shared_prefixes(page: Page<'_>) -> Vec<usize> {
    let len = page.len();
    let mut shared = Vec::with_capacity(len.saturating_sub(1));
    if len == 0 {
        return shared;
    }
    let mut previous = page.entry(0);
    let mut account = previous;
    for index in 1..len {
        let entry = page.entry(index);
        shared.push(if !entry.below {
            let (a, start) = (if previous.below { account } else { previous }, page.depth() & !1);
            let from = page.depth() % 2;
            let to = a.end.min(entry.end) - start;
            page.depth() + path::common_prefix(a.tail, entry.tail, from, to)
        } else if previous.below {
            let to = previous.end.min(entry.end) - ACCOUNT_DEPTH;
            ACCOUNT_DEPTH + path::common_prefix(previous.tail, entry.tail, 0, to)
        } else {
            ACCOUNT_DEPTH
        });
        if !entry.below {
            account = entry;
        }
        previous = entry;
    }
    shared
}
