//! Importing a chain: block n + 1 is executed on the visible version n while n's root is computed.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use alloy_consensus::Header;
use alloy_primitives::B256;
use bristlecone::{Pending, Store};

use crate::{
    BlockHashes, CodeCache, Error, StateDb,
    block::Block,
    executor::{Executed, Executor, Speculation},
};

/// Blocks that may follow one whose root is not compared yet, as Monad has it.
pub const DEFAULT_DELAY: u64 = 3;

/// Extends a store by blocks, one version each, and compares every root with its header, at the latest when `delay` more
/// blocks were executed.
#[derive(Debug)]
pub struct Importer {
    store: Store,
    executor: Executor,
    /// Executes beforehand, on a thread of its own.
    ahead: Executor,
    /// What it executed of the next block.
    next: Option<Speculation<StateDb>>,
    delay: u64,
    every: u64,
    /// The newest block's, if it is known.
    parent: Option<Header>,
    newest: u64,
    hashes: BlockHashes,
    codes: CodeCache,
    /// Headers' roots of the blocks after `last_good`, oldest first, and of some the store's on its way.
    awaited: VecDeque<Awaited>,
    checked: u64,
    last_good: u64,
    /// The header of that block, if it is known.
    good: Option<Header>,
    /// Sum and greatest of the blocks that were executed before a root was compared.
    lag: (u64, u64),
}

#[derive(Debug)]
struct Awaited {
    header: Header,
    root: Option<Pending<B256>>,
}

impl Importer {
    /// Goes on from the store's latest version, which is the state of the block with the header `parent`; where that is not
    /// known, the first block is taken at its word on what its parent was. `hashes` are those of the blocks up to it,
    /// as far as they are known: contracts may ask for the last 256.
    ///
    /// # Errors
    ///
    /// The store has no version; `parent` is not the block of its latest one ([`Error::OutOfOrder`]).
    pub fn new(
        store: Store,
        executor: Executor,
        parent: Option<Header>,
        hashes: BlockHashes,
    ) -> Result<Self, Error> {
        let newest = store.latest()?.version();
        if let Some(got) = parent.as_ref().map(|parent| parent.number).filter(|number| *number != newest) {
            return Err(Error::OutOfOrder { have: newest, got });
        }
        Ok(Self {
            store,
            ahead: Executor::new(executor.rules().clone()),
            next: None,
            executor,
            delay: DEFAULT_DELAY,
            every: 1,
            newest,
            hashes,
            codes: CodeCache::default(),
            awaited: VecDeque::new(),
            checked: 0,
            last_good: newest,
            good: parent.clone(),
            parent,
            lag: (0, 0),
        })
    }

    /// Blocks that may be executed on top of one before its root is compared: 0 waits for each root. Default 3.
    #[must_use]
    pub fn delay(self, delay: u64) -> Self {
        Self { delay, ..self }
    }

    /// Compares the root of every n-th block only, and of the last; the store should have the same schedule. Default 1. The delay counts compared blocks.
    #[must_use]
    pub fn root_every(self, every: u64) -> Self {
        Self { every: every.max(1), ..self }
    }

    /// Executes `block` on the newest version and commits what it changes. Roots that became due are compared first.
    ///
    /// # Errors
    ///
    /// The block is not a child of the newest one, or is invalid: nothing was committed. [`Error::StateRoot`], of this block or of
    /// one before it: the store went back to the last good version, durably, and the importer goes on from there.
    pub fn import(&mut self, block: &Block) -> Result<Executed, Error> {
        let header = &block.header;
        match &self.parent {
            Some(parent) => self.executor.check_child(parent, block)?,
            None if self.newest.checked_add(1) != Some(header.number) => {
                return Err(Error::OutOfOrder { have: self.newest, got: header.number });
            }
            None => self.hashes.push(self.newest, header.parent_hash),
        }
        let db = self.state(self.hashes.clone())?;
        let executed = match self.next.take() {
            Some(speculation) => self.executor.execute_speculated(&db, block, speculation),
            None => self.executor.execute(&db, block),
        }?;
        drop(db);
        let commit = self.store.commit(executed.changes.batch())?;
        let root = header.number.is_multiple_of(self.every).then(|| commit.root());
        self.awaited.push_back(Awaited { header: header.clone(), root });
        self.hashes.push(header.number, block.hash);
        self.newest = header.number;
        self.parent = Some(header.clone());
        self.settle_to(self.delay)?;
        Ok(executed)
    }

