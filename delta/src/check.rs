//! Reading everything, whether it is needed or not.

use std::collections::HashSet;

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
        self.verify(Err)?;
        Ok(self.stats())
    }

    /// The same to the end: `each` is told of every damaged place, once.
    ///
    /// # Errors
    /// What `each` answers with, which ends it.
    pub fn verify(&self, mut each: impl FnMut(Error) -> Result<()>) -> Result<()> {
        let view = self.view();
        let mut told = HashSet::new();
        view.walk(|record| {
            let Err(error) = record.and_then(|(at, record)| view.verify_record(at, record)) else {
                return Ok(());
            };
            // What is damaged is met from every record that stands on it.
            match &error {
                Error::Corrupt { path, offset, .. } if !told.insert((path.clone(), *offset)) => Ok(()),
                _ => each(error),
            }
        })
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
