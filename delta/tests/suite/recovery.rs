//! Opening again after all kinds of stops: what was found is a prefix of what was committed, with everything in it that was synced.

use std::collections::BTreeMap;

use crate::common::{DIR, open_in, page_of, payload, seal, small, stamp};
use bristlecone_delta::vfs::sim::{CrashPolicy, Fault, FaultRule, OpKind, Selector, SimVfs};
use bristlecone_delta::{Error, Found, Locator, LogPosition, Opened, Options, Result, Stamp};

/// What a run of commits knows of itself.
#[derive(Default, Debug, Clone)]
struct Model {
    /// Next version to commit.
    next: u64,
    /// (operations so far, versions below this are acknowledged).
    acknowledged: Vec<(usize, u64)>,
    stamps: BTreeMap<u64, Stamp>,
}

/// An open store and what is not sealed in it.
struct Run {
    opened: Opened,
    unsealed: Vec<(u64, Stamp, LogPosition)>,
    last: Option<(Locator, Locator)>,
}

impl Run {
    fn new(opened: Opened) -> Self {
        let unsealed = opened.tail.iter().map(|b| (b.version, b.stamp, b.end)).collect();
        let last = opened
            .last_seal
            .as_ref()
            .map(|(sealed, seal)| (sealed.locator(), seal.namespaces[0].root_page.unwrap()));
        Self { opened, unsealed, last }
    }

    fn commit(&mut self, model: &mut Model) -> Result<()> {
        let version = model.next;
        let at = stamp(self.opened.opening, version);
        let log = self.opened.log.as_mut().unwrap();
        // Before it is tried: what was tried may be found.
        model.stamps.insert(version, at);
        let end = log.append_batch(version, at, version.checked_sub(1).map(|_| at), &payload(version))?;
        model.next += 1;
        self.unsealed.push((version, at, end));
        if version.is_multiple_of(3) {
            log.append_root(at, bristlecone_trie::B256::repeat_byte(version as u8))?;
        }
        Ok(())
    }

    fn sync(&mut self, sim: &SimVfs, model: &mut Model) -> Result<()> {
        self.opened.log.as_mut().unwrap().sync()?;
        model.acknowledged.push((sim.op_count(), model.next));
        Ok(())
    }

    fn seal(&mut self, sim: &SimVfs, model: &mut Model, keep: usize) -> Result<()> {
        let count = self.unsealed.len().saturating_sub(keep);
        if count == 0 {
            return Ok(());
        }
        let run: Vec<_> = self.unsealed.drain(..count).collect();
        self.last = Some(seal(&mut self.opened, &run, self.last)?);
        model.acknowledged.push((sim.op_count(), run.last().unwrap().0 + 1));
        Ok(())
    }
}

/// Commits, syncs, seals, closes and opens again, in an order that `seed` decides. Fails where the disk does.
fn workload(sim: &SimVfs, seed: u64, steps: usize, model: &mut Model) -> Result<()> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) % below
    };
    let mut run = Run::new(open_in(sim, &small())?);
    for _ in 0..steps {
        match random(10) {
            0..=3 => run.commit(model)?,
            4..=5 => run.sync(sim, model)?,
            6..=7 => run.seal(sim, model, random(3) as usize)?,
            8 => {
                for _ in 0..random(4) {
                    run.commit(model)?;
                }
                run.sync(sim, model)?;
            }
            _ => {
                let clean = random(2) == 0;
                let Run { opened, .. } = run;
                let Opened { log, lock, writer, segments, .. } = opened;
                if clean {
                    log.unwrap().close()?;
                    model.acknowledged.push((sim.op_count(), model.next));
                } else {
                    drop(log);
                }
                drop((writer, segments, lock));
                let opened = open_in(sim, &small())?;
                assert_eq!(opened.clean, clean);
                model.acknowledged.push((sim.op_count(), model.next));
                run = Run::new(opened);
            }
        }
    }
    Ok(())
}

