//! A file system that keeps its callers waiting now and then, so that threads take turns in other orders than they would by themselves.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bristlecone::Bytes;
use bristlecone::vfs::{OpenMode, Vfs, VfsFile};

use crate::Rng;

/// The longest wait.
const LONGEST: u64 = 400;

struct Jitter(Mutex<Rng>);

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jitter")
    }
}

impl Jitter {
    /// Before and after a call: mostly nothing, sometimes the turn of somebody else, sometimes a pause.
    fn shake(&self) {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (choice, pause) = (rng.below(12), rng.next_u64() % LONGEST);
        drop(rng);
        match choice {
            0 => std::thread::sleep(Duration::from_micros(pause)),
            1..=3 => std::thread::yield_now(),
            _ => {}
        }
    }

    fn around<T>(&self, call: impl FnOnce() -> T) -> T {
        self.shake();
        let answer = call();
        self.shake();
        answer
    }
}

/// Another file system, with pauses.
#[derive(Clone, Debug)]
pub struct JitterVfs {
    inner: Arc<dyn Vfs>,
    jitter: Arc<Jitter>,
}

impl JitterVfs {
    pub fn new(inner: impl Vfs, seed: u64) -> Self {
        Self { inner: Arc::new(inner), jitter: Arc::new(Jitter(Mutex::new(Rng::new(seed)))) }
    }
}

impl Vfs for JitterVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let inner = self.jitter.around(|| self.inner.open(path, mode))?;
        Ok(Arc::new(JitterFile { inner, jitter: self.jitter.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.jitter.around(|| self.inner.read_dir(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.jitter.around(|| self.inner.remove(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.jitter.around(|| self.inner.rename(from, to))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.jitter.around(|| self.inner.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct JitterFile {
    inner: Arc<dyn VfsFile>,
    jitter: Arc<Jitter>,
}

impl VfsFile for JitterFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.jitter.around(|| self.inner.write_all_at(buf, offset))
    }

    fn set_len(&self, len: u64, allocate: bool) -> io::Result<()> {
        self.jitter.around(|| self.inner.set_len(len, allocate))
    }

    fn sync(&self) -> io::Result<()> {
        self.jitter.around(|| self.inner.sync())
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<Bytes> {
        self.jitter.around(|| self.inner.map(offset, len))
    }
}
