//! `diff`: what differs between two versions.

use std::path::PathBuf;

use alloy_primitives::hex;
use bristlecone::{Account, Difference, StoredKey, Value};
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{Output, table, thousands},
    parse,
};

/// So many rows a table has at most, unless asked for more.
pub(crate) const ROWS: u64 = 1_000;

/// List the keys that differ between two kept versions, with both values. Keys are those of the trie: hashed, where the
/// store hashes keys.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// The first version.
    before: u64,
    /// The second version; it may be the older one.
    after: u64,
    /// At most so many keys. A table has 1,000 if left out; JSON has all.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

/// A key as JSON has it: one of `key`, `account`, or `account` and `slot`.
#[derive(Serialize)]
struct KeyOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
}

impl From<&StoredKey> for KeyOut {
    fn from(key: &StoredKey) -> Self {
        match key {
            StoredKey::Flat(key) => Self { key: Some(hex::encode_prefixed(key)), account: None, slot: None },
            StoredKey::Account(account) => Self { key: None, account: Some(account.to_string()), slot: None },
            StoredKey::Slot { account, slot } => {
                Self { key: None, account: Some(account.to_string()), slot: Some(slot.to_string()) }
            }
        }
    }
}

/// A value as JSON has it.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum ValueOut {
    Text(String),
    Account { balance: String, nonce: String, code_hash: String },
}

impl From<&Value> for ValueOut {
    fn from(value: &Value) -> Self {
        match value {
            Value::Flat(bytes) => Self::Text(hex::encode_prefixed(bytes)),
            Value::Slot(value) => Self::Text(parse::quantity(*value)),
            Value::Account(account) => Self::Account {
                balance: parse::quantity(account.balance),
                nonce: format!("{:#x}", account.nonce),
                code_hash: account.code_hash.to_string(),
            },
        }
    }
}

/// A value, or that there is none, for a table.
pub(crate) fn told(value: Option<&Value>) -> String {
    /// Longer values are cut: who wants them whole asks for JSON.
    const LETTERS: usize = 66;
    let Some(value) = value else { return "–".into() };
    match value {
        Value::Account(account) => {
            let mut text = format!("balance {}, nonce {}", account.balance, account.nonce);
            if account.code_hash != Account::default().code_hash {
                text = format!("{text}, code {}", account.code_hash);
            }
            text
        }
        Value::Slot(value) => parse::quantity(*value),
        Value::Flat(bytes) => {
            let mut text = hex::encode_prefixed(bytes);
            if text.len() > LETTERS {
                text.truncate(LETTERS);
                text = format!("{text}… ({} bytes)", bytes.len());
            }
            text
        }
    }
}

#[derive(Serialize)]
struct Out {
    #[serde(flatten)]
    key: KeyOut,
    before: Option<ValueOut>,
    after: Option<ValueOut>,
}

#[derive(Serialize)]
struct End {
    changes: u64,
    /// Whether these are all.
    complete: bool,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let store = parse::open(&args.dir)?;
    let limit = args.limit.unwrap_or(if output.is_json() { u64::MAX } else { ROWS });
    let mut diff = store.diff(args.before, args.after)?;
    let (before, after) = (format!("version {}", args.before), format!("version {}", args.after));
    let mut rows = table(&["key", &before, &after]);
    let mut end = End { changes: 0, complete: false };
    while end.changes < limit {
        let Some(one) = diff.next().transpose()? else {
            end.complete = true;
            break;
        };
        end.changes += 1;
        let Difference { key, before, after } = &one;
        if output.is_json() {
            let value = |value: &Option<Value>| value.as_ref().map(ValueOut::from);
            output
                .result(&Out { key: key.into(), before: value(before), after: value(after) }, String::new)?;
        } else {
            rows.add_row([name(key), told(before.as_ref()), told(after.as_ref())]);
        }
    }
    end.complete = end.complete || diff.next().transpose()?.is_none();
    if end.changes > 0 {
        output.text(&rows.to_string())?;
    }
    output.result(&end, || match (end.changes, end.complete) {
        (0, true) => "nothing differs".into(),
        (count, true) => format!("{} keys differ", thousands(count)),
        (count, false) => format!("the first {}; there are more: --limit", thousands(count)),
    })
}

fn name(key: &StoredKey) -> String {
    match key {
        StoredKey::Flat(key) => hex::encode_prefixed(key),
        StoredKey::Account(account) => account.to_string(),
        StoredKey::Slot { account, slot } => format!("{account}\n  slot {slot}"),
    }
}