/// Everything that a store holds: for each version its stamp, from the seals and then from the log.
fn contents(opened: &Opened) -> Vec<(u64, Stamp)> {
    let mut seals = Vec::new();
    let mut next = opened.last_seal.as_ref().map(|(sealed, _)| sealed.locator());
    while let Some(locator) = next {
        let seal = opened.segments.seal(locator).unwrap();
        next = seal.previous;
        seals.push(seal);
    }
    let mut versions = Vec::new();
    for seal in seals.iter().rev() {
        versions.extend(seal.versions.iter().map(|v| (v.version, v.stamp)));
        let last = seal.versions.last().unwrap();
        let page = seal.namespaces[0].root_page.unwrap();
        let key = [(last.version % 4) as u8, 1];
        let expected = Found::Leaf { stamp: last.stamp, value: &last.version.to_be_bytes() };
        assert_eq!(opened.segments.view().find(page, &key).unwrap(), expected);
        assert_eq!(opened.segments.load(page).unwrap().bytes, page_of(last.version, last.stamp));
    }
    for batch in &opened.tail {
        assert_eq!(batch.payload, payload(batch.version));
        versions.push((batch.version, batch.stamp));
    }
    versions
}

/// Opens `sim` and compares with the model, as after a stop at operation `boundary`. Says how many versions there are.
fn check(sim: &SimVfs, model: &Model, boundary: usize, what: &dyn std::fmt::Display) -> u64 {
    let opened = match open_in(sim, &small()) {
        Ok(opened) => opened,
        Err(error) => panic!("{what}: {error}"),
    };
    let found = contents(&opened);
    let acknowledged = model.acknowledged.iter().filter(|(ops, _)| *ops <= boundary).map(|(_, v)| *v).max();
    assert!(found.len() as u64 >= acknowledged.unwrap_or(0), "{what}: {} of {acknowledged:?}", found.len());
    for (index, (version, stamp)) in found.iter().enumerate() {
        assert_eq!(*version, index as u64, "{what}");
        assert_eq!(model.stamps.get(version), Some(stamp), "{what}: version {version}");
    }
    assert!(found.iter().all(|(_, stamp)| stamp.opening() < opened.opening), "{what}");
    opened.segments.verify_all().unwrap();
    assert!(sim.overwritten_maps().is_empty(), "{what}");
    found.len() as u64
}

fn ran(seed: u64, steps: usize) -> (SimVfs, Model) {
    let sim = SimVfs::new(seed);
    let mut model = Model::default();
    workload(&sim, seed, steps, &mut model).unwrap();
    assert_eq!(sim.overwritten_maps(), []);
    (sim, model)
}

#[test]
fn a_new_store_is_empty_and_keeps_its_identity() {
    let sim = SimVfs::new(1);
    let missing = open_in(&sim, &Options { create: None, ..small() }).unwrap_err();
    assert!(matches!(missing, Error::NotAStore { .. }));
    assert_eq!(sim.op_count(), 0, "a refusal changes nothing");
    let opened = open_in(&sim, &small()).unwrap();
    assert_eq!((opened.opening, opened.clean, opened.tail.len()), (1, false, 0));
    assert!(matches!(open_in(&sim, &small()), Err(Error::Locked { .. })));
    opened.log.unwrap().close().unwrap();
    drop(opened.lock);
    let opened = open_in(&sim, &Options { create: None, ..small() }).unwrap();
    assert_eq!((opened.opening, opened.clean), (2, true));
    assert_eq!((opened.identity.id, &opened.identity.config[..]), ([7; 16], &b"configuration"[..]));
}

#[test]
fn a_directory_with_other_things_in_it_is_left_alone() {
    let sim = SimVfs::new(1);
    sim.write_file(format!("{DIR}/letters.txt"), b"private").unwrap();
    assert!(matches!(open_in(&sim, &small()), Err(Error::NotAStore { .. })));
    sim.write_file(format!("{DIR}/store"), b"something else").unwrap();
    assert!(matches!(open_in(&sim, &small()), Err(Error::NotAStore { .. })));
    assert_eq!(sim.op_count(), 0);
}

