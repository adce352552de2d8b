//! Real chain data.

use std::path::{Path, PathBuf};

/// A file of real chain data, or `None`, aloud, where this checkout has none.
pub(crate) fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(name);
    if !path.exists() {
        eprintln!("SKIPPED: no {name} among the real chain data beside this checkout");
        return None;
    }
    Some(path)
}
