//! Every size, offset and magic of the files, once. `docs/format.md` explains them, and a test holds it to them.
//!
//! All numbers are little-endian unless they are varints (LEB128, canonical).

/// The one format version that this build reads and writes.
pub const FORMAT_VERSION: u32 = 3;

/// Bits of a stamp's counter.
pub const COUNTER_BITS: u32 = 40;
/// The largest counter of a stamp.
pub const MAX_COUNTER: u64 = (1 << COUNTER_BITS) - 1;
/// The largest opening number.
pub const MAX_OPENING: u32 = (1 << 24) - 1;
/// The largest segment number.
pub const MAX_SEGMENT: u32 = (1 << 31) - 1;

/// Bytes of the store's random identity.
pub const STORE_ID_BYTES: usize = 16;
/// Bytes of a checksum: BLAKE3, truncated.
pub const CHECKSUM_BYTES: usize = 8;
/// The longest key.
pub const MAX_KEY_BYTES: usize = 512;
/// The longest value, and the longest account body.
pub const MAX_VALUE_BYTES: usize = 16 << 20;
/// Longer values of flat keys have records of their own in the segments.
pub const MAX_INLINE_BYTES: usize = 512;
/// The longest record of a segment.
pub const MAX_RECORD_BYTES: usize = 1 << 30;
/// The longest payload of a record in the batch log.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 30;
/// The longest name of a pin.
pub const MAX_PIN_NAME_BYTES: usize = 255;
/// The longest configuration that the identity file takes.
pub const MAX_CONFIG_BYTES: usize = 1 << 16;

/// What becomes of a key, as one byte.
pub mod change_tag {
    /// The key goes.
    pub const DELETE: u8 = 0;
    /// A value follows.
    pub const PUT: u8 = 1;
    /// An account whose body stays, and nothing else happens.
    pub const KEEP: u8 = 2;
    /// An account whose body stays and whose storage is wiped.
    pub const WIPE: u8 = 3;
    /// An account whose body follows.
    pub const BODY: u8 = 4;
    /// An account whose storage is wiped and whose body follows.
    pub const BODY_WIPE: u8 = 5;
    /// An account that goes with its storage.
    pub const DELETE_ACCOUNT: u8 = 6;
    /// The reference of a large value follows: in run tables only.
    pub const PUT_LARGE: u8 = 7;
}

