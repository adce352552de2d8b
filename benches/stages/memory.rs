//! Pages in slots, as the engine keeps them, without the engine.

use std::cell::RefCell;

use bristlecone_snapshot::{Guard, Lookup, SlotId, Slots, pin};
use bristlecone_trie::levels::{self, Hashed, Pages, Refs, Workspace};
use bristlecone_trie::update::{self, Arena, UpdateError};
use bristlecone_trie::{Find, Hint, Item, NodeRef, Op, Page, Scheme, Shape};

/// Commits that superseded pages stay for: about as many as a run has.
const KEPT: usize = 16;

pub(crate) struct Memory {
    slots: Slots<u8, NodeRef>,
    root: Option<u64>,
    stamp: u64,
    superseded: Vec<Vec<SlotId>>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { slots: Slots::new(), root: None, stamp: 0, superseded: Vec::new() }
    }

    pub(crate) fn apply(&mut self, ops: &[Op<'_>]) {
        let guard = pin();
        self.stamp += 1;
        let phase = Phase { slots: &self.slots, guard: &guard, superseded: RefCell::default() };
        let updated = update::update(&phase, Shape::Flat, self.root, ops, self.stamp).expect("it applies");
        self.root = updated.root;
        self.superseded.push(phase.superseded.into_inner());
    }

    /// Hashes, and keeps the references.
    pub(crate) fn hash<S: Scheme>(&self, workspace: &mut Workspace) -> Hashed {
        let guard = pin();
        let hashed = self.compute::<S>(workspace);
        for (word, refs) in workspace.pages() {
            self.slots.set_companion(id(word), refs, &guard);
        }
        hashed
    }

    /// Hashes, and leaves the references in `workspace` only.
    pub(crate) fn compute<S: Scheme>(&self, workspace: &mut Workspace) -> Hashed {
        let guard = pin();
        let phase = Phase { slots: &self.slots, guard: &guard, superseded: RefCell::default() };
        levels::hash::<S>(&phase, Shape::Flat, self.root, workspace).expect("it hashes")
    }

    /// Frees what the oldest of the kept commits superseded.
    pub(crate) fn free(&mut self) {
        if self.superseded.len() > KEPT {
            self.slots.retire_all(self.superseded.remove(0));
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let guard = pin();
        let mut word = self.root?;
        loop {
            let Lookup::Block(bytes) = self.slots.get(id(word), &guard) else { return None };
            let page = Page::new(bytes);
            let (Find::Here(at) | Find::Into(at)) = page.find(key) else { return None };
            match page.entry(at).item {
                Item::Child { reference } => word = reference,
                Item::Leaf { value, .. } => return Some(value.to_vec()),
                _ => return None,
            }
        }
    }

    pub(crate) fn describe(&self) -> String {
        let stats = self.slots.stats();
        format!(
            "{} pages of {:.1} MB, {:.1} MB of references",
            stats.blocks,
            stats.block_bytes as f64 / 1e6,
            stats.companion_bytes as f64 / 1e6
        )
    }
}

fn id(word: u64) -> SlotId {
    SlotId::from_word(word).expect("a slot")
}

/// One update or one hashing.
struct Phase<'g> {
    slots: &'g Slots<u8, NodeRef>,
    guard: &'g Guard,
    superseded: RefCell<Vec<SlotId>>,
}

impl Phase<'_> {
    fn hint(&self, word: u64, hint: Hint) {
        match hint {
            Hint::Place => self.slots.prefetch_slot(id(word)),
            Hint::Page => self.slots.prefetch(id(word)),
            Hint::Refs => self.slots.prefetch_companion(id(word)),
        }
    }

    fn block(&self, word: u64) -> Page<'_> {
        match self.slots.get(id(word), self.guard) {
            Lookup::Block(bytes) => Page::new(bytes),
            Lookup::Located(_) | Lookup::Gone => panic!("a page is gone"),
        }
    }
}

impl Arena for Phase<'_> {
    type Error = UpdateError;

    fn open(&self, word: u64, _: Option<(u64, usize)>) -> Result<(u64, Page<'_>), UpdateError> {
        Ok((word, self.block(word)))
    }

    fn hint(&self, word: u64, hint: Hint) {
        self.hint(word, hint);
    }

    fn insert(&self, page: &[u8]) -> u64 {
        self.slots.insert(page).expect("a slot").to_word()
    }

    fn superseded(&self, word: u64) {
        self.superseded.borrow_mut().push(id(word));
    }

    fn dropped(&self, _: u64) {}
}

impl Pages for Phase<'_> {
    fn page(&self, word: u64) -> Option<Page<'_>> {
        Some(self.block(word))
    }

    fn refs(&self, word: u64) -> Option<&Refs> {
        self.slots.companion(id(word), self.guard)
    }

    fn top(&self, _: u64) -> Option<NodeRef> {
        None
    }

    fn hint(&self, word: u64, hint: Hint) {
        self.hint(word, hint);
    }
}
