//! Segments: append-only files of records, written in groups and read in place.
//!
//! A group is what one seal writes. Its header names the end and the checksum of the group before it, so that neither stale nor
//! recycled bytes ever pass for a group, and its table holds the checksum of every record: all groups together are
//! one hash chain.

mod group;
mod header;
mod scan;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use group::Group;
pub(crate) use header::GroupHeader;
pub use header::SegmentEnd;
pub(crate) use scan::{Scan, scan};
pub use writer::{GroupWriter, SegmentWriter};
pub(crate) use writer::{WriterState, create_whole};

use crate::checksum::Checker;
use crate::codec::Bad;
use crate::format::{FIRST_GROUP, MAX_SEGMENT};
use crate::vfs::VfsFile;
use crate::{Error, Locator, Result};

/// Sizes, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SegmentStats {
    /// Segment files.
    pub segments: u64,
    /// Groups (one a seal).
    pub groups: u64,
    /// Records.
    pub records: u64,
    /// Bytes in use: headers, groups and the padding between them, not what is preallocated.
    pub bytes: u64,
}

/// One segment file, as far as it is published.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    groups: boxcar::Vec<Published>,
}

#[derive(Debug)]
struct Published {
    group: Group,
    end: SegmentEnd,
}

/// All segments, for reading: from any number of threads, without a lock. Records become visible when the group
/// they are in is finished.
#[derive(Debug)]
pub struct Segments {
    checker: Checker,
    /// Segment n is at n − 1.
    segments: boxcar::Vec<Segment>,
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
    pub(crate) fn new(path: PathBuf, file: Arc<dyn VfsFile>) -> Self {
        Self { path, file, groups: boxcar::Vec::new() }
    }

    /// Makes a durable group visible to readers.
    pub(crate) fn publish(&self, header: GroupHeader, start: u64, end: SegmentEnd) -> Result<()> {
        let group = Group::open(&*self.file, &self.path, header, start)?;
        self.groups.push(Published { group, end });
        Ok(())
    }

    /// The group that holds `record`.
    fn group_of(&self, record: u32) -> Option<&Group> {
        let (mut low, mut high) = (0, self.groups.count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.groups.get(middle)?.group.first() <= record {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let group = &self.groups.get(low.checked_sub(1)?)?.group;
        (record - group.first() < group.records()).then_some(group)
    }
}

impl Segments {
    pub(crate) fn new(checker: Checker) -> Self {
        Self { checker, segments: boxcar::Vec::new() }
    }

    pub(crate) fn checker(&self) -> &Checker {
        &self.checker
    }

    pub(crate) fn push(&self, segment: Segment) -> &Segment {
        let index = self.segments.push(segment);
        // A push is complete when it returns, and nothing is ever removed.
        #[expect(clippy::expect_used, reason = "the element was pushed in the line above")]
        self.segments.get(index).expect("pushed")
    }

    pub(crate) fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments.get((number as usize).checked_sub(1)?)
    }

    fn reach(&self, locator: Locator) -> Result<(&Segment, &Group, u32)> {
        self.segment(locator.segment())
            .and_then(|segment| Some((segment, segment.group_of(locator.record())?)))
            .map(|(segment, group)| (segment, group, locator.record() - group.first()))
            .ok_or(Error::NoRecord { segment: locator.segment(), record: locator.record() })
    }

    /// The bytes of a record, borrowed from the map. Its checksum is verified when it is first reached.
    ///
    /// # Errors
    /// `NoRecord` where it was not published, `Corrupt` where its bytes are not those written.
    #[inline]
    pub fn record(&self, locator: Locator) -> Result<&[u8]> {
        let (segment, group, index) = self.reach(locator)?;
        group.record(index, locator.segment(), &self.checker, &segment.path)
    }

    /// The error for a record that is as it was written and still makes no sense.
    #[cold]
    pub(crate) fn bad_record(&self, locator: Locator, bad: Bad) -> Error {
        match self.reach(locator) {
            Ok((segment, group, index)) => bad.of_file(&segment.path, group.offset(index)),
            Err(error) => error,
        }
    }

    /// Verifies every checksum, and calls `each` with every record.
    pub(crate) fn walk(&self, mut each: impl FnMut(Locator, &[u8]) -> Result<()>) -> Result<()> {
        for (number, segment) in self.segments.iter() {
            let number = number as u32 + 1;
            for (_, published) in segment.groups.iter() {
                let group = &published.group;
                group.verify_all(number, &self.checker, &segment.path)?;
                for index in 0..group.records() {
                    let record = group.record(index, number, &self.checker, &segment.path)?;
                    if let Some(locator) = Locator::new(number, group.first() + index) {
                        each(locator, record)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sizes. Costs a walk over the groups, not over the records.
    pub fn stats(&self) -> SegmentStats {
        let mut stats = SegmentStats::default();
        for (_, segment) in self.segments.iter() {
            stats.segments += 1;
            let mut end = FIRST_GROUP;
            for (_, published) in segment.groups.iter() {
                stats.groups += 1;
                stats.records += u64::from(published.group.records());
                end = published.end.offset;
            }
            stats.bytes += end;
        }
        stats
    }
}
