//! The smallest encodings: little-endian numbers and canonical varints, and a cursor that never reads past the end.

use std::path::Path;

use crate::{Error, Locator, Result, Stamp};

/// Why bytes do not decode, and where in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

impl Bad {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { offset: 0, what }
    }

    /// The bytes came from `path`, where they start at `start`.
    pub(crate) fn of_file(self, path: &Path, start: u64) -> Error {
        Error::corrupt(path, start.saturating_add(self.offset as u64), self.what)
    }

    /// The bytes were handed in by the caller.
    pub(crate) fn handed_in(self) -> Error {
        Error::Malformed { offset: self.offset, what: self.what }
    }
}

/// Reads bytes from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub(crate) fn bad(&self, what: &'static str) -> Bad {
        Bad { offset: self.at, what }
    }

    /// All that is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Bad> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(self.bad("cut short"))?;
        self.at += len;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let start = *self;
        self.take(N)?.try_into().map_err(|_| start.bad("cut short"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Bad> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Bad> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Bad> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Bad> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Bad> {
        let start = *self;
        let mut value = 0u64;
        for shift in (0..).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(start.bad("number too large"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(start.bad("number not canonical"));
                }
                break;
            }
        }
        Ok(value)
    }

    /// A varint that is at most `limit`.
    pub(crate) fn size(&mut self, limit: usize) -> Result<usize, Bad> {
        let start = *self;
        usize::try_from(self.varint()?).ok().filter(|n| *n <= limit).ok_or(start.bad("number past its limit"))
    }

    /// A count of things that take at least `each` bytes of what is left.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, Bad> {
        let start = *self;
        let count = self.size(usize::MAX)?;
        if count > self.left() / each.max(1) { Err(start.bad("more items than bytes")) } else { Ok(count) }
    }

    /// Bytes after their length.
    pub(crate) fn bytes(&mut self, limit: usize) -> Result<&'a [u8], Bad> {
        let len = self.size(limit)?;
        self.take(len)
    }

    /// A stamp, or `None` for the word 0.
    pub(crate) fn stamp_or_none(&mut self) -> Result<Option<Stamp>, Bad> {
        let word = self.varint()?;
        Ok((word != 0).then_some(Stamp::from_word(word)))
    }

    /// A locator in a record of `segment`: how many segments before, and the record number.
    pub(crate) fn locator(&mut self, segment: u32) -> Result<Locator, Bad> {
        let start = *self;
        let back = self.varint()?;
        let record = self.varint()?;
        u64::from(segment)
            .checked_sub(back)
            .and_then(|segment| Locator::new(u32::try_from(segment).ok()?, u32::try_from(record).ok()?))
            .ok_or(start.bad("no such locator"))
    }

    pub(crate) fn end(&self) -> Result<(), Bad> {
        if self.left() == 0 { Ok(()) } else { Err(self.bad("bytes left over")) }
    }
}

/// The parts of a record in the making, and the record. Its memory is used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// What is fixed in size, of each item.
    pub(crate) heads: Vec<u8>,
    /// Where the items end.
    pub(crate) ends: Vec<u32>,
    /// The items.
    pub(crate) bytes: Vec<u8>,
    pub(crate) record: Vec<u8>,
}

impl Scratch {
    pub(crate) fn clear(&mut self) {
        self.heads.clear();
        self.ends.clear();
        self.bytes.clear();
        self.record.clear();
    }
}

/// Appends `value` as LEB128: seven bits a byte, low ones first, the high bit set on all but the last.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `bytes` after their length.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends what [`Reader::locator`] reads in a record of `segment`.
pub(crate) fn put_locator(locator: Locator, segment: u32, out: &mut Vec<u8>) -> Result<()> {
    let back = segment
        .checked_sub(locator.segment())
        .ok_or(Error::Invalid { what: "a reference to a later record" })?;
    put_varint(u64::from(back), out);
    put_varint(u64::from(locator.record()), out);
    Ok(())
}

/// Refuses what is larger than the format takes.
pub(crate) fn at_most(what: &'static str, size: usize, limit: usize) -> Result<()> {
    if size > limit { Err(Error::TooLarge { what, size: size as u64, limit: limit as u64 }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_golden_and_read_back() {
        for (value, bytes) in [
            (0, &[0][..]),
            (1, &[1]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!(out, bytes);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn varints_that_are_not_canonical_or_too_large_are_refused() {
        let eleven = [0xff; 11];
        let ten = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        for bytes in [&[0x80, 0][..], &[0x81, 0x80, 0], &[0x80], &[], &eleven, &ten] {
            assert!(Reader::new(bytes).varint().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn hostile_lengths_are_refused_before_anything_is_taken() {
        let mut out = Vec::new();
        put_varint(u64::MAX, &mut out);
        assert!(Reader::new(&out).bytes(usize::MAX).is_err());
        assert!(Reader::new(&out).count(1).is_err());
        assert!(Reader::new(&[5, 1, 2]).count(1).is_err());
        assert_eq!(Reader::new(&[2, 1, 2]).bytes(2), Ok(&[1, 2][..]));
        assert!(Reader::new(&[2, 1, 2]).bytes(1).is_err());
    }

    #[test]
    fn locators_are_relative_and_read_back() {
        let locator = Locator::new(5, 300).unwrap();
        let mut out = Vec::new();
        put_locator(locator, 7, &mut out).unwrap();
        assert_eq!(out, [2, 0xac, 2]);
        assert_eq!(Reader::new(&out).locator(7), Ok(locator));
        assert!(Reader::new(&out).locator(2).is_err());
        assert!(put_locator(locator, 4, &mut out).is_err());
    }
}
