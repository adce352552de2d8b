//! Diffs and histories against the model.

use std::collections::BTreeMap;

use bristlecone::{B256, Bytes, Difference, HistoryEnd, Key, Namespace, Shape, Snapshot, StoredKey, Value};

use crate::naive::trie_key;
use crate::{Check, Model, Rng, Space};

type Contents = BTreeMap<StoredKey, Value>;

fn hash(namespace: &Namespace, key: &[u8]) -> B256 {
    B256::from_slice(&trie_key(namespace, key))
}

/// Everything of one namespace by the keys of the trie. An account is in front of its slots: `order` has them so.
fn contents(namespace: &Namespace, space: &Space) -> Contents {
    let mut out = Contents::new();
    match space {
        Space::Flat(map) => {
            let flat = |(key, value): (&Vec<u8>, &Vec<u8>)| {
                (StoredKey::Flat(trie_key(namespace, key)), Value::Flat(Bytes::copy_from_slice(value)))
            };
            out.extend(map.iter().map(flat));
        }
        Space::Accounts(map) => {
            for (address, (body, slots)) in map {
                let account = hash(namespace, address);
                out.insert(StoredKey::Account(account), Value::Account(*body));
                out.extend(slots.iter().map(|(slot, value)| {
                    let slot = hash(namespace, slot.as_slice());
                    (StoredKey::Slot { account, slot }, Value::Slot(*value))
                }));
            }
        }
    }
    out
}

fn order(key: &StoredKey) -> Vec<u8> {
    match key {
        StoredKey::Flat(key) => key.clone(),
        StoredKey::Account(account) => account.to_vec(),
        StoredKey::Slot { account, slot } => [account.as_slice(), slot.as_slice()].concat(),
    }
}

/// What differs between two versions of one namespace of the model.
pub fn differences(model: &Model, at: usize, from: u64, to: u64) -> Vec<Difference> {
    let namespace = &model.namespaces[at];
    let side = |version| contents(namespace, &model.at(version).spaces[at]);
    let (before, after) = (side(from), side(to));
    let mut keys: Vec<&StoredKey> = before.keys().chain(after.keys()).collect();
    keys.sort_by_cached_key(|key| order(key));
    keys.dedup();
    keys.retain(|key| before.get(*key) != after.get(*key));
    let get = |side: &Contents, key: &StoredKey| side.get(key).cloned();
    keys.iter()
        .map(|key| Difference { key: (*key).clone(), before: get(&before, key), after: get(&after, key) })
        .collect()
}

/// The diff of two snapshots is that of the model, in every namespace.
pub fn diff(model: &Model, before: &Snapshot, after: &Snapshot) -> Check {
    let (from, to) = (before.version(), after.version());
    for (at, namespace) in model.namespaces.iter().enumerate() {
        let told = |what: &dyn std::fmt::Display| {
            format!("the diff of {from} and {to} of {}: {what}", namespace.describe())
        };
        let views =
            before.namespace(&namespace.name).and_then(|b| Ok((b, after.namespace(&namespace.name)?)));
        let (before, after) = views.map_err(|error| told(&error))?;
        let found: Result<Vec<Difference>, _> = before.diff(&after).and_then(Iterator::collect);
        let found = found.map_err(|error| told(&error))?;
        let wanted = differences(model, at, from, to);
        if found != wanted {
            return Err(told(&format!("{found:02x?}, not {wanted:02x?}")));
        }
    }
    Ok(())
}

/// What a key held over the versions of the model up to `version`, newest first.
fn revisions(
    model: &Model,
    version: u64,
    get: impl Fn(&Space) -> Option<Value>,
    at: usize,
) -> Vec<(u64, Option<Value>)> {
    let mut out = Vec::new();
    let mut last = None;
    for version in model.first..=version {
        let now = get(&model.at(version).spaces[at]);
        if now != last {
            out.push((version, now.clone()));
            last = now;
        }
    }
    out.reverse();
    out
}

/// The histories of some keys of every namespace are those of the model.
pub fn history(model: &Model, snapshot: &Snapshot, keys: usize, rng: &mut Rng) -> Check {
    for (at, namespace) in model.namespaces.iter().enumerate() {
        let universe = &model.universe.spaces[at];
        for _ in 0..keys {
            let key = rng.pick(&universe.keys);
            if namespace.shape == Shape::Flat {
                let get = |space: &Space| {
                    space.flat().get(key).map(|value| Value::Flat(Bytes::copy_from_slice(value)))
                };
                one(model, snapshot, at, Key::Flat(key), &get)?;
                continue;
            }
            let body = |space: &Space| space.accounts().get(key).map(|(body, _)| Value::Account(*body));
            one(model, snapshot, at, Key::Account(key), &body)?;
            let slot = rng.pick(&universe.slots);
            let value = |space: &Space| {
                space
                    .accounts()
                    .get(key)
                    .and_then(|(_, slots)| slots.get(slot))
                    .map(|value| Value::Slot(*value))
            };
            one(model, snapshot, at, Key::Slot(key, *slot), &value)?;
        }
    }
    Ok(())
}

fn one(
    model: &Model,
    snapshot: &Snapshot,
    at: usize,
    key: Key<'_>,
    get: &dyn Fn(&Space) -> Option<Value>,
) -> Check {
    let version = snapshot.version();
    let name = &model.namespaces[at].name;
    let told = |what: &dyn std::fmt::Display| {
        format!("the history of {key:02x?} in `{name}` up to version {version}: {what}")
    };
    let history = snapshot.namespace(name).and_then(|view| view.history(key));
    let mut history = history.map_err(|error| told(&error))?;
    let found: Result<Vec<_>, _> =
        history.by_ref().map(|one| one.map(|one| (one.version, one.value))).collect();
    let found = found.map_err(|error| told(&error))?;
    let wanted = revisions(model, version, get, at);
    if found != wanted {
        return Err(told(&format!("{found:02x?}, not {wanted:02x?}")));
    }
    match history.end() {
        Some(HistoryEnd::Beginning) => Ok(()),
        end => Err(told(&format!("it ends with {end:?}"))),
    }
}
