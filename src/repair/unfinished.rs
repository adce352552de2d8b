//! A note that a repair has begun, so that the one that finishes it knows what to tell.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bristlecone_delta::Stamp;
use bristlecone_delta::vfs::{OpenMode, Vfs};

use crate::{Error, Pin, Result};

/// Where it is, in the directory of the store.
const FILE: &str = "damaged/unfinished";
const MAGIC: &str = "bristlecone repair 1";

/// What a repair is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// The commit that it goes back to; `None` where it cuts the store off.
    pub(super) base: Option<Stamp>,
    /// The last version there was.
    pub(super) last: u64,
    /// The pins there were.
    pub(super) pins: Vec<Pin>,
}

impl Unfinished {
    /// Lines of text, and a hash of them: names of pins in hexadecimal.
    fn encode(&self) -> String {
        let mut text = format!("{MAGIC}\n{}\n{}\n", self.base.map_or(0, Stamp::word), self.last);
        for Pin { name, version } in &self.pins {
            let name: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("{version} {name}\n");
        }
        let hash = blake3::hash(text.as_bytes());
        text + hash.to_hex().as_str()
    }

    fn decode(text: &str) -> Option<Self> {
        let (text, hash) = text.split_at_checked(text.len().checked_sub(2 * blake3::OUT_LEN)?)?;
        if blake3::hash(text.as_bytes()).to_hex().as_str() != hash {
            return None;
        }
        let mut lines = text.lines();
        lines.next().filter(|magic| *magic == MAGIC)?;
        let base = Some(lines.next()?.parse().ok()?).filter(|word| *word != 0).map(Stamp::from_word);
        let last = lines.next()?.parse().ok()?;
        let pin = |line: &str| {
            let (version, name) = line.split_once(' ')?;
            let name: Option<Vec<u8>> = name
                .as_bytes()
                .chunks(2)
                .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
                .collect();
            Some(Pin { name: String::from_utf8(name?).ok()?, version: version.parse().ok()? })
        };
        Some(Self { base, last, pins: lines.map(pin).collect::<Option<_>>()? })
    }

    /// Makes it durable.
    pub(super) fn write(&self, vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let (tmp, parent) = (path.with_extension("tmp"), path.parent().unwrap_or(dir));
        let text = self.encode();
        let written = || {
            vfs.create_dir_all(parent)?;
            vfs.sync_dir(dir)?;
            if vfs.exists(&tmp)? {
                vfs.remove(&tmp)?;
            }
            let file = vfs.open(&tmp, OpenMode::Create)?;
            file.write_all_at(text.as_bytes(), 0)?;
            file.sync()?;
            vfs.rename(&tmp, &path)?;
            vfs.sync_dir(parent)
        };
        written().map_err(|source| failed("write", &path, source))
    }

    /// The note, if there is one that is right.
    pub(super) fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = || {
            if !vfs.exists(&path)? {
                return Ok(None);
            }
            let file = vfs.open(&path, OpenMode::Read)?;
            let mut bytes = vec![0; usize::try_from(file.len()?.min(1 << 24)).unwrap_or_default()];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(String::from_utf8(bytes).ok())
        };
        let text = text().map_err(|source| failed("read", &path, source))?;
        Ok(text.as_deref().and_then(Self::decode))
    }

    pub(super) fn remove(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let removed = || {
            if vfs.exists(&path)? {
                vfs.remove(&path)?;
                vfs.sync_dir(path.parent().unwrap_or(dir))?;
            }
            Ok(())
        };
        removed().map_err(|source| failed("remove", &path, source))
    }
}

fn failed(op: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { op, path: PathBuf::from(path), source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_every_other_byte_is_refused() {
        let pins = vec![Pin { name: "a b\n\u{e9}".into(), version: 7 }];
        let note = Unfinished { base: Stamp::new(3, 9), last: 12, pins };
        let text = note.encode();
        assert_eq!(Unfinished::decode(&text), Some(note));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let other = String::from_utf8(bytes).ok();
            assert_eq!(other.as_deref().and_then(Unfinished::decode), None, "byte {at}");
            assert_eq!(text.get(..at).and_then(Unfinished::decode), None, "cut at {at}");
        }
    }
}
