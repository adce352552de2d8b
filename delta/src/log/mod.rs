//! The batch log: what makes a commit durable before it is sealed.
//!
//! Records form one chain, each naming the checksum of the one before, through files that are used again once all in them is
//! sealed. A file is called `.log` only while its header is right and its beginning durable, and `.free` from before
//! its first byte is overwritten: whatever a crash leaves in a `.free` file is of no interest, and anything wrong with a header of
//! a `.log` file is damage.

mod chain;
mod file;
mod record;
mod remains;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bristlecone_trie::B256;

pub(crate) use chain::{Chain, FoundLogs};
pub(crate) use file::{LogHeader, log_path};
pub(crate) use record::{Record, put_record};
pub use remains::Remains;

use crate::checksum::Checker;
use crate::codec::at_most;
use crate::error::At;
use crate::format::{FIRST_LOG_RECORD, MAX_PAYLOAD_BYTES, STORE_ID_BYTES};
use crate::segment::create_whole;
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::{Error, Result, Sealed, SegmentEnd, Stamp};

/// So many released files are kept for use; others are removed. The oldest is used or removed first: what the newer ones hold may be
/// wanted still ([`Remains`]).
const KEPT_FREE: usize = 4;

/// A place between two records of the batch log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPosition {
    /// The log file's number.
    pub file: u64,
    /// Bytes from its start.
    pub offset: u64,
    /// Number of the record that starts here.
    pub sequence: u64,
    /// Checksum of the record that ends here.
    pub checksum: u64,
}

/// A commit that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedBatch {
    /// The version number.
    pub version: u64,
    /// The commit.
    pub stamp: Stamp,
    /// The commit it was built on.
    pub parent: Option<Stamp>,
    /// What was logged ([`decode_ops`](crate::decode_ops) reads it).
    pub payload: Vec<u8>,
    /// The position behind it in the log.
    pub end: LogPosition,
}

/// What a log needs of its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct LogContext {
    pub(crate) vfs: Arc<dyn Vfs>,
    /// The directory of the log files.
    pub(crate) dir: PathBuf,
    pub(crate) id: [u8; STORE_ID_BYTES],
    pub(crate) checker: Checker,
    pub(crate) log_bytes: u64,
    /// The opening that writes.
    pub(crate) opening: u32,
}

/// The one writer of the batch log.
#[derive(Debug)]
pub struct Log {
    context: LogContext,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    at: LogPosition,
    /// All records before this number are durable.
    synced: u64,
    sealed: SegmentEnd,
    /// Up to where the log is sealed, as far as this writer was told.
    sealed_position: LogPosition,
    /// The files in use, oldest first, with their ends; the current one, without, is last.
    live: VecDeque<(u64, u64)>,
    free: Vec<PathBuf>,
    buffer: Vec<u8>,
    poisoned: bool,
}

impl Log {
    /// Writes a commit; durable after the next [`sync`](Self::sync). `payload` is what [`encode_ops`](crate::encode_ops) made
    /// (it is not looked at). Answers with the position behind it, for [`Seal::log_position`](crate::Seal::log_position).
    ///
    /// # Errors
    /// `Io`, after which the log is `Poisoned`; `TooLarge`.
    pub fn append_batch(
        &mut self,
        version: u64,
        stamp: Stamp,
        parent: Option<Stamp>,
        payload: &[u8],
    ) -> Result<LogPosition> {
        at_most("a commit", payload.len(), MAX_PAYLOAD_BYTES - 64)?;
        self.append(&Record::Batch { version, stamp, parent, payload })
    }

