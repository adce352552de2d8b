//! What a child process is asked to do, as the parent hands it over.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::workload::Skew;

/// The numbers of the reference workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Workload {
    pub(crate) keys: u64,
    pub(crate) batch: u64,
    pub(crate) commits: u64,
    pub(crate) updates: u64,
    pub(crate) inserts: u64,
    pub(crate) skew: Skew,
    pub(crate) seed: u64,
    /// Single reads of the latest version.
    pub(crate) reads: u64,
    pub(crate) in_flight: u64,
    pub(crate) threads: Option<usize>,
}

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Every phase of the reference workload.
    Reference,
    /// Commits of several sizes, each about `changes` keys in all.
    Scaling { batches: Vec<u64>, changes: u64 },
    /// Commits of `changes` keys with a root every so many, for so long.
    MiniBlocks { changes: u64, root_every: u64, seconds: u64 },
}

/// One run of one engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) engine: String,
    /// An empty directory, which the parent removes.
    pub(crate) dir: PathBuf,
    pub(crate) workload: Workload,
    pub(crate) job: Job,
}
