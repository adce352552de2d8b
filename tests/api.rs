//! What the interface promises: handles, refusals, and stores that are opened wrongly.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bristlecone::vfs::sim::{Fault, FaultRule, OpKind, Selector, SimVfs};
use bristlecone::vfs::{DiskVfs, OpenMode, Vfs};
use bristlecone::{
    Account, B256, Backpressure, Batch, Bytes, Error, Key, KeyRange, Namespace, Options, RootSchedule,
    SchemeKind, Since, Space, Store, U256,
};
use bristlecone_torture::gate::gated;
use bristlecone_torture::{Config, Depth, Model, Rng, Universe, batches, verify};

const DIR: &str = "/store";

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn flat(vfs: impl Vfs) -> Options {
    Options::new().namespace(Namespace::flat(SchemeKind::Blake3)).vfs(Arc::new(vfs))
}

fn accounts(vfs: impl Vfs) -> Options {
    Options::new().vfs(Arc::new(vfs))
}

fn put(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, value);
    batch
}

fn someone() -> Account {
    Account { nonce: 1, ..Account::default() }
}

#[test]
fn durable_root_and_sealed_are_awaited_apart_on_threads_and_as_futures() {
    let (vfs, gate) = gated(SimVfs::new(0));
    let store = flat(vfs).seal_keys(2).open(DIR).unwrap();
    gate.close();
    let commit = store.commit(put(b"a", b"1")).unwrap();
    gate.wait_until_held(1);
    // The root waits for no disk.
    let root = block_on(commit.root()).unwrap();
    assert_eq!(commit.root().wait().unwrap(), root);
    assert_eq!(commit.root().try_get().unwrap().unwrap(), root);
    assert!(commit.durable().try_get().is_none() && commit.sealed().try_get().is_none());
    assert_eq!((store.latest_version(), store.latest_durable()), (Some(0), None));
    let waiting = commit.clone();
    let thread = std::thread::spawn(move || waiting.durable().wait());
    let future = commit.durable();
    let task = std::thread::spawn(move || block_on(future));
    gate.open();
    thread.join().unwrap().unwrap();
    task.join().unwrap().unwrap();
    assert_eq!((store.latest_durable(), store.latest_sealed()), (Some(0), None));
    assert!(commit.sealed().try_get().is_none(), "one key is no run");
    store.commit(put(b"b", b"2")).unwrap();
    block_on(commit.sealed()).unwrap();
    assert_eq!(store.latest_sealed(), Some(1));
}

#[test]
fn a_root_that_is_not_on_the_schedule_is_computed_when_asked_for() {
    let store = flat(SimVfs::new(0)).roots(RootSchedule::OnDemand).open(DIR).unwrap();
    let commits: Vec<_> = (0..5u8).map(|n| store.commit(put(b"key", &[n])).unwrap()).collect();
    assert!(store.versions().iter().all(|info| info.root.is_none()));
    let root = commits[2].root().wait().unwrap();
    assert_eq!(store.at(2).unwrap().root().unwrap(), root);
    assert_eq!(
        store.versions().iter().map(|info| info.root).collect::<Vec<_>>(),
        [None, None, Some(root), None, None]
    );
    store.flush().unwrap();
    // The run has been sealed: its end has a root, and the others are found in the log.
    assert_eq!(store.versions()[4].root, Some(commits[4].root().wait().unwrap()));
    assert_eq!(store.at(1).unwrap().root().unwrap(), commits[1].root().wait().unwrap());
    assert_eq!(commits[2].root().wait().unwrap(), root);
}

#[test]
fn a_commit_that_would_wait_is_refused_where_that_is_asked_for() {
    let (vfs, gate) = gated(SimVfs::new(0));
    let options =
        flat(vfs).seal_keys(1).max_unsealed_keys(3).max_unrooted(1_000).backpressure(Backpressure::Refuse);
    let store = options.open(DIR).unwrap();
    store.commit(put(b"first", b"")).unwrap();
    store.flush().unwrap();
    gate.close();
    let mut taken = 0;
    let refusal = loop {
        match store.commit(put(&[taken], b"x")) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100);
    };
    assert!(matches!(refusal, Error::Busy { unsealed: 4, limit: 3 }), "{refusal}");
    assert_eq!(store.latest_version(), Some(u64::from(taken)));
    gate.open();
    store.flush().unwrap();
    store.commit(put(b"again", b"x")).unwrap();
}

#[test]
fn commits_that_outrun_their_roots_are_refused_or_wait() {
    let large = || {
        let mut batch = Batch::new();
        for key in 0..20_000u32 {
            batch.put(&key.to_be_bytes(), b"x");
        }
        batch
    };
    let options = flat(SimVfs::new(0)).max_unrooted(1);
    let store = options.clone().backpressure(Backpressure::Refuse).open(DIR).unwrap();
    let mut refused = 0;
    for _ in 0..20 {
        let commit = store.commit(large());
        match store.commit(put(b"next", b"x")) {
            Err(Error::Unrooted { waiting: 1, limit: 1 }) => refused += 1,
            Err(error) => panic!("{error}"),
            Ok(_) => {}
        }
        commit.unwrap().root().wait().unwrap();
        store.flush().unwrap();
    }
    assert!(refused > 0, "20,000 keys were hashed in no time, twenty times");
    store.close().unwrap();
    let store = options.open("/waits").unwrap();
    let mut last = None;
    for _ in 0..5 {
        let commit = store.commit(large()).unwrap();
        // One may wait: that which was just made.
        let before = last.replace(commit);
        assert!(before.is_none_or(|before| before.root().try_get().is_some()));
    }
}

