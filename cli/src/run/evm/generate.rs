//! A seeded chain of transfers, token transfers and swaps.

use alloy_consensus::{Header, SignableTransaction, TxEip2930, TxLegacy, transaction::Recovered};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use bristlecone_evm::{
    block::{Block, Transaction},
    chain::{Forks, Rules, Sealing},
    genesis::{Genesis, GenesisAccount},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::contracts::{POOL, TOKEN};

/// What is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) accounts: u32,
    pub(super) tokens: u32,
    pub(super) pools: u32,
    pub(super) blocks: u64,
    /// A block, in all networks together.
    pub(super) transactions: u32,
    pub(super) networks: u32,
    pub(super) seed: u64,
}

impl Plan {
    /// The part of one network: others' transactions and other transfers.
    pub(super) fn of(&self, network: usize) -> Self {
        let (share, rest) = (self.transactions / self.networks, self.transactions % self.networks);
        let transactions = share + u32::from((network as u32) < rest);
        Self { transactions, networks: 1, seed: self.seed.wrapping_add(network as u64), ..*self }
    }
}

/// In the smallest unit: more than anybody spends.
const PLENTY: u128 = 1_000_000_000_000_000_000_000_000;
const GAS_LIMIT: u64 = 120_000;

fn address(kind: u8, index: u32) -> Address {
    Address::from_word(keccak256([&[kind][..], &index.to_be_bytes()].concat()))
}

fn account(index: u32) -> Address {
    address(0, index)
}

fn token(index: u32) -> Address {
    address(1, index)
}

fn pool(index: u32) -> Address {
    address(2, index)
}

/// Rules of Cancun, without a fee that is burnt.
pub(super) fn rules() -> Rules {
    let forks = Forks::cancun_from_genesis();
    let (dao_fork, deposit_contract, blobs) = (None, None, Vec::new());
    Rules { chain_id: Some(1), sealing: Sealing::Work, forks, dao_fork, deposit_contract, blobs }
}

/// Everybody has plenty of everything.
pub(super) fn genesis(plan: &Plan) -> Genesis {
    let plenty = U256::from(PLENTY);
    let mut accounts: Vec<_> = (0..plan.accounts)
        .map(|index| GenesisAccount { address: account(index), balance: plenty, ..Default::default() })
        .collect();
    let slots = || (0..plan.accounts).map(|index| (account(index).into_word(), plenty));
    let contract = |address, code: &'static [u8], storage: Vec<(B256, U256)>| GenesisAccount {
        address,
        nonce: 1,
        balance: U256::ZERO,
        code: Bytes::from_static(code),
        storage,
    };
    accounts.extend((0..plan.tokens).map(|index| contract(token(index), TOKEN, slots().collect())));
    let reserves = [B256::ZERO, B256::with_last_byte(1)].map(|slot| (slot, plenty));
    accounts
        .extend((0..plan.pools).map(|index| contract(pool(index), POOL, slots().chain(reserves).collect())));
    Genesis { accounts, rules: Some(rules()), ..Genesis::default() }
}

/// All blocks of one network: half of the transactions move a token, three in ten ether, the others swap. They carry access lists, but
/// for plain transfers, and no signatures: who sent them is known.
pub(super) fn blocks(plan: &Plan) -> Vec<Block> {
    let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut nonces = vec![0u64; plan.accounts as usize];
    let mut one = || transaction(plan, &mut random, &mut nonces);
    (1..=plan.blocks)
        .map(|number| {
            let header = Header {
                number,
                timestamp: number,
                gas_limit: GAS_LIMIT * u64::from(plan.transactions),
                beneficiary: address(3, 0),
                base_fee_per_gas: Some(1),
                excess_blob_gas: Some(0),
                blob_gas_used: Some(0),
                parent_beacon_block_root: Some(B256::ZERO),
                ..Header::default()
            };
            let transactions = (0..plan.transactions).map(|_| one()).collect();
            let hash = B256::from(U256::from(number));
            Block { hash, header, transactions, ommers: Vec::new(), withdrawals: Some(Vec::new()) }
        })
        .collect()
}

fn transaction(plan: &Plan, random: &mut ChaCha8Rng, nonces: &mut [u64]) -> Recovered<Transaction> {
    let from = random.random_range(0..plan.accounts);
    let to = random.random_range(0..plan.accounts);
    let amount = U256::from(random.random_range(1..1_000_000u64));
    let nonce = nonces.get_mut(from as usize).map_or(0, |nonce| std::mem::replace(nonce, *nonce + 1));
    let (sender, receiver) = (account(from), account(to));
    let word = |address: Address| U256::from_be_bytes(address.into_word().0);
    let call = |contract: Address, input: Vec<u8>, slots: Vec<U256>| {
        let storage_keys = slots.into_iter().map(B256::from).collect();
        let access_list =
            vec![alloy_eips::eip2930::AccessListItem { address: contract, storage_keys }].into();
        let call = TxEip2930 {
            chain_id: 1,
            nonce,
            gas_price: 2,
            gas_limit: GAS_LIMIT,
            to: TxKind::Call(contract),
            value: U256::ZERO,
            access_list,
            input: input.into(),
        };
        call.into_signed(Signature::test_signature()).into()
    };
    let signed: Transaction = match random.random_range(0..10) {
        0..5 => {
            let input = [receiver.into_word().0, amount.to_be_bytes()].concat();
            call(token(random.random_range(0..plan.tokens)), input, vec![word(sender), word(receiver)])
        }
        5..8 => TxLegacy {
            chain_id: Some(1),
            nonce,
            gas_price: 2,
            gas_limit: 21_000,
            to: TxKind::Call(receiver),
            value: amount,
            input: Bytes::new(),
        }
        .into_signed(Signature::test_signature())
        .into(),
        _ => {
            let slots = vec![U256::ZERO, U256::from(1), word(sender), !word(sender)];
            call(pool(random.random_range(0..plan.pools)), amount.to_be_bytes::<32>().to_vec(), slots)
        }
    };
    Recovered::new_unchecked(signed, sender)
}
