//! `replay`: blocks of an era1 file, every root against its header.

use std::{
    collections::VecDeque,
    fs::File,
    io::BufReader,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

use alloy_primitives::B256;
use bristlecone::{KeyMode, Options, Pending, RootSchedule, SchemeKind, Shape, Store};
use bristlecone_evm::{
    chain::{ChainFile, Rules},
    era1::{Block, Era1},
    state,
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

/// Roots that may be awaited while commits go on.
const AHEAD: usize = 256;

/// Apply the blocks of an era1 file with their block and uncle rewards, one version a block, and compare the roots with
/// the headers' as they become known. The file is verified whole first; blocks that the store holds are compared and
/// skipped, so an interrupted replay goes on with the same command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store's directory, made by `init`.
    dir: PathBuf,
    /// An era1 file of the history archive.
    #[arg(long, value_name = "FILE.era1")]
    blocks: PathBuf,
    /// Make the store from this genesis.json first, if the directory has none.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Compute and compare the root of every n-th block only, and of the last.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    root_every: u64,
}

type File1 = Era1<BufReader<File>>;

#[derive(Serialize)]
struct Done {
    version: u64,
    root: String,
    blocks: u64,
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
}

pub(crate) fn execute(args: &Args, output: &mut Output) -> Result<(), Failure> {
    interrupt::install()?;
    let mut era = verify_file(&args.blocks)?;
    let store = open(args, output)?;
    let rules = ChainFile::rules(&args.dir, store.at(0)?.root()?)?;
    let begun = Instant::now();
    let replayed =
        Replay { store: &store, era: &mut era, every: args.root_every, checker: Checker::default() }
            .run(&rules);
    // Whatever happened, what was committed is made durable before anything is said.
    let closed = store.flush();
    let (held, applied, checker) = match replayed {
        Ok(replayed) => replayed,
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Mismatch(mismatch)) => return Err(report(mismatch, output)?),
    };
    closed?;
    let latest = store.latest()?;
    let unseen = unseen(era.first(), era.last(), held + applied);
    let done = Done {
        version: latest.version(),
        root: latest.root()?.to_string(),
        blocks: applied,
        held,
        roots_checked: checker.checked,
        seconds: begun.elapsed().as_secs_f64(),
        interrupted: interrupt::asked() && unseen > 0,
    };
    drop(latest);
    store.close()?;
    output.result(&done, || {
        format!(
            "{} blocks applied in {:.2} s, {} held already, {} roots equal to their headers'\nversion {}, state root {}",
            thousands(done.blocks),
            done.seconds,
            thousands(done.held),
            thousands(done.roots_checked),
            done.version,
            done.root
        )
    })?;
    if done.interrupted && done.version >= era.last() {
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

fn verify_file(path: &Path) -> Result<File1, Failure> {
    let file =
        File::open(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let mut progress: Option<Progress> = None;
    let verified = Era1::verify(BufReader::new(file), |done, total| {
        let bar = progress.get_or_insert_with(|| Progress::new("verify", total));
        bar.at(done, || "bytes".to_owned());
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match verified {
        Err(bristlecone_evm::Error::Stopped) => {
            Err(Failure::interrupted("by request while the file was verified; nothing was changed"))
        }
        Err(error) => {
            Err(Failure::from(error).hint(format!("nothing was applied; is {} whole?", path.display())))
        }
        Ok(era) => Ok(era),
    }
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

struct Replay<'a> {
    store: &'a Store,
    era: &'a mut File1,
    every: u64,
    checker: Checker,
}

/// Roots on their way, oldest first.
#[derive(Default)]
struct Checker {
    awaited: VecDeque<(u64, B256, Pending<B256>)>,
    checked: u64,
    last_good: Option<u64>,
}

impl Replay<'_> {
    /// Compares what is held, applies the rest. Returns how many blocks were held and applied.
    fn run(mut self, rules: &Rules) -> Result<(u64, u64, Checker), Stop> {
        let latest = self.store.latest()?.version();
        let (first, last) = (self.era.first(), self.era.last());
        if first > latest.saturating_add(1) {
            let message =
                format!("the file begins with block {first}, but the store ends with version {latest}");
            return Err(Failure::new(message).hint("replay the files before it first").into());
        }
        let held = self.compare_held(first, latest.min(last))?;
        let mut applied = 0;
        let mut progress = Progress::new("replay", last.saturating_sub(latest));
        for number in latest + 1..=last {
            if interrupt::asked() {
                break;
            }
            let block = self.block(number)?;
            let batch = state::block_batch(&self.store.latest()?, rules, &block)?;
            let commit = self.store.commit(batch)?;
            applied += 1;
            if number % self.every == 0 || number == last {
                self.checker.awaited.push_back((number, block.header.state_root, commit.root()));
            }
            self.settle(AHEAD)?;
            progress.at(applied, || {
                let durable = self.store.latest_durable().unwrap_or_default();
                format!("blocks, durable to version {durable}")
            });
        }
        self.settle(0)?;
        Ok((held, applied, self.checker))
    }

    fn block(&mut self, number: u64) -> Result<Block, Failure> {
        self.era.block(number)?.ok_or_else(|| Failure::new(format!("the file does not hold block {number}")))
    }

    /// Compares the roots of the versions `first..=last`, which the store holds, as far as they were computed, and that
    /// of the last one in any case: a root stands for the versions before it too, and computing each one now would
    /// cost far more than applying the blocks did. Returns how many versions there are.
    fn compare_held(&mut self, first: u64, last: u64) -> Result<u64, Stop> {
        let mut held = 0;
        let mut progress = Progress::new("compare", (last + 1).saturating_sub(first));
        for info in self.store.versions_in(first..=last) {
            let number = info.version;
            let root = match info.root {
                None if number == last => Some(self.store.at(number)?.root()?),
                known => known,
            };
            if let Some(got) = root {
                let expected = self.block(number)?.header.state_root;
                self.judge(number, expected, got)?;
            }
            held += 1;
            progress.at(held, || "blocks held".to_owned());
            if interrupt::asked() {
                break;
            }
        }
        Ok(held)
    }

    /// Looks at the roots that are known, and waits until at most `left` are awaited.
    fn settle(&mut self, left: usize) -> Result<(), Stop> {
        while let Some((number, expected, pending)) = self.checker.awaited.front() {
            let got = match pending.try_get() {
                Some(got) => got,
                None if self.checker.awaited.len() > left => pending.wait(),
                None => break,
            }?;
            let (number, expected) = (*number, *expected);
            self.judge(number, expected, got)?;
            self.checker.awaited.pop_front();
        }
        Ok(())
    }

    /// A root is known. If it is not the header's, the first block at which they differ is looked for.
    fn judge(&mut self, number: u64, expected: B256, got: B256) -> Result<(), Stop> {
        self.checker.checked += 1;
        if got == expected {
            self.checker.last_good = Some(number);
            return Ok(());
        }
        let last_good = self.checker.last_good;
        // Blocks between the last good one and this one whose roots were not asked for so far.
        let from = last_good.map_or(self.era.first(), |good| good + 1);
        let mut wrong = (number, expected, got);
        let mut last_good = last_good;
        for between in from..number {
            let expected = self.block(between)?.header.state_root;
            let got = self.store.at(between)?.root()?;
            if got != expected {
                wrong = (between, expected, got);
                break;
            }
            last_good = Some(between);
        }
        let (block, expected, got) = wrong;
        Err(Stop::Mismatch(Mismatch {
            ok: false,
            block,
            expected: expected.to_string(),
            got: got.to_string(),
            last_good_version: last_good,
        }))
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
    let hint =
        "was the store made from this chain's genesis? Versions after the last good one are not to be used";
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
