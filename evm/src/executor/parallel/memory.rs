//! What the transactions of a block wrote, in all the versions that count: the multi-version memory of Block-STM.
//!
//! A place has at most one entry a transaction. An entry whose run was aborted stays as an *estimate*: the transaction will
//! most likely write there again, so who would read it waits. Fees of the beneficiary are entries that add to what stands
//! before them, so that transactions do not wait for each other's fees.

use std::{
    collections::BTreeMap,
    hash::BuildHasher,
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use alloy_primitives::{
    Address, B256, U256,
    map::{B256Map, DefaultHashBuilder, HashMap},
};
use revm::{
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode},
};

use super::scheduler::Run;

/// What is read or written as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// The body of an account.
    Account(Address),
    /// A slot of its storage.
    Slot(Address, U256),
    /// That its storage was wiped.
    Wipe(Address),
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// The body, or that there is none.
    Account(Option<AccountInfo>),
    /// This much more than before, and touched.
    Fee(U256),
    Slot(U256),
    Wiped,
}

/// The runs that a read value came from, newest first; none: from the state before the block.
pub(super) type Origins = Vec<Run>;

/// A place that a run read, and where the value came from.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) place: Place,
    pub(super) origins: Origins,
}

#[derive(Debug)]
struct Entry {
    incarnation: u32,
    estimate: bool,
    value: Value,
}

type Shard = HashMap<Place, BTreeMap<usize, Entry>>;

/// Entries of a place lie in one of these many maps, each under its own lock.
const SHARDS: usize = 256;

pub(super) struct Memory {
    spec: SpecId,
    hasher: DefaultHashBuilder,
    shards: Vec<Mutex<Shard>>,
    /// What each transaction wrote last.
    written: Vec<Mutex<Vec<Place>>>,
    /// Whether any account was wiped at all: mostly not, and then nobody looks.
    any_wipe: AtomicBool,
    /// Codes that came with the block. By their hash, so it does not matter which run brought them.
    codes: RwLock<B256Map<Bytecode>>,
}

/// What an account is after a fee was paid to it: EIP-161 clears one that stays empty.
pub(super) fn with_fee(spec: SpecId, before: Option<AccountInfo>, fee: U256) -> Option<AccountInfo> {
    let mut info = before.unwrap_or_default();
    info.balance = info.balance.saturating_add(fee);
    (!spec.is_enabled_in(SpecId::SPURIOUS_DRAGON) || !info.is_empty()).then_some(info)
}

/// A value found for a transaction: what it read or, if that is yet to be written, who will write it.
pub(super) type Found<T> = Result<(T, Origins), usize>;

impl Memory {
    pub(super) fn new(transactions: usize, spec: SpecId) -> Self {
        Self {
            spec,
            hasher: DefaultHashBuilder::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            written: (0..transactions).map(|_| Mutex::default()).collect(),
            any_wipe: AtomicBool::new(false),
            codes: RwLock::default(),
        }
    }

