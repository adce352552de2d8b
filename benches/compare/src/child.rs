//! One run of one engine, in a process of its own: memory, allocator and mappings are nobody else's.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::{
    affinity,
    commits::{self, Pace, PhaseFigures},
    engines::{self, Setup},
    failure::{Failure, Result},
    interrupt, measure,
    measure::{MemoryWatch, Nanoseconds, Times},
    mini, reads,
    run::Run,
    scaling,
    spec::{Job, Spec},
    workload::Chain,
};

/// A commit every so often, where nobody hurries.
const UNHURRIED: Duration = Duration::from_millis(50);

/// Versions back that are read where there is history.
const BACK: u64 = 100;

/// Values compared with the model.
const VERIFIED: u64 = 10_000;

/// Proofs made and verified.
const PROOFS: u64 = 5_000;

/// Does what the spec says; the figures as one JSON object.
pub(crate) fn run(spec: &Spec) -> Result<Value> {
    interrupt::install()?;
    figures(spec)
}

/// The same without listening for signals.
pub(crate) fn figures(spec: &Spec) -> Result<Value> {
    let figures = match &spec.job {
        Job::Reference => serde_json::to_value(reference(spec)?)?,
        Job::Scaling { batches, changes } => scaling::measure(spec, batches, *changes)?,
        Job::MiniBlocks { changes, root_every, seconds } => {
            mini::measure(spec, *changes, *root_every, Duration::from_secs(*seconds))?
        }
    };
    Ok(figures)
}

#[derive(Debug, Serialize)]
struct Figures {
    load: PhaseFigures,
    commit: PhaseFigures,
    /// Waiting until work that commits left behind was done, and syncing all files.
    settle_seconds: f64,
    written_bytes_per_key: f64,
    passed_bytes_per_key: f64,
    growth_bytes_per_key: f64,
    disk_bytes: u64,
    unhurried: PhaseFigures,
    get_ns: Nanoseconds,
    get_mean_ns: f64,
    clock_ns: u64,
    busy: reads::BusyFigures,
    #[serde(skip_serializing_if = "Option::is_none")]
    busy_pinned: Option<reads::BusyFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    back: Option<BackFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<ProofFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reopen_ms: Option<f64>,
    memory: MemoryFigures,
    /// Values that were compared with the model, all of them equal.
    verified: u64,
    /// The last root, which must not change from run to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_root: Option<String>,
}

#[derive(Debug, Serialize)]
struct BackFigures {
    versions: u64,
    get_ns: Nanoseconds,
    get_mean_ns: f64,
}

#[derive(Debug, Serialize)]
struct ProofFigures {
    make_ns: Nanoseconds,
    size_bytes: f64,
    verify_ns: Nanoseconds,
}

/// Peaks of anonymous memory, the harness's own in it.
#[derive(Debug, Serialize)]
struct MemoryFigures {
    /// Before the engine was opened.
    harness_bytes: u64,
    load_peak_bytes: u64,
    commit_peak_bytes: u64,
    rest_peak_bytes: u64,
    peak_bytes: u64,
}

fn reference(spec: &Spec) -> Result<Figures> {
    let workload = &spec.workload;
    let sizes = (workload.updates, workload.inserts);
    // Phases after the main one are shorter.
    let more = (workload.commits / 4).clamp(2, 50);
    let all_commits = workload.commits + 3 * more;
    let all_keys = workload.keys + all_commits * workload.inserts;

    let watch = MemoryWatch::start();
    let harness_bytes = watch.take();
    let mut run = Run::open(spec, all_keys, 1)?;
    let load = run.load()?.figures();
    let load_peak_bytes = watch.take();

    run.note("commit");
    let passed = measure::passed_bytes();
    let (written, disk) = (measure::written_bytes(), run.engine.disk_bytes(&spec.dir)?);
    let phase = run.commit(workload.commits, sizes, None)?;
    let settling = Instant::now();
    run.settle()?;
    let settle_seconds = settling.elapsed().as_secs_f64();
    let disk_bytes = run.engine.disk_bytes(&spec.dir)?;
    let a_key = |bytes: u64| bytes as f64 / phase.changed.max(1) as f64;
    let written_bytes_per_key = a_key(measure::written_bytes().saturating_sub(written));
    let passed_bytes_per_key = a_key(measure::passed_bytes().saturating_sub(passed));
    let growth_bytes_per_key = a_key(disk_bytes.saturating_sub(disk));
    let commit_peak_bytes = watch.take();
    let commit = phase.figures();

    run.note("unhurried commits");
    let unhurried = run.commit(more, sizes, Some(UNHURRIED))?.figures();
    run.settle()?;

    run.note("reads");
    let mut verified = reads::verify(run.engine.reader()?.as_mut(), &run.chain, VERIFIED, workload.seed)?;
    let mut draws = reads::Draws::new(workload.seed, run.chain.keys(), 1);
    let (get_ns, get_mean_ns) = reads::single(run.engine.reader()?.as_mut(), &mut draws, workload.reads)?;

    run.note("reads beside commits");
    let busy = beside(&mut run, more, false)?;
    let busy_pinned = if affinity::cores() > 1 { Some(beside(&mut run, more, true)?) } else { None };
    run.settle()?;
    verified += reads::verify(run.engine.reader()?.as_mut(), &run.chain, VERIFIED, workload.seed + 1)?;

    run.note("history and proofs");
    let back = back(&run, &mut verified)?;
    let proof = proofs(&run)?;
    let last_root = run.engine.root()?;

    run.note("reopening");
    let Run { engine, chain, .. } = run;
    engine.close()?;
    let reopen_ms = reopen(spec, &chain, last_root, &mut verified)?;
    let rest_peak_bytes = watch.take();
    let peak_bytes = load_peak_bytes.max(commit_peak_bytes).max(rest_peak_bytes);
    Ok(Figures {
        load,
        commit,
        settle_seconds,
        written_bytes_per_key,
        passed_bytes_per_key,
        growth_bytes_per_key,
        disk_bytes,
        unhurried,
        get_ns,
        get_mean_ns,
        clock_ns: measure::clock_nanoseconds()?,
        busy,
        busy_pinned,
        back,
        proof,
        reopen_ms,
        memory: MemoryFigures {
            harness_bytes,
            load_peak_bytes,
            commit_peak_bytes,
            rest_peak_bytes,
            peak_bytes,
        },
        verified,
        last_root: last_root.map(|root| root.iter().map(|byte| format!("{byte:02x}")).collect()),
    })
}

