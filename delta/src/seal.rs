//! The seal: what makes a run of versions part of the durable trie.
//!
//! ```text
//! kind u8 = 4 | previous | opening varint | log position 4 × u64 | what died | oldest kept version varint
//! pins varint | pin…
//! pin        name length varint | name | version varint | seal
//! versions varint | version…      namespaces varint | namespace…
//! version    number varint | stamp varint | parent varint (0: none) | root | roots varint | root…
//! namespace  root page | root hash 32 bytes | table
//! root       0 u8, or 1 u8 and 32 bytes
//! previous, what died, seal, root page, table: a locator as segment varint (0: none) and record varint
//! ```

use bristlecone_trie::B256;

use crate::codec::{Bad, Reader, put_varint};
use crate::format::{MAX_OPENING, MAX_PIN_NAME_BYTES, MAX_SEGMENT, record_kind};
use crate::{Error, GroupWriter, Locator, LogPosition, Result, SegmentEnd, Segments, Stamp};

/// A sealed run of versions. The last record of its group.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Seal {
    /// The seal before this one.
    pub previous: Option<Locator>,
    /// The opening that wrote it.
    pub opening: u32,
    /// The versions of the run, oldest first.
    pub versions: Vec<SealedVersion>,
    /// The list of what died in the run, if anything did.
    pub dead: Option<Locator>,
    /// All versions from this one on are kept.
    pub oldest: u64,
    /// Versions that are kept besides.
    pub pins: Vec<Pin>,
    /// Where each namespace stands at the end of the run.
    pub namespaces: Vec<SealedNamespace>,
    /// Up to where the batch log is covered by this seal and those before it.
    pub log_position: LogPosition,
}

/// One version of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedVersion {
    /// The version number.
    pub version: u64,
    /// The commit.
    pub stamp: Stamp,
    /// The commit it was built on.
    pub parent: Option<Stamp>,
    /// The store's root, if it was computed.
    pub root: Option<B256>,
    /// The root of each namespace, where it was computed.
    pub namespace_roots: Vec<Option<B256>>,
}

/// A version that is kept for its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// The seal of the run that it is in.
    pub seal: Locator,
}

/// One namespace at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedNamespace {
    /// The newest record of its root page; `None` where there is no page.
    pub root_page: Option<Locator>,
    /// Its root hash.
    pub root_node: B256,
    /// The run table, if the run has one.
    pub table: Option<Locator>,
}

/// A seal that is durable. Only [`GroupWriter::finish`] and recovery make one: what it covers need not stay in the batch log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub(crate) locator: Locator,
    pub(crate) end: SegmentEnd,
    pub(crate) log_position: LogPosition,
}

impl Sealed {
    /// Where the seal is.
    pub fn locator(&self) -> Locator {
        self.locator
    }

    /// Up to where it covers the batch log.
    pub fn log_position(&self) -> LogPosition {
        self.log_position
    }

    /// Where the segments end with it.
    pub fn end(&self) -> SegmentEnd {
        self.end
    }
}

pub(crate) fn put_place(place: Option<Locator>, out: &mut Vec<u8>) {
    put_varint(place.map_or(0, |place| u64::from(place.segment())), out);
    if let Some(place) = place {
        put_varint(u64::from(place.record()), out);
    }
}

pub(crate) fn read_place(reader: &mut Reader<'_>) -> Result<Option<Locator>, Bad> {
    let segment = reader.size(MAX_SEGMENT as usize)? as u32;
    if segment == 0 {
        return Ok(None);
    }
    Ok(Locator::new(segment, reader.size(u32::MAX as usize)? as u32))
}

fn put_root(root: Option<B256>, out: &mut Vec<u8>) {
    out.push(u8::from(root.is_some()));
    out.extend_from_slice(root.as_ref().map_or(&[], B256::as_slice));
}

