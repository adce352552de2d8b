//! What is shown: a table with an engine in each column, or JSON.

use std::{fs, path::Path};

use comfy_table::{Table, presets};
use serde_json::json;

use crate::{affinity, args::Args, case::Case, engines, figures::Spread, spec::Job};

/// How a figure is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// 123k.
    Count,
    /// Bytes, as they are.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Nanoseconds, as microseconds.
    Microseconds,
    /// Bytes, as mebibytes.
    Mebibytes,
    Percent,
    Ratio,
}

/// A row: what it says, where the figure stands, how it is written.
pub(crate) type Row = (&'static str, &'static str, Unit);

/// The rows of the reference workload.
const REFERENCE: [Row; 35] = [
    ("load, keys/s", "load.keys_per_second", Unit::Count),
    ("commit, keys/s", "commit.keys_per_second", Unit::Count),
    ("  visible p50, ms", "commit.visible_ms.p50", Unit::Milliseconds),
    ("  durable p50, ms", "commit.durable_ms.p50", Unit::Milliseconds),
    ("  root p50, ms", "commit.root_ms.p50", Unit::Milliseconds),
    ("  visible p99, ms", "commit.visible_ms.p99", Unit::Milliseconds),
    ("  root p99, ms", "commit.root_ms.p99", Unit::Milliseconds),
    ("  root max, ms", "commit.root_ms.max", Unit::Milliseconds),
    ("unhurried: visible p50, ms", "unhurried.visible_ms.p50", Unit::Milliseconds),
    ("  durable p50, ms", "unhurried.durable_ms.p50", Unit::Milliseconds),
    ("  root p50, ms", "unhurried.root_ms.p50", Unit::Milliseconds),
    ("written, B a changed key", "written_bytes_per_key", Unit::Bytes),
    ("  passed to write calls", "passed_bytes_per_key", Unit::Bytes),
    ("disk growth, B a changed key", "growth_bytes_per_key", Unit::Bytes),
    ("get latest p50, µs", "get_ns.p50", Unit::Microseconds),
    ("  p99, µs", "get_ns.p99", Unit::Microseconds),
    ("  p99.9, µs", "get_ns.p999", Unit::Microseconds),
    ("  mean, µs", "get_mean_ns", Unit::Microseconds),
    ("busy reader keeps", "busy.kept_percent", Unit::Percent),
    ("  p99.9, µs", "busy.get_ns.p999", Unit::Microseconds),
    ("  p99.9 over idle", "busy.p999_over_idle", Unit::Ratio),
    ("  longest wait for a version, µs", "busy.refresh_ns.max", Unit::Microseconds),
    ("  commit beside it, keys/s", "busy.commit.keys_per_second", Unit::Count),
    ("pinned busy reader keeps", "busy_pinned.kept_percent", Unit::Percent),
    ("  p99.9, µs", "busy_pinned.get_ns.p999", Unit::Microseconds),
    ("  p99.9 over idle", "busy_pinned.p999_over_idle", Unit::Ratio),
    ("get 100 back p50, µs", "back.get_ns.p50", Unit::Microseconds),
    ("  p99, µs", "back.get_ns.p99", Unit::Microseconds),
    ("proof: make p50, µs", "proof.make_ns.p50", Unit::Microseconds),
    ("  size, B", "proof.size_bytes", Unit::Bytes),
    ("  verify p50, µs", "proof.verify_ns.p50", Unit::Microseconds),
    ("reopen after a clean close, ms", "reopen_ms", Unit::Milliseconds),
    ("anonymous memory, load, MiB", "memory.load_peak_bytes", Unit::Mebibytes),
    ("  commit, MiB", "memory.commit_peak_bytes", Unit::Mebibytes),
    ("  rest, MiB", "memory.rest_peak_bytes", Unit::Mebibytes),
];

/// The rows of mini-blocks.
const MINI_BLOCKS: [Row; 11] = [
    ("commits/s", "commit.commits_per_second", Unit::Count),
    ("visible p50, ms", "commit.visible_ms.p50", Unit::Milliseconds),
    ("  p99, ms", "commit.visible_ms.p99", Unit::Milliseconds),
    ("  max, ms", "commit.visible_ms.max", Unit::Milliseconds),
    ("durable p50, ms", "commit.durable_ms.p50", Unit::Milliseconds),
    ("  p99, ms", "commit.durable_ms.p99", Unit::Milliseconds),
    ("scheduled root p50, ms", "commit.root_ms.p50", Unit::Milliseconds),
    ("written, B a changed key", "written_bytes_per_key", Unit::Bytes),
    ("  passed to write calls", "passed_bytes_per_key", Unit::Bytes),
    ("disk growth, B a changed key", "growth_bytes_per_key", Unit::Bytes),
    ("anonymous memory, MiB", "peak_bytes", Unit::Mebibytes),
];

