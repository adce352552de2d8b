//! Going back: what cold reads of old versions touch, and what reads and proofs of them take once the page cache is warm.

use std::time::{Duration, Instant};

use bristlecone::{Key, ReadPath, Snapshot, Store};

use crate::Hash;
use crate::workload::Workload;

const PROBES: usize = 50_000;
const SAMPLED_ENDS: usize = 64;
const READS: usize = 50_000;
const PROOFS: usize = 500;
const PROOFS_INSIDE: usize = 20;
/// How far back reads and proofs go, in versions.
const BACK: [u64; 2] = [100, 10_000];

/// The last versions of sealed runs, oldest first.
#[derive(Default)]
pub(crate) struct Past {
    ends: Vec<u64>,
}

impl Past {
    /// To be called after each commit.
    pub(crate) fn look(&mut self, store: &Store) {
        let sealed = store.latest_sealed();
        if sealed != self.ends.last().copied() {
            self.ends.extend(sealed);
        }
    }

    pub(crate) fn report(mut self, store: &Store, workload: &mut Workload) {
        // What was just sealed may be in memory still.
        self.ends.truncate(self.ends.len().saturating_sub(2));
        if self.ends.is_empty() {
            println!("  too few sealed runs to go back to");
            return;
        }
        self.paths(store, workload);
        let latest = store.latest_version().expect("versions");
        for back in BACK {
            self.old(store, workload, latest.saturating_sub(back), latest);
        }
    }

    /// What cold reads of ends of runs touch. Many runs of the last half: the pages at the top get their bases at the same time, so that one run says
    /// little.
    fn paths(&self, store: &Store, workload: &mut Workload) {
        let step = self.ends.len().div_ceil(SAMPLED_ENDS).max(1);
        let ends = self.ends.iter().step_by(step);
        let snapshots: Vec<Snapshot> = ends.map(|end| store.at(*end).expect("a kept version")).collect();
        let path = |_| {
            let (at, key) = (workload.below(snapshots.len()), workload.loaded());
            snapshots[at].first().read_path(Key::Flat(&key)).expect("a read")
        };
        let paths: Vec<ReadPath> = (0..PROBES).map(path).collect();
        let mean = |of: fn(&ReadPath) -> u64| paths.iter().map(of).sum::<u64>() as f64 / paths.len() as f64;
        let most = |of: fn(&ReadPath) -> u64| paths.iter().map(of).max().unwrap_or(0);
        assert_eq!(most(|path| path.memory_pages), 0, "a sealed version is read from the log");
        println!(
            "  records on the path of a cold read: mean {:.2}, at most {} (all of the chains: {:.2}, {}); pages {:.2}; {} ends of runs",
            mean(|path| path.records),
            most(|path| path.records),
            mean(|path| path.whole_chains),
            most(|path| path.whole_chains),
            mean(|path| path.stored_pages),
            snapshots.len(),
        );
    }

    /// Reads and proofs of the run that `version` is in, or the one after it: at its end, and in its middle.
    fn old(&self, store: &Store, workload: &mut Workload, version: u64, latest: u64) {
        let versions = store.versions();
        let first = versions.first().map_or(0, |info| info.version);
        let wanted = version.max(first);
        // Of the first half the ends are not known; any version there will do for reads.
        let at = self.ends.iter().position(|end| *end >= wanted).filter(|at| *at > 0);
        let (end, inside) = match at {
            Some(at) => (self.ends[at], Some(self.ends[at - 1].midpoint(self.ends[at]))),
            None => (wanted, None),
        };
        let snapshot = store.at(end).expect("a kept version");
        let keys: Vec<Hash> = (0..READS).map(|_| workload.loaded()).collect();
        let read = || timed(&keys, |key| drop(snapshot.get(key).expect("a read")));
        let (first, warm) = (read(), read());
        println!(
            "  {} versions back: a read p50 {}, mean {} (the first time, with checksums: mean {})",
            latest - end,
            micros(median(&warm)),
            micros(mean(&warm)),
            micros(mean(&first))
        );
        let prove = |snapshot: &Snapshot, proofs: usize| {
            let proved = |keys: &[Hash]| timed(keys, |key| drop(snapshot.prove(key).expect("a proof")));
            // The first ones read and hash the upper pages.
            proved(&keys[..proofs.min(PROOFS_INSIDE)]);
            micros(median(&proved(&keys[keys.len() - proofs..])))
        };
        match inside.filter(|inside| *inside < end) {
            Some(inside) => println!(
                "    a proof p50 {}; {} versions back, inside that run {}",
                prove(&snapshot, PROOFS),
                latest - inside,
                prove(&store.at(inside).expect("a kept version"), PROOFS_INSIDE)
            ),
            None => println!("    a proof p50 {}", prove(&snapshot, PROOFS)),
        }
    }
}

fn timed(keys: &[Hash], mut each: impl FnMut(&Hash)) -> Vec<Duration> {
    let mut times: Vec<_> = keys
        .iter()
        .map(|key| {
            let begun = Instant::now();
            each(key);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / times.len() as u32
}

fn micros(time: Duration) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6)
}
