//! What the simulated disk records, and how calls are picked out by kind and path.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OpKind {
    /// A file is created (by `open`, or by `lock` where the lock file is missing).
    Create,
    /// One directory is made; `create_dir_all` makes several.
    MakeDir,
    /// Bytes are written.
    Write,
    /// A length is set.
    SetLen,
    /// A file is synced.
    Sync,
    /// A directory is synced.
    SyncDir,
    /// A file is renamed.
    Rename,
    /// A file is removed.
    Remove,
    /// A lock is taken.
    Lock,
    /// An existing file is opened. Not recorded.
    Open,
    /// A length is asked for. Not recorded.
    Len,
    /// Bytes are read. Not recorded.
    Read,
    /// Bytes are mapped. Not recorded.
    Map,
    /// A directory is listed. Not recorded.
    List,
    /// It is asked whether something exists. Not recorded.
    Exists,
}

impl OpKind {
    /// Whether calls of this kind are numbered and recorded: those that may change something, and locking.
    pub fn is_recorded(self) -> bool {
        !matches!(self, Self::Open | Self::Len | Self::Read | Self::Map | Self::List | Self::Exists)
    }
}

/// How a recorded operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It did what it says.
    Done,
    /// It failed, by an injected fault or because the disk was full; a write may have landed in part, and `len` says how
    /// much of it.
    Failed(io::ErrorKind),
    /// It claimed success and did nothing: a planted lie.
    Ignored,
}

/// One recorded operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpRecord {
    /// Its number, from 0.
    pub index: usize,
    /// What it was.
    pub kind: OpKind,
    /// The file or directory, without `.` and `..`. A file keeps the path under which its handle was opened.
    pub path: PathBuf,
    /// The new name, for a rename.
    pub to: Option<PathBuf>,
    /// Where a write begins, in bytes; otherwise 0.
    pub offset: u64,
    /// Bytes that a write brought to the file, or the length that was set; otherwise 0.
    pub len: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl fmt::Display for OpRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6} {:8} {}", self.index, format!("{:?}", self.kind), self.path.display())?;
        if let Some(to) = &self.to {
            write!(f, " -> {}", to.display())?;
        }
        match self.kind {
            OpKind::Write => write!(f, " {}+{}", self.offset, self.len)?,
            OpKind::SetLen => write!(f, " ={}", self.len)?,
            _ => {}
        }
        match self.outcome {
            Outcome::Done => Ok(()),
            Outcome::Failed(kind) => write!(f, " FAILED {kind:?}"),
            Outcome::Ignored => write!(f, " IGNORED"),
        }
    }
}

type PathTest = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// Picks calls by their kind and path.
#[derive(Clone, Default)]
pub struct Selector {
    kinds: Option<Vec<OpKind>>,
    path: Option<PathTest>,
}

impl Selector {
    /// Every call.
    pub fn any() -> Self {
        Self::default()
    }

    /// Calls of one kind.
    pub fn kind(kind: OpKind) -> Self {
        Self::kinds([kind])
    }

    /// Calls of any of these kinds.
    pub fn kinds(kinds: impl IntoIterator<Item = OpKind>) -> Self {
        Self { kinds: Some(kinds.into_iter().collect()), path: None }
    }

    /// Of these, the ones whose path (for a rename: the old name) passes the test. The test must not call the disk.
    #[must_use]
    pub fn on(self, test: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        Self { path: Some(Arc::new(test)), ..self }
    }

    /// Of these, the ones whose path ends with these whole components, as in [`Path::ends_with`].
    #[must_use]
    pub fn ending(self, end: impl Into<PathBuf>) -> Self {
        let end = end.into();
        self.on(move |path| path.ends_with(&end))
    }

    pub(super) fn picks(&self, kind: OpKind, path: &Path) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
            && self.path.as_ref().is_none_or(|test| test(path))
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector").field("kinds", &self.kinds).field("by_path", &self.path.is_some()).finish()
    }
}
