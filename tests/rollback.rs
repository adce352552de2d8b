//! Rollback under power cuts and failing calls, and what it does to memory. Random sequences with rollbacks are in `model.rs`.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use bristlecone::vfs::sim::{CrashPolicy, Fault, FaultRule, SimVfs};
use bristlecone::{Batch, Error, Namespace, RootSchedule, SchemeKind, Since, Store};
use bristlecone_torture::{Check, Config, Depth, Model, Rng, Universe, batches, is_long, verify};

const DIR: &str = "/store";

/// Versions 0 to 4, 5 to 9 and 10 to 14 are runs; 15 and 16 are not sealed.
const RUNS: [u64; 3] = [4, 9, 14];
const LAST: u64 = 16;

/// Ends of runs, insides of runs, and a version that is not sealed.
const TARGETS: [u64; 7] = [0, 2, 4, 9, 7, 12, 15];

/// How the store is come upon.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    Open,
    Closed,
    Killed,
}

/// A store that is about to be rolled back.
struct Scene {
    sim: SimVfs,
    config: Config,
    /// Every version up to [`LAST`].
    model: Model,
    store: Store,
    rng: Rng,
}

fn commit(store: &Store, model: &mut Model, rng: &mut Rng) -> bristlecone::Result<u64> {
    let changes = batches::random(model, 12, false, rng);
    let commit = store.commit(batches::batch_of(&model.namespaces, &changes))?;
    assert_eq!(model.commit(&changes), Some(commit.version()));
    commit.durable().wait()?;
    Ok(commit.version())
}

impl Scene {
    fn new(seed: u64, found: Found) -> Self {
        let mut rng = Rng::new(seed);
        let scheme = if seed.is_multiple_of(2) { SchemeKind::Ethereum } else { SchemeKind::Blake3 };
        let namespaces = vec![Namespace::accounts(scheme), Namespace::flat(scheme).named("flat")];
        let roots = *rng.pick(&[RootSchedule::Every(1), RootSchedule::Every(3), RootSchedule::OnDemand]);
        let cache_bytes = if seed.is_multiple_of(2) { 0 } else { 1 << 30 };
        let config = Config { roots, cache_bytes, seal_keys: 80_000, ..Config::small(namespaces.clone()) };
        let mut model = Model::new(namespaces.clone(), 0, Universe::random(&namespaces, 40, &mut rng));
        let sim = SimVfs::new(seed);
        let store = config.options(sim.clone()).open(DIR).unwrap();
        for version in 0..=LAST {
            commit(&store, &mut model, &mut rng).unwrap();
            if RUNS.contains(&version) {
                store.flush().unwrap();
            }
        }
        let (sim, store) = match found {
            Found::Open => (sim, store),
            Found::Closed => {
                store.close().unwrap();
                let store = config.options(sim.clone()).open(DIR).unwrap();
                (sim, store)
            }
            Found::Killed => {
                let sim = sim.killed_at(usize::MAX);
                let store = config.options(sim.clone()).open(DIR).unwrap();
                (sim, store)
            }
        };
        Self { sim, config, model, store, rng }
    }

    fn rolled_back(&self, to: u64) -> Model {
        let mut model = self.model.clone();
        model.cut(Some(to));
        model
    }
}

/// Opens a disk, on which exactly one of the models is, up to one of its versions from the promised one on; goes on with it.
fn examine(image: SimVfs, config: &Config, models: &[(&Model, u64)], rng: &mut Rng) -> Check {
    let store = config.options(image.clone()).open(DIR).map_err(|error| format!("open: {error}"))?;
    let found = store.latest_version().ok_or("nothing is there")?;
    let fits =
        |(model, promised): &&(&Model, u64)| (*promised..=model.last_version().unwrap()).contains(&found);
    let (model, _) = models.iter().find(fits).ok_or(format!("opened with version {found}"))?;
    let mut model = (*model).clone();
    model.cut(Some(found));
    verify::store(&store, &model, Depth::ROOTS, rng)?;
    commit(&store, &mut model, rng).map_err(|error| format!("going on: {error}"))?;
    store.flush().map_err(|error| format!("a flush: {error}"))?;
    store.check(|_| ()).map_err(|error| format!("check: {error}"))?;
    verify::store(&store, &model, Depth::READS, rng)?;
    store.close().map_err(|error| format!("close: {error}"))?;
    match image.overwritten_maps().first() {
        Some(first) => Err(format!("bytes under a living map were written: {first}")),
        None => Ok(()),
    }
}

