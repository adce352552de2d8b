//! Bad input: a clear error, an exit code, and nothing changed.

use std::{collections::BTreeMap, fs, path::Path};

use alloy_consensus::{SignableTransaction, TxLegacy};
use alloy_primitives::{Address, B256, Signature, U256};
use alloy_trie::TrieAccount;

use crate::{
    command::{Scratch, command, run},
    made::{Made, era1},
};

const GENESIS: &str = r#"{"config": {"chainId": 7}, "difficulty": "0x3e8", "gasLimit": 5000,
    "coinbase": "0x3333333333333333333333333333333333333333", "alloc": {
    "1111111111111111111111111111111111111111": {"balance": "1000"},
    "2222222222222222222222222222222222222222": {"balance": "0x10", "code": "0x6001",
        "storage": {"0x01": "0x02"}}}}"#;

/// Everything in a directory but the lock: names and contents.
fn contents(dir: &str) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else {
                into.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    if Path::new(dir).exists() {
        walk(dir.as_ref(), &mut found);
    }
    found
}

/// A chain of `count` blocks on [`GENESIS`], each paying 5 ether to 0x3333…, as an era1 file; `change` may spoil
/// blocks before they are put together.
fn chain(count: u64, change: impl Fn(&mut Made)) -> Vec<u8> {
    let miner = Address::repeat_byte(0x33);
    let ether = U256::from(10u64).pow(U256::from(18));
    let plain = |balance: U256| TrieAccount { balance, ..Default::default() };
    let contract = TrieAccount {
        balance: U256::from(16),
        code_hash: alloy_primitives::keccak256([0x60, 1]),
        storage_root: alloy_trie::root::storage_root_unhashed([(B256::with_last_byte(1), U256::from(2))]),
        ..Default::default()
    };
    let blocks = (0..count).map(|number| {
        let mut accounts = vec![
            (Address::repeat_byte(0x11), plain(U256::from(1000))),
            (Address::repeat_byte(0x22), contract),
        ];
        if number > 0 {
            accounts.push((miner, plain(ether * U256::from(5 * number))));
        }
        let mut made = Made::new(number, alloy_trie::root::state_root_unhashed(accounts));
        made.header.beneficiary = miner;
        change(&mut made);
        made
    });
    era1(blocks.collect())
}

struct Chain {
    scratch: Scratch,
    dir: String,
}

impl Chain {
    fn new() -> Self {
        let scratch = Scratch::new();
        let dir = scratch.path("chain");
        run(&["init", &dir, "--genesis", &scratch.file("genesis.json", GENESIS)]).ok();
        Self { scratch, dir }
    }
}

#[test]
fn a_good_chain_replays() {
    let Chain { scratch, dir } = Chain::new();
    let file = scratch.file("good.era1", chain(20, |_| ()));
    let done = run(&["replay", &dir, "--blocks", &file, "--json"]).ok().json();
    assert_eq!((done["version"].as_u64(), done["roots_checked"].as_u64()), (Some(19), Some(20)));
    let absent = run(&["get", &dir, &"44".repeat(20), "--json"]).ok().json();
    let zero = B256::ZERO.to_string();
    assert_eq!(
        absent,
        serde_json::json!({"version": 19, "exists": false, "balance": "0x0", "nonce": "0x0", "code_hash": zero,
            "storage_root": zero})
    );
    let slot = run(&["get", &dir, &"22".repeat(20), "1", "--at", "3", "--json"]).ok().json();
    let one = B256::with_last_byte(1).to_string();
    assert_eq!(slot, serde_json::json!({"version": 3, "exists": true, "slot": one, "value": "0x2"}));
    // A second file goes on where the first one ended, or is refused.
    let late = (30..32).map(|number| Made::new(number, B256::ZERO)).collect();
    let late = scratch.file("late.era1", era1(late));
    run(&["replay", &dir, "--blocks", &late]).fails(1, &["begins with block 30", "version 19"]);
}

