//! The handle of a commit.

use std::sync::Arc;

use bristlecone_delta::Stamp;
use bristlecone_trie::B256;

use crate::event::{Event, Pending};
use crate::pipeline::root::{Kept, RootMessage};
use crate::state::VersionState;
use crate::store::Inner;
use crate::{Error, Result, Snapshot};

/// A version that is visible. That it is durable, its root, and that it is sealed are awaited here, apart.
#[derive(Clone)]
pub struct Commit {
    pub(crate) inner: Arc<Inner>,
    pub(crate) state: Arc<VersionState>,
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Commit({}, stamp {:?})", self.state.version, self.state.stamp)
    }
}

impl Commit {
    /// The version number.
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// The commit's identity: given once, never used again.
    pub fn stamp(&self) -> Stamp {
        self.state.stamp
    }

    /// Keys that really changed.
    pub fn changed(&self) -> u64 {
        self.state.changed
    }

    /// A snapshot of this version.
    ///
    /// # Errors
    ///
    /// The version is not kept any more: it was forgotten, or rolled back.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.check()?;
        let snapshot = Inner::at(&self.inner, self.state.version)?;
        if snapshot.stamp() == self.state.stamp {
            return Ok(snapshot);
        }
        // Its number is used again, since a moment.
        self.check()?;
        Err(Error::Internal("two commits share a version"))
    }

    /// When it survives a power cut: the batch log is synced. Waits for no root.
    pub fn durable(&self) -> Pending<()> {
        self.pending(&self.state.durable)
    }

    /// The store's root at this version: that of the only namespace, or BLAKE3 over the sorted (name, root) pairs of several.
    /// A root that is not on the schedule is requested by this call.
    pub fn root(&self) -> Pending<B256> {
        let pending = self.pending(&self.state.root);
        if pending.try_get().is_none() && !self.inner.core.is_scheduled(self.state.version) {
            let lease = self.inner.core.versions.lease(self.state.version);
            // After a rollback to it the version stands on other pages.
            let lease = lease.filter(|lease| Arc::ptr_eq(lease, &self.state));
            let kept = lease.map_or(Kept::No, Kept::Lease);
            self.inner.tell_root(RootMessage::want(self.state.clone(), kept));
        }
        pending
    }

    /// When it is part of the durable trie. Happens with its run; [`Store::flush`](crate::Store::flush) hurries it.
    pub fn sealed(&self) -> Pending<()> {
        self.pending(&self.state.sealed)
    }

    fn check(&self) -> Result<()> {
        self.inner.core.given_up.check(self.state.version, self.state.stamp)
    }

    fn pending<T: Clone>(&self, event: &Arc<Event<T>>) -> Pending<T> {
        Pending::new(match self.check() {
            Ok(()) => event.clone(),
            Err(error) => Arc::new(Event::failed(error)),
        })
    }
}