    fn shard(&self, place: &Place) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(place) as usize % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "a remainder of the number of shards")]
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self, transaction: usize) -> MutexGuard<'_, Vec<Place>> {
        #[expect(clippy::indexing_slicing, reason = "transactions are numbered by the scheduler")]
        self.written[transaction].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account before `transaction`: what was last written, with the fees after it. The outer `None` is that only fees
    /// were written, if anything: `before` gives what they add to.
    pub(super) fn account<E>(
        &self,
        transaction: usize,
        address: Address,
        before: impl FnOnce() -> Result<Option<AccountInfo>, E>,
    ) -> Result<Found<Option<AccountInfo>>, E> {
        let (mut origins, mut fees, mut written) = (Vec::new(), U256::ZERO, None);
        let place = Place::Account(address);
        if let Some(entries) = self.shard(&place).get(&place) {
            for (writer, entry) in entries.range(..transaction).rev() {
                if entry.estimate {
                    return Ok(Err(*writer));
                }
                origins.push(Run { transaction: *writer, incarnation: entry.incarnation });
                match &entry.value {
                    Value::Fee(fee) => fees = fees.saturating_add(*fee),
                    Value::Account(info) => {
                        written = Some(info.clone());
                        break;
                    }
                    Value::Slot(_) | Value::Wiped => {}
                }
            }
        }
        let paid = origins.len() > usize::from(written.is_some());
        let info = match written {
            Some(info) => info,
            None => before()?,
        };
        let info = if paid { with_fee(self.spec, info, fees) } else { info };
        Ok(Ok((info, origins)))
    }

    /// The slot before `transaction`, if one before it wrote it.
    pub(super) fn slot(&self, transaction: usize, address: Address, slot: U256) -> Found<Option<U256>> {
        let value = |value: &Value| if let Value::Slot(value) = value { Some(*value) } else { None };
        self.newest(transaction, Place::Slot(address, slot), value)
    }

    /// Who wiped the account's storage last before `transaction`.
    pub(super) fn wiped(&self, transaction: usize, address: Address) -> Found<Option<()>> {
        if !self.any_wipe.load(SeqCst) {
            return Ok((None, Vec::new()));
        }
        self.newest(transaction, Place::Wipe(address), |_| Some(()))
    }

    fn newest<T>(
        &self,
        transaction: usize,
        place: Place,
        take: impl FnOnce(&Value) -> Option<T>,
    ) -> Found<Option<T>> {
        let shard = self.shard(&place);
        let newest = shard.get(&place).and_then(|entries| entries.range(..transaction).next_back());
        let Some((writer, entry)) = newest else { return Ok((None, Vec::new())) };
        if entry.estimate {
            return Err(*writer);
        }
        let origin = Run { transaction: *writer, incarnation: entry.incarnation };
        Ok((take(&entry.value), vec![origin]))
    }

    /// The code with this hash, if the block brought it.
    pub(super) fn code(&self, hash: B256) -> Option<Bytecode> {
        self.codes.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()
    }

    pub(super) fn add_code(&self, hash: B256, code: Bytecode) {
        self.codes.write().unwrap_or_else(PoisonError::into_inner).entry(hash).or_insert(code);
    }

    /// Puts down what a run wrote, in place of what the transaction's last run did. Tells whether there is a place that the
    /// last one had not.
    pub(super) fn record(&self, run: Run, writes: Vec<(Place, Value)>) -> bool {
        let mut before = self.written(run.transaction);
        let mut wrote_new = false;
        let mut places = Vec::with_capacity(writes.len());
        for (place, value) in writes {
            if matches!(value, Value::Wiped) {
                self.any_wipe.store(true, SeqCst);
            }
            let entry = Entry { incarnation: run.incarnation, estimate: false, value };
            wrote_new |=
                self.shard(&place).entry(place).or_default().insert(run.transaction, entry).is_none();
            places.push(place);
        }
        for gone in before.iter().filter(|place| !places.contains(place)) {
            if let Some(entries) = self.shard(gone).get_mut(gone) {
                entries.remove(&run.transaction);
            }
        }
        *before = places;
        wrote_new
    }

    /// The transaction's last run does not count: who would read what it wrote waits for the next one.
    pub(super) fn to_estimates(&self, transaction: usize) {
        for place in self.written(transaction).iter() {
            if let Some(entry) =
                self.shard(place).get_mut(place).and_then(|entries| entries.get_mut(&transaction))
            {
                entry.estimate = true;
            }
        }
    }

    /// Whether a run of `transaction` that read this would read the same now.
    pub(super) fn holds(&self, transaction: usize, reads: &[Read]) -> bool {
        reads.iter().all(|read| self.origins(transaction, &read.place).is_some_and(|now| now == read.origins))
    }

    /// Where a value would come from now; `None` if it is yet to be written.
    fn origins(&self, transaction: usize, place: &Place) -> Option<Origins> {
        match place {
            Place::Account(address) => {
                let nothing = || Ok::<_, std::convert::Infallible>(None);
                let Ok(found) = self.account(transaction, *address, nothing);
                Some(found.ok()?.1)
            }
            Place::Slot(address, slot) => Some(self.slot(transaction, *address, *slot).ok()?.1),
            Place::Wipe(address) => Some(self.wiped(transaction, *address).ok()?.1),
        }
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

    fn read(memory: &Memory, transaction: usize) -> Found<Option<AccountInfo>> {
        let Ok(found) = memory.account(transaction, WHO, || Ok::<_, std::convert::Infallible>(account(100)));
        found
    }

    #[test]
    fn fees_add_up_to_the_last_value_before_them() {
        let memory = Memory::new(9, SpecId::CANCUN);
        let place = Place::Account(WHO);
        assert_eq!(read(&memory, 5), Ok((account(100), vec![])));
        assert!(memory.record(run(1, 0), vec![(place, Value::Fee(U256::from(3)))]));
        assert!(memory.record(run(3, 2), vec![(place, Value::Fee(U256::from(4)))]));
        assert_eq!(read(&memory, 5), Ok((account(107), vec![run(3, 2), run(1, 0)])));
        assert_eq!(read(&memory, 3), Ok((account(103), vec![run(1, 0)])));
        memory.record(run(2, 0), vec![(place, Value::Account(account(50)))]);
        assert_eq!(read(&memory, 5), Ok((account(54), vec![run(3, 2), run(2, 0)])));
        memory.to_estimates(2);
        assert_eq!(read(&memory, 5), Err(2));
        assert!(!memory.record(run(2, 1), vec![(place, Value::Account(None))]));
        assert_eq!(read(&memory, 5), Ok((account(4), vec![run(3, 2), run(2, 1)])));
        // Nothing any more: the entry goes.
        memory.record(run(2, 2), vec![]);
        assert_eq!(read(&memory, 5), Ok((account(107), vec![run(3, 2), run(1, 0)])));
    }

    #[test]
    fn reads_hold_until_somebody_before_writes() {
        let memory = Memory::new(9, SpecId::CANCUN);
        let slot = Place::Slot(WHO, U256::from(1));
        let reads = [slot, Place::Wipe(WHO)].map(|place| Read { place, origins: vec![] });
        assert!(memory.holds(4, &reads));
        memory.record(run(5, 0), vec![(slot, Value::Slot(U256::from(9)))]);
        assert!(memory.holds(4, &reads), "a later transaction is none of our business");
        memory.record(run(2, 0), vec![(Place::Wipe(WHO), Value::Wiped)]);
        assert!(!memory.holds(4, &reads));
        memory.record(run(2, 1), vec![]);
        assert!(memory.holds(4, &reads));
        memory.record(run(3, 0), vec![(slot, Value::Slot(U256::ZERO))]);
        assert!(!memory.holds(4, &reads));
    }

    #[test]
    fn an_empty_account_that_got_a_fee_is_cleared_since_spurious_dragon() {
        let empty = Some(AccountInfo::default());
        assert_eq!(with_fee(SpecId::CANCUN, empty.clone(), U256::ZERO), None);
        assert_eq!(with_fee(SpecId::FRONTIER, None, U256::ZERO), empty);
        assert_eq!(with_fee(SpecId::CANCUN, None, U256::from(1)), account(1));
    }
}
