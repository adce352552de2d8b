//! What the transactions of a block wrote, in all the versions that count, over the state before the block: the multi-version
//! memory of Block-STM.
//!
//! A place has at most one entry a transaction. An entry whose run was aborted stays as an *estimate*: the transaction will
//! most likely write there again, so who would read it waits. Fees of the beneficiary are entries that add to what stands
//! before them, so that transactions do not wait for each other's fees. Beside its entries a place keeps what it was before the
//! block, once somebody has read that: so a read looks in one map under one lock.

use std::sync::{
    Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};

use alloy_primitives::{
    Address, B256, U256,
    map::{AddressMap, B256Map, B256Set, HashMap},
};
use revm::{
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode},
};

use super::{
    cell::{Account, Body, Entries, Origins, Slot, Wipe},
    changed::Changed,
    scheduler::Run,
    speculation::Recorded,
};
use crate::{StateError, changes::Changes, db::State};

/// What is read or written as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The body of an account.
    Account(Address),
    /// A slot of its storage.
    Slot(Address, U256),
    /// That its storage was wiped.
    Wipe(Address),
}

/// What a run writes.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Account(Address, Body),
    Slot(Address, U256, U256),
    Wipe(Address),
}

/// A place that a run read, and where the value came from.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) place: Place,
    pub(super) origins: Origins,
}

/// A value found for a transaction: what it read or, if that is yet to be written, who will write it.
pub(super) type Found<T> = Result<(T, Origins), usize>;

#[derive(Debug, Default)]
struct Shard {
    accounts: AddressMap<Account>,
    slots: HashMap<(Address, U256), Slot>,
}

/// Places lie in one of these many maps, each under its own lock.
const SHARDS: usize = 64;

pub(super) struct Memory<'a, D> {
    state: &'a D,
    /// What the protocol changed on top of `state` before the first transaction.
    first: &'a Changes,
    spec: SpecId,
    shards: Vec<Mutex<Shard>>,
    wipes: Mutex<AddressMap<Wipe>>,
    /// Whether any account was wiped at all: mostly not, and then nobody looks.
    any_wipe: AtomicBool,
    /// What each transaction wrote last.
    written: Vec<Mutex<Vec<Place>>>,
    /// Codes that came with the block. By their hash, so it does not matter which run brought them.
    codes: RwLock<B256Map<Bytecode>>,
    any_code: AtomicBool,
    /// Hashes of blocks that were asked for.
    hashes: Mutex<Vec<(u64, B256)>>,
    reads: AtomicU64,
}