/// A layout: the name and the size in bytes of each field, in order.
pub type Fields = [(&'static str, usize)];

/// The bytes that `fields` take together.
pub const fn total(fields: &Fields) -> usize {
    let mut sum = 0;
    let mut rest = fields;
    while let [(_, size), tail @ ..] = rest {
        sum += *size;
        rest = tail;
    }
    sum
}

/// First bytes of the identity file.
pub const IDENTITY_MAGIC: [u8; 8] = *b"BRCLONE\0";
/// The identity file before its configuration; a checksum ends it.
pub const IDENTITY_FIELDS: [(&str, usize); 4] =
    [("magic", 8), ("format version", 4), ("configuration length", 4), ("store id", STORE_ID_BYTES)];
/// Bytes of it.
pub const IDENTITY_HEAD_BYTES: usize = total(&IDENTITY_FIELDS);

/// First bytes of a segment file.
pub const SEGMENT_MAGIC: [u8; 8] = *b"BRCLSEG\0";
/// The header of a segment file.
pub const SEGMENT_HEADER_FIELDS: [(&str, usize); 9] = [
    ("magic", 8),
    ("format version", 4),
    ("segment number", 4),
    ("store id", STORE_ID_BYTES),
    ("opening", 4),
    ("predecessor segment", 4),
    ("predecessor end", 8),
    ("predecessor checksum", 8),
    ("checksum", CHECKSUM_BYTES),
];
/// Bytes of it.
pub const SEGMENT_HEADER_BYTES: usize = total(&SEGMENT_HEADER_FIELDS);

/// Groups start at multiples of this, so that no write touches a sector of an older group.
pub const GROUP_ALIGN: u64 = 512;
/// Where the first group of a segment starts.
pub const FIRST_GROUP: u64 = GROUP_ALIGN;
/// First bytes of a group.
pub const GROUP_MAGIC: [u8; 4] = *b"BGRP";
/// The header of a group.
pub const GROUP_HEADER_FIELDS: [(&str, usize); 11] = [
    ("magic", 4),
    ("opening", 4),
    ("length", 8),
    ("first record", 4),
    ("records", 4),
    ("predecessor segment", 4),
    ("zero", 4),
    ("predecessor end", 8),
    ("predecessor checksum", 8),
    ("table checksum", CHECKSUM_BYTES),
    ("checksum", CHECKSUM_BYTES),
];
/// Bytes of it.
pub const GROUP_HEADER_BYTES: usize = total(&GROUP_HEADER_FIELDS);
/// One entry of the table that ends a group.
pub const TABLE_ENTRY_FIELDS: [(&str, usize); 2] = [("end", 4), ("checksum", CHECKSUM_BYTES)];
/// Bytes of it.
pub const TABLE_ENTRY_BYTES: usize = total(&TABLE_ENTRY_FIELDS);

/// First bytes of the file of a compacted segment.
pub const COMPACTED_MAGIC: [u8; 8] = *b"BRCLCMP\0";
/// The header of a compacted segment.
pub const COMPACTED_HEADER_FIELDS: [(&str, usize); 18] = [
    ("magic", 8),
    ("format version", 4),
    ("segment number", 4),
    ("store id", STORE_ID_BYTES),
    ("opening", 4),
    ("predecessor segment", 4),
    ("predecessor end", 8),
    ("predecessor checksum", 8),
    ("end", 8),
    ("end checksum", 8),
    ("generation", 4),
    ("records", 4),
    ("numbers", 4),
    ("zero", 4),
    ("length of the records", 8),
    ("table checksum", CHECKSUM_BYTES),
    ("index checksum", CHECKSUM_BYTES),
    ("checksum", CHECKSUM_BYTES),
];
/// Bytes of it.
pub const COMPACTED_HEADER_BYTES: usize = total(&COMPACTED_HEADER_FIELDS);
/// Numbers of records that one block of the index is of.
pub const INDEX_BITS: u32 = u64::BITS;
/// One block of the index of a compacted segment.
pub const INDEX_BLOCK_FIELDS: [(&str, usize); 2] = [("records below", 4), ("bits", 8)];
/// Bytes of it.
pub const INDEX_BLOCK_BYTES: usize = total(&INDEX_BLOCK_FIELDS);

/// First bytes of the file of what is dead.
pub const DEAD_FILE_MAGIC: [u8; 8] = *b"BRCLDEAD";
/// The file of what is dead before its lists; a checksum ends it.
pub const DEAD_FILE_FIELDS: [(&str, usize); 4] =
    [("magic", 8), ("format version", 4), ("store id", STORE_ID_BYTES), ("length of the rest", 8)];
/// Bytes of it.
pub const DEAD_FILE_HEAD_BYTES: usize = total(&DEAD_FILE_FIELDS);

const _: () = assert!(COMPACTED_HEADER_BYTES == 120 && (COMPACTED_HEADER_BYTES as u64) <= FIRST_GROUP);
const _: () = assert!(COMPACTED_HEADER_BYTES >= SEGMENT_HEADER_BYTES);
const _: () = assert!(INDEX_BLOCK_BYTES == 12);
const _: () = assert!(IDENTITY_HEAD_BYTES == 32);
const _: () = assert!(SEGMENT_HEADER_BYTES == 64 && (SEGMENT_HEADER_BYTES as u64) <= FIRST_GROUP);
const _: () = assert!(GROUP_HEADER_BYTES == 64 && (GROUP_HEADER_BYTES as u64) <= GROUP_ALIGN);
const _: () = assert!(TABLE_ENTRY_BYTES == 12);
const _: () = assert!(MAX_RECORD_BYTES < u32::MAX as usize);

/// The first byte of a record.
pub mod record_kind {
    /// A page, whole.
    pub const BASE: u8 = 1;
    /// What changed in a page.
    pub const DELTA: u8 = 2;
    /// Operations of a run.
    pub const TABLE: u8 = 3;
    /// The end of a run.
    pub const SEAL: u8 = 4;
    /// What died in a run.
    pub const DEAD: u8 = 5;
    /// A large value.
    pub const VALUE: u8 = 6;
}

/// A run table before its ends.
pub const TABLE_HEAD_FIELDS: [(&str, usize); 4] =
    [("kind", 1), ("operations", 4), ("newest stamp", 8), ("tops", 4)];
/// Bytes of it.
pub const TABLE_HEAD_BYTES: usize = total(&TABLE_HEAD_FIELDS);

/// A base page before its prints.
pub const BASE_HEAD_FIELDS: [(&str, usize); 5] =
    [("kind", 1), ("flags", 1), ("entries", 2), ("depth", 2), ("newest stamp", 8)];
/// Bytes of it.
pub const BASE_HEAD_BYTES: usize = total(&BASE_HEAD_FIELDS);
/// Bytes of a print: the first four nibbles after the stem.
pub const PRINT_BYTES: usize = 2;

/// Flags of a base and of a delta.
pub mod page_flag {
    /// Ends have four bytes instead of two.
    pub const WIDE_ENDS: u8 = 1;
    /// Delta: positions have two bytes instead of one.
    pub const WIDE_POSITIONS: u8 = 2;
    /// Delta: the record before it is the base.
    pub const FIRST: u8 = 4;
}

/// The first byte of an entry of a base, and of an operation of a delta.
pub mod entry_kind {
    /// A value.
    pub const LEAF: u8 = 0;
    /// An account.
    pub const ACCOUNT: u8 = 1;
    /// Another page.
    pub const CHILD: u8 = 2;
    /// Delta: there is nothing any more.
    pub const REMOVED: u8 = 3;
    /// A value in a record of its own.
    pub const LARGE: u8 = 4;
    /// The bits of the kinds above.
    pub const MASK: u8 = 0x0f;
    /// Added where the path runs through an account of the same page.
    pub const BELOW: u8 = 0x10;
    /// Added to `REMOVED` where another page is what is gone.
    pub const WAS_CHILD: u8 = 0x20;
}

/// Nibbles of an account's key: what lies deeper is storage.
pub const ACCOUNT_NIBBLES: usize = 64;
/// Bytes of an account's key.
pub const ACCOUNT_KEY_BYTES: usize = ACCOUNT_NIBBLES / 2;

const _: () = assert!(TABLE_HEAD_BYTES == 17);
const _: () = assert!(BASE_HEAD_BYTES == 14);
const _: () = assert!(ACCOUNT_KEY_BYTES == bristlecone_trie::page::ACCOUNT_BYTES);
const _: () = assert!(MAX_KEY_BYTES == bristlecone_trie::path::MAX_KEY_BYTES);

/// First bytes of a log file.
pub const LOG_MAGIC: [u8; 8] = *b"BRCLLOG\0";
/// The header of a log file.
pub const LOG_HEADER_FIELDS: [(&str, usize); 14] = [
    ("magic", 8),
    ("format version", 4),
    ("flags", 4),
    ("store id", STORE_ID_BYTES),
    ("file number", 8),
    ("opening", 4),
    ("sealed segment", 4),
    ("sealed end", 8),
    ("sealed checksum", 8),
    ("predecessor file", 8),
    ("predecessor end", 8),
    ("first sequence", 8),
    ("predecessor checksum", 8),
    ("durable end", 8),
];
/// Bytes of it; a checksum follows.
pub const LOG_HEADER_BYTES: usize = total(&LOG_HEADER_FIELDS);
/// Where the first record of a log file starts.
pub const FIRST_LOG_RECORD: u64 = 512;
/// Flag of a log file: it begins anew with all that was not sealed, and no older file counts.
pub const LOG_RESTART: u32 = 1;

/// First bytes of a record of the batch log.
pub const LOG_RECORD_MAGIC: [u8; 4] = *b"BLOG";
/// The header of a record of the batch log; its payload and a checksum of both follow.
pub const LOG_RECORD_FIELDS: [(&str, usize); 9] = [
    ("magic", 4),
    ("payload length", 4),
    ("sequence", 8),
    ("synced sequence", 8),
    ("predecessor checksum", 8),
    ("opening", 4),
    ("kind", 1),
    ("zero", 3),
    ("header checksum", CHECKSUM_BYTES),
];
/// Bytes of it.
pub const LOG_RECORD_HEAD_BYTES: usize = total(&LOG_RECORD_FIELDS);
/// Records of the batch log start at multiples of this.
pub const LOG_ALIGN: u64 = 8;

/// The kinds of records of the batch log.
pub mod log_kind {
    /// A commit.
    pub const BATCH: u8 = 1;
    /// A root that was computed.
    pub const ROOT: u8 = 2;
    /// The store was opened.
    pub const OPENING: u8 = 3;
    /// The store was closed.
    pub const CLOSED: u8 = 4;
    /// The log goes on in another file.
    pub const ROTATE: u8 = 5;
    /// A seal is durable.
    pub const SEALED: u8 = 6;
}

const _: () = assert!(LOG_HEADER_BYTES == 104);
const _: () = assert!(((LOG_HEADER_BYTES + CHECKSUM_BYTES) as u64) <= FIRST_LOG_RECORD);
const _: () = assert!(LOG_RECORD_HEAD_BYTES == 48);
const _: () = assert!(FIRST_LOG_RECORD.is_multiple_of(LOG_ALIGN));
