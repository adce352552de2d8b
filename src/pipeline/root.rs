//! The hashing thread: roots by schedule and on demand, and the cutting of runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use bristlecone_snapshot::{Guard, Lease, pin};
use bristlecone_trie::B256;
use bristlecone_trie::levels::{self, Workspace};

use super::log::LogMessage;
use super::proposal::Node;
use super::seal::SealMessage;
use super::trim::Trimmer;
use super::{Core, add, run_page_bytes, tops};
use crate::event::Asked;
use crate::graph::{Pinned, hash_below_with, hash_with};
use crate::options::Namespace;
use crate::reference::Reference;
use crate::state::{VersionState, store_root};
use crate::sync::{Receiver, Sender, receive};
use crate::{Error, Result};

/// A run of at least [`SMALL_RUN`] keys is sealed once it is this old.
const SMALL_RUN_AGE: Duration = Duration::from_secs(1);
const SMALL_RUN: u64 = 2_000;
/// A run is sealed once its batches hold this much, where the cache is large: half of the cache otherwise, but not less than
/// the second. What of a run its end does not show goes into one record of the log, and records are bounded.
const RUN_BYTES: u64 = 256 << 20;
const LEAST_RUN_BYTES: u64 = 8 << 20;
/// So much of what hashing works with is kept from version to version, where the cache is large: a 16th of it otherwise.
const KEPT_WORKSPACE: u64 = 32 << 20;
/// Hashing fills all cores, and the log thread, which has a tenth of a millisecond to do, would wait for a slice of one of them. So it
/// goes first, where nothing else waits to be hashed; but a slow disk holds no root up.
const HEAD_START: Duration = Duration::from_micros(500);
/// So often it is looked how old the run is, where nothing comes.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Any run is sealed once it is this old.
const ANY_RUN_AGE: Duration = Duration::from_secs(60);

/// What the hashing thread is told.
pub(crate) enum RootMessage {
    /// The next version.
    Commit(Arc<VersionState>),
    /// Somebody waits for a root that is not on the schedule.
    Want(Arc<VersionState>, Kept, Asked<B256>),
    /// More waits to be sealed than is allowed: cut the run here.
    Cut,
    /// Seal everything so far and say so.
    Flush(Asked<()>),
    /// Something for the sealing thread, behind all that goes there.
    Forward(SealMessage),
    /// Nothing comes after this.
    Close,
}

/// What keeps the pages of a version whose root is wanted in memory.
#[expect(dead_code, reason = "they are held, not read")]
pub(crate) enum Kept {
    /// Nothing: they may have left it.
    No,
    Lease(Lease<Arc<VersionState>>),
    /// It is a proposal, which keeps them: nothing of it is logged.
    Proposal(Arc<Node>),
}

impl RootMessage {
    /// Asks for the root of `state`.
    pub(crate) fn want(state: Arc<VersionState>, kept: Kept) -> Self {
        let asked = Asked(state.root.clone());
        Self::Want(state, kept, asked)
    }
}

/// A run that grows.
struct Run {
    versions: Vec<Arc<VersionState>>,
    keys: u64,
    bytes: u64,
    page_bytes: u64,
    since: Instant,
}

