//! The seeded chain: which keys each version changes, and what every key holds.
//!
//! Keys and values are those of the engine's own `bristlecone run --workload flat`: a key's bytes follow from the seed and its
//! index, a value from those and the version that wrote it. So the model is four bytes a key: the version that last wrote it.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use serde::{Deserialize, Serialize};

/// 32 random bytes, as hashed keys are.
pub(crate) type Key = [u8; 32];
/// 32 bytes.
pub(crate) type Value = [u8; 32];

/// Which keys are updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Skew {
    /// All alike.
    Uniform,
    /// Zipf with exponent 0.99.
    Zipf,
}

const ZIPF_EXPONENT: f64 = 0.99;

/// The most keys, so that an index fits in 32 bits.
pub(crate) const MAX_KEYS: u64 = 1 << 31;

/// What a version changes, in the order in which every engine gets it: each key once.
pub(crate) type Changes = Vec<(Key, Value)>;

/// What a version overwrote: an index, and the version that had written it before. Inserted keys are not in it.
type Undo = Vec<(u32, u32)>;

/// A chain that grows version by version.
#[derive(Debug)]
pub(crate) struct Chain {
    seed: u64,
    skew: Skew,
    /// The version that last wrote each key.
    written: Vec<u32>,
    /// Versions made.
    made: u64,
    /// For each of the last versions made: how many keys there were before, and what it overwrote.
    undo: VecDeque<(usize, Undo)>,
}

/// How many versions back the model still knows what every key held.
pub(crate) const KNOWN_BACK: u64 = 128;

impl Chain {
    pub(crate) fn new(seed: u64, skew: Skew) -> Self {
        Self { seed, skew, written: Vec::new(), made: 0, undo: VecDeque::new() }
    }

    /// Versions made so far; the next one has this number.
    pub(crate) fn versions(&self) -> u64 {
        self.made
    }

    /// Keys that exist.
    pub(crate) fn keys(&self) -> u64 {
        self.written.len() as u64
    }

    /// Makes the next version: `updates` draws of existing keys (one that is drawn twice is updated once) and new keys.
    pub(crate) fn next(&mut self, updates: u64, inserts: u64) -> Changes {
        let version = self.versions();
        let population = self.keys();
        let mut changes = Changes::with_capacity((updates + inserts) as usize);
        let mut undo = Undo::new();
        if population > 0 && updates > 0 {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(version + 1);
            // Ranks are indices: that says nothing of where the keys lie, which is random.
            let zipf = match self.skew {
                Skew::Uniform => None,
                Skew::Zipf => Zipf::new(population as f64, ZIPF_EXPONENT).ok(),
            };
            for _ in 0..updates {
                let index = match &zipf {
                    None => random.random_range(0..population),
                    Some(zipf) => (zipf.sample(&mut random) as u64).clamp(1, population) - 1,
                };
                let before = std::mem::replace(&mut self.written[index as usize], version as u32);
                if u64::from(before) != version {
                    undo.push((index as u32, before));
                    changes.push((self.key(index), self.value(index, version)));
                }
            }
        }
        for index in population..population + inserts {
            self.written.push(version as u32);
            changes.push((self.key(index), self.value(index, version)));
        }
        self.undo.push_back((population as usize, undo));
        if self.undo.len() as u64 > KNOWN_BACK {
            self.undo.pop_front();
        }
        self.made += 1;
        changes
    }

    /// The bytes of the key with `index`.
    pub(crate) fn key(&self, index: u64) -> Key {
        key(self.seed, index)
    }

    fn value(&self, index: u64, version: u64) -> Value {
        words(self.seed ^ mix(version + 1), index, VALUE)
    }

    /// What a key holds now; `None` for one that does not exist.
    pub(crate) fn expected(&self, index: u64) -> Option<Value> {
        self.written.get(index as usize).map(|version| self.value(index, u64::from(*version)))
    }

    /// The chain as it was `back` versions ago, to look up what keys held; `None` where that is not known any more.
    pub(crate) fn back(&self, back: u64) -> Option<Self> {
        let made = self.made.checked_sub(back)?;
        let kept = self.undo.len().checked_sub(back as usize)?;
        let mut written = self.written.clone();
        for (population, undo) in self.undo.iter().skip(kept).rev() {
            for (index, before) in undo {
                written[*index as usize] = *before;
            }
            written.truncate(*population);
        }
        let undo = self.undo.iter().take(kept).cloned().collect();
        Some(Self { seed: self.seed, skew: self.skew, written, made, undo })
    }
}

const KEY: u64 = 0x006b_6579;
const VALUE: u64 = 0x0076_616c_7565;

/// The bytes of the key with `index`.
pub(crate) fn key(seed: u64, index: u64) -> Key {
    words(seed, index, KEY)
}

/// SplitMix64's output function: cheap, and every bit depends on every other.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 32 bytes that look random.
fn words(seed: u64, index: u64, what: u64) -> [u8; 32] {
    let mut state = mix(seed ^ mix(index ^ mix(what)));
    let mut bytes = [0; 32];
    for word in bytes.as_chunks_mut::<8>().0 {
        state = mix(state);
        *word = state.to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_model_is_what_playing_the_versions_gives() {
        for skew in [Skew::Uniform, Skew::Zipf] {
            let mut chain = Chain::new(7, skew);
            let mut states: Vec<HashMap<Key, Value>> = Vec::new();
            for version in 0..12 {
                let changes = if version < 3 { chain.next(0, 100) } else { chain.next(60, 5) };
                let mut state = states.last().cloned().unwrap_or_default();
                let count = changes.len();
                let distinct: HashMap<_, _> = changes.into_iter().collect();
                assert_eq!(distinct.len(), count, "a key is changed twice in version {version}");
                state.extend(distinct);
                states.push(state);
            }
            for (version, state) in states.iter().enumerate() {
                let past = chain.back(11 - version as u64).unwrap();
                assert_eq!(past.keys() as usize, state.len());
                assert_eq!(past.versions(), version as u64 + 1);
                for index in 0..past.keys() {
                    assert_eq!(past.expected(index), state.get(&past.key(index)).copied());
                }
                assert_eq!(past.expected(past.keys()), None);
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let make = |seed| {
            let mut chain = Chain::new(seed, Skew::Uniform);
            chain.next(0, 50);
            chain.next(20, 2)
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }
}
