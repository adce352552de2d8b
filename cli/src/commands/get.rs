//! `get`: an account, a slot, or a flat key.

use std::path::PathBuf;

use alloy_primitives::{Address, B256, hex};
use bristlecone::{Shape, Snapshot};
use serde::Serialize;

use crate::{
    failure::{Failure, USAGE},
    output::{Output, pairs},
    parse,
};

/// Print an account, or a slot of it, at any kept version.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// Address of the account; in a store of flat keys, a key in hexadecimal.
    address: String,
    /// A slot of its storage: hexadecimal with 0x, or decimal.
    #[arg(value_parser = parse::slot)]
    slot: Option<B256>,
    /// The version; the latest if left out.
    #[arg(long, value_name = "VERSION", value_parser = parse::version)]
    at: Option<u64>,
}

#[derive(Serialize)]
struct AccountOut {
    version: u64,
    exists: bool,
    balance: String,
    nonce: String,
    code_hash: String,
    storage_root: String,
}

#[derive(Serialize)]
struct SlotOut {
    version: u64,
    exists: bool,
    slot: String,
    value: String,
}

#[derive(Serialize)]
struct KeyOut {
    version: u64,
    exists: bool,
    key: String,
    value: Option<String>,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open(&args.dir)?;
    let snapshot = parse::snapshot(&store, args.at)?;
    if store.namespaces().first().is_some_and(|namespace| namespace.shape == Shape::Flat) {
        return flat(&snapshot, args, output);
    }
    let address = parse::address(&args.address).map_err(|reason| {
        Failure { code: USAGE, ..Failure::new(format!("{:?}: {reason}", args.address)) }
            .hint("the account's address comes after the directory")
    })?;
    match args.slot {
        Some(slot) => print_slot(&snapshot, address, slot, output),
        None => print_account(&snapshot, address, output),
    }
}

fn print_account(snapshot: &Snapshot, address: Address, output: &mut Output) -> Result<(), Failure> {
    let version = snapshot.version();
    let found = snapshot.account(address.as_slice())?;
    let mut out = AccountOut {
        version,
        exists: found.is_some(),
        balance: "0x0".into(),
        nonce: "0x0".into(),
        code_hash: B256::ZERO.to_string(),
        storage_root: B256::ZERO.to_string(),
    };
    let mut decimal = String::new();
    if let Some(account) = found {
        out.balance = parse::quantity(account.balance);
        out.nonce = format!("{:#x}", account.nonce);
        out.code_hash = account.code_hash.to_string();
        out.storage_root = snapshot.storage_root(address.as_slice())?.to_string();
        decimal = format!("{} wei", account.balance);
    }
    output.result(&out, || {
        if !out.exists {
            return format!("{address} does not exist at version {version}");
        }
        pairs(&[
            ("version", version.to_string()),
            ("balance", decimal),
            ("nonce", out.nonce.clone()),
            ("code hash", out.code_hash.clone()),
            ("storage root", out.storage_root.clone()),
        ])
    })
}

fn print_slot(snapshot: &Snapshot, address: Address, slot: B256, output: &mut Output) -> Result<(), Failure> {
    let version = snapshot.version();
    let out = SlotOut {
        version,
        exists: snapshot.account(address.as_slice())?.is_some(),
        slot: slot.to_string(),
        value: parse::quantity(snapshot.slot(address.as_slice(), slot)?),
    };
    output.result(&out, || match out.exists {
        true => out.value.clone(),
        false => format!("{address} does not exist at version {version}"),
    })
}

fn flat(snapshot: &Snapshot, args: &Args, output: &mut Output) -> Result<(), Failure> {
    if args.slot.is_some() {
        let message = "the store holds flat keys, which have no slots";
        return Err(Failure { code: USAGE, ..Failure::new(message) });
    }
    let key = hex::decode(&args.address).map_err(|error| Failure {
        code: USAGE,
        ..Failure::new(format!("{:?} is not a key in hexadecimal: {error}", args.address))
    })?;
    let value = snapshot.get(&key)?.map(hex::encode_prefixed);
    let out = KeyOut {
        version: snapshot.version(),
        exists: value.is_some(),
        key: hex::encode_prefixed(&key),
        value,
    };
    output.result(&out, || match &out.value {
        Some(value) => value.clone(),
        None => format!("{} does not exist at version {}", out.key, out.version),
    })
}
