//! Real blocks on a store on disk: how many a second, how much gas a second, one thread against several, and what share of the time
//! is the store's.
//!
//! `cargo bench -p bristlecone-evm --bench blocks`. By environment: `BRISTLECONE_BENCH_ACCOUNTS`, other accounts in the store,
//! `BRISTLECONE_BENCH_WORKERS`, `BRISTLECONE_BENCH_REPEATS`, and `BRISTLECONE_BENCH_BLOCK`, the number of the only block; with `--json`, one object a block and one of the sums. Skips, aloud, where there
//! is no real chain data beside the checkout.
//!
//! Each block is executed on its own part of mainnet's state, put beside a million others. In turn: one thread, several, one thread
//! with a clock around each read; one thread beforehand, on a version before the one that the block then comes after, and taking that over; medians. Codes are analysed already, as in a node that has run for a while. Then the changes are committed, until they
//! are visible, durable, and their root is known, and undone by a commit of their own.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench stops at what it did not expect, and prints"
)]

#[path = "../tests/it/data.rs"]
mod data;
#[path = "../tests/it/real.rs"]
mod real;
#[path = "../tests/it/tar.rs"]
mod tar;

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, U256};
use bristlecone::{Account, Batch, Store};
use bristlecone_evm::{
    CodeCache, Executor, State, StateDb, StateError, executor::Executed, genesis::GenesisAccount,
};
use mimalloc::MiMalloc;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use real::RealBlock;
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A state that is read with a clock in the hand.
struct Clocked<'a> {
    state: &'a StateDb,
    nanoseconds: AtomicU64,
}

impl Clocked<'_> {
    fn time<T>(&self, read: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let read = read();
        self.nanoseconds.fetch_add(begun.elapsed().as_nanos() as u64, Relaxed);
        read
    }
}

impl DatabaseRef for Clocked<'_> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.time(|| self.state.basic_ref(address))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        self.time(|| self.state.code_by_hash_ref(hash))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.time(|| self.state.storage_ref(address, slot))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.state.block_hash_ref(number)
    }
}

impl State for Clocked<'_> {}

#[derive(Default)]
struct Row {
    name: String,
    transactions: u64,
    gas: u64,
    one: f64,
    many: f64,
    /// Beforehand by one thread, and then taking that where nothing that was read has changed.
    ahead: f64,
    taken: f64,
    again: u64,
    reads: u64,
    reading: f64,
    visible: f64,
    durable: f64,
    root: f64,
}

impl Row {
    fn json(&self) -> serde_json::Value {
        json!({
            "block": self.name, "transactions": self.transactions, "gas": self.gas,
            "one_thread_ms": self.one, "parallel_ms": self.many, "speed_up": self.one / self.many, "runs_again": self.again,
            "executed_beforehand_ms": self.ahead, "then_taken_ms": self.taken,
            "reads": self.reads, "reads_ms": self.reading, "reads_share": self.reading / self.one,
            "visible_ms": self.visible, "durable_ms": self.durable, "root_ms": self.root,
        })
    }

