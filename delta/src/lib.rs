//! Every on-disk byte of Bristlecone: files, segments, records, pages, the batch log, recovery.
//!
//! This crate knows no hash rule, no proof and no reader; it stores what it is given, verifies what it reads,
//! and finds after a crash exactly a prefix of what was written.

pub mod vfs;
