//! Executing blocks on a version of the store.
//!
//! [`Executor`] takes a block and a state and gives what the block changes, its receipts and its requests, all of it held
//! against the block's header but for the state root, which is known only after the changes were committed.

mod check;
mod dao;
mod env;
mod hints;
mod parallel;
mod sequential;
mod system;

use alloy_consensus::{EthereumReceipt, Header};
use alloy_eips::eip7685::Requests;
use rayon::{ThreadPool, ThreadPoolBuilder};
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};

use std::sync::{Arc, atomic::AtomicBool};

use crate::{
    Error, StateError,
    block::Block,
    chain::Rules,
    changes::{Changes, Overlay},
    db::State,
};
pub use env::{Surroundings, tx_env};
pub use hints::Hints;
pub use parallel::Speculation;

/// What a transaction leaves behind for those who ask: its type, whether it succeeded, gas up to it, and logs.
pub type Receipt = EthereumReceipt;

/// What a block does.
#[derive(Clone, Debug, Default)]
pub struct Executed {
    /// To the state.
    pub changes: Changes,
    /// One for each transaction.
    pub receipts: Vec<Receipt>,
    /// By all transactions.
    pub gas_used: u64,
    /// To the beacon chain (EIP-7685).
    pub requests: Requests,
    /// What it took.
    pub stats: ExecutionStats,
}

/// What executing a block took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecutionStats {
    /// Transactions of the block.
    pub transactions: u64,
    /// How often a transaction was begun: as often as there are transactions, if each ran once.
    pub runs: u64,
    /// Runs that ended early, because they came upon what an earlier transaction had yet to write.
    pub waits: u64,
    /// Accounts and slots asked of the store.
    pub reads: u64,
    /// Transactions of which what was executed beforehand still held, so that they were not run.
    pub held: u64,
}

impl ExecutionStats {
    /// Runs that did not count.
    pub fn again(&self) -> u64 {
        self.runs.saturating_sub(self.transactions.saturating_sub(self.held))
    }
}

impl std::ops::AddAssign for ExecutionStats {
    fn add_assign(&mut self, other: Self) {
        self.transactions += other.transactions;
        self.runs += other.runs;
        self.waits += other.waits;
        self.reads += other.reads;
        self.held += other.held;
    }
}

/// Executes blocks by the rules of a chain.
#[derive(Clone, Debug)]
pub struct Executor {
    rules: Rules,
    pool: Option<Arc<ThreadPool>>,
}

impl Executor {
    /// By these rules, one transaction after the other.
    pub fn new(rules: Rules) -> Self {
        Self { rules, pool: None }
    }

    /// By these rules, on `workers` threads that stay around for all blocks. What comes out is the same.
    ///
    /// # Errors
    ///
    /// [`Error::Workers`]: no thread at all, more than 1,024, or the system gives none.
    pub fn parallel(rules: Rules, workers: usize) -> Result<Self, Error> {
        if !(1..=1024).contains(&workers) {
            return Err(Error::Workers(format!("{workers}; there must be from 1 to 1,024")));
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|index| format!("bristlecone-evm-{index}"))
            .build()
            .map_err(|error| Error::Workers(error.to_string()))?;
        Ok(Self { rules, pool: Some(Arc::new(pool)) })
    }

    /// How many threads execute a block.
    pub fn workers(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether `block` may follow `parent`, as far as their headers tell: number and hash, time, gas limit, base fee, blob
    /// gas. Proof of work, signatures of authorities and the beacon chain are not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParent`], [`Error::InvalidBlock`], [`Error::HeaderMismatch`].
    pub fn check_child(&self, parent: &Header, block: &Block) -> Result<(), Error> {
        let newest = parent.hash_slow();
        let header = &block.header;
        if header.parent_hash != newest || parent.number.checked_add(1) != Some(header.number) {
            return Err(Error::UnknownParent { number: header.number, parent: header.parent_hash, newest });
        }
        check::child(&self.rules, parent, block)
    }

    /// Executes `block` on `state`, which is that of its parent, and compares what comes out with its header.
    ///
    /// Nothing is committed. Receipts roots from before Byzantium are not compared: those receipts hold state roots in the
    /// middle of the block.
    ///
    /// # Errors
    ///
    /// The block breaks a rule ([`Error::InvalidBlock`], [`Error::InvalidTransaction`], [`Error::HeaderMismatch`]), needs rules
    /// that are not implemented ([`Error::Unsupported`]), or the state cannot be read ([`Error::Read`]).
    pub fn execute<D: State>(&self, state: &D, block: &Block) -> Result<Executed, Error> {
        self.execute_with(state, block, &Hints::senders(block))
    }

    /// The same, with what is known of the transactions beforehand. One thread alone has no use for it.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_with<D: State>(&self, state: &D, block: &Block, hints: &Hints) -> Result<Executed, Error> {
        self.checked(state, block, hints, None)
    }

    /// The same without comparing anything with the header: for blocks that are being made, or whose header is not at hand.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), but for [`Error::HeaderMismatch`].
    pub fn execute_unchecked<D: State>(
        &self,
        state: &D,
        block: &Block,
        hints: &Hints,
    ) -> Result<Executed, Error> {
        self.run(state, block, &Surroundings::new(&self.rules, &block.header)?, hints, None)
    }

