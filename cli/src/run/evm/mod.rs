//! `run --workload evm`: a generated chain through the EVM, in parallel while roots are computed, and once more one
//! transaction after the other; both must come to the same roots.

mod contracts;
mod generate;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bristlecone::{B256, Options, Pending, RootSchedule, Store};
use bristlecone_evm::{
    BlockHashes, CodeCache, Executor, StateDb,
    block::Block,
    executor::{ExecutionStats, Hints},
    state,
};
use serde::Serialize;

use crate::{
    failure::Failure,
    interrupt,
    output::{Output, pairs, thousands},
    progress::Progress,
};
use generate::Plan;

/// How blocks are executed and roots computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Blocks executed optimistically, each on the visible version before it; a root for every block, compared up to
    /// `--delay` blocks later.
    Monad,
    /// Each block cut into mini-blocks, executed in the order that their access lists tell; one root for every hundred.
    Megaeth,
}

/// Mini-blocks that have one root together: a second's worth, of 10 ms each.
const MINI_BLOCKS_A_ROOT: u64 = 100;
/// Mini-blocks in a block of the plan.
const MINI_BLOCKS: u32 = 20;

/// What of `run` is only of this workload.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Only of --workload evm")]
#[group(skip)]
pub(crate) struct Args {
    /// How blocks are executed and roots computed.
    #[arg(long, value_enum, default_value = "monad")]
    profile: Profile,
    /// Accounts that send and receive.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    accounts: u32,
    /// Blocks to be made.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    blocks: u64,
    /// Transactions a block.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    transactions: u32,
    /// Threads that execute a block [default: as many as there are cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Blocks that may be executed on top of one before its root is known.
    #[arg(long, value_name = "D", default_value_t = 3)]
    delay: usize,
}

/// What is printed at the end.
#[derive(Serialize)]
struct Figures {
    workload: &'static str,
    profile: String,
    blocks: u64,
    transactions: u64,
    gas: u64,
    reverted: u64,
    workers: usize,
    sequential_seconds: f64,
    sequential_execution_seconds: f64,
    parallel_seconds: f64,
    parallel_execution_seconds: f64,
    speed_up: f64,
    execution_speed_up: f64,
    runs_again: u64,
    waits: u64,
    roots: u64,
    root_lag_mean: f64,
    root_lag_max: u64,
    root: String,
    verified: bool,
}

/// One way through the chain.
#[derive(Default)]
struct Pass {
    took: Duration,
    executing: Duration,
    stats: ExecutionStats,
    gas: u64,
    reverted: u64,
    /// Of those versions that have one.
    roots: Vec<(u64, B256)>,
    /// Sum and greatest of the blocks executed on top of one before its root was known.
    lag: (u64, u64),
}

pub(super) fn execute(args: &Args, seed: u64, dir: &Path, output: &mut Output) -> Result<(), Failure> {
    let plan = plan(args, seed);
    output.note("making the chain …");
    let blocks = generate::blocks(&plan);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.map_or_else(cores, usize::from);
    let parallel = Executor::parallel(generate::rules(), workers)?;
    let (store, pass) = pass(args, &plan, dir, &blocks, &parallel, args.delay)?;
    store.close()?;
    let beside = beside(dir);
    let one = Executor::new(generate::rules());
    let (store, sequential) = self::pass(args, &plan, &beside, &blocks, &one, 0)?;
    store.close()?;
    std::fs::remove_dir_all(&beside)
        .map_err(|error| Failure::new(format!("cannot remove {}: {error}", beside.display())))?;
    let verified = pass.roots == sequential.roots && pass.gas == sequential.gas;
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64().max(1e-9);
    let figures = Figures {
        workload: "evm",
        profile: format!("{:?}", args.profile).to_lowercase(),
        blocks: plan.blocks,
        transactions: pass.stats.transactions,
        gas: pass.gas,
        reverted: pass.reverted,
        workers,
        sequential_seconds: sequential.took.as_secs_f64(),
        sequential_execution_seconds: sequential.executing.as_secs_f64(),
        parallel_seconds: pass.took.as_secs_f64(),
        parallel_execution_seconds: pass.executing.as_secs_f64(),
        speed_up: ratio(sequential.took, pass.took),
        execution_speed_up: ratio(sequential.executing, pass.executing),
        runs_again: pass.stats.again(),
        waits: pass.stats.waits,
        roots: pass.roots.len() as u64,
        root_lag_mean: pass.lag.0 as f64 / pass.roots.len().max(1) as f64,
        root_lag_max: pass.lag.1,
        root: pass.roots.last().map_or(B256::ZERO, |(_, root)| *root).to_string(),
        verified,
    };
    output.result(&figures, || text(&figures))?;
    match verified {
        true => Ok(()),
        false => Err(Failure::new(
            "executed in parallel, the chain does not come to the roots of executing it in turn",
        )),
    }
}

