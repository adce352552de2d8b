//! The way of a commit: applied and visible, logged and durable, hashed, sealed. Each step after the first has a thread of its own, and
//! they hand versions on in order; nothing walks back.

pub(crate) mod apply;
mod evict;
pub(crate) mod log;
pub(crate) mod proposal;
pub(crate) mod root;
pub(crate) mod seal;
mod tops;
mod trim;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bristlecone_delta::{Locator, Stamp};
use bristlecone_snapshot::{Lives, Lookup, SlotId, Versions, pin};
use bristlecone_trie::{B256, Item, Page};

use crate::forget::Forgetting;
use crate::given_up::GivenUp;
use crate::graph::Graph;
use crate::kept::{Kept, Retention};
use crate::options::{Backpressure, Namespace, RootSchedule};
use crate::reference::Reference;
use crate::runs::{Past, Runs};
use crate::state::{Latest, VersionState, store_root};
use crate::sync::{Condvar, Mutex, lock, wait, wait_for};
use crate::{Error, Result};

/// So many slots are looked at before they are retired.
const TOUCHED: usize = 32;

/// What is to be freed once nobody sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dead {
    /// One page.
    Page(SlotId),
    /// A page and all below it: a wiped storage.
    Tree(u64),
}

/// Counters for `stats`, and for nobody's decisions.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) changed_keys: AtomicU64,
    pub(crate) roots: AtomicU64,
    pub(crate) hashed_nodes: AtomicU64,
    pub(crate) hashed_bytes: AtomicU64,
    pub(crate) seals: AtomicU64,
    pub(crate) evicted_pages: AtomicU64,
    /// Proposals that are held, and what their batches take.
    pub(crate) proposals: AtomicU64,
    pub(crate) proposal_bytes: AtomicU64,
    /// What threads hold for themselves, in bytes: they say so when it changes.
    pub(crate) workspace_bytes: AtomicU64,
    pub(crate) chain_bytes: AtomicU64,
    pub(crate) sealing_bytes: AtomicU64,
    pub(crate) forgetting_bytes: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What all threads of a store share.
pub(crate) struct Core {
    pub(crate) graph: Graph,
    /// Those of the user, then the hidden one of code.
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) versions: Versions<Arc<VersionState>>,
    pub(crate) runs: Runs,
    /// Which versions are kept.
    pub(crate) kept: ArcSwap<Kept>,
    pub(crate) retention: Retention,
    pub(crate) forgetting: Forgetting,
    pub(crate) given_up: GivenUp,
    pub(crate) lives: Mutex<Lives<Dead>>,
    pub(crate) latest_durable: Latest,
    pub(crate) latest_sealed: Latest,
    pub(crate) roots: RootSchedule,
    pub(crate) seal_keys: u64,
    pub(crate) max_unsealed_keys: u64,
    max_unrooted: u64,
    pub(crate) backpressure: Backpressure,
    pub(crate) cache_bytes: u64,
    pub(crate) counters: Counters,
    /// Those who share the work on a large batch; nobody where one thread is all there may be.
    pub(crate) pool: Option<rayon::ThreadPool>,
    /// Roots of sealed versions that were computed when asked for.
    pub(crate) past_roots: Mutex<HashMap<Stamp, B256>>,
    /// Pages in memory that are stored too, the longest sealed first.
    pub(crate) evictable: Mutex<VecDeque<SlotId>>,
    failure: OnceLock<Arc<Error>>,
    /// Keys, and bytes of batches, of versions that are not sealed.
    unsealed: Mutex<Unsealed>,
    room: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unsealed {
    pub(crate) keys: u64,
    pub(crate) versions: u64,
    /// What those versions take with their batches, and what the pages take that they made.
    pub(crate) bytes: u64,
    pub(crate) page_bytes: u64,
    /// Versions that wait for their scheduled roots.
    pub(crate) unrooted: u64,
    /// When a commit that found no room last asked for a cut.
    pub(crate) urged: Option<Instant>,
}

