//! `witness`: an answer as `debug_executionWitness` gives it.

use std::path::PathBuf;

use alloy_primitives::{Address, B256};
use bristlecone::Batch;
use bristlecone_evm::witness::ExecutionWitness;

use crate::{failure::Failure, output::Output, parse};

/// Print the nodes and codes that are needed to read some accounts and slots, as `debug_executionWitness` answers (without headers,
/// which a store does not have).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// What is to be read: the address of an account, or ADDRESS:SLOT,SLOT,… for slots of it too.
    #[arg(value_parser = key, value_name = "KEY", required = true)]
    keys: Vec<(Address, Vec<B256>)>,
    /// The version; the latest if left out.
    #[arg(long, value_name = "VERSION", value_parser = parse::version)]
    at: Option<u64>,
}

fn key(text: &str) -> Result<(Address, Vec<B256>), String> {
    let (address, slots) =
        text.split_once(':').map_or((text, None), |(address, slots)| (address, Some(slots)));
    let slots = slots.into_iter().flat_map(|slots| slots.split(',')).map(parse::slot);
    Ok((parse::address(address)?, slots.collect::<Result<_, _>>()?))
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open(&args.dir)?;
    parse::need_accounts(store.namespaces(), true)?;
    let snapshot = parse::snapshot(&store, args.at)?;
    let witness = ExecutionWitness::of(&snapshot, &args.keys, &Batch::new())?;
    let pretty = serde_json::to_string_pretty(&witness).map_err(|error| Failure::new(error.to_string()))?;
    output.result(&witness, || pretty)
}
