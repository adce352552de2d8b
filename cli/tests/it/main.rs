//! The built command: real chain data, bad input, Ctrl-C and kill -9.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

mod bad_input;
mod beside;
mod changes;
mod command;
mod hostile;
mod kill;
#[path = "../../../evm/tests/it/made.rs"]
mod made;
mod repair;
mod replay;
mod rollback;
mod run;
