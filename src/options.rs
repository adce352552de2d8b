//! How a store is opened.

use std::sync::Arc;

use bristlecone_delta::vfs::{DiskVfs, Vfs};
use bristlecone_trie::Shape;

use crate::{Error, Result, Retention};

/// Which hash rule a namespace has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemeKind {
    /// Exactly Ethereum's: RLP and Keccak-256.
    Ethereum,
    /// The native one: BLAKE3, branches hashed as binary trees (`docs/blake3-scheme.md`).
    Blake3,
}

impl SchemeKind {
    /// The name in messages and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ethereum => "ethereum",
            Self::Blake3 => "blake3",
        }
    }
}

/// Whether keys are hashed before they go into the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyMode {
    /// Keys are hashed, with Keccak-256 or BLAKE3 as the scheme has it: nobody can choose keys that make deep paths.
    Hashed,
    /// Keys go in as they are. Account and slot keys must then have 32 bytes.
    Raw,
}

/// A named trie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name: 1 to 64 bytes.
    pub name: String,
    /// Its hash rule.
    pub scheme: SchemeKind,
    /// Flat keys, or accounts that own storage.
    pub shape: Shape,
    /// Whether keys are hashed.
    pub keys: KeyMode,
}

impl Namespace {
    /// Accounts with storage under hashed keys, named `state`.
    pub fn accounts(scheme: SchemeKind) -> Self {
        Self { name: "state".into(), scheme, shape: Shape::Accounts, keys: KeyMode::Hashed }
    }

    /// Flat keys, hashed, named `state`.
    pub fn flat(scheme: SchemeKind) -> Self {
        Self { shape: Shape::Flat, ..Self::accounts(scheme) }
    }

    /// The same with another name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same with keys that go in as they are.
    #[must_use]
    pub fn raw(self) -> Self {
        Self { keys: KeyMode::Raw, ..self }
    }

    /// One word each for name, scheme, shape and keys.
    pub fn describe(&self) -> String {
        let shape = shape_name(self.shape);
        let keys = if self.keys == KeyMode::Hashed { "hashed" } else { "raw" };
        format!("{}: {} {shape} {keys}", self.name, self.scheme.name())
    }
}

pub(crate) fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Flat => "flat",
        Shape::Accounts => "accounts",
    }
}

/// Of which versions roots are computed without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSchedule {
    /// Of every n-th version (those whose number n divides); 1 is every version.
    Every(u64),
    /// Of none: when a root is waited for, and at the end of each sealed run.
    OnDemand,
}

/// What `commit` does when too much waits to be sealed, or for roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// It waits.
    Block,
    /// It answers [`Error::Busy`], [`Error::UnsealedPages`] or [`Error::Unrooted`].
    Refuse,
}

