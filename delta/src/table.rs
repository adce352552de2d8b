//! The run table: operations of a run that its end state does not show, and the tops of tries in the middle of it.
//!
//! ```text
//! kind u8 = 3 | operations u32 | newest stamp u64 | tops u32
//! ends u32 × operations: where each one's bytes end, counted from the start of the first
//! operation…   key length varint | key | newest stamp − stamp varint | change, or tag u8 = 7 and the reference of a large value
//! top…         newest stamp − stamp varint | hashes varint | hash 32 bytes × hashes
//! ```

use std::cmp::Ordering;
use std::collections::HashSet;

use bristlecone_trie::Change;

use crate::change::{put_change, put_key, read_change, read_key};
use crate::codec::{Bad, Reader, at_most, put_varint};
use crate::format::{MAX_RECORD_BYTES, TABLE_HEAD_BYTES, change_tag, record_kind};
use crate::segment::SegmentView;
use crate::value::{Large, is_large};
use crate::{Error, GroupWriter, Locator, Result, Stamp};

/// One operation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOp<'a> {
    /// The key, whole.
    pub key: &'a [u8],
    /// The commit.
    pub stamp: Stamp,
    /// What it did. A deleted account reads back with `wipe` set.
    pub change: Change<'a>,
}

/// The hashes of the nodes in the first two levels of a trie at one commit in the middle of a run, as the caller orders them. With them a
/// proof at that commit needs no other page than those on its own way.
///
/// Nothing depends on them being right or there: whoever uses them compares the root that comes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Top<'a> {
    /// The commit.
    pub stamp: Stamp,
    /// The hashes.
    pub hashes: &'a [[u8; HASH_BYTES]],
}

const HASH_BYTES: usize = 32;

/// An operation as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredOp<'a> {
    key: &'a [u8],
    stamp: Stamp,
    change: StoredChange<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoredChange<'a> {
    Whole(Change<'a>),
    /// A put of a large value.
    Large(Large),
}

/// The record of `ops` and `tops` in a group of `segment`; `larges` are the references of large values, in the order of their puts.
pub(crate) fn encode(
    ops: &[TableOp<'_>],
    tops: &[Top<'_>],
    larges: &[Large],
    segment: u32,
) -> Result<Vec<u8>> {
    let mut larges = larges.iter();
    at_most("a run table's count", ops.len(), MAX_RECORD_BYTES / 8)?;
    if !ops.is_sorted_by(|a, b| (a.key, a.stamp) < (b.key, b.stamp)) {
        return Err(Error::Invalid { what: "a run table out of order" });
    }
    if !tops.is_sorted_by(|a, b| a.stamp < b.stamp) {
        return Err(Error::Invalid { what: "tops of a run table out of order" });
    }
    let stamps = ops.iter().map(|op| op.stamp).chain(tops.iter().map(|top| top.stamp));
    let newest = stamps.map(|stamp| stamp.word()).max().unwrap_or(0);
    let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(ops.len() * 4));
    for op in ops {
        put_key(op.key, &mut bytes)?;
        put_varint(newest - op.stamp.word(), &mut bytes);
        match op.change {
            Change::Put(value) if is_large(value) => {
                let large = larges.next().ok_or(Error::Invalid { what: "a large value without a record" })?;
                bytes.push(change_tag::PUT_LARGE);
                large.encode(segment, &mut bytes)?;
            }
            change => put_change(&change, &mut bytes)?,
        }
        at_most("a run table", bytes.len(), MAX_RECORD_BYTES)?;
        ends.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
    for top in tops {
        put_varint(newest - top.stamp.word(), &mut bytes);
        put_varint(top.hashes.len() as u64, &mut bytes);
        bytes.extend_from_slice(top.hashes.as_flattened());
        at_most("a run table", bytes.len(), MAX_RECORD_BYTES)?;
    }
    let mut out = Vec::with_capacity(TABLE_HEAD_BYTES + ends.len() + bytes.len());
    out.push(record_kind::TABLE);
    out.extend_from_slice(&(ops.len() as u32).to_le_bytes());
    out.extend_from_slice(&newest.to_le_bytes());
    out.extend_from_slice(&(tops.len() as u32).to_le_bytes());
    out.append(&mut ends);
    out.append(&mut bytes);
    Ok(out)
}

impl GroupWriter<'_> {
    /// Writes a run table: `ops` strictly ascending by (key, stamp), `tops` by stamp.
    ///
    /// # Errors
    /// `Invalid` where the order does not hold, `TooLarge`, `Io`.
    pub fn put_table(&mut self, ops: &[TableOp<'_>], tops: &[Top<'_>]) -> Result<Locator> {
        let mut larges = Vec::new();
        for op in ops {
            if let Change::Put(value) = op.change
                && is_large(value)
            {
                larges.push(self.share_value(value)?);
                self.spill()?;
            }
        }
        let record = encode(ops, tops, &larges, self.segment())?;
        self.put_record(&record)
    }
}

/// A run table, read in place.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    segments: &'a SegmentView<'a>,
    locator: Locator,
    view: View<'a>,
}

