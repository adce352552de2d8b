//! How the store of a sequence is configured.

use std::sync::Arc;

use bristlecone::vfs::Vfs;
use bristlecone::{Backpressure, Namespace, Options, RootSchedule};

use crate::Rng;

/// As [`Options`], but to be printed and changed.
#[derive(Clone, Debug)]
pub struct Config {
    pub namespaces: Vec<Namespace>,
    pub first_version: u64,
    pub roots: RootSchedule,
    pub seal_keys: u64,
    pub max_unsealed_keys: u64,
    pub cache_bytes: u64,
    pub threads: usize,
    pub segment_bytes: u64,
    pub log_bytes: u64,
}

impl Config {
    /// Small files, small runs.
    pub fn small(namespaces: Vec<Namespace>) -> Self {
        Self {
            namespaces,
            first_version: 0,
            roots: RootSchedule::Every(1),
            seal_keys: 20,
            max_unsealed_keys: 400_000,
            cache_bytes: 0,
            threads: 1,
            segment_bytes: 16 << 10,
            log_bytes: 8 << 10,
        }
    }

    pub fn random(namespaces: Vec<Namespace>, rng: &mut Rng) -> Self {
        let seal_keys = *rng.pick(&[1, 7, 50, 80_000]);
        Self {
            namespaces,
            first_version: *rng.pick(&[0, 0, 0, 1, 1_000_000]),
            roots: *rng.pick(&[RootSchedule::Every(1), RootSchedule::Every(3), RootSchedule::OnDemand]),
            seal_keys,
            max_unsealed_keys: *rng.pick(&[1, 100, 400_000]),
            cache_bytes: *rng.pick(&[0, 1 << 12, 1 << 15, 1 << 30]),
            threads: *rng.pick(&[1, 1, 2]),
            segment_bytes: *rng.pick(&[4 << 10, 64 << 10, 1 << 20]),
            log_bytes: *rng.pick(&[4 << 10, 32 << 10, 1 << 20]),
        }
    }

    pub fn options(&self, vfs: impl Vfs) -> Options {
        let mut options = Options::new()
            .vfs(Arc::new(vfs))
            .first_version(self.first_version)
            .roots(self.roots)
            .seal_keys(self.seal_keys)
            .max_unsealed_keys(self.max_unsealed_keys)
            .backpressure(Backpressure::Block)
            .cache_bytes(self.cache_bytes)
            .threads(self.threads)
            .segment_bytes(self.segment_bytes)
            .log_bytes(self.log_bytes);
        for namespace in &self.namespaces {
            options = options.namespace(namespace.clone());
        }
        options
    }
}
