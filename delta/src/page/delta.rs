//! A delta: what changed in a page since the record before it.
//!
//! ```text
//! kind u8 = 2 | flags u8 | depth u16 | base | record before it, what is earlier u64 (both unless flag 4: that is the base) | newest stamp varint
//! placed varint | spelled varint
//! positions  u8 × placed (u16 with flag 2), ascending: of entries in the base
//! ends       u16 × all operations (u32 with flag 1)
//! placed…    kind u8 | what is there
//! spelled…   kind u8 | end varint | account | tail | what is there
//! account    (only below one) position in the base + 1 varint, or 0 varint and the account's key from the page's first byte on
//! ```
//!
//! An operation is *placed* where the base has an entry at its place, removed since or not, and *spelled* otherwise. A leaf or account
//! and a page are never at the same place, even with the same path: one goes and the other comes.
//!
//! *What is earlier* has a bit for each of the base's first 64 positions: whether a delta before this one has an operation there. Where the base has an
//! entry for a key, or the page that the key lies in, nothing comes for that key without an operation on that entry. So a read that finds
//! nothing here and no bit goes to the base at once.

use super::Chain;
use super::base::{Base, Located, end_at, needs_wide, put_ends};
use super::entry::{Place, Stored, meets, tail_len, tail_start};
use crate::codec::{Bad, Reader, Scratch, at_most, put_locator, put_varint};
use crate::format::{ACCOUNT_KEY_BYTES, MAX_KEY_BYTES, MAX_RECORD_BYTES, entry_kind, page_flag, record_kind};
use crate::{Locator, Result};

/// A delta, read in place.
#[derive(Clone, Copy)]
pub(crate) struct Delta<'a> {
    segment: u32,
    newest: u64,
    pub(crate) depth: usize,
    pub(crate) base: Locator,
    /// The record before it, which may be the base.
    pub(crate) previous: Locator,
    /// Which of the base's first positions the deltas before it have operations on.
    pub(crate) earlier: u64,
    pub(crate) placed: usize,
    pub(crate) spelled: usize,
    /// Bytes of the whole record.
    pub(crate) size: usize,
    wide_positions: bool,
    wide_ends: bool,
    positions: &'a [u8],
    ends: &'a [u8],
    ops: &'a [u8],
}

/// So many positions of the base have a bit.
const TOLD: usize = u64::BITS as usize;

/// The bit of a position; none for those that have none.
fn bit(position: usize) -> u64 {
    if position < TOLD { 1 << position } else { 0 }
}

/// What a delta says of a key.
pub(crate) enum Says<'a> {
    Nothing,
    Gone,
    Now(Stored<'a>),
}

/// How a spelled operation names the account that it lies below.
enum Account<'a> {
    None,
    Position(usize),
    Key(&'a [u8]),
}

/// A spelled operation.
struct Spelled<'a> {
    kind: u8,
    below: bool,
    child: bool,
    end: usize,
    account: Account<'a>,
    tail: &'a [u8],
    rest: Reader<'a>,
}

impl<'a> Delta<'a> {
    /// Reads the frame of the record at `own`.
    #[inline]
    pub(crate) fn parse(record: &'a [u8], own: Locator) -> Result<Self, Bad> {
        let mut reader = Reader::new(record);
        if reader.u8()? != record_kind::DELTA {
            return Err(Bad::new("not a delta"));
        }
        let flags = reader.u8()?;
        if flags & !(page_flag::WIDE_ENDS | page_flag::WIDE_POSITIONS | page_flag::FIRST) != 0 {
            return Err(Bad::new("unknown flags"));
        }
        let (wide_ends, wide_positions) =
            (flags & page_flag::WIDE_ENDS != 0, flags & page_flag::WIDE_POSITIONS != 0);
        let depth = usize::from(reader.u16()?);
        let base = reader.locator(own.segment())?;
        let is_first = flags & page_flag::FIRST != 0;
        let previous = if is_first { base } else { reader.locator(own.segment())? };
        let earlier = if is_first { 0 } else { reader.u64()? };
        // Chains go backwards, so that every walk ends.
        if base > previous || previous >= own || !is_first && base == previous {
            return Err(reader.bad("a delta does not come after the record before it"));
        }
        let newest = reader.varint()?;
        let placed = reader.count(2)?;
        let spelled = reader.count(2)?;
        let positions = reader.take(placed.saturating_mul(if wide_positions { 2 } else { 1 }))?;
        let ends =
            reader.take(placed.saturating_add(spelled).saturating_mul(if wide_ends { 4 } else { 2 }))?;
        Ok(Self {
            segment: own.segment(),
            newest,
            depth,
            base,
            previous,
            earlier,
            placed,
            spelled,
            size: record.len(),
            wide_positions,
            wide_ends,
            positions,
            ends,
            ops: reader.rest(),
        })
    }

