//! Starts a child for each run, the engines in turns, and puts their figures together.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    args::Args,
    case::Case,
    failure::{Failure, Result},
    interrupt, plot, report,
    spec::{Job, Spec, Workload},
};

/// How often a child is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a child has to end by itself once a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// Everything the command line asks for.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cases = cases(args)?;
    let parent_dir = match &args.dir {
        Some(dir) if !dir.is_dir() => {
            return Err(Failure::usage(format!("{} is not a directory", dir.display())));
        }
        Some(dir) => dir.clone(),
        None => std::env::temp_dir(),
    };
    if let Some(dir) = &args.plots {
        fs::create_dir_all(dir)
            .map_err(|error| Failure::usage(format!("cannot make {}: {error}", dir.display())))?;
    }
    interrupt::install()?;
    report::machine(args, &cases, &parent_dir);
    let mut failed = Vec::new();
    for repeat in 0..args.repeat {
        for case in &mut cases {
            let name = case.facts.name;
            eprintln!("{name}, run {} of {}", repeat + 1, args.repeat);
            match child(case, &parent_dir) {
                Ok(figures) => {
                    report::run(args, case, repeat, &figures);
                    case.runs.push(figures);
                }
                Err(error) if error.code == 130 => return Err(error),
                Err(error) => {
                    eprintln!("error: {name}: {}", error.message);
                    failed.push(name);
                }
            }
        }
    }
    same_roots(&cases)?;
    cases.retain(|case| !case.runs.is_empty());
    report::summaries(args, &cases);
    if let Some(dir) = &args.plots {
        plot::all(args, &cases, dir)?;
    }
    failed.dedup();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("failed: {}", failed.join(", ")))) }
}

fn cases(args: &Args) -> Result<Vec<Case>> {
    let workload = args.workload()?;
    let mut cases = Vec::new();
    for facts in args.engines()? {
        let case = |workload, job| Case { facts, workload, job, runs: Vec::new() };
        if args.scaling {
            for keys in &args.scaling_keys {
                for threads in &args.scaling_threads {
                    let workload = Workload { keys: *keys, threads: Some(*threads), ..workload.clone() };
                    let batches = args.scaling_batches.clone();
                    cases.push(case(workload, Job::Scaling { batches, changes: args.scaling_changes }));
                }
            }
        } else if args.mini_blocks {
            let (changes, root_every) = (args.mini_changes, args.mini_root_every);
            cases
                .push(case(workload.clone(), Job::MiniBlocks { changes, root_every, seconds: args.seconds }));
        } else {
            cases.push(case(workload.clone(), Job::Reference));
        }
    }
    Ok(cases)
}

/// One run in a process of its own, in a directory of its own that is gone afterwards.
fn child(case: &Case, parent_dir: &Path) -> Result<Value> {
    interrupt::check()?;
    let dir =
        tempfile::Builder::new().prefix("bristlecone-compare-").tempdir_in(parent_dir).map_err(|error| {
            Failure::new(format!("cannot make a directory in {}: {error}", parent_dir.display()))
        })?;
    let spec = Spec {
        engine: case.facts.name.to_owned(),
        dir: dir.path().to_owned(),
        workload: case.workload.clone(),
        job: case.job.clone(),
    };
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--child")
        .arg(serde_json::to_string(&spec)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdout = child.stdout.take().ok_or_else(|| Failure::new("the child has no output"))?;
    let heard = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let mut asked: Option<Instant> = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // A signal from the terminal reaches the child too; one that was sent to the parent alone does not.
        match asked {
            None if interrupt::asked() => {
                asked = Some(Instant::now());
                let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                // It may have ended meanwhile.
                let _ = id.map(|id| kill_process(id, Signal::TERM));
            }
            Some(since) if since.elapsed() > GRACE => child.kill()?,
            _ => {}
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let text = heard.join().map_err(|_| Failure::new("the child could not be heard"))??;
    interrupt::check()?;
    dir.close()
        .map_err(|error| Failure::new(format!("a temporary directory could not be removed: {error}")))?;
    if !status.success() {
        return Err(Failure::new(format!("the run ended with {status}")));
    }
    Ok(serde_json::from_str(&text)?)
}

/// The same changes must give the same root each time.
fn same_roots(cases: &[Case]) -> Result<()> {
    for case in cases {
        let roots: Vec<&str> = case.runs.iter().filter_map(|run| run.get("last_root")?.as_str()).collect();
        if roots.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(Failure::new(format!(
                "{} had different roots: {}",
                case.facts.name,
                roots.join(", ")
            )));
        }
    }
    Ok(())
}
