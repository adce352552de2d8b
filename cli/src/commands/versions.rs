//! `versions`: what a store keeps.

use std::path::PathBuf;

use bristlecone::VersionInfo;
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, table},
    parse,
};

/// List the kept versions with their roots: those that are sealed, then those that wait in the batch log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// Only the last so many.
    #[arg(long, value_name = "COUNT")]
    last: Option<u64>,
}

#[derive(Serialize)]
struct Out {
    version: u64,
    stamp: String,
    root: Option<String>,
    durable: bool,
    sealed: bool,
}

impl From<VersionInfo> for Out {
    fn from(info: VersionInfo) -> Self {
        Self {
            version: info.version,
            stamp: format!("{}-{}", info.stamp.opening(), info.stamp.counter()),
            root: info.root.map(|root| root.to_string()),
            durable: info.durable,
            sealed: info.sealed,
        }
    }
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open(&args.dir)?;
    let mut versions = store.versions();
    versions.extend(store.unsealed()?);
    if let Some(last) = args.last {
        let skip = (versions.len() as u64).saturating_sub(last);
        versions.drain(..usize::try_from(skip).unwrap_or(versions.len()));
    }
    if output.is_json() {
        for info in versions {
            output.result(&Out::from(info), String::new)?;
        }
        return Ok(());
    }
    let mut rows = table(&["version", "root", "stamp", "sealed"]);
    let yes = |value: bool| if value { "yes" } else { "in the log" }.to_owned();
    for info in versions {
        let out = Out::from(info);
        let root = out.root.unwrap_or_else(|| "not computed".into());
        rows.add_row([out.version.to_string(), root, out.stamp, yes(out.sealed)]);
    }
    output.text(&rows.to_string())
}
