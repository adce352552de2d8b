//! The header of a segment file, and that of a group: how they are written, and when they are believed.

use std::path::Path;

use crate::checksum::{Checker, Domain};
use crate::codec::Reader;
use crate::format::{
    FIRST_GROUP, FORMAT_VERSION, GROUP_ALIGN, GROUP_HEADER_BYTES, GROUP_MAGIC, SEGMENT_HEADER_BYTES,
    SEGMENT_MAGIC, STORE_ID_BYTES, TABLE_ENTRY_BYTES,
};
use crate::{Error, Result};

/// Where the published part of the segments ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SegmentEnd {
    /// The last segment that has a group; 0 if there is none.
    pub segment: u32,
    /// Where its last group ends, in bytes, padding included.
    pub offset: u64,
    /// That group's checksum.
    pub checksum: u64,
}

impl SegmentEnd {
    /// Whether this end lies behind `other`.
    pub(crate) fn is_after(&self, other: &Self) -> bool {
        (self.segment, self.offset) > (other.segment, other.offset)
    }
}

/// The header of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u32,
    pub(crate) opening: u32,
    /// The end of the groups in earlier segments.
    pub(crate) predecessor: SegmentEnd,
}

impl SegmentHeader {
    pub(crate) fn encode(&self, id: &[u8; STORE_ID_BYTES], checker: &Checker) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(id);
        out.extend_from_slice(&self.opening.to_le_bytes());
        out.extend_from_slice(&self.predecessor.segment.to_le_bytes());
        out.extend_from_slice(&self.predecessor.offset.to_le_bytes());
        out.extend_from_slice(&self.predecessor.checksum.to_le_bytes());
        out.extend_from_slice(&checker.sum(Domain::Segment, u64::from(self.number), 0, &out).to_le_bytes());
        debug_assert_eq!(out.len(), SEGMENT_HEADER_BYTES);
        out
    }

    /// Reads the header of segment `number` of the store `id` from the first bytes of its file.
    pub(crate) fn decode(
        bytes: &[u8],
        number: u32,
        id: &[u8; STORE_ID_BYTES],
        checker: &Checker,
        path: &Path,
    ) -> Result<Self> {
        let mut reader = Reader::new(bytes.get(..SEGMENT_HEADER_BYTES).unwrap_or(bytes));
        let mut parse = || {
            let magic: [u8; 8] = reader.array()?;
            let version = reader.u32()?;
            let header = (magic, version, reader.u32()?, reader.array::<STORE_ID_BYTES>()?);
            let opening = reader.u32()?;
            let predecessor =
                SegmentEnd { segment: reader.u32()?, offset: reader.u64()?, checksum: reader.u64()? };
            Ok((header, opening, predecessor, reader.u64()?))
        };
        let ((magic, version, found, found_id), opening, predecessor, sum) =
            parse().map_err(|bad: crate::codec::Bad| bad.of_file(path, 0))?;
        let damaged = |what| Err(Error::corrupt(path, 0, what));
        if magic != SEGMENT_MAGIC {
            return damaged("not a segment");
        }
        let body = bytes.get(..SEGMENT_HEADER_BYTES - 8).unwrap_or_default();
        if checker.sum(Domain::Segment, u64::from(number), 0, body) != sum {
            return if version > FORMAT_VERSION {
                Err(Error::NewerFormat { path: path.to_owned(), found: version, supported: FORMAT_VERSION })
            } else {
                damaged("the segment's header does not match its checksum")
            };
        }
        if found != number || found_id != *id || version != FORMAT_VERSION {
            return damaged("the header is that of another segment");
        }
        Ok(Self { number, opening, predecessor })
    }
}

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) opening: u32,
    /// From the header's first byte to the table's last.
    pub(crate) length: u64,
    pub(crate) first: u32,
    pub(crate) records: u32,
    pub(crate) predecessor: SegmentEnd,
    pub(crate) table_sum: u64,
}

impl GroupHeader {
    /// The header's bytes at `start` of `segment`, and its checksum.
    pub(crate) fn encode(&self, checker: &Checker, segment: u32, start: u64) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(GROUP_HEADER_BYTES);
        out.extend_from_slice(&GROUP_MAGIC);
        out.extend_from_slice(&self.opening.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.predecessor.segment.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.predecessor.offset.to_le_bytes());
        out.extend_from_slice(&self.predecessor.checksum.to_le_bytes());
        out.extend_from_slice(&self.table_sum.to_le_bytes());
        let sum = checker.sum(Domain::Group, u64::from(segment), start, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        debug_assert_eq!(out.len(), GROUP_HEADER_BYTES);
        (out, sum)
    }

