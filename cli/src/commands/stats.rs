//! `stats`: a store in numbers.

use std::path::PathBuf;

use bristlecone::{MemoryStats, Shape};
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
    sealed: Option<u64>,
    /// Versions that wait in the batch log.
    unsealed_versions: u64,
    runs: u64,
    segments: u64,
    records: u64,
    segment_bytes: u64,
    memory: MemoryOut,
}

/// Memory, in bytes and in counts; the bytes add up to the total.
#[derive(Serialize)]
struct MemoryOut {
    total_bytes: u64,
    pages: u64,
    page_bytes: u64,
    hashed_pages: u64,
    hash_bytes: u64,
    superseded_pages: u64,
    superseded_bytes: u64,
    superseded_hash_bytes: u64,
    leased_pages: u64,
    leased_bytes: u64,
    pending_pages: u64,
    pending_bytes: u64,
    idle_bytes: u64,
    slots: u64,
    table_bytes: u64,
    waiting_for_log: u64,
    waiting_for_root: u64,
    waiting_for_seal: u64,
    batch_bytes: u64,
    hashing_bytes: u64,
    sealing_bytes: u64,
    index_bytes: u64,
}

impl From<MemoryStats> for MemoryOut {
    fn from(memory: MemoryStats) -> Self {
        Self {
            total_bytes: memory.total(),
            pages: memory.pages,
            page_bytes: memory.page_bytes,
            hashed_pages: memory.hashed_pages,
            hash_bytes: memory.hash_bytes,
            superseded_pages: memory.superseded_pages,
            superseded_bytes: memory.superseded_bytes,
            superseded_hash_bytes: memory.superseded_hash_bytes,
            leased_pages: memory.leased_pages,
            leased_bytes: memory.leased_bytes,
            pending_pages: memory.pending_pages,
            pending_bytes: memory.pending_bytes,
            idle_bytes: memory.idle_bytes,
            slots: memory.slots,
            table_bytes: memory.table_bytes,
            waiting_for_log: memory.waiting_for_log,
            waiting_for_root: memory.waiting_for_root,
            waiting_for_seal: memory.waiting_for_seal,
            batch_bytes: memory.batch_bytes,
            hashing_bytes: memory.hashing_bytes,
            sealing_bytes: memory.sealing_bytes,
            index_bytes: memory.index_bytes,
        }
    }
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
    let waiting = store.unsealed()?;
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
        version: waiting.last().map(|info| info.version).or(stats.latest_sealed),
        sealed: stats.latest_sealed,
        unsealed_versions: waiting.len() as u64,
        runs: stats.runs,
        segments: stats.segments,
        records: stats.records,
        segment_bytes: stats.segment_bytes,
        memory: stats.memory.into(),
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
    let memory = &out.memory;
    let pages = |count, size| format!("{} pages, {}", thousands(count), bytes(size));
    pairs(&[
        ("namespaces", namespaces.join(", ")),
        ("versions", versions),
        ("sealed up to", version(out.sealed)),
        ("in the batch log", format!("{} versions", thousands(out.unsealed_versions))),
        ("sealed runs", thousands(out.runs)),
        ("segments", format!("{}, {} in use", out.segments, bytes(out.segment_bytes))),
        ("records", thousands(out.records)),
        ("in memory", bytes(memory.total_bytes)),
        ("  pages", pages(memory.pages, memory.page_bytes)),
        ("  their hashes", pages(memory.hashed_pages, memory.hash_bytes)),
        (
            "  superseded",
            pages(memory.superseded_pages, memory.superseded_bytes + memory.superseded_hash_bytes),
        ),
        ("  leased", pages(memory.leased_pages, memory.leased_bytes)),
        ("  to be freed", pages(memory.pending_pages, memory.pending_bytes + memory.idle_bytes)),
        ("  slots", format!("{}, {}", thousands(memory.slots), bytes(memory.table_bytes))),
        (
            "  commits that wait",
            format!(
                "{} for the log, {} for a root, {} for a seal, {}",
                thousands(memory.waiting_for_log),
                thousands(memory.waiting_for_root),
                thousands(memory.waiting_for_seal),
                bytes(memory.batch_bytes)
            ),
        ),
        ("  hashing, sealing", format!("{}, {}", bytes(memory.hashing_bytes), bytes(memory.sealing_bytes))),
        ("  index of runs", bytes(memory.index_bytes)),
    ])
}
