//! Defects that are planted one at a time into a copy of the sources: for each, a named test must fail.
//!
//! A test that cannot fail shows nothing. Each entry changes one place of the product in a way in which it might well be wrong, and names the test that must
//! notice. The tests run on the unchanged copy first, where they must pass.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::Check;
use crate::totals::Totals;

/// What is run: a package and one of its test binaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// An integration test of a package.
    Test(&'static str, &'static str),
    /// The unit tests of a package.
    Unit(&'static str),
    /// The models of `snapshot`, under loom.
    Loom,
    /// The whole engine, under shuttle.
    Schedules,
}

/// One defect.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    pub name: &'static str,
    file: &'static str,
    /// Occurs once in the file.
    find: &'static str,
    replace: &'static str,
    suite: Suite,
    /// The test that must fail.
    pub caught_by: &'static str,
}

const CAMPAIGNS: Suite = Suite::Test("bristlecone-torture", "campaigns");
const POWER: &str = "recovery_finds_a_prefix_with_everything_acknowledged_after_every_power_cut";
const FAULTS: &str = "no_failing_call_leads_to_a_false_acknowledgement";
const DAMAGE: &str = "a_damaged_store_answers_rightly_or_with_an_error";

/// All of them.
pub const LIST: &[Planted] = &[
    Planted {
        name: "the batch log is never synced",
        file: "delta/src/log/mod.rs",
        find: "        self.file.sync().at(\"sync\", &self.path)?;\n        self.synced",
        replace: "        self.synced",
        suite: CAMPAIGNS,
        caught_by: POWER,
    },
    Planted {
        name: "a group of a segment is not synced before it counts",
        file: "delta/src/segment/writer.rs",
        find: "        self.file.sync().at(\"sync\", &self.path)?;\n        let missing",
        replace: "        let missing",
        suite: CAMPAIGNS,
        caught_by: POWER,
    },
    Planted {
        name: "a new segment's name is not made durable",
        file: "delta/src/segment/writer.rs",
        find: "    vfs.rename(&tmp, path).at(\"rename\", path)?;\n    vfs.sync_dir(dir).at(\"sync\", dir)?;",
        replace: "    vfs.rename(&tmp, path).at(\"rename\", path)?;\n    let _ = dir;",
        suite: CAMPAIGNS,
        caught_by: POWER,
    },
    Planted {
        name: "a new segment gets its name before its header is durable",
        file: "delta/src/segment/writer.rs",
        find: "    file.sync().at(\"sync\", &tmp)?;\n    let _names = names.map(|names| names.lock().unwrap_or_else(PoisonError::into_inner));\n    vfs.rename(&tmp, path).at(\"rename\", path)?;\n    vfs.sync_dir(dir).at(\"sync\", dir)?;",
        replace: "    let _names = names.map(|names| names.lock().unwrap_or_else(PoisonError::into_inner));\n    vfs.rename(&tmp, path).at(\"rename\", path)?;\n    vfs.sync_dir(dir).at(\"sync\", dir)?;\n    file.sync().at(\"sync\", &tmp)?;",
        suite: CAMPAIGNS,
        caught_by: POWER,
    },
    Planted {
        name: "the next log file is used before the one before is durable",
        file: "delta/src/log/mod.rs",
        find: "        self.write(&record)?;\n        debug_assert_eq!(self.at, predecessor);\n        self.sync()?;",
        replace: "        self.write(&record)?;\n        debug_assert_eq!(self.at, predecessor);",
        suite: CAMPAIGNS,
        caught_by: POWER,
    },
    Planted {
        name: "a new log file's name is not made durable",
        file: "delta/src/log/mod.rs",
        find: "    vfs.rename(&free, &path).at(\"rename\", &path)?;\n    vfs.sync_dir(&context.dir).at(\"sync\", &context.dir)?;",
        replace: "    vfs.rename(&free, &path).at(\"rename\", &path)?;",
        suite: CAMPAIGNS,
        caught_by: POWER,
    },
    Planted {
        name: "commits are acknowledged before the log is synced",
        file: "src/pipeline/log.rs",
        find: "        Ok(()) => log.sync().map_err(Error::from),",
        replace: "        Ok(()) => Ok(()),",
        suite: CAMPAIGNS,
        caught_by: POWER,
    },
    Planted {
        name: "a failed write of the log does not poison the store",
        file: "src/pipeline/log.rs",
        find: "outcome.map_err(|error| core.poison(error));",
        replace: "outcome;",
        suite: CAMPAIGNS,
        caught_by: FAULTS,
    },
    Planted {
        name: "a failed seal does not poison the store",
        file: "src/pipeline/seal/mod.rs",
        find: "                let outcome = outcome.map_err(|error| core.poison(error));\n                if let Ok((sealed, last)) = &outcome {",
        replace: "                if let Ok((sealed, last)) = &outcome {",
        suite: CAMPAIGNS,
        caught_by: FAULTS,
    },
    Planted {
        name: "a commit whose seal failed lets go of its operations",
        file: "src/pipeline/seal/mod.rs",
        find: "                if outcome.is_ok() {\n                    for state in &run {",
        replace: "                {\n                    for state in &run {",
        suite: Suite::Unit("bristlecone"),
        caught_by: "a_commit_whose_seal_failed_keeps_its_operations_for_the_log",
    },
    Planted {
        name: "a large value counts as dead that a page of the run took over",
        file: "src/pipeline/seal/dead.rs",
        find: "                dead.pages.extend(values.into_iter().filter(|value| !group.kept_values().contains(value)));",
        replace: "                let _ = group;\n                dead.pages.extend(values);",
        suite: Suite::Unit("bristlecone"),
        caught_by: "what_a_run_lists_is_what_its_trie_does_not_reach_any_more",
    },
    Planted {
        name: "what a rollback gave up goes from under a snapshot inside that run",
        file: "src/pipeline/seal/amend.rs",
        find: "            (of.locator, first, Some(of.clone()))",
        replace: "            (of.locator, first, None)",
        suite: Suite::Test("bristlecone", "forget"),
        caught_by: "what_a_rollback_gave_up_takes_no_space_for_long",
    },
    Planted {
        name: "records are not held against their checksums",
        file: "delta/src/segment/group.rs",
        find: "if checker.sum(Domain::Record, u64::from(name.0), u64::from(name.1), record) != place.sum {",
        replace: "if false && checker.sum(Domain::Record, u64::from(name.0), u64::from(name.1), record) != place.sum {",
        suite: CAMPAIGNS,
        caught_by: DAMAGE,
    },
    Planted {
        name: "records of the log are not held against their checksums",
        file: "delta/src/log/file.rs",
        find: "        if checker.sum(Domain::LogRecord, at.file, at.offset, bytes.get(..covered)?) != sum {",
        replace: "        if false && checker.sum(Domain::LogRecord, at.file, at.offset, bytes.get(..covered)?) != sum {",
        suite: CAMPAIGNS,
        caught_by: DAMAGE,
    },
    Planted {
        name: "a record of the log follows upon any other",
        file: "delta/src/log/file.rs",
        find: "        if frame.sequence != at.sequence || frame.predecessor != at.checksum {",
        replace: "        if frame.sequence != at.sequence {",
        suite: Suite::Unit("bristlecone-delta"),
        caught_by: "a_record_counts_only_behind_the_one_that_it_was_written_behind",
    },
    Planted {
        name: "a node of a proof is taken whatever its hash",
        file: "trie/src/proof/verify.rs",
        find: "        if computed != *expected {",
        replace: "        if false && computed != *expected {",
        suite: Suite::Test("bristlecone-trie", "proofs_alloy"),
        caught_by: "nothing_that_differs_from_the_truth_is_accepted",
    },
    Planted {
        name: "nodes that no key needs are taken",
        file: "trie/src/proof/verify.rs",
        find: "        if self.next < self.nodes.len() {\n            return",
        replace: "        if false && self.next < self.nodes.len() {\n            return",
        suite: Suite::Test("bristlecone-trie", "proofs_forged"),
        caught_by: "nodes_after_the_end_are_refused",
    },
    Planted {
        name: "a missing node proves absence",
        file: "trie/src/proof/verify.rs",
        find: "                    Child::Hash(hash) => self.take(&B256::new(*hash))?,",
        replace: "                    Child::Hash(_) if self.next >= self.nodes.len() => continue,\n                    Child::Hash(hash) => self.take(&B256::new(*hash))?,",
        suite: Suite::Test("bristlecone-trie", "proofs_forged"),
        caught_by: "a_missing_next_node_is_not_an_exclusion",
    },
    Planted {
        name: "an extension may lead to anything",
        file: "trie/src/proof/verify.rs",
        find: "        if step.extended && !matches!(decoded, Node::Branch(_)) {",
        replace: "        if false && step.extended && !matches!(decoded, Node::Branch(_)) {",
        suite: Suite::Test("bristlecone-trie", "proofs_forged"),
        caught_by: "an_extension_over_anything_but_a_branch_is_refused",
    },
    Planted {
        name: "a delta does not say what the ones before it touched",
        file: "delta/src/page/delta.rs",
        find: "self.placed.iter().fold(earlier, |bits, (position, _)| bits | bit(*position))",
        replace: "self.placed.iter().fold(earlier & 0, |bits, (position, _)| bits & !bit(*position))",
        suite: Suite::Test("bristlecone", "model"),
        caught_by: "flat_ethereum_is_a_map_for_each_version",
    },
    Planted {
        name: "pins hold nothing",
        file: "src/forget/work.rs",
        find: "        let mut needed: Vec<Locator> = kept.needed().collect();",
        replace: "        let mut needed: Vec<Locator> = kept.needed().take(0).collect();",
        suite: Suite::Test("bristlecone", "forget"),
        caught_by: "kept_versions_of_accounts_are_maps_and_others_are_gone",
    },
    Planted {
        name: "snapshots hold nothing while space is given back",
        file: "src/forget/work.rs",
        find: "            needed.extend([Some(run.locator), run.seal.previous].into_iter().flatten());",
        replace: "            needed.extend([Some(run.locator), run.seal.previous].into_iter().flatten().take(0));",
        suite: Suite::Test("bristlecone", "forget"),
        caught_by: "space_comes_back_by_itself_and_a_snapshot_keeps_what_it_sees",
    },
    Planted {
        name: "snapshots of what was rolled back go on",
        file: "src/given_up.rs",
        find: "rollback.stamp < stamp && stamp < rollback.own)",
        replace: "rollback.stamp < stamp && stamp < rollback.own && false)",
        suite: Suite::Test("bristlecone", "rollback"),
        caught_by: "readers_of_what_was_given_up_are_told_and_others_go_on",
    },
    Planted {
        name: "a retired slot still answers to its old id",
        file: "snapshot/src/slots/mod.rs",
        find: "            let next = id.generation() + 1;",
        replace: "            let next = id.generation();",
        suite: Suite::Loom,
        caught_by: "a_retired_id_is_its_own_content_or_gone_also_when_its_slot_is_reused",
    },
    Planted {
        name: "a lease is registered without the fence",
        file: "snapshot/src/lease.rs",
        find: "        cell.word.store(stamp.min(LAST_STAMP) + 1, Release);\n        fence(SeqCst);",
        replace: "        cell.word.store(stamp.min(LAST_STAMP) + 1, Release);",
        suite: Suite::Loom,
        caught_by: "a_forgotten_stamp_that_is_not_listed_has_no_lease_and_gets_none",
    },
    Planted {
        name: "a seal and a compaction give their files names at the same time",
        file: "delta/src/segment/compact.rs",
        find: "let names = Some(&self.segments.names);",
        replace: "let names = None;",
        suite: Suite::Schedules,
        caught_by: "a_directory_whose_sync_fails_loses_nothing_that_was_promised_in_any_schedule",
    },
    Planted {
        name: "who waits for a flush of a store that is closing is not told",
        file: "src/event.rs",
        find: "        if self.0.get().is_none() {\n            self.0.set(Err(Error::Closed));",
        replace: "        if false {\n            self.0.set(Err(Error::Closed));",
        suite: Suite::Schedules,
        caught_by: "closing_ends_every_wait_in_every_schedule",
    },
    Planted {
        name: "a repair goes back before what it will make again is kept",
        file: "src/repair.rs",
        find: "        Remains::keep(vfs, &self.inner.dir)?;\n",
        replace: "",
        suite: CAMPAIGNS,
        caught_by: DAMAGE,
    },
    Planted {
        name: "a store that is cut off forgets the commits that the log holds",
        file: "delta/src/salvage.rs",
        find: "end, &order)?;",
        replace: "end, &[])?;",
        suite: CAMPAIGNS,
        caught_by: DAMAGE,
    },
];

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Test(package, test) => write!(f, "cargo test -p {package} --test {test}"),
            Self::Unit(package) => write!(f, "cargo test -p {package} --lib"),
            Self::Schedules => {
                f.write_str("RUSTFLAGS='--cfg shuttle' cargo test --release -p bristlecone --test schedules")
            }
            Self::Loom => {
                f.write_str("RUSTFLAGS='--cfg loom' cargo test --release -p bristlecone-snapshot --test loom")
            }
        }
    }
}

