//! Log files: names, headers, and what is found in one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::record::{Frame, Record, put_end, read_end, record_bytes};
use crate::checksum::{Checker, Domain};
use crate::codec::{Bad, Reader};
use crate::error::At;
use crate::format::{
    CHECKSUM_BYTES, FIRST_LOG_RECORD, FORMAT_VERSION, LOG_ALIGN, LOG_HEADER_BYTES, LOG_MAGIC,
    LOG_RECORD_HEAD_BYTES, LOG_RESTART, STORE_ID_BYTES,
};
use crate::seal::{put_position, read_position};
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::{Error, LogPosition, Result, SegmentEnd};

/// The log file with this number.
pub(crate) fn log_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08x}.log"))
}

/// The number that a file name with this extension means.
pub(crate) fn file_number(path: &Path, extension: &str) -> Option<u64> {
    let stem = path.file_name()?.to_str()?.strip_suffix(extension)?.strip_suffix('.')?;
    let number = u64::from_str_radix(stem, 16).ok()?;
    (number > 0 && format!("{number:08x}") == stem).then_some(number)
}

/// The header of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogHeader {
    pub(crate) number: u64,
    pub(crate) opening: u32,
    /// Whether it begins anew with everything that was not sealed, so that no older file counts.
    pub(crate) restart: bool,
    /// Where the durable groups ended when this was written.
    pub(crate) sealed: SegmentEnd,
    /// The end of the file before it. A restart keeps of it the number of its first record only.
    pub(crate) predecessor: LogPosition,
    /// Everything before this offset was durable before the file got its name.
    pub(crate) durable_end: u64,
}

impl LogHeader {
    pub(crate) fn encode(&self, id: &[u8; STORE_ID_BYTES], checker: &Checker) -> Vec<u8> {
        let mut out = Vec::with_capacity(LOG_HEADER_BYTES + CHECKSUM_BYTES);
        out.extend_from_slice(&LOG_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(if self.restart { LOG_RESTART } else { 0 }).to_le_bytes());
        out.extend_from_slice(id);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.opening.to_le_bytes());
        put_end(&self.sealed, &mut out);
        put_position(&self.predecessor, &mut out);
        out.extend_from_slice(&self.durable_end.to_le_bytes());
        debug_assert_eq!(out.len(), LOG_HEADER_BYTES);
        out.extend_from_slice(&checker.sum(Domain::LogFile, self.number, 0, &out).to_le_bytes());
        out
    }

    fn decode(
        bytes: &[u8],
        number: u64,
        id: &[u8; STORE_ID_BYTES],
        checker: &Checker,
        path: &Path,
    ) -> Result<Self> {
        let damaged = |what| Err(Error::corrupt(path, 0, what));
        let parse = |reader: &mut Reader<'_>| -> Result<_, Bad> {
            let magic: [u8; 8] = reader.array()?;
            let (version, flags) = (reader.u32()?, reader.u32()?);
            let (found_id, found): ([u8; STORE_ID_BYTES], u64) = (reader.array()?, reader.u64()?);
            let opening = reader.u32()?;
            let sealed = read_end(reader)?;
            let predecessor = read_position(reader)?;
            let header = Self {
                number: found,
                opening,
                restart: flags & LOG_RESTART != 0,
                sealed,
                predecessor,
                durable_end: reader.u64()?,
            };
            Ok((magic, version, flags, found_id, header, reader.u64()?))
        };
        let parsed = parse(&mut Reader::new(bytes));
        let (magic, version, flags, found_id, header, sum) = parsed.map_err(|bad| bad.of_file(path, 0))?;
        if magic != LOG_MAGIC {
            return damaged("not a log file");
        }
        let covered = bytes.get(..LOG_HEADER_BYTES).unwrap_or_default();
        if checker.sum(Domain::LogFile, number, 0, covered) != sum {
            return if version > FORMAT_VERSION {
                Err(Error::NewerFormat { path: path.to_owned(), found: version, supported: FORMAT_VERSION })
            } else {
                damaged("the log file's header does not match its checksum")
            };
        }
        let sound = found_id == *id
            && header.number == number
            && version == FORMAT_VERSION
            && flags & !LOG_RESTART == 0
            && header.durable_end >= FIRST_LOG_RECORD;
        if sound { Ok(header) } else { damaged("the header is that of another log file") }
    }

    /// Where the first record of the file stands.
    pub(crate) fn first(&self) -> LogPosition {
        LogPosition { file: self.number, offset: FIRST_LOG_RECORD, ..self.predecessor }
    }
}

