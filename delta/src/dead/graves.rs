//! What is dead and still there: sets of record numbers, and the file that remembers them.
//!
//! Lists of what died name pages and trees, and the records behind them are found by reading them. Once a segment was
//! written anew without its dead records, they cannot be read any more. So before any record goes, all that is known to be dead is
//! made durable, in one file that is replaced whole:
//!
//! ```text
//! magic "BRCLDEAD" | format version u32 | store id | length of the rest u64
//! through: a locator as of a seal | dead: locators as of a list of what died
//! held varint | held…          held   seal of the run that they died in | locators
//! checksum of all before u64
//! ```
//!
//! A file that is damaged, or is that of another store, is no harm but for space: what it said is forgotten, and stays.

use std::collections::BTreeMap;
use std::path::Path;

use super::{put_locators, read_locators};
use crate::checksum::{Checker, Domain};
use crate::codec::{Bad, Reader, put_varint};
use crate::error::At;
use crate::format::{
    DEAD_FILE_HEAD_BYTES, DEAD_FILE_MAGIC, FORMAT_VERSION, STORE_ID_BYTES, TABLE_ENTRY_BYTES,
};
use crate::seal::{put_place, read_place};
use crate::segment::{Compactor, SegmentView, create_whole};
use crate::vfs::{OpenMode, Vfs};
use crate::{Locator, Result};

/// The name of the file, in the directory of the store.
const FILE: &str = "dead";

/// The dead records of one segment.
#[derive(Clone, Debug, Default)]
struct Grave {
    bits: Vec<u64>,
    records: u32,
    bytes: u64,
}

/// Records that are dead and were not removed yet, and those that pins and leases alone keep.
#[derive(Clone, Debug, Default)]
pub struct Graves {
    segments: BTreeMap<u32, Grave>,
    held: BTreeMap<Locator, Held>,
    through: Option<Locator>,
}

/// Records that died in one run, as in the file: there may be millions of them.
#[derive(Clone, Debug)]
struct Held {
    count: u64,
    encoded: Vec<u8>,
}

/// What is dead and there, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraveStats {
    /// Records.
    pub records: u64,
    /// Their bytes, with those of their entries in tables.
    pub bytes: u64,
    /// Records that died and that pins or leases keep.
    pub held: u64,
    /// Memory that the sets take, in bytes.
    pub memory: u64,
}

impl Graves {
    /// Up to the run of which seal lists of what died were taken in.
    pub fn through(&self) -> Option<Locator> {
        self.through
    }

    /// Notes that all lists up to that of the run with this seal were taken in.
    pub fn taken_through(&mut self, seal: Locator) {
        self.through = self.through.max(Some(seal));
    }

    /// Notes that a record is dead. One that is not there (any more) is none.
    ///
    /// # Errors
    /// `Corrupt` for a damaged table.
    pub fn bury(&mut self, segments: &SegmentView<'_>, record: Locator) -> Result<()> {
        let Some(size) = segments.size_of(record)? else { return Ok(()) };
        let grave = self.segments.entry(record.segment()).or_default();
        let (at, bit) = (record.record() as usize / 64, 1u64 << (record.record() % 64));
        if grave.bits.len() <= at {
            grave.bits.resize(at + 1, 0);
        }
        if let Some(word) = grave.bits.get_mut(at).filter(|word| **word & bit == 0) {
            *word |= bit;
            grave.records += 1;
            grave.bytes += size + TABLE_ENTRY_BYTES as u64;
        }
        Ok(())
    }

    /// Whether a record is dead.
    pub fn is_dead(&self, segment: u32, record: u32) -> bool {
        let word = self.segments.get(&segment).and_then(|grave| grave.bits.get(record as usize / 64));
        word.is_some_and(|word| word >> (record % 64) & 1 == 1)
    }

    /// Segments with dead records, and the bytes of those.
    pub fn segments(&self) -> impl Iterator<Item = (u32, u64)> {
        self.segments.iter().map(|(segment, grave)| (*segment, grave.bytes))
    }

    /// The dead records of a segment are gone.
    pub fn cleared(&mut self, segment: u32) {
        self.segments.remove(&segment);
    }

    /// Keeps records that died in the run with the seal `died` and that something needs still.
    pub fn hold(&mut self, died: Locator, mut records: Vec<Locator>) {
        if let Some(held) = self.held.remove(&died) {
            records.extend(held.decode());
        }
        records.sort_unstable();
        records.dedup();
        if !records.is_empty() {
            let mut encoded = Vec::new();
            put_locators(&records, &mut encoded);
            encoded.shrink_to_fit();
            self.held.insert(died, Held { count: records.len() as u64, encoded });
        }
    }

