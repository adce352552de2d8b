//! Large batches are shared out to threads: what comes of them is what one thread makes.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at what it did not expect"
)]

use std::sync::Arc;

use bristlecone::vfs::sim::SimVfs;
use bristlecone::{Account, B256, Batch, Namespace, Options, SchemeKind, Store, U256};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 4_000;
const COMMITS: usize = 12;

fn store(vfs: &Arc<SimVfs>, namespace: &Namespace, threads: usize) -> Store {
    Options::new()
        .namespace(namespace.clone())
        .threads(threads)
        .seal_keys(9_000)
        .segment_bytes(1 << 20)
        .log_bytes(1 << 20)
        .vfs(vfs.clone())
        .open("/store")
        .unwrap()
}

/// The roots after each commit, and after reopening and one more.
fn roots(
    namespace: &Namespace,
    threads: usize,
    batch: impl Fn(&mut ChaCha8Rng, usize) -> Batch,
) -> Vec<B256> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let vfs = Arc::new(SimVfs::new(0));
    let first = store(&vfs, namespace, threads);
    let mut roots = Vec::new();
    for number in 0..COMMITS {
        let commit = first.commit(batch(&mut random, number)).unwrap();
        roots.push(commit.root().wait().unwrap());
    }
    // The same from the log, without what hashing kept in memory.
    first.flush().unwrap();
    first.check(|_| {}).unwrap();
    first.close().unwrap();
    // Now the pages are stored, the root page too, and are loaded by the threads that share them.
    let again = store(&vfs, namespace, threads);
    roots.push(again.commit(batch(&mut random, COMMITS)).unwrap().root().wait().unwrap());
    again.flush().unwrap();
    again.check(|_| {}).unwrap();
    roots
}

/// Keys come, change, go in thousands and come again.
fn flat(random: &mut ChaCha8Rng, number: usize) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..BATCH {
        let key = B256::from(
            U256::from(random.random_range(0..20_000u64)).wrapping_mul(U256::MAX / U256::from(77_777)),
        );
        if number % 4 == 3 || random.random_ratio(1, 10) {
            batch.delete(key.as_slice());
        } else {
            let len = random.random_range(1..60);
            batch.put(key.as_slice(), &vec![number as u8 + 1; len]);
        }
    }
    batch
}

fn accounts(random: &mut ChaCha8Rng, number: usize) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..BATCH / 4 {
        let account = random.random_range(0..3_000u64);
        let address = B256::from(U256::from(account));
        let address = &address[12..];
        // Some accounts go in this batch, and nothing else is said of them in it.
        if account % 12 == number as u64 % 12 {
            batch.delete_account(address);
            continue;
        }
        batch.set_account(address, &Account { nonce: number as u64, ..Account::default() });
        for _ in 0..random.random_range(0..6) {
            let slot = B256::from(U256::from(random.random_range(0..40u64)));
            batch.set_slot(address, slot, U256::from(random.random_range(0..3u64)));
        }
    }
    batch
}

#[test]
fn any_number_of_threads_makes_the_same_flat_tries() {
    for scheme in [SchemeKind::Ethereum, SchemeKind::Blake3] {
        let namespace = Namespace::flat(scheme).raw();
        let one = roots(&namespace, 1, flat);
        for threads in [2, 3, 8] {
            assert_eq!(roots(&namespace, threads, flat), one, "{threads} threads");
        }
    }
}

#[test]
fn any_number_of_threads_makes_the_same_tries_of_accounts() {
    let namespace = Namespace::accounts(SchemeKind::Ethereum);
    let one = roots(&namespace, 1, accounts);
    for threads in [2, 5] {
        assert_eq!(roots(&namespace, threads, accounts), one, "{threads} threads");
    }
}

#[test]
fn a_refused_batch_leaves_nothing_behind_on_any_number_of_threads() {
    let store = store(&Arc::new(SimVfs::new(0)), &Namespace::accounts(SchemeKind::Ethereum), 4);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let before = store.commit(accounts(&mut random, 1)).unwrap().root().wait().unwrap();
    let pages = store.stats().unwrap().memory.pages;
    let mut batch = accounts(&mut random, 2);
    batch.set_slot(&[0xfe; 20], B256::ZERO, U256::from(1));
    assert!(store.commit(batch).is_err());
    assert_eq!(store.latest().unwrap().root().unwrap(), before);
    assert_eq!(store.stats().unwrap().memory.pages, pages);
    assert_eq!(store.commit(Batch::new()).unwrap().root().wait().unwrap(), before);
}
