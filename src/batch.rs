//! Batches: what one commit changes.

use std::ops::Range;

use bristlecone_delta::format::{MAX_PAYLOAD_BYTES, MAX_VALUE_BYTES};
use bristlecone_trie::account::trim;
use bristlecone_trie::{Account, B256, Body, Change, Op, Shape, U256};
use bytes::Bytes;

use crate::options::{KeyMode, Namespace, SchemeKind, shape_name};
use crate::trie_key::TrieKey;
use crate::{Error, Result};

/// The changes of one commit, over any number of namespaces. The last word on a key counts; within an account a
/// wipe comes before slot writes, whatever their order here.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// By namespace name; the empty name is the store's first namespace.
    spaces: Vec<(String, Changes)>,
}

impl Batch {
    /// An empty batch. Committing it makes a version like the one before.
    pub fn new() -> Self {
        Self::default()
    }

    /// The changes of the namespace `name`.
    pub fn namespace(&mut self, name: &str) -> NamespaceBatch<'_> {
        let at = match self.spaces.iter().position(|(known, _)| known == name) {
            Some(at) => at,
            None => {
                self.spaces.push((name.to_owned(), Changes::default()));
                self.spaces.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "found or pushed just above")]
        NamespaceBatch { changes: &mut self.spaces[at].1 }
    }

    fn first(&mut self) -> NamespaceBatch<'_> {
        self.namespace("")
    }

    /// Sets a flat key.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> &mut Self {
        self.first().put(key, value);
        self
    }

    /// Removes a flat key.
    pub fn delete(&mut self, key: &[u8]) -> &mut Self {
        self.first().delete(key);
        self
    }

    /// Sets nonce, balance and code hash of an account; its storage stays.
    pub fn set_account(&mut self, address: &[u8], account: &Account) -> &mut Self {
        self.first().set_account(address, account);
        self
    }

    /// Removes an account with its storage.
    pub fn delete_account(&mut self, address: &[u8]) -> &mut Self {
        self.first().delete_account(address);
        self
    }

    /// Removes all slots of an account.
    pub fn wipe_storage(&mut self, address: &[u8]) -> &mut Self {
        self.first().wipe_storage(address);
        self
    }

    /// Sets a slot of an account, which must exist after the batch. Zero removes the slot.
    pub fn set_slot(&mut self, address: &[u8], slot: B256, value: U256) -> &mut Self {
        self.first().set_slot(address, slot, value);
        self
    }

    /// Keeps contract code under its hash. Code is shared by all namespaces and is no part of any root: accounts
    /// hold its hash.
    pub fn set_code(&mut self, hash: B256, code: Bytes) -> &mut Self {
        self.namespace(CODE).put(hash.as_slice(), &code);
        self
    }

    /// Number of changes, several of one key counted apart.
    pub fn len(&self) -> usize {
        self.spaces.iter().map(|(_, changes)| changes.entries.len()).sum()
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The operations for each namespace, by its place among `namespaces`, in ascending order.
    pub(crate) fn prepare(&self, namespaces: &[Namespace]) -> Result<Vec<(u16, Prepared)>> {
        let mut prepared: Vec<(u16, Prepared)> = Vec::with_capacity(self.spaces.len());
        for (name, changes) in &self.spaces {
            let at = if name.is_empty() { Some(0) } else { namespaces.iter().position(|n| n.name == *name) };
            let Some((at, namespace)) = at.and_then(|at| Some((at, namespaces.get(at)?))) else {
                return Err(no_namespace(name, namespaces));
            };
            if changes.entries.is_empty() {
                continue;
            }
            if prepared.iter().any(|(other, _)| usize::from(*other) == at) {
                return Err(Error::BadOption {
                    option: "batch",
                    reason: format!(
                        "`{}` is the first namespace: change it by name or without, not both",
                        namespace.name
                    ),
                });
            }
            prepared.push((at as u16, changes.prepare(namespace)?));
        }
        prepared.sort_by_key(|(at, _)| *at);
        check_len("a batch", logged_bytes(&prepared), MAX_BATCH_BYTES)?;
        Ok(prepared)
    }

    /// The operations on the one of `namespaces` at `space`.
    pub(crate) fn of_namespace(&self, namespaces: &[Namespace], space: usize) -> Result<Prepared> {
        let mut prepared = self.prepare(namespaces)?.into_iter();
        let own = prepared.find(|(at, _)| usize::from(*at) == space);
        Ok(own.map(|(_, prepared)| prepared).unwrap_or_default())
    }
}

