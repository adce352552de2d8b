//! What the rooms promise about themselves, read from the sources: who depends on whom, where `unsafe` lives, which words do
//! not stay. `cargo test --test tidy -- --nocapture` also prints the lists that fail nobody (long files, long functions).
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test stop at what they did not expect, as the test does"
)]

mod code;
mod manifest;
mod rings;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use code::Code;
use manifest::{Manifest, Table};
use tree::Tree;

/// Who may depend on whom: the drawing in ARCHITECTURE.md, as far as our own crates go. The second list is for tests, which
/// stand above the engine.
const DRAWN: &[(&str, &[&str], &[&str])] = &[
    ("trie", &[], &[]),
    ("snapshot", &[], &[]),
    ("delta", &["bristlecone-trie"], &[]),
    (
        ".",
        &["bristlecone-trie", "bristlecone-delta", "bristlecone-snapshot"],
        &["bristlecone-evm", "bristlecone-torture"],
    ),
    ("evm", &["bristlecone", "bristlecone-trie"], &[]),
    ("cli", &["bristlecone", "bristlecone-evm"], &[]),
    ("torture", &["bristlecone", "bristlecone-trie"], &[]),
    (
        "fuzz",
        &["bristlecone", "bristlecone-trie", "bristlecone-delta", "bristlecone-evm", "bristlecone-torture"],
        &[],
    ),
];

/// Top-level modules that import each other in a ring today, by room. This list only ever gets shorter.
const KNOWN_RINGS: &[(&str, &[&str])] =
    &[(".", &["commit", "forget", "pipeline", "proof", "snapshot", "store"]), ("delta", &["log", "seal"])];

/// Files where `unsafe` may be, besides `snapshot/`, and how often.
const UNSAFE_OUTSIDE_SNAPSHOT: &[(&str, usize)] =
    &[("benches/compare/src/engines/lmdb.rs", 1), ("delta/src/vfs/disk.rs", 1), ("tests/memory_total.rs", 9)];

