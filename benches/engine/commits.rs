//! A commit of 5,000 updates and 250 inserts: until it is visible, durable, rooted; hashing alone; all of it in a row.
//!
//! Each commit but those in a row is unhurried: the one before has its root and is durable before the clock starts.

use std::time::{Duration, Instant};

use bristlecone::{Commit, RootSchedule, SchemeKind};
use criterion::{Bencher, Criterion, Throughput};

use crate::fixture::Fixture;

/// Commits in a row.
const ROW: u64 = 10;

pub(crate) fn all(criterion: &mut Criterion) {
    for scheme in [SchemeKind::Ethereum, SchemeKind::Blake3] {
        let mut fixture = Fixture::loaded(scheme, RootSchedule::Every(1));
        let changes = fixture.size.changes();
        let mut group = criterion.benchmark_group(format!("commit, {}", scheme.name()));
        group.throughput(Throughput::Elements(changes));
        group.bench_function("visible", |bencher| unhurried(bencher, &mut fixture, |_| {}));
        group.bench_function("durable", |bencher| {
            unhurried(bencher, &mut fixture, |commit| commit.durable().wait().expect("durable"));
        });
        group.bench_function("root", |bencher| {
            unhurried(bencher, &mut fixture, |commit| {
                commit.root().wait().expect("a root");
            });
        });
        group.throughput(Throughput::Elements(ROW * changes));
        group.bench_function("10 in a row, durable with a root each", |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| row(&mut fixture)).sum());
        });
        group.finish();

        let mut fixture = Fixture::loaded(scheme, RootSchedule::OnDemand);
        let mut group = criterion.benchmark_group(format!("hash, {}", scheme.name()));
        group.throughput(Throughput::Elements(changes));
        group.bench_function("root of one commit, on demand", |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| hash(&mut fixture)).sum());
        });
        group.finish();
    }
}

/// Times a commit until `reached` returns.
fn unhurried(bencher: &mut Bencher<'_>, fixture: &mut Fixture, reached: impl Fn(&Commit)) {
    bencher.iter_custom(|times| {
        let mut spent = Duration::ZERO;
        for _ in 0..times {
            let batch = fixture.block();
            let begun = Instant::now();
            let commit = fixture.store.commit(batch).expect("a commit");
            reached(&commit);
            spent += begun.elapsed();
            commit.durable().wait().expect("durable");
            commit.root().wait().expect("a root");
        }
        spent
    });
}

/// Times [`ROW`] commits until all are durable and have their roots. What they leave to be sealed counts in the next.
fn row(fixture: &mut Fixture) -> Duration {
    let batches: Vec<_> = (0..ROW).map(|_| fixture.block()).collect();
    let begun = Instant::now();
    let commits: Vec<_> =
        batches.into_iter().map(|batch| fixture.store.commit(batch).expect("a commit")).collect();
    for commit in &commits {
        commit.durable().wait().expect("durable");
        commit.root().wait().expect("a root");
    }
    begun.elapsed()
}

/// Times the root of a commit that is durable already and has had no root.
fn hash(fixture: &mut Fixture) -> Duration {
    let batch = fixture.block();
    let commit = fixture.store.commit(batch).expect("a commit");
    commit.durable().wait().expect("durable");
    let begun = Instant::now();
    commit.root().wait().expect("a root");
    begun.elapsed()
}
