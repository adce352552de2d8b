//! A block against its header: what can be told before it is executed, and what execution gives.

use alloy_consensus::{
    EMPTY_OMMER_ROOT_HASH, Header, ReceiptWithBloom, Transaction as _, TxReceipt,
    proofs::calculate_receipt_root,
};
use alloy_eips::{eip1559::BaseFeeParams, eip4844::DATA_GAS_PER_BLOB};
use alloy_primitives::Bloom;
use revm::primitives::hardfork::SpecId;

use super::{Executed, Receipt, env::Surroundings};
use crate::{Error, block::Block, chain::Rules};

fn invalid(number: u64, reason: impl Into<String>) -> Error {
    Error::InvalidBlock { number, reason: reason.into() }
}

fn same<T: PartialEq + ToString>(number: u64, what: &'static str, expected: T, got: T) -> Result<(), Error> {
    match expected == got {
        true => Ok(()),
        false => Err(Error::mismatch(number, what, expected, got)),
    }
}

/// What the header must say for its own sake: the fields of its fork, gas within its limit, blobs within theirs.
pub(super) fn header(rules: &Rules, around: &Surroundings, block: &Block) -> Result<(), Error> {
    let header = &block.header;
    let number = header.number;
    let since = |fork| around.spec.is_enabled_in(fork);
    let fields = [
        ("base fee", header.base_fee_per_gas.is_some(), since(SpecId::LONDON)),
        ("withdrawals root", header.withdrawals_root.is_some(), since(SpecId::SHANGHAI)),
        ("blob gas used", header.blob_gas_used.is_some(), since(SpecId::CANCUN)),
        ("excess blob gas", header.excess_blob_gas.is_some(), since(SpecId::CANCUN)),
        ("parent beacon block root", header.parent_beacon_block_root.is_some(), since(SpecId::CANCUN)),
        ("requests hash", header.requests_hash.is_some(), since(SpecId::PRAGUE)),
    ];
    for (what, found, wanted) in fields {
        if found != wanted {
            let has = if found { "has" } else { "lacks" };
            return Err(invalid(number, format!("its header {has} the {what}")));
        }
    }
    if header.gas_used > header.gas_limit {
        return Err(invalid(number, format!("{} gas of {} used", header.gas_used, header.gas_limit)));
    }
    if since(SpecId::MERGE) && header.ommers_hash != EMPTY_OMMER_ROOT_HASH {
        return Err(invalid(number, "uncles after the Merge"));
    }
    let blobs = block.transactions.iter().filter_map(|transaction| transaction.blob_versioned_hashes());
    let blob_gas = blobs.map(|hashes| hashes.len() as u64).sum::<u64>() * DATA_GAS_PER_BLOB;
    same(number, "blob gas used", header.blob_gas_used.unwrap_or_default(), blob_gas)?;
    let most = rules.blob_params(header.timestamp).max_blob_gas_per_block();
    if blob_gas > most {
        return Err(invalid(number, format!("{blob_gas} blob gas; at most {most} is allowed")));
    }
    Ok(())
}

/// What the header must say after its parent's: number, hash, time, gas limit and the fees that follow from it.
pub(super) fn child(rules: &Rules, parent: &Header, block: &Block) -> Result<(), Error> {
    let header = &block.header;
    let number = header.number;
    if header.timestamp <= parent.timestamp {
        return Err(invalid(number, format!("made at {}, not after its parent", header.timestamp)));
    }
    let london = |number| rules.forks.london.is_some_and(|first| number >= first);
    // The first block of London may use twice as much as its parent (EIP-1559).
    let first = london(number) && !london(parent.number);
    let from = if first { parent.gas_limit.saturating_mul(2) } else { parent.gas_limit };
    if header.gas_limit.abs_diff(from) >= from / 1024 || header.gas_limit < 5000 {
        return Err(invalid(number, format!("a gas limit of {} after {from}", header.gas_limit)));
    }
    if london(number) {
        let expected = match first {
            true => Some(alloy_eips::eip1559::INITIAL_BASE_FEE),
            false => parent.next_block_base_fee(BaseFeeParams::ethereum()),
        };
        let stated = header.base_fee_per_gas;
        same(number, "base fee", stated.unwrap_or_default(), expected.unwrap_or_default())?;
    }
    if let Some(stated) = header.excess_blob_gas {
        // The first block of Cancun has a parent that says nothing, which counts as zero (EIP-4844).
        let parent = Header {
            excess_blob_gas: parent.excess_blob_gas.or(Some(0)),
            blob_gas_used: parent.blob_gas_used.or(Some(0)),
            ..parent.clone()
        };
        let params = rules.blob_params(header.timestamp);
        let expected = parent.next_block_excess_blob_gas(params).unwrap_or_default();
        same(number, "excess blob gas", stated, expected)?;
    }
    Ok(())
}

/// What execution gave against what the header says: gas used, logs bloom, receipts root and requests hash.
///
/// The state root is not looked at: it is not known yet. Nor is the receipts root of a block before Byzantium, whose receipts
/// hold a state root after each transaction.
pub(super) fn outcome(around: &Surroundings, block: &Block, executed: &Executed) -> Result<(), Error> {
    let header = &block.header;
    let number = header.number;
    same(number, "gas used", header.gas_used, executed.gas_used)?;
    let receipts: Vec<ReceiptWithBloom<&Receipt>> =
        executed.receipts.iter().map(TxReceipt::with_bloom_ref).collect();
    let bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.logs_bloom);
    same(number, "logs bloom", header.logs_bloom, bloom)?;
    if around.spec.is_enabled_in(SpecId::BYZANTIUM) {
        same(number, "receipts root", header.receipts_root, calculate_receipt_root(&receipts))?;
    }
    if let Some(stated) = header.requests_hash {
        same(number, "requests hash", stated, executed.requests.requests_hash())?;
    }
    Ok(())
}
