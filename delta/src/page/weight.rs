//! What the bytes of a page's records are for.

use super::Stored;
use super::read::Record;
use crate::codec::Bad;

/// Bytes of some entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Entries for child pages, whole.
    pub(crate) children: u64,
    /// Values and bodies, without what says whose they are.
    pub(crate) values: u64,
}

impl Weight {
    fn add(&mut self, entry: (usize, Option<Stored<'_>>)) {
        match entry {
            (size, Some(Stored::Child { .. })) => self.children += size as u64,
            (_, Some(Stored::Leaf { value: bytes, .. } | Stored::Account { body: bytes, .. })) => {
                self.values += bytes.len() as u64;
            }
            (_, Some(Stored::Large { .. }) | None) => {}
        }
    }
}

impl Record<'_> {
    /// What of the record's bytes is for child pages, and what for values.
    pub(crate) fn weight(&self) -> Result<Weight, Bad> {
        let mut weight = Weight::default();
        match self {
            Self::Base(base) => {
                for index in 0..base.len {
                    weight.add((base.size_of(index), Some(base.item(&base.head(index)?)?)));
                }
            }
            Self::Delta(delta) => {
                for index in 0..delta.placed {
                    weight.add((delta.size_of(index), delta.placed(index)?.1));
                }
                for index in 0..delta.spelled {
                    weight.add((delta.size_of(delta.placed + index), delta.spelled_item(index)?));
                }
            }
        }
        Ok(weight)
    }
}
