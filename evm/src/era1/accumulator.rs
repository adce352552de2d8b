//! The accumulator: SSZ `hash_tree_root(List[HeaderRecord, 8192])`, with SHA-256.

use alloy_primitives::{B256, U256};
use sha2::{Digest, Sha256};

/// A block in the accumulator.
pub(super) struct HeaderRecord {
    pub(super) hash: B256,
    pub(super) total_difficulty: U256,
}

/// log2 of 8,192.
const DEPTH: usize = 13;

fn pair(left: &[u8], right: &[u8]) -> B256 {
    B256::from_slice(&Sha256::new().chain_update(left).chain_update(right).finalize())
}

/// The root over at most 8,192 records.
pub(super) fn root(records: &[HeaderRecord]) -> B256 {
    let leaf =
        |record: &HeaderRecord| pair(record.hash.as_slice(), &record.total_difficulty.to_le_bytes::<32>());
    let mut level: Vec<B256> = records.iter().map(leaf).collect();
    // The root of a subtree without leaves, as wide as the current level's nodes.
    let mut zero = B256::ZERO;
    for _ in 0..DEPTH {
        level = level
            .chunks(2)
            .map(|nodes| match nodes {
                [left, right] => pair(left.as_slice(), right.as_slice()),
                [left] => pair(left.as_slice(), zero.as_slice()),
                _ => zero,
            })
            .collect();
        zero = pair(zero.as_slice(), zero.as_slice());
    }
    let tree = level.first().copied().unwrap_or(zero);
    pair(tree.as_slice(), &U256::from(records.len()).to_le_bytes::<32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_has_the_known_root() {
        // Thirteen levels of zero hashes with a length of zero, computed apart with the SSZ definition.
        let mut zero = [0u8; 32];
        for _ in 0..DEPTH {
            zero = Sha256::digest([zero, zero].concat()).into();
        }
        let mixed = Sha256::digest([zero, [0; 32]].concat());
        assert_eq!(root(&[]).as_slice(), mixed.as_slice());
    }

    #[test]
    fn the_order_and_the_number_of_records_count() {
        let record =
            |byte| HeaderRecord { hash: B256::repeat_byte(byte), total_difficulty: U256::from(byte) };
        let roots = [
            root(&[record(1)]),
            root(&[record(1), record(2)]),
            root(&[record(2), record(1)]),
            root(&[record(1), record(2), record(3)]),
        ];
        for (index, one) in roots.iter().enumerate() {
            assert!(roots[index + 1..].iter().all(|other| other != one));
        }
    }
}
