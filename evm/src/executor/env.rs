//! What the EVM is told of a block and of a transaction.

use alloy_consensus::{
    Header, Transaction as _, Typed2718,
    transaction::{Either, Recovered},
};
use alloy_primitives::U256;
use revm::{
    context::{BlockEnv, CfgEnv, TxEnv},
    context_interface::block::BlobExcessGasAndPrice,
    primitives::hardfork::SpecId,
};

use crate::{
    Error,
    block::Transaction,
    chain::{Rules, Sealing},
};

/// The surroundings of all transactions of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Surroundings {
    /// The rules in force.
    pub spec: SpecId,
    /// What contracts see of the block.
    pub block: BlockEnv,
    /// How the EVM is set up.
    pub cfg: CfgEnv,
}

impl Surroundings {
    /// Of the block with `header`, by the rules of its chain.
    ///
    /// Fails with [`Error::Unsupported`] where rules are in force that are not implemented.
    pub fn new(rules: &Rules, header: &Header) -> Result<Self, Error> {
        let number = header.number;
        let unsupported = |what| Error::Unsupported { number, what };
        let spec = rules.forks.spec(header).map_err(unsupported)?;
        if rules.sealing == Sealing::Authority && !header.difficulty.is_zero() {
            return Err(unsupported("proof of authority, where fees go to the signer"));
        }
        let blobs = rules.blob_params(header.timestamp);
        let mut cfg = CfgEnv::new().with_spec_and_mainnet_gas_params(spec);
        cfg.chain_id = rules.chain_id.unwrap_or(1);
        if spec.is_enabled_in(SpecId::CANCUN) {
            // Before Osaka a transaction is bounded by its block, which is checked apart.
            cfg.max_blobs_per_tx = Some(blobs.max_blobs_per_tx);
            cfg.blob_base_fee_update_fraction = u64::try_from(blobs.update_fraction).ok();
        }
        let fraction = u64::try_from(blobs.update_fraction).unwrap_or(u64::MAX);
        let merged = spec.is_enabled_in(SpecId::MERGE);
        let block = BlockEnv {
            number: U256::from(number),
            beneficiary: header.beneficiary,
            timestamp: U256::from(header.timestamp),
            gas_limit: header.gas_limit,
            basefee: header.base_fee_per_gas.unwrap_or_default(),
            difficulty: header.difficulty,
            prevrandao: merged.then_some(header.mix_hash),
            blob_excess_gas_and_price: spec
                .is_enabled_in(SpecId::CANCUN)
                .then(|| BlobExcessGasAndPrice::new(header.excess_blob_gas.unwrap_or_default(), fraction)),
            slot_num: 0,
        };
        Ok(Self { spec, block, cfg })
    }
}

/// A transaction as the EVM takes it.
pub fn tx_env(transaction: &Recovered<Transaction>) -> TxEnv {
    let inner = transaction.inner();
    TxEnv {
        tx_type: inner.ty(),
        caller: transaction.signer(),
        gas_limit: inner.gas_limit(),
        gas_price: inner.max_fee_per_gas(),
        kind: inner.kind(),
        value: inner.value(),
        data: inner.input().clone(),
        nonce: inner.nonce(),
        chain_id: inner.chain_id(),
        access_list: inner.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: inner.max_priority_fee_per_gas(),
        blob_hashes: inner.blob_versioned_hashes().unwrap_or_default().to_vec(),
        max_fee_per_blob_gas: inner.max_fee_per_blob_gas().unwrap_or_default(),
        // Who authorised is found out here, once, and not by each run of the transaction.
        authorization_list: inner
            .authorization_list()
            .unwrap_or_default()
            .iter()
            .map(|signed| Either::Right(signed.clone().into_recovered()))
            .collect(),
    }
}
