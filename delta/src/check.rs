//! Reading everything, whether it is needed or not.

use crate::codec::Bad;
use crate::format::record_kind;
use crate::seal::Seal;
use crate::segment::SegmentView;
use crate::table::View;
use crate::{Error, Locator, Result, SegmentStats, Segments};

impl Segments {
    /// Reads everything: every checksum, and every record decoded.
    ///
    /// # Errors
    /// The first damage found.
    pub fn verify_all(&self) -> Result<SegmentStats> {
        let view = self.view();
        view.walk(|at, record| view.verify_record(at, record))?;
        Ok(self.stats())
    }
}

impl SegmentView<'_> {
    fn verify_record(&self, at: Locator, record: &[u8]) -> Result<()> {
        match record.first() {
            Some(&record_kind::BASE | &record_kind::DELTA) => match self.load(at) {
                // A page that is dead, and a part of whose chain is gone.
                Err(Error::NoRecord { segment, .. }) if self.is_compacted(segment) => {
                    self.page_record(at).map(drop)
                }
                loaded => loaded.map(drop),
            },
            Some(&record_kind::TABLE) => {
                let verified = View::parse(record, at.segment()).and_then(|table| table.verify());
                verified.map_err(|bad| self.bad_record(at, bad))?;
                // What it refers to is there too.
                self.table(at)?.iter_from(0).try_for_each(|op| op.map(drop))
            }
            Some(&record_kind::DEAD) => self.dead(at).map(drop),
            Some(&record_kind::SEAL) => {
                Seal::decode(record).map(drop).map_err(|bad| self.bad_record(at, bad))
            }
            Some(&record_kind::VALUE) => Ok(()),
            _ => Err(self.bad_record(at, Bad::new("no such kind of record"))),
        }
    }
}
