//! From a batch to a visible version.

use std::sync::{Arc, OnceLock};

use bristlecone_delta::Stamp;
use bristlecone_snapshot::pin;
use bristlecone_trie::update::shared::{self, Done};
use bristlecone_trie::update::{self, UpdateError, Updated};
use bristlecone_trie::{Hint, Op, Page};

use super::root::SHARED_KEYS;
use super::{Core, Dead, add};
use crate::batch::Prepared;
use crate::event::Event;
use crate::graph::{Committing, PageKind, Touched};
use crate::options::Namespace;
use crate::state::{Operations, Replaced, SpaceState, UntilSealed, VersionState};
use crate::sync::lock;
use crate::{Error, Result};

/// What identifies a commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) version: u64,
    pub(crate) stamp: Stamp,
}

/// Applies `batch` to `latest` and publishes the result. Durability and root are for those who come after.
///
/// # Errors
///
/// The batch does not fit, or a page cannot be loaded: nothing was changed.
pub(crate) fn apply(
    core: &Core,
    latest: Option<&VersionState>,
    identity: Identity,
    batch: Vec<(u16, Prepared)>,
) -> Result<Arc<VersionState>> {
    let (state, applied) = build(core, latest, identity, batch)?;
    publish(core, &state, &applied)?;
    Ok(state)
}

