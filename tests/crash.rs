//! Power cuts at every operation of a workload and of the recovery from them, failing calls at every index, and planted
//! defects that the same checks must notice.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

mod common;

use bristlecone::vfs::sim::{CrashPolicy, Fault, FaultRule, OpKind, Selector, SimVfs};
use bristlecone::{Batch, Error, Namespace, RootSchedule, SchemeKind, Store};
use common::{Check, Config, Depth, Model, Rng, Universe, batches, is_long, sequences, verify};

const DIR: &str = "/a/store";

/// A stretch of work on one disk, from an opening to its end.
struct Phase {
    sim: SimVfs,
    config: Config,
    /// Everything that was committed, durable or not.
    model: Model,
    /// From which number of operations on which version is promised.
    promises: Vec<(usize, Option<u64>)>,
    /// What went wrong, where calls fail by order.
    failure: Option<String>,
}

impl Phase {
    fn promise(&mut self, version: Option<u64>) {
        self.promises.push((self.sim.op_count(), version));
    }

    fn promised_at(&self, boundary: usize) -> Option<u64> {
        self.promises
            .iter()
            .filter(|(from, _)| *from <= boundary)
            .map(|(_, version)| *version)
            .max()
            .flatten()
    }

    fn promised(&self) -> Option<u64> {
        self.promised_at(usize::MAX)
    }
}

/// Opens what is on `sim`, of which `promised` must be there and no more than `model` may be, and commits `steps` times, with
/// flushes and reopenings. An error is a violation unless calls fail by order.
fn work(
    sim: SimVfs,
    config: &Config,
    model: &Model,
    promised: Option<u64>,
    steps: usize,
    rng: &mut Rng,
) -> Check<Phase> {
    let mut phase = Phase {
        sim,
        config: config.clone(),
        model: model.clone(),
        promises: vec![(0, promised)],
        failure: None,
    };
    phase.promises[0].0 = phase.sim.op_count();
    let mut store = None;
    for _ in 0..steps {
        let open = match store.take() {
            Some(store) => store,
            None => match open(&mut phase)? {
                Some(store) => store,
                None => return Ok(phase),
            },
        };
        store = step(&mut phase, open, rng)?;
        if phase.failure.is_some() {
            break;
        }
    }
    drop(store);
    let overwritten = phase.sim.overwritten_maps();
    if let Some(first) = overwritten.first() {
        return Err(format!("bytes under a living map were written: {first}"));
    }
    Ok(phase)
}

/// Opens the store, and cuts the model down to what it finds.
fn open(phase: &mut Phase) -> Check<Option<Store>> {
    let promised = phase.promised();
    let store = match phase.config.options(phase.sim.clone()).open(DIR) {
        Ok(store) => store,
        Err(error) => {
            phase.failure = Some(format!("opening: {error}"));
            return Ok(None);
        }
    };
    let found = store.latest_version();
    if found < promised || found > phase.model.last_version() {
        return Err(format!("opened with {found:?}; {promised:?} is promised"));
    }
    if store.latest_durable() != found {
        return Err(format!("opened with {found:?}, of which {:?} is durable", store.latest_durable()));
    }
    phase.model.cut(found);
    phase.promise(found);
    Ok(Some(store))
}

/// One commit and what may come after it.
fn step(phase: &mut Phase, store: Store, rng: &mut Rng) -> Check<Option<Store>> {
    let changes = batches::random(&phase.model, 16, false, rng);
    let before = phase.model.last_version();
    let version = phase.model.commit(&changes).unwrap();
    let commit = match store.commit(batches::batch_of(&phase.model.namespaces, &changes)) {
        Ok(commit) => commit,
        Err(error) => {
            phase.model.cut(before);
            return failed(phase, store, "a commit", &error, rng);
        }
    };
    if rng.chance(60) {
        match commit.durable().wait() {
            Ok(()) => phase.promise(Some(version)),
            Err(error) => return failed(phase, store, "durable", &error, rng),
        }
    }
    if rng.chance(30) {
        match commit.root().wait() {
            Ok(root) if root == phase.model.at(version).root => {}
            Ok(root) => return Err(format!("version {version} got the root {root}")),
            Err(error) => return failed(phase, store, "a root", &error, rng),
        }
    }
    drop(commit);
    match rng.below(10) {
        0 | 1 => match store.flush() {
            Ok(()) => phase.promise(Some(version)),
            Err(error) => return failed(phase, store, "a flush", &error, rng),
        },
        2 => {
            match store.close() {
                Ok(()) => phase.promise(Some(version)),
                Err(error) => phase.failure = Some(format!("closing: {error}")),
            }
            return Ok(None);
        }
        _ => {}
    }
    Ok(Some(store))
}

