//! The whole committer on a simulated disk, one schedule after the other: shuttle decides whose turn it is at every lock, queue, bell
//! and pin, and at every call of the disk, and says where all wait for one another.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test --release -p bristlecone --test schedules --target-dir target/shuttle
//! ```
//!
//! Half of the schedules are drawn at random, half by priorities that change at a few moments (PCT: S. Burckhardt and others, "A
//! randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010). What is exchanged: the locks, queues and threads, and the
//! epochs, for which the stand-in of `snapshot` frees at the earliest moment. The lock-free parts themselves are loom's
//! (`snapshot/tests/loom.rs`). The catalog is the real one, redb on the same disk: one thread has it.
//!
//! `BRISTLECONE_SCHEDULES=n` says how many schedules each test explores, `BRISTLECONE_SEED=n` what they are drawn from. A seed draws the same
//! schedules only as far as the store does the same: it asks the time now and then.
#![cfg(shuttle)]
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use std::sync::Arc;

use bristlecone::vfs::sim::{CrashPolicy, Fault, FaultRule, OpKind, Selector, SimVfs};
use bristlecone::{
    Batch, Blake3, Commit, Error, Namespace, Options, Result, RootSchedule, SchemeKind, Store, trie_proof,
};
use bristlecone_torture::Rng;
use bristlecone_torture::faults::{self, Harm};
use bristlecone_torture::jitter::jittered;
use bristlecone_torture::phase::{Phase, examine};
use bristlecone_torture::workload::ALL;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{MaxSteps, Runner, thread};

/// Changes of priority in one schedule.
const PCT_DEPTH: usize = 3;
/// A schedule with more steps has lost its way: those that end have some ten thousand.
const MOST_STEPS: usize = 20_000_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number")))
}

/// Runs `test` under so many schedules, or as many as the environment says.
fn explore(name: &str, schedules: usize, test: impl Fn(Rng) + Send + Sync + 'static) {
    let schedules = number("BRISTLECONE_SCHEDULES").map_or(schedules, |number| number as usize).max(2);
    let seed = number("BRISTLECONE_SEED").unwrap_or(1);
    let mut config = shuttle::Config::new();
    config.stack_size = 2 << 20;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    // What they are is drawn by the schedule too.
    let test =
        Arc::new(move || test(Rng::new(shuttle::rand::RngCore::next_u64(&mut shuttle::rand::thread_rng()))));
    let half = schedules / 2;
    let random = RandomScheduler::new_from_seed(seed, half);
    let pct = PctScheduler::new_from_seed(seed, PCT_DEPTH, schedules - half);
    let again = test.clone();
    let done = Runner::new(random, config.clone()).run(move || test())
        + Runner::new(pct, config).run(move || again());
    assert_eq!(done, schedules);
    eprintln!("{name}: {done} schedules");
}

/// A small store: every commit makes a run of its own, no page stays in memory longer than it must.
fn store(sim: &SimVfs, rng: &mut Rng) -> Result<Store> {
    Options::new()
        .vfs(Arc::new(jittered(sim.clone(), rng.next_u64())))
        .namespace(Namespace::flat(SchemeKind::Blake3).raw())
        .threads(1)
        .roots(*rng.pick(&[RootSchedule::Every(1), RootSchedule::Every(2), RootSchedule::OnDemand]))
        .seal_keys(*rng.pick(&[1, 4, 1000]))
        .cache_bytes(*rng.pick(&[0, 1 << 30]))
        .segment_bytes(4 << 10)
        .log_bytes(4 << 10)
        .open("/a/store")
}

const KEYS: u64 = 3;

/// Version v changes key v mod 3, and key 3 always.
fn batch(version: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(&(version % KEYS).to_be_bytes(), &version.to_be_bytes());
    batch.put(&KEYS.to_be_bytes(), &version.to_be_bytes());
    batch
}

/// What a key is at a version.
fn value(key: u64, version: u64) -> Option<Vec<u8>> {
    let changed = (0..=version).rev().find(|at| key == KEYS || at % KEYS == key)?;
    Some(changed.to_be_bytes().to_vec())
}

fn reads_right(snapshot: &bristlecone::Snapshot) {
    let version = snapshot.version();
    for key in 0..=KEYS {
        let found = snapshot.get(&key.to_be_bytes()).unwrap();
        assert_eq!(found, value(key, version), "key {key} at version {version}");
    }
}

/// Every workload of the power cuts, its reads and waits judged; then power, at some moment.
#[test]
fn workloads_are_right_and_survive_a_power_cut_in_every_schedule() {
    explore("workloads", 400, |mut rng| {
        let workload = rng.pick(ALL);
        // Odd ones have pauses, which are turns.
        let seed = rng.next_u64() | 1;
        let phase = Phase::fresh(SimVfs::new(seed), workload, seed);
        let phase = phase.unwrap_or_else(|what| panic!("{}: {what}", workload.name));
        assert_eq!(phase.failure, None, "{}", workload.name);
        for _ in 0..2 {
            let boundary = rng.below(phase.sim.op_count() + 1);
            let policy = *rng.pick(&[CrashPolicy::KeepNothing, CrashPolicy::Mix]);
            let image = phase.sim.image_at(boundary, policy, seed);
            if let Err(what) = examine(image, &phase, phase.timeline.at(boundary), &mut rng) {
                panic!("{}, power cut at {boundary} ({policy:?}): {what}", workload.name);
            }
        }
    });
}