/// A run is sealed once the pages that it made take this much: they cannot leave memory before. Twice as much may wait. With a large cache the number of its keys
/// comes first, but for mini-blocks, which copy a page or two a level for each key; a small one is held by this.
pub(crate) fn run_page_bytes(cache_bytes: u64) -> u64 {
    // At 1 GiB what 80,000 keys come to in a store of some millions (a third of it); small caches keep more for what is read.
    let of_large = (cache_bytes / 8 * 3).saturating_sub(43 << 20);
    (cache_bytes / 5).max(of_large).clamp(LEAST_PAGE_BYTES, MOST_PAGE_BYTES)
}

const LEAST_PAGE_BYTES: u64 = 2 << 20;
const MOST_PAGE_BYTES: u64 = 341 << 20;

/// So often a commit that finds no room asks for a cut.
const URGE_AGAIN: Duration = Duration::from_millis(10);

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("namespaces", &self.namespaces).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(
        graph: Graph,
        namespaces: Vec<Namespace>,
        runs: Runs,
        kept: Kept,
        options: &crate::Options,
    ) -> Result<Self> {
        let started = Instant::now();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|number| format!("bristlecone-{number}"));
        let pool = (options.threads > 1).then(|| pool.build()).transpose();
        let pool = pool.map_err(|error| Error::Io {
            op: "start threads for",
            path: "the pool".into(),
            source: Arc::new(std::io::Error::other(error)),
        })?;
        Ok(Self {
            pool,
            graph,
            namespaces,
            versions: Versions::new(move || started.elapsed()),
            latest_durable: Latest::new(runs.last_version()),
            latest_sealed: Latest::new(runs.last_version()),
            runs,
            kept: ArcSwap::from_pointee(kept),
            retention: options.retention,
            forgetting: Forgetting::default(),
            given_up: GivenUp::default(),
            lives: Mutex::new(Lives::new()),
            roots: options.roots,
            seal_keys: options.seal_keys,
            max_unsealed_keys: options.max_unsealed_keys,
            max_unrooted: options.max_unrooted,
            backpressure: options.backpressure,
            cache_bytes: options.cache_bytes,
            counters: Counters::default(),
            past_roots: Mutex::default(),
            evictable: Mutex::default(),
            failure: OnceLock::new(),
            unsealed: Mutex::default(),
            room: Condvar::new(),
        })
    }

    /// The namespaces that the user named.
    pub(crate) fn user_namespaces(&self) -> &[Namespace] {
        self.namespaces.split_last().map_or(&[], |(_, users)| users)
    }

    /// Whether the root of `version` is computed without being asked for.
    pub(crate) fn is_scheduled(&self, version: u64) -> bool {
        match self.roots {
            RootSchedule::Every(n) => version.is_multiple_of(n),
            RootSchedule::OnDemand => false,
        }
    }

    /// The first and the last version there is, pins apart.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        // A reader in another process than the writer's has none in memory.
        let last = self.versions.range().map(|range| *range.end()).or_else(|| self.runs.last_version())?;
        Some((self.oldest()?, last))
    }

    /// The error for a version that is not there.
    pub(crate) fn not_kept(&self, version: u64) -> Error {
        let Some((first, last)) = self.range() else { return Error::NoVersion };
        Error::VersionNotKept { version, first, last }
    }

    /// The oldest version that is kept, pins apart.
    pub(crate) fn oldest(&self) -> Option<u64> {
        // Memory first: versions leave it for the runs, where they are by then. The other way round some might be seen in neither.
        let in_memory = self.versions.range().map(|range| *range.start());
        let first = self.runs.first_version().or(in_memory)?;
        Some(first.max(self.kept.load().oldest))
    }

    /// Whether a version is kept, or would be if it were there.
    pub(crate) fn keeps(&self, version: u64) -> bool {
        let kept = self.kept.load();
        version >= kept.oldest || kept.pinned(version).is_some()
    }

    /// A sealed version that is kept.
    pub(crate) fn past(&self, version: u64) -> Option<Past> {
        let kept = self.kept.load();
        if version < kept.oldest { kept.pinned(version).cloned() } else { self.runs.find(version) }
    }

    /// What is kept once `last` is sealed.
    pub(crate) fn kept_with(&self, last: u64) -> Kept {
        let kept = self.kept.load();
        match self.retention {
            Retention::All => Kept::clone(&kept),
            Retention::Last(count) => kept.moved_to((last + 1).saturating_sub(count)),
        }
    }

    /// Lets hold what was made durable: versions that are not kept are found no more, and what only they needed goes, a little at a time.
    pub(crate) fn keep(&self, kept: Kept) {
        let oldest = kept.oldest.min(self.runs.last_version().unwrap_or(0));
        let before = self.kept.swap(Arc::new(kept));
        let runs = self.runs.now();
        // In this order: who finds a run after this finds it no longer kept, and whoever took a lease before is seen.
        self.runs.forget_before(oldest);
        let gone: Vec<_> = runs.iter().take_while(|run| run.last < oldest).cloned().collect();
        if !gone.is_empty() {
            self.forgetting.gone(gone);
        }
        if !before.pins.is_empty() {
            self.forgetting.look_again();
        }
    }

    /// Takes the store out of service for writing, for good.
    pub(crate) fn poison(&self, error: Error) -> Error {
        let error = match error {
            Error::Poisoned(first) => first,
            other => Arc::new(other),
        };
        if self.failure.set(error.clone()).is_ok() {
            tracing::error!(%error, "the store takes no more writes");
        }
        // Under the lock, so that nobody is between looking and waiting.
        drop(lock(&self.unsealed));
        self.room.notify_all();
        Error::Poisoned(self.failure.get().cloned().unwrap_or(error))
    }

    /// An error once the store is poisoned.
    pub(crate) fn check_alive(&self) -> Result<()> {
        match self.failure.get() {
            Some(failure) => Err(Error::Poisoned(failure.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn unsealed(&self) -> Unsealed {
        *lock(&self.unsealed)
    }

    /// Waits, or refuses, while too much waits for roots or to be sealed. In the second case the run is cut: nobody else may ask
    /// for it.
    pub(crate) fn wait_for_room(&self, urge: impl Fn()) -> Result<()> {
        let mut unsealed = lock(&self.unsealed);
        loop {
            self.check_alive()?;
            if unsealed.unrooted >= self.max_unrooted {
                if self.backpressure == Backpressure::Refuse {
                    return Err(Error::Unrooted { waiting: unsealed.unrooted, limit: self.max_unrooted });
                }
                unsealed = wait(&self.room, unsealed);
                continue;
            }
            let page_bytes = 2 * run_page_bytes(self.cache_bytes);
            let waiting = unsealed.page_bytes + unsealed.bytes;
            if unsealed.keys <= self.max_unsealed_keys && waiting <= page_bytes {
                return Ok(());
            }
            // Again and again: what was asked for may have come before the commit that it was meant for.
            if unsealed.urged.is_none_or(|urged| urged.elapsed() >= URGE_AGAIN) {
                unsealed.urged = Some(Instant::now());
                urge();
            }
            if self.backpressure == Backpressure::Refuse {
                return Err(if unsealed.keys > self.max_unsealed_keys {
                    Error::Busy { unsealed: unsealed.keys, limit: self.max_unsealed_keys }
                } else {
                    Error::UnsealedPages { bytes: waiting, limit: page_bytes }
                });
            }
            unsealed = wait_for(&self.room, &self.unsealed, unsealed, URGE_AGAIN);
        }
    }

    pub(crate) fn enter(&self, state: &VersionState) {
        let mut unsealed = lock(&self.unsealed);
        unsealed.keys += state.weight();
        unsealed.versions += 1;
        unsealed.bytes += state.unsealed_bytes();
        unsealed.page_bytes += state.page_bytes;
        unsealed.unrooted += u64::from(self.is_scheduled(state.version));
    }

    /// Counts a proposal that is there, or no longer one.
    pub(crate) fn proposed(&self, state: &VersionState, is_new: bool) {
        let Counters { proposals, proposal_bytes, .. } = &self.counters;
        for (counter, by) in [(proposals, 1), (proposal_bytes, state.unsealed_bytes())] {
            if is_new {
                counter.fetch_add(by, Ordering::Relaxed)
            } else {
                counter.fetch_sub(by, Ordering::Relaxed)
            };
        }
    }

    /// The scheduled root of a version is known, or never will be.
    pub(crate) fn rooted(&self) {
        let mut unsealed = lock(&self.unsealed);
        unsealed.unrooted = unsealed.unrooted.saturating_sub(1);
        drop(unsealed);
        self.room.notify_all();
    }

    /// What versions weigh that are not sealed, as they were counted: before any of it is forgotten.
    pub(crate) fn weigh(run: &[Arc<VersionState>]) -> Unsealed {
        Unsealed {
            keys: run.iter().map(|state| state.weight()).sum(),
            versions: run.len() as u64,
            bytes: run.iter().map(|state| state.unsealed_bytes()).sum(),
            page_bytes: run.iter().map(|state| state.page_bytes).sum(),
            ..Unsealed::default()
        }
    }

    /// What weighed so much is sealed, or never will be.
    pub(crate) fn leave(&self, run: &Unsealed) {
        let mut unsealed = lock(&self.unsealed);
        unsealed.keys = unsealed.keys.saturating_sub(run.keys);
        unsealed.versions = unsealed.versions.saturating_sub(run.versions);
        unsealed.bytes = unsealed.bytes.saturating_sub(run.bytes);
        unsealed.page_bytes = unsealed.page_bytes.saturating_sub(run.page_bytes);
        unsealed.urged = None;
        drop(unsealed);
        self.room.notify_all();
    }

    /// Frees what no snapshot and no later step needs, up to the stamp that is sealed.
    pub(crate) fn reclaim(&self, sealed: u64) {
        let live = self.versions.live_stamps();
        let dead = lock(&self.lives).collect(&live, sealed);
        let mut ids = Vec::with_capacity(dead.len());
        for dead in dead {
            match dead {
                Dead::Page(id) => ids.push(id),
                Dead::Tree(word) => self.tree(word, &mut ids),
            }
        }
        let slots = &self.graph.slots;
        slots.retire_all(ids.iter().enumerate().map(|(at, id)| {
            // Slots lie scattered: asked for some at a time they come together, and the exchanges need not wait for each.
            if at % TOUCHED == 0 {
                let ahead = ids.iter().skip(at).take(TOUCHED);
                std::hint::black_box(ahead.filter(|id| slots.locator(**id).is_some()).count());
            }
            *id
        }));
    }

    /// The slots of the page that `word` names and of all pages below it.
    fn tree(&self, word: u64, out: &mut Vec<SlotId>) {
        let guard = pin();
        let mut words = vec![word];
        while let Some(word) = words.pop() {
            let Some(Reference::Slot(id)) = Reference::from_word(word) else { continue };
            if let Lookup::Block(bytes) = self.graph.slots.get(id, &guard) {
                words.extend(Page::new(bytes).entries().filter_map(|entry| match entry.item {
                    Item::Child { reference } => Some(reference),
                    _ => None,
                }));
            }
            out.push(id);
        }
    }

    /// The store's root at a sealed version: as it was sealed, or computed from the log.
    pub(crate) fn sealed_root(&self, past: &Past) -> Result<B256> {
        if let Some(root) = past.sealed().and_then(|sealed| sealed.root) {
            return Ok(root);
        }
        if let Some(root) = lock(&self.past_roots).get(&past.stamp()) {
            return Ok(*root);
        }
        let users = self.user_namespaces();
        let mut roots = Vec::with_capacity(users.len());
        for (space, namespace) in users.iter().enumerate() {
            roots.push(match past.root(space) {
                Some(root) => root,
                None => past.overlay(&self.graph, namespace, space)?.hash()?,
            });
        }
        let root = store_root(users, &roots);
        lock(&self.past_roots).insert(past.stamp(), root);
        Ok(root)
    }

    /// Where a page is stored, if it is.
    pub(crate) fn locator(&self, word: u64) -> Option<Locator> {
        match Reference::from_word(word)? {
            Reference::Stored(locator) => Some(locator),
            Reference::Slot(id) => Locator::from_word(self.graph.slots.locator(id)?),
            Reference::Scratch(_) => None,
        }
    }
}
