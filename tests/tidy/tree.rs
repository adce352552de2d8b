//! The files of the repository, as far as people write them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::code::Code;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file by its path from the root; says which where it is missing.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A text file.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Whether it lies in `folder` or below.
    pub(crate) fn is_in(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether it is part of a crate that is delivered: no test, bench, example or fuzz target.
    pub(crate) fn is_product(&self) -> bool {
        let in_src = self.is_in("src") || self.path.split('/').nth(1) == Some("src");
        in_src && !self.is_in("fuzz") && !self.path.ends_with("/tests.rs") && !self.path.contains("/tests/")
    }
}

/// All text files, sorted by path.
pub(crate) struct Tree(Vec<File>);

impl Tree {
    pub(crate) fn read() -> Self {
        let mut files = Vec::new();
        collect(&root(), "", &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(files.len() > 50, "the walk found only {} files", files.len());
        Self(files)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.0.iter()
    }

    /// The Rust files.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &File> {
        self.files().filter(|file| file.path.ends_with(".rs"))
    }

    /// One file's code.
    pub(crate) fn code(&self, path: &str) -> Code {
        Code::of(self.files().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}")))
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("an entry of a folder");
        let name = entry.file_name().into_string().unwrap_or_default();
        let path = format!("{prefix}{name}");
        if entry.file_type().expect("a file type").is_dir() {
            let hidden = name.starts_with('.') && name != ".ci";
            let made =
                name.starts_with("target") || name.starts_with("bristlecone-data") || path == "fuzz/corpus";
            if !hidden && !made {
                collect(&entry.path(), &format!("{path}/"), files);
            }
        } else if [".rs", ".toml", ".md", ".sh", ".yml"].iter().any(|end| name.ends_with(end))
            || prefix == ".ci/"
        {
            files.push(File { text: read(&path), path });
        }
    }
}
