//! A store opened for reading only, beside whoever writes it.

use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use bristlecone_delta::{Follower, Locator, Segments};

use crate::graph::Graph;
use crate::kept::Kept;
use crate::pipeline::Core;
use crate::runs::{Run, Runs};
use crate::snapshot::Key;
use crate::store::{Inner, Store, configured};
use crate::sync::{Mutex, lock};
use crate::{
    CheckReport, DamagedRun, Diff, Error, History, Namespace, Options, Pin, Progress, Result, SegmentSpace,
    Snapshot, Stats, VersionInfo,
};

/// A store that is read and nothing else: no lock is taken, no byte is written, and another process may write to it meanwhile. It has the
/// sealed versions, as of its opening and of each [`refresh`](Self::refresh). What the writer committed and did not seal yet is not
/// among them; [`unsealed`](Self::unsealed) tells what of that waits in the batch log.
pub struct Reader {
    store: Store,
    follower: Mutex<Follower>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let versions = (self.store.inner.core.runs.first_version(), self.latest_version());
        f.debug_struct("Reader")
            .field("dir", &self.dir())
            .field("versions", &versions)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Opens the store in `dir` for reading only; see [`Reader`]. Of the options only the namespaces count, if any were named, and the
    /// file system.
    ///
    /// Cost: a read of every group's header and every seal, and of the newest group as a whole.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), but for those of writing: a store that is open elsewhere is no error, and none is made.
    pub fn open_read_only(&self, dir: impl AsRef<Path>) -> Result<Reader> {
        let dir = dir.as_ref();
        let options = Self { threads: 1, ..self.clone() };
        let follower = bristlecone_delta::follow(options.vfs.clone(), dir)?;
        let (_, namespaces) = configured(follower.identity(), &options, dir)?;
        let segments = follower.segments().clone();
        let kept = kept(&segments, follower.last_seal())?;
        // Of the runs that went only the one before the first is wanted.
        let (runs, _) = Runs::walk(&segments, follower.last_seal(), kept.oldest, follower.last_seal())?;
        let core = Core::new(Graph::new(segments, options.cache_bytes), namespaces, runs, kept, &options)?;
        let store = Store::without_writer(core, options.vfs.clone(), dir);
        Ok(Reader { store, follower: Mutex::new(follower) })
    }
}

impl Reader {
    /// Opens the store in `dir`; see [`Options::open_read_only`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Options::new().open_read_only(dir)
    }

    /// Takes in what was sealed since, and says which version is the latest now. Snapshots stay what they are. A version that the writer
    /// gave up by a rollback is gone from here on.
    ///
    /// Cost: looking for a group and for a file where nothing is new; otherwise as for opening, but for the seals that are known.
    ///
    /// # Errors
    ///
    /// Damage, or a directory that cannot be read. The reader stays as it was, and may be asked again.
    pub fn refresh(&self) -> Result<Option<u64>> {
        let mut follower = lock(&self.follower);
        if follower.refresh()? {
            let core = &self.store.inner.core;
            for run in new_runs(core, follower.last_seal())? {
                core.runs.put(&run);
            }
            let kept = kept(&core.graph.segments, follower.last_seal())?;
            let oldest = kept.oldest;
            core.kept.store(Arc::new(kept));
            core.runs.forget_before(oldest);
            if let Some(last) = core.runs.last_version() {
                core.latest_sealed.set(last);
                core.latest_durable.set(last);
            }
        }
        Ok(self.latest_version())
    }

    /// The versions that wait in the batch log, oldest first, as of this moment: whoever opens the store to write finds them. That they are in
    /// a file does not mean that they survive a power cut.
    ///
    /// Cost: a read of the batch log and of all headers of groups.
    ///
    /// # Errors
    ///
    /// Damage to the log. Beside a running writer, which sets log files free, this may fail by chance: ask again.
    pub fn unsealed(&self) -> Result<Vec<VersionInfo>> {
        let waiting = lock(&self.follower).waiting()?;
        let info =
            |(version, stamp, root)| VersionInfo { version, stamp, root, durable: false, sealed: false };
        Ok(waiting.into_iter().map(info).collect())
    }

    /// A snapshot of the latest sealed version.
    ///
    /// # Errors
    ///
    /// [`Error::NoVersion`] where none is sealed.
    pub fn latest(&self) -> Result<Snapshot> {
        self.at(self.latest_version().ok_or(Error::NoVersion)?)
    }

    /// The number of the latest sealed version.
    pub fn latest_version(&self) -> Option<u64> {
        self.store.inner.core.runs.last_version()
    }

    /// A snapshot of `version`.
    ///
    /// # Errors
    ///
    /// [`Error::VersionNotKept`], [`Error::NoVersion`].
    pub fn at(&self, version: u64) -> Result<Snapshot> {
        Inner::at(&self.store.inner, version)
    }

    /// All sealed versions, oldest first.
    pub fn versions(&self) -> Vec<VersionInfo> {
        self.store.versions()
    }

    /// The sealed versions in `range`, oldest first.
    pub fn versions_in(&self, range: impl RangeBounds<u64>) -> Vec<VersionInfo> {
        self.store.versions_in(range)
    }

    /// The pinned versions, by name.
    pub fn pins(&self) -> Vec<Pin> {
        self.store.pins()
    }

    /// The namespaces of the store.
    pub fn namespaces(&self) -> &[Namespace] {
        self.store.namespaces()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.store.dir()
    }

    /// See [`Store::stats`]; what a reader does not do is 0 there.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn stats(&self) -> Result<Stats> {
        self.store.stats()
    }

    /// See [`Store::space`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn space(&self, progress: impl FnMut(u64, u64)) -> Result<Vec<SegmentSpace>> {
        self.store.space(progress)
    }

    /// See [`Store::check`]: the sealed versions are looked at. Ask [`unsealed`](Self::unsealed) too: it looks at the log.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check(&self, progress: impl FnMut(Progress)) -> Result<CheckReport> {
        self.store.check(progress)
    }

    /// See [`Store::damage`].
    pub fn damage(&self, progress: impl FnMut(Progress)) -> Vec<DamagedRun> {
        self.store.damage(progress)
    }

    /// See [`Store::diff`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn diff(&self, before: u64, after: u64) -> Result<Diff> {
        self.store.diff(before, after)
    }

    /// See [`Store::history`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn history(&self, key: Key<'_>) -> Result<History> {
        self.latest()?.history(key)
    }
}

/// Which versions are kept, as the seal `last` says.
fn kept(segments: &Segments, last: Option<Locator>) -> Result<Kept> {
    let seal = last.map(|last| segments.seal(last)).transpose()?;
    Ok(seal.map(|seal| Kept::read(segments, &seal)).transpose()?.unwrap_or_default())
}

/// The runs that lead to the seal `last` from one that is known, oldest first; or from one before all that are kept.
fn new_runs(core: &Core, last: Option<Locator>) -> Result<Vec<Arc<Run>>> {
    let known = core.runs.now();
    let known: std::collections::HashSet<Locator> = known.iter().map(|run| run.locator).collect();
    let mut runs = Vec::new();
    let mut next = last;
    while let Some(locator) = next.filter(|locator| !known.contains(locator)) {
        let seal = match core.graph.segments.seal(locator) {
            // It went, and so did all before it.
            Err(bristlecone_delta::Error::NoRecord { .. }) if !runs.is_empty() => break,
            seal => seal?,
        };
        next = seal.previous.filter(|previous| *previous < locator);
        runs.push(Arc::new(Run::new(locator, seal)?));
    }
    runs.reverse();
    Ok(runs)
}
