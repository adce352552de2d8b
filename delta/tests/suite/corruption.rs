//! Damage to any byte of any file, and cuts and swaps: a typed error, or the answers as they were. Never a panic, never a wrong byte.

use bristlecone_delta::vfs::sim::{CrashPolicy, SimVfs};
use bristlecone_delta::{
    Error, Graves, Locator, LogPosition, Opened, Options, Result, Seal, SealedNamespace, SealedVersion,
    Stamp, TableOp, Top,
};
use bristlecone_trie::{B256, Change, Page};

use crate::common::{DIR, open_in, page_of, payload, small, stamp};

/// A store with several segments, log files, seals, tables, and a tail; synced after each commit.
fn store(clean: bool) -> SimVfs {
    let sim = SimVfs::new(1);
    let mut opened = open_in(&sim, &small()).unwrap();
    let mut previous = None;
    let mut page = None;
    for version in 0..14 {
        let at = stamp(1, version);
        let log = opened.log.as_mut().unwrap();
        let end = log.append_batch(version, at, None, &payload(version)).unwrap();
        log.append_root(at, B256::repeat_byte(version as u8)).unwrap();
        log.sync().unwrap();
        if version % 3 == 2 && version < 12 {
            let seal = run(&mut opened, version, at, end, previous, &mut page);
            previous = Some(seal);
        }
    }
    // One segment is written anew, and something is known to be dead.
    let compactor = opened.compactor.as_ref().unwrap();
    compactor.compact(1, |_| true, &mut |_| std::ops::ControlFlow::Continue(())).unwrap().unwrap();
    let mut graves = Graves::default();
    graves.bury(&opened.segments.view(), Locator::new(1, 0).unwrap()).unwrap();
    graves.save(compactor).unwrap();
    if clean {
        opened.log.take().unwrap().close().unwrap();
    }
    drop(opened);
    sim.crash_image(CrashPolicy::KeepAll, 0)
}

fn run(
    opened: &mut Opened,
    version: u64,
    at: Stamp,
    log_position: LogPosition,
    previous: Option<bristlecone_delta::Locator>,
    page: &mut Option<bristlecone_delta::Locator>,
) -> bristlecone_delta::Locator {
    let mut group = opened.writer.as_mut().unwrap().begin(1).unwrap();
    let root_page = group.put_page(*page, Page::new(&page_of(version, at)), &[]).unwrap().newest();
    let ops = [TableOp { key: b"gone", stamp: at, change: Change::Delete }];
    let table = group.put_table(&ops, &[Top { stamp: at, hashes: &[[7; 32]; 3] }]).unwrap();
    let versions = (version - 2..=version)
        .map(|version| SealedVersion {
            version,
            stamp: stamp(1, version),
            parent: None,
            root: Some(B256::repeat_byte(version as u8)),
            namespace_roots: vec![],
        })
        .collect();
    let namespaces =
        vec![SealedNamespace { root_page: Some(root_page), root_node: B256::ZERO, table: Some(table) }];
    let sealed = group
        .finish(&Seal { previous, opening: 1, versions, namespaces, log_position, ..Seal::default() })
        .unwrap();
    opened.log.as_mut().unwrap().release(&sealed).unwrap();
    *page = Some(root_page);
    sealed.locator()
}

/// All that can be asked, as text; the versions apart.
fn answers(opened: &Opened) -> Result<(Vec<u64>, String)> {
    let segments = &opened.segments;
    let (mut text, mut seals) = (Vec::new(), Vec::new());
    let mut next = opened.last_seal.as_ref().map(|(sealed, _)| sealed.locator());
    while let Some(locator) = next {
        let seal = segments.seal(locator)?;
        let namespace = seal.namespaces[0];
        let page = namespace.root_page.unwrap();
        for key in 0..5 {
            text.push(format!("{:?}", segments.view().find(page, &[key, 1])?));
        }
        text.push(format!("{:?}", segments.load(page)?));
        let last = Stamp::from_word(u64::MAX - 1);
        text.push(format!("{:?}", segments.view().find_in_table(namespace.table.unwrap(), b"gone", last)?));
        next = seal.previous;
        seals.push(seal);
    }
    let mut versions: Vec<u64> =
        seals.iter().rev().flat_map(|seal| &seal.versions).map(|v| v.version).collect();
    for batch in &opened.tail {
        assert_eq!(batch.payload, payload(batch.version));
        versions.push(batch.version);
    }
    assert!(versions.iter().copied().eq(0..versions.len() as u64));
    segments.verify_all()?;
    Ok((versions, text.join("\n")))
}

