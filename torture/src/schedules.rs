//! Schedules of whole stores, explored by the tests that shuttle drives (`tests/schedules.rs` at the root of the repository). Cargo builds
//! and runs them, for they are another build of the engine than this program's.

use std::path::Path;
use std::time::Instant;

use crate::Check;
use crate::planted::Suite;
use crate::totals::Totals;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Schedules of each test at a time.
    pub schedules: u64,
    pub first_seed: u64,
    /// Again with the next seed until then; once without.
    pub deadline: Option<Instant>,
}

/// The campaign. `root` is the root of the repository; what is built for it goes below `target`.
pub fn campaign(root: &Path, target: &Path, plan: &Plan) -> Totals {
    let started = Instant::now();
    let mut totals = Totals::default();
    let mut seed = plan.first_seed;
    loop {
        if let Err(what) = some(root, target, plan.schedules, seed, &mut totals) {
            let failure = format!("schedules --schedules {} --seed {seed}: {what}", plan.schedules);
            eprintln!("FAILED {failure}");
            totals.failures.push(failure);
            break;
        }
        seed += 1;
        if plan.deadline.is_none_or(|deadline| Instant::now() > deadline) {
            break;
        }
    }
    totals.time = started.elapsed();
    totals
}

fn some(root: &Path, target: &Path, schedules: u64, seed: u64, totals: &mut Totals) -> Check {
    let output = Suite::Schedules
        .command(root, target, &["--nocapture"])
        .env("BRISTLECONE_SCHEDULES", schedules.to_string())
        .env("BRISTLECONE_SEED", seed.to_string())
        .output()
        .map_err(|error| format!("cargo could not be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let counts = counts(&text);
    for (test, explored) in &counts {
        totals.add("schedules", *explored);
        totals.add(&format!("schedules, {test}"), *explored);
    }
    if output.status.success() {
        // A build without the tests would pass as well.
        return if counts.is_empty() { Err("nothing was explored".into()) } else { Ok(()) };
    }
    // The panic comes before a long trace, and the schedule before both.
    let lines: Vec<&str> = text.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let from = panic.unwrap_or(lines.len().saturating_sub(15));
    Err(lines.iter().skip(from).take(4).copied().collect::<Vec<_>>().join("\n"))
}

/// What the tests say that they explored.
fn counts(output: &str) -> Vec<(&str, u64)> {
    let told = output.lines().filter_map(|line| line.strip_suffix(" schedules")?.rsplit_once(": "));
    told.filter_map(|(test, number)| Some((test, number.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_explored_is_counted() {
        let output = "    Finished\nreaders: 40 schedules\nfailing calls: 7 schedules\nno schedules\nsome: of the schedules\n";
        assert_eq!(counts(output), [("readers", 40), ("failing calls", 7)]);
    }
}