#[test]
fn a_store_of_a_later_format_is_not_touched() {
    let (sim, _) = ran(3, 20);
    let path = format!("{DIR}/store");
    let mut bytes = sim.read_file(&path).unwrap().to_vec();
    bytes[8] = 9;
    let sim = sim.crash_image(CrashPolicy::KeepAll, 0);
    sim.write_file(&path, &bytes).unwrap();
    let (before, error) = (sim.op_count(), open_in(&sim, &small()).unwrap_err());
    assert!(matches!(error, Error::NewerFormat { found: 9, supported: 3, .. }));
    assert_eq!(sim.op_count(), before);
}

#[test]
fn a_read_only_opening_changes_nothing_and_finds_the_same() {
    for seed in 0..20 {
        let (sim, model) = ran(seed, 40);
        let image = sim.crash_image(CrashPolicy::KeepAll, 0);
        let before = image.op_count();
        let opened = open_in(&image, &Options { read_only: true, ..small() }).unwrap();
        let found = contents(&opened);
        assert_eq!(image.op_count(), before);
        assert!(opened.log.is_none() && opened.writer.is_none() && opened.lock.is_none());
        drop(opened);
        assert_eq!(contents(&open_in(&image, &small()).unwrap()), found);
        assert_eq!(found.len() as u64, model.next);
    }
}

#[test]
fn a_clean_close_copies_nothing_and_a_kill_copies_the_tail() {
    let sim = SimVfs::new(1);
    let mut model = Model::default();
    let mut run = Run::new(open_in(&sim, &small()).unwrap());
    for _ in 0..5 {
        run.commit(&mut model).unwrap();
    }
    run.seal(&sim, &mut model, 2).unwrap();
    run.opened.log.unwrap().close().unwrap();
    drop(run.opened.lock);
    let before = sim.op_count();
    let opened = open_in(&sim, &small()).unwrap();
    assert!(opened.clean && opened.tail.len() == 2);
    let written = sim.ops()[before..].iter().filter(|op| op.kind == OpKind::Write).count();
    assert_eq!(written, 1, "only that it was opened");
    drop(opened);
    let opened = open_in(&sim, &small()).unwrap();
    assert!(!opened.clean && opened.tail.len() == 2);
}

#[test]
fn every_power_loss_leaves_a_prefix_with_everything_acknowledged() {
    let mut images = 0;
    for seed in 0..6 {
        let (sim, model) = ran(seed, 40);
        for case in sim.crash_cases(&CrashPolicy::EVERY, 0..2) {
            check(&case.image, &model, case.boundary, &format!("seed {seed}: {case}"));
            images += 1;
        }
    }
    println!("{images} crash images");
}

#[test]
fn a_power_loss_during_recovery_changes_nothing() {
    let mut images = 0;
    for seed in 0..3 {
        let (sim, model) = ran(seed, 30);
        let mut last = 0;
        for case in sim.crash_cases(&[CrashPolicy::KeepAll, CrashPolicy::Mix, CrashPolicy::Tear512], 0..1) {
            if case.boundary % 5 != 0 && case.boundary < sim.op_count() {
                continue;
            }
            let what = format!("seed {seed}: {case}");
            let found = check(&case.image, &model, case.boundary, &what);
            last = last.max(found);
            for again in case.image.crash_cases(&[CrashPolicy::KeepNothing, CrashPolicy::Mix], 0..1) {
                let what = format!("{what}, then {again}");
                assert_eq!(check(&again.image, &model, case.boundary, &what), found, "{what}");
                images += 1;
            }
        }
        assert_eq!(last, model.next);
    }
    println!("{images} crash images");
}

