//! Segments: append-only files of records, written in groups and read in place.
//!
//! A group is what one seal writes. Its header names the end and the checksum of the group before it, so that neither stale nor
//! recycled bytes ever pass for a group, and its table holds the checksum of every record: all groups together are
//! one hash chain.
//!
//! A segment of which enough is dead is written anew without that ([`Compactor`]). Who reads takes a [`SegmentView`] for the time of
//! one operation: it holds all segments as they were when it was taken, and a file that was replaced is unmapped when the
//! last view of it goes.

mod compact;
mod compacted;
mod group;
mod header;
mod scan;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
pub use compact::{Compaction, Compactor};
pub(crate) use compacted::{Compacted, CompactedHeader};
use group::Group;
pub(crate) use header::GroupHeader;
pub use header::SegmentEnd;
use header::SegmentHeader;
pub(crate) use scan::{Scan, copy_file, scan, scan_so_far};
#[cfg(shuttle)]
use shuttle::sync::Mutex;
#[cfg(not(shuttle))]
use std::sync::Mutex;
pub use writer::{GroupWriter, SegmentWriter};
pub(crate) use writer::{WriterState, create_whole};

use crate::checksum::Checker;
use crate::codec::Bad;
use crate::error::At;
use crate::format::{FIRST_GROUP, MAX_SEGMENT};
use crate::vfs::VfsFile;
use crate::{Error, Locator, Result};

/// Sizes, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SegmentStats {
    /// Segment files.
    pub segments: u64,
    /// Those of them that were compacted.
    pub compacted: u64,
    /// Groups (one a seal) of the segments that were not.
    pub groups: u64,
    /// Records.
    pub records: u64,
    /// Bytes in use: headers, groups and the padding between them, not what is preallocated.
    pub bytes: u64,
}

/// A segment file in numbers.
pub(crate) struct Figures {
    /// How often it was compacted.
    pub(crate) generation: u32,
    /// Bytes in use.
    pub(crate) bytes: u64,
    /// Bytes of the file.
    pub(crate) allocated: u64,
}

/// One segment file, as far as it is published.
#[derive(Debug)]
pub(crate) struct Segment {
    header: SegmentHeader,
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few, most are of the larger kind, and a box is a step more for readers"
)]
enum Content {
    /// Groups as they were sealed.
    Appended { file: Arc<dyn VfsFile>, groups: boxcar::Vec<Published> },
    /// The records that were left of them.
    Compacted(Compacted),
}

#[derive(Debug)]
struct Published {
    group: Group,
    end: SegmentEnd,
}

/// Held by whoever gives a file its name where several threads do.
pub(crate) type Names = Mutex<()>;

/// All segments, for reading: from any number of threads, without a lock. Records become visible when the group
/// they are in is finished.
#[derive(Debug)]
pub struct Segments {
    checker: Checker,
    /// Segment n is at n − 1.
    list: ArcSwap<Vec<Arc<Segment>>>,
    /// Of the directory of segments, where the writer and the compactor make files.
    names: Names,
}

/// All segments as they were at one moment, but for groups that were finished since. What it lends lives as long as it does. To be held
/// for one operation: files that were replaced stay mapped as long as any view of them.
#[derive(Debug)]
pub struct SegmentView<'s> {
    checker: &'s Checker,
    list: Guard<Arc<Vec<Arc<Segment>>>>,
}

/// The file of segment `number` in the directory of segments.
pub(crate) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08x}.seg"))
}

