//! Reading a store that another process may be writing: by its segments alone, without the lock and without writing a byte.
//!
//! What is sealed is in the segments, and those only grow. A group is taken in once it is whole: its header is right, and either
//! another group follows it or every checksum in it holds. Anything less is *not yet*, for the writer may be at it, unless the batch log says that the groups
//! were durable farther than that: then it is damage. What looks like damage may
//! come from looking while a file was begun or put in another's place; so it is looked at again before it is believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bristlecone_trie::B256;

use crate::checksum::Checker;
use crate::error::At;
use crate::format::GROUP_HEADER_BYTES;
use crate::identity::{self, Identity};
use crate::log::{FoundLogs, LogContext};
use crate::segment::{GroupHeader, Scan, scan, segment_path};
use crate::vfs::{OpenMode, Vfs};
use crate::{Error, Locator, Options, Result, SegmentEnd, Segments, Stamp, recover};

/// So often what looks like damage is looked at before it is believed, with pauses that get longer: a writer may be at it.
const LOOKS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// A store opened for reading, as far as it was sealed when it was last looked at.
#[derive(Debug)]
pub struct Follower {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    identity: Identity,
    segments: Arc<Segments>,
    /// Where the groups end that were taken in.
    end: SegmentEnd,
    /// The newest segment, or 0, and where its next group will start.
    newest: u32,
    next_start: u64,
    last_seal: Option<Locator>,
}

/// Opens the store in `dir` for reading beside whoever writes it. Costs a read of every group's header, of the last group, and of the batch log.
///
/// # Errors
/// `NotAStore`, `NewerFormat`, `OlderFormat`, `Corrupt`, `Io`.
pub fn follow(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<Follower> {
    let identity = identity::found(&*vfs, dir)?;
    let segments = Arc::new(Segments::new(Checker::new(&identity.id)));
    let mut this = Follower {
        vfs,
        dir: dir.to_owned(),
        identity,
        segments,
        end: SegmentEnd::default(),
        newest: 0,
        next_start: 0,
        last_seal: None,
    };
    this.take_in()?;
    Ok(this)
}

impl Follower {
    /// What the store is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// For reading records.
    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// The last seal that was taken in.
    pub fn last_seal(&self) -> Option<Locator> {
        self.last_seal
    }

    /// Takes in what was sealed since; whether anything was. Two looks at the directory where nothing is new, otherwise
    /// a read of every group's header and of the batch log.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: nothing was taken in.
    pub fn refresh(&mut self) -> Result<bool> {
        if self.is_up_to_date()? { Ok(false) } else { self.take_in() }
    }

    /// The commits in the batch log that no seal covers, oldest first, with their roots where those were logged.
    ///
    /// # Errors
    /// `Corrupt`, `Io`; beside a writer also by chance.
    pub fn waiting(&self) -> Result<Vec<(u64, Stamp, Option<B256>)>> {
        let options = Options { read_only: true, ..Options::default() };
        let opened = again(|| recover::open(Arc::clone(&self.vfs), &self.dir, &options))?;
        let root = |stamp| opened.roots.iter().find(|(of, _)| *of == stamp).map(|(_, root)| *root);
        Ok(opened.tail.iter().map(|batch| (batch.version, batch.stamp, root(batch.stamp))).collect())
    }

    fn segments_dir(&self) -> PathBuf {
        self.dir.join("segments")
    }

    /// Whether no group follows the last one, and no segment.
    fn is_up_to_date(&self) -> Result<bool> {
        let dir = self.segments_dir();
        let next = segment_path(&dir, self.newest + 1);
        if self.vfs.exists(&next).at("look at", &next)? {
            return Ok(false);
        }
        if self.newest == 0 {
            return Ok(true);
        }
        // By its name: recovery may have put another file in its place.
        let path = segment_path(&dir, self.newest);
        let file = match self.vfs.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            opened => opened.at("open", &path)?,
        };
        let mut bytes = [0; GROUP_HEADER_BYTES];
        if file.len().at("look at", &path)? < self.next_start + GROUP_HEADER_BYTES as u64 {
            return Ok(true);
        }
        file.read_exact_at(&mut bytes, self.next_start).at("read", &path)?;
        let checker = self.segments.checker();
        Ok(GroupHeader::decode(&bytes, checker, self.newest, self.next_start).is_none())
    }

    fn take_in(&mut self) -> Result<bool> {
        let found = again(|| self.look())?;
        let (end, last_seal) = (found.end(), found.last_record());
        if end != self.end && !end.is_after(&self.end) {
            let (path, offset) = found.place_of_end();
            return Err(Error::corrupt(&path, offset, "a group that was there is gone"));
        }
        let (newest, next_start) = found.goes_on();
        let is_new = end != self.end;
        found.add_to(&self.segments)?;
        (self.newest, self.next_start, self.end, self.last_seal) = (newest, next_start, end, last_seal);
        Ok(is_new)
    }

    /// Everything that is whole.
    fn look(&self) -> Result<Scan> {
        let (dir, checker) = (self.segments_dir(), self.segments.checker());
        // The log first: what it says was durable by then is there now.
        let context = self.log_context();
        let logs = FoundLogs::read(&context, OpenMode::Read)?;
        let mark = logs.sealed()?;
        let mut found = scan(&*self.vfs, &dir, &self.identity.id, checker, OpenMode::Read)?;
        logs.check_there(found.newest().0, &context.dir)?;
        found.settle_tail(mark == found.end(), checker)?;
        found.check_reaches(&mark)?;
        Ok(found)
    }

    fn log_context(&self) -> LogContext {
        LogContext {
            vfs: Arc::clone(&self.vfs),
            dir: self.dir.join("log"),
            id: self.identity.id,
            checker: self.segments.checker().clone(),
            log_bytes: 0,
            opening: 0,
        }
    }
}

/// Looks again where it went wrong.
fn again<T>(mut look: impl FnMut() -> Result<T>) -> Result<T> {
    for look_number in 1..LOOKS {
        if let Ok(found) = look() {
            return Ok(found);
        }
        // Half a second in all.
        std::thread::sleep(FIRST_PAUSE * (1 << (look_number - 1)));
    }
    look()
}
