//! Memory of a store under the reference workload: what the system says, beside what `stats` accounts for.
//!
//! `cargo bench -p bristlecone --bench memory`; `BRISTLECONE_BENCH_KEYS=n` sets the size. Default options; flat raw keys and values
//! of 32 bytes; a load in batches of 20,000, then 200 commits of 5,000 updates and 250 inserts as fast as they go. The bench holds no keys and no
//! model: what the process has is the store's, but for some megabytes.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at what it did not expect, and prints"
)]

use bristlecone::{Batch, MemoryStats, Namespace, Options, SchemeKind, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const LOAD: u64 = 20_000;
const UPDATES: u64 = 5_000;
const INSERTS: u64 = 250;

/// A line of this process's status, in bytes; 0 where the system has none.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// The moment at which the process had most memory of its own.
#[derive(Default)]
struct Peak {
    anonymous: u64,
    memory: MemoryStats,
}

impl Peak {
    fn look(&mut self, store: &Store) {
        let anonymous = status("RssAnon:");
        if anonymous > self.anonymous {
            *self = Self { anonymous, memory: store.stats().expect("stats").memory };
        }
    }

    fn print(&self, when: &str) {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let memory = &self.memory;
        println!("{when}: {:.0} MB of its own, {:.0} accounted for", mb(self.anonymous), mb(memory.total()));
        let lines = [
            ("pages", memory.page_bytes),
            ("their hashes", memory.hash_bytes),
            ("superseded pages", memory.superseded_bytes),
            ("hashes of superseded pages", memory.superseded_hash_bytes),
            ("pages held by leases", memory.leased_bytes),
            ("retired, not free yet", memory.pending_bytes),
            ("idle in the pool", memory.idle_bytes),
            ("tables", memory.table_bytes),
            ("batches", memory.batch_bytes),
            ("hashing", memory.hashing_bytes),
            ("sealing", memory.sealing_bytes),
            ("index", memory.index_bytes),
        ];
        for (name, bytes) in lines {
            println!("  {name:<28} {:>8.1} MB", mb(bytes));
        }
    }
}

fn commit(store: &Store, numbers: impl Iterator<Item = u64>, random: &mut ChaCha8Rng) {
    let mut batch = Batch::new();
    for number in numbers {
        let value: [u8; 32] = random.random();
        batch.put(blake3::hash(&number.to_le_bytes()).as_bytes(), &value);
    }
    store.commit(batch).expect("a commit");
}

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("BRISTLECONE_BENCH_KEYS").ok().and_then(|keys| keys.parse().ok());
    let keys: u64 = if measuring { asked.unwrap_or(1_000_000) } else { 5_000 };
    let commits: u64 = if measuring { 200 } else { 5 };
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let options = Options::new().namespace(Namespace::flat(SchemeKind::Ethereum).raw());
    let store = options.open(dir.path().join("store")).expect("a store");
    let mut random = ChaCha8Rng::seed_from_u64(1);
    println!("before: {:.0} MB of its own", status("RssAnon:") as f64 / 1e6);
    let mut peak = Peak::default();
    for first in (0..keys).step_by(LOAD as usize) {
        commit(&store, first..keys.min(first + LOAD), &mut random);
        peak.look(&store);
    }
    peak.print("peak of the load");
    let mut peak = Peak::default();
    let mut all = keys;
    for _ in 0..commits {
        let updates: Vec<u64> = (0..UPDATES).map(|_| random.random_range(0..all)).collect();
        commit(&store, updates.into_iter().chain(all..all + INSERTS), &mut random);
        all += INSERTS;
        peak.look(&store);
    }
    peak.print("peak of the commits");
    store.flush().expect("a flush");
    std::thread::sleep(std::time::Duration::from_millis(100));
    let mut now = Peak::default();
    now.look(&store);
    now.print("after a flush");
    println!("most that was resident, maps of files included: {:.0} MB", status("VmHWM:") as f64 / 1e6);
    store.close().expect("closed");
}
