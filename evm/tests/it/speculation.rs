//! What was executed on an older state and still holds is what executing it on the newer one gives, and nothing else is taken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use alloy_consensus::{Header, SignableTransaction, TxLegacy, transaction::Recovered};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, Signature, TxKind, U256, hex, keccak256};
use bristlecone::{Account, Batch, Store};
use bristlecone_evm::{
    BlockHashes, CodeCache, Executor, StateDb,
    block::{Block, Transaction},
    chain::{Forks, Rules, Sealing},
    executor::{Executed, ExecutionStats, Hints},
    genesis::{Genesis, GenesisAccount},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    chain::store,
    parallel::assert_same,
    real::{RealBlock, grevm, pevm},
};

/// A state like `before` in which some things are otherwise, and what makes it `before` again.
fn otherwise(before: &Genesis, share: f64, random: &mut ChaCha8Rng) -> (Batch, Batch) {
    let (mut older, mut back) = (Genesis::default(), Batch::new());
    for account in &before.accounts {
        let (address, code_hash) = (account.address.as_slice(), account.code_hash());
        let right = Account { nonce: account.nonce, balance: account.balance, code_hash };
        let mut was = account.clone();
        let kind = if random.random_bool(share) { random.random_range(0..5) } else { usize::MAX };
        let slot = random.random_range(0..account.storage.len().max(1));
        match (kind, was.storage.get_mut(slot)) {
            (0, _) => {
                was.balance = was.balance.saturating_add(U256::from(1));
                back.set_account(address, &right);
            }
            (1, Some((slot, value))) => {
                back.set_slot(address, *slot, *value);
                *value = value.saturating_add(U256::from(1));
            }
            // One more, at a place that may well be asked for.
            (2, Some((slot, _))) => {
                let near = B256::from(U256::from_be_bytes(slot.0).wrapping_add(U256::from(1)));
                if account.storage.iter().all(|(slot, _)| *slot != near) {
                    was.storage.push((near, U256::from(9)));
                    back.set_slot(address, near, U256::ZERO);
                }
            }
            (3, _) => {
                back.set_account(address, &right);
                set_slots(&mut back, account);
                if !account.code.is_empty() {
                    back.set_code(code_hash, account.code.0.clone());
                }
                continue;
            }
            // The same is written again: that counts as a change, and is one to nobody.
            (4, _) => {
                back.wipe_storage(address).set_account(address, &right);
                set_slots(&mut back, account);
            }
            _ => {}
        }
        older.accounts.push(was);
    }
    (older.batch(), back)
}

fn set_slots(batch: &mut Batch, account: &GenesisAccount) {
    for (slot, value) in &account.storage {
        batch.set_slot(account.address.as_slice(), *slot, *value);
    }
}

/// The block on both states of a store, speculated on the first.
struct Case {
    older: StateDb,
    newer: StateDb,
    right: Executed,
    _store: (Store, tempfile::TempDir),
}

impl Case {
    fn new(real: &RealBlock, share: f64, seed: u64) -> Self {
        let (store, dir) = store();
        let (older, back) = otherwise(&real.before, share, &mut ChaCha8Rng::seed_from_u64(seed));
        store.commit(older).unwrap();
        store.commit(back).unwrap();
        let codes = CodeCache::default();
        let db = |version| real.db(store.at(version).unwrap(), &codes);
        let (older, newer) = (db(0), db(1));
        let right = real.execute(&Executor::new(real.rules.clone()), &newer);
        Self { older, newer, right, _store: (store, dir) }
    }
}

