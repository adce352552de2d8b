//! Whole blocks hashed side by side, on as many lanes as the machine has: the pairs of all branches of one call, level by
//! level, and leaves that fill a block.
//!
//! BLAKE3's own interface takes one message at a time, and one block fills no lane but its own. What takes many is
//! `blake3::platform`, which is public for BLAKE3's sister crates, hidden from its documentation and not promised to stay:
//! hence the workspace names one version of it exactly, and the tests below hold each lane against `keyed_hash`.

use alloc::vec::Vec;

use ::blake3::IncrementCounter;
use ::blake3::platform::{Platform, words_from_le_bytes_32};

use super::{branch_hash, domain, node_hash, tag, value_digest};

/// Bytes of a block: of a pair, and of what one compression takes.
const BLOCK: usize = 64;
/// Blocks handed over at once.
const AT_ONCE: usize = 64;
/// The widest lanes that there are.
const WIDEST: usize = 16;
/// So many children of branches are gathered before their trees are hashed: they stay in the nearest cache.
const NODES: usize = 512;

/// Flags of BLAKE3's compression (its specification, table 3): a message of one block is the beginning and the end of its only
/// chunk, which is the root.
mod flag {
    pub(super) const CHUNK_START: u8 = 1;
    pub(super) const CHUNK_END: u8 = 2;
    pub(super) const ROOT: u8 = 8;
    pub(super) const KEYED_HASH: u8 = 16;
}

/// The hash function under one key.
struct Lanes {
    platform: Platform,
    key: [u32; 8],
}

impl Lanes {
    fn new(key: &[u8; 32]) -> Self {
        Self::on(Platform::detect(), key)
    }

    fn on(platform: Platform, key: &[u8; 32]) -> Self {
        Self { platform, key: words_from_le_bytes_32(key) }
    }

    /// Appends the hash of each block to `out`.
    fn hash<'a>(&self, blocks: impl Iterator<Item = &'a [u8; BLOCK]>, out: &mut Vec<[u8; 32]>) {
        let mut blocks = blocks.fuse();
        let mut inputs = [&[0; BLOCK]; AT_ONCE];
        loop {
            let mut count = 0;
            for (input, block) in inputs.iter_mut().zip(&mut blocks) {
                *input = block;
                count += 1;
            }
            if count == 0 {
                return;
            }
            // A rest of fifteen would be hashed as 8, 4, 2 and 1, which takes nearly three times as long as sixteen: it is quicker
            // with something in the idle lanes.
            let rest = count % WIDEST;
            let padded = if rest == 0 { count } else { count - rest + rest.next_power_of_two() };
            let start = out.len();
            out.resize(start + padded, [0; 32]);
            self.platform.hash_many(
                inputs.get(..padded).unwrap_or_default(),
                &self.key,
                0,
                IncrementCounter::No,
                flag::KEYED_HASH,
                flag::CHUNK_START,
                flag::CHUNK_END | flag::ROOT,
                out.get_mut(start..).unwrap_or_default().as_flattened_mut(),
            );
            out.truncate(start + count);
        }
    }
}

/// See [`Scheme::hash_equal`](crate::Scheme::hash_equal).
pub(super) fn hash_equal(encodings: &[u8], hashes: &mut [[u8; 32]]) {
    let len = encodings.len() / hashes.len().max(1);
    let mut trees = Trees::default();
    // Leaves whose bytes after the tag are one block, and which they are.
    let mut leaves = Vec::new();
    for (index, encoding) in encodings.chunks(len.max(1)).take(hashes.len()).enumerate() {
        let block = match encoding.split_first() {
            Some((&tag::LEAF, body)) => body.try_into().ok(),
            _ => None,
        };
        if let Some(block) = block {
            leaves.push((index, block));
        } else if let Some(branch) = Branch::read(index, encoding) {
            if trees.nodes.len() + 16 > NODES {
                trees.finish(hashes);
            }
            trees.add(branch);
        } else if let Some(hash) = hashes.get_mut(index) {
            *hash = node_hash(encoding).unwrap_or_default().0;
        }
    }
    trees.finish(hashes);
    if !leaves.is_empty() {
        let mut out = Vec::with_capacity(leaves.len() + WIDEST);
        Lanes::new(&domain::LEAF).hash(leaves.iter().map(|(_, block)| *block), &mut out);
        for ((index, _), hash) in leaves.iter().zip(out) {
            put(hashes, *index, hash);
        }
    }
}

