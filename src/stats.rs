//! What a store holds and does, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bristlecone_delta::{SegmentSpace, SegmentStats, Stamp};
use bristlecone_snapshot::{SlotId, pin};
use bristlecone_trie::B256;

use crate::forget::ForgetStats;
use crate::pipeline::{Core, Dead};
use crate::sync::lock;
use crate::{Result, Store};

/// Memory, in bytes, and how many of what. What stands in one line of this list stands in no other: [`total`](Self::total) is their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Pages in memory that no later version superseded.
    pub pages: u64,
    /// What they take.
    pub page_bytes: u64,
    /// Pages in memory, superseded or not, whose hashes are there too.
    pub hashed_pages: u64,
    /// What the hashes of pages take that were not superseded.
    pub hash_bytes: u64,
    /// Pages that were superseded and wait for their seal.
    pub superseded_pages: u64,
    /// What those take.
    pub superseded_bytes: u64,
    /// What their hashes take.
    pub superseded_hash_bytes: u64,
    /// Pages that were superseded, and sealed over, and that a snapshot sees still.
    pub leased_pages: u64,
    /// What those take with their hashes.
    pub leased_bytes: u64,
    /// Pages that nobody needs and that wait until no reader can be looking at them.
    pub pending_pages: u64,
    /// What those take with their hashes.
    pub pending_bytes: u64,
    /// Memory of the process for pages that holds none just now. Several stores of a process share it, and each of them says all of it.
    pub idle_bytes: u64,
    /// Slots in use, for pages in memory and for evicted ones.
    pub slots: u64,
    /// The table of slots, and the bookkeeping of superseded and of evictable pages.
    pub table_bytes: u64,
    /// Commits that wait for the batch log's sync.
    pub waiting_for_log: u64,
    /// Commits that wait for a root that the schedule gives them.
    pub waiting_for_root: u64,
    /// Commits that wait for their seal, those before included.
    pub waiting_for_seal: u64,
    /// Those themselves: their batches, and lists of what they superseded.
    pub batch_bytes: u64,
    /// What the hashing thread works with.
    pub hashing_bytes: u64,
    /// What the sealing thread remembers of the records of pages, and works with.
    pub sealing_bytes: u64,
    /// The index of sealed runs, roots of the past that were computed, upper pages of the past that were read last, and what is known to be dead.
    pub index_bytes: u64,
}

impl MemoryStats {
    /// What all of it takes. Not counted: maps of segments, which the system takes back as it likes; what a call takes while
    /// it runs; a few kilobytes for each thread and file.
    pub fn total(&self) -> u64 {
        self.page_bytes
            + self.hash_bytes
            + self.superseded_bytes
            + self.superseded_hash_bytes
            + self.leased_bytes
            + self.pending_bytes
            + self.idle_bytes
            + self.table_bytes
            + self.batch_bytes
            + self.hashing_bytes
            + self.sealing_bytes
            + self.index_bytes
    }
}

/// What some pages take: how many there are, their blocks, their hashes.
#[derive(Default)]
struct Footprint {
    pages: u64,
    bytes: u64,
    hash_bytes: u64,
}

impl Footprint {
    fn of(core: &Core, dead: &[Dead]) -> Self {
        let mut this = Self::default();
        for some in dead.chunks(4096) {
            // Anew for some at a time: nobody's memory waits for us.
            let guard = pin();
            for dead in some {
                let Dead::Page(id) = dead else { continue };
                let (block, hashes) = core.graph.slots.footprint(*id, &guard);
                this.pages += 1;
                this.bytes += block as u64;
                this.hash_bytes += hashes as u64;
            }
        }
        this
    }
}

