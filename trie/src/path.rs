//! Nibble paths: views of a range of half-bytes, high half first.

use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

/// The longest key, in bytes, that a trie takes: 512 bytes are 1,024 nibbles.
pub const MAX_KEY_BYTES: usize = 512;

/// Nibble `index` of `bytes`, counted from the high half of the first byte; 0 past the end.
#[inline]
pub fn nibble(bytes: &[u8], index: usize) -> u8 {
    match bytes.get(index / 2) {
        Some(byte) if index.is_multiple_of(2) => byte >> 4,
        Some(byte) => byte & 0x0f,
        None => 0,
    }
}

/// How many nibbles `a` and `b` share from nibble `from` on; both are compared up to nibble `to`.
pub fn common_prefix(a: &[u8], b: &[u8], from: usize, to: usize) -> usize {
    let end = to.min(a.len() * 2).min(b.len() * 2);
    let mut at = from;
    if at % 2 == 1 && at < end {
        if nibble(a, at) != nibble(b, at) {
            return at - from;
        }
        at += 1;
    }
    let start_byte = at / 2;
    let whole = a.iter().zip(b).skip(start_byte).take_while(|(x, y)| x == y).count();
    at = (start_byte + whole) * 2;
    while at < end && nibble(a, at) == nibble(b, at) {
        at += 1;
    }
    at.min(end).saturating_sub(from)
}

/// A view of the nibbles `start..end` of a byte string.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    bytes: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Path<'a> {
    /// All nibbles of `bytes`.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self { bytes, start: 0, end: bytes.len() * 2 }
    }

    /// The nibbles `start..end` of `bytes`, cut to what is there.
    pub fn range(bytes: &'a [u8], start: usize, end: usize) -> Self {
        let end = end.min(bytes.len() * 2);
        Self { bytes, start: start.min(end), end }
    }

    /// How many nibbles.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is no nibble.
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Nibble `index` of this path; 0 past its end.
    pub fn at(&self, index: usize) -> u8 {
        if index < self.len() { nibble(self.bytes, self.start + index) } else { 0 }
    }

    /// The path without its first `count` nibbles.
    pub fn skip(&self, count: usize) -> Self {
        Self { start: (self.start + count).min(self.end), ..*self }
    }

    /// The nibbles in order.
    pub fn nibbles(&self) -> impl ExactSizeIterator<Item = u8> + use<'a> {
        let path = *self;
        (0..path.len()).map(move |index| path.at(index))
    }

    /// Appends the nibbles two a byte, high half first. Of an odd number the last one is left out.
    pub fn pack(&self, out: &mut Vec<u8>) {
        match self.bytes.get(self.start / 2..self.end / 2) {
            // The path of a leaf always ends with a whole byte, so its pairs are the key's own bytes.
            Some(bytes) if self.start.is_multiple_of(2) => out.extend_from_slice(bytes),
            // Each byte is the low half of one and the high half of the next.
            _ => {
                let bytes = self.bytes.get(self.start / 2..=(self.start + self.len() / 2 * 2) / 2);
                let pairs = bytes.unwrap_or_default().windows(2).take(self.len() / 2);
                out.extend(pairs.map(|pair| match pair {
                    [high, low] => high << 4 | low >> 4,
                    _ => 0,
                }));
            }
        }
    }

    /// How many nibbles both paths share from their starts.
    pub fn common_prefix(&self, other: &Path<'_>) -> usize {
        self.nibbles().zip(other.nibbles()).take_while(|(a, b)| a == b).count()
    }

    /// Whether `prefix` is a prefix of this path.
    pub fn starts_with(&self, prefix: &Path<'_>) -> bool {
        self.common_prefix(prefix) == prefix.len()
    }
}

impl PartialEq for Path<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.nibbles().eq(other.nibbles())
    }
}

impl Eq for Path<'_> {}

impl Ord for Path<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nibbles().cmp(other.nibbles())
    }
}

impl PartialOrd for Path<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nibbles().try_for_each(|nibble| write!(f, "{nibble:x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_are_read_high_half_first() {
        let path = Path::range(&[0x12, 0x34, 0x56], 1, 5);
        assert!(path.nibbles().eq([2, 3, 4, 5]));
        assert_eq!(path.skip(2), Path::range(&[0x45], 0, 2));
    }

    #[test]
    fn packing_pairs_nibbles_from_the_start_of_the_path() {
        for (start, end, packed) in [(0, 6, &[0x12, 0x34, 0x56][..]), (1, 5, &[0x23, 0x45]), (2, 5, &[0x34])]
        {
            let mut out = Vec::new();
            Path::range(&[0x12, 0x34, 0x56], start, end).pack(&mut out);
            assert_eq!(out, packed);
        }
    }

    #[test]
    fn common_prefix_agrees_with_a_nibble_loop() {
        let keys: [&[u8]; 5] = [&[], &[0x12, 0x34], &[0x12, 0x35], &[0x12], &[0x92, 0x34, 0x56]];
        for a in keys {
            for b in keys {
                for from in 0..5 {
                    let slow = Path::range(a, from, 99).common_prefix(&Path::range(b, from, 99));
                    assert_eq!(common_prefix(a, b, from, 99), slow, "{a:?} {b:?} from {from}");
                }
            }
        }
    }
}
