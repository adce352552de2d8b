//! JMT over a `HashMap`: the Jellyfish Merkle tree brings no storage, so this is its computation with the fastest storage that
//! forgets. All versions are kept, since nothing is pruned.
//!
//! Nodes and values are in two maps of the standard library, with its default hasher, behind one reader-writer lock; what the tree computes
//! is computed without it, and it is held for writing while a batch is put in.

use std::{
    collections::HashMap,
    sync::{
        RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use jmt::{
    KeyHash, OwnedValue, RootHash, Sha256Jmt, Version,
    proof::SparseMerkleProof,
    storage::{LeafNode, Node, NodeKey, TreeReader},
};
use sha2::Sha256;

use super::{
    Changes, Commit, Engine, Facts, Failure, Key, Proof, Prover, Reader, Result, Root, Value, sorted, value,
};

pub(super) const FACTS: Facts = Facts {
    name: "jmt",
    crate_name: "jmt",
    root: "Jellyfish Merkle tree, SHA-256",
    durability: "none: in memory",
    growth: "nothing on disk",
    persistent: false,
    apart: "no storage of its own: a HashMap, which a store on disk must be slower than; all versions kept",
};

#[derive(Default)]
struct Maps {
    nodes: HashMap<NodeKey, Node>,
    values: HashMap<KeyHash, Vec<(Version, Option<OwnedValue>)>>,
}

pub(super) struct Jmt {
    maps: RwLock<Maps>,
    /// The version of the next commit.
    next: AtomicU64,
}

impl Jmt {
    pub(super) fn open() -> Self {
        Self { maps: RwLock::default(), next: AtomicU64::new(0) }
    }

    fn maps(&self) -> RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn latest(&self) -> Result<Version> {
        let next = self.next.load(Ordering::Acquire);
        next.checked_sub(1).ok_or_else(|| Failure::new("nothing was committed yet"))
    }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{error:#}"))
}

impl TreeReader for Jmt {
    fn get_node_option(&self, key: &NodeKey) -> std::result::Result<Option<Node>, AnyError> {
        Ok(self.maps().nodes.get(key).cloned())
    }

    fn get_value_option(
        &self,
        version: Version,
        key: KeyHash,
    ) -> std::result::Result<Option<OwnedValue>, AnyError> {
        let maps = self.maps();
        let Some(versions) = maps.values.get(&key) else { return Ok(None) };
        let after = versions.partition_point(|(written, _)| *written <= version);
        Ok(after.checked_sub(1).and_then(|place| versions.get(place)).and_then(|(_, value)| value.clone()))
    }

    fn get_rightmost_leaf(&self) -> std::result::Result<Option<(NodeKey, LeafNode)>, AnyError> {
        // Only asked for when a tree is restored from a snapshot.
        Ok(None)
    }
}

impl Engine for Jmt {
    fn commit(&self, changes: Changes) -> Result<Commit> {
        let version = self.next.load(Ordering::Relaxed);
        let values = sorted(changes).into_iter().map(|(key, value)| (KeyHash(key), Some(value.to_vec())));
        let (_root, batch) = Sha256Jmt::new(self).put_value_set(values, version).map_err(failure)?;
        let mut maps = self.maps.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (key, node) in batch.node_batch.nodes() {
            maps.nodes.insert(key.clone(), node.clone());
        }
        for ((version, key), value) in batch.node_batch.values() {
            maps.values.entry(*key).or_default().push((*version, value.clone()));
        }
        drop(maps);
        self.next.store(version + 1, Ordering::Release);
        Ok(Commit::Done)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(JmtReader { engine: self, version: self.latest()? }))
    }

    fn reader_back(&self, back: u64) -> Result<Option<Box<dyn Reader + '_>>> {
        let Some(version) = self.latest()?.checked_sub(back) else { return Ok(None) };
        Ok(Some(Box::new(JmtReader { engine: self, version })))
    }

    fn root(&self) -> Result<Option<Root>> {
        Ok(Some(Sha256Jmt::new(self).get_root_hash(self.latest()?).map_err(failure)?.0))
    }

    fn prover(&self) -> Result<Option<Box<dyn Prover + '_>>> {
        let version = self.latest()?;
        let root = Sha256Jmt::new(self).get_root_hash(version).map_err(failure)?;
        Ok(Some(Box::new(JmtProver { engine: self, version, root })))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct JmtReader<'a> {
    engine: &'a Jmt,
    version: Version,
}

impl Reader for JmtReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        self.version = self.engine.latest()?;
        Ok(())
    }

    fn get(&mut self, key: &Key) -> Result<Option<Value>> {
        // What `JellyfishMerkleTree::get` asks of its storage.
        let found = self.engine.get_value_option(self.version, KeyHash(*key)).map_err(failure)?;
        found.map(|bytes| value(&bytes)).transpose()
    }
}

struct JmtProver<'a> {
    engine: &'a Jmt,
    version: Version,
    root: RootHash,
}

impl Prover for JmtProver<'_> {
    fn prove(&mut self, key: &Key) -> Result<Box<dyn Proof>> {
        let tree = Sha256Jmt::new(self.engine);
        let (_value, proof) = tree.get_with_proof(KeyHash(*key), self.version).map_err(failure)?;
        Ok(Box::new(JmtProof { proof, root: self.root }))
    }
}

struct JmtProof {
    proof: SparseMerkleProof<Sha256>,
    root: RootHash,
}

impl Proof for JmtProof {
    fn size(&self) -> usize {
        borsh::to_vec(&self.proof).map_or(0, |bytes| bytes.len())
    }

    fn verify(&self, key: &Key, value: &Value) -> bool {
        self.proof.verify_existence(self.root, KeyHash(*key), value).is_ok()
    }
}

/// The error of JMT's traits.
type AnyError = anyhow::Error;
