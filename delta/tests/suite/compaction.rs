//! Segments written anew: what lives reads as before, what is dead is gone, and every stop in between leaves one of the two.

use std::ops::ControlFlow;

use bristlecone_delta::vfs::sim::{CrashPolicy, Fault, FaultRule, SimVfs};
use bristlecone_delta::{Error, Graves, Locator, LogPosition, Opened, Stamp};

use crate::common::{DIR, open_in, payload, seal, small, stamp};

const RUNS: u64 = 12;

/// A store with several segments, and where its seals and root pages are. A page's chain is a base and up to eight deltas.
fn store() -> (SimVfs, Vec<(Locator, Locator)>) {
    let sim = SimVfs::new(3);
    let mut opened = open_in(&sim, &small()).unwrap();
    let mut runs = Vec::new();
    let mut previous = None;
    for version in 0..RUNS {
        let at = stamp(1, version);
        let log = opened.log.as_mut().unwrap();
        let end: LogPosition = log.append_batch(version, at, None, &payload(version)).unwrap();
        log.sync().unwrap();
        let versions: [(u64, Stamp, LogPosition); 1] = [(version, at, end)];
        previous = Some(seal(&mut opened, &versions, previous).unwrap());
        runs.extend(previous);
    }
    opened.log.take().unwrap().close().unwrap();
    (sim.crash_image(CrashPolicy::KeepAll, 0), runs)
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The bytes of all records of the runs that `which` holds for; what is missing as an error.
fn records(
    opened: &Opened,
    runs: &[(Locator, Locator)],
    which: impl Fn(Locator) -> bool,
) -> Result<Vec<Vec<u8>>, Error> {
    let view = opened.segments.view();
    let all = runs.iter().flat_map(|(seal, page)| [*seal, *page]).filter(|record| which(*record));
    all.map(|record| view.record(record).map(<[u8]>::to_vec)).collect()
}

/// Seals die; pages live.
fn is_live(runs: &[(Locator, Locator)], record: Locator) -> bool {
    runs.iter().all(|(seal, _)| *seal != record)
}

fn compact(opened: &Opened, segment: u32, runs: &[(Locator, Locator)]) -> Result<(), Error> {
    let live = |record| is_live(runs, Locator::new(segment, record).unwrap());
    let done = opened.compactor.as_ref().unwrap().compact(segment, live, &mut go_on)?;
    let done = done.expect("nobody broke it off");
    assert!(done.after < done.before && done.gone > 0, "{done:?}");
    Ok(())
}

#[test]
fn what_lives_keeps_its_name_and_its_bytes_and_what_is_dead_is_gone() {
    let (sim, runs) = store();
    let mut opened = open_in(&sim, &small()).unwrap();
    let newest = runs.last().unwrap().0.segment();
    assert!(newest > 3, "{newest} segments");
    let all = records(&opened, &runs, |_| true).unwrap();
    let pages = records(&opened, &runs, |record| is_live(&runs, record)).unwrap();
    let before = opened.segments.stats();
    let held = opened.segments.view();
    let first = held.record(runs[0].0).unwrap();
    for segment in 1..newest {
        compact(&opened, segment, &runs).unwrap();
        // A second time there is nothing to gain, and nothing lost.
        let compactor = opened.compactor.as_ref().unwrap();
        compactor.compact(segment, |_| true, &mut go_on).unwrap().unwrap();
    }
    assert_eq!(first, all[0], "a view goes on with what it had");
    drop(held);
    for _ in 0..2 {
        let stats = opened.segments.stats();
        assert_eq!((stats.segments, stats.compacted), (before.segments, u64::from(newest) - 1));
        assert!(stats.bytes < before.bytes && stats.records < before.records);
        assert_eq!(records(&opened, &runs, |record| is_live(&runs, record)).unwrap(), pages);
        for (seal, page) in &runs {
            let gone = opened.segments.view().record(*seal).map(drop);
            let is_gone = matches!(gone, Err(Error::NoRecord { segment, record }) if (segment, record)
                == (seal.segment(), seal.record()));
            assert_eq!(is_gone, seal.segment() < newest);
            opened.segments.load(*page).unwrap();
        }
        opened.segments.verify_all().unwrap();
        // Opened again, and the chain of groups goes on behind them.
        let (log, writer, lock) = (opened.log.take(), opened.writer.take(), opened.lock.take());
        drop(log);
        drop((writer, lock, opened));
        opened = open_in(&sim, &small()).unwrap();
    }
    let log_position = opened.log.as_ref().unwrap().position();
    let versions = [(RUNS, stamp(opened.opening, RUNS), log_position)];
    seal(&mut opened, &versions, runs.last().copied()).unwrap();
    drop(opened);
    assert_eq!(open_in(&sim, &small()).unwrap().last_seal.unwrap().1.versions[0].version, RUNS);
}

#[test]
fn the_newest_segment_is_not_compacted_and_what_is_broken_off_changes_nothing() {
    let (sim, runs) = store();
    let opened = open_in(&sim, &small()).unwrap();
    let newest = runs.last().unwrap().0.segment();
    let compactor = opened.compactor.as_ref().unwrap();
    let invalid = compactor.compact(newest, |_| true, &mut go_on);
    assert!(matches!(invalid, Err(Error::Invalid { .. })), "{invalid:?}");
    let missing = compactor.compact(newest + 1, |_| true, &mut go_on);
    assert!(matches!(missing, Err(Error::NoRecord { .. })), "{missing:?}");
    let before = sim.files();
    let broken = compactor.compact(1, |_| true, &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!((broken, opened.segments.stats().compacted, sim.files()), (None, 0, before));
}

#[test]
fn a_segment_of_which_nothing_is_left_still_holds_the_chain_together() {
    let (sim, runs) = store();
    let opened = open_in(&sim, &small()).unwrap();
    opened.compactor.as_ref().unwrap().compact(2, |_| false, &mut go_on).unwrap().unwrap();
    drop(opened);
    let opened = open_in(&sim, &small()).unwrap();
    opened.segments.verify_all().unwrap();
    let gone: Vec<_> = runs.iter().filter(|(seal, _)| seal.segment() == 2).collect();
    assert!(!gone.is_empty());
    for (seal, _) in gone {
        assert!(matches!(opened.segments.seal(*seal), Err(Error::NoRecord { .. })));
    }
}

#[test]
fn a_power_cut_at_any_moment_leaves_the_old_or_the_new() {
    let (sim, runs) = store();
    let opened = open_in(&sim, &small()).unwrap();
    let pages = records(&opened, &runs, |record| is_live(&runs, record)).unwrap();
    let from = sim.op_count();
    let mut graves = Graves::default();
    graves.bury(&opened.segments.view(), runs[0].0).unwrap();
    graves.save(opened.compactor.as_ref().unwrap()).unwrap();
    compact(&opened, 1, &runs).unwrap();
    compact(&opened, 2, &runs).unwrap();
    drop(opened);
    let mut images = 0;
    for case in sim.crash_cases(&CrashPolicy::EVERY, 0..1).between(from..sim.op_count() + 1) {
        let opened = open_in(&case.image, &small()).unwrap_or_else(|error| panic!("{case}: {error}"));
        let found = records(&opened, &runs, |record| is_live(&runs, record));
        assert_eq!(found.unwrap_or_else(|error| panic!("{case}: {error}")), pages);
        opened.segments.verify_all().unwrap_or_else(|error| panic!("{case}: {error}"));
        let leftovers = |path: &std::path::Path| path.extension().is_some_and(|end| end == "tmp");
        let in_segments = |path: &std::path::Path| path.starts_with(format!("{DIR}/segments"));
        assert!(!case.image.files().iter().any(|path| leftovers(path) && in_segments(path)), "{case}");
        images += 1;
    }
    assert!(images > 100, "{images} images");
}

#[test]
fn a_call_that_fails_is_told_and_loses_nothing_and_the_next_try_succeeds() {
    let (sim, runs) = store();
    let mut failed = 0;
    for fault in [Fault::Eio, Fault::NoSpace, Fault::ShortWrite] {
        for index in 0.. {
            let sim = sim.crash_image(CrashPolicy::KeepAll, 0);
            let opened = open_in(&sim, &small()).unwrap();
            let pages = records(&opened, &runs, |record| is_live(&runs, record)).unwrap();
            sim.fail(FaultRule::at_call(sim.call_count() + index, fault));
            let outcome = compact(&opened, 1, &runs);
            sim.clear_faults();
            assert_eq!(records(&opened, &runs, |record| is_live(&runs, record)).unwrap(), pages);
            let lost = sim.crash_image(CrashPolicy::KeepNothing, 0);
            let again = open_in(&lost, &small()).unwrap();
            assert_eq!(records(&again, &runs, |record| is_live(&runs, record)).unwrap(), pages);
            match outcome {
                Ok(()) => break,
                Err(Error::Io { .. }) => failed += 1,
                Err(other) => panic!("{fault:?} at call {index}: {other}"),
            }
            compact(&opened, 1, &runs).unwrap();
            assert_eq!(records(&opened, &runs, |record| is_live(&runs, record)).unwrap(), pages);
        }
    }
    assert!(failed > 10, "{failed} calls failed");
}