/// What an account is after a fee was paid to it: EIP-161 clears one that stays empty.
fn with_fee(spec: SpecId, before: Option<AccountInfo>, fee: U256) -> Option<AccountInfo> {
    let mut info = before.unwrap_or_default();
    info.balance = info.balance.saturating_add(fee);
    (!spec.is_enabled_in(SpecId::SPURIOUS_DRAGON) || !info.is_empty()).then_some(info)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a, D: State> Memory<'a, D> {
    /// For a block of so many transactions. `first` is what the protocol changed on top of `state`.
    pub(super) fn new(state: &'a D, first: &'a Changes, transactions: usize, spec: SpecId) -> Self {
        Self {
            state,
            first,
            spec,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            wipes: Mutex::default(),
            any_wipe: AtomicBool::new(false),
            written: (0..transactions).map(|_| Mutex::default()).collect(),
            codes: RwLock::default(),
            any_code: AtomicBool::new(false),
            hashes: Mutex::default(),
            reads: AtomicU64::new(0),
        }
    }

    /// Accounts and slots that were asked of the store.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    /// By the last bytes of both: who makes them alike gains contention and nothing else.
    fn shard(&self, address: Address, slot: U256) -> MutexGuard<'_, Shard> {
        let [.., last] = *address.0;
        let [low, ..] = slot.to_le_bytes::<32>();
        #[expect(clippy::indexing_slicing, reason = "a remainder of the number of shards")]
        lock(&self.shards[usize::from(last ^ low) % SHARDS])
    }

    fn account_shard(&self, address: Address) -> MutexGuard<'_, Shard> {
        self.shard(address, U256::ZERO)
    }

    fn written(&self, transaction: usize) -> MutexGuard<'_, Vec<Place>> {
        #[expect(clippy::indexing_slicing, reason = "transactions are numbered by the scheduler")]
        lock(&self.written[transaction])
    }

    /// The account before `transaction`: what was last written, with the fees after it.
    pub(super) fn account(
        &self,
        transaction: usize,
        address: Address,
    ) -> Result<Found<Option<AccountInfo>>, StateError> {
        let mut shard = self.account_shard(address);
        let cell = shard.accounts.entry(address).or_default();
        let walk = match cell.walk(transaction) {
            Ok(walk) => walk,
            Err(writer) => return Ok(Err(writer)),
        };
        let (body, paid) = (walk.body.or(cell.before.as_ref()).cloned(), walk.paid);
        let origins = walk.origins;
        drop(shard);
        let info = match body {
            Some(info) => info,
            None => self.account_before(address)?,
        };
        let info = match paid {
            Some(fees) => with_fee(self.spec, info, fees),
            None => info,
        };
        Ok(Ok((info, origins)))
    }

    /// The account before the block, asked of the store and noted. Not under the lock: two may ask the same, which harms nobody.
    fn account_before(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let info = match self.first.accounts.get(&address) {
            Some(change) => change.info.clone(),
            None => {
                self.reads.fetch_add(1, Relaxed);
                self.state.basic_ref(address)?
            }
        };
        self.know_account(address, info.clone());
        Ok(info)
    }

    /// The slot before `transaction`, where `wiped` is the last transaction before it that wiped the account's storage.
    pub(super) fn slot(
        &self,
        transaction: usize,
        address: Address,
        slot: U256,
        wiped: Option<usize>,
    ) -> Result<Found<U256>, StateError> {
        let key = (address, slot);
        let mut shard = self.shard(address, slot);
        let cell = shard.slots.entry(key).or_default();
        let newest = match cell.newest(transaction) {
            Ok(newest) => newest,
            Err(writer) => return Ok(Err(writer)),
        };
        let origins: Origins = newest.map(|entry| entry.run).into_iter().collect();
        // Within a transaction the wipe comes before its writes.
        let known = match newest.filter(|entry| Some(entry.run.transaction) >= wiped) {
            Some(entry) => Some(entry.value),
            None if wiped.is_some() => Some(U256::ZERO),
            None => cell.before,
        };
        drop(shard);
        if let Some(value) = known {
            return Ok(Ok((value, origins)));
        }
        let value = match self.first.accounts.get(&address) {
            Some(change) if change.slots.contains_key(&slot) => change.slots.get(&slot).copied(),
            Some(change) if change.wiped => Some(U256::ZERO),
            _ => None,
        };
        let value = match value {
            Some(value) => value,
            None => {
                self.reads.fetch_add(1, Relaxed);
                self.state.storage_ref(address, slot)?
            }
        };
        self.know_slot(key, value);
        Ok(Ok((value, origins)))
    }

    /// Who wiped the account's storage last before `transaction`.
    pub(super) fn wiped(&self, transaction: usize, address: Address) -> Result<Origins, usize> {
        if !self.any_wipe.load(SeqCst) {
            return Ok(Vec::new());
        }
        let wipes = lock(&self.wipes);
        let Some(cell) = wipes.get(&address) else { return Ok(Vec::new()) };
        Ok(cell.newest(transaction)?.map(|entry| entry.run).into_iter().collect())
    }

    /// The code with this hash: the block's, or the store's.
    pub(super) fn code(&self, hash: B256) -> Result<Bytecode, StateError> {
        if self.any_code.load(SeqCst)
            && let Some(code) = self.codes.read().unwrap_or_else(PoisonError::into_inner).get(&hash)
        {
            return Ok(code.clone());
        }
        match self.first.codes.get(&hash) {
            Some(code) => Ok(code.clone()),
            None => self.state.code_by_hash_ref(hash),
        }
    }

    /// Counts what was asked of the store elsewhere.
    pub(super) fn count_reads(&self, reads: u64) {
        self.reads.fetch_add(reads, Relaxed);
    }

    /// What an account was before the block.
    pub(super) fn know_account(&self, address: Address, info: Option<AccountInfo>) {
        self.account_shard(address).accounts.entry(address).or_default().before = Some(info);
    }

    /// What a slot was before the block.
    pub(super) fn know_slot(&self, slot: (Address, U256), value: U256) {
        self.shard(slot.0, slot.1).slots.entry(slot).or_default().before = Some(value);
    }

    pub(super) fn add_code(&self, hash: B256, code: Bytecode) {
        self.codes.write().unwrap_or_else(PoisonError::into_inner).entry(hash).or_insert(code);
        self.any_code.store(true, SeqCst);
    }

    pub(super) fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        let hash = self.state.block_hash_ref(number)?;
        lock(&self.hashes).push((number, hash));
        Ok(hash)
    }

    /// Reads accounts and slots ahead, their cache misses overlapping.
    pub(super) fn prefetch(
        &self,
        addresses: &[Address],
        slots: &[(Address, U256)],
    ) -> Result<(), StateError> {
        let untouched = |address: &Address| !self.first.accounts.contains_key(address);
        let addresses: Vec<Address> = addresses.iter().copied().filter(untouched).collect();
        let slots: Vec<(Address, U256)> =
            slots.iter().copied().filter(|(address, _)| untouched(address)).collect();
        self.reads.fetch_add((addresses.len() + slots.len()) as u64, Relaxed);
        for (address, info) in addresses.iter().zip(self.state.accounts(&addresses)?) {
            self.know_account(*address, info);
        }
        for (key, value) in slots.iter().zip(self.state.slots(&slots)?) {
            self.know_slot(*key, value);
        }
        Ok(())
    }

    /// Puts down what a run wrote, in place of what the transaction's last run did. Tells whether there is a place that the
    /// last one had not.
    pub(super) fn record(&self, run: Run, writes: Vec<Write>) -> bool {
        let mut before = self.written(run.transaction);
        let mut wrote_new = false;
        let mut places = Vec::with_capacity(writes.len());
        for write in writes {
            let (place, new) = match write {
                Write::Account(address, body) => {
                    let mut shard = self.account_shard(address);
                    (Place::Account(address), shard.accounts.entry(address).or_default().put(run, body))
                }
                Write::Slot(address, slot, value) => {
                    let mut shard = self.shard(address, slot);
                    let cell = shard.slots.entry((address, slot)).or_default();
                    (Place::Slot(address, slot), cell.put(run, value))
                }
                Write::Wipe(address) => {
                    self.any_wipe.store(true, SeqCst);
                    let mut wipes = lock(&self.wipes);
                    (Place::Wipe(address), wipes.entry(address).or_default().put(run, ()))
                }
            };
            wrote_new |= new;
            places.push(place);
        }
        for gone in before.iter().filter(|place| !places.contains(place)) {
            self.with(gone, |entries| entries.remove(run.transaction));
        }
        *before = places;
        wrote_new
    }

    /// The transaction's last run does not count: who would read what it wrote waits for the next one.
    pub(super) fn to_estimates(&self, transaction: usize) {
        for place in self.written(transaction).iter() {
            self.with(place, |entries| entries.to_estimate(transaction));
        }
    }

    /// Does this to the entries of a place that was written.
    fn with(&self, place: &Place, act: impl FnOnce(&mut dyn Entries)) {
        match place {
            Place::Account(address) => {
                if let Some(cell) = self.account_shard(*address).accounts.get_mut(address) {
                    act(cell);
                }
            }
            Place::Slot(address, slot) => {
                if let Some(cell) = self.shard(*address, *slot).slots.get_mut(&(*address, *slot)) {
                    act(cell);
                }
            }
            Place::Wipe(address) => {
                if let Some(cell) = lock(&self.wipes).get_mut(address) {
                    act(cell);
                }
            }
        }
    }

    /// Whether a run of `transaction` that read this would read the same now.
    pub(super) fn holds(&self, transaction: usize, reads: &[Read]) -> bool {
        reads.iter().all(|read| self.comes_from(transaction, &read.place, &read.origins))
    }

    /// Whether a value would come from these runs now.
    fn comes_from(&self, transaction: usize, place: &Place, origins: &[Run]) -> bool {
        let same =
            |newest: Result<Option<Run>, usize>| newest.is_ok_and(|newest| newest.as_slice() == origins);
        match place {
            Place::Account(address) => {
                let shard = self.account_shard(*address);
                let Some(cell) = shard.accounts.get(address) else { return origins.is_empty() };
                cell.walk(transaction).is_ok_and(|walk| walk.origins == origins)
            }
            Place::Slot(address, slot) => {
                let shard = self.shard(*address, *slot);
                let Some(cell) = shard.slots.get(&(*address, *slot)) else { return origins.is_empty() };
                same(cell.newest(transaction).map(|entry| entry.map(|entry| entry.run)))
            }
            Place::Wipe(address) => self.wiped(transaction, *address).is_ok_and(|now| now == origins),
        }
    }

    /// What each transaction wrote, and what they read of the state before the block. Of no use where an entry is still an estimate.
    pub(super) fn into_recorded(self) -> Recorded {
        let mut recorded = Recorded { writes: vec![Vec::new(); self.written.len()], ..Recorded::default() };
        let mut wrote = |run: Run, write: Write| {
            if let Some(writes) = recorded.writes.get_mut(run.transaction) {
                writes.push(write);
            }
        };
        for (address, cell) in self.wipes.into_inner().unwrap_or_else(PoisonError::into_inner) {
            cell.entries.into_iter().for_each(|entry| wrote(entry.run, Write::Wipe(address)));
        }
        for shard in self.shards {
            let Shard { accounts, slots } = shard.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (address, cell) in accounts {
                for entry in cell.entries {
                    wrote(entry.run, Write::Account(address, entry.value));
                }
                recorded.accounts.extend(cell.before.map(|info| (address, info)));
            }
            for (slot, cell) in slots {
                for entry in cell.entries {
                    wrote(entry.run, Write::Slot(slot.0, slot.1, entry.value));
                }
                recorded.slots.extend(cell.before.map(|value| (slot, value)));
            }
        }
        recorded.hashes = self.hashes.into_inner().unwrap_or_else(PoisonError::into_inner);
        recorded.codes = self.codes.into_inner().unwrap_or_else(PoisonError::into_inner);
        recorded
    }

    /// What all transactions changed together, to be put on top of what the protocol changed first. Fails where an entry is still an
    /// estimate, which would be a defect.
    pub(super) fn into_changes(self) -> Result<Changed, StateError> {
        let mut changed = Changed::default();
        let last = usize::MAX;
        let wipes = self.wipes.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (address, cell) in wipes {
            changed.wipes.extend(cell.entries.last().map(|entry| (address, entry.run.transaction)));
        }
        let mut hashes = B256Set::default();
        for shard in self.shards {
            let Shard { accounts, slots } = shard.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (address, cell) in accounts {
                hashes.extend(cell.entries.iter().filter_map(|entry| match &entry.value {
                    Body::Is(info) => info.as_ref().map(|info| info.code_hash),
                    Body::Paid(_) => None,
                }));
                let walk = cell.walk(last).map_err(StateError::Waits)?;
                let Some(fees) = walk.paid else {
                    changed.accounts.extend(walk.body.map(|body| (address, body.clone())));
                    if walk.body.is_none() {
                        changed.before.extend(cell.before.map(|info| (address, info)));
                    }
                    continue;
                };
                let before = match (walk.body, &cell.before) {
                    (Some(body), _) | (None, Some(body)) => body.clone(),
                    (None, None) => match self.first.accounts.get(&address) {
                        Some(change) => change.info.clone(),
                        None => self.state.basic_ref(address)?,
                    },
                };
                let after = with_fee(self.spec, before.clone(), fees);
                if walk.body.is_some() || after != before {
                    changed.accounts.push((address, after));
                } else {
                    changed.before.insert(address, before);
                }
            }
            for ((address, slot), cell) in slots {
                let Some(entry) = cell.newest(last).map_err(StateError::Waits)? else { continue };
                changed.slots.push((address, slot, entry.value, entry.run.transaction));
            }
        }
        changed.codes = self.codes.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Runs that do not count brought some too.
        changed.codes.retain(|hash, _| hashes.contains(hash));
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Address = Address::repeat_byte(7);

    fn run(transaction: usize, incarnation: u32) -> Run {
        Run { transaction, incarnation }
    }

    fn account(balance: u64) -> Option<AccountInfo> {
        Some(AccountInfo::from_balance(U256::from(balance)))
    }

    /// A state in which everybody has 100 and every slot holds 5.
    struct Plain;

    impl revm::DatabaseRef for Plain {
        type Error = StateError;

        fn basic_ref(&self, _: Address) -> Result<Option<AccountInfo>, StateError> {
            Ok(account(100))
        }

        fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
            Err(StateError::NoCode(hash))
        }

        fn storage_ref(&self, _: Address, _: U256) -> Result<U256, StateError> {
            Ok(U256::from(5))
        }

        fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
            Err(StateError::NoBlockHash(number))
        }
    }

    impl State for Plain {}

    fn read(memory: &Memory<'_, Plain>, transaction: usize) -> Found<Option<AccountInfo>> {
        memory.account(transaction, WHO).unwrap()
    }

    fn body(balance: u64) -> Write {
        Write::Account(WHO, Body::Is(account(balance)))
    }

    fn fee(fee: u64) -> Write {
        Write::Account(WHO, Body::Paid(U256::from(fee)))
    }

    #[test]
    fn fees_add_up_to_the_last_value_before_them() {
        let first = Changes::default();
        let memory = Memory::new(&Plain, &first, 9, SpecId::CANCUN);
        assert_eq!(read(&memory, 5), Ok((account(100), vec![])));
        assert!(memory.record(run(1, 0), vec![fee(3)]));
        assert!(memory.record(run(3, 2), vec![fee(4)]));
        assert_eq!(read(&memory, 5), Ok((account(107), vec![run(3, 2), run(1, 0)])));
        assert_eq!(read(&memory, 3), Ok((account(103), vec![run(1, 0)])));
        memory.record(run(2, 0), vec![body(50)]);
        assert_eq!(read(&memory, 5), Ok((account(54), vec![run(3, 2), run(2, 0)])));
        memory.to_estimates(2);
        assert_eq!(read(&memory, 5), Err(2));
        assert!(!memory.record(run(2, 1), vec![Write::Account(WHO, Body::Is(None))]));
        assert_eq!(read(&memory, 5), Ok((account(4), vec![run(3, 2), run(2, 1)])));
        // Nothing any more: the entry goes.
        memory.record(run(2, 2), vec![]);
        assert_eq!(read(&memory, 5), Ok((account(107), vec![run(3, 2), run(1, 0)])));
        assert_eq!(memory.reads(), 1);
        let mut changes = Changes::default();
        memory.into_changes().unwrap().add_to(&mut changes);
        assert_eq!(changes.accounts[&WHO].info, account(107));
    }

    #[test]
    fn reads_hold_until_somebody_before_writes() {
        let first = Changes::default();
        let memory = Memory::new(&Plain, &first, 9, SpecId::CANCUN);
        let at = U256::from(1);
        let reads = [Place::Slot(WHO, at), Place::Wipe(WHO)].map(|place| Read { place, origins: vec![] });
        assert!(memory.holds(4, &reads));
        memory.record(run(5, 0), vec![Write::Slot(WHO, at, U256::from(9))]);
        assert!(memory.holds(4, &reads), "a later transaction is none of our business");
        memory.record(run(2, 0), vec![Write::Wipe(WHO)]);
        assert!(!memory.holds(4, &reads));
        memory.record(run(2, 1), vec![]);
        assert!(memory.holds(4, &reads));
        memory.record(run(3, 0), vec![Write::Slot(WHO, at, U256::ZERO)]);
        assert!(!memory.holds(4, &reads));
    }

    #[test]
    fn a_wipe_takes_what_was_written_before_it_and_nothing_after() {
        let first = Changes::default();
        let memory = Memory::new(&Plain, &first, 9, SpecId::CANCUN);
        let [one, two, three] = [1, 2, 3].map(U256::from);
        memory.record(run(1, 0), vec![body(1), Write::Slot(WHO, one, one), Write::Slot(WHO, two, two)]);
        memory.record(run(4, 0), vec![Write::Wipe(WHO), body(7), Write::Slot(WHO, two, three)]);
        let slot = |transaction, slot| {
            let wiped = memory.wiped(transaction, WHO).unwrap().first().map(|run| run.transaction);
            memory.slot(transaction, WHO, slot, wiped).unwrap().unwrap().0
        };
        assert_eq!([slot(3, one), slot(3, two), slot(3, three)], [one, two, U256::from(5)]);
        assert_eq!([slot(6, one), slot(6, two), slot(6, three)], [U256::ZERO, three, U256::ZERO]);
        let mut changes = Changes::default();
        memory.into_changes().unwrap().add_to(&mut changes);
        let change = &changes.accounts[&WHO];
        assert_eq!((change.info.clone(), change.wiped), (account(7), true));
        assert_eq!(change.slots.iter().collect::<Vec<_>>(), [(&two, &three)]);
    }

    #[test]
    fn an_estimate_at_the_end_is_an_error() {
        let first = Changes::default();
        let memory = Memory::new(&Plain, &first, 2, SpecId::CANCUN);
        memory.record(run(1, 0), vec![body(1)]);
        memory.to_estimates(1);
        assert!(matches!(memory.into_changes(), Err(StateError::Waits(1))));
    }

    #[test]
    fn an_empty_account_that_got_a_fee_is_cleared_since_spurious_dragon() {
        let empty = Some(AccountInfo::default());
        assert_eq!(with_fee(SpecId::CANCUN, empty.clone(), U256::ZERO), None);
        assert_eq!(with_fee(SpecId::FRONTIER, None, U256::ZERO), empty);
        assert_eq!(with_fee(SpecId::CANCUN, None, U256::from(1)), account(1));
    }
}
