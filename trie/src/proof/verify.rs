//! Verification: one walk for one key and for many.
//!
//! The keys are walked down together, in ascending order, through the nodes in the order of the proof. The walk asks
//! for a node only where a key needs it, and takes the next one for it: so nodes are neither missing, nor left over,
//! nor in another place, and nothing need be looked up by hash.

use alloc::vec::Vec;
use alloy_primitives::{B256, U256};

use super::node::{Branch, BranchValue, Child, Node, Place, ProofScheme, Value};
use super::{Flaw, MAX_NODE_BYTES, MultiProof, ProofError};
use crate::path::{MAX_KEY_BYTES, nibble};
use crate::{Account, Path};

/// Verifies what stands at `key` in the trie with `root`: its flat value, or `None` where its absence is proven.
///
/// `nodes` are those of a [`Proof`](super::Proof). In the `Ethereum` scheme the value is the leaf's value string,
/// whatever it means; in `Blake3` a slot or an account is not a flat value. An empty value is not an absent one. The
/// cost is that of hashing each node once; of the memory, that of the value.
///
/// # Errors
/// [`ProofError`] where `nodes` prove nothing of `key`.
pub fn verify<S: ProofScheme>(
    root: B256,
    key: &[u8],
    nodes: &[impl AsRef<[u8]>],
) -> Result<Option<Vec<u8>>, ProofError> {
    one::<S, _>(root, key, nodes, |value| S::raw(value).map(Vec::from))
}

/// Verifies the account at `key` (as it stands in the trie: a hash where keys are hashed) and the root of its storage;
/// `None` where its absence is proven. As [`verify`] otherwise.
///
/// # Errors
/// [`ProofError`] where `nodes` prove nothing of `key`, or what is there is not an account in canonical form.
pub fn verify_account<S: ProofScheme>(
    root: B256,
    key: &[u8],
    nodes: &[impl AsRef<[u8]>],
) -> Result<Option<(Account, B256)>, ProofError> {
    one::<S, _>(root, key, nodes, S::account)
}

/// Verifies the slot at `key` (as it stands in the trie) of the storage with `storage_root`; `None`, which means zero,
/// where its absence is proven. As [`verify`] otherwise.
///
/// # Errors
/// [`ProofError`] where `nodes` prove nothing of `key`, or what is there is not a slot in canonical form.
pub fn verify_slot<S: ProofScheme>(
    storage_root: B256,
    key: &[u8],
    nodes: &[impl AsRef<[u8]>],
) -> Result<Option<U256>, ProofError> {
    one::<S, _>(storage_root, key, nodes, S::slot)
}

/// Verifies what stands at each of `keys`, in their order; they may come in any order, and repeatedly. Of no keys
/// nothing is said: the proof must be empty, and `root` is not looked at. As [`verify`] otherwise.
///
/// # Errors
/// [`ProofError`] where the proof does not decide every key.
pub fn verify_many<S: ProofScheme>(
    root: B256,
    keys: &[impl AsRef<[u8]>],
    proof: &MultiProof,
) -> Result<Vec<Option<Vec<u8>>>, ProofError> {
    many::<S, _>(root, keys, &proof.nodes, |value| S::raw(value).map(Vec::from))
}

/// [`verify_account`] for many keys, as [`verify_many`].
///
/// # Errors
/// [`ProofError`] where the proof does not decide every key, or what is at one is not an account.
pub fn verify_many_accounts<S: ProofScheme>(
    root: B256,
    keys: &[impl AsRef<[u8]>],
    proof: &MultiProof,
) -> Result<Vec<Option<(Account, B256)>>, ProofError> {
    many::<S, _>(root, keys, &proof.nodes, S::account)
}

/// [`verify_slot`] for many keys of one storage, as [`verify_many`].
///
/// # Errors
/// [`ProofError`] where the proof does not decide every key, or what is at one is not a slot.
pub fn verify_many_slots<S: ProofScheme>(
    storage_root: B256,
    keys: &[impl AsRef<[u8]>],
    proof: &MultiProof,
) -> Result<Vec<Option<U256>>, ProofError> {
    many::<S, _>(storage_root, keys, &proof.nodes, S::slot)
}

