//! Bristlecone: raw flat keys, all versions kept, default options.

use std::path::Path;

use bristlecone::{
    Blake3, Ethereum, KeyProof, Namespace, Options, RootSchedule, SchemeKind, Snapshot, Store,
};
use bristlecone_trie::{B256, proof};

use super::{
    Changes, Commit, Engine, Facts, Key, Proof, Prover, Reader, Rest, Result, Root, Setup, Value, value,
};
use crate::measure::allocated_bytes;

const DURABILITY: &str = "batch log fsync, awaited apart; the root is awaited apart too";
const GROWTH: &str =
    "segments as far as filled, all other files as allocated; the preallocated log ring not at all";

pub(super) const ETHEREUM: Facts = Facts {
    name: "bristlecone",
    crate_name: "bristlecone",
    root: "Ethereum's trie, Keccak-256",
    durability: DURABILITY,
    growth: GROWTH,
    persistent: true,
    apart: "all versions kept",
};

pub(super) const BLAKE3: Facts =
    Facts { name: "bristlecone-blake3", root: "the same trie, branches as binary trees, BLAKE3", ..ETHEREUM };

pub(super) struct Ours {
    store: Store,
    scheme: SchemeKind,
}

impl Ours {
    pub(super) fn open(name: &str, dir: &Path, setup: &Setup) -> Result<Self> {
        let scheme = if name == ETHEREUM.name { SchemeKind::Ethereum } else { SchemeKind::Blake3 };
        let mut options = Options::new()
            .namespace(Namespace::flat(scheme).raw())
            .roots(RootSchedule::Every(setup.root_every))
            .cache_bytes(super::CACHE_BYTES as u64);
        if let Some(threads) = setup.threads {
            options = options.threads(threads);
        }
        Ok(Self { store: options.open(dir)?, scheme })
    }
}

impl Engine for Ours {
    fn commit(&self, changes: Changes) -> Result<Commit> {
        let mut batch = bristlecone::Batch::new();
        for (key, value) in &changes {
            batch.put(key, value);
        }
        Ok(Commit::Visible(Box::new(self.store.commit(batch)?)))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(OurReader { store: &self.store, snapshot: self.store.latest()? }))
    }

    fn reader_back(&self, back: u64) -> Result<Option<Box<dyn Reader + '_>>> {
        let latest = self.store.latest()?.version();
        let Some(version) = latest.checked_sub(back) else { return Ok(None) };
        Ok(Some(Box::new(OurReader { store: &self.store, snapshot: self.store.at(version)? })))
    }

    fn root(&self) -> Result<Option<Root>> {
        Ok(Some(self.store.latest()?.root()?.0))
    }

    fn prover(&self) -> Result<Option<Box<dyn Prover + '_>>> {
        let snapshot = self.store.latest()?;
        let root = snapshot.root()?;
        Ok(Some(Box::new(OurProver { snapshot, root, scheme: self.scheme })))
    }

    fn settle(&self) -> Result<()> {
        Ok(self.store.flush()?)
    }

    fn disk_bytes(&self, dir: &Path) -> Result<u64> {
        // Both are allocated ahead.
        Ok(allocated_bytes(dir, &["segments", "log"])? + self.store.stats()?.segment_bytes)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}

impl Rest for bristlecone::Commit {
    fn durable(&self) -> Result<()> {
        Ok(Self::durable(self).wait()?)
    }

    fn root(&self) -> Result<Root> {
        Ok(Self::root(self).wait()?.0)
    }

    fn again(&self) -> Box<dyn Rest> {
        Box::new(self.clone())
    }
}

struct OurReader<'a> {
    store: &'a Store,
    snapshot: Snapshot,
}

impl Reader for OurReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        self.snapshot = self.store.latest()?;
        Ok(())
    }

    fn get(&mut self, key: &Key) -> Result<Option<Value>> {
        self.snapshot.get(key)?.map(|bytes| value(&bytes)).transpose()
    }
}

struct OurProver {
    snapshot: Snapshot,
    root: B256,
    scheme: SchemeKind,
}

impl Prover for OurProver {
    fn prove(&mut self, key: &Key) -> Result<Box<dyn Proof>> {
        let proof = self.snapshot.prove(key)?;
        Ok(Box::new(OurProof { proof, root: self.root, scheme: self.scheme }))
    }
}

struct OurProof {
    proof: KeyProof,
    root: B256,
    scheme: SchemeKind,
}

impl Proof for OurProof {
    fn size(&self) -> usize {
        self.proof.nodes.iter().map(Vec::len).sum()
    }

    fn verify(&self, key: &Key, value: &Value) -> bool {
        let nodes = &self.proof.nodes;
        let found = match self.scheme {
            SchemeKind::Ethereum => proof::verify::<Ethereum>(self.root, key, nodes),
            SchemeKind::Blake3 => proof::verify::<Blake3>(self.root, key, nodes),
        };
        found.is_ok_and(|found| found.is_some_and(|found| found[..] == value[..]))
    }
}
