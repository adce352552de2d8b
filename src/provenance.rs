//! What a key held in older versions, newest first.
//!
//! Each leaf remembers the commit that changed it, so one read in the version before that commit leads to the change before. Where
//! a key is absent no leaf remembers anything; but a run's table keeps every deletion and every wipe, so the tables of the
//! runs are asked, one search each, and among unsealed versions the versions themselves.

use std::sync::Arc;

use bristlecone_delta::Stamp;
use bristlecone_trie::Shape;

use crate::graph::Found;
use crate::history::last_removal;
use crate::snapshot::{Key, Snapshot, View};
use crate::store::Inner;
use crate::value::{StoredKey, Value};
use crate::{Error, Result, Store};

/// A version in which a key changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The version.
    pub version: u64,
    /// What the key holds from then on; `None`: it was removed, by itself or with its account.
    pub value: Option<Value>,
}

/// Why a [`History`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryEnd {
    /// Nothing is missing: the key was absent before its last listed revision, or always, from the store's first version on.
    Beginning,
    /// Older versions are not kept.
    NotKept {
        /// The oldest version that is.
        oldest: u64,
        /// What the key held there, since that version or an older one.
        value: Option<Value>,
    },
}

/// The versions in which a key changed, newest first. A version that wrote what was there already is not among them.
pub struct History {
    inner: Arc<Inner>,
    space: usize,
    shape: Shape,
    /// The key of the trie.
    key: Vec<u8>,
    stored: StoredKey,
    /// The version that it was asked of.
    start: Snapshot,
    /// Where the search stands: a version, and what the key holds there.
    at: Option<(Snapshot, Option<Found>)>,
    end: Option<HistoryEnd>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.at.as_ref().map(|(snapshot, _)| snapshot.version());
        f.debug_struct("History").field("key", &self.stored).field("at", &at).field("end", &self.end).finish()
    }
}

/// What lies before a version.
enum Before {
    Version(Snapshot),
    Nothing,
    NotKept,
}

impl History {
    fn new(view: &View<'_>, key: Key<'_>) -> Result<Self> {
        let (shape, snapshot, space) = (view.info().shape, view.snapshot, view.space);
        let key = view.trie_key(key)?;
        let stored = StoredKey::new(shape, key.clone())?;
        let found = snapshot.find(space, &key)?;
        let at = Some((snapshot.clone(), found));
        let start = snapshot.clone();
        Ok(Self { inner: snapshot.inner.clone(), space, shape, key, stored, start, at, end: None })
    }

    /// Why it ended; `None` as long as it has not, or if it ended with an error.
    pub fn end(&self) -> Option<&HistoryEnd> {
        self.end.as_ref()
    }

    fn step(&mut self) -> Result<Option<Revision>> {
        while let Some((snapshot, found)) = self.at.take() {
            let Some(changed) = self.last_change(&snapshot, found.as_ref())? else {
                self.finish(found)?;
                return Ok(None);
            };
            let value = found.as_ref().map(|found| found.value.clone());
            match before(&changed)? {
                Before::Version(older) => {
                    let earlier = older.find(self.space, &self.key)?;
                    let same = earlier.as_ref().map(|found| &found.value) == value.as_ref();
                    self.at = Some((older, earlier));
                    if same {
                        continue;
                    }
                }
                // Whether something was removed that was never seen is not known.
                Before::Nothing | Before::NotKept if value.is_none() => {
                    self.finish(None)?;
                    return Ok(None);
                }
                Before::Nothing => self.end = Some(HistoryEnd::Beginning),
                Before::NotKept => self.finish(found)?,
            }
            let value = value.map(|bytes| Value::decode(&self.stored, bytes)).transpose()?;
            return Ok(Some(Revision { version: changed.version(), value }));
        }
        Ok(None)
    }

    /// The version in which the key came to hold what it holds in `snapshot`; `None` where it is not kept, or where the key was never
    /// there. Of an absent key it may be one in which nothing was removed that was there: it is looked at again.
    fn last_change(&self, snapshot: &Snapshot, found: Option<&Found>) -> Result<Option<Snapshot>> {
        match found {
            Some(found) => self.version_of(snapshot, Stamp::from_word(found.stamp)),
            None => self.last_removal(snapshot),
        }
    }

