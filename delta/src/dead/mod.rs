//! What died in a run: the record that a seal's group holds of it.
//!
//! ```text
//! kind u8 = 5 | pages | trees
//! pages, trees   segments varint | segment…                          ascending
//! segment        how many after the last one varint | records varint | record…
//! record         the first: its number varint; others: how many after the one before varint, less 1
//! ```
//!
//! A page's records, newest to base, die together, when the page is written whole again, goes into others or is dropped: its newest
//! one stands for all. A large value dies when no page refers to it any more, and is listed among the pages. A tree that was dropped in one go stands for all pages that it reaches.

mod graves;

pub(crate) use graves::forget;
pub use graves::{GraveStats, Graves, SavedGraves};

use crate::codec::{Bad, Reader, put_varint};
use crate::format::{MAX_SEGMENT, record_kind};
use crate::page::{Record, Slot, Stored};
use crate::segment::SegmentView;
use crate::{Error, GroupWriter, Locator, Result};

/// What died in a run. Versions of earlier runs need it still.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Dead {
    /// The newest records of pages whose chains this run did not go on with, and large values that no page refers to any more; ascending.
    pub pages: Vec<Locator>,
    /// The newest records of root pages of trees that this run dropped, with all that they reach; ascending.
    pub trees: Vec<Locator>,
}

impl Dead {
    /// Whether nothing died.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.trees.is_empty()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![record_kind::DEAD];
        put_locators(&self.pages, &mut out);
        put_locators(&self.trees, &mut out);
        out
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, Bad> {
        let mut reader = Reader::new(record);
        if reader.u8()? != record_kind::DEAD {
            return Err(Bad::new("not a list of what died"));
        }
        let dead = Self { pages: read_locators(&mut reader)?, trees: read_locators(&mut reader)? };
        reader.end()?;
        Ok(dead)
    }
}

/// Writes `locators`, ascending.
pub(crate) fn put_locators(locators: &[Locator], out: &mut Vec<u8>) {
    debug_assert!(locators.is_sorted_by(|a, b| a < b));
    let segments = locators.chunk_by(|a, b| a.segment() == b.segment());
    put_varint(segments.clone().count() as u64, out);
    let mut last = 0;
    for same in segments {
        let segment = same.first().map_or(0, |first| first.segment());
        put_varint(u64::from(segment - last), out);
        put_varint(same.len() as u64, out);
        last = segment;
        let mut next = 0;
        for locator in same {
            put_varint(u64::from(locator.record() - next), out);
            next = locator.record().saturating_add(1);
        }
    }
}

/// Reads what [`put_locators`] wrote.
pub(crate) fn read_locators(reader: &mut Reader<'_>) -> Result<Vec<Locator>, Bad> {
    let mut out = Vec::new();
    let mut segment = 0u64;
    for _ in 0..reader.count(3)? {
        let start = *reader;
        segment = segment.saturating_add(reader.size(MAX_SEGMENT as usize)? as u64);
        let count = reader.count(1)?;
        if count == 0 || start.clone().varint()? == 0 {
            return Err(start.bad("a segment without a record, or twice"));
        }
        let mut next = 0u64;
        for _ in 0..count {
            let start = *reader;
            let number = next.saturating_add(reader.varint()?);
            let locator = u32::try_from(segment).ok().zip(u32::try_from(number).ok());
            let locator = locator.and_then(|(segment, number)| Locator::new(segment, number));
            out.push(locator.ok_or(start.bad("no such record"))?);
            next = number + 1;
        }
    }
    Ok(out)
}

impl GroupWriter<'_> {
    /// Writes the list of what died in the run. `pages` and `trees` ascend.
    ///
    /// # Errors
    /// `Invalid` where they do not, `TooLarge`, `Io`.
    pub fn put_dead(&mut self, dead: &Dead) -> Result<Locator> {
        if [&dead.pages, &dead.trees].iter().any(|list| !list.is_sorted_by(|a, b| a < b)) {
            return Err(Error::Invalid { what: "a list of what died, out of order" });
        }
        self.put_record(&dead.encode())
    }
}

impl SegmentView<'_> {
    /// The records of the page whose newest one is `page`, newest to base, as far as they are there; of a large value itself.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn chain(&self, page: Locator) -> Result<Vec<Locator>> {
        match self.is_value(page) {
            Ok(true) => return Ok(vec![page]),
            Ok(false) => {}
            Err(Error::NoRecord { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let mut records = Vec::new();
        let mut next = Some(page);
        while let Some(at) = next {
            next = match self.page_record(at) {
                Ok(Record::Base(_)) => None,
                Ok(Record::Delta(delta)) => Some(delta.previous),
                Err(Error::NoRecord { .. }) => return Ok(records),
                Err(error) => return Err(error),
            };
            records.push(at);
        }
        Ok(records)
    }

    /// The newest records of the child pages of a page.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn children(&self, page: Locator) -> Result<Vec<Locator>> {
        let state = self.state(page)?;
        let child = |slot: &Slot<'_>| match slot.item {
            Some(Stored::Child { locator, .. }) => Some(locator),
            _ => None,
        };
        Ok(state.slots.iter().filter_map(child).collect())
    }

    /// The list of what died in a run.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn dead(&self, list: Locator) -> Result<Dead> {
        Dead::decode(self.record(list)?).map_err(|bad| self.bad_record(list, bad))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u32, record: u32) -> Locator {
        Locator::new(segment, record).unwrap()
    }

    fn sample() -> Dead {
        Dead { pages: vec![at(1, 5), at(1, 6), at(3, 0), at(3, 300)], trees: vec![at(2, u32::MAX)] }
    }

    #[test]
    fn a_list_is_golden_and_reads_back() {
        let bytes = sample().encode();
        let golden = b"\x05\x02\x01\x02\x05\x00\x02\x02\x00\xab\x02\x01\x02\x01\xff\xff\xff\xff\x0f";
        assert_eq!(bytes, golden);
        assert_eq!(Dead::decode(&bytes), Ok(sample()));
        assert_eq!(Dead::default().encode(), b"\x05\0\0");
    }

    #[test]
    fn every_cut_and_every_other_byte_is_refused_or_reads_back_canonically() {
        let bytes = sample().encode();
        for cut in 0..bytes.len() {
            assert!(Dead::decode(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            for flip in (1..=255u8).step_by(if cfg!(miri) { 51 } else { 1 }) {
                let mut other = bytes.clone();
                other[at] ^= flip;
                if let Ok(dead) = Dead::decode(&other) {
                    assert_eq!(dead.encode(), other);
                }
            }
        }
    }
}
