//! `run` in all its forms, small.

use crate::command::{Scratch, run};

#[test]
fn every_workload_scheme_and_skew_is_verified() {
    for workload in ["accounts", "flat"] {
        for scheme in ["ethereum", "blake3"] {
            for skew in ["uniform", "zipf"] {
                let scratch = Scratch::new();
                let dir = scratch.path("data");
                let args = [
                    "run",
                    &dir,
                    "--workload",
                    workload,
                    "--scheme",
                    scheme,
                    "--skew",
                    skew,
                    "--keys",
                    "3000",
                    "--batch",
                    "700",
                    "--versions",
                    "12",
                    "--updates",
                    "200",
                    "--inserts",
                    "20",
                    "--readers",
                    "2",
                    "--json",
                ];
                let out = run(&args).ok().json();
                assert_eq!((&out["verified"], &out["version"]), (&true.into(), &16.into()), "{out}");
                assert_eq!(out["wrong_reads"], 0);
                let kept = run(&["versions", &dir, "--json"]).ok();
                assert_eq!((kept.stdout.lines().count(), &kept.json()["root"]), (17, &out["root"]));
                run(&["check", &dir]).ok();
            }
        }
    }
}

#[test]
fn the_end_object_has_every_field() {
    let scratch = Scratch::new();
    let dir = scratch.path("data");
    let args = [
        "run",
        &dir,
        "--workload",
        "accounts",
        "--keys",
        "2000",
        "--versions",
        "10",
        "--updates",
        "100",
        "--inserts",
        "10",
        "--readers",
        "0",
        "--root-every",
        "4",
        "--cache-bytes",
        "10000000",
        "--threads",
        "1",
        "--seed",
        "9",
        "--json",
    ];
    let out = run(&args).ok().json();
    for name in [
        "version",
        "load_keys_per_s",
        "commit_keys_per_s",
        "commits_per_s",
        "reads_per_s",
        "wrong_reads",
        "disk_bytes",
        "growth_bytes_per_key",
        "written_bytes_per_key",
        "peak_rss_bytes",
        "peak_anonymous_bytes",
        "reopen_ms",
    ] {
        assert!(out[name].is_number(), "{name}: {out}");
    }
    assert!(out["root"].as_str().unwrap().len() == 66 && out["verified"] == true);
    for name in ["visible_ms", "durable_ms", "root_ms"] {
        for part in ["p50", "p99", "max"] {
            assert!(out[name][part].as_f64().unwrap() > 0.0, "{name}.{part}: {out}");
        }
    }
    for name in ["read_latest_ns", "read_history_ns"] {
        for part in ["p50", "p99", "p999"] {
            assert!(out[name][part].as_u64().unwrap() > 0, "{name}.{part}: {out}");
        }
    }
    // The same seed makes the same chain, another one another.
    let other = scratch.path("other");
    let mut again = args;
    again[1] = &other;
    assert_eq!(run(&again).ok().json()["root"], out["root"]);
    let third = scratch.path("third");
    again[1] = &third;
    again[21] = "10";
    assert_ne!(run(&again).ok().json()["root"], out["root"]);
}

#[test]
fn without_a_directory_it_works_in_a_fresh_one_and_says_so() {
    let scratch = Scratch::new();
    let here = scratch.path("here");
    std::fs::create_dir(&here).unwrap();
    for name in ["bristlecone-data", "bristlecone-data-2"] {
        let mut command = crate::command::command(&[
            "run",
            "--workload",
            "accounts",
            "--keys",
            "100",
            "--versions",
            "2",
            "--updates",
            "5",
            "--inserts",
            "1",
        ]);
        let done: crate::command::Done = command.current_dir(&here).output().unwrap().into();
        let done = done.ok();
        assert!(done.stderr.contains(name), "{}", done.stderr);
        assert!(
            done.stdout.contains("final root 0x") && done.stdout.trim_end().ends_with("verified"),
            "{}",
            done.stdout
        );
    }
    let first = format!("{here}/bristlecone-data");
    run(&["run", &first]).fails(1, &["not an empty directory"]);
}

#[test]
fn a_load_alone_is_enough() {
    let scratch = Scratch::new();
    let out = run(&[
        "run",
        &scratch.path("data"),
        "--workload",
        "flat",
        "--keys",
        "500",
        "--versions",
        "0",
        "--json",
    ])
    .ok()
    .json();
    assert_eq!((&out["version"], &out["verified"]), (&0.into(), &true.into()));
}

#[test]
fn a_chain_through_the_evm_comes_to_the_roots_of_executing_it_in_turn() {
    for (profile, networks) in [("monad", 1), ("megaeth", 1), ("pharos", 3)] {
        let scratch = Scratch::new();
        let dir = scratch.path("data");
        let args = ["run", &dir, "--profile", profile, "--accounts", "300", "--blocks", "12", "--pace", "0"];
        let more = ["--transactions", "120", "--workers", "3", "--json"];
        let done = run(&[&args[..], &more].concat()).ok().json();
        assert_eq!((&done["verified"], &done["transactions"]), (&true.into(), &1440.into()), "{done}");
        assert_eq!((&done["reverted"], &done["networks"]), (&0.into(), &networks.into()), "{done}");
        // Plain transfers cost 21,000, the others more.
        assert!(done["gas"].as_u64().unwrap() > 1440 * 25_000, "{done}");
        let versions = run(&["versions", &dir, "--json"]).ok().json();
        assert_eq!(versions["root"], done["root"]);
        assert!(!std::path::Path::new(&format!("{dir}-in-turn")).exists());
    }
}

#[test]
fn blocks_are_paced_and_the_late_ones_counted() {
    let scratch = Scratch::new();
    let dir = scratch.path("data");
    let size = ["--accounts", "100", "--blocks", "20", "--transactions", "20"];
    let done = run(&[&["run", &dir, "--pace", "30", "--json"], &size[..]].concat()).ok().json();
    assert!(done["parallel_seconds"].as_f64().unwrap() > 19.0 * 0.030, "{done}");
    assert!(done["late_blocks"].as_u64().unwrap() <= 20 && done["verified"] == true, "{done}");
}

#[test]
fn options_of_another_workload_are_not_taken_for_done() {
    run(&["run", "dir", "--keys", "10"]).fails(2, &["--keys", "`evm`", "--workload accounts"]);
    run(&["run", "dir", "--root-every", "1"]).fails(2, &["--root-every"]);
    let flat = ["run", "dir", "--workload", "flat", "--blocks", "10"];
    run(&flat).fails(2, &["--blocks", "`flat`", "--workload evm"]);
    assert!(!std::path::Path::new("dir").exists());
}

#[test]
fn what_is_in_the_way_of_the_second_pass_is_left_alone() {
    let scratch = Scratch::new();
    let dir = scratch.path("data");
    let kept = scratch.file("data-in-turn", b"mine");
    run(&["run", &dir, "--blocks", "2"]).fails(1, &["data-in-turn", "remove it"]);
    assert_eq!(std::fs::read(kept).unwrap(), b"mine");
    assert!(!std::path::Path::new(&dir).exists());
}
