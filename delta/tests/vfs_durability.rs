//! What the simulated disk keeps and loses, rule by rule.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at what it did not expect"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bristlecone_delta::vfs::sim::{CrashPolicy, Fault, FaultRule, OpKind, Outcome, Selector, SimVfs};
use bristlecone_delta::vfs::{OpenMode, Vfs, VfsFile};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use CrashPolicy::{KeepAll, KeepNothing, LoseNames};

fn create(sim: &SimVfs, path: &str, bytes: &[u8]) -> Arc<dyn VfsFile> {
    let file = sim.open(Path::new(path), OpenMode::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// A file of which everything is durable.
fn settled(sim: &SimVfs, path: &str, bytes: &[u8]) -> Arc<dyn VfsFile> {
    let file = create(sim, path, bytes);
    file.sync().unwrap();
    sim.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    file
}

fn after(sim: &SimVfs, policy: CrashPolicy, path: &str) -> Option<Vec<u8>> {
    sim.crash_image(policy, 0).read_file(path).ok().map(|bytes| bytes.to_vec())
}

fn every_image(sim: &SimVfs) -> impl Iterator<Item = SimVfs> {
    CrashPolicy::EVERY
        .into_iter()
        .flat_map(move |policy| (0..50).map(move |seed| sim.crash_image(policy, seed)))
}

#[test]
fn an_unsynced_write_is_lost_and_a_synced_one_is_kept() {
    let sim = SimVfs::new(0);
    let file = settled(&sim, "/f", b"old");
    file.write_all_at(b"new!", 0).unwrap();
    assert_eq!(after(&sim, KeepNothing, "/f").unwrap(), b"old");
    assert_eq!(after(&sim, KeepAll, "/f").unwrap(), b"new!");
    file.sync().unwrap();
    for image in every_image(&sim) {
        assert_eq!(image.read_file("/f").unwrap(), &b"new!"[..]);
    }
}

#[test]
fn an_unsynced_length_is_lost() {
    let sim = SimVfs::new(0);
    let file = settled(&sim, "/f", b"12345");
    file.set_len(2, false).unwrap();
    file.set_len(4, true).unwrap();
    assert_eq!(after(&sim, KeepNothing, "/f").unwrap(), b"12345");
    assert_eq!(after(&sim, KeepAll, "/f").unwrap(), b"12\0\0");
    file.sync().unwrap();
    assert_eq!(after(&sim, KeepNothing, "/f").unwrap(), b"12\0\0");
}

#[test]
fn syncing_a_file_does_not_keep_its_name() {
    let sim = SimVfs::new(0);
    create(&sim, "/f", b"data").sync().unwrap();
    assert_eq!(after(&sim, KeepNothing, "/f"), None);
    assert_eq!(after(&sim, LoseNames, "/f"), None);
    assert_eq!(after(&sim, KeepAll, "/f").unwrap(), b"data");
    sim.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after(&sim, KeepNothing, "/f").unwrap(), b"data");
}

#[test]
fn syncing_a_name_does_not_keep_the_data() {
    let sim = SimVfs::new(0);
    create(&sim, "/f", b"data");
    sim.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after(&sim, KeepNothing, "/f").unwrap(), b"");
    assert_eq!(after(&sim, LoseNames, "/f").unwrap(), b"data");
}

#[test]
fn a_directory_is_a_name_too() {
    let sim = SimVfs::new(0);
    sim.create_dir_all(Path::new("/a/b")).unwrap();
    settled(&sim, "/a/b/f", b"data");
    sim.sync_dir(Path::new("/a")).unwrap();
    let image = sim.crash_image(KeepNothing, 0);
    assert!(!image.exists(Path::new("/a")).unwrap());
    assert!(image.files().is_empty());
    sim.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after(&sim, KeepNothing, "/a/b/f").unwrap(), b"data");
}

#[test]
fn an_unsynced_removal_is_undone() {
    let sim = SimVfs::new(0);
    let file = settled(&sim, "/f", b"data");
    sim.remove(Path::new("/f")).unwrap();
    assert_eq!(file.map(0, 4).unwrap(), &b"data"[..], "an open file outlives its name");
    assert_eq!(after(&sim, KeepNothing, "/f").unwrap(), b"data");
    assert_eq!(after(&sim, KeepAll, "/f"), None);
    sim.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after(&sim, KeepNothing, "/f"), None);
}

