//! The Merkle trie of Bristlecone: packed pages, both hash schemes, hashing in lanes, proofs.
//!
//! This crate is pure: it opens no file, starts no thread and does not know what a stamp or a child
//! reference means. It is `no_std` with `alloc`, so that a light client can verify proofs with it.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod account;
mod hint;
pub mod levels;
pub mod op;
pub mod page;
pub mod partial;
pub mod path;
pub mod proof;
pub mod scheme;
mod structure;
pub mod tops;
pub mod update;
pub mod witness;

pub use account::Account;
pub use alloy_primitives::{B256, U256};
pub use hint::Hint;
pub use op::{Body, Change, Op};
pub use page::{Entry, Find, Item, Page, PageBuilder, Shape};
pub use partial::{Bounds, Partial, PartialError};
pub use path::Path;
pub use scheme::{NodeRef, Scheme};
