//! The seed corpora, made again the same at any time.

use std::collections::BTreeMap;

use bristlecone_trie::proof::ProofScheme;
use bristlecone_trie::scheme::{LeafValue, blake3::Blake3, ethereum::Ethereum};
use bristlecone_trie::{Account, B256, Path, Scheme, U256};

use crate::naive::{Naive, Value};

/// The seeds of a target, in the order of their numbers; none for a name that is no target with seeds.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "node_codec" => node_codec(),
        "inclusion_proof" => proofs(1),
        "absence_proof" => proofs(2),
        "witness" => crate::witness::seeds(),
        // One for each workload, and edits of both stores.
        "operations" => scripts(13, 160),
        "damaged_store" => scripts(16, 18),
        _ => crate::store::seeds(target).unwrap_or_default(),
    }
}

/// A plain generator (Numerical Recipes' constants): seeds must not change with a version of a library.
struct Plain(u32);

impl Plain {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 24) as u8
    }
}

/// Random ones, each with its number in front.
fn scripts(count: u8, len: usize) -> Vec<Vec<u8>> {
    let mut plain = Plain(count.into());
    (0..count).map(|number| [number].into_iter().chain((0..len).map(|_| plain.byte())).collect()).collect()
}

fn example() -> BTreeMap<Vec<u8>, Value> {
    let mut plain = Plain(7);
    (0u8..20)
        .map(|n| {
            let key = (0..n % 5).map(|_| plain.byte() & 0x77).collect();
            (key, Value::Raw(vec![n; 1 + usize::from(n) * 3 % 40]))
        })
        .collect()
}

fn node_codec() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let trie = Naive::new(&example());
    let some: Vec<Vec<u8>> = example().keys().step_by(4).cloned().collect();
    let mut with = |mode: u8, bytes: &[u8]| seeds.push([&[mode][..], bytes].concat());
    trie.prove::<Ethereum>(&some).iter().take(8).for_each(|node| with(0, node));
    trie.prove::<Blake3>(&some).iter().take(12).for_each(|node| with(7, node));
    // Embedded ones, and values: a slot and an account in both schemes.
    with(36, &[0xc2, 0x20, 0x05]);
    with(2, &[0x82, 1, 0]);
    with(3, &[1, 0]);
    let account = Account { nonce: 5, balance: U256::from(7), code_hash: B256::repeat_byte(9) };
    let mut leaf = Vec::new();
    Ethereum::encode_leaf(Path::whole(&[]), LeafValue::Account(&account, B256::ZERO), &mut leaf);
    // Below the heads of the list and the string, and the path of one byte.
    with(2, leaf.get(5..).unwrap_or_default());
    let mut body = vec![3; 32];
    account.encode(&mut body);
    with(4, &body);
    for bytes in [[3, 0, 1, 0, 1, 1], [0xff, 0xff, 8, 1, 0, 0], [0x55, 0x12, 0, 0, 0, 0]] {
        with(5, &bytes);
    }
    seeds
}

/// Small random tries with a few edits each; and, for inclusion, honest proofs as nodes.
fn proofs(salt: u32) -> Vec<Vec<u8>> {
    let mut plain = Plain(salt);
    let mut seeds: Vec<Vec<u8>> = (0u8..32)
        .map(|n| {
            let len = 40 + usize::from(n) * 8;
            std::iter::once(if salt == 1 { n % 2 } else { n % 4 })
                .chain((0..len).map(|_| plain.byte()))
                .collect()
        })
        .collect();
    if salt == 1 {
        for key in example().keys().step_by(4) {
            seeds.push(shown::<Ethereum>(2, key));
            seeds.push(shown::<Blake3>(3, key));
        }
    }
    seeds
}

/// The input under which the target sees exactly the honest proof of `key`.
fn shown<S: ProofScheme>(mode: u8, key: &[u8]) -> Vec<u8> {
    let mut seed = vec![mode, key.len() as u8];
    seed.extend_from_slice(key);
    for node in Naive::new(&example()).prove::<S>(&[key.to_vec()]) {
        seed.extend_from_slice(&(node.len() as u16).to_le_bytes());
        seed.extend_from_slice(&node);
    }
    seed
}
