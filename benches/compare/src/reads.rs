//! Reads of random existing keys: alone, and beside commits.

use std::{
    hint::black_box,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::{
    affinity,
    commits::{Phase, PhaseFigures},
    engines::{Engine, Reader},
    failure::{Failure, Result},
    interrupt,
    measure::{Nanoseconds, Times, rate},
    workload::{Chain, Key, key},
};

/// Reads of one snapshot before a reader beside commits goes on to the latest.
const READS_A_SNAPSHOT: u64 = 32;

/// Keys that are drawn at a time, outside of the clock.
const DRAWN: usize = 64;

/// Draws keys among the first `population`.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    seed: u64,
    population: u64,
    random: ChaCha8Rng,
}

impl Draws {
    pub(crate) fn new(seed: u64, population: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(u64::MAX - stream);
        Self { seed, population: population.max(1), random }
    }

    fn index(&mut self) -> u64 {
        self.random.random_range(0..self.population)
    }

    /// The next keys.
    pub(crate) fn keys(&mut self) -> [Key; DRAWN] {
        std::array::from_fn(|_| {
            let index = self.index();
            key(self.seed, index)
        })
    }
}

fn missing(key: &Key) -> Failure {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Failure::new(format!("the engine has no value for {hex}, which was committed"))
}

/// Single reads with nothing else going on: the time of each, and the mean without a clock around each.
pub(crate) fn single(reader: &mut dyn Reader, draws: &mut Draws, count: u64) -> Result<(Nanoseconds, f64)> {
    let mut times = Times::new()?;
    let mut plain = Duration::ZERO;
    let rounds = count.div_ceil(2 * DRAWN as u64).max(1);
    for _ in 0..rounds {
        interrupt::check()?;
        for key in draws.keys() {
            let begun = Instant::now();
            let found = reader.get(&key)?;
            times.record(begun.elapsed());
            black_box(found).ok_or_else(|| missing(&key))?;
        }
    }
    for _ in 0..rounds {
        let keys = draws.keys();
        let begun = Instant::now();
        for key in &keys {
            black_box(reader.get(key)?).ok_or_else(|| missing(key))?;
        }
        plain += begun.elapsed();
    }
    let mean = plain.as_nanos() as f64 / (rounds * DRAWN as u64) as f64;
    Ok((times.nanoseconds(), mean))
}

/// Compares `count` random values with the model; the number compared.
pub(crate) fn verify(reader: &mut dyn Reader, chain: &Chain, count: u64, seed: u64) -> Result<u64> {
    let mut draws = Draws::new(seed, chain.keys(), 77);
    for _ in 0..count {
        let index = draws.index();
        let key = chain.key(index);
        let found = reader.get(&key)?;
        if found != chain.expected(index) {
            let what = if found.is_some() { "a wrong value" } else { "no value" };
            return Err(Failure::new(format!("{what} was read for the key with index {index}")));
        }
    }
    Ok(count)
}

/// What a reader saw that goes on to the latest version again and again.
#[derive(Debug)]
struct Following {
    get: Times,
    refresh: Times,
    count: u64,
    elapsed: Duration,
}

impl Following {
    fn per_second(&self) -> f64 {
        rate(self.count, self.elapsed)
    }
}

fn follow(engine: &dyn Engine, draws: &mut Draws, done: impl Fn(u64) -> bool) -> Result<Following> {
    let (mut get, mut refresh, mut count) = (Times::new()?, Times::new()?, 0);
    let mut reader = engine.reader()?;
    let begun = Instant::now();
    while !done(count) {
        let keys = draws.keys();
        for some in keys.chunks(READS_A_SNAPSHOT as usize) {
            let asked = Instant::now();
            reader.refresh()?;
            refresh.record(asked.elapsed());
            for key in some {
                let asked = Instant::now();
                let found = reader.get(key)?;
                get.record(asked.elapsed());
                black_box(found).ok_or_else(|| missing(key))?;
            }
            count += some.len() as u64;
        }
    }
    Ok(Following { get, refresh, count, elapsed: begun.elapsed() })
}

/// One reader beside one committer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BusyFigures {
    pub(crate) idle_reads_per_second: f64,
    pub(crate) reads_per_second: f64,
    /// Of the idle throughput, in percent.
    pub(crate) kept_percent: f64,
    pub(crate) idle_get_ns: Nanoseconds,
    pub(crate) get_ns: Nanoseconds,
    pub(crate) p999_over_idle: f64,
    /// Going on to the latest version; waiting for a commit is in here where readers wait.
    pub(crate) refresh_ns: Nanoseconds,
    pub(crate) commit: PhaseFigures,
}

/// Reads alone, then beside `commit`, on one thread. `pinned`: on the last core, everything else on the first.
pub(crate) fn busy(
    engine: &dyn Engine,
    draws: &Draws,
    idle_reads: u64,
    pinned: bool,
    commit: impl FnOnce() -> Result<Phase>,
) -> Result<BusyFigures> {
    let stop = AtomicBool::new(false);
    let (tell_ready, hear_ready) = channel();
    let mut draws = draws.clone();
    let (idle, busy, phase) = std::thread::scope(|scope| {
        let stop = &stop;
        let reader = scope.spawn(move || -> Result<(Following, Following)> {
            let pin = pinned.then(affinity::Pinned::reader).transpose()?;
            let idle = follow(engine, &mut draws, |count| count >= idle_reads || interrupt::asked());
            // Sent in any case, or the committer would wait for ever.
            let _ = tell_ready.send(());
            let idle = idle?;
            let busy = follow(engine, &mut draws, |_| stop.load(Ordering::Relaxed))?;
            drop(pin);
            Ok((idle, busy))
        });
        let _ = hear_ready.recv();
        let phase = commit();
        stop.store(true, Ordering::Relaxed);
        let reads = reader.join().map_err(|_| Failure::new("the reader ended unexpectedly"))?;
        let (phase, (idle, busy)) = (phase?, reads?);
        Ok::<_, Failure>((idle, busy, phase))
    })?;
    let (idle_get_ns, get_ns) = (idle.get.nanoseconds(), busy.get.nanoseconds());
    let share = |one: f64, other: f64| if other > 0.0 { one / other } else { 0.0 };
    Ok(BusyFigures {
        idle_reads_per_second: idle.per_second(),
        reads_per_second: busy.per_second(),
        kept_percent: 100.0 * share(busy.per_second(), idle.per_second()),
        p999_over_idle: share(get_ns.p999 as f64, idle_get_ns.p999 as f64),
        idle_get_ns,
        get_ns,
        refresh_ns: busy.refresh.nanoseconds(),
        commit: phase.figures(),
    })
}
