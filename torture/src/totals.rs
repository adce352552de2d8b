//! What a campaign did, in numbers.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Check;

/// Counts by name, and what went wrong.
#[derive(Debug, Default)]
pub struct Totals {
    pub counts: BTreeMap<String, u64>,
    pub failures: Vec<String>,
    /// Hashes of disk images, so that equal ones count once.
    pub images: HashSet<u128>,
    pub time: Duration,
}

impl Totals {
    pub fn add(&mut self, name: &str, count: u64) {
        *self.counts.entry(name.to_owned()).or_default() += count;
    }

    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    fn merge(&mut self, other: Self) {
        for (name, count) in other.counts {
            self.add(&name, count);
        }
        self.failures.extend(other.failures);
        self.images.extend(other.images);
    }

    /// What a test says: the counts, or a panic with the first failures.
    pub fn unwrap(&self) {
        let shown: Vec<&String> = self.failures.iter().take(3).collect();
        assert!(shown.is_empty(), "{} failures, the first: {shown:#?}", self.failures.len());
    }
}

/// Runs `work` on each job, on `threads` threads, until `deadline`: jobs that were not begun by then count as left out. A panic of the engine is a failure as
/// any other.
pub fn share<T: Sync + std::fmt::Debug>(
    jobs: &[T],
    threads: usize,
    deadline: Option<Instant>,
    work: impl Fn(&T, &mut Totals) -> Check + Sync,
) -> Totals {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Totals::default()));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut totals = Totals::default();
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                        totals.add("left out", 1);
                        continue;
                    }
                    let guarded = std::panic::AssertUnwindSafe(|| work(job, &mut totals));
                    let failure = match std::panic::catch_unwind(guarded) {
                        Ok(Ok(())) => continue,
                        Ok(Err(what)) => what,
                        Err(panic) => format!("panicked: {}", message(&*panic)),
                    };
                    eprintln!("FAILED {job:?}: {failure}");
                    totals.failures.push(format!("{job:?}: {failure}"));
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).merge(totals);
            });
        }
    });
    let mut totals = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.time = started.elapsed();
    totals
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
