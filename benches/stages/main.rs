//! The stages of a commit one by one, on one thread, without files: update and hashing of the trie in memory, beside one flat
//! call of the hash function on the same bytes, and reads.
//!
//! `cargo bench -p bristlecone --bench stages`; `BRISTLECONE_BENCH_KEYS=n` sets the size. Medians of processor-bound work in one
//! run, interleaved: what counts is the ratio of two columns of one row.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench stops at what it did not expect, and prints"
)]

mod memory;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bristlecone_trie::levels::Workspace;
use bristlecone_trie::scheme::{blake3::Blake3, ethereum::Ethereum};
use bristlecone_trie::{Change, Op, Scheme};
use memory::Memory;
use mimalloc::MiMalloc;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Key = [u8; 32];

const LOAD: usize = 20_000;
const UPDATES: usize = 5_000;
const INSERTS: usize = 250;
const COMMITS: usize = 100;

struct Workload {
    keys: Vec<Key>,
    random: ChaCha8Rng,
}

impl Workload {
    fn batch(&mut self, updates: usize, inserts: usize) -> Vec<(Key, Key)> {
        let mut batch: Vec<(Key, Key)> = Vec::with_capacity(updates + inserts);
        for _ in 0..updates {
            let at = self.random.random_range(0..self.keys.len());
            batch.push((self.keys[at], self.random.random()));
        }
        for _ in 0..inserts {
            let key = self.random.random();
            self.keys.push(key);
            batch.push((key, self.random.random()));
        }
        batch.sort_unstable();
        batch.dedup_by(|a, b| a.0 == b.0);
        batch
    }
}

fn ops(batch: &[(Key, Key)]) -> Vec<Op<'_>> {
    batch.iter().map(|(key, value)| Op { key, change: Change::Put(value) }).collect()
}

/// Equal lengths end to end, as the hash function takes them.
fn flat(workspace: &Workspace) -> Vec<(Vec<u8>, Vec<[u8; 32]>)> {
    let mut encodings: Vec<&[u8]> = workspace.encodings().collect();
    encodings.sort_by_key(|encoding| encoding.len());
    encodings
        .chunk_by(|a, b| a.len() == b.len())
        .map(|group| (group.concat(), vec![[0; 32]; group.len()]))
        .collect()
}

fn timed<T>(into: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let out = work();
    into.push(begun.elapsed());
    out
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn scheme<S: Scheme>(keys: usize) {
    let mut workload = Workload { keys: Vec::new(), random: ChaCha8Rng::seed_from_u64(1) };
    let mut memory = Memory::new();
    let mut workspace = Workspace::default();
    let begun = Instant::now();
    let mut spent = Duration::ZERO;
    while workload.keys.len() < keys {
        let batch = workload.batch(0, LOAD.min(keys));
        let ops = ops(&batch);
        let begun = Instant::now();
        memory.apply(&ops);
        memory.hash::<S>(&mut workspace);
        memory.free();
        spent += begun.elapsed();
    }
    println!(
        "{} · {} keys loaded in batches of {LOAD}: {:.0} keys/s of update, hashing and freeing ({:.1} s with the making of batches)",
        S::NAME,
        workload.keys.len(),
        workload.keys.len() as f64 / spent.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    println!("  {}", memory.describe());
    let [mut apply, mut hash, mut alone, mut free] = [const { Vec::new() }; 4];
    let (mut nodes, mut bytes) = (0, 0);
    for _ in 0..COMMITS {
        let batch = workload.batch(UPDATES, INSERTS);
        let ops = ops(&batch);
        timed(&mut apply, || memory.apply(&ops));
        let hashed = timed(&mut hash, || memory.hash::<S>(&mut workspace));
        (nodes, bytes) = (nodes + hashed.nodes, bytes + hashed.bytes);
        let mut flat = flat(&workspace);
        timed(&mut alone, || {
            for (bytes, hashes) in &mut flat {
                S::hash_equal(bytes, hashes);
            }
        });
        black_box(&flat);
        timed(&mut free, || memory.free());
    }
    let (hash, alone) = (median(&mut hash), median(&mut alone));
    println!(
        "  a commit of {} keys: update {:.2} ms, hash {hash:.2} ms ({} nodes, {:.2} MB; one flat call on them {alone:.2} ms: {:.2} times), free {:.2} ms",
        UPDATES + INSERTS,
        median(&mut apply),
        nodes / COMMITS as u64,
        bytes as f64 / COMMITS as f64 / 1e6,
        hash / alone,
        median(&mut free),
    );
    let mut gets = Vec::new();
    for _ in 0..200_000 {
        let key = workload.keys[workload.random.random_range(0..workload.keys.len())];
        timed(&mut gets, || black_box(memory.get(&key)));
    }
    println!("  get p50 {:.0} ns", median(&mut gets) * 1e6);
}

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("BRISTLECONE_BENCH_KEYS").ok().and_then(|keys| keys.parse().ok());
    let keys = if measuring { asked.unwrap_or(1_000_000) } else { 5_000 };
    scheme::<Ethereum>(keys);
    scheme::<Blake3>(keys);
}