/// Runs until it is told to close.
pub(crate) fn run(
    core: &Core,
    messages: &Receiver<RootMessage>,
    log: &Sender<LogMessage>,
    seals: &Sender<SealMessage>,
) {
    let mut run = Run { versions: Vec::new(), keys: 0, bytes: 0, page_bytes: 0, since: Instant::now() };
    let run_bytes = (core.cache_bytes / 2).clamp(LEAST_RUN_BYTES, RUN_BYTES);
    let mut trimmer = Trimmer::default();
    let mut hasher = Hasher { core, log, workspaces: Workspaces::default() };
    loop {
        match receive(messages, LOOK_AGAIN) {
            Ok(RootMessage::Commit(state)) => {
                if run.versions.is_empty() {
                    run.since = Instant::now();
                }
                if core.is_scheduled(state.version) {
                    if core.versions.range().is_some_and(|range| *range.end() == state.version) {
                        state.durable.wait_for(HEAD_START);
                    }
                    hasher.settle(&state);
                    core.rooted();
                }
                trimmer.trim(core, &state);
                run.keys += state.weight();
                run.bytes += state.sealed_bytes();
                run.page_bytes += state.page_bytes;
                run.versions.push(state);
                let is_full = run.keys >= core.seal_keys || run.bytes >= run_bytes;
                if is_full || run.page_bytes >= run_page_bytes(core.cache_bytes) {
                    cut(&mut hasher, &mut trimmer, &mut run, seals);
                }
            }
            Ok(RootMessage::Want(state, kept, _asked)) => hasher.settle_wanted(&state, &kept),
            Ok(RootMessage::Cut) => cut(&mut hasher, &mut trimmer, &mut run, seals),
            Ok(RootMessage::Flush(done)) => {
                cut(&mut hasher, &mut trimmer, &mut run, seals);
                let _ = seals.send(SealMessage::Flush(done));
            }
            Ok(RootMessage::Forward(message)) => {
                let _ = seals.send(message);
            }
            Ok(RootMessage::Close) | Err(RecvTimeoutError::Disconnected) => {
                // Those who ask from now on, and those in the queue, are told when it is dropped.
                return cut(&mut hasher, &mut trimmer, &mut run, seals);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        // Looked at after every message too: versions that keep coming must not put it off.
        let age = run.since.elapsed();
        let is_old = age >= ANY_RUN_AGE || age >= SMALL_RUN_AGE && run.keys >= SMALL_RUN;
        // Where a write failed nothing is sealed any more, and those who wait for it are to be told.
        if is_old || core.check_alive().is_err() {
            cut(&mut hasher, &mut trimmer, &mut run, seals);
        }
    }
}

/// Hands the run on to be sealed. Its last version needs a root, whatever the schedule says.
fn cut(hasher: &mut Hasher<'_>, trimmer: &mut Trimmer, run: &mut Run, seals: &Sender<SealMessage>) {
    if let Some(last) = run.versions.last() {
        hasher.settle(last);
        run.keys = 0;
        run.bytes = 0;
        run.page_bytes = 0;
        trimmer.cut(last);
        let _ = seals.send(SealMessage::Run(std::mem::take(&mut run.versions)));
    }
}

/// Computes roots, and tells those who wait for them and the log.
struct Hasher<'a> {
    core: &'a Core,
    log: &'a Sender<LogMessage>,
    workspaces: Workspaces,
}

impl Hasher<'_> {
    /// Computes the root of `state` and tells everybody.
    fn settle(&mut self, state: &VersionState) {
        if let Some(root) = self.compute(state) {
            let _ = self.log.send(LogMessage::Root(state.stamp, root));
        }
    }

    /// Computes the root of `state` and tells those who wait for it; what it came to, if it was not known.
    fn compute(&mut self, state: &VersionState) -> Option<B256> {
        if state.root.get().is_some() {
            return None;
        }
        let Self { core, workspaces, .. } = self;
        let root = core.check_alive().and_then(|()| compute(core, state, workspaces));
        let root = root.map_err(|error| core.poison(error));
        // One large commit must not be remembered for ever.
        if workspaces.size() as u64 > KEPT_WORKSPACE.min(core.cache_bytes / 16) {
            *workspaces = Workspaces::default();
        }
        core.counters.workspace_bytes.store(workspaces.size() as u64, Ordering::Relaxed);
        state.root.set(root.clone());
        root.ok()
    }

    /// The same for a version that nobody need have kept in memory: where it was sealed meanwhile, its root comes from the log.
    fn settle_wanted(&mut self, state: &VersionState, kept: &Kept) {
        match kept {
            Kept::Lease(_) => return self.settle(state),
            Kept::Proposal(_) => {
                self.compute(state);
                return;
            }
            Kept::No => {}
        }
        let core = self.core;
        match core.runs.find(state.version).filter(|past| past.stamp() == state.stamp) {
            Some(past) => state.root.set(core.sealed_root(&past)),
            // Neither in memory nor in the log.
            None => {
                let given_up = core.given_up.check(state.version, state.stamp);
                state.root.set(Err(given_up.err().unwrap_or_else(|| core.not_kept(state.version))));
            }
        }
    }
}

