//! Readers wait for nobody and see what they saw before.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bristlecone::vfs::DiskVfs;
use bristlecone::vfs::sim::SimVfs;
use bristlecone::{Account, B256, Batch, Namespace, Options, SchemeKind, Store, U256};
use bristlecone_torture::gate::gated;
use bristlecone_torture::{Config, Rng, is_long};

const KEYS: u64 = 500;

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The value of a key at a version: it changes in one version of eight.
fn value(number: u64, version: u64) -> Vec<u8> {
    let changed = (0..=version).rev().find(|at| *at == 0 || is_changed(number, *at)).unwrap();
    [key(number), key(changed)].concat()
}

fn is_changed(number: u64, version: u64) -> bool {
    Rng::new(number << 32 | version).below(8) == 0
}

fn batch(version: u64) -> Batch {
    let mut batch = Batch::new();
    for number in (0..KEYS).filter(|number| version == 0 || is_changed(*number, version)) {
        batch.put(&key(number), &value(number, version));
    }
    batch
}

/// Reads `reads` keys at random of the latest version and of others.
fn read(store: &Store, reads: u64, rng: &mut Rng) {
    for _ in 0..reads {
        let latest = store.latest().unwrap();
        let version = rng.below(latest.version() as usize + 1) as u64;
        let number = rng.below(KEYS as usize) as u64;
        assert_eq!(latest.get(&key(number)).unwrap(), Some(value(number, latest.version())));
        let old = store.at(version).unwrap();
        assert_eq!(old.get(&key(number)).unwrap(), Some(value(number, version)), "version {version}");
    }
}

/// Does `work` on another thread; fails if it does not end soon, as it would not behind a lock.
fn unhindered(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel();
    let thread = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    let ended = wait.recv_timeout(Duration::from_secs(120));
    if thread.is_finished() || ended.is_ok() {
        thread.join().unwrap();
    }
    ended.expect("readers are held up");
}

fn flat(config: &Options) -> Options {
    config.clone().namespace(Namespace::flat(SchemeKind::Blake3))
}

