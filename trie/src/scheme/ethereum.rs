//! The Ethereum scheme: RLP and Keccak-256.
