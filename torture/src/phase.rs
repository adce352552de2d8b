//! A stretch of work on one simulated disk, from an opening to its end.

use bristlecone::vfs::sim::{CrashPolicy, SimVfs};
use bristlecone::{Batch, Commit, Error, Store};

use crate::jitter::jittered;
use crate::timeline::{Found, Kept, Timeline};
use crate::workload::{ALL, Act, Values, Workload};
use crate::{Change, Check, Config, Depth, Model, Rng, Universe, batches, verify};

pub const DIR: &str = "/a/store";

/// What a poisoned store says.
const TAKES_NO_MORE: &str = "takes no more writes";

/// A store that is being worked on, or was.
#[derive(Debug)]
pub struct Phase {
    pub sim: SimVfs,
    pub workload: Workload,
    pub config: Config,
    pub timeline: Timeline,
    /// What went wrong, where calls fail by order.
    pub failure: Option<String>,
    /// Pauses of the disk, by which threads take turns in other orders.
    pub jitter: Option<u64>,
    /// What was done, in order, each with the number of operations before it.
    pub done: Vec<(usize, Act)>,
    rng: Rng,
    commit: Option<Commit>,
}

/// What a workload starts with: nothing on the disk.
pub fn beginning(workload: &Workload, seed: u64) -> (Config, Found, Rng) {
    let mut rng = Rng::new(seed);
    let config = workload.config(seed, &mut rng);
    let universe = Universe::random(&config.namespaces, workload.scale, &mut rng);
    let model = Model::new(config.namespaces.clone(), config.first_version, universe);
    (config, Found { model, kept: Kept::default() }, rng)
}

/// Half of the seeds have pauses.
pub fn jitter(seed: u64) -> Option<u64> {
    (!seed.is_multiple_of(2)).then_some(seed)
}

impl Phase {
    /// Nothing done yet; one of `states` is on the disk.
    pub fn new(sim: SimVfs, workload: &Workload, config: &Config, states: Vec<Found>, rng: &mut Rng) -> Self {
        let timeline = Timeline::new(states, sim.op_count());
        Self {
            sim,
            workload: *workload,
            config: config.clone(),
            timeline,
            failure: None,
            jitter: None,
            done: Vec::new(),
            rng: rng.fork(),
            commit: None,
        }
    }

    /// The whole workload on a new disk.
    pub fn fresh(sim: SimVfs, workload: &Workload, seed: u64) -> Check<Self> {
        let (config, found, mut rng) = beginning(workload, seed);
        let mut phase = Self::new(sim, workload, &config, vec![found], &mut rng);
        phase.jitter = jitter(seed);
        phase.work(workload.steps)?;
        Ok(phase)
    }

    /// Opens what is there and does so many things with it. An error is a violation unless calls fail by order: then it is noted, and ends the work.
    pub fn work(&mut self, steps: usize) -> Check {
        let mut store = None;
        for _ in 0..steps {
            let open = match store.take() {
                Some(store) => store,
                None => match self.open()? {
                    Some(store) => store,
                    None => break,
                },
            };
            store = self.step(open)?;
            if self.failure.is_some() {
                break;
            }
        }
        self.commit = None;
        drop(store);
        match self.sim.overwritten_maps().first() {
            Some(first) => Err(format!("bytes under a living map were written: {first}")),
            None => Ok(()),
        }
    }

    /// Opens the store: it shows one of the states that may be found.
    pub fn open(&mut self) -> Check<Option<Store>> {
        let options = match self.jitter {
            Some(seed) => self.config.options(jittered(self.sim.clone(), seed)),
            None => self.config.options(self.sim.clone()),
        };
        let store = match options.open(DIR) {
            Ok(store) => store,
            Err(error) => {
                self.failure = Some(format!("opening: {error}"));
                return Ok(None);
            }
        };
        let opened = self.sim.op_count();
        if let Err(what) = self.timeline.settle(&store, opened, &mut self.rng) {
            // Where reads fail by order, what is shown cannot be told.
            return if self.sim.has_faults() {
                self.failure = Some(format!("reading: {what}"));
                Ok(None)
            } else {
                Err(format!("opened with {what}"))
            };
        }
        let (latest, durable) = (store.latest_version(), store.latest_durable());
        if latest != durable {
            return Err(format!("opened with {latest:?}, of which {durable:?} is durable"));
        }
        Ok(Some(store))
    }

    fn now(&self) -> usize {
        self.sim.op_count()
    }

