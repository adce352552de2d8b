//! Stores from strangers: records forged with right checksums, and files damaged anywhere.
//!
//! The framing of forged segments is written down here a second time, after `docs/format.md` and not after the code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bristlecone_delta::vfs::sim::{CrashPolicy, SimVfs};
use bristlecone_delta::{
    ChildEntry, Create, Error, Locator, LogPosition, Opened, Options, Seal, SealedNamespace, SealedVersion,
    Stamp, TableOp, decode_ops, encode_ops, open,
};
use bristlecone_trie::{B256, Change, Entry, Item, NodeRef, Op, Page, PageBuilder};

use crate::bytes::Bytes;

const DIR: &str = "/store";
const ID: [u8; 16] = [7; 16];
const VERSIONS: u64 = 12;

fn options(read_only: bool) -> Options {
    Options {
        create: Some(Create { id: ID, config: Vec::new() }),
        read_only,
        segment_bytes: 2048,
        log_bytes: 1024,
        ..Options::default()
    }
}

fn open_in(sim: &SimVfs, read_only: bool) -> Result<Opened, Error> {
    open(Arc::new(sim.clone()), Path::new(DIR), &options(read_only))
}

/// A checksum as `docs/format.md` defines it.
fn checksum(domain: u8, file: u64, place: u64, bytes: &[u8]) -> [u8; 8] {
    let key = blake3::derive_key("bristlecone store checksum v1", &ID);
    let mut input = vec![domain];
    input.extend_from_slice(&file.to_le_bytes());
    input.extend_from_slice(&place.to_le_bytes());
    input.extend_from_slice(bytes);
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::keyed_hash(&key, &input).as_bytes()[..8]);
    sum
}

/// Segment 1 with one group of `records`.
fn segment(records: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"BRCLSEG\0\x03\0\0\0\x01\0\0\0".to_vec();
    file.extend_from_slice(&ID);
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(&[0; 20]);
    let sum = checksum(2, 1, 0, &file);
    file.extend_from_slice(&sum);
    file.resize(512, 0);
    let (mut table, mut end) = (Vec::new(), 0u32);
    for (number, record) in records.iter().enumerate() {
        end += record.len() as u32;
        table.extend_from_slice(&end.to_le_bytes());
        table.extend_from_slice(&checksum(5, 1, number as u64, record));
    }
    let mut header = b"BGRP\x01\0\0\0".to_vec();
    header.extend_from_slice(&(64 + u64::from(end) + table.len() as u64).to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&(records.len() as u32).to_le_bytes());
    header.extend_from_slice(&[0; 24]);
    header.extend_from_slice(&checksum(4, 1, 0, &table));
    let sum = checksum(3, 1, 512, &header);
    file.extend_from_slice(&header);
    file.extend_from_slice(&sum);
    records.iter().for_each(|record| file.extend_from_slice(record));
    file.extend_from_slice(&table);
    file.resize(file.len().next_multiple_of(512), 0);
    file
}

/// Paths with what is in them.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// A new store: its files, and where its log ends.
static NEW: LazyLock<(Files, LogPosition)> = LazyLock::new(|| {
    let sim = SimVfs::new(0);
    let opened = open_in(&sim, false).expect("a new store");
    let position = opened.log.as_ref().expect("a log").position();
    (files(&sim, |_| true), position)
});

fn files(sim: &SimVfs, which: impl Fn(&Path) -> bool) -> Files {
    let paths = sim.files().into_iter().filter(|path| path.starts_with(DIR) && which(path));
    paths.map(|path| (path.clone(), sim.read_file(&path).expect("a file").to_vec())).collect()
}

/// A store whose first group holds `records`, and a seal that names none of them.
fn forged(mut records: Vec<Vec<u8>>) -> Opened {
    let (files, position) = &*NEW;
    let mut seal = vec![4, 0, 1];
    for word in [position.file, position.offset, position.sequence, position.checksum] {
        seal.extend_from_slice(&word.to_le_bytes());
    }
    seal.extend_from_slice(&[0, 0, 0, 0, 0]);
    records.retain(|record| !record.is_empty());
    records.push(seal);
    let sim = SimVfs::new(0);
    for (path, bytes) in files {
        sim.write_file(path, bytes).expect("written");
    }
    sim.write_file(format!("{DIR}/segments/00000001.seg"), &segment(&records)).expect("written");
    open_in(&sim, true).expect("the frame is right")
}

