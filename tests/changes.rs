//! Diffs and histories: their cost, their ends, and what they refuse. That they are right is for the model to say.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop at what it did not expect"
)]

use bristlecone::{
    Account, B256, Batch, Error, HistoryEnd, Key, Namespace, Options, Revision, SchemeKind, Store, StoredKey,
    U256, Value,
};

fn key(number: u32) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn flat() -> Options {
    Options::new().namespace(Namespace::flat(SchemeKind::Blake3).raw()).threads(1)
}

/// `keys` keys in one version, then ten of them changed in each of `versions` more.
fn grown(options: &Options, dir: &std::path::Path, keys: u32, versions: u32) -> Store {
    let store = options.open(dir).unwrap();
    let mut batch = Batch::new();
    for number in 0..keys {
        batch.put(&key(number), &number.to_le_bytes());
    }
    store.commit(batch).unwrap();
    for version in 1..=versions {
        let mut batch = Batch::new();
        for number in 0..10 {
            batch.put(&key((version * 7919 + number * 101) % keys), &version.to_be_bytes());
        }
        store.commit(batch).unwrap();
    }
    store
}

#[test]
fn a_diff_reads_pages_in_proportion_to_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let options = flat();
    let pages = |store: &Store, what: &str| {
        for (before, after) in [(1, 2), (2, 1), (1, 1), (7, 8)] {
            let mut diff = store.diff(before, after).unwrap();
            let changed = diff.by_ref().map(Result::unwrap).count();
            assert_eq!(changed, if before == after { 0 } else { 10 }, "{what}: {before} to {after}");
            // Two sides, ten paths of three or four pages.
            assert!(diff.pages_read() <= 100, "{what}: {before} to {after} read {} pages", diff.pages_read());
        }
    };
    let store = grown(&options, dir.path(), 100_000, 8);
    pages(&store, "in memory");
    store.close().unwrap();

    // The load and every version sealed by itself: ends of runs. Then the last one in memory again, over pages in the log.
    let dir = tempfile::tempdir().unwrap();
    let options = options.seal_keys(1);
    let store = grown(&options, dir.path(), 100_000, 8);
    store.flush().unwrap();
    pages(&store, "sealed");
    store.close().unwrap();
    let store = options.open(dir.path()).unwrap();
    pages(&store, "reopened");
    let mut batch = Batch::new();
    batch.put(&key(1), b"new").delete(&key(2));
    store.commit(batch).unwrap();
    let mut diff = store.diff(8, 9).unwrap();
    assert_eq!(diff.by_ref().map(Result::unwrap).count(), 2);
    assert!(diff.pages_read() <= 30, "{}", diff.pages_read());
}

#[test]
fn each_slot_of_a_wiped_storage_is_reported_and_has_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Options::new().namespace(Namespace::accounts(SchemeKind::Ethereum).raw()).open(dir.path()).unwrap();
    let address = [1; 32];
    let slot = |number: u32| B256::new(key(number));
    let mut batch = Batch::new();
    batch.set_account(&address, &Account::default());
    for number in 0..500 {
        batch.set_slot(&address, slot(number), U256::from(number + 1));
    }
    store.commit(batch).unwrap();
    let mut batch = Batch::new();
    batch.wipe_storage(&address).set_slot(&address, slot(3), U256::from(4)).set_slot(
        &address,
        slot(4),
        U256::from(9),
    );
    store.commit(batch).unwrap();
    for flushed in [false, true] {
        if flushed {
            store.flush().unwrap();
        }
        let changed: Vec<_> = store.diff(0, 1).unwrap().map(Result::unwrap).collect();
        // All but the one that was put again as it was; the body did not change.
        assert_eq!(changed.len(), 499);
        assert!(changed.is_sorted_by_key(|one| one.key.clone()));
        let gone = changed.iter().filter(|one| one.after.is_none()).count();
        assert_eq!(gone, 498);
        let back: Vec<_> = store.diff(1, 0).unwrap().map(Result::unwrap).collect();
        assert_eq!(back.len(), 499);
        let history = |number| -> Vec<Revision> {
            store.history(Key::Slot(&address, slot(number))).unwrap().map(Result::unwrap).collect()
        };
        let value = |version, value: Option<u32>| Revision {
            version,
            value: value.map(|value| Value::Slot(U256::from(value))),
        };
        assert_eq!(history(3), [value(0, Some(4))]);
        assert_eq!(history(4), [value(1, Some(9)), value(0, Some(5))]);
        assert_eq!(history(5), [value(1, None), value(0, Some(6))]);
        assert_eq!(history(501), []);
    }
    store.close().unwrap();
}

#[test]
fn a_history_crosses_deletions_and_says_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let options = flat().first_version(100).seal_keys(3);
    let store = options.open(dir.path()).unwrap();
    // There, gone for a while, in which it is deleted again, there, the same again, another.
    let steps: [Option<&[u8]>; 8] = [Some(b"a"), None, None, None, Some(b"b"), Some(b"b"), Some(b"c"), None];
    for (number, step) in (0u32..).zip(steps) {
        let mut batch = Batch::new();
        batch.put(&key(number), b"other");
        match step {
            Some(value) => batch.put(b"k", value),
            None => batch.delete(b"k"),
        };
        store.commit(batch).unwrap();
    }
    let reopened = || options.open(dir.path()).unwrap();
    let check = |store: &Store| {
        let mut history = store.history(Key::Flat(b"k")).unwrap();
        assert_eq!(history.end(), None);
        let found: Vec<_> = history.by_ref().map(Result::unwrap).collect();
        let value = |version, value: Option<&'static [u8]>| Revision {
            version,
            value: value.map(|value| Value::Flat(value.into())),
        };
        let wanted = [
            value(107, None),
            value(106, Some(b"c")),
            value(104, Some(b"b")),
            value(101, None),
            value(100, Some(b"a")),
        ];
        assert_eq!(found, wanted);
        assert_eq!(history.end(), Some(&HistoryEnd::Beginning));
        let older = store.at(105).unwrap().history(Key::Flat(b"k")).unwrap();
        assert_eq!(older.map(Result::unwrap).collect::<Vec<_>>(), wanted[2..]);
        let mut never = store.history(Key::Flat(b"never")).unwrap();
        assert!(never.next().is_none());
        assert_eq!(never.end(), Some(&HistoryEnd::Beginning));
    };
    check(&store);
    store.close().unwrap();
    let store = reopened();
    check(&store);
    store.close().unwrap();
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = flat().namespace(Namespace::accounts(SchemeKind::Ethereum).named("accounts"));
    let open = |dir: &tempfile::TempDir| {
        let store = options.open(dir.path()).unwrap();
        store.commit(Batch::new()).unwrap();
        store
    };
    let (store, other) = (open(&dir), open(&other));
    let (here, there) = (store.latest().unwrap(), other.latest().unwrap());
    assert!(matches!(here.diff(&there), Err(Error::BadOption { option: "diff", .. })));
    let accounts = here.namespace("accounts").unwrap();
    assert!(matches!(here.first().diff(&accounts), Err(Error::BadOption { option: "diff", .. })));
    assert!(matches!(here.history(Key::Account(b"a")), Err(Error::WrongShape { .. })));
    assert!(matches!(accounts.history(Key::Flat(b"a")), Err(Error::WrongShape { .. })));
    assert!(matches!(store.diff(0, 5), Err(Error::VersionNotKept { version: 5, .. })));
    let keys = [StoredKey::Account(B256::ZERO), StoredKey::Flat(vec![])];
    assert_ne!(keys[0], keys[1]);
}
