//! The answer of `debug_executionWitness`.

use std::collections::BTreeSet;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY};
use alloy_rlp::Decodable;
use bristlecone::{Batch, Key, Snapshot, Stateless};
use serde::{Deserialize, Serialize};

use super::stateless;
use crate::Error;

/// The answer of `debug_executionWitness`, in the shape of geth and reth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionWitness {
    /// The RLP of the nodes of state and storage, in any order.
    pub state: Vec<Bytes>,
    /// Contract codes, in any order.
    pub codes: Vec<Bytes>,
    /// What the hashed keys are hashes of: addresses (20 bytes) and slots (32), each address before its slots. A help; nothing
    /// follows from it.
    #[serde(default)]
    pub keys: Vec<Bytes>,
    /// The RLP of headers of blocks before, the parent's last. A store has none: the caller adds them.
    #[serde(default)]
    pub headers: Vec<Bytes>,
}

impl ExecutionWitness {
    /// What is needed of `snapshot` to read these accounts and slots, and to apply `changes` and compute the root after them; with it
    /// the codes that the store has of these accounts. The headers are left empty.
    ///
    /// Cost: that of proofs, with each node once.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::witness_for`].
    pub fn of(snapshot: &Snapshot, keys: &[(Address, Vec<B256>)], changes: &Batch) -> Result<Self, Error> {
        let mut witness = Self::default();
        let (mut asked, mut hashes) = (Vec::new(), BTreeSet::new());
        for (address, slots) in keys {
            asked.push(Key::Account(address.as_slice()));
            witness.keys.push(Bytes::copy_from_slice(address.as_slice()));
            for slot in slots {
                asked.push(Key::Slot(address.as_slice(), *slot));
                witness.keys.push(Bytes::copy_from_slice(slot.as_slice()));
            }
            let account = snapshot.account(address.as_slice())?;
            hashes.extend(account.map(|account| account.code_hash).filter(|hash| *hash != KECCAK256_EMPTY));
        }
        for hash in hashes {
            witness.codes.extend(snapshot.code(hash)?.map(Bytes::from));
        }
        let nodes = snapshot.witness_for(&asked, changes)?.nodes;
        witness.state = nodes.into_iter().map(Bytes::from).collect();
        Ok(witness)
    }

    /// The state under `root`, which must be known to be right, as far as the nodes show it.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] with [`bristlecone::Error::Witness`]: a node is damaged, is there twice or hangs nowhere.
    pub fn open(&self, root: B256) -> Result<Stateless, Error> {
        stateless(root, &self.state)
    }

    /// The headers, decoded.
    pub(super) fn ancestors(&self) -> Result<Vec<Header>, Error> {
        let decode = |(index, bytes): (usize, &Bytes)| {
            let mut rest = &bytes[..];
            match Header::decode(&mut rest) {
                Ok(header) if rest.is_empty() => Ok(header),
                Ok(_) => Err(format!("{} bytes behind header {index}", rest.len())),
                Err(error) => Err(format!("header {index}: {error}")),
            }
        };
        let headers = self.headers.iter().enumerate().map(decode).collect::<Result<_, _>>();
        headers.map_err(|reason| Error::WitnessFormat { reason })
    }
}
