//! A store as it should be: a map for each version.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bristlecone::{Account, B256, Bytes, Namespace, Shape, U256};

use crate::naive::{accounts_root, flat_root, storage_root, store_root, trie_key};
use crate::{Change, Universe};

pub type Slots = BTreeMap<B256, U256>;

/// One namespace of one version. Keys are those of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Space {
    Flat(BTreeMap<Vec<u8>, Vec<u8>>),
    Accounts(BTreeMap<Vec<u8>, (Account, Slots)>),
}

impl Space {
    pub fn empty(shape: Shape) -> Self {
        match shape {
            Shape::Flat => Self::Flat(BTreeMap::new()),
            Shape::Accounts => Self::Accounts(BTreeMap::new()),
        }
    }

    pub fn flat(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        match self {
            Self::Flat(map) => map,
            Self::Accounts(_) => panic!("not flat"),
        }
    }

    pub fn accounts(&self) -> &BTreeMap<Vec<u8>, (Account, Slots)> {
        match self {
            Self::Accounts(map) => map,
            Self::Flat(_) => panic!("no accounts"),
        }
    }

    /// Flat entries by trie key.
    pub fn sorted(&self, namespace: &Namespace) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out: Vec<_> =
            self.flat().iter().map(|(key, value)| (trie_key(namespace, key), value.clone())).collect();
        out.sort();
        out
    }

    fn root(&self, namespace: &Namespace) -> B256 {
        match self {
            Self::Flat(_) => flat_root(namespace, self.sorted(namespace)),
            Self::Accounts(map) => {
                let mut accounts: Vec<(B256, Account, B256)> = map
                    .iter()
                    .map(|(address, (account, slots))| {
                        let key = B256::from_slice(&trie_key(namespace, address));
                        (key, *account, storage_root(namespace.scheme, &sorted_slots(namespace, slots)))
                    })
                    .collect();
                accounts.sort_by_key(|(key, ..)| *key);
                accounts_root(namespace.scheme, &accounts)
            }
        }
    }
}

/// Slots by trie key.
pub fn sorted_slots(namespace: &Namespace, slots: &Slots) -> Vec<(B256, U256)> {
    let mut out: Vec<_> = slots
        .iter()
        .map(|(slot, value)| (B256::from_slice(&trie_key(namespace, slot.as_slice())), *value))
        .collect();
    out.sort();
    out
}

/// A key that a version was told something about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Touched {
    Flat(usize, Vec<u8>),
    Account(usize, Vec<u8>),
    Slot(usize, Vec<u8>, B256),
}

/// One version.
#[derive(Clone, Debug)]
pub struct State {
    pub spaces: Vec<Space>,
    pub code: BTreeMap<B256, Bytes>,
    pub touched: HashSet<Touched>,
    pub roots: Vec<B256>,
    pub root: B256,
}

/// What a batch says of one account.
#[derive(Default)]
struct Said {
    body: Option<Option<Account>>,
    wipe: bool,
    slots: Slots,
}

impl State {
    pub fn empty(namespaces: &[Namespace]) -> Self {
        let spaces = namespaces.iter().map(|namespace| Space::empty(namespace.shape)).collect();
        let mut this = Self {
            spaces,
            code: BTreeMap::new(),
            touched: HashSet::new(),
            roots: Vec::new(),
            root: B256::ZERO,
        };
        this.hash(namespaces);
        this
    }

    fn hash(&mut self, namespaces: &[Namespace]) {
        self.roots =
            self.spaces.iter().zip(namespaces).map(|(space, namespace)| space.root(namespace)).collect();
        self.root = store_root(namespaces, &self.roots);
    }