#[test]
fn a_kill_at_any_point_loses_nothing_that_a_recovery_has_shown() {
    for seed in 10..13 {
        let (sim, model) = ran(seed, 40);
        for boundary in 0..=sim.op_count() {
            let image = sim.killed_at(boundary);
            let found = check(&image, &model, boundary, &format!("seed {seed}: killed at {boundary}"));
            // What was shown must survive the next power loss, also what had been in the page cache only.
            let cut = image.crash_image(CrashPolicy::KeepNothing, 0);
            let what = format!("seed {seed}: killed at {boundary}, then power lost");
            assert_eq!(check(&cut, &model, boundary, &what), found, "{what}");
        }
    }
}

#[test]
fn after_a_kill_at_any_point_new_commits_are_durable_too() {
    for seed in 30..33 {
        let (sim, model) = ran(seed, 30);
        for boundary in 0..=sim.op_count() {
            let image = sim.killed_at(boundary);
            let opened = open_in(&image, &small()).unwrap();
            let mut model = Model {
                next: contents(&opened).len() as u64,
                acknowledged: Vec::new(),
                stamps: model.stamps.clone(),
            };
            let mut run = Run::new(opened);
            for _ in 0..3 {
                run.commit(&mut model).unwrap();
                run.seal(&image, &mut model, 0).unwrap();
            }
            run.commit(&mut model).unwrap();
            run.sync(&image, &mut model).unwrap();
            for policy in [CrashPolicy::KeepNothing, CrashPolicy::LoseNames] {
                let what = format!("seed {seed}: killed at {boundary}, went on, then power lost: {policy:?}");
                let found = check(&image.crash_image(policy, 0), &model, image.op_count(), &what);
                assert_eq!(found, model.next, "{what}");
            }
        }
    }
}

#[test]
fn after_any_failed_call_nothing_false_was_acknowledged() {
    for seed in 20..23 {
        let (sim, _) = ran(seed, 30);
        for call in 0..sim.call_count() {
            for (fault, forever) in [(Fault::Eio, false), (Fault::NoSpace, true), (Fault::ShortWrite, false)]
            {
                let sim = SimVfs::new(seed);
                let rule = FaultRule::at_call(call, fault);
                sim.fail(if forever { rule.forever() } else { rule });
                let mut model = Model::default();
                let _ = workload(&sim, seed, 30, &mut model);
                sim.clear_faults();
                let what = format!("seed {seed}: {fault:?} at call {call}");
                let boundary = sim.op_count();
                check(&sim.crash_image(CrashPolicy::KeepNothing, 0), &model, boundary, &what);
                let killed = sim.killed_at(boundary);
                let found = check(&killed, &model, boundary, &what);
                let cut = killed.crash_image(CrashPolicy::KeepNothing, 0);
                assert_eq!(check(&cut, &model, boundary, &what), found, "{what}");
            }
        }
    }
}

/// What the suite must notice if a sync is forgotten.
fn noticed(which: impl Fn() -> Selector) -> bool {
    (0..6).any(|seed| {
        let sim = SimVfs::new(seed);
        sim.ignore_syncs(which());
        let mut model = Model::default();
        workload(&sim, seed, 40, &mut model).unwrap();
        let caught = std::panic::catch_unwind(|| {
            for case in sim.crash_cases(&[CrashPolicy::KeepNothing, CrashPolicy::LoseNames], 0..1) {
                check(&case.image, &model, case.boundary, &case);
            }
        });
        caught.is_err()
    })
}

#[test]
fn a_forgotten_sync_is_noticed() {
    for path in ["/log/", "/segments/", "tmp", ".log", ".seg"] {
        assert!(
            noticed(|| Selector::any().on(move |found| found.to_string_lossy().contains(path))),
            "{path}"
        );
    }
}

/// The files of a folder of the store.
fn files(sim: &SimVfs, folder: &str) -> Vec<std::path::PathBuf> {
    sim.files().into_iter().filter(|file| file.parent().is_some_and(|dir| dir.ends_with(folder))).collect()
}