/// Most bytes of a commit in the log. What is refused there would be visible, and poison the store.
const MAX_BATCH_BYTES: usize = MAX_PAYLOAD_BYTES - 4096;

/// Bytes of a commit in the log, at most.
fn logged_bytes(prepared: &[(u16, Prepared)]) -> usize {
    // Besides key and value an operation has a tag and their two lengths, and a namespace its number and a count.
    let op = |op: &PreparedOp| op.key.len() + op.value.len() + 8;
    prepared.iter().map(|(_, prepared)| 16 + prepared.ops.iter().map(op).sum::<usize>()).sum()
}

/// The hidden namespace of contract code. No name given by a user is longer than 64 bytes, nor starts like this.
pub(crate) const CODE: &str = "\0code";

pub(crate) fn no_namespace(name: &str, namespaces: &[Namespace]) -> Error {
    let known: Vec<&str> =
        namespaces.iter().map(|namespace| &namespace.name[..]).filter(|name| *name != CODE).collect();
    Error::NoNamespace { name: name.to_owned(), known: known.join(", ") }
}

/// The changes of one namespace in a [`Batch`].
#[derive(Debug)]
pub struct NamespaceBatch<'a> {
    changes: &'a mut Changes,
}

impl NamespaceBatch<'_> {
    /// Sets a flat key.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> &mut Self {
        self.changes.push(Kind::Put, key, None, value);
        self
    }

    /// Removes a flat key.
    pub fn delete(&mut self, key: &[u8]) -> &mut Self {
        self.changes.push(Kind::Delete, key, None, &[]);
        self
    }

    /// See [`Batch::set_account`].
    pub fn set_account(&mut self, address: &[u8], account: &Account) -> &mut Self {
        let mut body = Vec::with_capacity(80);
        account.encode(&mut body);
        self.changes.push(Kind::Body, address, None, &body);
        self
    }

    /// See [`Batch::delete_account`].
    pub fn delete_account(&mut self, address: &[u8]) -> &mut Self {
        self.changes.push(Kind::DeleteAccount, address, None, &[]);
        self
    }

    /// See [`Batch::wipe_storage`].
    pub fn wipe_storage(&mut self, address: &[u8]) -> &mut Self {
        self.changes.push(Kind::Wipe, address, None, &[]);
        self
    }

    /// See [`Batch::set_slot`].
    pub fn set_slot(&mut self, address: &[u8], slot: B256, value: U256) -> &mut Self {
        let bytes = value.to_be_bytes::<32>();
        let value = trim(&bytes);
        let kind = if value.is_empty() { Kind::DeleteSlot } else { Kind::Slot };
        self.changes.push(kind, address, Some(slot), value);
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Delete,
    Body,
    DeleteAccount,
    Wipe,
    Slot,
    DeleteSlot,
}

impl Kind {
    fn shape(self) -> Shape {
        if matches!(self, Self::Put | Self::Delete) { Shape::Flat } else { Shape::Accounts }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    slot: Option<B256>,
    key: Range<usize>,
    value: Range<usize>,
}

#[derive(Clone, Debug, Default)]
struct Changes {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Changes {
    fn push(&mut self, kind: Kind, key: &[u8], slot: Option<B256>, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.entries.push(Entry { kind, slot, key: start..middle, value: middle..self.bytes.len() });
    }

