//! What the protocol itself does in a block, apart from transactions.

use alloy_consensus::Header;
use alloy_eips::{
    eip2935::HISTORY_STORAGE_ADDRESS,
    eip4788::BEACON_ROOTS_ADDRESS,
    eip6110::DEPOSIT_REQUEST_TYPE,
    eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE},
    eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE},
    eip7685::Requests,
};
use alloy_primitives::{Address, B256, Bytes, Log, U256, b256};
use revm::{
    Context, Database, DatabaseRef, MainBuilder, MainContext, SystemCallEvm,
    context::result::ExecutionResult, primitives::hardfork::SpecId,
};

use super::{
    dao::{DAO_ACCOUNTS, DAO_REFUND},
    env::Surroundings,
};
use crate::{Error, StateError, block::Block, chain::Rules, changes::Overlay, rewards::rewards};

/// Before the first transaction: the DAO's funds move, the parent's beacon root and hash are stored.
pub(super) fn before<D: DatabaseRef<Error = StateError>>(
    rules: &Rules,
    around: &Surroundings,
    header: &Header,
    state: &mut Overlay<'_, D>,
) -> Result<(), Error> {
    let number = header.number;
    if rules.dao_fork == Some(number) {
        move_the_dao(number, state)?;
    }
    if number == 0 {
        return Ok(());
    }
    if around.spec.is_enabled_in(SpecId::PRAGUE) {
        call(around, state, number, HISTORY_STORAGE_ADDRESS, header.parent_hash.into())?;
    }
    if around.spec.is_enabled_in(SpecId::CANCUN) {
        let root = header.parent_beacon_block_root.unwrap_or_default();
        call(around, state, number, BEACON_ROOTS_ADDRESS, root.into())?;
    }
    Ok(())
}

/// After the last transaction: requests to the beacon chain are gathered (EIP-7685), then withdrawals and rewards paid.
pub(super) fn after<'a, D: DatabaseRef<Error = StateError>>(
    rules: &Rules,
    around: &Surroundings,
    block: &Block,
    logs: impl Iterator<Item = &'a Log>,
    state: &mut Overlay<'_, D>,
) -> Result<Requests, Error> {
    let number = block.header.number;
    let mut requests = Requests::default();
    if around.spec.is_enabled_in(SpecId::PRAGUE) {
        if let Some(contract) = rules.deposit_contract {
            let deposits = deposits(contract, logs)
                .ok_or_else(|| invalid(number, "a log of the deposit contract that is no deposit"))?;
            requests.push_request_with_type(DEPOSIT_REQUEST_TYPE, deposits);
        }
        for (address, kind) in [
            (WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE),
            (CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE),
        ] {
            requests.push_request_with_type(kind, requested(around, state, number, address)?);
        }
    }
    for withdrawal in block.withdrawals.iter().flatten().filter(|withdrawal| withdrawal.amount > 0) {
        let wei = U256::from(withdrawal.amount) * U256::from(alloy_eips::eip4895::GWEI_TO_WEI);
        pay(number, state, withdrawal.address, wei)?;
    }
    for (address, amount) in rewards(rules, &block.header, &block.ommers)? {
        pay(number, state, address, amount)?;
    }
    Ok(requests)
}

fn invalid(number: u64, reason: impl Into<String>) -> Error {
    Error::InvalidBlock { number, reason: reason.into() }
}

fn pay<D: DatabaseRef<Error = StateError>>(
    number: u64,
    state: &mut Overlay<'_, D>,
    address: Address,
    amount: U256,
) -> Result<(), Error> {
    let paid = state.pay(address, amount).map_err(|source| Error::Read { number, source })?;
    paid.ok_or(Error::BalanceOverflow { number, address })
}

fn move_the_dao<D: DatabaseRef<Error = StateError>>(
    number: u64,
    state: &mut Overlay<'_, D>,
) -> Result<(), Error> {
    for address in DAO_ACCOUNTS {
        let info = state.info(address).map_err(|source| Error::Read { number, source })?;
        let Some(mut info) = info else { continue };
        let balance = std::mem::take(&mut info.balance);
        state.changes_mut().set_info(address, info);
        pay(number, state, DAO_REFUND, balance)?;
    }
    Ok(())
}

/// A call by the system. Only what the contract itself became counts: the caller and the beneficiary, whom the EVM
/// touches as in any call, do not.
fn call<D: DatabaseRef<Error = StateError>>(
    around: &Surroundings,
    state: &mut Overlay<'_, D>,
    number: u64,
    contract: Address,
    input: Bytes,
) -> Result<ExecutionResult, Error> {
    let mut evm = Context::mainnet()
        .with_db(&mut *state)
        .with_block(around.block.clone())
        .with_cfg(around.cfg.clone())
        .build_mainnet();
    let outcome = evm.system_call(contract, input);
    let mut outcome = outcome
        .map_err(|error| invalid(number, format!("the system's call to {contract} failed: {error}")))?;
    outcome.state.retain(|address, _| *address == contract);
    state.changes_mut().apply(outcome.state);
    Ok(outcome.result)
}

/// Asks a contract for its requests. That it is missing, or fails, makes the block invalid (EIP-7002, EIP-7251).
fn requested<D: DatabaseRef<Error = StateError>>(
    around: &Surroundings,
    state: &mut Overlay<'_, D>,
    number: u64,
    contract: Address,
) -> Result<Bytes, Error> {
    let info = state.basic(contract).map_err(|source| Error::Read { number, source })?;
    if info.is_none_or(|info| info.is_empty_code_hash()) {
        return Err(invalid(number, format!("there is no contract at {contract} to ask for requests")));
    }
    match call(around, state, number, contract, Bytes::new())? {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        other => Err(invalid(number, format!("the system's call to {contract} ended with {other:?}"))),
    }
}

/// `DepositEvent(bytes,bytes,bytes,bytes,bytes)`.
const DEPOSIT: B256 = b256!("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5");

/// Where the five parts of a deposit stand in the data of its log, and how long each is (EIP-6110).
const DEPOSIT_PARTS: [(usize, usize); 5] = [(160, 48), (256, 32), (320, 8), (384, 96), (512, 8)];
const DEPOSIT_BYTES: usize = 576;

/// The deposits among `logs`, one after the other; `None` if one is not as the contract writes them.
fn deposits<'a>(contract: Address, logs: impl Iterator<Item = &'a Log>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for log in logs.filter(|log| log.address == contract && log.topics().first() == Some(&DEPOSIT)) {
        let data = &log.data.data;
        if data.len() != DEPOSIT_BYTES {
            return None;
        }
        for (index, (offset, len)) in DEPOSIT_PARTS.into_iter().enumerate() {
            let word = |at: usize| Some(U256::from_be_slice(data.get(at..at + 32)?));
            if word(32 * index)? != U256::from(offset) || word(offset)? != U256::from(len) {
                return None;
            }
            out.extend_from_slice(data.get(offset + 32..offset + 32 + len)?);
        }
    }
    Some(out)
}
