//! What a read touches, counted: for those who weigh growth against reading.

use bristlecone_delta::{Found, Locator};

use crate::graph::Graph;
use crate::{Key, Result, View};

/// The pages and records that a read of one key touches. What a read finds in memory counts as pages alone: it touches no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadPath {
    /// Pages in memory.
    pub memory_pages: u64,
    /// Pages in the log.
    pub stored_pages: u64,
    /// Records of these that are touched until the key is found or known to be absent, and tables of runs.
    pub records: u64,
    /// All records that these pages consist of: what a read touches at the worst.
    pub whole_chains: u64,
}

impl View<'_> {
    /// What reading `key` touches. A diagnostic: it costs more than the read.
    ///
    /// # Errors
    ///
    /// As for reading it.
    pub fn read_path(&self, key: Key<'_>) -> Result<ReadPath> {
        let key = self.trie_key(key)?;
        let core = &self.snapshot.inner.core;
        let mut path = ReadPath::default();
        match self.snapshot.state() {
            Ok(state) => {
                let root = state.spaces.get(self.space).and_then(|space| space.root);
                let (pages, stored) = core.graph.way_to_log(root, &key)?;
                path.memory_pages = pages;
                path.follow(&core.graph, stored, &key)?;
            }
            Err(past) => {
                let at = path.follow(&core.graph, past.run.root(self.space), &key)?;
                if !past.is_end() && at.is_none_or(|at| at > past.stamp().word()) {
                    path.records += u64::from(past.run.table(self.space).is_some());
                    let before = past.before.as_ref().and_then(|before| before.root(self.space));
                    path.follow(&core.graph, before, &key)?;
                }
            }
        }
        Ok(path)
    }
}

impl ReadPath {
    /// Counts what a lookup from `page` on touches. Says the stamp of what it finds.
    fn follow(&mut self, graph: &Graph, page: Option<Locator>, key: &[u8]) -> Result<Option<u64>> {
        let view = graph.segments.view();
        let mut next = page;
        while let Some(page) = next {
            let (found, path) = view.find_path(page, key)?;
            self.stored_pages += 1;
            self.records += u64::from(path.records);
            self.whole_chains += u64::from(path.chain);
            next = match found {
                Found::Child { locator, .. } => Some(locator),
                Found::Leaf { stamp, .. } | Found::Account { stamp, .. } => return Ok(Some(stamp.word())),
                Found::Absent => None,
            };
        }
        Ok(None)
    }
}