#[test]
fn real_blocks_are_the_same_from_speculations_on_other_states() {
    let Some(blocks) = pevm() else { return };
    for share in [0.0, 0.01, 0.1, 1.0] {
        let mut sum = ExecutionStats::default();
        for (seed, real) in blocks.iter().chain(&grevm()).enumerate() {
            let case = Case::new(real, share, seed as u64);
            let workers = [0, 1, 4][seed % 3];
            let executor = match workers {
                0 => Executor::new(real.rules.clone()),
                _ => Executor::parallel(real.rules.clone(), workers).unwrap(),
            };
            // Some system calls or hashes of blocks do not work on that state, which nobody minds.
            let Ok(speculation) = executor.speculate(&case.older, &real.block) else { continue };
            let got = real.execute_speculated(&executor, &case.newer, speculation);
            assert_same(&format!("{}, {workers} workers, {share}", real.name), &case.right, &got);
            if share == 0.0 {
                assert_eq!((got.stats.held, got.stats.runs), (got.stats.transactions, 0), "{}", real.name);
            }
            sum += got.stats;
        }
        eprintln!("{share} of the accounts changed: {} of {} held, {sum:?}", sum.held, sum.transactions);
        assert_eq!(sum.held < sum.transactions, share > 0.0);
        assert!(sum.held > 0 || share == 1.0);
    }
}

#[test]
fn a_speculation_that_was_stopped_counts_as_far_as_it_came() {
    let Some(blocks) = pevm() else { return };
    let mut held = 0;
    for real in blocks.iter().filter(|real| real.block.transactions.len() > 150) {
        let case = Case::new(real, 0.02, 1);
        let executor = Executor::new(real.rules.clone());
        let begun = std::time::Instant::now();
        let whole = executor.speculate(&case.older, &real.block).unwrap();
        let time = begun.elapsed();
        drop(whole);
        for part in [0, 1, 3, 7] {
            let stop = AtomicBool::new(part == 0);
            let speculation = std::thread::scope(|scope| {
                let stop = &stop;
                let speculated =
                    scope.spawn(|| executor.speculate_until(&case.older, &real.block, stop).unwrap());
                std::thread::sleep(time * part / 8);
                stop.store(true, Relaxed);
                speculated.join().unwrap()
            });
            let got = real.execute_speculated(&executor, &case.newer, speculation);
            assert_same(&format!("{}, stopped after {part} eighths", real.name), &case.right, &got);
            assert!(part > 0 || got.stats.held == 0, "{}", real.name);
            held += got.stats.held;
        }
    }
    assert!(held > 0);
}

#[test]
fn a_speculation_of_another_block_or_of_another_history_counts_for_nothing() {
    let Some(blocks) = pevm() else { return };
    let of = |transactions| blocks.iter().find(|real| real.block.transactions.len() > transactions).unwrap();
    let (real, other) = (of(100), of(200));
    let (case, stranger) = (Case::new(real, 0.0, 1), Case::new(other, 0.0, 1));
    let executor = Executor::parallel(real.rules.clone(), 2).unwrap();
    // The same transactions in another block.
    let mut later = real.block.clone();
    later.header.timestamp += 1;
    // On a store that is like this one, and is not it.
    let apart = Case::new(real, 0.0, 1);
    let speculations = [
        executor.speculate(&stranger.older, &other.block).unwrap(),
        executor.speculate(&case.older, &later).unwrap(),
        executor.speculate(&apart.older, &real.block).unwrap(),
    ];
    for speculation in speculations {
        let got = real.execute_speculated(&executor, &case.newer, speculation);
        assert_same(&real.name, &case.right, &got);
        assert_eq!(got.stats.held, 0);
    }
}

/// Somebody with money, and a contract that is called.
const WHO: Address = Address::repeat_byte(1);
const CONTRACT: Address = Address::repeat_byte(2);

fn rules(chain_id: u64) -> Rules {
    Rules {
        chain_id: Some(chain_id),
        sealing: Sealing::Work,
        forks: Forks::cancun_from_genesis(),
        dao_fork: None,
        deposit_contract: None,
        blobs: Vec::new(),
    }
}

