//! `stats`: a store in numbers.

use std::path::PathBuf;

use bristlecone::Shape;
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, bytes, pairs, thousands},
    parse,
};

/// Print what a store holds, in numbers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
}

#[derive(Serialize)]
struct Out {
    namespaces: Vec<NamespaceOut>,
    first_version: Option<u64>,
    version: Option<u64>,
    durable: Option<u64>,
    sealed: Option<u64>,
    unsealed_versions: u64,
    unsealed_keys: u64,
    runs: u64,
    segments: u64,
    records: u64,
    segment_bytes: u64,
    pages_in_memory: u64,
    page_bytes_in_memory: u64,
}

#[derive(Serialize)]
struct NamespaceOut {
    name: String,
    scheme: &'static str,
    shape: &'static str,
    description: String,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open(&args.dir)?;
    let stats = store.stats()?;
    let namespaces = store.namespaces().iter().map(|namespace| NamespaceOut {
        name: namespace.name.clone(),
        scheme: namespace.scheme.name(),
        shape: match namespace.shape {
            Shape::Flat => "flat",
            Shape::Accounts => "accounts",
        },
        description: namespace.describe(),
    });
    let out = Out {
        namespaces: namespaces.collect(),
        first_version: stats.versions.map(|(first, _)| first),
        version: stats.versions.map(|(_, last)| last),
        durable: stats.latest_durable,
        sealed: stats.latest_sealed,
        unsealed_versions: stats.unsealed_versions,
        unsealed_keys: stats.unsealed_keys,
        runs: stats.runs,
        segments: stats.segments,
        records: stats.records,
        segment_bytes: stats.segment_bytes,
        pages_in_memory: stats.memory.pages,
        page_bytes_in_memory: stats.memory.page_bytes,
    };
    output.result(&out, || text(&out))
}

fn text(out: &Out) -> String {
    let version = |version: Option<u64>| version.map_or("none".to_owned(), |version| version.to_string());
    let versions = match (out.first_version, out.version) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "none".to_owned(),
    };
    let namespaces: Vec<&str> =
        out.namespaces.iter().map(|namespace| namespace.description.as_str()).collect();
    pairs(&[
        ("namespaces", namespaces.join(", ")),
        ("versions", versions),
        ("durable up to", version(out.durable)),
        ("sealed up to", version(out.sealed)),
        (
            "unsealed",
            format!("{} versions, {} keys", thousands(out.unsealed_versions), thousands(out.unsealed_keys)),
        ),
        ("sealed runs", thousands(out.runs)),
        ("segments", format!("{}, {} in use", out.segments, bytes(out.segment_bytes))),
        ("records", thousands(out.records)),
        (
            "in memory",
            format!("{} pages, {}", thousands(out.pages_in_memory), bytes(out.page_bytes_in_memory)),
        ),
    ])
}
