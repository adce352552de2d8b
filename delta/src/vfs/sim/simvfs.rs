//! The simulated disk as its users see it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{OpenMode, Vfs, VfsFile};
use super::content::PAGE;
use super::crash::CrashPolicy;
use super::fault::FaultRule;
use super::file::{Shared, SimFile, SimLock};
use super::machine::{Machine, Op};
use super::op::{OpKind, OpRecord, Selector};
use super::state::{Effect, Node, State, normal};

/// A simulated disk; see the [module](super) for what it models.
///
/// A clone is another handle of the same disk. A new disk has the root `/` and a working directory, both empty.
/// Memory: everything ever written stays in the history until the disk is dropped.
#[derive(Clone)]
pub struct SimVfs {
    pub(super) shared: Shared,
}

impl SimVfs {
    /// An empty disk. The seed decides how short a short write is.
    pub fn new(seed: u64) -> Self {
        Self { shared: Shared::new(Machine::new(State::default(), seed)) }
    }

    /// How many operations were recorded so far; the number of the next one.
    pub fn op_count(&self) -> usize {
        self.shared.lock().op_count()
    }

    /// How many calls were made so far, those included that change nothing. Calls that could not have worked (a missing
    /// file, a held lock) are not counted where they would have changed something.
    pub fn call_count(&self) -> u64 {
        self.shared.lock().call_count()
    }

    /// What was recorded, in order. Copies the log.
    pub fn ops(&self) -> Vec<OpRecord> {
        self.shared.lock().records()
    }

    /// Power goes off instead of operation `index`: it and every call after it fail and change nothing. At once, if that
    /// operation is past already.
    pub fn cut_power_at(&self, index: usize) {
        self.shared.lock().cut_power_at(index);
    }

    /// Whether the cut has happened.
    pub fn power_is_off(&self) -> bool {
        self.shared.lock().power_is_off()
    }

    /// The disk as it would be found after a power loss now: what is on it is durable, nothing is locked, nothing recorded.
    /// Faults and lies do not carry over; a capacity does. Costs the unsynced changes; unchanged bytes are shared.
    pub fn crash_image(&self, policy: CrashPolicy, seed: u64) -> Self {
        self.image_at(usize::MAX, policy, seed)
    }

    /// The disk as it would have been found after a power loss just before operation `boundary`, so with operations
    /// `0..boundary` done; from [`op_count`](Self::op_count) on, now. The same arguments give the same image.
    ///
    /// Costs a replay of the history from the last such question, or from its beginning if that was a later boundary: ask
    /// in ascending order where there is much to ask.
    pub fn image_at(&self, boundary: usize, policy: CrashPolicy, seed: u64) -> Self {
        let mut machine = self.shared.lock();
        let state = policy.image(machine.state_at(boundary), seed);
        let mut found = Machine::new(state, seed);
        found.capacity = machine.capacity;
        Self { shared: Shared::new(found) }
    }

    /// The disk as another process finds it after this one was killed just before operation `boundary`, while the system
    /// and its caches lived on: everything written can be read, what was unsynced still is, locks are free. A recovery
    /// that acknowledges what it reads here without making it durable is caught by a crash image of the answer.
    ///
    /// What failed syncs have lost is still readable, and still lost. Faults and lies do not carry over; a capacity does.
    /// Costs as [`image_at`](Self::image_at).
    pub fn killed_at(&self, boundary: usize) -> Self {
        let mut machine = self.shared.lock();
        let mut found = Machine::new(machine.state_at(boundary).clone(), 0);
        found.capacity = machine.capacity;
        Self { shared: Shared::new(found) }
    }

    /// The operations that wrote to bytes, or cut bytes off, that somebody held as a map at that moment. On a real disk
    /// those bytes would have changed under a `&[u8]`, so that this must be empty at the end of every test.
    pub fn overwritten_maps(&self) -> Vec<OpRecord> {
        self.shared.lock().overwritten_maps()
    }

    /// Whether nothing was unsynced at that boundary, so that every policy gives the same image.
    pub fn is_settled_at(&self, boundary: usize) -> bool {
        self.shared.lock().state_at(boundary).is_settled()
    }

    /// Orders calls to fail. Where several rules fit, the one ordered first decides.
    pub fn fail(&self, rule: FaultRule) {
        self.shared.lock().faults.0.push(rule);
    }

    /// Takes back all orders to fail and to lie. What they have lost stays lost.
    pub fn clear_faults(&self) {
        let mut machine = self.shared.lock();
        machine.faults.0.clear();
        machine.lies.clear();
    }