fn plan(args: &Args, seed: u64) -> Plan {
    let (blocks, transactions) = match args.profile {
        Profile::Monad => (args.blocks, args.transactions),
        Profile::Megaeth => (args.blocks * u64::from(MINI_BLOCKS), args.transactions.div_ceil(MINI_BLOCKS)),
    };
    Plan { accounts: args.accounts, tokens: 4, pools: 8, blocks, transactions, seed }
}

/// A directory for the second pass.
fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push("-in-turn");
    name.into()
}

/// Commits the genesis and then all blocks, `delay` of them ahead of the last known root.
fn pass(
    args: &Args,
    plan: &Plan,
    dir: &Path,
    blocks: &[Block],
    executor: &Executor,
    delay: usize,
) -> Result<(Store, Pass), Failure> {
    let every = if args.profile == Profile::Megaeth { MINI_BLOCKS_A_ROOT } else { 1 };
    let store = Options::new().roots(RootSchedule::Every(every)).open(dir)?;
    state::init_genesis(&store, &generate::genesis(plan))?;
    store.flush()?;
    let (codes, mut hashes) = (CodeCache::default(), BlockHashes::default());
    hashes.push(0, B256::ZERO);
    let mut pass = Pass::default();
    let mut awaited: VecDeque<(u64, Pending<B256>)> = VecDeque::new();
    let mut progress = Progress::new(if delay > 0 { "parallel" } else { "in turn" }, plan.blocks);
    let begun = Instant::now();
    for block in blocks {
        if interrupt::asked() {
            return Err(Failure::interrupted(format!(
                "by request; {} is whole as far as it goes",
                dir.display()
            )));
        }
        let number = block.header.number;
        let executing = Instant::now();
        let db = StateDb::new(store.latest()?, Arc::new(hashes.clone()), codes.clone());
        let hints = match args.profile {
            Profile::Monad => Hints::senders(block),
            Profile::Megaeth => Hints::access_lists(block),
        };
        let executed = executor.execute_unchecked(&db, block, &hints)?;
        pass.executing += executing.elapsed();
        pass.stats += executed.stats;
        pass.gas += executed.gas_used;
        pass.reverted += executed.receipts.iter().filter(|receipt| !receipt.success).count() as u64;
        let commit = store.commit(executed.changes.batch())?;
        hashes.push(number, block.hash);
        if number.is_multiple_of(every) || number == plan.blocks {
            awaited.push_back((number, commit.root()));
        }
        settle(&mut awaited, delay, number, &mut pass)?;
        progress.at(number, || "blocks".to_owned());
    }
    settle(&mut awaited, 0, plan.blocks, &mut pass)?;
    pass.took = begun.elapsed();
    Ok((store, pass))
}

/// Takes up roots that are known, and waits until at most `left` are awaited. `newest` is the newest block.
fn settle(
    awaited: &mut VecDeque<(u64, Pending<B256>)>,
    left: usize,
    newest: u64,
    pass: &mut Pass,
) -> Result<(), Failure> {
    while let Some((number, pending)) = awaited.front() {
        let root = match pending.try_get() {
            Some(root) => root,
            None if awaited.len() > left => pending.wait(),
            None => break,
        }?;
        let behind = newest.saturating_sub(*number);
        pass.lag = (pass.lag.0 + behind, pass.lag.1.max(behind));
        pass.roots.push((*number, root));
        awaited.pop_front();
    }
    Ok(())
}

fn text(figures: &Figures) -> String {
    let seconds = |all: f64, executing: f64| format!("{all:.2} s, {executing:.2} s of it executing");
    let per_second = |count: u64| thousands((count as f64 / figures.parallel_seconds.max(1e-9)) as u64);
    pairs(&[
        ("profile", figures.profile.clone()),
        (
            "chain",
            format!(
                "{} blocks, {} transactions, {} gas",
                thousands(figures.blocks),
                thousands(figures.transactions),
                thousands(figures.gas)
            ),
        ),
        ("in turn", seconds(figures.sequential_seconds, figures.sequential_execution_seconds)),
        ("in parallel", seconds(figures.parallel_seconds, figures.parallel_execution_seconds)),
        (
            "",
            format!("{} transactions/s, {} gas/s", per_second(figures.transactions), per_second(figures.gas)),
        ),
        (
            "speed-up",
            format!(
                "{:.2} with {} workers, {:.2} of execution alone",
                figures.speed_up, figures.workers, figures.execution_speed_up
            ),
        ),
        (
            "runs again",
            format!("{}, {} of them waited", thousands(figures.runs_again), thousands(figures.waits)),
        ),
        (
            "roots",
            format!(
                "{}, known {:.1} blocks later in the mean, {} at most",
                thousands(figures.roots),
                figures.root_lag_mean,
                figures.root_lag_max
            ),
        ),
        ("final root", figures.root.clone()),
        (
            "verified",
            if figures.verified { "equal to executing in turn" } else { "NOT equal to executing in turn" }
                .to_owned(),
        ),
    ])
}
