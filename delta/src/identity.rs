//! The identity file: what a store is, for good.
//!
//! ```text
//! magic 8 | format version u32 | configuration length u32 | store id 16 | configuration | checksum u64
//! ```

use std::path::Path;

use crate::checksum::{Checker, Domain};
use crate::codec::{Bad, Reader, at_most};
use crate::error::At;
use crate::format::{
    CHECKSUM_BYTES, FORMAT_VERSION, IDENTITY_HEAD_BYTES, IDENTITY_MAGIC, MAX_CONFIG_BYTES, STORE_ID_BYTES,
};
use crate::segment::create_whole;
use crate::vfs::{OpenMode, Vfs};
use crate::{Error, Result};

/// The identity file's name.
const FILE: &str = "store";

/// What a new store is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Random bytes that tell this store from all others. Checksums are keyed with them.
    pub id: [u8; STORE_ID_BYTES],
    /// The caller's configuration, kept for good; up to 64 KiB.
    pub config: Vec<u8>,
}

/// What a store is, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The format version it was made with.
    pub format: u32,
    /// Random bytes that tell this store from all others.
    pub id: [u8; STORE_ID_BYTES],
    /// The caller's configuration.
    pub config: Vec<u8>,
}

/// The identity file cannot be keyed with the identity that it holds.
fn checker() -> Checker {
    Checker::new(&[0; STORE_ID_BYTES])
}

impl Identity {
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        at_most("the configuration", self.config.len(), MAX_CONFIG_BYTES)?;
        let mut out = Vec::with_capacity(IDENTITY_HEAD_BYTES + self.config.len() + CHECKSUM_BYTES);
        out.extend_from_slice(&IDENTITY_MAGIC);
        out.extend_from_slice(&self.format.to_le_bytes());
        out.extend_from_slice(&(self.config.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.id);
        debug_assert_eq!(out.len(), IDENTITY_HEAD_BYTES);
        out.extend_from_slice(&self.config);
        out.extend_from_slice(&checker().sum(Domain::Identity, 0, 0, &out).to_le_bytes());
        Ok(out)
    }

    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let magic = reader.array::<8>().unwrap_or_default();
        if magic != IDENTITY_MAGIC {
            return Err(Error::NotAStore {
                path: path.to_owned(),
                what: "its identity file is that of something else",
            });
        }
        let parse = |reader: &mut Reader<'_>| -> Result<_, Bad> {
            let format = reader.u32()?;
            let length = reader.u32()? as usize;
            if length > MAX_CONFIG_BYTES {
                return Err(reader.bad("a configuration past its limit"));
            }
            let id = reader.array()?;
            let config = reader.take(length)?.to_vec();
            let covered = bytes.get(..reader.at()).unwrap_or_default();
            let sum = reader.u64()?;
            reader.end()?;
            if checker().sum(Domain::Identity, 0, 0, covered) != sum {
                return Err(Bad::new("the identity does not match its checksum"));
            }
            Ok(Self { format, id, config })
        };
        // Another format may look different behind its version.
        let version = reader.clone().u32().unwrap_or(0);
        let parsed = parse(&mut reader).map_err(|bad| bad.of_file(path, 0));
        let supported = FORMAT_VERSION;
        if version > supported {
            return Err(Error::NewerFormat { path: path.to_owned(), found: version, supported });
        }
        // Identities of earlier formats had this layout: what does not match its checksum is damaged, not old.
        let identity = parsed?;
        match identity.format {
            0 => Err(Error::corrupt(path, 8, "no such format version")),
            found if found < supported => Err(Error::OlderFormat { path: path.to_owned(), found, supported }),
            _ => Ok(identity),
        }
    }
}

