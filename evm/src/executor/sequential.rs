//! One transaction after the other.

use revm::{Context, ExecuteEvm, MainBuilder, MainContext, context::result::ExecutionResult};

use super::{
    ExecutionStats,
    env::{Surroundings, tx_env},
    evm_error,
};
use crate::{Error, block::Block, changes::Overlay, db::State};

/// Executes the transactions of `block` on `state`, which takes up their changes.
pub(super) fn transactions<D: State>(
    around: &Surroundings,
    block: &Block,
    state: &mut Overlay<'_, D>,
) -> Result<(Vec<ExecutionResult>, ExecutionStats), Error> {
    let number = block.header.number;
    let mut evm = Context::mainnet()
        .with_db(&mut *state)
        .with_block(around.block.clone())
        .with_cfg(around.cfg.clone())
        .build_mainnet();
    let mut results = Vec::with_capacity(block.transactions.len());
    for (index, transaction) in block.transactions.iter().enumerate() {
        let outcome = evm.transact(tx_env(transaction));
        let outcome = outcome.map_err(|error| evm_error(number, index, error))?;
        evm.ctx.journaled_state.database.changes_mut().apply(outcome.state);
        results.push(outcome.result);
    }
    let transactions = block.transactions.len() as u64;
    Ok((results, ExecutionStats { transactions, runs: transactions, ..ExecutionStats::default() }))
}