#[test]
fn crates_depend_on_each_other_only_as_drawn() {
    let mut wrong = Vec::new();
    for (room, allowed, in_tests) in DRAWN {
        let manifest = Manifest::read(room);
        for dependency in manifest.dependencies() {
            let ours = dependency.name.starts_with("bristlecone");
            let fine = allowed.contains(&&*dependency.name)
                || dependency.table == Table::Dev && in_tests.contains(&&*dependency.name);
            if ours && !fine {
                wrong.push(format!("{room}/Cargo.toml:{}: {}", dependency.line, dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that nobody drew:\n{}", wrong.join("\n"));
}

#[test]
fn every_member_of_the_workspace_is_drawn() {
    let drawn: BTreeSet<&str> = DRAWN.iter().map(|(room, ..)| *room).filter(|room| *room != "fuzz").collect();
    let members = Manifest::read(".").members();
    let members: BTreeSet<&str> = members.iter().map(String::as_str).collect();
    assert_eq!(
        members, drawn,
        "the drawing in ARCHITECTURE.md, this test and Cargo.toml tell the same story"
    );
}

#[test]
fn every_dependency_comes_from_the_workspace() {
    let mut wrong = Vec::new();
    for (room, ..) in DRAWN.iter().filter(|(room, ..)| *room != "fuzz") {
        for dependency in Manifest::read(room).dependencies() {
            if !dependency.from_workspace {
                wrong.push(format!("{room}/Cargo.toml:{}: {}", dependency.line, dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "write `name.workspace = true`:\n{}", wrong.join("\n"));
}

#[test]
fn every_dependency_is_used_and_has_its_reason_in_the_architecture() {
    let listed = Manifest::read(".").workspace_dependencies();
    let used: BTreeSet<String> = DRAWN
        .iter()
        .flat_map(|(room, ..)| Manifest::read(room).dependencies())
        .map(|dependency| dependency.name)
        .collect();
    let unused: Vec<_> = listed.iter().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "in [workspace.dependencies], but no crate wants them: {unused:?}");

    let page = tree::read("ARCHITECTURE.md");
    let section = section(&page, "dependencies")
        .expect("ARCHITECTURE.md has a section whose heading says `Dependencies`");
    let unreasoned: Vec<_> = listed
        .iter()
        .filter(|name| !name.starts_with("bristlecone"))
        .filter(|name| !section.lines().any(|line| gives_reason(line, name)))
        .collect();
    assert!(
        unreasoned.is_empty(),
        "ARCHITECTURE.md, section Dependencies, has no line with `name` and a reason for {unreasoned:?}"
    );
}

/// Whether `line` names `name` in backticks and says something besides names.
fn gives_reason(line: &str, name: &str) -> bool {
    let words = line.split('`').step_by(2).flat_map(str::split_whitespace);
    let words = words.filter(|word| word.chars().filter(|letter| letter.is_alphabetic()).count() > 1);
    line.contains(&format!("`{name}`")) && words.count() >= 1
}

/// The text under the first heading that contains `word`, to the next heading of that depth or above.
fn section(page: &str, word: &str) -> Option<String> {
    let depth = |line: &str| line.chars().take_while(|letter| *letter == '#').count();
    let mut lines = page.lines();
    let heading = lines.find(|line| depth(line) > 0 && line.to_lowercase().contains(word))?;
    let rest = lines.take_while(|line| depth(line) == 0 || depth(line) > depth(heading));
    Some(rest.collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_crate_is_under_the_lints_of_the_workspace() {
    for (room, ..) in DRAWN.iter().filter(|(room, ..)| *room != "fuzz") {
        let manifest = Manifest::read(room);
        assert!(
            manifest.has("lints", "workspace = true"),
            "{room}/Cargo.toml has no `[lints] workspace = true`"
        );
    }
    let root = Manifest::read(".");
    for (table, line) in [
        ("workspace.lints.rust", "unsafe_code = \"deny\""),
        ("workspace.lints.rust", "missing_docs = \"warn\""),
        ("workspace.lints.clippy", "unwrap_used = \"warn\""),
        ("workspace.lints.clippy", "indexing_slicing = \"warn\""),
        ("workspace.lints.clippy", "undocumented_unsafe_blocks = \"warn\""),
    ] {
        assert!(root.has(table, line), "Cargo.toml, [{table}]: {line}");
    }
}

#[test]
fn the_trie_needs_no_std_and_no_unsafe() {
    let tree = Tree::read();
    let lib = tree.code("trie/src/lib.rs");
    assert!(lib.text.contains("#![no_std]"), "trie/src/lib.rs is `no_std`");
    for file in tree.sources().filter(|file| file.is_in("trie/src")) {
        let code = Code::of(file).product();
        assert_eq!(code.lines_with_word("unsafe"), [0; 0], "{}: no unsafe in `trie`", file.path);
        assert_eq!(code.lines_with_word("std"), [0; 0], "{}: `core` or `alloc`, not `std`", file.path);
    }
}

#[test]
fn unsafe_is_only_where_its_room_is() {
    let mut wrong = Vec::new();
    for file in Tree::read().sources().filter(|file| !file.is_in("snapshot")) {
        let lines = Code::of(file).lines_with_word("unsafe");
        let home = UNSAFE_OUTSIDE_SNAPSHOT.iter().find(|(path, _)| *path == file.path);
        if lines.len() > home.map_or(0, |(_, count)| *count) {
            wrong.push(format!("{}: lines {lines:?}", file.path));
        }
    }
    assert!(wrong.is_empty(), "`unsafe` outside its home:\n{}", wrong.join("\n"));
}

#[test]
fn epochs_are_only_in_snapshot_and_files_only_behind_the_vfs() {
    let tree = Tree::read();
    let mut wrong = Vec::new();
    for file in tree.sources().filter(|file| file.is_product()) {
        let code = Code::of(file).product();
        let mut banned = Vec::new();
        if !file.is_in("snapshot") {
            banned.push("crossbeam_epoch");
        }
        let stores = file.is_in("src") || file.is_in("delta/src") || file.is_in("snapshot/src");
        if stores && file.path != "delta/src/vfs/disk.rs" {
            banned.extend(["std::fs", "File::open", "File::create", "OpenOptions", "memmap2", "rustix::fs"]);
        }
        if file.is_in("evm/src") || file.is_in("cli/src") {
            banned.extend(["bristlecone_delta", "bristlecone_snapshot"]);
        }
        for word in banned {
            let lines = code.lines_with(word);
            wrong.extend(lines.iter().map(|line| format!("{}:{line}: {word}", file.path)));
        }
    }
    assert!(wrong.is_empty(), "not in this room:\n{}", wrong.join("\n"));
}

#[test]
fn every_source_file_says_first_what_it_is_for() {
    let tree = Tree::read();
    let silent: Vec<_> =
        tree.sources().filter(|file| !file.text.starts_with("//! ")).map(|file| &file.path).collect();
    assert!(silent.is_empty(), "no `//!` on the first line of {silent:#?}");
}

#[test]
fn modules_do_not_import_each_other_in_a_ring() {
    let tree = Tree::read();
    let mut wrong = Vec::new();
    for (room, ..) in DRAWN {
        let known = KNOWN_RINGS.iter().filter(|(name, _)| name == room).flat_map(|(_, names)| *names);
        let known: BTreeSet<&str> = known.copied().collect();
        let graph = rings::imports(&tree, room);
        let rings = rings::rings(&graph);
        let found: BTreeSet<&str> = rings.iter().flatten().map(String::as_str).collect();
        let story = rings::explain(&graph, &rings);
        if !found.is_subset(&known) {
            wrong.push(format!("room {room}:\n{story}"));
        } else if !rings.is_empty() {
            println!("room {room}, known:\n{story}");
        }
        let gone: Vec<_> = known.difference(&found).collect();
        if !gone.is_empty() {
            wrong.push(format!("room {room}: strike from KNOWN_RINGS, they are in none: {gone:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_word_stays_that_was_to_be_gone() {
    // In halves, or this file would be the first to be found.
    let banned = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("db", "g!"),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore]"),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/t", "mp/"),
        concat!("/ho", "me/"),
    ];
    let mut found = Vec::new();
    for file in Tree::read().files() {
        for (number, line) in file.text.lines().enumerate() {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn lints_are_expected_with_a_reason_and_not_allowed() {
    let attribute = concat!("al", "low(");
    let mut found = Vec::new();
    for file in Tree::read().sources() {
        for (start, _) in file.text.match_indices(attribute) {
            if !file.text[..start].ends_with("#[") && !file.text[..start].ends_with("#![") {
                continue;
            }
            // Helpers that several test binaries share cannot expect what only some of them need.
            let rest = &file.text[start..];
            let reason = rest[..rest.find(")]").unwrap_or(rest.len())].contains("reason = ");
            if file.is_product() || !reason {
                found.push(format!("{}:{}", file.path, 1 + file.text[..start].matches('\n').count()));
            }
        }
    }
    assert!(found.is_empty(), "write `#[expect(lint, reason = ...)]`:\n{}", found.join("\n"));
}

#[test]
fn the_readme_and_the_ci_name_the_same_commands() {
    let (readme, ci) = (tree::read("README.md"), tree::read(".ci/run"));
    let run = "cargo run --release -p bristlecone-cli -- run";
    assert!(readme.contains(run), "README.md shows `{run}`");
    let tests: Vec<_> = readme.lines().filter(|line| line.trim().starts_with("cargo test")).collect();
    assert!(!tests.is_empty(), "README.md shows how to run the tests");
    for line in tests {
        // A comment may follow the command.
        let command = line.split('#').next().unwrap_or_default().trim();
        assert!(ci.contains(command), ".ci/run runs what README.md shows: `{command}`");
    }
}

#[test]
fn the_pages_that_others_rely_on_are_there() {
    for page in
        ["README.md", "ARCHITECTURE.md", "docs/format.md", "docs/blake3-scheme.md", "docs/benchmarks.md"]
    {
        assert!(tree::read(page).len() > 200, "{page} says something");
    }
    assert!(tree::read("CHANGELOG.md").contains("Unreleased"), "CHANGELOG.md has an Unreleased section");
    assert!(tree::read("LICENSE-MIT").contains("Permission is hereby granted"));
    assert!(tree::read("LICENSE-APACHE").contains("Version 2.0, January 2004"));
}

#[test]
fn links_between_our_pages_lead_somewhere() {
    let mut dead = Vec::new();
    for file in Tree::read().files().filter(|file| file.path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for target in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.contains(' ');
            if !elsewhere && !tree::root().join(folder).join(target).exists() {
                dead.push(format!("{}: {target}", file.path));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// Fails nobody: whoever looks sees where to cut next.
#[test]
fn long_files_and_functions_are_listed() {
    const FILE_LINES: usize = 600;
    const FUNCTION_LINES: usize = 70;
    let (mut files, mut functions) = (BTreeMap::new(), Vec::new());
    for file in Tree::read().sources() {
        let code = Code::of(file).product();
        let lines = code.lines_in_use();
        if lines > FILE_LINES && file.is_product() {
            files.insert(file.path.clone(), lines);
        }
        let long = code.functions().into_iter().filter(|function| function.lines > FUNCTION_LINES);
        functions.extend(
            long.map(|long| format!("{:4} lines  {}:{} {}", long.lines, file.path, long.line, long.name)),
        );
    }
    println!("files over {FILE_LINES} lines, tests aside: {}", files.len());
    files.iter().for_each(|(path, lines)| println!("  {lines:4} lines  {path}"));
    functions.sort_by(|a, b| b.cmp(a));
    println!("functions over {FUNCTION_LINES} lines: {}", functions.len());
    functions.iter().for_each(|line| println!("  {line}"));
}
