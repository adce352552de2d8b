//! Proposals: children of the latest version, or of other proposals, of which one may become the next version.

use std::sync::Arc;

use bristlecone_delta::Stamp;
use bristlecone_trie::B256;

use crate::batch::Prepared;
use crate::event::{Event, Pending};
use crate::pipeline::apply::{Identity, build};
use crate::pipeline::log::LogMessage;
use crate::pipeline::proposal::{Node, Parent};
use crate::pipeline::root::{Kept, RootMessage};
use crate::store::Inner;
use crate::{Batch, Commit, Error, Result, Snapshot, Store};

/// A version that is not committed: a child of the latest version or of another proposal. It can be read, has a root and proofs, and children;
/// nothing of it touches disk until it is accepted. Dropping it with its snapshots frees what it changed, and costs that.
///
/// It ends once another version than the one that it stands on is the latest, by [`Store::commit`], by
/// [`accept`](Self::accept) of a sibling, or by [`Store::rollback`]: its snapshots and what is awaited of it then end with
/// [`Error::ProposalEnded`], and so do its descendants. [`rebase`](Self::rebase) gives its batch another try.
pub struct Proposal {
    inner: Arc<Inner>,
    node: Arc<Node>,
}

impl std::fmt::Debug for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proposal({}, stamp {:?})", self.version(), self.stamp())
    }
}

impl Store {
    /// Applies `batch` to `parent`, which is a snapshot of the latest version or of an open proposal, and publishes nothing.
    ///
    /// Cost: that of [`commit`](Self::commit) without the log. Proposals and commits of several threads come one after the other.
    ///
    /// # Errors
    ///
    /// [`Error::StaleParent`] where the parent is another version; [`Error::ProposalEnded`]; the batch does not fit; the store is poisoned or closed.
    pub fn propose(&self, parent: &Snapshot, batch: Batch) -> Result<Proposal> {
        let prepared = batch.prepare(&self.inner.core.namespaces)?;
        parent.check()?;
        if !Arc::ptr_eq(&parent.inner, &self.inner) {
            return Err(Error::StaleParent { version: parent.version() });
        }
        let found = On::Found { stamp: parent.stamp(), version: parent.version() };
        propose(&self.inner, parent.proposal().map_or(found, On::Proposal), prepared)
    }
}

/// What a proposal is to stand on.
enum On<'a> {
    Proposal(&'a Arc<Node>),
    Found { stamp: Stamp, version: u64 },
    Latest,
}

fn propose(inner: &Arc<Inner>, on: On<'_>, batch: Vec<(u16, Prepared)>) -> Result<Proposal> {
    let core = &inner.core;
    let mut committer = inner.committer()?;
    let latest = || core.versions.latest().ok_or(Error::NoVersion);
    let parent = match on {
        On::Proposal(node) if node.is_open() => Parent::Proposal(node.clone()),
        On::Proposal(node) => {
            node.check()?;
            Parent::Version(latest()?)
        }
        On::Found { .. } | On::Latest => Parent::Version(latest()?),
    };
    let (stamp, version) = match on {
        On::Proposal(node) => (node.state.stamp, node.state.version),
        On::Found { stamp, version } => (stamp, version),
        On::Latest => (parent.state().stamp, parent.state().version),
    };
    if parent.state().stamp != stamp {
        return Err(Error::StaleParent { version });
    }
    let identity = Identity { version: version + 1, stamp: committer.next_stamp()? };
    let built = build(core, Some(parent.state()), identity, batch)?;
    let node = Node::new(core.clone(), parent, built);
    committer.open.add(&node);
    Ok(Proposal { inner: inner.clone(), node })
}

impl Proposal {
    /// The number that it will have if it is accepted.
    pub fn version(&self) -> u64 {
        self.node.state.version
    }

    /// Its identity: given once, never used again, and kept when it is accepted.
    pub fn stamp(&self) -> Stamp {
        self.node.state.stamp
    }

    /// Keys that really changed.
    pub fn changed(&self) -> u64 {
        self.node.state.changed
    }

    /// Whether it may still be accepted, perhaps after others.
    pub fn is_open(&self) -> bool {
        self.node.is_open()
    }

    /// A snapshot of it: like that of a version. It outlives the proposal, and is of the version once that is accepted.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::proposed(self.inner.clone(), self.node.clone())
    }

    /// The root that the store has if it is accepted. Computed when it is asked for.
    pub fn root(&self) -> Pending<B256> {
        if let Err(error) = self.node.check() {
            return Pending::new(Arc::new(Event::failed(error)));
        }
        let root = &self.node.state.root;
        if root.get().is_none() {
            self.inner
                .tell_root(RootMessage::want(self.node.state.clone(), Kept::Proposal(self.node.clone())));
        }
        Pending::new(root.clone())
    }

    /// A child of this proposal; as [`Store::propose`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn propose(&self, batch: Batch) -> Result<Proposal> {
        let prepared = batch.prepare(&self.inner.core.namespaces)?;
        propose(&self.inner, On::Proposal(&self.node), prepared)
    }

    /// Makes it the next version: visible when this returns, durable and sealed as any commit. Its siblings and their descendants end; its own
    /// children go on. Accepting what was accepted gives the same handle again.
    ///
    /// Cost: none in proportion to the batch, but for giving its superseded pages their lives.
    ///
    /// # Errors
    ///
    /// [`Error::ParentNotAccepted`] where it stands on a proposal still; [`Error::ProposalEnded`] where another version took its place; otherwise
    /// as [`Store::commit`].
    pub fn accept(&self) -> Result<Commit> {
        let Self { inner, node } = self;
        let commit = Commit { inner: inner.clone(), state: node.state.clone() };
        if node.is_accepted() {
            return Ok(commit);
        }
        inner.core.wait_for_room(|| inner.tell_root(RootMessage::Cut))?;
        let mut committer = inner.committer()?;
        if !node.is_accepted() {
            let latest = committer.latest.as_ref().map(|latest| latest.stamp).unwrap_or_default();
            node.accept(latest)?;
            inner.committed(&mut committer, &node.state);
            if let Some(Ok(root)) = node.state.root.get() {
                let _ = inner.to_log.send(LogMessage::Root(node.state.stamp, root));
            }
        }
        drop(committer);
        Ok(commit)
    }

    /// The same batch, proposed on the latest version.
    ///
    /// # Errors
    ///
    /// [`Error::ProposalEnded`] where it was accepted: there is nothing to rebase. Otherwise as [`Store::propose`].
    pub fn rebase(&self) -> Result<Proposal> {
        if self.node.is_accepted() {
            return Err(Error::ProposalEnded { version: self.version() });
        }
        let batch = self.node.state.batch.get();
        propose(&self.inner, On::Latest, batch.as_ref().clone())
    }
}
