//! alloy-trie as the oracle: the same roots, the same proof nodes, and nothing accepted that differs from the truth.
#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "helpers of tests")]

#[cfg(test)]
mod naive;

use std::collections::BTreeMap;

use alloy_primitives::{Bytes, U256};
use alloy_trie::proof::{ProofRetainer, verify_proof};
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles, TrieAccount};
use bristlecone_trie::proof::{verify, verify_account, verify_slot};
use bristlecone_trie::scheme::ethereum::Ethereum;
use bristlecone_trie::{Account, B256};
use naive::{Naive, Value};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn long() -> bool {
    std::env::var("BRISTLECONE_LONG").is_ok_and(|value| value == "1")
}

fn rng(name: &str) -> StdRng {
    let seed = std::env::var("BRISTLECONE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_260_103);
    println!("{name}: BRISTLECONE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The root, and the proof of each target; embedded nodes, which alloy lists apart too, left out.
fn oracle(leaves: &BTreeMap<Vec<u8>, Vec<u8>>, targets: &[Vec<u8>]) -> (B256, Vec<Vec<Vec<u8>>>) {
    let paths: Vec<Nibbles> = targets.iter().map(Nibbles::unpack).collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(paths.clone()));
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes();
    let proof = |path| {
        let all = nodes.matching_nodes_sorted(path).into_iter();
        all.filter(|(path, node)| path.is_empty() || node.len() >= 32)
            .map(|(_, node)| node.to_vec())
            .collect()
    };
    (root, paths.iter().map(proof).collect())
}

/// Keys of 32 bytes, some with long common prefixes so that leaves get short and are embedded.
fn keys(rng: &mut StdRng, count: usize) -> Vec<Vec<u8>> {
    let stem: [u8; 32] = rng.random();
    (0..count)
        .map(|_| {
            let mut key: [u8; 32] = rng.random();
            if rng.random_bool(0.5) {
                let shared = rng.random_range(0..32);
                key[..shared].copy_from_slice(&stem[..shared]);
            }
            key.to_vec()
        })
        .collect()
}

fn alloy_says(root: B256, key: &[u8], value: Option<Vec<u8>>, nodes: &[Vec<u8>]) -> bool {
    let nodes: Vec<Bytes> = nodes.iter().cloned().map(Bytes::from).collect();
    verify_proof(root, Nibbles::unpack(key), value, &nodes).is_ok()
}

#[test]
fn roots_and_proofs_are_those_of_alloy() {
    let mut rng = rng("roots_and_proofs_are_those_of_alloy");
    for round in 0..if long() { 5_000 } else { 150 } {
        let count = rng.random_range(0..40);
        let map: BTreeMap<Vec<u8>, Value> = keys(&mut rng, count)
            .into_iter()
            .map(|key| {
                let value = match rng.random_range(0..3) {
                    0 => Value::Slot(vec![rng.random_range(1..=255)]),
                    1 => Value::Slot((0..32).map(|_| rng.random_range(1..=255)).collect()),
                    _ => {
                        let code_hash = rng.random::<[u8; 32]>().into();
                        let account = Account {
                            nonce: rng.random(),
                            balance: U256::from(rng.random::<u64>()),
                            code_hash,
                        };
                        Value::Account(account, rng.random::<[u8; 32]>().into())
                    }
                };
                (key, value)
            })
            .collect();
        let leaves: BTreeMap<Vec<u8>, Vec<u8>> = map
            .iter()
            .map(|(key, value)| {
                let value = match value {
                    Value::Slot(value) => alloy_rlp::encode(value.as_slice()),
                    Value::Account(Account { nonce, balance, code_hash }, storage_root) => {
                        alloy_rlp::encode(TrieAccount {
                            nonce: *nonce,
                            balance: *balance,
                            storage_root: *storage_root,
                            code_hash: *code_hash,
                        })
                    }
                    Value::Raw(value) => value.clone(),
                };
                (key.clone(), value)
            })
            .collect();
        let mut targets: Vec<Vec<u8>> = map.keys().cloned().collect();
        targets.extend(keys(&mut rng, 10));
        for key in map.keys().take(5) {
            // Absent keys that leave a present one late.
            let mut near = key.clone();
            near[rng.random_range(28..32)] ^= 1 << rng.random_range(0..8);
            targets.push(near);
        }
        let (root, proofs) = oracle(&leaves, &targets);
        let trie = Naive::new(&map);
        assert_eq!(trie.root::<Ethereum>(), root, "round {round}");
        for (key, nodes) in targets.iter().zip(proofs) {
            if root != EMPTY_ROOT_HASH {
                assert_eq!(trie.prove::<Ethereum>(std::slice::from_ref(key)), nodes, "round {round}");
            }
            assert_eq!(verify::<Ethereum>(root, key, &nodes), Ok(leaves.get(key).cloned()), "round {round}");
            match map.get(key) {
                Some(Value::Slot(value)) => {
                    let value = U256::from_be_slice(value);
                    assert_eq!(verify_slot::<Ethereum>(root, key, &nodes), Ok(Some(value)));
                    assert!(verify_account::<Ethereum>(root, key, &nodes).is_err());
                }
                Some(Value::Account(account, storage_root)) => {
                    let both = Some((*account, *storage_root));
                    assert_eq!(verify_account::<Ethereum>(root, key, &nodes), Ok(both));
                    assert!(verify_slot::<Ethereum>(root, key, &nodes).is_err());
                }
                _ => assert_eq!(verify_slot::<Ethereum>(root, key, &nodes), Ok(None)),
            }
        }
    }
}

/// A change somewhere, a node more or less, bytes of one node inside another.
fn mutate(rng: &mut StdRng, nodes: &mut Vec<Vec<u8>>) {
    let at = rng.random_range(0..nodes.len());
    match rng.random_range(0..7) {
        0 if nodes.len() > 1 => drop(nodes.remove(at)),
        1 => nodes.truncate(at),
        2 => {
            let copy = nodes[at].clone();
            nodes.push(copy);
        }
        3 => nodes.insert(at, vec![0x80]),
        4 => {
            let place = rng.random_range(0..nodes[at].len());
            nodes[at].remove(place);
        }
        5 => {
            let from = rng.random_range(0..nodes[at].len());
            let piece = nodes[at][from..].to_vec();
            nodes.push(piece);
        }
        _ => {
            let place = rng.random_range(0..nodes[at].len());
            nodes[at][place] = rng.random();
        }
    }
}

#[test]
fn nothing_that_differs_from_the_truth_is_accepted() {
    let mut rng = rng("nothing_that_differs_from_the_truth_is_accepted");
    let (mut ours, mut theirs, mut wrong) = (0, 0, 0);
    for _ in 0..if long() { 3_000 } else { 60 } {
        let count = rng.random_range(1..40);
        let present = keys(&mut rng, count);
        let leaves: BTreeMap<Vec<u8>, Vec<u8>> = present
            .iter()
            .map(|key| {
                (key.clone(), (0..rng.random_range(1..40)).map(|_| rng.random_range(1..=255)).collect())
            })
            .collect();
        let mut targets = present;
        targets.extend(keys(&mut rng, 10));
        let (root, proofs) = oracle(&leaves, &targets);
        for (key, honest) in targets.iter().zip(&proofs) {
            let truth = leaves.get(key).cloned();
            assert!(alloy_says(root, key, truth.clone(), honest));
            for _ in 0..12 {
                let mut nodes = honest.clone();
                mutate(&mut rng, &mut nodes);
                let answer = verify::<Ethereum>(root, key, &nodes);
                assert!(answer.is_err() || nodes == *honest && answer == Ok(truth.clone()), "{answer:?}");
                ours += usize::from(answer.is_ok());
                theirs += usize::from(alloy_says(root, key, truth.clone(), &nodes));
                let absent = truth.is_some() && alloy_says(root, key, None, &nodes);
                wrong += usize::from(absent);
            }
        }
    }
    println!(
        "changed or equal proofs accepted: {ours} by us, {theirs} by alloy-trie ({wrong} of them wrongly)"
    );
}
