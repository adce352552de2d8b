//! Records of the batch log: their frame, and what is in them.
//!
//! ```text
//! batch     version varint | stamp varint | parent varint (0: none) | the commit's operations
//! root      stamp varint | 32 bytes
//! opening, closed, sealed   segment u32 | end u64 | checksum u64: where the durable groups end
//! rotate    file number u64
//! ```

use bristlecone_trie::B256;

use crate::checksum::{Checker, Domain};
use crate::codec::{Bad, Reader, put_varint};
use crate::format::{
    CHECKSUM_BYTES, LOG_ALIGN, LOG_RECORD_HEAD_BYTES, LOG_RECORD_MAGIC, MAX_PAYLOAD_BYTES, log_kind as kind,
};
use crate::{LogPosition, SegmentEnd, Stamp};

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Batch {
        version: u64,
        stamp: Stamp,
        parent: Option<Stamp>,
        payload: &'a [u8],
    },
    Root {
        stamp: Stamp,
        root: B256,
    },
    /// The opening is that of the frame.
    Opening {
        sealed: SegmentEnd,
    },
    Closed {
        sealed: SegmentEnd,
    },
    Rotate {
        file: u64,
    },
    Sealed {
        sealed: SegmentEnd,
    },
}

pub(crate) fn put_end(end: &SegmentEnd, out: &mut Vec<u8>) {
    out.extend_from_slice(&end.segment.to_le_bytes());
    out.extend_from_slice(&end.offset.to_le_bytes());
    out.extend_from_slice(&end.checksum.to_le_bytes());
}

pub(crate) fn read_end(reader: &mut Reader<'_>) -> Result<SegmentEnd, Bad> {
    Ok(SegmentEnd { segment: reader.u32()?, offset: reader.u64()?, checksum: reader.u64()? })
}

impl<'a> Record<'a> {
    fn kind(&self) -> u8 {
        match self {
            Self::Batch { .. } => kind::BATCH,
            Self::Root { .. } => kind::ROOT,
            Self::Opening { .. } => kind::OPENING,
            Self::Closed { .. } => kind::CLOSED,
            Self::Rotate { .. } => kind::ROTATE,
            Self::Sealed { .. } => kind::SEALED,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Batch { version, stamp, parent, payload } => {
                put_varint(*version, out);
                put_varint(stamp.word(), out);
                put_varint(parent.map_or(0, Stamp::word), out);
                out.extend_from_slice(payload);
            }
            Self::Root { stamp, root } => {
                put_varint(stamp.word(), out);
                out.extend_from_slice(root.as_slice());
            }
            Self::Opening { sealed } | Self::Closed { sealed } | Self::Sealed { sealed } => {
                put_end(sealed, out)
            }
            Self::Rotate { file } => out.extend_from_slice(&file.to_le_bytes()),
        }
    }

    pub(crate) fn decode(found: u8, payload: &'a [u8]) -> Result<Self, Bad> {
        let mut reader = Reader::new(payload);
        let record = match found {
            kind::BATCH => {
                let version = reader.varint()?;
                let stamp = Stamp::from_word(reader.varint()?);
                let parent = reader.stamp_or_none()?;
                return Ok(Self::Batch { version, stamp, parent, payload: reader.rest() });
            }
            kind::ROOT => {
                Self::Root { stamp: Stamp::from_word(reader.varint()?), root: B256::new(reader.array()?) }
            }
            kind::OPENING => Self::Opening { sealed: read_end(&mut reader)? },
            kind::CLOSED => Self::Closed { sealed: read_end(&mut reader)? },
            kind::ROTATE => Self::Rotate { file: reader.u64()? },
            kind::SEALED => Self::Sealed { sealed: read_end(&mut reader)? },
            _ => return Err(Bad::new("no such kind of log record")),
        };
        reader.end()?;
        Ok(record)
    }
}

/// The frame of a record, without where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) length: u32,
    pub(crate) sequence: u64,
    /// All records before this number were durable when this one was written.
    pub(crate) synced: u64,
    pub(crate) predecessor: u64,
    pub(crate) opening: u32,
    pub(crate) kind: u8,
}

/// Bytes of a whole record with a payload of `length` bytes.
pub(crate) fn record_bytes(length: u32) -> u64 {
    let bytes = LOG_RECORD_HEAD_BYTES as u64 + u64::from(length) + CHECKSUM_BYTES as u64;
    bytes.next_multiple_of(LOG_ALIGN)
}

impl Frame {
    /// The frame at the start of `bytes`, if one was written for exactly `offset` of log file `file`.
    pub(crate) fn decode(bytes: &[u8], checker: &Checker, file: u64, offset: u64) -> Option<Self> {
        let bytes = bytes.get(..LOG_RECORD_HEAD_BYTES)?;
        let mut reader = Reader::new(bytes);
        if reader.array::<4>().ok()? != LOG_RECORD_MAGIC {
            return None;
        }
        let length = reader.u32().ok()?;
        let (sequence, synced) = (reader.u64().ok()?, reader.u64().ok()?);
        let (predecessor, opening) = (reader.u64().ok()?, reader.u32().ok()?);
        let (kind, zero) = (reader.u8().ok()?, reader.array::<3>().ok()?);
        let sum = reader.u64().ok()?;
        let covered = bytes.get(..LOG_RECORD_HEAD_BYTES - CHECKSUM_BYTES)?;
        let sound = zero == [0; 3]
            && length as usize <= MAX_PAYLOAD_BYTES
            && checker.sum(Domain::LogHead, file, offset, covered) == sum;
        sound.then_some(Self { length, sequence, synced, predecessor, opening, kind })
    }
}

