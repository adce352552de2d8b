//! The store: opening, committing, finding versions, closing.

use std::collections::HashMap;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bristlecone_delta::vfs::Vfs;
use bristlecone_delta::{LoggedBatch, SealedVersion, Stamp, decode_ops};
use bristlecone_trie::{B256, Shape};

use crate::batch::{CODE, Prepared};
use crate::catalog::Catalog;
use crate::event::{Asked, Event};
use crate::forget;
use crate::given_up::Seen;
use crate::graph::Graph;
use crate::kept::Kept;
use crate::options::{KeyMode, Namespace, SchemeKind, decode_config, encode_config};
use crate::pipeline::apply::{Identity, apply};
use crate::pipeline::log::LogMessage;
use crate::pipeline::proposal::Open;
use crate::pipeline::root::RootMessage;
use crate::pipeline::{Core, log, root, seal};
use crate::reference::Reference;
use crate::runs::Run;
use crate::state::{Operations, SpaceState, UntilSealed, VersionState, store_root};
use crate::sync::{Builder, JoinHandle, Mutex, MutexGuard, Sender, channel, lock};
use crate::{Batch, Commit, Error, Options, Result, Snapshot};

/// What is known of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// Its number.
    pub version: u64,
    /// The commit that it points to.
    pub stamp: Stamp,
    /// The store's root, if it was computed.
    pub root: Option<B256>,
    /// Whether it survives a power cut.
    pub durable: bool,
    /// Whether it is part of the durable trie.
    pub sealed: bool,
}

/// An open store. Clones are the same store; it closes when the last clone, commit and snapshot is gone, or by [`close`](Self::close).
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}

/// One who commits at a time.
pub(crate) struct Committer {
    opening: u32,
    counter: u64,
    pub(crate) next_version: u64,
    pub(crate) latest: Option<Arc<VersionState>>,
    pub(crate) open: Open,
}

impl Committer {
    /// A stamp that was never given.
    pub(crate) fn next_stamp(&mut self) -> Result<Stamp> {
        let stamp = Stamp::new(self.opening, self.counter + 1)
            .ok_or(Error::Internal("the stamps of this opening are used up"))?;
        self.counter += 1;
        Ok(stamp)
    }
}

struct Threads {
    to_log: Sender<LogMessage>,
    to_root: Sender<RootMessage>,
    log: JoinHandle<Result<()>>,
    root: JoinHandle<()>,
    seal: JoinHandle<Catalog>,
    forget: JoinHandle<()>,
}

pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: PathBuf,
    pub(crate) committer: Mutex<Committer>,
    threads: Mutex<Option<Threads>>,
    to_root: Sender<RootMessage>,
    pub(crate) to_log: Sender<LogMessage>,
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl Options {
    /// Opens the store in `dir`, or makes it.
    ///
    /// # Errors
    ///
    /// The directory is no store, is in use, has another configuration or a newer format, or is damaged.
    pub fn open(&self, dir: impl AsRef<Path>) -> Result<Store> {
        self.check()?;
        Store::open_with(self, dir.as_ref())
    }
}