#[test]
fn what_was_refused_is_taken_once_it_is_tried_again() {
    let options =
        flat(SimVfs::new(0)).max_unsealed_keys(3).max_unrooted(1_000).backpressure(Backpressure::Refuse);
    let store = options.open(DIR).unwrap();
    let begun = std::time::Instant::now();
    for number in 0..50u8 {
        // Nothing else calls for a seal of so few keys within a minute.
        while let Err(error) = store.commit(put(&[number], b"x")) {
            assert!(matches!(error, Error::Busy { .. }), "{error}");
            assert!(begun.elapsed().as_secs() < 20, "refused for ever at {number}");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

#[test]
fn commits_that_meet_at_the_bound_do_not_miss_each_other() {
    let store = flat(SimVfs::new(0)).max_unsealed_keys(0).roots(RootSchedule::OnDemand).open(DIR).unwrap();
    let begun = std::time::Instant::now();
    for round in 0..300u64 {
        let start = Arc::new(std::sync::Barrier::new(2));
        let commit = |who: u8| {
            let (store, start) = (store.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                store.commit(put(&[who], &round.to_be_bytes())).map(|_| ())
            })
        };
        for thread in [commit(1), commit(2)] {
            thread.join().unwrap().unwrap();
        }
        assert!(begun.elapsed().as_secs() < 30, "a commit waited for a seal that nobody asked for ({round})");
        store.flush().unwrap();
    }
}

#[test]
fn a_run_of_large_values_is_sealed_before_it_outgrows_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = flat(DiskVfs).cache_bytes(0).roots(RootSchedule::OnDemand).open(dir.path()).unwrap();
    // One key again and again: all values but the last belong into the run's table.
    let commits: Vec<_> =
        (0..5).map(|number| store.commit(put(b"key", &vec![number; 16 << 20])).unwrap()).collect();
    let begun = std::time::Instant::now();
    // Nothing else calls for a seal of so few keys within a minute.
    commits[0].sealed().wait().unwrap();
    assert!(begun.elapsed().as_secs() < 30);
    assert_eq!(commits[1].snapshot().unwrap().get(b"key").unwrap().unwrap(), vec![1; 16 << 20]);
}

#[test]
fn a_closed_store_says_so_and_its_snapshots_read_on() {
    let sim = SimVfs::new(0);
    let store = flat(sim.clone()).roots(RootSchedule::OnDemand).open(DIR).unwrap();
    let commit = store.commit(put(b"a", b"1")).unwrap();
    let (clone, snapshot) = (store.clone(), store.latest().unwrap());
    store.close().unwrap();
    assert!(commit.durable().wait().is_ok() && commit.sealed().wait().is_ok());
    assert!(matches!(clone.commit(Batch::new()), Err(Error::Closed)));
    assert!(matches!(clone.flush(), Err(Error::Closed)));
    assert_eq!(snapshot.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    snapshot.root().unwrap();
    // The directory is free, and what was closed twice is still closed.
    let again = flat(sim).open(DIR).unwrap();
    clone.close().unwrap();
    assert_eq!(again.latest().unwrap().get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(snapshot.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn what_waits_on_a_poisoned_store_is_told_so() {
    let sim = SimVfs::new(0);
    let store = flat(sim.clone()).roots(RootSchedule::OnDemand).open(DIR).unwrap();
    store.commit(put(b"a", b"1")).unwrap().durable().wait().unwrap();
    sim.fail(FaultRule::matching(Selector::kind(OpKind::Sync), Fault::Eio));
    let commit = store.commit(put(b"a", b"2")).unwrap();
    assert!(matches!(commit.durable().wait(), Err(Error::Poisoned(_))));
    assert!(matches!(block_on(commit.root()), Err(Error::Poisoned(_))));
    assert!(matches!(store.commit(Batch::new()), Err(Error::Poisoned(_))));
    assert!(matches!(store.flush(), Err(Error::Poisoned(_))));
    assert_eq!((store.latest_version(), store.latest_durable()), (Some(1), Some(0)));
    assert_eq!(commit.snapshot().unwrap().get(b"a").unwrap().as_deref(), Some(&b"2"[..]));
    let asked = std::time::Instant::now();
    assert!(matches!(block_on(commit.sealed()), Err(Error::Poisoned(_))));
    assert!(asked.elapsed().as_secs() < 20, "the wait for the seal went on after the failure");
    assert!(store.close().is_err());
}

#[test]
fn versions_that_are_not_kept_are_refused() {
    let store = flat(SimVfs::new(0)).first_version(10).open(DIR).unwrap();
    assert!(matches!(store.at(10), Err(Error::NoVersion)));
    assert!(matches!(store.latest(), Err(Error::NoVersion)));
    for _ in 0..3 {
        store.commit(Batch::new()).unwrap();
    }
    for flushed in [false, true] {
        for version in [0, 9, 13, u64::MAX] {
            let error = store.at(version).unwrap_err();
            assert!(matches!(error, Error::VersionNotKept { first: 10, last: 12, .. }), "{flushed} {error}");
        }
        store.flush().unwrap();
    }
    assert_eq!(store.versions_in(11..).iter().map(|info| info.version).collect::<Vec<_>>(), [11, 12]);
}

#[test]
fn an_empty_store_is_empty_and_stays_so_when_reopened() {
    let sim = SimVfs::new(0);
    for _ in 0..3 {
        let store = flat(sim.clone()).first_version(7).open(DIR).unwrap();
        assert_eq!(
            (store.latest_version(), store.latest_durable(), store.latest_sealed()),
            (None, None, None)
        );
        assert!(store.versions().is_empty());
        assert_eq!(store.stats().unwrap().versions, None);
        store.flush().unwrap();
        store.check(|_| ()).unwrap();
        store.close().unwrap();
    }
    // The first version is the directory's, not that of who opens it later.
    let store = flat(sim).first_version(0).open(DIR).unwrap();
    assert_eq!(store.commit(Batch::new()).unwrap().version(), 7);
}

#[test]
fn an_empty_batch_makes_a_version_like_the_one_before() {
    for shape in [Namespace::flat(SchemeKind::Ethereum), Namespace::accounts(SchemeKind::Blake3)] {
        let options = Options::new().namespace(shape).seal_keys(1).vfs(Arc::new(SimVfs::new(0)));
        let store = options.open(DIR).unwrap();
        let first = store.commit(Batch::new()).unwrap();
        let second = store.commit(Batch::new()).unwrap();
        assert_eq!((first.version(), second.version(), second.changed()), (0, 1, 0));
        assert!(first.stamp() < second.stamp());
        assert_eq!(first.root().wait().unwrap(), second.root().wait().unwrap());
        store.flush().unwrap();
        assert_eq!(store.at(0).unwrap().root().unwrap(), store.at(1).unwrap().root().unwrap());
        store.close().unwrap();
    }
}

#[test]
fn a_directory_has_one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let sim = SimVfs::new(0);
    let vfs: [(Arc<dyn Vfs>, std::path::PathBuf); 2] =
        [(Arc::new(DiskVfs), dir.path().join("store")), (Arc::new(sim), DIR.into())];
    for (vfs, dir) in vfs {
        let options = Options::new().vfs(vfs);
        let store = options.open(&dir).unwrap();
        let error = options.open(&dir).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        store.commit(Batch::new()).unwrap();
        // A snapshot keeps the store open; closing frees the directory all the same.
        let snapshot = store.latest().unwrap();
        drop(store.clone());
        assert!(options.open(&dir).is_err());
        store.close().unwrap();
        assert_eq!(options.open(&dir).unwrap().latest_version(), Some(0));
        assert_eq!(snapshot.account(b"nobody").unwrap(), None);
    }
}

#[test]
fn another_configuration_is_refused_and_changes_nothing() {
    let sim = SimVfs::new(0);
    let store = flat(sim.clone()).open(DIR).unwrap();
    store.commit(put(b"a", b"1")).unwrap();
    store.close().unwrap();
    let ours = Namespace::flat(SchemeKind::Blake3);
    let others = [
        vec![Namespace::flat(SchemeKind::Ethereum)],
        vec![Namespace::accounts(SchemeKind::Blake3)],
        vec![ours.clone().raw()],
        vec![ours.clone().named("other")],
        vec![ours.clone(), ours.clone().named("second")],
    ];
    let before = sim.read_file("/store/store").or_else(|_| sim.read_file(sim.files()[0].clone())).unwrap();
    for namespaces in others {
        let mut options = Options::new().vfs(Arc::new(sim.clone()));
        for namespace in &namespaces {
            options = options.namespace(namespace.clone());
        }
        let error = options.open(DIR).unwrap_err();
        assert!(matches!(error, Error::ConfigMismatch { .. }), "{error}");
    }
    assert_eq!(
        sim.read_file("/store/store").or_else(|_| sim.read_file(sim.files()[0].clone())).unwrap(),
        before
    );
    // Naming none takes what is there.
    let store = Options::new().vfs(Arc::new(sim)).open(DIR).unwrap();
    assert_eq!(store.namespaces(), [ours]);
    assert_eq!(store.latest().unwrap().get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let options = || flat(SimVfs::new(0));
    let again = Namespace::flat(SchemeKind::Blake3);
    for bad in [
        options().roots(RootSchedule::Every(0)),
        options().seal_keys(0),
        options().threads(0),
        options().segment_bytes(100),
        options().log_bytes(100),
        options().segment_bytes(u64::MAX),
        options().log_bytes(u64::MAX),
        options().first_version(u64::MAX),
        options().namespace(again.clone().named("\0code")),
        options().namespace(again.clone()),
        options().namespace(again.clone().named("")),
        options().namespace(again.named("x".repeat(65))),
    ] {
        assert!(matches!(bad.open(DIR), Err(Error::BadOption { .. })), "{bad:?}");
    }
}

#[test]
fn what_is_no_store_and_a_newer_format_are_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new();
    std::fs::write(dir.path().join("precious"), b"a letter").unwrap();
    assert!(options.open(dir.path()).is_err(), "a directory with other things in it");
    assert!(options.clone().create(false).open(dir.path().join("missing")).is_err());
    assert!(!dir.path().join("missing").exists());
    assert!(options.open(dir.path().join("precious")).is_err(), "a file");
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["precious"]);

    let made = dir.path().join("store");
    options.open(&made).unwrap().close().unwrap();
    // The identity file: magic, then the format version.
    let identity = std::fs::read_dir(&made)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_file() && std::fs::read(path).unwrap().starts_with(b"BRCLONE\0"))
        .unwrap();
    let mut bytes = std::fs::read(&identity).unwrap();
    bytes[8] = 99;
    std::fs::write(&identity, &bytes).unwrap();
    let error = options.open(&made).unwrap_err();
    assert!(error.to_string().contains("99"), "{error}");
    assert_eq!(std::fs::read(&identity).unwrap(), bytes);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing_behind() {
    let named = Namespace::accounts(SchemeKind::Ethereum).named("accounts");
    let raw = Namespace::flat(SchemeKind::Ethereum).raw().named("raw");
    let store = flat(SimVfs::new(0)).namespace(named).namespace(raw).open(DIR).unwrap();
    store.commit(put(b"a", b"1")).unwrap();
    let mut batch = Batch::new();
    batch.namespace("nowhere").put(b"", b"");
    assert!(matches!(store.commit(batch), Err(Error::NoNamespace { .. })));
    let mut batch = Batch::new();
    batch.set_account(b"somebody", &someone());
    assert!(matches!(store.commit(batch), Err(Error::WrongShape { .. })));
    let mut batch = put(b"b", b"2");
    batch.namespace("accounts").put(b"a", b"");
    assert!(matches!(store.commit(batch), Err(Error::WrongShape { .. })));
    for (key, value, fits) in
        [(512, 1, true), (513, 1, false), (1, 16 << 20, true), (1, (16 << 20) + 1, false)]
    {
        let mut batch = put(b"b", b"2");
        batch.namespace("raw").put(&vec![7; key], &vec![7; value]);
        let kept = store.latest_version();
        match store.commit(batch) {
            Ok(commit) if fits => {
                assert_eq!(commit.root().wait().unwrap(), store.latest().unwrap().root().unwrap())
            }
            Err(Error::TooLong { .. }) if !fits => assert_eq!(store.latest_version(), kept),
            other => panic!("{key} {value}: {other:?}"),
        }
    }
    let mut batch = Batch::new();
    batch.namespace("raw").put(b"key", b"");
    assert!(matches!(store.commit(batch), Err(Error::EmptyValue { .. })));

    let snapshot = store.latest().unwrap();
    assert!(matches!(snapshot.namespace("nowhere"), Err(Error::NoNamespace { .. })));
    assert!(matches!(snapshot.account(b"a"), Err(Error::WrongShape { .. })));
    assert!(matches!(snapshot.iter_accounts().map(|_| ()), Err(Error::WrongShape { .. })));
    let view = snapshot.namespace("accounts").unwrap();
    assert!(matches!(view.get(b"a"), Err(Error::WrongShape { .. })));
    assert!(matches!(view.prove(b"a"), Err(Error::WrongShape { .. })));
    assert!(matches!(view.iter(KeyRange::all()).map(|_| ()), Err(Error::WrongShape { .. })));
    assert!(matches!(view.changed_since(Key::Flat(b"a"), &snapshot), Err(Error::WrongShape { .. })));
    assert!(matches!(snapshot.namespace("raw").unwrap().get(&[0; 513]), Err(Error::TooLong { .. })));
    store.flush().unwrap();
    assert_eq!(store.latest().unwrap().namespace("raw").unwrap().get(&[7; 512]).unwrap(), Some(vec![7]));
    assert_eq!(store.latest().unwrap().namespace("raw").unwrap().get(&[7]).unwrap(), Some(vec![7; 16 << 20]));
    store.check(|_| ()).unwrap();
}

#[test]
fn a_slot_without_its_account_leaves_nothing_behind() {
    let store = accounts(SimVfs::new(0)).open(DIR).unwrap();
    let mut genesis = Batch::new();
    for number in 0..200u64 {
        genesis.set_account(&number.to_be_bytes(), &someone());
    }
    let first = store.commit(genesis).unwrap();
    let root = first.root().wait().unwrap();
    let before = store.stats().unwrap();
    let slot = B256::repeat_byte(1);
    for round in 0..20u64 {
        let mut bad = Batch::new();
        for number in 0..200u64 {
            bad.set_slot(&number.to_be_bytes(), slot, U256::from(round + 1));
        }
        match round % 2 {
            0 => bad.set_slot(b"nobody", slot, U256::from(1)),
            _ => bad.delete_account(&7u64.to_be_bytes()),
        };
        assert!(matches!(store.commit(bad), Err(Error::SlotWithoutAccount { .. })));
    }
    let after = store.stats().unwrap();
    assert_eq!(after.memory.pages, before.memory.pages);
    assert_eq!(after.memory.page_bytes, before.memory.page_bytes);
    assert_eq!((after.commits, after.unsealed_keys, after.versions), (1, 200, Some((0, 0))));
    // To set the slot of nobody to zero says nothing.
    let mut fine = Batch::new();
    fine.set_slot(b"nobody", slot, U256::ZERO).wipe_storage(b"nobody").delete_account(b"nobody either");
    let second = store.commit(fine).unwrap();
    assert_eq!((second.version(), second.changed(), second.root().wait().unwrap()), (1, 0, root));
    assert_eq!(store.latest().unwrap().slot(&7u64.to_be_bytes(), slot).unwrap(), U256::ZERO);
}

#[test]
fn the_first_namespace_is_changed_by_name_or_without_and_not_both() {
    let store = flat(SimVfs::new(0)).open(DIR).unwrap();
    let mut batch = put(b"a", b"1");
    batch.namespace("state").put(b"b", b"2");
    assert!(matches!(store.commit(batch), Err(Error::BadOption { .. })));
    let mut batch = Batch::new();
    batch.namespace("state").put(b"b", b"2");
    store.commit(batch).unwrap();
    assert_eq!(store.latest().unwrap().get(b"b").unwrap(), Some(b"2".to_vec()));
    assert_eq!(store.latest().unwrap().get(b"a").unwrap(), None);
}

#[test]
fn commits_from_several_threads_come_one_after_the_other() {
    let store = flat(SimVfs::new(0)).seal_keys(20).open(DIR).unwrap();
    let threads: Vec<_> = (0..4u8)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                let commit = |number: u8| {
                    let commit = store.commit(put(&[thread, number], &[number])).unwrap();
                    let seen = commit.snapshot().unwrap();
                    assert_eq!(seen.get(&[thread, number]).unwrap(), Some(vec![number]));
                    assert_eq!(seen.version(), commit.version());
                    commit.version()
                };
                (0..50).map(commit).collect::<Vec<u64>>()
            })
        })
        .collect();
    let versions: Vec<Vec<u64>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(versions.iter().all(|versions| versions.is_sorted()));
    let mut all: Vec<u64> = versions.concat();
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<u64>>());
    store.flush().unwrap();
    for (thread, versions) in versions.iter().enumerate() {
        for (number, version) in versions.iter().enumerate() {
            let key = [thread as u8, number as u8];
            assert_eq!(store.at(*version).unwrap().get(&key).unwrap(), Some(vec![number as u8]));
            if let Some(before) = version.checked_sub(1) {
                assert_eq!(store.at(before).unwrap().get(&key).unwrap(), None);
            }
        }
    }
}