/// One reader beside `count` commits.
fn beside(run: &mut Run<'_>, count: u64, pinned: bool) -> Result<reads::BusyFigures> {
    let workload = &run.spec.workload;
    let draws = reads::Draws::new(workload.seed, run.chain.keys(), 2);
    let pace = Pace { in_flight: workload.in_flight, root_every: run.root_every, every: None };
    let (engine, chain) = (run.engine.as_ref(), &mut run.chain);
    let (first, last) = (chain.versions(), chain.versions() + count);
    reads::busy(engine, &draws, workload.reads / 4, pinned, || {
        commits::commit_all(engine, first, pace, || {
            (chain.versions() < last).then(|| chain.next(workload.updates, workload.inserts))
        })
    })
}

/// Reads of an old version, where the engine has it.
fn back(run: &Run<'_>, verified: &mut u64) -> Result<Option<BackFigures>> {
    let versions = BACK.min(run.chain.versions().saturating_sub(1));
    let Some(past) = run.chain.back(versions) else { return Ok(None) };
    let Some(mut reader) = run.engine.reader_back(versions)? else { return Ok(None) };
    *verified += reads::verify(reader.as_mut(), &past, VERIFIED, run.spec.workload.seed)?;
    let mut draws = reads::Draws::new(run.spec.workload.seed, past.keys(), 3);
    let (get_ns, get_mean_ns) = reads::single(reader.as_mut(), &mut draws, run.spec.workload.reads / 4)?;
    Ok(Some(BackFigures { versions, get_ns, get_mean_ns }))
}

/// Makes and verifies proofs of the latest version, where the engine has them.
fn proofs(run: &Run<'_>) -> Result<Option<ProofFigures>> {
    let Some(mut prover) = run.engine.prover()? else { return Ok(None) };
    let (mut make, mut verify, mut bytes) = (Times::new()?, Times::new()?, 0);
    for number in 0..PROOFS {
        interrupt::check()?;
        // Spread over all keys; a multiplier that has no factor in common with any likely count.
        let index = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % run.chain.keys();
        let key = run.chain.key(index);
        let value = run.chain.expected(index).ok_or_else(|| Failure::new("a key without a value"))?;
        let begun = Instant::now();
        let proof = prover.prove(&key)?;
        make.record(begun.elapsed());
        bytes += proof.size();
        let begun = Instant::now();
        let holds = proof.verify(&key, &value);
        verify.record(begun.elapsed());
        if !holds {
            return Err(Failure::new(format!("the proof for the key with index {index} does not hold")));
        }
    }
    let size_bytes = bytes as f64 / PROOFS as f64;
    Ok(Some(ProofFigures { make_ns: make.nanoseconds(), size_bytes, verify_ns: verify.nanoseconds() }))
}

/// Opens the store again; milliseconds. Everything must still be there.
fn reopen(
    spec: &Spec,
    chain: &Chain,
    root: Option<engines::Root>,
    verified: &mut u64,
) -> Result<Option<f64>> {
    if !engines::facts(&spec.engine)?.persistent {
        return Ok(None);
    }
    let setup = Setup { keys: chain.keys(), threads: spec.workload.threads, root_every: 1 };
    let begun = Instant::now();
    let engine = engines::open(&spec.engine, &spec.dir, &setup)?;
    let took = begun.elapsed();
    *verified += reads::verify(engine.reader()?.as_mut(), chain, VERIFIED, spec.workload.seed + 2)?;
    if engine.root()? != root {
        return Err(Failure::new("the reopened store has another root"));
    }
    engine.close()?;
    Ok(Some(took.as_secs_f64() * 1e3))
}
