//! Keys, and which of them change.

use std::collections::HashSet;

use bristlecone::{Batch, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};

use crate::Hash;
use crate::trace::{Change, Trace};

const LOAD: usize = 20_000;
/// Of the changed keys of a commit, one is new.
const ONE_NEW_IN: usize = 21;
const ZIPF_EXPONENT: f64 = 0.99;

/// Which keys change.
enum Draw {
    Uniform,
    Zipf,
    Trace(Trace),
}

pub(crate) struct Workload {
    keys: Vec<Hash>,
    /// So many of them were there from the start.
    loaded: usize,
    draw: Draw,
    changes: usize,
    random: ChaCha8Rng,
}

impl Workload {
    /// `None` where what it needs is not there. `changes` is how many keys a commit changes, but for traces.
    pub(crate) fn new(name: &str, changes: usize) -> Option<Self> {
        let draw = match name {
            "zipf" => Draw::Zipf,
            "trace" => Draw::Trace(Trace::read()?),
            _ => Draw::Uniform,
        };
        Some(Self { keys: Vec::new(), loaded: 0, draw, changes, random: ChaCha8Rng::seed_from_u64(1) })
    }

    pub(crate) fn load(&mut self, store: &Store, size: usize) {
        self.loaded = size;
        while self.keys.len() < size {
            let mut batch = Batch::new();
            for _ in 0..LOAD.min(size - self.keys.len()) {
                self.put_new(&mut batch);
            }
            store.commit(batch).expect("a commit");
        }
        store.flush().expect("a flush");
    }

    /// A key of the load.
    pub(crate) fn loaded(&mut self) -> Hash {
        self.keys[self.random.random_range(0..self.loaded)]
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    fn put_new(&mut self, batch: &mut Batch) {
        let (key, value): (Hash, Hash) = (self.random.random(), self.random.random());
        batch.put(&key, &value);
        self.keys.push(key);
    }

    /// Commits; how many different keys changed.
    pub(crate) fn commit(&mut self, store: &Store) -> u64 {
        let mut batch = Batch::new();
        let changed = match &mut self.draw {
            Draw::Trace(trace) => {
                let block = trace.block(&mut self.keys, &mut self.random);
                for (key, change) in &block {
                    match change {
                        Change::Put => batch.put(key, &self.random.random::<Hash>()),
                        Change::Delete => batch.delete(key),
                    };
                }
                block.len() as u64
            }
            Draw::Uniform | Draw::Zipf => self.draw(&mut batch),
        };
        store.commit(batch).expect("a commit");
        changed
    }

    fn draw(&mut self, batch: &mut Batch) -> u64 {
        let new = self.changes / ONE_NEW_IN;
        let mut different = HashSet::with_capacity(self.changes);
        let keys = self.keys.len();
        let zipf = Zipf::new(keys as f64, ZIPF_EXPONENT).expect("a distribution");
        for _ in 0..self.changes - new {
            let at = match self.draw {
                Draw::Zipf => (zipf.sample(&mut self.random) as usize).clamp(1, keys) - 1,
                _ => self.random.random_range(0..keys),
            };
            different.insert(at);
            batch.put(&self.keys[at], &self.random.random::<Hash>());
        }
        (0..new).for_each(|_| self.put_new(batch));
        (different.len() + new) as u64
    }
}
