//! Damage to any file of a store gives a typed error or the same answers: never a panic, never a wrong byte.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bristlecone::vfs::sim::{CrashPolicy, SimVfs};
use bristlecone::{Namespace, Options, Reader, SchemeKind, Store};

use crate::damage::{Damage, damages, is_catalog};
use crate::phase::{DIR, around};
use crate::totals::{Totals, share};
use crate::{Check, Config, Depth, Model, Rng, Universe, batches, verify};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seeds: u64,
    pub first_seed: u64,
    /// Every so many bytes one bit is turned over.
    pub stride: u64,
    /// All eight bits of a byte, instead of one.
    pub all_bits: bool,
    pub threads: usize,
    pub deadline: Option<Instant>,
}

/// A store with files as they were at its end, and as they were half-way.
struct Victim {
    seed: u64,
    sim: SimVfs,
    stale: SimVfs,
    config: Config,
    model: Model,
    closed: bool,
    /// The latest sealed version, which is what another process sees.
    sealed: Option<u64>,
}

impl Victim {
    fn new(seed: u64, sim: SimVfs, stale: SimVfs, config: Config, model: Model, closed: bool) -> Check<Self> {
        let reader = beside(&sim).map_err(|error| error.to_string())?;
        let sealed = reader.latest_version();
        Ok(Self { seed, sim, stale, config, model, closed, sealed })
    }
}

/// Opens what another process reads.
fn beside(sim: &SimVfs) -> bristlecone::Result<Reader> {
    Options::new().vfs(Arc::new(sim.clone())).open_read_only(DIR)
}

/// A store of several segments and log files with two openings in it; some commits at the end are not sealed where it
/// is not `closed`.
fn victim(seed: u64, closed: bool) -> Check<Victim> {
    let failed = |error: bristlecone::Error| error.to_string();
    let mut rng = Rng::new(seed);
    let scheme = if seed.is_multiple_of(2) { SchemeKind::Ethereum } else { SchemeKind::Blake3 };
    let namespaces = vec![Namespace::accounts(scheme), Namespace::flat(scheme).raw().named("f")];
    let mut config =
        Config { seal_keys: 25, segment_bytes: 8 << 10, log_bytes: 4 << 10, ..Config::small(namespaces) };
    let universe = Universe::random(&config.namespaces, 40, &mut rng);
    let mut model = Model::new(config.namespaces.clone(), 0, universe);
    let sim = SimVfs::new(seed);
    let mut stale = sim.clone();
    for _ in 0..2 {
        let store = config.options(sim.clone()).open(DIR).map_err(failed)?;
        for step in 0..8 {
            let changes = batches::random(&model, 12, false, &mut rng);
            model.commit(&changes);
            store.commit(batches::batch_of(&model.namespaces, &changes)).map_err(failed)?;
            if step == 5 {
                store.flush().map_err(failed)?;
                stale = sim.killed_at(usize::MAX);
            }
        }
        store.close().map_err(failed)?;
    }
    if !closed {
        config.seal_keys = 1000;
        let store = config.options(sim.clone()).open(DIR).map_err(failed)?;
        for _ in 0..4 {
            let changes = batches::random(&model, 6, false, &mut rng);
            model.commit(&changes);
            let commit = store.commit(batches::batch_of(&model.namespaces, &changes)).map_err(failed)?;
            commit.durable().wait().map_err(failed)?;
        }
        let sim = sim.killed_at(usize::MAX);
        return Victim::new(seed, sim, stale, config, model, closed);
    }
    Victim::new(seed, sim, stale, config, model, closed)
}

/// Of so many damaged images, one is also read as another process does.
const READ_ONE_IN: usize = 61;
/// Of so many, the repair of one is cut at every operation.
const CUT_ONE_IN: usize = 97;

/// What came of a damaged store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    Refused,
    ErrorLater,
    SameAnswers,
    /// The end of the log is missing: damage there cannot be told from a write that power cut short.
    Shorter,
}

impl Met {
    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused to open",
            Self::ErrorLater => "a typed error later",
            Self::SameAnswers => "the same answers",
            Self::Shorter => "an unsealed end missing",
        }
    }
}

