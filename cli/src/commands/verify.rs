//! `verify`: somebody's answer to `eth_getProof` against a root.

use std::{io::Read, path::PathBuf};

use alloy_primitives::{Address, B256, U256};
use bristlecone_evm::eip1186::{self, Answer};
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, pairs},
    parse,
};

/// Larger files are no answers, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Verify an `eth_getProof` answer, ours or anybody's, against a state root that you trust. Exit code 1 if it does not
/// hold.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The answer in JSON, bare or in a JSON-RPC envelope.
    file: PathBuf,
    /// The state root, from a header that you trust.
    #[arg(long, value_parser = parse::root)]
    root: B256,
    /// The account, for an answer that does not name it.
    #[arg(long, value_parser = parse::address)]
    address: Option<Address>,
    /// Verify the slots only, with --root as the root of their storage; nothing is said of the account.
    #[arg(long)]
    storage_only: bool,
}

#[derive(Serialize)]
struct Out {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(flatten)]
    account: Option<Proven>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slots: Vec<SlotOut>,
}

#[derive(Serialize)]
struct Proven {
    exists: bool,
    balance: String,
    nonce: String,
    code_hash: String,
    storage_root: String,
}

#[derive(Serialize)]
struct SlotOut {
    slot: String,
    value: String,
}

fn slots(slots: Vec<(B256, U256)>) -> Vec<SlotOut> {
    let out = |(slot, value): (B256, U256)| SlotOut { slot: slot.to_string(), value: parse::quantity(value) };
    slots.into_iter().map(out).collect()
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let io = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", args.file.display()));
    // Not by the length that the system tells: a device or a pipe has none.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&args.file).map_err(io)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let file = args.file.display();
        return Err(Failure::new(format!("{file} has more than {MAX_FILE_BYTES} bytes: that is no proof")));
    }
    let out = match String::from_utf8(bytes) {
        Ok(text) => eip1186::parse(&text, args.address)
            .and_then(|answer| proven(&answer, args))
            .unwrap_or_else(|error| invalid(error.to_string())),
        Err(_) => invalid("not an eth_getProof answer: not UTF-8 text".into()),
    };
    let valid = out.valid;
    output.result(&out, || text(&out))?;
    if valid { Ok(()) } else { Err(Failure::silent()) }
}

fn invalid(reason: String) -> Out {
    Out { valid: false, reason: Some(reason), address: None, account: None, slots: Vec::new() }
}

fn proven(answer: &Answer, args: &Args) -> Result<Out, bristlecone_evm::Error> {
    let address = Some(answer.address.to_string());
    if args.storage_only {
        let slots = slots(eip1186::verify_storage(answer, args.root)?);
        return Ok(Out { valid: true, reason: None, address, account: None, slots });
    }
    let verified = eip1186::verify(answer, args.root)?;
    let zero = || B256::ZERO.to_string();
    let account = verified.account;
    let proven = Proven {
        exists: account.is_some(),
        balance: parse::quantity(account.map_or(U256::ZERO, |account| account.balance)),
        nonce: format!("{:#x}", account.map_or(0, |account| account.nonce)),
        code_hash: account.map_or_else(zero, |account| account.code_hash.to_string()),
        storage_root: account.map_or_else(zero, |_| verified.storage_root.to_string()),
    };
    Ok(Out { valid: true, reason: None, address, account: Some(proven), slots: slots(verified.slots) })
}

fn text(out: &Out) -> String {
    if let Some(reason) = &out.reason {
        return format!("invalid: {reason}");
    }
    let mut rows = vec![("valid", out.address.clone().unwrap_or_default())];
    match &out.account {
        Some(account) if account.exists => rows.extend([
            ("balance", account.balance.clone()),
            ("nonce", account.nonce.clone()),
            ("code hash", account.code_hash.clone()),
            ("storage root", account.storage_root.clone()),
        ]),
        Some(_) => rows.push(("account", "proven not to exist".into())),
        None => rows.push(("account", "not proven, only its slots".into())),
    }
    for slot in &out.slots {
        rows.push(("slot", format!("{} = {}", slot.slot, slot.value)));
    }
    pairs(&rows)
}
