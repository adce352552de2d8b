//! The branches of a page: what follows from its entries' paths.

use alloc::vec::Vec;

use crate::page::{ACCOUNT_DEPTH, Head, Page};
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
    pub(crate) from: u16,
    /// The nibble that leads here from the branch above.
    pub(crate) nibble: u8,
    /// What is there.
    pub(crate) target: Target,
}

/// A branch over the entries `low..high`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch {
    pub(crate) low: u16,
    pub(crate) high: u16,
    /// Nibble depth at which its children part.
    pub(crate) depth: u16,
    /// The entry whose key ends here.
    pub(crate) value: Option<u16>,
    /// The first of its edges among all of the page.
    pub(crate) first_edge: u32,
    /// How many they are.
    pub(crate) edges: u32,
}

/// The structure of a page.
#[derive(Debug, Default)]
pub(crate) struct Structure {
    /// Post-order: children before parents.
    pub(crate) branches: Vec<Branch>,
    /// The edges of all branches.
    pub(crate) edges: Vec<Edge>,
    /// The edges below accounts, by the account's entry.
    pub(crate) storages: Vec<(u16, Edge)>,
    /// What the whole page comes to; `None` for an empty page.
    pub(crate) top: Option<Target>,
}

impl Structure {
    /// Works out the structure of `page`.
    pub(crate) fn new(page: Page<'_>) -> Self {
        let mut this = Self::default();
        if !page.is_empty() {
            this.top = Some(this.node(page, 0, page.len()));
        }
        this.storages.sort_unstable_by_key(|(entry, _)| *entry);
        this
    }

    /// The place in post-order of the branch over exactly the entries `low..high`, if there is one.
    pub(crate) fn branch_over(&self, low: u16, high: u16) -> Option<usize> {
        let order = |branch: &Branch| branch.high.cmp(&high).then(low.cmp(&branch.low));
        self.branches.binary_search_by(order).ok()
    }

    /// The edges below `branch`.
    pub(crate) fn edges(&self, branch: &Branch) -> &[Edge] {
        let first = branch.first_edge as usize;
        self.edges.get(first..first + branch.edges as usize).unwrap_or_default()
    }

    /// The edge from account entry `entry` to its storage, if any of it is in this page or below it.
    pub(crate) fn storage(&self, entry: u16) -> Option<Edge> {
        let at = self.storages.binary_search_by_key(&entry, |(entry, _)| *entry).ok()?;
        self.storages.get(at).map(|(_, edge)| *edge)
    }

    fn node(&mut self, page: Page<'_>, low: usize, high: usize) -> Target {
        if high - low == 1 {
            return Target::Entry(low as u16);
        }
        let depth = (low..high - 1).map(|gap| page.shared(gap)).min().unwrap_or_default() as u16;
        let first = page.head(low);
        if usize::from(depth) >= ACCOUNT_DEPTH && first.is_account() {
            let target = self.node(page, low + 1, high);
            self.storages.push((low as u16, Edge { from: ACCOUNT_DEPTH as u16, nibble: 0, target }));
            return Target::Entry(low as u16);
        }
        let value = (first.end == usize::from(depth) && !first.is_child()).then_some(low as u16);
        let mut edges = [Edge { from: depth + 1, nibble: 0, target: Target::Entry(0) }; 17];
        let mut count = 0;
        let mut start = if value.is_some() { low + 1 } else { low };
        while start < high {
            let mut end = start + 1;
            while end < high && page.shared(end - 1) > usize::from(depth) {
                end += 1;
            }
            if let Some(edge) = edges.get_mut(count) {
                edge.nibble = nibble_of(page, start, usize::from(depth));
                edge.target = self.node(page, start, end);
                count += 1;
            }
            start = end;
        }
        self.branches.push(Branch {
            low: low as u16,
            high: high as u16,
            depth,
            value,
            first_edge: self.edges.len() as u32,
            edges: count as u32,
        });
        self.edges.extend_from_slice(edges.get(..count).unwrap_or_default());
        Target::Branch((self.branches.len() - 1) as u16)
    }
}

/// Nibble of the whole path at which `entry.tail` starts.
fn tail_start(page: Page<'_>, entry: &Head<'_>) -> usize {
    if entry.below { ACCOUNT_DEPTH } else { page.depth() & !1 }
}

/// The nibbles `from..to` of the whole path of entry `index`; `from` must not lie above the page (or, for an
/// entry below an account, above the boundary).
pub(crate) fn path_of<'a>(page: Page<'a>, index: usize, from: usize, to: usize) -> Path<'a> {
    let entry = page.head(index);
    let start = tail_start(page, &entry);
    Path::range(entry.tail, from.saturating_sub(start), to.min(entry.end).saturating_sub(start))
}

/// Nibble `depth` of the path of entry `index`.
#[inline]
pub(crate) fn nibble_of(page: Page<'_>, index: usize, depth: usize) -> u8 {
    if let Some(nibble) = page.printed_nibble(index, depth) {
        return nibble;
    }
    let entry = page.head(index);
    path::nibble(entry.tail, depth - tail_start(page, &entry).min(depth))
}

/// The nibble depth at which the edge to entry `entry` begins, as far as `page` tells (0 for the only entry of a root).
pub(crate) fn edge_from(page: Page<'_>, entry: usize) -> usize {
    let side = |gap: Option<usize>| gap.map_or(0, |gap| page.shared(gap) + 1);
    let left = entry.checked_sub(1);
    let right = |last: usize| (last + 1 < page.len()).then_some(last);
    let head = page.head(entry);
    // Between an account and its storage there is no branch: the edge below it begins at the boundary.
    if head.below {
        let left = left.filter(|left| page.head(*left).below);
        let right = right(entry).filter(|entry| page.head(entry + 1).below);
        return side(left).max(side(right)).max(ACCOUNT_DEPTH);
    }
    let last = if head.is_account() { page.account_end(entry) - 1 } else { entry };
    side(left).max(side(right(last)))
}
