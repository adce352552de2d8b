//! The chain of log records from one place to its end, through all its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::{FoundLog, FoundRecord, log_path};
use super::record::Record;
use super::{LogContext, LogPosition};
use crate::checksum::Checker;
use crate::vfs::OpenMode;
use crate::{Error, Result, SegmentEnd};

/// All log files of a store, as they were found.
#[derive(Debug, Default)]
pub(crate) struct FoundLogs {
    files: BTreeMap<u64, FoundLog>,
    /// Files out of use.
    pub(crate) free: Vec<PathBuf>,
}

/// The records from a place on.
#[derive(Debug)]
pub(crate) struct Chain<'l> {
    /// Each with the file that it is in.
    pub(crate) records: Vec<(&'l FoundLog, FoundRecord)>,
    /// Where the chain begins.
    pub(crate) start: LogPosition,
    /// Where it ends.
    pub(crate) end: LogPosition,
    /// The files that it runs through, with their ends.
    pub(crate) files: Vec<(u64, u64)>,
}

impl FoundLogs {
    /// Reads all log files.
    pub(crate) fn read(context: &LogContext, mode: OpenMode) -> Result<Self> {
        let (numbers, free) = super::names(context)?;
        let mut found = Self { files: BTreeMap::new(), free };
        for number in numbers {
            let path = log_path(&context.dir, number);
            let log = FoundLog::read(&*context.vfs, path, number, &context.id, &context.checker, mode)?;
            found.files.insert(number, log);
        }
        Ok(found)
    }

    /// Whether there is no log file.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether there is a log where the newest segment is `segment`: its first file is durable before the first segment is made.
    pub(crate) fn check_there(&self, segment: u32, dir: &Path) -> Result<()> {
        if self.is_empty() && segment > 0 {
            return Err(Error::corrupt(&log_path(dir, 1), 0, "there are segments, and no log file"));
        }
        Ok(())
    }

    /// The numbers of the files, ascending.
    pub(crate) fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.files.keys().copied()
    }

    /// The number behind that of the last record anywhere.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.files.values().map(|log| log.end().sequence).max().unwrap_or(0)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&FoundLog> {
        self.files.get(&number)
    }

    /// The greatest opening that any header or record names.
    pub(crate) fn opening(&self) -> u32 {
        let openings = self.files.values().map(|log| {
            log.records
                .iter()
                .map(|record| record.frame.opening)
                .chain([log.header.opening])
                .max()
                .unwrap_or(0)
        });
        openings.max().unwrap_or(0)
    }

    /// The farthest end of the segments that the log says was durable.
    pub(crate) fn sealed(&self) -> Result<SegmentEnd> {
        let mut farthest = SegmentEnd::default();
        for log in self.files.values() {
            let mut meet = |end: SegmentEnd| {
                if end.is_after(&farthest) {
                    farthest = end;
                }
            };
            meet(log.header.sealed);
            for record in &log.records {
                if let Record::Opening { sealed } | Record::Closed { sealed } | Record::Sealed { sealed } =
                    log.decode(record)?
                {
                    meet(sealed);
                }
            }
        }
        Ok(farthest)
    }

    /// Whether the last thing that was written says that the store was closed, with the segments ending at `end`.
    pub(crate) fn closed_at(&self, end: &SegmentEnd) -> Result<bool> {
        let Some((log, record)) =
            self.files.values().next_back().and_then(|log| Some((log, log.records.last()?)))
        else {
            return Ok(false);
        };
        Ok(matches!(log.decode(record)?, Record::Closed { sealed } if sealed == *end))
    }

    /// The newest file that begins anew.
    fn restart(&self) -> Option<&FoundLog> {
        self.files.values().rfind(|log| log.header.restart)
    }

    /// The chain after the last seal, which covers the log up to `sealed` and ends the segments at `end`.
    pub(crate) fn chain(
        &self,
        sealed: Option<LogPosition>,
        end: &SegmentEnd,
        dir: &Path,
        checker: &Checker,
    ) -> Result<Option<Chain<'_>>> {
        let restart =
            self.restart().filter(|log| sealed.is_none_or(|sealed| log.header.number > sealed.file));
        match (restart, sealed) {
            (Some(log), _) if log.header.sealed != *end => {
                Err(Error::corrupt(&log.path, 0, "the log does not begin where the last seal ends"))
            }
            (Some(log), _) => self.follow(log, log.header.first(), checker).map(Some),
            (None, Some(sealed)) => {
                let path = log_path(dir, sealed.file);
                let missing = Error::corrupt(&path, 0, "a log file is missing");
                self.follow(self.files.get(&sealed.file).ok_or(missing)?, sealed, checker).map(Some)
            }
            (None, None) if self.files.is_empty() => Ok(None),
            (None, None) => {
                Err(Error::corrupt(&log_path(dir, 1), 0, "the log file that all others follow is missing"))
            }
        }
    }

    fn follow<'l>(&'l self, first: &'l FoundLog, start: LogPosition, checker: &Checker) -> Result<Chain<'l>> {
        let mut chain = Chain { records: Vec::new(), start, end: start, files: Vec::new() };
        let mut log = first;
        if start.sequence > log.end().sequence && start.offset >= log.end().offset {
            // A seal may be durable before the commits that it covers are in the log. Then nothing behind them is.
            self.check_torn(log, checker)?;
            return Ok(chain);
        }
        if start != log.header.first() && !log.records.iter().any(|record| record.end == start) {
            return Err(Error::corrupt(&log.path, start.offset, "the seal's place in the log is not there"));
        }
        loop {
            let mut next = None;
            for record in log.records.iter().filter(|record| record.start.sequence >= start.sequence) {
                chain.records.push((log, *record));
                if let Record::Rotate { file } = log.decode(record)? {
                    next = Some(file);
                }
            }
            chain.end = log.end();
            chain.files.push((log.header.number, log.end().offset));
            let Some(number) = next else { break };
            let missing =
                Error::corrupt(&log.path, log.end().offset, "the log file after this one is missing");
            let after = self.files.get(&number).filter(|after| after.header.number > log.header.number);
            let after = after.ok_or(missing)?;
            if after.header.predecessor != log.end() || after.header.restart {
                return Err(Error::corrupt(&after.path, 0, "a log file does not follow the one before it"));
            }
            log = after;
        }
        self.check_torn(log, checker)?;
        Ok(chain)
    }

    /// Where the records of `log` end, one may be torn. Where anything shows that it was durable once, that is damage.
    fn check_torn(&self, log: &FoundLog, checker: &Checker) -> Result<()> {
        let end = log.end();
        let later = |other: &FoundLog| {
            other.header.predecessor.sequence > end.sequence + 1
                || other.knows_durable(end.sequence, crate::format::FIRST_LOG_RECORD, checker)
        };
        let known = log.knows_durable(end.sequence, end.offset, checker)
            || self.files.range(log.header.number + 1..).any(|(_, other)| later(other));
        if known { Err(Error::corrupt(&log.path, end.offset, "a log record is damaged")) } else { Ok(()) }
    }
}
