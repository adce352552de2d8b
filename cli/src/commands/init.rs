//! `init`: a new store from a genesis file.

use std::path::{Path, PathBuf};

use bristlecone::{Namespace, Options, SchemeKind, Store};
use bristlecone_evm::{
    chain::{CHAIN_FILE_FORMAT, ChainFile},
    genesis::Genesis,
    state,
};
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, thousands},
};

/// Make a store whose version 0 is the state of a geth genesis.json.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory to make.
    dir: PathBuf,
    /// A genesis.json as geth takes it.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
}

#[derive(Serialize)]
struct Done {
    version: u64,
    root: String,
    accounts: usize,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let genesis = read(&args.genesis, output)?;
    let store = create(&args.dir, &genesis, Options::new())?;
    let root = store.at(0)?.root()?;
    store.close()?;
    let done = Done { version: 0, root: root.to_string(), accounts: genesis.accounts.len() };
    output.result(&done, || format!("{} accounts, state root {root}", thousands(done.accounts as u64)))
}

/// Reads a genesis file and says what looks odd about it.
pub(crate) fn read(path: &Path, output: &Output) -> Result<Genesis, Failure> {
    let genesis = Genesis::read(path).map_err(|error| {
        Failure::from(error).hint(format!("nothing was changed; look into {}", path.display()))
    })?;
    if let Some(stated) = genesis.stated_root.filter(|stated| *stated != genesis.state_root()) {
        output
            .note(&format!("note: the file states the root {stated}, which is not the root of its `alloc`"));
    }
    if genesis.rules.is_none() {
        output.note("note: the file has no `config`, so `replay` will not know the rules of its blocks");
    }
    Ok(genesis)
}

/// Makes the store in `dir`. The same genesis twice is fine, also after this was interrupted.
pub(crate) fn create(dir: &Path, genesis: &Genesis, options: Options) -> Result<Store, Failure> {
    let expected = genesis.state_root();
    let store = options.namespace(Namespace::accounts(SchemeKind::Ethereum)).open(dir)?;
    if let Some(last) = store.latest_version() {
        if last == 0 && store.at(0)?.root()? == expected {
            return Ok(store);
        }
        return Err(Failure::new(format!("{} already holds versions up to {last}", dir.display()))
            .hint("nothing was changed; give another directory"));
    }
    // Before the first version: whoever finds a version 0 finds its rules too.
    ChainFile {
        format: CHAIN_FILE_FORMAT,
        genesis_root: expected,
        genesis: alloy_rlp::encode(&genesis.header).into(),
        rules: genesis.rules.clone(),
    }
    .write(dir)?;
    let (commit, _) = state::init_genesis(&store, genesis)?;
    commit.durable().wait()?;
    Ok(store)
}
