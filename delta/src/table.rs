//! The run table: operations of a run that its end state does not show.
use bristlecone_trie::Change;

use crate::{GroupWriter, Locator, Result, Segments, Stamp};

/// One operation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOp<'a> {
    /// The key, whole.
    pub key: &'a [u8],
    /// The commit.
    pub stamp: Stamp,
    /// What it did.
    pub change: Change<'a>,
}

impl GroupWriter<'_> {
    /// Writes a run table: `ops` strictly ascending by (key, stamp).
    ///
    /// # Errors
    /// `Invalid` where the order does not hold, `TooLarge`, `Io`.
    pub fn put_table(&mut self, ops: &[TableOp<'_>]) -> Result<Locator> {
        let _ = ops;
        todo!()
    }
}

/// A run table, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    _bytes: &'a [u8],
}

impl<'a> Table<'a> {
    /// How many operations.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The operation at `index`; `None` past the end.
    pub fn get(&self, index: usize) -> Result<Option<TableOp<'a>>> {
        let _ = index;
        todo!()
    }

    /// The index of the first operation that is not before (`key`, `stamp`). A binary search.
    pub fn lower_bound(&self, key: &[u8], stamp: Stamp) -> Result<usize> {
        let _ = (key, stamp);
        todo!()
    }

    /// All operations in order, from `index` on.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = Result<TableOp<'a>>> + use<'a> {
        let table = *self;
        (index..self.len()).filter_map(move |index| table.get(index).transpose())
    }
}

impl Segments {
    /// The run table at `table`, ready to search or to walk.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn table(&self, table: Locator) -> Result<Table<'_>> {
        let _ = table;
        todo!()
    }

    /// The newest operation on exactly `key` with a stamp of at most `stamp`.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn find_in_table(&self, table: Locator, key: &[u8], stamp: Stamp) -> Result<Option<TableOp<'_>>> {
        let _ = (table, key, stamp);
        todo!()
    }
}