/// After a call failed by order: no more is acknowledged than is promised, readers go on, and a store that lost a write takes
/// no more of them.
fn failed(phase: &mut Phase, store: Store, what: &str, error: &Error, rng: &mut Rng) -> Check<Option<Store>> {
    phase.failure = Some(format!("{what}: {error}"));
    if what != "a commit" && !matches!(error, Error::Poisoned(_)) {
        return Err(format!("{what} failed with {error:?}, not as poisoned"));
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
    let frozen = store.latest_durable();
    verify::store(&store, &phase.model, Depth::READS, rng)
        .map_err(|what| format!("reading on after {error}: {what}"))?;
    if store.latest_durable() != frozen || frozen < phase.promised() {
        return Err(format!("{frozen:?} is durable after {error}, {:?} was promised", phase.promised()));
    }
    Ok(None)
}

/// Opens a disk as it was found: the state is a prefix of the commits with everything promised, and the store goes on.
fn examine(image: SimVfs, phase: &Phase, promised: Option<u64>, rng: &mut Rng) -> Check {
    let mut found = Phase {
        sim: image,
        config: phase.config.clone(),
        model: phase.model.clone(),
        promises: vec![(0, promised)],
        failure: None,
    };
    let Some(store) = open(&mut found)? else { return Err(found.failure.unwrap()) };
    let depth = if rng.chance(5) { Depth::ALL } else { Depth::ROOTS };
    verify::versions(&store, &found.model)?;
    let versions: Vec<u64> = found.model.versions().collect();
    for version in &versions {
        if versions.len() - (*version - versions[0]) as usize <= 3 || rng.chance(25) {
            verify::version_at(&store, &found.model, *version, depth, rng)?;
        }
    }
    let changes = batches::random(&found.model, 8, false, rng);
    let next = found.model.commit(&changes).unwrap();
    let commit = store
        .commit(batches::batch_of(&found.model.namespaces, &changes))
        .map_err(|error| format!("committing on: {error}"))?;
    let root = commit.root().wait().map_err(|error| format!("the root of what comes next: {error}"))?;
    if root != found.model.at(next).root {
        return Err(format!("version {next} got the root {root} after recovery"));
    }
    drop(commit);
    store.close().map_err(|error| format!("closing after recovery: {error}"))?;
    match found.sim.overwritten_maps().first() {
        Some(first) => Err(format!("bytes under a living map were written: {first}")),
        None => Ok(()),
    }
}

/// What to do with the images of a phase.
#[derive(Clone, Copy)]
struct Plan<'a> {
    policies: &'a [CrashPolicy],
    /// Every so many images.
    stride: usize,
    /// Of so many images that are looked at, the recovery of one is cut in its turn.
    again: usize,
}

/// Looks at the disk after a power cut at every boundary; how many images that were.
fn cut_everywhere(phase: &Phase, plan: Plan<'_>, rng: &mut Rng) -> Check<usize> {
    let mut images = 0;
    for (index, case) in phase.sim.crash_cases(plan.policies, 0..1).enumerate() {
        if index % plan.stride != 0 {
            continue;
        }
        images += 1;
        let promised = phase.promised_at(case.boundary);
        let told = |what: String| {
            format!("{case}, {promised:?} promised: {what}\n{}", around(&phase.sim, case.boundary))
        };
        if plan.again != 0 && images % plan.again == 0 {
            let recovery =
                work(case.image.clone(), &phase.config, &phase.model, promised, 2, rng).map_err(told)?;
            if let Some(failure) = recovery.failure {
                return Err(told(failure));
            }
            let plan = Plan { again: 0, stride: 5, policies: &[CrashPolicy::KeepNothing, CrashPolicy::Mix] };
            images +=
                cut_everywhere(&recovery, plan, rng).map_err(|what| told(format!("in recovery: {what}")))?;
        } else {
            examine(case.image.clone(), phase, promised, rng).map_err(told)?;
        }
    }
    // A process that is killed leaves everything it wrote in the page cache, where it reads well and need not be durable.
    for boundary in (0..=phase.sim.op_count()).step_by(plan.stride.max(7)) {
        images += 1;
        let told = |what: String| format!("killed at {boundary}: {what}");
        let recovery = work(
            phase.sim.killed_at(boundary),
            &phase.config,
            &phase.model,
            phase.promised_at(boundary),
            1,
            rng,
        )
        .map_err(told)?;
        if let Some(failure) = &recovery.failure {
            return Err(told(failure.clone()));
        }
        let image = recovery.sim.crash_image(CrashPolicy::KeepNothing, 0);
        examine(image, &recovery, recovery.promised(), rng).map_err(told)?;
    }
    Ok(images)
}

