//! `rollback`, on a store made by the library.

use bristlecone::{Batch, Namespace, Options, SchemeKind};

use crate::command::{Scratch, run};

#[test]
fn a_rollback_gives_later_versions_up_and_says_so() {
    let scratch = Scratch::new();
    let dir = scratch.path("flat");
    let options = Options::new().namespace(Namespace::flat(SchemeKind::Blake3).raw());
    let store = options.open(&dir).unwrap();
    let put = |value: u8| {
        let mut batch = Batch::new();
        batch.put(b"key", &[value]);
        batch
    };
    for value in 0..6 {
        store.commit(put(value)).unwrap();
    }
    let roots: Vec<String> =
        (0..6).map(|version| store.at(version).unwrap().root().unwrap().to_string()).collect();
    store.close().unwrap();

    run(&["rollback", &dir, "--to", "6"]).fails(1, &["version 6 is not kept", "from 0 to 5"]);
    run(&["rollback", &dir]).fails(2, &["--to"]);
    let done = run(&["rollback", &dir, "--to", "5"]).ok();
    assert!(done.stdout.contains("nothing was given up"), "{}", done.stdout);
    // Into the middle of its run.
    let done = run(&["rollback", &dir, "--to", "2", "--json"]).ok().json();
    assert_eq!(done, serde_json::json!({"version": 2, "root": roots[2], "given_up": 3}));
    assert_eq!(run(&["versions", &dir, "--json"]).ok().stdout.lines().count(), 3);
    run(&["check", &dir]).ok();

    let store = options.open(&dir).unwrap();
    assert_eq!(store.commit(put(9)).unwrap().version(), 3);
    store.close().unwrap();
    let done = run(&["rollback", &dir, "--to", "2"]).ok();
    assert!(
        done.stdout.contains("the one after it is gone") && done.stdout.contains(&roots[2]),
        "{}",
        done.stdout
    );
    let done = run(&["rollback", &dir, "--to", "0"]).ok();
    assert!(
        done.stdout.contains("the 2 after it are gone") && done.stdout.contains(&roots[0]),
        "{}",
        done.stdout
    );
    run(&["check", &dir]).ok();
    run(&["rollback", &scratch.path("nowhere"), "--to", "0"]).fails(1, &["nowhere"]);
}
