//! Every on-disk byte of Bristlecone: files, segments, records, pages, the batch log, recovery.
//!
//! This crate knows no hash rule, no proof and no reader; it stores what it is given, verifies what it reads,
//! and finds after a crash exactly a prefix of what was written.

pub mod change;
mod check;
mod checksum;
mod codec;
pub mod dead;
pub mod error;
pub mod follow;
pub mod format;
pub mod identity;
pub mod ids;
pub mod log;
pub mod page;
pub mod recover;
pub mod salvage;
pub mod seal;
pub mod segment;
pub mod space;
pub mod table;
mod value;
pub mod vfs;

pub use change::{decode_ops, encode_ops};
pub use dead::{Dead, GraveStats, Graves, SavedGraves};
pub use error::{Error, Result};
pub use follow::{Follower, follow};
pub use identity::{Create, Identity};
pub use ids::{Locator, Stamp};
pub use log::{Log, LogPosition, LoggedBatch, Remains};
pub use page::{Chain, ChildEntry, Found, Loaded, PagePath};
pub use recover::{Opened, Options, open};
pub use salvage::{Cut, Wreck};
pub use seal::{Pin, Seal, Sealed, SealedNamespace, SealedVersion};
pub use segment::{
    Compaction, Compactor, GroupWriter, SegmentEnd, SegmentStats, SegmentView, SegmentWriter, Segments,
};
pub use space::{SegmentSpace, Space};
pub use table::{Table, TableOp, Top};
