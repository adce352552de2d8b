//! What `run` says at the end.

use std::time::Duration;

use bristlecone::B256;
use serde::Serialize;

use super::{
    Growth,
    committer::Phase,
    measure::{Milliseconds, Nanoseconds},
    readers::Reads,
    workload::Plan,
};
use crate::{
    failure::Failure,
    output::{Output, bytes, table, thousands},
};

/// Everything that was measured.
pub(crate) struct Figures<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) root: B256,
    /// The root is the independent one, the reopened store has it, and no read was wrong.
    pub(crate) verified: bool,
    pub(crate) load: Phase,
    pub(crate) commits: Phase,
    /// Of the readers beside the commits, if there were any.
    pub(crate) busy: Option<Reads>,
    /// Of the reads afterwards.
    pub(crate) idle: Reads,
    pub(crate) wrong: u64,
    pub(crate) growth: Growth,
    /// The most memory until the store was closed, with maps of files and without.
    pub(crate) memory: (u64, u64),
    pub(crate) reopen: Duration,
}

/// The end object of `--json`. Rates are of whole phases, until the last commit was durable with its root; bytes a key
/// are per distinct key changed in a version, after the load, with the final seal. `read_*` are the reads after the
/// commits, by one thread; `busy_read_*` those beside them. `reads_per_s` is of all readers beside the commits, or of
/// the reads after them where there were no readers. The peaks are those of the process up to the closing of the store, the
/// model with which reads are compared included; the anonymous one is of samples between commits, and without maps of files.
#[derive(Serialize)]
struct Out {
    version: u64,
    root: String,
    verified: bool,
    load_keys_per_s: u64,
    commit_keys_per_s: u64,
    commits_per_s: f64,
    visible_ms: Milliseconds,
    durable_ms: Milliseconds,
    root_ms: Milliseconds,
    reads_per_s: u64,
    read_latest_ns: Nanoseconds,
    read_history_ns: Nanoseconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    busy_read_latest_ns: Option<Nanoseconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    busy_read_history_ns: Option<Nanoseconds>,
    wrong_reads: u64,
    disk_bytes: u64,
    growth_bytes_per_key: f64,
    written_bytes_per_key: f64,
    peak_rss_bytes: u64,
    peak_anonymous_bytes: u64,
    reopen_ms: f64,
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn out(figures: &Figures<'_>) -> Out {
    let busy = figures.busy.as_ref();
    let per_key = |bytes: u64| match figures.commits.changed {
        0 => 0.0,
        keys => tenths(bytes as f64 / keys as f64),
    };
    Out {
        version: figures.plan.last_version(),
        root: figures.root.to_string(),
        verified: figures.verified,
        load_keys_per_s: figures.load.keys_per_second() as u64,
        commit_keys_per_s: figures.commits.keys_per_second() as u64,
        commits_per_s: tenths(figures.commits.commits_per_second()),
        visible_ms: figures.commits.visible.milliseconds(),
        durable_ms: figures.commits.durable.milliseconds(),
        root_ms: figures.commits.root.milliseconds(),
        reads_per_s: busy.unwrap_or(&figures.idle).per_second() as u64,
        read_latest_ns: figures.idle.latest.nanoseconds(),
        read_history_ns: figures.idle.history.nanoseconds(),
        busy_read_latest_ns: busy.map(|busy| busy.latest.nanoseconds()),
        busy_read_history_ns: busy.map(|busy| busy.history.nanoseconds()),
        wrong_reads: figures.wrong,
        disk_bytes: figures.growth.disk,
        growth_bytes_per_key: per_key(figures.growth.grown),
        written_bytes_per_key: per_key(figures.growth.written),
        peak_rss_bytes: figures.memory.0,
        peak_anonymous_bytes: figures.memory.1,
        reopen_ms: (figures.reopen.as_secs_f64() * 1e6).round() / 1e3,
    }
}

/// Prints the table or the object.
pub(crate) fn print(figures: &Figures<'_>, output: &mut Output) -> Result<(), Failure> {
    let out = out(figures);
    output.result(&out, || text(figures, &out))
}

fn text(figures: &Figures<'_>, out: &Out) -> String {
    let rate = |per_second: u64, what: &str| format!("{} {what}/s", thousands(per_second));
    let mut rates = table(&["phase", "versions", "keys changed", "seconds", "rate"]);
    for (name, phase, keys_per_s) in
        [("load", &figures.load, out.load_keys_per_s), ("commit", &figures.commits, out.commit_keys_per_s)]
    {
        rates.add_row([
            name.to_owned(),
            thousands(phase.commits),
            thousands(phase.changed),
            format!("{:.2}", phase.elapsed.as_secs_f64()),
            rate(keys_per_s, "keys"),
        ]);
    }
    let mut times = table(&["commit to", "p50", "p99", "max"]);
    for (name, time) in
        [("visible", out.visible_ms), ("durable", out.durable_ms), ("root known", out.root_ms)]
    {
        let ms = |value: f64| format!("{value:.2} ms");
        times.add_row([name.to_owned(), ms(time.p50), ms(time.p99), ms(time.max)]);
    }
    let mut reads = table(&["read", "p50", "p99", "p99.9"]);
    let rows = [
        ("latest", Some(out.read_latest_ns)),
        ("any version", Some(out.read_history_ns)),
        ("latest, beside commits", out.busy_read_latest_ns),
        ("any version, beside commits", out.busy_read_history_ns),
    ];
    for (name, time) in rows {
        let Some(time) = time else { continue };
        let us = |nanoseconds: u64| format!("{:.2} µs", nanoseconds as f64 / 1e3);
        reads.add_row([name.to_owned(), us(time.p50), us(time.p99), us(time.p999)]);
    }
    let wrong = match out.wrong_reads {
        0 => "all as the model says".to_owned(),
        wrong => format!("{} WRONG", thousands(wrong)),
    };
    let checked = figures.idle.count + figures.busy.as_ref().map_or(0, |busy| busy.count);
    let verdict = if out.verified { "verified" } else { "NOT verified" };
    format!(
        "{rates}\n{times}\n{reads}\n{} reads, {wrong}, {}\n{} on disk, {} B grown and {} B written a changed key; \
         {} of memory at most, {} without maps of files; reopened in {:.2} ms\nfinal root {} {verdict}",
        thousands(checked),
        rate(out.reads_per_s, "reads"),
        bytes(out.disk_bytes),
        out.growth_bytes_per_key,
        out.written_bytes_per_key,
        bytes(out.peak_rss_bytes),
        bytes(out.peak_anonymous_bytes),
        out.reopen_ms,
        out.root,
    )
}

/// The end object of a run that was stopped.
#[derive(Serialize)]
pub(crate) struct Interrupted {
    interrupted: bool,
    version: Option<u64>,
    root: Option<String>,
}

impl Interrupted {
    pub(crate) fn new(version: Option<u64>, root: Option<B256>) -> Self {
        Self { interrupted: true, version, root: root.map(|root| root.to_string()) }
    }
}

/// Prints the object; for people the message on standard error says it.
pub(crate) fn interrupted(out: &Interrupted, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() { output.result(out, String::new) } else { Ok(()) }
}
