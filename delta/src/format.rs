//! Every size, offset and magic of the files, once. `docs/format.md` explains them, and a test holds it to them.
//!
//! All numbers are little-endian unless they are varints (LEB128, canonical).

/// The newest format version that this build reads, and the one it writes.
pub const FORMAT_VERSION: u32 = 1;

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
/// The longest record of a segment.
pub const MAX_RECORD_BYTES: usize = 1 << 30;
/// The longest payload of a record in the batch log.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 30;
/// The longest configuration that the identity file takes.
pub const MAX_CONFIG_BYTES: usize = 1 << 16;
