//! The seal: what makes a run of versions part of the durable trie.
use bristlecone_trie::B256;

use crate::{Locator, LogPosition, Result, Segments, Stamp};

/// A sealed run of versions. The last record of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The seal before this one.
    pub previous: Option<Locator>,
    /// The opening that wrote it.
    pub opening: u32,
    /// The versions of the run, oldest first.
    pub versions: Vec<SealedVersion>,
    /// Where each namespace stands at the end of the run.
    pub namespaces: Vec<SealedNamespace>,
    /// Up to where the batch log is covered by this seal and those before it.
    pub log_position: LogPosition,
}

/// One version of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedVersion {
    /// The version number.
    pub version: u64,
    /// The commit.
    pub stamp: Stamp,
    /// The commit it was built on.
    pub parent: Option<Stamp>,
    /// The store's root, if it was computed.
    pub root: Option<B256>,
    /// The root of each namespace, where it was computed.
    pub namespace_roots: Vec<Option<B256>>,
}

/// One namespace at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedNamespace {
    /// The newest record of its root page; `None` where there is no page.
    pub root_page: Option<Locator>,
    /// Its root hash.
    pub root_node: B256,
    /// The run table, if the run has one.
    pub table: Option<Locator>,
}

impl Segments {
    /// Reads the seal at `seal`. Walking [`Seal::previous`] reaches all of them.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn seal(&self, seal: Locator) -> Result<Seal> {
        let _ = seal;
        todo!()
    }
}