fn read_root(reader: &mut Reader<'_>) -> Result<Option<B256>, Bad> {
    let start = *reader;
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(B256::new(reader.array()?))),
        _ => Err(start.bad("neither a root nor none")),
    }
}

pub(crate) fn put_position(position: &LogPosition, out: &mut Vec<u8>) {
    for word in [position.file, position.offset, position.sequence, position.checksum] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

pub(crate) fn read_position(reader: &mut Reader<'_>) -> Result<LogPosition, Bad> {
    Ok(LogPosition {
        file: reader.u64()?,
        offset: reader.u64()?,
        sequence: reader.u64()?,
        checksum: reader.u64()?,
    })
}

impl Seal {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![record_kind::SEAL];
        put_place(self.previous, &mut out);
        put_varint(u64::from(self.opening), &mut out);
        put_position(&self.log_position, &mut out);
        put_place(self.dead, &mut out);
        put_varint(self.oldest, &mut out);
        put_varint(self.pins.len() as u64, &mut out);
        for pin in &self.pins {
            put_varint(pin.name.len() as u64, &mut out);
            out.extend_from_slice(pin.name.as_bytes());
            put_varint(pin.version, &mut out);
            put_place(Some(pin.seal), &mut out);
        }
        put_varint(self.versions.len() as u64, &mut out);
        for version in &self.versions {
            put_varint(version.version, &mut out);
            put_varint(version.stamp.word(), &mut out);
            put_varint(version.parent.map_or(0, Stamp::word), &mut out);
            put_root(version.root, &mut out);
            put_varint(version.namespace_roots.len() as u64, &mut out);
            version.namespace_roots.iter().for_each(|root| put_root(*root, &mut out));
        }
        put_varint(self.namespaces.len() as u64, &mut out);
        for namespace in &self.namespaces {
            put_place(namespace.root_page, &mut out);
            out.extend_from_slice(namespace.root_node.as_slice());
            put_place(namespace.table, &mut out);
        }
        out
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, Bad> {
        let mut reader = Reader::new(record);
        if reader.u8()? != record_kind::SEAL {
            return Err(Bad::new("not a seal"));
        }
        let previous = read_place(&mut reader)?;
        let opening = reader.size(MAX_OPENING as usize)? as u32;
        let log_position = read_position(&mut reader)?;
        let dead = read_place(&mut reader)?;
        let oldest = reader.varint()?;
        let mut pins = Vec::new();
        for _ in 0..reader.count(4)? {
            pins.push(Pin::read(&mut reader)?);
        }
        let mut versions = Vec::new();
        for _ in 0..reader.count(5)? {
            let version = reader.varint()?;
            let stamp = Stamp::from_word(reader.varint()?);
            let parent = reader.stamp_or_none()?;
            let root = read_root(&mut reader)?;
            let mut namespace_roots = Vec::new();
            for _ in 0..reader.count(1)? {
                namespace_roots.push(read_root(&mut reader)?);
            }
            versions.push(SealedVersion { version, stamp, parent, root, namespace_roots });
        }
        let mut namespaces = Vec::new();
        for _ in 0..reader.count(34)? {
            let root_page = read_place(&mut reader)?;
            let root_node = B256::new(reader.array()?);
            namespaces.push(SealedNamespace { root_page, root_node, table: read_place(&mut reader)? });
        }
        reader.end()?;
        Ok(Self { previous, opening, versions, dead, oldest, pins, namespaces, log_position })
    }
}

impl Pin {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        let start = *reader;
        let name = reader.bytes(MAX_PIN_NAME_BYTES)?;
        let name = std::str::from_utf8(name).map_err(|_| start.bad("a name that is no text"))?.to_owned();
        let version = reader.varint()?;
        let seal = read_place(reader)?.ok_or(start.bad("a pin without a seal"))?;
        Ok(Self { name, version, seal })
    }
}

