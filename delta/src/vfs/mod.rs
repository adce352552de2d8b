//! All file access goes through [`Vfs`], so that one simulated disk sees every operation in order.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

mod disk;
pub mod sim;

pub use disk::DiskVfs;

/// How [`Vfs::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Read only; the file must exist.
    Read,
    /// Read and write; the file must exist.
    Write,
    /// Read and write; the file must not exist and is created.
    Create,
}

/// A file system. Paths are absolute or relative to the process, as the caller likes.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// Opens or creates a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>>;

    /// Creates a directory and its missing parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, sorted, as full paths.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether a file or directory is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Removes a file. Durable after [`sync_dir`](Vfs::sync_dir).
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Renames a file over another. Durable after [`sync_dir`](Vfs::sync_dir).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock on a (created if missing) file until the answer is dropped. `WouldBlock` where another process
    /// or another handle holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// An open file.
pub trait VfsFile: Debug + Send + Sync + 'static {
    /// Current length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset` on; `UnexpectedEof` where the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, growing the file where needed.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Sets the length; new bytes are zero. With `allocate` the space is reserved on the disk.
    fn set_len(&self, len: u64, allocate: bool) -> io::Result<()>;

    /// Makes the contents and the length durable.
    fn sync(&self) -> io::Result<()>;

    /// The bytes `offset..offset + len`, which must be written already, as a view that stays valid and unchanged as long as nobody
    /// writes to that range. On a real disk a slice of one shared map of the file; no copy.
    fn map(&self, offset: u64, len: u64) -> io::Result<Bytes>;
}
