//! The state provider of a node: accounts, storage, code and proofs at any block, and blocks that extend the chain.
//!
//! `cargo run --release -p bristlecone-evm --example reth_like_provider`
#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::error::Error;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rpc_types_eth::EIP1186AccountProofResponse;
use bristlecone::{Account, Batch, Snapshot, Store};
use bristlecone_evm::{
    eip1186,
    genesis::{Genesis, GenesisAccount},
    state,
};

/// The chain's state. One block is one version, so a provider of history costs nothing to keep.
struct ProviderFactory {
    store: Store,
}

/// The state after one block. Holding it holds that state, whatever the chain does meanwhile.
struct StateProvider {
    state: Snapshot,
}

impl ProviderFactory {
    fn latest(&self) -> bristlecone::Result<StateProvider> {
        Ok(StateProvider { state: self.store.latest()? })
    }

    fn history_by_block_number(&self, number: u64) -> bristlecone::Result<StateProvider> {
        Ok(StateProvider { state: self.store.at(number)? })
    }
}

impl StateProvider {
    fn basic_account(&self, address: Address) -> bristlecone::Result<Option<Account>> {
        self.state.account(address.as_slice())
    }

    fn storage(&self, address: Address, slot: B256) -> bristlecone::Result<U256> {
        self.state.slot(address.as_slice(), slot)
    }

    fn bytecode_by_hash(&self, hash: B256) -> bristlecone::Result<Option<Bytes>> {
        Ok(self.state.code(hash)?.map(Bytes::from))
    }

    fn state_root(&self) -> bristlecone::Result<B256> {
        self.state.root()
    }

    fn proof(
        &self,
        address: Address,
        slots: &[B256],
    ) -> Result<EIP1186AccountProofResponse, bristlecone_evm::Error> {
        eip1186::answer(&self.state, address, slots)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let factory = ProviderFactory { store: Store::open(dir.path())? };
    let (vault, slot) = (Address::repeat_byte(0x7a), B256::with_last_byte(1));
    let code = Bytes::from_static(&[0x00]);
    let storage = vec![(slot, U256::from(1))];
    let account = GenesisAccount { address: vault, nonce: 1, code, storage, ..Default::default() };
    state::init_genesis(&factory.store, &Genesis { accounts: vec![account], ..Genesis::default() })?;

    // Ten blocks that change a slot. `Importer` makes such batches by executing blocks.
    for number in 1..=10u64 {
        let mut block = Batch::new();
        block.set_slot(vault.as_slice(), slot, U256::from(100 * number));
        factory.store.commit(block)?;
    }

    for number in [0, 4, 10] {
        let state = factory.history_by_block_number(number)?;
        println!("block {number}: slot {}, root {}", state.storage(vault, slot)?, state.state_root()?);
    }
    let latest = factory.latest()?;
    let account = latest.basic_account(vault)?.ok_or("nobody there")?;
    let code = latest.bytecode_by_hash(account.code_hash)?.unwrap_or_default();
    println!("nonce {}, code {code}", account.nonce);

    // What `eth_getProof` answers, checked as a light client would, who has nothing but the root of block 4.
    let past = factory.history_by_block_number(4)?;
    let answer = past.proof(vault, &[slot])?;
    eip1186::verify(&answer, past.state_root()?)?;
    println!("proved at block 4: {} nodes for the account", answer.account_proof.len());
    Ok(())
}
