//! Checksums: keyed BLAKE3, cut to eight bytes, bound to the store and to the place of what they cover.

use crate::format::STORE_ID_BYTES;

/// What a checksum covers. Two things that differ in it never share a checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Domain {
    /// The identity file.
    Identity = 1,
    /// The header of a segment file.
    Segment = 2,
    /// The header of a group.
    Group = 3,
    /// The table of a group.
    GroupTable = 4,
    /// A record of a segment.
    Record = 5,
    /// The header of a log file.
    LogFile = 6,
    /// The header of a record of the batch log.
    LogHead = 7,
    /// A record of the batch log.
    LogRecord = 8,
    /// The header of a compacted segment.
    Compacted = 9,
    /// The index of a compacted segment.
    Index = 10,
    /// The file of what is dead.
    DeadFile = 11,
}

/// Computes the checksums of one store.
#[derive(Clone, Debug)]
pub(crate) struct Checker {
    key: [u8; 32],
}

impl Checker {
    /// For the store with this identity.
    pub(crate) fn new(id: &[u8; STORE_ID_BYTES]) -> Self {
        Self { key: blake3::derive_key("bristlecone store checksum v1", id) }
    }

    /// The checksum of `bytes` at the place (`file`, `place`) of its domain.
    pub(crate) fn sum(&self, domain: Domain, file: u64, place: u64, bytes: &[u8]) -> u64 {
        let mut prefix = [0; 17];
        let (kind, numbers) = prefix.split_at_mut(1);
        kind.fill(domain as u8);
        let (first, second) = numbers.split_at_mut(8);
        first.copy_from_slice(&file.to_le_bytes());
        second.copy_from_slice(&place.to_le_bytes());
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&prefix).update(bytes);
        let hash = hasher.finalize();
        hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_depends_on_store_domain_place_and_bytes() {
        let checker = Checker::new(&[1; 16]);
        let sum = checker.sum(Domain::Record, 2, 3, b"abc");
        assert_eq!(sum, Checker::new(&[1; 16]).sum(Domain::Record, 2, 3, b"abc"));
        for other in [
            Checker::new(&[2; 16]).sum(Domain::Record, 2, 3, b"abc"),
            checker.sum(Domain::GroupTable, 2, 3, b"abc"),
            checker.sum(Domain::Record, 3, 3, b"abc"),
            checker.sum(Domain::Record, 2, 2, b"abc"),
            checker.sum(Domain::Record, 2, 3, b"abd"),
            checker.sum(Domain::Record, 2, 3, b"abc\0"),
        ] {
            assert_ne!(sum, other);
        }
    }

    #[test]
    fn the_checksum_is_golden() {
        let key = blake3::derive_key("bristlecone store checksum v1", &[7; 16]);
        let mut input = vec![5];
        input.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        input.extend_from_slice(b"record");
        let whole = blake3::keyed_hash(&key, &input);
        let sum = Checker::new(&[7; 16]).sum(Domain::Record, 1, 2, b"record");
        assert_eq!(sum.to_le_bytes(), whole.as_bytes()[..8]);
    }
}