/// A record that was found, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundRecord {
    pub(crate) start: LogPosition,
    pub(crate) end: LogPosition,
    pub(crate) frame: Frame,
}

/// A log file and the records that its chain reaches.
#[derive(Debug)]
pub(crate) struct FoundLog {
    pub(crate) header: LogHeader,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) records: Vec<FoundRecord>,
    bytes: Bytes,
}

/// A longer log file is mapped, whoever writes it: what a header says must not make anybody ask for any amount of memory.
const MAX_COPY: u64 = 1 << 28;

/// The first `len` bytes, as they are now.
fn copy(file: &dyn VfsFile, len: u64) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.into())
}

impl FoundLog {
    /// Reads a log file: its header, and its records as far as they follow each other.
    pub(crate) fn read(
        vfs: &dyn Vfs,
        path: PathBuf,
        number: u64,
        id: &[u8; STORE_ID_BYTES],
        checker: &Checker,
        mode: OpenMode,
    ) -> Result<Self> {
        let found = Self::read_so_far(vfs, path, number, id, checker, mode)?;
        let end = found.end().offset;
        if end < found.header.durable_end {
            return Err(Error::corrupt(&found.path, end, "a log record is damaged"));
        }
        Ok(found)
    }

    /// The same where records that were durable may be missing at the end.
    pub(crate) fn read_so_far(
        vfs: &dyn Vfs,
        path: PathBuf,
        number: u64,
        id: &[u8; STORE_ID_BYTES],
        checker: &Checker,
        mode: OpenMode,
    ) -> Result<Self> {
        let file = vfs.open(&path, mode).at("open", &path)?;
        let len = file.len().at("look at", &path)?;
        let bytes = match mode {
            // Another process may be writing it: what is found at one place must not change while another is looked at.
            OpenMode::Read if len <= MAX_COPY => copy(&*file, len).at("read", &path)?,
            _ => file.map(0, len).at("map", &path)?,
        };
        let header = LogHeader::decode(&bytes, number, id, checker, &path)?;
        let mut found = Self { header, path, file, records: Vec::new(), bytes };
        let mut at = header.first();
        while let Some(record) = found.record_at(&at, checker) {
            at = record.end;
            found.records.push(record);
        }
        Ok(found)
    }

    /// The record at `at`, if it is whole and follows the one before.
    fn record_at(&self, at: &LogPosition, checker: &Checker) -> Option<FoundRecord> {
        let start = usize::try_from(at.offset).ok()?;
        let bytes = self.bytes.get(start..)?;
        let frame = Frame::decode(bytes, checker, at.file, at.offset)?;
        if frame.sequence != at.sequence || frame.predecessor != at.checksum {
            return None;
        }
        let covered = LOG_RECORD_HEAD_BYTES + frame.length as usize;
        let sum = bytes.get(covered..)?.first_chunk().map(|sum| u64::from_le_bytes(*sum))?;
        if checker.sum(Domain::LogRecord, at.file, at.offset, bytes.get(..covered)?) != sum {
            return None;
        }
        let end = LogPosition {
            file: at.file,
            offset: at.offset.checked_add(record_bytes(frame.length))?,
            sequence: at.sequence.checked_add(1)?,
            checksum: sum,
        };
        Some(FoundRecord { start: *at, end, frame })
    }

    /// Where the chain of records ends.
    pub(crate) fn end(&self) -> LogPosition {
        self.records.last().map_or(self.header.first(), |record| record.end)
    }

    /// Whether records are missing at the end that were durable once.
    pub(crate) fn is_cut_short(&self, checker: &Checker) -> bool {
        let end = self.end();
        end.offset < self.header.durable_end || self.knows_durable(end.sequence, end.offset, checker)
    }

