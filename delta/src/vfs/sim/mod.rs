//! A simulated disk: a whole file system in memory that loses power, tears writes, fails calls and lies on order.
//!
//! It is for tests, of this crate and of those above it. Nothing here is a product option: the only way to get one is to
//! write `SimVfs::new(seed)` and to hand it over as the [`Vfs`](super::Vfs).
//!
//! # What it takes a disk to be
//!
//! - A write or a set length is durable after a sync of the file that comes after it.
//! - A created, renamed or removed name is durable after a sync of its directory; syncing the file does *not* make its name
//!   durable. A directory is a name too. A rename from one directory to another needs both synced, and until then a crash
//!   may leave both names or none.
//! - What is not synced may survive power loss whole, in part, or not at all: see [`CrashPolicy`].
//! - A failed sync is reported once. What it should have made durable stays readable, counts as clean, and is gone when
//!   power is lost, whatever syncs come later.
//! - All of this is a function of the order of calls and of the seeds. Where several threads call, the order in which they
//!   get their turn decides.
//!
//! Not modelled: damage to bytes that were durable and not written to (use [`SimVfs::flip_bit`]), garbage in place of zeros
//! where a file grew, lengths of names, permissions, and times.
//!
//! # How to use it
//!
//! Run a workload once, note [`SimVfs::op_count`] whenever something is acknowledged, and then look at the disk as it
//! would have been found after a power loss at every point of the run:
//!
//! ```
//! use std::path::Path;
//! use bristlecone_delta::vfs::sim::{CrashPolicy, SimVfs};
//! use bristlecone_delta::vfs::{OpenMode, Vfs, VfsFile};
//!
//! # fn main() -> std::io::Result<()> {
//! let sim = SimVfs::new(1);
//! let file = sim.open(Path::new("/log"), OpenMode::Create)?;
//! file.write_all_at(b"a promise", 0)?;
//! file.sync()?;
//! sim.sync_dir(Path::new("/"))?;
//! let acknowledged = sim.op_count();
//!
//! for case in sim.crash_cases(&CrashPolicy::EVERY, 0..4) {
//!     let kept = case.image.read_file("/log").unwrap_or_default();
//!     assert!(case.boundary < acknowledged || kept == &b"a promise"[..], "{case}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An image is a simulated disk of its own with its own history, so that recovery can be crashed in its turn.

mod cases;
mod content;
mod crash;
mod fault;
mod file;
mod machine;
mod op;
mod rng;
mod simvfs;
mod state;
mod tamper;

pub use cases::{CrashCase, CrashCases};
pub use crash::CrashPolicy;
pub use fault::{Fault, FaultRule};
pub use op::{OpKind, OpRecord, Outcome, Selector};
pub use simvfs::SimVfs;
