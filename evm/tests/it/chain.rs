//! A chain in a store, for tests: every block executed on the version before it, every root against its header.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::{B256, KECCAK256_EMPTY, U256, keccak256};
use bristlecone::{Options, Snapshot, Store};
use bristlecone_evm::{
    BlockHashes, CodeCache, Error, Executor, StateDb, block::Block, executor::Executed, genesis::Genesis,
    state,
};
use tempfile::TempDir;

pub(crate) struct Chain {
    pub(crate) store: Store,
    pub(crate) executor: Executor,
    hashes: BlockHashes,
    parent: Header,
    codes: CodeCache,
    _dir: TempDir,
}

/// A small store in a directory of its own.
pub(crate) fn store() -> (Store, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().segment_bytes(4 << 20).log_bytes(1 << 20).threads(1).open(dir.path()).unwrap();
    (store, dir)
}

impl Chain {
    pub(crate) fn new(genesis: &Genesis, executor: Executor) -> Self {
        let (store, dir) = store();
        state::init_genesis(&store, genesis).unwrap();
        let mut hashes = BlockHashes::default();
        hashes.push(0, genesis.hash());
        Self {
            store,
            executor,
            hashes,
            parent: genesis.header.clone(),
            codes: CodeCache::default(),
            _dir: dir,
        }
    }

    /// Executes `block` and commits it; the root is compared. Nothing is committed on an error.
    pub(crate) fn extend(&mut self, block: &Block) -> Result<Executed, Error> {
        self.executor.check_child(&self.parent, block)?;
        let snapshot = self.store.latest()?;
        let db = StateDb::new(snapshot, Arc::new(self.hashes.clone()), self.codes.clone());
        let executed = self.executor.execute(&db, block)?;
        let commit = self.store.commit(executed.changes.batch())?;
        assert_eq!(commit.root().wait()?, block.header.state_root, "block {}", block.header.number);
        self.hashes.push(block.header.number, block.hash);
        self.parent = block.header.clone();
        Ok(executed)
    }
}

/// What a state must hold of an account.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) balance: U256,
    pub(crate) nonce: u64,
    pub(crate) code: Vec<u8>,
    pub(crate) storage: Vec<(B256, U256)>,
}

/// `snapshot` holds exactly these accounts.
pub(crate) fn assert_state(snapshot: &Snapshot, expected: &[(alloy_primitives::Address, Expected)]) {
    assert_eq!(snapshot.iter_accounts().unwrap().count(), expected.len(), "accounts");
    for (address, expected) in expected {
        let found =
            snapshot.account(address.as_slice()).unwrap().unwrap_or_else(|| panic!("{address} is missing"));
        assert_eq!((found.nonce, found.balance), (expected.nonce, expected.balance), "{address}");
        let hash = if expected.code.is_empty() { KECCAK256_EMPTY } else { keccak256(&expected.code) };
        assert_eq!(found.code_hash, hash, "{address}");
        if !expected.code.is_empty() {
            assert_eq!(snapshot.code(hash).unwrap().unwrap(), expected.code, "{address}");
        }
        let slots = snapshot.iter_slots(address.as_slice()).unwrap().count();
        assert_eq!(slots, expected.storage.len(), "slots of {address}");
        for (slot, value) in &expected.storage {
            assert_eq!(snapshot.slot(address.as_slice(), *slot).unwrap(), *value, "{address} {slot}");
        }
    }
}
