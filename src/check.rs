//! Reading everything and believing nothing.

use std::collections::HashMap;
use std::sync::Arc;

use bristlecone_delta::Locator;
use bristlecone_trie::{B256, Item, NodeRef, Page};

use crate::graph::load;
use crate::options::Namespace;
use crate::pipeline::Core;
use crate::runs::Run;
use crate::state::{empty_root, store_root};
use crate::{Error, Result, Store};

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs checked.
    pub runs: u64,
    /// Runs in all.
    pub of: u64,
    /// Pages recomputed so far.
    pub pages: u64,
}

/// What a check found in order.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Records whose checksums were verified.
    pub records: u64,
    /// Bytes in use in segments.
    pub bytes: u64,
    /// Sealed versions that are kept.
    pub versions: u64,
    /// Sealed runs whose roots were recomputed from their pages.
    pub runs: u64,
    /// Pages recomputed.
    pub pages: u64,
    /// Damaged places that no kept version needs, [`MOST_TOLD`](Self::MOST_TOLD) at most: what a rollback or a repair gave up, say. They go when
    /// their segments are written anew.
    pub unneeded: Vec<Error>,
}

impl CheckReport {
    /// So many damaged places are listed.
    pub const MOST_TOLD: usize = 1_000;
}

/// A run of sealed versions that cannot be read in full.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DamagedRun {
    /// Its first version.
    pub first: u64,
    /// Its last version.
    pub last: u64,
    /// What was met, and where.
    pub error: Error,
}

impl Store {
    /// Verifies every checksum, recomputes the hashes of every stored page of every sealed run from its leaves, and compares
    /// them with what parents and seals hold. Unsealed versions are not part of it: [`flush`](Self::flush) first.
    ///
    /// Cost: a read of the whole store, and a hash for each node ever stored; memory for one word and one hash a page.
    ///
    /// # Errors
    ///
    /// The first damage that a kept version needs, with where it is. [`damage`](Self::damage) says what of the store it affects.
    pub fn check(&self, mut progress: impl FnMut(Progress)) -> Result<CheckReport> {
        let core = &self.inner.core;
        let mut unneeded = Vec::new();
        core.graph.segments.verify(|damage| {
            if unneeded.len() < CheckReport::MOST_TOLD {
                unneeded.push(Error::from(damage));
            }
            Ok(())
        })?;
        let stats = core.graph.segments.stats();
        let mut report = CheckReport { records: stats.records, bytes: stats.bytes, ..CheckReport::default() };
        self.each_run(|checker, (run, need), at| {
            // Where a record is damaged that this needs, it was met already: the place says more than what came of it.
            checker.read(run, need).map_err(|error| unneeded.first().cloned().unwrap_or(error))?;
            report.runs += 1;
            report.pages = at.pages;
            progress(at);
            Ok(())
        })?;
        // A run may be sealed again, and hold versions that went: so not by what seals say.
        report.versions = self.versions().iter().filter(|info| info.sealed).count() as u64;
        report.unneeded = unneeded;
        Ok(report)
    }

    /// The sealed runs that cannot be read in full, pinned ones first and then oldest first: as [`check`](Self::check), but run by run and to the end.
    ///
    /// Cost: as that of `check`.
    pub fn damage(&self, mut progress: impl FnMut(Progress)) -> Vec<DamagedRun> {
        let mut damaged = Vec::new();
        let outcome = self.each_run(|checker, (run, need), at| {
            if let Err(error) = checker.read(run, need) {
                damaged.push(DamagedRun { first: run.first, last: run.last, error });
            }
            progress(at);
            Ok(())
        });
        debug_assert!(outcome.is_ok());
        damaged
    }