/// The parts of a table's record.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    segment: u32,
    newest: u64,
    len: usize,
    ends: &'a [u8],
    ops: &'a [u8],
    /// How many tops follow the operations.
    tops: usize,
}

impl<'a> View<'a> {
    /// Reads the frame of a record of `segment`.
    pub(crate) fn parse(record: &'a [u8], segment: u32) -> Result<Self, Bad> {
        let mut reader = Reader::new(record);
        if reader.u8()? != record_kind::TABLE {
            return Err(Bad::new("not a run table"));
        }
        let len = reader.u32()? as usize;
        let newest = reader.u64()?;
        let tops = reader.u32()? as usize;
        let ends = reader.take(len.saturating_mul(4))?;
        Ok(Self { segment, newest, len, ends, ops: reader.rest(), tops })
    }

    /// What follows the last operation.
    fn after_ops(&self) -> Result<Reader<'a>, Bad> {
        let start = if self.len == 0 { Some(0) } else { self.end(self.len - 1) };
        let rest = start.and_then(|start| self.ops.get(start..));
        rest.map(Reader::new).ok_or(Bad::new("impossible ends in a run table"))
    }

    fn read_top(&self, reader: &mut Reader<'a>) -> Result<Top<'a>, Bad> {
        let start = *reader;
        let stamp = self.newest.checked_sub(reader.varint()?).ok_or(start.bad("a stamp below zero"))?;
        let count = usize::try_from(reader.varint()?).map_err(|_| start.bad("impossible tops"))?;
        let (hashes, _) = reader.take(count.saturating_mul(HASH_BYTES))?.as_chunks();
        Ok(Top { stamp: Stamp::from_word(stamp), hashes })
    }

    /// The top at `stamp`, if there is one.
    fn top(&self, stamp: Stamp) -> Result<Option<Top<'a>>, Bad> {
        let mut reader = self.after_ops()?;
        for _ in 0..self.tops {
            let top = self.read_top(&mut reader)?;
            if top.stamp >= stamp {
                return Ok(Some(top).filter(|top| top.stamp == stamp));
            }
        }
        Ok(None)
    }

    fn end(&self, index: usize) -> Option<usize> {
        let bytes = self.ends.get(index * 4..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    }

    fn raw(&self, index: usize) -> Result<Reader<'a>, Bad> {
        let range = || {
            let start = if index == 0 { 0 } else { self.end(index - 1)? };
            self.ops.get(start..self.end(index)?)
        };
        range().map(Reader::new).ok_or(Bad::new("impossible ends in a run table"))
    }

    fn head(&self, reader: &mut Reader<'a>) -> Result<(&'a [u8], Stamp), Bad> {
        let key = read_key(reader)?;
        let start = *reader;
        let stamp = self.newest.checked_sub(reader.varint()?).ok_or(start.bad("a stamp below zero"))?;
        Ok((key, Stamp::from_word(stamp)))
    }

    pub(crate) fn get(&self, index: usize) -> Result<StoredOp<'a>, Bad> {
        let mut reader = self.raw(index)?;
        let (key, stamp) = self.head(&mut reader)?;
        let change = if reader.rest().first() == Some(&change_tag::PUT_LARGE) {
            reader.u8()?;
            StoredChange::Large(Large::decode(self.segment, &mut reader)?)
        } else {
            StoredChange::Whole(read_change(&mut reader)?)
        };
        reader.end()?;
        Ok(StoredOp { key, stamp, change })
    }

    fn lower_bound(&self, key: &[u8], stamp: Stamp) -> Result<usize, Bad> {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            let (other, at) = self.head(&mut self.raw(middle)?)?;
            match other.cmp(key).then(at.cmp(&stamp)) {
                Ordering::Less => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn find(&self, key: &[u8], stamp: Stamp) -> Result<Option<StoredOp<'a>>, Bad> {
        let after = match stamp.word().checked_add(1) {
            Some(next) => self.lower_bound(key, Stamp::from_word(next))?,
            None => self.len,
        };
        let Some(index) = after.checked_sub(1) else { return Ok(None) };
        Ok(Some(self.get(index)?).filter(|op| op.key == key && op.stamp <= stamp))
    }

    /// Reads everything: orders, ends, and that no byte is left over.
    pub(crate) fn verify(&self) -> Result<(), Bad> {
        let mut last: Option<StoredOp<'_>> = None;
        for index in 0..self.len {
            let op = self.get(index)?;
            if last.is_some_and(|last| (last.key, last.stamp) >= (op.key, op.stamp)) {
                return Err(Bad::new("a run table out of order"));
            }
            last = Some(op);
        }
        let (mut reader, mut last) = (self.after_ops()?, None);
        for _ in 0..self.tops {
            let top = self.read_top(&mut reader)?;
            if last.is_some_and(|last| last >= top.stamp) {
                return Err(Bad::new("tops of a run table out of order"));
            }
            last = Some(top.stamp);
        }
        reader.end()
    }
}

