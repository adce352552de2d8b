//! A base: a page whole, laid out so that it is searched where it lies.
//!
//! ```text
//! kind u8 = 1 | flags u8 | entries u16 | depth u16 | newest stamp u64
//! prints   u16 × entries
//! ends     u16 × entries (u32 with flag 1): where each entry's bytes end, counted from the start of the first
//! entry…   kind u8 | end varint | tail | what is there
//! ```

use super::entry::{Place, Stored, meets, print, tail_len, tail_start};
use crate::Result;
use crate::codec::{Bad, Reader, Scratch, at_most, put_varint};
use crate::format::{
    ACCOUNT_KEY_BYTES, BASE_HEAD_BYTES, MAX_KEY_BYTES, MAX_RECORD_BYTES, PRINT_BYTES, entry_kind, page_flag,
    record_kind,
};

/// Pages of up to so many entries are searched from front to back.
const SCANNED: usize = 64;

/// A base, read in place.
#[derive(Clone, Copy)]
pub(crate) struct Base<'a> {
    segment: u32,
    newest: u64,
    pub(crate) depth: usize,
    pub(crate) len: usize,
    /// Bytes of the whole record.
    pub(crate) size: usize,
    wide: bool,
    prints: &'a [u8],
    ends: &'a [u8],
    entries: &'a [u8],
}

/// An entry, up to what is there.
pub(crate) struct Head<'a> {
    kind: u8,
    pub(crate) below: bool,
    pub(crate) end: usize,
    pub(crate) tail: &'a [u8],
    rest: Reader<'a>,
}

impl Head<'_> {
    pub(crate) fn is_child(&self) -> bool {
        self.kind == entry_kind::CHILD
    }
}

/// Where a key is in a base.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// The entry of the key, or of the page that it lies in.
    pub(crate) entry: Option<usize>,
    /// The entry of the account that a longer key lies below.
    pub(crate) account: Option<usize>,
}

impl<'a> Base<'a> {
    /// Reads the frame of a record of `segment`.
    #[inline]
    pub(crate) fn parse(record: &'a [u8], segment: u32) -> Result<Self, Bad> {
        let mut reader = Reader::new(record);
        if reader.u8()? != record_kind::BASE {
            return Err(Bad::new("not a base"));
        }
        let flags = reader.u8()?;
        if flags & !page_flag::WIDE_ENDS != 0 {
            return Err(Bad::new("unknown flags"));
        }
        let wide = flags & page_flag::WIDE_ENDS != 0;
        let len = usize::from(reader.u16()?);
        let depth = usize::from(reader.u16()?);
        let newest = reader.u64()?;
        let prints = reader.take(len * PRINT_BYTES)?;
        let ends = reader.take(len * if wide { 4 } else { 2 })?;
        if depth > MAX_KEY_BYTES * 2 {
            return Err(Bad::new("a page below the longest key"));
        }
        Ok(Self {
            segment,
            newest,
            depth,
            len,
            size: record.len(),
            wide,
            prints,
            ends,
            entries: reader.rest(),
        })
    }

