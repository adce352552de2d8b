//! The two names everything else is built on: stamps and locators.

use std::fmt;

use crate::format::{COUNTER_BITS, MAX_COUNTER, MAX_OPENING, MAX_SEGMENT};

/// The identity of a commit: an opening of the store (24 bits, high) and a counter within it (40 bits). Given once, never
/// used again. Later stamps of one store are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// The stamp of commit `counter` in `opening`. `None` past 24 and 40 bits.
    pub const fn new(opening: u32, counter: u64) -> Option<Self> {
        if opening > MAX_OPENING || counter > MAX_COUNTER {
            return None;
        }
        Some(Self((opening as u64) << COUNTER_BITS | counter))
    }

    /// The stamp that a page holds as `word`. 0 means "no stamp" there.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// As one word; the order of words is the order of stamps.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Which opening of the store gave it.
    pub const fn opening(self) -> u32 {
        (self.0 >> COUNTER_BITS) as u32
    }

    /// Which one of that opening.
    pub const fn counter(self) -> u64 {
        self.0 & MAX_COUNTER
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.opening(), self.counter())
    }
}

/// Where a record is: a segment (31 bits, from 1) and a number in it (32 bits). Logical: it stays valid when a
/// segment is written anew. Never 0 as a word, and below 2^63.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator(u64);

impl Locator {
    /// Record `record` of `segment`. `None` where the segment is 0 or has more than 31 bits.
    pub const fn new(segment: u32, record: u32) -> Option<Self> {
        if segment == 0 || segment > MAX_SEGMENT {
            return None;
        }
        Some(Self((segment as u64) << 32 | record as u64))
    }

    /// Reads [`word`](Self::word); `None` for a word that is no locator.
    pub const fn from_word(word: u64) -> Option<Self> {
        Self::new((word >> 32) as u32, word as u32)
    }

    /// The first record of a store.
    pub const FIRST: Self = Self(1 << 32);

    /// The one behind it, in the log of all records: no record lies between them.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// As one word, from 2^32 to below 2^63. Later records have greater words.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The segment.
    pub const fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The number of the record in its segment, from 0.
    pub const fn record(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.segment(), self.record())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_and_locators_keep_their_parts_and_their_order() {
        let stamp = Stamp::new(3, 77).unwrap();
        assert_eq!((stamp.opening(), stamp.counter(), stamp.word()), (3, 77, 3 << 40 | 77));
        assert!(Stamp::new(3, MAX_COUNTER).unwrap() < Stamp::new(4, 0).unwrap());
        assert_eq!((Stamp::new(1 << 24, 0), Stamp::new(0, 1 << 40)), (None, None));
        let locator = Locator::new(MAX_SEGMENT, u32::MAX).unwrap();
        assert_eq!(locator.word(), (1 << 63) - 1);
        assert_eq!(Locator::from_word(locator.word()), Some(locator));
        assert_eq!((Locator::new(0, 1), Locator::from_word(1 << 63)), (None, None));
    }
}