/// The segment that a file name means.
pub(crate) fn segment_number(path: &Path) -> Option<u32> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    let number = u32::from_str_radix(stem, 16).ok()?;
    (number > 0 && number <= MAX_SEGMENT && format!("{number:08x}") == stem).then_some(number)
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, path: PathBuf, file: Arc<dyn VfsFile>) -> Self {
        Self { header, path, content: Content::Appended { file, groups: boxcar::Vec::new() } }
    }

    pub(crate) fn compacted(path: PathBuf, compacted: Compacted) -> Self {
        let CompactedHeader { number, opening, predecessor, .. } = *compacted.header();
        let header = SegmentHeader { number, opening, predecessor };
        Self { header, path, content: Content::Compacted(compacted) }
    }

    /// The file that groups are appended to.
    pub(crate) fn file(&self) -> Option<&Arc<dyn VfsFile>> {
        match &self.content {
            Content::Appended { file, .. } => Some(file),
            Content::Compacted(_) => None,
        }
    }

    /// How often it was compacted; `None` if never.
    fn generation(&self) -> Option<u32> {
        match &self.content {
            Content::Appended { .. } => None,
            Content::Compacted(compacted) => Some(compacted.header().generation),
        }
    }

    /// Groups that are visible.
    fn groups(&self) -> usize {
        match &self.content {
            Content::Appended { groups, .. } => groups.count(),
            Content::Compacted(_) => 0,
        }
    }

    /// Makes a durable group visible to readers.
    pub(crate) fn publish(&self, header: GroupHeader, start: u64, end: SegmentEnd) -> Result<()> {
        match &self.content {
            Content::Appended { file, groups } => {
                let group = Group::open(&**file, &self.path, header, start)?;
                groups.push(Published { group, end });
                Ok(())
            }
            Content::Compacted(_) => Err(Error::Invalid { what: "a group of a compacted segment" }),
        }
    }

    /// The group that `record` is in, and its place there.
    #[inline]
    fn place(&self, record: u32, checker: &Checker) -> Result<Option<(&Group, u32)>> {
        match &self.content {
            Content::Appended { groups, .. } => Ok(group_of(groups, record)),
            Content::Compacted(compacted) => compacted.place(record, self.header.number, checker, &self.path),
        }
    }

    /// The record with the number `record`; `None` where there is none (any more).
    #[inline]
    fn record(&self, record: u32, checker: &Checker) -> Result<Option<&[u8]>> {
        let Some((group, index)) = self.place(record, checker)? else { return Ok(None) };
        group.record(index, (self.header.number, record), checker, &self.path).map(Some)
    }

    /// The numbers of all records, ascending, in portions.
    fn numbers(&self, checker: &Checker) -> Result<Vec<std::ops::Range<u32>>> {
        match &self.content {
            Content::Appended { groups, .. } => Ok(groups
                .iter()
                .map(|(_, published)| {
                    let first = published.group.first();
                    first..first + published.group.records()
                })
                .collect()),
            Content::Compacted(compacted) => compacted.numbers(self.header.number, checker, &self.path),
        }
    }

    /// Forgets which checksums were verified.
    fn forget_verified(&self) {
        match &self.content {
            Content::Appended { groups, .. } => {
                groups.iter().for_each(|(_, published)| published.group.forget_verified());
            }
            Content::Compacted(compacted) => compacted.forget_verified(),
        }
    }

    /// Bytes in use.
    fn bytes(&self) -> u64 {
        match &self.content {
            Content::Appended { groups, .. } => {
                groups.iter().last().map_or(FIRST_GROUP, |(_, published)| published.end.offset)
            }
            Content::Compacted(compacted) => compacted.bytes(),
        }
    }
}

/// The group that holds `record`, and its place there.
#[inline]
fn group_of(groups: &boxcar::Vec<Published>, record: u32) -> Option<(&Group, u32)> {
    let (mut low, mut high) = (0, groups.count());
    while low < high {
        let middle = low + (high - low) / 2;
        if groups.get(middle)?.group.first() <= record {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let group = &groups.get(low.checked_sub(1)?)?.group;
    let index = record - group.first();
    (index < group.records()).then_some((group, index))
}

impl Segments {
    pub(crate) fn new(checker: Checker) -> Self {
        Self { checker, list: ArcSwap::default(), names: Names::new(()) }
    }

    pub(crate) fn checker(&self) -> &Checker {
        &self.checker
    }

    /// All segments, for one operation. A few nanoseconds; no lock, no shared counter.
    #[inline]
    pub fn view(&self) -> SegmentView<'_> {
        SegmentView { checker: &self.checker, list: self.list.load() }
    }

    /// Adds the next segment.
    pub(crate) fn push(&self, segment: Segment) -> Arc<Segment> {
        let segment = Arc::new(segment);
        self.list.rcu(|list| {
            debug_assert_eq!(list.len() + 1, segment.header.number as usize);
            list.iter().chain([&segment]).cloned().collect::<Vec<_>>()
        });
        segment
    }

    /// Puts a new generation of a segment in place of the one there is.
    pub(crate) fn replace(&self, segment: Segment) {
        let segment = Arc::new(segment);
        self.list.rcu(|list| {
            let mut list = Vec::clone(list);
            let place = (segment.header.number as usize).checked_sub(1).and_then(|at| list.get_mut(at));
            debug_assert!(place.is_some());
            if let Some(place) = place {
                *place = Arc::clone(&segment);
            }
            list
        });
    }

    pub(crate) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.view().segment(number).cloned()
    }

    /// The number of the segment with the newest group. Those with smaller numbers may be compacted.
    pub fn finished(&self) -> u32 {
        let view = self.view();
        view.list.iter().rfind(|segment| segment.end().is_some()).map_or(0, |segment| segment.header.number)
    }

    /// Bytes in use in a segment; `None` where there is none.
    pub fn bytes_of(&self, segment: u32) -> Option<u64> {
        self.view().segment(segment).map(|segment| segment.bytes())
    }

    /// Sizes. Costs a walk over the groups, not over the records.
    pub fn stats(&self) -> SegmentStats {
        let mut stats = SegmentStats::default();
        for segment in self.view().list.iter() {
            stats.segments += 1;
            stats.bytes += segment.bytes();
            match &segment.content {
                Content::Appended { groups, .. } => {
                    stats.groups += groups.count() as u64;
                    stats.records += groups.iter().map(|(_, p)| u64::from(p.group.records())).sum::<u64>();
                }
                Content::Compacted(compacted) => {
                    stats.compacted += 1;
                    stats.records += u64::from(compacted.records());
                }
            }
        }
        stats
    }
}

