//! Bristlecone: an embedded multi-version Merkle state store.
