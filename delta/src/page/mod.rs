//! Pages as they are stored: a base, then deltas.
use bristlecone_trie::{NodeRef, Page};

use crate::{GroupWriter, Locator, Result, Segments, Stamp};

/// What goes to disk for a child entry of a page, besides its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildEntry {
    /// Where the child page's newest record is.
    pub locator: Locator,
    /// The reference of the child page's top branch.
    pub node: NodeRef,
}

/// What a stored page has for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The value of the key (a flat value, or a slot).
    Leaf {
        /// The commit that last changed it.
        stamp: Stamp,
        /// The value.
        value: &'a [u8],
    },
    /// The account of the key.
    Account {
        /// The commit that last changed the body.
        stamp: Stamp,
        /// The commit that last wiped the storage, if one did.
        wiped: Option<Stamp>,
        /// The body.
        body: &'a [u8],
    },
    /// The key's place is in another page.
    Child {
        /// That page's newest record.
        locator: Locator,
        /// The reference of its top branch.
        node: NodeRef,
    },
    /// The key is not there.
    Absent,
}

/// A stored page, put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// A packed page ([`Page::new`] reads it). The references of its child entries are [`Locator`] words.
    pub bytes: Vec<u8>,
    /// The references of the children's top branches: one for each child entry, in order.
    pub children: Vec<NodeRef>,
}

impl Segments {
    /// Looks `key` (whole, from the root of the trie on; it must lie under the page's stem) up in the page whose newest
    /// record is `page`. Works on the mapped bytes: nothing is rebuilt or allocated.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn find(&self, page: Locator, key: &[u8]) -> Result<Found<'_>> {
        let _ = (page, key);
        todo!()
    }

    /// Rebuilds the page whose newest record is `page`. Costs its base and its deltas.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn load(&self, page: Locator) -> Result<Loaded> {
        let _ = page;
        todo!()
    }
}

impl GroupWriter<'_> {
    /// Writes the state of a page, as a delta on `previous` (the newest record of the same page in an earlier, finished group) or
    /// as a base, and says where. `children` has one item for each child entry of `page`, in order; the references inside
    /// `page` are not looked at. Where nothing changed, the answer is `previous` and nothing is written.
    ///
    /// # Errors
    /// `Invalid` where `children` does not fit or an entry is blinded, `TooLarge`, `Corrupt`, `NoRecord` for
    /// `previous`, `Io`.
    pub fn put_page(
        &mut self,
        previous: Option<Locator>,
        page: Page<'_>,
        children: &[ChildEntry],
    ) -> Result<Locator> {
        let _ = (previous, page, children);
        todo!()
    }
}
