//! What versions cost on disk, and what reading them touches: bytes a distinct changed key, all in, and records on the path of a cold read.
//!
//! `cargo bench -p bristlecone --bench growth`. By environment: `BRISTLECONE_BENCH_KEYS`, `BRISTLECONE_BENCH_VERSIONS`, changed keys of a
//! commit in `BRISTLECONE_BENCH_CHANGES` (one in 21 is new), changed keys of a run in `BRISTLECONE_BENCH_SEAL_KEYS` (1: a seal every
//! version), `BRISTLECONE_BENCH_SKEW` (`uniform` or `zipf`; both without it). Keys are 32 random bytes, raw; values 32 bytes. Roots are
//! computed at the ends of runs alone: they change nothing on disk.
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

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use bristlecone::{
    Batch, Key, Namespace, Options, ReadPath, RootSchedule, SchemeKind, Snapshot, Store, VersionInfo,
};
use mimalloc::MiMalloc;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Hash = [u8; 32];

const LOAD: usize = 20_000;
/// Of the changed keys of a commit, one is new.
const ONE_NEW_IN: usize = 21;
const ZIPF_EXPONENT: f64 = 0.99;
const PROBES: usize = 50_000;
const SAMPLED_ENDS: usize = 64;
const READS: usize = 100_000;

/// How much is done.
#[derive(Clone, Copy)]
struct Size {
    keys: usize,
    versions: usize,
    changes: usize,
    seal_keys: usize,
}

/// Keys, and which of them change.
struct Workload {
    keys: Vec<Hash>,
    /// So many of them were there from the start.
    loaded: usize,
    zipf: bool,
    random: ChaCha8Rng,
}

fn main() {
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
    };
    let skew = std::env::var("BRISTLECONE_BENCH_SKEW").unwrap_or_default();
    for (name, zipf) in [("uniform", false), ("zipf", true)] {
        if skew.is_empty() || skew == name {
            measure(name, zipf, size);
        }
    }
}

fn measure(name: &str, zipf: bool, size: Size) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new().namespace(Namespace::flat(SchemeKind::Ethereum).raw());
    let options = options.roots(RootSchedule::OnDemand).seal_keys(size.seal_keys as u64);
    let store = options.open(dir.path()).expect("a new store");
    let mut workload =
        Workload { keys: Vec::new(), loaded: size.keys, zipf, random: ChaCha8Rng::seed_from_u64(1) };
    workload.load(&store, size.keys);
    let begun = Instant::now();
    let [mut disk, mut written] = [0; 2];
    let mut changed = 0;
    for version in 0..size.versions {
        if version == size.versions / 2 {
            store.flush().expect("a flush");
            (disk, written, changed) = (used_bytes(&store, dir.path()), written_bytes(), 0);
        }
        changed += workload.commit(&store, size.changes);
    }
    store.flush().expect("a flush");
    let spent = begun.elapsed();
    let grown = used_bytes(&store, dir.path()) - disk;
    let written = written_bytes().saturating_sub(written);
    let per_key = |bytes: u64| bytes as f64 / changed as f64;
    println!(
        "{name}: {} keys, {} versions of {} changes, a seal every {} changed keys ({:.0} s)",
        size.keys,
        size.versions,
        size.changes,
        size.seal_keys,
        spent.as_secs_f64()
    );
    println!(
        "  growth {:.1} B, written {:.1} B a distinct changed key, of the last half: written {:.2} times the growth",
        per_key(grown),
        per_key(written),
        written as f64 / grown.max(1) as f64
    );
    workload.report_paths(&store);
}

impl Workload {
    fn load(&mut self, store: &Store, size: usize) {
        while self.keys.len() < size {
            let mut batch = Batch::new();
            for _ in 0..LOAD.min(size - self.keys.len()) {
                self.put_new(&mut batch);
            }
            store.commit(batch).expect("a commit");
        }
        store.flush().expect("a flush");
    }

    fn put_new(&mut self, batch: &mut Batch) {
        let (key, value): (Hash, Hash) = (self.random.random(), self.random.random());
        batch.put(&key, &value);
        self.keys.push(key);
    }

    /// Commits; how many different keys changed.
    fn commit(&mut self, store: &Store, changes: usize) -> u64 {
        let mut batch = Batch::new();
        let new = changes / ONE_NEW_IN;
        let mut different = HashSet::with_capacity(changes);
        for _ in 0..changes - new {
            let at = self.draw();
            different.insert(at);
            batch.put(&self.keys[at], &self.random.random::<Hash>());
        }
        (0..new).for_each(|_| self.put_new(&mut batch));
        store.commit(batch).expect("a commit");
        (different.len() + new) as u64
    }

    fn draw(&mut self) -> usize {
        let keys = self.keys.len();
        match self.zipf {
            false => self.random.random_range(0..keys),
            true => {
                let rank = Zipf::new(keys as f64, ZIPF_EXPONENT).expect("a distribution");
                (rank.sample(&mut self.random) as usize).clamp(1, keys) - 1
            }
        }
    }

    /// What cold reads of ends of runs touch, and what they take when they are warm. Many runs of the last half: the pages at the top get their
    /// bases at the same time, so that one run says little.
    fn report_paths(&mut self, store: &Store) {
        // Of no other version the root is known.
        let is_end = |info: &VersionInfo| info.sealed && info.root.is_some();
        let mut ends: Vec<u64> =
            store.versions().iter().filter(|info| is_end(info)).map(|info| info.version).collect();
        // What was just sealed may be in memory still.
        ends.truncate(ends.len().saturating_sub(2));
        let ends: Vec<u64> = ends.split_off(ends.len() / 2);
        let step = ends.len().div_ceil(SAMPLED_ENDS).max(1);
        let snapshots: Vec<Snapshot> =
            ends.iter().step_by(step).map(|version| store.at(*version).expect("a kept version")).collect();
        let mut draw = || {
            (
                self.random.random_range(0..snapshots.len()),
                self.keys[self.random.random_range(0..self.loaded)],
            )
        };
        let paths: Vec<ReadPath> = (0..PROBES)
            .map(|_| {
                let (at, key) = draw();
                snapshots[at].first().read_path(Key::Flat(&key)).expect("a read")
            })
            .collect();
        let mean = |of: fn(&ReadPath) -> u64| paths.iter().map(of).sum::<u64>() as f64 / paths.len() as f64;
        let most = |of: fn(&ReadPath) -> u64| paths.iter().map(of).max().unwrap_or(0);
        assert_eq!(most(|path| path.memory_pages), 0, "a sealed version is read from the log");
        println!(
            "  records on the path of a cold read: mean {:.2}, at most {} (all of the chains: {:.2}, {}); pages {:.2}; {} ends of runs",
            mean(|path| path.records),
            most(|path| path.records),
            mean(|path| path.whole_chains),
            most(|path| path.whole_chains),
            mean(|path| path.stored_pages),
            snapshots.len(),
        );
        let snapshot = &snapshots[0];
        let probes: Vec<Hash> = (0..READS).map(|_| draw().1).collect();
        let read = || {
            let begun = Instant::now();
            probes.iter().for_each(|key| drop(snapshot.get(key).expect("a read")));
            begun.elapsed().as_secs_f64() * 1e6 / READS as f64
        };
        let (first, warm) = (read(), read());
        println!("  a read of one of them: {warm:.2} µs (the first time, with checksums: {first:.2} µs)");
    }
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

/// Bytes that the process had written to devices; 0 where the system does not say.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}
