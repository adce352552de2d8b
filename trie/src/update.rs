//! Applying a batch: a new version of the pages that it touches, all others shared with the version before.
//!
//! [`update`] walks down with the sorted operations and comes back with entries. A page keeps one of two forms:
//!
//! - a *leaf page* has no child pages and at most [`LEAF_ENTRIES`] entries;
//! - an *upper page* has child pages; of its leaves only singles stand in it: wherever two or more lie together
//!   with no child page among them, they have a page of their own.
//!
//! A leaf page that outgrows its bound becomes up to sixteen pages, one a nibble, and *their entries go up* into the parent, as in
//! a B-tree; a parent that outgrows [`UPPER_ENTRIES`] is cut into sixteen in the same way. So upper pages
//! have up to 256 children where keys are spread evenly, and 64 nibbles cost a handful of pages. A page that is
//! left with one key goes up into its parent. No sibling is ever loaded for a removal: a child page's stem is its entry's
//! path, so an extension grows without a look at what lies below it.

mod direct;
mod merge;
mod shape;
pub mod shared;

use alloc::borrow::Cow;
use alloc::vec::Vec;

use thiserror::Error;

use crate::hint::Hint;
use crate::op::Op;
use crate::page::{ACCOUNT_BYTES, ACCOUNT_DEPTH, Edit, Entry, Item, Page, PageBuilder, Shape};
use crate::scheme::NodeRef;

/// Most entries of a page without child pages.
pub const LEAF_ENTRIES: usize = 32;

/// A page without child pages is cut above this size in bytes, if it has more than one key.
pub const LEAF_BYTES: usize = 16 << 10;

/// Most entries of a page with child pages.
pub const UPPER_ENTRIES: usize = 272;

/// Pages of this many entries or fewer dissolve into their parent when they are cut.
const DISSOLVE_ENTRIES: usize = 24;

/// Where [`update`] finds pages and puts them.
pub trait Arena {
    /// What loading a page can fail with.
    type Error: From<UpdateError>;

    /// The page that `reference` names, and the word under which its hashes will be found later. `parent` is the word of the
    /// page that refers to it, with the entry's place there.
    ///
    /// # Errors
    ///
    /// The page cannot be loaded.
    fn open(&self, reference: u64, parent: Option<(u64, usize)>) -> Result<(u64, Page<'_>), Self::Error>;

    /// Says what will be opened soon: memory can be fetched meanwhile.
    fn hint(&self, reference: u64, hint: Hint) {
        let _ = (reference, hint);
    }

    /// Keeps a new page and names it.
    fn insert(&self, page: &[u8]) -> u64;

    /// A leaf or an account comes where none was, with the whole key `key`. Some are told of more than once; those that come where a page
    /// went are told of too.
    fn added(&self, key: &[u8]) {
        let _ = key;
    }

    /// The page that `reference` names has no place in the new version; pages below it do.
    fn superseded(&self, reference: u64);

    /// Neither that page nor anything below it has a place in the new version.
    fn dropped(&self, reference: u64);
}

/// A batch that cannot be applied.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// A slot is set of an account that is not there after the batch.
    #[error("operation {0} sets a slot of an account that does not exist after the batch")]
    SlotWithoutAccount(usize),
    /// An operation of the other shape: an account in a flat trie, or a key of a wrong length.
    #[error("operation {0} does not fit the shape of the trie")]
    WrongShape(usize),
    /// The operations are not sorted by key, or name a key twice.
    #[error("operation {0} is not in strictly ascending order of keys")]
    Unsorted(usize),
    /// A node that is known only by its hash is in the way (partial tries).
    #[error("operation {0} needs a node that is known only by its hash")]
    Blinded(usize),
}

/// What [`update`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The new root page; `None` for an empty trie.
    pub root: Option<u64>,
    /// How many keys really changed.
    pub changed: u64,
}

/// Applies `ops`, sorted strictly by key, to the trie under `root`; changed leaves get `stamp`. Putting the value that
/// is there, or deleting what is not, changes nothing.
///
/// Cost: each touched page is rewritten once. On an error the new pages that were inserted so far have no reference;
/// the old version is untouched.
///
/// # Errors
///
/// The batch does not fit the trie, or a page cannot be loaded.
pub fn update<'a, A: Arena>(
    arena: &'a A,
    shape: Shape,
    root: Option<u64>,
    ops: &'a [Op<'a>],
    stamp: u64,
) -> Result<Updated, A::Error> {
    validate(shape, ops)?;
    let mut walk = Walk::new(arena, shape, ops, stamp);
    let new_root = match root {
        _ if ops.is_empty() => root,
        None => {
            let pieces = walk.merge_into_nothing(0..ops.len())?;
            walk.assemble_root(pieces)
        }
        Some(reference) => {
            let (word, page) = arena.open(reference, None)?;
            let rewritten = walk.rewrite(word, page, 0..ops.len())?;
            walk.new_root(reference, rewritten)
        }
    };
    Ok(Updated { root: new_root, changed: walk.changed })
}

