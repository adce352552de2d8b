//! Opening a store whose process was stopped with commits that were durable and not sealed, with the page cache warm.
//!
//! Another process makes that store, and ends without closing it; each opening is of a copy of what it left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bristlecone::vfs::DiskVfs;
use bristlecone::{RootSchedule, SchemeKind};
use bristlecone_delta::decode_ops;
use criterion::{Criterion, Throughput};

use crate::fixture::{Fixture, options};

/// Set for the process that makes the store; it does so in the system's temporary directory.
const STOPPED: &str = "BRISTLECONE_BENCH_STOPPED";

/// Commits that are not sealed when it ends: less than what is sealed by itself.
const UNSEALED: usize = 10;

/// Makes the store and ends the process, if this is the process for it.
pub(crate) fn stop_if_asked() {
    if std::env::var_os(STOPPED).is_none() {
        return;
    }
    // Roots would take longer than commits may wait to be sealed.
    let mut fixture = Fixture::loaded(SchemeKind::Ethereum, RootSchedule::OnDemand);
    let batches: Vec<_> = (0..UNSEALED).map(|_| fixture.block()).collect();
    let commits: Vec<_> =
        batches.into_iter().map(|batch| fixture.store.commit(batch).expect("a commit")).collect();
    for commit in &commits {
        commit.durable().wait().expect("durable");
    }
    // No destructor runs, and no other thread goes on: nothing is closed.
    std::process::exit(0);
}

pub(crate) fn all(criterion: &mut Criterion) {
    let left = Left::new();
    let mut group = criterion.benchmark_group("recover");
    // An opened store takes longer to be closed again than to be opened.
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(left.keys));
    group.bench_function("open, after a stop with unsealed commits", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| left.open()).sum());
    });
    group.finish();
}

/// What a process left that was stopped.
struct Left {
    home: tempfile::TempDir,
    store: PathBuf,
    /// Operations that are not sealed.
    keys: u64,
}

impl Left {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let status = Command::new(std::env::current_exe().expect("this program"))
            .args(std::env::args_os().skip(1))
            .env(STOPPED, "1")
            .env("TMPDIR", home.path())
            .stdout(Stdio::null())
            .status()
            .expect("a process");
        assert!(status.success(), "the process ended with {status}");
        let store =
            fs::read_dir(home.path()).expect("a directory").next().expect("a store").expect("a store");
        let store = store.path();
        let read_only = bristlecone_delta::Options { read_only: true, ..Default::default() };
        let found = bristlecone_delta::open(Arc::new(DiskVfs), &store, &read_only).expect("a store");
        assert!(!found.clean, "it was closed");
        let ops = found.tail.iter().map(|batch| {
            let namespaces = decode_ops(&batch.payload).expect("operations");
            namespaces.iter().map(|(_, ops)| ops.len() as u64).sum::<u64>()
        });
        let keys = ops.sum();
        assert!(keys > 0, "everything was sealed before the process ended");
        Self { home, store, keys }
    }

    /// Times the opening of a copy.
    fn open(&self) -> Duration {
        let copy = self.home.path().join("copy");
        copy_dir(&self.store, &copy);
        let begun = Instant::now();
        let store = options(SchemeKind::Ethereum).open(&copy).expect("it opens");
        let spent = begun.elapsed();
        store.close().expect("it closes");
        fs::remove_dir_all(&copy).expect("it goes away");
        spent
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let (from, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("a file");
        if from.is_dir() {
            copy_dir(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}
