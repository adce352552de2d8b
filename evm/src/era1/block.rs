//! The four entries of a block, held against its header.

use std::io::{Read, Seek};

use alloy_consensus::{BlockBody, Header};
use alloy_eips::Decodable2718;
use alloy_primitives::{B256, U256, keccak256};
use alloy_rlp::Decodable;

use super::{
    entry::{Entries, Kind},
    next_total,
};
use crate::{Era1Fault, Error, block::Transaction};

/// A block from an era1 file.
#[derive(Clone, Debug)]
pub struct Block {
    /// Header, transactions and uncles.
    pub block: alloy_consensus::Block<Transaction>,
    /// Keccak-256 of the header.
    pub hash: B256,
    /// The difficulties of all blocks up to this one together.
    pub total_difficulty: U256,
}

/// Reads and checks the block at the current place; against the block before it where that is given.
pub(super) fn read<R: Read + Seek>(
    entries: &mut Entries<R>,
    previous: Option<&Block>,
) -> Result<Block, Error> {
    let due = previous.map(|block| block.block.header.number.wrapping_add(1));
    let name = |part: &str, number: Option<u64>| match number {
        Some(number) => format!("{part} of block {number}"),
        None => format!("{part} of the first block"),
    };
    let entry = name("header", due);
    let raw = entries.compressed(Kind::Header, &entry)?;
    let mut rest = raw.as_slice();
    let header = Header::decode(&mut rest).map_err(|error| entries.fault(&entry, Era1Fault::Rlp(error)))?;
    if !rest.is_empty() {
        return Err(entries.fault(&entry, Era1Fault::Rlp(alloy_rlp::Error::UnexpectedLength)));
    }
    let number = header.number;
    if let Some(expected) = due.filter(|due| *due != number) {
        return Err(entries.fault(&entry, Era1Fault::Number { expected, got: number }));
    }
    let parent = previous.map(|block| block.hash).or((number == 0).then_some(B256::ZERO));
    if let Some(expected) = parent {
        same(entries, &entry, "the parent hash", expected, header.parent_hash)?;
    }
    let hash = keccak256(&raw);

    let entry = name("body", Some(number));
    let raw = entries.compressed(Kind::Body, &entry)?;
    let body = Body::decode(&raw).map_err(|error| entries.fault(&entry, Era1Fault::Rlp(error)))?;
    let root = alloy_trie::root::ordered_trie_root_encoded(&body.transactions);
    same(entries, &entry, "the transactions root", header.transactions_root, root)?;
    same(entries, &entry, "the hash of the uncles", header.ommers_hash, body.uncles_hash)?;

    let entry = name("receipts", Some(number));
    let raw = entries.compressed(Kind::Receipts, &entry)?;
    let receipts = whole_list(&raw).and_then(|list| items(list).collect::<Result<Vec<_>, _>>());
    let receipts = receipts.map_err(|error| entries.fault(&entry, Era1Fault::Rlp(error)))?;
    let root = alloy_trie::root::ordered_trie_root_encoded(&receipts);
    same(entries, &entry, "the receipts root", header.receipts_root, root)?;

    let entry = name("total difficulty", Some(number));
    let total_difficulty = U256::from_le_bytes(entries.fixed::<32>(Kind::TotalDifficulty, &entry)?);
    // Without the block before it, a block was verified earlier, and its hash is compared by the caller.
    let expected = next_total(previous, header.difficulty, total_difficulty, number);
    if let Some(expected) = expected.filter(|expected| *expected != total_difficulty) {
        return Err(entries.fault(&entry, Era1Fault::TotalDifficulty { expected, got: total_difficulty }));
    }
    let decoded = body.transactions.iter().map(|raw| Transaction::decode_2718_exact(raw));
    let transactions = decoded.collect::<Result<Vec<_>, _>>().map_err(|error| {
        entries.fault(&name("body", Some(number)), Era1Fault::Transaction(error.to_string()))
    })?;
    let body = BlockBody { transactions, ommers: body.uncles, withdrawals: None };
    Ok(Block { block: alloy_consensus::Block { header, body }, hash, total_difficulty })
}

fn same<R: Read + Seek>(
    entries: &Entries<R>,
    entry: &str,
    what: &'static str,
    expected: B256,
    got: B256,
) -> Result<(), Error> {
    if expected == got { Ok(()) } else { Err(entries.fault(entry, Era1Fault::Hash { what, expected, got })) }
}

struct Body<'a> {
    /// As they stand in the transactions trie.
    transactions: Vec<&'a [u8]>,
    uncles: Vec<Header>,
    uncles_hash: B256,
}

impl<'a> Body<'a> {
    fn decode(raw: &'a [u8]) -> alloy_rlp::Result<Self> {
        let mut rest = whole_list(raw)?;
        let transactions = items(list(&mut rest)?.1).collect::<Result<_, _>>()?;
        let (uncles_raw, mut uncles_rest) = list(&mut rest)?;
        // A third list would be the withdrawals of a block after the Merge.
        if !rest.is_empty() {
            return Err(alloy_rlp::Error::Custom("more than transactions and uncles"));
        }
        let mut uncles = Vec::new();
        while !uncles_rest.is_empty() {
            uncles.push(Header::decode(&mut uncles_rest)?);
        }
        Ok(Self { transactions, uncles, uncles_hash: keccak256(uncles_raw) })
    }
}

/// Takes a list off the front: its whole encoding, and its payload.
fn list<'a>(rest: &mut &'a [u8]) -> alloy_rlp::Result<(&'a [u8], &'a [u8])> {
    let start = *rest;
    let head = alloy_rlp::Header::decode(rest)?;
    if !head.list {
        return Err(alloy_rlp::Error::UnexpectedString);
    }
    let (payload, after) =
        rest.split_at_checked(head.payload_length).ok_or(alloy_rlp::Error::InputTooShort)?;
    let whole = start.get(..start.len() - after.len()).ok_or(alloy_rlp::Error::InputTooShort)?;
    *rest = after;
    Ok((whole, payload))
}

/// The payload of a list that is all of `raw`.
fn whole_list(mut raw: &[u8]) -> alloy_rlp::Result<&[u8]> {
    let (_, payload) = list(&mut raw)?;
    if raw.is_empty() { Ok(payload) } else { Err(alloy_rlp::Error::UnexpectedLength) }
}

/// The items of a list's payload as their trie holds them: a list as it is, of a string (an EIP-2718
/// envelope) what it wraps.
fn items(mut rest: &[u8]) -> impl Iterator<Item = alloy_rlp::Result<&[u8]>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = rest;
        let item = alloy_rlp::Header::decode(&mut rest).and_then(|head| {
            let (payload, after) =
                rest.split_at_checked(head.payload_length).ok_or(alloy_rlp::Error::InputTooShort)?;
            rest = after;
            let whole = start.get(..start.len() - after.len()).unwrap_or_default();
            Ok(if head.list { whole } else { payload })
        });
        if item.is_err() {
            rest = &[];
        }
        Some(item)
    })
}
