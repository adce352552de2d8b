//! The tops of tries, taken down for run tables: proofs in the middle of the run need them.

use bristlecone_delta::Top;
use bristlecone_trie::levels::Pages;
use bristlecone_trie::tops;

use crate::state::{TopHashes, VersionState};

/// A top may cost so many bytes for each key that the version changed.
const BYTES_A_KEY: u64 = 16;

/// The top of the trie under `root`, which was just hashed; `None` where it has none, or a version that changed so few keys is
/// not worth it.
pub(super) fn hashes(pages: &impl Pages, root: Option<u64>, changed: u64) -> Option<TopHashes> {
    let is_worth_it = changed.saturating_mul(BYTES_A_KEY) >= 32 * tops::NODES as u64;
    let hashes = tops::get(pages, root.filter(|_| is_worth_it)?)?;
    Some(hashes.into_boxed_slice())
}

/// What goes into the table of a run for the namespace at `space`: of all versions but the last, which needs none.
pub(super) fn of_run<'a>(
    run: impl DoubleEndedIterator<Item = &'a VersionState>,
    space: usize,
) -> Vec<Top<'a>> {
    let mut tops = Vec::new();
    for state in run.rev().skip(1) {
        let hashes = state.tops.get().and_then(|tops| tops.get(space)?.as_deref());
        tops.extend(hashes.map(|hashes| Top { stamp: state.stamp, hashes }));
    }
    tops.reverse();
    tops
}
