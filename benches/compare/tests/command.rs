//! The command as a person meets it.
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test stop at what they did not expect, as the test does"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const ENGINES: [&str; 8] =
    ["bristlecone", "bristlecone-blake3", "nomt", "qmdb", "qmdb-current", "jmt", "redb", "lmdb"];

fn compare() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bristlecone-compare"))
}

fn tiny(dir: &Path) -> Command {
    let mut command = compare();
    command.args([
        "--keys",
        "2000",
        "--batch",
        "500",
        "--commits",
        "5",
        "--updates",
        "100",
        "--inserts",
        "5",
    ]);
    command.args(["--reads", "2000", "--dir"]).arg(dir);
    command
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn every_engine_gives_every_figure_that_it_has() {
    let (dir, plots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = tiny(dir.path())
        .args(["--json", "--repeat", "2", "--plots"])
        .arg(plots.path().join("new"))
        .output()
        .unwrap();
    let lines = lines(&output);
    let kind = |line: &Value| line["kind"].as_str().unwrap().to_owned();
    assert_eq!(kind(&lines[0]), "machine");
    let runs: Vec<_> = lines.iter().filter(|line| kind(line) == "run").collect();
    // In turns.
    let order: Vec<_> = runs.iter().map(|run| run["engine"].as_str().unwrap()).collect();
    assert_eq!(order, ENGINES.repeat(2));

    let everywhere = [
        "/load/keys_per_second",
        "/commit/keys_per_second",
        "/commit/visible_ms/p50",
        "/commit/durable_ms/p99",
        "/commit/root_ms/max",
        "/unhurried/root_ms/p50",
        "/written_bytes_per_key",
        "/growth_bytes_per_key",
        "/get_ns/p50",
        "/get_ns/p999",
        "/get_mean_ns",
        "/busy/kept_percent",
        "/busy/p999_over_idle",
        "/memory/peak_bytes",
        "/verified",
    ];
    for run in &runs {
        let (engine, figures) = (run["engine"].as_str().unwrap(), &run["figures"]);
        for figure in everywhere {
            assert!(figures.pointer(figure).is_some_and(Value::is_number), "{engine} has no {figure}");
        }
        assert!(run["facts"]["durability"].is_string());
        assert!(figures["verified"].as_u64().unwrap() >= 20_000, "{engine}");
        let has = |figure: &str| figures.get(figure).is_some();
        let history = ["bristlecone", "bristlecone-blake3", "jmt"].contains(&engine);
        assert_eq!(has("back"), history, "{engine}");
        let proofs = !["qmdb", "redb", "lmdb"].contains(&engine);
        assert_eq!(has("proof"), proofs, "{engine}");
        assert_eq!(has("reopen_ms"), engine != "jmt", "{engine}");
        assert_eq!(has("last_root"), !["redb", "lmdb"].contains(&engine), "{engine}");
    }

    let summaries: Vec<_> = lines.iter().filter(|line| kind(line) == "summary").collect();
    assert_eq!(summaries.len(), ENGINES.len());
    for summary in summaries {
        let spread = &summary["figures"]["commit.keys_per_second"];
        let value = |name: &str| spread[name].as_f64().unwrap();
        assert!(value("min") <= value("median") && value("median") <= value("max"), "{spread}");
    }
    let drawn: BTreeSet<_> =
        fs::read_dir(plots.path().join("new")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(drawn.len(), 7);
    assert!(drawn.iter().all(|file| fs::read_to_string(file).unwrap().ends_with("</svg>\n")));
    assert!(is_empty(dir.path()), "a temporary directory was left behind");
}

#[test]
fn the_table_has_a_column_for_each_engine() {
    let dir = tempfile::tempdir().unwrap();
    let output = tiny(dir.path()).args(["--engines", "redb,bristlecone", "--repeat", "1"]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let header: Vec<_> = text.lines().next().unwrap().split('|').map(str::trim).collect();
    assert_eq!(header, ["", "", "redb", "bristlecone", ""]);
    assert!(text.contains("get 100 back p50") && text.contains("Durability::Immediate"), "{text}");
}

#[test]
fn scaling_and_mini_blocks_have_tables_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let scaling =
        ["--scaling", "--scaling-keys", "2000", "--scaling-batches", "50,100", "--scaling-changes", "500"];
    let output = tiny(dir.path()).args(scaling).args(["--repeat", "1", "--json"]).output().unwrap();
    let found = lines(&output);
    let runs: Vec<_> = found.iter().filter(|line| line["kind"] == "run").collect();
    assert_eq!(
        runs.iter().map(|run| run["workload"]["threads"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1, 2]
    );
    let output =
        tiny(dir.path()).args(["--mini-blocks", "--seconds", "1", "--repeat", "1"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("commits/s"));
    assert!(is_empty(dir.path()));
}

#[test]
fn bad_input_is_refused_with_a_sentence() {
    let refused = |arguments: &[&str], sentence: &str| {
        let output = compare().args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(sentence), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty());
    };
    refused(&["--engines", "leveldb"], "there is no engine \"leveldb\"");
    refused(&["--engines", "redb,redb"], "redb is given twice");
    refused(&["--engines", "redb", "--scaling"], "redb is not Bristlecone");
    refused(&["--dir", "/there/is/no/such"], "/there/is/no/such is not a directory");
    refused(&["--plots", "/proc/no"], "cannot make /proc/no");
    refused(&["--updates", "0", "--inserts", "0"], "a commit must change something");
    refused(&["--keys", "3000000000"], "more than 2147483648 keys");
    refused(&["--keys", "0"], "0 is not in 1..");
    refused(&["--threads", "0"], "no threads do no work");
    refused(&["--scaling", "--mini-blocks"], "cannot be used with");
    refused(&["--skew", "square"], "invalid value 'square'");
}

#[test]
fn the_list_says_how_durable_each_engine_is() {
    let lines = lines(&compare().args(["--list", "--json"]).output().unwrap());
    assert_eq!(lines.iter().map(|line| line["facts"]["name"].as_str().unwrap()).collect::<Vec<_>>(), ENGINES);
    let output = compare().arg("--list").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("none: in memory"));
}

#[test]
fn a_signal_ends_the_run_and_removes_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = tiny(dir.path())
        .args(["--engines", "bristlecone", "--commits", "1000000"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while is_empty(dir.path()) && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(is_empty(dir.path()), "a temporary directory was left behind");
}
