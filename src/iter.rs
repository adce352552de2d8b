//! Ordered scans of one version.

use std::ops::Bound;

use bristlecone_trie::page::ACCOUNT_BYTES;
use bristlecone_trie::{Account, B256, Shape, U256};

use crate::cursor::{Cursor, Met, What};
use crate::snapshot::{Snapshot, View};
use crate::{Error, Result};

/// Which keys a scan gives, as the trie has them: hashed, where the namespace hashes keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// The keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        // The end is the next string of that length, if there is one.
        let mut next = prefix.to_vec();
        while next.last() == Some(&0xff) {
            next.pop();
        }
        let end = match next.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(next)
            }
            None => Bound::Unbounded,
        };
        Self { start: Bound::Included(prefix.to_vec()), end }
    }

    /// The keys between two bounds.
    pub fn between(start: Bound<&[u8]>, end: Bound<&[u8]>) -> Self {
        Self { start: start.map(<[u8]>::to_vec), end: end.map(<[u8]>::to_vec) }
    }

    fn before(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Unbounded => false,
            Bound::Included(start) => key < &start[..],
            Bound::Excluded(start) => key <= &start[..],
        }
    }

    fn after(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Unbounded => false,
            Bound::Included(end) => key > &end[..],
            Bound::Excluded(end) => key >= &end[..],
        }
    }

    /// Whether no key that starts with the whole bytes `stem` can lie in the range.
    fn skips(&self, stem: &[u8]) -> bool {
        let start = match &self.start {
            Bound::Unbounded => &[][..],
            Bound::Included(start) | Bound::Excluded(start) => start,
        };
        stem < start && !start.starts_with(stem)
    }
}

/// One entry of a scan.
struct Visited {
    key: Vec<u8>,
    value: Vec<u8>,
    is_account: bool,
}

/// Walks the pages of one version in key order; holds copies of the pages on the way only.
struct Scan {
    cursor: Cursor,
    range: KeyRange,
    done: bool,
}

impl Scan {
    fn new(view: &View<'_>, range: KeyRange) -> Result<Self> {
        Ok(Self { cursor: Cursor::new(view)?, range, done: false })
    }

    fn step(&mut self) -> Result<Option<Visited>> {
        while let Some(Met { key, end, what }) = self.cursor.next()? {
            let (value, is_account) = match what {
                What::Page(word) => {
                    if !self.range.skips(key.get(..end / 2).unwrap_or(&key)) {
                        self.cursor.enter(word, key)?;
                    }
                    continue;
                }
                What::Value { bytes, is_account, .. } => (bytes, is_account),
            };
            if self.range.after(&key) {
                self.cursor.stop();
                return Ok(None);
            }
            if !self.range.before(&key) {
                return Ok(Some(Visited { key, value, is_account }));
            }
        }
        Ok(None)
    }

    /// The next entry that `take` wants.
    fn next_where(&mut self, take: impl Fn(&Visited) -> bool) -> Option<Result<Visited>> {
        while !self.done {
            match self.step() {
                Ok(None) => self.done = true,
                Ok(Some(visited)) if take(&visited) => return Some(Ok(visited)),
                Ok(Some(_)) => {}
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Flat keys and their values in key order.
pub struct Entries(Scan);

impl Iterator for Entries {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.next_where(|_| true)?;
        Some(next.map(|visited| (visited.key, visited.value)))
    }
}

/// Accounts by their trie keys, in order, without their storage.
pub struct Accounts(Scan);

impl Iterator for Accounts {
    type Item = Result<(B256, Account)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.next_where(|visited| visited.is_account)?;
        Some(next.and_then(|visited| {
            let damaged = || Error::Damaged { what: "an account".into() };
            let key = B256::try_from(&visited.key[..]).map_err(|_| damaged())?;
            Ok((key, Account::decode(&visited.value).ok_or_else(damaged)?))
        }))
    }
}

/// The slots of an account by their trie keys, in order.
pub struct Slots(Scan);

impl Iterator for Slots {
    type Item = Result<(B256, U256)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.next_where(|visited| !visited.is_account)?;
        Some(next.and_then(|visited| {
            let damaged = || Error::Damaged { what: "a slot".into() };
            let key = visited.key.get(ACCOUNT_BYTES..).and_then(|key| B256::try_from(key).ok());
            let value = U256::try_from_be_slice(&visited.value).ok_or_else(damaged)?;
            Ok((key.ok_or_else(damaged)?, value))
        }))
    }
}

impl Snapshot {
    /// See [`View::iter`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn iter(&self, range: KeyRange) -> Result<Entries> {
        self.first().iter(range)
    }

    /// See [`View::iter_accounts`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn iter_accounts(&self) -> Result<Accounts> {
        self.first().iter_accounts()
    }

    /// See [`View::iter_slots`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn iter_slots(&self, address: &[u8]) -> Result<Slots> {
        self.first().iter_slots(address)
    }
}

impl View<'_> {
    fn check_shape(&self, shape: Shape, what: &'static str) -> Result<()> {
        // Any key of 32 bytes will do: only the shape is asked about.
        self.key(shape, what, &[0; ACCOUNT_BYTES]).map(|_| ())
    }

    /// The flat keys in `range`, in the order of the keys as the trie has them. Streams: memory holds the
    /// pages on the way to the current key.
    ///
    /// # Errors
    ///
    /// [`Error::WrongShape`] in a namespace of accounts; the iterator ends with an error on damage.
    pub fn iter(&self, range: KeyRange) -> Result<Entries> {
        self.check_shape(Shape::Flat, "a scan of flat keys")?;
        Ok(Entries(Scan::new(self, range)?))
    }

    /// All accounts, in the order of their trie keys.
    ///
    /// # Errors
    ///
    /// [`Error::WrongShape`] in a flat namespace; the iterator ends with an error on damage.
    pub fn iter_accounts(&self) -> Result<Accounts> {
        self.check_shape(Shape::Accounts, "a scan of accounts")?;
        Ok(Accounts(Scan::new(self, KeyRange::all())?))
    }

    /// All slots of an account, in the order of their trie keys; none for an absent account.
    ///
    /// # Errors
    ///
    /// As [`iter_accounts`](Self::iter_accounts).
    pub fn iter_slots(&self, address: &[u8]) -> Result<Slots> {
        let key = self.trie_account(address)?;
        Ok(Slots(Scan::new(self, KeyRange::prefix(key.as_slice()))?))
    }
}
