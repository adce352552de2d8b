//! A proposal in memory: a version that is not published, and what becomes of it.
//!
//! Its pages are in slots like any version's, but nothing that it superseded is buried: the pages that it made die with it, and those that it
//! took the place of are its parent's still. So it leases its parent. Whoever changes the latest version looks at all open proposals, under the
//! committer's lock: those that do not stand on it end.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Weak};

use bristlecone_delta::Stamp;
use bristlecone_snapshot::Lease;

use super::Core;
use super::apply::publish;
use crate::graph::Touched;
use crate::state::VersionState;
use crate::sync::{AtomicU8, Mutex, lock};
use crate::{Error, Result};

const OPEN: u8 = 0;
const ACCEPTED: u8 = 1;
const ENDED: u8 = 2;

/// What a proposal stands on, and keeps.
#[derive(Clone)]
pub(crate) enum Parent {
    Version(Lease<Arc<VersionState>>),
    Proposal(Arc<Node>),
}

impl Parent {
    pub(crate) fn state(&self) -> &VersionState {
        match self {
            Self::Version(lease) => lease,
            Self::Proposal(node) => &node.state,
        }
    }

    /// The stamps that lie between the version that was published when all began and the proposal, and that version's stamp first.
    fn line(&self) -> Vec<Stamp> {
        match self {
            Self::Version(lease) => vec![lease.stamp],
            Self::Proposal(node) => node.line.clone(),
        }
    }

    /// Whether a child of it may become the version after `latest`, now or once others did.
    fn stands_on(&self, latest: Stamp) -> bool {
        match self {
            Self::Version(lease) => lease.stamp == latest,
            Self::Proposal(node) => match node.status.load(Relaxed) {
                OPEN => true,
                ACCEPTED => node.state.stamp == latest,
                _ => false,
            },
        }
    }
}

/// See the module.
pub(crate) struct Node {
    core: Arc<Core>,
    pub(crate) state: Arc<VersionState>,
    /// The published version that it descends from, the proposals in between, itself.
    line: Vec<Stamp>,
    /// Until it is accepted.
    parent: Mutex<Option<Parent>>,
    /// What it did to slots, until it is accepted.
    touched: Mutex<Vec<Touched>>,
    /// Once it is accepted: its children may go on reading its pages.
    lease: Mutex<Option<Lease<Arc<VersionState>>>>,
    status: AtomicU8,
}

impl Node {
    pub(crate) fn new(
        core: Arc<Core>,
        parent: Parent,
        (state, touched): (Arc<VersionState>, Vec<Touched>),
    ) -> Arc<Self> {
        let mut line = parent.line();
        line.push(state.stamp);
        core.proposed(&state, true);
        Arc::new(Self {
            core,
            state,
            line,
            parent: Mutex::new(Some(parent)),
            touched: Mutex::new(touched),
            lease: Mutex::default(),
            status: AtomicU8::new(OPEN),
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.status.load(Acquire) == OPEN
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.status.load(Acquire) == ACCEPTED
    }

    /// An error where it ended.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.status.load(Acquire) == ENDED { Err(self.ended()) } else { Ok(()) }
    }

    fn ended(&self) -> Error {
        Error::ProposalEnded { version: self.state.version }
    }

    /// Whether the proposal or version `stamp` is among those that it was built on, itself included: of published versions only those that
    /// were proposals when it was made, and the one that all of them were built on.
    pub(crate) fn descends_from(&self, stamp: Stamp) -> bool {
        self.line.contains(&stamp)
    }

    /// The published version that it was built on, at first.
    pub(crate) fn base(&self) -> Stamp {
        self.line.first().copied().unwrap_or_default()
    }

    /// The proposal that it stands on, if it is open and that is none of the published versions.
    pub(crate) fn parent(&self) -> Option<Arc<Self>> {
        match &*lock(&self.parent) {
            Some(Parent::Proposal(node)) => Some(node.clone()),
            _ => None,
        }
    }

    /// The proposal `stamp` among those that it was built on, itself included.
    pub(crate) fn ancestor(self: &Arc<Self>, stamp: Stamp) -> Option<Arc<Self>> {
        let mut at = self.clone();
        while at.state.stamp != stamp {
            at = at.parent()?;
        }
        Some(at)
    }

    /// Makes it the version after `latest`. The caller holds the committer's lock.
    pub(crate) fn accept(&self, latest: Stamp) -> Result<()> {
        self.check()?;
        if self.state.parent != Some(latest) {
            return Err(Error::ParentNotAccepted { version: self.state.version });
        }
        publish(&self.core, &self.state, &std::mem::take(&mut *lock(&self.touched)))?;
        *lock(&self.lease) = self.core.versions.lease(self.state.version);
        self.status.store(ACCEPTED, Release);
        *lock(&self.parent) = None;
        self.core.proposed(&self.state, false);
        Ok(())
    }

    /// It can never be accepted: who waits for something of it is told. Memory goes with the last handle. The caller holds the committer's lock.
    fn end(&self) {
        self.status.store(ENDED, Release);
        self.tell_end();
    }

    fn tell_end(&self) {
        self.state.root.set(Err(self.ended()));
        self.state.durable.set(Err(self.ended()));
        self.state.sealed.set(Err(self.ended()));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.is_accepted() {
            return;
        }
        self.tell_end();
        self.core.proposed(&self.state, false);
        for touched in std::mem::take(&mut *lock(&self.touched)) {
            touched.undo(&self.core.graph);
        }
        // A long line of them is not dropped by as deep a recursion.
        let mut next = lock(&self.parent).take();
        while let Some(Parent::Proposal(node)) = next {
            next = Arc::into_inner(node).and_then(|node| lock(&node.parent).take());
        }
    }
}

/// The proposals that may become versions, parents before their children.
#[derive(Default)]
pub(crate) struct Open(Vec<Weak<Node>>);

impl Open {
    pub(crate) fn add(&mut self, node: &Arc<Node>) {
        // Those that were dropped are met here, too.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|node| node.strong_count() > 0);
        }
        self.0.push(Arc::downgrade(node));
    }

    /// Ends those that do not stand on the version `latest`.
    pub(crate) fn settle(&mut self, latest: Stamp) {
        self.0.retain(|node| {
            let Some(node) = node.upgrade().filter(|node| node.is_open()) else { return false };
            let stands = lock(&node.parent).as_ref().is_some_and(|parent| parent.stands_on(latest));
            if !stands {
                node.end();
            }
            stands
        });
    }
}
