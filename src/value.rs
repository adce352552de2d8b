//! Keys and values of any shape, as lists of changes name them.

use bristlecone_trie::page::ACCOUNT_BYTES;
use bristlecone_trie::{Account, B256, Shape, U256};
use bytes::Bytes;

use crate::{Error, Result};

/// A key as the trie has it: hashed, where the namespace hashes keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoredKey {
    /// A flat key.
    Flat(Vec<u8>),
    /// The body of an account.
    Account(B256),
    /// A slot.
    Slot {
        /// Its account.
        account: B256,
        /// Its own key in the storage trie.
        slot: B256,
    },
}

impl StoredKey {
    pub(crate) fn new(shape: Shape, key: Vec<u8>) -> Result<Self> {
        if shape == Shape::Flat {
            return Ok(Self::Flat(key));
        }
        let damaged = || Error::Damaged { what: format!("a key of {} bytes among accounts", key.len()) };
        let (account, slot) = key.split_at_checked(ACCOUNT_BYTES).ok_or_else(damaged)?;
        let account = B256::try_from(account).map_err(|_| damaged())?;
        if slot.is_empty() {
            return Ok(Self::Account(account));
        }
        Ok(Self::Slot { account, slot: B256::try_from(slot).map_err(|_| damaged())? })
    }
}

/// A value of any shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a flat key.
    Flat(Bytes),
    /// An account, without its storage root.
    Account(Account),
    /// Of a slot; never zero.
    Slot(U256),
}

impl Value {
    /// The value that the bytes at `key` are.
    pub(crate) fn decode(key: &StoredKey, bytes: Vec<u8>) -> Result<Self> {
        let damaged = || Error::Damaged { what: format!("the value of {key:?}") };
        match key {
            StoredKey::Flat(_) => Ok(Self::Flat(bytes.into())),
            StoredKey::Account(_) => Account::decode(&bytes).map(Self::Account).ok_or_else(damaged),
            StoredKey::Slot { .. } => U256::try_from_be_slice(&bytes).map(Self::Slot).ok_or_else(damaged),
        }
    }
}