    /// The position in the base of a placed operation.
    fn position(&self, index: usize) -> usize {
        let read = if self.wide_positions {
            self.positions
                .get(index * 2..)
                .and_then(|bytes| bytes.first_chunk())
                .map(|b| u16::from_le_bytes(*b))
        } else {
            self.positions.get(index).map(|byte| u16::from(*byte))
        };
        read.map_or(usize::MAX, usize::from)
    }

    /// Which of the base's first positions it and the deltas before it have operations on.
    pub(crate) fn touched(&self) -> u64 {
        (0..self.placed).fold(self.earlier, |bits, index| bits | bit(self.position(index)))
    }

    /// Whether no delta before it says anything of the key that is at `located` in the base.
    #[inline]
    pub(crate) fn is_silent_before(&self, located: Located) -> bool {
        located.entry.is_some_and(|position| position < TOLD && self.earlier & bit(position) == 0)
    }

    fn raw(&self, index: usize) -> Result<Reader<'a>, Bad> {
        let range = || {
            let start = if index == 0 { 0 } else { end_at(self.ends, index - 1, self.wide_ends)? };
            self.ops.get(start..end_at(self.ends, index, self.wide_ends)?)
        };
        range().map(Reader::new).ok_or(Bad::new("impossible ends in a delta"))
    }

    /// What is there: `None` where nothing is any more.
    fn item(&self, kind: u8, reader: &mut Reader<'a>) -> Result<Option<Stored<'a>>, Bad> {
        if kind == entry_kind::REMOVED {
            reader.end()?;
            return Ok(None);
        }
        Stored::decode(kind, self.newest, self.segment, reader).map(Some)
    }

    /// Placed operation `index`: its position in the base, and what is there now.
    pub(crate) fn placed(&self, index: usize) -> Result<(usize, Option<Stored<'a>>), Bad> {
        let mut reader = self.raw(index)?;
        let kind = reader.u8()?;
        Ok((self.position(index), self.item(kind, &mut reader)?))
    }

    #[inline]
    fn spelled_head(&self, index: usize) -> Result<Spelled<'a>, Bad> {
        let mut reader = self.raw(self.placed + index)?;
        let first = reader.u8()?;
        let below = first & entry_kind::BELOW != 0;
        let kind = first & entry_kind::MASK;
        let was_child = first & entry_kind::WAS_CHILD != 0;
        if first & !(entry_kind::MASK | entry_kind::BELOW | entry_kind::WAS_CHILD) != 0
            || was_child && kind != entry_kind::REMOVED
        {
            return Err(reader.bad("no such operation"));
        }
        let end = reader.size(MAX_KEY_BYTES * 2)?;
        let len = tail_len(self.depth, below, end).ok_or(reader.bad("an entry above its page"))?;
        let account = match below {
            false => Account::None,
            true => match reader.size(usize::from(u16::MAX) + 1)?.checked_sub(1) {
                Some(position) => Account::Position(position),
                None => Account::Key(reader.take(ACCOUNT_KEY_BYTES.saturating_sub(self.depth / 2))?),
            },
        };
        let tail = reader.take(len)?;
        let child = kind == entry_kind::CHILD || was_child;
        Ok(Spelled { kind, below, child, end, account, tail, rest: reader })
    }

    /// Spelled operation `index`: its place, and what is there now.
    pub(crate) fn spelled(
        &self,
        index: usize,
        base: &Base<'a>,
    ) -> Result<(Place<'a>, Option<Stored<'a>>), Bad> {
        let mut head = self.spelled_head(index)?;
        let account = match head.account {
            Account::None => &[][..],
            Account::Key(key) => key,
            Account::Position(position) => {
                let account = base.head(position)?;
                if !account.place(&[]).is_account() {
                    return Err(Bad::new("an operation below what is no account"));
                }
                account.tail
            }
        };
        let place = Place { account, below: head.below, end: head.end, tail: head.tail, child: head.child };
        Ok((place, self.item(head.kind, &mut head.rest)?))
    }

    /// What is there now by spelled operation `index`.
    pub(crate) fn spelled_item(&self, index: usize) -> Result<Option<Stored<'a>>, Bad> {
        let mut head = self.spelled_head(index)?;
        self.item(head.kind, &mut head.rest)
    }

    /// Bytes of an operation, the spelled ones counted after the placed ones.
    pub(crate) fn size_of(&self, index: usize) -> usize {
        self.raw(index).map_or(0, |reader| reader.left())
    }

    /// What this delta says of `key`, which is at `located` in the base.
    pub(crate) fn says(&self, key: &[u8], located: Located) -> Result<Says<'a>, Bad> {
        let mut gone = false;
        if let Some(index) = located.entry.and_then(|position| self.placed_at(position)) {
            match self.placed(index)?.1 {
                Some(item) => return Ok(Says::Now(item)),
                None => gone = true,
            }
        }
        let first = self.depth / 2;
        let rest = key.get(first..).unwrap_or_default();
        let below = key.get(ACCOUNT_KEY_BYTES..).filter(|rest| !rest.is_empty());
        let account = key.get(first..ACCOUNT_KEY_BYTES);
        for index in 0..self.spelled {
            let mut head = self.spelled_head(index)?;
            let nibbles = head.end - 2 * tail_start(self.depth, head.below);
            let rest = match head.account {
                Account::None => Some(rest),
                Account::Key(key) => below.filter(|_| Some(key) == account),
                Account::Position(position) => below.filter(|_| located.account == Some(position)),
            };
            if rest.is_some_and(|rest| meets(head.tail, nibbles, head.child, rest)) {
                match self.item(head.kind, &mut head.rest)? {
                    Some(item) => return Ok(Says::Now(item)),
                    None => gone = true,
                }
            }
        }
        Ok(if gone { Says::Gone } else { Says::Nothing })
    }

    /// The placed operation on `position`.
    fn placed_at(&self, position: usize) -> Option<usize> {
        let (mut low, mut high) = (0, self.placed);
        while low < high {
            let middle = (low + high) / 2;
            if self.position(middle) < position { low = middle + 1 } else { high = middle }
        }
        (low < self.placed && self.position(low) == position).then_some(low)
    }
}

