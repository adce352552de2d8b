//! A chain and the engine that follows it, in a directory of their own.

use std::time::Duration;

use crate::{
    commits::{self, Pace, Phase},
    engines::{self, Engine, Setup},
    failure::Result,
    measure,
    spec::Spec,
    workload::Chain,
};

/// A chain and the engine that follows it.
pub(crate) struct Run<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) chain: Chain,
    pub(crate) root_every: u64,
}

impl<'a> Run<'a> {
    /// Opens an empty store. `keys` is how many there will be at most.
    pub(crate) fn open(spec: &'a Spec, keys: u64, root_every: u64) -> Result<Self> {
        let setup = Setup { keys, threads: spec.workload.threads, root_every };
        let engine = engines::open(&spec.engine, &spec.dir, &setup)?;
        Ok(Self { spec, engine, chain: Chain::new(spec.workload.seed, spec.workload.skew), root_every })
    }

    /// Makes the keys, in batches.
    pub(crate) fn load(&mut self) -> Result<Phase> {
        let (keys, batch) = (self.spec.workload.keys, self.spec.workload.batch);
        self.note("load");
        let (engine, chain) = (self.engine.as_ref(), &mut self.chain);
        let pace = Pace { in_flight: self.spec.workload.in_flight, root_every: self.root_every, every: None };
        let phase = commits::commit_all(engine, 0, pace, || {
            let rest = keys.saturating_sub(chain.keys());
            (rest > 0).then(|| chain.next(0, rest.min(batch)))
        })?;
        self.settle()?;
        Ok(phase)
    }

    /// `count` commits of `updates` draws and `inserts` new keys.
    pub(crate) fn commit(
        &mut self,
        count: u64,
        (updates, inserts): (u64, u64),
        every: Option<Duration>,
    ) -> Result<Phase> {
        let (engine, chain) = (self.engine.as_ref(), &mut self.chain);
        let pace = Pace { in_flight: self.spec.workload.in_flight, root_every: self.root_every, every };
        let (first, last) = (chain.versions(), chain.versions() + count);
        commits::commit_all(engine, first, pace, || {
            (chain.versions() < last).then(|| chain.next(updates, inserts))
        })
    }

    /// Nothing is left to be done or to be written afterwards.
    pub(crate) fn settle(&self) -> Result<()> {
        self.engine.settle()?;
        measure::sync_files(&self.spec.dir)
    }

    /// A line of progress.
    pub(crate) fn note(&self, what: &str) {
        eprintln!("  {}: {what} …", self.spec.engine);
    }
}