/// Applies `batch` to `parent`. Nobody sees the result yet; it says what it did to slots, for [`publish`], [`bury`] or [`Touched::undo`].
///
/// # Errors
///
/// As [`apply`].
pub(crate) fn build(
    core: &Core,
    parent: Option<&VersionState>,
    identity: Identity,
    batch: Vec<(u16, Prepared)>,
) -> Result<(Arc<VersionState>, Vec<Touched>)> {
    let mut spaces = match parent {
        Some(parent) => parent.spaces.clone(),
        None => empty_spaces(core),
    };
    let mut applied: Vec<Touched> = Vec::with_capacity(batch.len());
    let mut changed = 0;
    let mut outcome = Ok(());
    for (at, prepared) in &batch {
        let at = usize::from(*at);
        let (Some(space), Some(namespace)) = (spaces.get_mut(at), core.namespaces.get(at)) else { continue };
        match update_space(core, namespace, space, &prepared.ops(), identity.stamp, &mut applied) {
            Ok(keys) => changed += keys,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    // What was brought back is stored still, and may go again: where the batch left it as it is, nothing else lets it go.
    lock(&core.evictable).extend(applied.iter_mut().flat_map(|touched| std::mem::take(&mut touched.filled)));
    if let Err(error) = outcome {
        applied.into_iter().for_each(|touched| touched.undo(&core.graph));
        return Err(error);
    }
    let state = Arc::new(VersionState {
        version: identity.version,
        stamp: identity.stamp,
        parent: parent.map(|parent| parent.stamp),
        spaces,
        batch: Operations::new(batch),
        replaced: UntilSealed::new(replaced(&applied)),
        changed,
        page_bytes: applied.iter().map(|touched| touched.inserted_bytes).sum(),
        durable: Arc::new(Event::new()),
        root: Arc::new(Event::new()),
        tops: OnceLock::new(),
        sealed: Arc::new(Event::new()),
        logged: OnceLock::new(),
    });
    Ok((state, applied))
}

/// Makes `state` the latest version.
pub(super) fn publish(core: &Core, state: &Arc<VersionState>, applied: &[Touched]) -> Result<()> {
    bury(core, state, applied);
    core.enter(state);
    core.versions.publish(state.version, state.stamp.word(), state.clone())?;
    add(&core.counters.commits, 1);
    add(&core.counters.changed_keys, state.changed);
    metrics::counter!("bristlecone_commits").increment(1);
    metrics::counter!("bristlecone_changed_keys").increment(state.changed);
    Ok(())
}

/// The state of each namespace before the first version.
pub(crate) fn empty_spaces(core: &Core) -> Vec<SpaceState> {
    let empty = |scheme| {
        let hash = OnceLock::new();
        let _ = hash.set(crate::state::empty_root(scheme));
        SpaceState { root: None, hash: Arc::new(hash) }
    };
    core.namespaces.iter().map(|namespace| empty(namespace.scheme)).collect()
}

fn update_space(
    core: &Core,
    namespace: &Namespace,
    space: &mut SpaceState,
    ops: &[Op<'_>],
    stamp: Stamp,
    applied: &mut Vec<Touched>,
) -> Result<u64> {
    let updated = update(core, namespace, space, ops, stamp, applied);
    let updated = updated.map_err(|failure| failure.into_error(ops))?;
    if !applied.iter().all(Touched::is_whole) {
        return Err(Error::Internal("the table of slots is full"));
    }
    if updated.root != space.root {
        space.root = updated.root;
        space.hash = Arc::new(OnceLock::new());
        if updated.root.is_none() {
            let _ = space.hash.set(crate::state::empty_root(namespace.scheme));
        }
    }
    Ok(updated.changed)
}

/// Applies `ops`, on all threads of the pool where there are many. What was touched goes to `applied`, also on an error.
fn update(
    core: &Core,
    namespace: &Namespace,
    space: &SpaceState,
    ops: &[Op<'_>],
    stamp: Stamp,
    applied: &mut Vec<Touched>,
) -> Result<Updated, Failure> {
    let shape = namespace.shape;
    let hash = space.hash.get().copied();
    let pool = core.pool.as_ref().filter(|_| ops.len() as u64 >= SHARED_KEYS);
    // The first pin outlasts those of the others: what they saw stays.
    let guard = pin();
    let committing = || Committing::new(&core.graph, &guard, namespace.scheme, shape, hash);
    let (mine, pool) = (committing(), pool);
    let shares = match pool {
        Some(pool) => shared::split(&Mapped(&mine), shape, space.root, ops, pool.current_num_threads()),
        None => Ok(None),
    };
    let (Ok(Some(shares)), Some(root), Some(pool)) = (&shares, space.root, pool) else {
        let updated =
            shares.and_then(|_| update::update(&Mapped(&mine), shape, space.root, ops, stamp.word()));
        applied.push(mine.into_touched());
        return updated;
    };
    let mut parts: Vec<_> = shares.iter().map(|_| (Touched::default(), Ok(Done::default()))).collect();
    pool.in_place_scope(|scope| {
        for (share, part) in shares.iter().zip(&mut parts) {
            scope.spawn(move |_| {
                let guard = pin();
                let committing = Committing::new(&core.graph, &guard, namespace.scheme, shape, hash);
                let done = shared::apply(&Mapped(&committing), shape, ops, stamp.word(), share);
                *part = (committing.into_touched(), done);
            });
        }
    });
    let (touched, done): (Vec<Touched>, Vec<_>) = parts.into_iter().unzip();
    applied.extend(touched);
    let done: Result<Vec<Done>, Failure> = done.into_iter().collect();
    let updated = done.and_then(|done| shared::join(&Mapped(&mine), shape, root, stamp.word(), &done));
    applied.push(mine.into_touched());
    updated
}

/// What the commit took the place of.
fn replaced(applied: &[Touched]) -> Replaced {
    let mut out = Replaced::default();
    out.leaves.reserve_exact(applied.iter().map(|touched| touched.superseded.len()).sum());
    for touched in applied {
        for page in &touched.superseded {
            match page.kind {
                PageKind::Root => out.roots.push(page.id),
                PageKind::Inner => out.inner.push((page.id, page.born)),
                PageKind::Leaf => out.leaves.push(page.id),
            }
        }
        out.records.extend(&touched.superseded_records);
        out.trees.extend(&touched.dropped);
        out.added.extend(&touched.added);
    }
    out
}

/// Gives what the commit took the place of its life: it was born with the commit that made it and died with this one. A
/// page that was loaded for this commit alone lived for nobody.
pub(crate) fn bury(core: &Core, state: &VersionState, applied: &[Touched]) {
    let died = state.stamp.word();
    let mut lives = lock(&core.lives);
    for touched in applied {
        for id in &touched.loaded {
            lives.supersede(Dead::Page(*id), died, died, 0);
        }
        for page in &touched.superseded {
            lives.supersede(Dead::Page(page.id), page.born, died, u64::from(page.bytes));
        }
        for word in &touched.dropped {
            lives.supersede(Dead::Tree(*word), 0, died, 0);
        }
    }
}

/// [`Committing`] with errors that remember which operation was refused.
struct Mapped<'a, 'g>(&'a Committing<'g>);

enum Failure {
    Refused(UpdateError),
    Other(Error),
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    fn into_error(self, ops: &[Op<'_>]) -> Error {
        match self {
            Self::Refused(error) => Error::refused(ops, error),
            Self::Other(error) => error,
        }
    }
}

impl update::Arena for Mapped<'_, '_> {
    type Error = Failure;

    fn open(&self, word: u64, parent: Option<(u64, usize)>) -> Result<(u64, Page<'_>), Failure> {
        self.0.open(word, parent).map_err(Failure::Other)
    }

    fn hint(&self, word: u64, hint: Hint) {
        self.0.hint(word, hint);
    }

    fn insert(&self, page: &[u8]) -> u64 {
        self.0.insert(page)
    }

    fn added(&self, key: &[u8]) {
        self.0.added(key);
    }

    fn superseded(&self, word: u64) {
        self.0.superseded(word);
    }

    fn dropped(&self, word: u64) {
        self.0.dropped(word);
    }
}
