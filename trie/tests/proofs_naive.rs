//! Proofs of random tries, both schemes: what is proven is what the map says, and no change to a proof is accepted.
#![expect(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

#[cfg(test)]
mod naive;

use std::collections::BTreeMap;

use bristlecone_trie::proof::{MultiProof, ProofScheme, verify, verify_many};
use bristlecone_trie::scheme::{blake3::Blake3, ethereum::Ethereum};
use naive::{Naive, Value};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Whether the slow form of a test is asked for.
fn long() -> bool {
    std::env::var("BRISTLECONE_LONG").is_ok_and(|value| value == "1")
}

fn rng(name: &str) -> StdRng {
    let seed = std::env::var("BRISTLECONE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_260_101);
    println!("{name}: BRISTLECONE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Keys of few lengths and few different bytes, so that they share prefixes and end inside each other.
fn key(rng: &mut StdRng, fixed: bool) -> Vec<u8> {
    let len = if fixed { 4 } else { rng.random_range(0..5) };
    let narrow = rng.random_bool(0.7);
    (0..len)
        .map(|_| if narrow { [0x00, 0x01, 0x10, 0x11][rng.random_range(0..4)] } else { rng.random() })
        .collect()
}

fn map(rng: &mut StdRng, fixed: bool) -> BTreeMap<Vec<u8>, Value> {
    let count = rng.random_range(0..30);
    (0..count)
        .map(|_| {
            let len = [1, 2, 8, 32, 40][rng.random_range(0..5)];
            let value = (0..len).map(|_| rng.random()).collect();
            (key(rng, fixed), Value::Raw(value))
        })
        .collect()
}

fn raw(map: &BTreeMap<Vec<u8>, Value>, key: &[u8]) -> Option<Vec<u8>> {
    match map.get(key) {
        Some(Value::Raw(bytes)) => Some(bytes.clone()),
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

fn proofs_say_what_the_map_says<S: ProofScheme>() {
    let mut rng = rng(S::NAME);
    for round in 0..if long() { 20_000 } else { 400 } {
        let map = map(&mut rng, round % 2 == 0);
        let trie = Naive::new(&map);
        let root = trie.root::<S>();
        let mut keys: Vec<Vec<u8>> = map.keys().cloned().collect();
        keys.extend((0..8).map(|_| key(&mut rng, false)));
        for key in &keys {
            let nodes = trie.prove::<S>(std::slice::from_ref(key));
            assert_eq!(verify::<S>(root, key, &nodes), Ok(raw(&map, key)), "round {round} key {key:02x?}");
        }
        let some: Vec<Vec<u8>> = keys.iter().filter(|_| rng.random_bool(0.4)).cloned().collect();
        let proof = MultiProof { nodes: trie.prove::<S>(&some) };
        let truth: Vec<_> = some.iter().map(|key| raw(&map, key)).collect();
        assert_eq!(verify_many::<S>(root, &some, &proof), Ok(truth), "round {round}");
    }
}

#[test]
fn proofs_say_what_the_map_says_ethereum() {
    proofs_say_what_the_map_says::<Ethereum>();
}

#[test]
fn proofs_say_what_the_map_says_blake3() {
    proofs_say_what_the_map_says::<Blake3>();
}

/// One change of a proof that leaves it different.
fn mutate(rng: &mut StdRng, nodes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut new = nodes.to_vec();
    let at = rng.random_range(0..nodes.len());
    match rng.random_range(0..8) {
        0 => drop(new.remove(at)),
        1 => new.insert(at, nodes[rng.random_range(0..nodes.len())].clone()),
        2 => new[at].push(rng.random()),
        3 => drop(new[at].pop()),
        4 => {
            let other = rng.random_range(0..nodes.len());
            new.swap(at, other);
        }
        5 => {
            let place = rng.random_range(0..=new[at].len());
            new[at].insert(place, rng.random());
        }
        _ => {
            let place = rng.random_range(0..new[at].len());
            new[at][place] ^= 1 << rng.random_range(0..8);
        }
    }
    new
}

fn a_changed_proof_is_refused<S: ProofScheme>() {
    let mut rng = rng(S::NAME);
    for _ in 0..if long() { 20_000 } else { 300 } {
        let map = map(&mut rng, false);
        let trie = Naive::new(&map);
        let root = trie.root::<S>();
        let keys: Vec<Vec<u8>> = map.keys().cloned().chain((0..4).map(|_| key(&mut rng, false))).collect();
        for key in &keys {
            let nodes = trie.prove::<S>(std::slice::from_ref(key));
            if nodes.is_empty() {
                continue;
            }
            for _ in 0..16 {
                let new = mutate(&mut rng, &nodes);
                if new != nodes {
                    let answer = verify::<S>(root, key, &new);
                    assert!(answer.is_err(), "{answer:?} from {new:02x?} for {nodes:02x?}");
                }
            }
            // Under another key the same nodes may well prove something: but only the truth.
            for other in &keys {
                if let Ok(answer) = verify::<S>(root, other, &nodes) {
                    assert_eq!(answer, raw(&map, other));
                }
            }
        }
        let some: Vec<Vec<u8>> = keys.iter().filter(|_| rng.random_bool(0.5)).cloned().collect();
        let nodes = trie.prove::<S>(&some);
        for _ in 0..16 {
            if !nodes.is_empty() {
                let new = mutate(&mut rng, &nodes);
                if new != nodes {
                    assert!(verify_many::<S>(root, &some, &MultiProof { nodes: new }).is_err());
                }
            }
        }
    }
}

#[test]
fn a_changed_proof_is_refused_ethereum() {
    a_changed_proof_is_refused::<Ethereum>();
}

#[test]
fn a_changed_proof_is_refused_blake3() {
    a_changed_proof_is_refused::<Blake3>();
}
