//! redb, flat and without a root: what a transactional B-tree in Rust costs.
//!
//! `Durability::Immediate`, the default: one fsync (and its barrier) a commit. The cache is 1 GiB as for the others. Each
//! commit is sorted first, within its time.

use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::{Changes, Commit, Engine, Facts, Key, Reader, Result, Value, sorted};

const TABLE: TableDefinition<'_, [u8; 32], [u8; 32]> = TableDefinition::new("state");

pub(super) const FACTS: Facts = Facts {
    name: "redb",
    crate_name: "redb",
    root: "none",
    durability: "Durability::Immediate: fsync before the commit returns",
    growth: "blocks allocated to the file",
    persistent: true,
    apart: "a floor: no root, no history",
};

pub(super) struct Redb {
    database: Database,
}

impl Redb {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let file: PathBuf = dir.join("store.redb");
        let database = Database::builder().set_cache_size(super::CACHE_BYTES).create(file)?;
        Ok(Self { database })
    }
}

impl Engine for Redb {
    fn commit(&self, changes: Changes) -> Result<Commit> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in sorted(changes) {
                table.insert(key, value)?;
            }
        }
        transaction.commit()?;
        Ok(Commit::Done)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RedbReader { database: &self.database, table: open(&self.database)? }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn open(database: &Database) -> Result<ReadOnlyTable<[u8; 32], [u8; 32]>> {
    Ok(database.begin_read()?.open_table(TABLE)?)
}

struct RedbReader<'a> {
    database: &'a Database,
    table: ReadOnlyTable<[u8; 32], [u8; 32]>,
}

impl Reader for RedbReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        self.table = open(self.database)?;
        Ok(())
    }

    fn get(&mut self, key: &Key) -> Result<Option<Value>> {
        Ok(self.table.get(key)?.map(|found| found.value()))
    }
}