    fn prepare(&self, namespace: &Namespace) -> Result<Prepared> {
        // Hashed keys are longer, and slots come with the key of their account.
        let longer = if namespace.keys == KeyMode::Raw { 0 } else { 32 * self.entries.len() };
        let slots = self.entries.iter().filter(|entry| entry.slot.is_some()).count();
        let room = self.bytes.len() + longer + 32 * slots;
        let mut out = Prepared { bytes: Vec::with_capacity(room), ops: Vec::new() };
        out.ops.reserve(self.entries.len());
        // What is hashed: each address once in a row, and each slot.
        let mut keys: Vec<&[u8]> = Vec::with_capacity(self.entries.len() + slots);
        let mut last_address: Option<&[u8]> = None;
        for entry in &self.entries {
            if entry.kind.shape() != namespace.shape {
                let what =
                    if entry.kind.shape() == Shape::Flat { "a flat key" } else { "an account or a slot" };
                let shape = shape_name(namespace.shape);
                return Err(Error::WrongShape { namespace: namespace.name.clone(), shape, what });
            }
            let key = self.bytes.get(entry.key.clone()).unwrap_or_default();
            let value = self.bytes.get(entry.value.clone()).unwrap_or_default();
            check_len("a value", value.len(), MAX_VALUE_BYTES)?;
            if entry.kind == Kind::Put && value.is_empty() && namespace.scheme == SchemeKind::Ethereum {
                return Err(Error::EmptyValue { namespace: namespace.name.clone() });
            }
            if last_address != Some(key) {
                keys.push(key);
                last_address = Some(key);
            }
            keys.extend(entry.slot.as_ref().map(|slot| slot.as_slice()));
        }
        let trie_keys = TrieKey::many(namespace, &keys)?;
        let mut trie_keys = trie_keys.iter();
        let mut address: Option<(&[u8], &TrieKey)> = None;
        let missing = || Error::Internal("a key that was not hashed");
        for entry in &self.entries {
            let key = self.bytes.get(entry.key.clone()).unwrap_or_default();
            let value = self.bytes.get(entry.value.clone()).unwrap_or_default();
            let trie_key = match address {
                Some((last, trie_key)) if last == key => trie_key,
                _ => trie_keys.next().ok_or_else(missing)?,
            };
            address = Some((key, trie_key));
            let start = out.bytes.len();
            out.bytes.extend_from_slice(trie_key.bytes(key));
            if let Some(slot) = &entry.slot {
                let trie_slot = trie_keys.next().ok_or_else(missing)?;
                out.bytes.extend_from_slice(trie_slot.bytes(slot.as_slice()));
            }
            let middle = out.bytes.len();
            out.bytes.extend_from_slice(value);
            let change = match entry.kind {
                Kind::Put | Kind::Slot => Prepare::Put,
                Kind::Delete | Kind::DeleteSlot => Prepare::Delete,
                Kind::Body => Prepare::Account { body: Some(true), wipe: false },
                Kind::DeleteAccount => Prepare::Account { body: Some(false), wipe: true },
                Kind::Wipe => Prepare::Account { body: None, wipe: true },
            };
            out.ops.push(PreparedOp { key: start..middle, value: middle..out.bytes.len(), change });
        }
        out.settle();
        Ok(out)
    }
}

fn check_len(what: &'static str, len: usize, limit: usize) -> Result<()> {
    if len > limit { Err(Error::TooLong { what, len, limit }) } else { Ok(()) }
}

#[derive(Clone, Copy, Debug)]
enum Prepare {
    Put,
    Delete,
    /// `body`: set, deleted, or kept.
    Account {
        body: Option<bool>,
        wipe: bool,
    },
}

#[derive(Clone, Debug)]
struct PreparedOp {
    key: Range<usize>,
    value: Range<usize>,
    change: Prepare,
}

/// Sorted operations with the bytes they speak of, one a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    bytes: Vec<u8>,
    ops: Vec<PreparedOp>,
}

impl Prepared {
    /// The same from operations that are sorted already.
    pub(crate) fn from_ops(ops: &[Op<'_>]) -> Self {
        let mut this = Self::default();
        for op in ops {
            let start = this.bytes.len();
            this.bytes.extend_from_slice(op.key);
            let middle = this.bytes.len();
            let change = match op.change {
                Change::Put(value) => {
                    this.bytes.extend_from_slice(value);
                    Prepare::Put
                }
                Change::Delete => Prepare::Delete,
                Change::Account { body: Body::Keep, wipe } => Prepare::Account { body: None, wipe },
                Change::Account { body: Body::Delete, .. } => {
                    Prepare::Account { body: Some(false), wipe: true }
                }
                Change::Account { body: Body::Put(body), wipe } => {
                    this.bytes.extend_from_slice(body);
                    Prepare::Account { body: Some(true), wipe }
                }
            };
            this.ops.push(PreparedOp { key: start..middle, value: middle..this.bytes.len(), change });
        }
        this
    }

    /// The operations, sorted strictly by key.
    pub(crate) fn ops(&self) -> Vec<Op<'_>> {
        let slice = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        let op = |op: &PreparedOp| Op {
            key: slice(&op.key),
            change: match op.change {
                Prepare::Put => Change::Put(slice(&op.value)),
                Prepare::Delete => Change::Delete,
                Prepare::Account { body, wipe } => Change::Account {
                    body: match body {
                        None => Body::Keep,
                        Some(true) => Body::Put(slice(&op.value)),
                        Some(false) => Body::Delete,
                    },
                    wipe,
                },
            },
        };
        self.ops.iter().map(op).collect()
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity() + self.ops.capacity() * size_of::<PreparedOp>()
    }

