//! Several threads give what one gives: accounts, storage, codes, receipts, requests.

use bristlecone::Store;
use bristlecone_evm::{
    CodeCache, Executor, StateDb,
    executor::{Executed, ExecutionStats},
};

use crate::{
    chain::store,
    real::{RealBlock, grevm, pevm},
};

/// How many threads are tried: past the number of cores, the more often they are interrupted in the middle of something.
const WORKERS: std::ops::RangeInclusive<usize> = 1..=8;

pub(crate) fn assert_same(name: &str, one: &Executed, many: &Executed) {
    assert_eq!(one.receipts, many.receipts, "{name}");
    assert_eq!((one.gas_used, &one.requests), (many.gas_used, &many.requests), "{name}");
    assert_eq!(one.changes.accounts.len(), many.changes.accounts.len(), "{name}");
    for (address, change) in &one.changes.accounts {
        assert_eq!(Some(change), many.changes.accounts.get(address), "{name}, {address}");
    }
    assert_eq!(one.changes.codes, many.changes.codes, "{name}");
}

fn compare(real: &RealBlock, store: &Store, workers: impl IntoIterator<Item = usize>) -> ExecutionStats {
    let db: StateDb = real.db(store.latest().unwrap(), &CodeCache::default());
    let one = real.execute(&Executor::new(real.rules.clone()), &db);
    let mut stats = ExecutionStats::default();
    for workers in workers {
        let executor = Executor::parallel(real.rules.clone(), workers).unwrap();
        let many = real.execute(&executor, &db);
        assert_same(&format!("{}, {workers} workers", real.name), &one, &many);
        assert_eq!(many.stats.transactions, one.stats.transactions);
        stats += many.stats;
    }
    stats
}

#[test]
fn real_blocks_are_the_same_with_every_number_of_workers() {
    let Some(blocks) = pevm() else { return };
    let mut sum = ExecutionStats::default();
    for real in blocks.iter().chain(&grevm()) {
        let (store, _dir) = store();
        store.commit(real.before.batch()).unwrap();
        let stats = compare(real, &store, WORKERS);
        eprintln!(
            "{}: {} transactions, {} runs again, {} of them waited",
            real.name,
            stats.transactions / 8,
            stats.again(),
            stats.waits
        );
        sum += stats;
    }
    eprintln!("in all, with 1 to 8 workers: {sum:?}, {} again", sum.again());
    assert_eq!(sum.transactions, 8 * (11_605 + 170));
}
