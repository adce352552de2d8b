//! A process that commits is killed at random moments: nothing that it was told to be durable is missing.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test may stop at what it did not expect"
)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use bristlecone::vfs::DiskVfs;
use bristlecone::{Namespace, RootSchedule, SchemeKind};
use common::{Change, Config, Depth, Model, Rng, Universe, batches, is_long, sequences, verify};

const DIR: &str = "BRISTLECONE_KILL_DIR";
const SEED: &str = "BRISTLECONE_KILL_SEED";

fn config(seed: u64) -> Config {
    let mut rng = Rng::new(seed);
    let scheme = *rng.pick(&[SchemeKind::Ethereum, SchemeKind::Blake3]);
    Config {
        roots: *rng.pick(&[RootSchedule::Every(1), RootSchedule::Every(5)]),
        seal_keys: *rng.pick(&[1, 50, 500]),
        max_unsealed_keys: 2_000,
        segment_bytes: 256 << 10,
        log_bytes: 32 << 10,
        ..Config::small(vec![Namespace::accounts(scheme), Namespace::flat(scheme).named("flat")])
    }
}

fn model(seed: u64) -> Model {
    let config = config(seed);
    let universe = Universe::random(&config.namespaces, 60, &mut Rng::new(seed));
    Model::new(config.namespaces, config.first_version, universe)
}

/// The changes of the next version, always the same for the same history.
fn next(model: &Model, seed: u64) -> Vec<Change> {
    let version = model.last_version().map_or(0, |last| last + 1);
    batches::random(model, 40, false, &mut Rng::new(seed ^ (version + 1) << 20))
}

/// What the child does: it goes on from the version that it finds, for ever.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let store = config(seed).options(DiskVfs).open(dir).unwrap();
    let mut model = model(seed);
    while model.last_version() < store.latest_version() {
        let changes = next(&model, seed);
        model.commit(&changes);
    }
    println!("\nopened {:?}", store.latest_version().map_or(-1, |version| version as i64));
    let (commits, acknowledge) = channel::<bristlecone::Commit>();
    std::thread::spawn(move || {
        for commit in acknowledge {
            commit.durable().wait().unwrap();
            println!("\nacknowledged {}", commit.version());
            std::io::stdout().flush().unwrap();
        }
    });
    for round in 0.. {
        let changes = next(&model, seed);
        model.commit(&changes);
        let commit = store.commit(batches::batch_of(&model.namespaces, &changes)).unwrap();
        if round % 3 == 0 {
            commit.durable().wait().unwrap();
        }
        commits.send(commit).unwrap();
    }
}

/// Lets a child commit for a while and kills it; the last version that it acknowledged.
fn kill(dir: &Path, seed: u64, after: Duration) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (opened, is_open) = channel();
    let reader = std::thread::spawn(move || {
        let mut last = None;
        for line in out.lines().map_while(Result::ok) {
            if line.starts_with("opened ") {
                let _ = opened.send(());
            }
            if let Some(version) = line.strip_prefix("acknowledged ") {
                last = last.max(version.parse().ok());
            }
        }
        last
    });
    // Sometimes before it is open, sometimes long after.
    let _ = is_open.recv_timeout(after * 3);
    std::thread::sleep(after);
    let early = child.try_wait().unwrap();
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(early, None, "the child ended: {}", String::from_utf8_lossy(&output.stderr));
    reader.join().unwrap()
}

#[test]
fn nothing_acknowledged_is_missing_after_a_kill() {
    let kills = if is_long() { 250 } else { 5 };
    let mut total = 0;
    sequences("kills", 4, |seed| {
        let dir = tempfile::tempdir().unwrap();
        let (mut model, mut rng) = (model(seed), Rng::new(seed + 1000));
        let mut promised = None;
        for round in 0..kills {
            let after = Duration::from_millis(rng.within(0, 200) as u64);
            promised = promised.max(kill(dir.path(), seed, after));
            total += 1;
            let told = || format!("seed {seed}, kill {round} after {after:?}");
            let store =
                config(seed).options(DiskVfs).open(dir.path()).unwrap_or_else(|e| panic!("{}: {e}", told()));
            let found = store.latest_version();
            assert!(found >= promised, "{}: {found:?} is found, {promised:?} was acknowledged", told());
            while model.last_version() < found {
                let changes = next(&model, seed);
                model.commit(&changes);
            }
            verify::versions(&store, &model).unwrap_or_else(|what| panic!("{}: {what}", told()));
            let versions: Vec<u64> = model.versions().collect();
            for version in &versions {
                let is_new = versions.len() as u64 - version <= 10;
                if is_new || rng.below(versions.len()) < 20 {
                    let depth = if is_new { Depth::ALL } else { Depth::ROOTS };
                    verify::version_at(&store, &model, *version, depth, &mut rng)
                        .unwrap_or_else(|what| panic!("{}: {what}", told()));
                }
            }
            promised = found;
            if rng.chance(50) {
                store.check(|_| ()).unwrap();
            }
            store.close().unwrap();
        }
        eprintln!("seed {seed}: {promised:?} versions");
    });
    eprintln!("kills: {total}");
}
