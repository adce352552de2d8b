//! A disk that only claims to sync: the campaign of power cuts must notice every sync that is forgotten.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use bristlecone::vfs::sim::{OpKind, Selector, SimVfs};
use bristlecone_torture::phase::{Phase, beginning};
use bristlecone_torture::workload::Workload;
use bristlecone_torture::{Check, crash};

/// Runs `workload` on a disk that, after so many honest steps, only claims to do the syncs that `lie` picks; what the campaign says.
fn with_a_lie(workload: &str, honest: usize, lie: &Selector) -> Check {
    let workload = Workload::named(workload).unwrap();
    let (config, found, mut rng) = beginning(workload, 0);
    let sim = SimVfs::new(0);
    let mut phase = Phase::new(sim.clone(), workload, &config, vec![found], &mut rng);
    if honest > 0 {
        phase.work(honest)?;
    }
    sim.ignore_syncs(lie.clone());
    phase.work(workload.steps)?;
    assert_eq!(phase.failure, None);
    crash::judge(&phase, 1).map(|_| ())
}

/// The campaign reports a violation on such a disk.
fn assert_noticed(workload: &str, honest: usize, lie: &Selector, name: &str) {
    match with_a_lie(workload, honest, lie) {
        Ok(()) => panic!("a forgotten sync of {name} went unnoticed"),
        Err(what) => eprintln!("without syncs of {name}: {what}"),
    }
}

fn syncs_in(part: &'static str) -> Selector {
    Selector::kind(OpKind::Sync).on(move |path| path.parent().is_some_and(|dir| dir.ends_with(part)))
}

#[test]
fn a_sync_of_the_log_that_is_forgotten_is_noticed() {
    assert_noticed("commit", 0, &syncs_in("log"), "the log");
    // Not that of a new file, which has another name then: of records in one that is known.
    let records = Selector::kind(OpKind::Sync).on(|path| path.extension().is_some_and(|end| end == "log"));
    assert_noticed("commit", 3, &records, "records of the log");
}

#[test]
fn a_sync_of_a_segment_that_is_forgotten_is_noticed() {
    for workload in ["seal", "prune", "compaction", "rollback", "pins"] {
        assert_noticed(workload, 0, &syncs_in("segments"), "a segment");
        let records =
            Selector::kind(OpKind::Sync).on(|path| path.extension().is_some_and(|end| end == "seg"));
        assert_noticed(workload, 3, &records, "records of a segment");
    }
}

#[test]
fn a_sync_of_a_directory_that_is_forgotten_is_noticed() {
    for dir in ["log", "segments", "store", "a"] {
        let lie = Selector::kind(OpKind::SyncDir).on(move |path| path.ends_with(dir));
        assert_noticed("seal", 0, &lie, dir);
    }
}

#[test]
fn nothing_depends_on_syncs_of_the_catalog() {
    let lie = Selector::kind(OpKind::Sync)
        .on(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("catalog")));
    with_a_lie("everything", 3, &lie).unwrap_or_else(|what| panic!("{what}"));
}

#[test]
fn an_honest_disk_gives_no_cause_to_complain() {
    for workload in ["commit", "seal", "prune", "compaction", "rollback", "pins"] {
        with_a_lie(workload, 3, &Selector::kind(OpKind::Lock)).unwrap_or_else(|what| panic!("{what}"));
    }
}