impl Suite {
    /// Runs it, with `tests` as what stands behind `--`.
    pub(crate) fn command(self, tree: &Path, target: &Path, tests: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(tree).env("CARGO_TARGET_DIR", target).env("CARGO_INCREMENTAL", "0").arg("test");
        match self {
            Self::Test(package, test) => command.args(["-p", package, "--test", test]),
            Self::Unit(package) => command.args(["-p", package, "--lib"]),
            Self::Loom => command
                .env("RUSTFLAGS", "--cfg loom")
                .env("CARGO_TARGET_DIR", target.join("loom"))
                .args(["--release", "-p", "bristlecone-snapshot", "--test", "loom"]),
            Self::Schedules => command
                .env("RUSTFLAGS", "--cfg shuttle")
                .env("CARGO_TARGET_DIR", target.join("shuttle"))
                // It is built more than it is run.
                .envs([("CARGO_PROFILE_RELEASE_LTO", "off"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")])
                .args(["--release", "-p", "bristlecone", "--test", "schedules"]),
        };
        command.arg("--").args(tests);
        command
    }
}

/// The files that git knows of, copied to `to`.
fn copy(from: &Path, to: &Path) -> Check {
    let failed = |what: &dyn fmt::Display| format!("copying the sources: {what}");
    let listed = Command::new("git")
        .current_dir(from)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|error| failed(&error))?;
    for path in String::from_utf8_lossy(&listed.stdout).lines() {
        let (source, copied) = (from.join(path), to.join(path));
        if !source.is_file() {
            continue;
        }
        if let Some(parent) = copied.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(&error))?;
        }
        fs::copy(&source, &copied).map_err(|error| failed(&format!("{path}: {error}")))?;
    }
    Ok(())
}

