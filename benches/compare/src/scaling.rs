//! What a key costs, by how many keys there are, how many a commit changes, and how many threads work.

use serde_json::{Value, json};

use crate::{failure::Result, reads, run::Run, spec::Spec};

/// Loads once, then commits in batches of each size until about `changes` keys were changed.
pub(crate) fn measure(spec: &Spec, batches: &[u64], changes: u64) -> Result<Value> {
    let keys = spec.workload.keys + changes * batches.len() as u64;
    let mut run = Run::open(spec, keys, 1)?;
    let load = run.load()?.figures();
    let mut sizes = Vec::new();
    for batch in batches {
        run.note(&format!("commits of {batch} keys"));
        // Few commits say little, and very many small ones take for ever.
        let count = (changes / batch).clamp(5, 1_000);
        let inserts = batch / 20;
        let phase = run.commit(count, (batch - inserts, inserts), None)?;
        run.settle()?;
        let figures = phase.figures();
        let nanoseconds_per_key = figures.seconds * 1e9 / figures.changed_keys.max(1) as f64;
        sizes.push(json!({ "batch": batch, "nanoseconds_per_key": nanoseconds_per_key, "commit": figures }));
    }
    let verified = reads::verify(run.engine.reader()?.as_mut(), &run.chain, 10_000, spec.workload.seed)?;
    run.engine.close()?;
    Ok(json!({
        "keys": spec.workload.keys,
        "threads": spec.workload.threads,
        "load": load,
        "sizes": sizes,
        "verified": verified,
    }))
}
