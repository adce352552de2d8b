//! Pruning, pins and compaction: kept versions answer exactly as a map, others say that they are not kept, whatever stops in between.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use std::collections::BTreeMap;

use bristlecone::vfs::sim::{CrashPolicy, Fault, FaultRule, OpKind, Selector, SimVfs};
use bristlecone::{Batch, Error, Namespace, Options, Retention, SchemeKind, Snapshot, Store};
use bristlecone_torture::{Check, Config, Depth, Model, Rng, Universe, batches, is_long, sequences, verify};

const DIR: &str = "/store";

/// What a store keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kept {
    oldest: u64,
    pins: BTreeMap<String, u64>,
}

impl Kept {
    fn keeps(&self, version: u64) -> bool {
        version >= self.oldest || self.pins.values().any(|pinned| *pinned == version)
    }

    fn of(store: &Store) -> Self {
        let pins = store.pins().into_iter().map(|pin| (pin.name, pin.version)).collect();
        Self { oldest: store.stats().unwrap().forget.oldest, pins }
    }
}

/// A store, every version that it ever had, and which of them it keeps.
struct World {
    config: Config,
    sim: SimVfs,
    store: Option<Store>,
    model: Model,
    kept: Kept,
    held: Vec<(u64, Snapshot)>,
    rng: Rng,
}

fn options(config: &Config, sim: &SimVfs) -> Options {
    config.options(sim.clone())
}

