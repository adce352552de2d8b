//! Hours of commits, readers, pruning and reopening on a real disk: contents are a function of key and version, so that any thread can judge any
//! read; and memory, descriptors and disk must be flat once everything is warm.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bristlecone::{Batch, Namespace, Options, Retention, SchemeKind, Snapshot, Store};

use crate::totals::Totals;
use crate::{Check, Rng};

const KEEP: u64 = 100;
const SEGMENT_BYTES: u64 = 1 << 20;
/// Every so many-th key holds a value of so many bytes, the others 32.
const LARGE: u64 = 50;
const LARGE_BYTES: usize = 3_000;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub time: Duration,
    pub keys: u64,
    pub seed: u64,
    /// A snapshot of an early version is held all the time, and what it costs must not grow without end.
    pub stalled: bool,
}

/// Key `number` is written in every version that its period divides after its phase.
fn last_write(number: u64, version: u64) -> u64 {
    let period = 2 + number % 499;
    let phase = number % period;
    if version < phase { 0 } else { version - (version - phase) % period }
}

fn key(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn value(number: u64, written: u64) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes()).update(&written.to_le_bytes());
    // One in so many has a record of its own, which goes with it.
    let len = if number.is_multiple_of(LARGE) { LARGE_BYTES } else { 32 };
    let mut value = vec![0; len];
    hasher.finalize_xof().fill(&mut value);
    value
}

fn batch(keys: u64, version: u64) -> Batch {
    let mut batch = Batch::new();
    for number in 0..keys {
        if last_write(number, version) == version {
            batch.put(&key(number), &value(number, version));
        }
    }
    batch
}

fn options() -> Options {
    Options::new()
        .namespace(Namespace::flat(SchemeKind::Ethereum).raw())
        .segment_bytes(SEGMENT_BYTES)
        .log_bytes(1 << 20)
        .cache_bytes(1 << 20)
        .seal_keys(2_000)
        .retention(Retention::Last(KEEP))
        .threads(1)
}

/// Some keys of `snapshot` are what they must be.
fn judge(snapshot: &Snapshot, keys: u64, reads: u64, rng: &mut Rng) -> Check {
    let version = snapshot.version();
    for _ in 0..reads {
        let number = rng.next_u64() % keys;
        let found = snapshot
            .get(&key(number))
            .map_err(|error| format!("key {number} of version {version}: {error}"))?;
        if found.as_deref() != Some(&value(number, last_write(number, version))[..]) {
            return Err(format!(
                "key {number} of version {version} has another version's value: {found:02x?}"
            ));
        }
    }
    Ok(())
}

/// What the process and the store hold.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: f64,
    memory: u64,
    descriptors: u64,
    disk: u64,
}

fn sample(dir: &Path, started: Instant) -> std::io::Result<Sample> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok(Sample {
        at: started.elapsed().as_secs_f64(),
        memory: field("RssAnon:") * 1024,
        descriptors: std::fs::read_dir("/proc/self/fd")?.count() as u64,
        disk: size(dir)?,
    })
}

