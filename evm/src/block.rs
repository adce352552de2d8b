//! Blocks with their transactions, as execution clients exchange them.

use alloy_consensus::{
    EthereumTxEnvelope, Header, TxEip4844,
    proofs::{calculate_ommers_root, calculate_transaction_root, calculate_withdrawals_root},
    transaction::{Recovered, SignerRecoverable},
};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::B256;
use alloy_rlp::Decodable;

use crate::{Error, chain::Rules};

/// A transaction as it stands in a block: of any type, blobs without their sidecars.
pub type Transaction = EthereumTxEnvelope<TxEip4844>;

/// A block whose senders are known.
#[derive(Clone, Debug)]
pub struct Block {
    /// Keccak-256 of the header.
    pub hash: B256,
    /// Its header.
    pub header: Header,
    /// Its transactions with their senders.
    pub transactions: Vec<Recovered<Transaction>>,
    /// Headers of its uncles.
    pub ommers: Vec<Header>,
    /// Payments to validators, since Shanghai.
    pub withdrawals: Option<Vec<Withdrawal>>,
}

impl Block {
    /// Takes `block` as decoded, checks the body against the header and finds out who sent the transactions, which is what
    /// this costs: a signature each, some 100 µs.
    ///
    /// Fails with [`Error::HeaderMismatch`] where the header names another body, and with [`Error::InvalidTransaction`] on a
    /// signature that does not hold.
    pub fn new(rules: &Rules, block: alloy_consensus::Block<Transaction>) -> Result<Self, Error> {
        let alloy_consensus::Block { header, body } = block;
        let number = header.number;
        let same = |what, expected: B256, got: B256| match expected == got {
            true => Ok(()),
            false => Err(Error::mismatch(number, what, expected, got)),
        };
        let root = calculate_transaction_root(&body.transactions);
        same("transactions root", header.transactions_root, root)?;
        same("hash of the uncles", header.ommers_hash, calculate_ommers_root(&body.ommers))?;
        let withdrawals = body.withdrawals.map(|withdrawals| withdrawals.into_inner());
        let root = withdrawals.as_deref().map(calculate_withdrawals_root);
        if header.withdrawals_root != root {
            let text = |root: Option<B256>| root.map_or("none".to_owned(), |root| root.to_string());
            return Err(Error::mismatch(
                number,
                "withdrawals root",
                text(header.withdrawals_root),
                text(root),
            ));
        }
        // Before Homestead both halves of a signature's range were allowed (EIP-2).
        let strict = rules.forks.homestead.is_some_and(|first| number >= first);
        let recover = |(index, transaction): (usize, Transaction)| {
            let signer = match strict {
                true => transaction.recover_signer(),
                false => transaction.recover_signer_unchecked(),
            };
            let reason = |error| format!("its signature does not hold: {error}");
            let signer =
                signer.map_err(|error| Error::InvalidTransaction { number, index, reason: reason(error) })?;
            Ok(Recovered::new_unchecked(transaction, signer))
        };
        let transactions = body.transactions.into_iter().enumerate().map(recover);
        let transactions = transactions.collect::<Result<Vec<_>, Error>>()?;
        let hash = header.hash_slow();
        Ok(Self { hash, header, transactions, ommers: body.ommers, withdrawals })
    }
}

/// The blocks of a file of RLP blocks one after the other, as execution clients import and export them.
///
/// Each item is a decoded block, or [`Error::ChainFile`] with the place in the file; after an error there are no more.
#[derive(Debug)]
pub struct Blocks<'a> {
    all: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Blocks<'a> {
    /// The blocks in `bytes`, which is all of the file.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { all: bytes, rest: bytes }
    }

    /// Where the next block begins.
    pub fn offset(&self) -> u64 {
        (self.all.len() - self.rest.len()) as u64
    }
}

impl Iterator for Blocks<'_> {
    type Item = Result<alloy_consensus::Block<Transaction>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.offset();
        let decoded = alloy_consensus::Block::decode(&mut self.rest);
        if decoded.is_err() {
            self.rest = &[];
        }
        Some(decoded.map_err(|source| Error::ChainFile { offset, source }))
    }
}
