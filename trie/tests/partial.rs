//! Partial tries against real blocks: each file in `transitions` has the nodes that a block touches, what it
//! changes, and the roots before and after.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use alloy_primitives::{B256, Bytes, U256, hex, keccak256};
use bristlecone_trie::scheme::ethereum::Ethereum;
use bristlecone_trie::{Account, Body, Change, Op, Partial, PartialError, Shape};
use serde_json::Value;

fn transitions() -> Vec<(String, Value)> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/transitions"));
    let Ok(files) = std::fs::read_dir(&dir) else {
        println!("SKIPPED: there is no real chain data beside the project");
        return Vec::new();
    };
    let mut out = Vec::new();
    for file in files {
        let path = file.unwrap().path();
        let bytes = zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        out.push((name, serde_json::from_slice(&bytes).unwrap()));
    }
    out
}

fn hash(value: &Value) -> B256 {
    value.as_str().unwrap().parse().unwrap()
}

fn quantity(value: &Value) -> U256 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        other => U256::from(other.as_u64().unwrap()),
    }
}

fn nodes(block: &Value) -> HashMap<B256, Vec<u8>> {
    let mut nodes = HashMap::new();
    for list in ["nodes", "siblingNodes"] {
        for node in block[list].as_array().into_iter().flatten() {
            let bytes: Bytes = node.as_str().unwrap().parse().unwrap();
            nodes.insert(keccak256(&bytes), bytes.to_vec());
        }
    }
    nodes
}

fn account(value: &Value) -> Account {
    Account {
        nonce: quantity(&value["nonce"]).to(),
        balance: quantity(&value["balance"]),
        code_hash: value.get("codeHash").or(value.get("code_hash")).map_or(keccak256([]), hash),
    }
}

/// What the block does, as sorted operations with their bytes.
fn changes(block: &Value) -> BTreeMap<Vec<u8>, (u8, Vec<u8>)> {
    let mut ops = BTreeMap::new();
    for change in block["accounts"].as_array().unwrap() {
        let address = hex::decode(change["address"].as_str().unwrap()).unwrap();
        let key = keccak256(&address);
        let (pre, post) = (&change["pre"], &change["post"]);
        if post.is_null() {
            if !pre.is_null() {
                ops.insert(key.to_vec(), (2, Vec::new()));
            }
            continue;
        }
        let mut body = Vec::new();
        account(post).encode(&mut body);
        ops.insert(key.to_vec(), (1, body));
        for slot in change["storage"].as_array().into_iter().flatten() {
            let value = quantity(&slot["post"]);
            if quantity(&slot["pre"]) == value {
                continue;
            }
            let number = quantity(&slot["slot"]).to_be_bytes::<32>();
            let key = [key.as_slice(), keccak256(number).as_slice()].concat();
            ops.insert(key, (if value.is_zero() { 4 } else { 3 }, value.to_be_bytes_trimmed_vec()));
        }
    }
    ops
}

fn to_op<'a>((key, (kind, bytes)): (&'a Vec<u8>, &'a (u8, Vec<u8>))) -> Op<'a> {
    let change = match kind {
        1 => Change::Account { body: Body::Put(bytes), wipe: false },
        2 => Change::Account { body: Body::Delete, wipe: true },
        3 => Change::Put(bytes),
        _ => Change::Delete,
    };
    Op { key, change }
}

#[test]
fn every_real_transition_ends_at_its_published_root() {
    let blocks = transitions();
    for (name, block) in &blocks {
        let nodes = nodes(block);
        let lookup = |hash: &B256| nodes.get(hash).map(Vec::as_slice);
        let pre = hash(&block["preRoot"]);
        let mut partial = Partial::new::<Ethereum>(Shape::Accounts, pre, &lookup).unwrap();
        assert_eq!(partial.root::<Ethereum>().unwrap(), pre, "{name} before");
        let changes = changes(block);
        let ops: Vec<Op<'_>> = changes.iter().map(to_op).collect();
        partial.apply(&ops, 1).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(partial.root::<Ethereum>().unwrap(), hash(&block["postRoot"]), "{name} after");
    }
    println!("{} transitions", blocks.len());
}

#[test]
fn a_missing_node_is_an_error_and_never_absence() {
    for (name, block) in transitions().iter().filter(|(name, _)| name.contains("mainnet-0115")) {
        let nodes = nodes(block);
        let pre = hash(&block["preRoot"]);
        for missing in nodes.keys() {
            let lookup = |hash: &B256| nodes.get(hash).filter(|_| hash != missing).map(Vec::as_slice);
            let partial = match Partial::new::<Ethereum>(Shape::Accounts, pre, &lookup) {
                Ok(partial) => partial,
                Err(error) => {
                    assert_eq!(error, PartialError::NoRoot(pre));
                    continue;
                }
            };
            let whole = |hash: &B256| nodes.get(hash).map(Vec::as_slice);
            let full = Partial::new::<Ethereum>(Shape::Accounts, pre, &whole).unwrap();
            for change in block["accounts"].as_array().unwrap() {
                let key = keccak256(hex::decode(change["address"].as_str().unwrap()).unwrap());
                match partial.get(key.as_slice()) {
                    Err(error) => assert_eq!(error, PartialError::Blinded),
                    Ok(found) => assert_eq!(Ok(found), full.get(key.as_slice()), "{name}"),
                }
            }
        }
    }
}
