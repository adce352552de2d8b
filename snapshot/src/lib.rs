//! Publication of versions, leases on them, a table of slots, and reclamation by life.
//!
//! This crate is the only home of epochs, memory orderings and the `unsafe` that goes with them. It knows no trie, no encoding
//! and no file, and is generic over what it publishes. Four parts, which do not know one another:
//!
//! - [`Slots`]: a `Copy` id names a block in memory, a locator that says where else it is, or both, and a companion
//!   that is written once. Reading takes a [`pin`], two dependent loads, and no lock.
//! - [`Versions`]: the committer publishes values under version numbers and stamps; readers take a [`Lease`], which keeps the value
//!   readable and its stamp listed. Between taking and dropping a lease, readers touch no shared counter. What is in no table may be leased
//!   too ([`Versions::hold`]).
//! - [`Lives`]: ids with their life from one stamp to another; says which of them no live stamp sees any more.
//! - [`Guard`]: the epoch pin.
//!
//! Together: a commit inserts new blocks, notes in `Lives` those that it supersedes, and publishes. Now and then somebody forgets old
//! versions, asks for [`Versions::live_stamps`], lets [`Lives::collect`] say which ids are over, and retires them. A pin is for one
//! descent and the copy of a small value; a lease is for as long as a reader likes, and delays only what it sees.
//!
//! ```
//! use bristlecone_snapshot::{Lives, Lookup, SlotId, Slots, Versions, pin};
//!
//! let slots = Slots::<u8, ()>::new();
//! let versions = Versions::<SlotId>::new(Default::default);
//! let mut lives = Lives::new();
//!
//! let old = slots.insert(b"old root")?;
//! versions.publish(0, 100, old)?;
//! let lease = versions.latest().expect("just published");
//!
//! let new = slots.insert(b"new root")?;
//! lives.supersede(old, 100, 101, 8);
//! versions.publish(1, 101, new)?;
//! versions.forget(0);
//!
//! // The lease holds the old root back, and it alone.
//! assert!(lives.collect(&versions.live_stamps(), 101).is_empty());
//! assert_eq!(slots.get(*lease, &pin()), Lookup::Block(b"old root"));
//! drop(lease);
//! assert_eq!(slots.retire_all(lives.collect(&versions.live_stamps(), 101)), 1);
//! assert_eq!(slots.get(old, &pin()), Lookup::Gone);
//! # Ok::<(), bristlecone_snapshot::Error>(())
//! ```
//!
//! # Model checking
//!
//! The protocols are explored by loom, over this crate's own code with its atomics exchanged:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p bristlecone-snapshot --lib --test loom
//! ```
//!
//! It takes about half a minute. What it shows, and what not: two threads (three in two tests) and a few operations each,
//! the small models without a bound, the larger ones up to a number of preemptions. crossbeam-epoch itself is not checked but stands
//! aside for a minimal stand-in (the `epoch` module says why, and what the stand-in over-orders). And loom 0.7 remembers one last access of an
//! atomic, whoever's it was: where a thread loads and then exchanges the same atomic, its own load hides an earlier load by another thread, and
//! the schedule with the two turned round may be passed over. Each pair of threads is therefore explored with the roles both ways,
//! which finds what was planted and passed over otherwise; it is no proof. Where `slots` has two defences that are each enough, weakening one alone goes
//! unnoticed, and is meant to.

mod block;
mod chunks;
mod epoch;
mod error;
mod handoff;
mod lease;
mod life;
#[cfg(not(any(loom, miri, shuttle)))]
mod pool;
mod publish;
mod shard;
mod slots;
mod sync;

pub use block::prefetch_elements;
pub use epoch::{Guard, pin};

/// Memory for blocks that this process has from the system, in bytes, of all tables together: what blocks take, and what is kept for the
/// next ones. Blocks above 32 KiB are not in it.
pub fn pool_bytes() -> u64 {
    #[cfg(not(any(loom, miri, shuttle)))]
    return pool::held() as u64;
    #[cfg(any(loom, miri, shuttle))]
    0
}

pub use error::Error;
pub use lease::LeaseInfo;
pub use life::{Lives, Tally};
pub use publish::{Lease, Versions};
pub use slots::{Lookup, SlotId, SlotStats, Slots};
