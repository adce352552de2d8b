//! Reading an answer from JSON, in the shapes that providers give it.

use alloy_primitives::{Address, Bytes, U256};
use alloy_rpc_types_eth::EIP1186StorageProof;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Answer;
use crate::{Error, quantity};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAnswer {
    address: Option<String>,
    account: Option<RawAccount>,
    balance: Option<String>,
    nonce: Option<String>,
    code_hash: Option<String>,
    storage_hash: Option<String>,
    account_proof: Vec<String>,
    #[serde(default)]
    storage_proof: Vec<RawSlot>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAccount {
    balance: String,
    nonce: String,
    code_hash: String,
    #[serde(alias = "storageHash")]
    storage_root: String,
}

#[derive(Deserialize)]
struct RawSlot {
    key: String,
    value: String,
    proof: Vec<String>,
}

fn bad(reason: impl Into<String>) -> Error {
    Error::ProofFormat { reason: reason.into() }
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| bad(error.to_string()))
}

fn nodes(nodes: &[String], what: &str) -> Result<Vec<Bytes>, Error> {
    let node = |(index, text): (usize, &String)| {
        quantity::bytes(text).map_err(|reason| bad(format!("node {index} of {what}: {reason}")))
    };
    nodes.iter().enumerate().map(node).collect()
}

fn field<T>(
    name: &str,
    text: Option<&String>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Error> {
    let text = text.ok_or_else(|| bad(format!("`{name}` is missing")))?;
    parse(text).map_err(|reason| bad(format!("`{name}`: {reason}")))
}

/// A quantity: here 0x is not optional, since the digits alone could be of either base.
fn quantity_0x(text: &str) -> Result<U256, String> {
    if text.starts_with("0x") { quantity::number(text) } else { Err(format!("{text:?} lacks 0x")) }
}

/// Reads an answer from JSON, bare or in a JSON-RPC envelope. `address` is for answers that do not
/// name it; where one does, it must be the same. Nothing is verified yet.
pub fn parse(text: &str, address: Option<Address>) -> Result<Answer, Error> {
    let envelope: Envelope<'_> = json(text)?;
    if let Some(error) = envelope.error.filter(|error| !error.is_null()) {
        return Err(bad(format!("the provider answered with an error: {error}")));
    }
    let raw: RawAnswer = json(envelope.result.map_or(text, RawValue::get))?;
    let named = match &raw.address {
        Some(text) => Some(quantity::address(text).map_err(|reason| bad(format!("`address`: {reason}")))?),
        None => None,
    };
    let address = match (named, address) {
        (Some(named), Some(given)) if named != given => {
            return Err(bad(format!("it is about {named}, not about {given}")));
        }
        (Some(address), _) | (None, Some(address)) => address,
        (None, None) => return Err(bad("it does not name the address")),
    };
    let inner = raw.account.as_ref();
    let pick = |outer: &'_ Option<String>, inner: Option<&String>| outer.as_ref().or(inner).cloned();
    let nonce = pick(&raw.nonce, inner.map(|account| &account.nonce));
    let balance = pick(&raw.balance, inner.map(|account| &account.balance));
    let code_hash = pick(&raw.code_hash, inner.map(|account| &account.code_hash));
    let storage_hash = pick(&raw.storage_hash, inner.map(|account| &account.storage_root));
    let mut storage_proof = Vec::with_capacity(raw.storage_proof.len());
    for slot in &raw.storage_proof {
        let key =
            quantity::word(&slot.key).map_err(|reason| bad(format!("slot {:?}: {reason}", slot.key)))?;
        let value = field(&format!("value of slot {key}"), Some(&slot.value), quantity_0x)?;
        let proof = nodes(&slot.proof, &format!("the proof of slot {key}"))?;
        storage_proof.push(EIP1186StorageProof::new(key.into(), value, proof));
    }
    Ok(Answer {
        address,
        nonce: field("nonce", nonce.as_ref(), |text| {
            quantity_0x(text)?.try_into().map_err(|_| format!("{text} exceeds 2^64 - 1"))
        })?,
        balance: field("balance", balance.as_ref(), quantity_0x)?,
        code_hash: field("codeHash", code_hash.as_ref(), quantity::hash)?,
        storage_hash: field("storageHash", storage_hash.as_ref(), quantity::hash)?,
        account_proof: nodes(&raw.account_proof, "the account proof")?,
        storage_proof,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    fn hex(byte: u8) -> String {
        B256::repeat_byte(byte).to_string()
    }

    fn sample() -> String {
        format!(
            r#"{{"address": "0x{a}", "balance": "0x1", "nonce": "0x00", "codeHash": "{c}", "storageHash": "{s}",
            "accountProof": ["0x80"], "storageProof": [{{"key": "0x5", "value": "0x01", "proof": []}},
            {{"key": "0A", "value": "0x0", "proof": ["c0"]}}]}}"#,
            a = "11".repeat(20),
            c = hex(2),
            s = hex(3),
        )
    }

    #[test]
    fn keys_may_be_short_and_the_envelope_is_opened() {
        let bare = parse(&sample(), None).unwrap();
        let wrapped =
            parse(&format!(r#"{{"jsonrpc": "2.0", "id": 1, "result": {}}}"#, sample()), None).unwrap();
        assert_eq!(bare, wrapped);
        let keys: Vec<_> = bare.storage_proof.iter().map(|slot| slot.key.as_b256()).collect();
        assert_eq!(keys, [B256::with_last_byte(5), B256::with_last_byte(10)]);
        assert_eq!(bare.storage_proof[0].value, U256::from(1));
    }

    #[test]
    fn an_account_without_address_takes_the_given_one() {
        let text = format!(
            r#"{{"account": {{"nonce": "0x1", "balance": "0x2", "storageRoot": "{}", "codeHash": "{}"}},
            "code": "0x", "accountProof": []}}"#,
            hex(1),
            hex(2)
        );
        assert!(parse(&text, None).is_err());
        let answer = parse(&text, Some(Address::repeat_byte(9))).unwrap();
        assert_eq!((answer.nonce, answer.address), (1, Address::repeat_byte(9)));
        assert!(parse(&sample(), Some(Address::repeat_byte(9))).is_err());
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let sample = sample();
        let broken = [
            String::new(),
            "{}".into(),
            "[]".into(),
            "null".into(),
            sample.replace("accountProof", "proof"),
            sample.replace("\"0x1\"", "\"1\""),
            sample.replace("\"0x1\"", "1"),
            sample.replace("\"0x00\"", "\"0x10000000000000000\""),
            sample.replace("0x80", "0x8"),
            sample.replace(&hex(2), "0x2"),
            sample.replace("0x5", &format!("0x{}", "1".repeat(65))),
            sample.replacen("\"nonce\"", "\"balance\"", 1),
            r#"{"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "no"}}"#.into(),
            format!("{sample} x"),
        ];
        for text in broken {
            assert!(matches!(parse(&text, None), Err(Error::ProofFormat { .. })), "{text}");
        }
    }
}
