//! Giving memory back before a seal does: of a page that was superseded, what nobody needs in a hurry once the roots after it are known.
//!
//! A superseded page is read by those who read older versions, is the source of references for the page that took its place, and is
//! what a seal compares with. Its references are a source no more once that page has its own; a proof of the older version computes them
//! again. A page without children that is stored can go as a whole: readers go to its record, and a seal needs none of it but where the record is. Pages
//! with children stay, for there are few and seals compare with them; so does what root pages hold, without which the proof of an older
//! version would have to hash all of it.
//!
//! It waits for a few versions, because those who execute the next blocks read the last ones.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Core;
use crate::options::RootSchedule;
use crate::state::VersionState;

/// So many versions keep all that they superseded.
const RECENT: usize = 2;

/// Versions in order, on the hashing thread.
#[derive(Default)]
pub(super) struct Trimmer {
    recent: VecDeque<Arc<VersionState>>,
    /// Trimmed, and not sealed when they were: some of their pages were not stored yet, or were needed for a seal.
    unsealed: VecDeque<Arc<VersionState>>,
    /// Version and stamp of the ends of runs that are not sealed.
    ends: VecDeque<(u64, u64)>,
    /// The latest sealed version when that was last looked at.
    sealed: Option<u64>,
}

impl Trimmer {
    /// Takes note of a version, and trims what an older one superseded.
    pub(super) fn trim(&mut self, core: &Core, state: &Arc<VersionState>) {
        // Where not every version has its root computed in turn, references wait for one that is asked for.
        if core.roots != RootSchedule::Every(1) {
            return;
        }
        self.recent.push_back(state.clone());
        if self.recent.len() <= RECENT {
            return;
        }
        let Some(old) = self.recent.pop_front() else { return };
        let sealed = core.latest_sealed.get();
        if sealed != self.sealed {
            self.sealed = sealed;
            let is_unsealed = |version: u64| sealed.is_none_or(|sealed| version > sealed);
            self.ends.retain(|(version, _)| is_unsealed(*version));
            // What a sealed version superseded is retired.
            self.unsealed.retain(|state| is_unsealed(state.version));
            for state in &self.unsealed {
                self.take(core, state);
            }
        }
        self.take(core, &old);
        self.unsealed.push_back(old);
    }

    /// Takes note of the end of a run: its seal reads the references of its pages with children.
    pub(super) fn cut(&mut self, last: &VersionState) {
        self.ends.push_back((last.version, last.stamp.word()));
    }

    fn take(&self, core: &Core, state: &VersionState) {
        let (slots, replaced) = (&core.graph.slots, state.replaced.get());
        slots.trim_all(replaced.leaves.iter().copied(), true);
        let lived = |born: u64| born..state.stamp.word();
        let is_awaited = |born: u64| self.ends.iter().any(|(_, end)| lived(born).contains(end));
        let inner = replaced.inner.iter().filter(|(_, born)| !is_awaited(*born));
        slots.trim_all(inner.map(|(id, _)| *id), false);
    }
}
