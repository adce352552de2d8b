//! Segments: append-only files of records, written in groups and read in place.
use std::sync::Arc;

use crate::{Locator, LogPosition, Result, Seal};

/// Where the published part of the segments ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SegmentEnd {
    /// The last segment that has a group; 0 if there is none.
    pub segment: u32,
    /// Where its last group ends, in bytes.
    pub offset: u64,
    /// That group's checksum.
    pub checksum: u64,
}

/// A seal that is durable. Only [`GroupWriter::finish`] and recovery make one: what it covers need not stay in the batch log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    locator: Locator,
    end: SegmentEnd,
    log_position: LogPosition,
}

impl Sealed {
    /// Where the seal is.
    pub fn locator(&self) -> Locator {
        self.locator
    }

    /// Up to where it covers the batch log.
    pub fn log_position(&self) -> LogPosition {
        self.log_position
    }

    /// Where the segments end with it.
    pub fn end(&self) -> SegmentEnd {
        self.end
    }
}

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

/// All segments, for reading: from any number of threads, without a lock. Records become visible when the group
/// they are in is finished.
#[derive(Debug)]
pub struct Segments {}

impl Segments {
    /// The bytes of a record, borrowed from the map. Its checksum is verified when it is first reached.
    ///
    /// # Errors
    /// `NoRecord` where it was not published, `Corrupt` where its bytes are not those written.
    pub fn record(&self, locator: Locator) -> Result<&[u8]> {
        let _ = locator;
        todo!()
    }

    /// Reads everything: every checksum, and every record decoded.
    ///
    /// # Errors
    /// The first damage found.
    pub fn verify_all(&self) -> Result<SegmentStats> {
        todo!()
    }

    /// Sizes. Costs a walk over the groups, not over the records.
    pub fn stats(&self) -> SegmentStats {
        todo!()
    }
}

/// The one writer of the segments.
#[derive(Debug)]
pub struct SegmentWriter {
    segments: Arc<Segments>,
}

impl SegmentWriter {
    /// Begins the group of one seal; a new segment first, where the current one is full. `opening` is that of the seal.
    ///
    /// # Errors
    /// `Io`, `Poisoned` after a failure of an earlier group.
    pub fn begin(&mut self, opening: u32) -> Result<GroupWriter<'_>> {
        let _ = opening;
        todo!()
    }

    /// The readers' side.
    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }
}

/// A group that is being written. Dropped unfinished, it was never there.
#[derive(Debug)]
pub struct GroupWriter<'w> {
    _writer: &'w mut SegmentWriter,
}

impl GroupWriter<'_> {
    /// Bytes put so far.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// Writes the seal as the last record, makes the group durable, and only then publishes it to readers.
    ///
    /// # Errors
    /// `Io`: nothing of the group was published, and the writer takes no more groups. `TooLarge`.
    pub fn finish(self, seal: &Seal) -> Result<Sealed> {
        let _ = seal;
        todo!()
    }
}