/// Opens a damaged store both ways. At most `lost` commits may be missing.
fn examine(sim: &SimVfs, good: &(Vec<u64>, String), lost: usize, what: &str) -> bool {
    let mut found = false;
    for read_only in [true, false] {
        let answer =
            open_in(sim, &Options { read_only, create: None, ..small() }).and_then(|opened| answers(&opened));
        match answer {
            Ok((versions, text)) => {
                assert!(versions.len() + lost >= good.0.len(), "{what}: {} versions", versions.len());
                assert_eq!(text, good.1, "{what}");
                found = true;
            }
            Err(Error::Corrupt { .. } | Error::NewerFormat { .. } | Error::NotAStore { .. }) => {}
            Err(other) => panic!("{what}: {other}"),
        }
    }
    found
}

fn files(sim: &SimVfs) -> Vec<std::path::PathBuf> {
    sim.files().into_iter().filter(|path| path.starts_with(DIR) && !path.ends_with("lock")).collect()
}

fn flip_everything(clean: bool, lost: usize) {
    let sim = store(clean);
    let good = answers(&open_in(&sim, &Options { read_only: true, ..small() }).unwrap()).unwrap();
    assert_eq!(good.0.len(), 14);
    let bits = if std::env::var("BRISTLECONE_LONG").is_ok_and(|long| long == "1") { 8 } else { 1 };
    let (mut flips, mut noticed) = (0, 0);
    for path in files(&sim) {
        let len = sim.read_file(&path).unwrap().len() as u64;
        for byte in 0..len {
            for bit in (byte..).take(bits).map(|bit| (bit % 8) as u8) {
                let image = sim.crash_image(CrashPolicy::KeepAll, 0);
                image.flip_bit(&path, byte, bit).unwrap();
                let what = format!("{} byte {byte} bit {bit}", path.display());
                noticed += u32::from(!examine(&image, &good, lost, &what));
                flips += 1;
            }
        }
    }
    println!("{flips} flips, {noticed} noticed");
    assert!(noticed > 1000);
}

#[test]
fn a_flipped_bit_in_a_closed_store_is_an_error_or_changes_nothing() {
    flip_everything(true, 0);
}

#[test]
fn a_flipped_bit_in_a_killed_store_costs_the_last_commit_at_most() {
    flip_everything(false, 1);
}

#[test]
fn a_damaged_group_before_another_is_never_taken_for_a_torn_tail() {
    let sim = SimVfs::new(1);
    let options = Options { segment_bytes: 1 << 20, ..small() };
    let mut opened = open_in(&sim, &options).unwrap();
    let log_position = opened.log.as_ref().unwrap().position();
    let mut ends = Vec::new();
    for previous in [None, bristlecone_delta::Locator::new(1, 0), bristlecone_delta::Locator::new(1, 1)] {
        let group = opened.writer.as_mut().unwrap().begin(1).unwrap();
        let seal = Seal {
            previous,
            opening: 1,
            versions: vec![],
            namespaces: vec![],
            log_position,
            ..Seal::default()
        };
        // The log is not told.
        ends.push(group.finish(&seal).unwrap().end());
    }
    drop(opened);
    let path = format!("{DIR}/segments/00000001.seg");
    for byte in ends[0].offset..ends[1].offset - 400 {
        let image = sim.crash_image(CrashPolicy::KeepAll, 0);
        image.flip_bit(&path, byte, 3).unwrap();
        let opened = open_in(&image, &options);
        let noticed = match opened {
            Ok(opened) => opened.segments.verify_all().is_err() || byte >= ends[0].offset + 64 + 60,
            Err(Error::Corrupt { offset, .. }) => offset == ends[0].offset,
            Err(_) => false,
        };
        assert!(noticed, "byte {byte}");
    }
    // The last one may be torn.
    let image = sim.crash_image(CrashPolicy::KeepAll, 0);
    image.flip_bit(&path, ends[1].offset, 3).unwrap();
    let opened = open_in(&image, &options).unwrap();
    assert_eq!(opened.last_seal.unwrap().0.end(), ends[1]);
}