#[test]
fn a_full_disk_opens_where_log_files_out_of_use_can_make_room() {
    let sim = SimVfs::new(0);
    let options = |sim| flat(sim).log_bytes(64 << 10).segment_bytes(1 << 20);
    let store = options(sim.clone()).open(DIR).unwrap();
    for number in 0..20u8 {
        store.commit(put(&[number], &[number; 16 << 10])).unwrap();
    }
    // One run, several files of the log.
    store.flush().unwrap();
    store.commit(put(b"last", b"x")).unwrap().durable().wait().unwrap();
    // Killed, and then not a byte is left.
    let image = sim.killed_at(sim.op_count());
    let files = |part: &str| image.read_dir(&std::path::Path::new(DIR).join(part)).unwrap();
    let is_free = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "free");
    assert!(files("log").iter().any(is_free));
    let all = ["", "log", "segments"].map(files).concat();
    let len = |path: &std::path::PathBuf| image.open(path, OpenMode::Read).and_then(|file| file.len());
    let used: u64 = all.iter().filter_map(|path| len(path).ok()).map(|len| len.next_multiple_of(4096)).sum();
    image.set_capacity(Some(used));
    let store = options(image.clone()).open(DIR).unwrap();
    assert_eq!(store.latest_version(), Some(20));
    assert_eq!(store.latest().unwrap().get(b"last").unwrap().unwrap(), b"x");
}

