//! What the files of the batch log still hold, whether it counts or not: commits that were sealed long ago, and files out of use that
//! were not written to again. For mending a store of which the sealed part is damaged.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use bristlecone_trie::B256;

use super::file::{FoundLog, FoundRecord, file_number};
use super::record::Record;
use crate::checksum::Checker;
use crate::error::At;
use crate::segment::copy_file;
use crate::vfs::{OpenMode, Vfs};
use crate::{LogPosition, LoggedBatch, Result, Stamp, identity};

/// Where copies of the files of the log are, in the directory of the store, while a repair makes what is in them again.
const KEPT: &str = "damaged/log";

fn is_log(path: &Path) -> bool {
    ["log", "free"].iter().any(|end| file_number(path, end).is_some())
}

/// Every commit and root that can still be read in any file of the batch log.
#[derive(Debug)]
pub struct Remains {
    files: Vec<FoundLog>,
    commits: HashMap<Stamp, Place>,
    roots: HashMap<Stamp, B256>,
    /// The numbers of the files that are in use.
    used: BTreeSet<u64>,
    /// Whether a file of those cannot be read, or not to its end, or is missing.
    is_cut_short: bool,
}

/// Where a commit is.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: usize,
    record: FoundRecord,
    version: u64,
    parent: Option<Stamp>,
}

impl Remains {
    /// Reads all files of the batch log of the store in `dir`, each as far as it can be read. Nothing is changed.
    ///
    /// # Errors
    /// `Io`, `NotAStore`, and what else keeps the store's identity from being read. Damage to the log is no error.
    pub fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Self> {
        Self::read_from(vfs, dir, &dir.join("log"))
    }