/// Appends to `out` the record that stands at `at`, and says where the next one does. `synced` and `opening` as in [`Frame`].
pub(crate) fn put_record(
    record: &Record<'_>,
    at: &LogPosition,
    synced: u64,
    opening: u32,
    checker: &Checker,
    out: &mut Vec<u8>,
) -> LogPosition {
    let start = out.len();
    out.extend_from_slice(&[0; LOG_RECORD_HEAD_BYTES]);
    record.encode(out);
    let length = out.len() - start - LOG_RECORD_HEAD_BYTES;
    debug_assert!(length <= MAX_PAYLOAD_BYTES && synced <= at.sequence);
    let mut head = Vec::with_capacity(LOG_RECORD_HEAD_BYTES);
    head.extend_from_slice(&LOG_RECORD_MAGIC);
    head.extend_from_slice(&(length as u32).to_le_bytes());
    head.extend_from_slice(&at.sequence.to_le_bytes());
    head.extend_from_slice(&synced.to_le_bytes());
    head.extend_from_slice(&at.checksum.to_le_bytes());
    head.extend_from_slice(&opening.to_le_bytes());
    head.extend_from_slice(&[record.kind(), 0, 0, 0]);
    head.extend_from_slice(&checker.sum(Domain::LogHead, at.file, at.offset, &head).to_le_bytes());
    debug_assert_eq!(head.len(), LOG_RECORD_HEAD_BYTES);
    out.iter_mut().skip(start).zip(&head).for_each(|(room, byte)| *room = *byte);
    let sum = checker.sum(Domain::LogRecord, at.file, at.offset, out.get(start..).unwrap_or_default());
    out.extend_from_slice(&sum.to_le_bytes());
    let bytes = record_bytes(length as u32);
    out.resize(start + bytes as usize, 0);
    LogPosition { file: at.file, offset: at.offset + bytes, sequence: at.sequence + 1, checksum: sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: SegmentEnd = SegmentEnd { segment: 1, offset: 2, checksum: 3 };

    fn samples() -> Vec<(Record<'static>, u8, Vec<u8>)> {
        let stamp = Stamp::from_word(300);
        let end = b"\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0".to_vec();
        let root: Vec<u8> = [&b"\xac\x02"[..], &[7; 32]].concat();
        let batch = |version, parent| Record::Batch { version, stamp, parent, payload: b"ops" };
        vec![
            (batch(5, None), 1, b"\x05\xac\x02\x00ops".to_vec()),
            (batch(6, Some(Stamp::from_word(2))), 1, b"\x06\xac\x02\x02ops".to_vec()),
            (Record::Root { stamp, root: B256::repeat_byte(7) }, 2, root),
            (Record::Opening { sealed: END }, 3, end.clone()),
            (Record::Closed { sealed: END }, 4, end.clone()),
            (Record::Rotate { file: 9 }, 5, b"\x09\0\0\0\0\0\0\0".to_vec()),
            (Record::Sealed { sealed: END }, 6, end),
        ]
    }

    #[test]
    fn every_kind_of_record_is_golden_and_reads_back() {
        for (record, kind, golden) in samples() {
            let mut out = Vec::new();
            record.encode(&mut out);
            assert_eq!((record.kind(), &out), (kind, &golden));
            assert_eq!(Record::decode(kind, &out), Ok(record));
            if kind != kind::BATCH {
                out.push(0);
                assert!(Record::decode(kind, &out).is_err());
                assert!(Record::decode(kind, &golden[..golden.len() - 1]).is_err());
            }
        }
        assert!(Record::decode(0, b"").is_err());
        assert!(Record::decode(7, b"").is_err());
    }

    #[test]
    fn a_frame_is_golden_and_believed_in_its_place_only() {
        let checker = Checker::new(&[1; 16]);
        let at = LogPosition { file: 2, offset: 512, sequence: 3, checksum: 4 };
        let mut out = Vec::new();
        let next = put_record(&Record::Rotate { file: 9 }, &at, 1, 5, &checker, &mut out);
        assert_eq!(
            out[..40],
            *b"BLOG\x08\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\x05\0\0\0"
        );
        assert_eq!(out[48..56], *b"\x09\0\0\0\0\0\0\0");
        assert_eq!((out.len(), next.offset, next.sequence, next.file), (64, 576, 4, 2));
        assert_eq!(out[56..64], next.checksum.to_le_bytes());
        let frame = Frame { length: 8, sequence: 3, synced: 1, predecessor: 4, opening: 5, kind: 5 };
        assert_eq!(Frame::decode(&out, &checker, 2, 512), Some(frame));
        assert_eq!(Frame::decode(&out, &checker, 3, 512), None);
        assert_eq!(Frame::decode(&out, &checker, 2, 520), None);
        assert_eq!(Frame::decode(&out, &Checker::new(&[2; 16]), 2, 512), None);
        for bit in 0..LOG_RECORD_HEAD_BYTES * 8 {
            let mut other = out.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::decode(&other, &checker, 2, 512), None, "bit {bit}");
        }
    }
}
