//! Snapshots: immutable views of one commit.

mod view;

use std::sync::Arc;

use bristlecone_delta::Stamp;
use bristlecone_snapshot::Lease;
use bristlecone_trie::{Account, B256, Shape, U256};
use bytes::Bytes;

use crate::batch::no_namespace;
use crate::given_up::Seen;
use crate::graph::Found;
use crate::overlay::Overlay;
use crate::pipeline::proposal::Node;
use crate::pipeline::root::{Kept, RootMessage};
use crate::proof::{AccountProof, KeyProof, ManyProof};
use crate::runs::Past;
use crate::state::VersionState;
use crate::store::Inner;
use crate::{Error, Result};

pub use view::View;

/// A read view of one version. Reading takes no lock and never waits for the committer; what the snapshot sees is
/// kept as long as it lives. Where its version is rolled back, every question to it ends with [`Error::RolledBack`], and where it is of a proposal whose
/// place another version took, with [`Error::ProposalEnded`].
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) inner: Arc<Inner>,
    source: Source,
    seen: Seen,
}

/// Where the pages of the version are.
#[derive(Clone)]
enum Source {
    /// In memory, at least its upper ones; the lease keeps them.
    Memory(Lease<Arc<VersionState>>),
    /// In the log; the lease keeps their records.
    Sealed(Lease<Past>),
    /// In memory; they are a proposal's, or were.
    Proposed(Arc<Node>),
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({}, stamp {:?})", self.version(), self.stamp())
    }
}