    fn step(&mut self, store: Store) -> Check<Option<Store>> {
        let latest = self.timeline.now().model.last_version();
        let act = self.workload.act(&mut self.rng);
        let before = self.timeline.now().clone();
        self.done.push((self.now(), act));
        let outcome = match (act, latest) {
            (Act::MiniBlocks, _) => {
                let mut outcome = Ok(());
                for _ in 0..self.rng.within(3, 12) {
                    outcome = self.commit(&store, 2)?;
                    if outcome.is_err() {
                        break;
                    }
                }
                Ok(outcome)
            }
            (Act::Propose, Some(_)) => self.propose(&store),
            (Act::Commit | Act::Propose, _) | (_, None) => self.commit(&store, self.workload.largest),
            (Act::WaitDurable, _) => Ok(self.wait_durable()),
            (Act::WaitRoot, _) => self.wait_root(),
            (Act::Flush, latest) => self.flush(&store, latest),
            (Act::Reopen, _) => return self.reopen(store),
            (Act::Read, Some(latest)) => {
                let version = latest - self.rng.below(8).min(self.timeline.now().versions().len() - 1) as u64;
                self.read(&store, version)
            }
            (Act::Prune | Act::Pin | Act::Unpin, Some(latest)) => Ok(self.keep(act, &store, latest)),
            (Act::Compact, _) => Ok(store.compact(|_| ()).map(drop)),
            (Act::Rollback, Some(latest)) => self.roll_back(&store, latest),
        };
        match outcome? {
            Ok(()) => Ok(Some(store)),
            Err(error) => self.failed(store, act, &before, &error),
        }
    }

    /// `Ok(Ok)` it went well, `Ok(Err)` the store refused, `Err` it answered wrongly.
    fn commit(&mut self, store: &Store, largest: usize) -> Check<bristlecone::Result<()>> {
        let changes = self.changes(largest);
        let mut next = self.timeline.now().clone();
        let version = next.model.commit(&changes).expect("the batch fits");
        let batch = batches::batch_of(&next.model.namespaces, &changes);
        let now = self.now();
        self.timeline.begin(next, now);
        match store.commit(batch) {
            Ok(commit) if commit.version() == version => {
                self.commit = Some(commit);
                Ok(Ok(()))
            }
            Ok(commit) => Err(format!("commit {version} became version {}", commit.version())),
            Err(error) => {
                self.timeline.take_back();
                Ok(Err(error))
            }
        }
    }

    fn changes(&mut self, largest: usize) -> Vec<Change> {
        let model = &self.timeline.now().model;
        let mut changes = batches::random(model, largest, false, &mut self.rng);
        if self.workload.values == Values::Large {
            for change in &mut changes {
                if let Change::Put(_, _, value) = change
                    && self.rng.chance(40)
                {
                    let len = self.rng.within(500, 9000);
                    *value = self.rng.bytes(len);
                }
            }
        }
        changes
    }

    fn wait_durable(&mut self) -> bristlecone::Result<()> {
        let Some(commit) = &self.commit else { return Ok(()) };
        commit.durable().wait()?;
        let (version, now) = (commit.version(), self.now());
        self.timeline.promise_version(version, now);
        Ok(())
    }

    fn wait_root(&mut self) -> Check<bristlecone::Result<()>> {
        let Some(commit) = &self.commit else { return Ok(Ok(())) };
        match commit.root().wait() {
            Ok(root) if root == self.timeline.now().model.at(commit.version()).root => Ok(Ok(())),
            Ok(root) => Err(format!("version {} got the root {root}", commit.version())),
            Err(error) => Ok(Err(error)),
        }
    }

    fn flush(&mut self, store: &Store, latest: Option<u64>) -> Check<bristlecone::Result<()>> {
        let outcome = self.promised(store.flush());
        let sealed = store.latest_sealed();
        match outcome {
            Ok(()) if sealed != latest => Err(format!("flushed at {latest:?}, and {sealed:?} is sealed")),
            outcome => Ok(outcome),
        }
    }

    /// Notes that all there is was promised.
    fn promised(&mut self, outcome: bristlecone::Result<()>) -> bristlecone::Result<()> {
        outcome.inspect(|()| {
            let now = self.now();
            self.timeline.promise(now);
        })
    }

    fn reopen(&mut self, store: Store) -> Check<Option<Store>> {
        self.commit = None;
        match self.promised(store.close()) {
            Ok(()) => {}
            Err(error) => self.failure = Some(format!("closing: {error}")),
        }
        Ok(None)
    }

