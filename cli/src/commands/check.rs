//! `check`: reads everything and believes nothing.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, bytes, thousands},
    parse,
    progress::Progress,
};

/// Read the whole store, verify every checksum and recompute every stored root. Exit code 1 if anything is damaged. Versions that only
/// the log holds, as after a kill, are sealed on the way, as any opening does.
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
    let check = || {
        let mut bar: Option<Progress> = None;
        store.check(|progress| {
            let bar = bar.get_or_insert_with(|| Progress::new("check", progress.of));
            bar.at(progress.runs, || format!("runs, {} pages", thousands(progress.pages)));
        })
    };
    let mut report = check()?;
    // What only the log held is sealed, as closing would, and looked at too: after a kill some versions are there and nowhere else.
    let version = store.latest_version();
    if version != store.latest_sealed() {
        store.flush()?;
        report = check()?;
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
