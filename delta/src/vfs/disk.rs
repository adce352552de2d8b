//! The real file system, for Unix.
//!
//! Three rules are kept here so that nobody above has to think of them: a failed fsync is reported once and never
//! tried again (the kernel has already forgotten the data, so a second try would lie), no symbolic link is followed and
//! nothing but a regular file is opened as a file, and no byte is mapped that the file does not have.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{OpenMode, Vfs, VfsFile};

/// The largest file length and offset that the kernel can take.
const MAX_LEN: u64 = i64::MAX as u64;

/// The file system of the machine. It has no state of its own; every call is one or a few system calls.
///
/// Errors are the operating system's, with these additions: opening something that is not a regular file is
/// `IsADirectory` or `InvalidInput`, writing through a handle opened with [`OpenMode::Read`] is `PermissionDenied`, and
/// shrinking a file of which this handle has given out maps that still live is `ResourceBusy`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskVfs;

impl Vfs for DiskVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let flags = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::Write => OFlags::RDWR,
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        let file = open_regular(path, flags)?;
        Ok(Arc::new(DiskFile {
            file,
            writable: mode != OpenMode::Read,
            kept: Mutex::new(None),
            maps: Arc::new(()),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(here(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(here(path))? {
            entries.push(path.join(entry?.file_name()));
        }
        entries.sort();
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(here(path)) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // The system would rename directories too; the trait promises files only, and the simulated disk models no more.
        let is_dir = |path| fs::symlink_metadata(path).map(|found| found.is_dir());
        if is_dir(from)? || is_dir(to).unwrap_or(false) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = retry_on_intr(|| rustix::fs::open(here(path), flags, Mode::empty()))?;
        Ok(rustix::fs::fsync(&dir)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = open_regular(path, OFlags::RDWR | OFlags::CREATE)?;
        // The kernel gives the lock up when the descriptor closes, however the process ends.
        retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive))?;
        Ok(Box::new(file))
    }
}

/// The empty path, which is the parent of a bare file name, means the working directory.
fn here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Opens a regular file without following a symbolic link at its end.
fn open_regular(path: &Path, flags: OFlags) -> io::Result<File> {
    // Without NONBLOCK, opening a pipe that someone put there would wait for its other end for ever.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    let file = File::from(retry_on_intr(|| rustix::fs::open(path, flags, mode))?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        Ok(file)
    } else if kind.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// An open file and the one shared map of it.
#[derive(Debug)]
struct DiskFile {
    file: File,
    writable: bool,
    /// The newest map of the whole file. Readers hold `Bytes` of their own and never come here again.
    kept: Mutex<Option<Bytes>>,
    /// Counts the maps of this handle that are alive: one clone in each.
    maps: Arc<()>,
}

/// What a `Bytes` of a map owns.
struct MappedFile {
    map: Mmap,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl DiskFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// Maps the first `len` bytes, which the caller has just found the file to have. `len` is not 0.
    fn map_whole(&self, len: usize) -> io::Result<Bytes> {
        #[expect(unsafe_code, reason = "a map of a file is what reads without copying stand on")]
        // SAFETY: a map is unsound where its bytes change or go away under a `&[u8]`. They do not go away: the file is a
        // regular file of at least `len` bytes, and `set_len` refuses to shrink it below a living map of this handle; that
        // nobody shrinks it behind our back (another handle, another process) is the store's exclusive lock and the rule
        // that files are never truncated under a map. They do not change: callers of `VfsFile::map` get slices of ranges
        // that were written before, and the trait's contract forbids writing to a range that was handed out. Bytes of the
        // map outside of those slices may change, and nobody reads them.
        let map = unsafe { MmapOptions::new().len(len).map(&self.file)? };
        Ok(Bytes::from_owner(MappedFile { map, _alive: Arc::clone(&self.maps) }))
    }

    /// Shrinks the file if it is longer than `len`, unless a map of it is in somebody's hands.
    fn shrink(&self, len: u64) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if self.len()? <= len {
            return Ok(());
        }
        *kept = None;
        if Arc::strong_count(&self.maps) > 1 {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "cannot shrink a file under a living map",
            ));
        }
        self.file.set_len(len)
    }

    /// Reserves the space of the first `len` bytes and makes the file at least that long; `len` is not 0.
    fn reserve(&self, len: u64) -> io::Result<()> {
        // Reserving twice is the same as once, so an interrupted call may be repeated.
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len)) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.len()? < len => self.file.set_len(len),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl VfsFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        // The standard library repeats interrupted and short reads.
        FileExt::read_exact_at(&self.file, buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        // The standard library repeats interrupted and short writes.
        FileExt::write_all_at(&self.file, buf, offset)
    }

    fn set_len(&self, len: u64, allocate: bool) -> io::Result<()> {
        self.check_writable()?;
        if len > MAX_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.shrink(len)?;
        if allocate && len > 0 { self.reserve(len) } else { self.file.set_len(len) }
    }

    fn sync(&self) -> io::Result<()> {
        // Not `File::sync_data`, which repeats an interrupted call: a failed fsync must be reported as it is. The file's
        // length is among the metadata that fdatasync writes.
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    /// Costs one fstat, and one mmap where the file has outgrown the kept map. Keep the answer where reads are hot.
    fn map(&self, offset: u64, len: u64) -> io::Result<Bytes> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let file_len = self.len()?;
        if end > file_len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if len == 0 {
            return Ok(Bytes::new());
        }
        let range = to_usize(offset)?..to_usize(end)?;
        let map = match kept.take() {
            Some(map) if map.len() >= range.end => map,
            _ => self.map_whole(to_usize(file_len)?)?,
        };
        let answer = map.slice(range);
        *kept = Some(map);
        Ok(answer)
    }
}

