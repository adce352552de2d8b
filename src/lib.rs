//! Bristlecone: an embedded multi-version Merkle state store for parallel chains.
//!
//! Many executors read any kept version without a lock while one committer writes the next. A commit is visible
//! when [`Store::commit`] returns; that it is durable, and what its root is, are awaited apart.
//!
//! ```
//! use bristlecone::{Account, Batch, Options, U256};
//!
//! # fn main() -> Result<(), bristlecone::Error> {
//! let dir = tempfile::tempdir().expect("a temporary directory");
//! let store = Options::new().open(dir.path())?;
//!
//! let mut genesis = Batch::new();
//! genesis.set_account(b"alice", &Account { balance: U256::from(7), ..Account::default() });
//! let commit = store.commit(genesis)?;
//!
//! // Visible at once; durable and root are awaited where they are needed.
//! assert_eq!(commit.snapshot()?.account(b"alice")?.map(|a| a.balance), Some(U256::from(7)));
//! commit.durable().wait()?;
//! let root = commit.root().wait()?;
//!
//! let proof = store.at(0)?.prove_account(b"alice", &[])?;
//! assert!(bristlecone::verify_account::<bristlecone::Ethereum>(root, b"alice", &proof)?.is_some());
//! store.close()?;
//! # Ok(())
//! # }
//! ```

mod batch;
mod catalog;
mod check;
mod commit;
mod cursor;
mod diff;
mod error;
mod event;
mod forget;
mod given_up;
mod graph;
mod history;
mod iter;
mod kept;
mod options;
mod overlay;
mod past_pages;
mod pipeline;
mod proof;
mod proposal;
mod provenance;
mod prune;
mod read_path;
mod reader;
mod reference;
mod repair;
mod rollback;
mod runs;
mod snapshot;
mod state;
mod stats;
mod store;
mod sync;
mod tops;
mod trie_key;
mod value;
mod witness;

pub use batch::{Batch, NamespaceBatch};
pub use bristlecone_delta::vfs;
pub use bristlecone_delta::{Error as StorageError, Locator, SegmentSpace, Space, Stamp};
pub use bristlecone_trie::partial::{Missing, NodePath};
pub use bristlecone_trie::proof::{self as trie_proof, MultiProof, Proof, ProofError};
pub use bristlecone_trie::scheme::blake3::Blake3;
pub use bristlecone_trie::scheme::ethereum::Ethereum;
pub use bristlecone_trie::{Account, B256, PartialError, Shape, U256};
pub use bytes::Bytes;
pub use check::{CheckReport, DamagedRun, Progress};
pub use commit::Commit;
pub use diff::{Diff, Difference};
pub use error::{Error, Result};
pub use event::Pending;
pub use forget::{CompactProgress, CompactReport, ForgetStats};
pub use iter::{Accounts, Entries, KeyRange, Slots};
pub use kept::Retention;
pub use options::{Backpressure, KeyMode, Namespace, Options, RootSchedule, SchemeKind};
pub use proof::{AccountProof, KeyHash, KeyProof, ManyProof, SlotProof, verify_account};
pub use proposal::Proposal;
pub use provenance::{History, HistoryEnd, Revision};
pub use prune::Pin;
pub use read_path::ReadPath;
pub use reader::Reader;
pub use repair::{Lost, RepairReport};
pub use snapshot::{Key, Since, Snapshot, View};
pub use stats::{LeaseStats, MemoryStats, Stats};
pub use store::{Store, VersionInfo};
pub use value::{StoredKey, Value};
pub use witness::{Stateless, Witness};

/// The README's example is a doc test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