/// A call fails, once or for ever: nobody waits for ever, nothing false is acknowledged, readers go on, and reopening is right.
#[test]
fn a_failing_call_leads_to_no_false_acknowledgement_in_any_schedule() {
    explore("failing calls", 300, |mut rng| {
        let workload = rng.pick(ALL);
        let seed = rng.next_u64() | 1;
        let index = rng.below(600) as u64;
        let forever = rng.chance(50);
        let fault = *rng.pick(&[Fault::Eio, Fault::NoSpace, Fault::Interrupted, Fault::ShortWrite]);
        let harm = match rng.below(3) {
            0 => Harm::Call { index, fault, forever },
            1 => Harm::Op { index: index as usize, fault, forever },
            _ => Harm::Full { bytes: (rng.within(4, 400) << 10) as u64 },
        };
        if let Err(what) = faults::one(workload, seed, harm) {
            panic!("{}, {harm}: {what}", workload.name);
        }
    });
}

/// A compaction and a seal make files in one directory, and one sync of it fails: what that lost is nobody's but the caller's.
#[test]
fn a_directory_whose_sync_fails_loses_nothing_that_was_promised_in_any_schedule() {
    const BEFORE: u64 = 8;
    explore("failing syncs of names", 400, |mut rng| {
        let sim = SimVfs::new(1);
        // A segment for every run or two.
        let large = |version: u64| {
            let mut batch = batch(version);
            batch.put(b"large", &[version as u8; 2500]);
            batch
        };
        let store = self::store(&sim, &mut rng).unwrap();
        for version in 0..BEFORE {
            store.commit(large(version)).unwrap();
            store.flush().unwrap();
        }
        store.prune(1).unwrap();
        let names = Selector::kind(OpKind::SyncDir).ending("segments");
        sim.fail(FaultRule::matching(names, Fault::Eio).after(rng.below(4) as u64));
        let compacting = {
            let store = store.clone();
            thread::spawn(move || drop(store.compact(|_| ())))
        };
        let mut promised = BEFORE - 1;
        for version in BEFORE..BEFORE + 4 {
            let Ok(commit) = store.commit(large(version)) else { break };
            if store.flush().is_err() {
                break;
            }
            promised = commit.version();
        }
        compacting.join().unwrap();
        drop(store);
        let image = sim.crash_image(CrashPolicy::KeepNothing, rng.next_u64());
        let again =
            self::store(&image, &mut rng).unwrap_or_else(|error| panic!("after a power cut: {error}"));
        let latest = again.latest().unwrap();
        assert!(latest.version() >= promised, "{} of {promised}", latest.version());
        reads_right(&latest);
    });
}

