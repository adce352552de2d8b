//! Finding a key in one page.

use core::cmp::Ordering;

use super::{ACCOUNT_BYTES, ACCOUNT_DEPTH, HEADER, Head, Item, KIND_ACCOUNT, KIND_LEAF, Page, print};
use crate::path::nibble;

/// Where a key is, in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// The entry of exactly this key.
    Here(usize),
    /// The entry whose path is a proper or improper prefix of the key: a child page or a blinded node.
    Into(usize),
    /// No entry; it would stand before this one.
    Absent(usize),
}

/// Orders a path (whole bytes `tail`, cut at `nibbles`) against a key that starts at the same byte; a path that is
/// a prefix of the key sorts first.
#[inline]
fn compare(tail: &[u8], nibbles: usize, key: &[u8]) -> Ordering {
    let whole = nibbles / 2;
    let head = tail.get(..whole).unwrap_or(tail);
    let cut = head.len().min(key.len());
    let (key_head, key_rest) = key.split_at(cut);
    // The comparison of no bytes is a call that some machines take long for.
    let order = if head.is_empty() { Ordering::Equal } else { head.cmp(key_head) };
    order.then_with(|| match (nibbles % 2, key_rest.first()) {
        (0, None) => Ordering::Equal,
        (0, Some(_)) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (_, Some(byte)) => nibble(tail, nibbles - 1).cmp(&(byte >> 4)).then(Ordering::Less),
    })
}

/// Whether the first `nibbles` of a path (whole bytes `tail`) are also the first of a key that starts at the same byte.
#[inline]
fn leads(tail: &[u8], nibbles: usize, key: &[u8]) -> bool {
    let whole = nibbles / 2;
    let (Some(head), Some(key_head)) = (tail.get(..whole), key.get(..whole)) else { return false };
    // Between pages it is a byte or two: less than a call to compare them takes.
    let same = if whole <= 4 { head.iter().zip(key_head).all(|(a, b)| a == b) } else { head == key_head };
    same && (nibbles.is_multiple_of(2)
        || key.get(whole).is_some_and(|byte| byte >> 4 == nibble(tail, nibbles - 1)))
}