    fn last_removal(&self, snapshot: &Snapshot) -> Result<Option<Snapshot>> {
        let core = &self.inner.core;
        let mut here = snapshot.clone();
        loop {
            let runs = core.runs.now();
            if runs.find(here.version()).is_some_and(|past| past.stamp() == here.stamp()) {
                let from = (here.version(), here.stamp());
                let removed = last_removal(&runs, &core.graph, self.shape, self.space, from, &self.key)?;
                return removed.map_or(Ok(None), |stamp| self.version_of(&here, stamp));
            }
            match before(&here)? {
                Before::Version(older) if older.find(self.space, &self.key)?.is_none() => here = older,
                Before::Version(_) => return Ok(Some(here)),
                Before::Nothing | Before::NotKept => return Ok(None),
            }
        }
    }

    /// The version that `stamp` made, before `snapshot` or itself; `None` if it is older than all that are kept.
    fn version_of(&self, snapshot: &Snapshot, stamp: Stamp) -> Result<Option<Snapshot>> {
        let core = &self.inner.core;
        if let Some(node) = snapshot.proposal().and_then(|node| node.ancestor(stamp)) {
            return Ok(Some(Snapshot::proposed(self.inner.clone(), node)));
        }
        let in_memory = || {
            let published = core.versions.published();
            published.into_iter().find(|(_, other)| *other == stamp.word()).map(|(version, _)| version)
        };
        // What is sealed in between is found in the runs when they are asked again.
        if stamp == self.start.stamp() {
            return Ok(Some(self.start.clone()));
        }
        let version = core.runs.version_of(stamp).or_else(in_memory).or_else(|| core.runs.version_of(stamp));
        let version = version.filter(|version| core.keeps(*version));
        if let Some(version) = version {
            return Inner::at(&self.inner, version).map(Some);
        }
        if stamp < self.oldest()?.stamp() {
            return Ok(None);
        }
        Err(Error::Damaged { what: format!("the stamp of {:?}, which is no version's,", self.stored) })
    }

    fn oldest(&self) -> Result<Snapshot> {
        let core = &self.inner.core;
        let oldest = core.oldest().ok_or(Error::NoVersion)?;
        // It may be kept for itself alone, by a pin or as long as it is held.
        if self.start.version() < oldest { Ok(self.start.clone()) } else { Inner::at(&self.inner, oldest) }
    }

    /// Ends with the oldest version, where the key holds `found`.
    fn finish(&mut self, found: Option<Found>) -> Result<()> {
        let oldest = self.oldest()?;
        let value = found.map(|found| Value::decode(&self.stored, found.value)).transpose()?;
        self.end = Some(match oldest.parent() {
            None => HistoryEnd::Beginning,
            Some(_) => HistoryEnd::NotKept { oldest: oldest.version(), value },
        });
        Ok(())
    }
}

fn before(snapshot: &Snapshot) -> Result<Before> {
    if let Some(node) = snapshot.proposal().and_then(|node| node.parent()) {
        return Ok(Before::Version(Snapshot::proposed(snapshot.inner.clone(), node)));
    }
    let (Some(parent), Some(version)) = (snapshot.parent(), snapshot.version().checked_sub(1)) else {
        return Ok(Before::Nothing);
    };
    match Inner::at(&snapshot.inner, version) {
        // Another commit has the number by now: the one that was meant is gone.
        Ok(older) if older.stamp() != parent => Err(snapshot.inner.core.not_kept(version)),
        Ok(older) => Ok(Before::Version(older)),
        Err(Error::VersionNotKept { .. }) => Ok(Before::NotKept),
        Err(error) => Err(error),
    }
}

impl Iterator for History {
    type Item = Result<Revision>;

    fn next(&mut self) -> Option<Self::Item> {
        // Where it stands is taken away by an error.
        self.step().transpose()
    }
}

impl View<'_> {
    /// The versions up to this one in which `key` changed, with what it held from then on, newest first. [`History::end`] says at the
    /// end whether older history is kept.
    ///
    /// Cost: a read or two for each change. For each stretch in which the key is absent a search in the table of each run of that stretch.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); the iterator ends with an error on damage.
    pub fn history(&self, key: Key<'_>) -> Result<History> {
        History::new(self, key)
    }
}

impl Snapshot {
    /// See [`View::history`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn history(&self, key: Key<'_>) -> Result<History> {
        self.first().history(key)
    }
}

impl Store {
    /// See [`View::history`], from the latest version on, on the first namespace.
    ///
    /// # Errors
    ///
    /// As there; [`Error::NoVersion`].
    pub fn history(&self, key: Key<'_>) -> Result<History> {
        self.latest()?.history(key)
    }
}
