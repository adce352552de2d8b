//! What a block changes: collected from the EVM, read back by the transactions after, committed as one batch.

use alloy_primitives::{
    Address, B256, U256,
    map::{AddressMap, B256Map, Entry, HashMap},
};
use bristlecone::{Account, Batch};
use revm::{
    Database, DatabaseCommit, DatabaseRef,
    database::BundleState,
    state::{AccountInfo, Bytecode, EvmState},
};

use crate::StateError;

/// What became of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// Its body now; `None`: there is no such account.
    pub info: Option<AccountInfo>,
    /// Whether its storage went before `slots` were written.
    pub wiped: bool,
    /// The slots that were written, with their last values.
    pub slots: HashMap<U256, U256>,
}

/// What one transaction left of an account that it changed. That an account was touched is no change: else all who call one
/// contract would wait for each other.
pub(crate) struct Left {
    /// Its body; `None`: it is gone.
    pub(crate) info: Option<AccountInfo>,
    /// Whether that is another than before.
    pub(crate) info_changed: bool,
    /// Whether its storage went, before `slots` were written.
    pub(crate) wiped: bool,
    pub(crate) slots: Vec<(U256, U256)>,
    /// Code that came with it.
    pub(crate) code: Option<(B256, Bytecode)>,
}

impl Left {
    /// `None` where nothing changed. EIP-161 is in it where the fork has it: revm marks on finishing what it must not clear.
    pub(crate) fn of(account: revm::state::Account) -> Option<Self> {
        if !account.is_touched() {
            return None;
        }
        if account.is_selfdestructed() || account.is_empty() && !account.is_created() {
            // One that never was need not go.
            let was = account.is_selfdestructed() || !account.is_loaded_as_not_existing();
            return was.then(|| Self {
                info: None,
                info_changed: true,
                wiped: true,
                slots: Vec::new(),
                code: None,
            });
        }
        let slots = account.storage.iter().filter(|(_, slot)| slot.is_changed());
        let slots: Vec<_> = slots.map(|(slot, value)| (*slot, value.present_value)).collect();
        let wiped = account.is_created();
        let info_changed = wiped || account.is_changed();
        if !info_changed && slots.is_empty() {
            return None;
        }
        let before = account.original_info().code_hash;
        let mut info = account.info;
        // The code of every contract that ran is there too, and is in the store already.
        let code = info.code.take().filter(|_| info.code_hash != before).map(|code| (info.code_hash, code));
        // An account without code says so; the code of others is asked for by its hash when it is needed.
        info.code = info.is_empty_code_hash().then(Bytecode::default);
        Some(Self { info: Some(info), info_changed, wiped, slots, code })
    }
}

/// The accounts that changed, and the codes that came.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// By address.
    pub accounts: AddressMap<AccountChange>,
    /// By hash, each once.
    pub codes: B256Map<Bytecode>,
}

impl Changes {
    /// Adds what one transaction (or one system call) left in revm's journal: self-destructs and created accounts, and accounts
    /// cleared by EIP-161 where the fork has it.
    pub fn apply(&mut self, state: EvmState) {
        for (address, account) in state {
            let Some(left) = Left::of(account) else { continue };
            let Some(info) = left.info else {
                self.delete(address);
                continue;
            };
            let change = self.accounts.entry(address).or_default();
            if left.wiped {
                change.wiped = true;
                change.slots.clear();
            }
            change.slots.extend(left.slots);
            change.info = Some(info);
            if let Some((hash, code)) = left.code {
                self.codes.entry(hash).or_insert(code);
            }
        }
    }

    /// Sets the body of an account; its storage stays as it is.
    pub fn set_info(&mut self, address: Address, info: AccountInfo) {
        self.accounts.entry(address).or_default().info = Some(info);
    }

    /// Removes an account and its storage.
    pub fn delete(&mut self, address: Address) {
        let gone = AccountChange { info: None, wiped: true, slots: HashMap::default() };
        self.accounts.insert(address, gone);
    }

