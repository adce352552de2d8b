//! A table of cells that grows and never moves: chunks of doubling size behind atomic pointers.
//!
//! Safety. A chunk is allocated whole, with every cell valid (all zeroes, which [`Zeroed`] promises to be a valid
//! cell), before its pointer is published by a compare-exchange with release ordering; who loads the pointer with acquire
//! ordering therefore sees initialised cells. The loser of a race to publish frees its own chunk, which nobody else has seen.
//!
//! A published chunk is neither replaced nor freed before the table is dropped, and dropping takes the table
//! exclusively, so that references to cells may live as long as the shared borrow of the table. Cells are only handed out by
//! shared reference; all their mutation is through atomics.
#![expect(unsafe_code, reason = "the chunks are raw memory behind atomic pointers")]

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use crate::sync::AtomicPtr;

/// log2 of the cells in the first chunk. The model checker gets a table it can explore.
const FIRST_BITS: u32 = if cfg!(loom) { 1 } else { 10 };

/// Enough chunks for every index of 32 bits.
const CHUNKS: usize = if cfg!(loom) { 3 } else { 33 - FIRST_BITS as usize };

/// A cell that starts as zeroes.
///
/// # Safety
/// Memory of all zeroes is a valid value, and equal to the default one.
pub(crate) unsafe trait Zeroed: Default + Send + Sync {}

/// The table.
pub(crate) struct Chunks<S> {
    chunks: [AtomicPtr<S>; CHUNKS],
    owns: PhantomData<S>,
}

/// Which chunk an index is in, and where in it.
#[inline]
fn place(index: u32) -> (usize, usize) {
    let number = u64::from(index) + (1 << FIRST_BITS);
    let top = number.ilog2();
    ((top - FIRST_BITS) as usize, (number - (1 << top)) as usize)
}

/// Cells in a chunk.
const fn cells(chunk: usize) -> usize {
    1 << (FIRST_BITS as usize + chunk)
}

impl<S: Zeroed> Chunks<S> {
    /// An empty table. Allocates nothing.
    pub(crate) fn new() -> Self {
        Self { chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())), owns: PhantomData }
    }

    /// The cell, where its chunk exists.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&S> {
        let (chunk, at) = place(index);
        let base = self.chunks.get(chunk)?.load(Acquire);
        if base.is_null() {
            return None;
        }
        // SAFETY: a published chunk has `cells(chunk)` valid cells, `place` yields `at` below that, and the chunk
        // lives as long as the borrow of the table.
        Some(unsafe { &*base.add(at) })
    }

    /// Memory of the cells, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let there = self.chunks.iter().enumerate().filter(|(_, chunk)| !chunk.load(Acquire).is_null());
        there.map(|(chunk, _)| cells(chunk) * size_of::<S>()).sum()
    }

    /// The cell, allocating its chunk if need be. None where the table has no such index.
    pub(crate) fn get_or_grow(&self, index: u32) -> Option<&S> {
        if let Some(cell) = self.get(index) {
            return Some(cell);
        }
        let (chunk, _) = place(index);
        let slot = self.chunks.get(chunk)?;
        let fresh = Box::into_raw(allocate::<S>(cells(chunk)));
        if slot.compare_exchange(ptr::null_mut(), fresh.cast::<S>(), AcqRel, Acquire).is_err() {
            // SAFETY: `fresh` came from a box just above and was not published.
            drop(unsafe { Box::from_raw(fresh) });
        }
        self.get(index)
    }
}

/// Fresh cells. Large chunks are zero pages that the system maps when they are first touched: huge ones where it can, since cells
/// are met in no order.
#[cfg(not(loom))]
fn allocate<S: Zeroed>(len: usize) -> Box<[S]> {
    // SAFETY: zeroes are a valid `S`.
    let cells: Box<[S]> = unsafe { Box::new_zeroed_slice(len).assume_init() };
    #[cfg(not(any(miri, shuttle)))]
    crate::pool::advise_huge(cells.as_ptr().cast_mut().cast(), size_of_val(&*cells));
    cells
}

#[cfg(loom)]
fn allocate<S: Zeroed>(len: usize) -> Box<[S]> {
    (0..len).map(|_| S::default()).collect()
}

impl<S> Drop for Chunks<S> {
    fn drop(&mut self) {
        for (chunk, base) in self.chunks.iter().enumerate() {
            let base = base.load(Acquire);
            if !base.is_null() {
                // SAFETY: the chunk came from a box of this length, and nobody else is left.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(base, cells(chunk))) });
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[derive(Default)]
    struct Cell(AtomicU64);

    // SAFETY: an atomic integer of zeroes is zero, its default.
    unsafe impl Zeroed for Cell {}

    #[test]
    fn every_index_has_its_own_place() {
        assert_eq!(place(0), (0, 0));
        assert_eq!(place(1023), (0, 1023));
        assert_eq!(place(1024), (1, 0));
        assert_eq!(place(3071), (1, 2047));
        assert_eq!(place(3072), (2, 0));
        let (chunk, at) = place(u32::MAX);
        assert_eq!(chunk, CHUNKS - 1);
        assert!(at < cells(chunk));
    }

    #[test]
    fn cells_stay_where_they_are_while_threads_grow_the_table() {
        let table = Chunks::<Cell>::new();
        assert!(table.get(5000).is_none());
        std::thread::scope(|scope| {
            for offset in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    for index in (offset..20_000).step_by(4) {
                        table.get_or_grow(index).unwrap().0.store(u64::from(index) + 1, Relaxed);
                    }
                });
            }
        });
        for index in 0..20_000 {
            assert_eq!(table.get(index).unwrap().0.load(Relaxed), u64::from(index) + 1);
        }
    }
}
