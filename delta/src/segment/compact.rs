//! Writing a segment anew with what is left of it.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::compacted::{Compacted, CompactedHeader, encode_index};
use super::header::{SegmentEnd, SegmentHeader};
use super::writer::create_whole;
use super::{Content, Segment, Segments};
use crate::checksum::Domain;
use crate::error::At;
use crate::format::{FIRST_GROUP, STORE_ID_BYTES, TABLE_ENTRY_BYTES};
use crate::vfs::{Vfs, VfsFile};
use crate::{Error, Result};

/// Bytes that are copied between two questions whether to go on.
const STEP_BYTES: usize = 256 << 10;

/// Bytes that are handed to the disk at a time: a sync of all of a segment at its end would hold up others' syncs.
const SYNC_BYTES: u64 = 4 << 20;

/// What a compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Bytes in use before.
    pub before: u64,
    /// Bytes in use after.
    pub after: u64,
    /// Records that went.
    pub gone: u64,
}

/// Writes segments anew without what is dead in them. There is one of it for each store; it may work beside the writer of segments.
#[derive(Debug)]
pub struct Compactor {
    pub(crate) segments: Arc<Segments>,
    pub(crate) vfs: Arc<dyn Vfs>,
    /// The directory of the segments.
    pub(crate) dir: PathBuf,
    pub(crate) id: [u8; STORE_ID_BYTES],
}

impl Compactor {
    /// The readers' side.
    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// Puts a new generation in the place of segment `number`, with those of its records for whose numbers `is_live` holds. It is durable
    /// under the segment's name when this returns; readers that hold a view go on with the old one, whose
    /// space comes back when the last of them is done.
    ///
    /// `pace` is told after each portion how many bytes were written, and may wait; where it breaks off, nothing has happened and
    /// the answer is `None`.
    ///
    /// # Errors
    /// `Invalid` for a segment that groups may still be appended to; `NoRecord` for one that is not there. `Corrupt` where a record that
    /// lives is damaged. `Io`: the segment is as it was, or is the new one, and it may be tried again.
    pub fn compact(
        &self,
        number: u32,
        is_live: impl Fn(u32) -> bool,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<Compaction>> {
        let old = self.finished(number)?;
        let checker = self.segments.checker();
        let all = old.numbers(checker)?;
        let numbers = all.last().map_or(0, |range| range.end);
        let had = all.iter().map(|range| u64::from(range.end - range.start)).sum::<u64>();
        let live: Vec<u32> = all.into_iter().flatten().filter(|number| is_live(*number)).collect();
        let index = encode_index(&live, numbers);
        let mut left = Left { table: Vec::with_capacity(live.len() * TABLE_ENTRY_BYTES), length: 0 };
        live.iter().try_for_each(|record| left.add(&old, *record, &self.segments))?;
        let sum = |domain, bytes: &[u8]| checker.sum(domain, u64::from(number), 0, bytes);
        let header = CompactedHeader {
            records: live.len() as u32,
            numbers,
            length: left.length,
            table_sum: sum(Domain::GroupTable, &left.table),
            index_sum: sum(Domain::Index, &index),
            ..old.next_header()?
        };
        let len = header.len().ok_or(Error::Invalid { what: "a segment of such a size" })?;
        let copy = Copy { compactor: self, old: &old, live: &live };
        let mut stopped = false;
        let tail = [left.table, index].concat();
        let names = Some(&self.segments.names);
        let made = create_whole(&*self.vfs, &self.dir, &old.path, len, names, |file, tmp| {
            copy.records(file, tmp, pace, &mut stopped)?;
            file.write_all_at(&tail, FIRST_GROUP + header.length).at("write", tmp)?;
            file.write_all_at(&header.encode(&self.id, checker), 0).at("write", tmp)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // It means nothing, but takes space, of which there may be none.
                let _ = self.vfs.remove(&old.path.with_extension("tmp"));
                return if stopped { Ok(None) } else { Err(error) };
            }
        };
        let compacted = Compacted::open(&*file, &old.path, header)?;
        let before = old.bytes();
        self.segments.replace(Segment::compacted(old.path.clone(), compacted));
        Ok(Some(Compaction { before, after: len, gone: had - live.len() as u64 }))
    }

    /// The segment `number`, if no group can be appended to it any more.
    fn finished(&self, number: u32) -> Result<Arc<Segment>> {
        let view = self.segments.view();
        let segment = view.segment(number).ok_or(Error::NoRecord { segment: number, record: 0 })?;
        let newest = view.list.iter().rfind(|segment| segment.end().is_some());
        if newest.is_none_or(|newest| newest.header.number <= number) || segment.end().is_none() {
            return Err(Error::Invalid { what: "the newest segment, compacted" });
        }
        Ok(Arc::clone(segment))
    }
}

/// What is left of a segment.
struct Left {
    table: Vec<u8>,
    length: u64,
}

impl Left {
    fn add(&mut self, old: &Segment, record: u32, segments: &Segments) -> Result<()> {
        let (checker, segment) = (segments.checker(), old.header.number);
        let missing = Error::NoRecord { segment, record };
        let (group, index) = old.place(record, checker)?.ok_or(missing)?;
        let (size, sum) = group.entry_of(index, segment, checker, &old.path)?;
        self.length += size;
        self.table.extend_from_slice(&(self.length as u32).to_le_bytes());
        self.table.extend_from_slice(&sum.to_le_bytes());
        Ok(())
    }
}

/// The copying of records, in portions.
struct Copy<'a> {
    compactor: &'a Compactor,
    old: &'a Segment,
    live: &'a [u32],
}

