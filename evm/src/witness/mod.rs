//! Execution witnesses: the part of a state that a block needs, from a stranger or for one.
//!
//! [`ExecutionWitness`] is the answer of `debug_executionWitness`, made from a snapshot or read. [`Input`] is what any of the known
//! files says of a block and its witness. Either gives a [`Stateless`] state: the nodes are hashed, each must hang under the
//! root before the block, and what they do not show is an error.

mod compact;
mod make;
mod shapes;

use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, keccak256};
use bristlecone::{Namespace, SchemeKind, Stateless};

pub use compact::{Compact, CompactError, decode_compact};
pub use make::ExecutionWitness;

use crate::Error;

/// The shape of a file, by who writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `{state, codes, keys, headers}`, bare or in a JSON-RPC envelope: the answer of `debug_executionWitness`.
    Debug,
    /// `{blocks, witness}` with such a witness: ethrex.
    Ethrex,
    /// The same with `stateTrieNodes` and `storageTrieNodes`: ethrex before it took that shape.
    EthrexOld,
    /// `{header, prev_state_root, states, codes}`: sbv. `pre_state_root` in older files.
    Sbv,
    /// `{blocks, witness: {state, ancestors, codes}}`: the zero-knowledge prover input of zkpi.
    Zkpi,
    /// `[{block_trace, other_data}]` with Erigon's compact witness: zk_evm.
    ZkEvm,
}

/// What a file says of a block and of its witness. Nothing of it is verified but what reading it says; [`state`](Self::state) verifies
/// the nodes against [`pre_root`](Self::pre_root).
#[derive(Clone, Debug)]
pub struct Input {
    /// Whose shape it is in.
    pub source: Source,
    /// The block that the witness is for, if the file tells.
    pub number: Option<u64>,
    /// The state root before the block: that of its parent's header where the file has it; else what the file says, or (in
    /// [`Source::ZkEvm`]) what its nodes come to.
    pub pre_root: B256,
    /// The state root after the block, as its header says it, if the file has that.
    pub post_root: Option<B256>,
    /// The RLP of the nodes of state and storage, each once.
    pub nodes: Vec<Bytes>,
    /// The codes by their hashes, which are computed.
    pub codes: BTreeMap<B256, Bytes>,
    /// The headers of the blocks before, the parent last. Each is the parent of the next, and the last one that of the block, where the
    /// file has it.
    pub ancestors: Vec<Header>,
}

impl Input {
    /// Reads a file of any known shape.
    ///
    /// # Errors
    ///
    /// [`Error::WitnessFormat`]: it is none of them, or contradicts itself: a code that has not its hash, headers that do not follow one
    /// another.
    pub fn parse(text: &str) -> Result<Self, Error> {
        shapes::parse(text)
    }

    /// The state before the block, as far as the nodes show it.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] with [`bristlecone::Error::Witness`]: a node is damaged, is there twice or hangs nowhere.
    pub fn state(&self) -> Result<Stateless, Error> {
        stateless(self.pre_root, &self.nodes)
    }
}

/// Ethereum's state under `root`, as far as `nodes` show it.
fn stateless(root: B256, nodes: &[Bytes]) -> Result<Stateless, Error> {
    Ok(Stateless::new(Namespace::accounts(SchemeKind::Ethereum), root, nodes)?)
}

/// Codes by their hashes.
fn by_hash(codes: impl IntoIterator<Item = Bytes>) -> BTreeMap<B256, Bytes> {
    codes.into_iter().map(|code| (keccak256(&code), code)).collect()
}
