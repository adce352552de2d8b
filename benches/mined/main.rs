//! What keys cost that were chosen to make paths deep.
//!
//! `cargo bench -p bristlecone --bench mined`. A store of random keys (`BRISTLECONE_BENCH_KEYS`), and a victim among them whose path an enemy
//! deepens: with one key that leaves it after each nibble there is a branch at every depth. Where keys are hashed, the enemy has to find such
//! keys: each nibble costs 16 times as many hashes as the one before, so that a path of 15 nibbles stands for 2^40 of them on top of what random keys have anyway. Where keys
//! are raw they cost nothing, and the path ends with the key. For each: a read of the victim, a commit that changes it until its root is known, its proof
//! and the size of that.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench stops at what it did not expect, and prints"
)]

use std::hint::black_box;
use std::time::Instant;

use bristlecone::{Batch, Namespace, Options, SchemeKind};
use mimalloc::MiMalloc;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Key = [u8; 32];

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("BRISTLECONE_BENCH_KEYS").ok().and_then(|text| text.parse().ok());
    let keys = if measuring { asked.unwrap_or(100_000) } else { 500 };
    let rounds = if measuring { 300 } else { 2 };
    for scheme in [SchemeKind::Ethereum, SchemeKind::Blake3] {
        println!("{scheme:?}, {keys} random keys, medians of {rounds}");
        println!(
            "  {:>26} {:>9} {:>14} {:>9} {:>9}",
            "path of the victim", "get", "commit to root", "proof", "bytes"
        );
        for depth in [0, 15, 64] {
            measure(scheme, keys, depth, rounds);
        }
    }
}

fn measure(scheme: SchemeKind, keys: usize, depth: usize, rounds: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new().namespace(Namespace::flat(scheme).raw()).threads(1);
    let store = options.open(dir.path()).expect("a new store");
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let victim: Key = random.random();
    let mut batch = Batch::new();
    batch.put(&victim, &[1; 32]);
    for _ in 0..keys {
        batch.put(&random.random::<Key>(), &random.random::<Key>());
    }
    for nibble in 0..depth {
        batch.put(&leaving(&victim, nibble), &[2; 32]);
    }
    store.commit(batch).expect("a commit").root().wait().expect("a root");
    let mut times = <[Vec<f64>; 3]>::default();
    let mut bytes = 0;
    for round in 0..rounds {
        let latest = store.latest().expect("a version");
        times[0].push(microseconds(|| latest.get(&victim).expect("a value")));
        times[2].push(microseconds(|| {
            let proof = latest.prove(&victim).expect("a proof");
            bytes = proof.nodes.iter().map(Vec::len).sum();
        }));
        drop(latest);
        let mut batch = Batch::new();
        batch.put(&victim, &(round as u64).to_le_bytes());
        times[1].push(microseconds(|| store.commit(batch).expect("a commit").root().wait().expect("a root")));
    }
    let name = match depth {
        0 => "as deep as random keys".to_owned(),
        64 => "all 64 nibbles, raw keys".to_owned(),
        _ => format!("{depth} nibbles, mined"),
    };
    let [get, commit, proof] = times.map(median);
    println!("  {name:>26} {get:>6.2} µs {commit:>11.0} µs {proof:>6.1} µs {bytes:>9}");
    store.close().expect("a close");
}

/// A key with the victim's first `nibble` nibbles and another one there.
fn leaving(victim: &Key, nibble: usize) -> Key {
    let mut key = *victim;
    key[nibble / 2] ^= if nibble.is_multiple_of(2) { 0x10 } else { 0x01 };
    key[nibble / 2 + 1..].fill(7);
    key
}

fn microseconds<T>(what: impl FnOnce() -> T) -> f64 {
    let begun = Instant::now();
    black_box(what());
    begun.elapsed().as_secs_f64() * 1e6
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