    /// The header at `start` of `segment` and its checksum, if `bytes` begin with one written for exactly this place
    /// of this store.
    pub(crate) fn decode(bytes: &[u8], checker: &Checker, segment: u32, start: u64) -> Option<(Self, u64)> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        let mut reader = Reader::new(bytes);
        if reader.array::<4>().ok()? != GROUP_MAGIC {
            return None;
        }
        let opening = reader.u32().ok()?;
        let length = reader.u64().ok()?;
        let (first, records) = (reader.u32().ok()?, reader.u32().ok()?);
        let before = reader.u32().ok()?;
        let zero = reader.u32().ok()?;
        let predecessor =
            SegmentEnd { segment: before, offset: reader.u64().ok()?, checksum: reader.u64().ok()? };
        let table_sum = reader.u64().ok()?;
        let sum = reader.u64().ok()?;
        let body = bytes.get(..GROUP_HEADER_BYTES - 8)?;
        if checker.sum(Domain::Group, u64::from(segment), start, body) != sum {
            return None;
        }
        let header = Self { opening, length, first, records, predecessor, table_sum };
        let least = GROUP_HEADER_BYTES as u64 + u64::from(records) * (TABLE_ENTRY_BYTES as u64 + 1);
        let sound = zero == 0
            && records > 0
            && first.checked_add(records).is_some()
            && length >= least
            && start.checked_add(length)?.checked_next_multiple_of(GROUP_ALIGN).is_some();
        sound.then_some((header, sum))
    }

    /// Where this group ends, if it starts at `start` of `segment` and its checksum is `sum`.
    pub(crate) fn end(&self, segment: u32, start: u64, sum: u64) -> SegmentEnd {
        let offset = start.saturating_add(self.length);
        SegmentEnd { segment, offset: offset.next_multiple_of(GROUP_ALIGN), checksum: sum }
    }
}

/// Where the groups of `segment` start, if it is the one that `end` lies in.
pub(crate) fn start_in(segment: u32, end: &SegmentEnd) -> u64 {
    if end.segment == segment { end.offset } else { FIRST_GROUP }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupHeader {
        GroupHeader {
            opening: 2,
            length: 1000,
            first: 3,
            records: 4,
            predecessor: SegmentEnd { segment: 5, offset: 6, checksum: 7 },
            table_sum: 8,
        }
    }

    #[test]
    fn a_segment_header_is_golden_and_every_other_bit_is_refused() {
        let (id, path) = ([9; 16], Path::new("segment"));
        let checker = Checker::new(&id);
        let header = SegmentHeader { number: 3, opening: 2, predecessor: group().predecessor };
        let bytes = header.encode(&id, &checker);
        assert_eq!(bytes[..16], *b"BRCLSEG\0\x03\0\0\0\x03\0\0\0");
        assert_eq!(bytes[16..32], id);
        assert_eq!(bytes[32..56], *b"\x02\0\0\0\x05\0\0\0\x06\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0");
        assert_eq!(SegmentHeader::decode(&bytes, 3, &id, &checker, path).unwrap(), header);
        assert!(SegmentHeader::decode(&bytes, 4, &id, &checker, path).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&other, 3, &id, &checker, path).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(SegmentHeader::decode(&bytes[..cut], 3, &id, &checker, path).is_err());
        }
    }

    #[test]
    fn a_segment_of_a_later_format_is_told_apart() {
        let (id, path) = ([9; 16], Path::new("segment"));
        let checker = Checker::new(&id);
        let mut bytes =
            SegmentHeader { number: 3, opening: 2, predecessor: SegmentEnd::default() }.encode(&id, &checker);
        bytes[8] = 4;
        let error = SegmentHeader::decode(&bytes, 3, &id, &checker, path).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 4, supported: 3, .. }));
    }

    #[test]
    fn a_group_header_is_golden_and_believed_in_its_place_only() {
        let checker = Checker::new(&[9; 16]);
        let (bytes, sum) = group().encode(&checker, 5, 512);
        assert_eq!(bytes[..24], *b"BGRP\x02\0\0\0\xe8\x03\0\0\0\0\0\0\x03\0\0\0\x04\0\0\0");
        assert_eq!(bytes[24..40], *b"\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0");
        assert_eq!(bytes[40..56], *b"\x07\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0");
        assert_eq!(GroupHeader::decode(&bytes, &checker, 5, 512), Some((group(), sum)));
        assert_eq!(group().end(5, 512, sum).offset, 1536);
        assert_eq!(GroupHeader::decode(&bytes, &checker, 5, 1024), None);
        assert_eq!(GroupHeader::decode(&bytes, &checker, 6, 512), None);
        assert_eq!(GroupHeader::decode(&bytes, &Checker::new(&[8; 16]), 5, 512), None);
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(GroupHeader::decode(&other, &checker, 5, 512), None, "bit {bit}");
        }
    }

    #[test]
    fn a_group_header_with_impossible_sizes_is_refused_even_with_a_right_checksum() {
        let checker = Checker::new(&[9; 16]);
        for header in [
            GroupHeader { records: 0, ..group() },
            GroupHeader { length: 64 + 51, ..group() },
            GroupHeader { length: u64::MAX - 600, ..group() },
            GroupHeader { first: u32::MAX, ..group() },
        ] {
            let (bytes, _) = header.encode(&checker, 5, 512);
            assert_eq!(GroupHeader::decode(&bytes, &checker, 5, 512), None, "{header:?}");
        }
    }
}
