//! QMDB in the form of `commonware-storage`: a log of operations with an append-only Merkle structure over it (an MMB, as its
//! own production-shaped bench has it), and an index from keys to places in the log in memory.
//!
//! Two variants are run. `any` proves that a key once had a value, `current` also that it has it still: it is the one whose root
//! is that of a state. Both are unordered with fixed sizes, and prove no absence.
//!
//! Configuration, after its own benches: `EightCap` translator, 10 million operations a blob, pages of 4 KiB, write and replay buffers of 2 MiB,
//! an init cache of 262,144 entries, a Rayon strategy with as many threads as cores; a page cache of 1 GiB (theirs is 512 MiB). The
//! floor policy is `Proportional`. Nothing is pruned. Runtime: its tokio one, with its default of two workers.
//!
//! A commit is `merkleize`, `apply_batch` and `commit`, as its documentation has it. Mutating methods take the database by value, so whoever
//! shares it needs a lock: merkleizing goes on beside readers, applying and syncing do not. Readers hold the lock for a few reads
//! at a time, as NOMT's hold a session. Its futures are polled where they are used: a read that is in the page cache is ready at
//! once. A clean close is a `sync`.

use std::{
    future::Future,
    num::NonZeroUsize,
    path::Path,
    sync::{PoisonError, RwLock, RwLockReadGuard, mpsc},
    thread::JoinHandle,
};

use commonware_codec::EncodeSize;
use commonware_cryptography::{Sha256, sha256::Digest};
use commonware_parallel::Rayon;
use commonware_runtime::{
    BLOB_PAGE_SIZE, Runner as _, Strategizer as _, Supervisor as _,
    buffer::paged::{CacheRef, page_size},
    tokio::{Config, Context, Runner},
};
use commonware_storage::{
    journal::contiguous::fixed::Config as LogConfig,
    merkle::{full::Config as MerkleConfig, mmb},
    qmdb::{
        self as storage,
        any::{
            FixedConfig,
            traits::{BatchableDb, DbAny, UnmerkleizedBatch},
            unordered::fixed::Db as AnyDb,
        },
        current::{FixedConfig as CurrentConfig, unordered::fixed::Db as CurrentDb},
        floor::Proportional,
    },
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize};
use futures::FutureExt;
use tokio::{
    runtime::{EnterGuard, Handle},
    sync::oneshot,
};

use super::{
    Changes, Commit, Engine, Facts, Failure, Key, Proof, Prover, Reader, Result, Root, Setup, Value,
};

pub(super) const ANY: Facts = Facts {
    name: "qmdb",
    crate_name: "commonware-storage",
    root: "append-only Merkle structure (MMB) over the log of operations, SHA-256; no trie by key",
    durability: "log fsync: `commit` before it returns",
    growth: "blocks allocated to its files; a log that is never pruned here",
    persistent: true,
    apart: "`any`: proves that a key once had a value; no absence; no reads of old versions by key",
};

pub(super) const CURRENT: Facts = Facts {
    name: "qmdb-current",
    root: "the same with a bitmap of what is current grafted on",
    apart: "`current`: proves that a key has a value now; no absence; no reads of old versions by key",
    ..ANY
};

/// Bytes of a bitmap chunk, as in its benches.
const CHUNK: usize = 32;

pub(super) type Any = AnyDb<mmb::Family, Context, Digest, Digest, Sha256, EightCap, Rayon>;
pub(super) type Current = CurrentDb<mmb::Family, Context, Digest, Digest, Sha256, EightCap, CHUNK, Rayon>;
type StorageError = storage::Error<mmb::Family>;

