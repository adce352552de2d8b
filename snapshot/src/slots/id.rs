//! The name of a slot.

use std::num::NonZeroU64;

const INDEX_BITS: u32 = 32;

/// The last generation that an id can name.
pub(crate) const LAST_GENERATION: u32 = (1 << 31) - 1;

/// Names one use of one slot: an index of 32 bits and a generation of 31.
///
/// Generations of living slots are odd, so that no id is the word 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(NonZeroU64);

impl SlotId {
    /// None where the generation is that of a free slot, or of none.
    pub(crate) fn new(index: u32, generation: u32) -> Option<Self> {
        Self::from_word(u64::from(generation) << INDEX_BITS | u64::from(index))
    }

    /// The id as a number below 2^63, never 0: the top bit is free for the caller's own use.
    #[inline]
    pub fn to_word(self) -> u64 {
        self.0.get()
    }

    /// The id that [`to_word`](Self::to_word) made the word of; None for a word that it never makes. A word
    /// that was made up names a slot or none, and is as safe to use as an outdated id.
    #[inline]
    pub fn from_word(word: u64) -> Option<Self> {
        let generation = word >> INDEX_BITS;
        if generation > u64::from(LAST_GENERATION) || generation.is_multiple_of(2) {
            return None;
        }
        NonZeroU64::new(word).map(Self)
    }

    /// Where the slot is.
    #[inline]
    pub(crate) fn index(self) -> u32 {
        (self.0.get() & u64::from(u32::MAX)) as u32
    }

    /// Which use of the slot.
    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.0.get() >> INDEX_BITS) as u32
    }
}

impl std::fmt::Debug for SlotId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlotId({}.{})", self.index(), self.generation())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_leave_the_top_bit_free() {
        for (index, generation) in [(0, 1), (u32::MAX, LAST_GENERATION), (7, 12_345)] {
            let id = SlotId::new(index, generation).unwrap();
            assert_eq!((id.index(), id.generation()), (index, generation));
            assert_eq!(id.to_word() >> 63, 0);
            assert_eq!(SlotId::from_word(id.to_word()), Some(id));
        }
    }

    #[test]
    fn words_of_free_slots_are_no_ids() {
        for word in [0, 5, 2 << 32, 1 << 63 | 1 << 32, u64::MAX] {
            assert_eq!(SlotId::from_word(word), None);
        }
    }
}