#[test]
fn a_rename_leaves_the_old_target_or_the_new_one() {
    let sim = SimVfs::new(0);
    settled(&sim, "/target", b"old");
    create(&sim, "/new", b"new").sync().unwrap();
    sim.rename(Path::new("/new"), Path::new("/target")).unwrap();
    let mut seen = BTreeSet::new();
    for image in every_image(&sim) {
        let target = image.read_file("/target").unwrap();
        let names = image.files();
        if target == b"new"[..] {
            assert_eq!(names, [PathBuf::from("/target")], "the renamed file has two names");
        } else {
            assert_eq!(target, &b"old"[..]);
        }
        seen.insert((target, names));
    }
    assert_eq!(seen.len(), 3, "old alone, old beside the new, and new");
    sim.sync_dir(Path::new("/")).unwrap();
    for image in every_image(&sim) {
        assert_eq!(image.read_file("/target").unwrap(), &b"new"[..]);
        assert_eq!(image.files().len(), 1);
    }
}

#[test]
fn a_rename_of_unsynced_data_over_a_file_may_leave_an_empty_one() {
    let sim = SimVfs::new(0);
    settled(&sim, "/target", b"old");
    create(&sim, "/new", b"new");
    sim.rename(Path::new("/new"), Path::new("/target")).unwrap();
    sim.sync_dir(Path::new("/")).unwrap();
    assert_eq!(after(&sim, KeepNothing, "/target").unwrap(), b"");
}

#[test]
fn a_rename_between_directories_needs_both_synced() {
    let sim = SimVfs::new(0);
    sim.create_dir_all(Path::new("/a")).unwrap();
    sim.create_dir_all(Path::new("/b")).unwrap();
    sim.sync_dir(Path::new("/")).unwrap();
    settled(&sim, "/a/f", b"data");
    sim.rename(Path::new("/a/f"), Path::new("/b/f")).unwrap();
    assert_eq!(sim.files(), [PathBuf::from("/b/f")]);
    let files = |sim: &SimVfs| sim.crash_image(KeepNothing, 0).files();
    assert_eq!(files(&sim), [PathBuf::from("/a/f")]);
    sim.sync_dir(Path::new("/b")).unwrap();
    assert_eq!(files(&sim), [PathBuf::from("/a/f"), PathBuf::from("/b/f")]);
    sim.sync_dir(Path::new("/a")).unwrap();
    assert_eq!(files(&sim), [PathBuf::from("/b/f")]);
}

#[test]
fn what_a_failed_sync_lost_stays_readable_until_power_goes() {
    let sim = SimVfs::new(0);
    let file = settled(&sim, "/f", b"old-old-old");
    sim.fail(FaultRule::matching(Selector::kind(OpKind::Sync).ending("f"), Fault::Eio));
    file.write_all_at(b"NEW", 4).unwrap();
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
    file.sync().unwrap();
    sim.sync_dir(Path::new("/")).unwrap();
    assert_eq!(sim.read_file("/f").unwrap(), &b"old-NEW-old"[..]);
    for image in every_image(&sim) {
        assert_eq!(image.read_file("/f").unwrap(), &b"old-old-old"[..], "the second sync lied back to life");
    }
    file.write_all_at(b"end", 8).unwrap();
    file.sync().unwrap();
    assert_eq!(after(&sim, KeepAll, "/f").unwrap(), b"old-old-end");
}

#[test]
fn what_a_failed_directory_sync_lost_stays_lost() {
    let sim = SimVfs::new(0);
    sim.fail(FaultRule::matching(Selector::kind(OpKind::SyncDir), Fault::Eio));
    create(&sim, "/f", b"data").sync().unwrap();
    assert!(sim.sync_dir(Path::new("/")).is_err());
    sim.sync_dir(Path::new("/")).unwrap();
    assert!(sim.exists(Path::new("/f")).unwrap());
    assert_eq!(after(&sim, KeepAll, "/f"), None);
}

#[test]
fn an_ignored_sync_is_caught_by_looking_at_images() {
    for lie in [None, Some(OpKind::Sync), Some(OpKind::SyncDir)] {
        let sim = SimVfs::new(0);
        if let Some(kind) = lie {
            sim.ignore_syncs(Selector::kind(kind));
        }
        settled(&sim, "/f", b"promise");
        let acknowledged = sim.op_count();
        let kept = |image: &SimVfs| image.read_file("/f").is_ok_and(|bytes| bytes == b"promise"[..]);
        let caught = sim
            .crash_cases(&CrashPolicy::EVERY, 0..4)
            .any(|case| case.boundary >= acknowledged && !kept(&case.image));
        assert_eq!(caught, lie.is_some(), "{lie:?}");
        let ignored = sim.ops().iter().filter(|op| op.outcome == Outcome::Ignored).count();
        assert_eq!(ignored, usize::from(lie.is_some()));
    }
}

