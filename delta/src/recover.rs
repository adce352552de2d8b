//! Opening a store: what is there, what of it counts, and what is repaired first.
//!
//! The files alone say what happened. What they say may be in the page cache only: an fsync that failed leaves data behind that
//! reads well until power goes. So after anything but a clean close, whatever is not known to be durable is written once more, into new
//! files: the last segment, unless the log tells that its last seal had been synced, and the log after the last seal.
//! A stop in the midst of that leaves the old files as they were, or the new ones in their place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bristlecone_trie::B256;

use crate::checksum::Checker;
use crate::dead::SavedGraves;
use crate::error::At;
use crate::format::{FIRST_LOG_RECORD, MAX_OPENING};
use crate::identity::{self, Create, Identity};
use crate::log::{
    Chain, FoundLogs, Log, LogContext, LogHeader, LogPosition, Record, drop_surplus, log_path, new_file,
    put_record, set_free,
};
use crate::segment::{Compactor, Scan, SegmentWriter, WriterState, scan};
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::{Error, Locator, LoggedBatch, Result, Seal, Sealed, SegmentEnd, Segments, Stamp};

/// How to open.
#[derive(Clone, Debug)]
pub struct Options {
    /// Makes the store where the directory is missing or empty. `None`: [`NotAStore`](crate::Error::NotAStore) there.
    pub create: Option<Create>,
    /// Changes nothing, takes no lock and gives no writers.
    pub read_only: bool,
    /// Size from which on a segment gets no further group, in bytes; preallocated. 64 MiB.
    pub segment_bytes: u64,
    /// Size from which on a log file gets no further record, in bytes; preallocated. 16 MiB.
    pub log_bytes: u64,
    /// How many deltas a page's base may carry. 16.
    pub max_deltas: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { create: None, read_only: false, segment_bytes: 64 << 20, log_bytes: 16 << 20, max_deltas: 16 }
    }
}

/// An open store. Drop the writers before the lock.
pub struct Opened {
    /// What it is.
    pub identity: Identity,
    /// The number of this opening, greater than any before and durable; stamps of this opening may be given. With
    /// `read_only`, that of the last opening.
    pub opening: u32,
    /// For reading records.
    pub segments: Arc<Segments>,
    /// For writing seals; `None` with `read_only`.
    pub writer: Option<SegmentWriter>,
    /// For writing segments anew without what is dead; `None` with `read_only`.
    pub compactor: Option<Compactor>,
    /// What was known to be dead.
    pub graves: SavedGraves,
    /// For logging commits; `None` with `read_only`.
    pub log: Option<Log>,
    /// The last seal, and where it is.
    pub last_seal: Option<(Sealed, Seal)>,
    /// The commits after it, oldest first. All of them are durable (with `read_only`: were found).
    pub tail: Vec<LoggedBatch>,
    /// Roots that were logged after it, oldest first.
    pub roots: Vec<(Stamp, B256)>,
    /// Whether it was closed cleanly.
    pub clean: bool,
    /// The exclusive lock; `None` with `read_only`.
    pub lock: Option<Box<dyn Send + Sync>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("identity", &self.identity)
            .field("opening", &self.opening)
            .field("last_seal", &self.last_seal)
            .field("tail", &self.tail.len())
            .field("clean", &self.clean)
            .finish_non_exhaustive()
    }
}

