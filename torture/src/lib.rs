//! What Bristlecone is tested with: a model of a store as a map per version, and the campaigns against it: power cuts,
//! failing calls, kills, damage, soaking, schedules. `cargo run --release -p bristlecone-torture -- quick` runs them all, and prints the totals.
//!
//! The integration tests of the other crates use the model and small parts of the campaigns.
//!
//! Environment, of the tests: `BRISTLECONE_SEED=n` replays one sequence, `BRISTLECONE_SEQUENCES=n` sets how many are run,
//! `BRISTLECONE_LONG=1` runs many more, from seeds that no run before had.
#![expect(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test may stop at what it did not expect, and what its parts are for is told where it is not plain"
)]

pub mod batches;
pub mod changes;
pub mod config;
pub mod corruption;
pub mod crash;
mod damage;
pub mod faults;
pub mod fuzzing;
pub mod gate;
pub mod hooked;
pub mod jitter;
pub mod kill;
pub mod model;
pub mod mutants;
pub mod naive;
pub mod phase;
pub mod planted;
pub mod rng;
pub mod schedules;
pub mod soak;
pub mod timeline;
pub mod totals;
pub mod universe;
pub mod verify;
pub mod workload;

pub use config::Config;
pub use model::{Model, Space, State};
pub use rng::{Rng, is_long, sequences};
pub use universe::{Change, Universe};
pub use verify::{Check, Depth};

/// Where the test vectors of other projects are; not part of the repository.
pub fn data(path: &str) -> std::path::PathBuf {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(path)
}
