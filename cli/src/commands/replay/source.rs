//! Where blocks come from: an era1 file, or a file of RLP blocks one after the other.

use std::{
    fs::File,
    io::{BufReader, Read},
    ops::ControlFlow,
    path::Path,
};

use bristlecone_evm::{
    block::{Blocks, Transaction},
    era1::Era1,
};

use crate::{failure::Failure, interrupt, progress::Progress};

/// The largest file of RLP blocks that is read, in bytes: all of it is kept in memory.
const MAX_CHAIN_BYTES: u64 = 4 << 30;

/// A block whose senders are not known yet.
pub(super) type Block = alloy_consensus::Block<Transaction>;

/// Consecutive blocks.
#[derive(Debug)]
pub(super) enum Source {
    Era(Era1<BufReader<File>>),
    Chain(ChainFile),
}

/// A file of RLP blocks, and where each begins.
#[derive(Debug)]
pub(super) struct ChainFile {
    bytes: Vec<u8>,
    first: u64,
    offsets: Vec<u64>,
}

impl Source {
    /// Opens and verifies an era1 file, whole.
    pub(super) fn era(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let mut progress: Option<Progress> = None;
        let verified = Era1::verify(BufReader::new(file), |done, total| {
            let bar = progress.get_or_insert_with(|| Progress::new("verify", total));
            bar.at(done, || "bytes".to_owned());
            if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match verified {
            Err(bristlecone_evm::Error::Stopped) => {
                Err(Failure::interrupted("by request while the file was verified; nothing was changed"))
            }
            Err(error) => Err(not_whole(path, error.into())),
            Ok(era) => Ok(Self::Era(era)),
        }
    }

    /// Opens a file of RLP blocks. All of it must decode, and be one chain by its numbers.
    pub(super) fn chain(path: &Path) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let read = file.take(MAX_CHAIN_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| unreadable(path, &error))?;
        if bytes.len() as u64 > MAX_CHAIN_BYTES {
            return Err(not_whole(path, Failure::new(format!("more than {MAX_CHAIN_BYTES} bytes"))));
        }
        let (mut first, mut offsets) = (None, Vec::new());
        let mut blocks = Blocks::new(&bytes);
        loop {
            let offset = blocks.offset();
            let Some(block) = blocks.next() else { break };
            let number = block.map_err(|error| not_whole(path, error.into()))?.header.number;
            let due = first.map_or(number, |first: u64| first.saturating_add(offsets.len() as u64));
            if number != due {
                let message = format!("byte {offset}: block {number} where block {due} is due");
                return Err(not_whole(path, Failure::new(message)));
            }
            first.get_or_insert(number);
            offsets.push(offset);
        }
        let first = first.ok_or_else(|| not_whole(path, Failure::new("the file is empty")))?;
        Ok(Self::Chain(ChainFile { bytes, first, offsets }))
    }

    /// Number of the first block.
    pub(super) fn first(&self) -> u64 {
        match self {
            Self::Era(era) => era.first(),
            Self::Chain(chain) => chain.first,
        }
    }

    /// Number of the last block.
    pub(super) fn last(&self) -> u64 {
        match self {
            Self::Era(era) => era.last(),
            Self::Chain(chain) => chain.first + (chain.offsets.len() as u64).saturating_sub(1),
        }
    }

    /// Block `number`.
    pub(super) fn block(&mut self, number: u64) -> Result<Block, Failure> {
        let found = match self {
            Self::Era(era) => era.block(number)?.map(|block| block.block),
            Self::Chain(chain) => chain.block(number).transpose()?,
        };
        found.ok_or_else(|| Failure::new(format!("the file does not hold block {number}")))
    }
}

impl ChainFile {
    fn block(&self, number: u64) -> Option<Result<Block, bristlecone_evm::Error>> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let offset = usize::try_from(*self.offsets.get(index)?).ok()?;
        Blocks::new(self.bytes.get(offset..)?).next()
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}: {error}", path.display()))
}

fn not_whole(path: &Path, failure: Failure) -> Failure {
    failure.hint(format!("nothing was applied; is {} whole?", path.display()))
}
