//! `replay`: blocks of a file, executed one version each, every root against its header.

mod source;

use std::{path::PathBuf, time::Instant};

use alloy_consensus::Header;
use alloy_primitives::B256;
use bristlecone::{KeyMode, Options, RootSchedule, SchemeKind, Shape, Store};
use bristlecone_evm::{
    BlockHashes, Error, Executor, Importer,
    block::Block,
    chain::{ChainFile, Rules},
    executor::ExecutionStats,
    importer::DEFAULT_DELAY,
};
use serde::Serialize;

use super::init;
use crate::{
    failure::{FAILED, Failure},
    interrupt,
    output::{Output, thousands},
    parse,
    progress::Progress,
};
use source::Source;

/// Execute the blocks of a file, one version a block, and compare what comes out with their headers: gas used, receipts
/// root, logs bloom and requests before a block is committed, the state root as soon as it is known. A block is executed on
/// the visible version before it, at most `--delay` blocks ahead of the last compared root. Blocks that the store
/// holds are compared and skipped, those that were pruned are skipped, so an interrupted replay goes on with the same command.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("file").required(true).args(["blocks", "chain"])))]
pub(crate) struct Args {
    /// The store's directory, made by `init`.
    dir: PathBuf,
    /// An era1 file of the history archive. It is verified whole first.
    #[arg(long, value_name = "FILE.era1")]
    blocks: Option<PathBuf>,
    /// A file of RLP blocks one after the other, as execution clients import and export them.
    #[arg(long, value_name = "FILE.rlp")]
    chain: Option<PathBuf>,
    /// Make the store from this genesis.json first, if the directory has none.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Compute and compare the root of every n-th block only, and of the last.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    root_every: u64,
    /// Roots that may be awaited while the next blocks are executed; 0 waits for each.
    #[arg(long, value_name = "D", default_value_t = DEFAULT_DELAY)]
    delay: u64,
    /// Execute the transactions of a block on several threads.
    #[arg(long)]
    parallel: bool,
    /// How many threads [default: as many as there are cores].
    #[arg(long, value_name = "N", requires = "parallel", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Execute each block once more on one more thread, beforehand, on the version before its parent: transactions that read nothing which the parent changed are not executed again.
    #[arg(long)]
    ahead: bool,
}

impl Args {
    fn executor(&self, rules: Rules) -> Result<Executor, Error> {
        if !self.parallel {
            return Ok(Executor::new(rules));
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Executor::parallel(rules, self.workers.map_or_else(cores, usize::from))
    }
}

/// Blocks whose senders are found out ahead of their execution, on a thread of their own.
const RECOVERED_AHEAD: usize = 16;

#[derive(Serialize)]
struct Done {
    version: u64,
    root: String,
    blocks: u64,
    transactions: u64,
    runs_again: u64,
    /// Transactions of which the run before their block's turn held.
    held_ahead: u64,
    gas: u64,
    held: u64,
    roots_checked: u64,
    seconds: f64,
    interrupted: bool,
}

/// What `--json` says of a root that is not the header's.
#[derive(Serialize)]
struct Mismatch {
    ok: bool,
    block: u64,
    expected: String,
    got: String,
    last_good_version: Option<u64>,
    /// Whether the store went back to it.
    rolled_back: bool,
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    interrupt::install()?;
    let mut source = match (&args.blocks, &args.chain) {
        (Some(path), _) => Source::era(path)?,
        (None, Some(path)) => Source::chain(path)?,
        (None, None) => return Err(Failure::new("give --blocks or --chain")),
    };
    let store = open(args, output)?;
    let genesis_root = match store.at(0) {
        // Where the genesis was pruned the file in the store's directory has to be believed.
        Err(bristlecone::Error::VersionNotKept { .. }) => {
            ChainFile::read(&args.dir)?.map_or(B256::ZERO, |file| file.genesis_root)
        }
        genesis => genesis?.root()?,
    };
    let (rules, genesis) = ChainFile::rules(&args.dir, genesis_root)?;
    let begun = Instant::now();
    let replay = Replay { store: &store, source: &mut source, args, rules, genesis };
    let replayed = replay.run();
    // Whatever happened, what was committed is made durable before anything is said.
    let closed = store.flush();
    let Replayed { held, applied, stats, gas, compared } = match replayed {
        Ok(replayed) => replayed,
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Mismatch(mismatch)) => return Err(report(mismatch, output)?),
    };
    closed?;
    let latest = store.latest()?;
    let unseen = unseen(source.first(), source.last(), held + applied);
    let done = Done {
        version: latest.version(),
        root: latest.root()?.to_string(),
        blocks: applied,
        transactions: stats.transactions,
        runs_again: stats.again(),
        held_ahead: stats.held,
        gas,
        held,
        roots_checked: compared,
        seconds: begun.elapsed().as_secs_f64(),
        interrupted: interrupt::asked() && unseen > 0,
    };
    drop(latest);
    store.close()?;
    output.result(&done, || {
        format!(
            "{} blocks with {} transactions executed{} in {:.2} s, {} held already, {} roots equal to their headers'\nversion {}, state root {}",
            thousands(done.blocks),
            thousands(done.transactions),
            match done.held_ahead {
                0 => String::new(),
                held => format!(" ({} of them ahead of their block)", thousands(held)),
            },
            done.seconds,
            thousands(done.held),
            thousands(done.roots_checked),
            done.version,
            done.root
        )
    })?;
    if done.interrupted && done.version >= source.last() {
        let message = "by request while held blocks were compared; nothing was changed";
        return Err(Failure::interrupted(message).hint("the same command compares all of them"));
    }
    if done.interrupted {
        let message = format!("by request after block {}, which is durable", done.version);
        return Err(Failure::interrupted(message).hint("the same command goes on from there"));
    }
    Ok(())
}

