//! What a store holds and does, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bristlecone_delta::SegmentStats;

use crate::pipeline::lock;
use crate::{Result, Store};

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Pages in memory.
    pub pages: u64,
    /// What they hold.
    pub page_bytes: u64,
    /// Pages whose hashes are in memory.
    pub hashed_pages: u64,
    /// Pages that were superseded and wait for a seal or for a snapshot.
    pub superseded_pages: u64,
    /// What those hold.
    pub superseded_bytes: u64,
    /// Batches of commits that are not sealed.
    pub batch_bytes: u64,
}

/// A snapshot, or several of one version, that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseStats {
    /// The version.
    pub version: u64,
    /// How many snapshots.
    pub count: u64,
    /// Age of the oldest.
    pub age: Duration,
}

/// See each field.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// First and last version, if there is any.
    pub versions: Option<(u64, u64)>,
    /// Latest version that survives a power cut.
    pub latest_durable: Option<u64>,
    /// Latest version that is part of the durable trie.
    pub latest_sealed: Option<u64>,
    /// Keys changed by versions that are not sealed.
    pub unsealed_keys: u64,
    /// Versions that are not sealed.
    pub unsealed_versions: u64,
    /// Sealed runs.
    pub runs: u64,
    /// Segment files, groups, records and bytes in use; preallocated space is not counted.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in use in segments.
    pub segment_bytes: u64,
    /// Memory.
    pub memory: MemoryStats,
    /// Snapshots of versions in memory.
    pub leases: Vec<LeaseStats>,
    /// Commits since opening.
    pub commits: u64,
    /// Keys changed since opening.
    pub changed_keys: u64,
    /// Roots computed since opening.
    pub roots: u64,
    /// Nodes hashed since opening.
    pub hashed_nodes: u64,
    /// Bytes hashed since opening.
    pub hashed_bytes: u64,
    /// Seals since opening.
    pub seals: u64,
    /// Pages evicted since opening.
    pub evicted_pages: u64,
}

impl Store {
    /// The store in numbers. Cheap enough for every second, not for every commit: it walks the list of groups.
    ///
    /// # Errors
    ///
    /// None today; a store that keeps its figures elsewhere may fail to read them.
    pub fn stats(&self) -> Result<Stats> {
        let core = &self.inner.core;
        let SegmentStats { segments, records, bytes, .. } = core.graph.segments.stats();
        let slots = core.graph.slots.stats();
        let unsealed = core.unsealed();
        let superseded = lock(&core.lives).waiting();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let first = core.runs.first_version();
        let range = core.versions.range();
        Ok(Stats {
            versions: range.map(|range| (first.unwrap_or(*range.start()), *range.end())),
            latest_durable: self.latest_durable(),
            latest_sealed: self.latest_sealed(),
            unsealed_keys: unsealed.keys,
            unsealed_versions: unsealed.versions,
            runs: core.runs.len() as u64,
            segments,
            records,
            segment_bytes: bytes,
            memory: MemoryStats {
                pages: slots.blocks,
                page_bytes: slots.block_bytes,
                hashed_pages: slots.companions,
                superseded_pages: superseded.count,
                superseded_bytes: superseded.bytes,
                batch_bytes: unsealed.batch_bytes,
            },
            leases: core
                .versions
                .leases()
                .into_iter()
                .map(|lease| LeaseStats { version: lease.version, count: lease.count, age: lease.age })
                .collect(),
            commits: get(&core.counters.commits),
            changed_keys: get(&core.counters.changed_keys),
            roots: get(&core.counters.roots),
            hashed_nodes: get(&core.counters.hashed_nodes),
            hashed_bytes: get(&core.counters.hashed_bytes),
            seals: get(&core.counters.seals),
            evicted_pages: get(&core.counters.evicted_pages),
        })
    }
}
