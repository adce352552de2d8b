//! Many executors on one version: calls of a contract on several threads, and a block of transfers in parallel.
//!
//! `cargo run --release -p bristlecone-evm --example revm_parallel`
#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::{error::Error, sync::Arc, thread};

use alloy_consensus::{Header, SignableTransaction, TxLegacy, transaction::Recovered};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use bristlecone::Store;
use bristlecone_evm::{
    BlockHashes, CodeCache, Executor, StateDb,
    block::Block,
    chain::Rules,
    executor::Hints,
    genesis::{Genesis, GenesisAccount},
    state,
};
use revm::{
    Context, ExecuteEvm, MainBuilder, MainContext, context::TxEnv, database_interface::WrapDatabaseRef,
};

const COUNTER: Address = Address::repeat_byte(0xcc);

fn main() -> Result<(), Box<dyn Error>> {
    // A store with eight people and a contract that returns what its slot 0 holds.
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let code = Bytes::from_static(&[0x60, 0x00, 0x54, 0x60, 0x00, 0x52, 0x60, 0x20, 0x60, 0x00, 0xf3]);
    let mut accounts: Vec<_> = (0..8)
        .map(|index| GenesisAccount { address: person(index), balance: ether(100), ..Default::default() })
        .collect();
    let storage = vec![(B256::ZERO, U256::from(42))];
    accounts.push(GenesisAccount { address: COUNTER, nonce: 1, code, storage, ..Default::default() });
    state::init_genesis(&store, &Genesis { accounts, ..Genesis::default() })?;

    // A version as revm reads it. Clones share it, no read takes a lock of the store, and commits go on meanwhile.
    let hashes = Arc::new(BlockHashes::default());
    let db = StateDb::new(store.latest()?, hashes, CodeCache::default());
    thread::scope(|scope| {
        for index in 0..4 {
            let db = &db;
            scope.spawn(move || {
                let mut evm = Context::mainnet().with_db(WrapDatabaseRef(db)).build_mainnet();
                let call = TxEnv { caller: person(index), kind: TxKind::Call(COUNTER), ..TxEnv::default() };
                let outcome = evm.transact(call);
                let output = outcome.map(|outcome| outcome.result.into_output());
                println!(
                    "thread {index} reads {:?}",
                    output.ok().flatten().map(|word| U256::from_be_slice(&word))
                );
            });
        }
    });

    // A block on two threads. What comes out is what one thread gives; here nobody depends on anybody, so each
    // transaction runs once. The changes are one batch, the next version.
    let block = block_of_transfers();
    let executor = Executor::parallel(Rules::mainnet(), 2)?;
    let executed = executor.execute_unchecked(&db, &block, &Hints::senders(&block))?;
    println!(
        "{} transactions, {} runs again, {} gas",
        block.transactions.len(),
        executed.stats.again(),
        executed.gas_used
    );
    let commit = store.commit(executed.changes.batch())?;
    println!("version {} has the root {}", commit.version(), commit.root().wait()?);
    let paid = store.latest()?.account(person(1).as_slice())?.ok_or("nobody there")?;
    println!("person 1 has {} wei", paid.balance);
    Ok(())
}

fn person(index: u8) -> Address {
    Address::with_last_byte(0x10 + index)
}

fn ether(count: u64) -> U256 {
    U256::from(count) * U256::from(10).pow(U256::from(18))
}

/// Everybody with an even number pays one ether to the next. Who signed is known, so nothing needs a signature here.
fn block_of_transfers() -> Block {
    let transfer = |from: u8| {
        let to = TxKind::Call(person(from + 1));
        let transaction =
            TxLegacy { gas_price: 1, gas_limit: 21_000, to, value: ether(1), ..TxLegacy::default() };
        Recovered::new_unchecked(transaction.into_signed(Signature::test_signature()).into(), person(from))
    };
    let header = Header { number: 1, gas_limit: 1_000_000, difficulty: U256::from(1), ..Header::default() };
    Block {
        hash: header.hash_slow(),
        header,
        transactions: (0..8).step_by(2).map(transfer).collect(),
        ommers: Vec::new(),
        withdrawals: None,
    }
}