#[test]
fn a_lost_group_that_the_log_knows_is_damage_even_where_the_log_still_has_its_commits() {
    let sim = SimVfs::new(1);
    let options = Options { segment_bytes: 1 << 20, log_bytes: 1 << 20, ..small() };
    let mut opened = open_in(&sim, &options).unwrap();
    let at = stamp(1, 0);
    let log_position = opened.log.as_mut().unwrap().append_batch(0, at, None, &payload(0)).unwrap();
    let group = opened.writer.as_mut().unwrap().begin(1).unwrap();
    let seal = Seal {
        previous: None,
        opening: 1,
        versions: vec![],
        namespaces: vec![],
        log_position,
        ..Seal::default()
    };
    let sealed = group.finish(&seal).unwrap();
    let log = opened.log.as_mut().unwrap();
    log.release(&sealed).unwrap();
    log.sync().unwrap();
    drop(opened);
    let image = sim.crash_image(CrashPolicy::KeepNothing, 0);
    image.flip_bit(format!("{DIR}/segments/00000001.seg"), 512, 0).unwrap();
    assert!(matches!(open_in(&image, &options), Err(Error::Corrupt { offset: 512, .. })));
}

#[test]
fn a_cut_file_is_an_error_or_changes_nothing() {
    let sim = store(true);
    let good = answers(&open_in(&sim, &Options { read_only: true, ..small() }).unwrap()).unwrap();
    for path in files(&sim) {
        let len = sim.read_file(&path).unwrap().len() as u64;
        for cut in (0..len).step_by(5) {
            let image = sim.crash_image(CrashPolicy::KeepAll, 0);
            image.truncate(&path, cut).unwrap();
            // Cutting off the record that tells of the close leaves what a kill would have left.
            examine(&image, &good, 1, &format!("{} cut at {cut}", path.display()));
        }
    }
}

#[test]
fn files_in_each_others_place_are_an_error_or_change_nothing() {
    let sim = store(true);
    let good = answers(&open_in(&sim, &Options { read_only: true, ..small() }).unwrap()).unwrap();
    let all = files(&sim);
    for from in &all {
        let bytes = sim.read_file(from).unwrap();
        for to in all.iter().filter(|to| *to != from) {
            let image = sim.crash_image(CrashPolicy::KeepAll, 0);
            image.write_file(to, &bytes).unwrap();
            examine(&image, &good, 0, &format!("{} at {}", from.display(), to.display()));
        }
    }
}

#[test]
fn old_bytes_behind_the_end_are_never_taken_for_new_ones() {
    let sim = store(false);
    let good = answers(&open_in(&sim, &Options { read_only: true, ..small() }).unwrap()).unwrap();
    let mut tried = 0;
    let all = files(&sim);
    for to in all.iter().filter(|path| path.extension().is_some_and(|e| e == "log" || e == "seg")) {
        let bytes = sim.read_file(to).unwrap();
        if bytes.starts_with(b"BRCLCMP") {
            // Nothing comes behind its end.
            continue;
        }
        let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let end = used.next_multiple_of(512);
        for from in all.iter().filter(|from| *from != to) {
            let old = sim.read_file(from).unwrap();
            // At the place where they stood, and at the place where something would come next.
            for (start, skip) in [(end, end), (used.next_multiple_of(8), 512), (end, 512)] {
                let mut mixed = bytes.to_vec();
                mixed.truncate(start);
                mixed.extend_from_slice(old.get(skip..).unwrap_or_default());
                mixed.resize(mixed.len().max(bytes.len()), 0);
                let image = sim.crash_image(CrashPolicy::KeepAll, 0);
                image.write_file(to, &mixed).unwrap();
                let what = format!("{} behind {}", from.display(), to.display());
                assert!(examine(&image, &good, 0, &what), "{what}");
                tried += 1;
            }
        }
    }
    assert!(tried > 20);
}

#[test]
fn a_missing_file_is_an_error_or_changes_nothing() {
    let sim = store(true);
    let good = answers(&open_in(&sim, &Options { read_only: true, ..small() }).unwrap()).unwrap();
    for path in files(&sim) {
        let image = sim.crash_image(CrashPolicy::KeepAll, 0);
        bristlecone_delta::vfs::Vfs::remove(&image, &path).unwrap();
        let free = path.extension().is_some_and(|e| e == "free") || path.ends_with("dead");
        assert_eq!(examine(&image, &good, 0, &format!("{} is missing", path.display())), free);
    }
}
