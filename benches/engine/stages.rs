//! The stages of a commit one by one, on one thread, without files: update, encoding, hashing, and the hash function alone.
//!
//! `benches/stages` prints ratios of the same work, taken in turns; these say what each stage costs a key.

use std::hint::black_box;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use bristlecone::{B256, Blake3, Ethereum};
use bristlecone_trie::levels::Workspace;
use bristlecone_trie::scheme::LeafValue;
use bristlecone_trie::{Change, NodeRef, Op, Path, Scheme};
use criterion::{Criterion, Throughput};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fixture::{Key, Size};
use crate::memory::Memory;

pub(crate) fn all(criterion: &mut Criterion) {
    scheme::<Ethereum>(criterion);
    scheme::<Blake3>(criterion);
}

fn scheme<S: Scheme>(criterion: &mut Criterion) {
    let mut stages = Stages::loaded::<S>();
    let mut group = criterion.benchmark_group(format!("stage, {}", S::NAME));
    group.throughput(Throughput::Elements(stages.size.changes()));
    let mut bench = |name: &str, stage: Stage| {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| stages.commit::<S>(stage)).sum());
        });
    };
    bench("apply", Stage::Apply);
    bench("encode", Stage::Encode);
    bench("hash", Stage::Hash);
    bench("flat calls of the hash function", Stage::Flat);
    bench("free", Stage::Free);
    group.finish();
}

/// Which part of a commit is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Apply,
    Encode,
    Hash,
    Flat,
    Free,
}

struct Stages {
    size: Size,
    keys: Vec<Key>,
    random: ChaCha8Rng,
    memory: Memory,
    workspace: Workspace,
}

impl Stages {
    fn loaded<S: Scheme>() -> Self {
        let mut this = Self {
            size: Size::get(),
            keys: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(1),
            memory: Memory::new(),
            workspace: Workspace::default(),
        };
        while this.keys.len() < this.size.keys {
            let batch = this.batch(0, this.size.load);
            this.memory.apply(&ops(&batch));
            this.memory.hash::<S>(&mut this.workspace);
            this.memory.free();
        }
        this
    }

    /// Changes of different keys, in order.
    fn batch(&mut self, updates: usize, inserts: usize) -> Vec<(Key, Key)> {
        let mut batch: Vec<(Key, Key)> = Vec::with_capacity(updates + inserts);
        for _ in 0..inserts {
            let key = self.random.random();
            self.keys.push(key);
            batch.push((key, self.random.random()));
        }
        while batch.len() < updates + inserts {
            while batch.len() < updates + inserts {
                let key = self.keys[self.random.random_range(0..self.keys.len())];
                batch.push((key, self.random.random()));
            }
            batch.sort_unstable();
            batch.dedup_by(|a, b| a.0 == b.0);
        }
        batch.sort_unstable();
        batch
    }

    /// A commit in all of its stages, and the time of one.
    fn commit<S: Scheme>(&mut self, stage: Stage) -> Duration {
        let batch = self.batch(self.size.updates, self.size.inserts);
        let ops = ops(&batch);
        let apply = timed(|| self.memory.apply(&ops));
        // Encoding leaves nothing behind, so the pages are as new as before.
        let encode = match stage {
            Stage::Encode => timed(|| self.memory.compute::<Unhashed<S>>(&mut self.workspace)),
            _ => Duration::ZERO,
        };
        let hash = timed(|| self.memory.hash::<S>(&mut self.workspace));
        let flat = match stage {
            Stage::Flat => flat::<S>(&self.workspace),
            _ => Duration::ZERO,
        };
        let free = timed(|| self.memory.free());
        match stage {
            Stage::Apply => apply,
            Stage::Encode => encode,
            Stage::Hash => hash,
            Stage::Flat => flat,
            Stage::Free => free,
        }
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    black_box(work());
    begun.elapsed()
}

fn ops(batch: &[(Key, Key)]) -> Vec<Op<'_>> {
    batch.iter().map(|(key, value)| Op { key, change: Change::Put(value) }).collect()
}

/// Times one call for each length of the encodings that were hashed last.
fn flat<S: Scheme>(workspace: &Workspace) -> Duration {
    let mut encodings: Vec<&[u8]> = workspace.encodings().collect();
    encodings.sort_by_key(|encoding| encoding.len());
    let mut groups: Vec<(Vec<u8>, Vec<[u8; 32]>)> = encodings
        .chunk_by(|a, b| a.len() == b.len())
        .map(|group| (group.concat(), vec![[0; 32]; group.len()]))
        .collect();
    let spent = timed(|| groups.iter_mut().for_each(|(bytes, hashes)| S::hash_equal(bytes, hashes)));
    black_box(&groups);
    spent
}

/// A scheme without its hash function: the same encodings, but for the hashes in them, which are zeros. What is left of the hash
/// stage is the walk over pages, the encodings, and their gathering by height and length.
#[derive(Clone, Copy)]
struct Unhashed<S>(PhantomData<S>);

impl<S: Scheme> Scheme for Unhashed<S> {
    const NAME: &'static str = S::NAME;

    fn empty_root() -> B256 {
        S::empty_root()
    }

    fn encode_leaf(path: Path<'_>, value: LeafValue<'_>, out: &mut Vec<u8>) -> usize {
        S::encode_leaf(path, value, out)
    }

    fn encode_extension(path: Path<'_>, child: &NodeRef, out: &mut Vec<u8>) -> usize {
        S::encode_extension(path, child, out)
    }

    fn encode_branch_over(
        children: &[Option<&NodeRef>; 16],
        value: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> [usize; 16] {
        S::encode_branch_over(children, value, out)
    }

    fn embed(encoding: &[u8]) -> Option<NodeRef> {
        S::embed(encoding)
    }

    fn hash_equal(encodings: &[u8], hashes: &mut [[u8; 32]]) {
        black_box((encodings, hashes));
    }

    fn prove_branch(
        children: &[Option<NodeRef>; 16],
        value: Option<&[u8]>,
        nibble: Option<u8>,
        out: &mut Vec<u8>,
    ) {
        S::prove_branch(children, value, nibble, out);
    }
}