/// An operation at a place that the base does not have.
#[derive(PartialEq)]
pub(crate) struct NewPlace<'a> {
    pub(crate) place: Place<'a>,
    /// Where `below`: the account's position in the base, if it is there.
    pub(crate) account: Option<usize>,
    pub(crate) item: Option<Stored<'a>>,
}

/// What changed in a page, in order.
#[derive(Default)]
pub(crate) struct Changes<'a> {
    pub(crate) placed: Vec<(usize, Option<Stored<'a>>)>,
    pub(crate) spelled: Vec<NewPlace<'a>>,
    /// Where the entries of the page are in the base, as a [`Chain`](super::Chain) keeps it; empty where that is as before.
    pub(crate) positions: Vec<u16>,
}

impl Changes<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.placed.is_empty() && self.spelled.is_empty()
    }

    /// What [`Delta::touched`] will be, where the deltas before have operations on `earlier`.
    pub(crate) fn touched(&self, earlier: u64) -> u64 {
        self.placed.iter().fold(earlier, |bits, (position, _)| bits | bit(*position))
    }

    /// A delta after the newest record of `chain`, as a record of `segment`.
    pub(crate) fn encode(&self, chain: &Chain, segment: u32, scratch: &mut Scratch) -> Result<()> {
        let all = || self.placed.iter().map(|(_, item)| item).chain(self.spelled.iter().map(|op| &op.item));
        let newest = all().flatten().map(Stored::newest).max().unwrap_or(0);
        let wide_positions = self.placed.last().is_some_and(|(position, _)| *position > usize::from(u8::MAX));
        scratch.clear();
        let Scratch { heads: positions, ends, bytes, record: out } = scratch;
        let put = |item: &Option<Stored<'_>>, bytes: &mut Vec<u8>, ends: &mut Vec<u32>| {
            if let Some(item) = item {
                item.encode(newest, segment, bytes)?;
            }
            at_most("a page", bytes.len(), MAX_RECORD_BYTES)?;
            ends.push(bytes.len() as u32);
            Ok(())
        };
        for (position, item) in &self.placed {
            let low = (*position as u16).to_le_bytes();
            positions.extend_from_slice(if wide_positions { &low } else { low.get(..1).unwrap_or_default() });
            bytes.push(item.as_ref().map_or(entry_kind::REMOVED, Stored::kind));
            put(item, bytes, ends)?;
        }
        for op in &self.spelled {
            op.encode_head(bytes);
            put(&op.item, bytes, ends)?;
        }
        let wide_ends = needs_wide(ends);
        let (base, previous) = (chain.base, chain.newest);
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(wide_ends, page_flag::WIDE_ENDS)
            | flag(wide_positions, page_flag::WIDE_POSITIONS)
            | flag(base == previous, page_flag::FIRST);
        out.extend_from_slice(&[record_kind::DELTA, flags]);
        out.extend_from_slice(&chain.depth.to_le_bytes());
        put_locator(base, segment, out)?;
        if base != previous {
            put_locator(previous, segment, out)?;
            out.extend_from_slice(&chain.touched.to_le_bytes());
        }
        put_varint(newest, out);
        put_varint(self.placed.len() as u64, out);
        put_varint(self.spelled.len() as u64, out);
        out.extend_from_slice(positions);
        put_ends(ends, wide_ends, out);
        out.extend_from_slice(bytes);
        Ok(())
    }
}

impl NewPlace<'_> {
    fn encode_head(&self, out: &mut Vec<u8>) {
        let kind = match &self.item {
            Some(item) => item.kind(),
            None if self.place.child => entry_kind::REMOVED | entry_kind::WAS_CHILD,
            None => entry_kind::REMOVED,
        };
        out.push(kind | if self.place.below { entry_kind::BELOW } else { 0 });
        put_varint(self.place.end as u64, out);
        if self.place.below {
            put_varint(self.account.map_or(0, |position| position as u64 + 1), out);
            if self.account.is_none() {
                out.extend_from_slice(self.place.account);
            }
        }
        out.extend_from_slice(self.place.tail);
    }
}
