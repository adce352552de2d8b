//! Addresses, slots and roots on the command line, and opening what a command works on.

use std::path::Path;

use alloy_primitives::{Address, B256, U256, hex};
use bristlecone::{Options, SchemeKind, Shape, Snapshot, Store};

use crate::failure::Failure;

/// An address: 40 hexadecimal digits, with or without 0x.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != 40 {
        return Err(format!("an address has 40 hexadecimal digits, this has {}", digits.len()));
    }
    hex::decode(digits).map(|bytes| Address::from_slice(&bytes)).map_err(|error| error.to_string())
}

/// A slot: hexadecimal with 0x or with all its 64 digits, otherwise decimal.
pub(crate) fn slot(text: &str) -> Result<B256, String> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if text.len() == 64 => (text, 16),
        None => (text, 10),
    };
    if digits.is_empty() {
        return Err("no digits".into());
    }
    U256::from_str_radix(digits, radix).map(B256::from).map_err(|error| error.to_string())
}

/// A hash: 64 hexadecimal digits, with or without 0x.
pub(crate) fn root(text: &str) -> Result<B256, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != 64 {
        return Err(format!("a root has 64 hexadecimal digits, this has {}", digits.len()));
    }
    hex::decode(digits).map(|bytes| B256::from_slice(&bytes)).map_err(|error| error.to_string())
}

/// Opens a store that must be there.
pub(crate) fn open(dir: &Path) -> Result<Store, Failure> {
    open_with(dir, Options::new())
}

/// As [`open`], with options.
pub(crate) fn open_with(dir: &Path, options: Options) -> Result<Store, Failure> {
    if !dir.exists() {
        return Err(Failure::new(format!("{} does not exist", dir.display()))
            .hint("`bristlecone init DIR --genesis FILE` makes a store"));
    }
    options.create(false).open(dir).map_err(Failure::from)
}

/// The version asked for, or the latest.
pub(crate) fn snapshot(store: &Store, at: Option<u64>) -> Result<Snapshot, Failure> {
    match at {
        Some(version) => Ok(store.at(version)?),
        None => Ok(store.latest()?),
    }
}

/// Fails unless the store holds accounts in its first namespace, and with Ethereum's scheme if that is needed.
pub(crate) fn need_accounts(store: &Store, ethereum: bool) -> Result<(), Failure> {
    let Some(namespace) = store.namespaces().first() else {
        return Err(Failure::new("the store has no namespace"));
    };
    if namespace.shape != Shape::Accounts {
        return Err(Failure::new("the store holds flat keys, not accounts"));
    }
    if ethereum && namespace.scheme != SchemeKind::Ethereum {
        let scheme = namespace.scheme.name();
        return Err(Failure::new(format!("the store has the {scheme} scheme; this needs Ethereum's")));
    }
    Ok(())
}

/// `value` as an Ethereum quantity.
pub(crate) fn quantity(value: U256) -> String {
    format!("{value:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_in_three_spellings() {
        let ten = Ok(B256::with_last_byte(10));
        assert_eq!([slot("10"), slot("0xa"), slot(&format!("{:064x}", 10))], [ten.clone(), ten.clone(), ten]);
        for wrong in ["", "0x", "x", "a", "-1", &"1".repeat(90), &format!("0x1{:064x}", 0)] {
            assert!(slot(wrong).is_err(), "{wrong}");
        }
        assert!(address("0x12").is_err() && address(&"é".repeat(20)).is_err());
        assert!(root("0x12").is_err() && root(&"z".repeat(64)).is_err());
        assert_eq!(quantity(U256::ZERO), "0x0");
    }
}
