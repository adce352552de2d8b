//! The genesis as version 0 of a store.

use alloy_primitives::B256;
use bristlecone::{Commit, Store};

use crate::{Error, genesis::Genesis};

/// Commits `genesis` as the first version of an empty store, and compares the root that the store
/// computes with the one that alloy-trie computes. Waits for the root, not for durability.
pub fn init_genesis(store: &Store, genesis: &Genesis) -> Result<(Commit, B256), Error> {
    let expected = genesis.state_root();
    let commit = store.commit(genesis.batch())?;
    let got = commit.root().wait()?;
    if got != expected {
        return Err(Error::GenesisRoot { expected, got });
    }
    Ok((commit, got))
}
