//! Snapshots: immutable views of one commit.

use std::sync::Arc;

use bristlecone_delta::Stamp;
use bristlecone_snapshot::Lease;
use bristlecone_trie::page::ACCOUNT_BYTES;
use bristlecone_trie::{Account, B256, Shape, U256};
use bytes::Bytes;

use crate::batch::no_namespace;
use crate::given_up::Seen;
use crate::graph::{Found, WINDOW};
use crate::options::{KeyMode, Namespace, shape_name};
use crate::overlay::Overlay;
use crate::pipeline::proposal::Node;
use crate::pipeline::root::{Kept, RootMessage};
use crate::proof::{AccountProof, KeyProof, ManyProof};
use crate::runs::Past;
use crate::state::VersionState;
use crate::store::Inner;
use crate::trie_key::TrieKey;
use crate::{Error, Result};

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

/// One namespace of a [`Snapshot`].
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) space: usize,
}

impl View<'_> {
    /// The namespace.
    pub fn info(&self) -> &Namespace {
        #[expect(clippy::indexing_slicing, reason = "a view is made for a namespace that was found")]
        &self.snapshot.inner.core.namespaces[self.space]
    }

    /// The namespace's own root: in the `Ethereum` scheme exactly Ethereum's. Waits for it, or has it computed, where it is
    /// not known yet, as [`Snapshot::root`] does.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::root`].
    pub fn root(&self) -> Result<B256> {
        self.snapshot.check()?;
        if let Err(past) = self.snapshot.state()
            && let Some(root) = past.root(self.space)
        {
            return Ok(root);
        }
        self.snapshot.overlay(self.space, true)?.hash()
    }

    /// The key as the trie has it, if the namespace has `shape`.
    pub(crate) fn key(&self, shape: Shape, what: &'static str, key: &[u8]) -> Result<TrieKey> {
        self.has_shape(shape, what)?;
        TrieKey::new(self.info(), key)
    }

    fn has_shape(&self, shape: Shape, what: &'static str) -> Result<()> {
        let namespace = self.info();
        if namespace.shape != shape {
            let shape = shape_name(namespace.shape);
            return Err(Error::WrongShape { namespace: namespace.name.clone(), shape, what });
        }
        Ok(())
    }

    /// The value of a flat key. In memory: a descent under an epoch pin, with no lock and no shared counter; from the log:
    /// a search on the mapped records.
    ///
    /// # Errors
    ///
    /// [`Error::WrongShape`] in a namespace of accounts; [`Error::RolledBack`]; damage met on the way.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let trie_key = self.key(Shape::Flat, "a flat key", key)?;
        Ok(self.snapshot.find(self.space, trie_key.bytes(key))?.map(|found| found.value))
    }

    /// The value of a flat key as [`Bytes`]. What comes from the log shares its map and is not copied, whatever its size, and so does a value
    /// of more than 512 bytes in a page that is in memory and sealed; what is smaller there, or not sealed yet, is copied. Such bytes keep
    /// the map of a segment, not a page nor a version.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let trie_key = self.key(Shape::Flat, "a flat key", key)?;
        self.snapshot.find_bytes(self.space, trie_key.bytes(key))
    }

    /// The values of many flat keys, in their order. Keys whose pages are in memory are looked up side by side, so that they wait for
    /// it together: a key costs a fraction of what it does in [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut found = Vec::with_capacity(keys.len());
        let mut window = Vec::with_capacity(WINDOW);
        for keys in keys.chunks(WINDOW) {
            self.flat_window(keys, &mut window)?;
            found.extend(window.drain(..).map(|found| found.map(|found| found.value)));
        }
        Ok(found)
    }

    /// What stands at the flat keys of one window.
    fn flat_window<K: AsRef<[u8]>>(&self, keys: &[K], found: &mut Vec<Option<Found>>) -> Result<()> {
        if self.info().keys == KeyMode::Raw {
            keys.iter().try_for_each(|key| self.key(Shape::Flat, "a flat key", key.as_ref()).map(drop))?;
            return self.snapshot.find_many(self.space, keys, found);
        }
        self.has_shape(Shape::Flat, "a flat key")?;
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let trie_keys = TrieKey::many(self.info(), &keys)?;
        let bytes: Vec<&[u8]> = trie_keys.iter().zip(keys).map(|(trie, key)| trie.bytes(key)).collect();
        self.snapshot.find_many(self.space, &bytes, found)
    }

    /// Brings what `keys` lead to nearer: into the processor's caches what is in memory, into memory what is mapped of the log. For
    /// keys that will be asked for soon, all of them at once where [`get_many`](Self::get_many) does not serve, and best from a thread
    /// that has nothing else to do. It costs what reading them costs, changes no answer, and keeps nothing.
    ///
    /// # Errors
    ///
    /// As for reading them.
    pub fn prefetch(&self, keys: &[Key<'_>]) -> Result<()> {
        let mut found = Vec::with_capacity(WINDOW);
        for keys in keys.chunks(WINDOW) {
            let trie_keys = keys.iter().map(|key| self.trie_key(*key)).collect::<Result<Vec<_>>>()?;
            self.snapshot.find_many(self.space, &trie_keys, &mut found)?;
            found.clear();
        }
        Ok(())
    }

    /// The key of the trie.
    pub(crate) fn trie_key(&self, key: Key<'_>) -> Result<Vec<u8>> {
        Ok(match key {
            Key::Flat(key) => self.key(Shape::Flat, "a flat key", key)?.bytes(key).to_vec(),
            Key::Account(address) => self.account_key(address)?.to_vec(),
            Key::Slot(address, slot) => self.slot_key(address, slot)?.to_vec(),
        })
    }

    /// Many accounts, in the order of their addresses in the argument; as [`get_many`](Self::get_many) does it.
    ///
    /// # Errors
    ///
    /// As [`account`](Self::account).
    pub fn account_many<A: AsRef<[u8]>>(&self, addresses: &[A]) -> Result<Vec<Option<Account>>> {
        let keys = self.account_keys(&addresses.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        let mut found = Vec::with_capacity(keys.len());
        self.snapshot.find_many(self.space, &keys, &mut found)?;
        let decoded = found.into_iter().zip(&keys).map(|(found, key)| decoded_account(found, key));
        decoded.collect()
    }

    /// The values of many slots of any accounts, in their order; as [`get_many`](Self::get_many) does it.
    ///
    /// # Errors
    ///
    /// As [`slot`](Self::slot).
    pub fn slot_many<A: AsRef<[u8]>>(&self, slots: &[(A, B256)]) -> Result<Vec<U256>> {
        let accounts =
            self.account_keys(&slots.iter().map(|(address, _)| address.as_ref()).collect::<Vec<_>>())?;
        let own: Vec<&[u8]> = slots.iter().map(|(_, slot)| slot.as_slice()).collect();
        let own = TrieKey::many(self.info(), &own)?;
        let keys = accounts.iter().zip(own.iter().zip(slots)).map(|(account, (own, (_, slot)))| {
            let mut key = [0; 2 * ACCOUNT_BYTES];
            let (head, tail) = key.split_at_mut(ACCOUNT_BYTES);
            head.copy_from_slice(account);
            tail.copy_from_slice(own.bytes(slot.as_slice()));
            key
        });
        let keys: Vec<_> = keys.collect();
        let mut found = Vec::with_capacity(keys.len());
        self.snapshot.find_many(self.space, &keys, &mut found)?;
        found.into_iter().zip(slots).map(|(found, (_, slot))| decoded_slot(found, *slot)).collect()
    }

    fn account_keys(&self, addresses: &[&[u8]]) -> Result<Vec<[u8; ACCOUNT_BYTES]>> {
        self.has_shape(Shape::Accounts, "an account")?;
        let trie_keys = TrieKey::many(self.info(), addresses)?;
        let bytes = trie_keys.iter().zip(addresses).map(|(trie_key, address)| trie_key.bytes(address));
        bytes.map(|bytes| bytes.try_into().map_err(|_| Error::RawKey(bytes.len()))).collect()
    }

    fn account_key(&self, address: &[u8]) -> Result<[u8; ACCOUNT_BYTES]> {
        let trie_key = self.key(Shape::Accounts, "an account", address)?;
        let bytes = trie_key.bytes(address);
        bytes.try_into().map_err(|_| Error::RawKey(bytes.len()))
    }

    pub(crate) fn slot_key(&self, address: &[u8], slot: B256) -> Result<[u8; 2 * ACCOUNT_BYTES]> {
        let account = self.account_key(address)?;
        let trie_slot = self.trie_slot(slot)?;
        let mut key = [0; 2 * ACCOUNT_BYTES];
        let (head, tail) = key.split_at_mut(ACCOUNT_BYTES);
        head.copy_from_slice(&account);
        tail.copy_from_slice(trie_slot.as_slice());
        Ok(key)
    }

    /// A slot's own key in the trie.
    pub(crate) fn trie_slot(&self, slot: B256) -> Result<B256> {
        let key = TrieKey::new(self.info(), slot.as_slice())?;
        B256::try_from(key.bytes(slot.as_slice())).map_err(|_| Error::RawKey(slot.len()))
    }

    pub(crate) fn trie_account(&self, address: &[u8]) -> Result<B256> {
        self.account_key(address).map(B256::new)
    }

    /// An account, without its storage root.
    ///
    /// # Errors
    ///
    /// [`Error::WrongShape`] in a flat namespace; damage met on the way.
    pub fn account(&self, address: &[u8]) -> Result<Option<Account>> {
        let key = self.account_key(address)?;
        decoded_account(self.snapshot.find(self.space, &key)?, &key)
    }

    /// The value of a slot; zero where there is none, or no such account.
    ///
    /// # Errors
    ///
    /// As [`account`](Self::account).
    pub fn slot(&self, address: &[u8], slot: B256) -> Result<U256> {
        decoded_slot(self.snapshot.find(self.space, &self.slot_key(address, slot)?)?, slot)
    }

    /// The root of an account's storage; that of an empty trie where there is no such account. Costs a proof of the account.
    ///
    /// # Errors
    ///
    /// As [`account`](Self::account).
    pub fn storage_root(&self, address: &[u8]) -> Result<B256> {
        Ok(self.prove_account(address, &[])?.storage_root)
    }

    /// Whether `key` changed between the snapshot `older` and this one: one read here, and one there where the key
    /// is absent here. *Unchanged* is never said when the values differ.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn changed_since(&self, key: Key<'_>, older: &Snapshot) -> Result<Since> {
        self.snapshot.check()?;
        if !self.snapshot.descends_from(older) {
            return Ok(Since::NotAnAncestor);
        }
        let trie_key = self.trie_key(key)?;
        let changed = match self.snapshot.find(self.space, &trie_key)? {
            Some(found) => found.stamp > older.stamp().word(),
            None => older.find(self.space, &trie_key)?.is_some(),
        };
        Ok(if changed { Since::Changed } else { Since::Unchanged })
    }
}

fn decoded_account(found: Option<Found>, key: &[u8; ACCOUNT_BYTES]) -> Result<Option<Account>> {
    let Some(found) = found else { return Ok(None) };
    let account = Account::decode(&found.value);
    account.map(Some).ok_or_else(|| Error::Damaged { what: format!("the account {}", B256::new(*key)) })
}

fn decoded_slot(found: Option<Found>, slot: B256) -> Result<U256> {
    let Some(found) = found else { return Ok(U256::ZERO) };
    U256::try_from_be_slice(&found.value)
        .ok_or_else(|| Error::Damaged { what: format!("slot {slot} with {} bytes", found.value.len()) })
}
