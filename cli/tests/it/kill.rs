//! Ctrl-C, and kill -9: what was said to be durable is there, and all of it is right.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use bristlecone::{B256, Store};

use crate::command::{Done, Scratch, command, data, run};

/// Starts the command, waits until it told `lines` times of its progress in `phase`, or ended, then sends `signal`.
/// Returns the last version that it said to be durable, its exit code, and what it said.
fn interrupt(args: &[&str], phase: &str, lines: usize, signal: &str) -> (Option<u64>, Option<i32>, String) {
    let mut child = command(args).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let told = AtomicUsize::new(0);
    let (durable, text) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut durable = None;
            let mut text = String::new();
            for line in BufReader::new(stderr).lines() {
                let line = line.unwrap();
                if let Some((_, version)) = line.split_once("durable to version ") {
                    durable = version.trim().parse::<u64>().ok().or(durable);
                }
                told.fetch_add(usize::from(line.starts_with(phase)), Ordering::Relaxed);
                text.push_str(&line);
                text.push('\n');
            }
            (durable, text)
        });
        while told.load(Ordering::Relaxed) < lines && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        send(&child, signal);
        reader.join().unwrap()
    });
    (durable, child.wait().unwrap().code(), text)
}

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    // It may have ended by itself, and `kill` says so.
    let _ = std::process::Command::new("kill").args([signal, &id]).output().unwrap();
}

/// The roots of all versions, each one computed if it has to be.
fn roots(dir: &str) -> Vec<B256> {
    let store = Store::open(dir).unwrap();
    let roots = store.versions().iter().map(|info| store.at(info.version).unwrap().root().unwrap()).collect();
    store.close().unwrap();
    roots
}

const SIZE: [&str; 8] = ["--keys", "20000", "--versions", "2000", "--updates", "300", "--inserts", "20"];

#[test]
fn a_killed_run_reopens_as_a_prefix_with_everything_that_was_durable() {
    let scratch = Scratch::new();
    let reference = scratch.path("reference");
    let mut args = vec![
        "run",
        &reference,
        "--workload",
        "accounts",
        "--readers",
        "0",
        "--batch",
        "2000",
        "--versions",
        "2000",
    ];
    args.extend(&SIZE[..2]);
    args.extend(&SIZE[4..]);
    let whole = run(&[&args[..], &["--json"]].concat()).ok().json();
    assert_eq!(whole["verified"], true);
    let expected = roots(&reference);
    for (round, (phase, lines)) in
        [("load", 1), ("commit", 1), ("commit", 3), ("commit", 5)].into_iter().enumerate()
    {
        let dir = scratch.path(&format!("killed-{round}"));
        let mut args = args.clone();
        args[1] = &dir;
        let (durable, ..) = interrupt(&args, phase, lines, "-9");
        // Looking at it changes nothing, however often.
        let checked = run(&["check", &dir, "--json"]).ok().json();
        assert_eq!(run(&["check", &dir, "--json"]).ok().json(), checked);
        let found = roots(&dir);
        eprintln!("killed in {phase} {lines}: {} versions, said to be durable: {durable:?}", found.len());
        assert!(durable.is_none_or(|durable| found.len() as u64 > durable), "{} {durable:?}", found.len());
        let seen = checked["versions"].as_u64().unwrap() + checked["unsealed"].as_u64().unwrap();
        assert_eq!(seen, found.len() as u64, "{checked}");
        assert_eq!(found[..], expected[..found.len()], "killed in {phase} {lines}");
        let after = run(&["check", &dir, "--json"]).ok().json();
        assert_eq!((&after["unsealed"], &after["versions"]), (&0.into(), &found.len().into()));
    }
}

#[test]
fn a_killed_replay_goes_on_where_it_was() {
    let (Some(genesis), Some(file)) =
        (data("genesis/mainnet.json"), data("era1/mainnet-00000-5ec1ffb8.era1"))
    else {
        return;
    };
    for root_every in ["1", "64"] {
        let scratch = Scratch::new();
        let dir = scratch.path("chain");
        run(&["init", &dir, "--genesis", &genesis]).ok();
        let args = ["replay", &dir, "--blocks", &file, "--root-every", root_every];
        let mut held = 0;
        for lines in [1, 2, 3, 1, 2] {
            let (durable, ..) = interrupt(&args, "replay", lines, "-9");
            let versions = run(&["versions", &dir, "--json"]).ok();
            let found = versions.stdout.lines().count() as u64;
            eprintln!("killed after {lines} lines: {found} versions, said to be durable: {durable:?}");
            assert!(found >= held, "{found} after {held}");
            assert!(durable.is_none_or(|durable| found > durable), "{found} {durable:?}");
            held = found;
        }
        let done = run(&[&args[..], &["--json"]].concat()).ok().json();
        assert_eq!((&done["version"], &done["held"]), (&8191.into(), &held.into()));
        run(&["check", &dir]).ok();
    }
}

#[test]
fn ctrl_c_stops_safely_and_says_how_to_go_on() {
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
        "5000",
        "--updates",
        "100",
        "--inserts",
        "1",
    ];
    let (_, code, text) = interrupt(&args, "commit", 3, "-INT");
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("stopped: by request") && text.contains("hint: "), "{text}");
    let versions = roots(&dir).len() as u64;
    let said = text.split("versions 0 to ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    assert_eq!(said.parse::<u64>().unwrap() + 1, versions, "{text}");
    run(&["check", &dir]).ok();

    let (Some(genesis), Some(file)) =
        (data("genesis/mainnet.json"), data("era1/mainnet-00000-5ec1ffb8.era1"))
    else {
        return;
    };
    let dir = scratch.path("chain");
    run(&["init", &dir, "--genesis", &genesis]).ok();
    let args = ["replay", &dir, "--blocks", &file];
    let (_, code, text) = interrupt(&args, "replay", 2, "-INT");
    assert!(code == Some(130) || code == Some(0), "{text}");
    assert!(code == Some(0) || text.contains("stopped: by request"), "{text}");
    let done: Done = run(&["replay", &dir, "--blocks", &file, "--json"]).ok();
    assert_eq!(done.json()["version"], 8191);
}
