//! The final root, computed without Bristlecone: by alloy-trie for Ethereum's scheme, by a plain recursion over
//! `docs/blake3-scheme.md` for the native one.

use alloy_primitives::{B256, KECCAK256_EMPTY, U256, keccak256};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount};
use bristlecone::{Account, SchemeKind};

use super::workload::{Entity, Model};

/// The keys of a trie with what hashing makes of their values.
type Leaves<T> = Vec<(B256, T)>;

/// The root of everything that the model says of `version`. Costs seconds for a million keys.
pub(crate) fn root(model: &Model, version: u64, scheme: SchemeKind) -> B256 {
    let plan = model.plan();
    let population = plan.population(version);
    let mut flat: Leaves<[u8; 32]> = Vec::new();
    let mut accounts: Leaves<Account> = Vec::new();
    let mut slots: Vec<(B256, B256, U256)> = Vec::new();
    let hash = |bytes: &[u8]| match scheme {
        SchemeKind::Ethereum => keccak256(bytes),
        SchemeKind::Blake3 => B256::new(*blake3::hash(bytes).as_bytes()),
    };
    for index in 0..population {
        let Some(written) = model.written(index, version) else { continue };
        match plan.entity(index) {
            Entity::Flat(key) => flat.push((B256::new(key), plan.value(index, written))),
            Entity::Account(address) => {
                accounts.push((hash(address.as_slice()), plan.account(index, written)));
            }
            Entity::Slot(owner, slot) => {
                let value = plan.slot_value(index, written);
                slots.push((hash(owner.as_slice()), hash(slot.as_slice()), value));
            }
        }
    }
    flat.sort_unstable_by_key(|(key, _)| *key);
    accounts.sort_unstable_by_key(|(key, _)| *key);
    slots.sort_unstable_by_key(|(owner, slot, _)| (*owner, *slot));
    match (scheme, accounts.is_empty()) {
        (SchemeKind::Ethereum, true) => ethereum_flat(&flat),
        (SchemeKind::Ethereum, false) => ethereum_accounts(&accounts, &slots),
        (SchemeKind::Blake3, true) => blake3_flat(&flat),
        (SchemeKind::Blake3, false) => blake3_accounts(&accounts, &slots),
    }
}

fn ethereum_flat(flat: &[(B256, [u8; 32])]) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in flat {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

/// Each account with its slots, which are sorted by account and slot.
fn with_slots<'a>(
    accounts: &'a [(B256, Account)],
    slots: &'a [(B256, B256, U256)],
) -> impl Iterator<Item = (B256, &'a Account, &'a [(B256, B256, U256)])> {
    let mut rest = slots;
    accounts.iter().map(move |(key, account)| {
        let count = rest.partition_point(|(owner, ..)| owner <= key);
        let (own, after) = rest.split_at_checked(count).unwrap_or_default();
        rest = after;
        (*key, account, own)
    })
}

fn ethereum_accounts(accounts: &[(B256, Account)], slots: &[(B256, B256, U256)]) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, account, slots) in with_slots(accounts, slots) {
        let storage_root =
            alloy_trie::root::storage_root(slots.iter().map(|(_, slot, value)| (*slot, *value)));
        let value = TrieAccount::new(account.nonce, account.balance, storage_root, account.code_hash);
        builder.add_leaf(Nibbles::unpack(key), &alloy_rlp::encode(value));
    }
    builder.root()
}

fn blake3_flat(flat: &[(B256, [u8; 32])]) -> B256 {
    let leaves: Leaves<Vec<u8>> = flat.iter().map(|(key, value)| (*key, value.to_vec())).collect();
    Blake3::new().root(&leaves, 0)
}

fn blake3_accounts(accounts: &[(B256, Account)], slots: &[(B256, B256, U256)]) -> B256 {
    let scheme = Blake3::new();
    let leaves: Leaves<Vec<u8>> = with_slots(accounts, slots)
        .map(|(key, account, slots)| {
            let storage: Leaves<Vec<u8>> =
                slots.iter().map(|(_, slot, value)| (*slot, short(&value.to_be_bytes::<32>()))).collect();
            let mut payload = scheme.root(&storage, 1).to_vec();
            let nonce = short(&account.nonce.to_be_bytes());
            let balance = short(&account.balance.to_be_bytes::<32>());
            let code = account.code_hash != KECCAK256_EMPTY;
            payload.push(nonce.len() as u8 | if code { 0x80 } else { 0 });
            payload.push(balance.len() as u8);
            payload.extend(nonce);
            payload.extend(balance);
            if code {
                payload.extend(account.code_hash);
            }
            (key, payload)
        })
        .collect();
    scheme.root(&leaves, 2)
}