    /// Executes the transactions of `block` before the state of its parent is there: on `older`, that of a block before it. Nothing is judged
    /// yet; a transaction that fails may hold later.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], also for the hash of a block that `older` does not know; what the protocol does before the first transaction fails on that state. Executing the
    /// block without a speculation is right in any case.
    pub fn speculate<D: State + Clone>(&self, older: &D, block: &Block) -> Result<Speculation<D>, Error> {
        self.speculate_until(older, block, &AtomicBool::new(false))
    }

    /// The same until `stop` is set, or little longer: what was executed by then is in it.
    ///
    /// # Errors
    ///
    /// As [`speculate`](Self::speculate).
    pub fn speculate_until<D: State + Clone>(
        &self,
        older: &D,
        block: &Block,
        stop: &AtomicBool,
    ) -> Result<Speculation<D>, Error> {
        let around = Surroundings::new(&self.rules, &block.header)?;
        let mut overlay = Overlay::new(older);
        system::before(&self.rules, &around, &block.header, &mut overlay)?;
        let hints = Hints::senders(block);
        parallel::speculate(self.pool.as_deref(), &around, block, &hints, &mut overlay, stop)
    }

    /// As [`execute`](Self::execute), but for transactions whose outcome still holds: those that read nothing that changed between the state
    /// of the speculation and this one, nor anything that a transaction wrote which had to run again. A speculation of another block counts for nothing.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_speculated<D: State>(
        &self,
        state: &D,
        block: &Block,
        speculation: Speculation<D>,
    ) -> Result<Executed, Error> {
        self.checked(state, block, &Hints::senders(block), Some(speculation))
    }

    /// The same without comparing anything with the header, as [`execute_unchecked`](Self::execute_unchecked).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn execute_speculated_unchecked<D: State>(
        &self,
        state: &D,
        block: &Block,
        speculation: Speculation<D>,
    ) -> Result<Executed, Error> {
        let around = Surroundings::new(&self.rules, &block.header)?;
        self.run(state, block, &around, &Hints::senders(block), Some(speculation))
    }

    /// Executes the block between what its header promises and what it says came out.
    fn checked<D: State>(
        &self,
        state: &D,
        block: &Block,
        hints: &Hints,
        speculation: Option<Speculation<D>>,
    ) -> Result<Executed, Error> {
        let around = Surroundings::new(&self.rules, &block.header)?;
        check::header(&self.rules, &around, block)?;
        let executed = self.run(state, block, &around, hints, speculation)?;
        check::outcome(&around, block, &executed)?;
        Ok(executed)
    }

    fn run<D: State>(
        &self,
        state: &D,
        block: &Block,
        around: &Surroundings,
        hints: &Hints,
        speculation: Option<Speculation<D>>,
    ) -> Result<Executed, Error> {
        let mut overlay = Overlay::new(state);
        system::before(&self.rules, around, &block.header, &mut overlay)?;
        let pool = self.pool.as_deref();
        let speculation = speculation.filter(|speculation| speculation.is_of(around, block));
        let (results, mut stats) = if speculation.is_some() || pool.is_some() && block.transactions.len() > 1
        {
            parallel::transactions(pool, around, block, hints, &mut overlay, speculation)?
        } else {
            sequential::transactions(around, block, &mut overlay)?
        };
        let (receipts, gas_used) = receipts(block, results)?;
        let logs = receipts.iter().flat_map(|receipt| &receipt.logs);
        let requests = system::after(&self.rules, around, block, logs, &mut overlay)?;
        stats.reads += overlay.reads();
        Ok(Executed { changes: overlay.into_changes(), receipts, gas_used, requests, stats })
    }
}

/// Receipts from results, and the gas of all; fails where a transaction asks for more gas than the block has left.
fn receipts(block: &Block, results: Vec<ExecutionResult>) -> Result<(Vec<Receipt>, u64), Error> {
    let mut receipts = Vec::with_capacity(results.len());
    let mut gas_used = 0u64;
    for (index, (transaction, result)) in block.transactions.iter().zip(results).enumerate() {
        let limit = alloy_consensus::Transaction::gas_limit(transaction.inner());
        let left = block.header.gas_limit.saturating_sub(gas_used);
        if limit > left {
            let reason = format!("asks for {limit} gas, but the block has {left} left");
            return Err(Error::InvalidTransaction { number: block.header.number, index, reason });
        }
        gas_used = gas_used.saturating_add(result.tx_gas_used());
        receipts.push(Receipt {
            tx_type: transaction.tx_type(),
            success: result.is_success(),
            cumulative_gas_used: gas_used,
            logs: result.into_logs(),
        });
    }
    Ok((receipts, gas_used))
}

/// What a failure of the EVM means for the block.
fn evm_error(number: u64, index: usize, error: EVMError<StateError, InvalidTransaction>) -> Error {
    match error {
        EVMError::Transaction(error) => {
            Error::InvalidTransaction { number, index, reason: error.to_string() }
        }
        EVMError::Header(error) => Error::InvalidBlock { number, reason: error.to_string() },
        EVMError::Database(source) => Error::Read { number, source },
        other => Error::Evm { number, index, reason: other.to_string() },
    }
}
