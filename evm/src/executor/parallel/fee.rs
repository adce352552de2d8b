//! Running a transaction without paying the beneficiary: the fee comes out beside what it changed.

use std::cell::Cell;

use alloy_primitives::U256;
use revm::{
    context_interface::{Block, Cfg, ContextTr, JournalTr, Transaction, result::HaltReason},
    handler::{EvmTr, EvmTrError, FrameResult, FrameTr, Handler},
    interpreter::interpreter_action::FrameInit,
    primitives::hardfork::SpecId,
    state::EvmState,
};

/// The mainnet handler, but for the beneficiary's fee.
#[derive(Debug)]
pub(super) struct FeeAside<EVM, ERROR> {
    fee: Cell<U256>,
    _of: std::marker::PhantomData<(EVM, ERROR)>,
}

impl<EVM, ERROR> FeeAside<EVM, ERROR> {
    pub(super) fn new() -> Self {
        Self { fee: Cell::new(U256::ZERO), _of: std::marker::PhantomData }
    }

    /// What the beneficiary is owed for the transaction that ran.
    pub(super) fn fee(&self) -> U256 {
        self.fee.get()
    }
}

impl<EVM, ERROR> Handler for FeeAside<EVM, ERROR>
where
    EVM: EvmTr<
            Context: ContextTr<Journal: JournalTr<State = EvmState>>,
            Frame: FrameTr<FrameResult = FrameResult, FrameInit = FrameInit>,
        >,
    ERROR: EvmTrError<EVM>,
{
    type Evm = EVM;
    type Error = ERROR;
    type HaltReason = HaltReason;

    /// As in revm, without touching the account.
    fn reward_beneficiary(&self, evm: &mut EVM, result: &mut FrameResult) -> Result<(), ERROR> {
        let context = evm.ctx_ref();
        let base_fee = u128::from(context.block().basefee());
        let price = context.tx().effective_gas_price(base_fee);
        let spec: SpecId = context.cfg().spec().into();
        let price = if spec.is_enabled_in(SpecId::LONDON) { price.saturating_sub(base_fee) } else { price };
        let used = result.gas().used().saturating_sub(result.gas().reservoir());
        self.fee.set(U256::from(price.saturating_mul(u128::from(used))));
        Ok(())
    }
}
