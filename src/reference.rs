//! What a child entry of a page in memory holds: the id of a slot, or the locator of a record.

use bristlecone_delta::Locator;
use bristlecone_snapshot::SlotId;

const SLOT: u64 = 1 << 63;
const SCRATCH: u64 = 1 << 62;

/// One word: a slot (bit 63 set), a page of an overlay (bit 62 of a word without a slot's bit: never shared), or a locator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Slot(SlotId),
    Stored(Locator),
    Scratch(u64),
}

impl Reference {
    pub(crate) fn word(self) -> u64 {
        match self {
            Self::Slot(id) => id.to_word() | SLOT,
            Self::Stored(locator) => locator.word(),
            Self::Scratch(index) => index | SCRATCH,
        }
    }

    pub(crate) fn from_word(word: u64) -> Option<Self> {
        if word & SLOT != 0 {
            return SlotId::from_word(word & !SLOT).map(Self::Slot);
        }
        if word & SCRATCH != 0 && word & 0xffff_ffff_0000_0000 == SCRATCH {
            return Some(Self::Scratch(word & !SCRATCH));
        }
        Locator::from_word(word).map(Self::Stored)
    }
}
