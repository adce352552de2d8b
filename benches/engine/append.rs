//! The batch log: the operations of one commit written to it, and made durable.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bristlecone_delta::format::STORE_ID_BYTES;
use bristlecone_delta::vfs::DiskVfs;
use bristlecone_delta::{Create, Locator, Opened, Options, Seal, SealedVersion, Stamp, encode_ops, open};
use bristlecone_trie::{Change, Op};
use criterion::{Criterion, Throughput};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fixture::{Key, Size};

/// Commits between two seals, which give the log's files back for use. Outside of the clock.
const RUN: u64 = 40;

pub(crate) fn all(criterion: &mut Criterion) {
    let (changes, dir) = (Size::get().changes(), tempfile::tempdir().expect("a directory"));
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut batch: Vec<(Key, Key)> = (0..changes).map(|_| (random.random(), random.random())).collect();
    batch.sort_unstable();
    let ops: Vec<Op<'_>> = batch.iter().map(|(key, value)| Op { key, change: Change::Put(value) }).collect();
    let encode = |out: &mut Vec<u8>| {
        out.clear();
        encode_ops([(0, ops.iter().copied())], out).expect("operations in order");
    };
    let mut payload = Vec::new();
    encode(&mut payload);

    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(changes));
    let mut out = Vec::new();
    group.bench_function("operations of one commit, encoded", |bencher| {
        bencher.iter(|| {
            encode(&mut out);
            black_box(&out);
        });
    });
    let mut store = Writer::new(dir.path());
    for (name, sync) in [("one commit", false), ("one commit, synced", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| store.append(&payload, sync)).sum());
        });
    }
    group.finish();
}

/// A store of which only the batch log is used.
struct Writer {
    opened: Opened,
    version: u64,
    previous: Option<Locator>,
}

impl Writer {
    fn new(dir: &Path) -> Self {
        let create = Create { id: [7; STORE_ID_BYTES], config: Vec::new() };
        let options = Options { create: Some(create), ..Options::default() };
        let opened = open(Arc::new(DiskVfs), dir, &options).expect("a new store");
        Self { opened, version: 0, previous: None }
    }

    /// Times a commit.
    fn append(&mut self, payload: &[u8], sync: bool) -> Duration {
        self.version += 1;
        let stamp = Stamp::new(self.opened.opening, self.version).expect("a stamp");
        let log = self.opened.log.as_mut().expect("a log");
        let begun = Instant::now();
        log.append_batch(self.version, stamp, None, payload).expect("it is written");
        if sync {
            log.sync().expect("it is synced");
        }
        let spent = begun.elapsed();
        if self.version.is_multiple_of(RUN) {
            self.seal(stamp);
        }
        spent
    }

    fn seal(&mut self, stamp: Stamp) {
        let Opened { opening, writer, log, .. } = &mut self.opened;
        let (writer, log) = (writer.as_mut().expect("a writer"), log.as_mut().expect("a log"));
        log.sync().expect("it is synced");
        let version = SealedVersion {
            version: self.version,
            stamp,
            parent: None,
            root: None,
            namespace_roots: Vec::new(),
        };
        let seal = Seal {
            previous: self.previous,
            opening: *opening,
            versions: vec![version],
            namespaces: Vec::new(),
            log_position: log.position(),
            ..Seal::default()
        };
        let group = writer.begin(*opening).expect("a group");
        let sealed = group.finish(&seal).expect("it is sealed");
        log.release(&sealed).expect("it is released");
        self.previous = Some(sealed.locator());
    }
}
