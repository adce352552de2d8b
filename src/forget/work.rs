//! The thread that gives space back.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bristlecone_delta::{Compactor, Graves, Locator, SavedGraves, SegmentView};

use super::{CompactProgress, CompactReport, GivenUp, LOOK_AGAIN, Wanted};
use crate::pipeline::Core;
use crate::runs::Run;
use crate::sync::lock;
use crate::{Error, Result};

/// Records that are looked at in one go.
const STEP_RECORDS: usize = 256;
/// For each moment of work so many of rest, where nobody waits.
const REST: u32 = 3;
/// A segment is written anew once one in so many of its bytes is dead.
const DEAD_PART: u64 = 4;
/// The same where somebody asked for it.
const WANTED_PART: u64 = 64;
/// So many times what the list of all that is dead takes is to be won, before it is written down and segments are written anew.
const WORTH: u64 = 16;
/// Bytes of that list for each record, about.
const LISTED_BYTES: u64 = 2;
/// How long it waits after a failure: twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Runs until it is told to stop. `waiting`: runs that went before the store was opened and were not taken in.
pub(crate) fn run(core: &Core, compactor: Compactor, saved: SavedGraves, waiting: Vec<Arc<Run>>) {
    let mut work = Work {
        core,
        compactor,
        graves: Graves::default(),
        saved: Some(saved),
        waiting: waiting.into(),
        taking: None,
        given_up: Vec::new(),
        unreached: Vec::new(),
        unsaved: false,
        watched: Vec::new(),
        needed: Vec::new(),
        since: Instant::now(),
        report: CompactReport::default(),
    };
    let mut retry = FIRST_RETRY;
    loop {
        let desk = &core.forgetting;
        work.hear();
        if desk.is_stopped() {
            if let Err(error) = work.remember() {
                tracing::debug!(%error, "what was given up stays");
            }
            return work.answer(&Err(Error::Closed));
        }
        match work.step() {
            Ok(true) => {
                work.tell();
                retry = FIRST_RETRY;
                lock(&desk.stats).failure = None;
                work.rest();
            }
            Ok(false) => {
                work.tell();
                work.answer(&Ok(()));
                let holds = !work.watched.is_empty() || !work.given_up.is_empty();
                desk.wait(if holds { LOOK_AGAIN } else { LAST_RETRY });
            }
            Err(error) => {
                work.tell();
                desk.failed(&error);
                work.answer(&Err(error));
                desk.pause(retry);
                retry = (retry * 2).min(LAST_RETRY);
            }
        }
    }
}

/// A run that went, on its way.
struct Taking {
    run: Arc<Run>,
    /// Newest records of pages whose chains are to be followed.
    pages: Vec<Locator>,
    /// Pages of trees, with their chains and all below.
    trees: Vec<Locator>,
    /// Records that something needs.
    held: Vec<Locator>,
}

struct Work<'c> {
    core: &'c Core,
    compactor: Compactor,
    graves: Graves,
    /// What was known before, until it is needed.
    saved: Option<SavedGraves>,
    waiting: VecDeque<Arc<Run>>,
    taking: Option<Taking>,
    /// What was given up and somebody may see.
    given_up: Vec<GivenUp>,
    /// Records that nothing reaches.
    unreached: Vec<Locator>,
    /// Some of them are among the graves and not in their file.
    unsaved: bool,
    /// Runs that went and of which somebody leases a version.
    watched: Vec<Arc<Run>>,
    /// Seals of runs that went and whose roots are needed; ascending.
    needed: Vec<Locator>,
    since: Instant,
    report: CompactReport,
}

