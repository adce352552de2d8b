//! Large values: each is stored once, in a record of its own, and pages and run tables refer to it.
//!
//! ```text
//! record      kind u8 = 6 | the value
//! reference   locator | length varint
//! ```
//!
//! A page that is written again refers to the record that is there: nothing is copied but the reference. No two entries of a trie
//! share a record: so it dies with the one that refers to it. The operations of a run table, which die together and after which none of its run is read, do
//! share those of equal values in their group; the records that are the table's own lie right before it.

use std::collections::HashSet;

use bytes::Bytes;

use crate::codec::{Bad, Reader, put_locator, put_varint};
use crate::format::{MAX_INLINE_BYTES, MAX_VALUE_BYTES, record_kind};
use crate::segment::SegmentView;
use crate::{GroupWriter, Locator, Result};

/// Where a large value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Large {
    pub(crate) locator: Locator,
    pub(crate) len: usize,
}

/// Whether a value gets a record of its own.
pub(crate) fn is_large(value: &[u8]) -> bool {
    value.len() > MAX_INLINE_BYTES
}

impl Large {
    /// Appends the reference in a record of `segment`.
    pub(crate) fn encode(&self, segment: u32, out: &mut Vec<u8>) -> Result<()> {
        put_locator(self.locator, segment, out)?;
        put_varint(self.len as u64, out);
        Ok(())
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(crate) fn decode(segment: u32, reader: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Self { locator: reader.locator(segment)?, len: reader.size(MAX_VALUE_BYTES)? })
    }
}

impl GroupWriter<'_> {
    /// Stores a large value.
    pub(crate) fn put_value(&mut self, value: &[u8]) -> Result<Large> {
        let hash = *blake3::hash(value).as_bytes();
        self.store_value(value, hash)
    }

    /// Refers to a large value of this group, or stores it.
    pub(crate) fn share_value(&mut self, value: &[u8]) -> Result<Large> {
        let hash = *blake3::hash(value).as_bytes();
        match self.values.get(&hash) {
            Some(locator) => Ok(Large { locator: *locator, len: value.len() }),
            None => self.store_value(value, hash),
        }
    }

    fn store_value(&mut self, value: &[u8], hash: [u8; 32]) -> Result<Large> {
        let mut record = Vec::with_capacity(value.len() + 1);
        record.push(record_kind::VALUE);
        record.extend_from_slice(value);
        let locator = self.push_record(&record)?;
        self.values.insert(hash, locator);
        Ok(Large { locator, len: value.len() })
    }

    /// The records of large values that were stored before this group and that pages in it refer to.
    pub fn kept_values(&self) -> &HashSet<Locator> {
        &self.kept_values
    }
}

impl SegmentView<'_> {
    /// A large value, borrowed from the map.
    pub(crate) fn value(&self, large: Large) -> Result<&[u8]> {
        let bad = |what| self.bad_record(large.locator, Bad::new(what));
        match self.record(large.locator)?.split_first() {
            Some((&record_kind::VALUE, value)) if value.len() == large.len => Ok(value),
            Some((&record_kind::VALUE, _)) => Err(bad("a value with another length than its reference has")),
            _ => Err(bad("not a value")),
        }
    }

    /// Whether the record at `locator` is a large value.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub(crate) fn is_value(&self, locator: Locator) -> Result<bool> {
        Ok(self.record(locator)?.first() == Some(&record_kind::VALUE))
    }

    /// The records of the large values that the page whose newest record is `page` refers to, in the order of its keys.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn large_values(&self, page: Locator) -> Result<Vec<Locator>> {
        Ok(self.state(page)?.larges().map(|(_, large)| large.locator).collect())
    }

    /// `part` of the record at `locator`, as bytes that share the map and keep it.
    ///
    /// # Errors
    /// As [`record`](Self::record); `Invalid` where `part` is not borrowed from that record.
    pub fn share(&self, locator: Locator, part: &[u8]) -> Result<Bytes> {
        let bytes = self.bytes_of(locator)?;
        let (whole, part_range) = (bytes.as_ptr_range(), part.as_ptr_range());
        if part_range.start < whole.start || part_range.end > whole.end {
            return Err(crate::Error::Invalid { what: "a part of another record" });
        }
        Ok(bytes.slice_ref(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_golden_and_reads_back() {
        let large = Large { locator: Locator::new(3, 300).unwrap(), len: 16 << 20 };
        let mut bytes = Vec::new();
        large.encode(5, &mut bytes).unwrap();
        assert_eq!(bytes, [2, 0xac, 2, 0x80, 0x80, 0x80, 8]);
        assert_eq!(Large::decode(5, &mut Reader::new(&bytes)), Ok(large));
        for cut in 0..bytes.len() {
            assert!(Large::decode(5, &mut Reader::new(&bytes[..cut])).is_err());
        }
        // No value is so long, and no segment comes before the first.
        assert!(Large::decode(5, &mut Reader::new(&[2, 1, 0x81, 0x80, 0x80, 8])).is_err());
        assert!(Large::decode(1, &mut Reader::new(&bytes)).is_err());
    }
}
