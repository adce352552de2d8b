//! Numbers and bytes as Ethereum's JSON files spell them, and they spell them in many ways.

use alloy_primitives::{Address, B256, Bytes, U256, hex};

/// `text` without a leading `0x` or `0X`, and whether it had one.
fn unprefixed(text: &str) -> (&str, bool) {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

/// A number of at most 256 bits. With `0x` it is hexadecimal (`0x` alone is zero, leading zeros are
/// fine). Without, it is decimal if it has only digits, and hexadecimal if it has letters from a to f;
/// but digits, one `e`, digits is refused, for that may be meant as a decimal exponent.
pub(crate) fn number(text: &str) -> Result<U256, String> {
    let (digits, prefixed) = unprefixed(text);
    if prefixed {
        return hexadecimal(digits);
    }
    if digits.is_empty() {
        return Err("an empty string is not a number".into());
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return decimal(digits);
    }
    let exponent = digits.split_once(['e', 'E']).is_some_and(|(mantissa, exponent)| {
        let digit = |byte: u8| byte.is_ascii_digit();
        mantissa.bytes().all(digit) && exponent.bytes().all(digit)
    });
    if exponent {
        return Err(format!("{text:?} may be decimal or hexadecimal: write it with 0x, or in full"));
    }
    hexadecimal(digits)
}

fn decimal(digits: &str) -> Result<U256, String> {
    U256::from_str_radix(digits, 10).map_err(|_| format!("{digits} exceeds 2^256 - 1"))
}

fn hexadecimal(digits: &str) -> Result<U256, String> {
    if let Some(bad) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("{bad:?} is not a digit"));
    }
    let digits = digits.trim_start_matches('0');
    if digits.len() > 64 {
        return Err(format!("{} hexadecimal digits exceed 2^256 - 1", digits.len()));
    }
    if digits.is_empty() {
        return Ok(U256::ZERO);
    }
    U256::from_str_radix(digits, 16).map_err(|error| error.to_string())
}

/// A word of at most 32 bytes in hexadecimal digits, short ones padded on the left, with or without `0x`.
pub(crate) fn word(text: &str) -> Result<B256, String> {
    let (digits, _) = unprefixed(text);
    if digits.len() > 64 {
        return Err(format!("{} hexadecimal digits do not fit in 32 bytes", digits.len()));
    }
    hexadecimal(digits).map(B256::from)
}

/// A hash: 64 hexadecimal digits, with or without `0x`.
pub(crate) fn hash(text: &str) -> Result<B256, String> {
    let (digits, _) = unprefixed(text);
    if digits.len() != 64 {
        return Err(format!("a hash has 64 hexadecimal digits, this has {}", digits.len()));
    }
    word(digits)
}

/// An address: 40 hexadecimal digits in any case, with or without `0x`. The case is not taken for a
/// checksum, because genesis files do not keep to it.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    let (digits, _) = unprefixed(text);
    if digits.len() != 40 {
        return Err(format!("an address has 40 hexadecimal digits, this has {}", digits.len()));
    }
    let mut address = Address::ZERO;
    hex::decode_to_slice(digits, address.as_mut_slice()).map_err(|error| error.to_string())?;
    Ok(address)
}

/// Bytes: an even number of hexadecimal digits, with or without `0x`.
pub(crate) fn bytes(text: &str) -> Result<Bytes, String> {
    let (digits, _) = unprefixed(text);
    if digits.len() % 2 != 0 {
        return Err(format!("{} hexadecimal digits are not whole bytes", digits.len()));
    }
    // The decoder below would take a second prefix.
    if let Some(bad) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("{bad:?} is not a digit"));
    }
    hex::decode(digits).map(Bytes::from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_every_spelling() {
        for (text, value) in [
            ("0x10", 16u64),
            ("0X1f", 31),
            ("10", 10),
            ("0010", 10),
            ("0x", 0),
            ("0x00", 0),
            ("ad", 0xad),
            ("1a", 0x1a),
            ("0", 0),
        ] {
            assert_eq!(number(text), Ok(U256::from(value)), "{text}");
        }
        let max = U256::MAX;
        assert_eq!(number(&format!("{max:#x}")), Ok(max));
        assert_eq!(number(&max.to_string()), Ok(max));
    }

    #[test]
    fn what_is_no_number_or_could_be_two_is_refused() {
        let long = "1".repeat(90);
        for text in ["", "-1", "1.0", "1e18", "1E2", "e5", "0xg", "0x-1", " 1", "1_000", "0x1 ", &long, "+1"]
        {
            assert!(number(text).is_err(), "{text}");
        }
        assert!(number(&format!("0x1{}", "0".repeat(64))).is_err());
        assert!(number(&format!("0x{}1", "0".repeat(64))).is_ok());
    }

    #[test]
    fn words_are_padded_and_addresses_and_bytes_are_whole() {
        assert_eq!(word("0x1"), Ok(B256::with_last_byte(1)));
        assert_eq!(word("10"), Ok(B256::with_last_byte(16)));
        assert!(word(&"0".repeat(65)).is_err());
        assert!(hash("0x1").is_err());
        assert_eq!(address(&"aB".repeat(20)), Ok(Address::repeat_byte(0xab)));
        assert!(address("0x1").is_err() && address(&"zz".repeat(20)).is_err() && address("é").is_err());
        assert_eq!(bytes("0x").unwrap().len(), 0);
        assert!(bytes("0x0x12").is_err());
        assert_eq!(bytes("6001").unwrap().as_ref(), [0x60, 1]);
        assert!(bytes("0x1").is_err() && bytes("0xzz").is_err());
    }
}
