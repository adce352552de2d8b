//! What cargo-mutants makes of the verification of proofs and of recovery: every change that it plants there must fail a test of the package.
//!
//! Those that change nothing that could be told are named here, each group with its reason ([`EXPLAINED`]); where one survives it is counted, and no failure.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::Check;
use crate::totals::Totals;

/// Where defects are planted, and the tests that must notice.
struct Subject {
    package: &'static str,
    files: &'static str,
    tests: &'static [&'static str],
}

const SUBJECTS: [Subject; 2] = [
    Subject {
        package: "bristlecone-trie",
        files: "trie/src/proof/*.rs",
        tests: &[
            "proofs_alloy",
            "proofs_forged",
            "proofs_mainnet",
            "proofs_naive",
            "proofs_pages",
            "partial",
        ],
    },
    Subject { package: "bristlecone-delta", files: "delta/src/recover.rs", tests: &["suite"] },
];

/// Changes that nothing could tell: the file, and how cargo-mutants describes them.
pub const EXPLAINED: [(&str, &str); 3] = [
    // Whether a node is a root is asked of nodes shorter than 32 bytes alone, which are embedded where they are none. The root of a storage has
    // none: its keys have 32 bytes, so that a leaf, or an extension over hashes, is longer.
    ("trie/src/proof/prove.rs", "delete field is_root from struct Place expression in prove_account"),
    (
        "trie/src/proof/prove.rs",
        "delete field is_root from struct Place expression in Walk<'a, 'k, S, P>::place",
    ),
    (
        "trie/src/proof/prove.rs",
        "delete field is_root from struct Place expression in Walk<'a, 'k, S, P>::leaf",
    ),
];

fn is_explained(missed: &str) -> bool {
    EXPLAINED.iter().any(|(file, what)| missed.starts_with(file) && missed.ends_with(what))
}

/// A part of all mutants: this of so many.
#[derive(Clone, Copy, Debug)]
pub struct Shard {
    pub part: u64,
    pub of: u64,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((part, of)) if part < of => Ok(Self { part, of }),
            _ => Err("as in 0/12: a part, from 0, and how many there are".into()),
        }
    }
}

/// The campaign. `root` is the root of the repository; what it finds is written below `out`.
pub fn campaign(root: &Path, out: &Path, shard: Option<Shard>) -> Totals {
    let started = Instant::now();
    let mut totals = Totals::default();
    for subject in &SUBJECTS {
        if let Err(what) = subject.mutate(root, out, shard, &mut totals) {
            let failure = format!("mutants, {}: {what}", subject.package);
            eprintln!("FAILED {failure}");
            totals.failures.push(failure);
        }
    }
    totals.time = started.elapsed();
    totals
}

impl Subject {
    fn mutate(&self, root: &Path, out: &Path, shard: Option<Shard>, totals: &mut Totals) -> Check {
        let out = out.join(self.package);
        std::fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        let mut command = Command::new("cargo");
        command.current_dir(root).args(["mutants", "--colors", "never", "--no-shuffle", "--timeout", "300"]);
        command.args(["-p", self.package, "-f", self.files, "-o"]).arg(&out);
        if let Some(Shard { part, of }) = shard {
            command.args(["--shard", &format!("{part}/{of}")]);
        }
        command.args(["--", "--lib"]);
        command.args(self.tests.iter().flat_map(|test| ["--test", *test]));
        let output = command.output().map_err(|error| format!("cargo could not be run: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let list = |name: &str| -> Check<Vec<String>> {
            let path = out.join("mutants.out").join(name);
            let text = std::fs::read_to_string(&path).map_err(|_| end_of(&said, &output.stderr))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        let (caught, timeout, missed) = (list("caught.txt")?, list("timeout.txt")?, list("missed.txt")?);
        totals.add("mutants", (caught.len() + timeout.len() + missed.len()) as u64);
        // One that never ends is noticed too.
        totals.add("caught", (caught.len() + timeout.len()) as u64);
        totals.add("that do not compile", list("unviable.txt")?.len() as u64);
        let (explained, missed): (Vec<_>, Vec<_>) =
            missed.into_iter().partition(|missed| is_explained(missed));
        totals.add("that nothing could tell", explained.len() as u64);
        totals.failures.extend(missed.into_iter().map(|missed| format!("mutants: no test notices {missed}")));
        // 2: some were missed, 3: some ran out of time.
        match output.status.code() {
            Some(0 | 2 | 3) => Ok(()),
            _ => Err(end_of(&said, &output.stderr)),
        }
    }
}

/// The last lines of what a command said.
pub(crate) fn end_of(stdout: &str, stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
    lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_explained_is_told_by_file_and_change_wherever_it_stands() {
        let (file, what) = EXPLAINED[0];
        assert!(is_explained(&format!("{file}:1:2: {what}")));
        assert!(!is_explained(&format!("{file}:1:2: {what} and more")));
        assert!(!is_explained(&format!("delta/src/recover.rs:1:2: {what}")));
    }

    #[test]
    fn parts_are_read_and_impossible_ones_refused() {
        let read = |text: &str| text.parse::<Shard>().map(|shard| (shard.part, shard.of));
        assert_eq!(read("3/12"), Ok((3, 12)));
        for text in ["12/12", "1", "a/b", "0/0", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