fn around(sim: &SimVfs, boundary: usize) -> String {
    let ops = sim.ops();
    let near = &ops[boundary.saturating_sub(12).min(ops.len())..(boundary + 3).min(ops.len())];
    near.iter().map(|op| format!("{op}\n")).collect()
}

fn namespaces(seed: u64) -> Vec<Namespace> {
    let scheme = if seed.is_multiple_of(2) { SchemeKind::Ethereum } else { SchemeKind::Blake3 };
    match seed % 3 {
        0 => vec![Namespace::accounts(scheme)],
        1 => vec![Namespace::flat(scheme).raw()],
        _ => vec![Namespace::accounts(scheme), Namespace::flat(SchemeKind::Blake3).named("flat")],
    }
}

fn config(seed: u64, rng: &mut Rng) -> Config {
    Config {
        roots: *rng.pick(&[RootSchedule::Every(1), RootSchedule::Every(3), RootSchedule::OnDemand]),
        seal_keys: *rng.pick(&[1, 20, 60]),
        segment_bytes: *rng.pick(&[4 << 10, 32 << 10]),
        log_bytes: *rng.pick(&[4 << 10, 16 << 10]),
        ..Config::small(namespaces(seed))
    }
}

fn begin(seed: u64) -> (Config, Model, Rng) {
    let mut rng = Rng::new(seed);
    let config = config(seed, &mut rng);
    let universe = Universe::random(&config.namespaces, 40, &mut rng);
    let model = Model::new(config.namespaces.clone(), config.first_version, universe);
    (config, model, rng)
}

fn unfailing(phase: Check<Phase>) -> Phase {
    let phase = phase.unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(phase.failure, None);
    phase
}

#[test]
fn recovery_finds_a_prefix_with_everything_acknowledged_after_every_power_cut() {
    let mut images = 0;
    sequences("power cuts", 4, |seed| {
        let (config, model, mut rng) = begin(seed);
        let plan = Plan { policies: &CrashPolicy::EVERY, stride: if is_long() { 1 } else { 3 }, again: 60 };
        // A first store; then one that was killed; then one that lost power.
        let first = unfailing(work(SimVfs::new(seed), &config, &model, None, 14, &mut rng));
        let killed = first.sim.killed_at(usize::MAX);
        let second = unfailing(work(killed, &config, &first.model, first.promised(), 10, &mut rng));
        let lost = second.sim.image_at(second.sim.op_count() - 3, CrashPolicy::Mix, seed);
        let promised = second.promised_at(second.sim.op_count() - 3);
        let third = unfailing(work(lost, &config, &second.model, promised, 10, &mut rng));
        for (phase, name) in [(&first, "first"), (&second, "second"), (&third, "third")] {
            match cut_everywhere(phase, plan, &mut rng) {
                Ok(count) => images += count,
                Err(what) => panic!("seed {seed}, {name} phase, {config:?}: {what}"),
            }
        }
    });
    eprintln!("power cuts: {images} images");
}

/// Runs the workload on a disk that, after so many honest steps, only claims to do the syncs that `lie` picks; what the checks say.
fn with_a_lie(seed: u64, honest: usize, lie: &Selector) -> Check {
    let (config, model, mut rng) = begin(seed);
    let sim = SimVfs::new(seed);
    let first = work(sim.clone(), &config, &model, None, honest, &mut rng)?;
    sim.ignore_syncs(lie.clone());
    let mut phase = work(sim, &config, &first.model, first.promised(), 20, &mut rng)?;
    phase.promises.extend(first.promises);
    let policies = [CrashPolicy::KeepNothing, CrashPolicy::KeepPrefix, CrashPolicy::Mix];
    cut_everywhere(&phase, Plan { policies: &policies, stride: 2, again: 0 }, &mut rng).map(|_| ())
}