/// A store whose committer is held back by what waits to be sealed, behind the gate.
fn held_back(
    sim: &SimVfs,
) -> (Store, Arc<bristlecone_torture::gate::Gate>, std::thread::JoinHandle<bristlecone::Result<()>>) {
    let (vfs, gate) = gated(sim.clone());
    let store = flat(vfs).seal_keys(1).max_unsealed_keys(2).open(DIR).unwrap();
    gate.close();
    let committing = store.clone();
    let committer = std::thread::spawn(move || {
        (0..100u8).try_for_each(|number| committing.commit(put(&[number], b"x")).map(|_| ()))
    });
    gate.wait_until_held(1);
    while store.latest_version() != Some(2) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    (store, gate, committer)
}

#[test]
fn a_commit_that_is_held_back_ends_when_the_store_is_closed() {
    let sim = SimVfs::new(0);
    let (store, gate, committer) = held_back(&sim);
    let closing = std::thread::spawn(move || store.close());
    std::thread::sleep(std::time::Duration::from_millis(50));
    gate.open();
    closing.join().unwrap().unwrap();
    let ended = committer.join().unwrap();
    assert!(matches!(ended, Ok(()) | Err(Error::Closed)), "{ended:?}");
    let store = flat(sim).open(DIR).unwrap();
    assert!(store.latest_version() >= Some(2));
}