    /// The runs, by their seals, in which records died that are held.
    pub fn held_runs(&self) -> Vec<Locator> {
        self.held.keys().copied().collect()
    }

    /// Takes out what is held of one run.
    pub fn take_held(&mut self, died: Locator) -> Vec<Locator> {
        self.held.remove(&died).map_or(Vec::new(), |held| held.decode())
    }

    /// In numbers.
    pub fn stats(&self) -> GraveStats {
        let mut stats = GraveStats::default();
        for grave in self.segments.values() {
            stats.records += u64::from(grave.records);
            stats.bytes += grave.bytes;
            stats.memory += (grave.bits.capacity() * 8 + size_of::<Grave>()) as u64;
        }
        for held in self.held.values() {
            stats.held += held.count;
            stats.memory += (held.encoded.capacity() + size_of::<Held>()) as u64;
        }
        stats
    }

    fn dead(&self) -> Vec<Locator> {
        let of = |(segment, grave): (&u32, &Grave)| {
            let segment = *segment;
            let words = grave.bits.iter().copied().enumerate().collect::<Vec<_>>();
            words.into_iter().flat_map(move |(at, word)| {
                (0..64u32)
                    .filter(move |bit| word >> bit & 1 == 1)
                    .filter_map(move |bit| Locator::new(segment, at as u32 * 64 + bit))
            })
        };
        self.segments.iter().flat_map(of).collect()
    }