#[test]
fn replay_can_make_the_store_itself() {
    let scratch = Scratch::new();
    let (dir, genesis) = (scratch.path("chain"), scratch.file("genesis.json", GENESIS));
    let file = scratch.file("good.era1", chain(5, |_| ()));
    run(&["replay", &dir, "--blocks", &file]).fails(1, &["does not exist", "init"]);
    assert!(!Path::new(&dir).exists());
    let args = ["replay", &dir, "--blocks", &file, "--genesis", &genesis, "--json"];
    assert_eq!(run(&args).ok().json()["version"], 4);
    assert_eq!(run(&args).ok().json()["held"], 5);
}

#[test]
fn a_missing_or_broken_genesis_changes_nothing() {
    let scratch = Scratch::new();
    let dir = scratch.path("chain");
    run(&["init", &dir, "--genesis", &scratch.path("no.json")]).fails(1, &["no.json", "read"]);
    for (text, words) in [
        ("", &["line 1"][..]),
        ("{}", &["alloc", "missing"]),
        ("{\"alloc\":\n{\"0x12\": {\"balance\": \"1\"}}}", &["line 2", "0x12"]),
        (&GENESIS.replace("0x10", "0xzz"), &["line 4", "balance"]),
        (&GENESIS.replace("0x02", &"1".repeat(70)), &["line 5", "storage"]),
        (&GENESIS[..GENESIS.len() - 5], &["line 5"]),
    ] {
        run(&["init", &dir, "--genesis", &scratch.file("bad.json", text)]).fails(1, words);
        assert!(!Path::new(&dir).exists(), "{text}");
    }
    run(&["init", &dir, "--genesis", &scratch.file("bad.json", [0xff, 0xfe])]).fails(1, &["UTF-8"]);
}

#[test]
fn a_truncated_or_bit_flipped_era1_file_changes_nothing() {
    let Chain { scratch, dir } = Chain::new();
    let good = chain(12, |_| ());
    let before = contents(&dir);
    for len in [0, 5, good.len() / 3, good.len() / 2, good.len() - 1] {
        let file = scratch.file("short.era1", &good[..len]);
        run(&["replay", &dir, "--blocks", &file]).fails(1, &["era1 file, byte", "nothing was applied"]);
    }
    // In the header of the first block, of a later one, in the accumulator, in the index.
    for at in [40, good.len() / 2, good.len() - 12 * 8 - 30, good.len() - 20] {
        let mut flipped = good.clone();
        flipped[at] ^= 4;
        let file = scratch.file("flipped.era1", flipped);
        run(&["replay", &dir, "--blocks", &file]).fails(1, &["era1 file, byte"]);
    }
    run(&["replay", &dir, "--blocks", &scratch.path("no.era1")]).fails(1, &["no.era1"]);
    assert_eq!(run(&["versions", &dir, "--json"]).ok().stdout.lines().count(), 1);
    assert_eq!(before.len(), contents(&dir).len());
}

#[test]
fn a_block_that_cannot_be_executed_is_refused_and_what_came_before_it_stays() {
    let Chain { scratch, dir } = Chain::new();
    // Signed well enough, but who signed owns nothing.
    let transaction =
        TxLegacy { gas_limit: 5000, ..TxLegacy::default() }.into_signed(Signature::test_signature());
    let mut raw = Vec::new();
    transaction.rlp_encode(&mut raw);
    let file = chain(12, |made| {
        if made.header.number == 8 {
            made.transactions.clear();
            alloy_rlp::Header { list: true, payload_length: raw.len() }.encode(&mut made.transactions);
            made.transactions.extend(&raw);
            made.header.transactions_root = alloy_trie::root::ordered_trie_root_encoded(&[&raw]);
        }
    });
    let file = scratch.file("busy.era1", file);
    run(&["replay", &dir, "--blocks", &file]).fails(1, &["block 8 is invalid", "transaction 0", "gas"]);
    assert_eq!(run(&["versions", &dir, "--json"]).ok().json()["version"], 7);
    run(&["check", &dir]).ok();
}