#[test]
fn power_goes_off_at_the_chosen_operation_and_stays_off() {
    let sim = SimVfs::new(0);
    let file = create(&sim, "/f", b"one");
    sim.cut_power_at(3);
    file.write_all_at(b"two", 0).unwrap();
    assert!(!sim.power_is_off());
    assert_eq!(file.len().unwrap(), 3);
    assert!(file.write_all_at(b"six", 0).is_err());
    assert!(sim.power_is_off());
    assert!(file.sync().is_err() && file.len().is_err() && file.map(0, 1).is_err());
    assert!(sim.open(Path::new("/f"), OpenMode::Read).is_err() && sim.exists(Path::new("/f")).is_err());
    assert_eq!(sim.op_count(), 3);
    assert_eq!(after(&sim, KeepAll, "/f").unwrap(), b"two");
    let image = sim.crash_image(KeepAll, 0);
    assert!(image.open(Path::new("/f"), OpenMode::Write).unwrap().write_all_at(b"on", 0).is_ok());
}

#[test]
fn faults_strike_where_ordered_and_change_nothing_else() {
    let error = |fault: Fault| {
        let sim = SimVfs::new(7);
        let file = create(&sim, "/f", b"0123456789");
        sim.fail(FaultRule::at_op(2, fault));
        let first = file.write_all_at(&[b'x'; 10], 0).err().map(|e| e.kind());
        let bytes = sim.read_file("/f").unwrap().to_vec();
        file.write_all_at(b"again", 0).unwrap();
        assert_eq!(sim.op_count(), 4);
        (first, bytes)
    };
    assert_eq!(error(Fault::NoSpace), (Some(io::ErrorKind::StorageFull), b"0123456789".to_vec()));
    assert_eq!(error(Fault::Interrupted), (None, vec![b'x'; 10]));
    let (kind, bytes) = error(Fault::ShortWrite);
    assert_eq!(kind, Some(io::ErrorKind::WriteZero));
    let landed = bytes.iter().take_while(|b| **b == b'x').count();
    assert!(landed < 10 && bytes[landed..] == b"0123456789"[landed..]);
}

#[test]
fn a_broken_disk_can_still_be_read_or_not_at_all() {
    let sim = SimVfs::new(0);
    let file = create(&sim, "/f", b"data");
    sim.fail(FaultRule::at_op(2, Fault::Eio).forever());
    for _ in 0..3 {
        assert!(
            file.write_all_at(b"x", 0).is_err() && file.sync().is_err() && file.set_len(0, false).is_err()
        );
        assert_eq!(file.map(0, 4).unwrap(), &b"data"[..]);
    }
    sim.fail(FaultRule::at_call(0, Fault::Eio).forever());
    assert!(file.map(0, 4).is_err() && sim.read_dir(Path::new("/")).is_err());
    sim.clear_faults();
    assert_eq!(file.map(0, 4).unwrap(), &b"data"[..]);
}

#[test]
fn a_full_disk_takes_what_fits_and_room_comes_back() {
    let sim = SimVfs::new(0);
    sim.set_capacity(Some(4 * 4096));
    let reserved = create(&sim, "/reserved", b"");
    reserved.set_len(2 * 4096, true).unwrap();
    let file = create(&sim, "/f", &[1; 4096]);
    file.set_len(1 << 30, false).unwrap();
    let full = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    full(file.write_all_at(&[2; 3 * 4096], 4096));
    assert_eq!(&file.map(4096, 8192).unwrap()[..], [[2; 4096], [0; 4096]].concat());
    full(file.write_all_at(b"x", 3 * 4096));
    full(reserved.set_len(3 * 4096, true));
    reserved.write_all_at(&[3; 2 * 4096], 0).unwrap();
    file.write_all_at(&[4; 2 * 4096], 0).unwrap();
    sim.remove(Path::new("/reserved")).unwrap();
    full(file.write_all_at(b"x", 3 * 4096));
    drop(reserved);
    file.write_all_at(b"x", 3 * 4096).unwrap();
}

