//! Executing a block without the state: a full node makes a witness, somebody with nothing but a root verifies it, executes on it, and
//! gets the root after the block.
//!
//! `cargo run --example stateless`
#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::error::Error;

use bristlecone::{
    Account, B256, Batch, Key, Namespace, PartialError, Result, SchemeKind, Snapshot, Stateless, Store, U256,
};

const ALICE: [u8; 20] = [0xa1; 20];
const BOB: [u8; 20] = [0xb0; 20];
const CAROL: [u8; 20] = [0xca; 20];
const TOKEN: [u8; 20] = [0x70; 20];

fn main() -> std::result::Result<(), Box<dyn Error>> {
    // ---- A full node. Its state has a thousand accounts; Alice has coins and 100 tokens.
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let mut genesis = Batch::new();
    for number in 0..1_000_u64 {
        genesis.set_account(&number.to_be_bytes(), &with_balance(number));
    }
    genesis.set_account(&ALICE, &with_balance(1_000)).set_account(&CAROL, &with_balance(5));
    genesis.set_account(&TOKEN, &Account { nonce: 1, ..Account::default() });
    genesis.set_slot(&TOKEN, holder(&ALICE), U256::from(100));
    genesis.set_slot(&TOKEN, holder(&CAROL), U256::from(3));
    let pre_root = store.commit(genesis)?.root().wait()?;

    // It executes a block: Alice pays Bob 10 coins and gives him all of her tokens. Which keys that reads is known
    // afterwards, and so is what it changes.
    let parent = store.latest()?;
    let changes = execute(&parent)?;
    let keys = [
        Key::Account(&ALICE),
        Key::Account(&BOB),
        Key::Slot(&TOKEN, holder(&ALICE)),
        Key::Slot(&TOKEN, holder(&BOB)),
    ];
    // The witness is for the reads and for the changes: Alice's slot goes, so what stays alone beside it is needed too.
    let witness = parent.witness_for(&keys, &changes)?;
    let bytes: usize = witness.nodes.iter().map(Vec::len).sum();
    println!("the witness has {} nodes, {bytes} bytes, for a state of 1,003 accounts", witness.nodes.len());
    let post_root = store.commit(changes)?.root().wait()?;

    // ---- Somebody else. They have the root of the parent, from a header that they trust, and a bag of bytes that they
    // do not trust. Opening it hashes every node: each must hang under the root, and none may be left over.
    let state_of =
        |nodes: &[Vec<u8>]| Stateless::new(Namespace::accounts(SchemeKind::Ethereum), pre_root, nodes);
    let mut state = state_of(&witness.nodes)?;

    // They execute the same block on it. Bob is absent, and the nodes prove it.
    assert_eq!(state.account(&BOB)?, None);
    let changes = execute(&state)?;
    state.apply(&changes)?;
    assert_eq!(state.root()?, post_root);
    println!("executed without the store: {pre_root} -> {post_root}");

    // What a witness does not show is never taken for absent.
    let unknown = state_of(&witness.nodes)?.account(&7_u64.to_be_bytes());
    assert!(matches!(unknown, Err(bristlecone::Error::Witness(PartialError::Blinded(_)))));
    println!(
        "an account that is not in it: {}",
        unknown.err().map(|error| error.to_string()).unwrap_or_default()
    );

    // And a bag from which a node was taken, or in which a byte was changed, is refused.
    let mut forged = witness.nodes.clone();
    if let Some(byte) = forged.get_mut(0).and_then(|node| node.get_mut(40)) {
        *byte ^= 1;
    }
    println!("a forged one: {}", state_of(&forged).err().map(|error| error.to_string()).unwrap_or_default());
    store.close()?;
    Ok(())
}

/// What a block reads: of a store's snapshot, or of a witness.
trait State {
    fn account_of(&self, address: &[u8]) -> Result<Account>;
    fn slot_of(&self, address: &[u8], slot: B256) -> Result<U256>;
}

impl State for Snapshot {
    fn account_of(&self, address: &[u8]) -> Result<Account> {
        Ok(self.account(address)?.unwrap_or_default())
    }

    fn slot_of(&self, address: &[u8], slot: B256) -> Result<U256> {
        self.slot(address, slot)
    }
}

impl State for Stateless {
    fn account_of(&self, address: &[u8]) -> Result<Account> {
        Ok(self.account(address)?.unwrap_or_default())
    }

    fn slot_of(&self, address: &[u8], slot: B256) -> Result<U256> {
        self.slot(address, slot)
    }
}

/// The block: its transactions, executed on any state. (`bristlecone-evm` does this with a real EVM.)
fn execute(state: &impl State) -> Result<Batch> {
    let (mut alice, mut bob) = (state.account_of(&ALICE)?, state.account_of(&BOB)?);
    alice.nonce += 1;
    alice.balance -= U256::from(10);
    bob.balance += U256::from(10);
    let tokens = state.slot_of(&TOKEN, holder(&ALICE))?;
    let others = state.slot_of(&TOKEN, holder(&BOB))?;
    let mut changes = Batch::new();
    changes.set_account(&ALICE, &alice).set_account(&BOB, &bob);
    changes.set_slot(&TOKEN, holder(&ALICE), U256::ZERO);
    changes.set_slot(&TOKEN, holder(&BOB), others + tokens);
    Ok(changes)
}

fn with_balance(balance: u64) -> Account {
    Account { balance: U256::from(balance), ..Account::default() }
}

/// The slot with somebody's tokens.
fn holder(address: &[u8; 20]) -> B256 {
    B256::left_padding_from(address)
}
