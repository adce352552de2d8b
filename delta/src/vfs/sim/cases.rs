//! All the power losses of one recorded run, one after the other.

use std::fmt;
use std::ops::Range;

use super::crash::CrashPolicy;
use super::simvfs::SimVfs;

/// A disk as found after one power loss. Its `Display` names what replays it.
#[derive(Clone, Debug)]
pub struct CrashCase {
    /// Operations `0..boundary` of the run were done when power went: whatever was acknowledged while
    /// [`SimVfs::op_count`] was at most this must be found.
    pub boundary: usize,
    /// What survived.
    pub policy: CrashPolicy,
    /// What made the choices: `sim.image_at(boundary, policy, seed)` gives the same image again.
    pub seed: u64,
    /// The disk.
    pub image: SimVfs,
}

impl fmt::Display for CrashCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image_at({}, CrashPolicy::{:?}, {})", self.boundary, self.policy, self.seed)
    }
}

/// An iterator over [`CrashCase`]s in ascending order of boundaries; see [`SimVfs::crash_cases`].
#[derive(Debug)]
pub struct CrashCases {
    sim: SimVfs,
    boundaries: Range<usize>,
    seeds: Range<u64>,
    policies: Vec<CrashPolicy>,
    /// What is left to do at the boundary at hand, the next one last.
    queue: Vec<(usize, CrashPolicy, u64)>,
}

impl SimVfs {
    /// Every power loss in the run recorded so far: each boundary, before the first operation to after the last; at each
    /// every policy; and for each policy that makes choices every seed.
    ///
    /// Where nothing was unsynced all policies give the same image, and it comes once, under the first policy. Operations
    /// recorded while the iterator is in use are not looked at. Costs one replay of the history and an image each.
    pub fn crash_cases(&self, policies: &[CrashPolicy], seeds: Range<u64>) -> CrashCases {
        let boundaries = 0..self.op_count().saturating_add(1);
        CrashCases { sim: self.clone(), boundaries, seeds, policies: policies.to_vec(), queue: Vec::new() }
    }
}

impl CrashCases {
    /// Only the power losses at these boundaries, as when one part of a run is of interest or a run is dealt out to threads.
    #[must_use]
    pub fn between(self, boundaries: Range<usize>) -> Self {
        let start = self.boundaries.start.max(boundaries.start);
        let end = self.boundaries.end.min(boundaries.end);
        Self { boundaries: start..end, ..self }
    }

    fn fill_queue(&mut self, boundary: usize) {
        let settled = self.sim.is_settled_at(boundary);
        for policy in &self.policies {
            let seeds = if policy.depends_on_seed() && !settled {
                self.seeds.clone()
            } else {
                self.seeds.start..self.seeds.start.saturating_add(1)
            };
            self.queue.extend(seeds.map(|seed| (boundary, *policy, seed)));
            if settled {
                break;
            }
        }
        self.queue.reverse();
    }
}

impl Iterator for CrashCases {
    type Item = CrashCase;

    fn next(&mut self) -> Option<CrashCase> {
        loop {
            if let Some((boundary, policy, seed)) = self.queue.pop() {
                let image = self.sim.image_at(boundary, policy, seed);
                return Some(CrashCase { boundary, policy, seed, image });
            }
            let boundary = self.boundaries.next()?;
            self.fill_queue(boundary);
        }
    }
}
