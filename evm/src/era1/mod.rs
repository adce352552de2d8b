//! era1 files: up to 8,192 blocks from before the Merge, in the e2store format of the history archive
//! (<https://github.com/ethereum/go-ethereum/blob/master/internal/era>).
//!
//! A file is, in this order, a version entry, four entries for each block (header, body, receipts, total
//! difficulty), an accumulator over all of them, and an index. [`Era1::verify`] checks the whole file before it
//! gives out the first block: framing, snappy checksums, RLP, consecutive numbers, parent hashes,
//! transaction, receipt and uncle roots against the headers, the sums of difficulties, the accumulator and
//! the index. Only proof of work is not checked, and seals.
//!
//! Memory stays bounded whatever a file says: one block at a time is held, each of its parts at most
//! [`MAX_PART_BYTES`], and 64 bytes for each of at most 8,192 blocks.
//!
//! One kind of damage passes: compressed bytes that were changed into others which decompress to the very
//! same content. What the blocks say is then right all the same.

mod accumulator;
mod block;
mod entry;

use std::{
    io::{Read, Seek},
    ops::ControlFlow,
};

use alloy_primitives::{B256, U256};

pub use block::Block;
pub use entry::MAX_PART_BYTES;

use crate::{Era1Fault, Error};
use accumulator::HeaderRecord;
use entry::{Entries, Kind};

/// The most blocks that a file holds.
pub const MAX_BLOCKS: u64 = 8192;

/// A verified era1 file.
#[derive(Debug)]
pub struct Era1<R> {
    entries: Entries<R>,
    first: u64,
    blocks: Vec<Verified>,
    accumulator: B256,
}

/// What is kept of a block between verification and use.
#[derive(Debug)]
struct Verified {
    offset: u64,
    hash: B256,
}

impl<R: Read + Seek> Era1<R> {
    /// Reads and checks all of `file`. `progress` is called after each block with the bytes done and the
    /// bytes in all; when it breaks, this ends with [`Error::Stopped`].
    ///
    /// Costs one pass: some 30 µs for a block without transactions.
    pub fn verify(file: R, mut progress: impl FnMut(u64, u64) -> ControlFlow<()>) -> Result<Self, Error> {
        let mut entries = Entries::new(file)?;
        entries.expect(Kind::Version, "version")?;
        let mut blocks: Vec<Verified> = Vec::new();
        let mut records: Vec<HeaderRecord> = Vec::new();
        let mut previous: Option<Block> = None;
        while entries.peek()? == Some(Kind::Header as u16) {
            let offset = entries.offset();
            if blocks.len() as u64 == MAX_BLOCKS {
                return Err(entries.fault("header", Era1Fault::Blocks(MAX_BLOCKS + 1)));
            }
            let block = block::read(&mut entries, previous.as_ref())?;
            blocks.push(Verified { offset, hash: block.hash });
            records.push(HeaderRecord { hash: block.hash, total_difficulty: block.total_difficulty });
            previous = Some(block);
            if progress(entries.offset(), entries.len()).is_break() {
                return Err(Error::Stopped);
            }
        }
        let Some(last) = previous else {
            // Whatever is here is not a header, or the file ends.
            entries.expect(Kind::Header, "first header")?;
            return Err(entries.fault("first header", Era1Fault::Blocks(0)));
        };
        let first = last.block.header.number.saturating_sub((blocks.len() as u64).saturating_sub(1));
        let stated = entries.fixed::<32>(Kind::Accumulator, "accumulator")?;
        let accumulator = accumulator::root(&records);
        if stated != accumulator.0 {
            let fault =
                Era1Fault::Hash { what: "the accumulator", expected: B256::new(stated), got: accumulator };
            return Err(entries.fault("accumulator", fault));
        }
        check_index(&mut entries, first, &blocks)?;
        entries.end()?;
        Ok(Self { entries, first, blocks, accumulator })
    }

    /// Number of the first block.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Number of the last block.
    pub fn last(&self) -> u64 {
        self.first.saturating_add((self.blocks.len() as u64).saturating_sub(1))
    }

    /// The root over all block hashes and total difficulties; file names carry its first four bytes.
    pub fn accumulator(&self) -> B256 {
        self.accumulator
    }

    /// Reads block `number`; `None` if the file does not hold it. It is checked once more against the hash
    /// that was verified, in case the file was changed meanwhile.
    pub fn block(&mut self, number: u64) -> Result<Option<Block>, Error> {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(verified) = index.and_then(|index| self.blocks.get(index)) else {
            return Ok(None);
        };
        let expected = verified.hash;
        self.entries.seek(verified.offset)?;
        let block = block::read(&mut self.entries, None)?;
        if block.hash != expected {
            let what = "the hash of a block, since it was verified,";
            let fault = Era1Fault::Hash { what, expected, got: block.hash };
            return Err(self.entries.fault(&format!("block {number}"), fault));
        }
        Ok(Some(block))
    }
}

/// The index: number of the first block, the offset of each block's header from the index, their number.
fn check_index<R: Read + Seek>(
    entries: &mut Entries<R>,
    first: u64,
    blocks: &[Verified],
) -> Result<(), Error> {
    const ENTRY: &str = "block index";
    let base = i128::from(entries.offset());
    let count = blocks.len() as u64;
    let data = entries.exact(Kind::BlockIndex, 16 + 8 * count, ENTRY)?;
    let (words, _) = data.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let expect = |what: String, expected: i128, word: Option<u64>, signed: bool| {
        let word = word.unwrap_or_default();
        let got = if signed { i128::from(word.cast_signed()) } else { i128::from(word) };
        if got == expected {
            Ok(())
        } else {
            Err(entries.fault(ENTRY, Era1Fault::Index { what, expected, got }))
        }
    };
    expect("the first block".into(), i128::from(first), words.next(), false)?;
    for (number, block) in (first..).zip(blocks) {
        let what = format!("the offset of block {number}");
        expect(what, i128::from(block.offset) - base, words.next(), true)?;
    }
    expect("the number of blocks".into(), i128::from(count), words.next(), false)
}

/// The difference in total difficulty that a block must make.
fn next_total(previous: Option<&Block>, block_difficulty: U256, stated: U256, number: u64) -> Option<U256> {
    match previous {
        Some(previous) => Some(previous.total_difficulty.wrapping_add(block_difficulty)),
        None if number == 0 => Some(block_difficulty),
        // The first block of a later file: its total is covered by the accumulator only.
        None => (stated < block_difficulty).then_some(block_difficulty),
    }
}