impl Work<'_> {
    /// Takes what it is told.
    fn hear(&mut self) {
        let mut orders = lock(&self.core.forgetting.orders);
        self.waiting.extend(orders.gone.drain(..));
        orders.look = false;
        self.given_up.append(&mut orders.given_up);
    }

    /// Lists what was given up and what nobody sees any more; all of it where nobody looks any more.
    fn list_given_up(&mut self, all: bool) -> Result<()> {
        let view = self.compactor.segments().view();
        let leased = self.core.versions.kept_stamps();
        let is_seen =
            |what: &mut GivenUp| !all && what.seen.as_ref().is_some_and(|run| is_leased(&leased, run));
        for GivenUp { records, .. } in self.given_up.extract_if(.., |what| !is_seen(what)) {
            self.unreached.extend(view.records_between(records.start, records.end)?);
        }
        Ok(())
    }

    /// Says how it stands.
    fn tell(&self) {
        let graves = self.graves.stats();
        let mut stats = lock(&self.core.forgetting.stats);
        stats.waiting_runs = self.waiting.len() as u64 + u64::from(self.taking.is_some());
        stats.dead_records = graves.records;
        stats.dead_bytes = graves.bytes;
        stats.held_records = graves.held;
        drop(stats);
        if self.core.forgetting.is_urgent() && self.taking.is_some() {
            let runs = self.waiting.len() as u64 + 1;
            *lock(&self.core.forgetting.progress) =
                Some(CompactProgress { runs, written: 0, segments: 0, of: 0 });
        }
        self.core.counters.forgetting_bytes.store(graves.memory, std::sync::atomic::Ordering::Relaxed);
    }

    /// Ends the waiting of those who asked for a compaction.
    fn answer(&mut self, outcome: &Result<()>) {
        let wanted: Vec<Wanted> = std::mem::take(&mut lock(&self.core.forgetting.orders).wanted);
        for wanted in wanted {
            wanted.done.0.set(outcome.clone().map(|()| self.report));
        }
        self.report = CompactReport::default();
        *lock(&self.core.forgetting.progress) = None;
    }

    fn rest(&mut self) {
        let worked = self.since.elapsed();
        if !self.core.forgetting.is_urgent() {
            self.core.forgetting.pause(worked * REST);
        }
        self.since = Instant::now();
    }

    /// Does a little; whether there was anything to do.
    fn step(&mut self) -> Result<bool> {
        self.core.check_alive()?;
        if self.taking.is_none() && self.look_at_needs()? {
            return Ok(true);
        }
        self.list_given_up(false)?;
        if !self.unreached.is_empty() {
            let view = self.compactor.segments().view();
            let some = self.unreached.split_off(self.unreached.len().saturating_sub(STEP_RECORDS));
            some.into_iter().try_for_each(|record| self.graves.bury(&view, record))?;
            self.unsaved = true;
            return Ok(true);
        }
        let (run, done) = if let Some(taking) = self.taking.take() {
            (taking.run.clone(), self.go_on(taking))
        } else if let Some(run) = self.waiting.pop_front() {
            (run.clone(), self.begin(run))
        } else {
            return self.compact();
        };
        // It is begun anew then: what was noted once is not noted twice.
        done.inspect_err(|_| self.waiting.push_front(run))?;
        Ok(true)
    }

    /// Finds out which roots of runs that went are needed, and takes what is held and is not any more.
    fn look_at_needs(&mut self) -> Result<bool> {
        let leased = self.core.versions.kept_stamps();
        self.watched.retain(|run| is_leased(&leased, run));
        let newly = self.waiting.iter().filter(|run| is_leased(&leased, run));
        let kept = self.core.kept.load();
        let mut needed: Vec<Locator> = kept.needed().collect();
        for run in self.watched.iter().chain(newly) {
            needed.extend([Some(run.locator), run.seal.previous].into_iter().flatten());
        }
        needed.sort_unstable();
        needed.dedup();
        if needed == self.needed && self.saved.is_none() {
            return Ok(false);
        }
        let was = std::mem::replace(&mut self.needed, needed);
        let view = self.compactor.segments().view();
        if let Some(saved) = self.saved.take() {
            let settled = saved.clone().settle(&view);
            self.graves = settled.inspect_err(|_| self.saved = Some(saved))?;
        } else if was.iter().all(|seal| self.needed.binary_search(seal).is_ok()) {
            return Ok(false);
        }
        for died in self.graves.held_runs() {
            let records = self.graves.take_held(died);
            let (held, dead): (Vec<_>, Vec<_>) =
                records.into_iter().partition(|record| is_needed(&self.needed, *record, died));
            self.graves.hold(died, held);
            dead.into_iter().try_for_each(|record| self.graves.bury(&view, record))?;
        }
        Ok(true)
    }

    /// Takes up a run that went. Its operations with their values and its list go with it, and the seal before it, on which none that is kept stands any more.
    fn begin(&mut self, run: Arc<Run>) -> Result<()> {
        if self.graves.through().is_some_and(|through| run.locator <= through) {
            return Ok(());
        }
        let segments = Arc::clone(self.compactor.segments());
        let view = segments.view();
        let list = match run.seal.dead.map(|list| view.dead(list)).transpose() {
            // It was taken in once, and what was found was lost with the file that said so.
            Err(bristlecone_delta::Error::NoRecord { .. }) => None,
            list => list?,
        };
        let list = list.unwrap_or_default();
        let mut taking = Taking { pages: list.pages, trees: list.trees, held: Vec::new(), run };
        let mut own: Vec<Locator> = Vec::new();
        for table in taking.run.seal.namespaces.iter().filter_map(|space| space.table) {
            match view.table(table).and_then(|table| table.own_values()) {
                Ok(values) => own.extend(values),
                Err(bristlecone_delta::Error::NoRecord { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            own.push(table);
        }
        let after = taking.run.locator.next();
        let (needed, mut still) = (&self.needed, Vec::new());
        for record in own {
            match is_needed(needed, record, after) {
                true => still.push(record),
                false => self.graves.bury(&view, record)?,
            }
        }
        self.graves.hold(after, still);
        if let Some(seal) = taking.run.seal.previous {
            self.bury_or_hold(&view, &mut taking, seal)?;
        }
        self.taking = Some(taking);
        Ok(())
    }

    fn bury_or_hold(&mut self, view: &SegmentView<'_>, taking: &mut Taking, record: Locator) -> Result<()> {
        match is_needed(&self.needed, record, taking.run.locator) {
            true => taking.held.push(record),
            false => self.graves.bury(view, record)?,
        }
        Ok(())
    }

    /// Goes on with a run, for some records.
    fn go_on(&mut self, mut taking: Taking) -> Result<()> {
        let segments = Arc::clone(self.compactor.segments());
        let view = segments.view();
        let mut seen = 0;
        while seen < STEP_RECORDS {
            let (page, is_tree) = match (taking.pages.pop(), taking.trees.last().copied()) {
                (Some(page), _) => (page, false),
                (None, Some(root)) => (root, true),
                (None, None) => return self.end(&view, taking),
            };
            if is_tree {
                taking.trees.pop();
                match view.children(page) {
                    Ok(children) => taking.trees.extend(children),
                    Err(bristlecone_delta::Error::NoRecord { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            for record in view.chain(page)? {
                self.bury_or_hold(&view, &mut taking, record)?;
                seen += 1;
            }
        }
        self.taking = Some(taking);
        Ok(())
    }

    fn end(&mut self, view: &SegmentView<'_>, taking: Taking) -> Result<()> {
        if let Some(list) = taking.run.seal.dead {
            self.graves.bury(view, list)?;
        }
        let seal = taking.run.locator;
        self.graves.hold(seal, taking.held);
        self.graves.taken_through(seal);
        let of_it = [Some(seal), taking.run.seal.previous];
        if of_it.iter().flatten().any(|seal| self.needed.binary_search(seal).is_ok()) {
            self.watched.push(taking.run);
        }
        Ok(())
    }

    /// Writes down what was given up, which no list leads to once this ends. All else is found again.
    fn remember(&mut self) -> Result<()> {
        self.core.check_alive()?;
        self.list_given_up(true)?;
        if self.unreached.is_empty() && !self.unsaved {
            return Ok(());
        }
        let view = self.compactor.segments().view();
        if let Some(saved) = self.saved.take() {
            self.graves = saved.settle(&view)?;
        }
        self.unreached.drain(..).try_for_each(|record| self.graves.bury(&view, record))?;
        self.graves.save(&self.compactor)?;
        self.unsaved = false;
        Ok(())
    }

    /// Writes segments anew of which enough is dead; whether there was any. All that is dead is written down first.
    fn compact(&mut self) -> Result<bool> {
        let urgent = self.core.forgetting.is_urgent();
        let part = if urgent { WANTED_PART } else { DEAD_PART };
        let segments = Arc::clone(self.compactor.segments());
        let finished = segments.finished();
        let is_due = |(segment, dead): &(u32, u64)| {
            *segment < finished && segments.bytes_of(*segment).is_some_and(|bytes| dead * part >= bytes)
        };
        let due: Vec<(u32, u64)> = self.graves.segments().filter(is_due).collect();
        let gain: u64 = due.iter().map(|(_, dead)| dead).sum();
        let stats = self.graves.stats();
        if due.is_empty() || !urgent && gain < (stats.records + stats.held) * LISTED_BYTES * WORTH {
            return Ok(false);
        }
        self.graves.save(&self.compactor)?;
        self.unsaved = false;
        let mut written = 0;
        for (done, (segment, _)) in due.iter().enumerate() {
            let told = |written: u64| {
                let progress =
                    CompactProgress { runs: 0, written, segments: done as u64, of: due.len() as u64 };
                *lock(&self.core.forgetting.progress) = Some(progress);
            };
            told(written);
            let (graves, desk, since) = (&self.graves, &self.core.forgetting, &mut self.since);
            let is_live = |record| !graves.is_dead(*segment, record);
            let outcome = self.compactor.compact(*segment, is_live, &mut |bytes| {
                written += bytes;
                told(written);
                if !desk.is_urgent() {
                    desk.pause(since.elapsed() * REST);
                }
                *since = Instant::now();
                if desk.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let Some(done) = outcome.map_err(Error::from)? else { return Ok(true) };
            self.graves.cleared(*segment);
            self.report.segments += 1;
            self.report.before += done.before;
            self.report.after += done.after;
            self.report.records += done.gone;
            let mut stats = lock(&self.core.forgetting.stats);
            stats.compactions += 1;
            stats.freed_bytes += done.before.saturating_sub(done.after);
            drop(stats);
            self.tell();
            self.rest();
        }
        Ok(true)
    }
}

/// Whether one of the stamps `leased`, ascending, is of a version of the run.
fn is_leased(leased: &[u64], run: &Run) -> bool {
    let (Some(first), last) = (run.seal.versions.first(), run.end.word()) else { return false };
    let from = leased.partition_point(|stamp| *stamp < first.stamp.word());
    leased.get(from).is_some_and(|stamp| *stamp <= last)
}

/// Whether one of the roots with the seals `needed` reaches a record that died in the run with the seal `died`.
fn is_needed(needed: &[Locator], record: Locator, died: Locator) -> bool {
    let next = needed.partition_point(|seal| *seal < record);
    needed.get(next).is_some_and(|seal| *seal < died)
}
