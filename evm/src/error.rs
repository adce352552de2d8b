//! What can go wrong in this crate, with what a person needs to act on it.

use std::path::PathBuf;

use alloy_primitives::{Address, B256, U256};

/// Every error of this crate.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A genesis file that is not JSON, or says something that no client accepts.
    #[error("genesis file, line {line}, {field}: {reason}")]
    Genesis {
        /// Line in the file, from 1.
        line: usize,
        /// What was being read, such as `alloc.0x00….balance`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An era1 file that is damaged, truncated, or not an era1 file. Nothing of it was handed out.
    #[error("era1 file, byte {offset} ({entry}): {fault}")]
    Era1 {
        /// Offset in the file of the entry that the fault was found in.
        offset: u64,
        /// The entry, such as `header of block 17`.
        entry: String,
        /// What is wrong with it.
        fault: Box<Era1Fault>,
    },
    /// The caller asked to stop, see [`Era1::verify`](crate::era1::Era1::verify).
    #[error("stopped on request")]
    Stopped,
    /// A file of RLP blocks that does not decode.
    #[error("chain file, byte {offset}: not the RLP of a block: {source}")]
    ChainFile {
        /// Where the block begins.
        offset: u64,
        /// What is wrong with it.
        source: alloy_rlp::Error,
    },
    /// A block that asks for rules which are not implemented.
    #[error("block {number} needs the rules of {what}, which are not implemented: it cannot be executed")]
    Unsupported {
        /// The block.
        number: u64,
        /// Such as the name of a fork.
        what: &'static str,
    },
    /// A block that breaks a rule of consensus.
    #[error("block {number} is invalid: {reason}")]
    InvalidBlock {
        /// The block.
        number: u64,
        /// The rule that it breaks.
        reason: String,
    },
    /// A transaction that may not stand where it does.
    #[error("block {number} is invalid: transaction {index}: {reason}")]
    InvalidTransaction {
        /// The block.
        number: u64,
        /// Its place in the block, from 0.
        index: usize,
        /// The rule that it breaks.
        reason: String,
    },
    /// A header that says something else than what the block's body or its execution gives.
    #[error("block {number} is invalid: its header says {expected} for the {what}, but it is {got}")]
    HeaderMismatch {
        /// The block.
        number: u64,
        /// Such as `receipts root`.
        what: &'static str,
        /// As the header says.
        expected: String,
        /// As computed.
        got: String,
    },
    /// A state root that is not the header's. `last_good` is the newest version whose root was found right, and where the store
    /// went back to.
    #[error(
        "block {number} is invalid: its header says {expected} for the state root, but it is {got}; the last good version is {last_good}"
    )]
    StateRoot {
        /// The block.
        number: u64,
        /// As the header says.
        expected: B256,
        /// As the store computed it.
        got: B256,
        /// The newest version whose root is known to be right.
        last_good: u64,
    },
    /// A block that does not follow the newest version of the store.
    #[error("block {got} cannot follow version {have}: the next one is block {}", have.wrapping_add(1))]
    OutOfOrder {
        /// The newest version.
        have: u64,
        /// The block's number.
        got: u64,
    },
    /// A block whose parent is not the newest block.
    #[error(
        "the parent of block {number} is {parent}, but the newest block is {newest}: a block is missing, or of another chain"
    )]
    UnknownParent {
        /// The block.
        number: u64,
        /// The parent that it names.
        parent: B256,
        /// The newest block.
        newest: B256,
    },
    /// Executing needs something that the state should have and does not.
    #[error("block {number}: {source}")]
    Read {
        /// The block.
        number: u64,
        /// What is missing.
        source: StateError,
    },
    /// The EVM gave up for a reason that is no rule of consensus.
    #[error("block {number}, transaction {index}: the EVM failed: {reason}")]
    Evm {
        /// The block.
        number: u64,
        /// The transaction's place in the block, from 0.
        index: usize,
        /// What it says.
        reason: String,
    },
    /// A payment by the protocol that makes a balance exceed 2^256 - 1.
    #[error("the balance of {address} overflows with the payments of block {number}")]
    BalanceOverflow {
        /// The block.
        number: u64,
        /// Who was to be paid.
        address: Address,
    },
    /// The chain's rules are not known, so rewards cannot be computed.
    #[error(
        "{path} is missing, so the rules of the chain (and with them the block rewards) are not known: \
         make the directory with `init` from a genesis file that has a `config`"
    )]
    NoRules {
        /// Where the rules were expected.
        path: PathBuf,
    },
    /// The file with the chain's rules is damaged or of another version.
    #[error("{path} cannot be used: {reason}")]
    BadRules {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine and the independent computation differ on the root of a genesis state.
    #[error(
        "the store computed {got} for the genesis state, but its root is {expected}: nothing may be built on it"
    )]
    GenesisRoot {
        /// Computed with alloy-trie from the same accounts.
        expected: B256,
        /// What the store says.
        got: B256,
    },
    /// Text that is not an answer of `eth_getProof`.
    #[error("not an eth_getProof answer: {reason}")]
    ProofFormat {
        /// What is missing or malformed.
        reason: String,
    },
    /// An `eth_getProof` answer that does not hold.
    #[error("{part}: {reason}")]
    InvalidProof {
        /// `account`, or the slot.
        part: String,
        /// Why it does not hold.
        reason: String,
    },
    /// Text that is no execution witness of a known shape, or contradicts itself.
    #[error("not an execution witness: {reason}")]
    WitnessFormat {
        /// What is missing, malformed or contradictory.
        reason: String,
    },
    /// There cannot be that many threads.
    #[error("number of workers: {0}")]
    Workers(String),
    /// Reading or writing a file failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] bristlecone::Error),
}

