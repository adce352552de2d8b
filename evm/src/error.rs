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
    /// A block that cannot be applied without executing transactions or system calls.
    #[error("block {number} {why}: applying it needs the EVM, which this version does not have yet")]
    NeedsEvm {
        /// The block.
        number: u64,
        /// Why, such as `has 3 transactions`.
        why: String,
    },
    /// A block that breaks a consensus rule on uncles.
    #[error("block {number}: {reason}")]
    InvalidBlock {
        /// The block.
        number: u64,
        /// The rule that it breaks.
        reason: String,
    },
    /// A block that does not follow the state it was to be applied to.
    #[error("block {got} cannot follow version {have}: the next one is block {}", have.wrapping_add(1))]
    OutOfOrder {
        /// The newest version.
        have: u64,
        /// The block's number.
        got: u64,
    },
    /// A reward that makes a balance exceed 2^256 - 1.
    #[error("the balance of {address} overflows with the rewards of block {number}")]
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