    /// The state after `changes`; `None` where they set a slot of an account that is absent then.
    pub fn after(&self, namespaces: &[Namespace], changes: &[Change]) -> Option<Self> {
        let mut next = Self { touched: HashSet::new(), ..self.clone() };
        let mut said: BTreeMap<(usize, Vec<u8>), Said> = BTreeMap::new();
        for change in changes {
            match change.clone() {
                Change::Put(at, key, value) => {
                    next.touched.insert(Touched::Flat(at, key.clone()));
                    next.flat_mut(at).insert(key, value);
                }
                Change::Delete(at, key) => {
                    next.flat_mut(at).remove(&key);
                    next.touched.insert(Touched::Flat(at, key));
                }
                Change::Code(hash, code) => drop(next.code.insert(hash, code)),
                Change::SetAccount(at, address, account) => {
                    said.entry((at, address)).or_default().body = Some(Some(account));
                }
                Change::DeleteAccount(at, address) => {
                    let said = said.entry((at, address)).or_default();
                    (said.body, said.wipe) = (Some(None), true);
                }
                Change::Wipe(at, address) => said.entry((at, address)).or_default().wipe = true,
                Change::SetSlot(at, address, slot, value) => {
                    said.entry((at, address)).or_default().slots.insert(slot, value);
                }
            }
        }
        for ((at, address), said) in said {
            next.tell(at, &address, said)?;
        }
        next.hash(namespaces);
        Some(next)
    }

    fn flat_mut(&mut self, at: usize) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        match &mut self.spaces[at] {
            Space::Flat(map) => map,
            Space::Accounts(_) => panic!("not flat"),
        }
    }

    fn tell(&mut self, at: usize, address: &[u8], said: Said) -> Option<()> {
        let Space::Accounts(map) = &mut self.spaces[at] else { panic!("no accounts") };
        let slot_touched = |slot: B256| Touched::Slot(at, address.to_vec(), slot);
        if said.wipe
            && let Some((_, slots)) = map.get_mut(address)
        {
            self.touched.extend(slots.keys().map(|slot| slot_touched(*slot)));
            slots.clear();
        }
        if said.body.is_some() {
            self.touched.insert(Touched::Account(at, address.to_vec()));
        }
        match said.body {
            Some(Some(account)) => map.entry(address.to_vec()).or_default().0 = account,
            Some(None) => drop(map.remove(address)),
            None => {}
        }
        self.touched.extend(said.slots.keys().map(|slot| slot_touched(*slot)));
        for (slot, value) in said.slots {
            match map.get_mut(address) {
                Some((_, slots)) if value.is_zero() => drop(slots.remove(&slot)),
                Some((_, slots)) => drop(slots.insert(slot, value)),
                None if value.is_zero() => {}
                None => return None,
            }
        }
        Some(())
    }
}

/// All versions of a store.
#[derive(Clone, Debug)]
pub struct Model {
    pub namespaces: Vec<Namespace>,
    pub first: u64,
    pub universe: Universe,
    states: Vec<Arc<State>>,
    empty: State,
}

impl Model {
    pub fn new(namespaces: Vec<Namespace>, first: u64, universe: Universe) -> Self {
        let empty = State::empty(&namespaces);
        Self { namespaces, first, universe, states: Vec::new(), empty }
    }

    /// The versions there are.
    pub fn versions(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.states.len() as u64
    }

    pub fn last_version(&self) -> Option<u64> {
        (self.states.len() as u64).checked_sub(1).map(|at| self.first + at)
    }

    pub fn at(&self, version: u64) -> &State {
        &self.states[(version - self.first) as usize]
    }

    /// The state that the next batch changes.
    pub fn latest(&self) -> &State {
        self.states.last().map_or(&self.empty, |state| state)
    }

    /// Makes the next version; its number. `None` where the batch does not fit.
    pub fn commit(&mut self, changes: &[Change]) -> Option<u64> {
        let next = self.latest().after(&self.namespaces, changes)?;
        self.states.push(Arc::new(next));
        self.last_version()
    }

    /// Makes `state` the next version; its number.
    pub fn push(&mut self, state: State) -> u64 {
        self.states.push(Arc::new(state));
        self.first + self.states.len() as u64 - 1
    }

    /// Forgets the versions after `last`.
    pub fn cut(&mut self, last: Option<u64>) {
        self.states.truncate(last.map_or(0, |last| (last + 1 - self.first) as usize));
    }

    /// Codes that any version ever had.
    pub fn codes(&self) -> BTreeSet<B256> {
        self.states.iter().flat_map(|state| state.code.keys().copied()).collect()
    }
}
