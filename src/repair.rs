//! Mending what is damaged, as far as there is a second copy of it: the batch log holds the newest commits for some time after they
//! were sealed.
//!
//! A store that opens is rolled back to the last version that can be read in full, and the commits after it are made again. One that
//! does not is cut off behind the last seal up to which it can be read, and opened as after a kill. Older damage stays: of that there is no second copy.

use std::ops::RangeInclusive;
use std::path::Path;

use bristlecone_delta::{LoggedBatch, Remains, SealedVersion, Segments, salvage};

use bristlecone_trie::B256;

use crate::check::{Checker, DamagedRun, Needed, Progress};
use crate::graph::Graph;
use crate::kept::Kept;
use crate::pipeline::Core;
use crate::runs::Runs;
use crate::store::{configured, prepared};
use crate::{Error, Options, Pin, Result, Store};

mod unfinished;

use unfinished::Unfinished;

/// Versions that were given up and must be committed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The first one.
    pub first: u64,
    /// The last one, where anything that can be read names it.
    pub last: Option<u64>,
}

/// What a repair found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// What kept the store from being opened, or all of its versions from being read, where something did: it was cut off behind the last seal
    /// up to which it can be read then.
    pub unopened: Option<Error>,
    /// Runs that were damaged when it could be opened, oldest first. Those up to the latest version that was not given up are damaged still.
    pub damaged: Vec<DamagedRun>,
    /// The versions that were given up and made again from the batch log, with the roots that they had.
    pub restored: Option<RangeInclusive<u64>>,
    /// The versions that were given up and that the log does not hold any more.
    pub lost: Option<Lost>,
}

impl RepairReport {
    /// Whether something was given up, if only to be made again.
    pub fn changed(&self) -> bool {
        self.unopened.is_some() || self.restored.is_some() || self.lost.is_some()
    }

    /// The runs that are damaged still.
    pub fn left(&self) -> impl Iterator<Item = &DamagedRun> {
        let given_up =
            [self.restored.as_ref().map(|restored| *restored.start()), self.lost.map(|lost| lost.first)];
        let first = given_up.into_iter().flatten().min().unwrap_or(u64::MAX);
        self.damaged.iter().filter(move |run| run.last < first)
    }
}

