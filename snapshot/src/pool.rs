//! Memory for blocks: cells of fixed sizes in spans, spans in large aligned regions.
//!
//! Pages and their hashes are a few hundred bytes to a few kilobytes, they are made by one thread and freed by another, all of
//! them in time, and reads jump between them at random. A general allocator pays for that with cache misses when it frees, with pages given
//! back to the system and zeroed again, and with address translation. Here freeing does not touch what is freed, regions ask for huge
//! pages, and memory is given back a span at a time.
//!
//! ```text
//! region   4 MiB, aligned to 2 MiB: 16 spans
//! span     256 KiB, aligned to its size: a header, then cells of one size
//! large    what no cell takes: an allocation of its own, aligned like a span and with the same header in front
//! ```
//!
//! Safety. A cell is handed out when its bit is taken from the span's map and given back by setting it, both under the lock of its
//! size, so that a cell has one owner at a time. A span's header is found from any address in it by its alignment; its size class
//! is written before the first cell leaves and not again while a cell is out, so that `release` may read it without the lock. The rest of the
//! header is only touched under the lock of that class. A span is spare when all of its cells are there, and then belongs to the one
//! list of those, under its lock. Regions stay for as long as the process; the memory of spans that are spare goes back to the system.
#![expect(unsafe_code, reason = "an allocator")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::sync::Mutex;

use crate::sync::lock;

const SPAN: usize = 256 << 10;
const REGION: usize = 4 << 20;
const HUGE_PAGE: usize = 2 << 20;
/// Cells begin behind the header, each on a cache line.
const LINE: usize = 64;
/// What cells are aligned to.
pub(crate) const ALIGN: usize = LINE;
/// So many spans without a cell in use are kept for the next: memory that grows and shrinks is not fetched anew each time. A run's
/// superseded pages are freed at once, and take more; but memory that nobody uses is not free either.
const KEPT_SPANS: usize = 96;

/// Sizes of cells: in steps of a line, then of 256 bytes, then of 2 KiB.
const SMALL: usize = 2 << 10;
const MIDDLE: usize = 8 << 10;
const LARGEST: usize = 32 << 10;
const CLASSES: usize = SMALL / LINE + (MIDDLE - SMALL) / 256 + (LARGEST - MIDDLE) / 2048;
/// The class of what has an allocation of its own.
const LARGE: u32 = u32::MAX;

/// Which class holds `bytes`, and the size of its cells.
fn class_of(bytes: usize) -> Option<(usize, usize)> {
    if bytes <= SMALL {
        let class = bytes.max(1).div_ceil(LINE);
        Some((class - 1, class * LINE))
    } else if bytes <= MIDDLE {
        let class = (bytes - SMALL).div_ceil(256);
        Some((SMALL / LINE + class - 1, SMALL + class * 256))
    } else if bytes <= LARGEST {
        let class = (bytes - MIDDLE).div_ceil(2048);
        Some((SMALL / LINE + (MIDDLE - SMALL) / 256 + class - 1, MIDDLE + class * 2048))
    } else {
        None
    }
}

/// Words of the largest map: cells of a line fill a span.
const MAP: usize = SPAN / LINE / 64;

#[repr(C)]
struct Span {
    class: u32,
    cells: u32,
    /// Bytes of a cell; of a large allocation, of its block.
    size: usize,
    free: u32,
    /// Where in the map to look first: there is no free cell in words before it.
    first: u32,
    /// In which list it is, if it is in one.
    list: usize,
    /// Neighbours among the spans of its class that have a free cell.
    before: *mut Span,
    after: *mut Span,
    /// A set bit is a free cell.
    map: [u64; MAP],
}

/// Where the first cell is.
const FIRST: usize = size_of::<Span>().next_multiple_of(LINE);
const _: () = assert!(FIRST < SPAN / 16 && REGION.is_multiple_of(SPAN) && REGION.is_multiple_of(HUGE_PAGE));

/// The spans of one class that have a free cell, by how many of their cells are free: those with few first. They are filled, while those
/// with many, left alone, empty, and serve another class or nobody.
struct Class {
    lists: [List; LISTS],
}

/// In so many parts spans are told apart by their free cells.
const LISTS: usize = 8;

/// Spans, the one to take from first.
struct List {
    head: *mut Span,
    tail: *mut Span,
}

const EMPTY: List = List { head: ptr::null_mut(), tail: ptr::null_mut() };