impl World {
    fn new(namespaces: Vec<Namespace>, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let scale = *rng.pick(&[10, 60, 200]);
        let universe = Universe::random(&namespaces, scale, &mut rng);
        let config = Config {
            seal_keys: *rng.pick(&[1, 20, 200]),
            cache_bytes: *rng.pick(&[0, 1 << 30]),
            segment_bytes: *rng.pick(&[4 << 10, 16 << 10]),
            ..Config::small(namespaces.clone())
        };
        let sim = SimVfs::new(seed);
        let store = options(&config, &sim).open(DIR).unwrap();
        let model = Model::new(namespaces, config.first_version, universe);
        Self { config, sim, store: Some(store), model, kept: Kept::default(), held: Vec::new(), rng }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn step(&mut self) -> Check {
        let Some(last) = self.model.last_version() else { return self.commit() };
        match self.rng.below(100) {
            0..50 => self.commit()?,
            50..62 => {
                let keep = self.rng.within(1, 12) as u64;
                let oldest = self.store().prune(keep).map_err(|error| format!("prune: {error}"))?;
                self.kept.oldest = self.kept.oldest.max((last + 1).saturating_sub(keep));
                if oldest != self.kept.oldest {
                    return Err(format!("pruned to {keep}: from {oldest}, not {}", self.kept.oldest));
                }
            }
            62..70 => self.pin(last)?,
            70..76 => self.unpin()?,
            76..84 => drop(self.store().compact(|_| ()).map_err(|error| format!("compact: {error}"))?),
            84..88 => self.roll_back(last)?,
            88..92 => {
                let version = last - self.rng.below(6).min(last as usize) as u64;
                if self.kept.keeps(version) {
                    self.held.push((version, self.store().at(version).unwrap()));
                }
            }
            92..95 => self.held.clear(),
            95..98 => {
                self.held.clear();
                self.store.take().unwrap().close().map_err(|error| format!("close: {error}"))?;
                self.open()?;
            }
            _ => self.power_loss()?,
        }
        self.look()
    }

    fn commit(&mut self) -> Check {
        let changes = batches::random(&self.model, 30, false, &mut self.rng);
        self.model.commit(&changes).expect("the batch fits");
        let batch = batches::batch_of(&self.model.namespaces, &changes);
        self.store().commit(batch).map_err(|error| format!("commit: {error}"))?;
        Ok(())
    }

    fn pin(&mut self, last: u64) -> Check {
        let name = format!("pin {}", self.rng.below(3));
        let version = last.saturating_sub(self.rng.below(15) as u64);
        match self.store().pin(&name, version) {
            Ok(()) if self.kept.keeps(version) => drop(self.kept.pins.insert(name, version)),
            Err(Error::VersionNotKept { .. }) if !self.kept.keeps(version) => {}
            other => return Err(format!("pinning version {version}: {other:?}, {:?}", self.kept)),
        }
        Ok(())
    }

    fn unpin(&mut self) -> Check {
        let name = format!("pin {}", self.rng.below(3));
        match (self.store().unpin(&name), self.kept.pins.remove(&name)) {
            (Ok(()), Some(_)) | (Err(Error::NoPin { .. }), None) => Ok(()),
            other => Err(format!("unpinning {name}: {other:?}")),
        }
    }

    /// Pinned versions before the oldest kept one are no places to go back to.
    fn roll_back(&mut self, last: u64) -> Check {
        let to = last.saturating_sub(self.rng.below(5) as u64);
        match self.store().rollback(to) {
            Ok(()) if to >= self.kept.oldest => {
                self.model.cut(Some(to));
                self.kept.pins.retain(|_, version| *version <= to);
                self.held.retain(|(version, _)| *version <= to);
                Ok(())
            }
            Err(Error::VersionNotKept { .. } | Error::RollbackToPin { .. }) if to < self.kept.oldest => {
                Ok(())
            }
            other => Err(format!("rolling back to {to}: {other:?}, {:?}", self.kept)),
        }
    }

    fn power_loss(&mut self) -> Check {
        self.held.clear();
        self.store().flush().map_err(|error| format!("flush: {error}"))?;
        let (policy, seed) = (*self.rng.pick(&CrashPolicy::EVERY), self.rng.next_u64());
        let image = self.sim.crash_image(policy, seed);
        self.overwrites()?;
        self.store = None;
        self.sim = image;
        self.open()
    }

    fn open(&mut self) -> Check {
        let store = options(&self.config, &self.sim).open(DIR).map_err(|error| format!("open: {error}"))?;
        let last = store.latest_version();
        if last != self.model.last_version() {
            return Err(format!("opened with version {last:?}, not {:?}", self.model.last_version()));
        }
        self.store = Some(store);
        Ok(())
    }

    fn look(&mut self) -> Check {
        let store = self.store.as_ref().unwrap();
        verify_kept(store, &self.model, &self.kept, 40, &mut self.rng)?;
        for (version, snapshot) in &self.held {
            verify::snapshot(snapshot, &self.model, *version, Depth::READS, &mut self.rng)
                .map_err(|what| format!("a snapshot that is held: {what}"))?;
        }
        if self.rng.chance(5) {
            store.flush().unwrap();
            store.check(|_| ()).map_err(|error| format!("check: {error}"))?;
        }
        Ok(())
    }

    fn overwrites(&self) -> Check {
        match self.sim.overwritten_maps()[..] {
            [] => Ok(()),
            [ref first, ..] => Err(format!("bytes under a living map were written: {first}")),
        }
    }
}

/// Kept versions are as the model has them, of so many of a hundred every key; the others are not kept.
fn verify_kept(store: &Store, model: &Model, kept: &Kept, part: usize, rng: &mut Rng) -> Check {
    let all: Vec<u64> = model.versions().collect();
    let wanted: Vec<u64> = all.iter().copied().filter(|version| kept.keeps(*version)).collect();
    let found: Vec<u64> = store.versions().iter().map(|info| info.version).collect();
    if found != wanted {
        return Err(format!("versions {found:?}, not {wanted:?}"));
    }
    let pins: BTreeMap<_, _> = store.pins().into_iter().map(|pin| (pin.name, pin.version)).collect();
    if pins != kept.pins {
        return Err(format!("pins {pins:?}, not {:?}", kept.pins));
    }
    for version in all {
        if kept.keeps(version) {
            if rng.chance(part) {
                let depth = if rng.chance(10) { Depth::ALL } else { Depth::ROOTS };
                verify::version_at(store, model, version, depth, rng)?;
            }
        } else if rng.chance(part) && !matches!(store.at(version), Err(Error::VersionNotKept { .. })) {
            return Err(format!("version {version} is kept"));
        }
    }
    Ok(())
}

fn run(namespaces: Vec<Namespace>, seed: u64) {
    let mut world = World::new(namespaces, seed);
    let told = format!("seed {seed}, {:?}", world.config);
    for step in 0..70 {
        if let Err(what) = world.step() {
            panic!("{told}, step {step}: {what}");
        }
    }
    let end = |world: &mut World| -> Check {
        world.store().flush().unwrap();
        world.store().compact(|_| ()).map_err(|error| format!("compact: {error}"))?;
        world.store().check(|_| ()).map_err(|error| format!("check: {error}"))?;
        verify_kept(world.store.as_ref().unwrap(), &world.model, &world.kept, 100, &mut world.rng)?;
        world.held.clear();
        world.store.take().unwrap().close().map_err(|error| format!("close: {error}"))?;
        world.overwrites()
    };
    if let Err(what) = end(&mut world) {
        panic!("{told}, at the end: {what}");
    }
}

#[test]
fn kept_versions_of_accounts_are_maps_and_others_are_gone() {
    sequences("kept accounts", 40, |seed| {
        let scheme = if seed.is_multiple_of(2) { SchemeKind::Ethereum } else { SchemeKind::Blake3 };
        run(vec![Namespace::accounts(scheme), Namespace::flat(SchemeKind::Blake3).named("flat")], seed);
    });
}

#[test]
fn kept_versions_of_flat_keys_are_maps_and_others_are_gone() {
    sequences("kept flat", 40, |seed| run(vec![Namespace::flat(SchemeKind::Ethereum).raw()], seed));
}

/// A store with `versions` versions of some keys, each of which changes a part of them.
fn filled(options: &Options, versions: u64) -> Store {
    let store = options.open(DIR).unwrap();
    for version in 0..versions {
        fill(&store, version);
    }
    store.flush().unwrap();
    store
}

/// What a key holds in a version: the version in which it was written last, the first one or one that it fits.
fn held(version: u64, key: u64) -> Vec<u8> {
    let last = version.saturating_sub((version + 8 - key % 8) % 8);
    [last.to_be_bytes(), key.to_be_bytes()].concat().repeat(3)
}

fn fill(store: &Store, version: u64) {
    let mut batch = Batch::new();
    for key in (0..800u64).filter(|key| version == 0 || key % 8 == version % 8) {
        batch.put(&key.to_be_bytes(), &held(version, key));
    }
    store.commit(batch).unwrap();
}

fn flat() -> Options {
    Options::new()
        .namespace(Namespace::flat(SchemeKind::Blake3))
        .seal_keys(300)
        .segment_bytes(32 << 10)
        .threads(1)
}

fn assert_reads(snapshot: &Snapshot) {
    let version = snapshot.version();
    for key in 0..800u64 {
        let found = snapshot.get(&key.to_be_bytes()).unwrap();
        assert_eq!(found, Some(held(version, key)), "version {version}, key {key}");
    }
}

#[test]
fn space_comes_back_by_itself_and_a_snapshot_keeps_what_it_sees() {
    let sim = SimVfs::new(1);
    let store = filled(&flat().vfs(std::sync::Arc::new(sim.clone())), 120);
    let before = store.stats().unwrap();
    let held = store.at(20).unwrap();
    assert_eq!(store.prune(4).unwrap(), 116);
    assert!(matches!(store.at(115), Err(Error::VersionNotKept { version: 115, first: 116, last: 119 })));
    let waited = std::time::Instant::now();
    let freed = |store: &Store| store.stats().unwrap().segment_bytes;
    while freed(&store) > before.segment_bytes * 2 / 3 && waited.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let stats = store.stats().unwrap();
    assert!(freed(&store) <= before.segment_bytes * 2 / 3, "{:?}", stats.forget);
    assert!(
        stats.forget.held_records > 0 && stats.leases.iter().any(|lease| lease.version == 20 && !lease.kept)
    );
    assert_reads(&held);
    drop(held);
    while store.stats().unwrap().forget.held_records > 0 && waited.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let report = store.compact(|_| ()).unwrap();
    let after = store.stats().unwrap();
    assert!(report.after <= report.before && after.forget.held_records == 0, "{report:?}, {after:?}");
    (116..120).for_each(|version| assert_reads(&store.at(version).unwrap()));
    // What a store that never had more takes, deltas that weigh at most as much again (here every page changes in every version, so that
    // all have some), and what each small file takes.
    let fresh = SimVfs::new(2);
    let fresh = filled(&flat().vfs(std::sync::Arc::new(fresh)), 5).stats().unwrap().segment_bytes;
    let bound = fresh * 2 + after.segments * 1024;
    assert!(after.segment_bytes < bound, "{} bytes, {fresh} in a fresh store", after.segment_bytes);
    store.check(|_| ()).unwrap();
    store.close().unwrap();
}

#[test]
fn large_values_go_with_the_versions_that_held_them() {
    let sim = SimVfs::new(1);
    let store = flat().seal_keys(20).segment_bytes(64 << 10).vfs(std::sync::Arc::new(sim)).open(DIR).unwrap();
    let large = |version: u64, key: u8| vec![(version as u8) ^ (key << 5); 4_000];
    // One key in every commit, so that runs hold more of it than their ends show; two with the same value; one now and then; one that goes.
    for version in 0..100 {
        let mut batch = Batch::new();
        batch.put(b"always", &large(version, 0));
        batch.put(b"alike", &large(version, 1)).put(b"alike too", &large(version, 1));
        if version % 10 == 0 {
            batch.put(b"rarely", &large(version, 2));
        }
        match version % 2 {
            0 => batch.put(b"goes", &large(version, 3)),
            _ => batch.delete(b"goes"),
        };
        for key in 0..12u8 {
            batch.put(&[key], &version.to_be_bytes());
        }
        store.commit(batch).unwrap();
    }
    store.flush().unwrap();
    let before = store.stats().unwrap().segment_bytes;
    assert!(before > 100 * 3 * 4_000, "{before}");
    store.prune(5).unwrap();
    // What died in the newest runs, and the newest segment, stay a while longer.
    store.compact(|_| ()).unwrap();
    let after = store.stats().unwrap();
    assert!(
        after.segment_bytes < before / 5,
        "{} of {before} bytes: {:?}",
        after.segment_bytes,
        after.forget
    );
    for version in 95..100 {
        let snapshot = store.at(version).unwrap();
        let get = |key: &[u8]| snapshot.get(key).unwrap();
        assert_eq!(get(b"always"), Some(large(version, 0)));
        assert_eq!((get(b"alike"), get(b"alike too")), (Some(large(version, 1)), Some(large(version, 1))));
        assert_eq!(get(b"rarely"), Some(large(90, 2)));
        assert_eq!(get(b"goes"), (version % 2 == 0).then(|| large(version, 3)));
    }
    store.check(|_| ()).unwrap();
    store.close().unwrap();
}

#[test]
fn what_a_rollback_gave_up_takes_no_space_for_long() {
    // To the end of a run, and into the middle of one.
    for seal_keys in [1, 1_000] {
        let sim = SimVfs::new(1);
        let store = filled(&flat().seal_keys(seal_keys).vfs(std::sync::Arc::new(sim)), 10);
        let small = store.stats().unwrap().segment_bytes;
        (10..150).for_each(|version| fill(&store, version));
        store.pin("one of the run", 3).unwrap();
        let before = store.stats().unwrap().segment_bytes;
        let old = store.at(5).unwrap();
        store.rollback(6).unwrap();
        // The newest segment is not written anew: what comes now begins another.
        (7..20).for_each(|version| fill(&store, version));
        store.flush().unwrap();
        store.compact(|_| ()).unwrap();
        assert_reads(&old);
        drop(old);
        store.compact(|_| ()).unwrap();
        let after = store.stats().unwrap();
        let bound = small * 3 + after.segments * 1024;
        assert!(before > small * 6 && after.segment_bytes < bound, "{small}, {before}, {after:?}");
        assert_eq!(after.forget.oldest, 0);
        store.prune(2).unwrap();
        store.compact(|_| ()).unwrap();
        for version in [3, 18, 19] {
            assert_reads(&store.at(version).unwrap());
        }
        store.check(|_| ()).unwrap();
        store.close().unwrap();
    }
}

#[test]
fn the_last_versions_are_kept_without_being_asked_and_pins_beside_them() {
    let sim = SimVfs::new(1);
    let options = flat().retention(Retention::Last(10)).vfs(std::sync::Arc::new(sim.clone()));
    let store = filled(&options, 30);
    store.pin("middle", 25).unwrap();
    (30..60).for_each(|version| fill(&store, version));
    store.flush().unwrap();
    let check = |store: &Store| {
        let listed: Vec<u64> = store.versions().iter().map(|info| info.version).collect();
        assert_eq!(listed, [&[25][..], &(50..60).collect::<Vec<_>>()].concat());
        listed.iter().for_each(|version| assert_reads(&store.at(*version).unwrap()));
        assert!(matches!(store.at(26), Err(Error::VersionNotKept { .. })));
    };
    check(&store);
    store.close().unwrap();
    let store = options.open(DIR).unwrap();
    check(&store);
    store.compact(|_| ()).unwrap();
    check(&store);
    assert!(matches!(store.unpin("no such"), Err(Error::NoPin { .. })));
    assert!(matches!(store.pin("", 55), Err(Error::TooLong { .. })));
    assert!(matches!(store.pin("late", 99), Err(Error::VersionNotKept { .. })));
    store.unpin("middle").unwrap();
    assert!(matches!(store.at(25), Err(Error::VersionNotKept { .. })));
    store.close().unwrap();
    assert!(Options::new().retention(Retention::Last(0)).open("/nowhere").is_err());
}

#[test]
fn a_full_disk_while_space_is_given_back_is_told_and_loses_nothing() {
    for fault in [Fault::NoSpace, Fault::Eio, Fault::ShortWrite] {
        let sim = SimVfs::new(1);
        let store = filled(&flat().vfs(std::sync::Arc::new(sim.clone())), 60);
        // What is written to make room, not what commits write.
        let made = |path: &std::path::Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_old = name.starts_with("0000000") && name.ends_with(".tmp");
            name == "dead.tmp" || is_old && path.parent().is_some_and(|dir| dir.ends_with("segments"))
        };
        assert!(sim.files().iter().any(|path| path.ends_with("00000010.seg")));
        for kind in [OpKind::Create, OpKind::Write, OpKind::Sync] {
            sim.fail(FaultRule::matching(Selector::kind(kind).on(made), fault).forever());
        }
        store.prune(3).unwrap();
        let failed = store.compact(|_| ());
        assert!(matches!(failed, Err(Error::Storage(_))), "{fault:?}: {failed:?}");
        assert!(store.stats().unwrap().forget.failure.is_some());
        // Everything else goes on.
        (60..64).for_each(|version| fill(&store, version));
        store.flush().unwrap();
        (57..64).for_each(|version| assert_reads(&store.at(version).unwrap()));
        let image = sim.crash_image(CrashPolicy::KeepNothing, 0);
        sim.clear_faults();
        let report = store.compact(|_| ()).unwrap();
        assert!(report.segments > 0 && report.after < report.before, "{report:?}");
        assert!(store.stats().unwrap().forget.failure.is_none());
        (57..64).for_each(|version| assert_reads(&store.at(version).unwrap()));
        store.close().unwrap();
        let again = flat().vfs(std::sync::Arc::new(image)).open(DIR).unwrap();
        (57..64).for_each(|version| assert_reads(&again.at(version).unwrap()));
        again.check(|_| ()).unwrap();
    }
}