/// Every power cut in a rollback and in the commits that follow it.
fn cut_everywhere(seed: u64, to: u64, found: Found) -> usize {
    let Scene { sim, config, model, store, mut rng } = Scene::new(seed, found);
    let begun = sim.op_count();
    store.rollback(to).unwrap();
    let done = sim.op_count();
    let before = model;
    let mut after = before.clone();
    after.cut(Some(to));
    // Versions and numbers of operations from which on they are promised.
    let mut promises = vec![(done, to)];
    for _ in 0..3 {
        let version = commit(&store, &mut after, &mut rng).unwrap();
        promises.push((sim.op_count(), version));
        if version == to + 2 {
            store.flush().unwrap();
        }
    }
    drop(store);
    let mut images = 0;
    let stride = if is_long() { 1 } else { 3 };
    let cases = sim.crash_cases(&CrashPolicy::EVERY, 0..1).between(begun..sim.op_count() + 1);
    let cuts = cases.map(|case| (case.to_string(), case.boundary, case.image)).enumerate();
    let kills = (begun..sim.op_count()).map(|at| (format!("killed at {at}"), at, sim.killed_at(at)));
    let cuts = cuts.filter(|(index, _)| index % stride == 0).map(|(_, cut)| cut);
    for (name, boundary, image) in cuts.chain(kills.step_by(stride)) {
        images += 1;
        let promised =
            promises.iter().filter(|(from, _)| *from <= boundary).map(|(_, version)| *version).max();
        let examined = match promised {
            Some(promised) => examine(image, &config, &[(&after, promised)], &mut rng),
            // Before it was done: all of the one, or all of the other.
            None => {
                let mut back = before.clone();
                back.cut(Some(to));
                examine(image, &config, &[(&before, LAST), (&back, to)], &mut rng)
            }
        };
        examined.unwrap_or_else(|what| {
            panic!("seed {seed}, back to {to}, {found:?}, {:?}, {name}: {what}", config.roots)
        });
    }
    images
}

#[test]
fn a_power_cut_in_a_rollback_leaves_all_of_it_or_nothing() {
    let mut images = 0;
    for (seed, to) in (0..).zip(TARGETS) {
        images += cut_everywhere(seed, to, Found::Open);
    }
    for (seed, found) in (10..).zip([Found::Closed, Found::Killed]) {
        for to in [9, 7] {
            images += cut_everywhere(seed, to, found);
        }
    }
    eprintln!("rollbacks cut short: {images} images");
}

/// One failing call in a rollback, and what is left.
fn fail(seed: u64, to: u64, call: u64, fault: Fault) -> Check<bool> {
    let scene = Scene::new(seed, Found::Open);
    let back = scene.rolled_back(to);
    let Scene { sim, config, mut model, store, mut rng } = scene;
    sim.fail(FaultRule::at_call(sim.call_count() + call, fault));
    let outcome = store.rollback(to);
    match &outcome {
        Ok(()) => verify::store(&store, &back, Depth::READS, &mut rng)?,
        Err(error) => {
            verify::store(&store, &model, Depth::READS, &mut rng)
                .map_err(|what| format!("reading on after {error}: {what}"))?;
            let is_poisoned = matches!(error, Error::Poisoned(_));
            match store.commit(Batch::new()) {
                Err(Error::Poisoned(_)) if is_poisoned => {}
                Ok(_) if !is_poisoned => drop(model.commit(&[])),
                other => return Err(format!("after {error} a commit gave {other:?}")),
            }
            if is_poisoned && !matches!(store.rollback(to), Err(Error::Poisoned(_))) {
                return Err("a poisoned store was rolled back".into());
            }
        }
    }
    let models: &[(&Model, u64)] = match outcome {
        Ok(()) => &[(&back, to)],
        Err(_) => &[(&model, LAST), (&back, to)],
    };
    drop(store);
    for image in [
        sim.killed_at(usize::MAX),
        sim.crash_image(CrashPolicy::KeepNothing, seed),
        sim.crash_image(CrashPolicy::KeepAll, seed),
    ] {
        examine(image, &config, models, &mut rng)?;
    }
    Ok(outcome.is_err())
}

