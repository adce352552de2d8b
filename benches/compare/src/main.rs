//! Bristlecone beside its rivals, measured in the same hour on the same machine. `docs/compare.md` says what each figure is worth.

mod affinity;
mod args;
mod case;
mod child;
mod commits;
mod engines;
mod failure;
mod figures;
mod interrupt;
mod measure;
mod mini;
mod parent;
mod plot;
mod reads;
mod report;
mod run;
mod scaling;
mod spec;
#[cfg(test)]
mod tests;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use args::Args;
use failure::{Failure, Result};

/// The same allocator for every engine.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, code }) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(spec) = &args.child {
        let spec = serde_json::from_str(spec)?;
        println!("{}", child::run(&spec)?);
        return Ok(());
    }
    if args.list {
        report::list(args.json);
        return Ok(());
    }
    parent::run(args)
}
