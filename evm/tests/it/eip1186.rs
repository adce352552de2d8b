//! Real answers of `eth_getProof` verify, and with any byte of them changed they do not.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use alloy_primitives::{Address, B256, U256, address, keccak256};
use bristlecone_evm::eip1186::{self, Answer};
use serde_json::Value;

use crate::data::data;

/// The answers in `eip1186`, with the root that each belongs to and whether the account itself is proven.
fn answers(dir: &Path) -> Vec<(String, Answer, B256, bool)> {
    let mut answers = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        if name == "helios_block.json" || name.ends_with(".yaml") {
            continue;
        }
        // The request and its answer stand in one file, with arrows.
        let text = match name.ends_with(".io") {
            true => text.lines().find_map(|line| line.strip_prefix("<< ")).unwrap().to_owned(),
            false => text,
        };
        let missing = match name.as_str() {
            "helios_account.json" => Some(address!("00000000219ab540356cbb839cbe05303d7705fa")),
            "helios_block_miner_account.json" => Some(address!("4838b106fce9647bdf1e7877bf73ce8b0bad5f97")),
            _ => None,
        };
        let answer = eip1186::parse(&text, missing).unwrap_or_else(|error| panic!("{name}: {error}"));
        let proven = !answer.account_proof.is_empty();
        // One answer holds nothing but a slot's proof, and that of another storage than it says.
        let nodes = if proven { &answer.account_proof } else { &answer.storage_proof[0].proof };
        let root = keccak256(&nodes[0]);
        answers.push((name, answer, root, proven));
    }
    answers
}

fn holds(answer: &Answer, root: B256, proven: bool) -> bool {
    if proven { eip1186::verify(answer, root).is_ok() } else { eip1186::verify_storage(answer, root).is_ok() }
}

#[test]
fn every_real_answer_verifies() {
    let Some(dir) = data("eip1186") else { return };
    let block: Value =
        serde_json::from_slice(&std::fs::read(dir.join("helios_block.json")).unwrap()).unwrap();
    let helios: B256 = block["stateRoot"].as_str().unwrap().parse().unwrap();
    let answers = answers(&dir);
    assert_eq!(answers.len(), 19);
    for (name, answer, root, proven) in answers {
        if name.starts_with("helios") {
            assert_eq!(root, helios, "{name}");
        }
        if !proven {
            eip1186::verify_storage(&answer, root).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(eip1186::verify(&answer, root).is_err(), "{name}: an empty account proof was accepted");
            continue;
        }
        let verified = eip1186::verify(&answer, root).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(verified.account.is_some(), "{name}");
        assert_eq!(verified.slots.len(), answer.storage_proof.len());
        // What we make of it in JSON is read back to the same.
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(eip1186::parse(&text, None).unwrap(), answer, "{name}");
    }
}

#[test]
fn no_answer_verifies_with_a_byte_changed() {
    let Some(dir) = data("eip1186") else { return };
    for (name, answer, root, proven) in answers(&dir) {
        for byte in 0..32 {
            let mut root = root;
            root[byte] ^= 1;
            assert!(!holds(&answer, root, proven), "{name}: root byte {byte}");
        }
        let change_nodes = |pick: &dyn Fn(&mut Answer) -> &mut Vec<alloy_primitives::Bytes>, what: &str| {
            let nodes = pick(&mut answer.clone()).clone();
            for (node, bytes) in nodes.iter().enumerate() {
                for byte in 0..bytes.len() {
                    let mut changed = bytes.to_vec();
                    changed[byte] ^= 1 << (byte % 8);
                    let mut answer = answer.clone();
                    pick(&mut answer)[node] = changed.into();
                    assert!(!holds(&answer, root, proven), "{name}: {what} node {node} byte {byte}");
                }
                let mut without = answer.clone();
                pick(&mut without).remove(node);
                assert!(!holds(&without, root, proven), "{name}: {what} without node {node}");
            }
            let mut longer = answer.clone();
            let extra = nodes.last().cloned().unwrap_or(vec![0xc0].into());
            pick(&mut longer).push(extra);
            assert!(!holds(&longer, root, proven), "{name}: {what} with a node more");
        };
        if proven {
            change_nodes(&|answer| &mut answer.account_proof, "account");
            let changes: [fn(&mut Answer); 6] = [
                |answer| answer.balance ^= U256::from(1),
                |answer| answer.nonce ^= 1,
                |answer| answer.code_hash[31] ^= 1,
                |answer| answer.storage_hash[0] ^= 1,
                |answer| answer.code_hash = B256::ZERO,
                |answer| answer.address[19] ^= 1,
            ];
            for (index, change) in changes.into_iter().enumerate() {
                let mut changed = answer.clone();
                change(&mut changed);
                assert!(!holds(&changed, root, proven), "{name}: change {index}");
            }
        }
        for slot in 0..answer.storage_proof.len() {
            change_nodes(&|answer| &mut answer.storage_proof[slot].proof, "slot");
            let mut changed = answer.clone();
            changed.storage_proof[slot].value ^= U256::from(1);
            assert!(!holds(&changed, root, proven), "{name}: value of slot {slot}");
            // In an empty storage every key is absent by the same (empty) proof.
            if !answer.storage_proof[slot].proof.is_empty() {
                for byte in 0..32 {
                    let mut changed = answer.clone();
                    let mut key = changed.storage_proof[slot].key.as_b256();
                    key[byte] ^= 1;
                    changed.storage_proof[slot].key = key.into();
                    assert!(!holds(&changed, root, proven), "{name}: key of slot {slot}, byte {byte}");
                }
            }
        }
    }
}

#[test]
fn every_answer_in_the_caches_verifies_against_its_header() {
    let Some(dir) = data("eip1186_caches") else { return };
    let (mut proofs, mut slots, mut absent) = (0, 0, 0);
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
        let cache: Value = serde_json::from_str(&text).unwrap();
        let mut roots = BTreeMap::new();
        for kind in ["full_blocks", "partial_blocks"] {
            for pair in cache[kind].as_array().into_iter().flatten() {
                let root: B256 = pair[1]["stateRoot"].as_str().unwrap().parse().unwrap();
                roots.insert(pair[0]["block_no"].as_u64().unwrap(), root);
            }
        }
        for (index, pair) in cache["proofs"].as_array().unwrap().iter().enumerate() {
            let address: Address = pair[0]["address"].as_str().unwrap().parse().unwrap();
            let number = pair[0]["block_no"].as_u64().unwrap();
            let at = format!("{} {address} at {number}", path.display());
            let mut answer = eip1186::parse(&pair[1].to_string(), Some(address)).unwrap();
            // One cache asks for blocks whose headers it does not hold.
            let root = *roots.entry(number).or_insert_with(|| keccak256(&answer.account_proof[0]));
            let verified = eip1186::verify(&answer, root).unwrap_or_else(|error| panic!("{at}: {error}"));
            proofs += 1;
            slots += verified.slots.len();
            absent += usize::from(verified.account.is_none());
            // One byte somewhere in the proof, another place each time.
            let nodes = answer.account_proof.len();
            let node = &mut answer.account_proof[index % nodes];
            let mut changed = node.to_vec();
            let byte = (index * 7919) % changed.len();
            changed[byte] ^= 0x40;
            *node = changed.into();
            assert!(eip1186::verify(&answer, root).is_err(), "{at}: byte {byte}");
        }
    }
    eprintln!("{proofs} accounts, {absent} of them absent, {slots} slots");
    assert!(proofs > 2000 && slots > 5000 && absent > 5);
}