/// Readers beside a committer, a pruner and seals: each version is what it was, for as long as it is held, and no figure goes back.
#[test]
fn readers_see_whole_versions_in_every_schedule() {
    const VERSIONS: u64 = 5;
    explore("readers", 400, |mut rng| {
        let sim = SimVfs::new(1);
        let store = store(&sim, &mut rng).unwrap();
        store.commit(batch(0)).unwrap();
        let readers: Vec<_> = (0..2)
            .map(|_| (store.clone(), Rng::new(rng.next_u64())))
            .map(|(store, mut rng)| {
                thread::spawn(move || {
                    let (mut seen, mut durable, mut sealed) = (0, None, None);
                    for _ in 0..4 {
                        let now = (store.latest_sealed(), store.latest_durable());
                        let latest = store.latest().unwrap();
                        assert!(latest.version() >= seen && now.0 >= sealed && now.1 >= durable);
                        assert!(now.0 <= Some(latest.version()) && now.1 <= Some(latest.version()));
                        (seen, sealed, durable) = (latest.version(), now.0, now.1);
                        reads_right(&latest);
                        let version = rng.below(seen as usize + 1) as u64;
                        match store.at(version) {
                            Ok(old) => {
                                reads_right(&old);
                                thread::yield_now();
                                reads_right(&old);
                                let proof = old.prove(&KEYS.to_be_bytes()).unwrap();
                                let root = old.root().unwrap();
                                let proven =
                                    trie_proof::verify::<Blake3>(root, &proof.key, &proof.nodes).unwrap();
                                assert_eq!(proven, value(KEYS, version));
                            }
                            Err(Error::VersionNotKept { first, .. }) => assert!(version < first),
                            Err(error) => panic!("version {version}: {error}"),
                        }
                        reads_right(&latest);
                    }
                })
            })
            .collect();
        let keeper = {
            let (store, mut rng) = (store.clone(), Rng::new(rng.next_u64()));
            thread::spawn(move || {
                for _ in 0..2 {
                    match rng.below(3) {
                        0 => drop(store.prune(2).unwrap()),
                        1 => drop(store.compact(|_| ()).unwrap()),
                        _ => store.flush().unwrap(),
                    }
                }
            })
        };
        for version in 1..=VERSIONS {
            let commit = store.commit(batch(version)).unwrap();
            assert_eq!(commit.version(), version);
            if rng.chance(30) {
                commit.root().wait().unwrap();
            }
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        keeper.join().unwrap();
        store.close().unwrap();
    });
}

/// Somebody closes the store while others commit and wait: whoever waits is told, and what was promised is there.
#[test]
fn closing_ends_every_wait_in_every_schedule() {
    explore("closing", 4_000, |mut rng| {
        let sim = SimVfs::new(1);
        let store = store(&sim, &mut rng).unwrap();
        let first = store.commit(batch(0)).unwrap();
        let committer = {
            let (store, what) = (store.clone(), rng.below(3));
            thread::spawn(move || {
                let mut durable = None;
                for version in 1..4 {
                    let commit = match store.commit(batch(version)) {
                        Ok(commit) => commit,
                        Err(Error::Closed) => break,
                        Err(error) => panic!("{error}"),
                    };
                    let waited = match what {
                        0 => commit.durable().wait(),
                        1 => commit.root().wait().map(drop),
                        _ => commit.sealed().wait(),
                    };
                    match waited {
                        Ok(()) if what != 1 => durable = Some(version),
                        Ok(()) | Err(Error::Closed) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                durable
            })
        };
        let flushers = [0; 3].map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                loop {
                    match store.flush() {
                        Ok(()) => {}
                        Err(Error::Closed) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        let held = store.latest().unwrap();
        store.close().unwrap();
        first.durable().wait().unwrap();
        first.sealed().wait().unwrap();
        reads_right(&held);
        let durable = committer.join().unwrap();
        flushers.into_iter().for_each(|flusher| flusher.join().unwrap());
        drop((held, first));
        let again = self::store(&sim, &mut rng).unwrap();
        let latest = again.latest().unwrap();
        assert!(Some(latest.version()) >= durable);
        reads_right(&latest);
    });
}

/// Two lines of proposals of which one may be accepted, and a rollback beside them: one outcome, and every handle ends.
#[test]
fn one_of_two_siblings_is_accepted_in_every_schedule() {
    explore("proposals", 400, |mut rng| {
        let sim = SimVfs::new(1);
        let store = store(&sim, &mut rng).unwrap();
        for version in 0..3 {
            store.commit(batch(version)).unwrap();
        }
        let base = store.latest().unwrap();
        let siblings = [0; 2].map(|_| store.propose(&base, batch(3)).unwrap());
        let siblings: Vec<_> = siblings
            .into_iter()
            .map(|proposal| {
                thread::spawn(move || {
                    let snapshot = proposal.snapshot();
                    match snapshot.get(&KEYS.to_be_bytes()) {
                        Ok(found) => assert_eq!(found, value(KEYS, 3)),
                        Err(Error::ProposalEnded { version: 3 }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    let child = proposal.propose(batch(4));
                    let accepted = proposal.accept();
                    let child = child.and_then(|child| child.accept());
                    (accepted, child)
                })
            })
            .collect();
        let rolls_back = rng.chance(40);
        let back = rolls_back.then(|| {
            let store = store.clone();
            thread::spawn(move || store.rollback(1).unwrap())
        });
        let outcomes: Vec<_> = siblings.into_iter().map(|sibling| sibling.join().unwrap()).collect();
        if let Some(back) = back {
            back.join().unwrap();
        }
        let accepted: Vec<&(Result<Commit>, Result<Commit>)> =
            outcomes.iter().filter(|one| one.0.is_ok()).collect();
        assert!(accepted.len() <= 1 && (rolls_back || accepted.len() == 1), "{outcomes:?}");
        for (commit, child) in &outcomes {
            for outcome in [commit, child] {
                match outcome {
                    Ok(commit) => match commit.durable().wait() {
                        Ok(()) => drop(commit.root().wait()),
                        Err(Error::RolledBack { .. }) if rolls_back => {}
                        Err(error) => panic!("{error}"),
                    },
                    Err(Error::ProposalEnded { .. } | Error::ParentNotAccepted { .. }) => {}
                    Err(Error::RolledBack { .. } | Error::StaleParent { .. }) if rolls_back => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
        let latest = store.latest().unwrap();
        assert!(
            if rolls_back { latest.version() >= 1 } else { latest.version() == 4 },
            "{}",
            latest.version()
        );
        reads_right(&latest);
        drop((base, outcomes, latest));
        store.close().unwrap();
        reads_right(&self::store(&sim, &mut rng).unwrap().latest().unwrap());
    });
}
