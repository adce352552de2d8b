//! Keys as the trie has them: hashed, where the namespace hashes.

use alloy_primitives::keccak256;
use bristlecone_delta::format::MAX_KEY_BYTES;
use bristlecone_trie::page::ACCOUNT_BYTES;
use bristlecone_trie::{B256, Scheme, Shape, scheme::ethereum::Ethereum};

use crate::options::{KeyMode, Namespace, SchemeKind};
use crate::{Error, Result};

/// A key as the trie has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrieKey {
    Hashed(B256),
    Raw,
}

impl TrieKey {
    pub(crate) fn new(namespace: &Namespace, key: &[u8]) -> Result<Self> {
        match (namespace.keys, namespace.scheme) {
            (KeyMode::Hashed, SchemeKind::Ethereum) => Ok(Self::Hashed(keccak256(key))),
            (KeyMode::Hashed, SchemeKind::Blake3) => {
                Ok(Self::Hashed(B256::new(*blake3::hash(key).as_bytes())))
            }
            (KeyMode::Raw, _) if namespace.shape == Shape::Accounts && key.len() != ACCOUNT_BYTES => {
                Err(Error::RawKey(key.len()))
            }
            (KeyMode::Raw, _) if key.len() > MAX_KEY_BYTES => {
                Err(Error::TooLong { what: "a key", len: key.len(), limit: MAX_KEY_BYTES })
            }
            (KeyMode::Raw, _) => Ok(Self::Raw),
        }
    }

    /// Of many keys, in their order. Those of one length are hashed side by side, which costs a fraction of hashing each
    /// alone: addresses and slots have 20 and 32 bytes.
    pub(crate) fn many(namespace: &Namespace, keys: &[&[u8]]) -> Result<Vec<Self>> {
        /// From so many on.
        const LANES: usize = 8;
        if namespace.keys == KeyMode::Raw || namespace.scheme != SchemeKind::Ethereum || keys.len() < LANES {
            return keys.iter().map(|key| Self::new(namespace, key)).collect();
        }
        let mut by_length: Vec<(usize, &[u8])> = keys.iter().copied().enumerate().collect();
        by_length.sort_by_key(|(_, key)| key.len());
        let mut found = vec![Self::Raw; keys.len()];
        let (mut bytes, mut hashes) = (Vec::new(), Vec::new());
        for equal in by_length.chunk_by(|(_, a), (_, b)| a.len() == b.len()) {
            bytes.clear();
            equal.iter().for_each(|(_, key)| bytes.extend_from_slice(key));
            hashes.clear();
            hashes.resize(equal.len(), [0; 32]);
            match bytes.is_empty() {
                true => hashes.fill(keccak256([]).0),
                false => Ethereum::hash_equal(&bytes, &mut hashes),
            }
            for ((at, _), hash) in equal.iter().zip(&hashes) {
                if let Some(found) = found.get_mut(*at) {
                    *found = Self::Hashed(B256::new(*hash));
                }
            }
        }
        Ok(found)
    }

    pub(crate) fn bytes<'a>(&'a self, key: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Hashed(hash) => hash.as_slice(),
            Self::Raw => key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_are_what_each_is_alone() {
        for namespace in [
            Namespace::accounts(SchemeKind::Ethereum),
            Namespace::flat(SchemeKind::Ethereum),
            Namespace::flat(SchemeKind::Blake3),
            Namespace::flat(SchemeKind::Ethereum).raw(),
        ] {
            for count in [0, 1, 7, 8, 9, 100] {
                let keys: Vec<Vec<u8>> =
                    (0..count).map(|at: usize| vec![at as u8; [20, 32, 0, 20, 137][at % 5]]).collect();
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let alone: Vec<_> = keys.iter().map(|key| TrieKey::new(&namespace, key).unwrap()).collect();
                assert_eq!(TrieKey::many(&namespace, &keys).unwrap(), alone, "{namespace:?}, {count}");
            }
        }
    }

    #[test]
    fn raw_accounts_have_32_bytes_and_raw_keys_a_bound() {
        let accounts = Namespace::accounts(SchemeKind::Ethereum).raw();
        assert!(matches!(TrieKey::many(&accounts, &[&[1; 32], &[1; 20]]), Err(Error::RawKey(20))));
        let flat = Namespace::flat(SchemeKind::Blake3).raw();
        let long = vec![0; MAX_KEY_BYTES + 1];
        assert!(matches!(TrieKey::many(&flat, &[&long]), Err(Error::TooLong { .. })));
    }
}
