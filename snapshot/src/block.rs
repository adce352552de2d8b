//! A block: a cell of the pool with its length in front, behind a thin pointer.
//!
//! Safety. A [`Block`] owns its cell: it is made by [`Block::new`] with every element written before the
//! pointer leaves the function, never written again, and given back by `Drop`. [`Block::into_raw`] gives the ownership to a slot's atomic pointer; [`Block::from_raw`] takes it back and
//! must be called once for each `into_raw`, which holds because only the thread whose exchange or swap took the pointer out of the
//! slot calls it (or the table's `Drop`, which has the table to itself).
//!
//! [`view`] lends the elements for as long as a guard is borrowed. It is sound while a pointer that was seen in a slot under a
//! guard is freed only after that guard is gone; `slots` guarantees it by handing every block that it takes out
//! to [`Guard::defer`]. Elements are `Copy + Send + Sync + 'static`: they need no drop and may be read and freed on any thread.
#![expect(
    unsafe_code,
    reason = "a thin pointer to a run-time sized allocation is not expressible without it"
)]

use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use crate::epoch::Guard;
#[cfg(not(any(loom, miri, shuttle)))]
use crate::pool;

/// What stands before the elements.
#[repr(C)]
pub(crate) struct Header<E> {
    len: usize,
    /// Lets the model checker see when the block is written, read and freed; false once freed.
    #[cfg(loom)]
    life: loom::cell::UnsafeCell<bool>,
    /// Aligns the header, and so its end, for `E`.
    elements: [E; 0],
}

/// An owned block.
pub(crate) struct Block<E> {
    header: NonNull<Header<E>>,
    owns: PhantomData<E>,
}

// SAFETY: a `Block` is the unique owner of plain elements, which may be sent.
unsafe impl<E: Send> Send for Block<E> {}

/// Layout of a block and the offset of its first element. None where the size overflows.
fn layout<E>(len: usize) -> Option<(Layout, usize)> {
    let (layout, offset) = Layout::new::<Header<E>>().extend(Layout::array::<E>(len).ok()?).ok()?;
    Some((layout.pad_to_align(), offset))
}

/// Where the elements start.
const fn offset<E>() -> usize {
    #[cfg(not(any(loom, miri, shuttle)))]
    const {
        assert!(align_of::<Header<E>>() <= pool::ALIGN)
    };
    // `Header` is aligned for `E`, so its size is the offset that `layout` computes.
    size_of::<Header<E>>()
}

impl<E: Copy> Block<E> {
    /// Copies `elements` into a fresh allocation. Aborts where the allocator has no memory, like `Vec`.
    pub(crate) fn new(elements: &[E]) -> Self {
        let Some((layout, at)) = layout::<E>(elements.len()) else {
            // A slice within eight bytes of the whole address space: no allocator has that.
            handle_alloc_error(Layout::new::<Header<E>>());
        };
        debug_assert_eq!(at, offset::<E>());
        let header = allocate(layout).cast::<Header<E>>();
        // SAFETY: the cell has room for the header and, at `at`, for all elements; it is fresh, so the
        // source does not overlap it.
        unsafe {
            header.write(Header {
                len: elements.len(),
                #[cfg(loom)]
                life: loom::cell::UnsafeCell::new(true),
                elements: [],
            });
            #[cfg(loom)]
            header.as_ref().life.with_mut(|alive| *alive = true);
            let to = header.as_ptr().byte_add(at).cast::<E>();
            ptr::copy_nonoverlapping(elements.as_ptr(), to, elements.len());
        }
        Self { header, owns: PhantomData }
    }
}

impl<E> Block<E> {
    /// Gives up the ownership.
    pub(crate) fn into_raw(self) -> *mut Header<E> {
        let raw = self.header.as_ptr();
        std::mem::forget(self);
        raw
    }

    /// Takes the ownership back; None for null.
    ///
    /// # Safety
    /// A pointer that is not null came from [`into_raw`](Self::into_raw), and nobody else takes it back.
    pub(crate) unsafe fn from_raw(raw: *mut Header<E>) -> Option<Self> {
        Some(Self { header: NonNull::new(raw)?, owns: PhantomData })
    }

    /// Memory that it takes, in bytes. Does not touch it.
    #[cfg(not(any(loom, miri, shuttle)))]
    pub(crate) fn footprint(&self) -> usize {
        // SAFETY: the cell is not given back before this block is dropped.
        unsafe { pool::footprint(self.header.cast()) }
    }

    /// Memory that it takes, in bytes.
    #[cfg(any(loom, miri, shuttle))]
    pub(crate) fn footprint(&self) -> usize {
        // SAFETY: an owned block's header is initialised and never written again.
        layout::<E>(unsafe { self.header.as_ref() }.len).map_or(0, |(layout, _)| layout.size())
    }
}

