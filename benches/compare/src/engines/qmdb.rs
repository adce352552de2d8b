//! Stub.
use super::{Changes, Commit, Engine, Facts, Failure, Reader, Result, Setup};
use std::path::Path;

pub(super) const FACTS: Facts = Facts {
    name: "qmdb",
    crate_name: "commonware-storage",
    root: "append-only MMR over the log of operations, SHA-256; no trie by key",
    durability: "log fsync: `commit`",
    growth: "blocks allocated to its files",
    persistent: true,
    apart: "proves operations, not the absence of a key",
};

pub(super) struct Qmdb;

impl Qmdb {
    pub(super) fn open(_: &Path, _: &Setup) -> Result<Self> {
        Err(Failure::new("not built yet"))
    }
}

impl Engine for Qmdb {
    fn commit(&self, _: Changes) -> Result<Commit> {
        Ok(Commit::Done)
    }
    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Err(Failure::new("not built yet"))
    }
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