impl Unit {
    pub(crate) fn write(self, value: f64) -> String {
        let plain = |value: f64| match value.abs() {
            0.0 => "0".to_owned(),
            ..1.0 => format!("{value:.3}"),
            ..10.0 => format!("{value:.2}"),
            ..100.0 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        };
        match self {
            Self::Count if value >= 1e6 => format!("{}M", plain(value / 1e6)),
            Self::Count if value >= 1e4 => format!("{:.0}k", value / 1e3),
            Self::Count | Self::Bytes => format!("{value:.0}"),
            Self::Milliseconds | Self::Ratio => plain(value),
            Self::Microseconds => plain(value / 1e3),
            Self::Mebibytes => format!("{:.0}", value / f64::from(1 << 20)),
            Self::Percent => format!("{value:.0}%"),
        }
    }

    /// The median, and least to most where there are several runs.
    fn spread(self, spread: Spread) -> String {
        let [median, min, max] = [spread.median, spread.min, spread.max].map(|value| self.write(value));
        if min == max { median } else { format!("{median} ({min}–{max})") }
    }
}

/// A line of JSON about the machine, or the same in words. Said before anything is measured.
pub(crate) fn machine(args: &Args, cases: &[Case], dir: &Path) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or("unknown", |(_, name)| name);
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let cores = affinity::cores();
    let file_system = file_system(dir);
    if args.json {
        let engines: Vec<_> = cases.iter().map(|case| case.facts.name).collect();
        println!(
            "{}",
            json!({
                "kind": "machine", "cpu": cpu, "cores": cores, "kernel": kernel, "load": load,
                "file_system": file_system, "optimised": !cfg!(debug_assertions), "engines": engines, "repeat": args.repeat,
            })
        );
    }
    eprintln!("{cpu}, {cores} cores, Linux {kernel}, {file_system}, load {load}");
    if file_system == "tmpfs" {
        eprintln!(
            "warning: the directory is in memory, where durability costs nothing: give --dir on a disk"
        );
    }
    if cfg!(debug_assertions) {
        eprintln!("warning: not an optimised build: use --release");
    }
}

/// The type of the file system that `dir` is on, as /proc/mounts names it.
fn file_system(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    best.map_or("unknown", |(_, kind)| kind).to_owned()
}

/// The engines.
pub(crate) fn list(json: bool) {
    if json {
        for facts in engines::ALL {
            let version = engines::crate_version(facts.crate_name);
            println!("{}", json!({ "kind": "engine", "facts": facts, "version": version }));
        }
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["engine", "crate", "root", "durable", "disk growth", "apart"]);
    for facts in engines::ALL {
        let version = format!("{} {}", facts.crate_name, engines::crate_version(facts.crate_name));
        table.add_row([facts.name, &version, facts.root, facts.durability, facts.growth, facts.apart]);
    }
    println!("{table}");
}

/// A run that has just ended.
pub(crate) fn run(args: &Args, case: &Case, repeat: u64, figures: &serde_json::Value) {
    if args.json {
        let mut line = case.label();
        line["kind"] = json!("run");
        line["repeat"] = json!(repeat);
        line["figures"] = figures.clone();
        println!("{line}");
    }
}

/// Everything put together.
pub(crate) fn summaries(args: &Args, cases: &[Case]) {
    if args.json {
        for case in cases {
            let mut line = case.label();
            line["kind"] = json!("summary");
            line["runs"] = json!(case.runs.len());
            line["figures"] = json!(case.summary());
            println!("{line}");
        }
        return;
    }
    match cases.first().map(|case| &case.job) {
        None => {}
        Some(Job::Reference) => {
            println!("{}\n", table(cases, &REFERENCE));
            for case in cases {
                let facts = &case.facts;
                let version = engines::crate_version(facts.crate_name);
                println!("{} ({} {version}): root: {};", facts.name, facts.crate_name, facts.root);
                println!("    durable: {}; {}", facts.durability, facts.apart);
            }
        }
        Some(Job::MiniBlocks { .. }) => println!("{}", table(cases, &MINI_BLOCKS)),
        Some(Job::Scaling { batches, .. }) => println!("{}", scaling(cases, batches)),
    }
}

fn table(cases: &[Case], rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let names = cases.iter().map(|case| case.facts.name.to_owned());
    table.set_header(std::iter::once(String::new()).chain(names));
    let summaries: Vec<_> = cases.iter().map(Case::summary).collect();
    for (name, path, unit) in rows {
        let cells = summaries.iter().map(|summary| match summary.get(path) {
            Some(spread) => unit.spread(spread),
            None => "–".to_owned(),
        });
        table.add_row(std::iter::once((*name).to_owned()).chain(cells));
    }
    table
}

/// Nanoseconds a key: a row for each engine, number of keys and threads, a column for each size of commits.
fn scaling(cases: &[Case], batches: &[u64]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let sizes = batches.iter().map(|batch| format!("commits of {batch}, µs a key"));
    table.set_header(["engine", "keys", "threads"].map(str::to_owned).into_iter().chain(sizes));
    for case in cases {
        let summary = case.summary();
        let threads = case.workload.threads.map_or("default".to_owned(), |threads| threads.to_string());
        let first = [case.facts.name.to_owned(), case.workload.keys.to_string(), threads];
        let cells = (0..batches.len()).map(|place| {
            let path = format!("sizes.{place}.nanoseconds_per_key");
            summary.get(&path).map_or("–".to_owned(), |spread| Unit::Microseconds.spread(spread))
        });
        table.add_row(first.into_iter().chain(cells));
    }
    table
}
