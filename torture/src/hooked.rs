//! A file system whose calls somebody stands around: to hold them back, or to keep them waiting.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bristlecone::Bytes;
use bristlecone::vfs::{OpenMode, Vfs, VfsFile};

/// Who stands around the calls.
pub trait Hook: Debug + Send + Sync + 'static {
    /// Before a call; `changes` says whether it may change a file or a directory.
    fn before(&self, changes: bool);

    /// After it.
    fn after(&self, _changes: bool) {}
}

/// Another file system, with a hook around every call but locks and questions for lengths and existence.
#[derive(Debug)]
pub struct HookedVfs<H> {
    inner: Arc<dyn Vfs>,
    hook: Arc<H>,
}

impl<H> Clone for HookedVfs<H> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), hook: self.hook.clone() }
    }
}

fn around<T>(hook: &impl Hook, changes: bool, call: impl FnOnce() -> T) -> T {
    hook.before(changes);
    let answer = call();
    hook.after(changes);
    answer
}

impl<H: Hook> HookedVfs<H> {
    pub fn with(inner: impl Vfs, hook: H) -> (Self, Arc<H>) {
        let hook = Arc::new(hook);
        (Self { inner: Arc::new(inner), hook: hook.clone() }, hook)
    }
}

impl<H: Hook> Vfs for HookedVfs<H> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let inner = around(&*self.hook, mode == OpenMode::Create, || self.inner.open(path, mode))?;
        Ok(Arc::new(HookedFile { inner, hook: self.hook.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        around(&*self.hook, false, || self.inner.read_dir(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        around(&*self.hook, true, || self.inner.remove(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        around(&*self.hook, true, || self.inner.rename(from, to))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        around(&*self.hook, true, || self.inner.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct HookedFile<H> {
    inner: Arc<dyn VfsFile>,
    hook: Arc<H>,
}

impl<H: Hook> VfsFile for HookedFile<H> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        around(&*self.hook, false, || self.inner.read_exact_at(buf, offset))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        around(&*self.hook, true, || self.inner.write_all_at(buf, offset))
    }

    fn set_len(&self, len: u64, allocate: bool) -> io::Result<()> {
        around(&*self.hook, true, || self.inner.set_len(len, allocate))
    }

    fn sync(&self) -> io::Result<()> {
        around(&*self.hook, true, || self.inner.sync())
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<Bytes> {
        around(&*self.hook, false, || self.inner.map(offset, len))
    }
}