/// Memory that a block takes which somebody else owns, in bytes; 0 for null.
///
/// # Safety
/// As for [`view`], or null.
pub(crate) unsafe fn footprint_of<E>(raw: *mut Header<E>) -> usize {
    let Some(header) = NonNull::new(raw) else { return 0 };
    // Never dropped: the owner stays the one in whose slot it is.
    let block = std::mem::ManuallyDrop::new(Block { header, owns: PhantomData });
    block.footprint()
}

/// Memory for `layout`. Aborts where there is none.
#[cfg(not(any(loom, miri, shuttle)))]
fn allocate(layout: Layout) -> NonNull<u8> {
    debug_assert!(layout.align() <= pool::ALIGN);
    pool::allocate(layout.size())
}

/// The same where every access is watched: from the system.
#[cfg(any(loom, miri, shuttle))]
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout is at least the header and so not empty.
    let raw = unsafe { std::alloc::alloc(layout) };
    NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(layout))
}

/// The elements of a block that was loaded from a slot.
///
/// # Safety
/// `raw` came from [`Block::into_raw`], was loaded under `guard` with acquire ordering from where it was published, and is
/// freed only through [`Guard::defer`] after it was taken out of there.
#[inline]
pub(crate) unsafe fn view<E>(raw: *const Header<E>, _guard: &Guard) -> &[E] {
    // SAFETY: by the contract the allocation is alive for as long as the guard, and complete: the acquire load saw
    // the release that published it. Nobody writes to it.
    unsafe {
        #[cfg(loom)]
        (*raw).life.with(|alive| assert!(*alive, "a freed block was found"));
        let len = (*raw).len;
        slice::from_raw_parts(raw.byte_add(offset::<E>()).cast::<E>(), len)
    }
}

/// Has `elements` fetched towards the processor, while the caller does something else.
#[inline]
pub fn prefetch_elements<E>(elements: &[E]) {
    let start: *const u8 = elements.as_ptr().cast();
    // Up to the end of the line in which they end.
    prefetch(start, size_of_val(elements) + start.addr() % 64);
}

/// Asks for memory. Nothing is read: any address will do, also of a block that is gone.
#[inline]
pub(crate) fn prefetch(start: *const u8, bytes: usize) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and it faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    let _ = (start, bytes);
}

impl<E> Drop for Block<E> {
    #[cfg(not(any(loom, miri, shuttle)))]
    fn drop(&mut self) {
        // SAFETY: the cell is from `allocate`, and nobody else owns it.
        unsafe { pool::release(self.header.cast()) };
    }

    #[cfg(any(loom, miri, shuttle))]
    fn drop(&mut self) {
        // SAFETY: an owned block's header is initialised.
        let len = unsafe { self.header.as_ref() }.len;
        let Some((layout, at)) = layout::<E>(len) else { return };
        // Under loom blocks are spoilt and kept, so that a late reader sees rubbish, and a test can tell, instead of undefined
        // behaviour. Under shuttle too, but they are not kept: whole stores work there, many thousands of times.
        #[cfg(loom)]
        // SAFETY: as for the header; loom reports accesses that are not ordered before.
        unsafe {
            self.header.as_ref().life.with_mut(|alive| *alive = false);
        }
        #[cfg(any(loom, shuttle))]
        // SAFETY: the elements are `len` values of plain memory in this allocation, which nobody else owns.
        unsafe {
            self.header.as_ptr().byte_add(at).cast::<E>().write_bytes(0xDE, len);
        }
        #[cfg(not(loom))]
        // SAFETY: the allocation was made with this very layout, and nobody else owns it.
        unsafe {
            std::alloc::dealloc(self.header.as_ptr().cast::<u8>(), layout);
        }
        let _ = (layout, at);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn round_trip<E: Copy + PartialEq + std::fmt::Debug + Send + Sync>(elements: &[E]) {
        let guard = crate::epoch::pin();
        let block = Block::new(elements);
        assert!(
            block.footprint() >= size_of_val(elements) && block.footprint() < size_of_val(elements) * 2 + 128
        );
        let raw = block.into_raw();
        // SAFETY: made just above and not yet freed.
        assert_eq!(unsafe { view(raw, &guard) }, elements);
        // SAFETY: taken back once.
        drop(unsafe { Block::from_raw(raw) });
    }

    #[test]
    fn any_length_and_alignment_comes_back() {
        #[derive(Clone, Copy, PartialEq, Debug)]
        #[repr(align(32))]
        struct Wide([u8; 32]);
        for len in [0, 1, 7, 8, 9, 4096] {
            round_trip(&vec![0xA5_u8; len]);
            round_trip(&vec![0x1234_5678_u32; len]);
            round_trip(&vec![u128::MAX; len]);
            round_trip(&vec![Wide([7; 32]); len]);
        }
        round_trip(&[(); 3]);
    }
}
