//! A snapshot against the model. What does not fit is reported, so that a test can ask whether a planted defect is noticed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;

use bristlecone::{
    Account, B256, Blake3, Ethereum, Key, KeyMode, KeyRange, Namespace, SchemeKind, Shape, Since, Snapshot,
    Store, U256, View,
};
use bristlecone_trie::Scheme;
use bristlecone_trie::proof::{ProofScheme, verify, verify_account, verify_many, verify_slot};

use crate::model::{Slots, Touched, sorted_slots};
use crate::naive::{storage_root, trie_key};
use crate::{Model, Rng, State};

/// Nothing, or what is wrong.
pub type Check<T = ()> = Result<T, String>;

/// How much of a snapshot is looked at, beyond reading every key.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    pub root: bool,
    pub scans: bool,
    /// Keys to prove, in each namespace.
    pub proofs: usize,
}

impl Depth {
    pub const READS: Self = Self { root: false, scans: false, proofs: 0 };
    pub const ROOTS: Self = Self { root: true, scans: false, proofs: 0 };
    pub const ALL: Self = Self { root: true, scans: true, proofs: 6 };
}

/// What a report begins with that is not of an error of the store, but of an answer.
const WRONG: &str = "answered wrongly";

/// Whether a report says that the store gave another answer than it should have, and not an error.
pub fn is_wrong(report: &str) -> bool {
    report.contains(WRONG)
}

fn same<T: PartialEq + Debug>(found: &T, wanted: &T, what: impl FnOnce() -> String) -> Check {
    if found == wanted { Ok(()) } else { Err(format!("{WRONG}, {}: {found:?}, not {wanted:?}", what())) }
}

/// The first error of the store among answers that are all looked at; a wrong answer ends that.
#[derive(Default)]
struct First(Option<String>);

impl First {
    fn note(&mut self, checked: Check) -> Check {
        match checked {
            Err(what) if !is_wrong(&what) => drop(self.0.get_or_insert(what)),
            checked => checked?,
        }
        Ok(())
    }

    fn end(self) -> Check {
        self.0.map_or(Ok(()), Err)
    }
}

fn go<T, E: std::fmt::Display>(result: Result<T, E>, what: impl FnOnce() -> String) -> Check<T> {
    result.map_err(|error| format!("{}: {error}", what()))
}

/// All versions of `store` are those of `model`, every key of every one of them.
pub fn store(store: &Store, model: &Model, depth: Depth, rng: &mut Rng) -> Check {
    versions(store, model)?;
    for version in model.versions() {
        version_at(store, model, version, depth, rng)?;
    }
    Ok(())
}

/// The list of versions is that of the model, with right roots where it has any.
pub fn versions(store: &Store, model: &Model) -> Check {
    same(&store.latest_version(), &model.last_version(), || "the latest version".into())?;
    let infos = store.versions();
    let listed: Vec<u64> = infos.iter().map(|info| info.version).collect();
    same(&listed, &model.versions().collect(), || "the list of versions".into())?;
    for pair in infos.windows(2) {
        if pair[0].stamp >= pair[1].stamp {
            return Err(format!("stamps do not grow: {pair:?}"));
        }
    }
    for info in infos {
        if let Some(root) = info.root {
            same(&root, &model.at(info.version).root, || {
                format!("the listed root of version {}", info.version)
            })?;
        }
    }
    Ok(())
}

pub fn version_at(store: &Store, model: &Model, version: u64, depth: Depth, rng: &mut Rng) -> Check {
    let snapshot = go(store.at(version), || format!("version {version}"))?;
    self::snapshot(&snapshot, model, version, depth, rng)
}

/// `snapshot` is version `version` of the model.
pub fn snapshot(snapshot: &Snapshot, model: &Model, version: u64, depth: Depth, rng: &mut Rng) -> Check {
    same(&snapshot.version(), &version, || "the version of a snapshot".into())?;
    self::state(snapshot, model, model.at(version), depth, rng)
}