/// What cargo said of `test`, if it ran.
fn outcome<'o>(output: &'o str, test: &str) -> Option<&'o str> {
    let line = output.lines().find(|line| {
        let name = line.strip_prefix("test ").and_then(|rest| rest.split(" ... ").next());
        name.is_some_and(|name| name == test || name.ends_with(&format!("::{test}")))
    })?;
    line.split(" ... ").nth(1)
}

struct Bench {
    tree: PathBuf,
    target: PathBuf,
}

impl Bench {
    fn run(&self, suite: Suite, tests: &[&str]) -> Check<String> {
        let output = suite
            .command(&self.tree, &self.target, tests)
            .output()
            .map_err(|error| format!("cargo could not be run: {error}"))?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Plants one defect, runs its test, and takes the defect back.
    fn plant(&self, planted: &Planted) -> Check {
        let path = self.tree.join(planted.file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", planted.file))?;
        let places = text.matches(planted.find).count();
        if places != 1 {
            return Err(format!("{} has its place {places} times: the list is out of date", planted.file));
        }
        let written =
            |text: &str| fs::write(&path, text).map_err(|error| format!("{}: {error}", planted.file));
        written(&text.replace(planted.find, planted.replace))?;
        let ran = self.run(planted.suite, &[planted.caught_by]);
        written(&text)?;
        let output = ran?;
        match outcome(&output, planted.caught_by) {
            Some("FAILED") => Ok(()),
            Some(other) => Err(format!("survived: {} is {other}", planted.caught_by)),
            // Where the process is ended by it no line is printed.
            None if output.contains("process didn't exit successfully") && output.contains("signal:") => {
                Ok(())
            }
            None => {
                let end: Vec<&str> = output.lines().rev().take(15).collect();
                Err(format!(
                    "the test did not run:\n{}",
                    end.into_iter().rev().collect::<Vec<_>>().join("\n")
                ))
            }
        }
    }
}

/// Plants those whose name contains `only`. `root` is the root of the repository; what is built for it goes below `target`.
pub fn campaign(root: &Path, target: &Path, only: &str, deadline: Option<Instant>) -> Totals {
    let started = Instant::now();
    let mut totals = Totals::default();
    if let Err(what) = plant_all(root, target, only, deadline, &mut totals) {
        totals.failures.push(format!("planted: {what}"));
    }
    totals.time = started.elapsed();
    totals
}

fn plant_all(
    root: &Path,
    target: &Path,
    only: &str,
    deadline: Option<Instant>,
    totals: &mut Totals,
) -> Check {
    let chosen: Vec<&Planted> = LIST.iter().filter(|one| one.name.contains(only)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = LIST.iter().map(|one| one.name).collect();
        return Err(format!("none is named '{only}'; there are:\n  {}", names.join("\n  ")));
    }
    let tree = tempfile::tempdir().map_err(|error| format!("a directory of its own: {error}"))?;
    copy(root, tree.path())?;
    let bench = Bench { tree: tree.path().to_owned(), target: target.to_owned() };
    let mut suites: Vec<Suite> = Vec::new();
    for planted in &chosen {
        if !suites.contains(&planted.suite) {
            suites.push(planted.suite);
        }
    }
    for suite in suites {
        let tests: Vec<&str> =
            chosen.iter().filter(|one| one.suite == suite).map(|one| one.caught_by).collect();
        let output = bench.run(suite, &tests)?;
        if let Some(test) = tests.iter().find(|test| outcome(&output, test) != Some("ok")) {
            let end: Vec<&str> = output.lines().rev().take(20).collect();
            let end = end.into_iter().rev().collect::<Vec<_>>().join("\n");
            return Err(format!("{test} does not pass without any defect ({suite}):\n{end}"));
        }
    }
    for planted in chosen {
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            totals.add("left out", 1);
            continue;
        }
        totals.add("planted", 1);
        match bench.plant(planted) {
            Ok(()) => {
                eprintln!("caught: {} ({})", planted.name, planted.caught_by);
                totals.add("caught", 1);
            }
            Err(what) => {
                eprintln!("FAILED planted --only '{}': {what}", planted.name);
                totals.failures.push(format!("planted --only '{}': {what}", planted.name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_there_once() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        for planted in LIST {
            let text = fs::read_to_string(root.join(planted.file)).unwrap();
            assert_eq!(text.matches(planted.find).count(), 1, "{}: {}", planted.file, planted.name);
            assert_ne!(planted.find, planted.replace);
        }
    }

    #[test]
    fn the_outcome_of_a_test_is_found() {
        let output = "running 2 tests\ntest a::b ... ok\ntest bc ... FAILED\n";
        assert_eq!(outcome(output, "b"), Some("ok"));
        assert_eq!(outcome(output, "bc"), Some("FAILED"));
        assert_eq!(outcome(output, "c"), None);
    }
}
