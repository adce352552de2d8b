//! The bodies of the fuzz targets: plain functions that panic where a promise is broken.
//!
//! Each file in `corpus/<target>/` is an input of the function of that name; `tests/replay.rs` runs them all on stable Rust.
//! The files named `seed-*` are made by [`seeds`]; `cargo run --example corpus` writes them.

mod bytes;
#[path = "../../trie/tests/naive/mod.rs"]
mod naive;
mod proofs;
mod seeds;
mod store;
mod whole;
mod witness;

pub use proofs::{absence_proof, inclusion_proof, node_codec};
pub use seeds::seeds;
pub use store::{batch_log, page_codec, record_codec, segment_recovery};
pub use whole::{damaged_store, operations};
pub use witness::witness;

/// A fuzz target: its name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("node_codec", node_codec),
    ("inclusion_proof", inclusion_proof),
    ("absence_proof", absence_proof),
    ("witness", witness),
    ("record_codec", record_codec),
    ("page_codec", page_codec),
    ("segment_recovery", segment_recovery),
    ("batch_log", batch_log),
    ("operations", operations),
    ("damaged_store", damaged_store),
];

/// Those that take milliseconds: whole stores are opened and closed.
pub const SLOW: &[&str] = &["operations", "damaged_store"];
