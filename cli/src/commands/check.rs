//! `check`: reads everything and believes nothing.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, bytes, thousands},
    parse,
    progress::Progress,
};

/// Read the whole store, verify every checksum and recompute every stored root. Exit code 1 if anything is damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
}

#[derive(Serialize)]
struct Out {
    ok: bool,
    version: Option<u64>,
    versions: u64,
    runs: u64,
    pages: u64,
    records: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Damaged {
    ok: bool,
    reason: String,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let result = examine(args);
    if let Err(failure) = &result {
        // Damage is a finding of this command; where nothing could be opened there is no finding.
        if output.is_json() && args.dir.exists() {
            output.result(&Damaged { ok: false, reason: failure.message.clone() }, String::new)?;
        }
    }
    let out = result?;
    output.result(&out, || {
        format!(
            "all in order: {} versions in {} runs, {} pages recomputed, {} records, {}",
            thousands(out.versions),
            thousands(out.runs),
            thousands(out.pages),
            thousands(out.records),
            bytes(out.bytes)
        )
    })
}

fn examine(args: &Args) -> Result<Out, Failure> {
    let store = parse::open(&args.dir)?;
    let mut bar: Option<Progress> = None;
    let report = store.check(|progress| {
        let bar = bar.get_or_insert_with(|| Progress::new("check", progress.of));
        bar.at(progress.runs, || format!("runs, {} pages", thousands(progress.pages)));
    })?;
    drop(bar);
    // The versions behind the last seal are in memory from the log: their roots are recomputed by asking.
    let version = store.latest_version();
    if version.is_some() {
        store.latest()?.root()?;
    }
    let out = Out {
        ok: true,
        version,
        versions: report.versions,
        runs: report.runs,
        pages: report.pages,
        records: report.records,
        bytes: report.bytes,
    };
    store.close()?;
    Ok(out)
}
