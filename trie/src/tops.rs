//! The top of a trie: the references in its first two levels of branches.
//!
//! A proof needs the references beside its way. Those high up cover keys all over the trie; so whoever kept the top of a trie as it was
//! once, and has another trie that is the same below the way, makes the proof of then with few pages: the other trie's, with
//! the references of the top put in ([`put`]).
//!
//! Only a trie whose first two levels are full has a top: 16 branches of 16 children, each named by its hash. With keys that are hashed
//! that is any of some thousands of keys.

use alloc::vec::Vec;

use crate::levels::{Pages, Refs};
use crate::page::{Item, Page};
use crate::scheme::NodeRef;
use crate::structure::{Branch, Structure, Target, nibble_of};
use alloy_primitives::B256;

/// Nodes in the top: those below the root, and those below these.
pub const NODES: usize = 16 + 256;

/// The hashes of the nodes in the top of the trie under `root`, level by level, each by nibbles; `None` where the trie has not such a
/// top, or its pages are not there.
pub fn get(pages: &impl Pages, root: u64) -> Option<Vec<[u8; 32]>> {
    let (mut first, mut second) = (Vec::with_capacity(NODES), Vec::new());
    let (page, refs) = (pages.page(root)?, pages.refs(root)?);
    let structure = Structure::new(page);
    for (_, target) in full(page, &structure, structure.top?, 0)? {
        first.push(hash_of(page, refs, target)?);
        let mut take = |page: Page<'_>, refs: &Refs, structure: &Structure, target: Target| {
            for (_, target) in full(page, structure, target, 1)? {
                second.push(hash_of(page, refs, target)?);
            }
            Some(())
        };
        match child_of(page, target) {
            None => take(page, refs, &structure, target)?,
            Some(reference) => {
                let (page, refs) = (pages.page(reference)?, pages.refs(reference)?);
                let structure = Structure::new(page);
                take(page, refs, &structure, structure.top?)?;
            }
        }
    }
    first.append(&mut second);
    Some(first)
}

/// Puts the hashes of `top` into the references of a page: its own top, and what lies beside `ways`, each two nibbles. Of the rest of what is
/// not below the ways nothing may be asked any more. `root` is the hash of the root, for the root page. `None` where the page has not
/// the place for them.
pub fn put(
    page: Page<'_>,
    refs: &mut Refs,
    root: Option<B256>,
    top: &[[u8; 32]],
    ways: &[[u8; 2]],
) -> Option<()> {
    let structure = Structure::new(page);
    let (first, second) = top.split_at_checked(16)?;
    let mut below = Vec::with_capacity(16);
    match root {
        Some(root) => {
            for (nibble, target) in full(page, &structure, structure.top?, 0)? {
                set(page, refs, target, first.get(usize::from(nibble))?)?;
                if child_of(page, target).is_none() {
                    below.push((nibble, target));
                }
            }
            *refs.last_mut()? = NodeRef::hash(root);
        }
        None => {
            let nibble = nibble_of(page, 0, 0);
            set(page, refs, structure.top?, first.get(usize::from(nibble))?)?;
            below.push((nibble, structure.top?));
        }
    }
    for (nibble, target) in below {
        for (next, target) in full(page, &structure, target, 1)? {
            if !ways.contains(&[nibble, next]) {
                set(page, refs, target, second.get(usize::from(nibble) * 16 + usize::from(next))?)?;
            }
        }
    }
    Some(())
}

/// The page right below the root page that holds the branch at `nibble`; `None` where the root page holds that itself.
pub fn page_at(page: Page<'_>, nibble: u8) -> Option<u64> {
    let structure = Structure::new(page);
    let edges = full(page, &structure, structure.top?, 0)?;
    let (_, target) = edges.into_iter().find(|(other, _)| *other == nibble)?;
    child_of(page, target)
}

/// The children of the branch at `target`, which must part at nibble `depth`, have all 16 of them and no value, and none of them behind
/// an extension.
fn full(page: Page<'_>, structure: &Structure, target: Target, depth: u16) -> Option<Vec<(u8, Target)>> {
    let Target::Branch(at) = target else { return None };
    let branch: &Branch = structure.branches.get(usize::from(at))?;
    let edges = structure.edges(branch);
    if branch.depth != depth || branch.value.is_some() || edges.len() != 16 {
        return None;
    }
    let below = usize::from(depth) + 1;
    let is_near = |target: Target| match target {
        Target::Branch(at) => {
            structure.branches.get(usize::from(at)).is_some_and(|branch| usize::from(branch.depth) == below)
        }
        Target::Entry(entry) => {
            let entry = page.entry(usize::from(entry));
            !entry.is_child() || entry.end == below
        }
    };
    edges.iter().map(|edge| is_near(edge.target).then_some((edge.nibble, edge.target))).collect()
}

fn child_of(page: Page<'_>, target: Target) -> Option<u64> {
    let Target::Entry(entry) = target else { return None };
    match page.entry(usize::from(entry)).item {
        Item::Child { reference } => Some(reference),
        _ => None,
    }
}

fn index(page: Page<'_>, target: Target) -> usize {
    match target {
        Target::Entry(entry) => usize::from(entry),
        Target::Branch(branch) => page.len() + usize::from(branch),
    }
}

fn hash_of(page: Page<'_>, refs: &Refs, target: Target) -> Option<[u8; 32]> {
    refs.get(index(page, target))?.as_hash().map(|hash| hash.0)
}

fn set(page: Page<'_>, refs: &mut Refs, target: Target, hash: &[u8; 32]) -> Option<()> {
    *refs.get_mut(index(page, target))? = NodeRef::hash(B256::new(*hash));
    Some(())
}