/// How a store is opened; see each method. [`Options::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) namespaces: Option<Vec<Namespace>>,
    pub(crate) first_version: u64,
    pub(crate) roots: RootSchedule,
    pub(crate) seal_keys: u64,
    pub(crate) max_unsealed_keys: u64,
    pub(crate) max_unrooted: u64,
    pub(crate) backpressure: Backpressure,
    pub(crate) retention: Retention,
    pub(crate) cache_bytes: u64,
    pub(crate) threads: usize,
    pub(crate) create: bool,
    pub(crate) segment_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) vfs: Arc<dyn Vfs>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// One namespace `state` with Ethereum accounts; a root for every version; a seal about every 80,000 changed keys.
    pub fn new() -> Self {
        Self {
            namespaces: None,
            first_version: 0,
            roots: RootSchedule::Every(1),
            seal_keys: 80_000,
            max_unsealed_keys: 160_000,
            max_unrooted: 4,
            backpressure: Backpressure::Block,
            retention: Retention::All,
            cache_bytes: 1 << 30,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            create: true,
            segment_bytes: 64 << 20,
            log_bytes: 16 << 20,
            vfs: Arc::new(DiskVfs),
        }
    }

    /// Adds a namespace; the first call replaces the default one. An existing directory has its own.
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespaces.get_or_insert_default().push(namespace);
        self
    }

    /// The number of the first commit of a new store. Default 0.
    #[must_use]
    pub fn first_version(self, first_version: u64) -> Self {
        Self { first_version, ..self }
    }

    /// Of which versions roots are computed. Default: every one.
    #[must_use]
    pub fn roots(self, roots: RootSchedule) -> Self {
        Self { roots, ..self }
    }

    /// Changed keys after which a run of versions is sealed. 1 seals every version. Default 80,000. A run is sealed earlier
    /// where it is old (a second, with 2,000 keys; a minute, whatever it has), or where its batches hold 256 MiB (half of `cache_bytes`, if that is less, but at least 8 MiB), or the pages
    /// that it made 341 MiB (with less than 1 GiB of `cache_bytes` three eighths of it less 43 MiB, or a fifth of it, whichever is more; but at least 2 MiB). The shorter runs are, the more a version takes on disk.
    #[must_use]
    pub fn seal_keys(self, seal_keys: u64) -> Self {
        Self { seal_keys, ..self }
    }

    /// Changed keys that may wait to be sealed before `commit` holds back. Default 160,000. It holds back too where their pages and batches take
    /// twice what has a run sealed early.
    #[must_use]
    pub fn max_unsealed_keys(self, max_unsealed_keys: u64) -> Self {
        Self { max_unsealed_keys, ..self }
    }

    /// Versions that may wait for their scheduled roots before `commit` holds back: how far roots may lag when commits come faster
    /// than they can be hashed. Versions without a scheduled root do not count. Default 4.
    #[must_use]
    pub fn max_unrooted(self, max_unrooted: u64) -> Self {
        Self { max_unrooted, ..self }
    }

    /// Whether `commit` waits or refuses when it holds back. Default: it waits.
    #[must_use]
    pub fn backpressure(self, backpressure: Backpressure) -> Self {
        Self { backpressure, ..self }
    }

    /// Which versions are kept. Default: all that [`prune`](crate::Store::prune) left. What went before is gone, whatever this says.
    #[must_use]
    pub fn retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Memory of the store, in bytes, above which pages that are stored leave it after each seal: pages, hashes, tables, batches and what threads
    /// work with count. Pages with child pages stay (some 4 % of a state), and so does what is not sealed yet. Default 1 GiB.
    #[must_use]
    pub fn cache_bytes(self, cache_bytes: u64) -> Self {
        Self { cache_bytes, ..self }
    }

    /// Threads that may work on one batch. Default: as many as there are cores.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// Whether a missing or empty directory becomes a new store. Default: yes.
    #[must_use]
    pub fn create(self, create: bool) -> Self {
        Self { create, ..self }
    }

    /// Size of a segment file in bytes. Default 64 MiB.
    #[must_use]
    pub fn segment_bytes(self, segment_bytes: u64) -> Self {
        Self { segment_bytes, ..self }
    }

    /// Size of a batch log file in bytes. Default 16 MiB.
    #[must_use]
    pub fn log_bytes(self, log_bytes: u64) -> Self {
        Self { log_bytes, ..self }
    }

    /// The file system; the real one by default.
    #[must_use]
    pub fn vfs(self, vfs: Arc<dyn Vfs>) -> Self {
        Self { vfs, ..self }
    }

    /// What of them is for the files of a store that is there.
    pub(crate) fn of_files(&self) -> bristlecone_delta::Options {
        bristlecone_delta::Options {
            segment_bytes: self.segment_bytes,
            log_bytes: self.log_bytes,
            ..Default::default()
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let bad = |option, reason: &str| Err(Error::BadOption { option, reason: reason.into() });
        if self.roots == RootSchedule::Every(0) {
            return bad("roots", "every 0 versions is no schedule");
        }
        if self.seal_keys == 0 {
            return bad("seal_keys", "must be at least 1");
        }
        if self.max_unrooted == 0 {
            return bad("max_unrooted", "must be at least 1");
        }
        if self.retention == Retention::Last(0) {
            return bad("retention", "the last version is always kept: keep at least 1");
        }
        if !(1..=1024).contains(&self.threads) {
            return bad("threads", "must be from 1 to 1,024");
        }
        if [self.segment_bytes, self.log_bytes].iter().any(|bytes| !(4096..=1 << 40).contains(bytes)) {
            return bad("segment_bytes and log_bytes", "must be from 4,096 bytes to 1 TiB");
        }
        if self.first_version > u64::MAX / 2 {
            return bad("first_version", "leaves no room for the versions after it");
        }
        let Some(namespaces) = &self.namespaces else { return Ok(()) };
        for (index, namespace) in namespaces.iter().enumerate() {
            if namespace.name.is_empty() || namespace.name.len() > 64 {
                return bad("namespace", "a name has 1 to 64 bytes");
            }
            if namespace.name.starts_with('\0') {
                return bad("namespace", "names that start with a zero byte are the store's own");
            }
            if namespaces.iter().take(index).any(|other| other.name == namespace.name) {
                return bad("namespace", "a name is given twice");
            }
        }
        if namespaces.len() > 1024 {
            return bad("namespace", "there are at most 1,024");
        }
        Ok(())
    }
}

/// The configuration as the store's identity keeps it.
///
/// ```text
/// first version u64 | namespaces u16 | per namespace: scheme u8 | shape u8 | keys u8 | name length u8 | name
/// ```
pub(crate) fn encode_config(first_version: u64, namespaces: &[Namespace]) -> Vec<u8> {
    let mut out = first_version.to_le_bytes().to_vec();
    out.extend_from_slice(&(namespaces.len() as u16).to_le_bytes());
    for namespace in namespaces {
        out.push(matches!(namespace.scheme, SchemeKind::Blake3) as u8);
        out.push(matches!(namespace.shape, Shape::Accounts) as u8);
        out.push(matches!(namespace.keys, KeyMode::Raw) as u8);
        out.push(namespace.name.len() as u8);
        out.extend_from_slice(namespace.name.as_bytes());
    }
    out
}

/// Reads [`encode_config`]; `None` for anything else.
pub(crate) fn decode_config(bytes: &[u8]) -> Option<(u64, Vec<Namespace>)> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    let (count, mut rest) = rest.split_first_chunk::<2>()?;
    let mut namespaces = Vec::new();
    for _ in 0..u16::from_le_bytes(*count) {
        let (&[scheme, shape, keys, len], after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_at_checked(usize::from(len))?;
        rest = after;
        namespaces.push(Namespace {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            scheme: *[SchemeKind::Ethereum, SchemeKind::Blake3].get(usize::from(scheme))?,
            shape: *[Shape::Flat, Shape::Accounts].get(usize::from(shape))?,
            keys: *[KeyMode::Hashed, KeyMode::Raw].get(usize::from(keys))?,
        });
    }
    (rest.is_empty() && !namespaces.is_empty()).then_some((u64::from_le_bytes(*first), namespaces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_golden_and_reads_back() {
        let namespaces =
            [Namespace::accounts(SchemeKind::Ethereum), Namespace::flat(SchemeKind::Blake3).named("x").raw()];
        let bytes = encode_config(5, &namespaces);
        assert_eq!(bytes, b"\x05\0\0\0\0\0\0\0\x02\0\0\x01\0\x05state\x01\0\x01\x01x");
        assert_eq!(decode_config(&bytes), Some((5, namespaces.to_vec())));
        for cut in 0..bytes.len() {
            assert_eq!(decode_config(&bytes[..cut]), None);
        }
    }
}