    fn text(&self) -> String {
        format!(
            "{:20} {:>6} {:>7.2} {:>8.2} {:>8.2} {:>6.2} {:>5} {:>8.2} {:>6.2} {:>6} {:>6.1} {:>8.2} {:>8.2} {:>8.2}",
            self.name,
            self.transactions,
            self.gas as f64 / 1e6,
            self.one,
            self.many,
            self.one / self.many,
            self.again,
            self.ahead,
            self.taken,
            self.reads,
            100.0 * self.reading / self.one,
            self.visible,
            self.durable,
            self.root
        )
    }
}

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let asked = |name: &str, full: usize, small: usize| {
        let asked =
            std::env::var(format!("BRISTLECONE_BENCH_{name}")).ok().and_then(|text| text.parse().ok());
        if measuring { asked.unwrap_or(full) } else { small }
    };
    let as_json = std::env::args().any(|argument| argument == "--json");
    let others = asked("ACCOUNTS", 1_000_000, 1_000);
    let workers = asked("WORKERS", 2, 2);
    let repeats = asked("REPEATS", 15, 1);
    let (Some(mut blocks), Some(grevm)) = (real::pevm(), real::grevm()) else { return };
    blocks.push(grevm);
    if !measuring {
        blocks.truncate(3);
    }
    if let Ok(number) = std::env::var("BRISTLECONE_BENCH_BLOCK") {
        blocks.retain(|block| block.block.header.number.to_string() == number);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a new store");
    fill(&store, others);
    if !as_json {
        println!("{} blocks beside {others} accounts, {workers} workers, medians of {repeats}", blocks.len());
        println!(
            "{:20} {:>6} {:>7} {:>8} {:>8} {:>6} {:>5} {:>8} {:>6} {:>6} {:>6} {:>8} {:>8} {:>8}",
            "",
            "trans-",
            "gas",
            "one",
            "",
            "speed-",
            "runs",
            "before-",
            "then",
            "",
            "of the",
            "commit",
            "",
            ""
        );
        println!(
            "{:20} {:>6} {:>7} {:>8} {:>8} {:>6} {:>5} {:>8} {:>6} {:>6} {:>6} {:>8} {:>8} {:>8}",
            "block",
            "acts",
            "M",
            "thread",
            "parallel",
            "up",
            "again",
            "hand",
            "taken",
            "reads",
            "time %",
            "visible",
            "durable",
            "root"
        );
    }
    let mut sum = Row { name: "all".to_owned(), ..Row::default() };
    for block in &blocks {
        let row = measure(block, &store, workers, repeats);
        match as_json {
            true => println!("{}", row.json()),
            false => println!("{}", row.text()),
        }
        sum.transactions += row.transactions;
        sum.gas += row.gas;
        sum.again += row.again;
        sum.reads += row.reads;
        for (sum, row) in [
            (&mut sum.one, row.one),
            (&mut sum.many, row.many),
            (&mut sum.ahead, row.ahead),
            (&mut sum.taken, row.taken),
            (&mut sum.reading, row.reading),
            (&mut sum.visible, row.visible),
            (&mut sum.durable, row.durable),
            (&mut sum.root, row.root),
        ] {
            *sum += row;
        }
    }
    let rate =
        |milliseconds: f64| (blocks.len() as f64 / milliseconds * 1e3, sum.gas as f64 / milliseconds / 1e3);
    let ways = [
        ("one thread, visible", sum.one + sum.visible),
        ("one thread, root awaited", sum.one + sum.root),
        ("parallel, visible", sum.many + sum.visible),
        ("parallel, root awaited", sum.many + sum.root),
    ];
    match as_json {
        true => {
            let mut all = sum.json();
            for (name, milliseconds) in ways {
                let (blocks, gas) = rate(milliseconds);
                let name = name.replace(", ", "_").replace(' ', "_");
                all[name] = json!({ "blocks_per_s": blocks, "million_gas_per_s": gas });
            }
            println!("{all}");
        }
        false => {
            println!("{}", sum.text());
            for (name, milliseconds) in ways {
                let (blocks, gas) = rate(milliseconds);
                println!("{name:26} {blocks:>7.1} blocks/s {gas:>8.1} million gas/s");
            }
        }
    }
    store.close().expect("a close");
}

/// Puts accounts with a slot each into the store, so that the blocks' are some among many.
fn fill(store: &Store, count: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut left = count;
    loop {
        let mut batch = Batch::new();
        for _ in 0..left.min(20_000) {
            let address: [u8; 20] = random.random();
            let account = Account { balance: U256::from(random.random::<u64>()), ..Account::default() };
            batch.set_account(&address, &account);
            if random.random_range(0..4) == 0 {
                batch.set_slot(&address, B256::from(random.random::<[u8; 32]>()), U256::from(7));
            }
        }
        store.commit(batch).expect("a commit");
        left = left.saturating_sub(20_000);
        if left == 0 {
            break;
        }
    }
    store.flush().expect("a flush");
}

