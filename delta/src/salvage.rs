//! Mending a store that cannot be opened: cutting it off behind a seal that can be read, and setting the commits that the batch log still holds of
//! what came after it to wait, as after a kill.
//!
//! In an order in which a stop at any place leaves a store that can be mended again: what is cut off is copied aside first, the log is
//! written last, and no file of it is touched before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checksum::Checker;
use crate::codec::at_most;
use crate::error::At;
use crate::format::MAX_OPENING;
use crate::identity::{self, Identity};
use crate::log::{LogContext, Record};
use crate::recover::{Continued, OldLogs, make_dirs, take_lock};
use crate::segment::{Scan, copy_file, scan_so_far, segment_number, segment_path};
use crate::vfs::{OpenMode, Vfs};
use crate::{Error, Locator, LogPosition, Options, Remains, Result, Segments, dead, log};

/// What is cut off goes into this directory of the store.
const ASIDE: &str = "damaged";
/// So many openings may have left their numbers only where nothing can be read any more. Stamps must not be given twice.
const OPENINGS_UNKNOWN: u32 = 1 << 10;

/// A store as far as it can be read: its segments up to the first damage among their headers.
#[derive(Debug)]
pub struct Wreck {
    /// What the store is.
    pub identity: Identity,
    /// For reading records.
    pub segments: Arc<Segments>,
    /// Where seals are, the newest first. Any of them may be damaged.
    pub seals: Vec<Locator>,
}

/// What [`cut`] left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Commits that wait in the batch log now.
    pub waiting: u64,
    /// The last version, waiting or sealed; `None`: there is none.
    pub last: Option<u64>,
    /// The greatest version that the log names of commits that are younger than the last.
    pub younger: Option<u64>,
    /// Whether there was more than can be read: seals of which the log knows, with no commit in it, or records at its end.
    pub more: bool,
}

/// Reads what can be read of the store in `dir`, takes no lock and changes nothing.
///
/// # Errors
/// `NotAStore`, `NewerFormat`, `OlderFormat`, `Corrupt` for the identity; `Io`.
pub fn examine(vfs: &dyn Vfs, dir: &Path) -> Result<Wreck> {
    let identity = identity::found(vfs, dir)?;
    let checker = Checker::new(&identity.id);
    let found = scan_so_far(vfs, &dir.join("segments"), &identity.id, &checker, OpenMode::Read)?;
    let seals = found.last_records();
    Ok(Wreck { identity, segments: Arc::new(found.publish(checker)?), seals })
}

/// Cuts the store in `dir` off behind `seal`, one of those of its [`Wreck`]; without one, behind nothing. The commits after it that
/// the batch log still holds, one after the other, wait there then, and the next [`open`](crate::open) finds them. What was cut off
/// is in the directory `damaged` of the store. What a rollback that is cut off had given up may be among what is found again.
///
/// # Errors
/// `Locked`, `Io`: it may be tried again. `Corrupt` where `seal` cannot be read: nothing was changed.
pub fn cut(vfs: &Arc<dyn Vfs>, dir: &Path, options: &Options, seal: Option<Locator>) -> Result<Cut> {
    let fs = &**vfs;
    let identity = identity::found(fs, dir)?;
    let _lock = take_lock(fs, dir)?;
    make_dirs(fs, dir, &[&dir.join("segments"), &dir.join("log"), &dir.join(ASIDE)])?;
    let checker = Checker::new(&identity.id);
    let read = || scan_so_far(fs, &dir.join("segments"), &identity.id, &checker, OpenMode::Read);
    let mut found = read()?;
    let opening_found = found.opening;
    let last = seal.map(|seal| read()?.publish(checker.clone())?.seal(seal)).transpose()?;
    found.cut_after(seal);
    if seal.is_some() && found.last_record() != seal {
        return Err(Error::Invalid { what: "a cut behind something that is no group's last record" });
    }
    let remains = Remains::read(fs, dir)?;
    let position = last.as_ref().map_or(LogPosition::default(), |seal| seal.log_position);
    let end_of_last = last.as_ref().and_then(|seal| seal.versions.last());
    let stamps = remains.after(end_of_last.map(|version| version.stamp), position.sequence);
    let commits: Vec<_> = stamps.iter().filter_map(|stamp| remains.commit(*stamp)).collect();
    let roots =
        stamps.iter().filter_map(|stamp| Some(Record::Root { stamp: *stamp, root: remains.root(*stamp)? }));
    let order: Vec<Record<'_>> = commits
        .iter()
        .map(|commit| Record::Batch {
            version: commit.version,
            stamp: commit.stamp,
            parent: commit.parent,
            payload: &commit.payload,
        })
        .chain(roots)
        .collect();

    // What it knows to be dead may be what is needed again.
    dead::forget(fs, dir)?;
    set_aside(fs, dir, &mut found, options.segment_bytes)?;
    let (log_opening, last_sequence) = remains.last();
    let known = opening_found.max(log_opening).max(last.as_ref().map_or(0, |seal| seal.opening));
    let opening = known.saturating_add(OPENINGS_UNKNOWN);
    at_most("the number of openings", opening as usize, MAX_OPENING as usize)?;
    let context = LogContext {
        vfs: Arc::clone(vfs),
        dir: dir.join("log"),
        id: identity.id,
        checker,
        log_bytes: options.log_bytes,
        opening,
    };
    let (numbers, free) = log::names(&context)?;
    let old = OldLogs { numbers, last_sequence, free };
    let end = found.end();
    Continued::restart(&context, old, last.as_ref().map(|seal| seal.log_position), end, &order)?;
    let sealed = end_of_last.map(|version| version.version);
    Ok(Cut {
        waiting: commits.len() as u64,
        last: commits.last().map(|commit| commit.version).or(sealed),
        younger: remains.newest_after(stamps.last().copied().or(end_of_last.map(|version| version.stamp))),
        // The newest commits are in the log last.
        more: remains.is_cut_short(last.as_ref().map(|seal| seal.log_position))
            || commits.is_empty() && remains.sealed().is_after(&end),
    })
}

/// Puts the files of segments as they are aside, where `left` holds less of them; and leaves what it holds.
fn set_aside(vfs: &dyn Vfs, dir: &Path, left: &mut Scan, segment_bytes: u64) -> Result<()> {
    let (segments, aside) = (dir.join("segments"), dir.join(ASIDE));
    let last = left.newest().0;
    let paths = vfs.read_dir(&segments).at("list", &segments)?;
    let mut cut: Vec<u32> = paths
        .iter()
        .filter_map(|path| segment_number(path))
        .filter(|number| *number >= last.max(1))
        .collect();
    cut.sort_unstable();
    for number in cut.into_iter().rev() {
        let path = segment_path(&segments, number);
        let name = free_name(vfs, &aside, &path)?;
        if number == last {
            copy_file(vfs, &path, &aside, &name)?;
        } else {
            vfs.rename(&path, &name).at("rename", &path)?;
        }
    }
    vfs.sync_dir(&aside).at("sync", &aside)?;
    vfs.sync_dir(&segments).at("sync", &segments)?;
    left.copy_tail(vfs, segment_bytes)
}

/// A name in `aside` for the file at `path` that nothing has.
fn free_name(vfs: &dyn Vfs, aside: &Path, path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 0u32.. {
        let path = if number == 0 { aside.join(&name) } else { aside.join(format!("{name}.{number}")) };
        if !vfs.exists(&path).at("look at", &path)? {
            return Ok(path);
        }
    }
    Err(Error::Invalid { what: "a directory with no name left" })
}
