//! Executors: threads that read the latest and historical versions and check each value against the model.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use bristlecone::{Snapshot, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    measure::Times,
    workload::{Model, read},
};
use crate::failure::Failure;

/// Reads of one snapshot before the next is taken.
const READS_A_SNAPSHOT: u64 = 32;

/// What readers saw.
#[derive(Debug)]
pub(crate) struct Reads {
    pub(crate) latest: Times,
    pub(crate) history: Times,
    pub(crate) count: u64,
    pub(crate) wrong: u64,
    pub(crate) elapsed: Duration,
}

impl Reads {
    pub(crate) fn new() -> Result<Self, Failure> {
        let elapsed = Duration::ZERO;
        Ok(Self { latest: Times::new()?, history: Times::new()?, count: 0, wrong: 0, elapsed })
    }

    /// Adds what another reader saw at the same time.
    pub(crate) fn beside(&mut self, other: &Self) -> Result<(), Failure> {
        self.latest.add(&other.latest)?;
        self.history.add(&other.history)?;
        self.count += other.count;
        self.wrong += other.wrong;
        self.elapsed = self.elapsed.max(other.elapsed);
        Ok(())
    }

    pub(crate) fn per_second(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.count as f64 / self.elapsed.as_secs_f64() }
    }
}

/// When a reader ends.
pub(crate) enum Until<'a> {
    /// When this is set.
    Told(&'a AtomicBool),
    /// After this many reads of the latest version and as many of others.
    Reads(u64),
}

/// Reads in turns the latest version and one drawn from all, until told to stop.
pub(crate) fn executor(store: &Store, model: &Model, until: &Until<'_>, seed: u64) -> Result<Reads, Failure> {
    let mut reads = Reads::new()?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let begun = Instant::now();
    let mut latest = true;
    loop {
        let done = match until {
            Until::Told(stop) => stop.load(Ordering::Relaxed),
            Until::Reads(each) => reads.count >= 2 * each,
        };
        if done {
            break;
        }
        let newest = store.latest()?;
        if latest {
            some(&newest, model, &mut random, true, &mut reads)?;
        } else {
            let version = random.random_range(0..=newest.version());
            some(&store.at(version)?, model, &mut random, false, &mut reads)?;
        }
        latest = !latest;
    }
    reads.elapsed = begun.elapsed();
    Ok(reads)
}

fn some(
    snapshot: &Snapshot,
    model: &Model,
    random: &mut ChaCha8Rng,
    latest: bool,
    reads: &mut Reads,
) -> Result<(), Failure> {
    let version = snapshot.version();
    let population = model.plan().population(version);
    for _ in 0..READS_A_SNAPSHOT {
        let index = random.random_range(0..population);
        let entity = model.plan().entity(index);
        let begun = Instant::now();
        let found = read(snapshot, &entity)?;
        let time = begun.elapsed();
        if latest {
            reads.latest.record(time)
        } else {
            reads.history.record(time)
        }
        reads.count += 1;
        reads.wrong += u64::from(!model.agrees(index, version, &found));
    }
    Ok(())
}
