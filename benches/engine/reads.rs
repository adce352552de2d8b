//! Point reads: of the latest version, of old ones, of a store just opened.

use std::hint::black_box;

use bristlecone::{SchemeKind, Snapshot};
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};

use crate::fixture::{Fixture, Key};

/// Keys of one `get_many`.
const MANY: u64 = 1_000;

pub(crate) fn latest(criterion: &mut Criterion) {
    let mut fixture = Fixture::with_history(SchemeKind::Ethereum);
    let latest = fixture.store.latest().expect("versions");
    let mut group = criterion.benchmark_group("get");
    get(&mut group, "latest", &latest, &mut fixture, Fixture::key);
    get(&mut group, "latest, absent key", &latest, &mut fixture, Fixture::absent);
    group.bench_function("snapshot of the latest and get", |bencher| {
        let store = fixture.store.clone();
        let get = |key: Key| black_box(store.latest().and_then(|latest| latest.get(&key)).expect("a read"));
        bencher.iter_batched(|| fixture.key(), get, BatchSize::SmallInput);
    });
    group.throughput(Throughput::Elements(MANY));
    group.bench_function("get_many of 1,000, latest", |bencher| {
        let keys = |fixture: &mut Fixture| (0..MANY).map(|_| fixture.key()).collect::<Vec<_>>();
        let get = |keys: Vec<Key>| black_box(latest.get_many(&keys).expect("a read"));
        bencher.iter_batched(|| keys(&mut fixture), get, BatchSize::SmallInput);
    });
    group.finish();
}

pub(crate) fn old(criterion: &mut Criterion) {
    let mut fixture = Fixture::with_history(SchemeKind::Ethereum);
    let mut group = criterion.benchmark_group("get");
    let (end, inside) = (fixture.back_100(), fixture.back_inside());
    get(&mut group, "100 back, end of a run", &end, &mut fixture, Fixture::key);
    get(&mut group, "105 back, inside a run", &inside, &mut fixture, Fixture::key);
    group.finish();
}

pub(crate) fn reopened(criterion: &mut Criterion) {
    let mut fixture = Fixture::with_history(SchemeKind::Ethereum).reopened();
    let mut group = criterion.benchmark_group("get, reopened");
    let (latest, end) = (fixture.store.latest().expect("versions"), fixture.back_100());
    let inside = fixture.back_inside();
    get(&mut group, "latest", &latest, &mut fixture, Fixture::key);
    get(&mut group, "100 back, end of a run", &end, &mut fixture, Fixture::key);
    get(&mut group, "105 back, inside a run", &inside, &mut fixture, Fixture::key);
    group.finish();
}

fn get(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    snapshot: &Snapshot,
    fixture: &mut Fixture,
    key: fn(&mut Fixture) -> Key,
) {
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        let get = |key: Key| black_box(snapshot.get(&key).expect("a read"));
        bencher.iter_batched(|| key(fixture), get, BatchSize::SmallInput);
    });
}