fn memory(core: &Core) -> MemoryStats {
    let slots = core.graph.slots.stats();
    let unsealed = core.unsealed();
    let ((superseded, leased), lives_bytes) = {
        let lives = lock(&core.lives);
        (lives.ids(), lives.size())
    };
    let (superseded, leased) = (Footprint::of(core, &superseded), Footprint::of(core, &leased));
    let evictable = lock(&core.evictable).capacity() * size_of::<SlotId>();
    let past_roots = lock(&core.past_roots).capacity() * (size_of::<(Stamp, B256)>() + 1);
    let (mut log, mut root) = (0, 0);
    for (version, _) in core.versions.published() {
        let Some(state) = core.versions.lease(version) else { continue };
        log += u64::from(state.durable.get().is_none());
        root += u64::from(core.is_scheduled(version) && state.root.get().is_none());
    }
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let in_blocks = slots.block_bytes + slots.companion_bytes + slots.pending_bytes;
    MemoryStats {
        pages: slots.blocks.saturating_sub(superseded.pages + leased.pages),
        page_bytes: slots.block_bytes.saturating_sub(superseded.bytes + leased.bytes),
        hashed_pages: slots.companions,
        hash_bytes: slots.companion_bytes.saturating_sub(superseded.hash_bytes + leased.hash_bytes),
        superseded_pages: superseded.pages,
        superseded_bytes: superseded.bytes,
        superseded_hash_bytes: superseded.hash_bytes,
        leased_pages: leased.pages,
        leased_bytes: leased.bytes + leased.hash_bytes,
        pending_pages: slots.pending,
        pending_bytes: slots.pending_bytes,
        idle_bytes: bristlecone_snapshot::pool_bytes().saturating_sub(in_blocks),
        slots: slots.slots,
        table_bytes: slots.table_bytes + (lives_bytes + evictable) as u64,
        waiting_for_log: log,
        waiting_for_root: root,
        waiting_for_seal: unsealed.versions,
        batch_bytes: unsealed.bytes + get(&core.counters.proposal_bytes),
        hashing_bytes: get(&core.counters.workspace_bytes),
        sealing_bytes: get(&core.counters.chain_bytes) + get(&core.counters.sealing_bytes),
        index_bytes: (core.runs.size() + past_roots) as u64
            + core.graph.past.size()
            + get(&core.counters.forgetting_bytes),
    }
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
    /// Whether the version is kept anyway. If not, the snapshots alone hold what it needs.
    pub kept: bool,
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
    /// What is dead, and what became of it.
    pub forget: ForgetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Snapshots that are held, by version.
    pub leases: Vec<LeaseStats>,
    /// Proposals that are held and not accepted.
    pub proposals: u64,
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
    /// Where the bytes of the segments go, segment by segment. `progress` hears how many are done, and of how many.
    ///
    /// Cost: a read of the store's segments.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`](crate::Error::Storage) for a damaged record.
    pub fn space(&self, mut progress: impl FnMut(u64, u64)) -> Result<Vec<SegmentSpace>> {
        let segments = &self.inner.core.graph.segments;
        let all = segments.stats().segments;
        let mut out = Vec::new();
        for number in 1..=u32::try_from(all).unwrap_or(u32::MAX) {
            // A view for each: no file stays mapped for all of it.
            out.extend(segments.view().space(number)?);
            progress(u64::from(number), all);
        }
        Ok(out)
    }

    /// The store in numbers. Cheap enough for every second, not for every commit: it walks the lists of groups, of runs, and of
    /// superseded pages.
    ///
    /// # Errors
    ///
    /// None today; a store that keeps its figures elsewhere may fail to read them.
    pub fn stats(&self) -> Result<Stats> {
        let core = &self.inner.core;
        let SegmentStats { segments, records, bytes, .. } = core.graph.segments.stats();
        let unsealed = core.unsealed();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Stats {
            versions: core.range(),
            latest_durable: self.latest_durable(),
            latest_sealed: self.latest_sealed(),
            unsealed_keys: unsealed.keys,
            unsealed_versions: unsealed.versions,
            runs: core.runs.len() as u64,
            segments,
            records,
            segment_bytes: bytes,
            forget: core.forgetting.stats(core),
            memory: memory(core),
            leases: core
                .versions
                .leases()
                .into_iter()
                .map(|lease| LeaseStats {
                    version: lease.version,
                    count: lease.count,
                    age: lease.age,
                    kept: core.keeps(lease.version),
                })
                .collect(),
            proposals: get(&core.counters.proposals),
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
