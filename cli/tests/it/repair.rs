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

#[test]
fn damage_is_told_by_version_and_a_repair_goes_back_to_what_can_be_read() {
    let scratch = Scratch::new();
    let whole = scratch.path("whole");
    let options = Options::new()
        .namespace(Namespace::flat(SchemeKind::Blake3).raw())
        .segment_bytes(2 << 20)
        .log_bytes(64 << 10);
    let store = options.open(&whole).unwrap();
    for version in 0..VERSIONS {
        let mut batch = Batch::new();
        for key in 0..300u64 {
            batch.put(&(key * 0x9e37_79b9).to_be_bytes(), &[version as u8; 40]);
        }
        store.commit(batch).unwrap();
        store.flush().unwrap();
    }
    store.close().unwrap();
    assert!(run(&["check", &whole, "--repair"]).ok().stdout.contains("nothing was changed"));

    let (_, used) = segment(&whole);
    let (mut repaired, mut refused, mut older) = (0, 0, 0);
    // The last ones are of the last group's table, which the store cannot be opened without.
    for at in (1..40).map(|part| used * part / 40).chain([used - 8]) {
        let dir = scratch.path(&format!("damaged at {at}"));
        copy(Path::new(&whole), Path::new(&dir));
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
        let Some(last) = damaged.last() else {
            let done = run(&["check", &dir, "--repair"]);
            refused += usize::from(done.code == Some(1) && done.stderr.contains("backup"));
            continue;
        };
        let (last, done) = (last["last"].as_u64().unwrap(), run(&["check", &dir, "--repair", "--json"]));
        if last < VERSIONS - 1 {
            assert_eq!(done.json()["lost"], serde_json::Value::Null);
            done.fails(1, &["still damaged"]);
            older += 1;
            continue;
        }
        let first = damaged[0]["first"].as_u64().unwrap();
        if first == 0 {
            done.fails(1, &["every kept version"]);
            continue;
        }
        let lost = done.json()["lost"].clone();
        assert_eq!(lost[1], VERSIONS - 1, "{lost}");
        let latest = run(&["stats", &dir, "--json"]).ok().json()["version"].as_u64().unwrap();
        assert_eq!(lost[0], latest + 1);
        if done.code == Some(0) {
            repaired += 1;
        }
    }
    assert!(repaired > 0 && older > 0 && refused > 0, "{repaired} {older} {refused}");
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
