//! Point reads of the latest version, one thread: the mean over random keys, and the median of single calls less the clock's own cost.
//!
//! `cargo bench -p bristlecone --bench reads`; `BRISTLECONE_BENCH_KEYS=n` sets the size. Keys are 32 random bytes, raw; values 32 bytes.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench stops at what it did not expect, and prints"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bristlecone::{Batch, Namespace, Options, RootSchedule, SchemeKind, Snapshot};
use mimalloc::MiMalloc;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Key = [u8; 32];

const LOAD: usize = 20_000;
const PROBES: usize = 200_000;
const ROUNDS: usize = 7;
/// Keys of one `get_many`.
const MANY: usize = 1_000;

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("BRISTLECONE_BENCH_KEYS").ok().and_then(|keys| keys.parse().ok());
    let size = if measuring { asked.unwrap_or(1_000_000) } else { 5_000 };
    let probes = if measuring { PROBES } else { MANY };

    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new().namespace(Namespace::flat(SchemeKind::Blake3).raw());
    let store = options.roots(RootSchedule::OnDemand).open(dir.path()).expect("a new store");
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let keys: Vec<Key> = (0..size).map(|_| random.random()).collect();
    for load in keys.chunks(LOAD) {
        let mut batch = Batch::new();
        for key in load {
            batch.put(key, &random.random::<Key>());
        }
        store.commit(batch).expect("a commit");
    }
    store.flush().expect("a flush");
    let latest = store.latest().expect("a version");

    // In a row, so that reading the keys costs next to nothing.
    let mut present = || -> Vec<Key> { (0..probes).map(|_| keys[random.random_range(0..size)]).collect() };
    let rounds: Vec<Vec<Key>> = (0..ROUNDS).map(|_| present()).collect();
    let absent: Vec<Vec<Key>> = (0..ROUNDS).map(|_| (0..probes).map(|_| random.random()).collect()).collect();
    println!("{size} keys");
    report("get", &latest, &rounds, true);
    report("get, absent", &latest, &absent, false);
    let mean = mean(&rounds, |round| {
        for keys in round.chunks(MANY) {
            black_box(latest.get_many(keys).expect("a read"));
        }
    });
    println!("  get_many of {MANY}: {mean:.0} ns a key");
}

fn report(what: &str, latest: &Snapshot, rounds: &[Vec<Key>], found: bool) {
    let mean = mean(rounds, |round| {
        for key in round {
            assert_eq!(black_box(latest.get(key).expect("a read")).is_some(), found);
        }
    });
    let clock = median(rounds.iter().flatten().map(|key| timed(|| black_box(key).len())));
    let single = median(rounds.iter().flatten().map(|key| timed(|| latest.get(key).expect("a read"))));
    println!("  {what}: mean {mean:.0} ns, p50 {:.0} ns (clock of {clock:.0} ns taken off)", single - clock);
}

/// Nanoseconds a key, in the median round.
fn mean(rounds: &[Vec<Key>], work: impl Fn(&[Key])) -> f64 {
    let keys = rounds.first().map_or(1, Vec::len);
    median(rounds.iter().map(|round| timed(|| work(round)))) / keys as f64
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    let out = work();
    let spent = begun.elapsed();
    drop(black_box(out));
    spent
}

fn median(times: impl Iterator<Item = Duration>) -> f64 {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e9
}