impl Options {
    /// Opens the store in `dir`, which is damaged, with what can be mended mended; see [`Store::repair`]. Where damage keeps it from being opened, it is
    /// cut off behind the last seal up to which it can be read in full, and the commits after that are taken from the batch log, as
    /// far as that holds them. The files of segments as they were go into the directory `damaged` of the store. Pruning that was sealed in what
    /// is cut off is forgotten; so is a rollback, if nothing was committed after it.
    ///
    /// Cost: that of [`Store::damage`], more than once.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the damage that keeps it from being opened where nothing can be mended: nothing was changed then.
    pub fn repair(
        &self,
        dir: impl AsRef<Path>,
        mut progress: impl FnMut(Progress),
    ) -> Result<(Store, RepairReport)> {
        let (dir, options) = (dir.as_ref(), Self { create: false, ..self.clone() });
        let error = match options.open(dir) {
            Ok(store) => match store.repair(&mut progress) {
                Ok(report) => return Ok((store, report)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if !error.is_damage() {
            return Err(error);
        }
        tracing::warn!(%error, "the store is to be cut off before its damage");
        let mut cut = self.cut(dir, &error)?;
        let store = options.open(dir)?;
        let report = store.repair(progress)?;
        cut.damaged = report.damaged;
        cut.restored = match (cut.restored, report.restored) {
            (Some(cut), Some(more)) => Some(*cut.start().min(more.start())..=*more.end()),
            (cut, more) => cut.or(more),
        };
        // What was made again after it was cut off is not lost.
        let next = store.latest_version().map_or(0, |latest| latest + 1);
        let lost = cut.lost.filter(|lost| lost.last.is_none_or(|last| last >= next));
        cut.lost = report.lost.or(lost.map(|lost| Lost { first: lost.first.max(next), ..lost }));
        Ok((store, cut))
    }

    /// Whether a repair of the store in `dir` was stopped before it was done. Another one goes on with it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn has_unfinished_repair(&self, dir: impl AsRef<Path>) -> Result<bool> {
        Ok(Unfinished::read(&*self.vfs, dir.as_ref())?.is_some())
    }

    /// Cuts the store in `dir` off; `error` is what to say where that would mend nothing.
    fn cut(&self, dir: &Path, error: &Error) -> Result<RepairReport> {
        let wreck = salvage::examine(&*self.vfs, dir)?;
        let (first_version, _) = configured(&wreck.identity, self, dir)?;
        let last_sealed = wreck
            .seals
            .iter()
            .find_map(|seal| wreck.segments.seal(*seal).ok()?.versions.last().map(|version| version.version));
        let whole = self.last_whole(&wreck, dir)?;
        if whole.is_none() {
            // To begin anew is worth it only where nothing is lost by it.
            let remains = Remains::read(&*self.vfs, dir)?;
            let commits = remains.after(None, 0);
            let at = |stamp| remains.commit(stamp).map(|commit| commit.version);
            let begins = commits.first().copied().and_then(at) == Some(first_version);
            let last = commits.last().copied();
            let is_more = remains.newest_after(last).is_some() || last.and_then(at) < last_sealed;
            if !begins || is_more || remains.is_cut_short(None) {
                return Err(error.clone());
            }
        }
        if let Some(last) = last_sealed {
            Unfinished { base: None, last, pins: Vec::new() }.write(&*self.vfs, dir)?;
        }
        let cut = salvage::cut(&self.vfs, dir, &self.of_files(), whole.map(|(seal, _)| seal))?;
        let mut report = RepairReport { unopened: Some(error.clone()), ..RepairReport::default() };
        let next = whole.map_or(first_version, |(_, version)| version + 1);
        if let Some(last) = cut.last.filter(|_| cut.waiting > 0) {
            report.restored = Some(next..=last);
        }
        let known = cut.younger.max(last_sealed);
        let first = cut.last.map_or(first_version, |last| last + 1);
        if known >= Some(first) {
            report.lost = Some(Lost { first, last: known });
        } else if cut.more {
            report.lost = Some(Lost { first, last: None });
        }
        Ok(report)
    }

    /// The seal of the last run that can be read in full, and the version that it ends with.
    fn last_whole(
        &self,
        wreck: &salvage::Wreck,
        dir: &Path,
    ) -> Result<Option<(bristlecone_delta::Locator, u64)>> {
        let options = Self { threads: 1, ..self.clone() };
        for (at, seal) in wreck.seals.iter().enumerate() {
            let Some((kept, runs)) = chain(&wreck.segments, *seal) else { continue };
            let (_, namespaces) = configured(&wreck.identity, self, dir)?;
            let graph = Graph::new(wreck.segments.clone(), self.cache_bytes);
            let core = Core::new(graph, namespaces, runs, kept, &options)?;
            let mut checker = Checker::new(&core);
            let older = wreck.seals.get(at..).unwrap_or_default();
            let runs = core.runs.now();
            let whole = runs
                .iter()
                .rev()
                .find(|run| older.contains(&run.locator) && checker.read(&Needed::end(run)).is_ok());
            return Ok(whole.map(|run| (run.locator, run.last)));
        }
        Ok(None)
    }
}

/// The runs that end with `seal`, where all of their seals can be read.
fn chain(segments: &Segments, seal: bristlecone_delta::Locator) -> Option<(Kept, Runs)> {
    let last = segments.seal(seal).ok()?;
    let kept = Kept::read(segments, &last).ok()?;
    let (runs, _) = Runs::walk(segments, Some(seal), kept.oldest, Some(seal)).ok()?;
    Some((kept, runs))
}

impl Store {
    /// Goes back to the last version that can be read in full, where the newest ones cannot, and makes the commits after it again from the batch
    /// log, as far as that holds them still: with the roots that they had, and with new stamps. What it does not hold is given up, as by
    /// [`rollback`](Self::rollback), and must be committed again. Nothing is done where only older versions are damaged:
    /// a store has no second copy of them, and [`prune`](Self::prune) gives them up.
    ///
    /// Cost: that of [`damage`](Self::damage), of `rollback`, and of the commits.
    ///
    /// # Errors
    ///
    /// The first damage, where no version can be read in full: nothing was changed. After any other, or a stop, a repair goes on where this one was. As [`rollback`](Self::rollback) and
    /// [`commit`](Self::commit) otherwise.
    pub fn repair(&self, progress: impl FnMut(Progress)) -> Result<RepairReport> {
        self.flush()?;
        let vfs = &*self.inner.vfs;
        let damaged = self.damage(progress);
        let runs = self.inner.core.runs.now();
        let is_whole = |last: u64| !damaged.iter().any(|run| (run.first..=run.last).contains(&last));
        let whole = runs.iter().rev().map(|run| run.last).find(|last| is_whole(*last));
        let latest = self.latest_version();
        if damaged.is_empty() || whole == latest {
            return self.go_on(damaged);
        }
        let (Some(whole), Some(latest)) = (whole, latest) else {
            let first = damaged.into_iter().next();
            return first.map_or_else(|| Ok(RepairReport::default()), |run| Err(run.error));
        };
        let given_up = runs.iter().flat_map(|run| &run.seal.versions).filter(|sealed| sealed.version > whole);
        let given_up: Vec<SealedVersion> = given_up.cloned().collect();
        let logged = {
            let remains = Remains::read(vfs, &self.inner.dir)?;
            let logged = given_up.iter().map_while(|sealed| remains.commit(sealed.stamp));
            logged.collect::<Vec<_>>()
        };
        let pins = self.pins();
        // A stop from here on must lose neither them nor what is to be told.
        Remains::keep(vfs, &self.inner.dir)?;
        let base = runs.iter().find(|run| run.last == whole).map(|run| run.end);
        Unfinished { base, last: latest, pins: pins.clone() }.write(vfs, &self.inner.dir)?;
        self.rollback(whole)?;
        let mut last = whole;
        for (logged, sealed) in logged.iter().zip(&given_up) {
            self.commit_again(logged, sealed.root)?;
            last = sealed.version;
        }
        self.pin_again(&pins, whole, last)?;
        self.flush()?;
        self.finished()?;
        Ok(RepairReport {
            damaged,
            restored: (last > whole).then_some(whole + 1..=last),
            lost: (last < latest).then_some(Lost { first: last + 1, last: Some(latest) }),
            unopened: None,
        })
    }

    fn pin_again(&self, pins: &[Pin], after: u64, last: u64) -> Result<()> {
        for pin in pins.iter().filter(|pin| pin.version > after && pin.version <= last) {
            self.pin(&pin.name, pin.version)?;
        }
        Ok(())
    }

    fn finished(&self) -> Result<()> {
        Remains::forget_kept(&*self.inner.vfs, &self.inner.dir)?;
        Unfinished::remove(&*self.inner.vfs, &self.inner.dir)
    }

    /// Goes on with a repair that was stopped after it had gone back, if there was one: makes again what is left of what it would have made.
    fn go_on(&self, damaged: Vec<DamagedRun>) -> Result<RepairReport> {
        let (vfs, dir) = (&*self.inner.vfs, &self.inner.dir);
        let mut report = RepairReport { damaged, ..RepairReport::default() };
        let Some(unfinished) = Unfinished::read(vfs, dir)? else {
            Remains::forget_kept(vfs, dir)?;
            return Ok(report);
        };
        let versions = self.versions();
        // Where the version is gone that it went back to, somebody else went back further.
        let at = unfinished.base.and_then(|base| versions.iter().position(|info| info.stamp == base));
        if let Some((base, made)) = at.and_then(|at| versions.get(at..)?.split_first()) {
            let kept = Remains::read_kept(vfs, dir)?;
            let wanted = kept.after(Some(base.stamp), 0);
            // Its own commits, and nobody else's.
            let is_same = made.len() <= wanted.len()
                && made
                    .iter()
                    .zip(&wanted)
                    .all(|(info, stamp)| info.root.is_some() && kept.root(*stamp) == info.root);
            let left = wanted.get(made.len()..).filter(|_| is_same).unwrap_or_default();
            let first = base.version + 1 + made.len() as u64;
            let mut last = None;
            for logged in left.iter().map_while(|stamp| kept.commit(*stamp)) {
                if logged.version > unfinished.last {
                    break;
                }
                self.commit_again(&logged, kept.root(logged.stamp))?;
                last = Some(logged.version);
            }
            report.restored = last.map(|last| first..=last);
            if is_same {
                let latest = self.latest_version().unwrap_or(base.version);
                self.pin_again(&unfinished.pins, base.version, latest)?;
            }
        }
        if at.is_some() || unfinished.base.is_none() {
            let first = self.latest_version().map_or(0, |latest| latest + 1);
            let last = Some(unfinished.last);
            report.lost = (unfinished.last >= first).then_some(Lost { first, last });
        }
        self.flush()?;
        self.finished()?;
        Ok(report)
    }

    /// Makes a commit again that was given up: it gets the version and the root that it had.
    fn commit_again(&self, logged: &LoggedBatch, root: Option<B256>) -> Result<()> {
        let ops = prepared(&self.inner.core, logged)?;
        let commit = match self.commit_prepared(ops.clone()) {
            Err(Error::Busy { .. } | Error::UnsealedPages { .. } | Error::Unrooted { .. }) => {
                self.flush()?;
                self.commit_prepared(ops)
            }
            made => made,
        }?;
        let is_same = match root {
            Some(root) => commit.root().wait()? == root,
            None => true,
        };
        if is_same && commit.version() == logged.version {
            return Ok(());
        }
        Err(Error::Damaged { what: format!("version {}, made again from the batch log,", logged.version) })
    }
}
