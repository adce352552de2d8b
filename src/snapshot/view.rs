//! One namespace of a snapshot: where keys are made of what was asked, and values of what was found.

use bristlecone_trie::page::ACCOUNT_BYTES;
use bristlecone_trie::{Account, B256, Shape, U256};
use bytes::Bytes;

use super::{Key, Since, Snapshot};
use crate::graph::{Found, WINDOW};
use crate::options::{KeyMode, Namespace, shape_name};
use crate::trie_key::TrieKey;
use crate::{Error, Result};

/// One namespace of a [`Snapshot`].
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) space: usize,
}

impl View<'_> {
    /// The namespace.
    pub fn info(&self) -> &Namespace {
        #[expect(clippy::indexing_slicing, reason = "a view is made for a namespace that was found")]
        &self.snapshot.inner.core.namespaces[self.space]
    }

    /// The namespace's own root: in the `Ethereum` scheme exactly Ethereum's. Waits for it, or has it computed, where it is
    /// not known yet, as [`Snapshot::root`] does.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::root`].
    pub fn root(&self) -> Result<B256> {
        self.snapshot.check()?;
        if let Err(past) = self.snapshot.state()
            && let Some(root) = past.root(self.space)
        {
            return Ok(root);
        }
        self.snapshot.overlay(self.space, true)?.hash()
    }

    /// The key as the trie has it, if the namespace has `shape`.
    pub(crate) fn key(&self, shape: Shape, what: &'static str, key: &[u8]) -> Result<TrieKey> {
        self.has_shape(shape, what)?;
        TrieKey::new(self.info(), key)
    }

    fn has_shape(&self, shape: Shape, what: &'static str) -> Result<()> {
        let namespace = self.info();
        if namespace.shape != shape {
            let shape = shape_name(namespace.shape);
            return Err(Error::WrongShape { namespace: namespace.name.clone(), shape, what });
        }
        Ok(())
    }

    /// The value of a flat key. In memory: a descent under an epoch pin, with no lock and no shared counter; from the log:
    /// a search on the mapped records.
    ///
    /// # Errors
    ///
    /// [`Error::WrongShape`] in a namespace of accounts; [`Error::RolledBack`]; damage met on the way.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let trie_key = self.key(Shape::Flat, "a flat key", key)?;
        Ok(self.snapshot.find(self.space, trie_key.bytes(key))?.map(|found| found.value))
    }

    /// The value of a flat key as [`Bytes`]. What comes from the log shares its map and is not copied, whatever its size, and so does a value
    /// of more than 512 bytes in a page that is in memory and sealed; what is smaller there, or not sealed yet, is copied. Such bytes keep
    /// the map of a segment, not a page nor a version.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let trie_key = self.key(Shape::Flat, "a flat key", key)?;
        self.snapshot.find_bytes(self.space, trie_key.bytes(key))
    }

    /// The values of many flat keys, in their order. Keys whose pages are in memory are looked up side by side, so that they wait for
    /// it together: a key costs a fraction of what it does in [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut found = Vec::with_capacity(keys.len());
        let mut window = Vec::with_capacity(WINDOW);
        for keys in keys.chunks(WINDOW) {
            self.flat_window(keys, &mut window)?;
            found.extend(window.drain(..).map(|found| found.map(|found| found.value)));
        }
        Ok(found)
    }

    /// What stands at the flat keys of one window.
    fn flat_window<K: AsRef<[u8]>>(&self, keys: &[K], found: &mut Vec<Option<Found>>) -> Result<()> {
        if self.info().keys == KeyMode::Raw {
            keys.iter().try_for_each(|key| self.key(Shape::Flat, "a flat key", key.as_ref()).map(drop))?;
            return self.snapshot.find_many(self.space, keys, found);
        }
        self.has_shape(Shape::Flat, "a flat key")?;
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let trie_keys = TrieKey::many(self.info(), &keys)?;
        let bytes: Vec<&[u8]> = trie_keys.iter().zip(keys).map(|(trie, key)| trie.bytes(key)).collect();
        self.snapshot.find_many(self.space, &bytes, found)
    }

    /// Brings what `keys` lead to nearer: into the processor's caches what is in memory, into memory what is mapped of the log. For
    /// keys that will be asked for soon, all of them at once where [`get_many`](Self::get_many) does not serve, and best from a thread
    /// that has nothing else to do. It costs what reading them costs, changes no answer, and keeps nothing.
    ///
    /// # Errors
    ///
    /// As for reading them.
    pub fn prefetch(&self, keys: &[Key<'_>]) -> Result<()> {
        let mut found = Vec::with_capacity(WINDOW);
        for keys in keys.chunks(WINDOW) {
            let trie_keys = keys.iter().map(|key| self.trie_key(*key)).collect::<Result<Vec<_>>>()?;
            self.snapshot.find_many(self.space, &trie_keys, &mut found)?;
            found.clear();
        }
        Ok(())
    }

    /// The key of the trie.
    pub(crate) fn trie_key(&self, key: Key<'_>) -> Result<Vec<u8>> {
        Ok(match key {
            Key::Flat(key) => self.key(Shape::Flat, "a flat key", key)?.bytes(key).to_vec(),
            Key::Account(address) => self.account_key(address)?.to_vec(),
            Key::Slot(address, slot) => self.slot_key(address, slot)?.to_vec(),
        })
    }

    /// Many accounts, in the order of their addresses in the argument; as [`get_many`](Self::get_many) does it.
    ///
    /// # Errors
    ///
    /// As [`account`](Self::account).
    pub fn account_many<A: AsRef<[u8]>>(&self, addresses: &[A]) -> Result<Vec<Option<Account>>> {
        let keys = self.account_keys(&addresses.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        let mut found = Vec::with_capacity(keys.len());
        self.snapshot.find_many(self.space, &keys, &mut found)?;
        let decoded = found.into_iter().zip(&keys).map(|(found, key)| decoded_account(found, key));
        decoded.collect()
    }

    /// The values of many slots of any accounts, in their order; as [`get_many`](Self::get_many) does it.
    ///
    /// # Errors
    ///
    /// As [`slot`](Self::slot).
    pub fn slot_many<A: AsRef<[u8]>>(&self, slots: &[(A, B256)]) -> Result<Vec<U256>> {
        let accounts =
            self.account_keys(&slots.iter().map(|(address, _)| address.as_ref()).collect::<Vec<_>>())?;
        let own: Vec<&[u8]> = slots.iter().map(|(_, slot)| slot.as_slice()).collect();
        let own = TrieKey::many(self.info(), &own)?;
        let keys = accounts.iter().zip(own.iter().zip(slots)).map(|(account, (own, (_, slot)))| {
            let mut key = [0; 2 * ACCOUNT_BYTES];
            let (head, tail) = key.split_at_mut(ACCOUNT_BYTES);
            head.copy_from_slice(account);
            tail.copy_from_slice(own.bytes(slot.as_slice()));
            key
        });
        let keys: Vec<_> = keys.collect();
        let mut found = Vec::with_capacity(keys.len());
        self.snapshot.find_many(self.space, &keys, &mut found)?;
        found.into_iter().zip(slots).map(|(found, (_, slot))| decoded_slot(found, *slot)).collect()
    }

    fn account_keys(&self, addresses: &[&[u8]]) -> Result<Vec<[u8; ACCOUNT_BYTES]>> {
        self.has_shape(Shape::Accounts, "an account")?;
        let trie_keys = TrieKey::many(self.info(), addresses)?;
        let bytes = trie_keys.iter().zip(addresses).map(|(trie_key, address)| trie_key.bytes(address));
        bytes.map(|bytes| bytes.try_into().map_err(|_| Error::RawKey(bytes.len()))).collect()
    }

    fn account_key(&self, address: &[u8]) -> Result<[u8; ACCOUNT_BYTES]> {
        let trie_key = self.key(Shape::Accounts, "an account", address)?;
        let bytes = trie_key.bytes(address);
        bytes.try_into().map_err(|_| Error::RawKey(bytes.len()))
    }

    pub(crate) fn slot_key(&self, address: &[u8], slot: B256) -> Result<[u8; 2 * ACCOUNT_BYTES]> {
        let account = self.account_key(address)?;
        let trie_slot = self.trie_slot(slot)?;
        let mut key = [0; 2 * ACCOUNT_BYTES];
        let (head, tail) = key.split_at_mut(ACCOUNT_BYTES);
        head.copy_from_slice(&account);
        tail.copy_from_slice(trie_slot.as_slice());
        Ok(key)
    }

    /// A slot's own key in the trie.
    pub(crate) fn trie_slot(&self, slot: B256) -> Result<B256> {
        let key = TrieKey::new(self.info(), slot.as_slice())?;
        B256::try_from(key.bytes(slot.as_slice())).map_err(|_| Error::RawKey(slot.len()))
    }

    pub(crate) fn trie_account(&self, address: &[u8]) -> Result<B256> {
        self.account_key(address).map(B256::new)
    }

    /// An account, without its storage root.
    ///
    /// # Errors
    ///
    /// [`Error::WrongShape`] in a flat namespace; damage met on the way.
    pub fn account(&self, address: &[u8]) -> Result<Option<Account>> {
        let key = self.account_key(address)?;
        decoded_account(self.snapshot.find(self.space, &key)?, &key)
    }

    /// The value of a slot; zero where there is none, or no such account.
    ///
    /// # Errors
    ///
    /// As [`account`](Self::account).
    pub fn slot(&self, address: &[u8], slot: B256) -> Result<U256> {
        decoded_slot(self.snapshot.find(self.space, &self.slot_key(address, slot)?)?, slot)
    }

    /// The root of an account's storage; that of an empty trie where there is no such account. Costs a proof of the account.
    ///
    /// # Errors
    ///
    /// As [`account`](Self::account).
    pub fn storage_root(&self, address: &[u8]) -> Result<B256> {
        Ok(self.prove_account(address, &[])?.storage_root)
    }

    /// Whether `key` changed between the snapshot `older` and this one: one read here, and one there where the key
    /// is absent here. *Unchanged* is never said when the values differ.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn changed_since(&self, key: Key<'_>, older: &Snapshot) -> Result<Since> {
        self.snapshot.check()?;
        if !self.snapshot.descends_from(older) {
            return Ok(Since::NotAnAncestor);
        }
        let trie_key = self.trie_key(key)?;
        let changed = match self.snapshot.find(self.space, &trie_key)? {
            Some(found) => found.stamp > older.stamp().word(),
            None => older.find(self.space, &trie_key)?.is_some(),
        };
        Ok(if changed { Since::Changed } else { Since::Unchanged })
    }
}

fn decoded_account(found: Option<Found>, key: &[u8; ACCOUNT_BYTES]) -> Result<Option<Account>> {
    let Some(found) = found else { return Ok(None) };
    let account = Account::decode(&found.value);
    account.map(Some).ok_or_else(|| Error::Damaged { what: format!("the account {}", B256::new(*key)) })
}

fn decoded_slot(found: Option<Found>, slot: B256) -> Result<U256> {
    let Some(found) = found else { return Ok(U256::ZERO) };
    U256::try_from_be_slice(&found.value)
        .ok_or_else(|| Error::Damaged { what: format!("slot {slot} with {} bytes", found.value.len()) })
}
