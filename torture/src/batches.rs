//! Random keys, random batches.

use bristlecone::{Account, B256, Batch, Namespace, SchemeKind, U256};

use crate::{Change, Model, Rng, Space};

/// The batch that says `changes`.
pub fn batch_of(namespaces: &[Namespace], changes: &[Change]) -> Batch {
    let mut batch = Batch::new();
    let name = |at: &usize| namespaces[*at].name.as_str();
    for change in changes {
        match change {
            Change::Put(at, key, value) => drop(batch.namespace(name(at)).put(key, value)),
            Change::Delete(at, key) => drop(batch.namespace(name(at)).delete(key)),
            Change::SetAccount(at, address, account) => {
                batch.namespace(name(at)).set_account(address, account);
            }
            Change::DeleteAccount(at, address) => {
                batch.namespace(name(at)).delete_account(address);
            }
            Change::Wipe(at, address) => drop(batch.namespace(name(at)).wipe_storage(address)),
            Change::SetSlot(at, address, slot, value) => {
                batch.namespace(name(at)).set_slot(address, *slot, *value);
            }
            Change::Code(hash, code) => drop(batch.set_code(*hash, code.clone())),
        }
    }
    batch
}

/// How the next batch is made.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Grow,
    Mixed,
    Shrink,
    Clear,
}

fn value(namespace: &Namespace, rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(40) {
        0 => rng.within(1000, 6000),
        1..=4 => 32,
        5 if namespace.scheme == SchemeKind::Blake3 => 0,
        _ => rng.within(1, 40),
    };
    rng.bytes(len)
}

fn account(rng: &mut Rng) -> Account {
    let code_hash =
        if rng.chance(30) { B256::from_slice(&rng.bytes(32)) } else { Account::default().code_hash };
    let nonce = rng.next_u64() >> rng.below(64);
    Account { nonce, balance: word(rng), code_hash }
}

fn word(rng: &mut Rng) -> U256 {
    let len = rng.within(0, 32);
    U256::from_be_slice(&rng.bytes(len))
}

/// A random batch for `model`. It may set slots of absent accounts only where `bad` says so.
pub fn random(model: &Model, largest: usize, bad: bool, rng: &mut Rng) -> Vec<Change> {
    let mut changes = Vec::new();
    for at in 0..model.namespaces.len() {
        if model.namespaces.len() > 1 && rng.chance(25) {
            continue;
        }
        let mood = match rng.below(20) {
            0..8 => Mood::Grow,
            8..15 => Mood::Mixed,
            15..19 => Mood::Shrink,
            _ => Mood::Clear,
        };
        let count = match rng.below(10) {
            0 => 0,
            1..6 => rng.within(1, 4.min(largest)),
            6..9 => rng.within(1, largest.div_ceil(4)),
            _ => largest,
        };
        match model.latest().spaces[at] {
            Space::Flat(_) => flat(model, at, mood, count, rng, &mut changes),
            Space::Accounts(_) => accounts(model, at, mood, count, bad, rng, &mut changes),
        }
    }
    if rng.chance(6) {
        let len = rng.within(0, 3000);
        let code = rng.bytes(len);
        changes.push(Change::Code(alloy_primitives::keccak256(&code), code.into()));
    }
    changes
}

fn flat(model: &Model, at: usize, mood: Mood, count: usize, rng: &mut Rng, out: &mut Vec<Change>) {
    let keys = &model.universe.spaces[at].keys;
    let namespace = &model.namespaces[at];
    let there = model.latest().spaces[at].flat();
    if let Mood::Clear = mood {
        let all = rng.chance(50);
        out.extend(there.keys().filter(|_| all || rng.chance(90)).map(|key| Change::Delete(at, key.clone())));
        return;
    }
    let deletes = match mood {
        Mood::Grow => 5,
        Mood::Mixed => 35,
        Mood::Shrink | Mood::Clear => 90,
    };
    for _ in 0..count {
        let key = rng.pick(keys).clone();
        out.push(match there.get(&key) {
            _ if rng.chance(deletes) => Change::Delete(at, key),
            // What is there already, put again.
            Some(value) if rng.chance(10) => Change::Put(at, key, value.clone()),
            _ => Change::Put(at, key, value(namespace, rng)),
        });
    }
}

fn accounts(
    model: &Model,
    at: usize,
    mood: Mood,
    count: usize,
    bad: bool,
    rng: &mut Rng,
    out: &mut Vec<Change>,
) {
    let keys = &model.universe.spaces[at];
    let there = model.latest().spaces[at].accounts();
    let start = out.len();
    if let Mood::Clear = mood {
        let wipes = rng.chance(50);
        out.extend(there.keys().map(|address| match wipes {
            true => Change::Wipe(at, address.clone()),
            false => Change::DeleteAccount(at, address.clone()),
        }));
        return;
    }
    // An account gets most of its slots together, so that its storage spreads over pages.
    let mut address = rng.pick(&keys.keys).clone();
    for _ in 0..count {
        if rng.chance(30) {
            address = rng.pick(&keys.keys).clone();
        }
        let (slot, shrinks) = (*rng.pick(&keys.slots), matches!(mood, Mood::Shrink));
        out.push(match rng.below(100) {
            0..12 => Change::SetAccount(at, address.clone(), account(rng)),
            12..15 => match there.get(&address) {
                Some((account, _)) => Change::SetAccount(at, address.clone(), *account),
                None => Change::DeleteAccount(at, address.clone()),
            },
            15..18 => Change::DeleteAccount(at, address.clone()),
            18..22 => Change::Wipe(at, address.clone()),
            22..40 => Change::SetSlot(at, address.clone(), slot, U256::ZERO),
            _ if shrinks => Change::SetSlot(at, address.clone(), slot, U256::ZERO),
            40..45 => {
                let same = there.get(&address).and_then(|(_, slots)| slots.get(&slot));
                Change::SetSlot(at, address.clone(), slot, same.copied().unwrap_or_default())
            }
            _ => Change::SetSlot(at, address.clone(), slot, word(rng)),
        });
    }
    if !bad {
        make_fit(model, at, start, rng, out);
    }
}

/// Lets every account exist whose slots are set.
fn make_fit(model: &Model, at: usize, start: usize, rng: &mut Rng, out: &mut Vec<Change>) {
    let there = model.latest().spaces[at].accounts();
    let mut last: std::collections::BTreeMap<Vec<u8>, (bool, bool)> = std::collections::BTreeMap::new();
    for change in &out[start..] {
        let (address, is_there, sets) = match change {
            Change::SetAccount(_, address, _) => (address, Some(true), false),
            Change::DeleteAccount(_, address) => (address, Some(false), false),
            Change::SetSlot(_, address, _, value) => (address, None, !value.is_zero()),
            _ => continue,
        };
        let entry = last.entry(address.clone()).or_insert((there.contains_key(address), false));
        entry.0 = is_there.unwrap_or(entry.0);
        entry.1 |= sets;
    }
    for (address, (is_there, sets)) in last {
        if sets && !is_there {
            out.push(Change::SetAccount(at, address, account(rng)));
        }
    }
}
