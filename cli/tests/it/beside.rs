//! Reading commands beside a command that writes.

use std::process::Stdio;

use serde_json::Value;

use crate::command::{Scratch, command, run};

#[test]
fn a_store_is_read_while_another_process_writes_it() {
    let scratch = Scratch::new();
    let dir = scratch.path("data");
    let args = [
        "run",
        &dir,
        "--workload",
        "accounts",
        "--versions",
        "100000",
        "--keys",
        "2000",
        "--updates",
        "300",
        "--inserts",
        "1",
    ];
    let mut child = command(&args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let begun = std::time::Instant::now();
    let (mut last, mut looks, mut grown) = (0, 0, 0);
    while grown < 3 && begun.elapsed().as_secs() < 60 {
        assert!(child.try_wait().unwrap().is_none(), "the writer ended");
        // Before there is anything, there is nothing to read.
        let checked = run(&["check", &dir, "--json"]);
        if checked.code == Some(1) && last == 0 {
            continue;
        }
        let versions = checked.ok().json()["versions"].as_u64().unwrap();
        assert!(versions >= last, "{versions} after {last}");
        (grown, last, looks) = (grown + u32::from(versions > last), versions, looks + 1);
        if versions > 1 {
            let (latest, before) = ((versions - 1).to_string(), (versions - 2).to_string());
            assert_eq!(run(&["diff", &dir, &before, &latest, "--json"]).ok().json()["complete"], true);
            let figures = run(&["stats", &dir, "--json"]).ok().json();
            assert!(figures["sealed"].as_u64().unwrap() + 1 >= versions, "{figures}");
        }
    }
    assert!(child.try_wait().unwrap().is_none(), "the writer ended");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(grown >= 3, "{looks} looks, {last} versions");
    let listed = run(&["versions", &dir, "--json"]).ok();
    assert!(listed.stdout.lines().count() as u64 >= last);
    what_the_segments_hold(&dir);
}

fn what_the_segments_hold(dir: &str) {
    let figures = run(&["stats", dir, "--segments", "--json"]).ok().json();
    let bytes = |of: &Value| -> u64 {
        let fields = of.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("_bytes"));
        fields.map(|(_, value)| value.as_u64().unwrap()).sum()
    };
    let segments = figures["segment_space"].as_array().unwrap();
    assert_eq!(segments.len() as u64, figures["segments"].as_u64().unwrap());
    assert_eq!(segments.iter().map(bytes).sum::<u64>(), bytes(&figures["space"]));
    let used = bytes(&figures["space"]) - figures["space"]["slack_bytes"].as_u64().unwrap();
    assert_eq!(used, figures["segment_bytes"].as_u64().unwrap());
    assert!(figures["space"]["value_bytes"].as_u64().unwrap() > 0, "{figures}");
    let text = run(&["stats", dir, "--space"]).ok();
    assert!(text.stdout.contains("entries for child pages"), "{}", text.stdout);
    assert!(run(&["stats", dir, "--json"]).ok().json()["space"].is_null());
}