/// Opens the store in `dir`, after whatever stop. What is found is exactly a prefix of the commits, with every synced one in it; and it is
/// durable before this returns. Takes the exclusive lock.
///
/// After a clean close this costs a read of every group's header; otherwise also a copy of the unsealed log, and of the last segment
/// where its last seal is not known to be durable.
///
/// # Errors
/// `NotAStore`, `NewerFormat`, `OlderFormat`, `Locked`: nothing was changed. `Corrupt` where bytes that were durable are
/// not what was written. `Io`.
pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, options: &Options) -> Result<Opened> {
    let (identity, lock) = settle_identity(&*vfs, dir, options)?;
    let (segments_dir, log_dir) = (dir.join("segments"), dir.join("log"));
    if !options.read_only {
        make_dirs(&*vfs, dir, &[&segments_dir, &log_dir])?;
    }
    let mode = if options.read_only { OpenMode::Read } else { OpenMode::Write };
    let checker = Checker::new(&identity.id);
    let mut context = LogContext {
        vfs: Arc::clone(&vfs),
        dir: log_dir,
        id: identity.id,
        checker: checker.clone(),
        log_bytes: options.log_bytes,
        opening: 0,
    };
    let logs = FoundLogs::read(&context, mode)?;
    if !options.read_only && logs.is_empty() {
        // A new store, or one whose making was cut short: not even its name may be durable.
        identity::sync_names(&*vfs, dir)?;
    }
    let mut found = scan(&*vfs, &segments_dir, &identity.id, &checker, mode)?;
    let (clean, proven) = settle_segments(&mut found, &logs, &context)?;
    if !clean && !options.read_only {
        // Nothing is written before all is known to be in order: what is given up here would be missing to whoever mends the store.
        let (end, last) = (found.end(), found.last_record());
        let segments = found.clone().publish(checker.clone())?;
        let sealed = last.map(|locator| read_seal(&segments, locator, end)).transpose()?;
        let sealed_to = sealed.map(|(sealed, _)| sealed.log_position);
        Tail::of(logs.chain(sealed_to, &end, &context.dir, &checker)?.as_ref())?;
        if !proven {
            found.copy_tail(&*vfs, options.segment_bytes)?;
        }
        // The newest segment's name may be one that was never synced.
        found.sync_names(&*vfs)?;
    }

    let (end, newest, last_record, scan_opening) =
        (found.end(), found.newest(), found.last_record(), found.opening);
    let segments = Arc::new(found.publish(checker.clone())?);
    let last_seal = last_record.map(|locator| read_seal(&segments, locator, end)).transpose()?;
    let sealed_to = last_seal.as_ref().map(|(sealed, _)| sealed.log_position);
    let chain = logs.chain(sealed_to, &end, &context.dir, &checker)?;
    let tail = Tail::of(chain.as_ref())?;
    let last_opening =
        scan_opening.max(logs.opening()).max(last_seal.as_ref().map_or(0, |(_, seal)| seal.opening));
    let mut opened = Opened {
        identity,
        opening: last_opening,
        segments: Arc::clone(&segments),
        writer: None,
        compactor: None,
        graves: SavedGraves::read(&*vfs, dir, &context.id, &checker)?,
        log: None,
        last_seal,
        tail: tail.batches,
        roots: tail.roots,
        clean,
        lock,
    };
    if options.read_only {
        return Ok(opened);
    }
    context.opening = last_opening + 1;
    crate::codec::at_most("the number of openings", context.opening as usize, MAX_OPENING as usize)?;
    opened.opening = context.opening;
    let log = match chain.filter(|_| clean) {
        Some(chain) => Continued::resume(&context, &logs, &chain, end)?,
        None => {
            let numbers = logs.numbers().collect();
            let old = OldLogs { numbers, last_sequence: logs.last_sequence(), free: logs.free.clone() };
            let (log, ends) = Continued::restart(&context, old, sealed_to, end, &tail.order)?;
            for (batch, end) in opened.tail.iter_mut().zip(ends) {
                batch.end = end;
            }
            log
        }
    };
    drop(logs); // The log's bytes are mapped by it, and will now be written to.
    opened.log = Some(log.open(context)?);
    opened.compactor = Some(Compactor {
        segments: Arc::clone(&segments),
        vfs: Arc::clone(&vfs),
        dir: segments_dir.clone(),
        id: opened.identity.id,
    });
    let state = WriterState {
        vfs,
        dir: segments_dir,
        id: opened.identity.id,
        segment_bytes: options.segment_bytes,
        max_deltas: options.max_deltas,
        newest: newest.0,
        next_record: newest.1,
        end,
    };
    opened.writer = Some(SegmentWriter::new(segments, state));
    Ok(opened)
}

