//! NOMT: a binary trie, hashed with BLAKE3, on a hash table of pages of its own; no history.
//!
//! Configuration: as many commit workers as cores; three io_uring instances, page cache of 1 GiB and leaf cache of 256 MiB (the
//! last two parts are its defaults, but for the page cache's 256 MiB); no rollback log, since nothing here rolls back; no
//! witness. The hash table has a bucket for every two keys, and at least the default 64,000: a
//! trie of random keys has a page for every three to five, so it is about half full. Sessions are short, as it wants: a session holds
//! back commits, so readers begin a new one again and again.

use std::path::Path;

use bitvec::{order::Msb0, view::BitView};
use nomt::{
    KeyReadWrite, Options, Session, SessionParams,
    hasher::{Blake3Hasher, ValueHasher},
    proof::PathProof,
    trie::LeafData,
};

use super::{
    Changes, Commit, Engine, Facts, Failure, Key, Proof, Prover, Reader, Result, Root, Setup, Value, sorted,
    value,
};

pub(super) const FACTS: Facts = Facts {
    name: "nomt",
    crate_name: "nomt",
    root: "binary trie, BLAKE3",
    durability: "durable when the commit returns",
    growth: "blocks allocated to its files; the hash table is allocated ahead",
    persistent: true,
    apart: "no history; readers hold back commits and wait for them",
};

const MIB: usize = 1 << 20;

pub(super) struct Nomt {
    nomt: nomt::Nomt<Blake3Hasher>,
}

impl Nomt {
    pub(super) fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let mut options = Options::new();
        options.path(dir.join("nomt"));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        options.commit_concurrency(setup.threads.unwrap_or(cores));
        options.page_cache_size(super::CACHE_BYTES / MIB);
        options.hashtable_buckets(u32::try_from(setup.keys / 2)?.max(64_000));
        // Seeded, so that runs are alike.
        options.bitbox_seed([7; 16]);
        Ok(Self { nomt: nomt::Nomt::open(options).map_err(failure)? })
    }

    fn session(&self) -> Session<Blake3Hasher> {
        self.nomt.begin_session(SessionParams::default())
    }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{error:#}"))
}

impl Engine for Nomt {
    fn commit(&self, changes: Changes) -> Result<Commit> {
        let session = self.session();
        let writes = sorted(changes).into_iter();
        let writes = writes.map(|(key, value)| (key, KeyReadWrite::Write(Some(value.to_vec())))).collect();
        let finished = session.finish(writes).map_err(failure)?;
        finished.commit(&self.nomt).map_err(failure)?;
        Ok(Commit::Done)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(NomtReader { engine: self, session: Some(self.session()) }))
    }

    fn root(&self) -> Result<Option<Root>> {
        Ok(Some(self.nomt.root().into_inner()))
    }

    fn prover(&self) -> Result<Option<Box<dyn Prover + '_>>> {
        Ok(Some(Box::new(NomtProver { session: self.session() })))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct NomtReader<'a> {
    engine: &'a Nomt,
    /// Always there but while it is replaced.
    session: Option<Session<Blake3Hasher>>,
}

impl Reader for NomtReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        // Dropped first: a session that lives keeps the next one from beginning once a commit waits.
        self.session = None;
        self.session = Some(self.engine.session());
        Ok(())
    }

    fn get(&mut self, key: &Key) -> Result<Option<Value>> {
        let Some(session) = &self.session else { return Ok(None) };
        session.read(*key).map_err(failure)?.map(|bytes| value(&bytes)).transpose()
    }
}

struct NomtProver {
    session: Session<Blake3Hasher>,
}

impl Prover for NomtProver {
    fn prove(&mut self, key: &Key) -> Result<Box<dyn Proof>> {
        let proof = self.session.prove(*key).map_err(failure)?;
        Ok(Box::new(NomtProof { proof, root: self.session.prev_root().into_inner() }))
    }
}

struct NomtProof {
    proof: PathProof,
    root: Root,
}

impl Proof for NomtProof {
    fn size(&self) -> usize {
        // Siblings, and the leaf's key path and value hash.
        32 * self.proof.siblings.len() + 64
    }

    fn verify(&self, key: &Key, value: &Value) -> bool {
        let Ok(verified) = self.proof.verify::<Blake3Hasher>(key.view_bits::<Msb0>(), self.root) else {
            return false;
        };
        let leaf = LeafData { key_path: *key, value_hash: Blake3Hasher::hash_value(value) };
        verified.confirm_value(&leaf).unwrap_or(false)
    }
}