fn put(hashes: &mut [[u8; 32]], index: usize, hash: [u8; 32]) {
    if let Some(place) = hashes.get_mut(index) {
        *place = hash;
    }
}

/// A branch that names all of its children.
struct Branch<'a> {
    /// Which of the encodings it is.
    index: usize,
    occupied: u16,
    children: &'a [[u8; 32]],
    digest: Option<[u8; 32]>,
}

impl<'a> Branch<'a> {
    /// `None` for anything else; also for a branch that binds some of its children together, which only a proof has.
    fn read(index: usize, encoding: &'a [u8]) -> Option<Self> {
        let (kind, body) = encoding.split_first()?;
        if !matches!(*kind, tag::BRANCH | tag::BRANCH_DIGEST | tag::BRANCH_VALUE) {
            return None;
        }
        let (occupied, body) = body.split_first_chunk::<2>()?;
        let (opened, body) = body.split_first_chunk::<2>()?;
        let occupied = u16::from_le_bytes(*occupied);
        if occupied == 0 || occupied != u16::from_le_bytes(*opened) {
            return None;
        }
        let (children, rest) = body.split_at_checked(occupied.count_ones() as usize * 32)?;
        let digest = match *kind {
            tag::BRANCH => None,
            tag::BRANCH_DIGEST => Some(*rest.first_chunk::<32>()?),
            _ => Some(value_digest(rest)),
        };
        Some(Self { index, occupied, children: children.as_chunks().0, digest })
    }
}

/// The binary trees over the children of many branches.
#[derive(Default)]
struct Trees<'a> {
    /// With the subtrees that are not empty at the level reached: a bit at the first nibble of each.
    branches: Vec<(Branch<'a>, u16)>,
    /// The hashes of those subtrees, of all branches end to end.
    nodes: Vec<[u8; 32]>,
    /// Where in `nodes` two begin that make a pair.
    pairs: Vec<usize>,
    /// The hashes of the pairs.
    hashed: Vec<[u8; 32]>,
}

impl<'a> Trees<'a> {
    fn add(&mut self, branch: Branch<'a>) {
        if self.nodes.is_empty() {
            self.nodes.reserve(NODES);
        }
        self.nodes.extend_from_slice(branch.children);
        let occupied = branch.occupied;
        self.branches.push((branch, occupied));
    }

    /// Hashes all that were added, and forgets them.
    fn finish(&mut self, hashes: &mut [[u8; 32]]) {
        if self.branches.is_empty() {
            return;
        }
        let lanes = Lanes::new(&domain::PAIR);
        // The first nibbles of subtrees of 2, 4, 8 and 16.
        for (half, starts) in [(1, 0x5555), (2, 0x1111), (4, 0x0101), (8, 0x0001)] {
            self.level(&lanes, half, starts);
        }
        debug_assert_eq!(self.nodes.len(), self.branches.len(), "one root for each branch");
        for ((branch, _), tree) in self.branches.drain(..).zip(self.nodes.drain(..)) {
            put(hashes, branch.index, branch_hash(branch.occupied, &tree, branch.digest.as_ref()).0);
        }
    }

    /// Goes from subtrees of `half` nibbles to those of twice as many, which begin at the bits of `starts`.
    fn level(&mut self, lanes: &Lanes, half: u32, starts: u16) {
        self.pairs.clear();
        let mut first = 0;
        for (_, there) in &mut self.branches {
            let mut both = *there & *there >> half & starts;
            while both != 0 {
                let before = (1 << both.trailing_zeros()) - 1;
                self.pairs.push(first + (*there & before).count_ones() as usize);
                both &= both - 1;
            }
            first += there.count_ones() as usize;
            *there = (*there | *there >> half) & starts;
        }
        self.hashed.clear();
        let pair = |at: &usize| self.nodes.as_flattened().get(at * 32..)?.first_chunk();
        lanes.hash(self.pairs.iter().filter_map(pair), &mut self.hashed);
        // What is alone in its subtree stays as it is, and moves up behind the hashes of the pairs before it.
        let (mut from, mut to) = (0, 0);
        for (at, hash) in self.pairs.iter().zip(&self.hashed) {
            if from < *at {
                self.nodes.copy_within(from..*at, to);
            }
            to += at - from;
            put(&mut self.nodes, to, *hash);
            to += 1;
            from = at + 2;
        }
        let len = self.nodes.len();
        self.nodes.copy_within(from.min(len).., to);
        self.nodes.truncate(len - self.pairs.len());
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::{Blake3, keyed};
    use super::*;
    use crate::Path;
    use crate::scheme::{LeafValue, NodeRef, Scheme};

    fn platforms() -> Vec<Platform> {
        let mut platforms = std::vec![Platform::Portable, Platform::detect()];
        #[cfg(target_arch = "x86_64")]
        platforms.extend([Platform::sse2(), Platform::sse41(), Platform::avx2()].into_iter().flatten());
        platforms
    }

    #[test]
    fn every_lane_of_every_platform_is_the_keyed_hash() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for count in (0..=40).chain([63, 64, 65, 127, 128, 129, 200]) {
            let blocks: Vec<[u8; BLOCK]> = (0..count).map(|_| random.random()).collect();
            let key: [u8; 32] = random.random();
            let expected: Vec<_> = blocks.iter().map(|block| keyed(&key, block)).collect();
            for platform in platforms() {
                let mut out = Vec::new();
                Lanes::on(platform, &key).hash(blocks.iter(), &mut out);
                assert_eq!(out, expected, "{count} on {platform:?}");
            }
        }
    }