#[test]
fn a_mismatch_names_the_first_bad_block_in_every_schedule() {
    for root_every in ["1", "4", "64"] {
        let Chain { scratch, dir } = Chain::new();
        // Blocks 9 and later claim other roots than the rewards give.
        let file = chain(30, |made| {
            if made.header.number >= 9 {
                made.header.state_root = B256::repeat_byte(made.header.number as u8);
            }
        });
        let file = scratch.file("wrong.era1", file);
        for _ in 0..2 {
            let done = run(&["replay", &dir, "--blocks", &file, "--root-every", root_every, "--json"]);
            let found = done.json();
            let expected = B256::repeat_byte(9).to_string();
            assert_eq!((found["block"].as_u64(), found["last_good_version"].as_u64()), (Some(9), Some(8)));
            assert_eq!(found["expected"], expected);
            let got = found["got"].as_str().unwrap().to_owned();
            done.fails(1, &["block 9", &expected, &got, "last good version is 8", "went back"]);
            assert_eq!(run(&["versions", &dir, "--json"]).ok().stdout.lines().count(), 9);
        }
    }
    // A store of another genesis.
    let scratch = Scratch::new();
    let dir = scratch.path("other");
    let genesis = scratch.file("genesis.json", GENESIS.replace("1000", "1001"));
    run(&["init", &dir, "--genesis", &genesis]).ok();
    let file = scratch.file("good.era1", chain(5, |_| ()));
    run(&["replay", &dir, "--blocks", &file]).fails(1, &["block 0", "no version before it"]);
    assert_eq!(run(&["versions", &dir, "--json"]).ok().stdout.lines().count(), 1);
}

#[test]
fn without_the_rules_of_the_chain_replay_says_how_to_get_them() {
    let scratch = Scratch::new();
    let dir = scratch.path("chain");
    let genesis = scratch.file("genesis.json", GENESIS.replace("\"config\"", "\"other\""));
    let done = run(&["init", &dir, "--genesis", &genesis]).ok();
    assert!(done.stderr.contains("no `config`"), "{}", done.stderr);
    let file = scratch.file("good.era1", chain(5, |_| ()));
    run(&["replay", &dir, "--blocks", &file]).fails(1, &["config"]);
    fs::remove_file(Path::new(&dir).join("chain.json")).unwrap();
    run(&["replay", &dir, "--blocks", &file]).fails(1, &["chain.json is missing", "init"]);
}

#[test]
fn directories_that_are_none_or_hold_something_else_are_refused_unchanged() {
    let scratch = Scratch::new();
    let other = scratch.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(Path::new(&other).join("letter.txt"), "dear").unwrap();
    let genesis = scratch.file("genesis.json", GENESIS);
    let address = "11".repeat(20);
    for args in [
        &["get", &other, &address][..],
        &["prove", &other, &address],
        &["witness", &other, &address],
        &["versions", &other],
        &["stats", &other],
        &["check", &other],
        &["init", &other, "--genesis", &genesis],
        &["run", &other, "--workload", "flat", "--keys", "10"],
    ] {
        run(args).fails(1, &[]);
        let left: Vec<_> = contents(&other).into_keys().filter(|name| !name.ends_with("lock")).collect();
        assert_eq!(left.len(), 1, "{args:?} left {left:?}");
    }
    let none = scratch.path("none");
    for command in ["versions", "stats", "check"] {
        run(&[command, &none]).fails(1, &["does not exist"]);
    }
    let file = scratch.file("file", "x");
    run(&["versions", &file]).fails(1, &[]);
    assert!(!Path::new(&none).exists());
}

#[test]
fn a_version_that_is_not_kept_is_named_with_those_that_are() {
    let Chain { dir, scratch: _scratch } = Chain::new();
    let address = "11".repeat(20);
    run(&["get", &dir, &address, "--at", "5"]).fails(1, &["version 5", "0 to 0", "choose a version"]);
    run(&["prove", &dir, &address, "--at", "5"]).fails(1, &["version 5"]);
    let empty = Scratch::new();
    let dir = empty.path("empty");
    bristlecone::Store::open(&dir).unwrap().close().unwrap();
    run(&["get", &dir, &address]).fails(1, &["empty"]);
    assert_eq!(run(&["versions", &dir, "--json"]).ok().stdout, "");
}

