//! Writing segments: a group at a time, visible only once it is durable.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::header::{GroupHeader, SegmentEnd, SegmentHeader, start_in};
use super::{Names, Segment, Segments, segment_path};
use crate::checksum::Domain;
use crate::codec::{Scratch, at_most};
use crate::error::At;
use crate::format::{
    FIRST_GROUP, GROUP_ALIGN, GROUP_HEADER_BYTES, MAX_RECORD_BYTES, MAX_SEGMENT, STORE_ID_BYTES,
    TABLE_ENTRY_BYTES,
};
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::{Error, Locator, Result};

/// A group that has grown by so many bytes hands them to the file system instead of holding them. So few that they are in
/// the processor's cache still when they are copied.
const CHUNK_BYTES: usize = 512 << 10;

/// Buffers that grew larger than this, for a large value, are not kept for the next group.
const KEPT_BYTES: usize = 4 << 20;

/// Records of a segment stay below this number, so that a group that has begun has room for as many again.
const FULL_RECORDS: u32 = 1 << 31;

/// Where a writer goes on, and how.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub(crate) vfs: Arc<dyn Vfs>,
    /// The directory of the segments.
    pub(crate) dir: PathBuf,
    pub(crate) id: [u8; STORE_ID_BYTES],
    pub(crate) segment_bytes: u64,
    pub(crate) max_deltas: u32,
    /// The newest segment file, or 0; its groups end at `end` or it has none.
    pub(crate) newest: u32,
    pub(crate) next_record: u32,
    pub(crate) end: SegmentEnd,
}

/// The one writer of the segments.
#[derive(Debug)]
pub struct SegmentWriter {
    segments: Arc<Segments>,
    state: WriterState,
    poisoned: bool,
    /// Memory that the next group uses again.
    spare: Buffers,
}

#[derive(Debug, Default)]
struct Buffers {
    pending: Vec<u8>,
    table: Vec<u8>,
    scratch: Scratch,
}

impl SegmentWriter {
    pub(crate) fn new(segments: Arc<Segments>, state: WriterState) -> Self {
        Self { segments, state, poisoned: false, spare: Buffers::default() }
    }

    /// Begins the group of one seal; a new segment first, where the current one is full. `opening` is that of the seal.
    ///
    /// # Errors
    /// `Io`, `Poisoned` after a failure of an earlier group.
    pub fn begin(&mut self, opening: u32) -> Result<GroupWriter<'_>> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let full = start_in(self.state.newest, &self.state.end) >= self.state.segment_bytes;
        if self.state.newest == 0 || full || self.state.next_record >= FULL_RECORDS {
            // Poisoned unless all of it went well.
            self.poisoned = true;
            self.new_segment(opening)?;
            self.poisoned = false;
        }
        let number = self.state.newest;
        let missing = Error::NoRecord { segment: number, record: 0 };
        let segment = self.segments.segment(number).ok_or(missing)?;
        let file = segment.file().ok_or(Error::Invalid { what: "a group of a compacted segment" })?;
        let Buffers { mut pending, mut table, scratch } = std::mem::take(&mut self.spare);
        pending.clear();
        pending.resize(GROUP_HEADER_BYTES, 0);
        table.clear();
        Ok(GroupWriter {
            file: Arc::clone(file),
            path: segment.path.clone(),
            start: start_in(number, &self.state.end),
            first: self.state.next_record,
            writer: self,
            opening,
            pending,
            flushed: 0,
            length: GROUP_HEADER_BYTES as u64,
            table,
            records: 0,
            scratch,
            values: HashMap::new(),
            kept_values: HashSet::new(),
        })
    }

    /// The readers' side.
    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// How many deltas a base may carry.
    pub(crate) fn max_deltas(&self) -> u32 {
        self.state.max_deltas
    }

    fn new_segment(&mut self, opening: u32) -> Result<()> {
        let number = self.state.newest + 1;
        at_most("the number of segments", number as usize, MAX_SEGMENT as usize)?;
        let header = SegmentHeader { number, opening, predecessor: self.state.end };
        let bytes = header.encode(&self.state.id, self.segments.checker());
        let path = segment_path(&self.state.dir, number);
        let state = &self.state;
        let file = create_whole(
            &*state.vfs,
            &state.dir,
            &path,
            state.segment_bytes.max(FIRST_GROUP),
            Some(&self.segments.names),
            |file, path| file.write_all_at(&bytes, 0).at("write", path),
        )?;
        self.segments.push(Segment::new(header, path, file));
        self.state.newest = number;
        self.state.next_record = 0;
        Ok(())
    }
}