/// What was kept, and from which number of operations on that was promised.
type Promises = Vec<(usize, Kept)>;

/// Commits, prunes, pins and compacts on `sim`; every state of what is kept, in order, and those that were told to hold.
fn forget_on(sim: &SimVfs, world: &mut World) -> (Vec<Kept>, Promises) {
    let (mut states, mut promises) = (vec![world.kept.clone()], vec![(sim.op_count(), world.kept.clone())]);
    for step in 0..18u64 {
        let before = world.kept.clone();
        let last = world.model.last_version().unwrap_or(0);
        match step % 6 {
            2 => {
                let keep = 3 + step % 4;
                world.kept.oldest = before.oldest.max((last + 1).saturating_sub(keep));
                states.push(world.kept.clone());
                world.store().prune(keep).unwrap();
            }
            3 => {
                world.kept.pins.insert(format!("pin {}", step % 2), last);
                states.push(world.kept.clone());
                world.store().pin(&format!("pin {}", step % 2), last).unwrap();
            }
            5 if step > 6 => {
                world.kept.pins.remove("pin 1");
                states.push(world.kept.clone());
                let _ = world.store().unpin("pin 1");
            }
            4 => drop(world.store().compact(|_| ()).unwrap()),
            _ => {
                world.commit().unwrap();
                world.commit().unwrap();
                world.store().flush().unwrap();
            }
        }
        promises.push((sim.op_count(), world.kept.clone()));
    }
    world.store().compact(|_| ()).unwrap();
    (states, promises)
}

