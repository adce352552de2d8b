//! Where the bytes of segments go.

use std::ops::AddAssign;

use crate::codec::Bad;
use crate::format::record_kind;
use crate::segment::SegmentView;
use crate::{Locator, Result};

/// Bytes of segment files, by what they are for. Each is in one field; [`used`](Self::used) and [`slack`](Self::slack) together are the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// Pages written whole: heads, paths and stamps.
    pub bases: u64,
    /// How many.
    pub base_records: u64,
    /// Changes of pages: heads, positions, paths and stamps.
    pub deltas: u64,
    /// How many.
    pub delta_records: u64,
    /// Entries for child pages in either, with their hashes.
    pub children: u64,
    /// Values and account bodies in either.
    pub values: u64,
    /// Values in records of their own.
    pub large_values: u64,
    /// How many.
    pub large_value_records: u64,
    /// Run tables: operations that the ends of runs do not show.
    pub tables: u64,
    /// What died in each run.
    pub dead_lists: u64,
    /// Seals.
    pub seals: u64,
    /// Headers, ends and checksums of records, and what fills up to the next sector.
    pub framing: u64,
    /// Allocated ahead and not used yet.
    pub slack: u64,
}

impl Space {
    /// All but what was allocated ahead.
    pub fn used(&self) -> u64 {
        self.records() + self.framing
    }

    /// Bytes of records.
    fn records(&self) -> u64 {
        self.bases
            + self.deltas
            + self.children
            + self.values
            + self.large_values
            + self.tables
            + self.dead_lists
            + self.seals
    }
}

impl AddAssign for Space {
    fn add_assign(&mut self, other: Self) {
        // Whole, so that no field can be forgotten.
        let Self {
            bases,
            base_records,
            deltas,
            delta_records,
            children,
            values,
            large_values,
            large_value_records,
            tables,
            dead_lists,
            seals,
            framing,
            slack,
        } = other;
        self.bases += bases;
        self.base_records += base_records;
        self.deltas += deltas;
        self.delta_records += delta_records;
        self.children += children;
        self.values += values;
        self.large_values += large_values;
        self.large_value_records += large_value_records;
        self.tables += tables;
        self.dead_lists += dead_lists;
        self.seals += seals;
        self.framing += framing;
        self.slack += slack;
    }
}

/// A segment, and where its bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentSpace {
    /// Its number.
    pub segment: u32,
    /// How often it was written anew.
    pub generation: u32,
    /// Its bytes.
    pub space: Space,
}

impl SegmentView<'_> {
    /// Where the bytes of segment `number` go; `None` where there is no such segment. Segments are numbered from 1. Cost: a read of the segment.
    ///
    /// # Errors
    /// `Corrupt` for a damaged record, `Io`.
    pub fn space(&self, number: u32) -> Result<Option<SegmentSpace>> {
        let Some(figures) = self.figures(number)? else { return Ok(None) };
        let mut space = Space::default();
        self.walk_segment(number, |at, record| self.weigh(at, record, &mut space))?;
        space.framing = figures.bytes.saturating_sub(space.records());
        space.slack = figures.allocated.saturating_sub(figures.bytes);
        Ok(Some(SegmentSpace { segment: number, generation: figures.generation, space }))
    }

    fn weigh(&self, at: Locator, record: &[u8], space: &mut Space) -> Result<()> {
        let size = record.len() as u64;
        let kind = record.first().copied();
        match kind {
            Some(record_kind::BASE | record_kind::DELTA) => {
                let weight = self.page_record(at)?.weight().map_err(|bad| self.bad_record(at, bad))?;
                space.children += weight.children;
                space.values += weight.values;
                let rest = size.saturating_sub(weight.children + weight.values);
                if kind == Some(record_kind::BASE) {
                    space.bases += rest;
                    space.base_records += 1;
                } else {
                    space.deltas += rest;
                    space.delta_records += 1;
                }
            }
            Some(record_kind::TABLE) => space.tables += size,
            Some(record_kind::DEAD) => space.dead_lists += size,
            Some(record_kind::SEAL) => space.seals += size,
            Some(record_kind::VALUE) => {
                space.large_values += size;
                space.large_value_records += 1;
            }
            _ => return Err(self.bad_record(at, Bad::new("no such kind of record"))),
        }
        Ok(())
    }
}
