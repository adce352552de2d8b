//! From a batch to a visible version.

use std::sync::{Arc, OnceLock};

use bristlecone_delta::Stamp;
use bristlecone_snapshot::pin;
use bristlecone_trie::update::{self, UpdateError};
use bristlecone_trie::{B256, Hint, Op, Page};

use super::{Core, Dead, add, lock};
use crate::batch::Prepared;
use crate::event::Event;
use crate::graph::Committing;
use crate::state::{Operations, SpaceState, VersionState};
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
    let guard = pin();
    let mut spaces = match latest {
        Some(latest) => latest.spaces.clone(),
        None => empty_spaces(core),
    };
    let mut applied: Vec<Committing<'_>> = Vec::with_capacity(batch.len());
    let mut changed = 0;
    let mut outcome = Ok(());
    for (at, prepared) in &batch {
        let at = usize::from(*at);
        let (Some(space), Some(namespace)) = (spaces.get_mut(at), core.namespaces.get(at)) else { continue };
        let hash = space.hash.get().copied();
        let committing = Committing::new(&core.graph, &guard, namespace.scheme, namespace.shape, hash);
        let ops = prepared.ops();
        match update_space(&committing, namespace.shape, space, &ops, identity.stamp) {
            Ok(keys) => changed += keys,
            Err(error) => outcome = Err(error),
        }
        applied.push(committing);
        if outcome.is_err() {
            break;
        }
    }
    // What was brought back is stored still, and may go again: where the batch left it as it is, nothing else lets it go.
    lock(&core.evictable).extend(applied.iter().flat_map(|committing| committing.filled.take()));
    if let Err(error) = outcome {
        applied.into_iter().for_each(Committing::undo);
        return Err(error);
    }
    let state = Arc::new(VersionState {
        version: identity.version,
        stamp: identity.stamp,
        parent: latest.map(|latest| latest.stamp),
        spaces,
        batch: Operations::new(batch),
        changed,
        durable: Arc::new(Event::new()),
        root: Arc::new(Event::new()),
        sealed: Arc::new(Event::new()),
        logged: OnceLock::new(),
    });
    bury(core, &state, &applied);
    core.enter(&state);
    core.versions.publish(state.version, state.stamp.word(), state.clone())?;
    add(&core.counters.commits, 1);
    add(&core.counters.changed_keys, changed);
    metrics::counter!("bristlecone_commits").increment(1);
    metrics::counter!("bristlecone_changed_keys").increment(changed);
    Ok(state)
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
    committing: &Committing<'_>,
    shape: bristlecone_trie::Shape,
    space: &mut SpaceState,
    ops: &[Op<'_>],
    stamp: Stamp,
) -> Result<u64> {
    let updated = update::update(&Mapped(committing), shape, space.root, ops, stamp.word());
    let updated = updated.map_err(|failure| failure.into_error(ops))?;
    if !committing.is_whole() {
        return Err(Error::Internal("the table of slots is full"));
    }
    if updated.root != space.root {
        space.root = updated.root;
        space.hash = Arc::new(OnceLock::new());
        if updated.root.is_none() {
            let _ = space.hash.set(committing.empty_root());
        }
    }
    Ok(updated.changed)
}

/// Gives what the commit took the place of its life: it was born with the commit that made it and died with this one. A
/// page that was loaded for this commit alone lived for nobody.
fn bury(core: &Core, state: &VersionState, applied: &[Committing<'_>]) {
    let died = state.stamp.word();
    let guard = pin();
    let mut lives = lock(&core.lives);
    for committing in applied {
        let loaded = committing.loaded.borrow();
        for id in loaded.iter() {
            lives.supersede(Dead::Page(*id), died, died, 0);
        }
        for id in committing.superseded.borrow().iter() {
            if let bristlecone_snapshot::Lookup::Block(bytes) = core.graph.slots.get(*id, &guard) {
                let born = Page::new(bytes).stamp();
                lives.supersede(Dead::Page(*id), born, died, bytes.len() as u64);
            }
        }
        for word in committing.dropped.borrow().iter() {
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
            Self::Refused(UpdateError::SlotWithoutAccount(at)) => {
                let key = ops.get(at).and_then(|op| op.key.get(..32)).unwrap_or_default();
                Error::SlotWithoutAccount { account: B256::try_from(key).unwrap_or_default().to_string() }
            }
            Self::Refused(error) => error.into(),
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

    fn superseded(&self, word: u64) {
        self.0.superseded(word);
    }

    fn dropped(&self, word: u64) {
        self.0.dropped(word);
    }
}