fn to_usize(n: u64) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        (dir, path)
    }

    #[test]
    fn a_map_is_shared_and_survives_growth_removal_and_close() {
        let (_dir, path) = fresh();
        let file = DiskVfs.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(b"one page", 0).unwrap();
        let first = file.map(0, 8).unwrap();
        let again = file.map(4, 4).unwrap();
        assert_eq!(again.as_ptr(), first[4..].as_ptr(), "two maps where one would do");
        file.write_all_at(&[7; 10_000], 8).unwrap();
        let grown = file.map(0, 10_008).unwrap();
        assert_eq!(&grown[..8], b"one page");
        assert_eq!(grown[10_007], 7);
        DiskVfs.remove(&path).unwrap();
        drop(file);
        assert_eq!(first, &b"one page"[..]);
        assert_eq!(again, &b"page"[..]);
    }

    #[test]
    fn nothing_past_the_end_is_mapped() {
        let (_dir, path) = fresh();
        let file = DiskVfs.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(&[1; 100], 0).unwrap();
        for (offset, len) in [(0, 101), (100, 1), (101, 0), (u64::MAX, 1), (1, u64::MAX)] {
            let error = file.map(offset, len).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{offset} {len}");
        }
        assert!(file.map(100, 0).unwrap().is_empty());
        assert_eq!(file.map(99, 1).unwrap(), &[1][..]);
    }

    #[test]
    fn a_file_shrunk_by_somebody_else_is_not_mapped_past_its_end() {
        let (_dir, path) = fresh();
        let file = DiskVfs.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(&[1; 9000], 0).unwrap();
        drop(file.map(0, 9000).unwrap());
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert_eq!(file.map(0, 9000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_does_not_shrink_under_a_living_map() {
        let (_dir, path) = fresh();
        let file = DiskVfs.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(&[1; 9000], 0).unwrap();
        let held = file.map(8999, 1).unwrap();
        assert_eq!(file.set_len(10, false).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(held, &[1][..]);
        file.set_len(20_000, false).unwrap();
        drop(held);
        file.set_len(10, true).unwrap();
        assert_eq!(file.len().unwrap(), 10);
    }

    #[test]
    fn a_lock_is_exclusive_until_dropped_and_its_file_stays() {
        let (_dir, path) = fresh();
        let held = DiskVfs.lock(&path).unwrap();
        assert_eq!(DiskVfs.lock(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert!(path.exists());
        drop(DiskVfs.lock(&path).unwrap());
    }

    #[test]
    fn links_directories_and_pipes_are_not_files() {
        let (dir, path) = fresh();
        DiskVfs.open(&path, OpenMode::Create).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for mode in [OpenMode::Read, OpenMode::Write] {
            assert!(DiskVfs.open(&link, mode).is_err());
            assert_eq!(DiskVfs.open(dir.path(), mode).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        }
        assert!(DiskVfs.lock(&link).is_err());
        assert!(DiskVfs.lock(dir.path()).is_err());
        let dangling = dir.path().join("dangling");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
        assert!(DiskVfs.open(&dangling, OpenMode::Create).is_err());
        assert!(DiskVfs.lock(&dangling).is_err());
        assert!(!dir.path().join("nowhere").exists());
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        assert_eq!(DiskVfs.open(&pipe, OpenMode::Read).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn reserved_space_reads_as_zeros_and_is_on_the_disk() {
        use std::os::unix::fs::MetadataExt;
        let (_dir, path) = fresh();
        let file = DiskVfs.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        file.set_len(1 << 20, true).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        assert_eq!(&file.map(0, 5).unwrap()[..], b"abc\0\0");
        // Not every file system can reserve, and those that cannot must at least set the length.
        let blocks = fs::metadata(&path).unwrap().blocks();
        assert!(blocks * 512 >= 1 << 20 || blocks <= 8, "{blocks}");
        file.set_len(0, true).unwrap();
        assert_eq!(file.len().unwrap(), 0);
        assert_eq!(file.set_len(u64::MAX, true).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_read_only_handle_does_not_write() {
        let (_dir, path) = fresh();
        DiskVfs.open(&path, OpenMode::Create).unwrap();
        let file = DiskVfs.open(&path, OpenMode::Read).unwrap();
        assert_eq!(file.write_all_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(file.set_len(1, false).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        file.sync().unwrap();
    }
}
