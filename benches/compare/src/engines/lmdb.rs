//! LMDB through `heed`, flat and without a root: what a memory-mapped B-tree in C costs.
//!
//! Default flags: every commit is synced with fdatasync before it returns, the map is read-only (no `WRITE_MAP`). The map is far larger
//! than the data will be, since it cannot grow while transactions are open. Readers' transactions are not bound to their
//! thread's slot (`without_tls`), as heed recommends for transactions that are kept. Each commit is sorted first, within its
//! time.

use std::path::Path;

use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, RoTxn, WithoutTls, types::Bytes};

use super::{Changes, Commit, Engine, Facts, Key, Reader, Result, Setup, Value, sorted, value};

pub(super) const FACTS: Facts = Facts {
    name: "lmdb",
    crate_name: "heed",
    root: "none",
    durability: "default sync: fdatasync before the commit returns",
    growth: "blocks allocated to the file",
    persistent: true,
    apart: "a floor: no root, no history; its pages are in the map, not in anonymous memory",
};

pub(super) struct Lmdb {
    env: Env<WithoutTls>,
    /// `'static` says that it was committed; heed checks that it is used with its environment.
    database: Database<'static, Bytes, Bytes>,
}

impl Lmdb {
    pub(super) fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let env = open_env(dir, map_bytes(setup))?;
        let transaction = env.write_txn()?;
        let database = env.create_databases_and_commit(transaction, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let database = database.unwrap_commit();
        Ok(Self { env, database })
    }
}

/// Addresses for ten times the data, and at least 4 GiB.
fn map_bytes(setup: &Setup) -> usize {
    (setup.keys as usize * 64 * 10).next_multiple_of(1 << 30).max(4 << 30)
}

#[expect(unsafe_code, reason = "heed's opening of a memory map has no safe form")]
fn open_env(dir: &Path, map_bytes: usize) -> Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes).max_dbs(1).max_readers(16);
    // SAFETY: the map must not be changed behind LMDB's back, nor be opened twice in one process. The directory is a temporary
    // one that only this process knows of; it is opened here only, and again only after the environment was closed. No flag that
    // gives up LMDB's own locking is set.
    Ok(unsafe { options.open(dir)? })
}

impl Engine for Lmdb {
    fn commit(&self, changes: Changes) -> Result<Commit> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in &sorted(changes) {
            self.database.put(&mut transaction, key, value)?;
        }
        transaction.commit()?;
        Ok(Commit::Done)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(LmdbReader { engine: self, transaction: Some(self.env.read_txn()?) }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

struct LmdbReader<'a> {
    engine: &'a Lmdb,
    /// Always there but while it is replaced.
    transaction: Option<RoTxn<'a, WithoutTls>>,
}

impl Reader for LmdbReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        self.transaction = None;
        self.transaction = Some(self.engine.env.read_txn()?);
        Ok(())
    }

    fn get(&mut self, key: &Key) -> Result<Option<Value>> {
        let Some(transaction) = &self.transaction else { return Ok(None) };
        self.engine.database.get(transaction, key)?.map(value).transpose()
    }
}
