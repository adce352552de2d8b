//! The bytes of one simulated file: sparse, and cheap to keep many versions of.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

/// Unit of sharing and of disk space, in bytes.
pub(super) const PAGE: u64 = 4096;
const PAGE_LEN: usize = PAGE as usize;

type Page = [u8; PAGE_LEN];

/// A change of a file's bytes that a sync has not yet made durable.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, data: Bytes },
    SetLen { len: u64, reserve: bool },
}

/// A file's bytes. Pages that were never written are absent and read as zeros; a clone shares all pages.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    /// The first so many bytes have their space reserved, written or not.
    reserved: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Content {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, data } => self.write(*offset, data),
            Change::SetLen { len, reserve } => self.set_len(*len, *reserve),
        }
    }

    /// Writes `data` at `offset`; the end fits a `u64`, which the callers have checked.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE_LEN - within));
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Arc::new([0; PAGE_LEN]));
            if let Some(target) = Arc::make_mut(page).get_mut(within..within + now.len()) {
                target.copy_from_slice(now);
            }
            at = at.saturating_add(now.len() as u64);
            rest = later;
        }
        self.len = self.len.max(at);
    }

    pub(super) fn set_len(&mut self, len: u64, reserve: bool) {
        if len < self.len {
            drop(self.pages.split_off(&len.div_ceil(PAGE)));
            let within = (len % PAGE) as usize;
            if let Some(page) = self.pages.get_mut(&(len / PAGE))
                && let Some(tail) = Arc::make_mut(page).get_mut(within..)
            {
                tail.fill(0);
            }
            self.reserved = self.reserved.min(len);
        }
        self.len = len;
        if reserve {
            self.reserved = self.reserved.max(len);
        }
    }

    /// Makes the file at least `len` long, as when only its length reached the disk.
    pub(super) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Fills `buf` from `offset`; `false`, with `buf` untouched, where the file ends before.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> bool {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return false;
        }
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let n = rest.len().min(PAGE_LEN - within);
            let (now, later) = rest.split_at_mut(n);
            match self.pages.get(&(at / PAGE)).and_then(|page| page.get(within..within + n)) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => now.fill(0),
            }
            at += n as u64;
            rest = later;
        }
        true
    }

    /// Pages of disk space taken.
    pub(super) fn space(&self) -> u64 {
        let reserved = self.reserved.div_ceil(PAGE);
        reserved + self.pages.range(reserved..).count() as u64
    }

    /// Pages of disk space that reserving the first `len` bytes would take on top.
    pub(super) fn space_to_reserve(&self, len: u64) -> u64 {
        let mut after = self.clone();
        after.set_len(len, true);
        after.space().saturating_sub(self.space())
    }

    /// How many of `len` bytes written at `offset` find room if `free` pages are left.
    pub(super) fn room_for(&self, offset: u64, len: u64, free: u64) -> u64 {
        let end = offset.saturating_add(len);
        let reserved = self.reserved.div_ceil(PAGE);
        let mut free = free;
        for page in offset / PAGE..end.div_ceil(PAGE) {
            if page < reserved || self.pages.contains_key(&page) {
                continue;
            }
            if free == 0 {
                return (page * PAGE).saturating_sub(offset).min(len);
            }
            free -= 1;
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut buf = vec![0; content.len() as usize];
        assert!(content.read(&mut buf, 0));
        buf
    }

    #[test]
    fn bytes_cut_off_come_back_as_zeros() {
        let mut content = Content::new(&[9; 10_000]);
        content.set_len(5000, false);
        content.set_len(9000, false);
        let mut expected = vec![9; 5000];
        expected.resize(9000, 0);
        assert_eq!(bytes(&content), expected);
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut content = Content::new(&[1; 5000]);
        let before = content.clone();
        content.write(4090, &[2; 10]);
        assert_eq!(bytes(&before), [1; 5000]);
        assert_eq!(bytes(&content)[4090..4100], [2; 10]);
    }

    #[test]
    fn holes_take_no_space_and_reserved_bytes_do() {
        let mut content = Content::default();
        content.set_len(1 << 40, false);
        assert_eq!(content.space(), 0);
        content.write(PAGE * 10 - 1, &[1, 2]);
        assert_eq!(content.space(), 2);
        assert_eq!(content.space_to_reserve(PAGE * 10), 8);
        content.set_len(PAGE * 10, true);
        assert_eq!(content.space(), 10);
        assert_eq!(content.room_for(PAGE * 9, PAGE * 3, 1), PAGE * 2);
        assert_eq!(content.room_for(PAGE * 10 + 5, 10, 0), 0);
        assert_eq!(content.room_for(PAGE * 9, 10, 0), 10);
    }
}