#[test]
fn a_directory_in_use_is_refused_at_once_by_who_would_write_and_read_by_who_reads() {
    let Chain { dir, scratch } = Chain::new();
    let store = bristlecone::Store::open(&dir).unwrap();
    let begun = std::time::Instant::now();
    let address = "11".repeat(20);
    run(&["get", &dir, &address]).ok();
    run(&["rollback", &dir, "--to", "0"]).fails(1, &["in use"]);
    let file = scratch.file("good.era1", chain(5, |_| ()));
    run(&["replay", &dir, "--blocks", &file]).fails(1, &["in use"]);
    assert!(begun.elapsed().as_secs() < 10);
    drop(store);
    run(&["get", &dir, &address]).ok();
}

#[test]
fn wrong_usage_has_exit_code_2() {
    for args in [
        &[][..],
        &["no"],
        &["get"],
        &["init", "dir"],
        &["get", "dir", "0x1111111111111111111111111111111111111111", "x"],
        &["verify", "file"],
        &["get", "dir", "0x1111111111111111111111111111111111111111", "1_0"],
        &["prove", "dir", "0x0x11111111111111111111111111111111111111"],
        &["witness", "dir"],
        &["witness", "dir", "0x1111111111111111111111111111111111111111:"],
        &["witness", "dir", "0x1111111111111111111111111111111111111111:0,x"],
        &["verify", "file", "--root", "0x12"],
        &["verify", "file", "--root", &format!("0x0x{}", "1".repeat(62))],
        &["replay", "dir", "--blocks", "file", "--root-every", "0"],
        &["run", "--workload", "other"],
        &["run", "--workload", "flat", "--keys", "0"],
        &["run", "dir", "--workload", "flat", "--keys", "99999999999"],
        &["run", "dir", "--workload", "flat", "--versions", "18446744073709551615", "--updates", "0"],
        &["run", "dir", "--workload", "flat", "--readers", "100000"],
        &["run", "dir", "--profile", "pharos", "--transactions", "2"],
    ] {
        let done = run(args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.stderr);
    }
    // Whether it is an address or a flat key, only the store tells.
    let Chain { dir, scratch: _scratch } = Chain::new();
    for address in ["0x12", "zz", "0x0x11111111111111111111111111111111111111"] {
        run(&["get", &dir, address]).fails(2, &[address]);
    }
    run(&["--help"]).ok();
    run(&["--version"]).ok();
}

#[test]
fn answers_that_are_none_are_invalid_and_not_a_crash() {
    let scratch = Scratch::new();
    let root = B256::ZERO.to_string();
    for content in [&b""[..], b"{}", b"[1]", b"\xff", b"{\"accountProof\": 1}"] {
        let file = scratch.file("proof.json", content);
        let done = run(&["verify", &file, "--root", &root, "--json"]);
        assert_eq!((done.code, &done.json()["valid"]), (Some(1), &false.into()));
    }
    run(&["verify", &scratch.path("no"), "--root", &root]).fails(1, &["cannot read"]);
}

#[test]
fn a_reader_that_closes_early_is_no_error() {
    let Chain { dir, scratch: _scratch } = Chain::new();
    let mut child =
        command(&["versions", &dir, "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_newer_format_is_refused_untouched() {
    let Chain { dir, scratch } = Chain::new();
    let file = scratch.file("good.era1", chain(5, |_| ()));
    // The rules of the chain, then the store's identity: the version follows eight bytes of magic.
    let rules = Path::new(&dir).join("chain.json");
    let old = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, old.replace("\"format\": 2", "\"format\": 3")).unwrap();
    run(&["replay", &dir, "--blocks", &file]).fails(1, &["chain.json", "format is 3"]);
    fs::write(&rules, old).unwrap();
    let identity = Path::new(&dir).join("store");
    let mut bytes = fs::read(&identity).unwrap();
    bytes[8] += 1;
    fs::write(&identity, &bytes).unwrap();
    let before = contents(&dir);
    for args in [&["versions", &dir][..], &["check", &dir], &["replay", &dir, "--blocks", &file]] {
        run(args).fails(1, &["format"]);
    }
    assert_eq!(contents(&dir), before);
    bytes[8] -= 1;
    fs::write(&identity, &bytes).unwrap();
    assert_eq!(run(&["replay", &dir, "--blocks", &file, "--json"]).ok().json()["version"], 4);
}