    /// As [`import`](Self::import); meanwhile another thread executes `next`, the block after it, on the version before it, as far as it comes. When
    /// `next` is imported then, its transactions that read nothing which `block` changed are not executed again: [`ExecutionStats::held`](crate::executor::ExecutionStats::held)
    /// counts them.
    ///
    /// # Errors
    ///
    /// As [`import`](Self::import). That `next` could not be executed beforehand is no error.
    pub fn import_ahead(&mut self, block: &Block, next: &Block) -> Result<Executed, Error> {
        let mut hashes = self.hashes.clone();
        hashes.push(block.header.number, block.hash);
        let older = self.state(hashes)?;
        let (ahead, stop) = (self.ahead.clone(), AtomicBool::new(false));
        thread::scope(|scope| {
            let (ahead, stop) = (&ahead, &stop);
            let speculating = scope.spawn(move || ahead.speculate_until(&older, next, stop).ok());
            let executed = self.import(block);
            stop.store(true, Relaxed);
            let speculation = speculating.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // After a failure another block than `next` may come.
            self.next = speculation.filter(|_| executed.is_ok());
            executed
        })
    }

    /// The newest version, for executing a block on it.
    fn state(&self, hashes: BlockHashes) -> Result<StateDb, Error> {
        Ok(StateDb::new(self.store.latest()?, Arc::new(hashes), self.codes.clone()))
    }

    /// Waits for all roots that are still awaited, that of the newest block in any case, and compares them.
    ///
    /// # Errors
    ///
    /// [`Error::StateRoot`], as in [`import`](Self::import), or the store failed.
    pub fn settle(&mut self) -> Result<(), Error> {
        if self.awaited.back().is_some_and(|last| last.root.is_none()) {
            let got = self.store.latest()?.root()?;
            self.settle_to(0)?;
            if let Some(last) = self.awaited.back().map(|last| last.header.clone()) {
                self.judge(&last, got)?;
            }
        }
        self.settle_to(0)
    }

    /// Number of the newest block.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Roots that were compared, all of them equal.
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// How many blocks were executed on top of a block before its root was compared: the mean and the most.
    pub fn root_lag(&self) -> (f64, u64) {
        (self.lag.0 as f64 / self.checked.max(1) as f64, self.lag.1)
    }

    /// Compares roots that are known, and waits until at most `left` are awaited.
    fn settle_to(&mut self, left: u64) -> Result<(), Error> {
        let mut waiting = self.awaited.iter().filter(|awaited| awaited.root.is_some()).count() as u64;
        while let Some(at) = self.awaited.iter().position(|awaited| awaited.root.is_some()) {
            let Some(Awaited { header, root: Some(pending) }) = self.awaited.get(at) else { break };
            let header = header.clone();
            let got = match pending.try_get() {
                Some(got) => got,
                None if waiting > left => pending.wait(),
                None => break,
            }?;
            waiting -= 1;
            self.judge(&header, got)?;
        }
        Ok(())
    }

    /// A root is known. If it is not the header's, the first block at which they differ is looked for among those whose
    /// roots nobody asked for so far, and the store goes back to the one before.
    fn judge(&mut self, header: &Header, got: B256) -> Result<(), Error> {
        if got == header.state_root {
            self.awaited.retain(|awaited| awaited.header.number > header.number);
            let behind = self.newest.saturating_sub(header.number);
            self.lag = (self.lag.0 + behind, self.lag.1.max(behind));
            self.checked += 1;
            self.last_good = header.number;
            self.good = Some(header.clone());
            return Ok(());
        }
        let mut wrong = (header.clone(), got);
        for before in self.awaited.iter().take_while(|awaited| awaited.header.number < header.number) {
            let got = self.store.at(before.header.number)?.root()?;
            if got != before.header.state_root {
                wrong = (before.header.clone(), got);
                break;
            }
            self.last_good = before.header.number;
            self.good = Some(before.header.clone());
        }
        self.go_back()?;
        let (Header { number, state_root: expected, .. }, got) = wrong;
        Err(Error::StateRoot { number, expected, got, last_good: self.last_good })
    }

    /// Gives up everything after the last block whose root is right.
    fn go_back(&mut self) -> Result<(), Error> {
        self.awaited.clear();
        self.store.rollback(self.last_good)?;
        self.newest = self.last_good;
        self.parent = self.good.clone();
        self.hashes.truncate(self.last_good);
        Ok(())
    }
}
