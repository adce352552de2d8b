//! What can go wrong, with what is needed to act on it.

use std::io;
use std::path::{Path, PathBuf};

/// An answer of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", "sync", …
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Stored bytes are not what was written.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// A later release wrote this store. Nothing was touched.
    #[error("{} has format version {found}, this build reads up to {supported}", path.display())]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest one known here.
        supported: u32,
    },
    /// An earlier release wrote this store, in a format that is not read any more. Nothing was touched.
    #[error(
        "{} has format version {found}, this build reads {supported}: open it with the release that made it, or make it anew",
        path.display()
    )]
    OlderFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The one known here.
        supported: u32,
    },
    /// The directory holds no store, and none may be made there. Nothing was touched.
    #[error("{} is not a store: {what}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// Another process, or another handle of this one, has the store open for writing.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Something is larger than the format takes.
    #[error("{what} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size in bytes (or count).
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// No record with this locator has been published.
    #[error("no record {segment}/{record}")]
    NoRecord {
        /// The segment.
        segment: u32,
        /// The record number in it.
        record: u32,
    },
    /// Bytes that were handed in (not read from a file of the store) do not decode.
    #[error("malformed at byte {offset}: {what}")]
    Malformed {
        /// Where, in bytes.
        offset: usize,
        /// What does not hold.
        what: &'static str,
    },
    /// The caller asked for something that cannot be stored, a mistake in the program that calls.
    #[error("cannot be stored: {what}")]
    Invalid {
        /// Why not.
        what: &'static str,
    },
    /// An earlier write or sync failed; nothing more is written through this handle.
    #[error("an earlier write or sync failed; the store takes no more writes until it is opened again")]
    Poisoned,
}

/// Says what was tried on which path when a file operation fails.
pub(crate) trait At<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { op, path: path.to_owned(), source })
    }
}

impl Error {
    pub(crate) fn corrupt(path: &Path, offset: u64, what: &'static str) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, what }
    }
}