#[test]
fn a_commit_that_is_held_back_ends_when_the_store_is_poisoned() {
    let sim = SimVfs::new(0);
    let (store, gate, committer) = held_back(&sim);
    sim.fail(FaultRule::matching(Selector::kind(OpKind::Sync), Fault::NoSpace).forever());
    gate.open();
    assert!(matches!(committer.join().unwrap(), Err(Error::Poisoned(_))));
    assert_eq!(store.latest().unwrap().get(&[0]).unwrap(), Some(b"x".to_vec()));
    store.close().unwrap_err();
}

#[test]
fn raw_account_keys_have_32_bytes() {
    let namespace = Namespace::accounts(SchemeKind::Blake3).raw();
    let store = Options::new().namespace(namespace).vfs(Arc::new(SimVfs::new(0))).open(DIR).unwrap();
    let mut batch = Batch::new();
    batch.set_account(&[1; 20], &someone());
    assert!(matches!(store.commit(batch), Err(Error::RawKey(20))));
    let mut batch = Batch::new();
    batch.set_account(&[1; 32], &someone());
    store.commit(batch).unwrap();
    assert_eq!(store.latest().unwrap().account(&[1; 32]).unwrap(), Some(someone()));
    assert!(matches!(store.latest().unwrap().account(&[1; 31]), Err(Error::RawKey(31))));
}

