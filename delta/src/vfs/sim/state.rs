//! What is on the simulated disk, and what of it would be there after power loss.
//!
//! Files are numbered; names lead to numbers. Both exist twice: as the running system sees them, and as the medium
//! holds them. Between the two lie the changes not yet synced, in order, for each file and for all names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::content::{Change, Content};

/// The number of a file, never used again.
pub(super) type FileId = u64;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(FileId),
}

pub(super) type Names = BTreeMap<Arc<Path>, Node>;

/// What an operation does to the disk. A history of these, applied in order, gives the same state again.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Nothing,
    CreateFile {
        path: Arc<Path>,
        file: FileId,
    },
    MakeDir {
        path: Arc<Path>,
    },
    Remove {
        path: Arc<Path>,
    },
    Rename {
        from: Arc<Path>,
        to: Arc<Path>,
    },
    Change {
        file: FileId,
        change: Change,
    },
    Sync {
        file: FileId,
    },
    /// The unsynced changes stay readable, count as clean, and will never be durable.
    SyncFailed {
        file: FileId,
    },
    SyncDir {
        path: Arc<Path>,
    },
    SyncDirFailed {
        path: Arc<Path>,
    },
    /// A file is put there from outside, durably.
    Put {
        path: Arc<Path>,
        file: FileId,
        content: Arc<Content>,
    },
}

/// A change of names within one directory, all of it or nothing.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Put { path: Arc<Path>, node: Node },
    Remove { path: Arc<Path> },
    Move { from: Arc<Path>, to: Arc<Path>, file: FileId },
}

impl NameChange {
    /// The directory whose sync makes this durable.
    pub(super) fn dir(&self) -> &Path {
        let (Self::Put { path, .. } | Self::Remove { path } | Self::Move { to: path, .. }) = self;
        path.parent().unwrap_or(path)
    }

    /// The names it touches.
    pub(super) fn touched(&self) -> impl Iterator<Item = &Arc<Path>> {
        let (first, second) = match self {
            Self::Put { path, .. } | Self::Remove { path } => (path, None),
            Self::Move { from, to, .. } => (to, Some(from)),
        };
        std::iter::once(first).chain(second)
    }

    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Self::Put { path, node } => drop(names.insert(Arc::clone(path), *node)),
            Self::Remove { path } => drop(names.remove(path)),
            Self::Move { from, to, file } => {
                names.remove(from);
                names.insert(Arc::clone(to), Node::File(*file));
            }
        }
    }
}

/// One file: as read, as durable, and what lies between.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) live: Arc<Content>,
    pub(super) durable: Arc<Content>,
    pub(super) unsynced: Vec<Change>,
}

impl Inode {
    /// A file of which everything is durable.
    pub(super) fn settled(content: Arc<Content>) -> Self {
        Self { live: Arc::clone(&content), durable: content, unsynced: Vec::new() }
    }

    fn change(&mut self, change: &Change) {
        Arc::make_mut(&mut self.live).apply(change);
        self.unsynced.push(change.clone());
    }

    fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        // Not a copy of `live`, which may hold what a failed sync has lost.
        let durable = Arc::make_mut(&mut self.durable);
        for change in self.unsynced.drain(..) {
            durable.apply(&change);
        }
    }
}

/// The whole disk.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<FileId, Inode>,
    pub(super) names: Names,
    pub(super) durable_names: Names,
    pub(super) unsynced_names: Vec<NameChange>,
    pub(super) next_file: FileId,
}

impl State {
    /// A disk on which everything is durable. Files that no name leads to are not kept.
    pub(super) fn settled(names: Names, inodes: BTreeMap<FileId, Inode>, next_file: FileId) -> Self {
        Self { inodes, durable_names: names.clone(), names, unsynced_names: Vec::new(), next_file }
    }

    /// Whether nothing would be lost with power now.
    pub(super) fn is_settled(&self) -> bool {
        self.unsynced_names.is_empty()
            && self.names.values().chain(self.durable_names.values()).all(|node| match node {
                Node::Dir => true,
                Node::File(file) => self.inodes.get(file).is_none_or(|inode| inode.unsynced.is_empty()),
            })
    }

