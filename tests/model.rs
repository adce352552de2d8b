//! Random operation sequences against a map per version, and against roots by alloy-trie or a naive recursion.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use bristlecone::vfs::sim::{CrashPolicy, SimVfs};
use bristlecone::{Commit, Error, Namespace, Options, SchemeKind, Snapshot, Store};
use bristlecone_torture::{Check, Config, Depth, Model, Rng, Universe, batches, changes, sequences, verify};

const DIR: &str = "/store";

/// A store, what it should be, and what is known to be durable.
struct World {
    config: Config,
    options: Options,
    sim: SimVfs,
    store: Option<Store>,
    model: Model,
    durable: Option<u64>,
    held: Vec<(u64, Snapshot)>,
    commits: Vec<Commit>,
    /// Snapshots and handles of versions that were rolled back.
    given_up: Vec<(Option<Snapshot>, Option<Commit>)>,
    largest: usize,
    rng: Rng,
}

impl World {
    fn new(namespaces: Vec<Namespace>, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let scale = *rng.pick(&[6, 40, 40, 150, 400]);
        let universe = Universe::random(&namespaces, scale, &mut rng);
        let config = Config::random(namespaces.clone(), &mut rng);
        let sim = SimVfs::new(seed);
        let options = config.options(sim.clone());
        let store = options.open(DIR).unwrap();
        let model = Model::new(namespaces, config.first_version, universe);
        let largest = rng.within(3, scale.max(4));
        Self {
            config,
            options,
            sim,
            store: Some(store),
            model,
            durable: None,
            held: Vec::new(),
            commits: Vec::new(),
            given_up: Vec::new(),
            largest,
            rng,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn step(&mut self) -> Check {
        match self.rng.below(100) {
            0..66 => self.commit()?,
            66..70 => self.roll_back()?,
            70..75 => self.commit_badly()?,
            75..80 => self.flush()?,
            80..84 => {
                self.store().flush().unwrap();
                self.store().check(|_| ()).map_err(|error| format!("check: {error}"))?;
            }
            84..88 => self.ask_roots()?,
            88..93 => self.reopen_cleanly()?,
            93..96 => self.reopen_killed()?,
            96..98 => self.reopen_after_power_loss()?,
            _ => self.held.clear(),
        }
        self.look()
    }

    fn commit(&mut self) -> Check {
        let changes = batches::random(&self.model, self.largest, false, &mut self.rng);
        let batch = batches::batch_of(&self.model.namespaces, &changes);
        let version = self.model.commit(&changes).expect("the batch fits");
        let commit = self.store().commit(batch).map_err(|error| format!("commit {version}: {error}"))?;
        if commit.version() != version {
            return Err(format!("commit {version} became version {}", commit.version()));
        }
        if self.rng.chance(30) {
            commit.durable().wait().unwrap();
            self.durable = Some(version);
        }
        if self.rng.chance(20) {
            let root = commit.root().wait().unwrap();
            if root != self.model.at(version).root {
                return Err(format!("the root of commit {version}: {root}"));
            }
        }
        if self.rng.chance(15) {
            self.held.push((version, commit.snapshot().unwrap()));
        }
        self.commits.push(commit);
        Ok(())
    }

    /// A batch that may not fit leaves nothing behind where it does not.
    fn commit_badly(&mut self) -> Check {
        let changes = batches::random(&self.model, self.largest, true, &mut self.rng);
        let batch = batches::batch_of(&self.model.namespaces, &changes);
        let before = self.model.last_version();
        match (self.model.commit(&changes), self.store().commit(batch)) {
            (Some(version), Ok(commit)) if commit.version() == version => Ok(()),
            (None, Err(Error::SlotWithoutAccount { .. })) if self.store().latest_version() == before => {
                Ok(())
            }
            (wanted, got) => Err(format!("a batch that should give {wanted:?} gave {got:?}: {changes:?}")),
        }
    }

    fn flush(&mut self) -> Check {
        self.store().flush().map_err(|error| format!("flush: {error}"))?;
        self.durable = self.model.last_version();
        let (durable, sealed) = (self.store().latest_durable(), self.store().latest_sealed());
        if (durable, sealed) != (self.durable, self.durable) {
            return Err(format!("after a flush {durable:?} is durable and {sealed:?} sealed"));
        }
        Ok(())
    }

    /// Goes back, often not far. What is held of the versions after ends with an error, and nothing else does.
    fn roll_back(&mut self) -> Check {
        let Some(last) = self.model.last_version() else {
            return match self.store().rollback(self.model.first) {
                Err(Error::NoVersion) => Ok(()),
                other => Err(format!("an empty store was rolled back: {other:?}")),
            };
        };
        let far = (last - self.model.first) as usize;
        let far = if self.rng.chance(70) { far.min(4) } else { far };
        let to = last - self.rng.within(0, far) as u64;
        if !matches!(self.store().rollback(last + 1), Err(Error::VersionNotKept { .. })) {
            return Err("rolled back to a version that never was".into());
        }
        self.store().rollback(to).map_err(|error| format!("rolling back from {last} to {to}: {error}"))?;
        self.model.cut(Some(to));
        self.durable = Some(to);
        let sealed = (self.store().latest_durable(), self.store().latest_sealed());
        if sealed != (Some(to), Some(to)) {
            return Err(format!("after going back to {to}: {sealed:?}"));
        }
        let (held, commits) = (std::mem::take(&mut self.held), std::mem::take(&mut self.commits));
        for (version, snapshot) in held {
            if version > to {
                self.given_up.push((Some(snapshot), None));
            } else {
                self.held.push((version, snapshot));
            }
        }
        for commit in commits {
            if commit.version() > to {
                self.given_up.push((None, Some(commit)));
            } else {
                self.commits.push(commit);
            }
        }
        self.look_at_given_up()
    }

    fn look_at_given_up(&mut self) -> Check {
        let latest = self.store.as_ref().and_then(|store| store.latest().ok());
        let ended = |what: &str, error: Option<Error>| match error {
            Some(Error::RolledBack { .. }) => Ok(()),
            other => Err(format!("{what} of a version that was given up: {other:?}")),
        };
        for (snapshot, commit) in &self.given_up {
            if let Some(snapshot) = snapshot {
                verify::is_refused(snapshot, &self.model, ended)?;
                if let Some(latest) = &latest {
                    verify::is_no_ancestor(snapshot, latest, &self.model)?;
                }
            }
            if let Some(commit) = commit {
                ended("durable", commit.durable().wait().err())?;
                ended("root", commit.root().wait().err())?;
                ended("sealed", commit.sealed().wait().err())?;
                ended("a snapshot", commit.snapshot().err())?;
            }
        }
        Ok(())
    }

    /// Roots that no schedule has, of versions old and new.
    fn ask_roots(&mut self) -> Check {
        for commit in std::mem::take(&mut self.commits) {
            let root = commit.root().wait().map_err(|error| format!("{commit:?}: {error}"))?;
            if root != self.model.at(commit.version()).root {
                return Err(format!("{commit:?} has the root {root}"));
            }
        }
        Ok(())
    }

    fn reopen_cleanly(&mut self) -> Check {
        let store = self.store.take().unwrap();
        self.commits.clear();
        if self.rng.chance(50) {
            store.close().map_err(|error| format!("close: {error}"))?;
            self.look_at_held()?;
        } else {
            self.held.clear();
            drop(store);
        }
        (self.held, self.given_up) = (Vec::new(), Vec::new());
        self.durable = self.model.last_version();
        self.open()
    }

    /// The process was killed: what it wrote is there, durable or not.
    fn reopen_killed(&mut self) -> Check {
        self.go_on_with(self.sim.killed_at(usize::MAX))
    }

    fn reopen_after_power_loss(&mut self) -> Check {
        let (policy, seed) = (*self.rng.pick(&CrashPolicy::EVERY), self.rng.next_u64());
        self.go_on_with(self.sim.crash_image(policy, seed))
    }

    fn go_on_with(&mut self, image: SimVfs) -> Check {
        self.overwrites()?;
        self.look_at_held()?;
        (self.held, self.commits, self.given_up) = (Vec::new(), Vec::new(), Vec::new());
        self.store = None;
        self.options = self.config.options(image.clone());
        self.sim = image;
        self.open()
    }

    fn open(&mut self) -> Check {
        let store = self.options.open(DIR).map_err(|error| format!("open: {error}"))?;
        let found = store.latest_version();
        if found < self.durable || found > self.model.last_version() {
            let wanted = (self.durable, self.model.last_version());
            return Err(format!("opened with version {found:?}, not one of {wanted:?}"));
        }
        self.model.cut(found);
        self.durable = found;
        if store.latest_durable() != found {
            return Err(format!("{:?} is durable after opening with {found:?}", store.latest_durable()));
        }
        self.store = Some(store);
        let depth = Depth { root: self.rng.chance(50), scans: true, proofs: 1 };
        verify::store(self.store.as_ref().unwrap(), &self.model, depth, &mut self.rng)
    }

    /// Every version and every key, as long as that is quick; the newest and some of the others always.
    fn look(&mut self) -> Check {
        let (store, model) = (self.store.as_ref().unwrap(), &self.model);
        verify::versions(store, model)?;
        let keys: usize =
            model.universe.spaces.iter().map(|keys| keys.keys.len() * keys.slots.len().max(1)).sum();
        let versions: Vec<u64> = model.versions().collect();
        let all = versions.len() * keys <= 3000;
        for version in &versions {
            if !all && *version != versions[versions.len() - 1] && !self.rng.chance(300 / versions.len()) {
                continue;
            }
            let depth = Depth {
                root: self.rng.chance(10),
                scans: self.rng.chance(20),
                proofs: usize::from(self.rng.chance(20)),
            };
            verify::version_at(store, model, *version, depth, &mut self.rng)?;
        }
        if !versions.is_empty() {
            let (a, b) = (*self.rng.pick(&versions), *self.rng.pick(&versions));
            let (a, b) = (store.at(a).unwrap(), store.at(b).unwrap());
            verify::changes_between(model, &a, &b)?;
            changes::diff(model, &a, &b)?;
            changes::history(model, &a, 2, &mut self.rng)?;
        }
        self.look_at_held()
    }

    fn look_at_held(&mut self) -> Check {
        for (version, snapshot) in &self.held {
            verify::snapshot(snapshot, &self.model, *version, Depth::READS, &mut self.rng)
                .map_err(|what| format!("a snapshot that is held: {what}"))?;
        }
        self.look_at_given_up()
    }

    fn overwrites(&self) -> Check {
        match self.sim.overwritten_maps()[..] {
            [] => Ok(()),
            [ref first, ..] => Err(format!("bytes under a living map were written: {first}")),
        }
    }

    fn finish(mut self) -> Check {
        self.flush()?;
        let store = self.store.take().unwrap();
        store.check(|_| ()).map_err(|error| format!("check: {error}"))?;
        verify::store(&store, &self.model, Depth::ALL, &mut self.rng)?;
        let versions: Vec<u64> = self.model.versions().collect();
        for pair in versions.windows(2) {
            let (a, b) = (store.at(pair[0]).unwrap(), store.at(pair[1]).unwrap());
            verify::changes_between(&self.model, &a, &b)?;
            changes::diff(&self.model, &a, &b)?;
        }
        if !versions.is_empty() {
            changes::history(&self.model, &store.latest().unwrap(), 10, &mut self.rng)?;
        }
        drop((std::mem::take(&mut self.held), std::mem::take(&mut self.commits)));
        self.given_up.clear();
        store.close().map_err(|error| format!("close: {error}"))?;
        self.overwrites()
    }
}

fn run(namespaces: Vec<Namespace>, seed: u64) {
    let mut world = World::new(namespaces, seed);
    let steps = world.rng.within(5, 45);
    let told = format!("seed {seed}, {:?}", world.config);
    for step in 0..steps {
        if let Err(what) = world.step() {
            panic!("{told}, step {step}: {what}");
        }
    }
    if let Err(what) = world.finish() {
        panic!("{told}, at the end: {what}");
    }
}

/// Keys are hashed in two of three sequences.
fn keys(namespace: Namespace, seed: u64) -> Namespace {
    if seed.is_multiple_of(3) { namespace.raw() } else { namespace }
}

#[test]
fn flat_ethereum_is_a_map_for_each_version() {
    sequences("flat ethereum", 100, |seed| {
        run(vec![keys(Namespace::flat(SchemeKind::Ethereum), seed)], seed)
    });
}

#[test]
fn flat_blake3_is_a_map_for_each_version() {
    sequences("flat blake3", 100, |seed| run(vec![keys(Namespace::flat(SchemeKind::Blake3), seed)], seed));
}

#[test]
fn ethereum_accounts_are_a_map_for_each_version() {
    sequences("ethereum accounts", 100, |seed| {
        run(vec![keys(Namespace::accounts(SchemeKind::Ethereum), seed)], seed);
    });
}

#[test]
fn blake3_accounts_are_a_map_for_each_version() {
    sequences("blake3 accounts", 100, |seed| {
        run(vec![keys(Namespace::accounts(SchemeKind::Blake3), seed)], seed)
    });
}

#[test]
fn several_namespaces_are_committed_as_one_under_one_root() {
    sequences("several namespaces", 60, |seed| {
        let namespaces = vec![
            keys(Namespace::accounts(SchemeKind::Ethereum), seed),
            Namespace::flat(SchemeKind::Blake3).named("receipts"),
            keys(Namespace::flat(SchemeKind::Ethereum), seed + 1).named("a"),
            Namespace::accounts(SchemeKind::Blake3).named("twin"),
        ];
        run(namespaces, seed);
    });
}
