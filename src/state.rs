//! What a version is, in memory.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bristlecone_delta::{Locator, LogPosition, Stamp};
use bristlecone_snapshot::SlotId;
use bristlecone_trie::B256;

use crate::batch::Prepared;
use crate::event::Event;
use crate::options::{Namespace, SchemeKind};
use crate::sync::{AtomicU64, Mutex, lock};

/// One namespace of a version.
#[derive(Clone, Debug)]
pub(crate) struct SpaceState {
    /// The word of its root page; `None` for an empty trie.
    pub(crate) root: Option<u64>,
    /// Its root hash, once it is known; shared by all versions in which the namespace is the same.
    pub(crate) hash: Arc<OnceLock<B256>>,
}

/// What of a commit goes once it is sealed, however long somebody holds the version.
#[derive(Debug, Default)]
pub(crate) struct UntilSealed<T>(Mutex<Arc<T>>);

/// The operations of a commit, by namespace.
pub(crate) type Operations = UntilSealed<Vec<(u16, Prepared)>>;

/// Pages that have no place in a version and had one in its parent, by their slots or their records, the roots of trees that it
/// dropped whole, and the keys that it added.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    /// Those without child pages.
    pub(crate) leaves: Vec<SlotId>,
    /// Those with, and the stamps of the commits that made them.
    pub(crate) inner: Vec<(SlotId, u64)>,
    /// Root pages.
    pub(crate) roots: Vec<SlotId>,
    pub(crate) records: Vec<Locator>,
    pub(crate) trees: Vec<u64>,
    /// The marks of keys that came.
    pub(crate) added: Vec<u64>,
}

impl Replaced {
    /// All pages that are in slots.
    pub(crate) fn pages(&self) -> impl Iterator<Item = SlotId> {
        let inner = self.inner.iter().map(|(id, _)| *id);
        self.leaves.iter().copied().chain(inner).chain(self.roots.iter().copied())
    }

    /// Memory that it takes besides its own size, in bytes.
    fn size(&self) -> usize {
        let words =
            self.leaves.capacity() + self.roots.capacity() + self.records.capacity() + self.trees.capacity();
        (words + self.added.capacity()) * size_of::<u64>()
            + self.inner.capacity() * size_of::<(SlotId, u64)>()
    }
}

impl<T: Default> UntilSealed<T> {
    pub(crate) fn new(what: T) -> Self {
        Self(Mutex::new(Arc::new(what)))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        lock(&self.0).clone()
    }

    pub(crate) fn forget(&self) {
        *lock(&self.0) = Arc::default();
    }
}

/// The hashes of the top of a trie ([`bristlecone_trie::tops`]).
pub(crate) type TopHashes = Box<[[u8; 32]]>;

/// A committed version whose pages are in memory.
#[derive(Debug)]
pub(crate) struct VersionState {
    pub(crate) version: u64,
    pub(crate) stamp: Stamp,
    pub(crate) parent: Option<Stamp>,
    pub(crate) spaces: Vec<SpaceState>,
    /// The operations that made it, until they are sealed.
    pub(crate) batch: Operations,
    /// What it took the place of.
    pub(crate) replaced: UntilSealed<Replaced>,
    /// Keys that it changed.
    pub(crate) changed: u64,
    /// What the pages take that it made, in bytes: memory until it is sealed, whether later versions superseded them or not.
    pub(crate) page_bytes: u64,
    pub(crate) durable: Arc<Event<()>>,
    pub(crate) root: Arc<Event<B256>>,
    /// For each namespace the hashes below its root page, where they will be of use once this is sealed.
    pub(crate) tops: OnceLock<Vec<Option<TopHashes>>>,
    pub(crate) sealed: Arc<Event<()>>,
    /// Where the batch log stands behind it.
    pub(crate) logged: OnceLock<LogPosition>,
}

impl VersionState {
    /// What it counts where work is bounded: the keys that it changed, and 1 for a version that changed none.
    pub(crate) fn weight(&self) -> u64 {
        self.changed.max(1)
    }

    /// What it adds at most to the records of its run, about: its batch, and a root of each namespace.
    pub(crate) fn sealed_bytes(&self) -> u64 {
        (self.batch_bytes() + self.spaces.len() * 40) as u64
    }

    fn batch_bytes(&self) -> usize {
        self.batch.get().iter().map(|(_, prepared)| prepared.size()).sum()
    }

    /// What it takes until it is sealed, pages apart.
    pub(crate) fn unsealed_bytes(&self) -> u64 {
        (size_of::<Self>() + self.batch_bytes() + self.replaced.get().size()) as u64
    }
}

/// The root of a store: that of its only namespace, or BLAKE3 over the sorted (name, root) pairs.
///
/// With several namespaces the hash is BLAKE3 in its key derivation mode, with the context string below, over, for
/// each namespace in order of names: the length of the name as one byte, the name, the 32 bytes of the root.
pub(crate) fn store_root(namespaces: &[Namespace], roots: &[B256]) -> B256 {
    if let ([_], [root]) = (namespaces, roots) {
        return *root;
    }
    let mut pairs: Vec<(&str, &B256)> =
        namespaces.iter().map(|namespace| &namespace.name[..]).zip(roots).collect();
    pairs.sort_unstable();
    let mut hasher = blake3::Hasher::new_derive_key("bristlecone store root v1");
    for (name, root) in pairs {
        hasher.update(&[name.len() as u8]);
        hasher.update(name.as_bytes());
        hasher.update(root.as_slice());
    }
    B256::new(*hasher.finalize().as_bytes())
}

/// A scheme's root of an empty trie.
pub(crate) fn empty_root(scheme: SchemeKind) -> B256 {
    use bristlecone_trie::Scheme;
    match scheme {
        SchemeKind::Ethereum => crate::Ethereum::empty_root(),
        SchemeKind::Blake3 => crate::Blake3::empty_root(),
    }
}

/// A number that grows and is read by anybody; `u64::MAX` stands for none.
#[derive(Debug)]
pub(crate) struct Latest(AtomicU64);

impl Latest {
    pub(crate) fn new(value: Option<u64>) -> Self {
        Self(AtomicU64::new(value.unwrap_or(u64::MAX)))
    }

    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|value| *value != u64::MAX)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
}