    /// The same of what [`keep`](Self::keep) copied.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_kept(vfs: &dyn Vfs, dir: &Path) -> Result<Self> {
        Self::read_from(vfs, dir, &dir.join(KEPT))
    }

    /// Makes a durable copy of all files of the batch log of the store in `dir`, so that what is found in them is not lost by what is written
    /// next.
    ///
    /// # Errors
    /// `Io`: it may be tried again.
    pub fn keep(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        let (from, to) = (dir.join("log"), dir.join(KEPT));
        vfs.create_dir_all(&to).at("create", &to)?;
        for dir in [dir, to.parent().unwrap_or(dir)] {
            vfs.sync_dir(dir).at("sync", dir)?;
        }
        for path in vfs.read_dir(&from).at("list", &from)? {
            if let Some(name) = path.file_name()
                && is_log(&path)
            {
                copy_file(vfs, &path, &to, &to.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes what [`keep`](Self::keep) copied.
    ///
    /// # Errors
    /// `Io`.
    pub fn forget_kept(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        let kept = dir.join(KEPT);
        if vfs.exists(&kept).at("look at", &kept)? {
            let paths = vfs.read_dir(&kept).at("list", &kept)?;
            for path in paths.iter().filter(|path| is_log(path)) {
                vfs.remove(path).at("remove", path)?;
            }
            vfs.sync_dir(&kept).at("sync", &kept)?;
        }
        Ok(())
    }

    fn read_from(vfs: &dyn Vfs, store: &Path, dir: &Path) -> Result<Self> {
        let id = identity::found(vfs, store)?.id;
        let checker = Checker::new(&id);
        let mut this = Self {
            files: Vec::new(),
            commits: HashMap::new(),
            roots: HashMap::new(),
            is_cut_short: false,
            used: BTreeSet::new(),
        };
        if !vfs.exists(dir).at("look at", dir)? {
            return Ok(this);
        }
        for path in vfs.read_dir(dir).at("list", dir)? {
            let is_used = file_number(&path, "log").is_some();
            let Some(number) = file_number(&path, if is_used { "log" } else { "free" }) else { continue };
            match FoundLog::read_so_far(vfs, path, number, &id, &checker, OpenMode::Read) {
                Ok(log) => {
                    this.is_cut_short |= is_used && log.is_cut_short(&checker);
                    this.used.extend(is_used.then_some(number));
                    this.take_in(log);
                }
                // A file out of use may have been about to get another number.
                Err(_) => this.is_cut_short |= is_used,
            }
        }
        let used = this.files.iter().filter(|log| this.used.contains(&log.header.number));
        let last = used.filter_map(|log| log.records.last().map(|record| (log, record)));
        let goes_on = last.filter_map(|(log, record)| match log.decode(record) {
            Ok(Record::Rotate { file }) => Some(file),
            _ => None,
        });
        this.is_cut_short |= goes_on.into_iter().any(|file| !this.used.contains(&file));
        Ok(this)
    }

    fn take_in(&mut self, log: FoundLog) {
        for record in &log.records {
            match log.decode(record) {
                Ok(Record::Batch { version, stamp, parent, .. }) => {
                    let place = Place { file: self.files.len(), record: *record, version, parent };
                    // What was not sealed is logged again by the next opening.
                    let known = self.commits.entry(stamp).or_insert(place);
                    if known.record.start.sequence < record.start.sequence {
                        *known = place;
                    }
                }
                Ok(Record::Root { stamp, root }) => drop(self.roots.insert(stamp, root)),
                Ok(_) | Err(_) => {}
            }
        }
        self.files.push(log);
    }

    /// Whether more was logged than can be read, or may have been, in the files that are in use: `from` is where the last seal says that
    /// the log goes on.
    pub fn is_cut_short(&self, from: Option<LogPosition>) -> bool {
        let begins_anew = |log: &FoundLog, from: u64| log.header.restart && log.header.number > from;
        let goes_on = |from: LogPosition| {
            self.used.contains(&from.file) || self.files.iter().any(|log| begins_anew(log, from.file))
        };
        self.is_cut_short || !from.map_or(!self.used.is_empty(), goes_on)
    }

    /// The commit `stamp`, if it is there.
    pub fn commit(&self, stamp: Stamp) -> Option<LoggedBatch> {
        let place = self.commits.get(&stamp)?;
        match self.files.get(place.file)?.decode(&place.record) {
            Ok(Record::Batch { version, stamp, parent, payload }) => {
                let end = place.record.end;
                Some(LoggedBatch { version, stamp, parent, payload: payload.to_vec(), end })
            }
            _ => None,
        }
    }

    /// The root of the commit `stamp`, if it was logged.
    pub fn root(&self, stamp: Stamp) -> Option<B256> {
        self.roots.get(&stamp).copied()
    }

    /// The greatest version of any commit that is younger than `stamp`.
    pub fn newest_after(&self, stamp: Option<Stamp>) -> Option<u64> {
        let younger = self.commits.iter().filter(|(of, _)| stamp.is_none_or(|stamp| **of > stamp));
        younger.map(|(_, place)| place.version).max()
    }

    /// The commits that follow `parent`, each with its predecessor before it, that were logged from record `sequence` on. Where several
    /// follow one, which a rollback leaves behind, the youngest counts.
    pub fn after(&self, parent: Option<Stamp>, sequence: u64) -> Vec<Stamp> {
        let mut next: HashMap<Option<Stamp>, Stamp> = HashMap::new();
        let counts = self.commits.iter().filter(|(_, place)| place.record.start.sequence >= sequence);
        for (stamp, place) in counts {
            next.entry(place.parent)
                .and_modify(|youngest| *youngest = (*youngest).max(*stamp))
                .or_insert(*stamp);
        }
        let mut out = Vec::new();
        let mut last = parent;
        // Stamps ascend, so this ends.
        while let Some(stamp) = next.get(&last).filter(|stamp| last.is_none_or(|last| **stamp > last)) {
            out.push(*stamp);
            last = Some(*stamp);
        }
        out
    }

    /// The greatest opening and the number behind that of the last record, of any file.
    pub(crate) fn last(&self) -> (u32, u64) {
        let openings = self.files.iter().flat_map(|log| {
            log.records.iter().map(|record| record.frame.opening).chain([log.header.opening])
        });
        let sequences = self.files.iter().map(|log| log.end().sequence);
        (openings.max().unwrap_or(0), sequences.max().unwrap_or(0))
    }

    /// How far the log says that segments were durable.
    pub(crate) fn sealed(&self) -> crate::SegmentEnd {
        let said = self.files.iter().flat_map(|log| {
            let records = log.records.iter().filter_map(|record| match log.decode(record) {
                Ok(Record::Opening { sealed } | Record::Closed { sealed } | Record::Sealed { sealed }) => {
                    Some(sealed)
                }
                _ => None,
            });
            records.chain([log.header.sealed])
        });
        said.fold(crate::SegmentEnd::default(), |far, end| if end.is_after(&far) { end } else { far })
    }
}