/// `snapshot` is `state`.
pub fn state(snapshot: &Snapshot, model: &Model, state: &State, depth: Depth, rng: &mut Rng) -> Check {
    let version = snapshot.version();
    let told = |what: String| format!("version {version}: {what}");
    let mut first = First::default();
    for at in 0..model.namespaces.len() {
        let view = go(snapshot.namespace(&model.namespaces[at].name), || told("a namespace".into()))?;
        let looked = match model.namespaces[at].shape {
            Shape::Flat => flat(&view, model, state, at, depth, rng),
            Shape::Accounts => accounts(&view, model, state, at, depth, rng),
        };
        first.note(looked.map_err(told))?;
        if depth.root {
            let told = || told(format!("the root of {}", view.info().describe()));
            same(&go(view.root(), told)?, &state.roots[at], told)?;
        }
    }
    for hash in model.codes() {
        let code = go(snapshot.code(hash), || told(format!("code {hash}")));
        let wanted = state.code.get(&hash);
        first.note(code.and_then(|code| same(&code.as_ref(), &wanted, || told(format!("code {hash}")))))?;
    }
    first.end()?;
    if depth.root {
        same(&go(snapshot.root(), || told("the root".into()))?, &state.root, || told("the root".into()))?;
    }
    Ok(())
}

fn flat(view: &View<'_>, model: &Model, state: &State, at: usize, depth: Depth, rng: &mut Rng) -> Check {
    let (namespace, map) = (&model.namespaces[at], state.spaces[at].flat());
    let keys = &model.universe.spaces[at].keys;
    let mut first = First::default();
    for key in keys {
        let told = || format!("get {key:02x?}");
        let found = go(view.get(key), told);
        first.note(found.and_then(|found| same(&found.as_ref(), &map.get(key), told)))?;
    }
    first.end()?;
    let many = go(view.get_many(keys), || "get_many".into())?;
    let wanted: Vec<_> = keys.iter().map(|key| map.get(key).cloned()).collect();
    same(&many, &wanted, || "get_many".into())?;
    if depth.scans {
        flat_scans(view, namespace, &state.spaces[at].sorted(namespace), rng)?;
    }
    if depth.proofs > 0 {
        flat_multiproof(view, model, state, at, rng)?;
    }
    for _ in 0..depth.proofs {
        // One that was never put, now and then.
        let key = if rng.chance(20) { rng.bytes(32) } else { rng.pick(keys).clone() };
        let told = || format!("the proof of {key:02x?}");
        let proof = go(view.prove(&key), told)?;
        same(&proof.key, &trie_key(namespace, &key), told)?;
        same(&proof.value.as_ref(), &map.get(&key), told)?;
        let root = state.roots[at];
        let proven = match namespace.scheme {
            SchemeKind::Ethereum => verify::<Ethereum>(root, &proof.key, &proof.nodes),
            SchemeKind::Blake3 => verify::<Blake3>(root, &proof.key, &proof.nodes),
        };
        same(&go(proven, told)?.as_ref(), &map.get(&key), told)?;
    }
    Ok(())
}

/// Many keys in one proof, one of them twice, and some that are absent.
fn flat_multiproof(view: &View<'_>, model: &Model, state: &State, at: usize, rng: &mut Rng) -> Check {
    let (namespace, map) = (&model.namespaces[at], state.spaces[at].flat());
    let mut keys: Vec<Vec<u8>> =
        (0..rng.below(6)).map(|_| rng.pick(&model.universe.spaces[at].keys).clone()).collect();
    keys.push(rng.bytes(32));
    keys.push(keys[0].clone());
    let told = || format!("the proof of {keys:02x?}");
    let many = go(view.prove_many(&keys), told)?;
    let wanted: Vec<_> = keys.iter().map(|key| map.get(key).cloned()).collect();
    same(&many.values, &wanted, told)?;
    same(&many.keys, &keys.iter().map(|key| trie_key(namespace, key)).collect(), told)?;
    let proven = match namespace.scheme {
        SchemeKind::Ethereum => verify_many::<Ethereum>(state.roots[at], &many.keys, &many.proof),
        SchemeKind::Blake3 => verify_many::<Blake3>(state.roots[at], &many.keys, &many.proof),
    };
    same(&go(proven, told)?, &wanted, told)
}