#[test]
fn a_snapshot_of_another_store_is_no_ancestor() {
    let stores = [0, 1].map(|seed| flat(SimVfs::new(seed)).open(DIR).unwrap());
    let [ours, theirs] = &stores;
    for store in &stores {
        store.commit(put(b"a", b"1")).unwrap();
        store.commit(put(b"b", b"1")).unwrap();
    }
    let (old, new) = (ours.at(0).unwrap(), ours.at(1).unwrap());
    assert_eq!(new.changed_since(Key::Flat(b"a"), &theirs.at(0).unwrap()).unwrap(), Since::NotAnAncestor);
    assert_eq!(old.changed_since(Key::Flat(b"a"), &new).unwrap(), Since::NotAnAncestor);
    assert_eq!(new.changed_since(Key::Flat(b"a"), &old).unwrap(), Since::Unchanged);
    assert_eq!(new.changed_since(Key::Flat(b"b"), &old).unwrap(), Since::Changed);
    assert_eq!(new.changed_since(Key::Flat(b"b"), &new).unwrap(), Since::Unchanged);
}

#[test]
fn code_is_shared_by_namespaces_and_found_from_its_version_on() {
    let store = accounts(SimVfs::new(0)).seal_keys(1).open(DIR).unwrap();
    let code = Bytes::from(vec![0x5b; 3 << 20]);
    let hash = alloy_primitives::keccak256(&code);
    store.commit(Batch::new()).unwrap();
    let mut batch = Batch::new();
    batch.set_account(b"contract", &Account { code_hash: hash, ..someone() }).set_code(hash, code.clone());
    store.commit(batch).unwrap();
    for _ in 0..2 {
        assert_eq!(store.at(0).unwrap().code(hash).unwrap(), None);
        assert_eq!(store.at(1).unwrap().code(hash).unwrap(), Some(code.clone()));
        store.flush().unwrap();
    }
}

/// A closed store on a simulated disk, and what is in it.
fn closed_store() -> (SimVfs, Config, Model) {
    let mut rng = Rng::new(5);
    let namespaces =
        vec![Namespace::accounts(SchemeKind::Ethereum), Namespace::flat(SchemeKind::Blake3).named("f")];
    let config = Config { seal_keys: 10, ..Config::small(namespaces.clone()) };
    let universe = Universe::random(&namespaces, 12, &mut rng);
    let mut model = Model::new(namespaces, 0, universe);
    let sim = SimVfs::new(5);
    let store = config.options(sim.clone()).open(DIR).unwrap();
    for _ in 0..8 {
        let changes = batches::random(&model, 8, false, &mut rng);
        model.commit(&changes);
        store.commit(batches::batch_of(&model.namespaces, &changes)).unwrap();
    }
    store.close().unwrap();
    (sim, config, model)
}

fn catalog_files(sim: &SimVfs) -> Vec<std::path::PathBuf> {
    let is_catalog =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("catalog");
    sim.files().into_iter().filter(is_catalog).collect()
}

fn answers(store: &Store, model: &Model) {
    verify::store(store, model, Depth::ROOTS, &mut Rng::new(1)).unwrap_or_else(|what| panic!("{what}"));
}

#[test]
fn a_catalog_that_is_gone_is_made_anew() {
    let (sim, config, model) = closed_store();
    let files = catalog_files(&sim);
    assert_eq!(files.len(), 2, "{files:?}");
    for gone in [&files[..], &files[..1], &files[1..]] {
        let image = sim.killed_at(usize::MAX);
        for file in gone {
            image.remove(file).unwrap();
        }
        let store = config.options(image.clone()).open(DIR).unwrap();
        answers(&store, &model);
        store.close().unwrap();
        assert_eq!(catalog_files(&image).len(), 2);
        answers(&config.options(image).open(DIR).unwrap(), &model);
    }
}

#[test]
fn a_catalog_with_any_byte_changed_or_cut_off_gives_the_same_answers() {
    let (sim, config, model) = closed_store();
    let mut rng = Rng::new(9);
    for file in catalog_files(&sim) {
        let len = sim.read_file(&file).unwrap().len() as u64;
        // Much of the database is unused; all of it is under the hash.
        let stride = if bristlecone_torture::is_long() { 1 } else { (len / 150).max(1) };
        let mut at = 0;
        while at < len {
            let image = sim.killed_at(usize::MAX);
            image.flip_bit(&file, at, rng.below(8) as u8).unwrap();
            let store =
                config.options(image).open(DIR).unwrap_or_else(|error| panic!("{file:?} {at}: {error}"));
            answers(&store, &model);
            store.close().unwrap();
            at += 1 + rng.below(2 * stride as usize) as u64;
        }
        for cut in [0, 1, 31, len / 2, len - 1] {
            let image = sim.killed_at(usize::MAX);
            image.truncate(&file, cut.min(len)).unwrap();
            answers(&config.options(image).open(DIR).unwrap(), &model);
        }
    }
    // A catalog of another moment: of the store before its last commits.
    let older = sim.killed_at(usize::MAX);
    let store = config.options(sim.clone()).open(DIR).unwrap();
    let mut longer = model.clone();
    let changes = batches::random(&longer, 30, false, &mut rng);
    longer.commit(&changes);
    store.commit(batches::batch_of(&longer.namespaces, &changes)).unwrap();
    store.close().unwrap();
    for file in catalog_files(&older) {
        sim.write_file(&file, &older.read_file(&file).unwrap()).unwrap();
    }
    answers(&config.options(sim).open(DIR).unwrap(), &longer);
}

