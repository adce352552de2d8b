//! Choosing between candidate blocks: consensus proposes several, each is executed and has its root, one becomes the next version.
//!
//! `cargo run --example proposals`
#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use bristlecone::{Account, Batch, Error, Result, Snapshot, Store, U256};

const ALICE: [u8; 20] = [0xa1; 20];
const BOB: [u8; 20] = [0xb0; 20];

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let mut genesis = Batch::new();
    genesis.set_account(&ALICE, &with_balance(100));
    store.commit(genesis)?;

    // Two leaders propose a block on the same parent. Each is built in memory, is read like a version and has its root;
    // nothing of it is published, and nothing touches the disk.
    let parent = store.latest()?;
    let ten = store.propose(&parent, pays(&parent, 10)?)?;
    let twenty = store.propose(&parent, pays(&parent, 20)?)?;
    println!("pay 10: root {}", ten.root().wait()?);
    println!("pay 20: root {}", twenty.root().wait()?);

    // A block on a proposed block: execution need not wait for the choice.
    let next = twenty.propose(pays(&twenty.snapshot(), 5)?)?;
    assert_eq!(balance(&next.snapshot(), &BOB)?, U256::from(25));
    assert_eq!(store.latest_version(), Some(0));

    // The second is chosen. What stands on it goes on; the other has lost its place, and says so.
    let chosen = twenty.accept()?;
    chosen.durable().wait()?;
    assert_eq!(chosen.root().wait()?, twenty.root().wait()?);
    assert!(matches!(ten.accept(), Err(Error::ProposalEnded { version: 1 })));
    println!("version {} pays Bob {}", chosen.version(), balance(&store.latest()?, &BOB)?);

    // Its transactions may still be wanted. The same batch on what is the latest version now, here after the child of the chosen one:
    next.accept()?;
    let again = ten.rebase()?;
    println!(
        "rebased, it would be version {}, with Bob at {}",
        again.version(),
        balance(&again.snapshot(), &BOB)?
    );
    // A batch says what is there afterwards, not what is added: so execute again instead, where the parent changed what you read.
    assert_eq!(balance(&again.snapshot(), &BOB)?, U256::from(10));
    drop(again);
    assert_eq!(store.latest_version(), Some(2));
    store.close()?;
    Ok(())
}

/// What a block changes in which Alice pays Bob.
fn pays(parent: &Snapshot, amount: u64) -> Result<Batch> {
    let amount = U256::from(amount);
    let mut batch = Batch::new();
    batch.set_account(&ALICE, &Account { balance: balance(parent, &ALICE)? - amount, ..Account::default() });
    batch.set_account(&BOB, &Account { balance: balance(parent, &BOB)? + amount, ..Account::default() });
    Ok(batch)
}

fn balance(at: &Snapshot, who: &[u8]) -> Result<U256> {
    Ok(at.account(who)?.map_or(U256::ZERO, |account| account.balance))
}

fn with_balance(balance: u64) -> Account {
    Account { balance: U256::from(balance), ..Account::default() }
}