    /// Calls `each` with every run that a kept version needs, and what it needs of it.
    fn each_run(
        &self,
        mut each: impl FnMut(&mut Checker<'_>, (&Run, Need), Progress) -> Result<()>,
    ) -> Result<()> {
        let core = &self.inner.core;
        let (runs, kept) = (core.runs.now(), core.kept.load_full());
        // Versions inside a run stand on the one before it.
        let mut all: Vec<(Arc<Run>, Need)> = Vec::with_capacity(runs.len());
        for past in kept.pins.iter().map(|pin| &pin.past) {
            if past.is_end() {
                all.push((past.run.clone(), Need::End));
            } else {
                all.extend(past.before.clone().map(|before| (before, Need::End)));
                all.push((past.run.clone(), Need::All));
            }
        }
        if let Some(first) = runs.first().filter(|first| kept.oldest < first.last) {
            let before = runs.find(first.first).and_then(|past| past.before);
            all.extend(before.map(|before| (before, Need::End)));
        }
        all.extend(runs.iter().map(|run| (run.clone(), Need::All)));
        let mut checker = Checker::new(core);
        for (at, (run, need)) in all.iter().enumerate() {
            let (of, pages) = (all.len() as u64, checker.known.len() as u64);
            each(&mut checker, (run, *need), Progress { runs: at as u64 + 1, of, pages })?;
        }
        Ok(())
    }
}

/// What of a run is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Where it ends.
    End,
    /// The versions inside it too.
    All,
}

/// Recomputes runs.
pub(crate) struct Checker<'a> {
    core: &'a Core,
    known: HashMap<Locator, NodeRef>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Self { core, known: HashMap::new() }
    }
}

impl Checker<'_> {
    /// Reads what is needed of a run; nothing of the run before it.
    pub(crate) fn read(&mut self, run: &Run, need: Need) -> Result<()> {
        if self.core.graph.segments.seal(run.locator)? != run.seal {
            return Err(Error::Damaged { what: format!("the seal of version {}", run.last) });
        }
        self.end(run)?;
        if need == Need::All { self.tables(run) } else { Ok(()) }
    }

    /// Recomputes the roots at the end of a run.
    fn end(&mut self, run: &Run) -> Result<()> {
        let core = self.core;
        let mut roots = Vec::with_capacity(core.namespaces.len());
        for (namespace, sealed) in core.namespaces.iter().zip(&run.seal.namespaces) {
            let root = self.root(namespace, sealed.root_page)?;
            if root != sealed.root_node {
                let what = format!("the root of `{}` at version {}", namespace.name, run.last);
                return Err(Error::Damaged { what });
            }
            roots.push(root);
        }
        let users = core.user_namespaces();
        let root = store_root(users, roots.get(..users.len()).unwrap_or_default());
        if run.seal.versions.last().and_then(|version| version.root).is_some_and(|known| known != root) {
            return Err(Error::Damaged { what: format!("the store's root at version {}", run.last) });
        }
        Ok(())
    }

    /// Reads what the versions inside a run need besides the pages at its end.
    fn tables(&self, run: &Run) -> Result<()> {
        let view = self.core.graph.segments.view();
        for table in (0..self.core.namespaces.len()).filter_map(|at| run.table(at)) {
            for op in view.table(table)?.iter_from(0) {
                op?;
            }
        }
        Ok(())
    }

    fn root(&mut self, namespace: &Namespace, page: Option<Locator>) -> Result<B256> {
        let Some(page) = page else { return Ok(empty_root(namespace.scheme)) };
        let node = self.page(namespace, page, true, None)?;
        Ok(node.as_hash().unwrap_or_default())
    }

    /// The reference of a page, recomputed from everything below it.
    fn page(
        &mut self,
        namespace: &Namespace,
        locator: Locator,
        is_root: bool,
        expected: Option<NodeRef>,
    ) -> Result<NodeRef> {
        if let Some(node) = self.known.get(&locator) {
            return match expected {
                Some(expected) if expected != *node => {
                    Err(Error::Damaged { what: format!("the page at record {locator:?}") })
                }
                _ => Ok(*node),
            };
        }
        let segments = &self.core.graph.segments;
        let loaded = load(segments, locator, namespace.scheme, namespace.shape, is_root, expected)?;
        let page = Page::new(&loaded.bytes);
        for (entry, node) in page.entries().zip(&loaded.refs) {
            if let Item::Child { reference } = entry.item {
                let child =
                    Locator::from_word(reference).ok_or(Error::Internal("a stored child is no record"))?;
                self.page(namespace, child, false, Some(*node))?;
            }
        }
        let node = loaded.refs.last().copied().ok_or(Error::Internal("a stored page without entries"))?;
        self.known.insert(locator, node);
        Ok(node)
    }
}
