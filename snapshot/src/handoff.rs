//! A stack of batches that any thread pushes to and one taker at a time empties whole.
//!
//! Safety. A node is owned by exactly one party at any time: by the pusher until its compare-exchange succeeds, then by
//! the stack, then by whoever exchanged the head for null. Nodes are read or freed only by their owner. The push
//! releases and the taking acquires, so that the taker sees each node whole.
//!
//! There is no ABA problem: `push` never looks behind the head that it expects, and nothing ever pops a single
//! node.
#![expect(unsafe_code, reason = "an intrusive list behind one atomic pointer")]

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::sync::AtomicPtr;

/// An item with its place in the stack, so that pushing allocates nothing.
pub(crate) struct Node<T> {
    next: *mut Node<T>,
    item: T,
}

// SAFETY: outside of a stack `next` is null or about to be overwritten; a node is its item.
unsafe impl<T: Send> Send for Node<T> {}

impl<T> Node<T> {
    pub(crate) fn new(item: T) -> Box<Self> {
        Box::new(Self { next: ptr::null_mut(), item })
    }
}

/// The stack.
pub(crate) struct Handoff<T> {
    head: AtomicPtr<Node<T>>,
    owns: PhantomData<T>,
}

// SAFETY: items move through from thread to thread, and are never shared.
unsafe impl<T: Send> Send for Handoff<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Handoff<T> {}

impl<T> Handoff<T> {
    pub(crate) fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// Adds an item. Lock-free.
    pub(crate) fn push(&self, node: Box<Node<T>>) {
        let node = Box::into_raw(node);
        let mut head = self.head.load(Relaxed);
        loop {
            // SAFETY: not yet in the stack, the node is ours.
            unsafe { (*node).next = head };
            match self.head.compare_exchange(head, node, Release, Relaxed) {
                Ok(_) => return,
                Err(current) => head = current,
            }
        }
    }

    /// Takes all items, the newest first. One load where there is none.
    pub(crate) fn take(&self) -> Vec<T> {
        let mut items = Vec::new();
        if self.head.load(Relaxed).is_null() {
            return items;
        }
        let mut node = self.head.swap(ptr::null_mut(), AcqRel);
        while !node.is_null() {
            // SAFETY: the swap made this list ours; each node came from a box in `push`.
            let owned = unsafe { Box::from_raw(node) };
            node = owned.next;
            items.push(owned.item);
        }
        items
    }
}

impl<T> Drop for Handoff<T> {
    fn drop(&mut self) {
        // Not `take`: its relaxed look could miss, for a dropper that is not otherwise ordered after a push.
        let mut node = self.head.load(Acquire);
        while !node.is_null() {
            // SAFETY: nobody else is left; each node came from a box in `push`.
            let owned = unsafe { Box::from_raw(node) };
            node = owned.next;
        }
    }
}