/// Cuts an input into records.
fn records(bytes: &mut Bytes<'_>) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !bytes.is_empty() && records.len() < 8 {
        let len = bytes.below(1 << 12);
        records.push(bytes.take(len).to_vec());
    }
    records
}

/// Run tables and seals, with right checksums around any bytes; and operations, with none.
///
/// Whatever decodes is in order, is found by searching, and encodes to the same bytes.
pub fn record_codec(data: &[u8]) {
    if let Ok(ops) = decode_ops(data) {
        let mut again = Vec::new();
        encode_ops(ops.iter().map(|(n, ops)| (*n, ops.iter().copied())), &mut again).expect("it was decoded");
        assert_eq!(again, data);
    }
    let mut bytes = Bytes(data);
    let opened = forged(records(&mut bytes));
    let view = opened.segments.view();
    for record in 0..8 {
        let Some(locator) = Locator::new(1, record) else { continue };
        let _ = opened.segments.seal(locator);
        let Ok(table) = view.table(locator) else { continue };
        let ops: Vec<_> = table.iter_from(0).take(64).map_while(Result::ok).collect();
        let whole = ops.len() == table.len() && ops.is_sorted_by(|a, b| (a.key, a.stamp) < (b.key, b.stamp));
        for op in &ops {
            let found = view.find_in_table(locator, op.key, op.stamp);
            assert!(!whole || found.as_ref().is_ok_and(|found| found.as_ref() == Some(op)));
        }
        let _ = view.find_in_table(locator, b"", Stamp::from_word(u64::MAX));
    }
    let _ = opened.segments.verify_all();
}

/// Pages: with right checksums around any bytes, and as a chain of states against a map.
pub fn page_codec(data: &[u8]) {
    let mut bytes = Bytes(data);
    if bytes.byte() % 2 == 0 {
        let opened = forged(records(&mut bytes));
        for record in 0..8 {
            let Some(locator) = Locator::new(1, record) else { continue };
            let loaded = opened.segments.load(locator);
            for key in [&[][..], &[0], &[0x10, 0x20], &[0x11; 32], &[0x11; 64], &[0xff; 66]] {
                let _ = opened.segments.view().find(locator, key);
            }
            let Ok(loaded) = loaded else { continue };
            let page = Page::new(&loaded.bytes);
            assert_eq!(page.entries().filter(Entry::is_child).count(), loaded.children.len());
        }
        let _ = opened.segments.verify_all();
        return;
    }
    states(&mut bytes);
}

/// Puts and deletes of flat keys in one page, sealed every few.
fn states(bytes: &mut Bytes<'_>) {
    let sim = SimVfs::new(0);
    let mut opened = open_in(&sim, false).expect("a new store");
    let mut model: BTreeMap<Vec<u8>, (u64, Vec<u8>)> = BTreeMap::new();
    let mut previous = None;
    for step in 1..=12u64 {
        for _ in 0..bytes.below(6) {
            let key = bytes.take(2).iter().map(|byte| byte & 0x73).collect();
            if bytes.byte().is_multiple_of(3) {
                model.remove(&key);
            } else {
                let len = bytes.below(9);
                model.insert(key, (step, bytes.take(len).to_vec()));
            }
        }
        let mut builder = PageBuilder::new(0);
        for (key, (stamp, value)) in &model {
            let item = Item::Leaf { stamp: *stamp, value };
            builder.push(&Entry { below: false, end: key.len() * 2, tail: key, item });
        }
        let page = builder.finish();
        let log_position = opened.log.as_ref().expect("a log").position();
        let mut group = opened.writer.as_mut().expect("a writer").begin(opened.opening).expect("a group");
        let locator = group.put_page(previous, Page::new(&page), &[]).expect("a page").newest();
        let opening = opened.opening;
        let seal = Seal {
            previous: None,
            opening,
            versions: vec![],
            namespaces: vec![],
            log_position,
            ..Seal::default()
        };
        group.finish(&seal).expect("finished");
        assert_eq!(opened.segments.load(locator).expect("loaded").bytes, page);
        for key in [&b""[..], &[0], &[0x11], &[0x73, 0x73]].into_iter().chain(model.keys().map(Vec::as_slice))
        {
            let view = opened.segments.view();
            let found = view.find(locator, key).expect("found or not");
            let expected = model.get(key).map(|(stamp, value)| bristlecone_delta::Found::Leaf {
                stamp: Stamp::from_word(*stamp),
                value,
            });
            assert_eq!(found, expected.unwrap_or(bristlecone_delta::Found::Absent));
        }
        previous = Some(locator);
        if bytes.is_empty() {
            break;
        }
    }
}