impl<'a> Table<'a> {
    fn sound<T>(&self, answer: Result<T, Bad>) -> Result<T> {
        answer.map_err(|bad| self.segments.bad_record(self.locator, bad))
    }

    /// The operation with its value.
    fn whole(&self, op: StoredOp<'a>) -> Result<TableOp<'a>> {
        let change = match op.change {
            StoredChange::Whole(change) => change,
            StoredChange::Large(large) => Change::Put(self.segments.value(large)?),
        };
        Ok(TableOp { key: op.key, stamp: op.stamp, change })
    }

    /// How many operations.
    pub fn len(&self) -> usize {
        self.view.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.view.len == 0
    }

    /// The operation at `index`; `None` past the end.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn get(&self, index: usize) -> Result<Option<TableOp<'a>>> {
        if index >= self.view.len {
            return Ok(None);
        }
        self.sound(self.view.get(index)).and_then(|op| self.whole(op)).map(Some)
    }

    /// The records of the large values that were stored for it alone, and not for a page: those right before it.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn own_values(&self) -> Result<Vec<Locator>> {
        let mut all = HashSet::new();
        for index in 0..self.view.len {
            if let StoredChange::Large(large) = self.sound(self.view.get(index))?.change {
                all.insert(large.locator);
            }
        }
        // Behind the values of a page comes the page.
        let before = (0..self.locator.record()).rev();
        let before = before.map_while(|record| Locator::new(self.locator.segment(), record));
        Ok(before.take_while(|record| all.contains(record)).collect())
    }

    /// The index of the first operation that is not before (`key`, `stamp`). A binary search.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn lower_bound(&self, key: &[u8], stamp: Stamp) -> Result<usize> {
        self.sound(self.view.lower_bound(key, stamp))
    }

    /// The top of the trie at the commit `stamp`, if the table has that.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn top(&self, stamp: Stamp) -> Result<Option<Top<'a>>> {
        self.sound(self.view.top(stamp))
    }

    /// All operations in order, from `index` on.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = Result<TableOp<'a>>> + use<'a> {
        let table = *self;
        (index..self.view.len).map(move |index| table.whole(table.sound(table.view.get(index))?))
    }
}

impl std::fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("locator", &self.locator).field("len", &self.view.len).finish()
    }
}

