//! Proofs of one key: making them, at three places in the history, and verifying them.

use std::hint::black_box;

use bristlecone::{Blake3, Ethereum, SchemeKind, Snapshot};
use bristlecone_trie::proof::{ProofScheme, verify};
use criterion::{BatchSize, Criterion, Throughput};

use crate::fixture::{Fixture, Key};

pub(crate) fn all(criterion: &mut Criterion) {
    scheme::<Ethereum>(criterion, SchemeKind::Ethereum);
    scheme::<Blake3>(criterion, SchemeKind::Blake3);
}

fn scheme<S: ProofScheme>(criterion: &mut Criterion, kind: SchemeKind) {
    let mut fixture = Fixture::with_history(kind);
    let mut group = criterion.benchmark_group(format!("proof, {}", kind.name()));
    group.throughput(Throughput::Elements(1));
    let (latest, end) = (fixture.store.latest().expect("versions"), fixture.back_100());
    let (inside, root) = (fixture.back_inside(), fixture.root());
    let mut prove = |name: &str, snapshot: &Snapshot| {
        group.bench_function(name, |bencher| {
            let prove = |key: Key| black_box(snapshot.prove(&key).expect("a proof"));
            bencher.iter_batched(|| fixture.key(), prove, BatchSize::SmallInput);
        });
    };
    prove("prove, latest", &latest);
    prove("prove, 100 back, end of a run", &end);
    prove("prove, 105 back, inside a run", &inside);
    group.bench_function("verify", |bencher| {
        let verified = |proof: bristlecone::KeyProof| {
            let value = verify::<S>(root, &proof.key, &proof.nodes).expect("a proof that holds");
            assert_eq!(value, proof.value);
        };
        let proof = || latest.prove(&fixture.key()).expect("a proof");
        bencher.iter_batched(proof, verified, BatchSize::SmallInput);
    });
    group.finish();
}