/// Makes a file so that it is there whole or not at all: preallocated, filled, durable, and only then under its name.
///
/// Where another thread makes files in the same directory, `names` is what both share, and one at a time gives a name and makes it durable. A sync of a directory
/// that fails may have lost every name that was to be made durable, and the next one that goes well says nothing of those: whoever
/// had given a name meanwhile would take it for durable.
pub(crate) fn create_whole(
    vfs: &dyn Vfs,
    dir: &Path,
    path: &Path,
    len: u64,
    names: Option<&Names>,
    fill: impl FnOnce(&dyn VfsFile, &Path) -> Result<()>,
) -> Result<Arc<dyn VfsFile>> {
    let tmp = path.with_extension("tmp");
    if vfs.exists(&tmp).at("look at", &tmp)? {
        vfs.remove(&tmp).at("remove", &tmp)?;
    }
    let file = vfs.open(&tmp, OpenMode::Create).at("create", &tmp)?;
    if len > 0 {
        file.set_len(len, true).at("allocate", &tmp)?;
    }
    fill(&*file, &tmp)?;
    file.sync().at("sync", &tmp)?;
    let _names = names.map(|names| names.lock().unwrap_or_else(PoisonError::into_inner));
    vfs.rename(&tmp, path).at("rename", path)?;
    vfs.sync_dir(dir).at("sync", dir)?;
    Ok(file)
}

/// A group that is being written. Dropped unfinished, it was never there.
#[derive(Debug)]
pub struct GroupWriter<'w> {
    writer: &'w mut SegmentWriter,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    opening: u32,
    /// Where the header goes.
    start: u64,
    /// Number of the first record.
    first: u32,
    /// What is not handed to the file yet. Where nothing was handed over, it starts with room for the header.
    pending: Vec<u8>,
    /// Bytes handed over, the header's included once there are any.
    flushed: u64,
    /// Bytes so far, from the header's first on.
    length: u64,
    table: Vec<u8>,
    records: u32,
    scratch: Scratch,
    /// The large values of this group, by their hashes.
    pub(crate) values: HashMap<[u8; 32], Locator>,
    /// Large values of earlier groups that pages of this one refer to, each from one entry.
    pub(crate) kept_values: HashSet<Locator>,
}

