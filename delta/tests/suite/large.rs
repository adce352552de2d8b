//! Large values: stored once, and not believed where they are damaged.

use bristlecone_delta::format::MAX_INLINE_BYTES;
use bristlecone_delta::vfs::sim::{CrashPolicy, SimVfs};
use bristlecone_delta::{Error, Found, GroupWriter, Locator, Opened, Options, Seal, TableOp};
use bristlecone_trie::{Change, Entry, Item, Page, PageBuilder};

use crate::common::{Rng, open_in, small, stamp};

const LARGE: usize = 100_000;

/// One-byte keys with their stamps and values, as a page.
fn page(entries: &[(u8, u64, &[u8])]) -> Vec<u8> {
    let mut builder = PageBuilder::new(0);
    for (key, at, value) in entries {
        let item = Item::Leaf { stamp: stamp(1, *at).word(), value };
        builder.push(&Entry { below: false, end: 2, tail: &[*key], item });
    }
    builder.finish()
}

fn value(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.next() as u8).collect()
}

/// A group with what `put` puts into it, and how many bytes that took.
fn group<T>(opened: &mut Opened, put: impl FnOnce(&mut GroupWriter<'_>) -> T) -> (T, u64) {
    let opening = opened.opening;
    let log_position = opened.log.as_ref().unwrap().position();
    let mut group = opened.writer.as_mut().unwrap().begin(opening).unwrap();
    let put = put(&mut group);
    let bytes = group.bytes();
    group
        .finish(&Seal {
            previous: None,
            opening,
            versions: vec![],
            namespaces: vec![],
            dead: None,
            log_position,
            ..Seal::default()
        })
        .unwrap();
    (put, bytes)
}

fn opened(sim: &SimVfs) -> Opened {
    open_in(sim, &Options { segment_bytes: 1 << 20, max_deltas: 2, ..small() }).unwrap()
}

#[test]
fn a_large_value_is_stored_once_whatever_becomes_of_its_page() {
    let sim = SimVfs::new(1);
    let mut opened = opened(&sim);
    let large = value(1, LARGE);
    let put = |opened: &mut Opened, previous, others: &[Locator], entries: &[(u8, u64, &[u8])]| {
        let bytes = page(entries);
        group(opened, |group| group.put_moved(previous, others, Page::new(&bytes), &[]).unwrap().newest())
    };
    let (first, bytes) = put(&mut opened, None, &[], &[(1, 1, &large), (2, 1, b"two")]);
    assert!((LARGE as u64..LARGE as u64 + 400).contains(&bytes), "{bytes}");
    // Deltas, and bases after every two of them.
    let mut newest = first;
    for at in 2..12 {
        let (next, bytes) = put(&mut opened, Some(newest), &[], &[(1, 1, &large), (2, at, b"again")]);
        assert!(bytes < 400, "{bytes}");
        newest = next;
    }
    // Moved to another page, which knows where from; and without knowing, which costs room and no answer.
    let (moved, bytes) = put(&mut opened, None, &[newest], &[(1, 1, &large)]);
    assert!(bytes < 400, "{bytes}");
    let (copied, bytes) = put(&mut opened, None, &[], &[(1, 1, &large)]);
    assert!(bytes > LARGE as u64, "{bytes}");
    // Another value of the same length at the same stamp is not it.
    let other = value(2, LARGE);
    let (second, bytes) = put(&mut opened, Some(moved), &[], &[(1, 1, &large), (3, 1, &other)]);
    assert!((LARGE as u64..LARGE as u64 + 400).contains(&bytes), "{bytes}");
    let view = opened.segments.view();
    let find = |page, key| view.find(page, &[key]).unwrap();
    let leaf = |value| Found::Leaf { stamp: stamp(1, 1), value };
    for at in [first, newest, moved, copied, second] {
        assert_eq!(find(at, 1), leaf(&large));
    }
    assert_eq!(find(second, 3), leaf(&other));
    assert_eq!(opened.segments.load(second).unwrap().bytes, page(&[(1, 1, &large), (3, 1, &other)]));
    opened.segments.verify_all().unwrap();
}

#[test]
fn entries_with_equal_values_have_records_of_their_own_and_tables_share_them() {
    let sim = SimVfs::new(1);
    let mut opened = opened(&sim);
    let large = value(1, LARGE);
    let bytes = page(&[(1, 2, &large), (2, 2, &large), (3, 2, b"small")]);
    let op = |key, at, change| TableOp { key, stamp: stamp(1, at), change };
    let other = value(2, LARGE);
    let ops = [
        op(b"a", 1, Change::Put(&other)),
        op(b"a", 2, Change::Delete),
        op(b"b", 1, Change::Put(b"small")),
        op(b"c", 1, Change::Put(&large)),
        op(b"d", 1, Change::Put(&other)),
    ];
    let ((first, table), bytes) = group(&mut opened, |group| {
        let page = group.put_page(None, Page::new(&bytes), &[]).unwrap().newest();
        (page, group.put_table(&ops, &[]).unwrap())
    });
    // One for each entry, and another for the table, which has a value of its own twice.
    assert!((3 * LARGE as u64..3 * LARGE as u64 + 600).contains(&bytes), "{bytes}");
    let view = opened.segments.view();
    let read = view.table(table).unwrap();
    assert_eq!(read.iter_from(0).map(Result::unwrap).collect::<Vec<_>>(), ops);
    assert_eq!(read.get(3).unwrap(), Some(ops[3]));
    let values = [view.large_values(first).unwrap(), read.own_values().unwrap()];
    assert_eq!(values.each_ref().map(Vec::len), [2, 1]);
    let all: std::collections::BTreeSet<Locator> = values.concat().into_iter().collect();
    assert_eq!(all.len(), 3);
    assert_eq!(view.chain(values[0][0]).unwrap(), [values[0][0]]);
    drop(view);
    // The entries go to two pages, and each takes one of the records along.
    let halves = [page(&[(1, 2, &large)]), page(&[(2, 2, &large), (3, 2, b"small")])];
    let (kept, _) = group(&mut opened, |group| {
        let at = halves
            .each_ref()
            .map(|half| group.put_moved(None, &[first], Page::new(half), &[]).unwrap().newest());
        assert_eq!(group.kept_values(), &values[0].iter().copied().collect());
        at
    });
    let view = opened.segments.view();
    assert_eq!(kept.map(|page| view.large_values(page).unwrap()).concat(), values[0]);
}

#[test]
fn what_is_shared_is_the_map_and_outlives_the_store() {
    let sim = SimVfs::new(1);
    let mut opened = opened(&sim);
    let large = value(1, LARGE);
    let bytes = page(&[(1, 1, &large), (2, 1, b"two")]);
    let (at, _) = group(&mut opened, |group| group.put_page(None, Page::new(&bytes), &[]).unwrap().newest());
    let view = opened.segments.view();
    let share = |key: u8| {
        let (record, found) = view.find_located(at, &[key]).unwrap();
        let Found::Leaf { value, .. } = found else { panic!("{found:?}") };
        let shared = view.share(record, value).unwrap();
        assert_eq!(shared.as_ptr(), value.as_ptr());
        shared
    };
    let (large_bytes, two) = (share(1), share(2));
    assert!(matches!(view.share(at, b"elsewhere"), Err(Error::Invalid { .. })));
    drop(view);
    drop(opened);
    assert_eq!((&large_bytes[..], &two[..]), (&large[..], &b"two"[..]));
}

#[test]
fn the_record_and_the_entry_are_golden() {
    let sim = SimVfs::new(1);
    let mut opened = opened(&sim);
    let large = vec![7; MAX_INLINE_BYTES + 1];
    let just_small = vec![8; MAX_INLINE_BYTES];
    let bytes = page(&[(0x11, 1, &large), (0x22, 2, &just_small)]);
    let (at, _) = group(&mut opened, |group| group.put_page(None, Page::new(&bytes), &[]).unwrap().newest());
    assert_eq!((at.segment(), at.record()), (1, 1));
    let view = opened.segments.view();
    let record = view.record(Locator::new(1, 0).unwrap()).unwrap();
    assert_eq!((record[0], &record[1..]), (6, &large[..]));
    let base = view.record(at).unwrap();
    // Kind, flags, two entries, depth, the newest stamp; prints and ends; then the entries.
    let newest = stamp(1, 2).word().to_le_bytes();
    let mut golden = vec![1, 0, 2, 0, 0, 0];
    golden.extend_from_slice(&newest);
    golden.extend_from_slice(&[0, 0x11, 0, 0x22, 8, 0]);
    golden.extend_from_slice(&(8 + 4 + MAX_INLINE_BYTES as u16).to_le_bytes());
    // A large leaf: kind, end, tail; one stamp back; this segment, record 0; the length.
    let len = MAX_INLINE_BYTES + 1;
    golden.extend_from_slice(&[4, 2, 0x11, 1, 0, 0, (len & 0x7f) as u8 | 0x80, (len >> 7) as u8]);
    golden.extend_from_slice(&[0, 2, 0x22, 0]);
    golden.extend_from_slice(&just_small);
    assert_eq!(base, golden);
}

#[test]
fn damage_to_a_large_value_or_its_reference_is_told_and_never_answered() {
    let sim = SimVfs::new(1);
    let mut opened = opened(&sim);
    let large = value(1, LARGE);
    let bytes = page(&[(1, 1, &large)]);
    let (at, _) = group(&mut opened, |group| group.put_page(None, Page::new(&bytes), &[]).unwrap().newest());
    // A group behind it, so that damage does not pass for a torn end.
    group(&mut opened, |_| ());
    drop(opened);
    let path = std::path::Path::new(crate::common::DIR).join("segments/00000001.seg");
    let whole = sim.read_file(&path).unwrap();
    let start = whole.windows(16).position(|window| window == &large[..16]).unwrap();
    let end = start + LARGE;
    for byte in (start - 1..start + 4).chain((start..end).step_by(9_973)).chain(end - 2..end + 80) {
        let image = sim.crash_image(CrashPolicy::KeepAll, 0);
        image.flip_bit(&path, byte as u64, (byte % 8) as u8).unwrap();
        let found = open_in(&image, &Options { read_only: true, ..small() }).and_then(|opened| {
            opened.segments.verify_all()?;
            opened.segments.view().find(at, &[1]).map(drop)
        });
        assert!(matches!(found, Err(Error::Corrupt { .. })), "byte {byte}: {found:?}");
    }
}
