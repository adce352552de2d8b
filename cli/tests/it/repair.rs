//! `check` on a damaged store, and `check --repair`.

use std::fs;
use std::path::{Path, PathBuf};

use bristlecone::{Batch, Namespace, Options, SchemeKind};

use crate::command::{Scratch, copy, run, text};

const VERSIONS: u64 = 6;

/// The latest segment file, and how many of its bytes are in use.
fn segment(dir: &str) -> (PathBuf, usize) {
    let mut files: Vec<PathBuf> =
        fs::read_dir(Path::new(dir).join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let file = files.pop().unwrap();
    let used = fs::read(&file).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
    (file, used)
}

/// A store of a few versions, each of which changes every key, sealed one by one; its batch log is a ring of files of `log_bytes`.
fn make(dir: &str, log_bytes: u64) {
    let options = Options::new()
        .namespace(Namespace::flat(SchemeKind::Blake3).raw())
        .segment_bytes(2 << 20)
        .log_bytes(log_bytes);
    let store = options.open(dir).unwrap();
    for version in 0..VERSIONS {
        let mut batch = Batch::new();
        for key in 0..300u64 {
            batch.put(&key_of(key), &[version as u8; 40]);
        }
        store.commit(batch).unwrap();
        store.flush().unwrap();
    }
    store.close().unwrap();
}

fn key_of(key: u64) -> [u8; 8] {
    (key * 0x9e37_79b9).to_be_bytes()
}

/// What became of damaged copies of a store.
#[derive(Debug, Default)]
struct Outcomes {
    nothing_lost: usize,
    in_part: usize,
    lost: usize,
    older: usize,
    refused: usize,
}

/// Damages copies of a store in many places, one each, and has them repaired.
fn damage(scratch: &Scratch, whole: &str, outcomes: &mut Outcomes) {
    let (_, used) = segment(whole);
    // The last one is of the last group's table, which the store cannot be opened without.
    for at in (1..14).map(|part| used * part / 14).chain([used - 8]) {
        let dir = scratch.path(&format!("damaged at {at} {used}"));
        copy(Path::new(whole), Path::new(&dir));
        let (file, _) = segment(&dir);
        let mut bytes = fs::read(&file).unwrap();
        let before = bytes[at];
        bytes[at] ^= 4;
        fs::write(&file, bytes).unwrap();
        let checked = run(&["check", &dir, "--json"]);
        if checked.code == Some(0) {
            assert_eq!(before, 0, "{at}: not what fills up the room between two groups");
            continue;
        }
        let damaged = checked.fails(1, &[]).json()["damaged"].as_array().unwrap().clone();
        let done = run(&["check", &dir, "--repair", "--json"]);
        if done.stdout.is_empty() {
            done.fails(1, &["nothing was changed", "backup"]);
            outcomes.refused += 1;
            continue;
        }
        let report = done.json();
        let latest = report["version"].as_u64().unwrap();
        let (restored, lost) = (&report["restored"], &report["lost"]);
        let newest_was_damaged = damaged.last().is_none_or(|last| last["last"] == VERSIONS - 1);
        if !newest_was_damaged {
            assert!(restored.is_null() && lost.is_null() && latest == VERSIONS - 1, "{report}");
            done.fails(1, &["still damaged"]);
            outcomes.older += 1;
            continue;
        }
        match lost.as_array() {
            None => {
                assert!(restored.is_array() && latest == VERSIONS - 1, "{report}");
                outcomes.nothing_lost += 1;
            }
            Some(lost) => {
                assert_eq!(lost[0], latest + 1, "{report}");
                assert!(lost[1] == VERSIONS - 1 || lost[1].is_null(), "{report}");
                *(if restored.is_array() { &mut outcomes.in_part } else { &mut outcomes.lost }) += 1;
            }
        }
        assert_eq!(report["ok"].as_bool(), Some(done.code == Some(0)), "{report}");
        if done.code == Some(0) {
            let sound = run(&["check", &dir]).ok();
            assert!(sound.stdout.contains("in order"), "{}", sound.stdout);
        }
        let store = Options::new().open_read_only(&dir).unwrap();
        for version in latest.saturating_sub(1)..=latest {
            let Ok(snapshot) = store.at(version) else { continue };
            let value = snapshot.get(&key_of(299)).unwrap().unwrap();
            assert_eq!(&value[..], [version as u8; 40], "{report}");
        }
    }
}

#[test]
fn damage_is_told_by_version_and_a_repair_goes_back_to_what_can_be_read_and_forth_by_the_log() {
    let scratch = Scratch::new();
    let mut outcomes = Outcomes::default();
    for log_bytes in [4 << 10, 1 << 20] {
        let whole = scratch.path(&format!("whole {log_bytes}"));
        make(&whole, log_bytes);
        assert!(run(&["check", &whole, "--repair"]).ok().stdout.contains("nothing was changed"));
        damage(&scratch, &whole, &mut outcomes);
    }
    let Outcomes { nothing_lost, in_part, lost, older, .. } = outcomes;
    assert!(nothing_lost > 0 && in_part + lost > 0 && older > 0, "{outcomes:?}");
    run(&["check", &scratch.path("nowhere"), "--repair"]).fails(1, &["nowhere", "does not exist"]);
    let file = scratch.file("a file", "text");
    run(&["check", &text(Path::new(&file)), "--repair"]).fails(1, &["a file"]);
}

#[test]
fn only_damage_is_called_damage() {
    let scratch = Scratch::new();
    let dir = scratch.path("store");
    let store = Options::new().namespace(Namespace::flat(SchemeKind::Blake3)).open(&dir).unwrap();
    store.commit(Batch::new()).unwrap();
    let in_use = run(&["check", &dir, "--repair"]).fails(1, &["in use"]);
    assert!(!in_use.stderr.contains("backup"), "{}", in_use.stderr);
    store.close().unwrap();

    let identity = Path::new(&dir).join("store");
    let whole = fs::read(&identity).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        fs::write(&identity, bytes).unwrap();
        run(&["check", &dir, "--repair"])
    };
    let newer = with(8, 9).fails(1, &["format version 9"]);
    assert!(!newer.stderr.contains("backup"), "{}", newer.stderr);
    with(16, !whole[16]).fails(1, &["backup"]);
    fs::write(&identity, whole).unwrap();
    run(&["check", &dir, "--repair"]).ok();
}
