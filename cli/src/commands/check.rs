//! `check`: reads everything and believes nothing.

use std::path::PathBuf;

use bristlecone::{DamagedRun, Options, StorageError};
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, bytes, thousands},
    parse,
    progress::Progress,
};

/// Read the whole store, verify every checksum and recompute every stored root. Exit code 1 if anything is damaged, with the versions that it affects. Nothing is changed:
/// versions that only the batch log holds, as after a kill, are counted, and wait for whoever opens the store to write.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// Where the newest versions are damaged, go back to the last one that can be read in full. What came after it is lost, and has to be committed again.
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
    damaged: Vec<Affected>,
    /// The first and the last version that were given up.
    lost: Option<(u64, u64)>,
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
    let store = Options::new().create(false).open(&args.dir).map_err(|error| {
        let damaged = matches!(&error, bristlecone::Error::Storage(of) if matches!(**of, StorageError::Corrupt { .. }));
        let failure = Failure::from(error);
        if damaged {
            failure.hint("what is needed to open the store is damaged, which cannot be repaired: take it from a backup")
        } else {
            failure
        }
    })?;
    let report = store.repair(progress("repair"))?;
    let version = store.latest_version();
    store.close()?;
    let damaged = Affected::of(&report.damaged);
    Affected::say(&damaged, output);
    let lost = report.lost.map(|lost| (*lost.start(), *lost.end()));
    let left = damaged.iter().filter(|one| version.is_some_and(|version| one.last <= version)).count();
    let out = Repaired { ok: left == 0, version, damaged, lost };
    output.result(&out, || {
        let mut text = match out.lost {
            Some((first, last)) => format!(
                "versions {first} to {last} are given up: commit them again; version {} is the latest",
                first - 1
            ),
            None if out.ok => "no kept version is damaged: nothing was changed".to_owned(),
            None => "the latest version is in order: nothing was changed".to_owned(),
        };
        if left > 0 {
            text += &format!(
                "; {} older runs of versions stay damaged, for there is no second copy of them: `prune` gives them up",
                thousands(left as u64)
            );
        }
        text
    })?;
    if out.ok { Ok(()) } else { Err(Failure::new("some kept versions are still damaged")) }
}
