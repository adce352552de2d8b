//! Genesis files and real blocks, through the command and then through the library in another process.

use std::{collections::BTreeMap, fs::File, io::BufReader, ops::ControlFlow};

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::{Nibbles, TrieAccount};
use bristlecone::Store;
use bristlecone_evm::{eip1186, era1::Era1, genesis::Genesis, rewards::rewards, witness::ExecutionWitness};

use crate::command::{Scratch, data, run};

#[test]
fn public_genesis_files_have_their_published_roots() {
    let scratch = Scratch::new();
    for (name, root) in [
        ("mainnet", "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"),
        ("goerli", "0x5d6cded585e73c4e322c30c2f782a336316f17dd85a4863b9d838d2d4b8b3008"),
        ("sepolia", "0x5eb6e371a698b8d68f665192350ffcecbbbf322916f4b51bd79bb6887da3f494"),
        ("hoodi", "0xda87d7f5f91c51508791bbcbd4aa5baf04917830b86985eeb9ad3d5bfb657576"),
    ] {
        let Some(file) = data(&format!("genesis/{name}.json")) else { continue };
        let dir = scratch.path(name);
        let done = run(&["init", &dir, "--genesis", &file]).ok();
        assert!(done.stdout.contains(&format!("state root {root}")), "{}", done.stdout);
        // Once more is fine, and says the same; another process sees it.
        let again = run(&["init", &dir, "--genesis", &file, "--json"]).ok().json();
        assert_eq!((again["version"].as_u64(), again["root"].as_str()), (Some(0), Some(root)));
        let version = run(&["versions", &dir, "--json"]).ok().json();
        assert_eq!((version["root"].as_str(), version["durable"].as_bool()), (Some(root), Some(true)));
    }
    let (Some(mainnet), Some(hoodi)) = (data("genesis/mainnet.json"), data("genesis/hoodi.json")) else {
        return;
    };
    let dir = scratch.path("mainnet");
    run(&["init", &dir, "--genesis", &hoodi]).fails(1, &["already holds", "another directory"]);
    let found = run(&["get", &dir, "0x000d836201318ec6899a67540690382780743280", "--json"]).ok().json();
    assert_eq!(found["balance"], "0xad78ebc5ac6200000", "{mainnet}");
    // Code and storage came along.
    let contract = "0x00000000219ab540356cbb839cbe05303d7705fa";
    let dir = scratch.path("hoodi");
    let found = run(&["get", &dir, contract, "0x22", "--json"]).ok().json();
    let slot = "0xf5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b";
    assert_eq!(found["value"], slot);
}