#[test]
fn a_lock_excludes_others_and_does_not_survive_power_loss() {
    let sim = SimVfs::new(0);
    let lock = sim.lock(Path::new("/lock")).unwrap();
    assert_eq!(sim.lock(Path::new("/lock")).err().unwrap().kind(), io::ErrorKind::WouldBlock);
    let image = sim.crash_image(KeepAll, 0);
    let other = image.lock(Path::new("/lock")).unwrap();
    drop(lock);
    drop(sim.lock(Path::new("/lock")).unwrap());
    assert!(image.lock(Path::new("/lock")).is_err());
    drop(other);
    assert!(image.lock(Path::new("/lock")).is_ok());
}

#[test]
fn a_killed_process_leaves_what_it_wrote_readable_and_unsynced() {
    let sim = SimVfs::new(0);
    let file = settled(&sim, "/f", b"old");
    let _lock = sim.lock(Path::new("/lock")).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    sim.fail(FaultRule::matching(Selector::kind(OpKind::Sync), Fault::Eio));
    let unsynced = sim.op_count();
    assert!(file.sync().is_err());
    let failed = sim.op_count();
    for (boundary, sync_helps) in [(unsynced, true), (failed, false)] {
        let next = sim.killed_at(boundary);
        drop(next.lock(Path::new("/lock")).unwrap());
        assert_eq!(next.read_file("/f").unwrap(), &b"new"[..]);
        assert_eq!(after(&next, KeepNothing, "/f").unwrap(), b"old");
        next.open(Path::new("/f"), OpenMode::Read).unwrap().sync().unwrap();
        assert_eq!(after(&next, KeepNothing, "/f").unwrap() == b"new", sync_helps);
        assert_eq!(next.image_at(0, KeepNothing, 0).read_file("/f").unwrap(), &b"old"[..]);
    }
}

#[test]
fn writing_under_a_living_map_is_noticed() {
    let sim = SimVfs::new(0);
    let file = create(&sim, "/f", &[1; 100]);
    let map = file.map(10, 20).unwrap();
    let slice = map.slice(5..6);
    file.write_all_at(&[2; 10], 0).unwrap();
    file.write_all_at(&[2; 10], 30).unwrap();
    sim.open(Path::new("/f"), OpenMode::Write).unwrap().set_len(30, false).unwrap();
    assert_eq!(sim.overwritten_maps(), []);
    drop(map);
    file.write_all_at(&[2; 2], 29).unwrap();
    sim.open(Path::new("/f"), OpenMode::Write).unwrap().set_len(29, false).unwrap();
    assert_eq!(sim.overwritten_maps(), sim.ops()[5..]);
    drop(slice);
    file.write_all_at(&[2; 20], 0).unwrap();
    assert_eq!(sim.overwritten_maps().len(), 2);
}