fn payload(version: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let value = version.to_be_bytes();
    let ops = [Op { key: &value, change: Change::Put(&value) }];
    encode_ops([(0, ops)], &mut out).expect("in order");
    out
}

fn page(version: u64) -> Vec<u8> {
    let mut builder = PageBuilder::new(0);
    let value = version.to_be_bytes();
    builder.push(&Entry {
        below: false,
        end: 2,
        tail: &[1],
        item: Item::Leaf { stamp: version + 1, value: &value },
    });
    builder.push(&Entry { below: false, end: 1, tail: &[0x20], item: Item::Child { reference: 0 } });
    builder.finish()
}

/// Stores with several segments, log files and seals, and a tail: one closed, one not.
static SEALED: LazyLock<[SimVfs; 2]> = LazyLock::new(|| {
    [true, false].map(|clean| {
        let sim = SimVfs::new(0);
        let mut opened = open_in(&sim, false).expect("a new store");
        let (mut seal, mut root) = (None, None);
        for version in 0..VERSIONS {
            let stamp = Stamp::new(1, version + 1).expect("a stamp");
            let log = opened.log.as_mut().expect("a log");
            let log_position = log.append_batch(version, stamp, None, &payload(version)).expect("logged");
            log.sync().expect("synced");
            if version % 2 == 1 && version < VERSIONS - 2 {
                let opening = opened.opening;
                let mut group = opened.writer.as_mut().expect("a writer").begin(opening).expect("a group");
                let child =
                    ChildEntry { locator: Locator::new(1, 0).expect("one"), node: NodeRef::hash(B256::ZERO) };
                let page = page(version);
                root = Some(group.put_page(root, Page::new(&page), &[child]).expect("a page").newest());
                let table = [TableOp { key: b"k", stamp, change: Change::Delete }];
                let table = Some(group.put_table(&table, &[]).expect("a table"));
                let versions = (version - 1..=version).map(sealed).collect();
                let namespaces = vec![SealedNamespace { root_page: root, root_node: B256::ZERO, table }];
                let record =
                    Seal { previous: seal, opening, versions, namespaces, log_position, ..Seal::default() };
                let done = group.finish(&record).expect("finished");
                opened.log.as_mut().expect("a log").release(&done).expect("released");
                seal = Some(done.locator());
            }
        }
        if clean {
            opened.log.take().expect("a log").close().expect("closed");
        }
        drop(opened);
        sim.crash_image(CrashPolicy::KeepAll, 0)
    })
});

fn sealed(version: u64) -> SealedVersion {
    let stamp = Stamp::new(1, version + 1).expect("a stamp");
    SealedVersion { version, stamp, parent: None, root: None, namespace_roots: vec![] }
}