/// Reads or makes the identity, and takes the lock. Before the lock is taken nothing is written but a missing directory.
fn settle_identity(
    vfs: &dyn Vfs,
    dir: &Path,
    options: &Options,
) -> Result<(Identity, Option<Box<dyn Send + Sync>>)> {
    if options.read_only {
        return Ok((identity::found(vfs, dir)?, None));
    }
    if options.create.is_none() {
        identity::found(vfs, dir)?;
    } else if identity::read(vfs, dir)?.is_none() {
        identity::may_create(vfs, dir)?;
        vfs.create_dir_all(dir).at("create", dir)?;
    }
    let lock = take_lock(vfs, dir)?;
    // Somebody else may have made it in between.
    let identity = match (identity::read(vfs, dir)?, &options.create) {
        (Some(identity), _) => identity,
        (None, Some(create)) => Identity::from(create),
        (None, None) => identity::found(vfs, dir)?,
    };
    let log = dir.join("log");
    if !vfs.exists(&log).at("look at", &log)? {
        // There is a log once the identity is durable. One that is there without may be in the page cache only.
        identity::write(vfs, dir, &identity)?;
    }
    Ok((identity, Some(lock)))
}

/// Takes the exclusive lock of the store in `dir`.
pub(crate) fn take_lock(vfs: &dyn Vfs, dir: &Path) -> Result<Box<dyn Send + Sync>> {
    let path = dir.join("lock");
    vfs.lock(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked { path },
        _ => Error::Io { op: "lock", path, source },
    })
}

/// Makes the directories of a store, and makes their names durable.
pub(crate) fn make_dirs(vfs: &dyn Vfs, dir: &Path, parts: &[&PathBuf]) -> Result<()> {
    for part in parts {
        vfs.create_dir_all(part).at("create", part)?;
    }
    vfs.sync_dir(dir).at("sync", dir)
}

/// The last seal, with which the segments end.
fn read_seal(segments: &Segments, locator: Locator, end: SegmentEnd) -> Result<(Sealed, Seal)> {
    let seal = segments.seal(locator)?;
    Ok((Sealed { locator, end, log_position: seal.log_position }, seal))
}

/// Finds out which groups count. Says whether the store was closed cleanly, and whether the log tells that all of them are durable.
fn settle_segments(found: &mut Scan, logs: &FoundLogs, context: &LogContext) -> Result<(bool, bool)> {
    logs.check_there(found.newest().0, &context.dir)?;
    let mark = logs.sealed()?;
    let proven = mark == found.end();
    let clean = proven && logs.closed_at(&mark)?;
    if !clean {
        found.settle_tail(proven, &context.checker)?;
    }
    found.check_reaches(&mark)?;
    Ok((clean, proven))
}

/// What the log holds after the last seal.
#[derive(Default)]
struct Tail<'l> {
    batches: Vec<LoggedBatch>,
    roots: Vec<(Stamp, B256)>,
    /// All of it as it was logged.
    order: Vec<Record<'l>>,
}

impl<'l> Tail<'l> {
    fn of(chain: Option<&Chain<'l>>) -> Result<Self> {
        let mut tail = Self::default();
        for (log, found) in chain.iter().flat_map(|chain| &chain.records) {
            let record = log.decode(found)?;
            match record {
                Record::Batch { version, stamp, parent, payload } => {
                    tail.batches.push(LoggedBatch {
                        version,
                        stamp,
                        parent,
                        payload: payload.to_vec(),
                        end: found.end,
                    });
                }
                Record::Root { stamp, root } => tail.roots.push((stamp, root)),
                _ => continue,
            }
            tail.order.push(record);
        }
        Ok(tail)
    }
}