impl GroupWriter<'_> {
    /// Bytes put so far.
    pub fn bytes(&self) -> u64 {
        self.length + self.table.len() as u64
    }

    /// The segment of the records of this group.
    pub(crate) fn segment(&self) -> u32 {
        self.writer.state.newest
    }

    /// Where the next record will be.
    ///
    /// # Errors
    /// `TooLarge` where a segment has no room for it.
    pub fn next(&self) -> Result<Locator> {
        let number = self.first.checked_add(self.records);
        let next = number.and_then(|number| Locator::new(self.segment(), number));
        next.ok_or(Error::Invalid { what: "more records than a segment takes" })
    }

    /// The opening that the group is of.
    pub(crate) fn opening(&self) -> u32 {
        self.opening
    }

    pub(crate) fn writer(&self) -> &SegmentWriter {
        self.writer
    }

    /// Whether a record is of this group.
    pub(crate) fn has(&self, record: Locator) -> bool {
        record.segment() == self.segment() && record.record() >= self.first
    }

    /// Takes the buffers for a record in the making; [`keep_scratch`](Self::keep_scratch) gives them back.
    pub(crate) fn scratch(&mut self) -> Scratch {
        std::mem::take(&mut self.scratch)
    }

    pub(crate) fn keep_scratch(&mut self, scratch: Scratch) {
        self.scratch = scratch;
    }

    /// Appends a record, and says where it will be found.
    pub(crate) fn put_record(&mut self, record: &[u8]) -> Result<Locator> {
        let locator = self.push_record(record)?;
        self.spill()?;
        Ok(locator)
    }

    /// Hands what was put to the file system, if it has become much.
    ///
    /// # Errors
    /// `Io`; the writer takes no more groups then.
    pub fn spill(&mut self) -> Result<()> {
        if self.pending.len() >= CHUNK_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// Appends a record without touching the file.
    pub(crate) fn push_record(&mut self, record: &[u8]) -> Result<Locator> {
        if self.writer.poisoned {
            return Err(Error::Poisoned);
        }
        at_most("a record", record.len(), MAX_RECORD_BYTES)?;
        let segment = self.segment();
        let limit = u32::MAX - self.first;
        at_most("the number of records of a segment", self.records as usize + 1, limit as usize)?;
        let number = self.first + self.records;
        let locator = Locator::new(segment, number).filter(|_| !record.is_empty());
        let locator = locator.ok_or(Error::Invalid { what: "an empty record" })?;
        let sum =
            self.writer.segments.checker().sum(Domain::Record, u64::from(segment), u64::from(number), record);
        self.pending.extend_from_slice(record);
        self.length += record.len() as u64;
        let end = self.length - GROUP_HEADER_BYTES as u64;
        self.table.extend_from_slice(&(end as u32).to_le_bytes());
        self.table.extend_from_slice(&sum.to_le_bytes());
        self.records += 1;
        Ok(locator)
    }

    /// Writes what is pending behind what was written before.
    fn hand_over(&mut self) -> Result<()> {
        let written = self.file.write_all_at(&self.pending, self.start + self.flushed);
        if written.is_err() {
            self.writer.poisoned = true;
        }
        written.at("write", &self.path)?;
        self.flushed += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Appends `last` and makes the group durable and then visible. Says where `last` is, and where the group ends.
    pub(crate) fn finish_with(mut self, last: &[u8]) -> Result<(Locator, SegmentEnd)> {
        let locator = self.put_record(last)?;
        let poisoned = std::mem::replace(&mut self.writer.poisoned, true);
        debug_assert!(!poisoned && self.table.len() == self.records as usize * TABLE_ENTRY_BYTES);
        let segment = self.segment();
        let checker = self.writer.segments.checker().clone();
        let header = GroupHeader {
            opening: self.opening,
            length: self.length + self.table.len() as u64,
            first: self.first,
            records: self.records,
            predecessor: self.writer.state.end,
            table_sum: checker.sum(
                Domain::GroupTable,
                u64::from(segment),
                u64::from(self.first),
                &self.table,
            ),
        };
        let (bytes, sum) = header.encode(&checker, segment, self.start);
        let end = header.end(segment, self.start, sum);
        self.pending.append(&mut self.table);
        let padding = end.offset - self.start - header.length;
        self.pending.resize(self.pending.len() + padding as usize, 0);
        if self.flushed == 0 {
            // The room for it is at the front: a small group is one write.
            self.pending.iter_mut().zip(&bytes).for_each(|(room, byte)| *room = *byte);
            self.hand_over()?;
        } else {
            self.hand_over()?;
            self.file.write_all_at(&bytes, self.start).at("write", &self.path)?;
        }
        debug_assert!(self.start + self.flushed == end.offset && end.offset.is_multiple_of(GROUP_ALIGN));
        self.file.sync().at("sync", &self.path)?;
        let missing = Error::NoRecord { segment, record: self.first };
        self.writer.segments.segment(segment).ok_or(missing)?.publish(header, self.start, end)?;
        let state = &mut self.writer.state;
        state.end = end;
        state.next_record = self.first + self.records;
        debug_assert!(end.offset > FIRST_GROUP);
        self.writer.poisoned = false;
        self.pending.shrink_to(KEPT_BYTES);
        self.writer.spare = Buffers {
            pending: std::mem::take(&mut self.pending),
            table: std::mem::take(&mut self.table),
            scratch: if self.scratch.record.capacity() > KEPT_BYTES {
                Scratch::default()
            } else {
                std::mem::take(&mut self.scratch)
            },
        };
        Ok((locator, end))
    }
}
