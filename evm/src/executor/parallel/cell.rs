//! What the transactions of a block wrote to one place: its entries, in the order of the transactions, and what may be read of them.

use alloy_primitives::U256;
use revm::state::AccountInfo;

use super::scheduler::Run;

/// What becomes of the body of an account.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// This, or there is none.
    Is(Option<AccountInfo>),
    /// This much more than before, and touched.
    Paid(U256),
}

/// The runs that a read value came from, newest first; none: from the state before the block.
pub(super) type Origins = Vec<Run>;

#[derive(Debug)]
pub(super) struct Entry<V> {
    pub(super) run: Run,
    estimate: bool,
    pub(super) value: V,
}

/// All that is known of a place.
#[derive(Debug)]
pub(super) struct Cell<B, V> {
    /// What it was before the block, if anybody has asked.
    pub(super) before: Option<B>,
    /// Ascending by transaction.
    pub(super) entries: Vec<Entry<V>>,
}

impl<B, V> Default for Cell<B, V> {
    fn default() -> Self {
        Self { before: None, entries: Vec::new() }
    }
}

impl<B, V> Cell<B, V> {
    /// Where the entry of `transaction` is, or would be.
    fn find(&self, transaction: usize) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&transaction, |entry| entry.run.transaction)
    }

    /// The entries of earlier transactions, newest first.
    fn earlier(&self, transaction: usize) -> impl Iterator<Item = &Entry<V>> {
        let end = self.find(transaction).unwrap_or_else(|end| end);
        self.entries.iter().take(end).rev()
    }

    /// The newest entry of an earlier transaction, unless it is yet to be written by the transaction in the error.
    pub(super) fn newest(&self, transaction: usize) -> Result<Option<&Entry<V>>, usize> {
        match self.earlier(transaction).next() {
            Some(entry) if entry.estimate => Err(entry.run.transaction),
            newest => Ok(newest),
        }
    }

    /// Puts down what `run` wrote; whether its transaction had no entry here.
    pub(super) fn put(&mut self, run: Run, value: V) -> bool {
        let entry = Entry { run, estimate: false, value };
        match self.find(run.transaction) {
            Ok(at) => {
                if let Some(old) = self.entries.get_mut(at) {
                    *old = entry;
                }
                false
            }
            Err(at) => {
                self.entries.insert(at, entry);
                true
            }
        }
    }
}

/// What is done to entries whatever they hold.
pub(super) trait Entries {
    fn remove(&mut self, transaction: usize);
    fn to_estimate(&mut self, transaction: usize);
}

impl<B, V> Entries for Cell<B, V> {
    fn remove(&mut self, transaction: usize) {
        if let Ok(at) = self.find(transaction) {
            self.entries.remove(at);
        }
    }

    fn to_estimate(&mut self, transaction: usize) {
        if let Ok(at) = self.find(transaction)
            && let Some(entry) = self.entries.get_mut(at)
        {
            entry.estimate = true;
        }
    }
}

pub(super) type Account = Cell<Option<AccountInfo>, Body>;
pub(super) type Slot = Cell<U256, U256>;
pub(super) type Wipe = Cell<(), ()>;

/// What the entries before a transaction say of an account.
pub(super) struct Walk<'a> {
    /// What was last written, if anything.
    pub(super) body: Option<&'a Option<AccountInfo>>,
    /// The sum of the fees after it, if there are any.
    pub(super) paid: Option<U256>,
    pub(super) origins: Origins,
}

impl Account {
    pub(super) fn walk(&self, transaction: usize) -> Result<Walk<'_>, usize> {
        let mut walk = Walk { body: None, paid: None, origins: Vec::new() };
        for entry in self.earlier(transaction) {
            if entry.estimate {
                return Err(entry.run.transaction);
            }
            walk.origins.push(entry.run);
            match &entry.value {
                Body::Paid(fee) => walk.paid = Some(walk.paid.unwrap_or_default().saturating_add(*fee)),
                Body::Is(info) => {
                    walk.body = Some(info);
                    break;
                }
            }
        }
        Ok(walk)
    }
}