/// Opens, commits so often, seals where asked to, and closes.
fn session(sim: &SimVfs, model: &mut Model, commits: usize, seals: bool) {
    let mut run = Run::new(open_in(sim, &small()).unwrap());
    (0..commits).for_each(|_| run.commit(model).unwrap());
    run.sync(sim, model).unwrap();
    if seals {
        run.seal(sim, model, 0).unwrap();
    }
    let log = run.opened.log.take().unwrap();
    log.close().unwrap();
}

#[test]
fn a_log_without_one_of_its_files_is_refused() {
    let sim = SimVfs::new(1);
    session(&sim, &mut Model::default(), 20, false);
    let logs = files(&sim, "log");
    assert!(logs.len() > 3, "{logs:?}");
    for log in &logs {
        let image = sim.killed_at(usize::MAX);
        bristlecone_delta::vfs::Vfs::remove(&image, log).unwrap();
        match open_in(&image, &small()) {
            Err(Error::Corrupt { .. }) => {}
            other => panic!("without {}: {:?}", log.display(), other.map(|opened| opened.tail.len())),
        }
    }
}

#[test]
fn a_log_that_was_begun_anew_fits_no_older_segments() {
    let (sim, mut model) = (SimVfs::new(1), Model::default());
    session(&sim, &mut model, 5, true);
    let before = sim.killed_at(usize::MAX);
    // Not closed: the next opening begins the log anew.
    let mut run = Run::new(open_in(&sim, &small()).unwrap());
    (0..5).for_each(|_| run.commit(&mut model).unwrap());
    run.sync(&sim, &mut model).unwrap();
    run.seal(&sim, &mut model, 0).unwrap();
    drop(run);
    let sim = sim.killed_at(usize::MAX);
    let opened = open_in(&sim, &small()).unwrap();
    assert_eq!(opened.last_seal.as_ref().unwrap().1.versions.last().unwrap().version, 9);
    let told = format!("{opened:?}");
    assert!(told.contains("opening: 3") && told.contains("tail: 0"), "{told}");
    drop(opened);
    for segment in files(&sim, "segments") {
        match before.read_file(&segment) {
            Ok(bytes) => sim.write_file(&segment, &bytes).unwrap(),
            Err(_) => bristlecone_delta::vfs::Vfs::remove(&sim, &segment).unwrap(),
        }
    }
    let sim = sim.killed_at(usize::MAX);
    match open_in(&sim, &small()) {
        Err(Error::Corrupt { what, .. }) => assert!(what.contains("a group that was durable"), "{what}"),
        other => panic!("{other:?}"),
    }
}

/// A store that was killed with some commits unsealed and log files out of use.
fn killed_with_free_logs() -> (SimVfs, Model) {
    let (sim, mut model) = (SimVfs::new(1), Model::default());
    session(&sim, &mut model, 20, true);
    let mut run = Run::new(open_in(&sim, &small()).unwrap());
    (0..4).for_each(|_| run.commit(&mut model).unwrap());
    run.sync(&sim, &mut model).unwrap();
    drop(run);
    let sim = sim.killed_at(usize::MAX);
    assert!(!free_logs(&sim).is_empty());
    (sim, model)
}

fn free_logs(sim: &SimVfs) -> Vec<std::path::PathBuf> {
    let mut found = files(sim, "log");
    found.retain(|file| file.extension().is_some_and(|end| end == "free"));
    found
}

/// Making the file in which the log begins anew.
fn making_a_log() -> Selector {
    let is_log = |path: &std::path::Path| path.extension().is_some_and(|end| end == "tmp");
    Selector::kinds([OpKind::Create, OpKind::SetLen, OpKind::Write])
        .on(move |path| is_log(path) && path.parent().is_some_and(|dir| dir.ends_with("log")))
}

