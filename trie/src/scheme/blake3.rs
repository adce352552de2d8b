//! The native scheme: BLAKE3.
