//! The catalog: where the runs are, in redb, so that opening need not walk all seals. It is never the truth: the log
//! is, and a catalog that is missing, of another moment or damaged in any byte is thrown away and written anew.
//!
//! redb does not verify what it reads, and a damaged file can make it panic. So the file is believed only if its
//! BLAKE3 hash, written beside it at a clean close, still fits; after a kill there is no such hash.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bristlecone_delta::vfs::{OpenMode, Vfs, VfsFile};
use bristlecone_delta::{Locator, Segments};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use crate::kept::Kept;
use crate::runs::{Run, Runs};
use crate::{Error, Result};

const FILE: &str = "catalog.redb";
const HASH: &str = "catalog.hash";

/// Last version of a run → (first version, stamp of its end, locator of its seal).
const RUNS: TableDefinition<'_, u64, (u64, u64, u64)> = TableDefinition::new("runs");
/// Named numbers; `format` is 1.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT: u64 = 1;

/// A row of [`RUNS`].
type Row = (u64, (u64, u64, u64));

/// What is to be written.
enum Change {
    Add(Row),
    /// In place of all rows of runs from its first version on.
    Replace(Row),
}

/// Runs are written to the catalog this many at a time.
const BATCH: usize = 64;

/// The open catalog; nothing in it is needed while the store is open.
pub(crate) struct Catalog {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    database: Option<Database>,
    pending: Vec<Change>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn row(run: &Run) -> Row {
    (run.last, (run.first, run.end.word(), run.locator.word()))
}

impl Catalog {
    /// Opens the catalog of `dir`, or makes it anew from the log, and finds all runs; and those that went and whose dead were not taken in: see
    /// [`Runs::walk`]. Where versions went the seals are asked: there are few then.
    ///
    /// # Errors
    ///
    /// The log cannot be read. Trouble with the catalog itself is no error: the store does without.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        opened: &bristlecone_delta::Opened,
        kept: &Kept,
    ) -> Result<(Self, Runs, Vec<Arc<Run>>)> {
        let mut this = Self { vfs, dir: dir.to_owned(), database: None, pending: Vec::new() };
        let last = opened.last_seal.as_ref().map(|(sealed, _)| sealed.locator());
        let segments = &opened.segments;
        let found = if kept.is_all() { this.believe() } else { None };
        if let Some(runs) = found.as_deref().and_then(|rows| runs_of(segments, rows, last)) {
            return Ok((this, runs, Vec::new()));
        }
        let (runs, gone) = Runs::walk(segments, last, kept.oldest, opened.graves.through())?;
        this.rebuild(&runs);
        Ok((this, runs, gone))
    }

    /// Notes a run that was sealed.
    pub(crate) fn add(&mut self, run: &Run) {
        self.note(Change::Add(row(run)));
    }

    /// Notes a run that took the place of all from its first version on.
    pub(crate) fn replace(&mut self, run: &Run) {
        self.note(Change::Replace(row(run)));
    }

    fn note(&mut self, change: Change) {
        self.pending.push(change);
        if self.pending.len() >= BATCH {
            self.write();
        }
    }

    /// Writes what is pending and the hash that lets the next opening believe the file.
    ///
    /// # Errors
    ///
    /// The hash could not be written. The next opening rebuilds the catalog.
    pub(crate) fn close(mut self) -> Result<()> {
        self.write();
        let Some(database) = self.database.take() else { return Ok(()) };
        // Closing a redb database writes to its file.
        drop(database);
        let hash = self.hash_file().map_err(|source| self.error("read", FILE, source))?;
        self.write_hash(&hash).map_err(|source| self.error("write", HASH, source))
    }