/// Every answer of the store is right or an error. Reading goes through the library's own errors, so what `verify` reports
/// must be one of those and not a difference.
fn look(store: &Store, model: &Model, rng: &mut Rng) -> Check<bool> {
    let mut errors = false;
    let mut note = |checked: Check| -> Check {
        match checked {
            Ok(()) => Ok(()),
            Err(what) if is_typed(&what) => {
                errors = true;
                Ok(())
            }
            Err(what) => Err(what),
        }
    };
    for version in model.versions() {
        note(verify::version_at(store, model, version, Depth::READS, rng))?;
    }
    for version in model.versions().rev().take(3) {
        note(verify::version_at(store, model, version, Depth { root: true, scans: true, proofs: 1 }, rng))?;
    }
    note(store.check(|_| ()).map(|_| ()).map_err(|error| error.to_string()))?;
    let mut longer = model.clone();
    let changes = batches::random(&longer, 10, false, rng);
    longer.commit(&changes);
    match store.commit(batches::batch_of(&model.namespaces, &changes)) {
        Ok(commit) => {
            let version = commit.version();
            note(verify::version_at(store, &longer, version, Depth::READS, rng))?;
            match commit.root().wait() {
                Ok(root) if root != longer.at(version).root => return Err(format!("a wrong root {root}")),
                Ok(_) => {}
                Err(_) => errors = true,
            }
        }
        Err(_) => errors = true,
    }
    Ok(errors)
}

/// Whether a report of `verify` is an error of the store of the kinds that damage leads to, and not a wrong answer.
fn is_typed(what: &str) -> bool {
    let errors =
        ["is damaged", "the store is damaged", "takes no more writes", "malformed at byte", "no record"];
    !verify::is_wrong(what) && errors.iter().any(|part| what.contains(part))
}

/// What is in the files of segments, but for room at their ends.
fn segments(image: &SimVfs) -> Vec<(PathBuf, Vec<u8>)> {
    let of = |file: PathBuf| {
        let bytes = image.read_file(&file).unwrap_or_default();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        (file, bytes[..used].to_vec())
    };
    image
        .files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "seg"))
        .map(of)
        .collect()
}

fn judge(victim: &Victim, image: &SimVfs, rng: &mut Rng) -> Check<Met> {
    let before = segments(image);
    let Ok(store) = victim.config.options(image.clone()).open(DIR) else {
        // Whoever mends it needs all that is left.
        return match segments(image) == before {
            true => Ok(Met::Refused),
            false => Err("an opening that failed changed segments".into()),
        };
    };
    let (found, model) = (store.latest_version(), &victim.model);
    if found != model.last_version() {
        if victim.closed || found > model.last_version() || found < victim.sealed {
            return Err(format!("opened with {found:?}, not {:?}", model.last_version()));
        }
        let mut shorter = model.clone();
        shorter.cut(found);
        look(&store, &shorter, rng)?;
        return Ok(Met::Shorter);
    }
    let errors = look(&store, model, rng)?;
    drop(store);
    Ok(if errors { Met::ErrorLater } else { Met::SameAnswers })
}

/// What another process reads of a damaged image: an error, or all that was sealed, as it was.
fn judge_reader(victim: &Victim, image: &SimVfs, rng: &mut Rng) -> Check {
    let Ok(reader) = beside(image) else { return Ok(()) };
    if reader.latest_version() != victim.sealed {
        return Err(format!("a reader found {:?}, not {:?}", reader.latest_version(), victim.sealed));
    }
    for version in victim.model.versions().filter(|version| Some(*version) <= victim.sealed) {
        let read = reader
            .at(version)
            .map_err(|error| error.to_string())
            .and_then(|snapshot| verify::snapshot(&snapshot, &victim.model, version, Depth::READS, rng));
        match read {
            Err(what) if !is_typed(&what) => return Err(format!("a reader: {what}")),
            _ => {}
        }
    }
    Ok(())
}