/// A key of any kind: what [`View::changed_since`] and [`View::prefetch`] are asked about.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// A flat key.
    Flat(&'a [u8]),
    /// The body of an account.
    Account(&'a [u8]),
    /// A slot of an account.
    Slot(&'a [u8], B256),
}

/// Whether a key changed between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The values are the same.
    Unchanged,
    /// It was written or wiped in between; the values may be the same again.
    Changed,
    /// The older snapshot is not an ancestor of the newer one: nothing can be said.
    NotAnAncestor,
}

impl Snapshot {
    pub(crate) fn in_memory(inner: Arc<Inner>, lease: Lease<Arc<VersionState>>, seen: Seen) -> Self {
        Self { inner, source: Source::Memory(lease), seen }
    }

    pub(crate) fn sealed(inner: Arc<Inner>, lease: Lease<Past>, seen: Seen) -> Self {
        Self { inner, source: Source::Sealed(lease), seen }
    }

    pub(crate) fn proposed(inner: Arc<Inner>, node: Arc<Node>) -> Self {
        // It may have been accepted, and rolled back, long ago.
        Self { inner, source: Source::Proposed(node), seen: Seen::nothing() }
    }

    /// The proposal that it is of.
    pub(crate) fn proposal(&self) -> Option<&Arc<Node>> {
        match &self.source {
            Source::Proposed(node) => Some(node),
            Source::Memory(_) | Source::Sealed(_) => None,
        }
    }

    /// The version in memory.
    #[inline]
    pub(crate) fn state(&self) -> Result<&VersionState, &Past> {
        match &self.source {
            Source::Memory(lease) => Ok(lease),
            Source::Proposed(node) => Ok(&node.state),
            Source::Sealed(past) => Err(past),
        }
    }

    /// Whether `older` is a version that this one was built on, or this one.
    fn descends_from(&self, older: &Self) -> bool {
        if !Arc::ptr_eq(&self.inner, &older.inner) || older.check().is_err() {
            return false;
        }
        let is_version = older.proposal().is_none_or(|node| node.is_accepted());
        match self.proposal() {
            Some(node) => node.descends_from(older.stamp()) || is_version && older.stamp() <= node.base(),
            None => is_version && older.stamp() <= self.stamp(),
        }
    }

    /// An error where the version was given up.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if let Source::Proposed(node) = &self.source {
            node.check()?;
        }
        self.seen.check(&self.inner.core.given_up, || (self.version(), self.stamp()))
    }

    /// The version number.
    pub fn version(&self) -> u64 {
        match &self.source {
            Source::Memory(lease) => lease.version,
            Source::Proposed(node) => node.state.version,
            Source::Sealed(lease) => lease.version(),
        }
    }

    /// The commit's identity.
    pub fn stamp(&self) -> Stamp {
        match &self.source {
            Source::Memory(lease) => lease.stamp,
            Source::Proposed(node) => node.state.stamp,
            Source::Sealed(lease) => Past::stamp(lease),
        }
    }

    /// The commit before.
    pub(crate) fn parent(&self) -> Option<Stamp> {
        match self.state() {
            Ok(state) => state.parent,
            Err(past) => past.sealed().and_then(|sealed| sealed.parent),
        }
    }

    /// The store's root at this version: that of the only namespace, or BLAKE3 over the sorted (name, root) pairs. Waits for it, or
    /// has it computed, where it is not known yet.
    ///
    /// Cost: nothing for a version whose root was computed; otherwise in proportion to what changed since the last
    /// version whose root is known.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], [`Error::RolledBack`], or damage met on the way.
    pub fn root(&self) -> Result<B256> {
        self.check()?;
        match &self.source {
            Source::Memory(lease) => {
                if lease.root.get().is_none() && !self.inner.core.is_scheduled(lease.version) {
                    self.inner.tell_root(RootMessage::want(Arc::clone(lease), Kept::Lease(lease.clone())));
                }
                lease.root.wait()
            }
            Source::Proposed(node) => {
                if node.state.root.get().is_none() {
                    self.inner.tell_root(RootMessage::want(node.state.clone(), Kept::Proposal(node.clone())));
                }
                node.state.root.wait()
            }
            Source::Sealed(past) => self.inner.core.sealed_root(past),
        }
    }

    /// The namespace `name` of this version.
    ///
    /// # Errors
    ///
    /// [`Error::NoNamespace`].
    pub fn namespace(&self, name: &str) -> Result<View<'_>> {
        let users = self.inner.core.user_namespaces();
        let space = users.iter().position(|namespace| namespace.name == name);
        let space = space.ok_or_else(|| no_namespace(name, users))?;
        Ok(View { snapshot: self, space })
    }

    /// The first namespace of this version.
    pub fn first(&self) -> View<'_> {
        View { snapshot: self, space: 0 }
    }

    /// See [`View::get`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.first().get(key)
    }

    /// See [`View::get_many`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>> {
        self.first().get_many(keys)
    }

    /// See [`View::prefetch`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn prefetch(&self, keys: &[Key<'_>]) -> Result<()> {
        self.first().prefetch(keys)
    }

    /// See [`View::account_many`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn account_many<A: AsRef<[u8]>>(&self, addresses: &[A]) -> Result<Vec<Option<Account>>> {
        self.first().account_many(addresses)
    }

    /// See [`View::slot_many`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn slot_many<A: AsRef<[u8]>>(&self, slots: &[(A, B256)]) -> Result<Vec<U256>> {
        self.first().slot_many(slots)
    }

    /// See [`View::account`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn account(&self, address: &[u8]) -> Result<Option<Account>> {
        self.first().account(address)
    }

    /// See [`View::slot`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn slot(&self, address: &[u8], slot: B256) -> Result<U256> {
        self.first().slot(address, slot)
    }

    /// See [`View::storage_root`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn storage_root(&self, address: &[u8]) -> Result<B256> {
        self.first().storage_root(address)
    }

    /// See [`View::get_bytes`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.first().get_bytes(key)
    }

    /// The code with this hash, if a batch up to this version brought it. Shares memory as [`View::get_bytes`] does.
    ///
    /// # Errors
    ///
    /// Damage met on the way.
    pub fn code(&self, hash: B256) -> Result<Option<Bytes>> {
        let space = self.inner.core.namespaces.len().saturating_sub(1);
        self.find_bytes(space, hash.as_slice())
    }

    /// See [`View::changed_since`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn changed_since(&self, key: Key<'_>, older: &Snapshot) -> Result<Since> {
        self.first().changed_since(key, older)
    }

    /// See [`View::prove`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn prove(&self, key: &[u8]) -> Result<KeyProof> {
        self.first().prove(key)
    }

    /// See [`View::prove_many`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn prove_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<ManyProof> {
        self.first().prove_many(keys)
    }

    /// See [`View::prove_account`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn prove_account(&self, address: &[u8], slots: &[B256]) -> Result<AccountProof> {
        self.first().prove_account(address, slots)
    }

    /// What stands at a key of the trie.
    #[inline]
    pub(crate) fn find(&self, space: usize, key: &[u8]) -> Result<Option<Found>> {
        self.check()?;
        let core = &self.inner.core;
        match self.state() {
            Ok(state) => core.graph.find(state.spaces.get(space).and_then(|s| s.root), key),
            Err(past) => {
                let shape = core.namespaces.get(space).map_or(Shape::Flat, |namespace| namespace.shape);
                past.read(&core.graph, shape, space, key)
            }
        }
    }

    /// The bytes at a key of the trie, sharing the log's map where they can.
    fn find_bytes(&self, space: usize, key: &[u8]) -> Result<Option<Bytes>> {
        self.check()?;
        let core = &self.inner.core;
        let root = match self.state() {
            Ok(state) => {
                let root = state.spaces.get(space).and_then(|space| space.root);
                return Ok(core.graph.find_bytes(root, key)?.map(|(_, bytes)| bytes));
            }
            Err(past) => past.run.root(space),
        };
        // What the end of the run shows holds if it is not younger than the version.
        if let Some(root) = root
            && let Some((stamp, bytes)) = core.graph.find_stored_bytes(root, key)?
            && stamp <= self.stamp().word()
        {
            return Ok(Some(bytes));
        }
        Ok(self.find(space, key)?.map(|found| found.value.into()))
    }

    /// What stands at many keys, in their order, added to `found`.
    fn find_many<K: AsRef<[u8]>>(
        &self,
        space: usize,
        keys: &[K],
        found: &mut Vec<Option<Found>>,
    ) -> Result<()> {
        self.check()?;
        match self.state() {
            Ok(state) => {
                let root = state.spaces.get(space).and_then(|space| space.root);
                self.inner.core.graph.find_many(root, keys, found)
            }
            Err(_) => {
                for key in keys {
                    found.push(self.find(space, key.as_ref())?);
                }
                Ok(())
            }
        }
    }

    /// In the middle of a run the pages of namespace `space` that the ways to `keys` go through, with the references beside them, where
    /// the run's table has what that needs: cheaper than [`overlay`](Self::overlay), and to be verified.
    pub(crate) fn overlay_on_ways(&self, space: usize, keys: &[&[u8]]) -> Result<Option<Overlay<'_>>> {
        self.check()?;
        let core = &self.inner.core;
        match (self.state(), core.namespaces.get(space)) {
            (Err(past), Some(namespace)) => past.overlay_on_ways(&core.graph, namespace, space, keys),
            _ => Ok(None),
        }
    }

    /// The pages of namespace `space`, for proofs and scans; all references are known where `hashed`.
    pub(crate) fn overlay(&self, space: usize, hashed: bool) -> Result<Overlay<'_>> {
        self.check()?;
        let core = &self.inner.core;
        let namespace = core.namespaces.get(space).ok_or(Error::Internal("a namespace that is not there"))?;
        let (overlay, known) = match self.state() {
            Ok(state) => {
                if hashed {
                    self.root()?;
                }
                let state = state.spaces.get(space);
                let root = state.and_then(|space| space.root);
                let overlay = Overlay::new(&core.graph, namespace.scheme, namespace.shape, root);
                (overlay, state.and_then(|space| space.hash.get().copied()))
            }
            Err(past) => (past.overlay(&core.graph, namespace, space)?, past.root(space)),
        };
        if hashed {
            let root = overlay.hash()?;
            if known.is_some_and(|known| known != root) {
                let what = format!("the root of `{}` at version {}", namespace.name, self.version());
                return Err(Error::Damaged { what });
            }
        }
        Ok(overlay)
    }
}
