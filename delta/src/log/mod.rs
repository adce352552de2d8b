//! The batch log: what makes a commit durable before it is sealed.
use bristlecone_trie::B256;

use crate::{Result, Sealed, Stamp};

/// A place between two records of the batch log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPosition {
    /// The log file's number.
    pub file: u64,
    /// Bytes from its start.
    pub offset: u64,
    /// Number of the record that starts here.
    pub sequence: u64,
    /// Checksum of the record that ends here.
    pub checksum: u64,
}

/// The one writer of the batch log.
#[derive(Debug)]
pub struct Log {}

impl Log {
    /// Writes a commit; durable after the next [`sync`](Self::sync). `payload` is what [`encode_ops`](crate::encode_ops) made
    /// (it is not looked at). Answers with the position behind it, for [`Seal::log_position`](crate::Seal::log_position).
    ///
    /// # Errors
    /// `Io`, after which the log is `Poisoned`; `TooLarge`.
    pub fn append_batch(
        &mut self,
        version: u64,
        stamp: Stamp,
        parent: Option<Stamp>,
        payload: &[u8],
    ) -> Result<LogPosition> {
        let _ = (version, stamp, parent, payload);
        todo!()
    }

    /// Writes that the store's root at `stamp` is `root`; durable after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn append_root(&mut self, stamp: Stamp, root: B256) -> Result<LogPosition> {
        let _ = (stamp, root);
        todo!()
    }

    /// Makes everything appended so far durable. One call covers any number of appends.
    ///
    /// # Errors
    /// `Io`, after which the log is `Poisoned`: a failed sync is never tried again.
    pub fn sync(&mut self) -> Result<()> {
        todo!()
    }

    /// Where the next record goes.
    pub fn position(&self) -> LogPosition {
        todo!()
    }

    /// Gives the files that `sealed` covers whole back for use by later records.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn release(&mut self, sealed: &Sealed) -> Result<()> {
        let _ = sealed;
        todo!()
    }

    /// Bytes of log that no seal covers yet.
    pub fn unsealed_bytes(&self) -> u64 {
        todo!()
    }

    /// Ends the log: the next opening finds that nothing is missing, and copies nothing.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn close(self) -> Result<()> {
        todo!()
    }
}
