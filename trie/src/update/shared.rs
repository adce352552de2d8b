//! An update that several threads share: the pages right below the root are shared out, and what became of them is joined.
//!
//! [`split`] by one thread, [`apply`] of each share by any thread with an [`Arena`] of its own, [`join`] by one thread again.
//! What passes between them is plain data.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use super::direct::{Parent, Task};
use super::{Arena, Outcome, Piece, Updated, Walk, validate};
use crate::op::Op;
use crate::page::{Item, Shape};
use crate::scheme::NodeRef;

/// Pages right below the root, with the operations for them.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// The root page.
    word: u64,
    pages: Vec<(u64, usize, Range<usize>)>,
}

/// What became of the pages of a share.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// By their entries in the root page.
    outcomes: Vec<(usize, Became)>,
    changed: u64,
}

#[derive(Clone, Debug)]
enum Became {
    Same,
    Page(u64),
    Entries(Vec<Owned>),
}

/// A [`Piece`] with its own bytes.
#[derive(Clone, Debug)]
struct Owned {
    start: usize,
    tail: Vec<u8>,
    end: usize,
    kind: Kind,
    payload: Vec<u8>,
    origin: Option<(u64, u16)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Leaf { stamp: u64 },
    Account { stamp: u64, wiped: u64 },
    Child { reference: u64 },
    Blinded { node: NodeRef, is_branch: bool },
}

impl Owned {
    fn of(piece: Piece<'_>) -> Self {
        let (kind, payload) = match piece.item {
            Item::Leaf { stamp, value } => (Kind::Leaf { stamp }, value),
            Item::Account { stamp, wiped, body } => (Kind::Account { stamp, wiped }, body),
            Item::Child { reference } => (Kind::Child { reference }, &[][..]),
            Item::Blinded { node, is_branch } => (Kind::Blinded { node, is_branch }, &[][..]),
        };
        let payload = payload.to_vec();
        let Piece { start, end, origin, .. } = piece;
        Self { start, tail: piece.tail.into_owned(), end, kind, payload, origin }
    }

    fn piece(&self) -> Piece<'_> {
        let item = match self.kind {
            Kind::Leaf { stamp } => Item::Leaf { stamp, value: &self.payload },
            Kind::Account { stamp, wiped } => Item::Account { stamp, wiped, body: &self.payload },
            Kind::Child { reference } => Item::Child { reference },
            Kind::Blinded { node, is_branch } => Item::Blinded { node, is_branch },
        };
        Piece { start: self.start, tail: Cow::Borrowed(&self.tail), end: self.end, item, origin: self.origin }
    }
}

/// Shares the operations out in `parts` of about the same number. `None` where that cannot be done: the root has few child pages, or
/// some operations are for the root page itself.
///
/// # Errors
///
/// As [`update`](super::update).
pub fn split<'a, A: Arena>(
    arena: &'a A,
    shape: Shape,
    root: Option<u64>,
    ops: &'a [Op<'a>],
    parts: usize,
) -> Result<Option<Vec<Share>>, A::Error> {
    validate(shape, ops)?;
    let Some(reference) = root.filter(|_| parts > 1) else { return Ok(None) };
    let (word, page) = arena.open(reference, None)?;
    let walk = Walk::new(arena, shape, ops, 0);
    let mut list = Vec::new();
    if !page.is_inner() || walk.list_children(word, page, 0..ops.len(), &mut list).is_none() {
        return Ok(None);
    }
    let mut shares = Vec::new();
    let mut share = Share { word, pages: Vec::new() };
    for Task { reference, parent: (_, index), range, .. } in list {
        let end = range.end;
        share.pages.push((reference, index, range));
        if end >= (shares.len() + 1) * ops.len() / parts {
            shares.push(core::mem::replace(&mut share, Share { word, pages: Vec::new() }));
        }
    }
    shares.extend(Some(share).filter(|share| !share.pages.is_empty()));
    Ok(Some(shares).filter(|shares| shares.len() > 1))
}

/// Applies the operations of one share; `ops` are all of them.
///
/// # Errors
///
/// A page cannot be loaded, or the batch does not fit the trie.
pub fn apply<'a, A: Arena>(
    arena: &'a A,
    shape: Shape,
    ops: &'a [Op<'a>],
    stamp: u64,
    share: &Share,
) -> Result<Done, A::Error> {
    let mut walk = Walk::new(arena, shape, ops, stamp);
    let task = |(reference, index, range): &(u64, usize, Range<usize>)| Task {
        reference: *reference,
        parent: (share.word, *index),
        range: range.clone(),
        outcome: Outcome::Same,
    };
    let mut list: Vec<Task<'a>> = share.pages.iter().map(task).collect();
    walk.work_off(&mut list)?;
    list.truncate(share.pages.len());
    let became = |task: Task<'a>| {
        let became = match task.outcome {
            Outcome::Same => Became::Same,
            Outcome::Page(reference) => Became::Page(reference),
            Outcome::Entries(pieces) => Became::Entries(pieces.into_iter().map(Owned::of).collect()),
        };
        (task.parent.1, became)
    };
    Ok(Done { outcomes: list.into_iter().map(became).collect(), changed: walk.changed })
}

/// Makes the new root page of what became of all shares, in their order.
///
/// # Errors
///
/// The root page cannot be loaded.
pub fn join<'a, A: Arena>(
    arena: &'a A,
    shape: Shape,
    root: u64,
    stamp: u64,
    done: &'a [Done],
) -> Result<Updated, A::Error> {
    let (word, page) = arena.open(root, None)?;
    let mut walk = Walk::new(arena, shape, &[], stamp);
    let task = |(index, became): &'a (usize, Became)| Task {
        reference: 0,
        parent: (word, *index),
        range: 0..0,
        outcome: match became {
            Became::Same => Outcome::Same,
            Became::Page(reference) => Outcome::Page(*reference),
            Became::Entries(pieces) => Outcome::Entries(pieces.iter().map(Owned::piece).collect()),
        },
    };
    let mut list: Vec<Task<'a>> = done.iter().flat_map(|done| &done.outcomes).map(task).collect();
    let children = 0..list.len();
    let rewritten = walk.gather(Parent { word, page, children }, &mut list);
    let changed = done.iter().map(|done| done.changed).sum();
    Ok(Updated { root: walk.new_root(root, rewritten), changed })
}