/// Spans without a cell in use.
struct Regions {
    /// Their memory is there.
    spare: Vec<*mut Span>,
    /// Their memory was given back, or was never touched.
    empty: Vec<*mut Span>,
    /// Spans in all regions.
    spans: usize,
}

// SAFETY: spans belong to the pool, whichever thread holds the lock.
unsafe impl Send for List {}
// SAFETY: as above.
unsafe impl Send for Regions {}

static POOL: [Mutex<Class>; CLASSES] = [const { Mutex::new(Class { lists: [EMPTY; LISTS] }) }; CLASSES];
static REGIONS: Mutex<Regions> = Mutex::new(Regions { spare: Vec::new(), empty: Vec::new(), spans: 0 });

/// Memory of at least `bytes` bytes, aligned to a cache line. Aborts where the system has none, like `Vec`.
pub(crate) fn allocate(bytes: usize) -> NonNull<u8> {
    let Some((class, size)) = class_of(bytes) else { return large(bytes) };
    #[expect(clippy::indexing_slicing, reason = "classes are counted by the same constants")]
    let mut class_lock = lock(&POOL[class]);
    let fullest = class_lock.lists.iter_mut().find(|list| !list.head.is_null());
    let list = match fullest {
        Some(list) => list,
        None => {
            let span = lock(&REGIONS).take();
            let list = &mut class_lock.lists[LISTS - 1];
            // SAFETY: a span without a cell in use is ours alone; it is aligned and has room for its header. It is of this class
            // then, and in no list.
            unsafe {
                Span::begin(span, class as u32, size);
                list.push(span);
            }
            list
        }
    };
    // SAFETY: spans of the list have a free cell, and are touched only under the lock that is held.
    unsafe { list.take() }
}

/// How much memory a cell takes.
///
/// # Safety
/// `cell` came from `allocate` and was not given back since.
pub(crate) unsafe fn footprint(cell: NonNull<u8>) -> usize {
    let (span, _) = span_of(cell);
    // SAFETY: class and size stand while a cell is out.
    let (class, size) = unsafe { ((*span).class, (*span).size) };
    if class == LARGE { size + FIRST } else { size }
}

/// The span in which a cell lies, and how far in.
fn span_of(cell: NonNull<u8>) -> (*mut Span, usize) {
    let offset = cell.as_ptr().addr() % SPAN;
    (cell.as_ptr().wrapping_byte_sub(offset).cast(), offset)
}

/// Gives back what [`allocate`] gave.
///
/// # Safety
/// `cell` came from `allocate` and was not given back since; nobody reads or writes it any more.
pub(crate) unsafe fn release(cell: NonNull<u8>) {
    let (span, offset) = span_of(cell);
    // SAFETY: class and size stand while a cell is out.
    let (class, size) = unsafe { ((*span).class, (*span).size) };
    let Some(class) = POOL.get(class as usize) else {
        if let Some(layout) = large_layout(size) {
            // SAFETY: large allocations have their header in front, and were made with this layout.
            unsafe { dealloc(span.cast(), layout) };
        }
        return;
    };
    let mut class = lock(class);
    // SAFETY: the span is of this class, whose lock is held.
    unsafe {
        let cell = (offset - FIRST) / size;
        let (word, bit) = (cell / 64, 1 << (cell % 64));
        if let Some(word) = (*span).map.get_mut(word) {
            debug_assert_eq!(*word & bit, 0, "a cell is given back twice");
            *word |= bit;
        }
        (*span).first = (*span).first.min(word as u32);
        (*span).free += 1;
        let (free, cells) = ((*span).free, (*span).cells);
        if free == cells && !class.is_last(span) {
            if free > 1
                && let Some(list) = class.lists.get_mut((*span).list)
            {
                list.remove(span);
            }
            lock(&REGIONS).give(span);
            return;
        }
        let to = (free - 1) as usize * LISTS / cells as usize;
        let from = (*span).list;
        if free > 1 && from == to {
            return;
        }
        if free > 1
            && let Some(list) = class.lists.get_mut(from)
        {
            list.remove(span);
        }
        if let Some(list) = class.lists.get_mut(to) {
            (*span).list = to;
            list.push(span);
        }
    }
}

impl Class {
    /// Whether no other span of the class has a free cell. That one stays.
    fn is_last(&self, span: *mut Span) -> bool {
        self.lists.iter().all(|list| list.head == list.tail && (list.head.is_null() || list.head == span))
    }
}

