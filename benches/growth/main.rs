//! What versions cost on disk, and what it costs to go back to them: bytes a distinct changed key, all in; records on the path of a cold read;
//! reads and proofs of old versions; opening.
//!
//! `cargo bench -p bristlecone --bench growth`. By environment: `BRISTLECONE_BENCH_KEYS`, `BRISTLECONE_BENCH_VERSIONS`, changed keys of a
//! commit in `BRISTLECONE_BENCH_CHANGES` (one in 21 is new), changed keys of a run in `BRISTLECONE_BENCH_SEAL_KEYS` (1: a seal every
//! version), `BRISTLECONE_BENCH_WORKLOAD` (`uniform`, `zipf` or `trace`; all of them without it). Keys are 32 random bytes, raw; values 32 bytes; a root
//! for every version; default options. A run that is a second old is sealed as it is: on a machine that is too slow for 80,000 changed keys a second this measures
//! something else, which the number of runs tells.
//!
//! `trace` is what twenty blocks of mainnet changed, one version a block, over and over: see `trace`. It is skipped, aloud, where that file is not.
//!
//! A run of n versions with a sixteenth of the keys and of the changed keys a run has leaf pages of the same size, and chains of the same
//! length, as one of the whole size: one level of pages less.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench stops at what it did not expect, and prints"
)]

mod opening;
mod past;
mod trace;
mod workload;

use std::path::Path;
use std::time::Instant;

use bristlecone::{Namespace, Options, SchemeKind, Store};
use mimalloc::MiMalloc;

use past::Past;
use workload::Workload;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Hash = [u8; 32];

/// How much is done.
#[derive(Clone, Copy)]
struct Size {
    keys: usize,
    versions: usize,
    changes: usize,
    seal_keys: usize,
    /// Keys that wait in the batch log when a process is stopped.
    unsealed: usize,
}

fn main() {
    if opening::stop_if_asked() {
        return;
    }
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let asked = |name: &str, full: usize, small: usize| {
        let asked =
            std::env::var(format!("BRISTLECONE_BENCH_{name}")).ok().and_then(|text| text.parse().ok());
        if measuring { asked.unwrap_or(full) } else { small }
    };
    let size = Size {
        keys: asked("KEYS", 1_000_000, 2_000),
        versions: asked("VERSIONS", 1_600, 40),
        changes: asked("CHANGES", 5_250, 42),
        seal_keys: asked("SEAL_KEYS", 80_000, 200),
        unsealed: if measuring { 160_000 } else { 400 },
    };
    let wanted = std::env::var("BRISTLECONE_BENCH_WORKLOAD").unwrap_or_default();
    for name in ["uniform", "zipf", "trace"] {
        if !wanted.is_empty() && wanted != name {
            continue;
        }
        match Workload::new(name, size.changes) {
            Some(workload) => measure(name, workload, size),
            None => println!("{name}: skipped, {} is not there", trace::path().display()),
        }
    }
}

fn options(size: Size) -> Options {
    Options::new().namespace(Namespace::flat(SchemeKind::Ethereum).raw()).seal_keys(size.seal_keys as u64)
}

fn measure(name: &str, mut workload: Workload, size: Size) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = options(size).open(dir.path()).expect("a new store");
    workload.load(&store, size.keys);
    let begun = Instant::now();
    let [mut disk, mut passed, mut changed] = [0; 3];
    let mut device = None;
    let mut past = Past::default();
    for version in 0..size.versions {
        if version == size.versions / 2 {
            store.flush().expect("a flush");
            (disk, passed, changed) = (used_bytes(&store, dir.path()), passed_bytes(), 0);
            device = device_bytes(dir.path());
            past = Past::default();
        }
        changed += workload.commit(&store);
        past.look(&store);
    }
    store.flush().expect("a flush");
    let spent = begun.elapsed();
    let grown = used_bytes(&store, dir.path()) - disk;
    let passed = passed_bytes().saturating_sub(passed);
    let device = device_bytes(dir.path()).zip(device).map(|(now, before)| now.saturating_sub(before));
    let per_key = |bytes: u64| bytes as f64 / changed as f64;
    let of_growth = |bytes: u64| {
        format!("{:.1} B ({:.2} times the growth)", per_key(bytes), bytes as f64 / grown.max(1) as f64)
    };
    let versions = size.versions - size.versions / 2;
    println!(
        "{name}: {} keys, {} versions, {:.0} distinct changed keys in each of the last half, a seal every {} or when a run is old: in all {} runs ({:.0} s)",
        size.keys,
        size.versions,
        changed as f64 / versions as f64,
        size.seal_keys,
        store.stats().expect("figures").runs,
        spent.as_secs_f64()
    );
    println!(
        "  growth {:.1} B a distinct changed key, of the last half; passed to write calls {}; written to the device, by all processes, {}",
        per_key(grown),
        of_growth(passed),
        device.map_or("not known".to_owned(), of_growth)
    );
    past.report(&store, &mut workload);
    opening::report(store, dir.path(), &mut workload, size);
}

/// Bytes of the store on disk: segments as far as they are filled, and the batch log, a ring of fixed size, not at all, for both are
/// allocated ahead; the catalog as it is.
fn used_bytes(store: &Store, dir: &Path) -> u64 {
    let of_files = |dir: &Path| -> u64 {
        let entries = std::fs::read_dir(dir).expect("a directory");
        let metadata = entries.filter_map(|entry| entry.ok()?.metadata().ok());
        metadata.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
    };
    of_files(dir) + store.stats().expect("figures").segment_bytes
}

/// Bytes that the process passed to write calls; 0 where the system does not say. (The system's `write_bytes` counts whole folios of the page cache
/// for every small write into one.)
fn passed_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// Bytes that the device under `dir` was given since the system started, by whomever; `None` where the system does not say.
fn device_bytes(dir: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(dir).ok()?.dev();
    let name = format!("/sys/dev/block/{}:{}/stat", rustix::fs::major(device), rustix::fs::minor(device));
    let stat = std::fs::read_to_string(name).ok()?;
    Some(stat.split_whitespace().nth(6)?.parse::<u64>().ok()? * 512)
}