    /// What a record of this file says.
    pub(crate) fn decode(&self, record: &FoundRecord) -> Result<Record<'_>> {
        let start =
            usize::try_from(record.start.offset).unwrap_or(usize::MAX).saturating_add(LOG_RECORD_HEAD_BYTES);
        let payload =
            self.bytes.get(start..start.saturating_add(record.frame.length as usize)).unwrap_or_default();
        Record::decode(record.frame.kind, payload)
            .map_err(|bad| bad.of_file(&self.path, record.start.offset + LOG_RECORD_HEAD_BYTES as u64))
    }

    /// Whether anything at or behind `offset` says that the record with number `sequence` was durable when it was written.
    pub(crate) fn knows_durable(&self, sequence: u64, offset: u64, checker: &Checker) -> bool {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(start..).unwrap_or_default();
        bytes.chunks(LOG_ALIGN as usize).enumerate().any(|(index, chunk)| {
            chunk.first() == Some(&b'B') && {
                let ahead = index * LOG_ALIGN as usize;
                let frame = bytes.get(ahead..);
                let frame =
                    frame.and_then(|b| Frame::decode(b, checker, self.header.number, offset + ahead as u64));
                frame.is_some_and(|frame| frame.synced > sequence)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use bristlecone_trie::B256;

    use super::super::record::put_record;
    use super::*;
    use crate::Stamp;

    #[test]
    fn a_log_header_is_golden_and_every_other_bit_is_refused() {
        let (id, path) = ([9; 16], Path::new("log"));
        let checker = Checker::new(&id);
        let header = LogHeader {
            number: 3,
            opening: 2,
            restart: true,
            sealed: SegmentEnd { segment: 4, offset: 5, checksum: 6 },
            predecessor: LogPosition { file: 7, offset: 8, sequence: 9, checksum: 10 },
            durable_end: 512,
        };
        let bytes = header.encode(&id, &checker);
        assert_eq!(bytes[..16], *b"BRCLLOG\0\x03\0\0\0\x01\0\0\0");
        assert_eq!(bytes[16..32], id);
        let mut golden = b"\x03\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0".to_vec();
        for word in [5u64, 6, 7, 8, 9, 10, 512] {
            golden.extend_from_slice(&word.to_le_bytes());
        }
        assert_eq!(bytes[32..104], golden);
        assert_eq!(LogHeader::decode(&bytes, 3, &id, &checker, path).unwrap(), header);
        assert!(LogHeader::decode(&bytes, 4, &id, &checker, path).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(LogHeader::decode(&other, 3, &id, &checker, path).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(LogHeader::decode(&bytes[..cut], 3, &id, &checker, path).is_err());
        }
    }

    #[test]
    fn a_record_counts_only_behind_the_one_that_it_was_written_behind() {
        let (id, sim) = ([9; 16], crate::vfs::sim::SimVfs::new(1));
        let checker = Checker::new(&id);
        let header = LogHeader {
            number: 1,
            opening: 1,
            restart: false,
            sealed: SegmentEnd::default(),
            predecessor: LogPosition::default(),
            durable_end: FIRST_LOG_RECORD,
        };
        // Two histories of the same places and numbers, as where a file was written twice.
        let history = |root: u8| {
            let (mut at, mut ends, mut bytes) = (header.first(), Vec::new(), Vec::new());
            for number in 1..3 {
                let stamp = Stamp::new(1, number).unwrap();
                let record = Record::Root { stamp, root: B256::repeat_byte(root) };
                at = put_record(&record, &at, 0, 1, &checker, &mut bytes);
                ends.push(bytes.len());
            }
            (bytes, ends)
        };
        let ((one, ends), (other, _)) = (history(1), history(2));
        let mixed = [&one[..ends[0]], &other[ends[0]..]].concat();
        let records = |bytes: &[u8]| {
            let mut file = header.encode(&id, &checker).to_vec();
            file.resize(FIRST_LOG_RECORD as usize, 0);
            file.extend_from_slice(bytes);
            sim.write_file("/log", &file).unwrap();
            let found = FoundLog::read(&sim, "/log".into(), 1, &id, &checker, OpenMode::Read).unwrap();
            found.records.len()
        };
        assert_eq!((records(&one), records(&other), records(&mixed)), (2, 2, 1));
    }

    #[test]
    fn file_names_mean_one_number_each() {
        assert_eq!(file_number(Path::new("a/0000001f.log"), "log"), Some(31));
        for name in ["1f.log", "0000001F.log", "00000000.log", "0000001f.free", "0000001f", "x.log", ".log"] {
            assert_eq!(file_number(Path::new(name), "log"), None, "{name}");
        }
        assert_eq!(file_number(&log_path(Path::new("d"), 1 << 40), "log"), Some(1 << 40));
    }
}
