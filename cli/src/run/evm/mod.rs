//! `run --workload evm`: a generated chain through the EVM, in parallel while roots are computed, and once more one
//! transaction after the other; both must come to the same roots.

mod contracts;
mod generate;
mod pass;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bristlecone::{B256, Namespace, Options, RootSchedule, SchemeKind};
use serde::Serialize;

use super::measure::{Milliseconds, Times};
use crate::{
    failure::{Failure, INTERRUPTED, USAGE},
    output::{Output, pairs, thousands},
};
use generate::Plan;
use pass::Way;

/// How blocks are executed and roots computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Blocks executed optimistically, each on the visible version before it; a root for every block, compared up to
    /// `--delay` blocks later.
    Monad,
    /// Each block cut into mini-blocks, one every 10 ms, executed in the order that their access lists tell; one root for every
    /// hundred.
    Megaeth,
    /// A main network and two special ones, each an EVM with accounts in a namespace of its own, executed side by side and
    /// committed together under one root.
    Pharos,
}

/// Mini-blocks that have one root together: a second's worth, of 10 ms each.
const MINI_BLOCKS_A_ROOT: u64 = 100;
/// Mini-blocks in a block of the plan.
const MINI_BLOCKS: u32 = 20;
/// Between two mini-blocks.
const MINI_BLOCK_MS: u64 = 10;

impl Profile {
    /// The namespaces of its networks; the empty name is the first one's.
    fn networks(self) -> &'static [&'static str] {
        match self {
            Self::Monad | Self::Megaeth => &[""],
            Self::Pharos => &["", "special-1", "special-2"],
        }
    }

    /// A root for every so many versions.
    fn root_every(self) -> u64 {
        if self == Self::Megaeth { MINI_BLOCKS_A_ROOT } else { 1 }
    }

    pub(super) fn options(self) -> Options {
        let mut options = Options::new().roots(RootSchedule::Every(self.root_every()));
        for name in self.networks() {
            options = options.namespace(match name.is_empty() {
                true => Namespace::accounts(SchemeKind::Ethereum),
                // Whoever verifies a special network's proofs is its own, so that it need not hash as Ethereum does.
                false => Namespace::accounts(SchemeKind::Blake3).named(*name),
            });
        }
        options
    }
}

/// What of `run` is only of this workload.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Only of --workload evm")]
#[group(skip)]
pub(crate) struct Args {
    /// How blocks are executed and roots computed.
    #[arg(long, value_enum, default_value = "monad")]
    profile: Profile,
    /// Accounts that send and receive, in each network.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    accounts: u32,
    /// Blocks to be made.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    blocks: u64,
    /// Transactions a block, in all networks together.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    transactions: u32,
    /// Threads that execute a block [default: as many as there are cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Blocks that may be executed on top of one before its root is known.
    #[arg(long, value_name = "D", default_value_t = 3)]
    delay: usize,
    /// Milliseconds from one block to the next when executed in parallel; 0 is as fast as can be [default: 10 with --profile
    /// megaeth, else 0].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=60_000))]
    pace: Option<u64>,
}

/// The options above, as they are written.
pub(super) const ONLY: [&str; 7] =
    ["profile", "accounts", "blocks", "transactions", "workers", "delay", "pace"];

/// What is printed at the end. `visible_ms` are from where a block was due, or begun, to where the next one could be executed
/// on it.
#[derive(Serialize)]
struct Figures {
    workload: &'static str,
    profile: String,
    networks: usize,
    blocks: u64,
    transactions: u64,
    gas: u64,
    reverted: u64,
    workers: usize,
    pace_ms: u64,
    late_blocks: u64,
    sequential_seconds: f64,
    sequential_execution_seconds: f64,
    parallel_seconds: f64,
    parallel_execution_seconds: f64,
    /// Of everything; of execution and commits alone where blocks were paced.
    speed_up: f64,
    execution_speed_up: f64,
    visible_ms: Milliseconds,
    runs_again: u64,
    waits: u64,
    roots: u64,
    root_lag_mean: f64,
    root_lag_max: u64,
    root: String,
    verified: bool,
}

