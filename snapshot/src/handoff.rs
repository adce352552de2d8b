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
        // The guess is mostly right, for the taker leaves nothing; and without a load first, loom explores more (see `lib`).
        let mut head = ptr::null_mut();
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_pushed_is_taken_once() {
        let stack = Handoff::new();
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let stack = &stack;
                scope.spawn(move || {
                    (0..5_000).for_each(|item| stack.push(Node::new(thread << 32 | item)));
                });
            }
            while taken.len() < 10_000 {
                taken.append(&mut stack.take());
            }
        });
        taken.append(&mut stack.take());
        assert_eq!(taken.len(), 15_000);
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 15_000);
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::thread;
    use std::sync::Arc;

    #[test]
    fn an_item_is_taken_whole_and_once() {
        loom::model(|| {
            let stack = Arc::new(Handoff::new());
            let pushers = [1_u64, 2].map(|value| {
                let stack = Arc::clone(&stack);
                thread::spawn(move || {
                    let cell = UnsafeCell::new(0);
                    // SAFETY: nobody else has it yet.
                    cell.with_mut(|cell| unsafe { *cell = value });
                    stack.push(Node::new(cell));
                })
            });
            let mut taken = stack.take();
            for pusher in pushers {
                pusher.join().unwrap();
            }
            taken.extend(stack.take());
            // SAFETY: taken items are the taker's own; loom reports if the push was not ordered before.
            let mut values: Vec<u64> = taken.iter().map(|cell| cell.with(|cell| unsafe { *cell })).collect();
            values.sort_unstable();
            assert_eq!(values, [1, 2]);
        });
    }

    #[test]
    fn what_happened_before_a_push_happens_before_its_taking() {
        loom::model(|| {
            let stack = Arc::new(Handoff::new());
            let pusher = {
                let stack = Arc::clone(&stack);
                thread::spawn(move || {
                    let cell = UnsafeCell::new(0);
                    // SAFETY: nobody else has it yet.
                    cell.with_mut(|cell| unsafe { *cell = 1 });
                    stack.push(Node::new(cell));
                })
            };
            for cell in stack.take() {
                // SAFETY: the taker's own; loom reports if the push was not ordered before.
                assert_eq!(cell.with(|cell| unsafe { *cell }), 1);
            }
            pusher.join().unwrap();
        });
    }
}
