//! Roots without any cleverness: a recursion over sorted entries with the schemes' own encoders, and alloy-trie.

use alloy_trie::{HashBuilder, Nibbles, TrieAccount};
use bristlecone::{Account, B256, Blake3, Ethereum, KeyMode, Namespace, SchemeKind, U256};
use bristlecone_trie::scheme::LeafValue;
use bristlecone_trie::{NodeRef, Path, Scheme};

/// A leaf of the naive trie.
#[derive(Clone, Debug)]
pub enum Leaf {
    Raw(Vec<u8>),
    /// Big-endian, without leading zeros.
    Slot(Vec<u8>),
    Account(Account, B256),
}

impl Leaf {
    fn value(&self) -> LeafValue<'_> {
        match self {
            Self::Raw(bytes) => LeafValue::Raw(bytes),
            Self::Slot(bytes) => LeafValue::Slot(bytes),
            Self::Account(account, root) => LeafValue::Account(account, *root),
        }
    }

    fn raw(&self) -> &[u8] {
        match self {
            Self::Raw(bytes) => bytes,
            _ => panic!("only a flat value stands at a branch"),
        }
    }
}

/// The root over `entries`, sorted by key.
pub fn root<S: Scheme>(entries: &[(Vec<u8>, Leaf)]) -> B256 {
    if entries.is_empty() {
        return S::empty_root();
    }
    node::<S>(entries, 0, true).as_hash().unwrap()
}

/// The node over `entries`, which share their first `depth` nibbles.
fn node<S: Scheme>(entries: &[(Vec<u8>, Leaf)], depth: usize, is_root: bool) -> NodeRef {
    let mut encoding = Vec::new();
    let out = &mut encoding;
    let (first, leaf) = &entries[0];
    let last = &entries[entries.len() - 1].0;
    let shared = Path::whole(first).common_prefix(&Path::whole(last));
    if entries.len() == 1 {
        S::encode_leaf(Path::whole(first).skip(depth), leaf.value(), out);
    } else if shared > depth {
        let below = node::<S>(entries, shared, false);
        S::encode_extension(Path::range(first, depth, shared), &below, out);
    } else {
        let own = (first.len() * 2 == depth).then(|| leaf.raw());
        let rest = &entries[usize::from(own.is_some())..];
        let mut children = [None; 16];
        for (nibble, child) in children.iter_mut().enumerate() {
            let here = |entry: &(Vec<u8>, Leaf)| usize::from(Path::whole(&entry.0).at(depth)) == nibble;
            let from = rest.iter().position(here);
            if let Some(from) = from {
                let len = rest[from..].iter().take_while(|entry| here(entry)).count();
                *child = Some(node::<S>(&rest[from..from + len], depth + 1, false));
            }
        }
        S::encode_branch(&children, own, out);
    }
    S::reference(&encoding, is_root)
}

/// A key as the trie of `namespace` has it.
pub fn trie_key(namespace: &Namespace, key: &[u8]) -> Vec<u8> {
    match (namespace.keys, namespace.scheme) {
        (KeyMode::Raw, _) => key.to_vec(),
        (KeyMode::Hashed, SchemeKind::Ethereum) => alloy_primitives::keccak256(key).to_vec(),
        (KeyMode::Hashed, SchemeKind::Blake3) => blake3::hash(key).as_bytes().to_vec(),
    }
}

/// The root of a flat namespace, from its sorted trie keys.
pub fn flat_root(namespace: &Namespace, entries: Vec<(Vec<u8>, Vec<u8>)>) -> B256 {
    if namespace.scheme == SchemeKind::Ethereum && namespace.keys == KeyMode::Hashed {
        let mut builder = HashBuilder::default();
        for (key, value) in &entries {
            builder.add_leaf(Nibbles::unpack(key), value);
        }
        return builder.root();
    }
    // alloy-trie has no values at branches, as keys of several lengths need them.
    let entries: Vec<_> = entries.into_iter().map(|(key, value)| (key, Leaf::Raw(value))).collect();
    by_scheme(namespace.scheme, &entries)
}

fn by_scheme(scheme: SchemeKind, entries: &[(Vec<u8>, Leaf)]) -> B256 {
    match scheme {
        SchemeKind::Ethereum => root::<Ethereum>(entries),
        SchemeKind::Blake3 => root::<Blake3>(entries),
    }
}

/// The root of one account's storage, from its sorted trie keys.
pub fn storage_root(scheme: SchemeKind, slots: &[(B256, U256)]) -> B256 {
    if scheme == SchemeKind::Ethereum {
        return alloy_trie::root::storage_root(slots.iter().copied());
    }
    let leaf = |value: &U256| Leaf::Slot(value.to_be_bytes_trimmed_vec());
    let entries: Vec<_> = slots.iter().map(|(key, value)| (key.to_vec(), leaf(value))).collect();
    by_scheme(scheme, &entries)
}

/// The root over accounts, from their sorted trie keys.
pub fn accounts_root(scheme: SchemeKind, accounts: &[(B256, Account, B256)]) -> B256 {
    if scheme == SchemeKind::Ethereum {
        return alloy_trie::root::state_root(accounts.iter().map(|(key, account, storage_root)| {
            let Account { nonce, balance, code_hash } = *account;
            (*key, TrieAccount { nonce, balance, storage_root: *storage_root, code_hash })
        }));
    }
    let leaf = |account: &Account, root: &B256| Leaf::Account(*account, *root);
    let entries: Vec<_> = accounts.iter().map(|(key, a, root)| (key.to_vec(), leaf(a, root))).collect();
    by_scheme(scheme, &entries)
}

/// The store's root over its namespaces, as its documentation has it.
pub fn store_root(namespaces: &[Namespace], roots: &[B256]) -> B256 {
    if let [root] = roots {
        return *root;
    }
    let mut pairs: Vec<(&str, B256)> =
        namespaces.iter().zip(roots).map(|(namespace, root)| (namespace.name.as_str(), *root)).collect();
    pairs.sort();
    let mut material = Vec::new();
    for (name, root) in pairs {
        material.push(name.len() as u8);
        material.extend_from_slice(name.as_bytes());
        material.extend_from_slice(root.as_slice());
    }
    B256::new(blake3::derive_key("bristlecone store root v1", &material))
}
