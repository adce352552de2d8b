//! What differs between two versions, in proportion to the difference.
//!
//! Both versions are walked in key order, side by side. A page that is the same record, or the same page in memory, on both sides is
//! passed by with all that lies below it. Where the heads differ, the one that lies on the way to the other is opened, or
//! else the lesser of the two. So it does not matter that the two versions may be cut into pages at different places.

use std::cmp::Ordering;

use bristlecone_trie::Shape;

use crate::cursor::{Cursor, Met, What};
use crate::reference::Reference;
use crate::snapshot::{Snapshot, View};
use crate::value::{StoredKey, Value};
use crate::{Error, Result, Store};

/// A key with different values in two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key, as the trie has it.
    pub key: StoredKey,
    /// Its value in the first version; `None` where it has none.
    pub before: Option<Value>,
    /// Its value in the second version.
    pub after: Option<Value>,
}

/// The keys that differ between two versions, in the order of the keys as the trie has them: an account, its slots, the next
/// account. Streams: memory holds the pages on the way to the current key, of both versions.
pub struct Diff {
    shape: Shape,
    before: Side,
    after: Side,
    done: bool,
}

impl std::fmt::Debug for Diff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let versions = (self.before.cursor.snapshot.version(), self.after.cursor.snapshot.version());
        f.debug_struct("Diff").field("versions", &versions).field("pages", &self.pages_read()).finish()
    }
}

/// One of the two versions, and the entry that is next there.
struct Side {
    cursor: Cursor,
    head: Option<Met>,
}

impl Side {
    fn new(view: &View<'_>) -> Result<Self> {
        let mut cursor = Cursor::new(view)?;
        let head = cursor.next()?;
        Ok(Self { cursor, head })
    }

    /// Takes the head; if it is a page, opens it instead.
    fn advance(&mut self) -> Result<Option<Leaf>> {
        let taken = match self.head.take() {
            Some(Met { key, what: What::Page(word), .. }) => {
                self.cursor.enter(word, key)?;
                None
            }
            Some(Met { key, what: What::Value { stamp, bytes, .. }, .. }) => Some(Leaf { key, stamp, bytes }),
            None => None,
        };
        self.head = self.cursor.next()?;
        Ok(taken)
    }

    fn page(&self) -> Option<u64> {
        match self.head.as_ref()?.what {
            What::Page(word) => Some(word),
            What::Value { .. } => None,
        }
    }
}

/// A key with its value.
struct Leaf {
    key: Vec<u8>,
    stamp: u64,
    bytes: Vec<u8>,
}

impl Diff {
    fn new(before: &View<'_>, after: &View<'_>) -> Result<Self> {
        let same_store = std::sync::Arc::ptr_eq(&before.snapshot.inner, &after.snapshot.inner);
        if !same_store || before.space != after.space {
            let reason = "both versions must be of one namespace of one open store";
            return Err(Error::BadOption { option: "diff", reason: reason.into() });
        }
        let shape = before.info().shape;
        Ok(Self { shape, before: Side::new(before)?, after: Side::new(after)?, done: false })
    }

    /// Pages that were read so far, of both versions: the cost.
    pub fn pages_read(&self) -> u64 {
        self.before.cursor.pages + self.after.cursor.pages
    }

    /// Whether both heads are one page.
    fn is_same_page(&self) -> bool {
        let (Some(a), Some(b)) = (self.before.page(), self.after.page()) else { return false };
        let scratch = |word| matches!(Reference::from_word(word), Some(Reference::Scratch(_)));
        if scratch(a) || scratch(b) {
            return false;
        }
        let core = &self.after.cursor.snapshot.inner.core;
        a == b || core.locator(a).is_some_and(|locator| core.locator(b) == Some(locator))
    }

    fn step(&mut self) -> Result<Option<Difference>> {
        loop {
            if self.is_same_page() {
                self.before.head = self.before.cursor.next()?;
                self.after.head = self.after.cursor.next()?;
                continue;
            }
            let order = match (&self.before.head, &self.after.head) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.order(b),
            };
            // A page that is as far as the other head is opened alone: what it holds is further, or is that head.
            let alone =
                order == Ordering::Equal && self.before.page().is_some() != self.after.page().is_some();
            let (before, after) = match order {
                Ordering::Less => (self.before.advance()?, None),
                Ordering::Greater => (None, self.after.advance()?),
                Ordering::Equal if alone && self.before.page().is_some() => (self.before.advance()?, None),
                Ordering::Equal if alone => (None, self.after.advance()?),
                Ordering::Equal => (self.before.advance()?, self.after.advance()?),
            };
            if let Some(difference) = self.compare(before, after)? {
                return Ok(Some(difference));
            }
        }
    }

    /// What two leaves of one key, or one of a key that the other side lacks, come to.
    fn compare(&self, before: Option<Leaf>, after: Option<Leaf>) -> Result<Option<Difference>> {
        let same = match (&before, &after) {
            (None, None) => true,
            (Some(before), Some(after)) => before.stamp == after.stamp || before.bytes == after.bytes,
            _ => false,
        };
        if same {
            return Ok(None);
        }
        let key = before.as_ref().or(after.as_ref()).map(|leaf| leaf.key.clone()).unwrap_or_default();
        let key = StoredKey::new(self.shape, key)?;
        let value = |leaf: Option<Leaf>| leaf.map(|leaf| Value::decode(&key, leaf.bytes)).transpose();
        let (before, after) = (value(before)?, value(after)?);
        Ok(Some(Difference { key, before, after }))
    }
}

impl Iterator for Diff {
    type Item = Result<Difference>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.step().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

impl View<'_> {
    /// The keys whose values differ between this version and `after`, which may be newer or older. A key that was changed and restored
    /// is not among them; each slot of a wiped storage is.
    ///
    /// Cost: the pages that are not the same in both versions, so in proportion to the keys changed in between and not to the
    /// state. A version *inside* a sealed run costs first what applying the run's operations up to it costs.
    ///
    /// # Errors
    ///
    /// [`Error::BadOption`] where the two are not one namespace of one store; the iterator ends with an error on damage.
    pub fn diff(&self, after: &View<'_>) -> Result<Diff> {
        Diff::new(self, after)
    }
}

impl Snapshot {
    /// See [`View::diff`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn diff(&self, after: &Snapshot) -> Result<Diff> {
        self.first().diff(&after.first())
    }
}

impl Store {
    /// See [`View::diff`], from version `before` to version `after`, on the first namespace.
    ///
    /// # Errors
    ///
    /// As there; [`Error::VersionNotKept`], [`Error::NoVersion`].
    pub fn diff(&self, before: u64, after: u64) -> Result<Diff> {
        self.at(before)?.diff(&self.at(after)?)
    }
}
