//! Blocks of mainnet with the part of the state that they need, as other parallel executors are tested with.

use std::{collections::BTreeMap, fs::File, sync::Arc};

use alloy_consensus::{
    EMPTY_OMMER_ROOT_HASH, Header, SignableTransaction, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy,
    transaction::Recovered,
};
use alloy_eips::{
    eip2930::AccessList,
    eip7702::{Authorization, SignedAuthorization},
};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use bristlecone_evm::{
    BlockHashes, CodeCache, Executor, State, StateDb,
    block::{Block, Transaction},
    chain::Rules,
    executor::{Executed, Hints, Speculation},
    genesis::{Genesis, GenesisAccount},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{data::data, tar};

/// A block and what it needs.
pub(crate) struct RealBlock {
    pub(crate) name: String,
    pub(crate) rules: Rules,
    pub(crate) block: Block,
    pub(crate) hashes: Arc<BlockHashes>,
    pub(crate) before: Genesis,
    /// Whether the header is at hand.
    pub(crate) has_header: bool,
}

impl RealBlock {
    pub(crate) fn execute(&self, executor: &Executor, db: &impl State) -> Executed {
        let executed = match self.has_header {
            true => executor.execute(db, &self.block),
            false => executor.execute_unchecked(db, &self.block, &Hints::senders(&self.block)),
        };
        executed.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    pub(crate) fn execute_speculated(
        &self,
        executor: &Executor,
        db: &StateDb,
        speculation: Speculation<StateDb>,
    ) -> Executed {
        let executed = match self.has_header {
            true => executor.execute_speculated(db, &self.block, speculation),
            false => executor.execute_speculated_unchecked(db, &self.block, speculation),
        };
        executed.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    pub(crate) fn db(&self, snapshot: bristlecone::Snapshot, codes: &CodeCache) -> StateDb {
        StateDb::new(snapshot, self.hashes.clone(), codes.clone())
    }
}

#[derive(Deserialize)]
struct PreAccount {
    balance: U256,
    nonce: u64,
    code_hash: Option<B256>,
    code: Option<Bytes>,
    storage: BTreeMap<U256, U256>,
}

fn before(text: &[u8], codes: &BTreeMap<B256, Bytes>) -> Genesis {
    let accounts: BTreeMap<Address, PreAccount> = serde_json::from_slice(text).unwrap();
    let accounts = accounts.into_iter().map(|(address, account)| GenesisAccount {
        address,
        nonce: account.nonce,
        balance: account.balance,
        code: account.code.or_else(|| account.code_hash.map(|hash| codes[&hash].clone())).unwrap_or_default(),
        storage: account
            .storage
            .into_iter()
            .filter(|(_, value)| !value.is_zero())
            .map(|(slot, value)| (slot.into(), value))
            .collect(),
    });
    Genesis { accounts: accounts.collect(), ..Genesis::default() }
}

/// Number and hash of blocks, as bincode writes a map.
fn block_hashes(bytes: &[u8]) -> BTreeMap<u64, B256> {
    fn integer(rest: &mut &[u8]) -> u64 {
        let tag = rest[0];
        let len = match tag {
            0..=250 => 0,
            251 => 2,
            252 => 4,
            253 => 8,
            _ => panic!("no integer of bincode: {tag}"),
        };
        let mut word = [0; 8];
        word[..len].copy_from_slice(&rest[1..=len]);
        *rest = &rest[1 + len..];
        if len == 0 { u64::from(tag) } else { u64::from_le_bytes(word) }
    }
    let mut rest = bytes;
    let count = integer(&mut rest);
    let pairs = (0..count).map(|_| {
        let number = integer(&mut rest);
        assert_eq!(integer(&mut rest), 32);
        let (hash, after) = rest.split_at(32);
        rest = after;
        (number, B256::from_slice(hash))
    });
    pairs.collect()
}

/// The hashes that are known, as far as they lie within reach of block `number`.
fn hashes_before(known: &BTreeMap<u64, B256>, header: &Header) -> Arc<BlockHashes> {
    let mut hashes = BlockHashes::default();
    let first = header.number.saturating_sub(BlockHashes::WINDOW);
    if known.range(first..header.number).next().is_some() {
        // Only single ones are known: the others between are never asked for.
        for number in first..header.number {
            hashes.push(number, known.get(&number).copied().unwrap_or_default());
        }
    }
    hashes.truncate(header.number.saturating_sub(2));
    hashes.push(header.number.saturating_sub(1), header.parent_hash);
    Arc::new(hashes)
}

/// The blocks of pevm, by number.
pub(crate) fn pevm() -> Option<Vec<RealBlock>> {
    let (blocks, codes) = (data("pevm/blocks.tar.zst")?, data("pevm/codes.jsonl.zst")?);
    let lines = zstd::decode_all(File::open(codes).unwrap()).unwrap();
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Code {
        code_hash: B256,
        code: Bytes,
    }
    let codes = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let codes: BTreeMap<B256, Bytes> = codes
        .map(|line| serde_json::from_slice::<Code>(line).unwrap())
        .map(|code| (code.code_hash, code.code))
        .collect();
    let hashes = block_hashes(&std::fs::read(data("pevm/block_hashes.bincode")?).unwrap());
    let files: BTreeMap<String, Vec<u8>> = tar::read(&blocks).into_iter().collect();
    let rules = Rules::mainnet();
    let mut found: Vec<RealBlock> = files
        .iter()
        .filter_map(|(name, text)| Some((name.strip_suffix("block.json")?, text)))
        .map(|(name, text)| {
            let block: alloy_rpc_types_eth::Block = serde_json::from_slice(text).unwrap();
            let senders: Vec<Address> =
                block.transactions.txns().map(|transaction| transaction.inner.signer()).collect();
            let mut block = block
                .into_consensus()
                .map_transactions(|transaction| Transaction::from(transaction.into_inner()));
            // The headers of uncles are not there, so that their rewards are left out.
            block.header.ommers_hash = EMPTY_OMMER_ROOT_HASH;
            let block = Block::new(&rules, block).unwrap();
            let recovered: Vec<Address> = block.transactions.iter().map(Recovered::signer).collect();
            assert_eq!(recovered, senders, "{name}");
            RealBlock {
                name: format!("mainnet {}", block.header.number),
                rules: rules.clone(),
                hashes: hashes_before(&hashes, &block.header),
                before: before(&files[&format!("{name}pre_state.json")], &codes),
                block,
                has_header: true,
            }
        })
        .collect();
    found.sort_by_key(|block| block.block.header.number);
    Some(found)
}

/// The block of grevm. Its transactions come without signatures, and its header is not there.
pub(crate) fn grevm() -> Option<RealBlock> {
    let read = |name: &str| {
        let path = data(&format!("grevm/mainnet-25323281/{name}"))?;
        Some(zstd::decode_all(File::open(path).unwrap()).unwrap())
    };
    let around: Value =
        serde_json::from_slice(&std::fs::read(data("grevm/mainnet-25323281/block.json")?).unwrap()).unwrap();
    let transactions: Vec<GrevmTransaction> = serde_json::from_slice(&read("txs.json.zst")?).unwrap();
    let mut rules = Rules::mainnet();
    // As the file says.
    assert_eq!(around["spec_id"], "Prague");
    rules.forks.osaka = None;
    let header = Header {
        number: around["number"].as_u64().unwrap(),
        beneficiary: around["coinbase"].as_str().unwrap().parse().unwrap(),
        timestamp: around["timestamp"].as_u64().unwrap(),
        gas_limit: around["gas_limit"].as_u64().unwrap(),
        base_fee_per_gas: around["basefee"].as_u64(),
        mix_hash: around["prevrandao"].as_str().unwrap().parse().unwrap(),
        excess_blob_gas: around["excess_blob_gas"].as_u64(),
        ..Header::default()
    };
    let mut before = before(&read("pre_state.json.zst")?, &BTreeMap::new());
    // The part of the state has not the contracts that are asked for requests after the transactions.
    for (address, code) in [
        (
            alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            &alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE,
        ),
        (
            alloy_eips::eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            &alloy_eips::eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE,
        ),
    ] {
        if before.accounts.iter().all(|account| account.address != address) {
            before.accounts.push(GenesisAccount {
                address,
                nonce: 1,
                code: code.clone(),
                ..Default::default()
            });
        }
    }
    let block = Block {
        hash: header.hash_slow(),
        header,
        transactions: transactions.into_iter().map(GrevmTransaction::recovered).collect(),
        ommers: vec![],
        withdrawals: Some(vec![]),
    };
    let name = "mainnet 25323281".into();
    Some(RealBlock { name, rules, block, hashes: Arc::default(), before, has_header: false })
}

#[derive(Deserialize)]
struct GrevmTransaction {
    tx_type: u8,
    caller: Address,
    to: Option<Address>,
    nonce: u64,
    value: U256,
    data: Bytes,
    gas_limit: u64,
    gas_price: u128,
    gas_priority_fee: Option<u128>,
    chain_id: Option<u64>,
    access_list: Vec<Value>,
    blob_hashes: Vec<B256>,
    max_fee_per_blob_gas: u128,
    authorization_list: Vec<GrevmAuthorization>,
}

#[derive(Deserialize)]
struct GrevmAuthorization {
    chain_id: U256,
    address: Address,
    nonce: u64,
    y_parity: u8,
    r: U256,
    s: U256,
}

impl GrevmTransaction {
    fn recovered(self) -> Recovered<Transaction> {
        let Self { nonce, value, gas_limit, data: input, .. } = self;
        let to = self.to.map_or(TxKind::Create, TxKind::Call);
        let chain_id = self.chain_id.unwrap_or(1);
        let list = serde_json::to_value(&self.access_list).unwrap();
        let access_list: AccessList = serde_json::from_value(list).unwrap();
        let (max_fee_per_gas, gas_price) = (self.gas_price, self.gas_price);
        let max_priority_fee_per_gas = self.gas_priority_fee.unwrap_or_default();
        let signature = Signature::test_signature();
        let transaction: Transaction = match self.tx_type {
            0 => TxLegacy { chain_id: self.chain_id, nonce, gas_price, gas_limit, to, value, input }
                .into_signed(signature)
                .into(),
            1 => TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input }
                .into_signed(signature)
                .into(),
            2 => TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value,
                access_list,
                input,
            }
            .into_signed(signature)
            .into(),
            3 => TxEip4844 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to: self.to.unwrap(),
                value,
                access_list,
                blob_versioned_hashes: self.blob_hashes,
                max_fee_per_blob_gas: self.max_fee_per_blob_gas,
                input,
            }
            .into_signed(signature)
            .into(),
            _ => TxEip7702 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to: self.to.unwrap(),
                value,
                access_list,
                authorization_list: self
                    .authorization_list
                    .into_iter()
                    .map(GrevmAuthorization::signed)
                    .collect(),
                input,
            }
            .into_signed(signature)
            .into(),
        };
        Recovered::new_unchecked(transaction, self.caller)
    }
}

impl GrevmAuthorization {
    fn signed(self) -> SignedAuthorization {
        let Self { chain_id, address, nonce, y_parity, r, s } = self;
        SignedAuthorization::new_unchecked(Authorization { chain_id, address, nonce }, y_parity, r, s)
    }
}