pub(super) fn execute(args: &Args, seed: u64, dir: &Path, output: &mut Output) -> Result<(), Failure> {
    let plan = plan(args, seed)?;
    let beside = beside(dir);
    if beside.exists() {
        return Err(Failure::new(format!("{} is in the way of the second pass", beside.display()))
            .hint("remove it, or give another directory"));
    }
    output.note("making the chain …");
    let networks = args.profile.networks();
    let chains: Vec<_> = (0..networks.len()).map(|network| generate::blocks(&plan.of(network))).collect();
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.map_or_else(cores, usize::from);
    let default_pace = if args.profile == Profile::Megaeth { MINI_BLOCK_MS } else { 0 };
    let pace_ms = args.pace.unwrap_or(default_pace);
    let pace = (pace_ms > 0).then(|| Duration::from_millis(pace_ms));
    let way = Way { profile: args.profile, workers, delay: args.delay, pace };
    let mut visible = Times::new()?;
    let (store, pass) = pass::go(&way, &plan, dir, &chains, &mut visible)?;
    store.close()?;
    let in_turn = Way { workers: 1, delay: 0, pace: None, ..way };
    let sequential = in_turn_beside(&in_turn, &plan, dir, &beside, &chains)?;
    let root = pass.roots.last().map_or(B256::ZERO, |(_, root)| *root);
    let reopened = args.profile.options().create(false).open(dir)?;
    let kept = (reopened.latest_version(), reopened.latest()?.root()?);
    reopened.close()?;
    let same = pass.roots == sequential.roots && pass.gas == sequential.gas;
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64().max(1e-9);
    let figures = Figures {
        workload: "evm",
        profile: format!("{:?}", args.profile).to_lowercase(),
        networks: networks.len(),
        blocks: plan.blocks,
        transactions: pass.stats.transactions,
        gas: pass.gas,
        reverted: pass.reverted,
        workers,
        pace_ms,
        late_blocks: pass.late,
        sequential_seconds: sequential.took.as_secs_f64(),
        sequential_execution_seconds: sequential.executing.as_secs_f64(),
        parallel_seconds: pass.took.as_secs_f64(),
        parallel_execution_seconds: pass.executing.as_secs_f64(),
        speed_up: match pace {
            None => ratio(sequential.took, pass.took),
            Some(_) => ratio(sequential.executing + sequential.committing, pass.executing + pass.committing),
        },
        execution_speed_up: ratio(sequential.executing, pass.executing),
        visible_ms: visible.milliseconds(),
        runs_again: pass.stats.again(),
        waits: pass.stats.waits,
        roots: pass.roots.len() as u64,
        root_lag_mean: pass.lag.0 as f64 / pass.roots.len().max(1) as f64,
        root_lag_max: pass.lag.1,
        root: root.to_string(),
        verified: same && kept == (Some(plan.blocks), root),
    };
    output.result(&figures, || text(&figures))?;
    match (same, figures.verified) {
        (_, true) => Ok(()),
        (false, _) => Err(Failure::new(
            "executed in parallel, the chain does not come to the roots of executing it in turn",
        )),
        (true, _) => {
            Err(Failure::new(format!("reopened, the store is at version {:?} with root {}", kept.0, kept.1)))
        }
    }
}

fn plan(args: &Args, seed: u64) -> Result<Plan, Failure> {
    let (blocks, transactions) = match args.profile {
        Profile::Monad | Profile::Pharos => (args.blocks, args.transactions),
        Profile::Megaeth => (args.blocks * u64::from(MINI_BLOCKS), args.transactions.div_ceil(MINI_BLOCKS)),
    };
    let networks = args.profile.networks().len() as u32;
    if transactions < networks {
        let message = format!("{transactions} transactions a block are fewer than there are networks");
        return Err(Failure { code: USAGE, ..Failure::new(message) });
    }
    Ok(Plan { accounts: args.accounts, tokens: 4, pools: 8, blocks, transactions, networks, seed })
}

/// The second pass, in a directory that is gone afterwards, however it ended.
fn in_turn_beside(
    way: &Way,
    plan: &Plan,
    dir: &Path,
    beside: &Path,
    chains: &[Vec<bristlecone_evm::block::Block>],
) -> Result<pass::Pass, Failure> {
    let passed = pass::go(way, plan, beside, chains, &mut Times::new()?).and_then(|(store, pass)| {
        store.close()?;
        Ok(pass)
    });
    std::fs::remove_dir_all(beside)
        .map_err(|error| Failure::new(format!("cannot remove {}: {error}", beside.display())))?;
    passed.map_err(|failure| match failure.code {
        INTERRUPTED => Failure::interrupted(format!(
            "by request, before the comparison; {} has all {} blocks",
            dir.display(),
            plan.blocks
        )),
        _ => failure,
    })
}

/// A directory for the second pass.
fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push("-in-turn");
    name.into()
}

fn text(figures: &Figures) -> String {
    let seconds = |all: f64, executing: f64| format!("{all:.2} s, {executing:.2} s of it executing");
    let per_second = |count: u64| thousands((count as f64 / figures.parallel_seconds.max(1e-9)) as u64);
    let networks =
        if figures.networks > 1 { format!(" of {} networks", figures.networks) } else { String::new() };
    let paced = match figures.pace_ms {
        0 => String::new(),
        pace => format!(", one every {pace} ms, {} of them late", thousands(figures.late_blocks)),
    };
    let of = if figures.pace_ms > 0 { " of execution and commits" } else { "" };
    pairs(&[
        ("profile", figures.profile.clone()),
        (
            "chain",
            format!(
                "{} blocks{networks}{paced}; {} transactions, {} gas",
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
                "{:.2}{of} with {} workers, {:.2} of execution alone",
                figures.speed_up, figures.workers, figures.execution_speed_up
            ),
        ),
        (
            "runs again",
            format!("{}, {} of them waited", thousands(figures.runs_again), thousands(figures.waits)),
        ),
        (
            "visible",
            format!(
                "{:.2} ms after a block was {}, p50; {:.2} p99, {:.2} at most",
                figures.visible_ms.p50,
                if figures.pace_ms > 0 { "due" } else { "begun" },
                figures.visible_ms.p99,
                figures.visible_ms.max
            ),
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
            if figures.verified {
                "equal to executing in turn, and after reopening"
            } else {
                "NOT equal to executing in turn, or not after reopening"
            }
            .to_owned(),
        ),
    ])
}
