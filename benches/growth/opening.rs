//! Opening: after a clean close, and after a process was stopped whose last commits were durable and not sealed, with the page cache warm.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bristlecone::{Batch, Store};

use crate::workload::Workload;
use crate::{Hash, Size, options};

/// Set for the process that is stopped: the directory of the store. The keys that it changes come in by its standard input.
const STOPPED: &str = "BRISTLECONE_BENCH_STOPPED";
const TIMES: usize = 5;
const TIMES_STOPPED: usize = 3;
/// Of those keys; the last commits are in before a seal of the first ones can be done.
const COMMITS: usize = 4;

/// Changes what it is told to and ends the process, if this is the process for it.
pub(crate) fn stop_if_asked() -> bool {
    let Some(dir) = std::env::var_os(STOPPED) else { return false };
    let mut keys = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut keys).expect("keys");
    let keys: Vec<&[u8]> = keys.chunks_exact(size_of::<Hash>()).collect();
    let store = Store::open(dir).expect("it opens");
    let batches = keys.chunks(keys.len().div_ceil(COMMITS)).map(|keys| {
        let mut batch = Batch::new();
        for key in keys {
            batch.put(key, blake3::hash(key).as_bytes());
        }
        batch
    });
    let batches: Vec<Batch> = batches.collect();
    let commits: Vec<_> = batches.into_iter().map(|batch| store.commit(batch).expect("a commit")).collect();
    for commit in &commits {
        commit.durable().wait().expect("durable");
    }
    // No destructor runs, and no other thread goes on: nothing is closed.
    std::process::exit(0);
}

pub(crate) fn report(store: Store, dir: &Path, workload: &mut Workload, size: Size) {
    let versions = store.versions().len();
    store.close().expect("it closes");
    let open = || {
        let begun = Instant::now();
        let store = options(size).open(dir).expect("it opens");
        (begun.elapsed(), store)
    };
    let mut clean: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let (spent, store) = open();
            store.close().expect("it closes");
            spent
        })
        .collect();
    let mut unsealed = Vec::new();
    let mut stopped: Vec<Duration> = (0..TIMES_STOPPED)
        .map(|_| {
            stop(dir, workload, size);
            let (spent, store) = open();
            unsealed.push(store.stats().expect("figures").unsealed_keys);
            store.close().expect("it closes");
            spent
        })
        .collect();
    clean.sort_unstable();
    stopped.sort_unstable();
    println!(
        "  opened, {versions} versions: after a clean close in {:.1} ms (median of {TIMES}); after a stop in {:.0} ms (median of {TIMES_STOPPED}), at most {} changed keys unsealed",
        clean[TIMES / 2].as_secs_f64() * 1e3,
        stopped[TIMES_STOPPED / 2].as_secs_f64() * 1e3,
        unsealed.iter().max().copied().unwrap_or(0)
    );
}

/// Another process changes keys and ends.
fn stop(dir: &Path, workload: &mut Workload, size: Size) {
    let keys: Vec<u8> = (0..size.unsealed).flat_map(|_| workload.loaded()).collect();
    let mut process = Command::new(std::env::current_exe().expect("this program"))
        .env(STOPPED, dir)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut input = process.stdin.take().expect("its input");
    std::io::Write::write_all(&mut input, &keys).expect("it listens");
    drop(input);
    let status = process.wait().expect("it ends");
    assert!(status.success(), "the process ended with {status}");
}