    /// Writes that the store's root at `stamp` is `root`; durable after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn append_root(&mut self, stamp: Stamp, root: B256) -> Result<LogPosition> {
        self.append(&Record::Root { stamp, root })
    }

    /// Makes everything appended so far durable. One call covers any number of appends.
    ///
    /// # Errors
    /// `Io`, after which the log is `Poisoned`: a failed sync is never tried again.
    pub fn sync(&mut self) -> Result<()> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if self.synced == self.at.sequence {
            return Ok(());
        }
        self.poisoned = true;
        self.file.sync().at("sync", &self.path)?;
        self.synced = self.at.sequence;
        self.poisoned = false;
        Ok(())
    }

    /// Where the next record goes.
    pub fn position(&self) -> LogPosition {
        self.at
    }

    /// Up to where seals cover the log, as far as it was told: what a seal says that covers nothing more of it.
    pub fn sealed_position(&self) -> LogPosition {
        self.sealed_position
    }

    /// Gives the files that `sealed` covers whole back for use by later records.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch). `Invalid` where `sealed` names a position that this log does not have.
    pub fn release(&mut self, sealed: &Sealed) -> Result<()> {
        let position = sealed.log_position();
        let known = self.live.iter().any(|(number, end)| *number == position.file && position.offset <= *end);
        if !known || position.sequence > self.at.sequence || position.sequence < self.sealed_position.sequence
        {
            return Err(Error::Invalid { what: "a seal that covers another part of the log than there is" });
        }
        // First, so that every later file and record tells of this seal.
        self.sealed = sealed.end();
        self.sealed_position = position;
        self.append(&Record::Sealed { sealed: sealed.end() })?;
        self.poisoned = true;
        let mut released = false;
        while self.live.front().is_some_and(|(number, _)| *number < position.file) {
            let Some((number, _)) = self.live.pop_front() else { break };
            let free = set_free(&self.context, number)?;
            self.free.push(free);
            released = true;
        }
        if released {
            self.context.vfs.sync_dir(&self.context.dir).at("sync", &self.context.dir)?;
        }
        drop_surplus(&self.context, &mut self.free)?;
        self.poisoned = false;
        Ok(())
    }

    /// Ends the log: the next opening finds that nothing is missing, and copies nothing.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn close(mut self) -> Result<()> {
        // Where the record that says so is durable, all before it must be.
        self.sync()?;
        self.append(&Record::Closed { sealed: self.sealed })?;
        self.sync()
    }

    /// Goes on in `file`, whose records end at `at` and are all durable. `live` are the numbers of the files in use with their ends,
    /// oldest first; the last one is that of `file`.
    pub(crate) fn resume(
        context: LogContext,
        file: Arc<dyn VfsFile>,
        at: LogPosition,
        live: Vec<(u64, u64)>,
        sealed: (SegmentEnd, LogPosition),
        free: Vec<PathBuf>,
    ) -> Self {
        let path = log_path(&context.dir, at.file);
        let mut live = VecDeque::from(live);
        if let Some(last) = live.back_mut() {
            last.1 = u64::MAX;
        }
        Self {
            context,
            file,
            path,
            at,
            synced: at.sequence,
            sealed: sealed.0,
            sealed_position: sealed.1,
            live,
            free,
            buffer: Vec::new(),
            poisoned: false,
        }
    }

    /// Writes that the store was opened, and makes it durable: the first record of every opening.
    pub(crate) fn open(&mut self) -> Result<()> {
        self.append(&Record::Opening { sealed: self.sealed })?;
        self.sync()
    }

    fn append(&mut self, record: &Record<'_>) -> Result<LogPosition> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if self.at.offset >= self.context.log_bytes {
            self.rotate()?;
        }
        self.write(record)?;
        Ok(self.at)
    }

    fn write(&mut self, record: &Record<'_>) -> Result<()> {
        self.buffer.clear();
        let context = &self.context;
        let next =
            put_record(record, &self.at, self.synced, context.opening, &context.checker, &mut self.buffer);
        self.poisoned = true;
        self.file.write_all_at(&self.buffer, self.at.offset).at("write", &self.path)?;
        self.poisoned = false;
        self.at = next;
        Ok(())
    }

    /// Goes on in the next file: everything here is durable first, then the new file is there, then the record here that says so.
    fn rotate(&mut self) -> Result<()> {
        self.sync()?;
        let number = self.at.file + 1;
        let record = Record::Rotate { file: number };
        let (opening, checker) = (self.context.opening, self.context.checker.clone());
        let predecessor = put_record(&record, &self.at, self.synced, opening, &checker, &mut Vec::new());
        let header = LogHeader {
            number,
            opening,
            restart: false,
            sealed: self.sealed,
            predecessor,
            durable_end: FIRST_LOG_RECORD,
        };
        self.poisoned = true;
        let oldest = (!self.free.is_empty()).then(|| self.free.remove(0));
        let file = new_file(&self.context, &header, &[], oldest)?;
        self.poisoned = false;
        self.write(&record)?;
        debug_assert_eq!(self.at, predecessor);
        self.sync()?;
        if let Some(last) = self.live.back_mut() {
            last.1 = self.at.offset;
        }
        self.live.push_back((number, u64::MAX));
        self.file = file;
        self.path = log_path(&self.context.dir, number);
        self.at = header.first();
        Ok(())
    }
}

