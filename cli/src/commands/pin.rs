//! `pin` and `unpin`: versions that are kept by name.

use std::path::PathBuf;

use bristlecone::Options;
use serde::Serialize;

use crate::{failure::Failure, output::Output, parse};

/// Keep a version by a name, whatever is pruned. Without a name, list the pins.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// The name; one that is in use moves.
    name: Option<String>,
    /// The version; the latest one if it is not given.
    #[arg(long, value_name = "VERSION", value_parser = parse::version, requires = "name")]
    at: Option<u64>,
}

/// Take a pin away. Its version goes, if nothing else keeps it.
#[derive(Debug, clap::Args)]
pub(crate) struct UnpinArgs {
    /// The store's directory.
    dir: PathBuf,
    /// The name of the pin.
    name: String,
}

#[derive(Serialize)]
struct Pin {
    name: String,
    version: u64,
}

#[derive(Serialize)]
struct Pins {
    pins: Vec<Pin>,
}

#[derive(Serialize)]
struct Unpinned {
    unpinned: String,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let pins = match &args.name {
        Some(name) => {
            let store = parse::open_with(&args.dir, Options::new())?;
            let version = match args.at {
                Some(version) => version,
                None => store.latest()?.version(),
            };
            store.pin(name, version)?;
            let pins = store.pins();
            store.close()?;
            pins
        }
        None => parse::open(&args.dir)?.pins(),
    };
    let pins = pins.into_iter().map(|pin| Pin { name: pin.name, version: pin.version }).collect();
    let out = Pins { pins };
    output.result(&out, || match &out.pins[..] {
        [] => "no version is pinned".to_owned(),
        pins => {
            let lines: Vec<String> =
                pins.iter().map(|pin| format!("{}  {}", pin.version, pin.name.escape_debug())).collect();
            lines.join("\n")
        }
    })
}

pub(crate) fn execute_unpin(args: &UnpinArgs, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open_with(&args.dir, Options::new())?;
    store.unpin(&args.name)?;
    store.close()?;
    let out = Unpinned { unpinned: args.name.clone() };
    output.result(&out, || format!("{} is no longer a pin", out.unpinned.escape_debug()))
}
