//! Proofs that a key has a value, or that it has none, and their strict verification.
//!
//! A proof comes from a stranger. What is accepted is bound to the root and to the whole key by every byte of every
//! node; there is exactly one proof of a statement (of the empty trie, in the `Ethereum` scheme, two). Absence is
//! concluded from a divergence that is in the proof, never from something that is not: a missing node is an error.
//! Lengths and counts are bounded before anything is allocated, and nothing is copied but the values asked for.

use alloc::vec::Vec;

mod blake3;
mod error;
mod ethereum;
pub mod node;
pub(crate) mod prove;
mod verify;

pub use error::{Flaw, ProofError};
pub use node::ProofScheme;
pub use prove::{Proved, ProvedAccount, ProvedMany, prove, prove_account, prove_many};
pub use verify::{verify, verify_account, verify_many, verify_many_accounts, verify_many_slots, verify_slot};

/// The longest node that is looked at, in bytes: room for the longest key and a value of 64 MiB.
pub const MAX_NODE_BYTES: usize = (64 << 20) + 4096;

/// A proof for one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The nodes from the root down, as `eth_getProof` gives them: each is named by the one before. Embedded nodes
    /// stand in their parents only. No node proves that a trie is empty.
    pub nodes: Vec<Vec<u8>>,
}

/// A proof for many keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiProof {
    /// The nodes on the ways of all keys, each place in the trie once, in pre-order: a node, then what is below it by
    /// rising nibbles. That is the order in which walking down to each key, in ascending order, meets new nodes.
    /// Embedded nodes stand in their parents only. In the `Blake3` scheme a branch opens exactly the children
    /// that the keys go through ([`ProofScheme::open_branch`]). For one key it is the same as a [`Proof`].
    pub nodes: Vec<Vec<u8>>,
}
