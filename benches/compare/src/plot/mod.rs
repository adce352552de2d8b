//! Plots of the figures, as SVG.

mod svg;

use std::{fs, path::Path};

use crate::{
    args::Args,
    case::Case,
    failure::{Failure, Result},
    figures::Summary,
    measure::QUANTILES,
    spec::Job,
};
use svg::{Axis, COLOURS, Drawing};

/// A group of bars: what it says in the legend, and where the figure stands.
type Bars<'a> = (&'a str, &'a str);

/// All plots that there are figures for.
pub(crate) fn all(args: &Args, cases: &[Case], dir: &Path) -> Result<()> {
    let cases: Vec<(&Case, Summary)> = cases.iter().map(|case| (case, case.summary())).collect();
    let plots: Vec<(&str, Option<String>)> = match cases.first().map(|(case, _)| &case.job) {
        None => Vec::new(),
        Some(Job::Reference) => reference(args, &cases),
        Some(Job::Scaling { batches, .. }) => vec![("scaling", scaling(&cases, batches))],
        Some(Job::MiniBlocks { .. }) => vec![("mini-blocks", mini_blocks(&cases))],
    };
    for (name, plot) in plots {
        let Some(plot) = plot else { continue };
        let file = dir.join(format!("{name}.svg"));
        fs::write(&file, plot)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))?;
        eprintln!("wrote {}", file.display());
    }
    Ok(())
}

fn reference(args: &Args, cases: &[(&Case, Summary)]) -> Vec<(&'static str, Option<String>)> {
    let workload =
        format!("{} keys, commits of {} updates and {} inserts", args.keys, args.updates, args.inserts);
    let keys = |what: &str| format!("{what}; {workload}");
    vec![
        (
            "throughput",
            bars(
                cases,
                ("Throughput", &keys("keys/s")),
                &[("load", "load.keys_per_second"), ("commit", "commit.keys_per_second")],
                false,
            ),
        ),
        (
            "commit-latency",
            bars(
                cases,
                ("Commit latency, p50", &keys("ms")),
                &[
                    ("visible", "commit.visible_ms.p50"),
                    ("durable", "commit.durable_ms.p50"),
                    ("root", "commit.root_ms.p50"),
                ],
                false,
            ),
        ),
        (
            "commit-latency-curve",
            percentiles(cases, ("Commit until its root is known", "ms"), "commit.root_ms.curve", 1.0),
        ),
        ("get-curve", percentiles(cases, ("Get of the latest version, alone", "µs"), "get_ns.curve", 1e3)),
        (
            "busy-get-curve",
            percentiles(cases, ("Get of the latest version, beside commits", "µs"), "busy.get_ns.curve", 1e3),
        ),
        (
            "bytes-per-key",
            bars(
                cases,
                ("Bytes a changed key", &keys("bytes")),
                &[("written", "written_bytes_per_key"), ("disk growth", "growth_bytes_per_key")],
                true,
            ),
        ),
        (
            "reads-under-commit",
            bars(
                cases,
                ("What one reader keeps beside one committer", &keys("percent of its idle throughput")),
                &[("unpinned", "busy.kept_percent"), ("a core each", "busy_pinned.kept_percent")],
                false,
            ),
        ),
    ]
}