fn flat_scans(view: &View<'_>, namespace: &Namespace, sorted: &[(Vec<u8>, Vec<u8>)], rng: &mut Rng) -> Check {
    let scan = |range: KeyRange| -> Check<Vec<(Vec<u8>, Vec<u8>)>> {
        let entries = go(view.iter(range.clone()), || format!("{range:?}"))?;
        entries.map(|entry| go(entry, || format!("{range:?}"))).collect()
    };
    same(&scan(KeyRange::all())?, &sorted.to_vec(), || "a scan of everything".into())?;
    let bound = |rng: &mut Rng| -> Bound<Vec<u8>> {
        let mut key = match sorted {
            [] => rng.bytes(2),
            _ => rng.pick(sorted).0.clone(),
        };
        if rng.chance(50) {
            let len = rng.within(0, key.len());
            key.truncate(len);
        }
        if rng.chance(20) {
            key.push(0xff);
        }
        match rng.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(key),
            _ => Bound::Excluded(key),
        }
    };
    for _ in 0..3 {
        let (start, end) = (bound(rng), bound(rng));
        let (start, end) = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
        let inside = |key: &[u8]| {
            (match start {
                Bound::Unbounded => true,
                Bound::Included(start) => key >= start,
                Bound::Excluded(start) => key > start,
            }) && (match end {
                Bound::Unbounded => true,
                Bound::Included(end) => key <= end,
                Bound::Excluded(end) => key < end,
            })
        };
        let wanted: Vec<_> = sorted.iter().filter(|(key, _)| inside(key)).cloned().collect();
        same(&scan(KeyRange::between(start, end))?, &wanted, || {
            format!("a scan of {start:02x?}..{end:02x?}")
        })?;
        let prefix = match start {
            Bound::Unbounded => &[0xff][..],
            Bound::Included(key) | Bound::Excluded(key) => &key[..key.len().min(2)],
        };
        let wanted: Vec<_> = sorted.iter().filter(|(key, _)| key.starts_with(prefix)).cloned().collect();
        same(&scan(KeyRange::prefix(prefix))?, &wanted, || {
            format!("a scan of the prefix {prefix:02x?} of {}", namespace.describe())
        })?;
    }
    Ok(())
}

fn accounts(view: &View<'_>, model: &Model, state: &State, at: usize, depth: Depth, rng: &mut Rng) -> Check {
    let (namespace, map) = (&model.namespaces[at], state.spaces[at].accounts());
    let keys = &model.universe.spaces[at];
    let none = Slots::new();
    let mut first = First::default();
    for address in &keys.keys {
        let told = || format!("account {address:02x?}");
        let here = map.get(address);
        let account = go(view.account(address), told);
        first.note(account.and_then(|found| same(&found, &here.map(|(account, _)| *account), told)))?;
        let slots = here.map_or(&none, |(_, slots)| slots);
        for slot in &keys.slots {
            let told = || format!("slot {slot} of {address:02x?}");
            let wanted = slots.get(slot).copied().unwrap_or_default();
            let found = go(view.slot(address, *slot), told);
            first.note(found.and_then(|found| same(&found, &wanted, told)))?;
        }
    }
    first.end()?;
    if depth.scans {
        account_scans(view, namespace, map, &keys.keys, rng)?;
    }
    for _ in 0..depth.proofs {
        let address = if rng.chance(20) { rng.bytes(32) } else { rng.pick(&keys.keys).clone() };
        let mut slots: Vec<B256> = (0..rng.below(4)).map(|_| *rng.pick(&keys.slots)).collect();
        if rng.chance(20) {
            slots.push(B256::from_slice(&rng.bytes(32)));
        }
        let here = map.get(&address);
        let root = state.roots[at];
        let proven = match namespace.scheme {
            SchemeKind::Ethereum => account_proof::<Ethereum>(view, namespace, root, &address, &slots, here),
            SchemeKind::Blake3 => account_proof::<Blake3>(view, namespace, root, &address, &slots, here),
        };
        proven.map_err(|what| format!("the proof of account {address:02x?}: {what}"))?;
    }
    Ok(())
}

