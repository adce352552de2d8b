//! The fuzz targets, each for some seconds, by `fuzz/run.sh`: that needs the nightly toolchain, cargo-fuzz and a C++ compiler.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::Check;
use crate::mutants::end_of;
use crate::totals::Totals;

/// The campaign. `root` is the root of the repository; the corpora that it finds stay below `fuzz/found`.
pub fn campaign(root: &Path, seconds: u64, targets: &[String]) -> Totals {
    let started = Instant::now();
    let mut totals = Totals::default();
    if let Err(what) = run(root, seconds, targets, &mut totals) {
        let failure = format!("fuzz --seconds {seconds}: {what}");
        eprintln!("FAILED {failure}");
        totals.failures.push(failure);
    }
    totals.time = started.elapsed();
    totals
}

fn run(root: &Path, seconds: u64, targets: &[String], totals: &mut Totals) -> Check {
    let output = Command::new("bash")
        .current_dir(root)
        .arg("fuzz/run.sh")
        .arg(seconds.to_string())
        .args(targets)
        .output()
        .map_err(|error| format!("bash could not be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rows = rows(&said);
    for row in &rows {
        totals.add("executions", row.executions);
        totals.add("edges", row.edges);
        totals.add(&format!("executions, {}", row.target), row.executions);
        totals.add(&format!("edges, {}", row.target), row.edges);
    }
    match output.status.success() {
        true if !rows.is_empty() => Ok(()),
        true => Err("nothing was run".into()),
        false => Err(end_of(&said, &output.stderr)),
    }
}

/// What was reached with one target.
#[derive(Debug, PartialEq, Eq)]
struct Row<'o> {
    target: &'o str,
    executions: u64,
    edges: u64,
}

/// The lines of the table that the script prints.
fn rows(output: &str) -> Vec<Row<'_>> {
    let row = |line| {
        let cells: Vec<&str> = str::split_whitespace(line).collect();
        let [target, executions, _, edges, _, _] = cells[..] else { return None };
        Some(Row { target, executions: executions.parse().ok()?, edges: edges.parse().ok()? })
    };
    output.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_its_head_is_not() {
        let output = "target executions per s edges features corpus\nnode_codec   992785  49639  1074  2014  31/400b\nFAILED: witness\n";
        assert_eq!(rows(output), [Row { target: "node_codec", executions: 992_785, edges: 1074 }]);
    }
}
