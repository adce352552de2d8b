//! A finished group, read in place: records end to end, then a table of their ends and checksums.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::header::GroupHeader;
use crate::checksum::{Checker, Domain};
use crate::error::At;
use crate::format::{GROUP_HEADER_BYTES, MAX_RECORD_BYTES, TABLE_ENTRY_BYTES};
use crate::vfs::VfsFile;
use crate::{Error, Result};

/// A group of records. What was verified once is not verified again.
#[derive(Debug)]
pub(crate) struct Group {
    header: GroupHeader,
    /// Where the first record is, in bytes from the start of the file.
    start: u64,
    /// The records, then the table.
    bytes: Bytes,
    /// Bytes of the records.
    table: usize,
    table_verified: AtomicBool,
    verified: Box<[AtomicU64]>,
    /// The records whose ends have passed 4 GiB once more, for groups of that size; looked for once.
    wraps: OnceLock<Box<[u32]>>,
}

/// What a table says of one record.
struct Place {
    start: usize,
    end: usize,
    sum: u64,
}

impl Group {
    /// Maps the group whose header is at `start`. Reads nothing yet.
    pub(crate) fn open(file: &dyn VfsFile, path: &Path, header: GroupHeader, start: u64) -> Result<Self> {
        let start = start.saturating_add(GROUP_HEADER_BYTES as u64);
        let bytes = file.map(start, header.length - GROUP_HEADER_BYTES as u64).at("map", path)?;
        let table = bytes.len().saturating_sub(header.records as usize * TABLE_ENTRY_BYTES);
        let verified = (0..header.records.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self {
            header,
            start,
            bytes,
            table,
            table_verified: AtomicBool::new(false),
            verified,
            wraps: OnceLock::new(),
        })
    }

    /// Number of the first record.
    pub(crate) fn first(&self) -> u32 {
        self.header.first
    }

    /// The opening that wrote it.
    pub(crate) fn opening(&self) -> u32 {
        self.header.opening
    }

    /// How many records.
    pub(crate) fn records(&self) -> u32 {
        self.header.records
    }

    /// Where the record at `index` starts in the file, as far as the table can be believed.
    pub(crate) fn offset(&self, index: u32) -> u64 {
        self.start.saturating_add(self.place(index).map_or(0, |place| place.start as u64))
    }

    /// The bytes of the record at `index`, counted from the group's first; verified when first reached. `name` is its segment and
    /// number, which the checksum covers: so the table, which may be long, need not be verified first. A wrong end or a wrong checksum in it
    /// fits no record.
    #[inline]
    pub(crate) fn record(
        &self,
        index: u32,
        name: (u32, u32),
        checker: &Checker,
        path: &Path,
    ) -> Result<&[u8]> {
        let place =
            self.place(index).ok_or_else(|| self.damaged(path, self.table, "impossible record ends"))?;
        let record = self.bytes.get(place.start..place.end).unwrap_or_default();
        // Relaxed: the bit only says that the (unchanging) bytes were right once.
        let (word, bit) = (self.verified.get(index as usize / 64), 1u64 << (index % 64));
        if word.is_none_or(|word| word.load(Ordering::Relaxed) & bit == 0) {
            if checker.sum(Domain::Record, u64::from(name.0), u64::from(name.1), record) != place.sum {
                return Err(self.damaged(path, place.start, "a record does not match its checksum"));
            }
            if let Some(word) = word {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(record)
    }

    /// The bytes of all records, as they share the map.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Verifies everything again, whatever was verified before. `number` says the number of the record at an index.
    pub(crate) fn verify_all(
        &self,
        number: impl Fn(u32) -> u32,
        segment: u32,
        checker: &Checker,
        path: &Path,
    ) -> Result<()> {
        self.forget_verified();
        self.verify_table(segment, checker, path)?;
        (0..self.header.records)
            .try_for_each(|index| self.record(index, (segment, number(index)), checker, path).map(drop))
    }

    /// Forgets which checksums were verified.
    pub(crate) fn forget_verified(&self) {
        self.table_verified.store(false, Ordering::Release);
        self.verified.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// The size of the record at `index`, and its checksum, once the table was verified.
    pub(crate) fn entry_of(
        &self,
        index: u32,
        segment: u32,
        checker: &Checker,
        path: &Path,
    ) -> Result<(u64, u64)> {
        if !self.table_verified.load(Ordering::Acquire) {
            self.verify_table(segment, checker, path)?;
        }
        let place =
            self.place(index).ok_or_else(|| self.damaged(path, self.table, "impossible record ends"))?;
        Ok(((place.end - place.start) as u64, place.sum))
    }

    fn damaged(&self, path: &Path, at: usize, what: &'static str) -> Error {
        Error::corrupt(path, self.start.saturating_add(at as u64), what)
    }

    #[cold]
    fn verify_table(&self, segment: u32, checker: &Checker, path: &Path) -> Result<()> {
        let table = self.bytes.get(self.table..).unwrap_or_default();
        let first = u64::from(self.header.first);
        if checker.sum(Domain::GroupTable, u64::from(segment), first, table) != self.header.table_sum {
            return Err(self.damaged(path, self.table, "a group's table does not match its checksum"));
        }
        self.table_verified.store(true, Ordering::Release);
        Ok(())
    }

    fn entry(&self, index: u32) -> Option<(u32, u64)> {
        let at = self.table + index as usize * TABLE_ENTRY_BYTES;
        let (end, sum) = self.bytes.get(at..at + TABLE_ENTRY_BYTES)?.split_first_chunk()?;
        Some((u32::from_le_bytes(*end), u64::from_le_bytes(*sum.first_chunk()?)))
    }

    #[inline]
    fn place(&self, index: u32) -> Option<Place> {
        let (end, sum) = self.entry(index)?;
        let start = match index.checked_sub(1) {
            None => 0,
            Some(before) => self.full_end(before, self.entry(before)?.0),
        };
        let end = self.full_end(index, end);
        let sound = start < end && end <= self.table && end - start <= MAX_RECORD_BYTES;
        sound.then_some(Place { start, end, sum })
    }

    /// The whole end of a record, of which the table keeps the low 32 bits. Records are shorter than 4 GiB and never empty, so
    /// that a smaller number than the one before means one more turn.
    fn full_end(&self, index: u32, low: u32) -> usize {
        if self.table <= u32::MAX as usize {
            return low as usize;
        }
        let wraps = self
            .wraps
            .get_or_init(|| find_wraps(self.header.records, |index| self.entry(index).map(|e| e.0)));
        let turns = wraps.partition_point(|first| *first <= index);
        turns.saturating_mul(1 << 32).saturating_add(low as usize)
    }
}

/// The records at which the low 32 bits of the ends start anew.
fn find_wraps(records: u32, end: impl Fn(u32) -> Option<u32>) -> Box<[u32]> {
    let mut last = 0;
    let mut wraps = Vec::new();
    for index in 0..records {
        let Some(low) = end(index) else { break };
        if low <= last && index > 0 {
            wraps.push(index);
        }
        last = low;
    }
    wraps.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_past_4_gib_are_told_from_their_low_halves() {
        let ends: [u64; 7] = [5, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 7, 1 << 33, (1 << 33) + 1];
        let wraps = find_wraps(7, |index| ends.get(index as usize).map(|end| *end as u32));
        for (index, end) in ends.iter().enumerate() {
            let turns = wraps.partition_point(|first| *first as usize <= index);
            assert_eq!(((turns as u64) << 32) + u64::from(*end as u32), *end);
        }
    }
}
