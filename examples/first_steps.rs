//! A first walk through Bristlecone: a genesis, a few blocks, reads of the past, a proof, and reopening.
//!
//! `cargo run --example first_steps`
#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::error::Error;

use bristlecone::{Account, B256, Batch, Ethereum, Key, Since, Store, U256, verify_account};

const ALICE: [u8; 20] = [0xa1; 20];
const TOKEN: [u8; 20] = [0x70; 20];

fn main() -> Result<(), Box<dyn Error>> {
    // A store is a directory. The default is one namespace of Ethereum accounts with a root for every version; `Options` has the rest.
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;

    // The first commit is version 0. Addresses and slots are hashed on their way into the trie, as Ethereum does it.
    let mut genesis = Batch::new();
    genesis.set_account(&ALICE, &with_balance(1_000));
    genesis.set_account(&TOKEN, &Account { nonce: 1, ..Account::default() });
    genesis.set_slot(&TOKEN, slot_of(0), U256::from(21_000_000));
    let commit = store.commit(genesis)?;
    println!("genesis is version {} with root {}", commit.version(), commit.root().wait()?);

    // Ten blocks. `commit` returns once the version is visible, so the next block can be executed on it at once: nobody
    // waits for a hash or for the disk in this loop.
    let mut last = commit;
    for block in 1..=10 {
        let mut batch = Batch::new();
        batch.set_account(&ALICE, &with_balance(1_000 - block));
        batch.set_slot(&TOKEN, slot_of(block), U256::from(block * block));
        last = store.commit(batch)?;
    }

    // What the world outside is told waits for more. The three events come when they come, each can be `.await`ed as well,
    // and durable means durable: it survives a power cut.
    last.durable().wait()?;
    let root = last.root().wait()?;
    println!("version {} is durable, its root is {root}", last.version());

    // A snapshot never changes, whatever is committed after it. Clone it, send it to threads, keep it.
    let (now, then) = (store.latest()?, store.at(3)?);
    let balance = |at: &bristlecone::Snapshot| at.account(&ALICE).map(|account| account.map(|a| a.balance));
    assert_eq!(balance(&now)?, Some(U256::from(990)));
    assert_eq!(balance(&then)?, Some(U256::from(997)));
    assert_eq!(then.slot(&TOKEN, slot_of(4))?, U256::ZERO, "block 4 had not come yet");

    // Optimistic execution asks whether what it read still stands, without comparing values.
    assert_eq!(now.changed_since(Key::Account(&ALICE), &then)?, Since::Changed);
    assert_eq!(now.changed_since(Key::Slot(&TOKEN, slot_of(2)), &then)?, Since::Unchanged);

    // A proof holds the nodes from the root down to an account and to some of its slots; an absent slot is proven as well. Whoever
    // has the root can verify it with nothing else at hand.
    let proof = now.prove_account(&TOKEN, &[slot_of(7), slot_of(99)])?;
    let token = verify_account::<Ethereum>(root, &TOKEN, &proof)?;
    assert_eq!(token.map(|account| account.nonce), Some(1));
    for slot in &proof.slots {
        println!("proven: slot {} holds {}", U256::from_be_bytes(slot.slot.0), slot.value);
    }
    assert!(
        verify_account::<Ethereum>(then.root()?, &TOKEN, &proof).is_err(),
        "another version, another root"
    );

    // All versions are there after reopening. `close` tells of errors that dropping the store would swallow; after a crash
    // the store opens just the same, with everything that was durable.
    drop((now, then, last));
    store.close()?;
    let store = Store::open(dir.path())?;
    assert_eq!(store.versions().len(), 11);
    assert_eq!(balance(&store.at(3)?)?, Some(U256::from(997)));
    assert_eq!(store.at(10)?.root()?, root);
    println!("reopened with versions 0 to {}", store.latest()?.version());
    store.close()?;
    Ok(())
}

fn with_balance(balance: u64) -> Account {
    Account { balance: U256::from(balance), ..Account::default() }
}

fn slot_of(number: u64) -> B256 {
    B256::from(U256::from(number))
}
