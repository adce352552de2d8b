//! Large values and contract code: stored once, read without a copy.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop at what it did not expect"
)]

use bristlecone::{B256, Batch, Bytes, Namespace, Options, SchemeKind, Store};

fn key(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn value(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn options() -> Options {
    Options::new().namespace(Namespace::flat(SchemeKind::Ethereum).raw()).threads(1).segment_bytes(4 << 20)
}

fn stored(store: &Store) -> u64 {
    store.flush().unwrap();
    store.stats().unwrap().segment_bytes
}

/// Where two answers lie.
fn is_shared(a: &Bytes, b: &Bytes) -> bool {
    a.as_ptr() == b.as_ptr()
}

#[test]
fn a_value_of_16_mib_is_stored_once_while_its_page_is_rewritten_and_cut() {
    let dir = tempfile::tempdir().unwrap();
    let store = options().open(dir.path()).unwrap();
    let huge = value(1, 16 << 20);
    let mut batch = Batch::new();
    batch.put(&key(0), &huge).put(&key(1), b"neighbour");
    store.commit(batch).unwrap();
    let once = stored(&store);
    assert!((16 << 20..(16 << 20) + 20_000).contains(&once), "{once}");
    // Neighbours come and change, in as many runs: deltas, bases, and then pages of their own.
    for run in 0..14 {
        let mut batch = Batch::new();
        for number in 0..12 {
            batch.put(&key(1 + run * 6 + number), &run.to_le_bytes());
        }
        store.commit(batch).unwrap();
        store.flush().unwrap();
    }
    let more = stored(&store) - once;
    assert!(more < 200_000, "{more} bytes for neighbours");
    for version in [0, 7, 14] {
        let snapshot = store.at(version).unwrap();
        assert!(snapshot.get(&key(0)).unwrap().is_some_and(|found| found == huge));
        let (a, b) =
            (snapshot.get_bytes(&key(0)).unwrap().unwrap(), snapshot.get_bytes(&key(0)).unwrap().unwrap());
        assert!(is_shared(&a, &b), "version {version}");
    }
    let proof = store.latest().unwrap().prove(&key(0)).unwrap();
    assert_eq!(proof.value.as_deref(), Some(&huge[..]));
    store.check(|_| ()).unwrap();
    store.close().unwrap();

    let store = options().open(dir.path()).unwrap();
    let kept = store.latest().unwrap().get_bytes(&key(0)).unwrap().unwrap();
    assert!(is_shared(&kept, &store.at(3).unwrap().get_bytes(&key(0)).unwrap().unwrap()));
    store.close().unwrap();
    // Such bytes are nobody's but their own.
    assert!(kept == huge);
    drop(dir);
    assert!(kept == huge);
}

#[test]
fn code_that_is_put_again_and_again_is_stored_once_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().threads(1).open(dir.path()).unwrap();
    let code = Bytes::from(value(2, 24_576));
    let hash = B256::repeat_byte(7);
    assert_eq!(store.commit(Batch::new()).unwrap().snapshot().unwrap().code(hash).unwrap(), None);
    for _ in 0..20 {
        let mut batch = Batch::new();
        batch.set_code(hash, code.clone());
        store.commit(batch).unwrap();
    }
    // Not sealed yet: a copy. Then the one record.
    let held = store.latest().unwrap();
    assert_eq!(held.code(hash).unwrap(), Some(code.clone()));
    let bytes = stored(&store);
    assert!(bytes < 24_576 + 8_000, "{bytes}");
    for _ in 0..3 {
        let mut batch = Batch::new();
        batch.set_code(hash, code.clone());
        store.commit(batch).unwrap();
        store.flush().unwrap();
    }
    let shared = store.latest().unwrap().code(hash).unwrap().unwrap();
    assert_eq!(shared, code);
    for version in 1..=23 {
        let again = store.at(version).unwrap().code(hash).unwrap().unwrap();
        assert_eq!(again, code);
        // Inside the run the run's table says it, and what that says is copied.
        assert!(version < 20 || is_shared(&again, &shared), "version {version}");
    }
    assert_eq!(held.code(hash).unwrap(), Some(code));
    assert_eq!(store.at(0).unwrap().code(hash).unwrap(), None);
    store.close().unwrap();
}

#[test]
fn values_of_all_sizes_are_the_same_however_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = options().seal_keys(30).open(dir.path()).unwrap();
    let lens = [1, 100, 511, 512, 513, 600, 5_000, 70_000];
    let expected = |version: u64, number: u64| {
        let written = version - (version + number) % 3;
        value(written * 1000 + number, lens[(written + number) as usize % lens.len()])
    };
    for version in 0..24 {
        let mut batch = Batch::new();
        for number in (0..40).filter(|number| version < 3 || (version + number) % 3 == 0) {
            batch.put(&key(number), &expected(version.max(2), number));
        }
        store.commit(batch).unwrap();
    }
    let look = |store: &Store| {
        for version in 2..24 {
            let snapshot = store.at(version).unwrap();
            for number in 0..40 {
                let wanted = expected(version, number);
                assert_eq!(snapshot.get(&key(number)).unwrap().as_ref(), Some(&wanted), "{version} {number}");
                assert_eq!(snapshot.get_bytes(&key(number)).unwrap().unwrap(), wanted, "{version} {number}");
            }
        }
        assert_eq!(store.latest().unwrap().get_bytes(&key(99)).unwrap(), None);
    };
    look(&store);
    store.close().unwrap();
    let store = options().open(dir.path()).unwrap();
    look(&store);
    store.check(|_| ()).unwrap();
    store.close().unwrap();
}