    /// An old version is as it was.
    fn read(&mut self, store: &Store, version: u64) -> Check<bristlecone::Result<()>> {
        let found = self.timeline.now();
        if !found.kept.keeps(version) {
            return Ok(Ok(()));
        }
        let looked = verify::version_at(store, &found.model, version, Depth::ALL, &mut self.rng);
        match looked {
            Err(what) if self.sim.has_faults() && !verify::is_wrong(&what) => Ok(Ok(())),
            // Roots that were not computed, and proofs under them, end with the store's writing; values do not.
            Err(what) if what.contains(TAKES_NO_MORE) => {
                let depth = Depth { scans: true, ..Depth::READS };
                verify::version_at(store, &found.model, version, depth, &mut self.rng).map(Ok)
            }
            looked => looked.map(Ok),
        }
    }

    fn keep(&mut self, act: Act, store: &Store, latest: u64) -> bristlecone::Result<()> {
        let mut next = self.timeline.now().clone();
        let name = format!("pin {}", self.rng.below(3));
        let keep = self.rng.within(1, 9) as u64;
        let version = latest.saturating_sub(self.rng.below(9) as u64).max(next.model.first);
        match act {
            Act::Prune => next.kept.oldest = next.kept.oldest.max((latest + 1).saturating_sub(keep)),
            Act::Pin if !next.kept.keeps(version) => return Ok(()),
            Act::Pin => drop(next.kept.pins.insert(name.clone(), version)),
            _ if !next.kept.pins.contains_key(&name) => return Ok(()),
            _ => return self.unpin(store, &name),
        }
        let now = self.now();
        self.timeline.begin(next, now);
        let outcome = match act {
            Act::Prune => store.prune(keep).map(drop),
            _ => store.pin(&name, version),
        };
        self.promised(outcome)
    }

    /// It may be durable before the commits that came before it: each state that may be found may be found without the pin.
    fn unpin(&mut self, store: &Store, name: &str) -> bristlecone::Result<()> {
        let now = self.now();
        let states = self.timeline.at(usize::MAX);
        let later = states.len();
        for mut state in states {
            state.kept.pins.remove(name);
            self.timeline.begin(state, now);
        }
        store.unpin(name)?;
        let now = self.now();
        self.timeline.promise_before(later - 1, now);
        Ok(())
    }

    fn roll_back(&mut self, store: &Store, latest: u64) -> Check<bristlecone::Result<()>> {
        let mut next = self.timeline.now().clone();
        let oldest = next.kept.oldest.max(next.model.first);
        let to = latest.saturating_sub(self.rng.below(6) as u64).max(oldest);
        next.model.cut(Some(to));
        next.kept = next.kept.up_to(to);
        let now = self.now();
        self.timeline.begin(next, now);
        let outcome = store.rollback(to);
        let ended = |commit: &Commit| matches!(commit.durable().wait(), Err(Error::RolledBack { .. }));
        if outcome.is_ok()
            && let Some(commit) = self.commit.take_if(|commit| commit.version() > to)
            && !ended(&commit)
        {
            return Err(format!("the handle of version {} outlived the way back to {to}", commit.version()));
        }
        Ok(self.promised(outcome))
    }

    /// Two proposals, a child of one of them; that line is accepted or dropped.
    fn propose(&mut self, store: &Store) -> Check<bristlecone::Result<()>> {
        let (first, second) = (self.changes(self.workload.largest), self.changes(4));
        let base = self.timeline.now().clone();
        let batch = |changes: &[Change]| batches::batch_of(&base.model.namespaces, changes);
        let mut line = base.clone();
        line.model.commit(&first).expect("the batch fits");
        let third = batches::random(&line.model, 6, false, &mut self.rng);
        let proposed = (|| {
            let latest = store.latest()?;
            let one = store.propose(&latest, batch(&first))?;
            let other = store.propose(&latest, batch(&second))?;
            let child = one.propose(batch(&third))?;
            Ok((one, other, child))
        })();
        let (one, other, child) = match proposed {
            Ok(all) => all,
            Err(error) => return Ok(Err(error)),
        };
        if self.rng.chance(20) {
            return Ok(Ok(()));
        }
        let now = self.now();
        self.timeline.begin(line.clone(), now);
        match one.accept() {
            Ok(commit) => self.commit = Some(commit),
            Err(error) => {
                self.timeline.take_back();
                return Ok(Err(error));
            }
        }
        if !matches!(other.accept(), Err(Error::ProposalEnded { .. } | Error::Poisoned(_))) {
            return Err("a sibling of what was accepted was accepted".into());
        }
        line.model.commit(&third).expect("the batch fits");
        let now = self.now();
        self.timeline.begin(line, now);
        match child.accept() {
            Ok(commit) => {
                self.commit = Some(commit);
                Ok(Ok(()))
            }
            Err(error) => {
                self.timeline.take_back();
                Ok(Err(error))
            }
        }
    }