/// Reads the identity of the store in `dir`; `None` where there is no identity file.
pub(crate) fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Option<Identity>> {
    let path = dir.join(FILE);
    if !vfs.exists(&path).at("look at", &path)? {
        return Ok(None);
    }
    let file = vfs.open(&path, OpenMode::Read).at("open", &path)?;
    let len = file.len().at("look at", &path)?;
    let most = (IDENTITY_HEAD_BYTES + MAX_CONFIG_BYTES + CHECKSUM_BYTES + 1) as u64;
    let mut bytes = vec![0; len.min(most) as usize];
    file.read_exact_at(&mut bytes, 0).at("read", &path)?;
    Identity::decode(&bytes, &path).map(Some)
}

/// The identity of the store in `dir`, which must be there.
pub(crate) fn found(vfs: &dyn Vfs, dir: &Path) -> Result<Identity> {
    read(vfs, dir)?.ok_or_else(|| Error::NotAStore { path: dir.to_owned(), what: "it has no identity file" })
}

/// Writes the identity of the store in `dir`, and makes it durable.
pub(crate) fn write(vfs: &dyn Vfs, dir: &Path, identity: &Identity) -> Result<()> {
    let bytes = identity.encode()?;
    create_whole(vfs, dir, &dir.join(FILE), 0, None, |file, path| {
        file.write_all_at(&bytes, 0).at("write", path)
    })?;
    Ok(())
}

impl From<&Create> for Identity {
    fn from(create: &Create) -> Self {
        Self { format: FORMAT_VERSION, id: create.id, config: create.config.clone() }
    }
}

/// Makes durable that `dir` is there, by itself and by the directories above it, whoever made them.
pub(crate) fn sync_names(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    for above in dir.ancestors().skip(1) {
        match vfs.sync_dir(above) {
            // What may not be opened was not made by a process like this one.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            synced => synced.at("sync", above)?,
        }
    }
    Ok(())
}

/// Whether a store may be made in `dir`: it is missing, or empty but for what an unfinished making leaves.
pub(crate) fn may_create(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    if !vfs.exists(dir).at("look at", dir)? {
        return Ok(());
    }
    for entry in vfs.read_dir(dir).at("list", dir)? {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let left = match name {
            "lock" | "store.tmp" | "lost+found" => true,
            "segments" | "log" => vfs.read_dir(&entry).at("list", &entry)?.is_empty(),
            _ => name.starts_with('.'),
        };
        if !left {
            return Err(Error::NotAStore {
                path: dir.to_owned(),
                what: "it has no identity file, and holds other things",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Identity {
        Identity { format: FORMAT_VERSION, id: [7; 16], config: b"config".to_vec() }
    }

    #[test]
    fn the_identity_is_golden_and_every_other_bit_is_refused() {
        let path = Path::new("store");
        let bytes = sample().encode().unwrap();
        assert_eq!(bytes[..16], *b"BRCLONE\0\x03\0\0\0\x06\0\0\0");
        assert_eq!(bytes[16..32], [7; 16]);
        assert_eq!(bytes[32..38], *b"config");
        assert_eq!(bytes.len(), 46);
        assert_eq!(Identity::decode(&bytes, path).unwrap(), sample());
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&other, path).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Identity::decode(&bytes[..cut], path).is_err());
        }
    }

    #[test]
    fn other_files_and_other_formats_are_told_apart() {
        let path = Path::new("store");
        assert!(matches!(Identity::decode(b"#!/bin/sh", path), Err(Error::NotAStore { .. })));
        let of = |format| Identity::decode(&Identity { format, ..sample() }.encode().unwrap(), path);
        assert!(matches!(of(4), Err(Error::NewerFormat { found: 4, supported: 3, .. })));
        assert!(matches!(of(2), Err(Error::OlderFormat { found: 2, supported: 3, .. })));
        assert!(matches!(of(0), Err(Error::Corrupt { .. })));
        let large = Identity { config: vec![0; MAX_CONFIG_BYTES + 1], ..sample() };
        assert!(matches!(large.encode(), Err(Error::TooLarge { .. })));
    }
}