fn one<S: ProofScheme, T>(
    root: B256,
    key: &[u8],
    nodes: &[impl AsRef<[u8]>],
    read: impl Fn(&Value<'_>) -> Result<T, Flaw>,
) -> Result<Option<T>, ProofError> {
    Ok(many::<S, T>(root, &[key], nodes, read)?.pop().flatten())
}

fn many<S: ProofScheme, T>(
    root: B256,
    keys: &[impl AsRef<[u8]>],
    nodes: &[impl AsRef<[u8]>],
    read: impl Fn(&Value<'_>) -> Result<T, Flaw>,
) -> Result<Vec<Option<T>>, ProofError> {
    let mut limit = 0;
    for (key, bytes) in keys.iter().map(AsRef::as_ref).enumerate() {
        let bytes = bytes.len();
        if bytes > MAX_KEY_BYTES {
            return Err(ProofError::KeyTooLong { key, bytes });
        }
        // Below the root every node, or the edge to it, takes a nibble of a key at least.
        limit += bytes * 2 + 1;
    }
    if nodes.len() > limit {
        return Err(ProofError::TooManyNodes { nodes: nodes.len(), limit });
    }
    let mut keys: Vec<(usize, &[u8])> = keys.iter().map(AsRef::as_ref).enumerate().collect();
    keys.sort_unstable_by_key(|(_, key)| *key);
    let mut found: Vec<Option<T>> = keys.iter().map(|_| None).collect();
    Walk::<S, _> { nodes, next: 0, scheme: core::marker::PhantomData }.run(
        root,
        &keys,
        |node, key, value| {
            if let Some(place) = found.get_mut(key) {
                *place = Some(read(value).map_err(|flaw| ProofError::BadValue { node, flaw })?);
            }
            Ok(())
        },
    )?;
    Ok(found)
}

/// A place where keys go on.
struct Step<'k, 'n> {
    child: Child<'n>,
    /// The node that names the child; that holds it, if it is embedded.
    parent: usize,
    /// The keys below it, ascending, each with the index by which its value is reported.
    keys: &'k [(usize, &'k [u8])],
    /// Nibbles from the root to here.
    depth: usize,
    place: Place,
    /// Whether only a branch may follow.
    extended: bool,
}

struct Walk<'n, S, N> {
    nodes: &'n [N],
    next: usize,
    scheme: core::marker::PhantomData<S>,
}

