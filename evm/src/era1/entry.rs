//! Framing: type (2 bytes), length (4 bytes), reserved (2 bytes), all little-endian, then the data.

use std::io::{Read, Seek, SeekFrom};

use crate::{Era1Fault, Error};

/// The largest part of a block, compressed or not, in bytes. The largest ever is a few megabytes.
pub const MAX_PART_BYTES: u64 = 64 << 20;

const HEADER_BYTES: u64 = 8;

/// The types of entries that an era1 file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Kind {
    Version = 0x3265,
    Header = 0x03,
    Body = 0x04,
    Receipts = 0x05,
    TotalDifficulty = 0x06,
    Accumulator = 0x07,
    BlockIndex = 0x3266,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Version => "a version entry (0x3265)",
            Self::Header => "a compressed header (0x0003)",
            Self::Body => "a compressed body (0x0004)",
            Self::Receipts => "compressed receipts (0x0005)",
            Self::TotalDifficulty => "a total difficulty (0x0006)",
            Self::Accumulator => "an accumulator (0x0007)",
            Self::BlockIndex => "a block index (0x3266)",
        }
    }
}

/// A file as a sequence of entries. Remembers where the last entry began, for errors.
#[derive(Debug)]
pub(super) struct Entries<R> {
    file: R,
    len: u64,
    offset: u64,
    begun: u64,
    peeked: Option<(u16, u32)>,
}

impl<R: Read + Seek> Entries<R> {
    pub(super) fn new(mut file: R) -> Result<Self, Error> {
        let length = file.seek(SeekFrom::End(0)).and_then(|len| file.rewind().map(|()| len));
        let mut entries = Self { file, len: 0, offset: 0, begun: 0, peeked: None };
        entries.len = length.map_err(|error| entries.fault("file", Era1Fault::Read(error)))?;
        Ok(entries)
    }

    /// Where the next entry begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Length of the file when it was opened, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// An error at the entry that was begun last.
    pub(super) fn fault(&self, entry: &str, fault: Era1Fault) -> Error {
        Error::Era1 { offset: self.begun, entry: entry.to_owned(), fault: Box::new(fault) }
    }

    /// Goes to an entry.
    pub(super) fn seek(&mut self, offset: u64) -> Result<(), Error> {
        self.peeked = None;
        self.offset = offset;
        self.begun = offset;
        let sought = self.file.seek(SeekFrom::Start(offset));
        sought.map(|_| ()).map_err(|error| self.fault("file", Era1Fault::Read(error)))
    }

    /// The type of the next entry; `None` at the end of the file.
    pub(super) fn peek(&mut self) -> Result<Option<u16>, Error> {
        if self.peeked.is_none() && self.offset < self.len {
            self.peeked = Some(self.header()?);
        }
        Ok(self.peeked.map(|(kind, _)| kind))
    }

    fn header(&mut self) -> Result<(u16, u32), Error> {
        const ENTRY: &str = "entry";
        self.begun = self.offset;
        let available = self.len.saturating_sub(self.offset);
        if available < HEADER_BYTES {
            return Err(self.fault(ENTRY, Era1Fault::Truncated { needed: HEADER_BYTES, available }));
        }
        let mut bytes = [0; HEADER_BYTES as usize];
        self.file.read_exact(&mut bytes).map_err(|error| self.fault(ENTRY, Era1Fault::Read(error)))?;
        let [k0, k1, l0, l1, l2, l3, r0, r1] = bytes;
        let reserved = u16::from_le_bytes([r0, r1]);
        if reserved != 0 {
            return Err(self.fault(ENTRY, Era1Fault::Reserved(reserved)));
        }
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let available = available - HEADER_BYTES;
        if u64::from(len) > available {
            return Err(self.fault(ENTRY, Era1Fault::Truncated { needed: len.into(), available }));
        }
        Ok((u16::from_le_bytes([k0, k1]), len))
    }

    /// Reads the next entry, which must be of `kind` and between `min` and `max` bytes long.
    fn read(&mut self, kind: Kind, min: u64, max: u64, entry: &str) -> Result<Vec<u8>, Error> {
        let Some(found) = self.peek()? else {
            self.begun = self.offset;
            return Err(self.fault(entry, Era1Fault::Truncated { needed: HEADER_BYTES, available: 0 }));
        };
        if found != kind as u16 {
            return Err(self.fault(entry, Era1Fault::Unexpected { found, expected: kind.name() }));
        }
        let len = self.peeked.take().map_or(0, |(_, len)| u64::from(len));
        if len < min || len > max {
            return Err(self.fault(entry, Era1Fault::Length { len, limit: max }));
        }
        // At most `max` bytes, and no more than the file has.
        let mut data = vec![0; len as usize];
        self.file.read_exact(&mut data).map_err(|error| self.fault(entry, Era1Fault::Read(error)))?;
        self.offset += HEADER_BYTES + len;
        Ok(data)
    }

    /// Reads an entry of exactly `len` bytes.
    pub(super) fn exact(&mut self, kind: Kind, len: u64, entry: &str) -> Result<Vec<u8>, Error> {
        self.read(kind, len, len, entry)
    }

    /// Reads an entry of `N` bytes.
    pub(super) fn fixed<const N: usize>(&mut self, kind: Kind, entry: &str) -> Result<[u8; N], Error> {
        let data = self.exact(kind, N as u64, entry)?;
        Ok(data.first_chunk().copied().unwrap_or([0; N]))
    }

    /// Reads an entry without data.
    pub(super) fn expect(&mut self, kind: Kind, entry: &str) -> Result<(), Error> {
        let max = if kind == Kind::Version { 0 } else { MAX_PART_BYTES };
        self.read(kind, 0, max, entry).map(|_| ())
    }

    /// Reads an entry of snappy frames and decompresses it.
    pub(super) fn compressed(&mut self, kind: Kind, entry: &str) -> Result<Vec<u8>, Error> {
        let data = self.read(kind, 0, MAX_PART_BYTES, entry)?;
        let mut out = Vec::new();
        let mut decoder = snap::read::FrameDecoder::new(data.as_slice()).take(MAX_PART_BYTES + 1);
        decoder.read_to_end(&mut out).map_err(|error| self.fault(entry, Era1Fault::Snappy(error)))?;
        if out.len() as u64 > MAX_PART_BYTES {
            return Err(self.fault(entry, Era1Fault::TooLarge { limit: MAX_PART_BYTES }));
        }
        Ok(out)
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        let rest = self.len.saturating_sub(self.offset);
        if rest > 0 {
            self.begun = self.offset;
            return Err(self.fault("end of file", Era1Fault::TrailingBytes(rest)));
        }
        Ok(())
    }
}