#[test]
fn after_a_power_cut_at_any_moment_exactly_what_is_kept_answers() {
    let mut images = 0;
    sequences("forgetting and power cuts", 3, |seed| {
        let mut world = World::new(vec![Namespace::accounts(SchemeKind::Ethereum)], seed);
        world.config.segment_bytes = 4 << 10;
        world.store = None;
        world.sim = SimVfs::new(seed);
        world.open().unwrap();
        let sim = world.sim.clone();
        let (states, promises) = forget_on(&sim, &mut world);
        world.store.take().unwrap().close().unwrap();
        let stride = if is_long() { 1 } else { 5 };
        for (index, case) in sim.crash_cases(&CrashPolicy::EVERY, 0..1).enumerate() {
            if index % stride != 0 {
                continue;
            }
            images += 1;
            let promised = promises.iter().rfind(|(from, _)| *from <= case.boundary).map(|(_, kept)| kept);
            let from = promised.map_or(0, |kept| states.iter().position(|state| state == kept).unwrap());
            let told = format!("seed {seed}, {case}");
            let store = options(&world.config, &case.image).open(DIR);
            let store = store.unwrap_or_else(|error| panic!("{told}: {error}"));
            let mut model = world.model.clone();
            model.cut(store.latest_version());
            // Before the first version there is no oldest one.
            let mut found = Kept::of(&store);
            found.oldest = if model.last_version().is_none() { 0 } else { found.oldest };
            assert!(states[from..].contains(&found), "{told}: {found:?}, not from {from} on of {states:?}");
            let look = |rng: &mut Rng| verify_kept(&store, &model, &found, 30, rng);
            look(&mut world.rng).unwrap_or_else(|what| panic!("{told}: {what}"));
            if images % 7 == 0 {
                // It goes on from there.
                store.compact(|_| ()).unwrap_or_else(|error| panic!("{told}: compact: {error}"));
                store.check(|_| ()).unwrap_or_else(|error| panic!("{told}: check: {error}"));
                look(&mut world.rng).unwrap_or_else(|what| panic!("{told}, compacted: {what}"));
            }
            drop(store);
            assert!(case.image.overwritten_maps().is_empty(), "{told}");
        }
    });
    eprintln!("forgetting and power cuts: {images} images");
}

