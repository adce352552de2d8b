//! `check`: reads everything and believes nothing.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, bytes, thousands},
    parse,
    progress::Progress,
};

/// Read the whole store, verify every checksum and recompute every stored root. Exit code 1 if anything is damaged. Nothing is changed:
/// versions that only the batch log holds, as after a kill, are counted, and wait for whoever opens the store to write.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
}

#[derive(Serialize)]
struct Out {
    ok: bool,
    /// The latest sealed version.
    version: Option<u64>,
    /// Versions that wait in the batch log.
    unsealed: u64,
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
            "all in order: {} sealed versions in {} runs, {} pages recomputed, {} records, {}{}",
            thousands(out.versions),
            thousands(out.runs),
            thousands(out.pages),
            thousands(out.records),
            bytes(out.bytes),
            match out.unsealed {
                0 => String::new(),
                waiting => format!("; {} commits wait in the batch log to be sealed", thousands(waiting)),
            }
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
    // Every record of the log that counts has a checksum, and is read for this.
    let waiting = store.unsealed()?;
    Ok(Out {
        ok: true,
        version: store.latest_version(),
        unsealed: waiting.len() as u64,
        versions: report.versions,
        runs: report.runs,
        pages: report.pages,
        records: report.records,
        bytes: report.bytes,
    })
}
