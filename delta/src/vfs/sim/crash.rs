//! What power loss leaves of what was not synced.
//!
//! Two rules hold under every policy. What was synced is there. And names are never invented: of the unsynced changes of
//! one directory that touch the same name, a later one is not kept where an earlier one is lost, so that a rename leaves
//! the old target or the new one and never none. All else is open: files are lost independently of each other and of their
//! names, and a file's data may survive without its name as well as its name without the data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::content::{Change, Content};
use super::rng::Rng;
use super::state::{FileId, Inode, Names, Node, State};

/// What survives of the writes, lengths and names that were not synced when power went.
///
/// Where a policy leaves a choice, the seed of the image makes it, separately for each file and each directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CrashPolicy {
    /// Nothing.
    KeepNothing,
    /// Everything, short of what a failed sync has lost.
    KeepAll,
    /// In each file and each directory a first part of the changes, whole.
    KeepPrefix,
    /// In each file and each directory some of the changes, whole; of a lost write the length may survive, as zeros.
    Reorder,
    /// Writes are torn at multiples of 512 bytes of the file: a first part, a last part or any of the sectors land, and
    /// others keep what they held before. Either in order (some writes whole, one torn, the rest lost) or in any mixture.
    Tear512,
    /// As `Tear512`, at multiples of 4,096 bytes.
    Tear4096,
    /// All file data survives, and no unsynced change of names: new files are gone, removed ones are back.
    LoseNames,
    /// Each file and each directory follows one of the others.
    Mix,
}

impl CrashPolicy {
    /// All policies.
    pub const EVERY: [Self; 8] = [
        Self::KeepNothing,
        Self::KeepAll,
        Self::KeepPrefix,
        Self::Reorder,
        Self::Tear512,
        Self::Tear4096,
        Self::LoseNames,
        Self::Mix,
    ];

    /// Whether different seeds may give different images.
    pub fn depends_on_seed(self) -> bool {
        !matches!(self, Self::KeepNothing | Self::KeepAll | Self::LoseNames)
    }

    /// The policy for one file or directory: itself, or any other one for a mixture.
    fn choose(self, rng: &mut Rng) -> Self {
        if self != Self::Mix {
            return self;
        }
        let any = usize::try_from(rng.below(Self::EVERY.len() as u64 - 1)).unwrap_or_default();
        Self::EVERY.get(any).copied().unwrap_or(Self::KeepNothing)
    }

    /// The disk as it is found after power loss in `state`, everything on it durable.
    pub(super) fn image(self, state: &State, seed: u64) -> State {
        let mut rng = Rng::new(seed);
        let names = self.surviving_names(state, &mut rng);
        let mut inodes: BTreeMap<FileId, Inode> = BTreeMap::new();
        for node in names.values() {
            if let Node::File(file) = node
                && !inodes.contains_key(file)
                && let Some(inode) = state.inodes.get(file)
            {
                inodes.insert(*file, Inode::settled(self.surviving_content(inode, &mut rng)));
            }
        }
        State::settled(names, inodes, state.next_file)
    }

    fn surviving_names(self, state: &State, rng: &mut Rng) -> Names {
        let mut counts: BTreeMap<&Path, usize> = BTreeMap::new();
        for change in &state.unsynced_names {
            *counts.entry(change.dir()).or_default() += 1;
        }
        let mut fates: BTreeMap<&Path, std::vec::IntoIter<bool>> = BTreeMap::new();
        for (dir, count) in counts {
            fates.insert(dir, self.choose(rng).name_fates(count, rng).into_iter());
        }
        let mut names = state.durable_names.clone();
        let mut broken: BTreeSet<&Arc<Path>> = BTreeSet::new();
        for change in &state.unsynced_names {
            let kept = fates.get_mut(change.dir()).and_then(Iterator::next).unwrap_or(false);
            if kept && !change.touched().any(|name| broken.contains(name)) {
                change.apply(&mut names);
            } else {
                broken.extend(change.touched());
            }
        }
        drop_unreachable(&mut names);
        names
    }

    /// Which of `count` changes of one directory are kept.
    fn name_fates(self, count: usize, rng: &mut Rng) -> Vec<bool> {
        let prefix = |rng: &mut Rng| {
            let kept = rng.below(count as u64 + 1);
            (0..count as u64).map(|i| i < kept).collect()
        };
        match self {
            Self::KeepNothing | Self::LoseNames | Self::Mix => vec![false; count],
            Self::KeepAll => vec![true; count],
            Self::KeepPrefix => prefix(rng),
            Self::Reorder => (0..count).map(|_| rng.coin()).collect(),
            // A torn file matters most where its name is there.
            Self::Tear512 | Self::Tear4096 if rng.coin() => vec![true; count],
            Self::Tear512 | Self::Tear4096 => prefix(rng),
        }
    }

    fn surviving_content(self, inode: &Inode, rng: &mut Rng) -> Arc<Content> {
        if inode.unsynced.is_empty() {
            return Arc::clone(&inode.durable);
        }
        let unsynced = &inode.unsynced;
        let mut content = Content::clone(&inode.durable);
        match self.choose(rng) {
            Self::KeepNothing | Self::Mix => {}
            Self::KeepAll | Self::LoseNames => unsynced.iter().for_each(|change| content.apply(change)),
            Self::KeepPrefix => {
                let kept = rng.below(unsynced.len() as u64 + 1);
                unsynced.iter().zip(0..kept).for_each(|(change, _)| content.apply(change));
            }
            Self::Reorder => {
                for change in unsynced {
                    if rng.coin() {
                        content.apply(change);
                    } else if rng.coin() {
                        keep_length(&mut content, change);
                    }
                }
            }
            Self::Tear512 => tear(&mut content, unsynced, 512, rng),
            Self::Tear4096 => tear(&mut content, unsynced, 4096, rng),
        }
        Arc::new(content)
    }
}

