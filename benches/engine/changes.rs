//! Diffs of versions near and far, and the histories of keys: what a changed key costs, what a hop costs.

use std::hint::black_box;

use bristlecone::{Key, SchemeKind};
use criterion::{Criterion, Throughput};

use crate::fixture::Fixture;

/// Keys whose histories are walked in one go.
const WALKED: usize = 1_000;

pub(crate) fn all(criterion: &mut Criterion) {
    let mut fixture = Fixture::with_history(SchemeKind::Ethereum).reopened();
    let store = fixture.store.clone();
    let last = store.latest_version().expect("versions");
    let mut group = criterion.benchmark_group("diff");
    for (name, before, after) in [
        ("10 versions, ends of runs", last - 10, last),
        ("100 versions, ends of runs", last - 100, last),
        ("100 versions, backwards", last, last - 100),
        ("nothing", last, last),
    ] {
        let diff = || store.diff(before, after).expect("kept versions").inspect(|one| assert!(one.is_ok()));
        group.throughput(Throughput::Elements(diff().count().max(1) as u64));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(diff().count())));
    }
    group.finish();

    let keys: Vec<_> = (0..WALKED).map(|_| fixture.key()).collect();
    let walk = || -> usize {
        let changes = |key| store.history(Key::Flat(key)).expect("a history");
        keys.iter().flat_map(|key| changes(key)).inspect(|one| assert!(one.is_ok())).count()
    };
    let mut group = criterion.benchmark_group("history");
    group.throughput(Throughput::Elements(walk() as u64));
    group.bench_function("1,000 keys, whole", |bencher| bencher.iter(|| black_box(walk())));
    group.finish();
}
