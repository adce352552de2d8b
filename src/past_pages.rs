//! Upper pages of the past that were read last: those near the root, which all proofs at one version go through.
//!
//! Each record has one place among some, which the last one that was read holds: nothing waits for anything, and nothing is kept in order.
//! What a record says never changes, so what is kept is never outdated; it is only of use for as long as the record's versions are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use bristlecone_delta::Locator;
use bristlecone_trie::NodeRef;

/// As many as are kept at most: the root pages of some versions, and what is below them.
const MOST: u64 = 256;
/// A larger page is not kept.
const PAGE_BYTES: u64 = 32 << 10;
/// One byte in so many of the cache is for them.
const SHARE: u64 = 64;

/// A stored page in memory form, with its references computed and compared with what its parent holds.
#[derive(Debug)]
pub(crate) struct LoadedPage {
    pub(crate) bytes: Vec<u8>,
    pub(crate) refs: Vec<NodeRef>,
}

/// A page that was loaded, and the record that it comes from.
#[derive(Debug)]
struct Kept {
    locator: Locator,
    page: Arc<LoadedPage>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PastPages {
    places: Box<[ArcSwapOption<Kept>]>,
    bytes: AtomicU64,
}

impl PastPages {
    /// Room for a small part of `cache_bytes`; for none where that is less than a page.
    pub(crate) fn new(cache_bytes: u64) -> Self {
        let places = (cache_bytes / SHARE / PAGE_BYTES).min(MOST);
        Self { places: (0..places).map(|_| ArcSwapOption::empty()).collect(), bytes: AtomicU64::new(0) }
    }

    fn place(&self, locator: Locator) -> Option<&ArcSwapOption<Kept>> {
        // Neighbours in the log are often pages of one path: they go to different places.
        let at = locator.word().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.places.get((at as usize).checked_rem(self.places.len())?)
    }

    /// The page at `locator`, if it is kept.
    pub(crate) fn get(&self, locator: Locator) -> Option<Arc<LoadedPage>> {
        let kept = self.place(locator)?.load();
        kept.as_ref().filter(|kept| kept.locator == locator).map(|kept| kept.page.clone())
    }

    /// Keeps a page, in the place of another.
    pub(crate) fn keep(&self, locator: Locator, page: Arc<LoadedPage>) {
        let Some(place) = self.place(locator).filter(|_| size(&page) <= PAGE_BYTES) else { return };
        self.bytes.fetch_add(size(&page), Ordering::Relaxed);
        if let Some(old) = place.swap(Some(Arc::new(Kept { locator, page }))) {
            self.bytes.fetch_sub(size(&old.page), Ordering::Relaxed);
        }
    }

    /// Memory that they take, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) + size_of_val(&self.places[..]) as u64
    }
}

fn size(page: &LoadedPage) -> u64 {
    (size_of::<Kept>()
        + size_of::<LoadedPage>()
        + page.bytes.capacity()
        + page.refs.capacity() * size_of::<NodeRef>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: usize) -> Arc<LoadedPage> {
        Arc::new(LoadedPage { bytes: vec![7; bytes], refs: Vec::new() })
    }

    #[test]
    fn what_was_kept_last_is_found_and_sizes_are_those_of_what_is_there() {
        let at = |record| Locator::new(1, record).unwrap();
        let pages = PastPages::new(SHARE * PAGE_BYTES * 4);
        let empty = pages.size();
        (0..100).for_each(|record| pages.keep(at(record), page(record as usize)));
        assert_eq!(pages.get(at(99)).unwrap().bytes.len(), 99);
        let found: Vec<Arc<LoadedPage>> = (0..100).filter_map(|record| pages.get(at(record))).collect();
        assert_eq!(found.len(), 4);
        assert_eq!(pages.size() - empty, found.iter().map(|page| size(page)).sum::<u64>());
        pages.keep(at(100), page(PAGE_BYTES as usize));
        assert!(pages.get(at(100)).is_none(), "too large");
        let none = PastPages::new(SHARE * PAGE_BYTES - 1);
        none.keep(at(1), page(1));
        assert!(none.get(at(1)).is_none());
        assert_eq!(none.size(), 0);
    }
}