impl Store {
    /// Opens the store in `dir` with the default options, or makes it.
    ///
    /// # Errors
    ///
    /// See [`Options::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(dir)
    }

    pub(crate) fn open_with(options: &Options, dir: &Path) -> Result<Self> {
        let wanted =
            options.namespaces.clone().unwrap_or_else(|| vec![Namespace::accounts(SchemeKind::Ethereum)]);
        let create = options.create.then(|| -> Result<_> {
            let config = encode_config(options.first_version, &wanted);
            Ok(bristlecone_delta::Create { id: random_id(dir)?, config })
        });
        let delta = bristlecone_delta::Options { create: create.transpose()?, ..options.of_files() };
        let mut opened = bristlecone_delta::open(options.vfs.clone(), dir, &delta)?;
        let (first_version, namespaces) = configured(&opened.identity, options, dir)?;
        let kept =
            opened.last_seal.as_ref().map(|(_, seal)| Kept::read(&opened.segments, seal)).transpose()?;
        let kept = kept.unwrap_or_default();
        let (catalog, runs, gone) = Catalog::open(options.vfs.clone(), dir, &opened, &kept)?;
        let graph = Graph::new(opened.segments.clone(), options.cache_bytes);
        let core = Arc::new(Core::new(graph, namespaces, runs, kept, options)?);
        let mut committer = Committer {
            opening: opened.opening,
            counter: 0,
            next_version: core.runs.last_version().map_or(first_version, |last| last + 1),
            latest: None,
            open: Open::default(),
        };
        committer.latest = sealed_state(&core)?;
        let states = replay(&core, &mut committer, &opened.tail, &opened.roots)?;
        let no_writer = || Error::Internal("opened for writing without a writer");
        let writer = opened.writer.take().ok_or_else(no_writer)?;
        let log_writer = opened.log.take().ok_or_else(no_writer)?;
        let compactor = opened.compactor.take().ok_or_else(no_writer)?;
        let graves = std::mem::take(&mut opened.graves);
        let covered = log_writer.sealed_position();
        let (to_log, log_rx) = channel();
        let (to_root, root_rx) = channel();
        let (to_seal, seal_rx) = channel();
        for state in states {
            let _ = to_root.send(RootMessage::Commit(state));
        }
        let spawn = |name: &str| Builder::new().name(format!("bristlecone-{name}"));
        let io = |source: std::io::Error| Error::Io {
            op: "start a thread for",
            path: dir.to_owned(),
            source: Arc::new(source),
        };
        let shared = core.clone();
        let log_thread = spawn("log").spawn(move || log::run(&shared, log_writer, &log_rx)).map_err(io)?;
        let (shared, log_tx) = (core.clone(), to_log.clone());
        let root_thread =
            spawn("root").spawn(move || root::run(&shared, &root_rx, &log_tx, &to_seal)).map_err(io)?;
        let (shared, log_tx) = (core.clone(), to_log.clone());
        let seal_thread = spawn("seal")
            .spawn(move || seal::run(&shared, writer, catalog, &seal_rx, &log_tx, covered))
            .map_err(io)?;
        let shared = core.clone();
        let forget_thread =
            spawn("forget").spawn(move || forget::run(&shared, compactor, graves, gone)).map_err(io)?;
        let threads = Threads {
            forget: forget_thread,
            to_log: to_log.clone(),
            to_root: to_root.clone(),
            log: log_thread,
            root: root_thread,
            seal: seal_thread,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                core,
                vfs: options.vfs.clone(),
                dir: dir.to_owned(),
                committer: Mutex::new(committer),
                threads: Mutex::new(Some(threads)),
                to_root,
                to_log,
                lock: Mutex::new(opened.lock.take()),
            }),
        })
    }

    /// A store that is read and never written: no thread works for it, and nobody can commit.
    pub(crate) fn without_writer(core: Core, vfs: Arc<dyn Vfs>, dir: &Path) -> Self {
        let committer =
            Committer { opening: 0, counter: 0, next_version: 0, latest: None, open: Open::default() };
        // Nobody listens at the other ends.
        let (to_log, _) = channel();
        let (to_root, _) = channel();
        Self {
            inner: Arc::new(Inner {
                core: Arc::new(core),
                vfs,
                dir: dir.to_owned(),
                committer: Mutex::new(committer),
                threads: Mutex::new(None),
                to_root,
                to_log,
                lock: Mutex::new(None),
            }),
        }
    }

    /// Makes `batch` the next version. When this returns the version is visible; the handle waits for the rest.
    ///
    /// Cost: in proportion to the batch. Commits from several threads come one after the other.
    ///
    /// # Errors
    ///
    /// The batch does not fit (nothing was committed), the store is poisoned or closed, or too much waits to be
    /// sealed and the options ask for a refusal.
    pub fn commit(&self, batch: Batch) -> Result<Commit> {
        let prepared = batch.prepare(&self.inner.core.namespaces)?;
        self.commit_prepared(prepared)
    }

    /// The same, of operations that are prepared.
    pub(crate) fn commit_prepared(&self, prepared: Vec<(u16, Prepared)>) -> Result<Commit> {
        let inner = &self.inner;
        inner.core.wait_for_room(|| inner.tell_root(RootMessage::Cut))?;
        let mut committer = inner.committer()?;
        let stamp = committer.next_stamp()?;
        let identity = Identity { version: committer.next_version, stamp };
        let state = apply(&inner.core, committer.latest.as_deref(), identity, prepared)?;
        inner.committed(&mut committer, &state);
        drop(committer);
        Ok(Commit { inner: inner.clone(), state })
    }

    /// A snapshot of the latest visible version.
    ///
    /// # Errors
    ///
    /// [`Error::NoVersion`] in an empty store.
    pub fn latest(&self) -> Result<Snapshot> {
        Inner::latest(&self.inner)
    }

    /// The number of the latest visible version.
    pub fn latest_version(&self) -> Option<u64> {
        self.inner.core.versions.range().map(|range| *range.end())
    }

    /// The number of the latest version that survives a power cut.
    pub fn latest_durable(&self) -> Option<u64> {
        self.inner.core.latest_durable.get()
    }

    /// The number of the latest version that is part of the durable trie.
    pub fn latest_sealed(&self) -> Option<u64> {
        self.inner.core.latest_sealed.get()
    }

    /// A snapshot of `version`.
    ///
    /// # Errors
    ///
    /// [`Error::VersionNotKept`], [`Error::NoVersion`].
    pub fn at(&self, version: u64) -> Result<Snapshot> {
        Inner::at(&self.inner, version)
    }

    /// All kept versions, oldest first.
    pub fn versions(&self) -> Vec<VersionInfo> {
        self.versions_in(..)
    }

    /// The kept versions in `range`, oldest first.
    pub fn versions_in(&self, range: impl RangeBounds<u64>) -> Vec<VersionInfo> {
        let core = &self.inner.core;
        // In this order: what is sealed in between is then in both, and not in neither.
        let leases: Vec<_> = core
            .versions
            .published()
            .into_iter()
            .filter_map(|(version, _)| core.versions.lease(version))
            .collect();
        let (kept, runs) = (core.kept.load_full(), core.runs.now());
        let info = |sealed: &SealedVersion| VersionInfo {
            version: sealed.version,
            stamp: sealed.stamp,
            root: sealed.root,
            durable: true,
            sealed: true,
        };
        let pinned = kept.pins.iter().filter(|pin| pin.version() < kept.oldest);
        let mut out: Vec<VersionInfo> = pinned.filter_map(|pin| pin.past.sealed().map(info)).collect();
        out.sort_by_key(|info| info.version);
        out.dedup_by_key(|info| info.version);
        let sealed = runs.iter().flat_map(|run| &run.seal.versions);
        out.extend(sealed.filter(|sealed| sealed.version >= kept.oldest).map(info));
        let sealed = out.last().map(|info| info.stamp);
        let newer = leases.iter().filter(|lease| sealed.is_none_or(|sealed| lease.stamp > sealed));
        for lease in newer.filter(|lease| lease.version >= kept.oldest) {
            out.push(VersionInfo {
                version: lease.version,
                stamp: lease.stamp,
                root: lease.root.get().and_then(Result::ok),
                durable: lease.durable.get().is_some_and(|durable| durable.is_ok()),
                sealed: false,
            });
        }
        out.retain(|info| range.contains(&info.version));
        out
    }

    /// The namespaces of the store.
    pub fn namespaces(&self) -> &[Namespace] {
        self.inner.core.user_namespaces()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Waits until everything that was committed before is durable, has the root of its last version, and is sealed.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`].
    pub fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    /// Flushes and marks a clean end, so that the next opening has nothing to do. Snapshots that are still around go on reading;
    /// commits get [`Error::Closed`]. Dropping the last handle does the same, but tells nobody of an error.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], or the error of the last write.
    pub fn close(self) -> Result<()> {
        self.inner.close()
    }
}

/// The first version and the namespaces that the store in `dir` was made with, the hidden one of code too. An error where `options` name others.
pub(crate) fn configured(
    identity: &bristlecone_delta::Identity,
    options: &Options,
    dir: &Path,
) -> Result<(u64, Vec<Namespace>)> {
    let damaged = || Error::Damaged { what: format!("the configuration of {}", dir.display()) };
    let (first_version, mut namespaces) = decode_config(&identity.config).ok_or_else(damaged)?;
    if let Some(asked) = options.namespaces.as_ref().filter(|asked| **asked != namespaces) {
        let list = |namespaces: &[Namespace]| {
            namespaces.iter().map(Namespace::describe).collect::<Vec<_>>().join(", ")
        };
        return Err(Error::ConfigMismatch {
            dir: dir.to_owned(),
            found: list(&namespaces),
            asked: list(asked),
        });
    }
    namespaces.push(Namespace {
        name: CODE.into(),
        scheme: SchemeKind::Blake3,
        shape: Shape::Flat,
        keys: KeyMode::Raw,
    });
    Ok((first_version, namespaces))
}

/// 16 bytes that no other store has: time, process and place, hashed.
fn random_id(dir: &Path) -> Result<[u8; 16]> {
    let mut hasher = blake3::Hasher::new_derive_key("bristlecone store id v1");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    hasher.update(&now.as_nanos().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(dir.as_os_str().as_encoded_bytes());
    let unique = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u64);
    hasher.update(&unique.to_le_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    Ok(id)
}

/// Publishes the last sealed version, whose pages are all stored.
fn sealed_state(core: &Core) -> Result<Option<Arc<VersionState>>> {
    let Some(run) = core.runs.last() else { return Ok(None) };
    let state = state_of(core, &run)?;
    core.versions.publish(state.version, state.stamp.word(), state.clone())?;
    Ok(Some(state))
}

/// The version at the end of `run`, whose pages are all stored.
pub(crate) fn state_of(core: &Core, run: &Run) -> Result<Arc<VersionState>> {
    let version = run.seal.versions.last().ok_or(Error::Internal("a run without a version"))?;
    let mut spaces = Vec::new();
    let mut roots = Vec::new();
    for space in &run.seal.namespaces {
        let hash = OnceLock::new();
        let _ = hash.set(space.root_node);
        roots.push(space.root_node);
        let word = space.root_page.map(|locator| Reference::Stored(locator).word());
        spaces.push(SpaceState { root: word, hash: Arc::new(hash) });
    }
    if spaces.len() != core.namespaces.len() {
        return Err(Error::Damaged { what: "the last seal, with another number of namespaces,".into() });
    }
    let users = core.user_namespaces();
    let root = store_root(users, roots.get(..users.len()).unwrap_or_default());
    Ok(Arc::new(VersionState {
        version: version.version,
        stamp: version.stamp,
        parent: version.parent,
        spaces,
        batch: Operations::default(),
        replaced: UntilSealed::default(),
        changed: 0,
        page_bytes: 0,
        durable: Arc::new(Event::done(())),
        root: Arc::new(Event::done(root)),
        tops: OnceLock::new(),
        sealed: Arc::new(Event::done(())),
        logged: OnceLock::new(),
    }))
}

/// The operations of a logged commit.
pub(crate) fn prepared(core: &Core, logged: &LoggedBatch) -> Result<Vec<(u16, Prepared)>> {
    let ops = decode_ops(&logged.payload)?;
    if ops.iter().any(|(at, _)| usize::from(*at) >= core.namespaces.len()) {
        let what = format!("the logged commit {} (an unknown namespace)", logged.version);
        return Err(Error::Damaged { what });
    }
    Ok(ops.iter().map(|(at, ops)| (*at, Prepared::from_ops(ops))).collect())
}

/// Applies the logged commits that no seal covers, under the versions and stamps they had.
fn replay(
    core: &Core,
    committer: &mut Committer,
    tail: &[LoggedBatch],
    roots: &[(Stamp, B256)],
) -> Result<Vec<Arc<VersionState>>> {
    let mut states = Vec::with_capacity(tail.len());
    let mut workspaces = root::Workspaces::default();
    let roots: HashMap<Stamp, B256> = roots.iter().copied().collect();
    for logged in tail {
        let damaged =
            |what: &str| Error::Damaged { what: format!("the logged commit {} ({what})", logged.version) };
        if logged.version != committer.next_version
            || logged.parent != committer.latest.as_ref().map(|s| s.stamp)
        {
            return Err(damaged("it does not follow the one before"));
        }
        let prepared = prepared(core, logged)?;
        let identity = Identity { version: logged.version, stamp: logged.stamp };
        let state = apply(core, committer.latest.as_deref(), identity, prepared)?;
        let _ = state.logged.set(logged.end);
        state.durable.set(Ok(()));
        core.latest_durable.set(state.version);
        if let Some(known) = roots.get(&logged.stamp) {
            // It was computed once: what is computed now must be the same.
            let root = root::compute(core, &state, &mut workspaces)?;
            if root != *known {
                return Err(damaged("its root is not the one that was logged"));
            }
            state.root.set(Ok(root));
        }
        committer.next_version = logged.version + 1;
        committer.latest = Some(state.clone());
        states.push(state);
    }
    Ok(states)
}

impl Inner {
    pub(crate) fn tell_root(&self, message: RootMessage) {
        // Where nobody takes it any more, who waits for it is told by its `Asked`.
        let _ = self.to_root.send(message);
    }

    /// The right to commit.
    pub(crate) fn committer(&self) -> Result<MutexGuard<'_, Committer>> {
        let committer = lock(&self.committer);
        if lock(&self.threads).is_none() { Err(Error::Closed) } else { Ok(committer) }
    }

    /// Hands on what was published.
    pub(crate) fn committed(&self, committer: &mut Committer, state: &Arc<VersionState>) {
        committer.next_version = state.version + 1;
        committer.latest = Some(state.clone());
        // First, so that the root thread, once it has the version, finds no proposal beside it that is open.
        committer.open.settle(state.stamp);
        let _ = self.to_log.send(LogMessage::Commit(state.clone()));
        self.tell_root(RootMessage::Commit(state.clone()));
    }

    /// The number of this opening.
    pub(crate) fn opening(&self) -> u32 {
        lock(&self.committer).opening
    }

    pub(crate) fn latest(inner: &Arc<Self>) -> Result<Snapshot> {
        let seen = Seen::now(&inner.core.given_up);
        let lease = inner.core.versions.latest().ok_or(Error::NoVersion)?;
        Ok(Snapshot::in_memory(inner.clone(), lease, seen))
    }

    pub(crate) fn at(inner: &Arc<Self>, version: u64) -> Result<Snapshot> {
        let core = &inner.core;
        let seen = Seen::now(&core.given_up);
        // A version is found in memory until it is sealed, and in the log from then on; it is never in neither.
        if let Some(lease) = core.versions.lease(version).filter(|_| core.keeps(version)) {
            return Ok(Snapshot::in_memory(inner.clone(), lease, seen));
        }
        while let Some(past) = core.past(version) {
            let stamp = past.stamp();
            let full = Error::Internal("the table of leases is full");
            let lease = core.versions.hold(version, stamp.word(), past).ok_or(full)?;
            // Between the finding and the lease it may have been given up; from here on whoever would sees the lease.
            if core.past(version).is_some_and(|again| again.stamp() == stamp) {
                return Ok(Snapshot::sealed(inner.clone(), lease, seen));
            }
        }
        Err(core.not_kept(version))
    }

    pub(crate) fn flush(&self) -> Result<()> {
        self.core.check_alive()?;
        if lock(&self.threads).is_none() {
            return Err(Error::Closed);
        }
        let done = Arc::new(Event::new());
        self.tell_root(RootMessage::Flush(Asked(done.clone())));
        done.wait()
    }

    /// Ends the threads one after the other, each with nothing left to do.
    pub(crate) fn close(&self) -> Result<()> {
        let committer = lock(&self.committer);
        let Some(threads) = lock(&self.threads).take() else { return Ok(()) };
        drop(committer);
        let panicked = Error::Internal("a thread of the store panicked");
        self.core.forgetting.stop();
        let forget = threads.forget.join().map_err(|_| panicked.clone());
        let _ = threads.to_root.send(RootMessage::Close);
        let root = threads.root.join().map_err(|_| panicked.clone());
        let catalog = threads.seal.join().map_err(|_| panicked.clone());
        let _ = threads.to_log.send(LogMessage::Close);
        let log = threads.log.join().map_err(|_| panicked);
        let catalog = catalog.and_then(Catalog::close);
        *lock(&self.lock) = None;
        root.and(catalog).and(log?).and(forget)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store could not be closed cleanly");
        }
    }
}