    #[inline]
    fn print_at(&self, index: usize) -> u16 {
        let bytes = self.prints.get(index * PRINT_BYTES..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes))
    }

    #[inline]
    fn raw(&self, index: usize) -> Option<&'a [u8]> {
        let start = if index == 0 { 0 } else { end_at(self.ends, index - 1, self.wide)? };
        self.entries.get(start..end_at(self.ends, index, self.wide)?)
    }

    /// Bytes of an entry.
    pub(crate) fn size_of(&self, index: usize) -> usize {
        self.raw(index).map_or(0, <[u8]>::len)
    }

    #[inline]
    pub(crate) fn head(&self, index: usize) -> Result<Head<'a>, Bad> {
        let raw = self.raw(index).ok_or(Bad::new("impossible ends in a base"))?;
        let mut reader = Reader::new(raw);
        let first = reader.u8()?;
        let below = first & entry_kind::BELOW != 0;
        let end = reader.size(MAX_KEY_BYTES * 2)?;
        let len = tail_len(self.depth, below, end).ok_or(Bad::new("an entry above its page"))?;
        let tail = reader.take(len)?;
        Ok(Head { kind: first & !entry_kind::BELOW, below, end, tail, rest: reader })
    }

    pub(crate) fn item(&self, head: &Head<'a>) -> Result<Stored<'a>, Bad> {
        Stored::decode(head.kind, self.newest, self.segment, &mut head.rest.clone())
    }

    /// The first entry whose print is not below `target`.
    #[inline]
    fn lower_bound(&self, target: u16) -> usize {
        if self.len <= SCANNED {
            let (pairs, _) = self.prints.as_chunks::<PRINT_BYTES>();
            return pairs.iter().filter(|pair| u16::from_le_bytes(**pair) < target).count();
        }
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = (low + high) / 2;
            if self.print_at(middle) < target { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Finds `key`, which must lie under the page's stem. At most one entry of a page meets a key: its own, or a page that all
    /// keys with some prefix are in.
    pub(crate) fn locate(&self, key: &[u8]) -> Result<Located, Bad> {
        let first = self.depth / 2;
        let rest = key.get(first..).unwrap_or_default();
        let below = key.get(ACCOUNT_KEY_BYTES..).filter(|rest| !rest.is_empty());
        let account = key.get(first..ACCOUNT_KEY_BYTES);
        let target = print(rest, self.depth);
        let start = self.lower_bound(target);
        let mut located = Located::default();
        let mut in_account = false;
        for index in (start..self.len).take_while(|index| self.print_at(*index) == target) {
            let head = self.head(index)?;
            let nibbles = head.end - 2 * tail_start(self.depth, head.below);
            let met = if head.below {
                in_account && below.is_some_and(|rest| meets(head.tail, nibbles, head.is_child(), rest))
            } else {
                in_account = below.is_some() && head.place(&[]).is_account() && Some(head.tail) == account;
                if in_account {
                    located.account = Some(index);
                }
                meets(head.tail, nibbles, head.is_child(), rest)
            };
            if met {
                located.entry = Some(index);
                return Ok(located);
            }
        }
        // A child whose path ends within the print has a smaller one, and is then the last before the key.
        if let (None, Some(before)) = (located.account, start.checked_sub(1)) {
            let head = self.head(before)?;
            let nibbles = head.end - 2 * tail_start(self.depth, head.below);
            if !head.below && head.is_child() && meets(head.tail, nibbles, true, rest) {
                located.entry = Some(before);
            }
        }
        Ok(located)
    }
}

impl<'a> Head<'a> {
    /// Its place, where the account before it has the tail `account`.
    pub(crate) fn place(&self, account: &'a [u8]) -> Place<'a> {
        let account = if self.below { account } else { &[] };
        Place { account, below: self.below, end: self.end, tail: self.tail, child: self.is_child() }
    }
}

/// Entry `index` of an array of ends.
#[inline]
pub(crate) fn end_at(ends: &[u8], index: usize, wide: bool) -> Option<usize> {
    Some(if wide {
        u32::from_le_bytes(*ends.get(index * 4..)?.first_chunk()?) as usize
    } else {
        usize::from(u16::from_le_bytes(*ends.get(index * 2..)?.first_chunk()?))
    })
}

/// Appends an array of ends.
pub(crate) fn put_ends(ends: &[u32], wide: bool, out: &mut Vec<u8>) {
    for end in ends {
        if wide {
            out.extend_from_slice(&end.to_le_bytes());
        } else {
            out.extend_from_slice(&(*end as u16).to_le_bytes());
        }
    }
}

/// Whether the last of `ends` needs four bytes.
pub(crate) fn needs_wide(ends: &[u32]) -> bool {
    ends.last().is_some_and(|end| *end > u32::from(u16::MAX))
}

/// A base of `entries`, which are in order, as a record of `segment`.
pub(crate) fn encode(
    depth: usize,
    entries: &[(Place<'_>, Stored<'_>)],
    segment: u32,
    scratch: &mut Scratch,
) -> Result<()> {
    at_most("a page's entries", entries.len(), usize::from(u16::MAX))?;
    let newest = entries.iter().map(|(_, item)| item.newest()).max().unwrap_or(0);
    scratch.clear();
    let Scratch { heads: prints, ends, bytes, record: out } = scratch;
    let mut last_print = 0;
    for (place, item) in entries {
        if !place.below {
            last_print = print(place.tail, depth);
        }
        prints.extend_from_slice(&last_print.to_le_bytes());
        bytes.push(item.kind() | if place.below { entry_kind::BELOW } else { 0 });
        put_varint(place.end as u64, bytes);
        bytes.extend_from_slice(place.tail);
        item.encode(newest, segment, bytes)?;
        at_most("a page", bytes.len(), MAX_RECORD_BYTES)?;
        ends.push(bytes.len() as u32);
    }
    let wide = needs_wide(ends);
    out.push(record_kind::BASE);
    out.push(if wide { page_flag::WIDE_ENDS } else { 0 });
    out.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    out.extend_from_slice(&(depth as u16).to_le_bytes());
    out.extend_from_slice(&newest.to_le_bytes());
    debug_assert_eq!(out.len(), BASE_HEAD_BYTES);
    out.extend_from_slice(prints);
    put_ends(ends, wide, out);
    out.extend_from_slice(bytes);
    Ok(())
}
