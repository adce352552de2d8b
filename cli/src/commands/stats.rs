//! `stats`: a store in numbers.

use std::path::{Path, PathBuf};

use bristlecone::{MemoryStats, Reader, SegmentSpace, Shape, Space};
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, bytes, pairs, table, thousands},
    parse,
    progress::Progress,
};

/// Print what a store holds, in numbers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// Also say what the bytes of the segments are for. All of them are read for it.
    #[arg(long)]
    space: bool,
    /// The same for each segment.
    #[arg(long)]
    segments: bool,
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
    /// What all files of the directory are allotted.
    disk_bytes: u64,
    pins: u64,
    memory: MemoryOut,
    /// What the bytes of the segments are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    space: Option<SpaceOut>,
    /// The same for each segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_space: Option<Vec<SegmentOut>>,
}

/// Bytes of segments, by what they are for; what is no count adds up to the size of the files.
#[derive(Serialize)]
struct SpaceOut {
    base_records: u64,
    base_bytes: u64,
    delta_records: u64,
    delta_bytes: u64,
    child_bytes: u64,
    value_bytes: u64,
    large_values: u64,
    large_value_bytes: u64,
    table_bytes: u64,
    dead_list_bytes: u64,
    seal_bytes: u64,
    framing_bytes: u64,
    slack_bytes: u64,
}

#[derive(Serialize)]
struct SegmentOut {
    segment: u32,
    generation: u32,
    #[serde(flatten)]
    space: SpaceOut,
}

impl From<Space> for SpaceOut {
    fn from(space: Space) -> Self {
        Self {
            base_records: space.base_records,
            base_bytes: space.bases,
            delta_records: space.delta_records,
            delta_bytes: space.deltas,
            child_bytes: space.children,
            value_bytes: space.values,
            large_values: space.large_value_records,
            large_value_bytes: space.large_values,
            table_bytes: space.tables,
            dead_list_bytes: space.dead_lists,
            seal_bytes: space.seals,
            framing_bytes: space.framing,
            slack_bytes: space.slack,
        }
    }
}

impl SpaceOut {
    /// What, how many records where that says something, and bytes.
    fn rows(&self) -> [(&'static str, Option<u64>, u64); 10] {
        [
            ("pages written whole: heads, paths, stamps", Some(self.base_records), self.base_bytes),
            ("changes of pages: the same", Some(self.delta_records), self.delta_bytes),
            ("entries for child pages, with hashes", None, self.child_bytes),
            ("values and accounts", None, self.value_bytes),
            ("large values", Some(self.large_values), self.large_value_bytes),
            ("operations that the ends of runs do not show", None, self.table_bytes),
            ("lists of what died", None, self.dead_list_bytes),
            ("seals", None, self.seal_bytes),
            ("ends and checksums of records, padding", None, self.framing_bytes),
            ("allocated ahead", None, self.slack_bytes),
        ]
    }

    fn total(&self) -> u64 {
        self.rows().iter().map(|(_, _, bytes)| bytes).sum()
    }

    fn text(&self) -> String {
        let mut out = table(&["what the segments hold", "records", "bytes", "share"]);
        let total = self.total();
        let share = |part: u64| format!("{:.1} %", 100.0 * part as f64 / total.max(1) as f64);
        for (what, records, size) in self.rows() {
            out.add_row([what, &records.map_or(String::new(), thousands), &bytes(size), &share(size)]);
        }
        out.add_row(["all", "", &bytes(total), &share(total)]);
        out.to_string()
    }
}

fn segments_text(segments: &[SegmentOut]) -> String {
    let mut out = table(&[
        "segment",
        "written anew",
        "bytes",
        "bases",
        "deltas",
        "children",
        "values",
        "large values",
        "tables",
        "other",
        "ahead",
    ]);
    for SegmentOut { segment, generation, space } in segments {
        let other = space.dead_list_bytes + space.seal_bytes + space.framing_bytes;
        let sizes = [
            space.total(),
            space.base_bytes,
            space.delta_bytes,
            space.child_bytes,
            space.value_bytes,
            space.large_value_bytes,
            space.table_bytes,
            other,
            space.slack_bytes,
        ];
        let counts = [u64::from(*segment), u64::from(*generation)].map(thousands);
        out.add_row(counts.into_iter().chain(sizes.map(bytes)));
    }
    out.to_string()
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
    let segments = if args.space || args.segments { space(&store)? } else { Vec::new() };
    let sum = || {
        let mut sum = Space::default();
        segments.iter().for_each(|segment| sum += segment.space);
        sum.into()
    };
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
        disk_bytes: disk_bytes(&args.dir),
        pins: store.pins().len() as u64,
        memory: stats.memory.into(),
        space: (args.space || args.segments).then(sum),
        segment_space: args.segments.then(|| {
            let of = |segment: &SegmentSpace| SegmentOut {
                segment: segment.segment,
                generation: segment.generation,
                space: segment.space.into(),
            };
            segments.iter().map(of).collect()
        }),
    };
    output.result(&out, || {
        let space = out.space.iter().map(SpaceOut::text);
        let segments = out.segment_space.iter().map(|segments| segments_text(segments));
        [text(&out)].into_iter().chain(space).chain(segments).collect::<Vec<_>>().join("\n\n")
    })
}