/// How many of the blocks `first..=last` were neither compared nor applied, when `seen` were.
fn unseen(first: u64, last: u64, seen: u64) -> u64 {
    last.saturating_add(1).saturating_sub(first).saturating_sub(seen)
}

fn open(args: &Args, output: &Output) -> Result<Store, Failure> {
    let options = Options::new().roots(RootSchedule::Every(args.root_every));
    let store = match &args.genesis {
        // A version 0 without rules beside it is not ours: `create` refuses whatever is another genesis.
        Some(genesis) if ChainFile::read(&args.dir)?.is_none() => {
            init::create(&args.dir, &init::read(genesis, output)?, options)?
        }
        _ => parse::open_with(&args.dir, options)?,
    };
    let chain = match store.namespaces() {
        [one] => {
            (one.scheme, one.shape, one.keys) == (SchemeKind::Ethereum, Shape::Accounts, KeyMode::Hashed)
        }
        _ => false,
    };
    if !chain {
        return Err(Failure::new("the store does not hold the state of an Ethereum chain")
            .hint("make one with `bristlecone init DIR --genesis FILE`"));
    }
    if store.latest_version().is_none()
        && let Some(genesis) = &args.genesis
    {
        // `init` was interrupted before its commit.
        drop(store);
        return init::create(&args.dir, &init::read(genesis, output)?, Options::new());
    }
    Ok(store)
}

/// Why a replay ends early.
enum Stop {
    Failed(Failure),
    Mismatch(Mismatch),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What a failed import means: a wrong root is reported as such.
fn stop(error: Error) -> Stop {
    match error {
        Error::StateRoot { number, expected, got, last_good } => Stop::Mismatch(Mismatch {
            ok: false,
            block: number,
            expected: expected.to_string(),
            got: got.to_string(),
            last_good_version: Some(last_good),
            rolled_back: true,
        }),
        error => Stop::Failed(error.into()),
    }
}

struct Replay<'a> {
    store: &'a Store,
    source: &'a mut Source,
    args: &'a Args,
    rules: Rules,
    genesis: Header,
}

/// What was done.
#[derive(Default)]
struct Replayed {
    held: u64,
    applied: u64,
    stats: ExecutionStats,
    gas: u64,
    compared: u64,
}