/// Replays a file in one schedule, and then asks for miners' balances and proofs at many blocks.
fn replay(network: &str, file: &str, root_every: &str) {
    let (Some(genesis), Some(file)) =
        (data(&format!("genesis/{network}.json")), data(&format!("era1/{file}.era1")))
    else {
        return;
    };
    let scratch = Scratch::new();
    let dir = scratch.path("chain");
    run(&["init", &dir, "--genesis", &genesis]).ok();
    let args = ["replay", &dir, "--blocks", &file, "--root-every", root_every, "--json"];
    let done = run(&args).ok().json();
    assert_eq!(done["version"], 8191);
    assert_eq!(done["blocks"], 8191);
    eprintln!("{network}, a root every {root_every}: {} s", done["seconds"]);
    let again = run(&args).ok().json();
    assert_eq!((again["blocks"].as_u64(), again["held"].as_u64()), (Some(0), Some(8192)));
    assert_eq!(again["root"], done["root"]);
    run(&["check", &dir]).ok();

    // A model of its own: balances by rewards. Every miner and uncle at every block that pays it.
    let genesis = Genesis::read(genesis.as_ref()).unwrap();
    let rules = genesis.rules.clone().unwrap();
    let mut balances: BTreeMap<Address, U256> =
        genesis.accounts.iter().map(|account| (account.address, account.balance)).collect();
    let file = BufReader::new(File::open(&file).unwrap());
    let mut era = Era1::verify(file, |_, _| ControlFlow::Continue(())).unwrap();
    let store = Store::open(&dir).unwrap();
    for number in 0..=era.last() {
        let block = era.block(number).unwrap().unwrap().block;
        let mut paid = BTreeMap::<Address, U256>::new();
        for (address, amount) in rewards(&rules, &block.header, &block.body.ommers).unwrap() {
            *paid.entry(address).or_default() += amount;
            *balances.entry(address).or_default() += amount;
        }
        let snapshot = store.at(number).unwrap();
        for address in paid.keys() {
            let found = snapshot.account(address.as_slice()).unwrap().unwrap();
            assert_eq!(found.balance, balances[address], "{address} at {number}");
        }
        // Proofs cost more; in a store without the root of this version much more.
        if number % 1021 == 0 || number == 8191 {
            for address in paid.keys().chain([&Address::repeat_byte(0x77)]) {
                let answer = eip1186::answer(&snapshot, *address, &[]).unwrap();
                let root = block.header.state_root;
                assert_eq!(answer.balance, balances.get(address).copied().unwrap_or_default());
                eip1186::verify(&answer, root).unwrap();
                let key = Nibbles::unpack(keccak256(address));
                let value = balances.get(address).map(|balance| {
                    alloy_rlp::encode(TrieAccount { balance: *balance, ..Default::default() })
                });
                alloy_trie::proof::verify_proof(root, key, value, &answer.account_proof).unwrap();
            }
        }
    }
    let (address, balance) = balances.iter().next_back().unwrap();
    let store_account = store.at(5000).unwrap().account(address.as_slice()).unwrap();
    store.close().unwrap();
    // The command says the same.
    let found = run(&["get", &dir, &address.to_string(), "--json"]).ok().json();
    assert_eq!(found["balance"], format!("{balance:#x}"));
    let proof = run(&["prove", &dir, &address.to_string(), "0", "--at", "5000"]).ok().stdout;
    let proof = scratch.file("proof.json", proof);
    let root = era.block(5000).unwrap().unwrap().block.header.state_root.to_string();
    let verified = run(&["verify", &proof, "--root", &root, "--json"]).ok().json();
    assert_eq!(verified["valid"], true);
    let key = format!("{address}:0,0x1");
    let witness = run(&["witness", &dir, &key, &address.to_string(), "--at", "5000"]).ok().stdout;
    let witness: ExecutionWitness = serde_json::from_str(&witness).unwrap();
    let state = witness.open(root.parse().unwrap()).unwrap();
    let found = state.account(address.as_slice()).unwrap();
    assert_eq!(found, store_account);
    let other = B256::repeat_byte(1).to_string();
    let verified = run(&["verify", &proof, "--root", &other, "--json"]);
    assert_eq!((verified.code, &verified.json()["valid"]), (Some(1), &false.into()));
    // A chain whose beginning was pruned goes on, too.
    run(&["prune", &dir, "--keep", "10"]).ok();
    run(&["rollback", &dir, "--to", "8185"]).ok();
    let on = run(&args).ok().json();
    assert_eq!(
        (on["blocks"].as_u64(), on["held"].as_u64(), &on["root"]),
        (Some(6), Some(8186), &done["root"])
    );
}

#[test]
fn mainnet_replays_with_a_root_for_every_block() {
    replay("mainnet", "mainnet-00000-5ec1ffb8", "1");
}

#[test]
fn mainnet_replays_with_a_root_every_64_blocks() {
    replay("mainnet", "mainnet-00000-5ec1ffb8", "64");
}

#[test]
fn sepolia_replays_with_a_root_for_every_block() {
    replay("sepolia", "sepolia-00000-643a00f7", "1");
}

#[test]
fn sepolia_replays_with_a_root_every_64_blocks() {
    replay("sepolia", "sepolia-00000-643a00f7", "64");
}

#[test]
fn a_chain_of_rlp_blocks_replays_on_one_thread_and_on_many() {
    let (Some(genesis), Some(file)) = (data("hive_geth600/genesis.json"), data("hive_geth600/chain.rlp"))
    else {
        return;
    };
    let scratch = Scratch::new();
    let ways: [&[&str]; 4] = [
        &["--delay", "0"],
        &["--parallel", "--workers", "3"],
        &["--parallel", "--root-every", "7"],
        &["--ahead"],
    ];
    for (index, way) in ways.into_iter().enumerate() {
        let dir = scratch.path(&format!("chain{index}"));
        let args = [&["replay", &dir, "--chain", &file, "--genesis", &genesis, "--json"], way].concat();
        let done = run(&args).ok().json();
        assert_eq!((done["version"].as_u64(), done["transactions"].as_u64()), (Some(600), Some(603)));
        assert_eq!(done["root"], "0x8fcfb02cfca007773bd55bc1c3e50a3c8612a59c87ce057e5957e8bf17c1728b");
        assert_eq!(run(&args).ok().json()["held"], 600);
    }
    // The first block is missing; then the file ends in the middle of a block.
    let bytes = std::fs::read(&file).unwrap();
    let mut blocks = bristlecone_evm::block::Blocks::new(&bytes);
    blocks.next();
    let second = scratch.file("second.rlp", &bytes[blocks.offset() as usize..]);
    let dir = scratch.path("bad");
    let args = ["replay", &dir, "--chain", &second, "--genesis", &genesis];
    run(&args).fails(1, &["begins with block 2", "version 0"]);
    let short = scratch.file("short.rlp", &bytes[..bytes.len() - 9]);
    run(&["replay", &dir, "--chain", &short]).fails(1, &["chain file, byte", "nothing was applied"]);
    run(&["replay", &dir, "--chain", &file, "--workers", "2"]).fails(2, &["--parallel"]);
}