/// Commits of fewer changed keys are hashed and applied by one thread: sharing out costs some ten microseconds.
pub(crate) const SHARED_KEYS: u64 = 1_000;

/// Hashes every namespace of `state` that has no hash yet; the store's root.
pub(crate) fn compute(core: &Core, state: &VersionState, workspaces: &mut Workspaces) -> Result<B256> {
    let started = Instant::now();
    let mut roots = Vec::with_capacity(state.spaces.len());
    let mut tops = Vec::with_capacity(state.spaces.len());
    for (space, namespace) in state.spaces.iter().zip(&core.namespaces) {
        if let Some(hash) = space.hash.get() {
            roots.push(*hash);
            tops.push(None);
            continue;
        }
        if state.changed >= SHARED_KEYS {
            share(core, namespace, space.root, workspaces)?;
        }
        let guard = pin();
        let pages =
            Pinned { graph: &core.graph, guard: &guard, scheme: namespace.scheme, shape: namespace.shape };
        let hashed = hash_with(&pages, namespace.scheme, namespace.shape, space.root, &mut workspaces.first)?;
        keep(core, &workspaces.first, &guard)?;
        let _ = space.hash.set(hashed.root);
        roots.push(hashed.root);
        tops.push(tops::hashes(&pages, space.root, state.changed));
        add(&core.counters.hashed_nodes, hashed.nodes);
        add(&core.counters.hashed_bytes, hashed.bytes);
    }
    let _ = state.tops.set(tops);
    add(&core.counters.roots, 1);
    metrics::histogram!("bristlecone_root_seconds").record(started.elapsed().as_secs_f64());
    let users = core.user_namespaces();
    Ok(store_root(users, roots.get(..users.len()).unwrap_or_default()))
}

/// Has the pages below the root hashed by all threads of the pool, so that the root page is what remains.
fn share(core: &Core, namespace: &Namespace, root: Option<u64>, workspaces: &mut Workspaces) -> Result<()> {
    let Some(pool) = &core.pool else { return Ok(()) };
    let parts = {
        let guard = pin();
        let pages =
            Pinned { graph: &core.graph, guard: &guard, scheme: namespace.scheme, shape: namespace.shape };
        levels::split(&pages, root, pool.current_num_threads())
    };
    workspaces.others.resize_with(workspaces.others.len().max(parts.len()), Workspace::default);
    let mut outcomes: Vec<Result<()>> = parts.iter().map(|_| Ok(())).collect();
    pool.in_place_scope(|scope| {
        for ((part, workspace), outcome) in parts.iter().zip(&mut workspaces.others).zip(&mut outcomes) {
            scope.spawn(move |_| *outcome = hash_part(core, namespace, part, workspace));
        }
    });
    outcomes.into_iter().collect()
}

fn hash_part(core: &Core, namespace: &Namespace, part: &[u64], workspace: &mut Workspace) -> Result<()> {
    let guard = pin();
    let pages =
        Pinned { graph: &core.graph, guard: &guard, scheme: namespace.scheme, shape: namespace.shape };
    let hashed = hash_below_with(&pages, namespace.scheme, namespace.shape, part, workspace)?;
    add(&core.counters.hashed_nodes, hashed.nodes);
    add(&core.counters.hashed_bytes, hashed.bytes);
    keep(core, workspace, &guard)
}

/// Keeps the references that `workspace` holds beside their pages.
fn keep(core: &Core, workspace: &Workspace, guard: &Guard) -> Result<()> {
    for (word, refs) in workspace.pages() {
        let Some(Reference::Slot(id)) = Reference::from_word(word) else {
            return Err(Error::Internal("a hashed page is in no slot"));
        };
        core.graph.slots.set_companion(id, refs, guard);
    }
    Ok(())
}

/// Memory for hashing, of each thread.
#[derive(Debug, Default)]
pub(crate) struct Workspaces {
    first: Workspace,
    others: Vec<Workspace>,
}

impl Workspaces {
    /// Memory that they hold, in bytes.
    fn size(&self) -> usize {
        self.first.size() + self.others.iter().map(Workspace::size).sum::<usize>()
    }
}
