//! Forgetting beside a committer: what pruning from many versions to 100 does to commits, and what is left on disk.
//!
//! `cargo bench -p bristlecone --bench forget`. By environment: `BRISTLECONE_BENCH_KEYS`, `BRISTLECONE_BENCH_VERSIONS`, changed keys of a commit
//! in `BRISTLECONE_BENCH_CHANGES`. Keys are 32 random bytes, raw; values 32 bytes; all keys drawn alike. A commit every 10 ms; its latency is that until
//! it is durable, against the moment it was due. In turn, three times: commits with nothing to forget, then commits from the moment of a prune on until all is given back.
//! At the end everything is compacted and compared with a fresh store that was given the oldest kept state and the versions after it.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench stops at what it did not expect, and prints"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use bristlecone::{Batch, Namespace, Options, SchemeKind, Store};
use mimalloc::MiMalloc;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Hash = [u8; 32];

const LOAD: usize = 20_000;
const KEPT: u64 = 100;
const ROUNDS: usize = 3;
/// Commits that are timed with nothing to forget, and at least with.
const TIMED: usize = 500;
const PERIOD: Duration = Duration::from_millis(10);

struct Workload {
    keys: Vec<Hash>,
    values: Vec<Hash>,
    random: ChaCha8Rng,
    changes: usize,
    /// The last versions: which keys got which values.
    recent: std::collections::VecDeque<Vec<(usize, Hash)>>,
}

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let asked = |name: &str, full: usize, small: usize| {
        let asked =
            std::env::var(format!("BRISTLECONE_BENCH_{name}")).ok().and_then(|text| text.parse().ok());
        if measuring { asked.unwrap_or(full) } else { small }
    };
    let keys = asked("KEYS", 100_000, 2_000);
    let versions = asked("VERSIONS", 10_000, 200);
    let timed = if measuring { TIMED } else { 20 };
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let mut workload = Workload {
        keys: Vec::new(),
        values: Vec::new(),
        random: ChaCha8Rng::seed_from_u64(1),
        changes: asked("CHANGES", 500, 40),
        recent: std::collections::VecDeque::new(),
    };
    workload.load(&store, keys);
    println!("{keys} keys, {versions} versions of {} changes a round, pruned to {KEPT}", workload.changes);
    for round in 1..=ROUNDS {
        (0..versions / ROUNDS).for_each(|_| drop(workload.commit(&store)));
        store.flush().expect("a flush");
        let quiet = workload.timed(&store, timed, |_| true);
        store.prune(KEPT).expect("a prune");
        let begun = Instant::now();
        let busy = workload.timed(&store, timed, is_done);
        let forget = store.stats().expect("figures").forget;
        println!(
            "  round {round}: commit to durable p50 / p99 {:.2} / {:.2} ms before, {:.2} / {:.2} ms meanwhile: p99 {:.2} times; {:.0} MB given back so far, {:.0} MB dead, {:.0} s",
            at(&quiet, 50),
            at(&quiet, 99),
            at(&busy, 50),
            at(&busy, 99),
            at(&busy, 99) / at(&quiet, 99),
            forget.freed_bytes as f64 / 1e6,
            forget.dead_bytes as f64 / 1e6,
            begun.elapsed().as_secs_f64()
        );
    }
    store.prune(KEPT).expect("a prune");
    let report = store.compact(|_| ()).expect("a compaction");
    let left = store.stats().expect("figures").segment_bytes;
    let fresh = workload.fresh();
    println!(
        "  compacted: {:.1} MB ({} segments written anew); a fresh store with the same: {:.1} MB; {:.2} times",
        left as f64 / 1e6,
        report.segments,
        fresh as f64 / 1e6,
        left as f64 / fresh as f64
    );
}

fn open(dir: &Path) -> Store {
    let options = Options::new().namespace(Namespace::flat(SchemeKind::Ethereum).raw());
    // Segments of a size that there are some of.
    options.seal_keys(8_000).segment_bytes(4 << 20).open(dir).expect("a new store")
}

/// Whether all that died in the versions that went was looked at.
fn is_done(store: &Store) -> bool {
    store.stats().expect("figures").forget.waiting_runs == 0
}

/// The percentile, in milliseconds.
fn at(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

impl Workload {
    fn load(&mut self, store: &Store, size: usize) {
        while self.keys.len() < size {
            let mut batch = Batch::new();
            for _ in 0..LOAD.min(size - self.keys.len()) {
                let (key, value): (Hash, Hash) = (self.random.random(), self.random.random());
                batch.put(&key, &value);
                self.keys.push(key);
                self.values.push(value);
            }
            store.commit(batch).expect("a commit");
        }
        store.flush().expect("a flush");
    }

    fn commit(&mut self, store: &Store) -> bristlecone::Commit {
        let mut batch = Batch::new();
        let mut changed = Vec::with_capacity(self.changes);
        for _ in 0..self.changes {
            let key = self.random.random_range(0..self.keys.len());
            let value: Hash = self.random.random();
            batch.put(&self.keys[key], &value);
            changed.push((key, value));
        }
        self.recent.push_back(changed);
        // What leaves the window is the state that a fresh store begins with.
        while self.recent.len() >= KEPT as usize {
            for (key, value) in self.recent.pop_front().unwrap_or_default() {
                self.values[key] = value;
            }
        }
        store.commit(batch).expect("a commit")
    }

    /// Commits at their pace, so many and until `done`; how long each took from when it was due, sorted.
    fn timed(&mut self, store: &Store, count: usize, done: impl Fn(&Store) -> bool) -> Vec<Duration> {
        let mut took = Vec::new();
        let mut due = Instant::now();
        while took.len() < count || !done(store) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.commit(store).durable().wait().expect("a durable commit");
            took.push(due.elapsed());
            due += PERIOD;
        }
        took.sort_unstable();
        took
    }

    /// Bytes of a store that was given what is kept and nothing else.
    fn fresh(&self) -> u64 {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path());
        for (keys, values) in self.keys.chunks(LOAD).zip(self.values.chunks(LOAD)) {
            let mut batch = Batch::new();
            for (key, value) in keys.iter().zip(values) {
                batch.put(key, value);
            }
            store.commit(batch).expect("a commit");
        }
        for changed in &self.recent {
            let mut batch = Batch::new();
            for (key, value) in changed {
                batch.put(&self.keys[*key], value);
            }
            store.commit(batch).expect("a commit");
        }
        store.flush().expect("a flush");
        store.stats().expect("figures").segment_bytes
    }
}