/// The files of the batch log before a new one takes their place.
pub(crate) struct OldLogs {
    /// The numbers of those in use.
    pub(crate) numbers: Vec<u64>,
    /// The number behind that of the last record anywhere.
    pub(crate) last_sequence: u64,
    /// Files out of use.
    pub(crate) free: Vec<PathBuf>,
}

/// Where the log goes on.
pub(crate) struct Continued {
    file: Arc<dyn VfsFile>,
    at: LogPosition,
    live: Vec<(u64, u64)>,
    sealed: (SegmentEnd, LogPosition),
    free: Vec<PathBuf>,
    /// Whether the opening is in the log already.
    opened: bool,
}

impl Continued {
    /// After a clean close: in place of the record that says so. All before it was durable before it was written; it may
    /// itself be in the page cache only.
    fn resume(context: &LogContext, logs: &FoundLogs, chain: &Chain<'_>, end: SegmentEnd) -> Result<Self> {
        let number = chain.end.file;
        let missing = Error::corrupt(&log_path(&context.dir, number), 0, "a log file is missing");
        let file = Arc::clone(&logs.get(number).ok_or(missing)?.file);
        let others = logs.numbers().filter(|number| chain.files.iter().all(|(used, _)| used != number));
        let free = set_all_free(context, others, logs.free.clone())?;
        let live = chain.files.clone();
        let at = chain.records.last().map_or(chain.end, |(_, closed)| closed.start);
        Ok(Self { file, at, live, sealed: (end, chain.start), free, opened: false })
    }

    /// After any other stop: in a new file, which begins with all that is not sealed. Older files no longer count. Also where in it
    /// each commit of `order` ends.
    pub(crate) fn restart(
        context: &LogContext,
        old: OldLogs,
        sealed_to: Option<LogPosition>,
        end: SegmentEnd,
        order: &[Record<'_>],
    ) -> Result<(Self, Vec<LogPosition>)> {
        let sealed_to = sealed_to.unwrap_or_default();
        let number = old.numbers.iter().copied().max().unwrap_or(0).max(sealed_to.file) + 1;
        let sequence = old.last_sequence.max(sealed_to.sequence);
        let predecessor = LogPosition { sequence, ..LogPosition::default() };
        let mut header = LogHeader {
            number,
            opening: context.opening,
            restart: true,
            sealed: end,
            predecessor,
            durable_end: FIRST_LOG_RECORD,
        };
        let first = header.first();
        let mut at = first;
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for record in order.iter().chain([&Record::Opening { sealed: end }]) {
            at = put_record(record, &at, sequence, context.opening, &context.checker, &mut bytes);
            if matches!(record, Record::Batch { .. }) {
                ends.push(at);
            }
        }
        header.durable_end = at.offset;
        let mut free = old.free;
        let file = match new_file(context, &header, &bytes, None) {
            // Files out of use hold the space that is wanted.
            Err(Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::StorageFull && !free.is_empty() =>
            {
                for path in free.drain(..) {
                    context.vfs.remove(&path).at("remove", &path)?;
                }
                new_file(context, &header, &bytes, None)?
            }
            made => made?,
        };
        let free = set_all_free(context, old.numbers.into_iter(), free)?;
        let live = vec![(number, at.offset)];
        Ok((Self { file, at, live, sealed: (end, first), free, opened: true }, ends))
    }

    /// The log, ready for the stamps of this opening.
    fn open(self, context: LogContext) -> Result<Log> {
        let mut log = Log::resume(context, self.file, self.at, self.live, self.sealed, self.free);
        if !self.opened {
            log.open()?;
        }
        Ok(log)
    }
}

/// Takes log files out of use for good, and removes those that are too many.
fn set_all_free(
    context: &LogContext,
    numbers: impl Iterator<Item = u64>,
    mut free: Vec<PathBuf>,
) -> Result<Vec<PathBuf>> {
    for number in numbers {
        free.push(set_free(context, number)?);
    }
    context.vfs.sync_dir(&context.dir).at("sync", &context.dir)?;
    drop_surplus(context, &mut free)?;
    Ok(free)
}
