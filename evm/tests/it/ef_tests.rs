//! Blockchain tests of ethereum/tests: the state before, blocks, and the state after.
//!
//! Not run are the tests in [`NOT_RUN`]. All tests that lie beside this checkout are for Cancun. A part of them runs always; `BRISTLECONE_ALL=1` runs all.

use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rlp::Decodable;
use bristlecone_evm::{
    Executor,
    block::{Block, Blocks},
    chain::{Forks, Rules, Sealing},
    genesis::{Genesis, GenesisAccount},
};
use serde::Deserialize;

use crate::{
    chain::{Chain, Expected, assert_state},
    data::data,
    tar,
};

/// Tests that create a contract where an account without code and nonce, but with storage, stands before: creation must fail
/// (EIP-7610), which revm does not do. No chain can come to such a state since Spurious Dragon.
const NOT_RUN: [&str; 2] = ["RevertInCreateInInit_Paris_", "RevertInCreateInInitCreate2_Paris_"];

#[derive(Deserialize)]
struct Test {
    network: String,
    #[serde(rename = "genesisRLP")]
    genesis: Bytes,
    pre: BTreeMap<Address, Account>,
    blocks: Vec<TestBlock>,
    lastblockhash: B256,
    #[serde(rename = "postState")]
    post: Option<BTreeMap<Address, Account>>,
}

#[derive(Deserialize)]
struct Account {
    balance: U256,
    nonce: U256,
    code: Bytes,
    storage: BTreeMap<U256, U256>,
}

#[derive(Deserialize)]
struct TestBlock {
    rlp: Bytes,
    #[serde(rename = "expectException")]
    exception: Option<String>,
}

fn storage(account: &Account) -> Vec<(B256, U256)> {
    account.storage.iter().map(|(slot, value)| (B256::from(*slot), *value)).collect()
}

fn cancun() -> Rules {
    Rules {
        chain_id: Some(1),
        sealing: Sealing::Work,
        forks: Forks::cancun_from_genesis(),
        dao_fork: None,
        deposit_contract: None,
        blobs: Vec::new(),
    }
}

/// Runs one test, and says how many blocks it had.
fn run(name: &str, test: &Test) -> usize {
    let rules = cancun();
    let header =
        alloy_consensus::Block::<bristlecone_evm::block::Transaction>::decode(&mut &test.genesis[..])
            .map(|block| block.header)
            .unwrap_or_else(|_| Header::decode(&mut &test.genesis[..]).unwrap());
    let accounts = test.pre.iter().map(|(address, account)| GenesisAccount {
        address: *address,
        nonce: account.nonce.to(),
        balance: account.balance,
        code: account.code.clone(),
        storage: storage(account),
    });
    let genesis = Genesis { accounts: accounts.collect(), header, rules: None, stated_root: None };
    assert_eq!(genesis.state_root(), genesis.header.state_root, "{name}: the state before");
    let mut chain = Chain::new(&genesis, Executor::new(rules.clone()));
    let mut last = genesis.hash();
    for (index, block) in test.blocks.iter().enumerate() {
        let decoded = Blocks::new(&block.rlp).next().unwrap();
        let extended = decoded.and_then(|block| {
            let block = Block::new(&rules, block)?;
            chain.extend(&block)?;
            Ok(block.hash)
        });
        match (&block.exception, extended) {
            (None, Ok(hash)) => last = hash,
            (Some(_), Err(_)) => {}
            (None, Err(error)) => panic!("{name}, block {index}: {error}"),
            (Some(reason), Ok(_)) => panic!("{name}, block {index} must fail: {reason}"),
        }
    }
    assert_eq!(last, test.lastblockhash, "{name}");
    if let Some(post) = &test.post {
        let expected = post.iter().map(|(address, account)| {
            let expected = Expected {
                balance: account.balance,
                nonce: account.nonce.to(),
                code: account.code.to_vec(),
                storage: storage(account),
            };
            (*address, expected)
        });
        assert_state(&chain.store.latest().unwrap(), &expected.collect::<Vec<_>>());
    }
    test.blocks.len()
}

/// Every `sample`-th test of a file.
fn run_file(file: &str, expected: usize, sample: usize) {
    let Some(path) = data(&format!("ef_tests/{file}.tar.zst")) else { return };
    let sample = if std::env::var_os("BRISTLECONE_ALL").is_some() { 1 } else { sample };
    let (mut seen, mut ran, mut left_out, mut blocks) = (0, 0, 0, 0);
    for (_, text) in tar::read(&path) {
        let tests: BTreeMap<String, Test> = serde_json::from_slice(&text).unwrap();
        for (name, test) in tests {
            assert_eq!(test.network, "Cancun", "{name}");
            seen += 1;
            if NOT_RUN.iter().any(|prefix| name.starts_with(prefix)) {
                left_out += 1;
            } else if seen % sample == 0 {
                blocks += run(&name, &test);
                ran += 1;
            }
        }
    }
    eprintln!("{file}: {ran} of {seen} tests, {blocks} blocks; {left_out} cannot be run");
    assert_eq!(seen, expected);
}

#[test]
fn valid_blocks() {
    run_file("ValidBlocks", 442, 4);
}

#[test]
fn random_state_tests() {
    run_file("gst_stRandom", 310, 2);
}

#[test]
fn revert_tests() {
    run_file("gst_stRevertTest", 271, 2);
}

#[test]
fn self_balance_tests() {
    run_file("gst_stSelfBalance", 42, 1);
}