/// Opens a damaged store: what is found is a prefix of what was written, or the answer is a typed error.
fn examine(sim: &SimVfs) {
    for read_only in [true, false] {
        match open_in(sim, read_only) {
            Ok(opened) => drop(walk(&opened)),
            Err(Error::Corrupt { .. } | Error::NewerFormat { .. } | Error::NotAStore { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

fn walk(opened: &Opened) -> Result<(), Error> {
    let mut versions = Vec::new();
    let mut next = opened.last_seal.as_ref().map(|(sealed, _)| sealed.locator());
    while let Some(locator) = next {
        let seal = opened.segments.seal(locator)?;
        let last = seal.versions.last().expect("a version").version;
        let root = seal.namespaces.first().and_then(|namespace| namespace.root_page).expect("a page");
        let loaded = opened.segments.load(root)?;
        let leaf = Page::new(&loaded.bytes).entry(0).item;
        assert_eq!(leaf, Item::Leaf { stamp: last + 1, value: &last.to_be_bytes() });
        versions.extend(seal.versions.iter().rev().map(|version| version.version));
        next = seal.previous;
    }
    versions.reverse();
    for batch in &opened.tail {
        assert_eq!(batch.payload, payload(batch.version));
        versions.push(batch.version);
    }
    assert!(
        versions.into_iter().eq(0..opened.tail.last().map_or(0, |batch| batch.version + 1))
            || opened.tail.is_empty()
    );
    opened.segments.verify_all().map(drop)
}

/// Damages the files that `which` picks, as the input says.
fn damaged(data: &[u8], which: impl Fn(&Path) -> bool) -> SimVfs {
    let mut bytes = Bytes(data);
    let sealed = &*SEALED;
    let from = if bytes.byte().is_multiple_of(2) { &sealed[0] } else { &sealed[1] };
    let sim = from.crash_image(CrashPolicy::KeepAll, 0);
    let files = files(&sim, which);
    while !bytes.is_empty() {
        let (path, old) = files.get(bytes.below(files.len())).expect("there are files");
        let mut new = sim.read_file(path).expect("a file").to_vec();
        let at = bytes.below(old.len() + 1);
        match bytes.byte() % 4 {
            // Other bytes.
            0 => {
                let len = bytes.below(40);
                new.iter_mut().skip(at).zip(bytes.take(len)).for_each(|(byte, put)| *byte ^= put);
            }
            // A cut.
            1 => new.truncate(at),
            // Bytes of another file, in the same place.
            2 => {
                let (_, other) = files.get(bytes.below(files.len())).expect("there are files");
                let len = bytes.below(1024);
                new.iter_mut().zip(other).skip(at).take(len).for_each(|(byte, put)| *byte = *put);
            }
            // More of anything.
            _ => {
                let len = bytes.below(256);
                new.extend_from_slice(bytes.take(len));
            }
        }
        sim.write_file(path, &new).expect("written");
    }
    sim
}

/// Recovery of damaged segments.
pub fn segment_recovery(data: &[u8]) {
    examine(&damaged(data, |path| path.extension().is_some_and(|extension| extension == "seg")));
}

/// Recovery of a damaged batch log; and operations as they stand in it.
pub fn batch_log(data: &[u8]) {
    if let Ok(ops) = decode_ops(data) {
        assert!(ops.iter().all(|(_, ops)| ops.is_sorted_by(|a, b| a.key < b.key)));
    }
    examine(&damaged(data, |path| path.parent().is_some_and(|parent| parent.ends_with("log"))));
}

/// The seeds of these targets.
pub(crate) fn seeds(target: &str) -> Option<Vec<Vec<u8>>> {
    let sealed = open_in(&SEALED[0].crash_image(CrashPolicy::KeepAll, 0), true).expect("a store");
    let all = (1..8).flat_map(|segment| (0..16).filter_map(move |record| Locator::new(segment, record)));
    let view = sealed.segments.view();
    let real: Vec<Vec<u8>> = all.filter_map(|at| view.record(at).ok().map(<[u8]>::to_vec)).collect();
    let framed = |records: &[Vec<u8>]| -> Vec<u8> {
        let each =
            records.iter().flat_map(|record| [&(record.len() as u16).to_le_bytes()[..], record].concat());
        each.collect()
    };
    let first = |kinds: &[u8]| -> Vec<Vec<u8>> {
        real.iter()
            .filter(|record| record.first().is_some_and(|kind| kinds.contains(kind)))
            .cloned()
            .collect()
    };
    let damage = vec![
        vec![],
        vec![0, 0, 16, 2, 0, 1, 4],
        vec![1, 1, 0, 2, 1],
        vec![0, 1, 100, 2, 2, 0, 0, 4],
        vec![1, 0, 0, 0, 3, 8, 1, 2, 3, 4, 5, 6, 7, 8],
    ];
    Some(match target {
        "record_codec" => vec![
            payload(1),
            framed(first(&[3]).get(..1)?),
            framed(first(&[4]).get(..2)?),
            framed(first(&[3, 4]).get(..4)?),
        ],
        "page_codec" => {
            let pages = first(&[1, 2]);
            vec![
                [&[0][..], &framed(pages.get(..1)?)].concat(),
                [&[0][..], &framed(pages.get(..3)?)].concat(),
                vec![
                    1, 3, 0x11, 0x22, 1, 4, 1, 2, 3, 4, 0x11, 0x21, 1, 2, 9, 9, 0x40, 0x40, 2, 0, 2, 0x11,
                    0x22, 0,
                ],
            ]
        }
        "segment_recovery" | "batch_log" => damage,
        _ => return None,
    })
}
