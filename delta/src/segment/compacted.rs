//! A compacted segment: the records that were left of it, under their old numbers and with their old checksums.
//!
//! ```text
//! header (padded to 512) | records, end to end | table: as of a group | index
//! ```
//!
//! The index has a block for every 64 numbers that the segment ever gave: how many records there are below them, and a bit for each
//! that is there. So a record is found in two steps, wherever it lies. The file is made whole under another name, so
//! nothing in it can be torn; what goes on with the hash chain of groups is in the header.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::group::Group;
use super::header::{GroupHeader, SegmentEnd};
use crate::checksum::{Checker, Domain};
use crate::codec::{Bad, Reader};
use crate::error::At;
use crate::format::{
    COMPACTED_HEADER_BYTES, COMPACTED_MAGIC, FIRST_GROUP, FORMAT_VERSION, GROUP_HEADER_BYTES, INDEX_BITS,
    INDEX_BLOCK_BYTES, STORE_ID_BYTES, TABLE_ENTRY_BYTES,
};
use crate::vfs::VfsFile;
use crate::{Error, Result};

/// The header of a compacted segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompactedHeader {
    pub(crate) number: u32,
    /// The greatest opening that the segment's headers named.
    pub(crate) opening: u32,
    /// The end of the groups in earlier segments.
    pub(crate) predecessor: SegmentEnd,
    /// Where the segment's last group ended, and its checksum: what the next group follows.
    pub(crate) end: SegmentEnd,
    /// How often the segment was compacted.
    pub(crate) generation: u32,
    pub(crate) records: u32,
    /// The numbers of records were below this.
    pub(crate) numbers: u32,
    /// Bytes of the records.
    pub(crate) length: u64,
    pub(crate) table_sum: u64,
    pub(crate) index_sum: u64,
}