    /// As one batch, to be committed on the state that the block was executed on. Codes go in by their hash, those of
    /// EIP-7702 included.
    pub fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        self.add_to(&mut batch, "");
        batch
    }

    /// Adds them to `batch`, on the accounts of a namespace of the store; the empty name is the first.
    pub fn add_to(&self, batch: &mut Batch, namespace: &str) {
        for (hash, code) in self.codes.iter().filter(|(_, code)| !code.is_empty()) {
            batch.set_code(*hash, code.original_bytes().0);
        }
        let mut batch = batch.namespace(namespace);
        for (address, change) in &self.accounts {
            let address = address.as_slice();
            let Some(info) = &change.info else {
                batch.delete_account(address);
                continue;
            };
            if change.wiped {
                batch.wipe_storage(address);
            }
            let account = Account { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash };
            batch.set_account(address, &account);
            for (slot, value) in &change.slots {
                batch.set_slot(address, B256::from(*slot), *value);
            }
        }
    }
}

/// From revm's own collection of changes, for those who execute with its `State`.
impl From<&BundleState> for Changes {
    fn from(bundle: &BundleState) -> Self {
        let accounts = bundle.state.iter().map(|(address, account)| {
            let slots = account.storage.iter().map(|(slot, value)| (*slot, value.present_value));
            let change = AccountChange {
                info: account.info.clone(),
                wiped: account.was_destroyed(),
                slots: slots.collect(),
            };
            (*address, change)
        });
        let codes = bundle.contracts.iter().filter(|(_, code)| !code.is_empty());
        Self {
            accounts: accounts.collect(),
            codes: codes.map(|(hash, code)| (*hash, code.clone())).collect(),
        }
    }
}

/// A state with changes on top, for one who executes transactions in turn. What was read once is kept, so that no
/// account or slot is asked for twice.
#[derive(Debug)]
pub struct Overlay<'a, D> {
    base: &'a D,
    changes: Changes,
    accounts: AddressMap<Option<AccountInfo>>,
    slots: HashMap<(Address, U256), U256>,
    reads: u64,
}

impl<'a, D: DatabaseRef<Error = StateError>> Overlay<'a, D> {
    /// Nothing changed yet.
    pub fn new(base: &'a D) -> Self {
        Self::with(base, Changes::default())
    }

    /// `changes` on top of `base`.
    pub fn with(base: &'a D, changes: Changes) -> Self {
        let (accounts, slots) = (AddressMap::default(), HashMap::default());
        Self { base, changes, accounts, slots, reads: 0 }
    }

    /// The body of an account as it is now.
    pub fn info(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        if let Some(change) = self.changes.accounts.get(&address) {
            return Ok(change.info.clone());
        }
        match self.accounts.entry(address) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(room) => {
                self.reads += 1;
                Ok(room.insert(self.base.basic_ref(address)?).clone())
            }
        }
    }

    /// Adds to a balance, making the account where there is none. `None` is a sum past 2^256 - 1.
    pub fn pay(&mut self, address: Address, amount: U256) -> Result<Option<()>, StateError> {
        let mut info = self.info(address)?.unwrap_or_default();
        let Some(sum) = info.balance.checked_add(amount) else { return Ok(None) };
        info.balance = sum;
        self.changes.set_info(address, info);
        Ok(Some(()))
    }

    /// The state below.
    pub fn base(&self) -> &'a D {
        self.base
    }

    /// The changes so far.
    pub fn changes_mut(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// All changes, at the end.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// Accounts and slots that were asked of the state below.
    pub fn reads(&self) -> u64 {
        self.reads
    }
}

impl<D: DatabaseRef<Error = StateError>> Database for Overlay<'_, D> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.info(address)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateError> {
        match self.changes.codes.get(&hash) {
            Some(code) => Ok(code.clone()),
            None => self.base.code_by_hash_ref(hash),
        }
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        if let Some(change) = self.changes.accounts.get(&address) {
            if let Some(value) = change.slots.get(&slot) {
                return Ok(*value);
            }
            if change.wiped {
                return Ok(U256::ZERO);
            }
        }
        match self.slots.entry((address, slot)) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(room) => {
                self.reads += 1;
                Ok(*room.insert(self.base.storage_ref(address, slot)?))
            }
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.base.block_hash_ref(number)
    }
}

impl<D> DatabaseCommit for Overlay<'_, D> {
    fn commit(&mut self, state: EvmState) {
        self.changes.apply(state);
    }
}