    pub(super) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::CreateFile { path, file } => {
                self.inodes.insert(*file, Inode::default());
                self.next_file = self.next_file.max(file + 1);
                self.change_names(NameChange::Put { path: Arc::clone(path), node: Node::File(*file) });
            }
            Effect::MakeDir { path } => {
                self.change_names(NameChange::Put { path: Arc::clone(path), node: Node::Dir });
            }
            Effect::Remove { path } => self.change_names(NameChange::Remove { path: Arc::clone(path) }),
            Effect::Rename { from, to } => self.rename(from, to),
            Effect::Change { file, change } => self.with(*file, |inode| inode.change(change)),
            Effect::Sync { file } => self.with(*file, Inode::sync),
            Effect::SyncFailed { file } => self.with(*file, |inode| inode.unsynced.clear()),
            Effect::SyncDir { path } => self.sync_names(path),
            Effect::SyncDirFailed { path } => self.unsynced_names.retain(|change| change.dir() != &**path),
            Effect::Put { path, file, content } => self.put(path, *file, content),
        }
    }

    fn with(&mut self, file: FileId, work: impl FnOnce(&mut Inode)) {
        if let Some(inode) = self.inodes.get_mut(&file) {
            work(inode);
        }
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn rename(&mut self, from: &Arc<Path>, to: &Arc<Path>) {
        let Some(Node::File(file)) = self.names.get(from).copied() else { return };
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        if from.parent() == to.parent() {
            self.change_names(NameChange::Move { from, to, file });
        } else {
            // Two directories, two syncs: nothing ties them together.
            self.change_names(NameChange::Put { path: to, node: Node::File(file) });
            self.change_names(NameChange::Remove { path: from });
        }
    }

    fn sync_names(&mut self, dir: &Path) {
        let durable = &mut self.durable_names;
        self.unsynced_names.retain(|change| {
            let here = change.dir() == dir;
            if here {
                change.apply(durable);
            }
            !here
        });
    }

    fn put(&mut self, path: &Arc<Path>, file: FileId, content: &Arc<Content>) {
        for dir in path.ancestors().skip(1).filter(|dir| dir.parent().is_some_and(|up| *dir != up)) {
            self.names.insert(dir.into(), Node::Dir);
            self.durable_names.insert(dir.into(), Node::Dir);
        }
        self.names.insert(Arc::clone(path), Node::File(file));
        self.durable_names.insert(Arc::clone(path), Node::File(file));
        self.unsynced_names.retain(|change| !change.touched().any(|name| name == path));
        self.inodes.insert(file, Inode::settled(Arc::clone(content)));
        self.next_file = self.next_file.max(file + 1);
    }

    /// What is at `path`, in good form: `NotFound`, or `NotADirectory` where a file is in the way.
    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        if path.parent().is_none() {
            return Ok(Node::Dir);
        }
        if let Some(node) = self.names.get(path) {
            return Ok(*node);
        }
        let file_in_the_way =
            path.ancestors().skip(1).any(|dir| matches!(self.names.get(dir), Some(Node::File(_))));
        Err(if file_in_the_way { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound }.into())
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<FileId> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn find_dir(&self, path: &Path) -> io::Result<()> {
        match self.find(path)? {
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
            Node::Dir => Ok(()),
        }
    }

    /// Whether `path` could be made: its directory is there, and it itself is not.
    pub(super) fn find_vacant(&self, path: &Path) -> io::Result<()> {
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.find_dir(path.parent().unwrap_or(path))
    }

    /// The names directly in `dir`, sorted.
    pub(super) fn list(&self, dir: &Path) -> Vec<Arc<Path>> {
        self.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect()
    }
}

/// `path` without `.` and `..`; both are resolved by the text alone, since there are no links.
pub(super) fn normal(path: &Path) -> io::Result<Arc<Path>> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if clean.has_root() || clean.parent().is_some() => drop(clean.pop()),
            Component::ParentDir => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "path leads out of the simulated disk",
                ));
            }
            Component::RootDir | Component::Normal(_) | Component::Prefix(_) => clean.push(component),
        }
    }
    Ok(clean.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_their_text() {
        for (path, clean) in
            [("/a/./b/../c", "/a/c"), ("./x", "x"), ("", ""), ("/..", "/"), ("a/..", ""), ("/a//b/", "/a/b")]
        {
            assert_eq!(&*normal(Path::new(path)).unwrap(), Path::new(clean), "{path}");
        }
        assert!(normal(Path::new("../x")).is_err());
    }
}
