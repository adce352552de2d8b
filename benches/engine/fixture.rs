//! The stores that are measured.

use bristlecone::{B256, Batch, Namespace, Options, RootSchedule, SchemeKind, Snapshot, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

pub(crate) type Key = [u8; 32];

/// Commits after the load; every [`RUN`] of them are sealed together.
const COMMITS: u64 = 120;
const RUN: u64 = 10;

/// How large things are.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) keys: usize,
    /// Keys a commit of the load.
    pub(crate) load: usize,
    pub(crate) updates: usize,
    pub(crate) inserts: usize,
}

impl Size {
    /// Keys that a commit changes.
    pub(crate) fn changes(&self) -> u64 {
        (self.updates + self.inserts) as u64
    }

    /// The reference workload when measuring, otherwise just enough to go everywhere once.
    pub(crate) fn get() -> Self {
        let measuring = std::env::args().any(|argument| argument == "--bench");
        let asked = std::env::var("BRISTLECONE_BENCH_KEYS").ok().and_then(|keys| keys.parse().ok());
        match (measuring, asked) {
            (false, _) => Self { keys: 2_000, load: 500, updates: 50, inserts: 3 },
            (true, keys) => {
                Self { keys: keys.unwrap_or(1_000_000), load: 20_000, updates: 5_000, inserts: 250 }
            }
        }
    }
}

/// A store with a history, and what is in it.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
    pub(crate) size: Size,
    scheme: SchemeKind,
    keys: Vec<Key>,
    random: ChaCha8Rng,
}

impl Fixture {
    /// A load, without a history.
    pub(crate) fn loaded(scheme: SchemeKind, roots: RootSchedule) -> Self {
        let (size, dir) = (Size::get(), tempfile::tempdir().expect("a directory"));
        let store = options(scheme).roots(roots).open(dir.path()).expect("a new store");
        let mut this =
            Self { dir, store, size, scheme, keys: Vec::new(), random: ChaCha8Rng::seed_from_u64(1) };
        while this.keys.len() < size.keys {
            let batch = this.batch(0, size.load);
            this.store.commit(batch).expect("a commit");
        }
        this.store.flush().expect("a flush");
        this
    }

    /// A load, and [`COMMITS`] versions in sealed runs of [`RUN`].
    pub(crate) fn with_history(scheme: SchemeKind) -> Self {
        let mut this = Self::loaded(scheme, RootSchedule::Every(1));
        for number in 1..=COMMITS {
            let batch = this.block();
            this.store.commit(batch).expect("a commit");
            if number % RUN == 0 {
                this.store.flush().expect("a flush");
            }
        }
        this
    }

    /// Closes the store and opens it again: nothing is in memory but what opening brings there.
    pub(crate) fn reopened(mut self) -> Self {
        let reopened = |this: &Self| options(this.scheme).open(this.dir.path()).expect("it opens");
        // Two handles cannot be open at once, so an empty store stands in for a moment.
        let elsewhere = tempfile::tempdir().expect("a directory");
        let placeholder = options(self.scheme).open(elsewhere.path()).expect("a new store");
        std::mem::replace(&mut self.store, placeholder).close().expect("it closes");
        self.store = reopened(&self);
        self
    }

    /// The changes of one block.
    pub(crate) fn block(&mut self) -> Batch {
        self.batch(self.size.updates, self.size.inserts)
    }

    fn batch(&mut self, updates: usize, inserts: usize) -> Batch {
        let mut batch = Batch::new();
        for _ in 0..updates {
            let key = self.key();
            batch.put(&key, &self.random.random::<Key>());
        }
        for _ in 0..inserts {
            let key = self.random.random();
            self.keys.push(key);
            batch.put(&key, &self.random.random::<Key>());
        }
        batch
    }

    /// An existing key of the load.
    pub(crate) fn key(&mut self) -> Key {
        let index = self.random.random_range(0..self.size.keys);
        self.keys[index]
    }

    /// A key that is not there.
    pub(crate) fn absent(&mut self) -> Key {
        self.random.random()
    }

    /// 100 versions back, the end of a sealed run.
    pub(crate) fn back_100(&self) -> Snapshot {
        self.back(100)
    }

    /// 105 versions back, in the middle of a sealed run.
    pub(crate) fn back_inside(&self) -> Snapshot {
        self.back(100 + RUN / 2)
    }

    fn back(&self, versions: u64) -> Snapshot {
        let latest = self.store.latest().expect("versions").version();
        self.store.at(latest - versions).expect("a kept version")
    }

    pub(crate) fn root(&self) -> B256 {
        self.store.latest().and_then(|latest| latest.root()).expect("a root")
    }
}

/// Raw flat keys, as the reference workload has them.
pub(crate) fn options(scheme: SchemeKind) -> Options {
    Options::new().namespace(Namespace::flat(scheme).raw())
}
