//! Whole stores: sequences of operations, and files that were changed anywhere.

use bristlecone_torture::{corruption, phase};

/// A workload whose choices are the input, against a map per version, and a power cut at its end.
pub fn operations(data: &[u8]) {
    if let Err(what) = phase::scripted(data) {
        panic!("{what}");
    }
}

/// A store whose files the input changes: the same answers, or typed errors.
pub fn damaged_store(data: &[u8]) {
    if let Err(what) = corruption::edited(data) {
        panic!("{what}");
    }
}