impl Span {
    /// Makes it a span of `class` with all cells free.
    ///
    /// # Safety
    /// `span` is a whole span, aligned, that nobody else touches.
    unsafe fn begin(span: *mut Self, class: u32, size: usize) {
        let cells = (SPAN - FIRST) / size;
        let mut map = [0; MAP];
        for (at, word) in map.iter_mut().enumerate() {
            let left = cells.saturating_sub(at * 64);
            *word = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        }
        let (before, after) = (ptr::null_mut(), ptr::null_mut());
        let cells = cells as u32;
        // SAFETY: by the contract.
        unsafe {
            span.write(Self {
                class,
                cells,
                size,
                free: cells,
                first: 0,
                list: LISTS - 1,
                before,
                after,
                map,
            })
        };
    }
}

impl List {
    /// Puts a span that has a free cell at the end of the list: those before it fill up first, and it may empty meanwhile.
    ///
    /// # Safety
    /// The lock of its class is held; the span is of that class and in no list.
    unsafe fn push(&mut self, span: *mut Span) {
        // SAFETY: by the contract; so are all spans in the list.
        unsafe {
            (*span).before = self.tail;
            (*span).after = ptr::null_mut();
            match self.tail.is_null() {
                true => self.head = span,
                false => (*self.tail).after = span,
            }
        }
        self.tail = span;
    }

    /// Takes a span out of the list.
    ///
    /// # Safety
    /// The lock is held; the span is in the list.
    unsafe fn remove(&mut self, span: *mut Span) {
        // SAFETY: by the contract.
        unsafe {
            let (before, after) = ((*span).before, (*span).after);
            match before.is_null() {
                true => self.head = after,
                false => (*before).after = after,
            }
            match after.is_null() {
                true => self.tail = before,
                false => (*after).before = before,
            }
        }
    }

    /// Takes a cell from the first span.
    ///
    /// # Safety
    /// The lock is held; the list is not empty.
    unsafe fn take(&mut self) -> NonNull<u8> {
        let span = self.head;
        // SAFETY: by the contract; a span in the list has a free cell, and none in words before `first`.
        unsafe {
            let first = (*span).first as usize;
            let words = (*span).map.iter_mut().enumerate().skip(first);
            let mut cell = 0;
            for (at, word) in words.filter(|(_, word)| **word != 0).take(1) {
                cell = at * 64 + word.trailing_zeros() as usize;
                *word &= *word - 1;
                (*span).first = at as u32;
            }
            debug_assert!(cell < (*span).cells as usize);
            // The next cell will be written whole before long: it is fetched meanwhile.
            let next = (*span).map.get((*span).first as usize).copied().unwrap_or_default();
            if next != 0 {
                let next = (*span).first as usize * 64 + next.trailing_zeros() as usize;
                prefetch_for_writing(
                    span.cast::<u8>().wrapping_byte_add(FIRST + next * (*span).size),
                    (*span).size,
                );
            }
            (*span).free -= 1;
            if (*span).free == 0 {
                self.remove(span);
            }
            NonNull::new_unchecked(span.cast::<u8>().byte_add(FIRST + cell * (*span).size))
        }
    }
}

/// Asks for memory that will be written. Nothing is read or written.
#[inline]
fn prefetch_for_writing(start: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes.min(SMALL)).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction or takes it for another prefetch, and it faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(start.cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes);
}

impl Regions {
    /// A span that nobody uses.
    fn take(&mut self) -> *mut Span {
        if let Some(span) = self.spare.pop().or_else(|| self.empty.pop()) {
            return span;
        }
        let layout = Layout::from_size_align(REGION, HUGE_PAGE).unwrap_or(Layout::new::<Span>());
        // SAFETY: the layout is not empty.
        let region = unsafe { alloc(layout) };
        if region.is_null() {
            handle_alloc_error(layout);
        }
        advise(region, REGION, Advice::HugePages);
        // SAFETY: all of them lie in the region, which was made just above.
        let span = |at: usize| unsafe { region.byte_add(at * SPAN) }.cast::<Span>();
        self.spans += REGION / SPAN;
        self.empty.extend((1..REGION / SPAN).rev().map(span));
        span(0)
    }

    /// Takes a span back. Its memory goes back to the system where enough others are spare.
    fn give(&mut self, span: *mut Span) {
        if self.spare.len() < KEPT_SPANS {
            self.spare.push(span);
        } else {
            advise(span.cast(), SPAN, Advice::NotNeeded);
            self.empty.push(span);
        }
    }
}

