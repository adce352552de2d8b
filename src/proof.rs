//! Proofs at any kept version.

use bristlecone_trie::levels::HashError;
use bristlecone_trie::proof::{self, MultiProof, ProofScheme, Proved, ProvedAccount, ProvedMany};
use bristlecone_trie::{Account, B256, Shape, U256};

use crate::options::SchemeKind;
use crate::overlay::Overlay;
use crate::snapshot::View;
use crate::{Blake3, Error, Ethereum, Result};

/// A flat key with the nodes that prove it, from the namespace's root down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProof {
    /// The key as the trie has it (hashed, where the namespace hashes keys).
    pub key: Vec<u8>,
    /// The value; `None`: the nodes prove that there is none.
    pub value: Option<Vec<u8>>,
    /// The nodes.
    pub nodes: Vec<Vec<u8>>,
}

/// Many flat keys with one proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManyProof {
    /// The keys as the trie has them, in the order in which they were asked for.
    pub keys: Vec<Vec<u8>>,
    /// What stands at each.
    pub values: Vec<Option<Vec<u8>>>,
    /// The nodes.
    pub proof: MultiProof,
}

/// An account with its proof, and some of its slots with theirs (EIP-1186).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountProof {
    /// The account's key in the trie.
    pub key: B256,
    /// The account; `None`: the nodes prove that there is none.
    pub account: Option<Account>,
    /// The root of its storage.
    pub storage_root: B256,
    /// The nodes from the namespace's root down to the account.
    pub nodes: Vec<Vec<u8>>,
    /// The slots that were asked for, in that order.
    pub slots: Vec<SlotProof>,
}

/// A slot with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotProof {
    /// The slot as it was asked for.
    pub slot: B256,
    /// The slot's key in the storage trie.
    pub key: B256,
    /// The value; zero where there is none.
    pub value: U256,
    /// The nodes from the storage root down; none for an account without storage.
    pub nodes: Vec<Vec<u8>>,
}

impl View<'_> {
    /// Proves what stands at a flat key. Waits for the version's root where it is not known yet.
    ///
    /// Cost: the pages on the path. Inside a sealed run also applying operations of the run up to the version again: where the run
    /// table has the hashes below the root page (of versions whose root was computed and that changed many keys), those below one
    /// child page of the root page; otherwise all.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub fn prove(&self, key: &[u8]) -> Result<KeyProof> {
        let trie_key = self.key(Shape::Flat, "a flat key", key)?;
        let trie_key = trie_key.bytes(key);
        let proved = match self.info().scheme {
            SchemeKind::Ethereum => self.prove_key::<Ethereum>(trie_key),
            SchemeKind::Blake3 => self.prove_key::<Blake3>(trie_key),
        }?;
        Ok(KeyProof { key: trie_key.to_vec(), value: proved.value, nodes: proved.nodes })
    }

    /// Proves what stands at each of many flat keys with one proof that has every node once. The keys of the answer are those of the
    /// trie; [`verify_many`](bristlecone_trie::proof::verify_many) takes them.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub fn prove_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<ManyProof> {
        let trie_keys = keys.iter().map(|key| {
            let key = key.as_ref();
            Ok(self.key(Shape::Flat, "a flat key", key)?.bytes(key).to_vec())
        });
        let trie_keys = trie_keys.collect::<Result<Vec<_>>>()?;
        let borrowed: Vec<&[u8]> = trie_keys.iter().map(Vec::as_slice).collect();
        let proved = match self.info().scheme {
            SchemeKind::Ethereum => self.prove_keys::<Ethereum>(&borrowed),
            SchemeKind::Blake3 => self.prove_keys::<Blake3>(&borrowed),
        }?;
        Ok(ManyProof { keys: trie_keys, values: proved.values, proof: proved.proof })
    }

    /// Proves an account and `slots` of it. Waits for the version's root where it is not known yet.
    ///
    /// # Errors
    ///
    /// As [`View::account`].
    pub fn prove_account(&self, address: &[u8], slots: &[B256]) -> Result<AccountProof> {
        let key = self.trie_account(address)?;
        let keys = slots.iter().map(|slot| self.trie_slot(*slot)).collect::<Result<Vec<_>>>()?;
        let proved = match self.info().scheme {
            SchemeKind::Ethereum => self.prove_account_key::<Ethereum>(key.as_slice(), &keys),
            SchemeKind::Blake3 => self.prove_account_key::<Blake3>(key.as_slice(), &keys),
        }?;
        let damaged = |what: String| Error::Damaged { what };
        let account = match &proved.account.value {
            None => None,
            Some(body) => Some(Account::decode(body).ok_or_else(|| damaged(format!("the account {key}")))?),
        };
        let slots = slots.iter().zip(keys).zip(proved.slots).map(|((slot, key), proved)| {
            let value = U256::try_from_be_slice(&proved.value.unwrap_or_default())
                .ok_or_else(|| damaged(format!("slot {slot}")))?;
            Ok(SlotProof { slot: *slot, key, value, nodes: proved.nodes })
        });
        Ok(AccountProof {
            key,
            account,
            storage_root: proved.storage_root,
            nodes: proved.account.nodes,
            slots: slots.collect::<Result<_>>()?,
        })
    }
}