/// What the two variants have apart from the interface that they share.
pub(super) trait Database:
    DbAny<mmb::Family, Key = Digest, Value = Digest, Digest = Digest> + 'static
{
    fn init(
        context: Context,
        threads: NonZeroUsize,
    ) -> impl Future<Output = std::result::Result<Self, StorageError>>;

    fn prover(lent: Lent<'_, Self>) -> Option<Box<dyn Prover + '_>>;
}

fn merkle_config(context: &Context, threads: NonZeroUsize, page_cache: CacheRef) -> MerkleConfig<Rayon> {
    MerkleConfig {
        journal_partition: "merkle-journal".into(),
        metadata_partition: "merkle-metadata".into(),
        items_per_blob: NZU64!(10_000_000),
        write_buffer: NZUsize!(2 * 1024 * 1024),
        replay_buffer: NZUsize!(2 * 1024 * 1024),
        strategy: context.strategy(threads),
        page_cache,
    }
}

fn log_config(page_cache: CacheRef) -> LogConfig {
    LogConfig {
        partition: "log".into(),
        items_per_blob: NZU64!(10_000_000),
        page_cache,
        write_buffer: NZUsize!(2 * 1024 * 1024),
        replay_buffer: NZUsize!(2 * 1024 * 1024),
    }
}

fn page_cache() -> CacheRef {
    let pages = super::CACHE_BYTES / BLOB_PAGE_SIZE as usize;
    CacheRef::new(page_size(BLOB_PAGE_SIZE), NonZeroUsize::new(pages).unwrap_or(NonZeroUsize::MIN))
}

impl Database for Any {
    async fn init(context: Context, threads: NonZeroUsize) -> std::result::Result<Self, StorageError> {
        let page_cache = page_cache();
        let config = FixedConfig {
            merkle_config: merkle_config(&context, threads, page_cache.clone()),
            journal_config: log_config(page_cache),
            translator: EightCap,
            init_cache: Some(NZUsize!(1 << 18)),
            init_buffer: NZUsize!(1 << 21),
            init_concurrency: (),
        };
        Self::init(context.child("storage"), config, None).await
    }

    fn prover(_: Lent<'_, Self>) -> Option<Box<dyn Prover + '_>> {
        // Its proofs are of places in the log, and it does not tell where a key's is.
        None
    }
}

impl Database for Current {
    async fn init(context: Context, threads: NonZeroUsize) -> std::result::Result<Self, StorageError> {
        let page_cache = page_cache();
        let config = CurrentConfig {
            merkle_config: merkle_config(&context, threads, page_cache.clone()),
            journal_config: log_config(page_cache),
            grafted_metadata_partition: "grafted-metadata".into(),
            translator: EightCap,
            init_cache: Some(NZUsize!(1 << 18)),
            init_buffer: NZUsize!(1 << 21),
            init_concurrency: (),
        };
        Self::init(context.child("storage"), config, None).await
    }

    fn prover(lent: Lent<'_, Self>) -> Option<Box<dyn Prover + '_>> {
        Some(Box::new(CurrentProver { lent }))
    }
}

pub(super) struct Qmdb<D> {
    /// `None` only while it is changed, under the lock, and after that failed.
    database: RwLock<Option<D>>,
    runtime: Handle,
    /// Ends the runtime's thread.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(error.to_string())
}

fn gone() -> Failure {
    Failure::new("the database was lost by an earlier failure")
}

impl<D: Database> Qmdb<D> {
    pub(super) fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = setup.threads.and_then(NonZeroUsize::new).unwrap_or(cores);
        let config = Config::new().with_storage_directory(dir.join("qmdb"));
        let (stop, stopped) = oneshot::channel();
        let (tell, hear) = mpsc::channel();
        // The runtime lives as long as what it was started with, so that waits on a thread of its own.
        let thread = std::thread::spawn(move || {
            Runner::new(config).start(|context| async move {
                let _ = tell.send((context, Handle::current()));
                let _ = stopped.await;
            });
        });
        let (context, runtime) = hear.recv().map_err(|_| Failure::new("the runtime did not start"))?;
        let database = runtime.block_on(<D as Database>::init(context, threads)).map_err(failure)?;
        Ok(Self { database: RwLock::new(Some(database)), runtime, stop, thread })
    }

    fn lend(&self) -> Lent<'_, D> {
        Lent { runtime: &self.runtime, guard: self.read(), _entered: self.runtime.enter() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<D>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the database over to what changes it, nobody reading meanwhile.
    fn change<F: Future<Output = std::result::Result<D, StorageError>>>(
        &self,
        change: impl FnOnce(D) -> F,
    ) -> Result<()> {
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = place.take().ok_or_else(gone)?;
        *place = Some(self.runtime.block_on(change(database)).map_err(failure)?);
        Ok(())
    }
}

impl<D: Database> Engine for Qmdb<D> {
    fn commit(&self, changes: Changes) -> Result<Commit> {
        let merkleized = {
            let place = self.read();
            let database = place.as_ref().ok_or_else(gone)?;
            let mut batch = database.new_batch();
            for (key, value) in changes {
                batch = batch.write(Digest(key), Some(Digest(value)));
            }
            self.runtime.block_on(batch.merkleize(database, None, &mut Proportional)).map_err(failure)?
        };
        self.change(|database| async move {
            BatchableDb::apply_batch(database, merkleized).await?.commit().await
        })?;
        Ok(Commit::Done)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(QmdbReader { engine: self, lent: Some(self.lend()) }))
    }

    fn root(&self) -> Result<Option<Root>> {
        Ok(Some(self.read().as_ref().ok_or_else(gone)?.root().0))
    }

    fn prover(&self) -> Result<Option<Box<dyn Prover + '_>>> {
        Ok(D::prover(self.lend()))
    }

    fn settle(&self) -> Result<()> {
        // Merkle nodes that `commit` leaves to be recomputed are written.
        self.change(|database| database.sync())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.settle()?;
        let Self { database, runtime, stop, thread } = *self;
        {
            // Dropped where its runtime is known.
            let _entered = runtime.enter();
            drop(database);
        }
        let _ = stop.send(());
        thread.join().map_err(|_| Failure::new("the runtime ended unexpectedly"))
    }
}

/// The database, lent for reading, on a thread that knows its runtime.
pub(super) struct Lent<'a, D> {
    runtime: &'a Handle,
    guard: RwLockReadGuard<'a, Option<D>>,
    _entered: EnterGuard<'a>,
}