impl CompactedHeader {
    pub(crate) fn encode(&self, id: &[u8; STORE_ID_BYTES], checker: &Checker) -> Vec<u8> {
        let mut out = Vec::with_capacity(COMPACTED_HEADER_BYTES);
        out.extend_from_slice(&COMPACTED_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(id);
        out.extend_from_slice(&self.opening.to_le_bytes());
        out.extend_from_slice(&self.predecessor.segment.to_le_bytes());
        out.extend_from_slice(&self.predecessor.offset.to_le_bytes());
        out.extend_from_slice(&self.predecessor.checksum.to_le_bytes());
        out.extend_from_slice(&self.end.offset.to_le_bytes());
        out.extend_from_slice(&self.end.checksum.to_le_bytes());
        for number in [self.generation, self.records, self.numbers, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.length, self.table_sum, self.index_sum] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let sum = checker.sum(Domain::Compacted, u64::from(self.number), 0, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        debug_assert_eq!(out.len(), COMPACTED_HEADER_BYTES);
        out
    }

    /// Reads the header of compacted segment `number` of the store `id` from the first bytes of its file.
    pub(crate) fn decode(
        bytes: &[u8],
        number: u32,
        id: &[u8; STORE_ID_BYTES],
        checker: &Checker,
        path: &Path,
    ) -> Result<Self> {
        let bytes = bytes.get(..COMPACTED_HEADER_BYTES).unwrap_or(bytes);
        let (magic, version, found, found_id, header, zero, sum) =
            Self::parse(bytes, number).map_err(|bad| bad.of_file(path, 0))?;
        let damaged = |what| Err(Error::corrupt(path, 0, what));
        let body = bytes.get(..COMPACTED_HEADER_BYTES - 8).unwrap_or_default();
        if magic != COMPACTED_MAGIC || checker.sum(Domain::Compacted, u64::from(number), 0, body) != sum {
            return if magic == COMPACTED_MAGIC && version > FORMAT_VERSION {
                Err(Error::NewerFormat { path: path.to_owned(), found: version, supported: FORMAT_VERSION })
            } else {
                damaged("the segment's header does not match its checksum")
            };
        }
        if found != number || found_id != *id || version != FORMAT_VERSION || zero != 0 {
            return damaged("the header is that of another segment");
        }
        if header.records > header.numbers || header.len().is_none() {
            return damaged("impossible sizes in the header of a compacted segment");
        }
        Ok(header)
    }

    #[expect(clippy::type_complexity, reason = "the fields as they lie, once")]
    fn parse(
        bytes: &[u8],
        number: u32,
    ) -> Result<([u8; 8], u32, u32, [u8; STORE_ID_BYTES], Self, u32, u64), Bad> {
        let mut reader = Reader::new(bytes);
        let (magic, version) = (reader.array()?, reader.u32()?);
        let (found, id, opening) = (reader.u32()?, reader.array()?, reader.u32()?);
        let predecessor =
            SegmentEnd { segment: reader.u32()?, offset: reader.u64()?, checksum: reader.u64()? };
        let end = SegmentEnd { segment: number, offset: reader.u64()?, checksum: reader.u64()? };
        let (generation, records, numbers, zero) =
            (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let (length, table_sum, index_sum) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let header = Self {
            number,
            opening,
            predecessor,
            end,
            generation,
            records,
            numbers,
            length,
            table_sum,
            index_sum,
        };
        Ok((magic, version, found, id, header, zero, reader.u64()?))
    }

    /// Bytes of the index.
    pub(crate) fn index_len(&self) -> u64 {
        u64::from(self.numbers.div_ceil(INDEX_BITS)) * INDEX_BLOCK_BYTES as u64
    }

    /// Where the index starts in the file.
    fn index_start(&self) -> Option<u64> {
        let table = u64::from(self.records) * TABLE_ENTRY_BYTES as u64;
        FIRST_GROUP.checked_add(self.length)?.checked_add(table)
    }

    /// Length of the file; `None` if there is no such length.
    pub(crate) fn len(&self) -> Option<u64> {
        self.index_start()?.checked_add(self.index_len()).filter(|len| *len <= i64::MAX as u64)
    }
}

/// What of an index is told by its bits: for each 64 numbers, how many records are below them, and which of them are there.
pub(crate) fn encode_index(live: &[u32], numbers: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut left = live;
    for block in 0..numbers.div_ceil(INDEX_BITS) {
        let here = left.partition_point(|number| number / INDEX_BITS == block);
        let (here, rest) = left.split_at(here);
        let bits = here.iter().fold(0u64, |bits, number| bits | 1 << (number % INDEX_BITS));
        out.extend_from_slice(&((live.len() - left.len()) as u32).to_le_bytes());
        out.extend_from_slice(&bits.to_le_bytes());
        left = rest;
    }
    debug_assert!(left.is_empty());
    out
}

/// A compacted segment, read in place.
#[derive(Debug)]
pub(crate) struct Compacted {
    header: CompactedHeader,
    /// `None` if no record is left.
    group: Option<Group>,
    index: Bytes,
    index_verified: AtomicBool,
}

impl Compacted {
    /// Maps the file with this header. Reads nothing yet.
    pub(crate) fn open(file: &dyn VfsFile, path: &Path, header: CompactedHeader) -> Result<Self> {
        let impossible = || Error::corrupt(path, 0, "impossible sizes in the header of a compacted segment");
        let index_start = header.index_start().ok_or_else(impossible)?;
        let start = FIRST_GROUP - GROUP_HEADER_BYTES as u64;
        let group = GroupHeader {
            opening: header.opening,
            length: index_start - start,
            first: 0,
            records: header.records,
            predecessor: header.predecessor,
            table_sum: header.table_sum,
        };
        let group = (header.records > 0).then(|| Group::open(file, path, group, start)).transpose()?;
        let index = match header.index_len() {
            0 => Bytes::new(),
            len => file.map(index_start, len).at("map", path)?,
        };
        Ok(Self { header, group, index, index_verified: AtomicBool::new(false) })
    }

    pub(crate) fn header(&self) -> &CompactedHeader {
        &self.header
    }

    pub(crate) fn records(&self) -> u32 {
        self.header.records
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.header.len().unwrap_or(FIRST_GROUP)
    }

    fn block(&self, block: u32) -> Option<(u32, u64)> {
        let at = block as usize * INDEX_BLOCK_BYTES;
        let (rank, bits) = self.index.get(at..at + INDEX_BLOCK_BYTES)?.split_first_chunk()?;
        Some((u32::from_le_bytes(*rank), u64::from_le_bytes(*bits.first_chunk()?)))
    }

    /// The records, and the place of `record` among them; `None` where it is not there any more.
    #[inline]
    pub(crate) fn place(
        &self,
        record: u32,
        segment: u32,
        checker: &Checker,
        path: &Path,
    ) -> Result<Option<(&Group, u32)>> {
        let Some(group) = self.group.as_ref().filter(|_| record < self.header.numbers) else {
            return Ok(None);
        };
        if !self.index_verified.load(Ordering::Acquire) {
            self.verify_index(segment, checker, path)?;
        }
        let Some((rank, bits)) = self.block(record / INDEX_BITS) else { return Ok(None) };
        let bit = 1u64 << (record % INDEX_BITS);
        Ok((bits & bit != 0).then(|| (group, rank.saturating_add((bits & (bit - 1)).count_ones()))))
    }

    #[cold]
    fn verify_index(&self, segment: u32, checker: &Checker, path: &Path) -> Result<()> {
        let at = self.header.index_start().unwrap_or(0);
        let damaged = |what| Err(Error::corrupt(path, at, what));
        if checker.sum(Domain::Index, u64::from(segment), 0, &self.index) != self.header.index_sum {
            return damaged("the index of a compacted segment does not match its checksum");
        }
        let mut records = 0u64;
        for block in 0..self.header.numbers.div_ceil(INDEX_BITS) {
            let Some((rank, bits)) = self.block(block) else { return damaged("an index is cut short") };
            let room = self.header.numbers - block * INDEX_BITS;
            if u64::from(rank) != records || room < INDEX_BITS && bits >> room != 0 {
                return damaged("an index contradicts itself");
            }
            records += u64::from(bits.count_ones());
        }
        if records != u64::from(self.header.records) {
            return damaged("an index has another number of records");
        }
        self.index_verified.store(true, Ordering::Release);
        Ok(())
    }

    /// The numbers of the records, ascending, as ranges.
    pub(crate) fn numbers(
        &self,
        segment: u32,
        checker: &Checker,
        path: &Path,
    ) -> Result<Vec<std::ops::Range<u32>>> {
        self.verify_index(segment, checker, path)?;
        let mut out: Vec<std::ops::Range<u32>> = Vec::new();
        for block in 0..self.header.numbers.div_ceil(INDEX_BITS) {
            let (_, bits) = self.block(block).unwrap_or_default();
            for number in
                (0..INDEX_BITS).filter(|bit| bits >> bit & 1 == 1).map(|bit| block * INDEX_BITS + bit)
            {
                match out.last_mut() {
                    Some(last) if last.end == number => last.end += 1,
                    _ => out.push(number..number + 1),
                }
            }
        }
        Ok(out)
    }

    /// Forgets which checksums were verified.
    pub(crate) fn forget_verified(&self) {
        self.index_verified.store(false, Ordering::Release);
        if let Some(group) = &self.group {
            group.forget_verified();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> CompactedHeader {
        CompactedHeader {
            number: 3,
            opening: 2,
            predecessor: SegmentEnd { segment: 2, offset: 5, checksum: 6 },
            end: SegmentEnd { segment: 3, offset: 7, checksum: 8 },
            generation: 9,
            records: 10,
            numbers: 130,
            length: 12,
            table_sum: 13,
            index_sum: 14,
        }
    }

    #[test]
    fn a_header_is_golden_and_every_other_bit_is_refused() {
        let (id, path) = ([9; 16], Path::new("segment"));
        let checker = Checker::new(&id);
        let bytes = sample().encode(&id, &checker);
        let mut golden = b"BRCLCMP\0\x03\0\0\0\x03\0\0\0".to_vec();
        golden.extend_from_slice(&id);
        golden.extend_from_slice(b"\x02\0\0\0\x02\0\0\0");
        for word in [5u64, 6, 7, 8] {
            golden.extend_from_slice(&word.to_le_bytes());
        }
        golden.extend_from_slice(b"\x09\0\0\0\x0a\0\0\0\x82\0\0\0\0\0\0\0");
        for word in [12u64, 13, 14] {
            golden.extend_from_slice(&word.to_le_bytes());
        }
        assert_eq!(bytes[..bytes.len() - 8], golden);
        assert_eq!(CompactedHeader::decode(&bytes, 3, &id, &checker, path).unwrap(), sample());
        assert!(CompactedHeader::decode(&bytes, 4, &id, &checker, path).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(CompactedHeader::decode(&other, 3, &id, &checker, path).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(CompactedHeader::decode(&bytes[..cut], 3, &id, &checker, path).is_err());
        }
    }

    #[test]
    fn an_index_is_golden() {
        let index = encode_index(&[1, 63, 64, 129], 130);
        let mut golden = b"\0\0\0\0\x02\0\0\0\0\0\0\x80".to_vec();
        golden.extend_from_slice(b"\x02\0\0\0\x01\0\0\0\0\0\0\0");
        golden.extend_from_slice(b"\x03\0\0\0\x02\0\0\0\0\0\0\0");
        assert_eq!(index, golden);
        assert!(encode_index(&[], 0).is_empty());
    }
}
