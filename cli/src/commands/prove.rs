//! `prove`: an answer as `eth_getProof` gives it.

use std::path::PathBuf;

use alloy_primitives::{Address, B256};
use bristlecone_evm::eip1186;

use crate::{failure::Failure, output::Output, parse};

/// Print the proof of an account, and of slots of it, as `eth_getProof` answers (EIP-1186).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// Address of the account.
    #[arg(value_parser = parse::address)]
    address: Address,
    /// Slots of its storage: hexadecimal with 0x, or decimal.
    #[arg(value_parser = parse::slot, value_name = "SLOT")]
    slots: Vec<B256>,
    /// The version; the latest if left out.
    #[arg(long, value_name = "VERSION", value_parser = parse::version)]
    at: Option<u64>,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open(&args.dir)?;
    parse::need_accounts(store.namespaces(), true)?;
    let snapshot = parse::snapshot(&store, args.at)?;
    let answer = eip1186::answer(&snapshot, args.address, &args.slots)?;
    let pretty = serde_json::to_string_pretty(&answer).map_err(|error| Failure::new(error.to_string()))?;
    output.result(&answer, || pretty)
}