#[test]
fn where_the_disk_is_full_a_log_begins_anew_in_the_space_of_files_out_of_use() {
    let (sim, model) = killed_with_free_logs();
    sim.fail(FaultRule::matching(making_a_log(), Fault::NoSpace));
    let before = free_logs(&sim);
    let opened = open_in(&sim, &small()).unwrap();
    assert_eq!(contents(&opened).len() as u64, model.next);
    assert!(!free_logs(&sim).iter().any(|file| before.contains(file)), "they are gone");
}

#[test]
fn a_full_disk_without_files_out_of_use_is_told_at_once() {
    let (sim, model) = killed_with_free_logs();
    for file in free_logs(&sim) {
        bristlecone_delta::vfs::Vfs::remove(&sim, &file).unwrap();
    }
    // Once: a second try would pass.
    sim.fail(FaultRule::matching(making_a_log(), Fault::NoSpace));
    match open_in(&sim, &small()) {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    }
    assert_eq!(check(&sim.killed_at(usize::MAX), &model, 0, &"opened again"), model.next);
}

#[test]
fn no_other_failure_costs_log_files_or_is_tried_again() {
    let (sim, model) = killed_with_free_logs();
    let before = free_logs(&sim);
    sim.fail(FaultRule::matching(making_a_log(), Fault::Eio));
    assert!(matches!(open_in(&sim, &small()), Err(Error::Io { .. })));
    assert_eq!(free_logs(&sim), before);
    assert_eq!(check(&sim.killed_at(usize::MAX), &model, 0, &"opened again"), model.next);
}

#[test]
fn a_log_that_begins_anew_is_one_file_and_the_others_are_out_of_use() {
    let (sim, mut model) = (SimVfs::new(1), Model::default());
    let mut run = Run::new(open_in(&sim, &small()).unwrap());
    (0..20).for_each(|_| run.commit(&mut model).unwrap());
    run.sync(&sim, &mut model).unwrap();
    drop(run);
    let sim = sim.killed_at(usize::MAX);
    assert!(files(&sim, "log").len() > 3);
    drop(open_in(&sim, &small()).unwrap());
    let logs = files(&sim, "log").len() - free_logs(&sim).len();
    assert_eq!((logs, free_logs(&sim).is_empty()), (1, false));
}

#[test]
fn roots_of_unsealed_versions_are_found_after_each_stop() {
    let (sim, mut model) = (SimVfs::new(1), Model::default());
    let mut run = Run::new(open_in(&sim, &small()).unwrap());
    (0..7).for_each(|_| run.commit(&mut model).unwrap());
    run.sync(&sim, &mut model).unwrap();
    drop(run);
    let expected: Vec<_> = [0u64, 3, 6]
        .map(|version| (model.stamps[&version], bristlecone_trie::B256::repeat_byte(version as u8)))
        .to_vec();
    let mut sim = sim.killed_at(usize::MAX);
    // The second opening reads what the first one wrote anew.
    for _ in 0..2 {
        assert_eq!(open_in(&sim, &small()).unwrap().roots, expected);
        sim = sim.killed_at(usize::MAX);
    }
}

#[test]
fn names_are_made_durable_by_the_first_opening_and_not_by_later_ones() {
    let syncs_of_names = |sim: &SimVfs, from: usize| {
        let ops = sim.ops();
        let is_of_names = |op: &&bristlecone_delta::vfs::sim::OpRecord| {
            op.kind == OpKind::SyncDir && Some(op.path.as_path()) == std::path::Path::new(DIR).parent()
        };
        ops[from..].iter().filter(is_of_names).count()
    };
    let sim = SimVfs::new(1);
    drop(open_in(&sim, &small()).unwrap());
    assert!(syncs_of_names(&sim, 0) > 0);
    let before = sim.op_count();
    drop(open_in(&sim, &small()).unwrap());
    assert_eq!(syncs_of_names(&sim, before), 0);
}