    fn random_branch(
        children: u32,
        value: Option<&[u8]>,
        opened: u16,
        whole: bool,
        random: &mut impl Rng,
    ) -> Vec<u8> {
        let mut occupied = 0u16;
        while occupied.count_ones() < children {
            occupied |= 1 << random.random_range(0..16);
        }
        let children = core::array::from_fn(|nibble| {
            (occupied >> nibble & 1 == 1).then(|| NodeRef::hash(B256::new(random.random())))
        });
        let mut out = Vec::new();
        Blake3::open_branch(&children, value, opened, whole, &mut out);
        out
    }

    /// Holds the hashes of encodings of one length against those of each alone.
    fn check(encodings: &[Vec<u8>]) {
        let mut hashes = std::vec![[7; 32]; encodings.len()];
        hash_equal(&encodings.concat(), &mut hashes);
        for (at, (encoding, hash)) in encodings.iter().zip(&hashes).enumerate() {
            assert_eq!(
                B256::new(*hash),
                node_hash(encoding).unwrap_or_default(),
                "{at} of {}",
                encodings.len()
            );
        }
    }

    #[test]
    fn branches_in_lanes_have_the_hash_of_each_alone() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        for children in 1..=16 {
            for count in (1..40).chain([100, 600]) {
                for (value, whole) in [(None, true), (Some(&b"cone"[..]), true), (Some(&b""[..]), false)] {
                    let encodings: Vec<_> = (0..count)
                        .map(|_| random_branch(children, value, u16::MAX, whole, &mut random))
                        .collect();
                    check(&encodings);
                }
            }
        }
    }

    #[test]
    fn nodes_of_all_kinds_and_one_length_have_the_hash_of_each_alone() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        // A leaf of one block; branches and extensions, which can be as long; and no node at all.
        for len in [65, 69, 101, 133, 197, 517] {
            for count in 1..60 {
                let encodings: Vec<Vec<u8>> = (0..count)
                    .map(|_| {
                        let mut out = Vec::new();
                        let (key, filler): ([u8; 32], [u8; 517]) = (random.random(), random.random());
                        match random.random_range(0..6) {
                            0 => {
                                let path = Path::whole(&key);
                                Blake3::encode_leaf(path, LeafValue::Raw(&filler), &mut out);
                            }
                            1 => drop(Blake3::encode_extension(
                                Path::whole(&key),
                                &NodeRef::hash(B256::new(key)),
                                &mut out,
                            )),
                            2 => {
                                out = random_branch(
                                    (len as u32 - 5) / 32,
                                    None,
                                    random.random(),
                                    true,
                                    &mut random,
                                )
                            }
                            3 => out = random_branch(1, Some(&filler), u16::MAX, true, &mut random),
                            4 => {
                                out = random_branch((len as u32 - 5) / 32, None, u16::MAX, true, &mut random)
                            }
                            // Most tags are none; a few bitmaps ask for more hashes than there are.
                            _ => out.push(random.random_range(0..8)),
                        }
                        out.extend_from_slice(&filler);
                        out.truncate(len);
                        out
                    })
                    .collect();
                check(&encodings);
            }
        }
        check(&[]);
    }
}