    /// Sorts, and leaves the last word on each key; what is said of one account comes together.
    fn settle(&mut self) {
        let bytes = &self.bytes;
        let key = |op: &PreparedOp| bytes.get(op.key.clone()).unwrap_or_default();
        // By the first bytes of the keys, as numbers, and by where they came: keys are looked at only where those are the same.
        let mut order: Vec<(u64, u32)> =
            self.ops.iter().enumerate().map(|(at, op)| (head(key(op)), at as u32)).collect();
        order.sort_unstable();
        for equal in order.chunk_by_mut(|(a, _), (b, _)| a == b).filter(|equal| equal.len() > 1) {
            let key = |at: &u32| self.ops.get(*at as usize).map(key).unwrap_or_default();
            equal.sort_by(|(_, a), (_, b)| key(a).cmp(key(b)).then(a.cmp(b)));
        }
        self.ops = order.iter().filter_map(|(_, at)| self.ops.get(*at as usize).cloned()).collect();
        self.ops.dedup_by(|later, kept| {
            if key(later) != key(kept) {
                return false;
            }
            match (later.change, &mut kept.change) {
                (Prepare::Account { body, wipe }, Prepare::Account { body: kept_body, wipe: kept_wipe }) => {
                    *kept_wipe |= wipe;
                    if body.is_some() {
                        *kept_body = body;
                        kept.value = later.value.clone();
                    }
                }
                (change, kept_change) => {
                    *kept_change = change;
                    kept.value = later.value.clone();
                }
            }
            true
        });
    }
}

/// The first eight bytes of a key as a number that sorts like them; a shorter key as if zeroes followed.
fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    head.iter_mut().zip(key).for_each(|(head, byte)| *head = *byte);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use bristlecone_delta::format::MAX_KEY_BYTES;

    use super::*;

    #[test]
    fn the_last_word_on_a_key_counts_and_wipes_gather() {
        let namespace = Namespace::accounts(SchemeKind::Ethereum).raw();
        let (a, slot) = ([1u8; 32], B256::repeat_byte(2));
        let account = |nonce| Account { nonce, ..Account::default() };
        let mut batch = Batch::new();
        batch.set_slot(&a, slot, U256::from(1)).delete_account(&a).set_account(&a, &account(1));
        batch.set_slot(&a, slot, U256::from(9)).set_account(&a, &account(2));
        let prepared = batch.prepare(&[namespace]).unwrap();
        let mut body = Vec::new();
        account(2).encode(&mut body);
        let ops = prepared[0].1.ops();
        assert_eq!(ops[0].change, Change::Account { body: Body::Put(&body), wipe: true });
        assert_eq!(ops[1].change, Change::Put(&[9]));
        assert_eq!((ops[1].key.len(), ops.len()), (64, 2));
    }

    #[test]
    fn no_batch_is_larger_in_the_log_than_it_is_counted() {
        let accounts = Namespace::accounts(SchemeKind::Ethereum).named("a");
        let namespaces = [accounts, Namespace::flat(SchemeKind::Blake3).named("f").raw()];
        let mut batch = Batch::new();
        for number in 0..200u8 {
            let account = Account { balance: U256::MAX, code_hash: B256::ZERO, ..Account::default() };
            batch.namespace("a").set_account(&[number], &account).wipe_storage(&[number]);
            batch.namespace("a").set_slot(&[number], B256::repeat_byte(number), U256::MAX);
            batch.namespace("f").put(&[number; MAX_KEY_BYTES], &vec![number; usize::from(number) * 400]);
            batch.namespace("f").delete(&[number]);
        }
        let prepared = batch.prepare(&namespaces).unwrap();
        let mut logged = Vec::new();
        let ops = prepared.iter().map(|(at, prepared)| (*at, prepared.ops()));
        bristlecone_delta::encode_ops(ops, &mut logged).unwrap();
        let counted = logged_bytes(&prepared);
        assert!((logged.len()..logged.len() + 4096).contains(&counted), "{} {counted}", logged.len());
    }

    #[test]
    fn what_does_not_fit_the_namespace_is_refused() {
        let accounts = [Namespace::accounts(SchemeKind::Ethereum)];
        let flat = [Namespace::flat(SchemeKind::Blake3).raw()];
        let mut batch = Batch::new();
        batch.put(b"k", b"v");
        assert!(matches!(batch.prepare(&accounts), Err(Error::WrongShape { .. })));
        assert!(batch.prepare(&flat).is_ok());
        batch.namespace("other").put(b"k", b"v");
        assert!(matches!(batch.prepare(&flat), Err(Error::NoNamespace { .. })));
        let mut long = Batch::new();
        long.put(&[0; MAX_KEY_BYTES + 1], b"");
        assert!(matches!(long.prepare(&flat), Err(Error::TooLong { .. })));
    }
}
