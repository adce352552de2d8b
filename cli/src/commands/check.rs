//! `check`: reads everything and believes nothing.

use std::path::PathBuf;

use bristlecone::{DamagedRun, Options};
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, bytes, thousands},
    parse,
    progress::Progress,
};

/// Read the whole store, verify every checksum and recompute the root at the end of every sealed run. Exit code 1 if anything is damaged, with the versions that it affects. Nothing is changed:
/// versions that only the batch log holds, as after a kill, are counted, and wait for whoever opens the store to write.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// Where the newest versions are damaged, or the store cannot be opened, go back to the last version that can be read in full, and make again what came after
    /// it from the batch log, as far as that still holds it. The rest is lost, and has to be committed again. Take a copy of the directory first.
    #[arg(long)]
    repair: bool,
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
    /// Damaged places that no kept version needs.
    unneeded: Vec<String>,
}

#[derive(Serialize)]
struct Damaged {
    ok: bool,
    reason: String,
    /// What it affects; nothing where the store could not be opened.
    damaged: Vec<Affected>,
}

/// Versions that cannot be read in full.
#[derive(Serialize)]
struct Affected {
    first: u64,
    last: u64,
    reason: String,
}

impl Affected {
    fn of(runs: &[DamagedRun]) -> Vec<Self> {
        let of = |run: &DamagedRun| Self { first: run.first, last: run.last, reason: run.error.to_string() };
        runs.iter().map(of).collect()
    }

    fn say(all: &[Self], output: &Output) {
        for one in all.iter().take(SHOWN) {
            output.note(&format!("versions {} to {}: {}", one.first, one.last, one.reason));
        }
        if let Some(more) = all.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            output.note(&format!("and {} more runs of versions; --json lists all", thousands(more as u64)));
        }
    }
}

/// Runs of versions that are listed for people.
const SHOWN: usize = 20;

#[derive(Serialize)]
struct Repaired {
    /// Whether everything that is kept can be read now.
    ok: bool,
    /// The latest version now.
    version: Option<u64>,
    /// What kept it from being opened.
    unopened: Option<String>,
    damaged: Vec<Affected>,
    /// The first and the last version that were made again.
    restored: Option<(u64, u64)>,
    /// The versions that were given up for good: the first, and the last where it is known.
    lost: Option<(u64, Option<u64>)>,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    if args.repair {
        return repair(args, output);
    }
    let result = examine(args);
    if let Err(failure) = &result {
        let damaged = affected(args);
        Affected::say(&damaged, output);
        // Damage is a finding of this command; where nothing could be opened there is no finding.
        if output.is_json() && args.dir.exists() {
            let reason = failure.message.clone();
            output.result(&Damaged { ok: false, reason, damaged }, String::new)?;
        }
    }
    let out = result?;
    if Options::new().has_unfinished_repair(&args.dir)? {
        output.note("a repair was stopped before it was done: `check DIR --repair` finishes it");
    }
    for place in out.unneeded.iter().take(SHOWN) {
        output.note(&format!("no kept version needs it: {place}"));
    }
    output.result(&out, || {
        format!(
            "{}: {} sealed versions in {} runs, {} pages recomputed, {} records, {}{}",
            match out.unneeded.len() {
                0 => "all in order".to_owned(),
                places => format!(
                    "all kept versions are in order ({} damaged places are needed by none, and go when their segments are written anew)",
                    thousands(places as u64)
                ),
            },
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
    let report = store.check(progress("check"))?;
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
        unneeded: report.unneeded.iter().map(ToString::to_string).collect(),
    })
}

/// Shows how far it is.
fn progress(what: &'static str) -> impl FnMut(bristlecone::Progress) {
    let mut bar: Option<Progress> = None;
    move |progress| {
        let bar = bar.get_or_insert_with(|| Progress::new(what, progress.of));
        bar.at(progress.runs, || format!("runs, {} pages", thousands(progress.pages)));
    }
}

/// What a damaged store cannot show, as far as it can be opened.
fn affected(args: &Args) -> Vec<Affected> {
    match parse::open(&args.dir) {
        Ok(store) => Affected::of(&store.damage(progress("damage"))),
        Err(_) => Vec::new(),
    }
}

fn repair(args: &Args, output: &mut Output) -> Result<(), Failure> {
    parse::must_exist(&args.dir)?;
    let repaired = Options::new().create(false).repair(&args.dir, progress("repair"));
    let (store, report) = repaired.map_err(|error| {
        let damaged = error.is_damage();
        let failure = Failure::from(error);
        if damaged {
            failure.hint("nothing could be made of it, and nothing was changed: take the store from a backup")
        } else {
            failure
        }
    })?;
    let version = store.latest_version();
    store.close()?;
    if let Some(error) = &report.unopened {
        output.note(&format!("it was cut off before this: {error}"));
        output.note("what was cut off said of pins, pruning and rollbacks is forgotten: look at `pin DIR` and `versions DIR`");
        output.note("the segments as they were are in the directory `damaged` of the store");
    }
    Affected::say(&Affected::of(&report.damaged), output);
    let left = report.left().count();
    let out = Repaired {
        ok: left == 0,
        version,
        unopened: report.unopened.as_ref().map(ToString::to_string),
        damaged: Affected::of(&report.damaged),
        restored: report.restored.as_ref().map(|range| (*range.start(), *range.end())),
        lost: report.lost.map(|lost| (lost.first, lost.last)),
    };
    output.result(&out, || say(&out, report.changed(), left))?;
    if out.ok { Ok(()) } else { Err(Failure::new("some kept versions are still damaged")) }
}

/// A repair in words.
fn say(out: &Repaired, changed: bool, left: usize) -> String {
    let mut parts = Vec::new();
    if let Some((first, last)) = out.restored {
        parts.push(format!("versions {first} to {last} were made again from the batch log"));
    }
    match out.lost {
        Some((first, Some(last))) => {
            parts.push(format!("versions {first} to {last} are lost: commit them again"))
        }
        Some((first, None)) => {
            parts.push(format!("what there was from version {first} on is lost, if there was anything: nothing says so that can be read"))
        }
        None if changed => parts.push("nothing is lost".to_owned()),
        None if out.ok => parts.push("no kept version is damaged: nothing was changed".to_owned()),
        None => parts.push("the latest version is in order: nothing was changed".to_owned()),
    }
    if changed {
        parts.push(match out.version {
            Some(version) => format!("version {version} is the latest"),
            None => "the store is empty".to_owned(),
        });
    }
    if left > 0 {
        let last = out.damaged.iter().map(|one| one.last).filter(|last| Some(*last) < out.version).max();
        let keep = out.version.zip(last).map(|(version, last)| version - last);
        parts.push(format!(
            "older versions stay damaged, which a repair does not mend{}",
            keep.map_or(String::new(), |keep| format!(
                ": `prune DIR --keep {keep}` gives them up, but for pins"
            ))
        ));
    }
    parts.join("; ")
}
