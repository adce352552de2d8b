//! Ethereum over Bristlecone: genesis files, era1 history files, block rewards, EIP-1186 answers, execution
//! witnesses.
//!
//! A chain's state is a store with one namespace in the accounts shape and the `Ethereum` scheme, one version a
//! block, the genesis being version 0. Executing transactions is not here yet, so blocks that have some
//! are refused ([`Error::NeedsEvm`]).

pub mod chain;
pub mod eip1186;
pub mod era1;
mod error;
pub mod genesis;
mod quantity;
pub mod rewards;
pub mod state;
pub mod witness;

pub use error::{Era1Fault, Error};