#[test]
fn a_proof_that_names_other_keys_than_it_proves_does_not_hold() {
    let store = accounts(SimVfs::new(0)).open(DIR).unwrap();
    let mut batch = Batch::new();
    batch.set_account(b"alice", &someone()).set_slot(b"alice", B256::ZERO, U256::from(5));
    let root = store.commit(batch).unwrap().root().wait().unwrap();
    let proof = store.latest().unwrap().prove_account(b"alice", &[B256::ZERO]).unwrap();
    let holds = |proof| bristlecone::verify_account::<bristlecone::Ethereum>(root, b"alice", &proof).is_ok();
    assert!(holds(proof.clone()));
    let mut other = proof.clone();
    other.key = B256::repeat_byte(1);
    assert!(!holds(other));
    let mut other = proof;
    other.slots[0].key = B256::repeat_byte(1);
    assert!(!holds(other));
}

/// Keys, some twice in a row, some absent.
fn probes() -> Vec<[u8; 8]> {
    (0..2_500_u64).step_by(7).flat_map(|key| [key, key, key + 5_000]).map(u64::to_be_bytes).collect()
}

#[test]
fn many_keys_are_read_as_each_of_them_is() {
    for (namespace, cache) in [
        (Namespace::flat(SchemeKind::Blake3).raw(), 0),
        (Namespace::flat(SchemeKind::Blake3).raw(), 1 << 30),
        (Namespace::flat(SchemeKind::Ethereum), 0),
        (Namespace::flat(SchemeKind::Ethereum), 1 << 30),
    ] {
        let vfs = SimVfs::new(0);
        let options = |vfs: SimVfs| {
            Options::new().namespace(namespace.clone()).vfs(Arc::new(vfs)).cache_bytes(cache).seal_keys(2_500)
        };
        let compare = |store: &Store| {
            for version in store.versions() {
                let snapshot = store.at(version.version).unwrap();
                let probes = probes();
                let each: Vec<_> = probes.iter().map(|key| snapshot.get(key).unwrap()).collect();
                assert!(each.iter().any(Option::is_some) && each.iter().any(Option::is_none));
                for count in [0, 1, 15, 16, 17, probes.len()] {
                    assert_eq!(snapshot.get_many(&probes[..count]).unwrap(), each[..count]);
                }
                let keys: Vec<_> = probes.iter().map(|key| Key::Flat(key)).collect();
                snapshot.prefetch(&keys).unwrap();
                snapshot.prefetch(&[]).unwrap();
            }
        };
        let store = options(vfs.clone()).open(DIR).unwrap();
        for round in 0..6_u64 {
            let mut batch = Batch::new();
            for key in 0..500 {
                let key = key * 5 + round % 5;
                batch.put(&key.to_be_bytes(), &(key + round).to_be_bytes());
            }
            store.commit(batch).unwrap();
            compare(&store);
        }
        store.flush().unwrap();
        compare(&store);
        // The latest version in part in memory, in part in the log.
        store.commit(put(&7_u64.to_be_bytes(), b"again")).unwrap();
        compare(&store);
        store.close().unwrap();
        compare(&options(vfs).open(DIR).unwrap());
    }
}

#[test]
fn many_accounts_and_slots_are_read_as_each_of_them_is() {
    for cache in [0, 1 << 30] {
        let store = accounts(SimVfs::new(0)).cache_bytes(cache).seal_keys(2_000).open(DIR).unwrap();
        let slot = |number: u64| B256::from(U256::from(number));
        for round in 0..4_u64 {
            let mut batch = Batch::new();
            for number in 0..300_u64 {
                let address = (number * 3).to_be_bytes();
                batch.set_account(&address, &Account { nonce: number + round, ..Account::default() });
                // One with pages of its own for its slots, others with them beside it.
                for at in 0..if number == 7 { 400 } else { number % 4 } {
                    batch.set_slot(&address, slot(at), U256::from(at + round));
                }
            }
            store.commit(batch).unwrap();
            if round == 2 {
                store.flush().unwrap();
            }
            for version in store.versions() {
                let snapshot = store.at(version.version).unwrap();
                let addresses: Vec<_> = (0..900_u64).step_by(2).map(u64::to_be_bytes).collect();
                let each = addresses.iter().map(|address| snapshot.account(address).unwrap());
                assert_eq!(snapshot.account_many(&addresses).unwrap(), each.collect::<Vec<_>>());
                let own = (0..450).map(|at| (21_u64.to_be_bytes(), slot(at)));
                let slots: Vec<_> = addresses.iter().map(|address| (*address, slot(1))).chain(own).collect();
                let each = slots.iter().map(|(address, slot)| snapshot.slot(address, *slot).unwrap());
                assert_eq!(snapshot.slot_many(&slots).unwrap(), each.collect::<Vec<_>>());
                let keys = slots
                    .iter()
                    .flat_map(|(address, slot)| [Key::Account(address), Key::Slot(address, *slot)]);
                snapshot.prefetch(&keys.collect::<Vec<_>>()).unwrap();
            }
        }
    }
}

