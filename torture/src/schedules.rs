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
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    for (test, explored) in counts(&text) {
        totals.add("schedules", explored);
        totals.add(&format!("schedules, {test}"), explored);
    }
    if output.status.success() {
        return Ok(());
    }
    // The panic comes before a long trace, and the schedule before both.
    let lines: Vec<&str> = text.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let from = panic.unwrap_or(lines.len().saturating_sub(15));
    Err(lines.iter().skip(from).take(4).copied().collect::<Vec<_>>().join("\n"))
}

/// What the tests say that they explored.
fn counts(output: &str) -> Vec<(&str, u64)> {
    let count = |line: &'_ str| -> Option<(usize, u64)> {
        let rest = line.strip_suffix(" schedules")?;
        let (before, number) = rest.rsplit_once(": ")?;
        Some((before.len(), number.parse().ok()?))
    };
    // Behind the name of the test where there is one thread for them.
    let name = |before: &'_ str| before.rfind(" ... ").map_or(0, |at| at + " ... ".len());
    let all = output.lines().filter_map(|line| count(line).map(|(len, number)| (&line[..len], number)));
    all.map(|(before, number)| (&before[name(before)..], number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_explored_is_counted() {
        let output = "running 2 tests\nreaders: 40 schedules\ntest a ... failing calls: 7 schedules\nok\nno schedules\n";
        assert_eq!(counts(output), [("readers", 40), ("failing calls", 7)]);
    }
}
