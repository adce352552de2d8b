//! `kill -9` of a process that commits, at random moments: nothing that it acknowledged is missing.
//!
//! Three processes: a writer, which commits for ever and says what is durable; the parent, which keeps what was said and kills the writer; and
//! a verifier, which opens what is left and compares it with the model. All of them make the same history of the same seed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bristlecone::vfs::DiskVfs;
use bristlecone::{Commit, Namespace, RootSchedule, SchemeKind, Store};

use crate::totals::{Totals, share};
use crate::{Change, Check, Config, Depth, Model, Rng, Universe, batches, verify};

/// Of every so many versions the writer prunes after one, where its seed says so.
const PRUNE_EVERY: u64 = 37;
/// It keeps so many then.
const KEEP: u64 = 20;

/// How much is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program that knows `writer` and `verify`.
    pub program: PathBuf,
    pub kills: u64,
    /// Kills of one store, one after the other.
    pub of_one: u64,
    pub first_seed: u64,
    pub threads: usize,
    pub deadline: Option<Instant>,
}

fn config(seed: u64) -> Config {
    let mut rng = Rng::new(seed);
    let scheme = *rng.pick(&[SchemeKind::Ethereum, SchemeKind::Blake3]);
    Config {
        roots: *rng.pick(&[RootSchedule::Every(1), RootSchedule::Every(5)]),
        seal_keys: *rng.pick(&[1, 50, 500]),
        max_unsealed_keys: 2_000,
        cache_bytes: *rng.pick(&[0, 1 << 30]),
        segment_bytes: 256 << 10,
        log_bytes: 32 << 10,
        ..Config::small(vec![Namespace::accounts(scheme), Namespace::flat(scheme).named("flat")])
    }
}

fn prunes(seed: u64) -> bool {
    !seed.is_multiple_of(2)
}

fn beginning(seed: u64) -> Model {
    let config = config(seed);
    let universe = Universe::random(&config.namespaces, 60, &mut Rng::new(seed));
    Model::new(config.namespaces, config.first_version, universe)
}

/// The changes of the next version, always the same for the same history.
fn next(model: &Model, seed: u64) -> Vec<Change> {
    let version = model.last_version().map_or(0, |last| last + 1);
    batches::random(model, 40, false, &mut Rng::new(seed ^ (version + 1) << 20))
}

fn up_to(seed: u64, version: Option<u64>) -> Model {
    let mut model = beginning(seed);
    while model.last_version() < version {
        let changes = next(&model, seed);
        model.commit(&changes);
    }
    model
}

fn say(word: &str, number: i64) {
    // A line of its own, whatever else a killed process left of one.
    println!("\n{word} {number}");
    let _ = std::io::stdout().flush();
}

