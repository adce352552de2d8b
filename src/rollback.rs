//! Going back to a version, for good.
//!
//! Everything is sealed first. Then one group says again what the seal of the run said that ends with the version; or, where the version lies inside a
//! run, holds that run up to it, applied anew to the run before. What was sealed later is no longer reached.

use std::sync::Arc;

use bristlecone_delta::Stamp;

use crate::event::{Asked, Event};
use crate::given_up::Rollback;
use crate::graph::Touched;
use crate::pipeline::apply::{Identity, build, bury};
use crate::pipeline::root::{RootMessage, Workspaces, compute};
use crate::pipeline::seal::SealMessage;
use crate::pipeline::seal::amend::{Amendment, What};
use crate::pipeline::{Core, Dead};
use crate::runs::{Past, Run};
use crate::state::VersionState;
use crate::store::{Inner, state_of};
use crate::sync::lock;
use crate::{Error, Result, Store};

impl Store {
    /// Goes back to `version`, durably: it is the latest version when this returns, and what came after it is gone for good. The numbers of those
    /// versions will be used again, their stamps never. Snapshots of them, iterators, commit handles and what is awaited of them end with
    /// [`Error::RolledBack`]; all else goes on. [`changed_since`](crate::View::changed_since) says of them that they are no ancestors.
    ///
    /// Everything that was committed is sealed first, as by [`flush`](Self::flush). Commits of other threads wait meanwhile, readers do not.
    ///
    /// Cost: one group and its sync. Where the version lies inside a run, also applying and writing again what the run changed up to it. Pages
    /// in memory are given up with the versions; later commits load what they need.
    ///
    /// # Errors
    ///
    /// [`Error::VersionNotKept`], [`Error::RollbackToPin`], [`Error::NoVersion`], damage met on the way: nothing was changed. [`Error::Poisoned`] where a write failed:
    /// reopening finds the store as it was before or as it should be after.
    pub fn rollback(&self, version: u64) -> Result<()> {
        let inner = &self.inner;
        let core = &inner.core;
        let mut committer = lock(&inner.committer);
        let latest = committer.latest.clone().ok_or(Error::NoVersion)?;
        // Kept as it is until this is over.
        let _target = Inner::at(inner, version)?;
        inner.flush()?;
        if version == latest.version {
            return Ok(());
        }
        let oldest = core.oldest().unwrap_or(0);
        if version < oldest {
            return Err(Error::RollbackToPin { version, oldest });
        }
        let past = core.runs.find(version).ok_or_else(|| core.not_kept(version))?;
        let own = committer.next_stamp()?;
        let rollback = Rollback { version, stamp: past.stamp(), own };
        let state = go_back(inner, &past, rollback)?;
        abandon(core, &latest, own);
        core.versions.roll_back(version, state.stamp.word(), state.clone())?;
        core.latest_durable.set(version);
        core.latest_sealed.set(version);
        committer.next_version = version + 1;
        committer.open.settle(state.stamp);
        committer.latest = Some(state);
        inner.tell_root(RootMessage::Forward(SealMessage::Reclaim(own)));
        tracing::info!(version, given_up = latest.version - version, "rolled back");
        Ok(())
    }
}

/// Makes the rollback durable; the state of the version that is then the latest.
fn go_back(inner: &Arc<Inner>, past: &Past, rollback: Rollback) -> Result<Arc<VersionState>> {
    let core = &inner.core;
    if past.is_end() {
        let run = amend(inner, What::Again(past.run.clone()), rollback)?;
        return state_of(core, &run);
    }
    let (states, touched) = apply_again(core, past)?;
    let what = What::Part { of: past.run.clone(), before: past.before.clone(), states: states.clone() };
    if let Err(error) = amend(inner, what, rollback) {
        undo(core, touched);
        return Err(error);
    }
    for (state, touched) in states.iter().zip(&touched) {
        bury(core, state, touched);
        state.batch.forget();
        state.replaced.forget();
    }
    states.into_iter().next_back().ok_or(Error::Internal("a run without a version"))
}

fn amend(inner: &Inner, what: What, rollback: Rollback) -> Result<Arc<Run>> {
    let done = Arc::new(Event::new());
    let opening = rollback.own.opening();
    let amendment = Amendment { what, opening, rollback: Some(rollback), done: Asked(done.clone()) };
    inner.tell_root(RootMessage::Forward(SealMessage::Amend(Box::new(amendment))));
    done.wait()
}

/// What applying a run again did to slots, by version.
type Applied = Vec<Vec<Touched>>;

/// Applies the versions of the run of `past` up to it again, to the end of the run before, under the versions and stamps that they had.
fn apply_again(core: &Core, past: &Past) -> Result<(Vec<Arc<VersionState>>, Applied)> {
    let before = past.before.as_ref().map(|run| state_of(core, run)).transpose()?;
    let mut states: Vec<Arc<VersionState>> = Vec::new();
    let mut touched = Applied::new();
    for (sealed, batches) in past.batches(&core.graph, core.namespaces.len())? {
        let identity = Identity { version: sealed.version, stamp: sealed.stamp };
        match build(core, states.last().or(before.as_ref()).map(|state| &**state), identity, batches) {
            Ok((state, applied)) => {
                touched.push(applied);
                states.push(state);
            }
            Err(error) => {
                undo(core, touched);
                return Err(error);
            }
        }
    }
    match root_again(core, past, &states) {
        Ok(()) => Ok((states, touched)),
        Err(error) => {
            undo(core, touched);
            Err(error)
        }
    }
}

/// Computes the root of the last version, which must be what it was, and takes over what was known of the others.
fn root_again(core: &Core, past: &Past, states: &[Arc<VersionState>]) -> Result<()> {
    let last = states.last().ok_or(Error::Internal("a run without a version"))?;
    let root = compute(core, last, &mut Workspaces::default())?;
    for (state, sealed) in states.iter().zip(&past.run.seal.versions) {
        if let Some(known) = sealed.root {
            state.root.set(Ok(known));
        }
        for (space, known) in state.spaces.iter().zip(&sealed.namespace_roots) {
            if let Some(known) = known {
                let _ = space.hash.set(*known);
            }
        }
        state.durable.set(Ok(()));
        state.sealed.set(Ok(()));
    }
    last.root.set(Ok(root));
    match last.root.get() {
        Some(Ok(known)) if known == root => Ok(()),
        _ => Err(Error::Damaged { what: format!("the root of version {}, applied again,", last.version) }),
    }
}

/// Forgets what was applied again: nobody saw it.
fn undo(core: &Core, touched: Applied) {
    touched.into_iter().flatten().for_each(|touched| touched.undo(&core.graph));
}

/// The pages of the version that was the latest belong to nobody but the snapshots that there are.
fn abandon(core: &Core, latest: &VersionState, own: Stamp) {
    let mut lives = lock(&core.lives);
    for root in latest.spaces.iter().filter_map(|space| space.root) {
        lives.supersede(Dead::Tree(root), 0, own.word(), 0);
    }
}
