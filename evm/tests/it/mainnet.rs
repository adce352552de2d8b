//! Blocks of mainnet with the part of the state that they need, as other parallel executors are tested with.
//!
//! The state before is put into a store, the block executed on it and committed. Everything the header says of the execution is
//! compared; the state root cannot be, for the state is a part. Instead the root of the store is compared with one that
//! alloy-trie computes from a plain map that took the same changes.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};
use bristlecone_evm::{
    CodeCache, Executor,
    changes::Changes,
    genesis::{Genesis, GenesisAccount},
};

use crate::{
    chain::store,
    real::{RealBlock, grevm, pevm},
};

/// A plain state after `changes`.
fn changed(before: &Genesis, changes: &Changes) -> Genesis {
    let mut accounts: BTreeMap<Address, GenesisAccount> =
        before.accounts.iter().map(|account| (account.address, account.clone())).collect();
    let mut codes: BTreeMap<B256, Bytes> =
        changes.codes.iter().map(|(hash, code)| (*hash, code.original_bytes())).collect();
    codes.extend(before.accounts.iter().map(|account| (account.code_hash(), account.code.clone())));
    for (address, change) in &changes.accounts {
        let Some(info) = &change.info else {
            accounts.remove(address);
            continue;
        };
        let account = accounts.entry(*address).or_default();
        let mut storage: BTreeMap<B256, U256> = match change.wiped {
            true => BTreeMap::new(),
            false => account.storage.iter().copied().collect(),
        };
        storage.extend(change.slots.iter().map(|(slot, value)| (B256::from(*slot), *value)));
        storage.retain(|_, value| !value.is_zero());
        *account = GenesisAccount {
            address: *address,
            nonce: info.nonce,
            balance: info.balance,
            code: if info.is_empty_code_hash() { Bytes::new() } else { codes[&info.code_hash].clone() },
            storage: storage.into_iter().collect(),
        };
    }
    Genesis { accounts: accounts.into_values().collect(), ..Genesis::default() }
}

fn check(real: &RealBlock) -> u64 {
    let (store, _dir) = store();
    let commit = store.commit(real.before.batch()).unwrap();
    assert_eq!(commit.root().wait().unwrap(), real.before.state_root(), "{}", real.name);
    let sequential = Executor::new(real.rules.clone());
    let executed = real.execute(&sequential, &real.db(store.latest().unwrap(), &CodeCache::default()));
    let expected = changed(&real.before, &executed.changes).state_root();
    let commit = store.commit(executed.changes.batch()).unwrap();
    assert_eq!(commit.root().wait().unwrap(), expected, "{}", real.name);
    executed.stats.transactions
}

#[test]
fn real_blocks_have_their_headers_and_a_root_that_alloy_trie_computes_too() {
    let Some(blocks) = pevm() else { return };
    let transactions: u64 = blocks.iter().map(check).sum();
    assert_eq!((blocks.len(), transactions), (45, 11_605));
}

#[test]
fn the_block_of_grevm_executes_and_has_a_root_that_alloy_trie_computes_too() {
    let Some(block) = grevm() else { return };
    assert_eq!(check(&block), 170);
}
