//! Opening a store with a history that was closed cleanly, with the page cache warm.

use std::time::{Duration, Instant};

use bristlecone::SchemeKind;
use criterion::Criterion;

use crate::fixture::{Fixture, options};

pub(crate) fn all(criterion: &mut Criterion) {
    let Fixture { dir, store, .. } = Fixture::with_history(SchemeKind::Ethereum);
    store.close().expect("it closes");
    criterion.bench_function("open, after a clean close", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let begun = Instant::now();
                let store = options(SchemeKind::Ethereum).open(dir.path()).expect("it opens");
                spent += begun.elapsed();
                store.close().expect("it closes");
            }
            spent
        });
    });
}
