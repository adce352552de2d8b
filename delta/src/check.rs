//! Reading everything, whether it is needed or not.

use crate::codec::Bad;
use crate::format::record_kind;
use crate::table::View;
use crate::{Locator, Result, SegmentStats, Segments};

impl Segments {
    /// Reads everything: every checksum, and every record decoded.
    ///
    /// # Errors
    /// The first damage found.
    pub fn verify_all(&self) -> Result<SegmentStats> {
        self.walk(|at, record| self.verify_record(at, record))?;
        Ok(self.stats())
    }

    fn verify_record(&self, at: Locator, record: &[u8]) -> Result<()> {
        match record.first() {
            Some(&record_kind::BASE | &record_kind::DELTA) => self.load(at).map(drop),
            Some(&record_kind::TABLE) => {
                View::parse(record).and_then(|table| table.verify()).map_err(|bad| self.bad_record(at, bad))
            }
            Some(&record_kind::SEAL) => self.seal(at).map(drop),
            _ => Err(self.bad_record(at, Bad::new("no such kind of record"))),
        }
    }
}
