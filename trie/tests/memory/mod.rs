//! Pages in memory, for the tests.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part of it")]

use std::cell::RefCell;
use std::collections::HashMap;

use bristlecone_trie::levels::{self, Refs, Workspace};
use bristlecone_trie::update::{Arena, UpdateError};
use bristlecone_trie::{B256, NodeRef, Page, Scheme, Shape};

/// Pages that live as long as the test.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) pages: RefCell<HashMap<u64, &'static [u8]>>,
    pub(crate) refs: RefCell<HashMap<u64, &'static [NodeRef]>>,
    pub(crate) superseded: RefCell<Vec<u64>>,
    next: RefCell<u64>,
}

impl Arena for Memory {
    type Error = UpdateError;
    fn open(&self, reference: u64, _: Option<(u64, usize)>) -> Result<(u64, Page<'_>), UpdateError> {
        Ok((reference, Page::new(self.pages.borrow()[&reference])))
    }
    fn insert(&self, page: &[u8]) -> u64 {
        let mut next = self.next.borrow_mut();
        *next += 1;
        self.pages.borrow_mut().insert(*next, Box::leak(page.to_vec().into_boxed_slice()));
        *next
    }
    fn superseded(&self, reference: u64) {
        self.superseded.borrow_mut().push(reference);
    }
    fn dropped(&self, _: u64) {}
}

impl levels::Pages for Memory {
    fn page(&self, reference: u64) -> Option<Page<'_>> {
        self.pages.borrow().get(&reference).map(|bytes| Page::new(bytes))
    }
    fn refs(&self, reference: u64) -> Option<&Refs> {
        self.refs.borrow().get(&reference).copied()
    }
    fn top(&self, _: u64) -> Option<NodeRef> {
        None
    }
}

impl Memory {
    /// Hashes the trie, and keeps the references of its pages.
    pub(crate) fn root<S: Scheme>(&self, shape: Shape, root: Option<u64>) -> B256 {
        let mut workspace = Workspace::default();
        let hashed = levels::hash::<S>(self, shape, root, &mut workspace).unwrap();
        for (reference, refs) in workspace.pages() {
            self.refs.borrow_mut().insert(reference, Box::leak(refs.into()));
        }
        hashed.root
    }
}