/// Goes on from the version that it finds, until it is killed.
///
/// # Errors
///
/// What the store refused.
pub fn writer(dir: &Path, seed: u64) -> Check {
    let failed = |error: bristlecone::Error| error.to_string();
    let store = config(seed).options(DiskVfs).open(dir).map_err(failed)?;
    let mut model = up_to(seed, store.latest_version());
    say("opened", store.latest_version().map_or(-1, |version| version as i64));
    let (commits, acknowledge) = channel::<Commit>();
    std::thread::spawn(move || {
        for commit in acknowledge {
            commit.durable().wait().unwrap();
            say("acknowledged", commit.version() as i64);
        }
    });
    for round in 0.. {
        let changes = next(&model, seed);
        model.commit(&changes);
        let commit = store.commit(batches::batch_of(&model.namespaces, &changes)).map_err(failed)?;
        let version = commit.version();
        if round % 3 == 0 {
            commit.durable().wait().map_err(failed)?;
        }
        commits.send(commit).map_err(|error| error.to_string())?;
        if prunes(seed) && version % PRUNE_EVERY == PRUNE_EVERY - 1 {
            say("kept_from", store.prune(KEEP).map_err(failed)? as i64);
            if version % (3 * PRUNE_EVERY) == PRUNE_EVERY - 1 {
                store.compact(|_| ()).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Opens what a killed writer left: it is a prefix of the history with `promised` in it, kept from no earlier than `kept_from`. Says what it found.
///
/// # Errors
///
/// What is wrong.
pub fn verifier(dir: &Path, seed: u64, promised: Option<u64>, kept_from: u64) -> Check {
    let mut rng = Rng::new(seed ^ promised.unwrap_or_default());
    let store = config(seed).options(DiskVfs).open(dir).map_err(|error| format!("opening: {error}"))?;
    let found = store.latest_version();
    if found < promised {
        return Err(format!("version {found:?} is the last, {promised:?} was acknowledged"));
    }
    let model = up_to(seed, found);
    let listed: Vec<u64> = store.versions().iter().map(|info| info.version).collect();
    let all: Vec<u64> = model.versions().collect();
    if !all.ends_with(&listed) || listed.last().copied() != found {
        return Err(format!("versions {listed:?} are listed"));
    }
    let pruned = (0..=found.unwrap_or(0))
        .rev()
        .find(|version| prunes(seed) && version % PRUNE_EVERY == PRUNE_EVERY - 1);
    let latest = pruned.map_or(0, |version| (version + 1).saturating_sub(KEEP));
    match listed.first() {
        Some(first) if *first < kept_from || *first > latest => {
            return Err(format!("kept from {first}, not from {kept_from} to {latest}"));
        }
        _ => {}
    }
    for version in &listed {
        let is_new = found.is_some_and(|found| found - version <= 10);
        if is_new || rng.below(listed.len()) < 20 {
            let depth = if is_new { Depth::ALL } else { Depth::ROOTS };
            verify::version_at(&store, &model, *version, depth, &mut rng)?;
        }
    }
    if rng.chance(50) {
        check(&store)?;
    }
    store.close().map_err(|error| format!("closing: {error}"))?;
    say("found", found.map_or(-1, |version| version as i64));
    Ok(())
}

fn check(store: &Store) -> Check {
    store.flush().map_err(|error| format!("a flush: {error}"))?;
    store.check(|_| ()).map(drop).map_err(|error| format!("a check: {error}"))
}

/// What a writer said before it was killed.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    acknowledged: Option<u64>,
    kept_from: u64,
}

/// Lets a writer commit for a while and kills it.
fn kill(plan: &Plan, dir: &Path, seed: u64, after: Duration) -> Check<Said> {
    let failed = |error: std::io::Error| format!("a writer could not be run: {error}");
    let mut child = Command::new(&plan.program)
        .arg("writer")
        .arg(dir)
        .arg(seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let out = BufReader::new(child.stdout.take().ok_or("a writer without output")?);
    let (opened, is_open) = channel();
    let reader = std::thread::spawn(move || {
        let mut said = Said::default();
        for line in out.lines().map_while(Result::ok) {
            let Some((word, number)) = line.split_once(' ') else { continue };
            let Ok(number) = number.parse::<i64>() else { continue };
            match word {
                "opened" => drop(opened.send(())),
                "acknowledged" => said.acknowledged = said.acknowledged.max(u64::try_from(number).ok()),
                "kept_from" => said.kept_from = said.kept_from.max(number.unsigned_abs()),
                _ => {}
            }
        }
        said
    });
    // Sometimes before it is open, sometimes long after.
    let _ = is_open.recv_timeout(after * 3);
    std::thread::sleep(after);
    let early = child.try_wait().map_err(failed)?;
    child.kill().map_err(failed)?;
    let output = child.wait_with_output().map_err(failed)?;
    if early.is_some() {
        return Err(format!("the writer ended by itself: {}", String::from_utf8_lossy(&output.stderr)));
    }
    reader.join().map_err(|_| "the reader of a writer's output panicked".to_owned())
}

fn verify(plan: &Plan, dir: &Path, seed: u64, said: Said) -> Check<Option<u64>> {
    let mut command = Command::new(&plan.program);
    command.arg("verifier").arg(dir).arg(seed.to_string()).args(["--kept-from", &said.kept_from.to_string()]);
    if let Some(version) = said.acknowledged {
        command.args(["--acknowledged", &version.to_string()]);
    }
    let output = command.output().map_err(|error| format!("a verifier could not be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find_map(|line| line.strip_prefix("found ")?.parse::<i64>().ok());
    match found {
        Some(found) if output.status.success() => Ok(u64::try_from(found).ok()),
        _ => Err(format!("the verifier said: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// A store, by its seed, and how often its process is killed.
struct Job(u64, u64);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kill --seed {} --kills {}", self.0, self.1)
    }
}

/// The campaign. There are as many kills as planned, rounded up to whole stores.
pub fn campaign(plan: &Plan) -> Totals {
    let stores = plan.kills.div_ceil(plan.of_one);
    let seeds = plan.first_seed..plan.first_seed + stores;
    let jobs: Vec<Job> = seeds.map(|seed| Job(seed, plan.of_one)).collect();
    share(&jobs, plan.threads, plan.deadline, |Job(seed, _), totals| {
        let dir = tempfile::tempdir().map_err(|error| format!("a directory of its own: {error}"))?;
        let mut rng = Rng::new(seed + 1000);
        let mut promised = Said::default();
        for round in 0..plan.of_one {
            let after = Duration::from_millis(rng.within(0, 200) as u64);
            let told = |what: String| format!("kill {round}, after {after:?}: {what}");
            let said = kill(plan, dir.path(), *seed, after).map_err(told)?;
            promised.acknowledged = promised.acknowledged.max(said.acknowledged);
            promised.kept_from = promised.kept_from.max(said.kept_from);
            totals.add("kills", 1);
            promised.acknowledged = verify(plan, dir.path(), *seed, promised).map_err(told)?;
        }
        totals.add("versions", promised.acknowledged.map_or(0, |last| last + 1));
        Ok(())
    })
}