/// One entry that the nodes of a witness show, with its whole path.
pub(crate) struct Shown {
    pub(crate) path: Vec<u8>,
    /// Nibbles of the path.
    pub(crate) end: usize,
    pub(crate) what: What,
}

/// What stands there.
pub(crate) enum What {
    Leaf(Vec<u8>),
    Account(Vec<u8>),
    Blinded { node: NodeRef, is_branch: bool },
}

/// A trie of entries that are given in key order; the word of its root page.
pub(crate) fn build<'a, A: Arena>(arena: &'a A, shape: Shape, shown: &'a [Shown]) -> Option<u64> {
    let mut walk = Walk::new(arena, shape, &[], 0);
    walk.assemble_root(shown.iter().map(Piece::shown).collect())
}

fn validate(shape: Shape, ops: &[Op<'_>]) -> Result<(), UpdateError> {
    use crate::op::Change;
    let mut previous: Option<&[u8]> = None;
    for (index, op) in ops.iter().enumerate() {
        if previous.is_some_and(|previous| previous >= op.key) {
            return Err(UpdateError::Unsorted(index));
        }
        previous = Some(op.key);
        let fits = match (shape, op.change) {
            (Shape::Flat, Change::Account { .. }) => false,
            (Shape::Flat, _) => op.key.len() <= crate::path::MAX_KEY_BYTES,
            (Shape::Accounts, Change::Account { .. }) => op.key.len() == ACCOUNT_BYTES,
            (Shape::Accounts, Change::Put(value)) => op.key.len() == 2 * ACCOUNT_BYTES && !value.is_empty(),
            (Shape::Accounts, Change::Delete) => op.key.len() == 2 * ACCOUNT_BYTES,
        };
        if !fits {
            return Err(UpdateError::WrongShape(index));
        }
    }
    Ok(())
}

/// An entry on its way from an old page, or from the batch, to a new page.
#[derive(Clone, Debug)]
struct Piece<'a> {
    /// Byte of the key at which `tail` starts.
    start: usize,
    tail: Cow<'a, [u8]>,
    end: usize,
    item: Item<'a>,
    /// The page and the place that it comes from, if it stands there as it is.
    origin: Option<(u64, u16)>,
}

impl<'a> Piece<'a> {
    fn of(page: Page<'a>, word: u64, index: usize) -> Self {
        let entry = page.entry(index);
        let start = if entry.below { ACCOUNT_BYTES } else { page.depth() / 2 };
        Self {
            start,
            tail: Cow::Borrowed(entry.tail),
            end: entry.end,
            item: entry.item,
            origin: Some((word, index as u16)),
        }
    }

    fn leaf(key: &'a [u8], item: Item<'a>) -> Self {
        Self { start: 0, tail: Cow::Borrowed(key), end: key.len() * 2, item, origin: None }
    }

    fn shown(shown: &'a Shown) -> Self {
        let item = match &shown.what {
            What::Leaf(value) => Item::Leaf { stamp: 0, value },
            What::Account(body) => Item::Account { stamp: 0, wiped: 0, body },
            What::Blinded { node, is_branch } => Item::Blinded { node: *node, is_branch: *is_branch },
        };
        Self { start: 0, tail: Cow::Borrowed(&shown.path), end: shown.end, item, origin: None }
    }

    fn is_child(&self) -> bool {
        matches!(self.item, Item::Child { .. })
    }

    fn is_account(&self) -> bool {
        matches!(self.item, Item::Account { .. })
    }

    /// Whether it lies below an account entry in a page of `depth`.
    fn is_below(&self, shape: Shape, depth: usize) -> bool {
        shape == Shape::Accounts
            && depth < ACCOUNT_DEPTH
            && (self.end > ACCOUNT_DEPTH || (self.end == ACCOUNT_DEPTH && !self.is_account()))
    }

    /// The path from byte `from` of the key on.
    fn tail_from(&self, from: usize) -> &[u8] {
        self.tail.get(from.saturating_sub(self.start)..).unwrap_or_default()
    }

    fn size(&self) -> usize {
        let payload = match self.item {
            Item::Leaf { value, .. } => value.len(),
            Item::Account { body, .. } => body.len(),
            Item::Child { .. } | Item::Blinded { .. } => 0,
        };
        self.tail.len() + payload + 16
    }
}