impl Replay<'_> {
    /// Compares what is held, executes the rest.
    fn run(mut self) -> Result<Replayed, Stop> {
        let latest = self.store.latest()?.version();
        let (first, last) = (self.source.first(), self.source.last());
        if first > latest.saturating_add(1) {
            let message =
                format!("the file begins with block {first}, but the store ends with version {latest}");
            return Err(Failure::new(message).hint("replay the files before it first").into());
        }
        let mut done = self.compare_held(first, latest.min(last))?;
        if latest >= last || interrupt::asked() {
            return Ok(done);
        }
        let mut importer = self.importer(latest)?;
        let mut progress = Progress::new("replay", last.saturating_sub(latest));
        let (rules, store, source, ahead) = (&self.rules, self.store, &mut *self.source, self.args.ahead);
        std::thread::scope(|scope| {
            let (send, blocks) = std::sync::mpsc::sync_channel(RECOVERED_AHEAD);
            scope.spawn(move || {
                for number in latest + 1..=last {
                    let block = source.block(number).and_then(|block| Ok(Block::new(rules, block)?));
                    let failed = block.is_err();
                    // Nobody takes it: the replay has ended.
                    if send.send(block).is_err() || failed {
                        break;
                    }
                }
            });
            let mut blocks = blocks.into_iter();
            let mut held = None;
            while let Some(block) = held.take().or_else(|| blocks.next()) {
                if interrupt::asked() {
                    break;
                }
                let block = block?;
                held = ahead.then(|| blocks.next()).flatten();
                let executed = match &held {
                    Some(Ok(next)) => importer.import_ahead(&block, next),
                    _ => importer.import(&block),
                }
                .map_err(stop)?;
                done.applied += 1;
                done.stats += executed.stats;
                done.gas += executed.gas_used;
                progress.at(done.applied, || {
                    let durable = store.latest_durable().unwrap_or_default();
                    format!("blocks, durable to version {durable}")
                });
            }
            Ok::<_, Stop>(())
        })?;
        importer.settle().map_err(stop)?;
        done.compared += importer.checked();
        Ok(done)
    }

    /// What goes on after version `latest`, with the hashes of the blocks before it as far as the file has them.
    fn importer(&mut self, latest: u64) -> Result<Importer, Stop> {
        let first = self.source.first();
        let mut hashes = BlockHashes::default();
        hashes.push(0, self.genesis.hash_slow());
        let from = first.max(latest.saturating_sub(BlockHashes::WINDOW)).max(1);
        for number in from..=latest {
            hashes.push(number, self.source.block(number)?.header.hash_slow());
        }
        let parent = match latest {
            0 => Some(self.genesis.clone()),
            _ if latest >= first => Some(self.source.block(latest)?.header),
            // A file that goes on after another: its first block is taken at its word on who is before it.
            _ => None,
        };
        let importer =
            Importer::new(self.store.clone(), self.args.executor(self.rules.clone())?, parent, hashes)?;
        Ok(importer.delay(self.args.delay).root_every(self.args.root_every))
    }

    /// Compares the roots of the versions `first..=last`, which the store holds, as far as they were computed, and that
    /// of the last one in any case: a root stands for the versions before it too, and computing each one now would
    /// cost far more than applying the blocks did.
    fn compare_held(&mut self, first: u64, last: u64) -> Result<Replayed, Stop> {
        let mut done = Replayed::default();
        let mut progress = Progress::new("compare", (last + 1).saturating_sub(first));
        let mut last_good = None;
        let versions = self.store.versions_in(first..=last);
        // What was pruned cannot be compared any more.
        done.held = versions.first().map_or(0, |oldest| oldest.version - first);
        for info in versions {
            let number = info.version;
            let root = match info.root {
                None if number == last => Some(self.store.at(number)?.root()?),
                known => known,
            };
            if let Some(got) = root {
                let expected = self.source.block(number)?.header.state_root;
                if got != expected {
                    return Err(Stop::Mismatch(self.first_wrong(last_good, number, expected, got)?));
                }
                done.compared += 1;
                last_good = Some(number);
            }
            done.held += 1;
            progress.at(done.held, || "blocks held".to_owned());
            if interrupt::asked() {
                break;
            }
        }
        Ok(done)
    }

    /// The first block after `last_good` whose root is not its header's; roots that were not computed so far are.
    fn first_wrong(
        &mut self,
        last_good: Option<u64>,
        number: u64,
        expected: B256,
        got: B256,
    ) -> Result<Mismatch, Stop> {
        let mut last_good = last_good;
        let mut wrong = (number, expected, got);
        let from = last_good.map_or(self.source.first(), |good| good + 1);
        for between in from..number {
            let expected = self.source.block(between)?.header.state_root;
            let got = self.store.at(between)?.root()?;
            if got != expected {
                wrong = (between, expected, got);
                break;
            }
            last_good = Some(between);
        }
        let (block, expected, got) = wrong;
        Ok(Mismatch {
            ok: false,
            block,
            expected: expected.to_string(),
            got: got.to_string(),
            last_good_version: last_good,
            rolled_back: false,
        })
    }
}

fn report(mismatch: Mismatch, output: &mut Output) -> Result<Failure, Failure> {
    if output.is_json() {
        output.result(&mismatch, String::new)?;
    }
    let good = match mismatch.last_good_version {
        Some(version) => format!("the last good version is {version}"),
        None => "no version before it is good".to_owned(),
    };
    let message = format!(
        "block {}: the state root is {}, but the header says {}; {good}",
        mismatch.block, mismatch.got, mismatch.expected
    );
    let hint = match mismatch.rolled_back {
        true => "the store went back to the last good version; is the file what it should be?",
        false => {
            "was the store made from this chain's genesis? Versions after the last good one are not to be used"
        }
    };
    Ok(Failure { code: FAILED, ..Failure::new(message) }.hint(hint))
}

#[cfg(test)]
mod tests {
    use super::unseen;

    #[test]
    fn a_replay_is_whole_once_every_block_of_the_file_was_compared_or_applied() {
        assert_eq!([unseen(0, 8191, 8192), unseen(8192, 16383, 8192), unseen(5, 5, 1)], [0; 3]);
        // Stopped while the blocks that the store holds were compared: none is left to apply.
        assert_eq!(unseen(0, 8191, 3238), 4954);
    }
}