/// Makes the log file of `header`, with `records` as its first bytes, durable under its name; from the file `free` where there is one.
pub(crate) fn new_file(
    context: &LogContext,
    header: &LogHeader,
    records: &[u8],
    free: Option<PathBuf>,
) -> Result<Arc<dyn VfsFile>> {
    let path = log_path(&context.dir, header.number);
    let bytes = header.encode(&context.id, &context.checker);
    let vfs = &*context.vfs;
    let fill = |file: &dyn VfsFile, path: &std::path::Path| {
        file.write_all_at(&bytes, 0).at("write", path)?;
        if records.is_empty() {
            Ok(())
        } else {
            file.write_all_at(records, FIRST_LOG_RECORD).at("write", path)
        }
    };
    let Some(free) = free else {
        let len = context.log_bytes.max(FIRST_LOG_RECORD);
        return create_whole(vfs, &context.dir, &path, len, None, fill);
    };
    let file = vfs.open(&free, OpenMode::Write).at("open", &free)?;
    if file.len().at("look at", &free)? < FIRST_LOG_RECORD {
        file.set_len(context.log_bytes.max(FIRST_LOG_RECORD), true).at("allocate", &free)?;
    }
    fill(&*file, &free)?;
    file.sync().at("sync", &free)?;
    vfs.rename(&free, &path).at("rename", &path)?;
    vfs.sync_dir(&context.dir).at("sync", &context.dir)?;
    Ok(file)
}

/// The numbers of the log files in use, and the paths of those out of use, ascending.
pub(crate) fn names(context: &LogContext) -> Result<(Vec<u64>, Vec<PathBuf>)> {
    let (mut numbers, mut free) = (Vec::new(), Vec::new());
    if context.vfs.exists(&context.dir).at("look at", &context.dir)? {
        for path in context.vfs.read_dir(&context.dir).at("list", &context.dir)? {
            if let Some(number) = file::file_number(&path, "log") {
                numbers.push(number);
            } else if file::file_number(&path, "free").is_some() {
                free.push(path);
            }
        }
    }
    Ok((numbers, free))
}

/// Takes log file `number` out of use. Durable once the directory is synced, and only then may it be written to.
pub(crate) fn set_free(context: &LogContext, number: u64) -> Result<PathBuf> {
    let path = log_path(&context.dir, number);
    let free = path.with_extension("free");
    context.vfs.rename(&path, &free).at("rename", &path)?;
    Ok(free)
}

/// Removes free files beyond those worth keeping.
pub(crate) fn drop_surplus(context: &LogContext, free: &mut Vec<PathBuf>) -> Result<()> {
    for path in free.drain(..free.len().saturating_sub(KEPT_FREE)) {
        context.vfs.remove(&path).at("remove", &path)?;
    }
    Ok(())
}
