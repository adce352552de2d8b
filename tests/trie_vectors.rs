//! The trie tests of the Ethereum foundation, through a whole store.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use std::ops::Bound;
use std::sync::Arc;

use bristlecone::vfs::sim::SimVfs;
use bristlecone::{B256, Batch, KeyRange, Namespace, Options, SchemeKind, Store};
use bristlecone_torture::Rng;
use serde_json::Value;

type Op = (Vec<u8>, Option<Vec<u8>>);

/// The file, unless the data are not there.
fn vectors(name: &str) -> Option<Value> {
    let path = bristlecone_torture::data("ef_tests/TrieTests").join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => {
            eprintln!("SKIPPED: {}: {error}", path.display());
            None
        }
    }
}

fn bytes(text: &str) -> Vec<u8> {
    match text.strip_prefix("0x") {
        Some(hex) => alloy_primitives::hex::decode(hex).unwrap(),
        None => text.as_bytes().to_vec(),
    }
}

fn op(key: &str, value: &Value) -> Op {
    (bytes(key), value.as_str().map(bytes))
}

/// The operations of a case, in the order of the file.
fn ops(case: &Value) -> Vec<Op> {
    match &case["in"] {
        Value::Object(map) => map.iter().map(|(key, value)| op(key, value)).collect(),
        Value::Array(list) => list.iter().map(|pair| op(pair[0].as_str().unwrap(), &pair[1])).collect(),
        other => panic!("{other}"),
    }
}

fn store(secure: bool) -> Store {
    let namespace = Namespace::flat(SchemeKind::Ethereum);
    let namespace = if secure { namespace } else { namespace.raw() };
    let options = Options::new().namespace(namespace).vfs(Arc::new(SimVfs::new(0)));
    options.open("/store").unwrap()
}

fn add(batch: &mut Batch, (key, value): &Op) {
    match value {
        Some(value) => batch.put(key, value),
        None => batch.delete(key),
    };
}

/// The root after `ops`, committed `together` at a time.
fn root(secure: bool, ops: &[Op], together: usize) -> B256 {
    let store = store(secure);
    for part in ops.chunks(together) {
        let mut batch = Batch::new();
        part.iter().for_each(|op| add(&mut batch, op));
        store.commit(batch).unwrap().root().wait().unwrap();
    }
    store.flush().unwrap();
    let root = store.latest().unwrap().root().unwrap();
    store.check(|_| ()).unwrap();
    root
}

fn run(file: &str, secure: bool, any_order: bool) {
    let Some(Value::Object(cases)) = vectors(file) else { return };
    for (name, case) in &cases {
        let (mut ops, wanted) = (ops(case), case["root"].as_str().unwrap().parse::<B256>().unwrap());
        for together in [1, 2, ops.len()] {
            assert_eq!(root(secure, &ops, together), wanted, "{file}, {name}, {together} at a time");
        }
        if any_order {
            let mut rng = Rng::new(1);
            for round in 0..12 {
                for at in (1..ops.len()).rev() {
                    ops.swap(at, rng.below(at + 1));
                }
                assert_eq!(root(secure, &ops, 1 + round % 3), wanted, "{file}, {name}, shuffled");
            }
        }
    }
    eprintln!("{file}: {} cases", cases.len());
}

#[test]
fn the_roots_of_tries_in_order_are_right() {
    run("trietest.json", false, false);
}

#[test]
fn the_roots_of_secure_tries_in_order_are_right() {
    run("trietest_secureTrie.json", true, false);
}

#[test]
fn the_roots_of_tries_in_any_order_are_right() {
    run("trieanyorder.json", false, true);
}

#[test]
fn the_roots_of_secure_tries_in_any_order_are_right() {
    run("trieanyorder_secureTrie.json", true, true);
    run("hex_encoded_securetrie_test.json", true, true);
}

#[test]
fn the_keys_before_and_after_any_key_are_right() {
    let file = "trietestnextprev.json";
    let Some(Value::Object(cases)) = vectors(file) else { return };
    for (name, case) in &cases {
        let store = store(false);
        let mut batch = Batch::new();
        for key in case["in"].as_array().unwrap() {
            batch.put(key.as_str().unwrap().as_bytes(), b"x");
        }
        store.commit(batch).unwrap();
        for sealed in [false, true] {
            if sealed {
                store.flush().unwrap();
            }
            let snapshot = store.latest().unwrap();
            for test in case["tests"].as_array().unwrap() {
                let [key, before, after] = [0, 1, 2].map(|at| test[at].as_str().unwrap().as_bytes());
                let range = KeyRange::between(Bound::Excluded(key), Bound::Unbounded);
                let next = snapshot.iter(range).unwrap().next().map(|entry| entry.unwrap().0);
                assert_eq!(next.unwrap_or_default(), after, "{name}: after {key:?}");
                let range = KeyRange::between(Bound::Unbounded, Bound::Excluded(key));
                let previous = snapshot.iter(range).unwrap().last().map(|entry| entry.unwrap().0);
                assert_eq!(previous.unwrap_or_default(), before, "{name}: before {key:?}");
            }
        }
    }
}
