//! Answers of `eth_getProof` (EIP-1186): making them from a snapshot, reading and verifying anybody's.
//!
//! Verification itself is strict (`bristlecone_trie::proof`). What providers do differently is met here:
//!
//! - the answer may stand in a JSON-RPC envelope;
//! - a slot's `key` may be a short quantity, or lack `0x`;
//! - values may have leading zeros;
//! - the storage proof of an empty storage may be empty, or the one node `0x80`;
//! - of an account that is absent, `codeHash` and `storageHash` may be zero, or those of an empty account;
//! - `{"account": {nonce, balance, codeHash, storageRoot}, accountProof, storageProof}`, without an address, as light
//!   clients keep it: the address must then be given by the caller.

mod read;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy_trie::EMPTY_ROOT_HASH;
use bristlecone::{Account, AccountProof, Snapshot};
use bristlecone_trie::{
    proof::{verify_account, verify_slot},
    scheme::ethereum::Ethereum,
};

pub use read::parse;

use crate::Error;

/// An answer of `eth_getProof`, in alloy's type for it.
pub type Answer = EIP1186AccountProofResponse;

/// Makes the answer for `address` and `slots` at a snapshot with the `Ethereum` scheme. The slots come in
/// the order asked for. An account that is absent has the hashes of an empty one, as geth answers.
pub fn answer(snapshot: &Snapshot, address: Address, slots: &[B256]) -> Result<Answer, Error> {
    let proof = snapshot.prove_account(address.as_slice(), slots)?;
    Ok(from_proof(address, proof))
}

/// The answer for a proof of `address` that was made before.
pub fn from_proof(address: Address, proof: AccountProof) -> Answer {
    let bytes = |nodes: Vec<Vec<u8>>| nodes.into_iter().map(Bytes::from).collect();
    let account = proof.account.unwrap_or_default();
    let slot = |slot: bristlecone::SlotProof| {
        EIP1186StorageProof::new(slot.slot.into(), slot.value, bytes(slot.nodes))
    };
    Answer {
        address,
        balance: account.balance,
        code_hash: account.code_hash,
        nonce: account.nonce,
        storage_hash: proof.storage_root,
        account_proof: bytes(proof.nodes),
        storage_proof: proof.slots.into_iter().map(slot).collect(),
    }
}

/// What an answer was proven to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The account; `None`: proven to be absent.
    pub account: Option<Account>,
    /// Root of its storage; that of the empty trie if the account is absent.
    pub storage_root: B256,
    /// Slots and their values, in the order of the answer.
    pub slots: Vec<(B256, U256)>,
}

/// Verifies all of `answer` against a state root: the account's proof, that nonce, balance, code hash and
/// storage hash are those of the proven account, and each slot's proof and value.
///
/// An answer without any account proof proves nothing (unless `state_root` is that of an empty state).
/// Costs a hash a node.
pub fn verify(answer: &Answer, state_root: B256) -> Result<Verified, Error> {
    let invalid =
        |reason: String| Error::InvalidProof { part: format!("account {}", answer.address), reason };
    let key = keccak256(answer.address);
    let proven = verify_account::<Ethereum>(state_root, key.as_slice(), &answer.account_proof)
        .map_err(|error| invalid(error.to_string()))?;
    let account = proven.map(|(account, _)| account);
    let storage_root = proven.map_or(EMPTY_ROOT_HASH, |(_, root)| root);

    let expected = account.unwrap_or_default();
    // Providers differ on the hashes of an account that does not exist.
    let absent_hash = |hash: B256| account.is_none() && hash == B256::ZERO;
    let claims = [
        ("nonce", U256::from(answer.nonce), U256::from(expected.nonce)),
        ("balance", answer.balance, expected.balance),
    ];
    for (what, claimed, proven) in claims {
        if claimed != proven {
            return Err(invalid(format!("the {what} is said to be {claimed}, but {proven} is proven")));
        }
    }
    let hashes = [
        ("code hash", answer.code_hash, account.map_or(KECCAK256_EMPTY, |account| account.code_hash)),
        ("storage hash", answer.storage_hash, storage_root),
    ];
    for (what, claimed, proven) in hashes {
        if claimed != proven && !absent_hash(claimed) {
            return Err(invalid(format!("the {what} is said to be {claimed}, but {proven} is proven")));
        }
    }
    Ok(Verified { account, storage_root, slots: verify_storage(answer, storage_root)? })
}

/// Verifies only the slots of `answer` against the root of a storage. Nothing is said of the account, nor
/// of whose storage that is.
pub fn verify_storage(answer: &Answer, storage_root: B256) -> Result<Vec<(B256, U256)>, Error> {
    let mut slots = Vec::with_capacity(answer.storage_proof.len());
    for entry in &answer.storage_proof {
        let slot = entry.key.as_b256();
        let invalid = |reason: String| Error::InvalidProof { part: format!("slot {slot}"), reason };
        let value = verify_slot::<Ethereum>(storage_root, keccak256(slot).as_slice(), &entry.proof)
            .map_err(|error| invalid(error.to_string()))?
            .unwrap_or_default();
        if value != entry.value {
            return Err(invalid(format!(
                "the value is said to be {:#x}, but {value:#x} is proven",
                entry.value
            )));
        }
        slots.push((slot, value));
    }
    Ok(slots)
}
