//! Witnesses: what somebody without the store needs of one version, and reading and changing that.

use bristlecone_trie::partial::{Bounds, Partial};
use bristlecone_trie::{Account, B256, PartialError, Shape, U256, witness};

use crate::batch::{CODE, Prepared};
use crate::options::{Namespace, SchemeKind, shape_name};
use crate::snapshot::{Key, View};
use crate::trie_key::TrieKey;
use crate::{Batch, Blake3, Error, Ethereum, Result, Snapshot};

/// The nodes of one namespace at one version that are needed for some keys and changes. State and storage lie together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The root that the nodes hang under: in the `Ethereum` scheme exactly Ethereum's.
    pub root: B256,
    /// The nodes, each once.
    pub nodes: Vec<Vec<u8>>,
}

impl Snapshot {
    /// See [`View::witness`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn witness(&self, keys: &[Key<'_>]) -> Result<Witness> {
        self.first().witness(keys)
    }

    /// See [`View::witness_for`], on the first namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn witness_for(&self, keys: &[Key<'_>], changes: &Batch) -> Result<Witness> {
        self.first().witness_for(keys, changes)
    }
}

impl View<'_> {
    /// The nodes that are needed to read `keys`, whether they are there or not. Waits for the version's root where it is not known yet.
    ///
    /// Cost: that of proofs, with each node once; inside a sealed run also applying the run's operations up to the version again.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub fn witness(&self, keys: &[Key<'_>]) -> Result<Witness> {
        self.witness_for(keys, &Batch::new())
    }

    /// The nodes that are needed to read `keys`, and to apply what `changes` says of this namespace and compute the root after it:
    /// also the nodes beside what is removed, where a branch is left with one child.
    ///
    /// Cost: as [`witness`](Self::witness), and applying the changes once, to the nodes alone.
    ///
    /// # Errors
    ///
    /// As [`View::get`]; as [`Store::commit`](crate::Store::commit) where the changes do not fit this version.
    pub fn witness_for(&self, keys: &[Key<'_>], changes: &Batch) -> Result<Witness> {
        let namespace = self.info();
        let keys = keys.iter().map(|key| self.trie_key(*key)).collect::<Result<Vec<_>>>()?;
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let prepared = changes.of_namespace(&self.snapshot.inner.core.namespaces, self.space)?;
        let ops = prepared.ops();
        let overlay = self.snapshot.overlay(self.space, true)?;
        let (shape, top) = (namespace.shape, overlay.root());
        let nodes = match namespace.scheme {
            SchemeKind::Ethereum => witness::witness::<Ethereum>(&overlay, shape, top, &keys, &ops),
            SchemeKind::Blake3 => witness::witness::<Blake3>(&overlay, shape, top, &keys, &ops),
        };
        let nodes =
            nodes.map_err(|error| overlay.take_failure().unwrap_or_else(|| refused(&prepared, error)))?;
        Ok(Witness { root: overlay.hash()?, nodes })
    }
}

/// One namespace at one version, as far as a witness shows it: read and changed like a store's, and kept nowhere.
///
/// What the witness does not show is an error ([`Error::Witness`]), never absent.
#[derive(Clone, Debug)]
pub struct Stateless {
    namespace: Namespace,
    partial: Partial,
}

impl Stateless {
    /// The state under `root`, which must be known to be right, as far as `nodes` show it. `namespace` says how keys and nodes are hashed:
    /// for Ethereum's state it is [`Namespace::accounts`] with [`SchemeKind::Ethereum`]; its name does not matter.
    ///
    /// Cost: a hash a node.
    ///
    /// # Errors
    ///
    /// [`Error::Witness`]: a node is damaged, is there twice, hangs nowhere under the root, or is one of too many.
    pub fn new(namespace: Namespace, root: B256, nodes: &[impl AsRef<[u8]>]) -> Result<Self> {
        let (shape, bounds) = (namespace.shape, Bounds::default());
        let partial = match namespace.scheme {
            SchemeKind::Ethereum => Partial::new::<Ethereum>(shape, root, nodes, bounds),
            SchemeKind::Blake3 => Partial::new::<Blake3>(shape, root, nodes, bounds),
        }?;
        Ok(Self { namespace, partial })
    }

    /// The value of a flat key.
    ///
    /// # Errors
    ///
    /// [`Error::Witness`] where a node is lacking; [`Error::WrongShape`] in a namespace of accounts.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let trie_key = self.key(Shape::Flat, "a flat key", key)?;
        Ok(self.partial.get(trie_key.bytes(key))?)
    }

    /// An account, without its storage root.
    ///
    /// # Errors
    ///
    /// [`Error::Witness`] where a node is lacking; [`Error::WrongShape`] in a flat namespace.
    pub fn account(&self, address: &[u8]) -> Result<Option<Account>> {
        let trie_key = self.key(Shape::Accounts, "an account", address)?;
        let Some(body) = self.partial.get(trie_key.bytes(address))? else { return Ok(None) };
        Account::decode(&body).map(Some).ok_or(Error::Internal("an account of a witness does not decode"))
    }

    /// The value of a slot; zero where there is none, or no such account.
    ///
    /// # Errors
    ///
    /// As [`account`](Self::account).
    pub fn slot(&self, address: &[u8], slot: B256) -> Result<U256> {
        let account = self.key(Shape::Accounts, "a slot", address)?;
        let trie_slot = TrieKey::new(&self.namespace, slot.as_slice())?;
        let key = [account.bytes(address), trie_slot.bytes(slot.as_slice())].concat();
        let value = self.partial.get(&key)?.unwrap_or_default();
        U256::try_from_be_slice(&value).ok_or(Error::Internal("a slot of a witness has more than 32 bytes"))
    }

    /// Changes the state as [`Store::commit`](crate::Store::commit) would; nothing happens on an error. What `changes` says of
    /// namespaces under other names than this one's (or none) is refused; code that it brings is not kept.
    ///
    /// # Errors
    ///
    /// [`Error::Witness`] where a node is lacking: on the way to a key, or beside one that is removed. Otherwise as
    /// [`Store::commit`](crate::Store::commit).
    pub fn apply(&mut self, changes: &Batch) -> Result<()> {
        let code = Namespace::flat(SchemeKind::Blake3).named(CODE);
        let prepared = changes.of_namespace(&[self.namespace.clone(), code], 0)?;
        self.partial.apply(&prepared.ops(), 1).map_err(|error| refused(&prepared, error))
    }

    /// The root of the state as it is now.
    ///
    /// Cost: a hash for each node that changed; the first time, for each node of the witness.
    ///
    /// # Errors
    ///
    /// None but defects.
    pub fn root(&mut self) -> Result<B256> {
        Ok(match self.namespace.scheme {
            SchemeKind::Ethereum => self.partial.root::<Ethereum>(),
            SchemeKind::Blake3 => self.partial.root::<Blake3>(),
        }?)
    }

    fn key(&self, shape: Shape, what: &'static str, key: &[u8]) -> Result<TrieKey> {
        let namespace = &self.namespace;
        if namespace.shape != shape {
            let shape = shape_name(namespace.shape);
            return Err(Error::WrongShape { namespace: namespace.name.clone(), shape, what });
        }
        TrieKey::new(namespace, key)
    }
}

/// What to say of operations that a witness, or a version, does not take.
fn refused(prepared: &Prepared, error: PartialError) -> Error {
    match error {
        PartialError::Update(error) => Error::refused(&prepared.ops(), error),
        PartialError::Hash(error) => Error::Damaged { what: format!("a page on the way ({error})") },
        error => Error::Witness(error),
    }
}
