//! `rollback`: back to an earlier version, for good.

use std::path::PathBuf;

use bristlecone::Options;
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, thousands},
    parse,
};

/// Make an earlier version the latest one. The versions after it are gone for good, and their numbers will be used again. The cost does not grow
/// with the state.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// The version to go back to.
    #[arg(long, value_name = "VERSION", value_parser = parse::version)]
    to: u64,
}

#[derive(Serialize)]
struct Out {
    version: u64,
    root: String,
    given_up: u64,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open_with(&args.dir, Options::new())?;
    let latest = store.latest()?.version();
    store.rollback(args.to).map_err(|error| match &error {
        bristlecone::Error::VersionNotKept { first, last, .. } => {
            Failure { hint: Some(format!("choose a version from {first} to {last}")), ..error.into() }
        }
        _ => error.into(),
    })?;
    let root = store.latest()?.root()?.to_string();
    let out = Out { version: args.to, root, given_up: latest - args.to };
    store.close()?;
    output.result(&out, || match out.given_up {
        0 => format!("version {} is the latest already: nothing was given up", out.version),
        1 => {
            format!("version {} is the latest now; the one after it is gone\nroot {}", out.version, out.root)
        }
        count => {
            let count = thousands(count);
            format!(
                "version {} is the latest now; the {count} after it are gone\nroot {}",
                out.version, out.root
            )
        }
    })
}