/// Asks for huge pages where whole ones lie in memory of ours, which may hold something: that stays.
pub(crate) fn advise_huge(start: *mut u8, len: usize) {
    let skipped = start.align_offset(HUGE_PAGE);
    let len = len.saturating_sub(skipped) / HUGE_PAGE * HUGE_PAGE;
    if len != 0 {
        advise(start.wrapping_byte_add(skipped), len, Advice::HugePages);
    }
}

/// Memory that the pool has from the system, in bytes, without what it gave back: cells in use and cells that wait for use, of all tables of
/// the process. What has an allocation of its own is not in it.
pub(crate) fn held() -> usize {
    let regions = lock(&REGIONS);
    (regions.spans - regions.empty.len()) * SPAN
}

enum Advice {
    HugePages,
    NotNeeded,
}

/// Tells the system what is thought of memory of ours: that it needs no content, only of what holds nothing. Where it cannot be told, nothing is lost but speed
/// or room.
#[cfg(target_os = "linux")]
fn advise(start: *mut u8, len: usize, advice: Advice) {
    let advice = match advice {
        Advice::HugePages => rustix::mm::Advice::LinuxHugepage,
        Advice::NotNeeded => rustix::mm::Advice::LinuxDontNeed,
    };
    // SAFETY: the range is memory of ours. Its content stays, or else it is part of a region of which no cell is in use, and may
    // become zeroes.
    let _ = unsafe { rustix::mm::madvise(start.cast(), len, advice) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize, _: Advice) {}

/// An allocation of its own for `bytes`, behind a header like a span's.
#[cold]
fn large(bytes: usize) -> NonNull<u8> {
    let Some(layout) = large_layout(bytes) else { handle_alloc_error(Layout::new::<Span>()) };
    // SAFETY: the layout holds the header at least.
    let raw = unsafe { alloc(layout) };
    let Some(start) = NonNull::new(raw) else { handle_alloc_error(layout) };
    // SAFETY: fresh, aligned, and large enough for the header and what follows it. Of the header no more is used than class and
    // size.
    unsafe {
        Span::begin(start.as_ptr().cast(), LARGE, SPAN);
        (*start.as_ptr().cast::<Span>()).size = bytes;
        start.byte_add(FIRST)
    }
}

fn large_layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(FIRST.checked_add(bytes)?, SPAN).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn every_size_fits_its_class_and_no_class_is_left_out() {
        let mut classes = std::collections::BTreeMap::new();
        for bytes in 0..=LARGEST {
            let (class, size) = class_of(bytes).unwrap();
            assert!(size >= bytes && class < CLASSES && size.is_multiple_of(LINE));
            assert_eq!(*classes.entry(class).or_insert(size), size);
        }
        assert_eq!(classes.len(), CLASSES);
        assert!(class_of(LARGEST + 1).is_none());
    }

    /// Cells are filled with a number of their own, and hold it until they are given back: no two overlap.
    #[test]
    fn cells_keep_what_is_written_to_them_across_threads() {
        std::thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || {
                    let mut random = ChaCha8Rng::seed_from_u64(seed);
                    let mut held: Vec<(NonNull<u8>, usize, u8)> = Vec::new();
                    for step in 0..40_000 {
                        if held.len() > 300 || (!held.is_empty() && random.random_ratio(1, 3)) {
                            let (cell, len, byte) = held.swap_remove(random.random_range(0..held.len()));
                            // SAFETY: the cell is ours, and written.
                            let bytes = unsafe { std::slice::from_raw_parts(cell.as_ptr(), len) };
                            assert!(bytes.iter().all(|other| *other == byte));
                            // SAFETY: from `allocate`, and not given back yet.
                            let footprint = unsafe { footprint(cell) };
                            assert!(footprint >= len && footprint <= len + len / 4 + FIRST);
                            // SAFETY: from `allocate`, once.
                            unsafe { release(cell) };
                        } else {
                            let len = match random.random_range(0..20) {
                                0 => random.random_range(LARGEST..LARGEST * 3),
                                1..4 => random.random_range(SMALL..LARGEST),
                                _ => random.random_range(1..SMALL),
                            };
                            let cell = allocate(len);
                            assert!(cell.as_ptr().addr().is_multiple_of(LINE));
                            let byte = (step as u8).wrapping_mul(31).wrapping_add(seed as u8);
                            // SAFETY: the cell is ours and has room.
                            unsafe { cell.as_ptr().write_bytes(byte, len) };
                            held.push((cell, len, byte));
                        }
                    }
                    for (cell, ..) in held {
                        // SAFETY: from `allocate`, once.
                        unsafe { release(cell) };
                    }
                });
            }
        });
    }
}
