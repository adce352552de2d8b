//! What can go wrong here: bookkeeping only. This crate does no I/O.

/// Why a publication or an insertion was refused. Nothing was changed by the call that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Versions are published in ascending order.
    #[error("version {version} cannot be published: version {latest} is the latest")]
    NotAscending {
        /// The version that was offered.
        version: u64,
        /// The latest version that is published.
        latest: u64,
    },
    /// The one stamp that cannot be told from "no stamp" in the registry of leases.
    #[error("version {version} cannot be published: its stamp is reserved")]
    ReservedStamp {
        /// The version that was offered.
        version: u64,
    },
    /// The table of slots has used up its indices. Retire slots, or evict and drop the store.
    #[error("the table of slots is full: {slots} indices are in use or worn out")]
    SlotsExhausted {
        /// How many indices the table has ever handed out.
        slots: u64,
    },
}
