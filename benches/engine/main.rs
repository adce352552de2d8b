//! What an operation of the engine costs, one at a time, on the reference workload: keys of 32 random bytes, values of 32 bytes.
//!
//! `cargo bench -p bristlecone`; how to read the figures is in `docs/benchmarks.md`. Without `--bench`, as `cargo test --benches`
//! runs them, each bench runs once on a small store. `BRISTLECONE_BENCH_KEYS=n` sets the size.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench stops at what it did not expect"
)]

mod append;
mod changes;
mod commits;
mod fixture;
#[expect(dead_code, reason = "the other bench describes it and reads from it")]
#[path = "../stages/memory.rs"]
mod memory;
mod proofs;
mod reads;
mod recover;
mod reopen;
mod stages;

criterion::criterion_group! {
    name = engine;
    config = criterion::Criterion::default().sample_size(20);
    targets = reads::latest, reads::old, proofs::all, changes::all, reopen::all, recover::all, reads::reopened, commits::all, stages::all,
        append::all
}

fn main() {
    recover::stop_if_asked();
    engine();
    criterion::Criterion::default().configure_from_args().final_summary();
}
