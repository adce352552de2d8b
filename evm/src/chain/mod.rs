//! The rules of a chain, and where a directory keeps them.

mod forks;
mod networks;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use alloy_consensus::Header;
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::Decodable;
use serde::{Deserialize, Serialize};

pub use forks::{BlobSchedule, Forks};
pub use networks::public_network;

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

/// The rules of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Of the network, where the genesis file names it.
    pub chain_id: Option<u64>,
    /// Who makes blocks.
    pub sealing: Sealing,
    /// Where its forks begin.
    pub forks: Forks,
    /// The block that moves the DAO's funds, on a chain that does so.
    pub dao_fork: Option<u64>,
    /// Whose logs are deposits to the beacon chain (EIP-6110).
    pub deposit_contract: Option<Address>,
    /// Blob parameters, ascending by their timestamps.
    pub blobs: Vec<BlobSchedule>,
}

impl Rules {
    /// The blob parameters of a block made at `timestamp`.
    pub fn blob_params(&self, timestamp: u64) -> BlobParams {
        self.forks.blob_params(&self.blobs, timestamp)
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
    /// RLP of the header of block 0, which block 1 names as its parent.
    pub genesis: Bytes,
    /// The rules; `None`: the genesis file did not tell them.
    pub rules: Option<Rules>,
}

/// The format that this crate writes, and the newest that it reads.
pub const CHAIN_FILE_FORMAT: u32 = 2;

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

    /// Reads the rules of the chain in `dir`, whose version 0 has the root `genesis_root`, and the
    /// header of block 0.
    pub fn rules(dir: &Path, genesis_root: B256) -> Result<(Rules, Header), Error> {
        let path = Self::path(dir);
        let Some(file) = Self::read(dir)? else {
            return Err(Error::NoRules { path });
        };
        if file.genesis_root != genesis_root {
            let reason =
                format!("it belongs to the genesis root {}, the store has {genesis_root}", file.genesis_root);
            return Err(Error::BadRules { path, reason });
        }
        let bad = |reason: String| Error::BadRules { path, reason };
        let Some(rules) = file.rules else {
            return Err(bad(
                "the genesis file had no `config`, so the rules of the chain are not known".into()
            ));
        };
        match Header::decode(&mut &file.genesis[..]) {
            Ok(header) if header.state_root == genesis_root => Ok((rules, header)),
            Ok(header) => Err(bad(format!("the header of its block 0 has the root {}", header.state_root))),
            Err(error) => Err(bad(format!("the header of its block 0 does not decode: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        networks::{MAINNET, SEPOLIA},
        *,
    };

    fn genesis(state_root: B256) -> Bytes {
        alloy_rlp::encode(Header { state_root, ..Header::default() }).into()
    }

    #[test]
    fn the_file_reads_back_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = MAINNET;
        assert!(matches!(ChainFile::rules(dir.path(), root), Err(Error::NoRules { .. })));
        let file = ChainFile {
            format: CHAIN_FILE_FORMAT,
            genesis_root: root,
            genesis: genesis(root),
            rules: public_network(root),
        };
        file.write(dir.path()).unwrap();
        assert_eq!(ChainFile::read(dir.path()).unwrap(), Some(file.clone()));
        assert_eq!(ChainFile::rules(dir.path(), root).unwrap().0.chain_id, Some(1));
        assert!(matches!(ChainFile::rules(dir.path(), SEPOLIA), Err(Error::BadRules { .. })));
        for text in ["", "{}", "{\"format\": 3}", "{\"format\": 2}", "{\"format\": 2, \"x\": 1}"] {
            fs::write(ChainFile::path(dir.path()), text).unwrap();
            assert!(matches!(ChainFile::read(dir.path()), Err(Error::BadRules { .. })), "{text}");
        }
        let other = ChainFile { genesis: genesis(SEPOLIA), ..file.clone() };
        other.write(dir.path()).unwrap();
        assert!(matches!(ChainFile::rules(dir.path(), root), Err(Error::BadRules { .. })));
        ChainFile { rules: None, ..file }.write(dir.path()).unwrap();
        assert!(matches!(ChainFile::rules(dir.path(), root), Err(Error::BadRules { .. })));
    }
}
