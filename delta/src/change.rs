//! How operations are written: in the batch log, and in run tables.
use bristlecone_trie::Op;

use crate::Result;

/// Appends the operations of one commit to `out`: for each namespace, in ascending order of its number, its
/// operations, strictly ascending by key. Reads back with [`decode_ops`]; a deleted account reads back with
/// `wipe` set.
///
/// # Errors
/// `Invalid` where an order does not hold, `TooLarge` for a key or value past its limit.
pub fn encode_ops<'a, N, I>(namespaces: N, out: &mut Vec<u8>) -> Result<()>
where
    N: IntoIterator<Item = (u16, I)>,
    N::IntoIter: ExactSizeIterator,
    I: IntoIterator<Item = Op<'a>>,
    I::IntoIter: ExactSizeIterator,
{
    let _ = (namespaces.into_iter().len(), out);
    todo!()
}

/// Reads what [`encode_ops`] wrote, borrowing keys and values from `bytes`. Anything that is not exactly one
/// canonical encoding is `Malformed`. Allocates in proportion to `bytes.len()` at most.
pub fn decode_ops(bytes: &[u8]) -> Result<Vec<(u16, Vec<Op<'_>>)>> {
    let _ = bytes;
    todo!()
}
