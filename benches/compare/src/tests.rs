//! Every engine on a tiny workload: it answers what the model says, and its figures are all there.

use std::path::Path;

use alloy_primitives::B256;
use alloy_trie::{HashBuilder, Nibbles};

use crate::{
    child, engines,
    engines::{Commit, Engine, Setup},
    figures::Summary,
    spec::{Job, Spec, Workload},
    workload::{Chain, Skew},
};

const KEYS: u64 = 2_000;
const COMMITS: u64 = 5;

fn setup() -> Setup {
    Setup { keys: 2 * KEYS, threads: None, root_every: 1 }
}

fn commit(engine: &dyn Engine, chain: &mut Chain, updates: u64, inserts: u64) -> Option<engines::Root> {
    match engine.commit(chain.next(updates, inserts)).unwrap() {
        Commit::Done => engine.root().unwrap(),
        Commit::Visible(rest) => {
            rest.durable().unwrap();
            let root = rest.root().unwrap();
            assert_eq!(rest.again().root().unwrap(), root);
            Some(root)
        }
    }
}

/// The root of everything in the chain, by the builder that Ethereum clients in Rust use.
fn ethereum_root(chain: &Chain) -> engines::Root {
    let mut leaves: Vec<_> = (0..chain.keys())
        .map(|index| (B256::new(chain.key(index)), chain.expected(index).unwrap()))
        .collect();
    leaves.sort_unstable();
    let mut builder = HashBuilder::default();
    for (key, value) in &leaves {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root().0
}

fn agrees(reader: &mut dyn engines::Reader, chain: &Chain) {
    for index in 0..chain.keys() {
        assert_eq!(reader.get(&chain.key(index)).unwrap(), chain.expected(index), "index {index}");
    }
    assert_eq!(reader.get(&chain.key(chain.keys() + 1_000_000)).unwrap(), None);
}

fn answers_the_model(name: &str) {
    let facts = engines::facts(name).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let engine = engines::open(name, dir.path(), &setup()).unwrap();
    let mut chain = Chain::new(3, Skew::Zipf);
    let mut roots = vec![commit(engine.as_ref(), &mut chain, 0, KEYS)];
    agrees(engine.reader().unwrap().as_mut(), &chain);
    for _ in 0..COMMITS {
        roots.push(commit(engine.as_ref(), &mut chain, 100, 5));
        agrees(engine.reader().unwrap().as_mut(), &chain);
        if name == "bristlecone" {
            assert_eq!(*roots.last().unwrap(), Some(ethereum_root(&chain)));
        }
    }
    if facts.root == "none" {
        assert!(roots.iter().all(Option::is_none));
    } else {
        let mut distinct: Vec<_> = roots.iter().map(|root| root.unwrap()).collect();
        distinct.dedup();
        assert_eq!(distinct.len(), roots.len(), "a commit that changes something changes the root");
    }

    for back in 0..=COMMITS {
        let Some(mut reader) = engine.reader_back(back).unwrap() else { continue };
        agrees(reader.as_mut(), &chain.back(back).unwrap());
    }
    if let Some(mut prover) = engine.prover().unwrap() {
        for index in [0, 7, KEYS - 1, chain.keys() - 1] {
            let (key, value) = (chain.key(index), chain.expected(index).unwrap());
            let proof = prover.prove(&key).unwrap();
            assert!(proof.size() > 0 && proof.verify(&key, &value), "{name}, index {index}");
            assert!(!proof.verify(&key, &[9; 32]), "{name}: another value is proven");
            assert!(!proof.verify(&chain.key(1), &value), "{name}: another key is proven");
        }
    }

    engine.settle().unwrap();
    assert_eq!(engine.disk_bytes(dir.path()).unwrap() > 0, facts.persistent);
    engine.close().unwrap();
    if facts.persistent {
        let engine = engines::open(name, dir.path(), &setup()).unwrap();
        agrees(engine.reader().unwrap().as_mut(), &chain);
        assert_eq!(engine.root().unwrap(), *roots.last().unwrap());
        engine.close().unwrap();
    }
}

/// A test for each engine, so that a failure says which.
macro_rules! each {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            answers_the_model($name);
        })*

        #[test]
        fn every_engine_has_its_test() {
            assert_eq!(engines::ALL.map(|facts| facts.name), [$($name),*]);
        }
    };
}

each! {
    bristlecone_answers_the_model_and_alloy_has_its_roots: "bristlecone",
    bristlecone_blake3_answers_the_model: "bristlecone-blake3",
    nomt_answers_the_model: "nomt",
    qmdb_answers_the_model: "qmdb",
    qmdb_current_answers_the_model: "qmdb-current",
    jmt_answers_the_model: "jmt",
    redb_answers_the_model: "redb",
    lmdb_answers_the_model: "lmdb",
}

#[test]
fn versions_are_those_of_the_lock_file() {
    for facts in engines::ALL {
        let version = engines::crate_version(facts.crate_name);
        assert!(version.split('.').count() == 3, "{}: {version}", facts.crate_name);
    }
    assert_eq!(engines::crate_version("no such crate"), "?");
}

fn spec(engine: &str, dir: &Path, job: Job) -> Spec {
    let workload = Workload {
        keys: KEYS,
        batch: 500,
        commits: COMMITS,
        updates: 100,
        inserts: 5,
        skew: Skew::Uniform,
        seed: 1,
        reads: 2_000,
        in_flight: 2,
        threads: None,
    };
    Spec { engine: engine.to_owned(), dir: dir.to_owned(), workload, job }
}

#[test]
fn sizes_of_commits_and_mini_blocks_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::Scaling { batches: vec![50, 200], changes: 1_000 };
    let run = child::figures(&spec("bristlecone", dir.path(), job)).unwrap();
    let summary = Summary::of(&[run]);
    assert_eq!(summary.median("sizes.1.batch"), Some(200.0));
    assert!(summary.median("sizes.1.nanoseconds_per_key").unwrap() > 0.0);
    assert_eq!(summary.median("sizes.0.commit.commits"), Some(20.0));

    let dir = tempfile::tempdir().unwrap();
    let job = Job::MiniBlocks { changes: 50, root_every: 100, seconds: 1 };
    let run = child::figures(&spec("bristlecone", dir.path(), job)).unwrap();
    let summary = Summary::of(&[run]);
    assert!(summary.median("commit.commits_per_second").unwrap() > 0.0);
    assert!(summary.median("commit.seconds").unwrap() >= 1.0);
}
