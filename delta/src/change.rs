//! How operations are written: in the batch log, and in run tables.
//!
//! ```text
//! operations   namespaces varint | namespace…
//! namespace    number varint | operations varint | operation…
//! operation    key length varint | key | change
//! change       tag u8 | value length varint and value, where the tag says so
//! ```

use bristlecone_trie::{Body, Change, Op};

use crate::codec::{Bad, Reader, at_most, put_bytes, put_varint};
use crate::format::{MAX_KEY_BYTES, MAX_VALUE_BYTES, change_tag as tag};
use crate::{Error, Result};

/// Appends the operations of one commit to `out`: for each namespace, in ascending order of its number, its
/// operations, strictly ascending by key. Reads back with [`decode_ops`]; a deleted account reads back with
/// `wipe` set.
///
/// # Errors
/// `Invalid` where an order does not hold, `TooLarge` for a key or value past its limit. `out` is then as before.
pub fn encode_ops<'a, N, I>(namespaces: N, out: &mut Vec<u8>) -> Result<()>
where
    N: IntoIterator<Item = (u16, I)>,
    N::IntoIter: ExactSizeIterator,
    I: IntoIterator<Item = Op<'a>>,
    I::IntoIter: ExactSizeIterator,
{
    let start = out.len();
    let written = append_namespaces(namespaces.into_iter(), out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn append_namespaces<'a, N, I>(namespaces: N, out: &mut Vec<u8>) -> Result<()>
where
    N: ExactSizeIterator<Item = (u16, I)>,
    I: IntoIterator<Item = Op<'a>>,
    I::IntoIter: ExactSizeIterator,
{
    put_varint(namespaces.len() as u64, out);
    let mut last = None;
    for (namespace, ops) in namespaces {
        if last.is_some_and(|last| last >= namespace) {
            return Err(Error::Invalid { what: "namespaces out of order" });
        }
        last = Some(namespace);
        let ops = ops.into_iter();
        put_varint(u64::from(namespace), out);
        put_varint(ops.len() as u64, out);
        let mut last_key: Option<&[u8]> = None;
        for op in ops {
            if last_key.is_some_and(|last| last >= op.key) {
                return Err(Error::Invalid { what: "operations out of order" });
            }
            last_key = Some(op.key);
            put_key(op.key, out)?;
            put_change(&op.change, out)?;
        }
    }
    Ok(())
}

/// Reads what [`encode_ops`] wrote, borrowing keys and values from `bytes`. Anything that is not exactly one
/// canonical encoding is `Malformed`. Allocates in proportion to `bytes.len()` at most.
pub fn decode_ops(bytes: &[u8]) -> Result<Vec<(u16, Vec<Op<'_>>)>> {
    read_namespaces(&mut Reader::new(bytes)).map_err(Bad::handed_in)
}

fn read_namespaces<'a>(reader: &mut Reader<'a>) -> Result<Vec<(u16, Vec<Op<'a>>)>, Bad> {
    let mut namespaces: Vec<(u16, Vec<Op<'_>>)> = Vec::new();
    for _ in 0..reader.count(2)? {
        let start = *reader;
        let namespace = reader.size(usize::from(u16::MAX))? as u16;
        if namespaces.last().is_some_and(|(last, _)| *last >= namespace) {
            return Err(start.bad("namespaces out of order"));
        }
        let count = reader.count(2)?;
        let mut ops: Vec<Op<'_>> = Vec::new();
        for _ in 0..count {
            let start = *reader;
            let key = read_key(reader)?;
            if ops.last().is_some_and(|last| last.key >= key) {
                return Err(start.bad("operations out of order"));
            }
            ops.push(Op { key, change: read_change(reader)? });
        }
        namespaces.push((namespace, ops));
    }
    reader.end()?;
    Ok(namespaces)
}

pub(crate) fn put_key(key: &[u8], out: &mut Vec<u8>) -> Result<()> {
    at_most("a key", key.len(), MAX_KEY_BYTES)?;
    put_bytes(key, out);
    Ok(())
}

pub(crate) fn read_key<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Bad> {
    reader.bytes(MAX_KEY_BYTES)
}

pub(crate) fn put_change(change: &Change<'_>, out: &mut Vec<u8>) -> Result<()> {
    let (tag, value) = match *change {
        Change::Delete => (tag::DELETE, None),
        Change::Put(value) => (tag::PUT, Some(value)),
        Change::Account { body: Body::Keep, wipe: false } => (tag::KEEP, None),
        Change::Account { body: Body::Keep, wipe: true } => (tag::WIPE, None),
        Change::Account { body: Body::Put(body), wipe: false } => (tag::BODY, Some(body)),
        Change::Account { body: Body::Put(body), wipe: true } => (tag::BODY_WIPE, Some(body)),
        Change::Account { body: Body::Delete, .. } => (tag::DELETE_ACCOUNT, None),
    };
    out.push(tag);
    if let Some(value) = value {
        at_most("a value", value.len(), MAX_VALUE_BYTES)?;
        put_bytes(value, out);
    }
    Ok(())
}

pub(crate) fn read_change<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>, Bad> {
    let start = *reader;
    let account = |body, wipe| Change::Account { body, wipe };
    Ok(match reader.u8()? {
        tag::DELETE => Change::Delete,
        tag::PUT => Change::Put(reader.bytes(MAX_VALUE_BYTES)?),
        tag::KEEP => account(Body::Keep, false),
        tag::WIPE => account(Body::Keep, true),
        tag::BODY => account(Body::Put(reader.bytes(MAX_VALUE_BYTES)?), false),
        tag::BODY_WIPE => account(Body::Put(reader.bytes(MAX_VALUE_BYTES)?), true),
        tag::DELETE_ACCOUNT => account(Body::Delete, true),
        _ => return Err(start.bad("no such change")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<(u16, Vec<Op<'static>>)> {
        let op = |key, change| Op { key, change };
        vec![
            (0, vec![]),
            (
                2,
                vec![
                    op(b"", Change::Put(b"v")),
                    op(b"a", Change::Delete),
                    op(b"b", Change::Account { body: Body::Put(b"body"), wipe: true }),
                    op(b"c", Change::Account { body: Body::Put(b""), wipe: false }),
                    op(b"d", Change::Account { body: Body::Keep, wipe: true }),
                    op(b"e", Change::Account { body: Body::Keep, wipe: false }),
                    op(b"f", Change::Account { body: Body::Delete, wipe: true }),
                ],
            ),
        ]
    }

    fn encoded(ops: &[(u16, Vec<Op<'_>>)]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_ops(ops.iter().map(|(n, ops)| (*n, ops.iter().copied())), &mut out).unwrap();
        out
    }

    #[test]
    fn operations_are_golden_and_read_back() {
        let bytes = encoded(&sample());
        let golden = b"\x02\x00\x00\x02\x07\
            \x00\x01\x01v\x01a\x00\x01b\x05\x04body\x01c\x04\x00\x01d\x03\x01e\x02\x01f\x06";
        assert_eq!(bytes, golden);
        assert_eq!(decode_ops(&bytes).unwrap(), sample());
    }

    #[test]
    fn every_cut_and_every_other_byte_is_refused_or_reads_back_canonically() {
        let bytes = encoded(&sample());
        for cut in 0..bytes.len() {
            assert!(decode_ops(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            for flip in (1..=255u8).step_by(if cfg!(miri) { 51 } else { 1 }) {
                let mut other = bytes.clone();
                other[at] ^= flip;
                if let Ok(ops) = decode_ops(&other) {
                    assert_eq!(encoded(&ops), other);
                }
            }
        }
    }

    #[test]
    fn disorder_and_excess_are_refused_and_leave_the_buffer_alone() {
        let put = |key| Op { key, change: Change::Put(b"") };
        let long = vec![0; MAX_KEY_BYTES + 1];
        let mut out = b"x".to_vec();
        assert!(encode_ops([(1, vec![put(b"b"), put(b"b")])], &mut out).is_err());
        assert!(encode_ops([(1, vec![]), (1, Vec::<Op<'_>>::new())], &mut out).is_err());
        assert!(matches!(encode_ops([(1, vec![put(&long)])], &mut out), Err(Error::TooLarge { .. })));
        assert_eq!(out, b"x");
    }
}