    fn error(&self, op: &'static str, name: &str, source: io::Error) -> Error {
        Error::Io { op, path: self.dir.join(name), source: Arc::new(source) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The rows of a catalog that is exactly as a clean close left it.
    fn believe(&mut self) -> Option<Vec<Row>> {
        let hash = self.vfs.open(&self.path(HASH), OpenMode::Read).ok()?;
        let mut wanted = [0; 32];
        hash.read_exact_at(&mut wanted, 0).ok()?;
        if hash.len().ok()? != 32 || self.hash_file().ok()? != wanted {
            return None;
        }
        // From here on the file changes: the hash must not vouch for it any more.
        self.vfs.remove(&self.path(HASH)).ok()?;
        self.vfs.sync_dir(&self.dir).ok()?;
        let file = self.vfs.open(&self.path(FILE), OpenMode::Write).ok()?;
        let database = Builder::new().create_with_backend(Backend(file)).ok()?;
        let rows = read_rows(&database)?;
        self.database = Some(database);
        Some(rows)
    }

    fn rebuild(&mut self, runs: &Runs) {
        self.database = None;
        self.pending = runs.now().iter().map(|run| Change::Add(row(run))).collect();
        let made = self.make();
        match made {
            Ok(database) => {
                self.database = Some(database);
                self.write();
            }
            Err(error) => tracing::warn!(%error, "no catalog: opening will walk all seals"),
        }
    }

    fn make(&self) -> io::Result<Database> {
        for name in [HASH, FILE] {
            if self.vfs.exists(&self.path(name))? {
                self.vfs.remove(&self.path(name))?;
            }
        }
        self.vfs.sync_dir(&self.dir)?;
        let file = self.vfs.open(&self.path(FILE), OpenMode::Create)?;
        self.vfs.sync_dir(&self.dir)?;
        Builder::new().create_with_backend(Backend(file)).map_err(io::Error::other)
    }

    /// Writes what is pending. Where that fails the catalog is given up: the next opening makes it anew.
    fn write(&mut self) {
        let Some(database) = &self.database else { return };
        if let Err(error) = write_rows(database, &self.pending) {
            tracing::warn!(%error, "the catalog is given up; it will be made anew");
            self.database = None;
        }
        self.pending.clear();
    }

    fn hash_file(&self) -> io::Result<[u8; 32]> {
        let file = self.vfs.open(&self.path(FILE), OpenMode::Read)?;
        let (len, mut at) = (file.len()?, 0);
        let mut hasher = blake3::Hasher::new_derive_key("bristlecone catalog v1");
        let mut buffer = vec![0; 1 << 20];
        while at < len {
            let take = (len - at).min(buffer.len() as u64) as usize;
            let part = buffer.get_mut(..take).unwrap_or_default();
            file.read_exact_at(part, at)?;
            hasher.update(part);
            at += take as u64;
        }
        Ok(*hasher.finalize().as_bytes())
    }

    fn write_hash(&self, hash: &[u8; 32]) -> io::Result<()> {
        let temporary = self.path("catalog.hash.tmp");
        if self.vfs.exists(&temporary)? {
            self.vfs.remove(&temporary)?;
        }
        let file = self.vfs.open(&temporary, OpenMode::Create)?;
        file.write_all_at(hash, 0)?;
        file.sync()?;
        self.vfs.rename(&temporary, &self.path(HASH))?;
        self.vfs.sync_dir(&self.dir)
    }
}

/// The runs that `rows` name, if they end with the seal that the log ends with.
fn runs_of(segments: &Segments, rows: &[Row], last: Option<Locator>) -> Option<Runs> {
    let ends_with = rows.last().map(|(_, (_, _, locator))| *locator);
    if ends_with != last.map(Locator::word) {
        return None;
    }
    let mut runs = Vec::with_capacity(rows.len());
    let mut previous = None;
    for (last, (first, end, locator)) in rows {
        let locator = Locator::from_word(*locator)?;
        let run = Run::new(locator, segments.seal(locator).ok()?).ok()?;
        if run.seal.previous != previous || (run.first, run.last, run.end.word()) != (*first, *last, *end) {
            return None;
        }
        previous = Some(locator);
        runs.push(Arc::new(run));
    }
    Some(Runs::new(&runs))
}

fn read_rows(database: &Database) -> Option<Vec<Row>> {
    let read = database.begin_read().ok()?;
    if read.open_table(META).ok()?.get("format").ok()??.value() != FORMAT {
        return None;
    }
    let table = read.open_table(RUNS).ok()?;
    let rows = table.iter().ok()?.map(|row| row.map(|(key, value)| (key.value(), value.value())));
    rows.collect::<Result<_, _>>().ok()
}

fn write_rows(database: &Database, changes: &[Change]) -> Result<(), Box<redb::Error>> {
    let boxed = |error: redb::Error| Box::new(error);
    let write = database.begin_write().map_err(|error| boxed(error.into()))?;
    {
        let mut meta = write.open_table(META).map_err(|error| boxed(error.into()))?;
        meta.insert("format", FORMAT).map_err(|error| boxed(error.into()))?;
        let mut table = write.open_table(RUNS).map_err(|error| boxed(error.into()))?;
        for change in changes {
            let (Change::Add((key, value)) | Change::Replace((key, value))) = change;
            if let Change::Replace((_, (first, ..))) = change {
                table.retain_in(*first.., |_, _| false).map_err(|error| boxed(error.into()))?;
            }
            table.insert(key, value).map_err(|error| boxed(error.into()))?;
        }
    }
    write.commit().map_err(|error| boxed(error.into()))
}

/// redb on our file system.
#[derive(Debug)]
struct Backend(Arc<dyn VfsFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len, false)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