/// What the files below a directory take, as far as they can be looked at.
fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    };
    entries.map(of).sum()
}

fn space(store: &Reader) -> Result<Vec<SegmentSpace>, Failure> {
    let mut bar: Option<Progress> = None;
    let segments = store.space(|done, of| {
        let bar = bar.get_or_insert_with(|| Progress::new("space", of));
        bar.at(done, || "segments".to_owned());
    });
    Ok(segments?)
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
    // What a process that only reads has none of is left out.
    let some = |what: &'static str, bytes: u64, text: String| (bytes > 0).then_some((what, text));
    let superseded = memory.superseded_bytes + memory.superseded_hash_bytes;
    let pending = memory.pending_bytes + memory.idle_bytes;
    let waiting = memory.waiting_for_log + memory.waiting_for_root + memory.waiting_for_seal;
    let parts = [
        some("  pages", memory.page_bytes, pages(memory.pages, memory.page_bytes)),
        some("  their hashes", memory.hash_bytes, pages(memory.hashed_pages, memory.hash_bytes)),
        some("  superseded", superseded, pages(memory.superseded_pages, superseded)),
        some("  leased", memory.leased_bytes, pages(memory.leased_pages, memory.leased_bytes)),
        some("  to be freed", pending, pages(memory.pending_pages, pending)),
        some(
            "  slots",
            memory.table_bytes,
            format!("{}, {}", thousands(memory.slots), bytes(memory.table_bytes)),
        ),
        some(
            "  commits that wait",
            waiting,
            format!(
                "{} for the log, {} for a root, {} for a seal, {}",
                thousands(memory.waiting_for_log),
                thousands(memory.waiting_for_root),
                thousands(memory.waiting_for_seal),
                bytes(memory.batch_bytes)
            ),
        ),
        some(
            "  hashing, sealing",
            memory.hashing_bytes + memory.sealing_bytes,
            format!("{}, {}", bytes(memory.hashing_bytes), bytes(memory.sealing_bytes)),
        ),
        some("  index of runs, upper pages of the past", memory.index_bytes, bytes(memory.index_bytes)),
    ];
    let mut rows = vec![
        ("namespaces", namespaces.join(", ")),
        ("versions", versions),
        ("sealed up to", version(out.sealed)),
        ("in the batch log", format!("{} versions", thousands(out.unsealed_versions))),
        ("sealed runs", thousands(out.runs)),
        ("segments", format!("{}, {} in use", out.segments, bytes(out.segment_bytes))),
        ("records", thousands(out.records)),
        ("pins", thousands(out.pins)),
        ("on disk", format!("{} with what is allocated ahead", bytes(out.disk_bytes))),
        ("in memory", bytes(memory.total_bytes)),
    ];
    rows.extend(parts.into_iter().flatten());
    pairs(&rows)
}
