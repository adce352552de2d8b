//! Making a witness: the nodes that a [`Partial`] trie needs to read some keys and to apply some changes.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use alloy_primitives::B256;

use crate::levels::{HashError, Pages};
use crate::op::{Body, Change, Op};
use crate::page::{ACCOUNT_BYTES, ACCOUNT_DEPTH, Shape};
use crate::partial::{Bounds, Partial, PartialError};
use crate::path::MAX_KEY_BYTES;
use crate::proof::prove::nodes_on_ways;
use crate::proof::{Flaw, ProofScheme};

/// The nodes of the trie under `root`, whose references must be known (see [`hash`](crate::levels::hash)), that are needed to
/// read `keys` (in the accounts shape those of accounts, of 32 bytes, and of slots, of 64), present or absent, and to
/// apply `ops` and compute the root after them. Each node once, a parent before what is below it, except that the siblings which removals
/// need come last. No node for an empty trie.
///
/// Cost: the pages on the ways, an encoding and a hash for each node; and if there are `ops`, applying them once to the nodes.
///
/// # Errors
///
/// A page on a way is missing or has no references; `ops` do not fit the trie.
pub fn witness<S: ProofScheme>(
    pages: &impl Pages,
    shape: Shape,
    root: Option<u64>,
    keys: &[&[u8]],
    ops: &[Op<'_>],
) -> Result<Vec<Vec<u8>>, PartialError> {
    let Some(reference) = root else { return Ok(Vec::new()) };
    let hash = pages.refs(reference).and_then(|refs| refs.last()).and_then(|node| node.as_hash());
    let hash = hash.ok_or(HashError::MissingPage(reference))?;
    let mut ways: Vec<&[u8]> = keys.to_vec();
    ways.extend(ways_of(ops));
    ways.sort_unstable();
    ways.dedup();
    if ways.is_empty() {
        // Even of no key something is shown: the root.
        ways.push(&[]);
    }
    let mut bag = Bag { hashes: BTreeSet::new(), nodes: Vec::new() };
    for node in nodes_on_ways::<S>(pages, shape, root, &ways)? {
        bag.add::<S>(node, None)?;
    }
    if ops.is_empty() {
        return Ok(bag.nodes);
    }
    let bounds = Bounds { nodes: usize::MAX, bytes: usize::MAX };
    let mut partial = Partial::new::<S>(shape, hash, &bag.nodes, bounds)?;
    for sibling in partial.siblings(ops)? {
        let key = sibling.path.key(match shape {
            Shape::Flat => MAX_KEY_BYTES,
            Shape::Accounts if sibling.path.0.len() < ACCOUNT_DEPTH => ACCOUNT_BYTES,
            Shape::Accounts => 2 * ACCOUNT_BYTES,
        });
        for node in nodes_on_ways::<S>(pages, shape, root, &[&key])? {
            bag.add::<S>(node, Some(sibling.hash))?;
        }
    }
    Ok(bag.nodes)
}

/// The keys that `ops` lead to: all but the slots of a storage that goes as a whole before they are set.
fn ways_of<'a>(ops: &[Op<'a>]) -> impl Iterator<Item = &'a [u8]> {
    let mut wiped: Option<&[u8]> = None;
    ops.iter().filter_map(move |op| {
        if let Change::Account { body, wipe } = op.change {
            wiped = (wipe || body == Body::Delete).then_some(op.key);
            return Some(op.key);
        }
        (!wiped.is_some_and(|account| op.key.starts_with(account))).then_some(op.key)
    })
}

/// Nodes, each once.
struct Bag {
    hashes: BTreeSet<B256>,
    nodes: Vec<Vec<u8>>,
}

impl Bag {
    /// Adds `node`, unless it is there, or another one is `wanted`.
    fn add<S: ProofScheme>(&mut self, node: Vec<u8>, wanted: Option<B256>) -> Result<(), PartialError> {
        let flawed = |flaw: Flaw| PartialError::NoNode { node: self.nodes.len(), flaw };
        let hash = S::hash(&node).map_err(flawed)?;
        if wanted.is_none_or(|wanted| wanted == hash) && self.hashes.insert(hash) {
            self.nodes.push(node);
        }
        Ok(())
    }
}