fn account_scans(
    view: &View<'_>,
    namespace: &Namespace,
    map: &BTreeMap<Vec<u8>, (Account, Slots)>,
    addresses: &[Vec<u8>],
    rng: &mut Rng,
) -> Check {
    let mut wanted: Vec<(B256, Account)> = map
        .iter()
        .map(|(address, (account, _))| (B256::from_slice(&trie_key(namespace, address)), *account))
        .collect();
    wanted.sort_by_key(|(key, _)| *key);
    let scan = go(view.iter_accounts(), || "a scan of accounts".into())?;
    let found: Vec<_> = go(scan.collect::<Result<_, _>>(), || "a scan of accounts".into())?;
    same(&found, &wanted, || "a scan of accounts".into())?;
    for _ in 0..3 {
        let address = rng.pick(addresses);
        let told = || format!("a scan of the slots of {address:02x?}");
        let scan = go(view.iter_slots(address), told)?;
        let found: Vec<(B256, U256)> = go(scan.collect::<Result<_, _>>(), told)?;
        let wanted = map.get(address).map(|(_, slots)| sorted_slots(namespace, slots)).unwrap_or_default();
        same(&found, &wanted, told)?;
    }
    Ok(())
}

fn account_proof<S: ProofScheme + Scheme>(
    view: &View<'_>,
    namespace: &Namespace,
    root: B256,
    address: &[u8],
    slots: &[B256],
    here: Option<&(Account, Slots)>,
) -> Check {
    let none = Slots::new();
    let stored = here.map_or(&none, |(_, slots)| slots);
    let proof = go(view.prove_account(address, slots), || "proving".into())?;
    let wanted_root = storage_root(namespace.scheme, &sorted_slots(namespace, stored));
    let account = here.map(|(account, _)| *account);
    same(&proof.account, &account, || "the account".into())?;
    same(&proof.storage_root, &wanted_root, || "the storage root".into())?;
    same(&go(view.storage_root(address), String::new)?, &wanted_root, || "the storage root alone".into())?;
    same(&proof.key.to_vec(), &trie_key(namespace, address), || "the key".into())?;
    let proven = go(verify_account::<S>(root, proof.key.as_slice(), &proof.nodes), || "verifying".into())?;
    same(&proven, &account.map(|account| (account, wanted_root)), || "what is proven".into())?;
    same(&proof.slots.len(), &slots.len(), || "the number of slots".into())?;
    for (asked, slot) in slots.iter().zip(&proof.slots) {
        let told = || format!("slot {asked}");
        let value = stored.get(asked).copied();
        same(&(slot.slot, slot.value), &(*asked, value.unwrap_or_default()), told)?;
        same(&slot.key.to_vec(), &trie_key(namespace, asked.as_slice()), told)?;
        if account.is_some() {
            let proven = verify_slot::<S>(wanted_root, slot.key.as_slice(), &slot.nodes);
            same(&go(proven, told)?, &value, told)?;
        }
    }
    if namespace.keys == KeyMode::Hashed {
        let verified = match namespace.scheme {
            SchemeKind::Ethereum => bristlecone::verify_account::<Ethereum>(root, address, &proof),
            SchemeKind::Blake3 => bristlecone::verify_account::<Blake3>(root, address, &proof),
        };
        same(&go(verified, || "verify_account".into())?, &account, || "verify_account".into())?;
    }
    Ok(())
}

/// Every question to `snapshot` ends with an error, of which `ended` says whether it is the right one.
pub fn is_refused(
    snapshot: &Snapshot,
    model: &Model,
    ended: impl Fn(&str, Option<bristlecone::Error>) -> Check,
) -> Check {
    ended("the root", snapshot.root().err())?;
    ended("code", snapshot.code(B256::ZERO).err())?;
    for namespace in &model.namespaces {
        let view = go(snapshot.namespace(&namespace.name), || "a namespace".into())?;
        ended("the root of a namespace", view.root().err())?;
        let (key, slot) = (&[7; 32][..], B256::ZERO);
        match namespace.shape {
            Shape::Flat => {
                ended("get", view.get(key).err())?;
                ended("get_many", view.get_many(&[key, key]).err())?;
                ended("a scan", view.iter(KeyRange::all()).err())?;
                ended("a proof", view.prove(key).err())?;
                ended("changed_since", view.changed_since(Key::Flat(key), snapshot).err())?;
            }
            Shape::Accounts => {
                ended("account", view.account(key).err())?;
                ended("slot", view.slot(key, slot).err())?;
                ended("account_many", view.account_many(&[key]).err())?;
                ended("a scan", view.iter_accounts().err())?;
                ended("a proof", view.prove_account(key, &[slot]).err())?;
                ended("changed_since", view.changed_since(Key::Account(key), snapshot).err())?;
            }
        }
    }
    Ok(())
}

