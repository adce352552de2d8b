//! The rules of a chain, as far as state without executed transactions depends on them, and where a
//! directory keeps them.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use alloy_primitives::{B256, b256};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Who makes blocks, and whether they are paid for it by the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sealing {
    /// Proof of work: rewards until the Merge, which shows in a difficulty of zero.
    Work,
    /// Proof of authority (clique): no rewards; `beneficiary` of a header is a vote.
    Authority,
}

/// The rules that block rewards depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Of the network, where the genesis file names it.
    pub chain_id: Option<u64>,
    /// Who makes blocks.
    pub sealing: Sealing,
    /// First block of Byzantium; `None`: not scheduled.
    pub byzantium: Option<u64>,
    /// First block of Constantinople; `None`: not scheduled.
    pub constantinople: Option<u64>,
    /// The block that moves the DAO's funds, on a chain that does so.
    pub dao_fork: Option<u64>,
}

const MAINNET: B256 = b256!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544");
const SEPOLIA: B256 = b256!("5eb6e371a698b8d68f665192350ffcecbbbf322916f4b51bd79bb6887da3f494");
const GOERLI: B256 = b256!("5d6cded585e73c4e322c30c2f782a336316f17dd85a4863b9d838d2d4b8b3008");

/// The rules of a public network, known by its genesis state root: their genesis files often come
/// without `config`.
pub fn public_network(genesis_root: B256) -> Option<Rules> {
    let from_genesis = |chain_id, sealing| Rules {
        chain_id: Some(chain_id),
        sealing,
        byzantium: Some(0),
        constantinople: Some(0),
        dao_fork: None,
    };
    match genesis_root {
        MAINNET => Some(Rules {
            chain_id: Some(1),
            sealing: Sealing::Work,
            byzantium: Some(4_370_000),
            constantinople: Some(7_280_000),
            dao_fork: Some(1_920_000),
        }),
        SEPOLIA => Some(from_genesis(11_155_111, Sealing::Work)),
        GOERLI => Some(from_genesis(5, Sealing::Authority)),
        _ => None,
    }
}

/// What a directory knows of its chain: kept beside the store's files, because the state itself must have
/// the chain's root and nothing in it but the chain's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainFile {
    /// Of this file's format; [`CHAIN_FILE_FORMAT`].
    pub format: u32,
    /// State root of version 0, so that the file cannot be taken for another store's.
    pub genesis_root: B256,
    /// The rules; `None`: the genesis file did not tell them.
    pub rules: Option<Rules>,
}

/// The format that this crate writes, and the newest that it reads.
pub const CHAIN_FILE_FORMAT: u32 = 1;

const NAME: &str = "chain.json";

/// Longer files are refused unread, in bytes.
const MAX_BYTES: u64 = 1 << 16;

impl ChainFile {
    /// Where `dir` keeps it.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// Writes it for good: a temporary file, fsync, rename, fsync of the directory.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = Self::path(dir);
        let temporary = dir.join("chain.json.new");
        let io = |source| Error::Io { action: "write", path: path.clone(), source };
        let mut text = serde_json::to_string_pretty(self).map_err(|error| io(error.into()))?;
        text.push('\n');
        let mut file = File::create(&temporary).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        fs::rename(&temporary, &path).map_err(io)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
    }

    /// Reads it; `None` if the directory has none.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path(dir);
        let io = |source| Error::Io { action: "read", path: path.clone(), source };
        let bad = |reason| Error::BadRules { path: path.clone(), reason };
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(bad(format!("{} bytes are too many", metadata.len())));
            }
            Ok(_) => {}
        }
        let text = fs::read(&path).map_err(io)?;
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        // The format first: a newer file may have any fields.
        let Format { format } = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if format != CHAIN_FILE_FORMAT {
            return Err(bad(format!("its format is {format}, this version reads {CHAIN_FILE_FORMAT}")));
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| bad(error.to_string()))
    }

    /// Reads the rules of the chain in `dir`, whose version 0 has the root `genesis_root`.
    pub fn rules(dir: &Path, genesis_root: B256) -> Result<Rules, Error> {
        let path = Self::path(dir);
        let Some(file) = Self::read(dir)? else {
            return Err(Error::NoRules { path });
        };
        if file.genesis_root != genesis_root {
            let reason =
                format!("it belongs to the genesis root {}, the store has {genesis_root}", file.genesis_root);
            return Err(Error::BadRules { path, reason });
        }
        file.rules.ok_or_else(|| Error::BadRules {
            path,
            reason: "the genesis file had no `config`, so the rules of the chain are not known".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_back_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = MAINNET;
        assert!(matches!(ChainFile::rules(dir.path(), root), Err(Error::NoRules { .. })));
        let file = ChainFile { format: CHAIN_FILE_FORMAT, genesis_root: root, rules: public_network(root) };
        file.write(dir.path()).unwrap();
        assert_eq!(ChainFile::read(dir.path()).unwrap(), Some(file.clone()));
        assert_eq!(ChainFile::rules(dir.path(), root).unwrap().chain_id, Some(1));
        assert!(matches!(ChainFile::rules(dir.path(), SEPOLIA), Err(Error::BadRules { .. })));
        for text in ["", "{}", "{\"format\": 2}", "{\"format\": 1}", "{\"format\": 1, \"x\": 1}"] {
            fs::write(ChainFile::path(dir.path()), text).unwrap();
            assert!(matches!(ChainFile::read(dir.path()), Err(Error::BadRules { .. })), "{text}");
        }
        ChainFile { rules: None, ..file }.write(dir.path()).unwrap();
        assert!(matches!(ChainFile::rules(dir.path(), root), Err(Error::BadRules { .. })));
    }
}