fn syncs_in(part: &'static str) -> Selector {
    Selector::kind(OpKind::Sync).on(move |path| path.parent().is_some_and(|dir| dir.ends_with(part)))
}

/// The checks report a violation on such a disk.
fn assert_noticed(honest: usize, lie: &Selector, name: &str) {
    match with_a_lie(0, honest, lie) {
        Ok(()) => panic!("a forgotten sync of {name} went unnoticed"),
        Err(what) => eprintln!("without syncs of {name}: {what}"),
    }
}

#[test]
fn a_sync_of_the_log_that_is_forgotten_is_noticed() {
    assert_noticed(0, &syncs_in("log"), "the log");
    // Not that of a new file, which has another name then: of records in one that is known.
    let records = Selector::kind(OpKind::Sync).on(|path| path.extension().is_some_and(|end| end == "log"));
    assert_noticed(3, &records, "records of the log");
}

#[test]
fn a_sync_of_a_segment_that_is_forgotten_is_noticed() {
    assert_noticed(0, &syncs_in("segments"), "a segment");
    let records = Selector::kind(OpKind::Sync).on(|path| path.extension().is_some_and(|end| end == "seg"));
    assert_noticed(3, &records, "records of a segment");
}

#[test]
fn a_sync_of_a_directory_that_is_forgotten_is_noticed() {
    for dir in ["log", "segments", "store", "a"] {
        let lie = Selector::kind(OpKind::SyncDir).on(move |path| path.ends_with(dir));
        assert_noticed(0, &lie, dir);
    }
}

#[test]
fn nothing_depends_on_syncs_of_the_catalog() {
    let lie = Selector::kind(OpKind::Sync)
        .on(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("catalog")));
    with_a_lie(0, 3, &lie).unwrap_or_else(|what| panic!("{what}"));
}

/// Orders one failure and works through it: reopening finds everything that was acknowledged, and so does power loss.
fn with_a_fault(seed: u64, rule: FaultRule) -> Check<bool> {
    let (config, model, mut rng) = begin(seed);
    let sim = SimVfs::new(seed);
    sim.fail(rule);
    let phase = work(sim, &config, &model, None, 8, &mut rng)?;
    let told = |when: &'static str| {
        let failure = phase.failure.clone();
        move |what: String| format!("{when} after {failure:?}: {what}")
    };
    examine(phase.sim.killed_at(usize::MAX), &phase, phase.promised(), &mut rng)
        .map_err(told("reopening"))?;
    for policy in [CrashPolicy::KeepNothing, CrashPolicy::KeepAll, CrashPolicy::Mix] {
        let image = phase.sim.crash_image(policy, seed);
        examine(image, &phase, phase.promised(), &mut rng).map_err(told("power loss"))?;
    }
    Ok(phase.failure.is_some())
}

/// The calls of the workload where nothing fails.
fn calls(seed: u64) -> (u64, usize) {
    let (config, model, mut rng) = begin(seed);
    let phase = unfailing(work(SimVfs::new(seed), &config, &model, None, 8, &mut rng));
    (phase.sim.call_count(), phase.sim.op_count())
}

#[test]
fn no_failing_call_leads_to_a_false_acknowledgement() {
    let (mut runs, mut failures) = (0, 0);
    sequences("failing calls", 2, |seed| {
        let (calls, ops) = calls(seed);
        let stride = if is_long() { 1 } else { 2 };
        for fault in [Fault::Eio, Fault::NoSpace] {
            for call in (runs % stride..calls).step_by(stride as usize) {
                let failed = with_a_fault(seed, FaultRule::at_call(call, fault));
                runs += 1;
                failures += u64::from(
                    failed.unwrap_or_else(|what| panic!("seed {seed}, {fault:?} at call {call}: {what}")),
                );
            }
        }
        for op in (0..ops).step_by(2 * stride as usize) {
            for (rule, name) in [
                (FaultRule::at_op(op, Fault::ShortWrite), "a short write"),
                (FaultRule::at_op(op, Fault::Eio).forever(), "EIO for ever"),
                (FaultRule::at_op(op, Fault::NoSpace).forever(), "ENOSPC for ever"),
            ] {
                let failed = with_a_fault(seed, rule);
                runs += 1;
                failures +=
                    u64::from(failed.unwrap_or_else(|what| panic!("seed {seed}, {name} at op {op}: {what}")));
            }
        }
    });
    eprintln!("failing calls: {runs} runs, {failures} of them met an error");
}