/// `newer` is not built on `older`, and says so.
pub fn is_no_ancestor(older: &Snapshot, newer: &Snapshot, model: &Model) -> Check {
    for (at, namespace) in model.namespaces.iter().enumerate() {
        let view = go(newer.namespace(&namespace.name), || "a namespace".into())?;
        for key in &model.universe.spaces[at].keys {
            let key = if namespace.shape == Shape::Flat { Key::Flat(key) } else { Key::Account(key) };
            same(&go(view.changed_since(key, older), String::new)?, &Since::NotAnAncestor, || {
                format!("{key:?} from {older:?} to {newer:?}")
            })?;
        }
    }
    Ok(())
}

/// What `newer` says of changes since `older`: never *unchanged* of values that differ, and *unchanged* at least of what
/// no batch in between spoke of.
pub fn changes_between(model: &Model, older: &Snapshot, newer: &Snapshot) -> Check {
    let (from, to) = (older.version(), newer.version());
    let states: Option<Vec<&State>> = (from <= to).then(|| (from..=to).map(|at| model.at(at)).collect());
    changes_along(model, older, newer, states.as_deref())
}

/// The same, of versions and proposals: `line` are the states from the older one to the newer one; none where the one does not descend from the other.
pub fn changes_along(model: &Model, older: &Snapshot, newer: &Snapshot, line: Option<&[&State]>) -> Check {
    let (from, to) = (older.version(), newer.version());
    let told = |key: &Touched| format!("{key:02x?} from version {from} to {to}");
    let judge = |key: Touched, differs: bool, said: bristlecone::Result<Since>| -> Check {
        let said = go(said, || told(&key))?;
        let Some(line) = line else { return same(&said, &Since::NotAnAncestor, || told(&key)) };
        match said {
            Since::Unchanged if differs => Err(format!("{}: said to be unchanged", told(&key))),
            Since::Changed if !line[1..].iter().any(|state| state.touched.contains(&key)) => {
                Err(format!("{}: said to be changed, and nobody spoke of it", told(&key)))
            }
            Since::NotAnAncestor => Err(format!("{}: said to be no ancestor", told(&key))),
            _ => Ok(()),
        }
    };
    let nothing = State::empty(&model.namespaces);
    let (before, after) = match line {
        Some([before, .., after]) => (*before, *after),
        Some([both]) => (*both, *both),
        _ => (&nothing, &nothing),
    };
    for (at, namespace) in model.namespaces.iter().enumerate() {
        let view = go(newer.namespace(&namespace.name), || "a namespace".into())?;
        let keys = &model.universe.spaces[at];
        let (before, after) = (&before.spaces[at], &after.spaces[at]);
        for key in &keys.keys {
            if namespace.shape == Shape::Flat {
                let differs = before.flat().get(key) != after.flat().get(key);
                judge(Touched::Flat(at, key.clone()), differs, view.changed_since(Key::Flat(key), older))?;
                continue;
            }
            let (before, after) = (before.accounts().get(key), after.accounts().get(key));
            let differs = before.map(|(account, _)| account) != after.map(|(account, _)| account);
            judge(Touched::Account(at, key.clone()), differs, view.changed_since(Key::Account(key), older))?;
            for slot in &keys.slots {
                let value =
                    |side: Option<&(Account, Slots)>| side.and_then(|(_, slots)| slots.get(slot).copied());
                let said = view.changed_since(Key::Slot(key, *slot), older);
                judge(Touched::Slot(at, key.clone(), *slot), value(before) != value(after), said)?;
            }
        }
    }
    Ok(())
}