impl<D> Lent<'_, D> {
    fn database(&self) -> Result<&D> {
        self.guard.as_ref().ok_or_else(gone)
    }
}

struct QmdbReader<'a, D> {
    engine: &'a Qmdb<D>,
    /// Always there but while it is replaced.
    lent: Option<Lent<'a, D>>,
}

impl<D: Database> Reader for QmdbReader<'_, D> {
    fn refresh(&mut self) -> Result<()> {
        self.lent = None;
        self.lent = Some(self.engine.lend());
        Ok(())
    }

    fn get(&mut self, key: &Key) -> Result<Option<Value>> {
        let lent = self.lent.as_ref().ok_or_else(gone)?;
        let database = lent.database()?;
        let key = Digest(*key);
        let found = match database.get(&key).now_or_never() {
            Some(found) => found,
            // Not in the page cache: now it is waited for.
            None => lent.runtime.block_on(database.get(&key)),
        };
        Ok(found.map_err(failure)?.map(|value| value.0))
    }
}

type CurrentProofOf = storage::current::unordered::proof::constant::KeyValueProof<mmb::Family, Digest, CHUNK>;

struct CurrentProver<'a> {
    lent: Lent<'a, Current>,
}

impl Prover for CurrentProver<'_> {
    fn prove(&mut self, key: &Key) -> Result<Box<dyn Proof>> {
        let database = self.lent.database()?;
        let proof = match database.key_value_proof(Digest(*key)).now_or_never() {
            Some(proof) => proof,
            None => self.lent.runtime.block_on(database.key_value_proof(Digest(*key))),
        };
        Ok(Box::new(CurrentProof { proof: proof.map_err(failure)?, root: database.root() }))
    }
}

struct CurrentProof {
    proof: CurrentProofOf,
    root: Digest,
}

impl Proof for CurrentProof {
    fn size(&self) -> usize {
        self.proof.encode_size()
    }

    fn verify(&self, key: &Key, value: &Value) -> bool {
        Current::verify_key_value_proof(Digest(*key), Digest(*value), &self.proof, &self.root)
    }
}
