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

/// A branch over the entries from `low` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch {
    pub(crate) low: u16,
    #[cfg(test)]
    high: u16,
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
            #[cfg(test)]
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

/// The branches of a page in post-order, each as the entries `low..high` that it is over. Cheaper than a [`Structure`]: linear in
/// the entries, and no path is looked at.
pub(crate) fn branches(page: Page<'_>) -> Vec<(u16, u16)> {
    let mut out = Vec::with_capacity(page.len());
    let mut open: Vec<(usize, u16)> = Vec::new();
    span(page, 0, page.len(), &mut open, &mut out);
    out
}

fn span(page: Page<'_>, low: usize, high: usize, open: &mut Vec<(usize, u16)>, out: &mut Vec<(u16, u16)>) {
    let bottom = open.len();
    let mut at = low;
    while at < high {
        let mut end = at + 1;
        if page.has_accounts() && page.head(at).is_account() {
            end = page.account_end(at);
            span(page, at + 1, end, open, out);
        }
        let right = (end < high).then(|| page.shared(end - 1));
        // Where the node begins that `right` may be above: at this entry, or at the last branch that ended here.
        let mut first = at as u16;
        while let Some((_, from)) = open
            .get(bottom..)
            .and_then(|open| open.last())
            .copied()
            .filter(|(depth, _)| right.is_none_or(|right| *depth > right))
        {
            open.pop();
            out.push((from, end as u16));
            first = from;
        }
        let above = open.get(bottom..).and_then(|open| open.last()).map(|(depth, _)| *depth);
        if let Some(right) = right.filter(|right| above.is_none_or(|above| above < *right)) {
            open.push((right, first));
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Entry, Item, PageBuilder};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn branches_are_those_of_the_structure() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for round in 0..2_000 {
            // Few different bytes, so that much is shared; accounts with slots in every other round.
            let accounts = round % 2 == 1;
            let mut keys: Vec<Vec<u8>> = Vec::new();
            for _ in 0..random.random_range(1..20) {
                let mut bytes = |len: usize| -> Vec<u8> {
                    (0..len).map(|_| [0x00, 0x01, 0x10, 0x11][random.random_range(0..4)]).collect()
                };
                let account = if accounts { bytes(32) } else { bytes(4) };
                let slots: Vec<Vec<u8>> = (0..3).map(|_| [account.clone(), bytes(32)].concat()).collect();
                if accounts {
                    keys.extend(slots);
                }
                keys.push(account);
            }
            keys.sort();
            keys.dedup();
            let mut builder = PageBuilder::new(0);
            for key in &keys {
                let below = key.len() == 64;
                let item = if accounts && !below {
                    Item::Account { stamp: 1, wiped: 0, body: b"" }
                } else {
                    Item::Leaf { stamp: 1, value: b"v" }
                };
                let tail = if below { &key[32..] } else { &key[..] };
                builder.push(&Entry { below, end: key.len() * 2, tail, item });
            }
            let bytes = builder.finish();
            let page = Page::new(&bytes);
            let expected: Vec<_> =
                Structure::new(page).branches.iter().map(|branch| (branch.low, branch.high)).collect();
            assert_eq!(branches(page), expected, "{keys:x?}");
        }
    }
}
