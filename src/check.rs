//! Reading everything and believing nothing.

use std::collections::HashMap;
use std::ops::RangeInclusive;
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// What [`Store::repair`] found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// Runs that were damaged, oldest first. Those up to the latest version that there is now are damaged still.
    pub damaged: Vec<DamagedRun>,
    /// The versions that were given up, if any.
    pub lost: Option<RangeInclusive<u64>>,
}

impl Store {
    /// Verifies every checksum, recomputes the hashes of every stored page of every sealed run from its leaves, and compares
    /// them with what parents and seals hold. Unsealed versions are not part of it: [`flush`](Self::flush) first.
    ///
    /// Cost: a read of the whole store, and a hash for each node ever stored; memory for one word and one hash a page.
    ///
    /// # Errors
    ///
    /// The first damage, with where it is. [`damage`](Self::damage) says what of the store it affects.
    pub fn check(&self, mut progress: impl FnMut(Progress)) -> Result<CheckReport> {
        let core = &self.inner.core;
        let stats = core.graph.segments.verify_all()?;
        let runs = core.runs.now();
        let kept = core.kept.load_full();
        let pinned = kept.pins.iter().map(|pin| &pin.past.run);
        let of = (runs.len() + kept.pins.len()) as u64;
        let mut checker = Checker { core, known: HashMap::new() };
        let mut report = CheckReport { records: stats.records, bytes: stats.bytes, ..CheckReport::default() };
        for run in pinned.chain(runs.iter()) {
            checker.run(run)?;
            report.runs += 1;
            report.pages = checker.known.len() as u64;
            progress(Progress { runs: report.runs, of, pages: report.pages });
        }
        // A run may be sealed again, and hold versions that went: so not by what seals say.
        report.versions = self.versions().iter().filter(|info| info.sealed).count() as u64;
        Ok(report)
    }

    /// The sealed runs that cannot be read in full, oldest first: as [`check`](Self::check), but run by run and to the end. Records that no kept version
    /// needs are not looked at.
    ///
    /// Cost: as that of `check`.
    pub fn damage(&self, mut progress: impl FnMut(Progress)) -> Vec<DamagedRun> {
        let core = &self.inner.core;
        let runs = core.runs.now();
        let mut checker = Checker { core, known: HashMap::new() };
        let mut damaged = Vec::new();
        for (at, run) in runs.iter().enumerate() {
            if let Err(error) = checker.run(run).and_then(|()| checker.tables(run)) {
                damaged.push(DamagedRun { first: run.first, last: run.last, error });
            }
            let (of, pages) = (runs.len() as u64, checker.known.len() as u64);
            progress(Progress { runs: at as u64 + 1, of, pages });
        }
        damaged
    }

    /// Goes back to the last version that can be read in full, where the newest ones cannot: what came after it is given up, as by
    /// [`rollback`](Self::rollback), and must be committed again. Nothing is done where only older versions are damaged:
    /// a store has no second copy of them, and [`prune`](Self::prune) gives them up.
    ///
    /// Cost: that of [`damage`](Self::damage), and of `rollback`.
    ///
    /// # Errors
    ///
    /// The first damage, where no version can be read in full: nothing was changed. As [`rollback`](Self::rollback) otherwise.
    pub fn repair(&self, progress: impl FnMut(Progress)) -> Result<RepairReport> {
        self.flush()?;
        let damaged = self.damage(progress);
        let runs = self.inner.core.runs.now();
        let is_whole = |run: &&Arc<Run>| damaged.iter().all(|damaged| damaged.last != run.last);
        let whole = runs.iter().rev().find(is_whole).map(|run| run.last);
        let latest = self.latest_version();
        if damaged.is_empty() || whole == latest {
            return Ok(RepairReport { damaged, lost: None });
        }
        let (Some(whole), Some(latest)) = (whole, latest) else {
            let first = damaged.into_iter().next();
            return first.map_or_else(|| Ok(RepairReport::default()), |run| Err(run.error));
        };
        self.rollback(whole)?;
        Ok(RepairReport { damaged, lost: Some(whole + 1..=latest) })
    }
}

struct Checker<'a> {
    core: &'a Core,
    known: HashMap<Locator, NodeRef>,
}

impl Checker<'_> {
    /// Recomputes the roots at the end of a run.
    fn run(&mut self, run: &Run) -> Result<()> {
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
