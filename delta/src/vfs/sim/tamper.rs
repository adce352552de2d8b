//! Looking at and damaging the simulated disk from outside: durable at once, not recorded as an operation, never failing
//! on order, and working with the power off too.
//!
//! Whatever else was unsynced in the file becomes durable with it. Images of boundaries that come after see what was done
//! here; images of earlier ones do not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::content::Content;
use super::machine::{MAX_LEN, Machine};
use super::simvfs::SimVfs;
use super::state::{Effect, FileId, Node, normal};

impl SimVfs {
    /// All files with a name, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let machine = self.shared.lock();
        let files = machine.state.names.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.to_path_buf()).collect()
    }

    /// A copy of a file's bytes as the running system sees them. `NotFound` or `IsADirectory` where there is no such file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Bytes> {
        let path = normal(path.as_ref())?;
        let machine = self.shared.lock();
        let file = machine.state.find_file(&path)?;
        Ok(bytes_of(&machine, file)?.into())
    }

    /// Puts a file there, with any missing directories, or replaces the bytes of the one that is there; its open handles
    /// see that. `IsADirectory` or `NotADirectory` where the path does not lead to a file.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = normal(path.as_ref())?;
        let mut machine = self.shared.lock();
        let file = match machine.state.find(&path) {
            Ok(Node::File(file)) => file,
            Ok(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => machine.state.next_file,
            Err(e) => return Err(e),
        };
        machine.intervene(Effect::Put { path, file, content: Arc::new(Content::new(bytes)) });
        Ok(())
    }

    /// Turns one bit of a file over; `bit` counts from the lowest, 0 to 7. `UnexpectedEof` where the file has no such byte.
    pub fn flip_bit(&self, path: impl AsRef<Path>, byte: u64, bit: u8) -> io::Result<()> {
        let mask = 1u8.checked_shl(u32::from(bit)).ok_or(io::ErrorKind::InvalidInput)?;
        self.damage(path.as_ref(), |content| {
            let mut cell = [0];
            if !content.read(&mut cell, byte) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let [old] = cell;
            content.write(byte, &[old ^ mask]);
            Ok(())
        })
    }

    /// Sets the length of a file, downwards or with zeros upwards.
    pub fn truncate(&self, path: impl AsRef<Path>, len: u64) -> io::Result<()> {
        if len > MAX_LEN {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.damage(path.as_ref(), |content| {
            content.set_len(len, false);
            Ok(())
        })
    }

    fn damage(&self, path: &Path, work: impl FnOnce(&mut Content) -> io::Result<()>) -> io::Result<()> {
        let path = normal(path)?;
        let mut machine = self.shared.lock();
        let file = machine.state.find_file(&path)?;
        let inode = machine.state.inodes.get(&file).ok_or(io::ErrorKind::NotFound)?;
        let mut content = Arc::clone(&inode.live);
        work(Arc::make_mut(&mut content))?;
        machine.intervene(Effect::Put { path, file, content });
        Ok(())
    }
}

fn bytes_of(machine: &Machine, file: FileId) -> io::Result<Vec<u8>> {
    let content = &machine.state.inodes.get(&file).ok_or(io::ErrorKind::NotFound)?.live;
    let len = usize::try_from(content.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(len, 0);
    content.read(&mut bytes, 0);
    Ok(bytes)
}
