//! What a read touches, counted.

use super::Found;
use super::read::Record;
use crate::{Locator, Result, SegmentView};

/// The records of one page, as a read of one key meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagePath {
    /// Records that are touched until the key is found, or known to be absent.
    pub records: u32,
    /// All records that the page consists of.
    pub chain: u32,
}

impl SegmentView<'_> {
    /// What [`find`](Self::find) finds, and on which way.
    ///
    /// # Errors
    /// As there.
    pub fn find_path(&self, page: Locator, key: &[u8]) -> Result<(Found<'_>, PagePath)> {
        let mut records = 0;
        let (_, found) = self.search(page, key, &mut records)?;
        let mut chain = 1;
        if let Record::Delta(newest) = self.page_record(page)? {
            let mut next = Some((page, newest));
            while let Some((at, delta)) = next {
                chain += 1;
                next = self.before(at, &delta)?;
            }
        }
        Ok((found, PagePath { records, chain }))
    }
}
