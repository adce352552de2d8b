//! `compact`: space comes back.

use std::path::PathBuf;

use bristlecone::Options;
use serde::Serialize;

use crate::{
    failure::Failure,
    interrupt,
    output::{Output, bytes, thousands},
    parse,
    progress::Progress,
};

/// Write all segments anew of which some is dead. Nothing is lost where it is stopped or the disk is full: run it again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
}

#[derive(Serialize)]
struct Out {
    segments: u64,
    before: u64,
    after: u64,
    records: u64,
    segment_bytes: u64,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    interrupt::install()?;
    let store = parse::open_with(&args.dir, Options::new())?;
    let mut bar: Option<(u64, Progress)> = None;
    let report = store.compact(|progress| {
        if interrupt::asked() {
            // What was done is done, and what was begun means nothing.
            let _ = store.clone().close();
        }
        if progress.of > 0 {
            let (_, bar) = match bar.take_if(|(of, _)| *of == progress.of) {
                Some(same) => bar.insert(same),
                None => bar.insert((progress.of, Progress::new("compact", progress.of))),
            };
            bar.at(progress.segments, || format!("segments, {} written", bytes(progress.written)));
        }
    });
    drop(bar);
    if interrupt::asked() {
        return Err(Failure::interrupted(
            "segments that were not written anew are as they were; run it again",
        ));
    }
    let report = report?;
    let out = Out {
        segments: report.segments,
        before: report.before,
        after: report.after,
        records: report.records,
        segment_bytes: store.stats()?.segment_bytes,
    };
    store.close()?;
    output.result(&out, || {
        let given_back = bytes(out.before.saturating_sub(out.after));
        let why = match out.segments {
            0 => ": too little is dead in any segment but the newest, which stays as it is",
            _ => "",
        };
        format!(
            "{} segments written anew, {} records gone, {given_back} given back; {} in use{why}",
            thousands(out.segments),
            thousands(out.records),
            bytes(out.segment_bytes)
        )
    })
}