/// One call of the contract, after a parent with this hash.
fn call(parent_hash: B256) -> Block {
    let transaction =
        TxLegacy { gas_price: 10, gas_limit: 1_000_000, to: TxKind::Call(CONTRACT), ..TxLegacy::default() };
    let transaction = Transaction::from(transaction.into_signed(Signature::test_signature()));
    let header = Header {
        number: 6,
        parent_hash,
        gas_limit: 30_000_000,
        base_fee_per_gas: Some(1),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        ..Header::default()
    };
    Block {
        hash: header.hash_slow(),
        header,
        transactions: vec![Recovered::new_unchecked(transaction, WHO)],
        ommers: Vec::new(),
        withdrawals: None,
    }
}

/// Calls a contract with this code, speculated by one on a version with the first value in slot 0 and executed by the other on one with the second; the
/// hash of the parent likewise. What is right, and what came out.
fn differing(
    code: &[u8],
    executors: [&Executor; 2],
    parents: [B256; 2],
    slot: [u64; 2],
) -> (Executed, Executed) {
    let (store, _dir) = store();
    let mut batch = Batch::new();
    let hash = keccak256(code);
    batch.set_code(hash, Bytes::copy_from_slice(code).0);
    let account = |nonce, balance, code_hash| Account { nonce, balance: U256::from(balance), code_hash };
    batch.set_account(WHO.as_slice(), &account(0, 1_000_000_000, KECCAK256_EMPTY));
    batch.set_account(CONTRACT.as_slice(), &account(1, 0, hash));
    batch.set_slot(CONTRACT.as_slice(), B256::ZERO, U256::from(slot[0]));
    store.commit(batch).unwrap();
    let mut batch = Batch::new();
    if slot[0] != slot[1] {
        batch.set_slot(CONTRACT.as_slice(), B256::ZERO, U256::from(slot[1]));
    }
    store.commit(batch).unwrap();
    let db = |version, parent| {
        let mut hashes = BlockHashes::default();
        hashes.push(5, parent);
        StateDb::new(store.at(version).unwrap(), Arc::new(hashes), CodeCache::default())
    };
    let speculation = executors[0].speculate(&db(0, parents[0]), &call(parents[0])).unwrap();
    let (newer, block) = (db(1, parents[1]), call(parents[1]));
    let right = Executor::new(executors[1].rules().clone()).execute_unchecked(
        &newer,
        &block,
        &Hints::senders(&block),
    );
    let got = executors[1].execute_speculated_unchecked(&newer, &block, speculation).unwrap();
    (right.unwrap(), got)
}

#[test]
fn hashes_of_blocks_and_rules_are_among_what_must_be_the_same() {
    let executor = Executor::new(rules(1));
    let [one, other] = [0xaa, 0xbb].map(B256::repeat_byte);
    // The hash of the parent goes to slot 0.
    let blockhash = hex!("60014303405f5500");
    for (parents, held) in [([one, one], 1), ([one, other], 0)] {
        let (right, got) = differing(&blockhash, [&executor, &executor], parents, [1, 1]);
        assert_same("the hash of the parent", &right, &got);
        assert_eq!(got.stats.held, held);
    }
    let chain_id = hex!("465f5500");
    let (right, got) = differing(&chain_id, [&executor, &Executor::new(rules(5))], [one, one], [1, 1]);
    assert_same("the chain", &right, &got);
    assert_eq!(got.stats.held, 0);
}

#[test]
fn code_of_a_run_that_does_not_count_is_not_kept() {
    // Deploys a contract whose code has slot 0 in it.
    let factory = hex!("6760005f5360015ff35f5460301b175f52600860185ff000");
    for executor in [Executor::new(rules(1)), Executor::parallel(rules(1), 2).unwrap()] {
        let parents = [B256::repeat_byte(0xaa); 2];
        let (right, got) = differing(&factory, [&executor, &executor], parents, [1, 2]);
        assert_same("deployed", &right, &got);
        assert_eq!((got.stats.held, right.changes.codes.len()), (0, 1));
    }
}