impl SegmentView<'_> {
    fn segment(&self, number: u32) -> Option<&Arc<Segment>> {
        self.list.get((number as usize).checked_sub(1)?)
    }

    /// The bytes of a record, borrowed from the map. Its checksum is verified when it is first reached.
    ///
    /// # Errors
    /// `NoRecord` where it was not published, or was dead and is gone; `Corrupt` where its bytes are not those written.
    #[inline]
    pub fn record(&self, locator: Locator) -> Result<&[u8]> {
        let (segment, record) = (locator.segment(), locator.record());
        let found = match self.segment(segment) {
            Some(segment) => segment.record(record, self.checker)?,
            None => None,
        };
        found.ok_or(Error::NoRecord { segment, record })
    }

    /// Bytes of a record; `None` where it is not there (any more).
    pub(crate) fn size_of(&self, locator: Locator) -> Result<Option<u64>> {
        let Some(segment) = self.segment(locator.segment()) else { return Ok(None) };
        let Some((group, index)) = segment.place(locator.record(), self.checker)? else { return Ok(None) };
        let (size, _) = group.entry_of(index, locator.segment(), self.checker, &segment.path)?;
        Ok(Some(size))
    }

    /// The records from `from` on and before `to`, as far as they are there.
    ///
    /// # Errors
    /// `Corrupt` for a damaged index.
    pub fn records_between(&self, from: Locator, to: Locator) -> Result<Vec<Locator>> {
        let mut out = Vec::new();
        for number in from.segment()..=to.segment() {
            let Some(segment) = self.segment(number) else { break };
            let numbers = segment.numbers(self.checker)?.into_iter().flatten();
            let all = numbers.filter_map(|record| Locator::new(number, record));
            out.extend(all.filter(|record| (from..to).contains(record)));
        }
        Ok(out)
    }

    /// Whether records of a segment may be gone.
    pub(crate) fn is_compacted(&self, segment: u32) -> bool {
        let found = self.segment(segment);
        found.is_some_and(|segment| matches!(segment.content, Content::Compacted(_)))
    }

    /// The bytes that a record is part of, as they share the map.
    pub(crate) fn bytes_of(&self, locator: Locator) -> Result<&Bytes> {
        let (segment, record) = (locator.segment(), locator.record());
        let missing = Error::NoRecord { segment, record };
        let Some(found) = self.segment(segment) else { return Err(missing) };
        found.place(record, self.checker)?.map(|(group, _)| group.bytes()).ok_or(missing)
    }

    /// The error for a record that is as it was written and still makes no sense.
    #[cold]
    pub(crate) fn bad_record(&self, locator: Locator, bad: Bad) -> Error {
        let (segment, record) = (locator.segment(), locator.record());
        let Some(found) = self.segment(segment) else { return Error::NoRecord { segment, record } };
        match found.place(record, self.checker) {
            Ok(Some((group, index))) => bad.of_file(&found.path, group.offset(index)),
            Ok(None) => Error::NoRecord { segment, record },
            Err(error) => error,
        }
    }

    /// Verifies every checksum, whatever was verified before, and calls `each` with every record or what is wrong in place of it.
    pub(crate) fn walk(&self, mut each: impl FnMut(Result<(Locator, &[u8])>) -> Result<()>) -> Result<()> {
        for segment in self.list.iter() {
            segment.forget_verified();
            let numbers = match segment.numbers(self.checker) {
                Ok(numbers) => numbers,
                Err(error) => {
                    each(Err(error))?;
                    continue;
                }
            };
            for number in numbers.into_iter().flatten() {
                let Some(locator) = Locator::new(segment.header.number, number) else { continue };
                match segment.record(number, self.checker) {
                    Ok(Some(record)) => each(Ok((locator, record)))?,
                    Ok(None) => {}
                    Err(error) => each(Err(error))?,
                }
            }
        }
        Ok(())
    }

    /// Calls `each` with every record of a segment.
    pub(crate) fn walk_segment(
        &self,
        segment: u32,
        mut each: impl FnMut(Locator, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(segment) = self.segment(segment) else { return Ok(()) };
        for number in segment.numbers(self.checker)?.into_iter().flatten() {
            if let (Some(record), Some(locator)) =
                (segment.record(number, self.checker)?, Locator::new(segment.header.number, number))
            {
                each(locator, record)?;
            }
        }
        Ok(())
    }

    /// A segment's file in numbers; `None` where there is no such segment.
    pub(crate) fn figures(&self, segment: u32) -> Result<Option<Figures>> {
        let Some(segment) = self.segment(segment) else { return Ok(None) };
        let bytes = segment.bytes();
        let allocated = match &segment.content {
            Content::Appended { file, .. } => file.len().at("look at", &segment.path)?,
            Content::Compacted(_) => bytes,
        };
        Ok(Some(Figures { generation: segment.generation().unwrap_or(0), bytes, allocated }))
    }
}