/// Repairs a damaged image. What there is afterwards is right from the last version that could be read in full, and goes on; what was made of it.
fn repair(
    victim: &Victim,
    damage: &Damage,
    image: &SimVfs,
    rng: &mut Rng,
) -> Check<(&'static str, Option<Repaired>)> {
    let beyond = ("beyond repair", None);
    let mut model = victim.model.clone();
    let begun = image.op_count();
    let (store, report) = match victim.config.options(image.clone()).repair(DIR, |_| ()) {
        Ok(repaired) => repaired,
        Err(error) if is_typed(&error.to_string()) => return Ok(beyond),
        // Damage to the identity, say, which keeps it from being known for a store.
        Err(_) if victim.config.options(image.clone()).open(DIR).is_err() => return Ok(beyond),
        Err(error) => return Err(format!("repairing: {error:?}")),
    };
    let (latest, wanted) = (store.latest_version(), model.last_version());
    let repaired = report.changed().then(|| Repaired { latest, ops: begun..image.op_count() });
    let told = |what: &str| format!("after a repair ({report:?}): {what}");
    let is_one = !matches!(damage, Damage::Two(..));
    let is_whole = victim.closed && is_one && damage.file().starts_with(Path::new(DIR).join("log"));
    if latest > wanted || latest < wanted && (is_whole || victim.closed && report.lost.is_none()) {
        return Err(told(&format!("version {latest:?} is the latest, not {wanted:?}")));
    }
    if let Some(lost) = report.lost
        && (latest.map(|latest| latest + 1) != Some(lost.first) && latest.is_some()
            || latest == wanted && lost.last.is_some())
    {
        return Err(told(&format!("version {latest:?} is the latest of {wanted:?}")));
    }
    model.cut(latest);
    if let Some(latest) = latest {
        verify::version_at(&store, &model, latest, Depth::ALL, rng).map_err(|what| told(&what))?;
        for version in report.restored.clone().into_iter().flatten() {
            verify::version_at(&store, &model, version, Depth::READS, rng).map_err(|what| told(&what))?;
        }
    }
    let is_left = report.left().count() > 0;
    if !is_left && let Some(still) = store.damage(|_| ()).first() {
        return Err(told(&format!("damaged: {still:?}")));
    }
    if !is_left && let Err(error) = store.check(|_| ()) {
        return Err(told(&format!("a check: {error:?}")));
    }
    let changes = batches::random(&model, 10, false, rng);
    let version = model.commit(&changes).expect("the batch fits");
    let failed = |error: bristlecone::Error| told(&error.to_string());
    let commit = store.commit(batches::batch_of(&model.namespaces, &changes)).map_err(failed)?;
    let root = commit.root().wait().map_err(failed)?;
    if root != model.at(version).root {
        return Err(told(&format!("version {version} got the root {root}")));
    }
    drop(commit);
    store.close().map_err(failed)?;
    let name = match (report.changed(), latest < wanted, is_left) {
        (true, false, false) => "repaired, nothing lost",
        (true, true, false) => "repaired by giving newer versions up",
        (true, _, true) => "repaired in part",
        (false, _, true) => "older versions damaged for good",
        (false, _, false) => "nothing to repair",
    };
    Ok((name, repaired))
}

/// A repair that changed something.
struct Repaired {
    /// The latest version then.
    latest: Option<u64>,
    /// What it did to the disk.
    ops: std::ops::Range<usize>,
}

/// Cuts the power at every operation of a repair. Another repair comes to the same version.
fn cut_repair(victim: &Victim, damage: &Damage, image: &SimVfs, done: Repaired) -> Check<u64> {
    let mut cut = 0;
    let policies = [CrashPolicy::KeepNothing, CrashPolicy::Mix];
    for case in image.crash_cases(&policies, 0..1).between(done.ops.clone()) {
        let told = |what: String| format!("a repair cut at {case}: {what}\n{}", around(image, case.boundary));
        repair(victim, damage, &case.image, &mut Rng::new(victim.seed)).map_err(told)?;
        let store = victim.config.options(case.image.clone()).open(DIR);
        let latest = store.map_err(|error| told(error.to_string()))?.latest_version();
        // The first one made a commit of its own to see that it goes on.
        if latest != done.latest.map(|latest| latest + 1).or(Some(0)) {
            return Err(told(format!("version {latest:?} is the latest, and was {:?}", done.latest)));
        }
        cut += 1;
    }
    Ok(cut)
}

/// The last two: whether it is read beside, and whether its repair is cut, too.
struct Job<'a>(&'a Victim, Damage, bool, bool);

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.0.closed { "closed" } else { "killed" };
        write!(f, "corruption --all-bits --seed {} ({state}, {:?})", self.0.seed, self.1)
    }
}