    fn encode(&self, id: &[u8; STORE_ID_BYTES], checker: &Checker) -> Vec<u8> {
        let mut rest = Vec::new();
        put_place(self.through, &mut rest);
        put_locators(&self.dead(), &mut rest);
        put_varint(self.held.len() as u64, &mut rest);
        for (died, held) in &self.held {
            put_place(Some(*died), &mut rest);
            rest.extend_from_slice(&held.encoded);
        }
        let mut out = DEAD_FILE_MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(id);
        out.extend_from_slice(&(rest.len() as u64).to_le_bytes());
        debug_assert_eq!(out.len(), DEAD_FILE_HEAD_BYTES);
        out.append(&mut rest);
        let sum = checker.sum(Domain::DeadFile, 0, 0, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Makes all of it durable. Nothing that it says to be dead may be removed before.
    ///
    /// # Errors
    /// `Io`: what the file said before is what it says.
    pub fn save(&self, compactor: &Compactor) -> Result<()> {
        let bytes = self.encode(&compactor.id, compactor.segments.checker());
        let dir = compactor.dir.parent().unwrap_or(&compactor.dir);
        let path = dir.join(FILE);
        let made = create_whole(&*compactor.vfs, dir, &path, bytes.len() as u64, None, |file, tmp| {
            file.write_all_at(&bytes, 0).at("write", tmp)
        });
        if made.is_err() {
            let _ = compactor.vfs.remove(&path.with_extension("tmp"));
        }
        made.map(drop)
    }
}

/// Forgets what the file of graves of the store in `dir` says.
pub(crate) fn forget(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let path = dir.join(FILE);
    if vfs.exists(&path).at("look at", &path)? {
        vfs.remove(&path).at("remove", &path)?;
        vfs.sync_dir(dir).at("sync", dir)?;
    }
    Ok(())
}

impl Held {
    fn decode(&self) -> Vec<Locator> {
        // It was encoded here, or decoded once already.
        read_locators(&mut Reader::new(&self.encoded)).unwrap_or_default()
    }
}

/// What the file of graves says, not yet held against the segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedGraves {
    through: Option<Locator>,
    dead: Vec<Locator>,
    held: Vec<(Locator, Vec<Locator>)>,
}

impl SavedGraves {
    /// Reads the file of the store in `dir`; an empty one where there is none that is right.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn read(
        vfs: &dyn Vfs,
        dir: &Path,
        id: &[u8; STORE_ID_BYTES],
        checker: &Checker,
    ) -> Result<Self> {
        let path = dir.join(FILE);
        if !vfs.exists(&path).at("look at", &path)? {
            return Ok(Self::default());
        }
        let file = vfs.open(&path, OpenMode::Read).at("open", &path)?;
        let len = file.len().at("look at", &path)?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, 0).at("read", &path)?;
        Ok(Self::decode(&bytes, id, checker).unwrap_or_default())
    }

    fn decode(bytes: &[u8], id: &[u8; STORE_ID_BYTES], checker: &Checker) -> Result<Self, Bad> {
        let mut reader = Reader::new(bytes);
        let head = (reader.array()?, reader.u32()?, reader.array::<STORE_ID_BYTES>()?);
        let length = reader.u64()?;
        let body = bytes.len().checked_sub(DEAD_FILE_HEAD_BYTES + 8);
        if head != (DEAD_FILE_MAGIC, FORMAT_VERSION, *id) || body.map(|body| body as u64) != Some(length) {
            return Err(Bad::new("not the graves of this store"));
        }
        let (covered, sum) = bytes.split_at_checked(bytes.len() - 8).unwrap_or_default();
        if checker.sum(Domain::DeadFile, 0, 0, covered).to_le_bytes() != *sum {
            return Err(Bad::new("the graves do not match their checksum"));
        }
        let through = read_place(&mut reader)?;
        let dead = read_locators(&mut reader)?;
        let mut held = Vec::new();
        for _ in 0..reader.count(3)? {
            let start = reader;
            let died = read_place(&mut reader)?.ok_or(start.bad("no such seal"))?;
            held.push((died, read_locators(&mut reader)?));
        }
        reader.u64()?;
        reader.end()?;
        Ok(Self { through, dead, held })
    }

    /// Up to the run of which seal lists of what died were taken in.
    pub fn through(&self) -> Option<Locator> {
        self.through
    }

    /// The sets, without what is gone. Costs a look at the table entry of each record.
    ///
    /// # Errors
    /// `Corrupt` for a damaged table.
    pub fn settle(self, segments: &SegmentView<'_>) -> Result<Graves> {
        let mut graves = Graves { through: self.through, ..Graves::default() };
        self.dead.into_iter().try_for_each(|record| graves.bury(segments, record))?;
        self.held.into_iter().for_each(|(died, records)| graves.hold(died, records));
        Ok(graves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u32, record: u32) -> Locator {
        Locator::new(segment, record).unwrap()
    }

    fn sample() -> Graves {
        let mut graves = Graves::default();
        graves.taken_through(at(2, 9));
        graves.segments.insert(1, Grave { bits: vec![0b101, 1 << 63], records: 3, bytes: 30 });
        graves.hold(at(2, 9), vec![at(1, 7), at(1, 3)]);
        graves
    }

    #[test]
    fn the_file_is_golden_and_every_other_bit_is_refused() {
        let id = [7; 16];
        let checker = Checker::new(&id);
        let bytes = sample().encode(&id, &checker);
        let mut golden = b"BRCLDEAD\x03\0\0\0".to_vec();
        golden.extend_from_slice(&id);
        golden.extend_from_slice(b"\x10\0\0\0\0\0\0\0");
        golden.extend_from_slice(b"\x02\x09\x01\x01\x03\x00\x01\x7c\x01\x02\x09\x01\x01\x02\x03\x03");
        assert_eq!(bytes[..bytes.len() - 8], golden[..]);
        let saved = SavedGraves::decode(&bytes, &id, &checker).unwrap();
        assert_eq!(saved.dead, [at(1, 0), at(1, 2), at(1, 127)]);
        assert_eq!(
            (saved.through, &saved.held[..]),
            (Some(at(2, 9)), &[(at(2, 9), vec![at(1, 3), at(1, 7)])][..])
        );
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(SavedGraves::decode(&other, &id, &checker).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(SavedGraves::decode(&bytes[..cut], &id, &checker).is_err());
        }
    }

    #[test]
    fn what_is_held_is_kept_by_the_run_it_died_in() {
        let mut graves = sample();
        graves.hold(at(2, 9), vec![at(1, 3), at(2, 1)]);
        assert_eq!((graves.stats().held, graves.held_runs()), (3, vec![at(2, 9)]));
        assert_eq!(graves.take_held(at(2, 9)), [at(1, 3), at(1, 7), at(2, 1)]);
        assert_eq!((graves.stats().held, graves.take_held(at(2, 9))), (0, vec![]));
        assert!(graves.is_dead(1, 2) && !graves.is_dead(1, 1) && !graves.is_dead(2, 0));
        graves.cleared(1);
        assert!(!graves.is_dead(1, 2));
    }
}
