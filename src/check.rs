//! Reading everything and believing nothing.

use std::collections::{HashMap, HashSet};
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

/// Sealed versions in a row that cannot be read in full.
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
    /// Verifies every checksum, recomputes the hashes of every page at the end of every sealed run from its leaves, and compares
    /// them with what parents and seals hold. Of versions inside runs what they changed is read, and what they stand on. Unsealed
    /// versions are not part of it: [`flush`](Self::flush) first.
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
        self.each_need(&mut progress, |checker, needed| {
            checker.read(needed)?;
            (report.runs, report.pages) = (checker.ends.len() as u64, checker.known.len() as u64);
            Ok(())
        })?;
        // A run may be sealed again, and hold versions that went: so not by what seals say.
        report.versions = self.versions().iter().filter(|info| info.sealed).count() as u64;
        report.unneeded = unneeded;
        Ok(report)
    }

    /// The sealed versions that cannot be read in full, as stretches of neighbours, oldest first: as [`check`](Self::check), but to the end.
    ///
    /// Cost: as that of `check`.
    pub fn damage(&self, mut progress: impl FnMut(Progress)) -> Vec<DamagedRun> {
        let mut damaged: Vec<DamagedRun> = Vec::new();
        let outcome = self.each_need(&mut progress, |checker, needed| {
            if let Err(error) = checker.read(needed) {
                let (first, last) = needed.versions;
                match damaged.iter_mut().find(|known| first <= known.last + 1 && known.first <= last + 1) {
                    Some(known) => (known.first, known.last) = (known.first.min(first), known.last.max(last)),
                    None => damaged.push(DamagedRun { first, last, error }),
                }
            }
            Ok(())
        });
        debug_assert!(outcome.is_ok());
        damaged.sort_by_key(|run| run.first);
        damaged
    }

    /// Calls `each` with everything that a kept version needs.
    fn each_need(
        &self,
        progress: &mut impl FnMut(Progress),
        mut each: impl FnMut(&mut Checker<'_>, &Needed) -> Result<()>,
    ) -> Result<()> {
        let core = &self.inner.core;
        let (runs, kept) = (core.runs.now(), core.kept.load_full());
        let mut all: Vec<Needed> = Vec::with_capacity(2 * runs.len());
        for (past, version) in kept.pins.iter().map(|pin| (&pin.past, pin.version())) {
            all.push(match past.is_end() {
                true => Needed::end(&past.run),
                false => Needed::inside(&past.run, past.before.clone(), (version, version)),
            });
        }
        let mut base = runs.first().and_then(|first| runs.find(first.first)).and_then(|past| past.before);
        for run in runs.iter() {
            let first = run.first.max(kept.oldest);
            if first < run.last {
                all.push(Needed::inside(run, base, (first, run.last - 1)));
            }
            all.push(Needed::end(run));
            base = Some(run.clone());
        }
        let mut checker = Checker::new(core);
        let ends = all.iter().filter_map(|needed| needed.end.as_ref());
        let of = ends.map(|run| run.locator).collect::<HashSet<_>>().len() as u64;
        for needed in &all {
            each(&mut checker, needed)?;
            progress(Progress { runs: checker.ends.len() as u64, of, pages: checker.known.len() as u64 });
        }
        Ok(())
    }
}

/// What some versions need.
pub(crate) struct Needed {
    /// The end of a run, but for versions of the first run.
    end: Option<Arc<Run>>,
    /// What happened in a run, for those that are inside.
    inside: Option<Arc<Run>>,
    /// The first and the last of them.
    versions: (u64, u64),
}

impl Needed {
    /// What the last version of a run needs.
    pub(crate) fn end(run: &Arc<Run>) -> Self {
        Self { end: Some(run.clone()), inside: None, versions: (run.last, run.last) }
    }

    /// What versions inside a run need, which stand on the end of the one before it.
    fn inside(run: &Arc<Run>, before: Option<Arc<Run>>, versions: (u64, u64)) -> Self {
        Self { end: before, inside: Some(run.clone()), versions }
    }
}

/// Recomputes runs.
pub(crate) struct Checker<'a> {
    core: &'a Core,
    known: HashMap<Locator, NodeRef>,
    /// Seals of the runs whose ends were looked at.
    ends: HashSet<Locator>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Self { core, known: HashMap::new(), ends: HashSet::new() }
    }
}

impl Checker<'_> {
    /// Reads what is needed.
    pub(crate) fn read(&mut self, needed: &Needed) -> Result<()> {
        needed.end.as_ref().map_or(Ok(()), |run| self.end(run))?;
        needed.inside.as_ref().map_or(Ok(()), |run| self.tables(run))
    }

    /// Recomputes the roots at the end of a run.
    fn end(&mut self, run: &Run) -> Result<()> {
        let core = self.core;
        self.ends.insert(run.locator);
        if core.graph.segments.seal(run.locator)? != run.seal {
            return Err(Error::Damaged { what: format!("the seal of version {}", run.last) });
        }
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
