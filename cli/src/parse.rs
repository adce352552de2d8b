//! Addresses, slots and roots on the command line, and opening what a command works on.

use std::path::Path;

use alloy_primitives::{Address, B256, U256, hex};
use bristlecone::{Namespace, Options, Reader, SchemeKind, Shape, Snapshot, Store, VersionInfo};

use crate::{failure::Failure, output::say};

/// The bytes that `text` spells, with or without 0x, if it has exactly the digits for `N` of them.
fn fixed<const N: usize>(what: &str, text: &str) -> Result<[u8; N], String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if let Some(bad) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("{bad:?} is no hexadecimal digit"));
    }
    if digits.len() != 2 * N {
        return Err(format!("{what} has {} hexadecimal digits, this has {}", 2 * N, digits.len()));
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// An address: 40 hexadecimal digits, with or without 0x.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    fixed("an address", text).map(Address::new)
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
    // The parser below would pass over underscores.
    if let Some(bad) = digits.chars().find(|c| !c.is_digit(radix as u32)) {
        return Err(format!("{bad:?} is no digit of base {radix}"));
    }
    U256::from_str_radix(digits, radix).map(B256::from).map_err(|error| error.to_string())
}

/// A hash: 64 hexadecimal digits, with or without 0x.
pub(crate) fn root(text: &str) -> Result<B256, String> {
    fixed("a root", text).map(B256::new)
}

/// A version's number.
pub(crate) fn version(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a version is a whole number, as `versions DIR` lists them".to_owned())
}

/// Opens a store that must be there, for reading only: whoever writes it is not disturbed, and no byte is changed.
pub(crate) fn open(dir: &Path) -> Result<Reader, Failure> {
    must_exist(dir)?;
    Options::new().open_read_only(dir).map_err(Failure::from)
}

pub(crate) fn must_exist(dir: &Path) -> Result<(), Failure> {
    if dir.exists() {
        return Ok(());
    }
    Err(Failure::new(format!("{} does not exist", dir.display()))
        .hint("`bristlecone init DIR --genesis FILE` makes a store"))
}

/// Opens a store that must be there, to write.
pub(crate) fn open_with(dir: &Path, options: Options) -> Result<Store, Failure> {
    must_exist(dir)?;
    options.create(false).open(dir).map_err(Failure::from)
}

/// The version asked for, or the latest that is sealed; says where later ones are.
pub(crate) fn snapshot(store: &Reader, at: Option<u64>) -> Result<Snapshot, Failure> {
    match at {
        Some(version) => store.at(version).map_err(|error| {
            let waits = |info: &VersionInfo| info.version == version;
            if store.unsealed().is_ok_and(|waiting| waiting.iter().any(waits)) {
                let message = format!("version {version} waits in the batch log to be sealed");
                return Failure::new(message)
                    .hint("a command that writes takes it up, such as `replay` or `pin`");
            }
            error.into()
        }),
        None => {
            // Whether there are any is a remark, and what is wrong with the log is for `check` to say.
            let waiting = store.unsealed().map_or(0, |waiting| waiting.len());
            if waiting > 0 && store.latest_version().is_none() {
                let message = format!(
                    "nothing is sealed yet: {waiting} versions wait in the batch log, as after a kill"
                );
                return Err(Failure::new(message).hint(
                    "they are durable; a command that writes takes them up, such as `replay` or `pin`",
                ));
            }
            if waiting > 0 {
                say(&format!(
                    "note: {waiting} later versions wait in the batch log to be sealed; they are not looked at"
                ));
            }
            Ok(store.latest()?)
        }
    }
}

/// Fails unless the store holds accounts in its first namespace, and with Ethereum's scheme if that is needed.
pub(crate) fn need_accounts(namespaces: &[Namespace], ethereum: bool) -> Result<(), Failure> {
    let Some(namespace) = namespaces.first() else {
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
        for wrong in
            ["", "0x", "x", "a", "-1", "1_0", "0x_1", "0x0x1", &"1".repeat(90), &format!("0x1{:064x}", 0)]
        {
            assert!(slot(wrong).is_err(), "{wrong}");
        }
        assert!(address("0x12").is_err() && address(&"é".repeat(20)).is_err());
        assert!(root("0x12").is_err() && root(&"z".repeat(64)).is_err());
        // A second 0x must not pass for two digits.
        assert!(address(&format!("0x0x{}", "1".repeat(38))).is_err());
        assert!(root(&format!("0x0x{}", "1".repeat(62))).is_err());
        assert_eq!(quantity(U256::ZERO), "0x0");
        assert_eq!(version("17"), Ok(17));
        assert!(version("latest").is_err() && version("-1").is_err());
    }
}