impl SegmentView<'_> {
    /// The run table at `table`, ready to search or to walk.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn table(&self, table: Locator) -> Result<Table<'_>> {
        let view = View::parse(self.record(table)?, table.segment());
        let view = view.map_err(|bad| self.bad_record(table, bad))?;
        Ok(Table { segments: self, locator: table, view })
    }

    /// The newest operation on exactly `key` with a stamp of at most `stamp`. A binary search on the mapped bytes.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn find_in_table(&self, table: Locator, key: &[u8], stamp: Stamp) -> Result<Option<TableOp<'_>>> {
        let table = self.table(table)?;
        table.sound(table.view.find(key, stamp))?.map(|op| table.whole(op)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_trie::Body;
    use std::collections::BTreeMap;

    fn stamp(counter: u64) -> Stamp {
        Stamp::new(1, counter).unwrap()
    }

    fn sample() -> Vec<TableOp<'static>> {
        let op = |key, counter, change| TableOp { key, stamp: stamp(counter), change };
        vec![
            op(b"a", 1, Change::Put(b"x")),
            op(b"a", 3, Change::Delete),
            op(b"b", 2, Change::Account { body: Body::Keep, wipe: true }),
        ]
    }

    fn tops() -> [Top<'static>; 2] {
        [Top { stamp: stamp(2), hashes: &[[7; 32], [8; 32]] }, Top { stamp: stamp(4), hashes: &[[9; 32]] }]
    }

    #[test]
    fn a_table_is_golden_and_reads_back() {
        let bytes = encode(&sample(), &tops(), &[], 1).unwrap();
        let mut golden = b"\x03\x03\0\0\0\x04\0\0\0\0\x01\0\0\x02\0\0\0".to_vec();
        golden.extend_from_slice(b"\x06\0\0\0\x0a\0\0\0\x0e\0\0\0");
        golden.extend_from_slice(b"\x01a\x03\x01\x01x\x01a\x01\x00\x01b\x02\x03");
        golden.extend_from_slice(&[&[2, 2][..], &[7; 32], &[8; 32], &[0, 1], &[9; 32]].concat());
        assert_eq!(bytes, golden);
        let view = View::parse(&bytes, 1).unwrap();
        view.verify().unwrap();
        let stored = |op: &TableOp<'static>| StoredOp {
            key: op.key,
            stamp: op.stamp,
            change: StoredChange::Whole(op.change),
        };
        let back: Vec<_> = (0..view.len).map(|index| view.get(index).unwrap()).collect();
        assert_eq!(back, sample().iter().map(stored).collect::<Vec<_>>());
        for (counter, expected) in
            [(1, None), (2, Some(tops()[0])), (3, None), (4, Some(tops()[1])), (5, None)]
        {
            assert_eq!(view.top(stamp(counter)).unwrap(), expected, "{counter}");
        }
        View::parse(&encode(&[], &[], &[], 1).unwrap(), 1).unwrap().verify().unwrap();
        let alone = encode(&[], &tops(), &[], 1).unwrap();
        let view = View::parse(&alone, 1).unwrap();
        view.verify().unwrap();
        assert_eq!(view.top(stamp(4)).unwrap(), Some(tops()[1]));
    }

    #[test]
    fn a_search_finds_the_newest_operation_not_after_the_stamp() {
        let keys: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n / 7, n * 6]).collect();
        let mut model: BTreeMap<(&[u8], Stamp), [u8; 1]> = BTreeMap::new();
        for (n, key) in keys.iter().enumerate() {
            for counter in (1..30).step_by(n % 5 + 2) {
                model.insert((key, stamp(counter)), [counter as u8]);
            }
        }
        let ops: Vec<_> = model
            .iter()
            .map(|((key, stamp), value)| TableOp { key, stamp: *stamp, change: Change::Put(value) })
            .collect();
        let bytes = encode(&ops, &[], &[], 1).unwrap();
        let view = View::parse(&bytes, 1).unwrap();
        for key in keys.iter().map(Vec::as_slice).chain([&b""[..], b"\xff", b"\x00\x01"]) {
            for counter in 0..32 {
                let expected = model.range((key, stamp(0))..=(key, stamp(counter))).next_back();
                let found = view.find(key, stamp(counter)).unwrap();
                let whole = |value| StoredChange::Whole(Change::Put(value));
                let expected = expected.map(|((_, stamp), value)| (*stamp, whole(&value[..])));
                assert_eq!(found.map(|op| (op.stamp, op.change)), expected);
            }
        }
        assert!(view.find(&keys[0], Stamp::from_word(u64::MAX)).unwrap().is_none());
    }

    #[test]
    fn disorder_is_refused() {
        let mut ops = sample();
        ops.swap(0, 1);
        assert!(matches!(encode(&ops, &[], &[], 1), Err(Error::Invalid { .. })));
        let op = sample()[0];
        assert!(encode(&[op, op], &[], &[], 1).is_err());
        let [first, second] = tops();
        assert!(matches!(encode(&[], &[second, first], &[], 1), Err(Error::Invalid { .. })));
    }

    #[test]
    fn damaged_tables_are_refused_or_answer_without_a_panic() {
        let bytes = encode(&sample(), &tops(), &[], 1).unwrap();
        for cut in 0..bytes.len() {
            let refused = View::parse(&bytes[..cut], 1).and_then(|view| view.verify());
            assert!(refused.is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for flip in (1..=255u8).step_by(if cfg!(miri) { 51 } else { 1 }) {
                let mut other = bytes.clone();
                other[at] ^= flip;
                if let Ok(view) = View::parse(&other, 1) {
                    let _ = (view.verify(), view.find(b"a", stamp(2)), view.lower_bound(b"b", stamp(9)));
                    let _ = view.top(stamp(4));
                }
            }
        }
    }
}