impl Copy<'_> {
    /// Each is verified on its way, so that no damage gets a new home.
    fn records(
        &self,
        file: &dyn VfsFile,
        tmp: &std::path::Path,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
        stopped: &mut bool,
    ) -> Result<()> {
        let checker = self.compactor.segments.checker();
        let mut buffer: Vec<u8> = Vec::with_capacity(STEP_BYTES);
        let (mut at, mut synced) = (FIRST_GROUP, FIRST_GROUP);
        for (index, record) in self.live.iter().enumerate() {
            let missing = Error::NoRecord { segment: self.old.header.number, record: *record };
            buffer.extend_from_slice(self.old.record(*record, checker)?.ok_or(missing)?);
            if buffer.len() < STEP_BYTES && index + 1 < self.live.len() {
                continue;
            }
            file.write_all_at(&buffer, at).at("write", tmp)?;
            at += buffer.len() as u64;
            if at - synced >= SYNC_BYTES {
                file.sync().at("sync", tmp)?;
                synced = at;
            }
            if pace(buffer.len() as u64).is_break() {
                *stopped = true;
                return Err(Error::Invalid { what: "a compaction that was broken off" });
            }
            buffer.clear();
        }
        Ok(())
    }
}

impl Segment {
    /// The end of its last group; `None` if it has none.
    pub(super) fn end(&self) -> Option<SegmentEnd> {
        match &self.content {
            Content::Appended { groups, .. } => groups.iter().last().map(|(_, published)| published.end),
            Content::Compacted(compacted) => Some(compacted.header().end),
        }
    }

    /// What its next generation says of the chain of groups; without records.
    fn next_header(&self) -> Result<CompactedHeader> {
        let SegmentHeader { number, mut opening, predecessor } = self.header;
        let generation = match &self.content {
            Content::Appended { groups, .. } => {
                opening = groups.iter().fold(opening, |max, (_, p)| max.max(p.group.opening()));
                1
            }
            Content::Compacted(compacted) => compacted.header().generation.saturating_add(1),
        };
        let end = self.end().ok_or(Error::Invalid { what: "a segment without a group, compacted" })?;
        Ok(CompactedHeader {
            number,
            opening,
            predecessor,
            end,
            generation,
            records: 0,
            numbers: 0,
            length: 0,
            table_sum: 0,
            index_sum: 0,
        })
    }
}
