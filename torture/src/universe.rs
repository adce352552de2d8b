//! The keys that a sequence uses, and what a batch may say of them.

use bristlecone::{Account, B256, Bytes, KeyMode, Namespace, Shape, U256};

use crate::Rng;

/// One thing that a batch says, of the namespace with this place.
#[derive(Clone, Debug)]
pub enum Change {
    Put(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    SetAccount(usize, Vec<u8>, Account),
    DeleteAccount(usize, Vec<u8>),
    Wipe(usize, Vec<u8>),
    SetSlot(usize, Vec<u8>, B256, U256),
    Code(B256, Bytes),
}

/// The keys of one namespace that a sequence uses: flat keys, or addresses and slots.
#[derive(Clone, Debug)]
pub struct Keys {
    pub keys: Vec<Vec<u8>>,
    pub slots: Vec<B256>,
}

/// All keys that a sequence uses, by namespace.
#[derive(Clone, Debug)]
pub struct Universe {
    pub spaces: Vec<Keys>,
}

impl Universe {
    /// `scale` is the number of keys, about; slots are fewer.
    pub fn random(namespaces: &[Namespace], scale: usize, rng: &mut Rng) -> Self {
        let spaces = namespaces.iter().map(|namespace| {
            let accounts = namespace.shape == Shape::Accounts;
            let (keys, slots) = if accounts {
                let keys = *rng.pick(&[2, scale.div_ceil(12), scale.div_ceil(3)]);
                (keys.max(2), (scale / keys.max(2)).max(2))
            } else {
                (scale, 0)
            };
            let fixed = accounts || namespace.keys == KeyMode::Hashed;
            let keys = keys_of(namespace, keys, fixed, rng);
            let slots = keys_of(namespace, slots, true, rng);
            Keys { keys, slots: slots.iter().map(|slot| B256::from_slice(slot)).collect() }
        });
        Self { spaces: spaces.collect() }
    }
}

fn keys_of(namespace: &Namespace, count: usize, fixed: bool, rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    while keys.len() < count {
        let mut key = rng.bytes(32);
        // Raw keys share prefixes with keys before them, down to the last nibble.
        if namespace.keys == KeyMode::Raw && !keys.is_empty() && rng.chance(80) {
            let other = rng.pick(&keys).clone();
            let shared = rng.within(0, other.len());
            key.splice(..shared.min(32), other[..shared].iter().copied());
            if rng.chance(50) && shared > 0 {
                key[shared - 1] = other[shared - 1] ^ (1 << rng.below(8));
            }
        }
        if fixed {
            key.resize(32, 7);
        } else if rng.chance(60) {
            // One key in front of another: values at branches.
            key.truncate(rng.within(0, 6));
        }
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}
