//! A store that is larger than its memory: what `cache_bytes` holds, and what it costs commits and reads.
//!
//! `cargo bench -p bristlecone --bench cache`; `BRISTLECONE_BENCH_KEYS=n` sets the size. Flat raw keys and values of 32 bytes, drawn uniformly, default
//! options but for `cache_bytes`. What the loaded state takes in memory (pages and their hashes) is measured first; then, for each share of it, a process of its
//! own opens the store with that much cache, commits 5,000 updates and 250 inserts 200 times as fast as they go, each with its root, and reads. The processes hold no keys
//! and no model: what they have is the store's.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench stops at what it did not expect, and prints"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bristlecone::{Batch, Commit, Key, MemoryStats, Namespace, Options, SchemeKind, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Set for the processes that measure: directory, cache in bytes, keys, commits.
const MEASURED: &str = "BRISTLECONE_BENCH_MEASURED";
const LOAD: u64 = 20_000;
const INSERTS: u64 = 250;
/// Of the state, in percent.
const SHARES: [u64; 5] = [5, 10, 20, 50, 100];
/// What memory may be over the cache.
const ALLOWED_MIB: u64 = 64;

fn main() {
    if let Ok(asked) = std::env::var(MEASURED) {
        let numbers: Vec<&str> = asked.splitn(4, ' ').collect();
        let number = |at: usize| numbers[at].parse().expect("a number");
        return measure(Path::new(numbers[3]), number(0), number(1), number(2));
    }
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("BRISTLECONE_BENCH_KEYS").ok().and_then(|keys| keys.parse().ok());
    let mut keys: u64 = if measuring { asked.unwrap_or(1_000_000) } else { 20_000 };
    let commits: u64 = if measuring { 200 } else { 3 };
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), 1 << 40);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for first in (0..keys).step_by(LOAD as usize) {
        commit(&store, first..keys.min(first + LOAD), &mut random);
    }
    store.flush().expect("a flush");
    let memory = store.stats().expect("figures").memory;
    let state = memory.page_bytes + memory.hash_bytes;
    store.close().expect("it closes");
    println!("{keys} keys take {:.0} MB in memory", mb(state));
    for share in SHARES {
        let cache = state * share / 100;
        println!("{share} % of it, {:.0} MB:", mb(cache));
        let status = Command::new(std::env::current_exe().expect("this program"))
            .env(MEASURED, format!("{cache} {keys} {commits} {}", dir.path().display()))
            .status()
            .expect("a process");
        assert!(status.success(), "the process ended with {status}");
        keys += INSERTS * commits;
    }
}

fn open(dir: &Path, cache: u64) -> Store {
    let options = Options::new().namespace(Namespace::flat(SchemeKind::Ethereum).raw());
    options.cache_bytes(cache).open(dir).expect("it opens")
}

fn key(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn commit(store: &Store, numbers: impl Iterator<Item = u64>, random: &mut ChaCha8Rng) -> Commit {
    let mut batch = Batch::new();
    for number in numbers {
        batch.put(&key(number), &random.random::<[u8; 32]>());
    }
    store.commit(batch).expect("a commit")
}

fn measure(dir: &Path, cache: u64, keys: u64, commits: u64) {
    let before = anonymous_bytes();
    let store = open(dir, cache);
    let mut random = ChaCha8Rng::seed_from_u64(keys);
    let mut all = keys;
    let (mut own, mut counted) = (0, MemoryStats::default());
    let begun = Instant::now();
    let mut last = None;
    let updates = if keys > 5_000 { 5_000 } else { keys };
    for _ in 0..commits {
        let changed: Vec<u64> = (0..updates).map(|_| random.random_range(0..all)).collect();
        last = Some(commit(&store, changed.into_iter().chain(all..all + INSERTS), &mut random));
        all += INSERTS;
        own = own.max(anonymous_bytes().saturating_sub(before));
        let now = store.stats().expect("figures").memory;
        if now.total() > counted.total() {
            counted = now;
        }
    }
    if let Some(last) = last {
        last.durable().wait().expect("durable");
        last.root().wait().expect("a root");
    }
    let spent = begun.elapsed();
    store.flush().expect("a flush");
    // What was just sealed leaves memory with the next seal.
    store.commit(Batch::new()).expect("a commit");
    store.flush().expect("a flush");
    let over = own as f64 / f64::from(1 << 20) - cache as f64 / f64::from(1 << 20);
    println!(
        "  {:.0}k keys/s; memory of its own at most {:.0} MB, {over:.0} MiB over the cache (allowed {ALLOWED_MIB}); accounted for {:.0} MB",
        (commits * (updates + INSERTS)) as f64 / spent.as_secs_f64() / 1e3,
        mb(own),
        mb(counted.total()),
    );
    println!(
        "  of that: pages {:.0} with hashes {:.0}, superseded {:.0}, leased {:.0}, to be freed {:.0}, idle {:.0}, tables {:.0}, batches {:.0}, hashing {:.0}, sealing {:.0}, index {:.0} MB",
        mb(counted.page_bytes),
        mb(counted.hash_bytes),
        mb(counted.superseded_bytes + counted.superseded_hash_bytes),
        mb(counted.leased_bytes),
        mb(counted.pending_bytes),
        mb(counted.idle_bytes),
        mb(counted.table_bytes),
        mb(counted.batch_bytes),
        mb(counted.hashing_bytes),
        mb(counted.sealing_bytes),
        mb(counted.index_bytes),
    );
    reads(&store, all, &mut random);
    store.close().expect("it closes");
}

fn reads(store: &Store, keys: u64, random: &mut ChaCha8Rng) {
    const READS: usize = 100_000;
    let snapshot = store.latest().expect("a version");
    let (mut in_memory, mut records, mut cold) = (0, 0, 0);
    for _ in 0..READS / 10 {
        let path = snapshot.first().read_path(Key::Flat(&key(random.random_range(0..keys))));
        let path = path.expect("a read");
        match path.stored_pages {
            0 => in_memory += 1,
            _ => (records, cold) = (records + path.records, cold + 1),
        }
    }
    let drawn: Vec<[u8; 32]> = (0..READS).map(|_| key(random.random_range(0..keys))).collect();
    let mut times: Vec<Duration> = drawn
        .iter()
        .map(|key| {
            let begun = Instant::now();
            drop(snapshot.get(key).expect("a read"));
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "  a read of the latest version p50 {:.2} µs, mean {:.2} µs; {:.0} % without the log, the others {:.1} records",
        micros(times[READS / 2]),
        micros(times.iter().sum::<Duration>() / READS as u32),
        100.0 * f64::from(in_memory) / (READS / 10) as f64,
        records as f64 / f64::from(cold.max(1))
    );
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Memory of this process that no file stands behind; 0 where the system does not say.
fn anonymous_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}