/// Blocks in use, as `du` counts them. A file that goes meanwhile counts for nothing.
fn size(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let Ok(entry) = entry else { continue };
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() { size(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(sum)
}

/// What a line through the second half of the samples gains from its beginning to its end, and the mean.
fn growth(samples: &[Sample], what: impl Fn(&Sample) -> u64) -> (f64, f64) {
    let half = &samples[samples.len() / 2..];
    let n = half.len() as f64;
    let mean = |f: &dyn Fn(&Sample) -> f64| half.iter().map(f).sum::<f64>() / n;
    let (x, y) = (mean(&|s| s.at), mean(&|s| what(s) as f64));
    let covariance: f64 = half.iter().map(|s| (s.at - x) * (what(s) as f64 - y)).sum();
    let variance: f64 = half.iter().map(|s| (s.at - x).powi(2)).sum();
    let span = half[half.len() - 1].at - half[0].at;
    (if variance > 0.0 { covariance / variance * span } else { 0.0 }, y)
}

/// The campaign.
pub fn campaign(plan: &Plan) -> Totals {
    let mut totals = Totals::default();
    let started = Instant::now();
    if let Err(what) = soak(plan, started, &mut totals) {
        let stalled = if plan.stalled { " --stalled" } else { "" };
        totals.failures.push(format!("soak --seconds {}{stalled}: {what}", plan.time.as_secs()));
    }
    totals.time = started.elapsed();
    totals
}

struct Shared {
    store: Store,
    stop: AtomicBool,
    reads: AtomicU64,
    snapshots: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Shared {
    fn fail(&self, what: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn soak(plan: &Plan, started: Instant, totals: &mut Totals) -> Check {
    let failed = |error: bristlecone::Error| error.to_string();
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let store = options().open(dir.path()).map_err(failed)?;
    let mut genesis = Batch::new();
    for number in 0..plan.keys {
        genesis.put(&key(number), &value(number, 0));
    }
    store.commit(genesis).map_err(failed)?;
    let stalled = plan.stalled.then(|| store.latest()).transpose().map_err(failed)?;
    let shared = Shared {
        store,
        stop: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        snapshots: AtomicU64::new(0),
        failure: Mutex::new(None),
    };
    let mut samples = Vec::new();
    let mut commits = 0;
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let shared = &shared;
            scope.spawn(move || read(shared, plan, reader));
        }
        let mut sampled = Instant::now();
        let pause = (plan.time / 120).min(Duration::from_secs(10));
        while started.elapsed() < plan.time && !shared.stop.load(Ordering::Relaxed) {
            commits += 1;
            match shared.store.commit(batch(plan.keys, commits)) {
                Ok(commit) if commit.version() == commits => {}
                Ok(commit) => shared.fail(format!("commit {commits} became version {}", commit.version())),
                Err(error) => shared.fail(format!("commit {commits}: {error}")),
            }
            // Leaves a core to the readers and to what runs behind.
            std::thread::sleep(Duration::from_millis(5));
            if sampled.elapsed() > pause {
                sampled = Instant::now();
                match sample(dir.path(), started) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => shared.fail(format!("a sample: {error}")),
                }
            }
        }
        shared.stop.store(true, Ordering::Relaxed);
    });
    totals.add("commits", commits);
    totals.add("reads judged", shared.reads.load(Ordering::Relaxed));
    totals.add("snapshots judged", shared.snapshots.load(Ordering::Relaxed));
    if let Some(what) = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(what);
    }
    if let Some(snapshot) = &stalled {
        judge(snapshot, plan.keys, 1000, &mut Rng::new(plan.seed))
            .map_err(|what| format!("the stalled reader: {what}"))?;
    }
    let memory = shared.store.stats().map_err(failed)?.memory;
    for (part, bytes) in [("tables", memory.table_bytes), ("leased pages", memory.leased_bytes)] {
        totals.add(&format!("bytes of {part} at the end"), bytes);
    }
    flat(&samples, totals)?;
    drop(stalled);
    let Shared { store, .. } = shared;
    store.close().map_err(failed)?;
    let store = options().open(dir.path()).map_err(failed)?;
    store.check(|_| ()).map_err(failed)?;
    judge(&store.latest().map_err(failed)?, plan.keys, plan.keys, &mut Rng::new(plan.seed))
}

/// Reads the newest versions, holds some snapshots for a while, and judges them again later.
fn read(shared: &Shared, plan: &Plan, reader: u64) {
    let mut rng = Rng::new(plan.seed + reader + 1);
    let mut held: Vec<Snapshot> = Vec::new();
    let mut newest = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let look = (|| -> Check {
            let latest = shared.store.latest().map_err(|error| error.to_string())?;
            if latest.version() < newest {
                return Err(format!("version {} is the latest after {newest}", latest.version()));
            }
            newest = latest.version();
            judge(&latest, plan.keys, 50, &mut rng)?;
            let back = rng.next_u64() % KEEP.min(newest + 1);
            // May be pruned meanwhile.
            if let Ok(old) = shared.store.at(newest - back) {
                judge(&old, plan.keys, 20, &mut rng)?;
            }
            held.push(latest);
            if held.len() > 8 {
                let at = rng.below(held.len());
                judge(&held[at], plan.keys, 50, &mut rng)?;
                held.swap_remove(at);
            }
            shared.reads.fetch_add(120, Ordering::Relaxed);
            shared.snapshots.fetch_add(2, Ordering::Relaxed);
            Ok(())
        })();
        if let Err(what) = look {
            return shared.fail(what);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Memory, descriptors and disk do not grow in the second half.
fn flat(samples: &[Sample], totals: &mut Totals) -> Check {
    if samples.len() < 20 {
        return Err(format!("{} samples are too few to tell a slope: soak for longer", samples.len()));
    }
    for (name, what, slack) in [
        ("memory", (|s: &Sample| s.memory) as fn(&Sample) -> u64, 16e6),
        ("descriptors", |s: &Sample| s.descriptors, 8.0),
        ("disk", |s: &Sample| s.disk, 8.0 * SEGMENT_BYTES as f64),
    ] {
        let (gain, mean) = growth(samples, what);
        totals.add(&format!("{name}, mean of the second half"), mean as u64);
        if gain > 0.1 * mean + slack {
            return Err(format!("{name} grows by {gain:.0} in the second half, where it is {mean:.0}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..100)
            .map(|at| Sample { at: at as f64, memory: memory(at), descriptors: 9, disk: 1 << 25 })
            .collect()
    }

    #[test]
    fn a_leak_is_told_from_noise() {
        let noisy = samples(|at| (100 << 20) + (at * 7919 % 13) * (1 << 20));
        assert_eq!(flat(&noisy, &mut Totals::default()), Ok(()));
        let leaking = samples(|at| (100 << 20) + at * (1 << 20));
        assert!(flat(&leaking, &mut Totals::default()).is_err());
    }

    #[test]
    fn a_key_was_last_written_when_a_batch_had_it() {
        for number in 0..600 {
            let mut last = 0;
            for version in 1..1200 {
                if last_write(number, version) == version {
                    last = version;
                }
                assert_eq!(last_write(number, version), last, "key {number} at version {version}");
            }
        }
    }
}