fn measure(real: &RealBlock, store: &Store, workers: usize, repeats: usize) -> Row {
    store.commit(real.before.batch()).expect("a commit").root().wait().expect("a root");
    let one = Executor::new(real.rules.clone());
    let many = Executor::parallel(real.rules.clone(), workers).expect("threads");
    let codes = CodeCache::default();
    let db = || real.db(store.latest().expect("a version"), &codes);
    let mut row = Row { name: real.name.clone(), ..Row::default() };
    let (mut times, mut executed) = (<[Vec<f64>; 8]>::default(), Executed::default());
    let warm = db();
    real.execute(&one, &warm);
    drop(warm);
    for _ in 0..repeats {
        let state = db();
        let begun = Instant::now();
        executed = real.execute(&one, &state);
        times[0].push(milliseconds(begun.elapsed()));
        let begun = Instant::now();
        let same = black_box(real.execute(&many, &state));
        times[1].push(milliseconds(begun.elapsed()));
        assert_eq!(
            (same.gas_used, same.changes.accounts.len()),
            (executed.gas_used, executed.changes.accounts.len())
        );
        row.again = same.stats.again();
        let clocked = Clocked { state: &state, nanoseconds: AtomicU64::new(0) };
        real.execute(&one, &clocked);
        times[2].push(clocked.nanoseconds.into_inner() as f64 / 1e6);
        let begun = Instant::now();
        let speculation = one.speculate(&state, &real.block);
        times[6].push(milliseconds(begun.elapsed()));
        drop(state);
        // Another block came in between, which changed nothing that this one reads.
        store.commit(Batch::new()).expect("a commit");
        if let Ok(speculation) = speculation {
            let state = db();
            let begun = Instant::now();
            let same = black_box(real.execute_speculated(&one, &state, speculation));
            times[7].push(milliseconds(begun.elapsed()));
            assert_eq!((same.gas_used, same.stats.held), (executed.gas_used, executed.stats.transactions));
        }
        let begun = Instant::now();
        let commit = store.commit(executed.changes.batch()).expect("a commit");
        times[3].push(milliseconds(begun.elapsed()));
        commit.durable().wait().expect("durable");
        times[4].push(milliseconds(begun.elapsed()));
        commit.root().wait().expect("a root");
        times[5].push(milliseconds(begun.elapsed()));
        store.commit(undo(real, &executed)).expect("a commit").root().wait().expect("a root");
    }
    let [one, many, reading, visible, durable, root, ahead, taken] = times.map(median);
    row = Row { one, many, reading, visible, durable, root, ahead, taken, ..row };
    row.transactions = executed.stats.transactions;
    row.gas = executed.gas_used;
    row.reads = executed.stats.reads;
    let mut gone = Batch::new();
    for account in &real.before.accounts {
        gone.delete_account(account.address.as_slice());
    }
    store.commit(gone).expect("a commit").root().wait().expect("a root");
    row
}

/// What takes the store back to the state before the block. A rollback would too, but pages that were in memory before are not after it.
fn undo(real: &RealBlock, executed: &Executed) -> Batch {
    let before: BTreeMap<Address, &GenesisAccount> =
        real.before.accounts.iter().map(|account| (account.address, account)).collect();
    let mut batch = Batch::new();
    for (address, change) in &executed.changes.accounts {
        let Some(account) = before.get(address) else {
            batch.delete_account(address.as_slice());
            continue;
        };
        let body = Account { nonce: account.nonce, balance: account.balance, code_hash: account.code_hash() };
        batch.set_account(address.as_slice(), &body);
        let slots: BTreeMap<B256, U256> = account.storage.iter().copied().collect();
        if change.wiped {
            batch.wipe_storage(address.as_slice());
            for (slot, value) in &slots {
                batch.set_slot(address.as_slice(), *slot, *value);
            }
        }
        for slot in change.slots.keys().map(|slot| B256::from(*slot)) {
            batch.set_slot(address.as_slice(), slot, slots.get(&slot).copied().unwrap_or_default());
        }
    }
    batch
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
