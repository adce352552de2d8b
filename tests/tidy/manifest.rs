//! As much of a `Cargo.toml` as the tests ask about, read line by line.

use crate::tree;

/// A manifest: its tables and their lines.
pub(crate) struct Manifest(Vec<Line>);

struct Line {
    number: usize,
    table: String,
    text: String,
}

/// Whom a dependency is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Product,
    Dev,
}

/// A dependency.
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) table: Table,
    pub(crate) from_workspace: bool,
    pub(crate) line: usize,
}

impl Manifest {
    /// The manifest of a room: its folder, or `.`.
    pub(crate) fn read(room: &str) -> Self {
        Self::parse(&tree::read(&format!("{room}/Cargo.toml")))
    }

    fn parse(text: &str) -> Self {
        let mut table = String::new();
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') && line.ends_with(']') {
                table = line.trim_matches(['[', ']']).to_owned();
            }
            if !line.is_empty() && !line.starts_with('#') {
                lines.push(Line { number: index + 1, table: table.clone(), text: line.to_owned() });
            }
        }
        Self(lines)
    }

    /// Whether a table has exactly this line.
    pub(crate) fn has(&self, table: &str, text: &str) -> bool {
        self.0.iter().any(|line| line.table == table && line.text == text)
    }

    /// The rooms of the workspace.
    pub(crate) fn members(&self) -> Vec<String> {
        let line = self.0.iter().find(|line| line.table == "workspace" && line.text.starts_with("members"));
        let text = line.map_or("", |line| &line.text);
        text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// What the crate depends on, under whatever condition.
    pub(crate) fn dependencies(&self) -> Vec<Dependency> {
        let mut found: Vec<Dependency> = Vec::new();
        for line in self.0.iter().filter(|line| !line.table.starts_with("workspace")) {
            // `[dependencies]`, `[target.'…'.dev-dependencies]`, `[dependencies.name]`.
            let Some((before, after)) = line.table.split_once("dependencies") else { continue };
            let table = if before.ends_with("dev-") { Table::Dev } else { Table::Product };
            let name = match after.strip_prefix('.') {
                Some(name) => name,
                None => match key(&line.text) {
                    Some(name) => name,
                    None => continue,
                },
            };
            let from_workspace = line.text.contains("workspace = true");
            match found.last_mut().filter(|last| last.name == name && last.table == table) {
                Some(last) => last.from_workspace |= from_workspace,
                None => {
                    found.push(Dependency { name: name.to_owned(), table, from_workspace, line: line.number })
                }
            }
        }
        found
    }

    /// The names in `[workspace.dependencies]`.
    pub(crate) fn workspace_dependencies(&self) -> Vec<String> {
        let lines = self.0.iter().filter(|line| line.table == "workspace.dependencies");
        lines.filter_map(|line| key(&line.text)).map(str::to_owned).collect()
    }
}

/// The first part of the key of a `key = value` line.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim().trim_matches('"').split('.').next()?;
    (!key.is_empty() && !key.starts_with('[')).then_some(key)
}

#[test]
fn dependencies_are_found_in_every_notation() {
    let manifest = Manifest::parse(
        "[workspace.dependencies]\nzero = \"1\"\n[dependencies]\none.workspace = true\n# no = \"1\"\n\
         two = { workspace = true, features = [\"x\"] }\nthree = \"1\"\n[dependencies.four]\nversion = \"1\"\n\
         workspace = true\n[target.'cfg(loom)'.dev-dependencies]\nfive = { path = \"..\" }\n",
    );
    let found: Vec<_> = manifest
        .dependencies()
        .into_iter()
        .map(|dependency| (dependency.name, dependency.table, dependency.from_workspace))
        .collect();
    let expected = [
        ("one", Table::Product, true),
        ("two", Table::Product, true),
        ("three", Table::Product, false),
        ("four", Table::Product, true),
        ("five", Table::Dev, false),
    ];
    assert_eq!(found, expected.map(|(name, table, workspace)| (name.to_owned(), table, workspace)));
    assert_eq!(manifest.workspace_dependencies(), ["zero"]);
}
