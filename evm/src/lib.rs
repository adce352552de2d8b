//! Ethereum over Bristlecone: genesis files, blocks and their execution, era1 history files, EIP-1186 answers, execution
//! witnesses.
//!
//! A chain's state is a store with one namespace in the accounts shape and the `Ethereum` scheme, one version a
//! block, the genesis being version 0. [`StateDb`] is a version as revm reads it; [`Executor`] executes a block on it;
//! what comes out is committed as one [`Batch`](bristlecone::Batch).

pub mod block;
pub mod chain;
pub mod changes;
mod db;
pub mod eip1186;
pub mod era1;
mod error;
pub mod executor;
pub mod genesis;
pub mod importer;
mod quantity;
pub mod rewards;
pub mod state;
pub mod witness;

pub use db::{BlockHashes, CodeCache, State, StateDb};
pub use error::{Era1Fault, Error, StateError};
pub use executor::Executor;
pub use importer::Importer;
