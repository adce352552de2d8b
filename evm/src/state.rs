//! Chain state over a store: the genesis as version 0, then one version a block.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};
use bristlecone::{Batch, Commit, Snapshot, Store};

use crate::{Error, chain::Rules, era1::Block, genesis::Genesis, rewards::rewards};

/// Commits `genesis` as the first version of an empty store, and compares the root that the store
/// computes with the one that alloy-trie computes. Waits for the root, not for durability.
pub fn init_genesis(store: &Store, genesis: &Genesis) -> Result<(Commit, B256), Error> {
    let expected = genesis.state_root();
    let commit = store.commit(genesis.batch())?;
    let got = commit.root().wait()?;
    if got != expected {
        return Err(Error::GenesisRoot { expected, got });
    }
    Ok((commit, got))
}

/// What `block` changes in the state `parent`: the rewards. Nothing is committed.
///
/// Fails with [`Error::OutOfOrder`] unless the block's number is the version after `parent`, and with
/// [`Error::NeedsEvm`] on a block with transactions or with another change that the protocol makes apart
/// from rewards: the DAO's funds, withdrawals, system calls.
pub fn block_batch(parent: &Snapshot, rules: &Rules, block: &Block) -> Result<Batch, Error> {
    let header = &block.header;
    let number = header.number;
    let have = parent.version();
    if have.checked_add(1) != Some(number) {
        return Err(Error::OutOfOrder { have, got: number });
    }
    let mut batch = Batch::new();
    for (address, amount) in payments(rules, block)? {
        let mut account = parent.account(address.as_slice())?.unwrap_or_default();
        let sum = account.balance.checked_add(amount);
        account.balance = sum.ok_or(Error::BalanceOverflow { number, address })?;
        batch.set_account(address.as_slice(), &account);
    }
    Ok(batch)
}

/// Who gets how much for `block`, each address once; fails on a block that changes more than that.
pub fn payments(rules: &Rules, block: &Block) -> Result<BTreeMap<Address, U256>, Error> {
    let header = &block.header;
    let number = header.number;
    let needs = |why: &str| Err(Error::NeedsEvm { number, why: why.to_owned() });
    match block.transactions {
        0 => {}
        1 => return needs("has a transaction"),
        many => return needs(&format!("has {many} transactions")),
    }
    if rules.dao_fork == Some(number) {
        return needs("moves the funds of the DAO");
    }
    if header.withdrawals_root.is_some() {
        return needs("may have withdrawals");
    }
    if header.parent_beacon_block_root.is_some() {
        return needs("makes system calls");
    }
    let mut payments = BTreeMap::new();
    for (address, amount) in rewards(rules, header, &block.uncles)? {
        let sum: &mut U256 = payments.entry(address).or_default();
        *sum = sum.checked_add(amount).ok_or(Error::BalanceOverflow { number, address })?;
    }
    Ok(payments)
}