#[test]
fn damage_from_outside_is_durable_and_has_its_place_in_the_history() {
    let sim = SimVfs::new(0);
    let file = settled(&sim, "/d", b"abc");
    let before = sim.op_count();
    file.write_all_at(b"A", 0).unwrap();
    sim.write_file("/x/y", b"put").unwrap();
    sim.flip_bit("/d", 1, 0).unwrap();
    sim.truncate("/d", 2).unwrap();
    assert_eq!(sim.op_count(), before + 1);
    assert_eq!(file.len().unwrap(), 2);
    let image = sim.crash_image(KeepNothing, 0);
    assert_eq!(image.read_file("/d").unwrap(), &b"Ac"[..]);
    assert_eq!(image.read_file("/x/y").unwrap(), &b"put"[..]);
    file.sync().unwrap();
    assert_eq!(sim.image_at(before + 1, KeepNothing, 0).read_file("/d").unwrap(), &b"Ac"[..]);
    assert_eq!(sim.image_at(before, KeepAll, 0).read_file("/d").unwrap(), &b"abc"[..]);
    assert_eq!(sim.flip_bit("/d", 2, 0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(sim.flip_bit("/d", 0, 8).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(sim.write_file("/d/z", b"").is_err() && sim.write_file("/x", b"").is_err());
}

fn bytes_of_all(sim: &SimVfs) -> BTreeMap<PathBuf, Vec<u8>> {
    sim.files().into_iter().map(|path| (path.clone(), sim.read_file(path).unwrap().to_vec())).collect()
}

/// A random run, with a photograph of the live disk before each operation.
fn random_run(seed: u64) -> (SimVfs, Vec<SimVfs>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let sim = SimVfs::new(seed);
    let mut photographs: Vec<SimVfs> = Vec::new();
    let paths = ["/a", "/b", "/d/a", "/d/b"].map(PathBuf::from);
    sim.create_dir_all(Path::new("/d")).unwrap();
    photographs.push(SimVfs::new(0));
    while sim.op_count() < 60 {
        photographs.resize_with(sim.op_count() + 1, || sim.crash_image(KeepAll, 0));
        let path = &paths[rng.random_range(0..4)];
        let file = sim.open(path, OpenMode::Write).or_else(|_| sim.open(path, OpenMode::Create)).unwrap();
        photographs.resize_with(sim.op_count() + 1, || sim.crash_image(KeepAll, 0));
        match rng.random_range(0..10) {
            0..5 => {
                let bytes = vec![rng.random::<u8>(); rng.random_range(1..3000)];
                file.write_all_at(&bytes, rng.random_range(0..6000)).unwrap();
            }
            5 => file.set_len(rng.random_range(0..8000), rng.random()).unwrap(),
            6 => file.sync().unwrap(),
            7 => sim.sync_dir(path.parent().unwrap()).unwrap(),
            8 => sim.rename(path, &paths[rng.random_range(0..4)]).unwrap(),
            _ => sim.remove(path).unwrap(),
        }
    }
    (sim, photographs)
}

#[test]
fn the_image_of_an_earlier_boundary_is_the_one_of_that_moment() {
    for seed in 0..30 {
        let (sim, photographs) = random_run(seed);
        for (boundary, photograph) in photographs.iter().enumerate().rev() {
            let image = sim.image_at(boundary, KeepAll, 0);
            assert_eq!(bytes_of_all(&image), bytes_of_all(photograph), "seed {seed} boundary {boundary}");
        }
    }
}

#[test]
fn crash_cases_replay_from_what_they_print() {
    for seed in 0..10 {
        let (sim, _) = random_run(seed);
        let mut boundaries = BTreeSet::new();
        for case in sim.crash_cases(&CrashPolicy::EVERY, 5..8) {
            let again = sim.clone().image_at(case.boundary, case.policy, case.seed);
            assert_eq!(bytes_of_all(&again), bytes_of_all(&case.image), "seed {seed} {case}");
            boundaries.insert(case.boundary);
        }
        assert_eq!(boundaries, (0..=sim.op_count()).collect(), "seed {seed}");
        assert_eq!(sim.crash_cases(&[KeepAll], 0..9).between(3..6).count(), 3);
    }
}

#[test]
fn every_image_holds_at_least_what_was_synced_and_no_byte_from_nowhere() {
    // Each write has a byte value of its own; a byte of an image must have been written there, or be a zero.
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let sim = SimVfs::new(seed);
        let file = settled(&sim, "/f", b"");
        let mut possible: Vec<BTreeSet<u8>> = vec![BTreeSet::from([0]); 20_000];
        let mut durable_len = 0;
        for value in 1..=30 {
            let (offset, len) = (rng.random_range(0..10_000), rng.random_range(1..9_000));
            file.write_all_at(&vec![value; len], offset as u64).unwrap();
            possible[offset..offset + len].iter_mut().for_each(|cell| _ = cell.insert(value));
            if rng.random_range(0..5) == 0 {
                file.sync().unwrap();
                let bytes = sim.read_file("/f").unwrap();
                durable_len = bytes.len();
                possible = bytes.iter().map(|b| BTreeSet::from([*b])).collect();
                possible.resize(20_000, BTreeSet::from([0]));
            }
            for policy in CrashPolicy::EVERY {
                let bytes = sim.crash_image(policy, u64::from(value)).read_file("/f").unwrap();
                assert!(bytes.len() >= durable_len);
                for (at, byte) in bytes.iter().enumerate() {
                    assert!(
                        possible[at].contains(byte),
                        "seed {seed} value {value} {policy:?} at {at}: {byte}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_log_can_be_read() {
    let sim = SimVfs::new(0);
    sim.create_dir_all(Path::new("/d")).unwrap();
    let file = create(&sim, "/d/f", b"data");
    sim.fail(FaultRule::matching(Selector::kind(OpKind::Sync), Fault::NoSpace));
    assert!(file.sync().is_err());
    sim.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
    let lines: Vec<String> = sim.ops().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "     0 MakeDir  /d",
            "     1 Create   /d/f",
            "     2 Write    /d/f 0+4",
            "     3 Sync     /d/f FAILED StorageFull",
            "     4 Rename   /d/f -> /d/g",
        ]
    );
}