/// What became of a child page.
#[derive(Clone)]
enum Outcome<'a> {
    /// Nothing changed.
    Same,
    /// A new page under the same stem.
    Page(u64),
    /// These entries stand in its place in the parent, with whole paths.
    Entries(Vec<Piece<'a>>),
}

/// A page with the operations applied.
enum Rewritten<'a> {
    /// Nothing changed.
    Same,
    /// A new page of the same depth.
    Page(u64),
    /// Entries that are no page yet.
    Pieces(Merged<'a>),
}

/// Entries of a page with the operations merged in.
struct Merged<'a> {
    pieces: Vec<Piece<'a>>,
    /// Whether entries came or went, so that the form of the page must be looked at again.
    reshape: bool,
}

struct Walk<'a, A> {
    arena: &'a A,
    shape: Shape,
    stamp: u64,
    ops: &'a [Op<'a>],
    changed: u64,
    // Memory that serves one page after the other.
    builder: PageBuilder,
    packed: Vec<u8>,
    edits: Vec<Edit<'a>>,
    changes: Vec<(usize, Item<'a>)>,
    spare: Vec<Vec<Piece<'a>>>,
}

impl<'a, A: Arena> Walk<'a, A> {
    fn new(arena: &'a A, shape: Shape, ops: &'a [Op<'a>], stamp: u64) -> Self {
        Self {
            arena,
            shape,
            stamp,
            ops,
            changed: 0,
            builder: PageBuilder::new(0).made_by(stamp),
            packed: Vec::new(),
            edits: Vec::new(),
            changes: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// What became of the root page, which `reference` names.
    fn new_root(&mut self, reference: u64, rewritten: Rewritten<'a>) -> Option<u64> {
        if !matches!(rewritten, Rewritten::Same) {
            self.arena.superseded(reference);
        }
        match rewritten {
            Rewritten::Same => Some(reference),
            Rewritten::Page(reference) => Some(reference),
            Rewritten::Pieces(merged) => self.assemble_root(merged.pieces),
        }
    }

    /// Applies the operations of `range` to the page that `reference` names.
    fn page(
        &mut self,
        reference: u64,
        parent: (u64, usize),
        range: core::ops::Range<usize>,
    ) -> Result<Outcome<'a>, A::Error> {
        let (word, page) = self.arena.open(reference, Some(parent))?;
        let key = self.ops.get(range.start).map_or(&[][..], |op| op.key);
        let rewritten = self.rewrite(word, page, range)?;
        Ok(self.outcome(reference, page, key, rewritten))
    }

    /// What became of `page`, which `reference` names; `key` is any key below it.
    fn outcome(
        &mut self,
        reference: u64,
        page: Page<'a>,
        key: &[u8],
        rewritten: Rewritten<'a>,
    ) -> Outcome<'a> {
        if !matches!(rewritten, Rewritten::Same) {
            self.arena.superseded(reference);
        }
        match rewritten {
            Rewritten::Same => Outcome::Same,
            Rewritten::Page(reference) => Outcome::Page(reference),
            Rewritten::Pieces(Merged { mut pieces, reshape: false }) => {
                let reference = self.build(&pieces, page.depth());
                pieces.clear();
                self.spare.push(pieces);
                Outcome::Page(reference)
            }
            Rewritten::Pieces(Merged { pieces, reshape: true }) => self.assemble(pieces, key, page.depth()),
        }
    }

    /// Applies the operations of `range` to `page`, which `word` names: directly where its form stays as it is, which is nearly
    /// always, and entry by entry otherwise.
    fn rewrite(
        &mut self,
        word: u64,
        page: Page<'a>,
        range: core::ops::Range<usize>,
    ) -> Result<Rewritten<'a>, A::Error> {
        let direct = if page.is_plain() {
            self.edit(word, page, range.clone())
        } else if page.is_inner() {
            self.pass_on(word, page, range.clone())?
        } else {
            None
        };
        if let Some(rewritten) = direct {
            return Ok(rewritten);
        }
        Ok(self.merge(word, page, range)?.map_or(Rewritten::Same, Rewritten::Pieces))
    }

    /// Packs `pieces` into a page whose stem has `depth` nibbles.
    fn build(&mut self, pieces: &[Piece<'a>], depth: usize) -> u64 {
        let Self { builder, packed, .. } = self;
        builder.restart(depth);
        for piece in pieces {
            let below = piece.is_below(self.shape, depth);
            let tail = piece.tail_from(if below { ACCOUNT_BYTES } else { depth / 2 });
            builder.push(&Entry { below, end: piece.end, tail, item: piece.item });
            if let Some((page, at)) = piece.origin {
                builder.origin(page, at);
            }
        }
        builder.finish_into(packed);
        self.arena.insert(packed)
    }
}
