//! What the integration tests share: a model of a store as a map per version, roots by naive recursion and by alloy-trie,
//! random batches, and a comparison of a snapshot with the model that reports instead of panicking.
//!
//! Environment: `BRISTLECONE_SEED=n` replays one sequence, `BRISTLECONE_SEQUENCES=n` sets how many are run,
//! `BRISTLECONE_LONG=1` runs many more, from seeds that no run before had.
#![allow(
    dead_code,
    unused_imports,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "each test binary uses its own part, and a test may stop at what it did not expect"
)]

pub(crate) mod batches;
pub(crate) mod changes;
pub(crate) mod config;
pub(crate) mod gate;
pub(crate) mod model;
pub(crate) mod naive;
pub(crate) mod rng;
pub(crate) mod verify;

pub(crate) use batches::{Change, Universe};
pub(crate) use config::Config;
pub(crate) use model::{Model, Space, State};
pub(crate) use rng::{Rng, is_long, sequences};
pub(crate) use verify::{Check, Depth};

/// Where the test vectors of other projects are; not part of the repository.
pub(crate) fn data(path: &str) -> std::path::PathBuf {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data")).join(path)
}