/// Groups of bars, an engine in each.
fn bars(
    cases: &[(&Case, Summary)],
    (title, what): (&str, &str),
    bars: &[Bars<'_>],
    decades: bool,
) -> Option<String> {
    let spreads = || {
        cases.iter().enumerate().flat_map(|(place, (_, summary))| {
            bars.iter()
                .enumerate()
                .filter_map(move |(part, (_, path))| Some((place, part, summary.get(path)?)))
        })
    };
    spreads().next()?;
    let most = spreads().map(|(.., spread)| spread.max);
    let least = spreads().map(|(.., spread)| spread.min);
    let axis = if decades { Axis::decades(least.chain(most)) } else { Axis::linear(most) };
    let mut drawing = Drawing::new(title, &format!("{what}; whiskers: least to most"), axis);
    for (place, part, spread) in spreads() {
        let colour = COLOURS[part % COLOURS.len()];
        let values = [spread.median, spread.min, spread.max];
        drawing.bar((place, cases.len()), (part, bars.len()), colour, values);
    }
    drawing.names(&cases.iter().map(|(case, _)| case.facts.name.to_owned()).collect::<Vec<_>>());
    for (part, (name, _)) in bars.iter().enumerate() {
        drawing.legend(COLOURS[part % COLOURS.len()], name);
    }
    Some(drawing.finish())
}

/// A curve for each engine over the quantiles, drawn by how rare what lies above is.
fn percentiles(
    cases: &[(&Case, Summary)],
    (title, unit): (&str, &str),
    path: &str,
    divisor: f64,
) -> Option<String> {
    // One in this many is above; the last quantile is the maximum, which is given one more decade.
    let rarity = |quantile: f64| if quantile < 1.0 { 1.0 / (1.0 - quantile) } else { 1e5 };
    let curves: Vec<(&str, Vec<(f64, f64)>)> = cases
        .iter()
        .map(|(case, summary)| {
            let points = QUANTILES.iter().enumerate().filter_map(|(place, quantile)| {
                Some((rarity(*quantile), summary.median(&format!("{path}.{place}"))? / divisor))
            });
            (case.facts.name, points.collect())
        })
        .filter(|(_, points): &(_, Vec<_>)| !points.is_empty())
        .collect();
    if curves.is_empty() {
        return None;
    }
    let values = || curves.iter().flat_map(|(_, points)| points.iter());
    let x = Axis::decades(values().map(|(x, _)| *x));
    let mut drawing = Drawing::new(title, unit, Axis::decades(values().map(|(_, y)| *y)));
    let ticks: Vec<(f64, String)> =
        [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")]
            .into_iter()
            .map(|(quantile, name)| (rarity(quantile), name.to_owned()))
            .chain([(1e5, "max".to_owned())])
            .collect();
    drawing.across(x, &ticks, "percentile");
    for (place, (name, points)) in curves.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        drawing.curve(x, points, colour);
        drawing.legend(colour, name);
    }
    Some(drawing.finish())
}

/// Cost of a key over the size of commits, a curve for each number of keys and threads.
fn scaling(cases: &[(&Case, Summary)], batches: &[u64]) -> Option<String> {
    let curves: Vec<(String, Vec<(f64, f64)>)> = cases
        .iter()
        .map(|(case, summary)| {
            let points = batches.iter().enumerate().filter_map(|(place, batch)| {
                let nanoseconds = summary.median(&format!("sizes.{place}.nanoseconds_per_key"))?;
                Some((*batch as f64, nanoseconds / 1e3))
            });
            let threads = case.workload.threads.unwrap_or(0);
            (format!("{} keys, {threads} threads", svg::short(case.workload.keys as f64)), points.collect())
        })
        .collect();
    let values = || curves.iter().flat_map(|(_, points): &(_, Vec<_>)| points.iter());
    values().next()?;
    let x = Axis::decades(values().map(|(x, _)| *x));
    let y = Axis::decades(values().map(|(_, y)| *y));
    let mut drawing =
        Drawing::new("What a changed key costs", "µs a key, until durable and with its root", y);
    let ticks: Vec<_> = batches.iter().map(|batch| (*batch as f64, svg::short(*batch as f64))).collect();
    drawing.across(x, &ticks, "keys a commit");
    for (place, (name, points)) in curves.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        drawing.curve(x, points, colour);
        drawing.legend(colour, name);
    }
    Some(drawing.finish())
}

/// Latency of very small commits.
fn mini_blocks(cases: &[(&Case, Summary)]) -> Option<String> {
    percentiles(cases, ("Mini-blocks: commit to visible", "ms"), "commit.visible_ms.curve", 1.0)
}
