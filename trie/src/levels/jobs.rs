//! Encodings that wait to be hashed, and the hashing of all that wait at one height together.

use alloc::vec::Vec;

use super::UNKNOWN;
use crate::scheme::{NodeRef, Scheme};

/// No place, no job.
const NONE: u32 = u32::MAX;
/// A branch's hash, in the encoding that names it.
const HASH: usize = 32;
/// So many bytes of encodings of one length are gathered for one call of the hash function: they stay in the nearest cache.
const GATHER_BYTES: usize = 16 << 10;
/// Lanes of the hash functions: so many messages at once take as long as one, so a call has a multiple of them, as long as
/// there are more.
const LANES: usize = 8;
/// But long messages are not copied together beyond so many bytes.
const GATHER_BYTES_MOST: usize = 256 << 10;

/// How many encodings of `len` bytes go into one call.
fn at_once(len: usize) -> usize {
    let len = len.max(1);
    let lanes = (GATHER_BYTES / (len * LANES)).max(1) * LANES;
    lanes.min((GATHER_BYTES_MOST / len).max(1))
}

/// What a node is known by, or the job that will tell.
#[derive(Clone, Copy)]
pub(super) enum Value {
    Known(NodeRef),
    Pending(Pending),
}

/// A node whose encoding waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Pending(u32);

impl Value {
    /// What stands for it in an encoding until it is known.
    pub(super) fn placeholder(&self) -> NodeRef {
        match self {
            Self::Known(node) => *node,
            Self::Pending(_) => NodeRef::hash(alloy_primitives::B256::ZERO),
        }
    }

    pub(super) fn pending(&self) -> Option<Pending> {
        match self {
            Self::Known(_) => None,
            Self::Pending(pending) => Some(*pending),
        }
    }
}

/// An encoding, and where its hash goes. Only hashes are waited for: what is embedded is known once it is encoded, for it has
/// no hash that is not known yet inside.
#[derive(Clone, Copy)]
struct Job {
    start: u32,
    len: u32,
    /// The reference of the node itself, among those of its page.
    own: u32,
    /// That of its page, among those of the page above.
    above: u32,
    /// Where its parent's encoding names it.
    place: u32,
    height: u32,
}

/// All encodings of one computation, and the references of all its pages.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) bytes: Vec<u8>,
    pub(super) refs: Vec<NodeRef>,
    jobs: Vec<Job>,
    /// The jobs of each height: the length of the encoding, and which it is.
    heights: Vec<Vec<u64>>,
    /// What was hashed: nodes and bytes.
    pub(super) nodes: u64,
    embedded: u64,
}

impl Jobs {
    pub(super) fn get(&self, slot: usize) -> NodeRef {
        self.refs.get(slot).copied().unwrap_or(UNKNOWN)
    }

    pub(super) fn set(&mut self, slot: usize, node: NodeRef) {
        if let Some(place) = self.refs.get_mut(slot) {
            *place = node;
        }
    }