    /// After a call failed by order: readers go on, nothing more is acknowledged than is there, and a store that lost a write takes no more of them.
    fn failed(&mut self, store: Store, act: Act, before: &Found, error: &Error) -> Check<Option<Store>> {
        self.failure = Some(format!("{act:?}: {error}"));
        if matches!(error, Error::Damaged { .. } | Error::Internal(_)) {
            return Err(format!("{act:?} failed with {error:?}: a call that failed is no damage"));
        }
        if matches!(act, Act::WaitDurable | Act::WaitRoot | Act::Flush)
            && !matches!(error, Error::Poisoned(_))
        {
            return Err(format!("{act:?} failed with {error:?}, not as poisoned"));
        }
        if matches!(error, Error::Poisoned(_)) {
            for _ in 0..2 {
                match store.commit(Batch::new()) {
                    Err(Error::Poisoned(_)) => {}
                    other => return Err(format!("a poisoned store took a commit: {other:?}")),
                }
            }
            if !matches!(store.flush(), Err(Error::Poisoned(_))) {
                return Err("a poisoned store was flushed".into());
            }
        }
        self.sim.clear_faults();
        // What was begun last may be seen or not; all else is.
        if let Err(what) = self.timeline.now().is_shown(&store, &mut self.rng) {
            before
                .is_shown(&store, &mut self.rng)
                .map_err(|before| format!("reading on after {error}: {what}; or before {act:?}: {before}"))?;
        }
        // What the log was about to sync when something else failed may still become durable, and is so then.
        // Of a way back that failed nobody can say which of two commits a number means.
        if let Some(durable) = store.latest_durable()
            && act != Act::Rollback
        {
            let now = self.now();
            self.timeline.promise_version(durable, now);
        }
        self.commit = None;
        Ok(None)
    }
}

/// A workload whose choices `script` makes, then a power cut, and what is found after it: for a fuzzer.
///
/// # Errors
///
/// What was answered wrongly.
pub fn scripted(script: &[u8]) -> Check {
    let (Some(number), Some(script)) = (script.first(), script.get(1..)) else { return Ok(()) };
    let mut workload = ALL[usize::from(*number) % ALL.len()];
    workload.steps = workload.steps.min(24);
    let (config, found, _) = beginning(&workload, u64::from(*number));
    let mut rng = Rng::taped(script);
    let policy = *rng.pick(&CrashPolicy::EVERY);
    let mut phase = Phase::new(SimVfs::new(1), &workload, &config, vec![found], &mut rng);
    phase.work(workload.steps)?;
    if let Some(failure) = phase.failure {
        return Err(format!("where no call failed: {failure}"));
    }
    let image = phase.sim.crash_image(policy, 1);
    examine(image, &phase, phase.timeline.at(usize::MAX), &mut Rng::new(1))
}

/// Opens a disk as it was found: it holds one of `states`, and the store goes on.
pub fn examine(image: SimVfs, phase: &Phase, states: Vec<Found>, rng: &mut Rng) -> Check {
    let mut found = Phase::new(image, &phase.workload, &phase.config, states, rng);
    let Some(store) = found.open()? else { return Err(found.failure.unwrap_or_default()) };
    let depth = if rng.chance(4) { Depth::ALL } else { Depth::ROOTS };
    found.timeline.now().look(&store, 20, depth, rng)?;
    if rng.chance(10) {
        store.flush().map_err(|error| format!("a flush after recovery: {error}"))?;
        store.check(|_| ()).map_err(|error| format!("a check after recovery: {error}"))?;
    }
    found.commit(&store, 8)?.map_err(|error| format!("committing on: {error}"))?;
    found.wait_root()?.map_err(|error| format!("the root of what comes next: {error}"))?;
    found.commit = None;
    store.close().map_err(|error| format!("closing after recovery: {error}"))?;
    match found.sim.overwritten_maps().first() {
        Some(first) => Err(format!("bytes under a living map were written: {first}")),
        None => Ok(()),
    }
}

/// The operations before a boundary, for a report.
pub fn around(sim: &SimVfs, boundary: usize) -> String {
    let ops = sim.ops();
    let near = &ops[boundary.saturating_sub(12).min(ops.len())..(boundary + 3).min(ops.len())];
    near.iter().map(|op| format!("{op}\n")).collect()
}