#[test]
fn a_failing_call_in_a_rollback_loses_nothing() {
    let (mut runs, mut failures) = (0, 0);
    for (seed, to) in [(0, 9), (1, 7), (3, 2)] {
        let calls = {
            let Scene { sim, store, .. } = Scene::new(seed, Found::Open);
            let before = sim.call_count();
            store.rollback(to).unwrap();
            sim.call_count() - before
        };
        for fault in [Fault::Eio, Fault::NoSpace] {
            for call in 0..calls {
                let failed = fail(seed, to, call, fault);
                let told =
                    |what: String| panic!("seed {seed}, back to {to}, {fault:?} at call {call}: {what}");
                failures += usize::from(failed.unwrap_or_else(told));
                runs += 1;
            }
        }
    }
    eprintln!("failing calls in rollbacks: {runs} runs, {failures} of them met an error");
    assert!(failures > 0);
}

#[test]
fn numbers_are_used_again_and_stamps_never() {
    let Scene { model, store, config, sim, mut rng } = Scene::new(5, Found::Open);
    let stamps = |store: &Store| store.versions().iter().map(|info| info.stamp).collect::<Vec<_>>();
    let mut seen = stamps(&store);
    let mut model = model;
    let mut store = store;
    for (round, to) in [14, 7, 3, 5, 1].into_iter().enumerate() {
        store.rollback(to).unwrap();
        model.cut(Some(to));
        assert_eq!(store.latest_version(), Some(to));
        for version in to + 1..to + 5 {
            assert_eq!(commit(&store, &mut model, &mut rng).unwrap(), version);
            let stamp = store.latest().unwrap().stamp();
            assert!(!seen.contains(&stamp), "{stamp:?} was given twice");
            seen.push(stamp);
        }
        if round % 2 == 0 {
            store.close().unwrap();
            store = config.options(sim.clone()).open(DIR).unwrap();
        }
        verify::store(&store, &model, Depth::ALL, &mut rng).unwrap();
    }
}

#[test]
fn readers_of_what_was_given_up_are_told_and_others_go_on() {
    for to in [9, 7] {
        let Scene { model, store, mut rng, .. } = Scene::new(6, Found::Open);
        // In memory, in the log beyond, in the log up to it and in its own run.
        let (latest, beyond) = (store.latest().unwrap(), store.at(12).unwrap());
        let (kept, before) = (store.at(to).unwrap(), store.at(2).unwrap());
        let mut scan = beyond.iter_accounts().unwrap();
        let first = scan.next();
        store.rollback(to).unwrap();
        let ended = |what: &str, error: Option<Error>| match error {
            Some(Error::RolledBack { to: told, .. }) if told == to => Ok(()),
            other => Err(format!("{what}: {other:?}")),
        };
        for snapshot in [&latest, &beyond] {
            verify::is_refused(snapshot, &model, ended).unwrap();
            verify::is_no_ancestor(snapshot, &store.latest().unwrap(), &model).unwrap();
        }
        if first.is_some_and(|first| first.is_ok()) {
            assert!(matches!(scan.next(), Some(Err(Error::RolledBack { .. }))));
            assert!(scan.next().is_none());
        }
        for (snapshot, version) in [(&kept, to), (&before, 2)] {
            verify::snapshot(snapshot, &model, version, Depth::ALL, &mut rng).unwrap();
        }
        let leased: Vec<u64> = store.stats().unwrap().leases.iter().map(|lease| lease.version).collect();
        assert_eq!(leased, [2, to, 12, LAST]);
        let key = bristlecone::Key::Account(&[9; 20]);
        assert_eq!(store.latest().unwrap().changed_since(key, &before).unwrap(), Since::Unchanged);
        assert!(matches!(store.at(12), Err(Error::VersionNotKept { last, .. }) if last == to));
    }
}

#[test]
fn what_was_given_up_takes_no_memory() {
    let Scene { mut model, store, mut rng, .. } = Scene::new(7, Found::Open);
    let mut slots = Vec::new();
    for to in [15, 13, 9, 7, 9, 8].into_iter().chain([8; 30]) {
        while store.latest_version() < Some(to + 3) {
            commit(&store, &mut model, &mut rng).unwrap();
        }
        let held = store.latest().unwrap();
        store.rollback(to).unwrap();
        model.cut(Some(to));
        drop(held);
        commit(&store, &mut model, &mut rng).unwrap();
        store.flush().unwrap();
        slots.push(store.stats().unwrap().memory.slots);
    }
    let most = slots[..6].iter().max().unwrap();
    assert!(slots[6..].iter().all(|later| later <= &(most + 8)), "{slots:?}");
}
