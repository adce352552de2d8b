//! Real chain data, and files made to order.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

mod chain;
mod data;
mod ef_tests;
mod eip1186;
mod era1;
mod genesis_and_rewards;
mod hive;
mod made;
mod mainnet;
mod parallel;
mod real;
mod speculation;
mod tar;
mod witness;
