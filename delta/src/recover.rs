//! Opening a store: what is there, what of it counts, and what is repaired first.
use std::path::Path;
use std::sync::Arc;

use bristlecone_trie::B256;

use crate::vfs::Vfs;
use crate::{Log, LogPosition, Result, Seal, Sealed, SegmentWriter, Segments, Stamp};

/// How to open.
#[derive(Clone, Debug)]
pub struct Options {
    /// Makes the store where the directory is missing or empty. `None`: [`NotAStore`](crate::Error::NotAStore) there.
    pub create: Option<Create>,
    /// Changes nothing, takes no lock and gives no writers.
    pub read_only: bool,
    /// Size from which on a segment gets no further group, in bytes; preallocated. 64 MiB.
    pub segment_bytes: u64,
    /// Size from which on a log file gets no further record, in bytes; preallocated. 16 MiB.
    pub log_bytes: u64,
    /// How many deltas a page's base may carry. 8.
    pub max_deltas: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { create: None, read_only: false, segment_bytes: 64 << 20, log_bytes: 16 << 20, max_deltas: 8 }
    }
}

/// What a new store is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Random bytes that tell this store from all others.
    pub id: [u8; 16],
    /// The caller's configuration, kept for good; up to 64 KiB.
    pub config: Vec<u8>,
}

/// What a store is, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The format version it was made with.
    pub format: u32,
    /// Random bytes that tell this store from all others.
    pub id: [u8; 16],
    /// The caller's configuration.
    pub config: Vec<u8>,
}

/// A commit that was logged and not sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedBatch {
    /// The version number.
    pub version: u64,
    /// The commit.
    pub stamp: Stamp,
    /// The commit it was built on.
    pub parent: Option<Stamp>,
    /// What was logged ([`decode_ops`](crate::decode_ops) reads it).
    pub payload: Vec<u8>,
    /// The position behind it in the log.
    pub end: LogPosition,
}

/// An open store. Drop the writers before the lock.
pub struct Opened {
    /// What it is.
    pub identity: Identity,
    /// The number of this opening, greater than any before and durable; stamps of this opening may be given. With
    /// `read_only`, that of the last opening.
    pub opening: u32,
    /// For reading records.
    pub segments: Arc<Segments>,
    /// For writing seals; `None` with `read_only`.
    pub writer: Option<SegmentWriter>,
    /// For logging commits; `None` with `read_only`.
    pub log: Option<Log>,
    /// The last seal, and where it is.
    pub last_seal: Option<(Sealed, Seal)>,
    /// The commits after it, oldest first. All of them are durable.
    pub tail: Vec<LoggedBatch>,
    /// Roots that were logged after it, oldest first.
    pub roots: Vec<(Stamp, B256)>,
    /// Whether it was closed cleanly.
    pub clean: bool,
    /// The exclusive lock; `None` with `read_only`.
    pub lock: Option<Box<dyn Send + Sync>>,
}

/// Opens the store in `dir`, after whatever stop. What is found is exactly a prefix of the commits, with every synced one in it; and it is
/// durable before this returns. Takes the exclusive lock.
///
/// After a clean close this costs a read of every group's header; otherwise also a copy of the last segment and of the
/// unsealed log.
///
/// # Errors
/// `NotAStore`, `NewerFormat`, `Locked`: nothing was changed. `Corrupt` where bytes that were durable are
/// not what was written. `Io`.
pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, options: &Options) -> Result<Opened> {
    let _ = (vfs, dir, options);
    todo!()
}