impl View<'_> {
    /// Makes a proof of `keys`. In the middle of a run first the short way, on the word of a table: what comes of that counts only if
    /// it holds, by `verify`, against the version's root.
    fn proving<T>(
        &self,
        keys: &[&[u8]],
        make: impl Fn(&Overlay<'_>) -> Result<T, HashError>,
        verify: impl Fn(&T, B256) -> bool,
    ) -> Result<T> {
        if let Some(overlay) = self.snapshot.overlay_on_ways(self.space, keys)?
            && let Ok(proved) = make(&overlay)
            && verify(&proved, overlay.hash()?)
        {
            return Ok(proved);
        }
        let overlay = self.snapshot.overlay(self.space, true)?;
        make(&overlay).map_err(|error| failure(&overlay, &error))
    }

    fn prove_key<S: ProofScheme>(&self, key: &[u8]) -> Result<Proved> {
        self.proving(
            &[key],
            |overlay| proof::prove::<S>(overlay, Shape::Flat, overlay.root(), key),
            |proved, root| proof::verify::<S>(root, key, &proved.nodes).as_ref() == Ok(&proved.value),
        )
    }

    fn prove_keys<S: ProofScheme>(&self, keys: &[&[u8]]) -> Result<ProvedMany> {
        self.proving(
            keys,
            |overlay| proof::prove_many::<S>(overlay, Shape::Flat, overlay.root(), keys),
            |proved, root| proof::verify_many::<S>(root, keys, &proved.proof).as_ref() == Ok(&proved.values),
        )
    }

    fn prove_account_key<S: ProofScheme>(&self, key: &[u8], slots: &[B256]) -> Result<ProvedAccount> {
        let body = |proved: &Proved| proved.value.as_deref().map(Account::decode);
        let word = |proved: &Proved| proved.value.as_deref().map(U256::try_from_be_slice);
        let verify = |proved: &ProvedAccount, root: B256| {
            let account = proof::verify_account::<S>(root, key, &proved.account.nodes);
            let account = account.is_ok_and(|found| match found {
                None => proved.account.value.is_none(),
                Some((account, storage)) => {
                    body(&proved.account) == Some(Some(account)) && storage == proved.storage_root
                }
            });
            let slot = |(slot, proof): (&B256, &Proved)| {
                let found = proof::verify_slot::<S>(proved.storage_root, slot.as_slice(), &proof.nodes);
                found.is_ok_and(|found| found.map(Some) == word(proof))
            };
            account && slots.iter().zip(&proved.slots).all(slot)
        };
        self.proving(&[key], |overlay| proof::prove_account::<S>(overlay, overlay.root(), key, slots), verify)
    }
}

/// The error behind a missing page, if the log had one.
fn failure(overlay: &Overlay<'_>, error: &HashError) -> Error {
    overlay.take_failure().unwrap_or_else(|| Error::Damaged { what: format!("a page on the way ({error})") })
}

/// Verifies `proof` against the root of a namespace with hashed keys under scheme `S`: that the account named by `address`
/// is what the proof says, and each slot too. The account, or `None` if it is proven absent.
///
/// # Errors
///
/// The proof does not hold, or says another thing than it proves.
pub fn verify_account<S: ProofScheme + KeyHash>(
    root: B256,
    address: &[u8],
    proof: &AccountProof,
) -> Result<Option<Account>> {
    let differs = |what: &str| Error::Damaged { what: format!("{what} of the proof") };
    let key = S::hash_key(address);
    let found = proof::verify_account::<S>(root, key.as_slice(), &proof.nodes)?;
    let (account, storage_root) = match found {
        Some((account, storage_root)) => (Some(account), storage_root),
        None => (None, S::empty_root()),
    };
    if key != proof.key || account != proof.account || storage_root != proof.storage_root {
        return Err(differs("the account"));
    }
    for slot in &proof.slots {
        let key = S::hash_key(slot.slot.as_slice());
        let value = proof::verify_slot::<S>(storage_root, key.as_slice(), &slot.nodes)?;
        if key != slot.key || value.unwrap_or_default() != slot.value {
            return Err(differs("a slot"));
        }
    }
    Ok(account)
}

/// How a scheme hashes keys.
pub trait KeyHash {
    /// The trie key of `key`.
    fn hash_key(key: &[u8]) -> B256;
}

impl KeyHash for Ethereum {
    fn hash_key(key: &[u8]) -> B256 {
        alloy_primitives::keccak256(key)
    }
}

impl KeyHash for Blake3 {
    fn hash_key(key: &[u8]) -> B256 {
        B256::new(*blake3::hash(key).as_bytes())
    }
}
