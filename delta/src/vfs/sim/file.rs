//! Open files and held locks of the simulated disk.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::super::VfsFile;
use super::content::Change;
use super::machine::{MAX_LEN, Machine, Op};
use super::op::OpKind;
use super::state::{Effect, FileId};

/// What all handles of one simulated disk share.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Machine>>);

impl Shared {
    pub(super) fn new(machine: Machine) -> Self {
        Self(Arc::new(Mutex::new(machine)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Machine> {
        // Only a failed test panics in here, and what it then sees is still in order.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open file: it outlives its name, as on a real disk.
pub(super) struct SimFile {
    shared: Shared,
    file: FileId,
    path: Arc<Path>,
    writable: bool,
    /// Counts the maps of this handle that are alive: one clone in each.
    maps: Arc<()>,
}

impl SimFile {
    pub(super) fn new(
        shared: &Shared,
        machine: &mut Machine,
        file: FileId,
        path: Arc<Path>,
        writable: bool,
    ) -> Self {
        machine.handle_opened(file);
        Self { shared: shared.clone(), file, path, writable, maps: Arc::new(()) }
    }

    fn query(&self, kind: OpKind) -> io::Result<MutexGuard<'_, Machine>> {
        let mut machine = self.shared.lock();
        machine.query(kind, &self.path)?;
        Ok(machine)
    }

    fn live_len(&self, machine: &Machine) -> u64 {
        machine.state.inodes.get(&self.file).map_or(0, |inode| inode.live.len())
    }

    fn read(&self, machine: &Machine, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let found = machine.state.inodes.get(&self.file).is_some_and(|inode| inode.live.read(buf, offset));
        if found || buf.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn change(&self, machine: &mut Machine, kind: OpKind, change: Change) -> io::Result<()> {
        machine.run(Op::new(kind, &self.path, Effect::Change { file: self.file, change }))
    }
}

/// What a `Bytes` of a simulated map owns.
struct Mapped {
    bytes: Vec<u8>,
    shared: Shared,
    file: FileId,
    number: u64,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.shared.lock().map_dropped(self.file, self.number);
    }
}

impl VfsFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.live_len(&*self.query(OpKind::Len)?))
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let machine = self.query(OpKind::Read)?;
        self.read(&machine, buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut machine = self.shared.lock();
        machine.check_power()?;
        self.check_writable()?;
        if buf.is_empty() {
            return Ok(());
        }
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > MAX_LEN) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.change(&mut machine, OpKind::Write, Change::Write { offset, data: Bytes::copy_from_slice(buf) })
    }

    fn set_len(&self, len: u64, allocate: bool) -> io::Result<()> {
        let mut machine = self.shared.lock();
        machine.check_power()?;
        self.check_writable()?;
        if len > MAX_LEN {
            let beyond_any = len > i64::MAX as u64;
            let kind = if beyond_any { io::ErrorKind::InvalidInput } else { io::ErrorKind::FileTooLarge };
            return Err(kind.into());
        }
        if len < self.live_len(&machine) && Arc::strong_count(&self.maps) > 1 {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "cannot shrink a file under a living map",
            ));
        }
        self.change(&mut machine, OpKind::SetLen, Change::SetLen { len, reserve: allocate })
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.lock().run(Op::new(OpKind::Sync, &self.path, Effect::Sync { file: self.file }))
    }

    /// Copies the range.
    fn map(&self, offset: u64, len: u64) -> io::Result<Bytes> {
        let mut machine = self.query(OpKind::Map)?;
        // Before the allocation, since the length may be hostile.
        let end = offset.checked_add(len).filter(|end| *end <= self.live_len(&machine));
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if len == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(len, 0);
        self.read(&machine, &mut bytes, offset)?;
        let number = machine.map_made(self.file, offset..end);
        let shared = self.shared.clone();
        Ok(Bytes::from_owner(Mapped {
            bytes,
            shared,
            file: self.file,
            number,
            _alive: Arc::clone(&self.maps),
        }))
    }
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).field("writable", &self.writable).finish()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.shared.lock().handle_closed(self.file);
    }
}

/// A held lock.
pub(super) struct SimLock {
    shared: Shared,
    file: FileId,
}

impl SimLock {
    /// Takes the lock of a file that is there and not locked.
    pub(super) fn take(shared: &Shared, machine: &mut Machine, file: FileId) -> Self {
        machine.locks.insert(file);
        Self { shared: shared.clone(), file }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.shared.lock().locks.remove(&self.file);
    }
}
