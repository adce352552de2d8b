//! `prune`: old versions go.

use std::path::PathBuf;

use bristlecone::Options;
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, thousands},
    parse,
};

/// Keep the last versions and the pinned ones, and forget all others, for good. `compact` gives their space back; a store that is open does so by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// How many versions to keep, the latest one included.
    #[arg(long, value_name = "VERSIONS", value_parser = clap::value_parser!(u64).range(1..))]
    keep: u64,
}

#[derive(Serialize)]
struct Out {
    oldest: u64,
    version: u64,
    pins: usize,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open_with(&args.dir, Options::new())?;
    let oldest = store.prune(args.keep)?;
    let out = Out { oldest, version: store.latest()?.version(), pins: store.pins().len() };
    store.close()?;
    output.result(&out, || {
        let pins = match out.pins {
            0 => String::new(),
            pins => format!(", and {} pinned", thousands(pins as u64)),
        };
        format!("versions {} to {} are kept{pins}", out.oldest, out.version)
    })
}