impl Segments {
    /// Reads the seal at `seal`. Walking [`Seal::previous`] reaches all of them.
    ///
    /// # Errors
    /// `Corrupt`, `NoRecord`.
    pub fn seal(&self, seal: Locator) -> Result<Seal> {
        let view = self.view();
        let decoded = Seal::decode(view.record(seal)?).map_err(|bad| view.bad_record(seal, bad))?;
        // Seals go backwards, so that a walk over them ends.
        if decoded.previous.is_some_and(|previous| previous >= seal) {
            return Err(view.bad_record(seal, Bad::new("a seal names a later one as the one before it")));
        }
        Ok(decoded)
    }
}

impl GroupWriter<'_> {
    /// Writes the seal as the last record, makes the group durable, and only then publishes it to readers.
    ///
    /// # Errors
    /// `Io`: nothing of the group was published, and the writer takes no more groups. `TooLarge`. `Invalid` where the
    /// seal's opening is not the group's.
    pub fn finish(self, seal: &Seal) -> Result<Sealed> {
        if seal.opening != self.opening() || seal.opening > MAX_OPENING {
            return Err(Error::Invalid { what: "a seal of another opening than its group's" });
        }
        let (locator, end) = self.finish_with(&seal.encode())?;
        Ok(Sealed { locator, end, log_position: seal.log_position })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Seal {
        let version = |version, root: Option<B256>| SealedVersion {
            version,
            stamp: Stamp::new(1, version + 1).unwrap(),
            parent: version.checked_sub(1).map(|v| Stamp::new(1, v + 1).unwrap()),
            root,
            namespace_roots: vec![root, None],
        };
        Seal {
            previous: Locator::new(1, 300),
            opening: 2,
            dead: Locator::new(1, 6),
            oldest: 5,
            pins: vec![Pin { name: "a".into(), version: 3, seal: Locator::new(1, 9).unwrap() }],
            versions: vec![version(0, None), version(1, Some(B256::repeat_byte(9)))],
            namespaces: vec![
                SealedNamespace {
                    root_page: Locator::new(1, 2),
                    root_node: B256::repeat_byte(3),
                    table: None,
                },
                SealedNamespace { root_page: None, root_node: B256::ZERO, table: Locator::new(1, 7) },
            ],
            log_position: LogPosition { file: 1, offset: 2, sequence: 3, checksum: 4 },
        }
    }

    #[test]
    fn a_seal_is_golden_and_reads_back() {
        let bytes = sample().encode();
        let mut golden = b"\x04\x01\xac\x02\x02".to_vec();
        for word in 1..5u64 {
            golden.extend_from_slice(&word.to_le_bytes());
        }
        golden.extend_from_slice(
            b"\x01\x06\x05\x01\x01a\x03\x01\x09\x02\x00\x81\x80\x80\x80\x80\x20\x00\x00\x02\x00\x00",
        );
        golden.extend_from_slice(b"\x01\x82\x80\x80\x80\x80\x20\x81\x80\x80\x80\x80\x20\x01");
        golden.extend_from_slice(&[9; 32]);
        golden.extend_from_slice(b"\x02\x01");
        golden.extend_from_slice(&[9; 32]);
        golden.extend_from_slice(b"\x00\x02\x01\x02");
        golden.extend_from_slice(&[3; 32]);
        golden.extend_from_slice(b"\x00\x00");
        golden.extend_from_slice(&[0; 32]);
        golden.extend_from_slice(b"\x01\x07");
        assert_eq!(bytes, golden);
        assert_eq!(Seal::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn every_cut_and_every_other_byte_is_refused_or_reads_back_canonically() {
        let bytes = sample().encode();
        for cut in 0..bytes.len() {
            assert!(Seal::decode(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            for flip in (1..=255u8).step_by(if cfg!(miri) { 51 } else { 1 }) {
                let mut other = bytes.clone();
                other[at] ^= flip;
                if let Ok(seal) = Seal::decode(&other) {
                    assert_eq!(seal.encode(), other);
                }
            }
        }
    }
}