impl<'n, S: ProofScheme, N: AsRef<[u8]>> Walk<'n, S, N> {
    /// Walks `keys` down from `root`, and reports each value with its node and the index of its key.
    fn run<'k>(
        mut self,
        root: B256,
        keys: &'k [(usize, &'k [u8])],
        mut report: impl FnMut(usize, usize, &Value<'n>) -> Result<(), ProofError>,
    ) -> Result<(), ProofError> {
        if !keys.is_empty() && !self.is_empty_trie(root) {
            let mut steps = Vec::new();
            let node = self.take(&root)?;
            let start =
                Step { child: Child::Empty, parent: 0, keys, depth: 0, place: Place::Root, extended: false };
            self.visit(node, &start, &mut steps, &mut report)?;
            while let Some(step) = steps.pop() {
                let node = match step.child {
                    Child::Hash(hash) => self.take(&B256::new(*hash))?,
                    Child::Embedded(bytes) => (step.parent, bytes),
                    Child::Empty | Child::Closed => continue,
                };
                self.visit(node, &step, &mut steps, &mut report)?;
            }
        }
        if self.next < self.nodes.len() {
            return Err(ProofError::UnusedNode { node: self.next });
        }
        Ok(())
    }

    /// Whether `root` is that of the trie without keys. Takes the node that may stand for it, if it is there.
    fn is_empty_trie(&mut self, root: B256) -> bool {
        if root != S::empty_root() {
            return false;
        }
        let first = self.nodes.first().map(AsRef::as_ref);
        if first.is_some() && first == S::EMPTY_NODE {
            self.next = 1;
        }
        true
    }

    /// The next node of the proof, which must have this hash, and its index.
    fn take(&mut self, expected: &B256) -> Result<(usize, &'n [u8]), ProofError> {
        let node = self.next;
        let bytes =
            self.nodes.get(node).ok_or(ProofError::MissingNode { node, expected: *expected })?.as_ref();
        if bytes.len() > MAX_NODE_BYTES {
            return Err(ProofError::NodeTooLarge { node, bytes: bytes.len() });
        }
        let computed = S::hash(bytes).map_err(|flaw| ProofError::Malformed { node, flaw })?;
        if computed != *expected {
            return Err(ProofError::HashMismatch { node, expected: *expected, computed });
        }
        self.next += 1;
        Ok((node, bytes))
    }

    /// Reads a node; reports the values that it holds for the keys of `step`, and pushes what is below, lowest last.
    fn visit<'k>(
        &self,
        (node, bytes): (usize, &'n [u8]),
        step: &Step<'k, 'n>,
        steps: &mut Vec<Step<'k, 'n>>,
        report: &mut impl FnMut(usize, usize, &Value<'n>) -> Result<(), ProofError>,
    ) -> Result<(), ProofError> {
        let malformed = |flaw| ProofError::Malformed { node, flaw };
        let decoded = S::decode(bytes, step.place).map_err(malformed)?;
        if step.extended && !matches!(decoded, Node::Branch(_)) {
            return Err(malformed(Flaw::ExtensionChild));
        }
        match decoded {
            Node::Leaf { path, value } => {
                if (step.depth + path.len()) % 2 == 1 {
                    return Err(malformed(Flaw::HalfByte));
                }
                let here = step.keys.iter().filter(|(_, key)| Path::whole(key).skip(step.depth) == path);
                here.map(|(index, _)| *index).try_for_each(|key| report(node, key, &value))
            }
            Node::Extension { path, child } => {
                let inside = |key: &[u8]| Path::whole(key).skip(step.depth).starts_with(&path);
                // The keys are ascending, so that those inside stand together.
                let before = step.keys.iter().take_while(|(_, key)| !inside(key)).count();
                let keys = step.keys.get(before..).unwrap_or_default();
                let count = keys.iter().take_while(|(_, key)| inside(key)).count();
                let keys = keys.get(..count).unwrap_or_default();
                if !keys.is_empty() {
                    let depth = step.depth + path.len();
                    steps.push(Step {
                        child,
                        parent: node,
                        keys,
                        depth,
                        place: place(&child),
                        extended: true,
                    });
                }
                Ok(())
            }
            Node::Branch(branch) => {
                let below = steps.len();
                let ended = Self::part(node, &branch, step, steps).map_err(malformed)?;
                if let Some(pushed) = steps.get_mut(below..) {
                    pushed.reverse();
                }
                match branch.value {
                    BranchValue::Whole(value) => {
                        let value = S::branch_value(value);
                        ended.iter().try_for_each(|(key, _)| report(node, *key, &value))
                    }
                    BranchValue::Absent | BranchValue::Digest => Ok(()),
                }
            }
        }
    }

    /// Parts the keys of `step` at `branch`: returns those that end there and pushes the others by rising nibbles.
    fn part<'k>(
        node: usize,
        branch: &Branch<'n>,
        step: &Step<'k, 'n>,
        steps: &mut Vec<Step<'k, 'n>>,
    ) -> Result<&'k [(usize, &'k [u8])], Flaw> {
        let depth = step.depth;
        let ended = step.keys.iter().take_while(|(_, key)| key.len() * 2 == depth).count();
        let (ended, mut keys) = step.keys.split_at_checked(ended).unwrap_or_default();
        if depth % 2 == 1 && branch.value != BranchValue::Absent {
            return Err(Flaw::HalfByte);
        }
        if branch.compact {
            match branch.value {
                BranchValue::Whole(_) if ended.is_empty() => return Err(Flaw::WrongValueForm),
                BranchValue::Digest if !ended.is_empty() => return Err(Flaw::WrongValueForm),
                _ => {}
            }
        }
        for (at, child) in (0u8..).zip(&branch.children) {
            let count = keys.iter().take_while(|(_, key)| nibble(key, depth) == at).count();
            let (here, rest) = keys.split_at_checked(count).unwrap_or_default();
            keys = rest;
            match child {
                Child::Hash(_) if here.is_empty() && branch.compact => return Err(Flaw::WrongOpening),
                Child::Closed if !here.is_empty() => return Err(Flaw::WrongOpening),
                Child::Hash(_) | Child::Embedded(_) if !here.is_empty() => steps.push(Step {
                    child: *child,
                    parent: node,
                    keys: here,
                    depth: depth + 1,
                    place: place(child),
                    extended: false,
                }),
                _ => {}
            }
        }
        Ok(ended)
    }
}

fn place(child: &Child<'_>) -> Place {
    if matches!(child, Child::Embedded(_)) { Place::Embedded } else { Place::Hashed }
}