/// A store whose files are changed as `edits` say, which are a file, a place and a byte each: it answers rightly or with an error. For a fuzzer.
///
/// # Errors
///
/// What was answered wrongly.
pub fn edited(edits: &[u8]) -> Check {
    static VICTIMS: LazyLock<Vec<Victim>> =
        LazyLock::new(|| [true, false].map(|closed| victim(1, closed).expect("a store")).into());
    let (Some(first), Some(edits)) = (edits.first(), edits.get(1..)) else { return Ok(()) };
    let victim = &VICTIMS[usize::from(first % 2)];
    let image = victim.sim.killed_at(usize::MAX);
    let files = image.files();
    let mut needed = false;
    for edit in edits.chunks_exact(6).take(64) {
        let file = &files[usize::from(edit[0]) % files.len()];
        let mut bytes = image.read_file(file).map_err(|error| error.to_string())?.to_vec();
        let at = u32::from_le_bytes([edit[1], edit[2], edit[3], 0]) as usize;
        match (bytes.len(), edit[4]) {
            (0, _) => continue,
            (len, 0) => bytes.truncate(at % len),
            (len, 1) => bytes[at % len] = edit[5],
            (len, _) => bytes[at % len] ^= edit[5],
        }
        image.write_file(file, &bytes).map_err(|error| error.to_string())?;
        needed |= !is_catalog(file);
    }
    let met = judge(victim, &image, &mut Rng::new(1))?;
    match needed || met == Met::SameAnswers {
        true => Ok(()),
        false => Err(format!("the catalog was needed: {}", met.name())),
    }
}

/// The campaign.
pub fn campaign(plan: &Plan) -> Totals {
    let mut victims = Vec::new();
    for seed in plan.first_seed..plan.first_seed + plan.seeds {
        for closed in [true, false] {
            match victim(seed, closed) {
                Ok(victim) => victims.push(victim),
                Err(what) => {
                    let failures = vec![format!("corruption --seed {seed}: making a store: {what}")];
                    return Totals { failures, ..Totals::default() };
                }
            }
        }
    }
    let jobs: Vec<Job<'_>> = victims
        .iter()
        .flat_map(|victim| {
            damages(&victim.sim, victim.seed, plan.stride, plan.all_bits)
                .into_iter()
                .map(move |damage| (victim, damage))
        })
        .enumerate()
        .map(|(at, (victim, damage))| Job(victim, damage, at % READ_ONE_IN == 0, at % CUT_ONE_IN == 0))
        .collect();
    share(&jobs, plan.threads, plan.deadline, |Job(victim, damage, beside, cut), totals| {
        let image = victim.sim.killed_at(usize::MAX);
        if !damage.strike(&image, &victim.stale).map_err(|error| format!("doing damage: {error}"))? {
            return Ok(());
        }
        // A reader looks for half a second before it believes in damage, so only some are tried.
        if *beside {
            judge_reader(victim, &image, &mut Rng::new(victim.seed))?;
            totals.add("read beside", 1);
        }
        let met = judge(victim, &image, &mut Rng::new(victim.seed))?;
        if is_catalog(damage.file()) && met != Met::SameAnswers {
            return Err(format!("the catalog was needed: {}", met.name()));
        }
        if met == Met::Shorter && !damage.file().starts_with(Path::new(DIR).join("log")) {
            return Err("the end of the log is missing, which is whole".into());
        }
        if matches!(met, Met::ErrorLater | Met::Refused) {
            let image = victim.sim.killed_at(usize::MAX);
            damage.strike(&image, &victim.stale).map_err(|error| format!("doing damage again: {error}"))?;
            let outcome = repair(victim, damage, &image, &mut Rng::new(victim.seed))?;
            totals.add(outcome.0, 1);
            if *cut && let (_, Some(outcome)) = outcome {
                totals.add("repairs cut", 1);
                totals.add("recoveries from cut repairs", cut_repair(victim, damage, &image, outcome)?);
            }
        }
        totals.add("damaged images", 1);
        totals.add(damage.kind(), 1);
        totals.add(met.name(), 1);
        Ok(())
    })
}
