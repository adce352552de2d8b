//! `history`: the versions in which a key changed.

use std::path::PathBuf;

use alloy_primitives::{B256, hex};
use bristlecone::{HistoryEnd, Key, Shape};
use serde::Serialize;

use super::diff::{ROWS, ValueOut, told};
use crate::{
    failure::{Failure, USAGE},
    output::{Output, table},
    parse,
};

/// List the versions in which an account, a slot or a flat key changed, newest first, with what it held from then on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// Address of the account; in a store of flat keys, a key in hexadecimal.
    address: String,
    /// A slot of its storage: hexadecimal with 0x, or decimal.
    #[arg(value_parser = parse::slot)]
    slot: Option<B256>,
    /// From this version backwards; from the latest if left out.
    #[arg(long, value_name = "VERSION", value_parser = parse::version)]
    at: Option<u64>,
    /// At most so many changes. A table has 1,000 if left out; JSON has all.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

#[derive(Serialize)]
struct Out {
    version: u64,
    /// Null where the key was removed.
    value: Option<ValueOut>,
}

/// The last line.
#[derive(Serialize)]
struct End {
    /// `beginning`: this is all there ever was. `not kept`: what was before is not kept. `limit`: there may be more.
    end: &'static str,
    changes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_there: Option<ValueOut>,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open(&args.dir)?;
    let snapshot = parse::snapshot(&store, args.at)?;
    let flat = store.namespaces().first().is_some_and(|namespace| namespace.shape == Shape::Flat);
    let usage = |message: String| Failure { code: USAGE, ..Failure::new(message) };
    let bytes = if flat {
        if args.slot.is_some() {
            return Err(usage("the store holds flat keys, which have no slots".into()));
        }
        hex::decode(&args.address)
            .map_err(|error| usage(format!("{:?} is not a key in hexadecimal: {error}", args.address)))?
    } else {
        let address = parse::address(&args.address);
        address.map_err(|reason| usage(format!("{:?}: {reason}", args.address)))?.to_vec()
    };
    let key = match args.slot {
        Some(slot) => Key::Slot(&bytes, slot),
        None if flat => Key::Flat(&bytes),
        None => Key::Account(&bytes),
    };
    let limit = args.limit.unwrap_or(if output.is_json() { u64::MAX } else { ROWS });
    let mut history = snapshot.history(key)?;
    let mut rows = table(&["version", "value"]);
    let mut changes = 0;
    while changes < limit {
        let Some(one) = history.next().transpose()? else { break };
        changes += 1;
        if output.is_json() {
            let value = one.value.as_ref().map(ValueOut::from);
            output.result(&Out { version: one.version, value }, String::new)?;
        } else {
            let value = if one.value.is_some() { told(one.value.as_ref()) } else { "removed".into() };
            rows.add_row([one.version.to_string(), value]);
        }
    }
    if changes > 0 {
        output.text(&rows.to_string())?;
    }
    let mut end = End { end: "limit", changes, oldest_version: None, value_there: None };
    let mut text = format!("the newest {changes}; there may be more: --limit");
    match history.end() {
        Some(HistoryEnd::Beginning) => {
            end.end = "beginning";
            text = if changes == 0 { "never there" } else { "absent before that" }.into();
        }
        Some(HistoryEnd::NotKept { oldest, value }) => {
            end.end = "not kept";
            end.oldest_version = Some(*oldest);
            end.value_there = value.as_ref().map(ValueOut::from);
            let there = told(value.as_ref());
            text = format!("versions before {oldest} are not kept; at version {oldest}: {there}");
        }
        None => {}
    }
    output.result(&end, || text)
}