/// Takes away what lies in a directory that is not there.
fn drop_unreachable(names: &mut Names) {
    // Sorted, so that a directory comes before what lies in it.
    let mut found = Names::new();
    for (path, node) in std::mem::take(names) {
        let dir = path.parent().unwrap_or(&path);
        if dir.parent().is_none() || found.get(dir) == Some(&Node::Dir) {
            found.insert(path, node);
        }
    }
    *names = found;
}

/// Only the length of a lost write reached the disk.
fn keep_length(content: &mut Content, change: &Change) {
    if let Change::Write { offset, data } = change {
        content.grow(offset.saturating_add(data.len() as u64));
    }
}

/// Applies `unsynced` with tears at multiples of `unit`.
fn tear(content: &mut Content, unsynced: &[Change], unit: u64, rng: &mut Rng) {
    let in_order = rng.coin();
    let torn = rng.below(unsynced.len() as u64);
    for (change, i) in unsynced.iter().zip(0..) {
        let fate = if !in_order { rng.below(3) } else { u64::from(i >= torn) + u64::from(i > torn) };
        match (fate, change) {
            (0, change) => content.apply(change),
            (1, Change::Write { offset, data }) => {
                tear_write(content, *offset, data, unit, rng);
                if rng.coin() {
                    keep_length(content, change);
                }
            }
            (1, change) if rng.coin() => content.apply(change),
            _ => {}
        }
    }
}

/// Writes some of the units of `data`.
fn tear_write(content: &mut Content, offset: u64, data: &[u8], unit: u64, rng: &mut Rng) {
    let end = offset.saturating_add(data.len() as u64);
    let first = offset / unit;
    let units = end.div_ceil(unit).saturating_sub(first);
    let cut = rng.below(units + 1);
    let shape = rng.below(3);
    for i in 0..units {
        let lands = match shape {
            0 => i < cut,
            1 => i >= cut,
            _ => rng.coin(),
        };
        let start = ((first + i) * unit).max(offset) - offset;
        let stop = ((first + i + 1) * unit).min(end) - offset;
        let range = usize::try_from(start).unwrap_or(usize::MAX)..usize::try_from(stop).unwrap_or(usize::MAX);
        if let Some(part) = data.get(range)
            && lands
        {
            content.write(offset + start, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn image_of(policy: CrashPolicy, seed: u64, unsynced: Vec<Change>) -> Vec<u8> {
        let inode = Inode { unsynced, ..Inode::settled(Arc::new(Content::new(&[0xaa; 3000]))) };
        let content = policy.surviving_content(&inode, &mut Rng::new(seed));
        let mut bytes = vec![0; content.len() as usize];
        assert!(content.read(&mut bytes, 0));
        bytes
    }

    fn write(offset: u64, byte: u8, len: usize) -> Change {
        Change::Write { offset, data: Bytes::from(vec![byte; len]) }
    }

    #[test]
    fn tears_fall_on_sector_boundaries_and_leave_what_was_there() {
        let mut torn = 0;
        for seed in 0..200 {
            let bytes = image_of(CrashPolicy::Tear512, seed, vec![write(700, 0xbb, 2000)]);
            assert_eq!(bytes.len(), 3000);
            assert!(bytes[..700].iter().chain(&bytes[2700..]).all(|b| *b == 0xaa));
            let sectors = [700..1024, 1024..1536, 1536..2048, 2048..2560, 2560..2700];
            let landed: Vec<bool> = sectors
                .map(|range| {
                    let first = bytes[range.start];
                    assert!(bytes[range].iter().all(|b| *b == first), "seed {seed}: torn inside a sector");
                    first == 0xbb
                })
                .to_vec();
            torn += usize::from(landed.contains(&true) && landed.contains(&false));
        }
        assert!(torn > 50, "{torn} torn of 200");
    }

    #[test]
    fn a_write_within_one_unit_is_never_torn() {
        for seed in 0..100 {
            let bytes = image_of(CrashPolicy::Tear4096, seed, vec![write(100, 0xbb, 2000)]);
            assert!(bytes[100..2100] == [0xbb; 2000] || bytes[100..2100] == [0xaa; 2000], "seed {seed}");
        }
    }

    #[test]
    fn a_prefix_keeps_no_change_after_a_lost_one() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let changes = (0..4).map(|i| write(i * 10, i as u8, 10)).collect();
            let bytes = image_of(CrashPolicy::KeepPrefix, seed, changes);
            let kept: Vec<bool> = (0..4).map(|i| bytes[i * 10] == i as u8).collect();
            assert!(kept.is_sorted_by(|a, b| a >= b), "seed {seed}: {kept:?}");
            seen.insert(kept);
        }
        assert_eq!(seen.len(), 5, "some prefix never comes up");
    }

    #[test]
    fn reordering_reaches_every_subset() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let changes = (0..3).map(|i| write(i * 10, i as u8, 10)).collect();
            let bytes = image_of(CrashPolicy::Reorder, seed, changes);
            seen.insert((0..3).map(|i| bytes[i * 10] == i as u8).collect::<Vec<bool>>());
        }
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn a_lost_write_may_leave_its_length_as_zeros() {
        let images: BTreeSet<Vec<u8>> =
            (0..50).map(|seed| image_of(CrashPolicy::Reorder, seed, vec![write(3000, 1, 10)])).collect();
        let tails: Vec<&[u8]> = images.iter().map(|bytes| &bytes[3000..]).collect();
        assert_eq!(tails, [&[][..], &[0; 10], &[1; 10]]);
    }
}
