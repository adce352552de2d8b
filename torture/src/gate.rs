//! A file system whose writes and syncs can be held back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bristlecone::Bytes;
use bristlecone::vfs::{OpenMode, Vfs, VfsFile};

#[derive(Debug, Default)]
struct State {
    closed: bool,
    held: usize,
}

/// Holds calls back while it is closed.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    pub fn close(&self) {
        self.state.lock().unwrap().closed = true;
    }

    pub fn open(&self) {
        self.state.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    /// Waits until so many calls are held back.
    pub fn wait_until_held(&self, calls: usize) {
        let state = self.state.lock().unwrap();
        let limit = Duration::from_secs(60);
        let (state, timeout) =
            self.changed.wait_timeout_while(state, limit, |state| state.held < calls).unwrap();
        assert!(!timeout.timed_out(), "{} calls are held, not {calls}", state.held);
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.held += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |state| state.closed).unwrap();
        state.held -= 1;
    }
}

/// Another file system, with every change of a file or a directory behind the gate.
#[derive(Clone, Debug)]
pub struct GatedVfs {
    inner: Arc<dyn Vfs>,
    gate: Arc<Gate>,
}

impl GatedVfs {
    pub fn new(inner: impl Vfs) -> (Self, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        (Self { inner: Arc::new(inner), gate: gate.clone() }, gate)
    }
}

impl Vfs for GatedVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        if mode == OpenMode::Create {
            self.gate.pass();
        }
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(GatedFile { inner, gate: self.gate.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.read_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.gate.pass();
        self.inner.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate.pass();
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.gate.pass();
        self.inner.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct GatedFile {
    inner: Arc<dyn VfsFile>,
    gate: Arc<Gate>,
}

impl VfsFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.gate.pass();
        self.inner.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64, allocate: bool) -> io::Result<()> {
        self.gate.pass();
        self.inner.set_len(len, allocate)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.inner.sync()
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<Bytes> {
        self.inner.map(offset, len)
    }
}