#[test]
fn many_keys_of_another_shape_are_refused() {
    let store = flat(SimVfs::new(0)).open(DIR).unwrap();
    let latest = store.commit(put(b"a", b"1")).unwrap().snapshot().unwrap();
    assert!(matches!(latest.account_many(&[b"a"]), Err(Error::WrongShape { .. })));
    assert!(matches!(latest.slot_many(&[(b"a", B256::ZERO)]), Err(Error::WrongShape { .. })));
    assert!(matches!(latest.prefetch(&[Key::Account(b"a")]), Err(Error::WrongShape { .. })));
    let store = accounts(SimVfs::new(0)).open(DIR).unwrap();
    let mut batch = Batch::new();
    batch.set_account(b"a", &someone());
    let latest = store.commit(batch).unwrap().snapshot().unwrap();
    assert!(matches!(latest.get_many(&[b"a"]), Err(Error::WrongShape { .. })));
    assert!(matches!(latest.prefetch(&[Key::Flat(b"a")]), Err(Error::WrongShape { .. })));
}

#[test]
fn what_a_read_touches_is_counted() {
    let namespace = Namespace::flat(SchemeKind::Blake3).raw();
    let vfs = std::sync::Arc::new(bristlecone::vfs::sim::SimVfs::new(1));
    let store = Options::new().namespace(namespace).vfs(vfs).open("/store").unwrap();
    let key = |n: u32| blake3::hash(&n.to_le_bytes()).as_bytes().to_vec();
    for round in 0..4u32 {
        let mut batch = Batch::new();
        // All keys at first, then a few: so there are bases with deltas.
        (0..2_000).filter(|n| round == 0 || n % 400 == 0).for_each(|n| {
            batch.put(&key(n), &round.to_le_bytes());
        });
        store.commit(batch).unwrap();
        store.flush().unwrap();
    }
    let path = |version: u64, n: u32| {
        store.at(version).unwrap().first().read_path(bristlecone::Key::Flat(&key(n))).unwrap()
    };
    // The first version is a root page and the pages below it, each a record of its own.
    let old = path(0, 1);
    assert_eq!((old.memory_pages, old.stored_pages, old.records, old.whole_chains), (0, 2, 2, 2));
    // What never changed is found in the base, behind all deltas of the root page; what did, in the newest delta.
    let (still, changed) = (path(2, 1), path(2, 400));
    assert_eq!((still.stored_pages, changed.stored_pages), (2, 2));
    assert!(still.whole_chains > 2 && changed.records <= changed.whole_chains, "{still:?}, {changed:?}");
    // The latest version is in memory.
    let latest = path(3, 1);
    assert_eq!((latest.memory_pages, latest.records), (2, 0));
    store.close().unwrap();
}

#[test]
fn every_byte_of_the_segments_is_for_something() {
    let sim = SimVfs::new(0);
    let store = flat(sim.clone()).open(DIR).unwrap();
    let sum = |store: &Store| {
        let mut sum = Space::default();
        let segments = store.space(|done, of| assert!(done <= of)).unwrap();
        segments.iter().for_each(|segment| sum += segment.space);
        sum
    };
    let mut load = Batch::new();
    for key in 0..1_000u32 {
        load.put(&key.to_be_bytes(), &[7; 32]);
    }
    store.commit(load).unwrap();
    store.flush().unwrap();
    let loaded = sum(&store);
    assert_eq!(loaded.values, 32_000, "each value once: {loaded:?}");
    assert!(loaded.base_records > 1 && loaded.children > 32 * (loaded.base_records - 1), "{loaded:?}");
    assert_eq!((loaded.delta_records, loaded.large_values, loaded.tables), (0, 0, 0), "{loaded:?}");

    let large = vec![1; 3_000];
    let mut changes = Batch::new();
    for key in 0..10u32 {
        changes.put(&key.to_be_bytes(), &[8; 32]);
    }
    changes.put(b"large", &large).delete(&500u32.to_be_bytes());
    store.commit(changes).unwrap();
    // This hides what the commit before did to the key.
    store.commit(put(&3u32.to_be_bytes(), &[9; 32])).unwrap();
    store.flush().unwrap();
    let changed = sum(&store);
    assert_eq!(changed.large_value_records, 1, "{changed:?}");
    assert_eq!(changed.large_values, large.len() as u64 + 1, "the value and its kind: {changed:?}");
    assert!(changed.delta_records > 0 && changed.deltas > 0, "{changed:?}");
    assert!(changed.values >= loaded.values + 10 * 32, "{changed:?}");
    assert!(changed.tables > 32 && changed.seals > loaded.seals, "{changed:?}");

    let files = sim.read_dir(Path::new("/store/segments")).unwrap();
    let size = |path: &PathBuf| sim.open(path, OpenMode::Read).unwrap().len().unwrap();
    let files: u64 = files.iter().map(size).sum();
    assert_eq!(changed.used(), store.stats().unwrap().segment_bytes);
    assert_eq!(changed.used() + changed.slack, files);
}
