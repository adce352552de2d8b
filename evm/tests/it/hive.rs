//! The 600-block chain of go-ethereum's hive: many forks, transactions of all types, system calls, requests.

use std::fs;

use alloy_primitives::{Address, B256, U256, hex};
use bristlecone::Store;
use bristlecone_evm::{
    BlockHashes, Error, Executor, Importer,
    block::{Block, Blocks},
    chain::Rules,
    executor::ExecutionStats,
    genesis::Genesis,
    state,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    chain::{Chain, Expected, assert_state, store},
    data::data,
};

/// The chain, if it is beside this checkout.
pub(crate) fn hive() -> Option<(Genesis, Rules, Vec<Block>)> {
    let genesis = Genesis::read(&data("hive_geth600/genesis.json")?).unwrap();
    let rules = genesis.rules.clone().unwrap();
    let file = fs::read(data("hive_geth600/chain.rlp")?).unwrap();
    let blocks = Blocks::new(&file).map(|block| Block::new(&rules, block.unwrap()).unwrap()).collect();
    Some((genesis, rules, blocks))
}

/// The state after the last block, as geth dumps it.
pub(crate) fn head_state() -> Vec<(Address, Expected)> {
    let text = fs::read(data("hive_geth600/headstate.json").unwrap()).unwrap();
    let dump: Value = serde_json::from_slice(&text).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap_or_default()).unwrap();
    let accounts = dump["accounts"].as_object().unwrap().iter().map(|(address, account)| {
        let storage = account["storage"].as_object().into_iter().flatten();
        let storage =
            storage.map(|(slot, value)| (slot.parse::<B256>().unwrap(), U256::from_be_slice(&bytes(value))));
        let expected = Expected {
            balance: account["balance"].as_str().unwrap().parse().unwrap(),
            nonce: account["nonce"].as_u64().unwrap(),
            code: bytes(&account["code"]),
            storage: storage.collect(),
        };
        (address.parse().unwrap(), expected)
    });
    accounts.collect()
}

#[test]
fn every_block_has_its_header_and_the_last_state_is_geths() {
    let Some((genesis, rules, blocks)) = hive() else { return };
    assert_eq!(
        blocks[0].header.parent_hash,
        genesis.hash(),
        "the genesis block's hash follows from the file"
    );
    let mut chain = Chain::new(&genesis, Executor::new(rules));
    let mut transactions = 0;
    for block in &blocks {
        transactions += chain.extend(block).unwrap().stats.transactions;
    }
    assert_eq!((blocks.len(), transactions), (600, 603));
    assert_state(&chain.store.latest().unwrap(), &head_state());
}

#[test]
fn blocks_that_do_not_hold_change_nothing() {
    let Some((genesis, rules, blocks)) = hive() else { return };
    let mut chain = Chain::new(&genesis, Executor::new(rules.clone()));
    // One missing.
    assert!(matches!(chain.extend(&blocks[1]), Err(Error::UnknownParent { number: 2, .. })));
    let full = blocks.iter().position(|block| block.transactions.len() > 1).unwrap();
    for block in &blocks[..full] {
        chain.extend(block).unwrap();
    }
    let good = &blocks[full];
    type Change = fn(&mut Block);
    let changes: [(&str, Change); 9] = [
        ("gas used", |block| block.header.gas_used -= 1),
        ("receipts root", |block| block.header.receipts_root = B256::ZERO),
        ("logs bloom", |block| block.header.logs_bloom.0[7] ^= 1),
        ("base fee", |block| block.header.base_fee_per_gas = Some(1)),
        ("gas limit", |block| block.header.gas_limit *= 2),
        ("not after its parent", |block| block.header.timestamp = 0),
        ("nonce", |block| block.transactions.reverse()),
        ("withdrawals root", |block| block.header.withdrawals_root = None),
        ("parent of block", |block| block.header.parent_hash = B256::ZERO),
    ];
    for (what, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let error = chain.extend(&bad).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(&format!("block {}", good.header.number)), "{error}");
        assert_eq!(chain.store.latest_version(), Some(full as u64));
    }
    chain.extend(good).unwrap();
}

