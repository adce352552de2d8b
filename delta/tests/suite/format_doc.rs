//! docs/format.md says what the constants say.

use bristlecone_delta::format as f;

/// The rows of the table under the heading `heading`: offset, size and name.
fn table(text: &str, heading: &str) -> Vec<(usize, usize, String)> {
    let section = text.split("\n#").find(|section| {
        section.lines().next().is_some_and(|line| line.trim_start_matches('#').trim() == heading)
    });
    let section = section.unwrap_or_else(|| panic!("no section {heading:?} in docs/format.md"));
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let offset = cells.next()?.parse().ok()?;
        Some((offset, cells.next()?.parse().ok()?, cells.next()?.to_owned()))
    });
    rows.collect()
}

fn doc() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md")).unwrap()
}

#[test]
fn every_layout_is_in_the_document_as_it_is_in_the_code() {
    let text = doc();
    let layouts: [(&str, &f::Fields); 11] = [
        ("Identity file", &f::IDENTITY_FIELDS),
        ("Segment header", &f::SEGMENT_HEADER_FIELDS),
        ("Group header", &f::GROUP_HEADER_FIELDS),
        ("Group table entry", &f::TABLE_ENTRY_FIELDS),
        ("Compacted segment header", &f::COMPACTED_HEADER_FIELDS),
        ("Index block", &f::INDEX_BLOCK_FIELDS),
        ("What is dead", &f::DEAD_FILE_FIELDS),
        ("Base head", &f::BASE_HEAD_FIELDS),
        ("Run table head", &f::TABLE_HEAD_FIELDS),
        ("Log file header", &f::LOG_HEADER_FIELDS),
        ("Log record header", &f::LOG_RECORD_FIELDS),
    ];
    for (heading, fields) in layouts {
        let mut offset = 0;
        let expected: Vec<_> = fields
            .iter()
            .map(|(name, size)| {
                offset += size;
                (offset - size, *size, (*name).to_owned())
            })
            .collect();
        assert_eq!(table(&text, heading), expected, "{heading}");
    }
}

#[test]
fn every_number_is_in_the_document_as_it_is_in_the_code() {
    let text = doc();
    let section = text.split("\n#").find(|s| s.starts_with("# Numbers")).unwrap();
    let number = |name: &str| -> u64 {
        let row = section.lines().find(|line| line.split('|').nth(1).is_some_and(|cell| cell.trim() == name));
        let row = row.unwrap_or_else(|| panic!("no row {name:?} under Numbers"));
        row.split('|').nth(2).unwrap().trim().replace(',', "").parse().unwrap()
    };
    for (name, value) in [
        ("format version", u64::from(f::FORMAT_VERSION)),
        ("bits of a stamp's counter", u64::from(f::COUNTER_BITS)),
        ("largest segment number", u64::from(f::MAX_SEGMENT)),
        ("largest opening", u64::from(f::MAX_OPENING)),
        ("bytes of a key, at most", f::MAX_KEY_BYTES as u64),
        ("bytes of a value, at most", f::MAX_VALUE_BYTES as u64),
        ("bytes of a value among others, at most", f::MAX_INLINE_BYTES as u64),
        ("bytes of a record, at most", f::MAX_RECORD_BYTES as u64),
        ("bytes of a log payload, at most", f::MAX_PAYLOAD_BYTES as u64),
        ("bytes of a pin's name, at most", f::MAX_PIN_NAME_BYTES as u64),
        ("bytes of the configuration, at most", f::MAX_CONFIG_BYTES as u64),
        ("alignment of groups", f::GROUP_ALIGN),
        ("offset of the first group", f::FIRST_GROUP),
        ("alignment of log records", f::LOG_ALIGN),
        ("offset of the first log record", f::FIRST_LOG_RECORD),
        ("record kind: base", u64::from(f::record_kind::BASE)),
        ("record kind: delta", u64::from(f::record_kind::DELTA)),
        ("record kind: run table", u64::from(f::record_kind::TABLE)),
        ("record kind: seal", u64::from(f::record_kind::SEAL)),
        ("record kind: what died", u64::from(f::record_kind::DEAD)),
        ("numbers of an index block", u64::from(f::INDEX_BITS)),
        ("record kind: value", u64::from(f::record_kind::VALUE)),
        ("log record kind: batch", u64::from(f::log_kind::BATCH)),
        ("log record kind: root", u64::from(f::log_kind::ROOT)),
        ("log record kind: opening", u64::from(f::log_kind::OPENING)),
        ("log record kind: closed", u64::from(f::log_kind::CLOSED)),
        ("log record kind: rotate", u64::from(f::log_kind::ROTATE)),
        ("log record kind: sealed", u64::from(f::log_kind::SEALED)),
        ("page flag: wide ends", u64::from(f::page_flag::WIDE_ENDS)),
        ("page flag: wide positions", u64::from(f::page_flag::WIDE_POSITIONS)),
        ("page flag: first", u64::from(f::page_flag::FIRST)),
        ("entry kind: leaf", u64::from(f::entry_kind::LEAF)),
        ("entry kind: account", u64::from(f::entry_kind::ACCOUNT)),
        ("entry kind: child", u64::from(f::entry_kind::CHILD)),
        ("entry kind: removed", u64::from(f::entry_kind::REMOVED)),
        ("entry kind: large value", u64::from(f::entry_kind::LARGE)),
        ("entry flag: below", u64::from(f::entry_kind::BELOW)),
        ("entry flag: was a child", u64::from(f::entry_kind::WAS_CHILD)),
        ("change: delete", u64::from(f::change_tag::DELETE)),
        ("change: put", u64::from(f::change_tag::PUT)),
        ("change: keep", u64::from(f::change_tag::KEEP)),
        ("change: wipe", u64::from(f::change_tag::WIPE)),
        ("change: body", u64::from(f::change_tag::BODY)),
        ("change: body and wipe", u64::from(f::change_tag::BODY_WIPE)),
        ("change: delete account", u64::from(f::change_tag::DELETE_ACCOUNT)),
        ("change: put of a large value", u64::from(f::change_tag::PUT_LARGE)),
    ] {
        assert_eq!(number(name), value, "{name}");
    }
}

#[test]
fn every_magic_is_in_the_document() {
    let text = doc();
    for magic in [
        &f::IDENTITY_MAGIC[..],
        &f::SEGMENT_MAGIC,
        &f::GROUP_MAGIC,
        &f::COMPACTED_MAGIC,
        &f::DEAD_FILE_MAGIC,
        &f::LOG_MAGIC,
        &f::LOG_RECORD_MAGIC,
    ] {
        let shown = String::from_utf8_lossy(magic).replace('\0', "\\0");
        assert!(text.contains(&format!("`{shown}`")), "{shown}");
    }
}
