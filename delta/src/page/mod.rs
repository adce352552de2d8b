//! Pages as they are stored: a base, then deltas.
//!
//! A page's newest record names the one before it, and its base. Reading follows that chain from new to old, on the bytes as
//! they lie. An older state of a page is an older record: nothing here filters by stamp.

mod base;
mod chain;
mod delta;
mod entry;
mod path;
mod read;
mod weight;
mod write;

use bristlecone_trie::NodeRef;
pub use chain::Chain;
pub(crate) use entry::Stored;
pub use path::PagePath;
pub(crate) use read::{Record, Slot};

use crate::{Locator, Stamp};

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
    /// A packed page ([`Page::new`](bristlecone_trie::Page::new) reads it). The references of its child entries are
    /// [`Locator`] words.
    pub bytes: Vec<u8>,
    /// The references of the children's top branches: one for each child entry, in order.
    pub children: Vec<NodeRef>,
}