#[test]
fn readers_go_on_while_the_log_and_the_seal_are_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (vfs, gate) = gated(DiskVfs);
    let options = flat(&Options::new().vfs(Arc::new(vfs)).seal_keys(100).cache_bytes(0));
    let store = options.open(dir.path()).unwrap();
    for version in 0..20 {
        store.commit(batch(version)).unwrap();
    }
    store.flush().unwrap();
    gate.close();
    // Visible at once, while its log record and its run wait behind the gate.
    let commits: Vec<_> = (20..30).map(|version| store.commit(batch(version)).unwrap()).collect();
    gate.wait_until_held(1);
    assert!(commits.iter().all(|commit| commit.durable().try_get().is_none()));
    let held = store.at(25).unwrap();
    let readers = store.clone();
    unhindered(move || {
        let threads: Vec<_> = (0..3)
            .map(|seed| {
                let store = readers.clone();
                std::thread::spawn(move || read(&store, 4_000, &mut Rng::new(seed)))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(held.iter(bristlecone::KeyRange::all()).unwrap().count() as u64, KEYS);
    });
    assert_eq!(store.latest_version(), Some(29));
    assert_eq!(store.latest_durable(), Some(19));
    assert!(commits.iter().all(|commit| commit.durable().try_get().is_none()));
    gate.open();
    store.flush().unwrap();
    assert_eq!(store.latest_durable(), Some(29));
}

#[test]
fn readers_go_on_while_a_commit_is_held_back() {
    let (vfs, gate) = gated(SimVfs::new(0));
    let options = Options::new().vfs(Arc::new(vfs)).seal_keys(50).max_unsealed_keys(600);
    let store = flat(&options).open("/store").unwrap();
    store.commit(batch(0)).unwrap();
    store.flush().unwrap();
    gate.close();
    let (committing, stopped) = (store.clone(), Arc::new(AtomicU64::new(0)));
    let committed = stopped.clone();
    let committer = std::thread::spawn(move || {
        for version in 1..=40 {
            committing.commit(batch(version)).unwrap();
            committed.store(version, Ordering::SeqCst);
        }
    });
    // It stands still once too much waits to be sealed.
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(500) || last == 0 {
        let now = stopped.load(Ordering::SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(last < 40, "nothing held the committer back");
    let readers = store.clone();
    unhindered(move || read(&readers, 5_000, &mut Rng::new(1)));
    assert_eq!(stopped.load(Ordering::SeqCst), last);
    gate.open();
    committer.join().unwrap();
    store.flush().unwrap();
    read(&store, 500, &mut Rng::new(2));
}

#[test]
fn snapshots_never_change_while_commits_seals_reclamation_and_eviction_go_on() {
    let seconds = if is_long() { 600 } else { 5 };
    let config = Config {
        seal_keys: 60,
        cache_bytes: 1 << 14,
        threads: 2,
        segment_bytes: 1 << 20,
        log_bytes: 1 << 16,
        ..Config::small(vec![Namespace::flat(SchemeKind::Ethereum)])
    };
    let dir = tempfile::tempdir().unwrap();
    let store = config.options(DiskVfs).open(dir.path()).unwrap();
    store.commit(batch(0)).unwrap();
    let first = store.latest().unwrap();
    let end = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let (committing, ended) = (store.clone(), end.clone());
    threads.push(std::thread::spawn(move || {
        let mut version = 1;
        while !ended.load(Ordering::Relaxed) {
            let commit = committing.commit(batch(version)).unwrap();
            assert_eq!(commit.version(), version);
            version += 1;
            // Values are looked up by walking versions back: not too many of them.
            if version.is_multiple_of(10) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        version
    }));
    for seed in 0..3 {
        let (store, ended) = (store.clone(), end.clone());
        threads.push(std::thread::spawn(move || {
            let mut rng = Rng::new(seed);
            let (mut held, mut newest, mut reads) = (Vec::new(), 0, 0);
            while !ended.load(Ordering::Relaxed) {
                let latest = store.latest().unwrap();
                assert!(latest.version() >= newest, "versions only grow");
                newest = latest.version();
                if held.len() < 20 {
                    held.push(latest);
                } else {
                    let at = rng.below(held.len());
                    held[at] = latest;
                }
                if rng.chance(20) {
                    let version = rng.below(newest as usize + 1) as u64;
                    held.pop();
                    held.push(store.at(version).unwrap());
                }
                for _ in 0..20 {
                    let snapshot = rng.pick(&held);
                    let number = rng.below(KEYS as usize) as u64;
                    let found = snapshot.get(&key(number)).unwrap();
                    assert_eq!(found, Some(value(number, snapshot.version())), "{snapshot:?}");
                    reads += 1;
                }
            }
            reads
        }));
    }
    std::thread::sleep(Duration::from_secs(seconds));
    end.store(true, Ordering::Relaxed);
    let counts: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let stats = store.stats().unwrap();
    eprintln!("{counts:?} versions and reads, {} seals, {} pages evicted", stats.seals, stats.evicted_pages);
    assert!(stats.seals > 10 && stats.evicted_pages > 10, "{stats:?}");
    // The one that was held all the time.
    for number in 0..KEYS {
        assert_eq!(first.get(&key(number)).unwrap(), Some(value(number, 0)));
    }
    first.root().unwrap();
    drop(first);
    store.flush().unwrap();
    store.check(|_| ()).unwrap();
}

#[test]
fn a_snapshot_of_accounts_keeps_wiped_storage_readable() {
    let config = Config::small(vec![Namespace::accounts(SchemeKind::Ethereum)]);
    let store = config.options(SimVfs::new(0)).open("/store").unwrap();
    let (address, slot) = (b"somebody", |number: u64| B256::from(U256::from(number)));
    let mut batch = Batch::new();
    batch.set_account(address, &Account::default());
    for number in 0..300 {
        batch.set_slot(address, slot(number), U256::from(number + 1));
    }
    store.commit(batch).unwrap();
    let held = store.latest().unwrap();
    let unsealed_root = held.root().unwrap();
    let mut wipe = Batch::new();
    wipe.wipe_storage(address);
    store.commit(wipe).unwrap();
    for _ in 0..5 {
        let mut delete = Batch::new();
        delete.delete_account(address);
        store.commit(delete).unwrap();
        store.flush().unwrap();
    }
    for number in 0..300 {
        assert_eq!(held.slot(address, slot(number)).unwrap(), U256::from(number + 1));
        assert_eq!(store.latest().unwrap().slot(address, slot(number)).unwrap(), U256::ZERO);
    }
    assert_eq!(held.iter_slots(address).unwrap().count(), 300);
    assert_eq!(held.root().unwrap(), unsealed_root);
    let proof = held.prove_account(address, &[slot(7)]).unwrap();
    bristlecone::verify_account::<bristlecone::Ethereum>(unsealed_root, address, &proof).unwrap().unwrap();
    let pages = store.stats().unwrap().memory;
    drop(held);
    store.commit(Batch::new()).unwrap();
    store.flush().unwrap();
    let after = store.stats().unwrap().memory;
    assert!(after.pages <= pages.pages, "{pages:?}, then {after:?}");
    assert_eq!(after.superseded_pages, 0, "{after:?}");
}