impl Error {
    pub(crate) fn mismatch(
        number: u64,
        what: &'static str,
        expected: impl ToString,
        got: impl ToString,
    ) -> Self {
        Self::HeaderMismatch { number, what, expected: expected.to_string(), got: got.to_string() }
    }
}

/// What reading state can fail with: the error of this crate's databases for revm.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] bristlecone::Error),
    /// An account has code that no batch brought.
    #[error("the code with hash {0} is not in the store: the state was not made by executing its chain")]
    NoCode(B256),
    /// The hash of an old block is asked for, and was not given.
    #[error("the hash of block {0} is needed, and is not known: give the blocks before it too")]
    NoBlockHash(u64),
    /// Inside of the parallel executor: a value is still being written by an earlier transaction.
    #[error("waits for transaction {0}")]
    Waits(usize),
}

impl revm::database_interface::DBErrorMarker for StateError {}

/// What is wrong with an era1 file.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Era1Fault {
    /// The file ends inside the entry.
    #[error("truncated: {needed} bytes are needed, {available} are there")]
    Truncated {
        /// Bytes that the entry needs.
        needed: u64,
        /// Bytes to the end of the file.
        available: u64,
    },
    /// Another entry is due here.
    #[error("entry of type {found:#06x} where {expected} is due")]
    Unexpected {
        /// The type that was found.
        found: u16,
        /// What must come here.
        expected: &'static str,
    },
    /// The two reserved bytes of an entry are not zero.
    #[error("reserved bytes are {0:#06x}, not zero")]
    Reserved(u16),
    /// The entry has a length that its type does not allow.
    #[error("{len} bytes, but {limit} are allowed")]
    Length {
        /// The entry's own words.
        len: u64,
        /// The most (or the only) length allowed.
        limit: u64,
    },
    /// The snappy frames do not decode, or their checksum does not match.
    #[error("snappy frames: {0}")]
    Snappy(std::io::Error),
    /// The decompressed data is larger than anything valid.
    #[error("decompresses to more than {limit} bytes")]
    TooLarge {
        /// The most that is allowed, in bytes.
        limit: u64,
    },
    /// Decompressed data that is not the RLP of what it should be.
    #[error("RLP: {0}")]
    Rlp(alloy_rlp::Error),
    /// A transaction that no client knows.
    #[error("not a transaction: {0}")]
    Transaction(String),
    /// Block numbers are not consecutive.
    #[error("block number {got} where {expected} is due")]
    Number {
        /// The number after the previous block's.
        expected: u64,
        /// The header's.
        got: u64,
    },
    /// A hash or root differs from the one that the header or the file states.
    #[error("{what} is {got}, but {expected} is stated")]
    Hash {
        /// Such as `transactions root`.
        what: &'static str,
        /// As stated.
        expected: B256,
        /// As computed.
        got: B256,
    },
    /// The total difficulty is not the previous one and the block's together.
    #[error("total difficulty {got} where {expected} is due")]
    TotalDifficulty {
        /// Previous total and the block's difficulty together.
        expected: U256,
        /// As stated.
        got: U256,
    },
    /// The block index states another number.
    #[error("the index says {got} for {what}, but it is {expected}")]
    Index {
        /// Such as `the offset of block 17`.
        what: String,
        /// As found.
        expected: i128,
        /// As stated.
        got: i128,
    },
    /// More than 8,192 blocks, or none.
    #[error("{0} blocks: an era1 file holds 1 to 8192")]
    Blocks(u64),
    /// Bytes behind the last entry.
    #[error("{0} bytes behind the block index")]
    TrailingBytes(u64),
    /// Reading failed.
    #[error("cannot read: {0}")]
    Read(std::io::Error),
}