#[test]
fn after_any_failing_call_exactly_what_is_kept_answers() {
    sequences("forgetting and failing calls", 1, |seed| {
        let mut failed = 0;
        for index in (0..).step_by(if is_long() { 1 } else { 23 }) {
            let sim = SimVfs::new(seed);
            let store = filled(&flat().vfs(std::sync::Arc::new(sim.clone())), 40);
            sim.fail(FaultRule::at_call(sim.call_count() + index, Fault::Eio));
            let outcome = store
                .prune(12)
                .and_then(|_| store.pin("one", 30))
                .and_then(|()| store.prune(3))
                .and_then(|_| store.compact(|_| ()))
                .and_then(|_| store.unpin("one"))
                .and_then(|()| store.compact(|_| ()));
            let calls = sim.call_count();
            sim.clear_faults();
            store.versions().iter().for_each(|info| assert_reads(&store.at(info.version).unwrap()));
            drop(store);
            let again =
                flat().vfs(std::sync::Arc::new(sim.crash_image(CrashPolicy::KeepNothing, 0))).open(DIR);
            let again = again.unwrap_or_else(|error| panic!("call {index}: {error}"));
            let listed: Vec<u64> = again.versions().iter().map(|info| info.version).collect();
            assert!(listed.ends_with(&[37, 38, 39]), "call {index}: {listed:?}");
            listed.iter().for_each(|version| assert_reads(&again.at(*version).unwrap()));
            again.compact(|_| ()).unwrap();
            again.check(|_| ()).unwrap_or_else(|error| panic!("call {index}: {error}"));
            listed.iter().for_each(|version| assert_reads(&again.at(*version).unwrap()));
            match outcome {
                Ok(_) if calls < sim.call_count() || failed > 3 => break,
                Ok(_) => {}
                Err(_) => failed += 1,
            }
        }
        assert!(failed > 3, "{failed} calls failed");
    });
}