/// Big-endian without leading zeros.
fn short(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// The scheme of `docs/blake3-scheme.md`, for keys of 32 bytes.
struct Blake3 {
    leaf: [u8; 32],
    extension: [u8; 32],
    pair: [u8; 32],
    branch: [u8; 32],
    empty: [u8; 32],
}

impl Blake3 {
    fn new() -> Self {
        let key = |domain: &str| blake3::derive_key(&format!("bristlecone trie blake3 v1 {domain}"), &[]);
        Self {
            leaf: key("leaf"),
            extension: key("extension"),
            pair: key("pair"),
            branch: key("branch"),
            empty: key("empty"),
        }
    }

    /// The root over sorted leaves whose payloads are all of one kind.
    fn root(&self, leaves: &[(B256, Vec<u8>)], kind: u16) -> B256 {
        if leaves.is_empty() { B256::new(self.empty) } else { self.node(leaves, 0, kind) }
    }

    /// The node over leaves that share their first `depth` nibbles.
    fn node(&self, leaves: &[(B256, Vec<u8>)], depth: usize, kind: u16) -> B256 {
        let (Some((first, payload)), Some((last, _))) = (leaves.first(), leaves.last()) else {
            return B256::new(self.empty);
        };
        if leaves.len() == 1 {
            let mut bytes = ((64 - depth) as u16 | kind << 14).to_le_bytes().to_vec();
            bytes.extend(packed(first, depth, 64));
            bytes.extend(payload);
            return hash(&self.leaf, &bytes);
        }
        // Sorted: what the first and the last share, all share.
        let shared = (depth..64).find(|at| nibble(first, *at) != nibble(last, *at)).unwrap_or(64);
        if shared > depth {
            let mut bytes = ((shared - depth) as u16).to_le_bytes().to_vec();
            bytes.extend(packed(first, depth, shared));
            bytes.extend(self.node(leaves, shared, kind));
            return hash(&self.extension, &bytes);
        }
        let mut occupied = 0u16;
        let mut children = [None; 16];
        for part in leaves.chunk_by(|(one, _), (other, _)| nibble(one, depth) == nibble(other, depth)) {
            let place = part.first().map_or(0, |(key, _)| nibble(key, depth));
            occupied |= 1 << place;
            if let Some(child) = children.get_mut(usize::from(place)) {
                *child = Some(self.node(part, depth + 1, kind));
            }
        }
        let mut bytes = occupied.to_le_bytes().to_vec();
        bytes.extend(self.tree(&children).unwrap_or_default());
        hash(&self.branch, &bytes)
    }

    /// The binary tree over the children of a branch.
    fn tree(&self, children: &[Option<B256>]) -> Option<B256> {
        if let [child] = children {
            return *child;
        }
        let (low, high) = children.split_at_checked(children.len() / 2)?;
        match (self.tree(low), self.tree(high)) {
            (Some(low), Some(high)) => Some(hash(&self.pair, &[low.0, high.0].concat())),
            (one, other) => one.or(other),
        }
    }
}

fn hash(key: &[u8; 32], bytes: &[u8]) -> B256 {
    B256::new(*blake3::keyed_hash(key, bytes).as_bytes())
}

fn nibble(key: &B256, at: usize) -> u8 {
    let byte = key.get(at / 2).copied().unwrap_or_default();
    if at.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f }
}

/// The nibbles `from..to` packed: an odd one stands alone in the first byte.
fn packed(key: &B256, from: usize, to: usize) -> Vec<u8> {
    let mut nibbles: Vec<u8> = (from..to).map(|at| nibble(key, at)).collect();
    if !nibbles.len().is_multiple_of(2) {
        nibbles.insert(0, 0);
    }
    nibbles.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{b256, hex};

    #[test]
    fn the_keys_of_the_domains_are_those_in_the_page() {
        let scheme = Blake3::new();
        assert_eq!(
            hex::encode(scheme.leaf),
            "459a4a2d5e565802ff04a250a6435c898b85b6904f0fb540cf69a3eb5e814695"
        );
        assert_eq!(
            scheme.root(&[], 0),
            b256!("5cd714cc9eeb191b36edda870b0b876833bf5d56e1b3c9574b44c4338fdadfce")
        );
    }

    #[test]
    fn a_branch_hashes_to_the_example_in_the_page() {
        let scheme = Blake3::new();
        let mut children = [None; 16];
        for place in [0u8, 1, 2, 9, 15] {
            children[usize::from(place)] = Some(B256::repeat_byte(place));
        }
        let mut bytes = vec![0x07, 0x82];
        bytes.extend(scheme.tree(&children).unwrap());
        let expected = b256!("c7093dab8ac41f535291ae80c7ab7084f0d417345da09b0c1161c0d07f522405");
        assert_eq!(hash(&scheme.branch, &bytes), expected);
    }
}