#[test]
fn files_that_are_no_chain_are_told_with_the_place() {
    let Some(path) = data("hive_geth600/chain.rlp") else { return };
    let file = fs::read(path).unwrap();
    let whole = Blocks::new(&file).count();
    let cut: Vec<_> = Blocks::new(&file[..file.len() - 1]).collect();
    assert_eq!(cut.len(), whole);
    assert!(matches!(cut.last(), Some(Err(Error::ChainFile { offset, .. })) if *offset > 0));
    assert!(matches!(Blocks::new(b"no chain").next(), Some(Err(Error::ChainFile { offset: 0, .. }))));
    assert_eq!(Blocks::new(b"").count(), 0);
    // Another body under the same header.
    let genesis = Genesis::read(&data("hive_geth600/genesis.json").unwrap()).unwrap();
    let rules = genesis.rules.unwrap();
    let mut blocks = Blocks::new(&file).map(Result::unwrap);
    let mut block = blocks.find(|block| block.body.transactions.len() > 1).unwrap();
    block.body.transactions.pop();
    let error = Block::new(&rules, block).unwrap_err();
    assert!(matches!(error, Error::HeaderMismatch { what: "transactions root", .. }), "{error}");
}

/// Imports all `blocks` into a new store; `ahead`: each executed beforehand on the version before its parent.
fn import(
    executor: Executor,
    delay: u64,
    ahead: bool,
    blocks: &[Block],
    genesis: &Genesis,
) -> (Importer, Result<ExecutionStats, Error>, Store, TempDir) {
    let (store, dir) = store();
    state::init_genesis(&store, genesis).unwrap();
    let mut hashes = BlockHashes::default();
    hashes.push(0, genesis.hash());
    let importer = Importer::new(store.clone(), executor, Some(genesis.header.clone()), hashes).unwrap();
    let mut importer = importer.delay(delay);
    let mut import = || {
        let mut stats = ExecutionStats::default();
        for (at, block) in blocks.iter().enumerate() {
            let executed = match blocks.get(at + 1).filter(|_| ahead) {
                Some(next) => importer.import_ahead(block, next),
                None => importer.import(block),
            };
            stats += executed?.stats;
        }
        importer.settle()?;
        Ok(stats)
    };
    let result = import();
    (importer, result, store, dir)
}

#[test]
fn imports_are_right_with_every_number_of_workers_and_every_delay() {
    let Some((genesis, rules, blocks)) = hive() else { return };
    let expected = head_state();
    for workers in 0..=8 {
        for (delay, ahead) in [(0, false), (3, false), (3, true)] {
            let executor = match workers {
                0 => Executor::new(rules.clone()),
                _ => Executor::parallel(rules.clone(), workers).unwrap(),
            };
            let (importer, result, store, _dir) = import(executor, delay, ahead, &blocks, &genesis);
            let stats = result.unwrap();
            assert_eq!(importer.checked(), 600);
            assert!(importer.root_lag().1 <= delay);
            assert!(ahead || stats.held == 0, "{stats:?}");
            eprintln!(
                "{workers} workers, delay {delay}: root lag {:?}, {} of {} held",
                importer.root_lag(),
                stats.held,
                stats.transactions
            );
            assert_state(&store.latest().unwrap(), &expected);
        }
    }
}

#[test]
fn a_wrong_root_in_the_middle_takes_the_store_back_to_the_last_good_version() {
    let Some((genesis, rules, blocks)) = hive() else { return };
    for (delay, ahead) in [(0, false), (3, false), (3, true)] {
        // Block 40 lies about its state, and the blocks after it follow the lie.
        let mut wrong = blocks[..60].to_vec();
        wrong[39].header.state_root = B256::repeat_byte(1);
        for index in 39..60 {
            wrong[index].header.parent_hash = wrong[index - 1].hash;
            wrong[index].hash = wrong[index].header.hash_slow();
        }
        let (mut importer, result, store, _dir) =
            import(Executor::new(rules.clone()), delay, ahead, &wrong, &genesis);
        let error = result.unwrap_err();
        assert!(matches!(error, Error::StateRoot { number: 40, last_good: 39, .. }), "{error}");
        assert_eq!((store.latest_version(), importer.newest()), (Some(39), 39));
        assert_eq!(store.latest().unwrap().root().unwrap(), blocks[38].header.state_root);
        // The right block 40 is welcome, and those after it.
        for block in &blocks[39..] {
            importer.import(block).unwrap();
        }
        importer.settle().unwrap();
        assert_state(&store.latest().unwrap(), &head_state());
    }
}
