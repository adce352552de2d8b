//! Mini-blocks: very small commits, a root only now and then.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    commits::{self, Pace},
    failure::Result,
    measure,
    run::Run,
    spec::Spec,
};

/// Commits of `changes` keys (one in twenty new) for `lasting`, a root every `root_every` versions.
pub(crate) fn measure(spec: &Spec, changes: u64, root_every: u64, lasting: Duration) -> Result<Value> {
    let watch = measure::MemoryWatch::start();
    let inserts = changes / 20;
    // More than can be: an upper bound for what engines size beforehand.
    let mut run = Run::open(spec, 2 * spec.workload.keys, root_every)?;
    let load = run.load()?.figures();
    watch.take();
    run.note("mini-blocks");
    let pace = Pace { in_flight: spec.workload.in_flight, root_every, every: None };
    let passed = measure::passed_bytes();
    let (written, disk) = (measure::written_bytes(), run.engine.disk_bytes(&spec.dir)?);
    let begun = Instant::now();
    let (engine, chain) = (run.engine.as_ref(), &mut run.chain);
    let phase = commits::commit_all(engine, chain.versions(), pace, || {
        (begun.elapsed() < lasting).then(|| chain.next(changes - inserts, inserts))
    })?;
    run.settle()?;
    let a_key = |bytes: u64| bytes as f64 / phase.changed.max(1) as f64;
    let grown = run.engine.disk_bytes(&spec.dir)?.saturating_sub(disk);
    let verified =
        crate::reads::verify(run.engine.reader()?.as_mut(), &run.chain, 10_000, spec.workload.seed)?;
    let figures = json!({
        "load": load,
        "changes": changes,
        "root_every": root_every,
        "commit": phase.figures(),
        "written_bytes_per_key": a_key(measure::written_bytes().saturating_sub(written)),
        "passed_bytes_per_key": a_key(measure::passed_bytes().saturating_sub(passed)),
        "growth_bytes_per_key": a_key(grown),
        "peak_bytes": watch.take(),
        "verified": verified,
    });
    run.engine.close()?;
    Ok(figures)
}
