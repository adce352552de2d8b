//! The `bristlecone` command: tries the engine, and looks into directories that it made.
//!
//! One file a command in [`commands`]; [`run`] is the main job. Output goes through [`output`], everything
//! for people to standard error or in tables, one JSON object a line with `--json`.

mod commands;
mod failure;
mod interrupt;
mod output;
mod parse;
mod progress;
mod run;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};

use crate::{failure::Failure, output::Output};

/// Pages are allocated by the committing thread and freed by the sealing one: what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bristlecone: an embedded multi-version Merkle state store.
///
/// Every command takes the directory first, then options. Exit codes: 0 done, 1 failed (or a proof that does not hold,
/// damage that was found, wrong reads), 2 wrong usage, 130 stopped by Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "bristlecone", version, propagate_version = true)]
struct Cli {
    /// Print one JSON object a line instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Init(commands::init::Args),
    Replay(commands::replay::Args),
    Get(commands::get::Args),
    Prove(commands::prove::Args),
    Witness(commands::witness::Args),
    Verify(commands::verify::Args),
    Versions(commands::versions::Args),
    Stats(commands::stats::Args),
    Check(commands::check::Args),
    Prune(commands::prune::Args),
    Pin(commands::pin::Args),
    Unpin(commands::pin::UnpinArgs),
    Compact(commands::compact::Args),
    Diff(commands::diff::Args),
    History(commands::history::Args),
    Rollback(commands::rollback::Args),
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut output = Output::new(cli.json);
    match execute(cli.command, &given(&matches), &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.code)
        }
    }
}

/// The options of the subcommand that stand on the command line, by their names.
fn given(matches: &ArgMatches) -> Vec<&str> {
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let names = matches.ids().map(clap::Id::as_str);
    names.filter(|name| matches.value_source(name) == Some(ValueSource::CommandLine)).collect()
}

fn execute(command: Command, given: &[&str], output: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::execute(&args, given, output),
        Command::Init(args) => commands::init::execute(&args, output),
        Command::Replay(args) => commands::replay::execute(&args, output),
        Command::Get(args) => commands::get::execute(&args, output),
        Command::Prove(args) => commands::prove::execute(&args, output),
        Command::Witness(args) => commands::witness::execute(&args, output),
        Command::Verify(args) => commands::verify::execute(&args, output),
        Command::Versions(args) => commands::versions::execute(&args, output),
        Command::Stats(args) => commands::stats::execute(&args, output),
        Command::Check(args) => commands::check::execute(&args, output),
        Command::Prune(args) => commands::prune::execute(&args, output),
        Command::Pin(args) => commands::pin::execute(&args, output),
        Command::Unpin(args) => commands::pin::execute_unpin(&args, output),
        Command::Compact(args) => commands::compact::execute(&args, output),
        Command::Diff(args) => commands::diff::execute(&args, output),
        Command::History(args) => commands::history::execute(&args, output),
        Command::Rollback(args) => commands::rollback::execute(&args, output),
    }
}
