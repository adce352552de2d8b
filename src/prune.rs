//! Forgetting, as the user asks for it: pruning, pins, compaction.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Asked, Event};
use crate::forget::{CompactProgress, CompactReport};
use crate::kept::MAX_PIN_NAME;
use crate::pipeline::root::RootMessage;
use crate::pipeline::seal::SealMessage;
use crate::pipeline::seal::keep::{Change, Keep};
use crate::{Error, Result, Store};

/// So often somebody who waits for a compaction is told how it goes.
const TELL_AGAIN: Duration = Duration::from_millis(100);

/// A version with a name, which is kept for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The name.
    pub name: String,
    /// The version.
    pub version: u64,
}

impl Store {
    /// Keeps the last `keep` versions (at least one) and those that are pinned, and no others; the oldest kept version. Asking for others answers
    /// [`Error::VersionNotKept`](crate::Error::VersionNotKept); snapshots that there are go on. It is durable when this returns; the space
    /// comes back in the background, or by [`compact`](Self::compact). Versions that went do not come back by asking for more.
    ///
    /// Cost: a [`flush`](Self::flush), one group and its sync.
    ///
    /// # Errors
    ///
    /// [`Error::NoVersion`](crate::Error::NoVersion), [`Error::Poisoned`](crate::Error::Poisoned).
    pub fn prune(&self, keep: u64) -> Result<u64> {
        let latest = self.latest_version().ok_or(Error::NoVersion)?;
        self.inner.flush()?;
        self.keep(Change::Oldest((latest + 1).saturating_sub(keep.max(1))))?;
        self.inner.core.oldest().ok_or(Error::NoVersion)
    }

    /// Keeps `version` under `name` (1 to 255 bytes), whatever is pruned, until [`unpin`](Self::unpin); the name may be taken from another
    /// version. Durable when this returns. A pin holds the records that its version needs, and nothing else.
    ///
    /// Cost: a [`flush`](Self::flush), one group and its sync.
    ///
    /// # Errors
    ///
    /// [`Error::VersionNotKept`](crate::Error::VersionNotKept), [`Error::NoVersion`](crate::Error::NoVersion),
    /// [`Error::TooLong`](crate::Error::TooLong) for the name, [`Error::Poisoned`](crate::Error::Poisoned).
    pub fn pin(&self, name: &str, version: u64) -> Result<()> {
        if name.is_empty() || name.len() > MAX_PIN_NAME {
            return Err(Error::TooLong { what: "the name of a pin", len: name.len(), limit: MAX_PIN_NAME });
        }
        self.inner.flush()?;
        self.keep(Change::Pin(name.to_owned(), version))
    }

    /// Takes a name back. If nothing else keeps its version, that is gone, durably, when this returns.
    ///
    /// Cost: one group and its sync.
    ///
    /// # Errors
    ///
    /// [`Error::NoPin`](crate::Error::NoPin), [`Error::Poisoned`](crate::Error::Poisoned).
    pub fn unpin(&self, name: &str) -> Result<()> {
        if self.inner.core.kept.load().pin(name).is_none() {
            return Err(Error::NoPin { name: name.to_owned() });
        }
        self.keep(Change::Unpin(name.to_owned()))
    }

    /// The pinned versions, by name.
    pub fn pins(&self) -> Vec<Pin> {
        let kept = self.inner.core.kept.load();
        kept.pins.iter().map(|pin| Pin { name: pin.name.clone(), version: pin.version() }).collect()
    }

    fn keep(&self, change: Change) -> Result<()> {
        let inner = &self.inner;
        inner.core.check_alive()?;
        let done = Arc::new(Event::new());
        let keep = Keep { change, opening: inner.opening(), done: Asked(done.clone()) };
        inner.tell_root(RootMessage::Forward(SealMessage::Keep(Box::new(keep))));
        done.wait()
    }

    /// Gives back now what space is to be had: writes all segments anew of which more than a 64th is dead, and waits for it. `progress` is told how
    /// it goes, every now and then. Commits and readers go on. What pins and snapshots need stays.
    ///
    /// Without it the same is done in the background, with pauses, for segments of which a quarter is dead.
    ///
    /// # Errors
    ///
    /// What went wrong, a full disk for one: nothing is lost, and it will be tried again. [`Error::Closed`](crate::Error::Closed).
    pub fn compact(&self, mut progress: impl FnMut(CompactProgress)) -> Result<CompactReport> {
        let core = &self.inner.core;
        let done = Arc::new(Event::new());
        core.forgetting.want(Asked(done.clone()));
        loop {
            done.wait_for(TELL_AGAIN);
            if let Some(outcome) = done.get() {
                return outcome;
            }
            if let Some(now) = core.forgetting.progress() {
                progress(now);
            }
        }
    }
}