    /// Whether calls are ordered to fail that did not yet, or go on failing.
    pub fn has_faults(&self) -> bool {
        self.shared.lock().faults.0.iter().any(FaultRule::is_open)
    }

    /// Plants a lie: the syncs (of files and of directories) that the selector picks claim success and do nothing, as if the
    /// call had been forgotten in the code. A crash suite that cannot tell the difference is worth nothing.
    pub fn ignore_syncs(&self, which: Selector) {
        self.shared.lock().lies.push(which);
    }

    /// Sets the size of the disk in bytes, rounded down to pages of 4,096. Written and reserved pages take space, holes and
    /// names do not. A write that does not fit lands as far as it fits and fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.lock().capacity = bytes.map(|bytes| bytes / PAGE);
    }

    fn query(
        &self,
        kind: OpKind,
        path: &Path,
    ) -> io::Result<(Arc<Path>, std::sync::MutexGuard<'_, Machine>)> {
        let path = normal(path)?;
        let mut machine = self.shared.lock();
        machine.query(kind, &path)?;
        Ok((path, machine))
    }

    fn create(&self, machine: &mut Machine, path: &Arc<Path>) -> io::Result<u64> {
        machine.state.find_vacant(path)?;
        let file = machine.state.next_file;
        let effect = Effect::CreateFile { path: Arc::clone(path), file };
        machine.run(Op::new(OpKind::Create, path, effect))?;
        Ok(file)
    }
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let path = normal(path)?;
        let mut machine = self.shared.lock();
        machine.check_power()?;
        let file = if mode == OpenMode::Create {
            self.create(&mut machine, &path)?
        } else {
            machine.query(OpKind::Open, &path)?;
            machine.state.find_file(&path)?
        };
        Ok(Arc::new(SimFile::new(&self.shared, &mut machine, file, path, mode != OpenMode::Read)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = normal(path)?;
        let mut machine = self.shared.lock();
        machine.check_power()?;
        if let Ok(Node::File(_)) = machine.state.find(&path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut missing = Vec::new();
        for dir in path.ancestors() {
            match machine.state.find(dir) {
                Ok(Node::Dir) => break,
                Ok(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(_) => missing.push(Arc::<Path>::from(dir)),
            }
        }
        for dir in missing.into_iter().rev() {
            machine.run(Op::new(OpKind::MakeDir, &dir, Effect::MakeDir { path: Arc::clone(&dir) }))?;
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let (dir, machine) = self.query(OpKind::List, path)?;
        machine.state.find_dir(&dir)?;
        let entries = machine.state.list(&dir);
        // As the caller spells it.
        Ok(entries.iter().filter_map(|entry| Some(path.join(entry.file_name()?))).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let (path, machine) = self.query(OpKind::Exists, path)?;
        Ok(machine.state.find(&path).is_ok())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = normal(path)?;
        let mut machine = self.shared.lock();
        machine.check_power()?;
        machine.state.find_file(&path)?;
        machine.run(Op::new(OpKind::Remove, &path, Effect::Remove { path: Arc::clone(&path) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from)?, normal(to)?);
        let mut machine = self.shared.lock();
        machine.check_power()?;
        let file = machine.state.find_file(&from)?;
        machine.state.find_dir(to.parent().unwrap_or(&to))?;
        match machine.state.find(&to) {
            Ok(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            // Two names of one file, as a crash may leave them: renaming one to the other does nothing, on any Unix.
            Ok(Node::File(same)) if same == file => return Ok(()),
            Ok(Node::File(_)) | Err(_) => {}
        }
        let effect = Effect::Rename { from: Arc::clone(&from), to: Arc::clone(&to) };
        machine.run(Op { to: Some(to), ..Op::new(OpKind::Rename, &from, effect) })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path)?;
        let mut machine = self.shared.lock();
        machine.check_power()?;
        machine.state.find_dir(&path)?;
        machine.run(Op::new(OpKind::SyncDir, &path, Effect::SyncDir { path: Arc::clone(&path) }))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let path = normal(path)?;
        let mut machine = self.shared.lock();
        machine.check_power()?;
        let file = match machine.state.find(&path) {
            Ok(Node::File(file)) => file,
            Ok(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            Err(_) => self.create(&mut machine, &path)?,
        };
        if machine.locks.contains(&file) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        machine.run(Op::new(OpKind::Lock, &path, Effect::Nothing))?;
        Ok(Box::new(SimLock::take(&self.shared, &mut machine, file)))
    }
}

impl fmt::Debug for SimVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimVfs").field("ops", &self.op_count()).finish_non_exhaustive()
    }
}
