//! Which top-level module of a crate imports which, and where that goes round in a ring.
//!
//! What counts is every path from `crate::` or, from the right depth, `super::` that leads to another top-level module, straight
//! or through a name that the crate's root hands on. A module's own files may name each other as they like.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{Code, is_word};
use crate::tree::Tree;

/// From each module to those that it imports, with the first place where it does.
pub(crate) type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// Who imports whom in the crate of `room`.
pub(crate) fn imports(tree: &Tree, room: &str) -> Imports {
    let folder = if room == "." { "src".to_owned() } else { format!("{room}/src") };
    let files: Vec<_> = tree
        .sources()
        .filter(|file| file.is_in(&folder) && !file.path.ends_with("/tests.rs"))
        .map(|file| (module(&file.path[folder.len() + 1..]), file))
        .collect();
    let mut graph: Imports =
        files.iter().filter_map(|(path, _)| Some((path.first()?.clone(), BTreeMap::new()))).collect();
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    let roots = files.iter().filter(|(path, _)| path.is_empty());
    let handed_on: BTreeMap<String, String> =
        roots.flat_map(|(_, file)| handed_on(Code::of(file).product().bare(), &modules)).collect();
    for (path, file) in &files {
        let Some(own) = path.first() else { continue };
        let code = Code::of(file).product();
        for (offset, name) in from_the_root(code.bare(), path.len()) {
            let Some(target) = modules.get(&name).or_else(|| handed_on.get(&name)) else { continue };
            if target != own {
                let line = 1 + code.bare()[..offset].matches('\n').count();
                let targets = graph.entry(own.clone()).or_default();
                targets.entry(target.clone()).or_insert_with(|| format!("{}:{line}", file.path));
            }
        }
    }
    graph
}

/// The path of the module in `file` (from the crate's source folder); empty for the root.
fn module(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&&**last)) {
        parts.pop();
    }
    parts
}

/// Names that the root takes from a module: `pub use batch::{Batch, Other as Name};` gives both.
fn handed_on(root: &str, modules: &BTreeSet<String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for statement in root.split(';') {
        let Some((_, tree)) = statement.rsplit_once("use ") else { continue };
        let tree = tree.trim().trim_start_matches("crate::").trim_start_matches("self::");
        let Some(module) = modules.get(tree.split("::").next().unwrap_or_default()) else { continue };
        for leaf in tree.split([',', '{', '}']).filter(|leaf| !leaf.trim().ends_with("::")) {
            let name = leaf.rsplit("::").next().unwrap_or_default();
            let name = name.rsplit(" as ").next().unwrap_or_default().trim();
            if !name.is_empty() && !modules.contains(name) {
                found.push((name.to_owned(), module.clone()));
            }
        }
    }
    found
}

/// The first name of every path that starts at the crate's root, seen from a module `depth` below it, and where.
fn from_the_root(bare: &str, depth: usize) -> Vec<(usize, String)> {
    let up = "super::".repeat(depth.max(1));
    let starts = |prefix: &str| {
        let found = bare.match_indices(prefix).map(|(at, _)| at);
        let whole =
            found.filter(|at| !bare[..*at].ends_with(|letter: char| is_word(letter) || letter == ':'));
        whole.map(|at| (at, at + prefix.len())).collect::<Vec<_>>()
    };
    let mut names = Vec::new();
    for (at, rest) in starts("crate::").into_iter().chain(starts(&up)) {
        names.extend(first_names(&bare[rest..]).into_iter().map(|name| (at, name)));
    }
    names
}

/// `a` of `a::b`, and `a`, `c` of `{a::{b, d}, c}`.
fn first_names(path: &str) -> Vec<String> {
    let word =
        |text: &str| text.trim_start().chars().take_while(|letter| is_word(*letter)).collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut depth, mut start, mut names) = (0usize, 0, Vec::new());
    for (index, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.push(word(&group[start..index]));
                start = index + 1;
                if letter == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The groups of modules that reach each other, largest first.
pub(crate) fn rings(graph: &Imports) -> Vec<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|start| (start, reachable(graph, start))).collect();
    let mut rings: BTreeSet<Vec<String>> = BTreeSet::new();
    for (start, seen) in reach.iter().filter(|(start, seen)| seen.contains(*start)) {
        let back = seen.iter().filter(|other| reach.get(**other).is_some_and(|seen| seen.contains(*start)));
        rings.insert(back.map(|name| (*name).clone()).collect());
    }
    let mut rings: Vec<_> = rings.into_iter().collect();
    rings.sort_by_key(|ring| std::cmp::Reverse(ring.len()));
    rings
}

fn reachable<'a>(graph: &'a Imports, start: &'a String) -> BTreeSet<&'a String> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(name) = next.pop() {
        for target in graph.get(name).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(target) {
                next.push(target);
            }
        }
    }
    seen
}

/// The arrows inside of each ring, with a place for each.
pub(crate) fn explain(graph: &Imports, rings: &[Vec<String>]) -> String {
    let mut lines = Vec::new();
    for ring in rings {
        lines.push(format!("ring of {}: {}", ring.len(), ring.join(", ")));
        for module in ring {
            let inside = graph.get(module).into_iter().flatten().filter(|(target, _)| ring.contains(target));
            lines.extend(inside.map(|(target, place)| format!("  {module} -> {target} ({place})")));
        }
    }
    lines.join("\n")
}

#[test]
fn rings_are_found_through_the_names_that_the_root_hands_on() {
    let modules = ["a", "b", "c"].map(str::to_owned).into();
    assert_eq!(
        handed_on("mod a;\npub use a::{X, y::Z as W};\nuse b::V; pub use c; use core::Q;", &modules),
        [("X", "a"), ("W", "a"), ("V", "b")].map(|(name, module)| (name.to_owned(), module.to_owned()))
    );
    let names =
        |text, depth| from_the_root(text, depth).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(
        names("use crate::{a::{X, b}, c, W}; $crate::x; super::super::b::q", 2),
        ["a", "c", "W", "x", "b"]
    );
    assert_eq!(names("super::b", 2), [""; 0]);
    let edge = |targets: &[&str]| targets.iter().map(|name| ((*name).to_owned(), String::new())).collect();
    let graph: Imports =
        [("a", edge(&["b"])), ("b", edge(&["c", "d"])), ("c", edge(&["a"])), ("d", edge(&[]))]
            .into_iter()
            .map(|(name, edges)| (name.to_owned(), edges))
            .collect();
    assert_eq!(rings(&graph), [["a", "b", "c"]]);
}
