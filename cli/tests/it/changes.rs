//! `diff` and `history`, on stores made by the library.

use bristlecone::{Account, B256, Batch, Namespace, Options, SchemeKind, U256};

use crate::command::{Scratch, run};

#[test]
fn diff_and_history_tell_what_changed_when() {
    let scratch = Scratch::new();
    let dir = scratch.path("accounts");
    let store = Options::new().seal_keys(2).open(&dir).unwrap();
    let (alice, bob, slot) = ([0xaa; 20], [0xbb; 20], B256::with_last_byte(7));
    let account = |nonce| Account { nonce, ..Account::default() };
    let mut batches = [Batch::new(), Batch::new(), Batch::new()];
    batches[0].set_account(&alice, &account(1)).set_slot(&alice, slot, U256::from(5));
    batches[1].set_account(&bob, &account(9)).set_slot(&alice, slot, U256::from(6));
    batches[2].delete_account(&alice);
    for batch in batches {
        store.commit(batch).unwrap();
    }
    store.close().unwrap();

    let (alice, bob) = (format!("0x{}", "aa".repeat(20)), format!("0x{}", "bb".repeat(20)));
    let done = run(&["diff", &dir, "0", "2", "--json"]).ok();
    assert_eq!(done.stdout.lines().count(), 4, "{}", done.stdout);
    assert_eq!(done.json(), serde_json::json!({"changes": 3, "complete": true}));
    let gone = done.stdout.lines().find(|line| line.contains("slot")).unwrap();
    let gone: serde_json::Value = serde_json::from_str(gone).unwrap();
    assert_eq!((gone["before"].as_str(), gone["after"].is_null()), (Some("0x5"), true));
    let done = run(&["diff", &dir, "2", "0", "--limit", "1"]).ok();
    assert!(done.stdout.contains("version 2") && done.stdout.contains("there are more"), "{}", done.stdout);
    let done = run(&["diff", &dir, "1", "1"]).ok();
    assert!(done.stdout.contains("nothing differs"));
    run(&["diff", &dir, "0", "9"]).fails(1, &["version 9 is not kept"]);

    let done = run(&["history", &dir, &alice, "7", "--json"]).ok();
    let lines: Vec<serde_json::Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let revision =
        |version: u64, value: Option<&str>| serde_json::json!({"version": version, "value": value});
    let end = serde_json::json!({"end": "beginning", "changes": 3});
    assert_eq!(lines, [revision(2, None), revision(1, Some("0x6")), revision(0, Some("0x5")), end]);
    let done = run(&["history", &dir, &alice]).ok();
    assert!(done.stdout.contains("removed") && done.stdout.contains("nonce 1"), "{}", done.stdout);
    let done = run(&["history", &dir, &bob, "--at", "0"]).ok();
    assert!(done.stdout.contains("never there"), "{}", done.stdout);
    let done = run(&["history", &dir, &alice, "7", "--limit", "1", "--json"]).ok().json();
    assert_eq!(done, serde_json::json!({"end": "limit", "changes": 1}));
    run(&["history", &dir, "0x12"]).fails(2, &["an address has 40"]);
}

#[test]
fn flat_keys_have_diffs_and_histories_too() {
    let scratch = Scratch::new();
    let dir = scratch.path("flat");
    let options = Options::new().namespace(Namespace::flat(SchemeKind::Blake3).raw());
    let store = options.open(&dir).unwrap();
    for value in [b"one", b"two"] {
        let mut batch = Batch::new();
        batch.put(&[1, 2], value);
        store.commit(batch).unwrap();
    }
    store.close().unwrap();
    let done = run(&["diff", &dir, "0", "1"]).ok();
    assert!(done.stdout.contains("0x0102") && done.stdout.contains("1 keys differ"), "{}", done.stdout);
    let done = run(&["history", &dir, "0x0102"]).ok();
    assert!(done.stdout.contains("0x74776f") && done.stdout.contains("0x6f6e65"), "{}", done.stdout);
    run(&["history", &dir, "0x0102", "1"]).fails(2, &["flat keys"]);
    run(&["history", &dir, "zz"]).fails(2, &["not a key in hexadecimal"]);
}