impl<'a> Page<'a> {
    /// Finds `key` (all of its bytes, from the root of the trie on). The key must have the stem as a prefix.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Find {
        let depth = self.depth();
        let key_tail = key.get(depth / 2..).unwrap_or_default();
        let target = print(key_tail, depth);
        let start = self.lower_bound(target);
        let mut index = start;
        // The last entry that is not greater than the key, if it is among those with an equal print.
        let mut last = None;
        let mut in_account = false;
        while index < self.len && self.print_at(index) == target {
            let entry = self.head(index);
            let order = if entry.below {
                if !in_account {
                    index += 1;
                    continue;
                }
                compare(entry.tail, entry.end - ACCOUNT_DEPTH, key.get(ACCOUNT_BYTES..).unwrap_or_default())
            } else {
                compare(entry.tail, entry.end - (depth & !1), key_tail)
            };
            match order {
                Ordering::Greater => break,
                Ordering::Equal if !entry.is_child() && !entry.is_blinded() => return Find::Here(index),
                _ => {}
            }
            in_account =
                entry.below || entry.is_account() && key.get(depth / 2..ACCOUNT_BYTES) == Some(entry.tail);
            last = Some(index);
            index += 1;
        }
        let candidate = match last {
            Some(index) => Some(index),
            None => start.checked_sub(1),
        };
        match candidate {
            Some(at) if self.holds(at, key, last.is_some()) => Find::Into(at),
            _ => Find::Absent(index),
        }
    }

    /// The bytes that [`look`](Self::look) is likely to read behind the front of the page, found without reading them: for having them
    /// fetched. A guess; the answer does not depend on it.
    #[inline]
    pub fn likely(&self, key: &[u8]) -> &'a [u8] {
        let depth = self.depth();
        let target = print(key.get(depth / 2..).unwrap_or_default(), depth);
        let at = self.lower_bound(target);
        let is_here = at < self.len && self.print_at(at) == target;
        self.raw(if is_here { at } else { at.saturating_sub(1) })
    }

    /// What stands at `key`, or leads to it: the item of the entry that [`find`](Self::find) finds, with each entry parsed
    /// only once. The key must have the stem as a prefix.
    #[inline]
    pub fn look(&self, key: &[u8]) -> Option<Item<'a>> {
        if self.has_accounts() {
            return match self.find(key) {
                Find::Here(at) | Find::Into(at) => Some(self.entry(at).item),
                Find::Absent(_) => None,
            };
        }
        let depth = self.depth();
        let stem = depth & !1;
        let key_tail = key.get(depth / 2..).unwrap_or_default();
        let target = print(key_tail, depth);
        let mut index = self.lower_bound(target);
        let mut last = index.checked_sub(1);
        while index < self.len && self.print_at(index) == target {
            let raw = self.raw(index);
            let head = Head::parse(raw, depth);
            match compare(head.tail, head.end.saturating_sub(stem), key_tail) {
                Ordering::Greater => break,
                Ordering::Equal if !head.is_child() => return Some(head.item(raw)),
                _ => {}
            }
            last = Some(index);
            index += 1;
        }
        let raw = self.raw(last?);
        let head = Head::parse(raw, depth);
        let is_way = head.kind != KIND_LEAF && leads(head.tail, head.end.saturating_sub(stem), key_tail);
        is_way.then(|| head.item(raw))
    }

    /// Whether entry `at` is a child or a blinded node whose path is a prefix of `key`.
    fn holds(&self, at: usize, key: &[u8], same_account: bool) -> bool {
        let entry = self.head(at);
        let start = match entry.kind {
            KIND_LEAF | KIND_ACCOUNT => return false,
            _ if !entry.below => self.depth() / 2,
            _ if same_account && self.account_of(at, key) => ACCOUNT_BYTES,
            _ => return false,
        };
        leads(entry.tail, entry.end - start * 2, key.get(start..).unwrap_or_default())
    }

    /// Whether the account entry before `at` is that of `key`.
    fn account_of(&self, at: usize, key: &[u8]) -> bool {
        (0..at)
            .rev()
            .map(|index| self.head(index))
            .find(|entry| !entry.below)
            .is_some_and(|entry| Some(entry.tail) == key.get(self.depth() / 2..ACCOUNT_BYTES))
    }

    /// The first entry whose print is not below `target`.
    #[inline]
    fn lower_bound(&self, target: u16) -> usize {
        let prints = self.bytes.get(HEADER..HEADER + self.len * 2).unwrap_or_default();
        if self.len <= 64 {
            let (pairs, _) = prints.as_chunks::<2>();
            return pairs.iter().filter(|pair| u16::from_le_bytes(**pair) < target).count();
        }
        let (mut low, mut high) = self.around(target);
        while low < high {
            let middle = (low + high) / 2;
            if self.print_at(middle) < target {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Bounds of [`lower_bound`](Self::lower_bound) in a page of many entries: most have children of random keys, whose prints are
    /// spread evenly, so that it is found where the number says, or next to it.
    #[inline]
    fn around(&self, target: u16) -> (usize, usize) {
        let guess = (usize::from(target) * self.len) >> 16;
        let mut step = 1;
        if self.print_at(guess) < target {
            let mut low = guess + 1;
            loop {
                let probe = low + step - 1;
                if probe >= self.len || self.print_at(probe) >= target {
                    return (low, probe.min(self.len));
                }
                low = probe + 1;
                step *= 2;
            }
        }
        let mut high = guess;
        loop {
            match high.checked_sub(step) {
                None => return (0, high),
                Some(probe) if self.print_at(probe) < target => return (probe + 1, high),
                Some(probe) => high = probe,
            }
            step *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Entry, PageBuilder};
    use alloc::vec::Vec;

    #[test]
    fn accounts_that_part_in_their_last_nibbles_keep_their_slots() {
        for depth in 56..ACCOUNT_DEPTH {
            let account = |last: u8| [&[0x11; ACCOUNT_BYTES - 1][..], &[last]].concat();
            let slots = [[0; ACCOUNT_BYTES], [0x22; ACCOUNT_BYTES], [0xff; ACCOUNT_BYTES]];
            let mut builder = PageBuilder::new(depth);
            for last in [0x10, 0x11, 0x1f] {
                let item = Item::Account { stamp: 1, wiped: 0, body: &[] };
                builder.push(&Entry {
                    below: false,
                    end: ACCOUNT_DEPTH,
                    tail: account(last).get(depth / 2..).unwrap(),
                    item,
                });
                for slot in &slots {
                    let item = Item::Leaf { stamp: 1, value: &[1] };
                    builder.push(&Entry { below: true, end: 2 * ACCOUNT_DEPTH, tail: slot, item });
                }
            }
            let bytes = builder.finish();
            let page = Page::new(&bytes);
            for (at, last) in [(0, 0x10), (4, 0x11), (8, 0x1f)] {
                assert_eq!(page.find(&account(last)), Find::Here(at), "depth {depth}");
                for (below, slot) in slots.iter().enumerate() {
                    assert_eq!(
                        page.find(&[account(last), slot.to_vec()].concat()),
                        Find::Here(at + 1 + below)
                    );
                }
                let between = [&account(last)[..], &[0x21; ACCOUNT_BYTES]].concat();
                assert_eq!(page.find(&between), Find::Absent(at + 2), "depth {depth}");
            }
        }
    }

    /// Whether [`Page::look`] says of `key` what [`Page::find`] does.
    fn look_agrees(bytes: &[u8], key: &[u8]) {
        let page = Page::new(bytes);
        let expected = match page.find(key) {
            Find::Here(at) | Find::Into(at) => Some(page.entry(at).item),
            Find::Absent(_) => None,
        };
        assert_eq!(page.look(key), expected, "{key:x?}");
        // Asked of any key, and never out of the page.
        assert!(page.likely(key).len() <= bytes.len());
    }

    #[test]
    fn a_look_gives_what_is_found() {
        // Leaves that are prefixes of others, and children of even and odd length, few and (in a wide page) many.
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..300 {
            let mut paths: Vec<(Vec<u8>, usize)> = Vec::new();
            for _ in 0..1 + random(if round % 3 == 0 { 600 } else { 20 }) {
                let bytes: Vec<u8> = (0..1 + random(3)).map(|_| (random(256) & 0xf3) as u8).collect();
                let odd = random(4) == 0;
                let end = bytes.len() * 2 - usize::from(odd);
                let last = if odd { 0xf0 } else { 0xff };
                let (front, tail) = bytes.split_at(bytes.len() - 1);
                paths.push(([front, &[tail[0] & last]].concat(), end));
            }
            paths.sort();
            paths.dedup_by(|a, b| a.0 == b.0);
            // What lies below a child is in the child.
            let mut kept: Vec<(Vec<u8>, usize, bool)> = Vec::new();
            for (path, end) in paths {
                let is_below =
                    |(parent, at, child): &(Vec<u8>, usize, bool)| *child && leads(parent, *at, &path);
                if !kept.iter().any(is_below) {
                    let child = end % 2 == 1 || random(3) == 0;
                    kept.push((path, end, child));
                }
            }
            let mut builder = PageBuilder::new(0);
            for (at, (path, end, child)) in kept.iter().enumerate() {
                let item = match child {
                    true => Item::Child { reference: at as u64 },
                    false => Item::Leaf { stamp: at as u64, value: path },
                };
                builder.push(&Entry { below: false, end: *end, tail: path, item });
            }
            let bytes = builder.finish();
            for (path, ..) in &kept {
                for key in [path.clone(), [&path[..], &[0]].concat(), [&path[..], &[7]].concat()] {
                    look_agrees(&bytes, &key);
                }
                look_agrees(&bytes, path.split_last().unwrap().1);
            }
            for _ in 0..50 {
                let key: Vec<u8> = (0..random(5)).map(|_| random(256) as u8).collect();
                look_agrees(&bytes, &key);
            }
        }
    }

    #[test]
    fn a_bound_is_found_wherever_the_prints_lie() {
        for spread in [1, 3, 200, 65_535] {
            let prints: Vec<u16> = (0..200_u32).map(|at| ((at * spread) % 65_536) as u16).collect();
            let mut sorted = prints;
            sorted.sort_unstable();
            sorted.dedup();
            let mut builder = PageBuilder::new(0);
            for print in &sorted {
                let item = Item::Leaf { stamp: 1, value: &[] };
                builder.push(&Entry { below: false, end: 4, tail: &print.to_be_bytes(), item });
            }
            let bytes = builder.finish();
            let page = Page::new(&bytes);
            for target in (0..=u16::MAX).step_by(7).chain(sorted.iter().copied()) {
                assert_eq!(page.lower_bound(target), sorted.partition_point(|print| *print < target));
            }
        }
    }
}
