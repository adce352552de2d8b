//! What will be needed soon. Pages lie scattered in memory, and a walk that asks for them some steps ahead waits for many at once.

/// What of a page will be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Where it is: what finds the page and its references.
    Place,
    /// The page; its place was hinted at before.
    Page,
    /// Its references; its place was hinted at before.
    Refs,
}

/// How many steps ahead each is hinted at: far enough for memory to answer, near enough for the nearest caches to hold all of it.
pub(crate) const PLACE_AHEAD: usize = 24;
pub(crate) const PAGE_AHEAD: usize = 16;
pub(crate) const SOURCE_AHEAD: usize = 8;
pub(crate) const REFS_AHEAD: usize = 4;
