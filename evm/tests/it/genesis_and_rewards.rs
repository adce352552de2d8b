//! Public genesis files have the published roots, and rewards alone lead to every header's root while
//! blocks have no transactions. Here against a plain map and alloy-trie; the store does the same in the
//! tests of the command.

use std::{collections::BTreeMap, fs::File, io::BufReader, ops::ControlFlow};

use alloy_primitives::{Address, U256, b256};
use alloy_trie::TrieAccount;
use bristlecone_evm::{era1::Era1, genesis::Genesis, rewards::rewards};

use crate::data::data;

#[test]
fn public_genesis_files_have_the_published_roots() {
    let networks = [
        ("mainnet", 8893, b256!("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"), 1),
        ("goerli", 260, b256!("5d6cded585e73c4e322c30c2f782a336316f17dd85a4863b9d838d2d4b8b3008"), 5),
        (
            "sepolia",
            15,
            b256!("5eb6e371a698b8d68f665192350ffcecbbbf322916f4b51bd79bb6887da3f494"),
            11_155_111,
        ),
        ("hoodi", 335, b256!("da87d7f5f91c51508791bbcbd4aa5baf04917830b86985eeb9ad3d5bfb657576"), 560_048),
    ];
    for (name, accounts, root, chain_id) in networks {
        let Some(path) = data(&format!("genesis/{name}.json")) else { continue };
        let genesis = Genesis::read(&path).unwrap();
        assert_eq!(genesis.accounts.len(), accounts, "{name}");
        assert_eq!(genesis.state_root(), root, "{name}");
        assert_eq!(genesis.rules.unwrap().chain_id, Some(chain_id), "{name}");
        assert!(genesis.stated_root.is_none_or(|stated| stated == root));
    }
    let Some(path) = data("hive_geth600/genesis.json") else { return };
    let genesis = Genesis::read(&path).unwrap();
    assert!(genesis.rules.is_some() && !genesis.accounts.is_empty());
}

#[test]
fn rewards_alone_lead_to_the_roots_of_the_first_blocks() {
    for (network, file) in [("mainnet", "mainnet-00000-5ec1ffb8"), ("sepolia", "sepolia-00000-643a00f7")] {
        let (Some(genesis), Some(file)) =
            (data(&format!("genesis/{network}.json")), data(&format!("era1/{file}.era1")))
        else {
            continue;
        };
        let genesis = Genesis::read(&genesis).unwrap();
        let rules = genesis.rules.clone().unwrap();
        let mut balances: BTreeMap<Address, U256> =
            genesis.accounts.iter().map(|account| (account.address, account.balance)).collect();
        let file = BufReader::new(File::open(file).unwrap());
        let mut era = Era1::verify(file, |_, _| ControlFlow::Continue(())).unwrap();
        for number in 0..=era.last() {
            let block = era.block(number).unwrap().unwrap().block;
            for (address, amount) in rewards(&rules, &block.header, &block.body.ommers).unwrap() {
                *balances.entry(address).or_default() += amount;
            }
            // A root by brute force takes milliseconds: some blocks are enough here.
            if number % 1024 == 0 || number + 1 == 8192 || !block.body.ommers.is_empty() && number % 16 == 0 {
                let account = |(address, balance): (&Address, &U256)| {
                    (*address, TrieAccount { balance: *balance, ..Default::default() })
                };
                let root = alloy_trie::root::state_root_unhashed(balances.iter().map(account));
                assert_eq!(root, block.header.state_root, "{network} {number}");
            }
        }
    }
}