    /// Where the next encoding begins.
    pub(super) fn start(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what was appended since `start` as the encoding of a node whose reference goes to `own`, if anywhere. `below`: the
    /// nodes that it names and that are not known yet, with the places where it does.
    pub(super) fn end<S: Scheme>(
        &mut self,
        start: usize,
        own: Option<usize>,
        is_root: bool,
        below: impl Iterator<Item = (Pending, usize)>,
    ) -> Value {
        let mut height = 0;
        for (Pending(job), place) in below {
            if let Some(job) = self.jobs.get_mut(job as usize) {
                job.place = place as u32;
                height = height.max(job.height + 1);
            }
        }
        let encoding = self.bytes.get(start..).unwrap_or_default();
        self.nodes += 1;
        if let Some(node) = S::embed(encoding).filter(|_| !is_root) {
            self.embedded += encoding.len() as u64;
            self.bytes.truncate(start);
            if let Some(own) = own {
                self.set(own, node);
            }
            return Value::Known(node);
        }
        let own = own.map_or(NONE, |own| own as u32);
        let len = encoding.len() as u32;
        let job = Job { start: start as u32, len, own, above: NONE, place: NONE, height };
        self.jobs.push(job);
        if self.heights.len() <= height as usize {
            self.heights.resize_with(height as usize + 1, Vec::new);
        }
        let number = self.jobs.len() as u32 - 1;
        if let Some(level) = self.heights.get_mut(height as usize) {
            level.push(u64::from(len) << 32 | u64::from(number));
        }
        Value::Pending(Pending(number))
    }

    /// Has `value`, the reference of a whole page, kept at `slot` of the page above too.
    pub(super) fn keep_above(&mut self, value: Value, slot: usize) {
        match value {
            Value::Known(node) => self.set(slot, node),
            Value::Pending(Pending(job)) => {
                if let Some(job) = self.jobs.get_mut(job as usize) {
                    job.above = slot as u32;
                }
            }
        }
    }

    /// How many bytes were hashed or embedded.
    pub(super) fn total_bytes(&self) -> u64 {
        self.bytes.len() as u64 + self.embedded
    }

    /// Hashes everything, height by height from the leaves up: those of one height need nothing of each other.
    pub(super) fn run<S: Scheme>(&mut self) {
        let mut heights = core::mem::take(&mut self.heights);
        let mut gathered = Vec::new();
        let mut hashes = Vec::new();
        for level in &mut heights {
            // Equal lengths together: that is what lanes can do at once.
            level.sort_unstable();
            for group in level.chunk_by(|a, b| a >> 32 == b >> 32) {
                let len = group.first().map_or(0, |first| (first >> 32) as usize);
                for part in group.chunks(at_once(len)) {
                    self.hash_equal::<S>(part, len, &mut gathered, &mut hashes);
                }
            }
            level.clear();
        }
        self.heights = heights;
    }

    /// Forgets everything, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.refs.clear();
        self.jobs.clear();
        self.heights.iter_mut().for_each(Vec::clear);
        self.nodes = 0;
        self.embedded = 0;
    }

    /// All encodings that are hashed.
    pub(super) fn encodings(&self) -> impl Iterator<Item = &[u8]> {
        let encoding = |job: &Job| self.bytes.get(job.start as usize..(job.start + job.len) as usize);
        self.jobs.iter().filter_map(encoding)
    }

    /// Memory that it holds, in bytes.
    pub(super) fn size(&self) -> usize {
        let heights: usize = self.heights.iter().map(Vec::capacity).sum();
        self.bytes.capacity()
            + self.refs.capacity() * size_of::<NodeRef>()
            + self.jobs.capacity() * size_of::<Job>()
            + heights * size_of::<u64>()
    }

    /// Hashes jobs whose encodings have `len` bytes each.
    fn hash_equal<S: Scheme>(
        &mut self,
        jobs: &[u64],
        len: usize,
        gathered: &mut Vec<u8>,
        hashes: &mut Vec<[u8; HASH]>,
    ) {
        gathered.clear();
        hashes.clear();
        hashes.resize(jobs.len(), [0; HASH]);
        let job = |this: &Self, at: u64| this.jobs.get(at as u32 as usize).copied();
        for at in jobs {
            let Some(job) = job(self, *at) else { continue };
            let start = job.start as usize;
            gathered.extend_from_slice(self.bytes.get(start..start + len).unwrap_or_default());
        }
        S::hash_equal(gathered, hashes);
        for (at, hash) in jobs.iter().zip(hashes) {
            let Some(job) = job(self, *at) else { continue };
            let node = NodeRef::hash((*hash).into());
            self.set(job.own as usize, node);
            self.set(job.above as usize, node);
            let place = job.place as usize;
            if let Some(place) = self.bytes.get_mut(place..place.saturating_add(HASH)) {
                place.copy_from_slice(hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_fill_all_lanes_unless_messages_are_long() {
        for (len, expected) in
            [(0, 16384), (65, 248), (68, 240), (532, 24), (2048, 8), (32 << 10, 8), (64 << 10, 4)]
        {
            assert_eq!(at_once(len), expected, "{len}");
        }
        assert_eq!(at_once(64 << 20), 1);
    }
}
