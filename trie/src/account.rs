//! An Ethereum-like account as the trie keeps it: everything but the storage root, which is computed.

use alloc::vec::Vec;
use alloy_primitives::{B256, KECCAK256_EMPTY, U256};

/// Nonce, balance and code hash of an account. Its storage root belongs to the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Number of transactions sent, or of contracts made.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// Keccak-256 of the code; [`KECCAK256_EMPTY`] where there is none.
    pub code_hash: B256,
}

impl Default for Account {
    fn default() -> Self {
        Self { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY }
    }
}

const HAS_CODE: u8 = 0x80;

impl Account {
    /// Whether nonce, balance and code are all empty (EIP-161).
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Appends the stored form: one byte with the length of the nonce (bits 0..4) and whether there is
    /// code (bit 7), one byte with the length of the balance, nonce and balance big-endian without
    /// leading zeros, then the code hash if there is code.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let nonce = self.nonce.to_be_bytes();
        let nonce = trim(&nonce);
        let balance = self.balance.to_be_bytes::<32>();
        let balance = trim(&balance);
        let code = self.code_hash != KECCAK256_EMPTY;
        out.push(nonce.len() as u8 | if code { HAS_CODE } else { 0 });
        out.push(balance.len() as u8);
        out.extend_from_slice(nonce);
        out.extend_from_slice(balance);
        if code {
            out.extend_from_slice(self.code_hash.as_slice());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[head, balance_len], rest) = bytes.split_first_chunk::<2>()?;
        let nonce_len = usize::from(head & !HAS_CODE);
        if nonce_len > 8 || balance_len > 32 {
            return None;
        }
        let (nonce, rest) = rest.split_at_checked(nonce_len)?;
        let (balance, rest) = rest.split_at_checked(usize::from(balance_len))?;
        if nonce.first() == Some(&0) || balance.first() == Some(&0) {
            return None;
        }
        let code_hash = match (head & HAS_CODE != 0, rest.len()) {
            (false, 0) => KECCAK256_EMPTY,
            (true, 32) => B256::from_slice(rest),
            _ => return None,
        };
        if head & HAS_CODE != 0 && code_hash == KECCAK256_EMPTY {
            return None;
        }
        let nonce = nonce.iter().fold(0u64, |acc, byte| acc << 8 | u64::from(*byte));
        Some(Self { nonce, balance: U256::from_be_slice(balance), code_hash })
    }
}

/// `bytes` without its leading zeros.
pub fn trim(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_golden_and_reads_back() {
        let account =
            Account { nonce: 0x0102, balance: U256::from(0xffu64), code_hash: B256::repeat_byte(7) };
        let mut out = Vec::new();
        account.encode(&mut out);
        assert_eq!(out[..5], [0x82, 1, 1, 2, 0xff]);
        assert_eq!(out[5..], [7; 32]);
        assert_eq!(Account::decode(&out), Some(account));
        out.clear();
        Account::default().encode(&mut out);
        assert_eq!(out, [0, 0]);
        assert_eq!(Account::decode(&out), Some(Account::default()));
    }

    #[test]
    fn forms_that_are_not_canonical_are_refused() {
        for bytes in [&[][..], &[0], &[1, 0, 0], &[0, 1, 0], &[9, 0], &[0, 33], &[0, 0, 1], &[0x80, 0]] {
            assert_eq!(Account::decode(bytes), None, "{bytes:?}");
        }
    }
}
