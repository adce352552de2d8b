//! `run`: the main job on an embedded default, with no input at all.

mod committer;
mod evm;
mod measure;
mod oracle;
mod readers;
mod report;
mod workload;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use bristlecone::{B256, Namespace, Options, RootSchedule, SchemeKind, Store};
use clap::builder::RangedU64ValueParser;

use crate::{
    failure::{Failure, USAGE},
    interrupt,
    output::Output,
};
use committer::Phase;
use readers::{Reads, Until};
use report::{Figures, Interrupted};
use workload::{MAX_KEYS, Model, Plan, Skew, Workload};

/// Make a seeded chain and commit it while executors read; then prove the final root.
///
/// A chain of token transfers, swaps and plain transfers goes through the EVM: each block is executed in parallel on the visible
/// version before it, while roots are computed behind. Then it is executed once more, one transaction after the other, in a store
/// beside; both must come to the same roots, and the store reopens with the last.
///
/// `--workload accounts` and `flat` are without the EVM: a load makes keys; then each version updates some and inserts others.
/// Executors on several threads read the latest and historical versions meanwhile, and every value they get is compared with a
/// model. At the end the root is computed again without Bristlecone, reads are timed with nothing else going on, and the store is
/// closed and reopened.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory to make; a fresh `bristlecone-data` beside you if left out.
    dir: Option<PathBuf>,
    /// Transactions through the EVM, accounts and storage slots, or raw 32-byte keys and values.
    #[arg(long, value_enum, default_value = "evm")]
    workload: Kind,
    /// Everything made follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    evm: evm::Args,
    #[command(flatten)]
    keys: KeyArgs,
}

/// What of `run` is only of the workloads without the EVM.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Only of --workload accounts and flat")]
#[group(skip)]
struct KeyArgs {
    /// The hash rule.
    #[arg(long, value_enum, default_value = "ethereum")]
    scheme: Scheme,
    /// Keys that the load makes.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Versions after the load.
    #[arg(long, value_name = "N", default_value_t = 200)]
    versions: u64,
    /// Updates a version; a key that is drawn twice is updated once.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    updates: u64,
    /// New keys a version.
    #[arg(long, value_name = "N", default_value_t = 250)]
    inserts: u64,
    /// Which keys are updated: all alike, or Zipf with exponent 0.99.
    #[arg(long, value_enum, default_value = "uniform")]
    skew: Skew,
    /// Keys a version of the load.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Compute the root of every n-th version only.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    root_every: u64,
    /// Threads that read while versions are committed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(..=1024))]
    readers: usize,
    /// Memory for pages in bytes; the store's default if left out.
    #[arg(long, value_name = "BYTES")]
    cache_bytes: Option<u64>,
    /// Threads that work on a commit; the store's default if left out.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
}

/// The options above, as they are written.
const KEYS_ONLY: [&str; 11] = [
    "scheme",
    "keys",
    "versions",
    "updates",
    "inserts",
    "skew",
    "batch",
    "root_every",
    "readers",
    "cache_bytes",
    "threads",
];

/// What is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Transfers, token transfers and swaps, executed in parallel and then in turn.
    Evm,
    /// Accounts and storage slots, half of each, keys hashed.
    Accounts,
    /// Raw 32-byte keys with 32-byte values.
    Flat,
}

/// The hash rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Scheme {
    Ethereum,
    Blake3,
}

/// Reads of each kind that are timed when the commits are done.
const TIMED_READS: u64 = 200_000;

impl Args {
    fn plan(&self) -> Result<Plan, Failure> {
        let all = self
            .keys
            .versions
            .checked_mul(self.keys.inserts)
            .and_then(|more| more.checked_add(self.keys.keys));
        if all.is_none_or(|all| all > MAX_KEYS) {
            return Err(Failure { code: USAGE, ..Failure::new(format!("more than {MAX_KEYS} keys")) });
        }
        let versions = self.keys.keys.div_ceil(self.keys.batch).checked_add(self.keys.versions);
        if versions.is_none_or(|versions| versions >= u64::from(u32::MAX)) {
            return Err(Failure { code: USAGE, ..Failure::new("more than 4,294,967,294 versions") });
        }
        let updates = self.keys.versions.checked_mul(self.keys.updates);
        if updates.is_none_or(|updates| updates >= u64::from(u32::MAX)) {
            return Err(Failure { code: USAGE, ..Failure::new("more than 4,294,967,294 updates") });
        }
        Ok(Plan {
            workload: self.workload(),
            skew: self.keys.skew,
            keys: self.keys.keys,
            batch: self.keys.batch,
            versions: self.keys.versions,
            updates: self.keys.updates,
            inserts: self.keys.inserts,
            seed: self.seed,
        })
    }

    /// Of the workloads that are only keys.
    fn workload(&self) -> Workload {
        if self.workload == Kind::Flat { Workload::Flat } else { Workload::Accounts }
    }

    fn scheme(&self) -> SchemeKind {
        match self.keys.scheme {
            Scheme::Ethereum => SchemeKind::Ethereum,
            Scheme::Blake3 => SchemeKind::Blake3,
        }
    }

    fn options(&self) -> Options {
        let namespace = match self.workload() {
            Workload::Accounts => Namespace::accounts(self.scheme()),
            Workload::Flat => Namespace::flat(self.scheme()).raw(),
        };
        let mut options =
            Options::new().namespace(namespace).roots(RootSchedule::Every(self.keys.root_every));
        if let Some(bytes) = self.keys.cache_bytes {
            options = options.cache_bytes(bytes);
        }
        if let Some(threads) = self.keys.threads {
            options = options.threads(threads);
        }
        options
    }
}

/// `given` are the options that stand on the command line, by the names of their fields.
pub(crate) fn execute(args: &Args, given: &[&str], output: &mut Output) -> Result<(), Failure> {
    let (foreign, others) = match args.workload {
        Kind::Evm => (&KEYS_ONLY[..], "accounts` or `--workload flat"),
        Kind::Accounts | Kind::Flat => (&evm::ONLY[..], "evm"),
    };
    if let Some(option) = given.iter().find(|option| foreign.contains(option)) {
        let option = option.replace('_', "-");
        let workload = format!("{:?}", args.workload).to_lowercase();
        let message = format!("--{option} is no option of the workload `{workload}`");
        return Err(Failure { code: USAGE, ..Failure::new(message) }
            .hint(format!("add `--workload {others}`, or leave --{option} out")));
    }
    interrupt::install()?;
    if args.workload == Kind::Evm {
        let dir = directory(args.dir.as_deref(), output)?;
        return evm::execute(&args.evm, args.seed, &dir, output);
    }
    let plan = args.plan()?;
    let dir = directory(args.dir.as_deref(), output)?;
    let store = args.options().open(&dir)?;
    let model = Model::new(plan);

    let Some((load, commits, busy, growth)) = commit_all(args, &store, &model, &dir)? else {
        return stopped(store, &dir, output);
    };
    let root = store.latest()?.root()?;
    let idle = readers::executor(&store, &model, &Until::Reads(TIMED_READS), plan.seed ^ 0x51d1e)?;
    if interrupt::asked() {
        return stopped(store, &dir, output);
    }
    store.close()?;
    // Behind the close: the figures of memory are those of the store, not of what it is compared with.
    let memory = (measure::peak_rss_bytes(), measure::peak_anonymous_bytes());
    output.note("computing the final root again, without the engine …");
    let expected = oracle::root(&model, plan.last_version(), args.scheme());
    let (reopen, reopened) = reopen(args, &dir)?;
    let wrong = idle.wrong + busy.as_ref().map_or(0, |busy| busy.wrong);
    let verified = root == expected && reopened == (plan.last_version(), root) && wrong == 0;
    let figures =
        Figures { plan: &plan, root, verified, load, commits, busy, idle, wrong, growth, memory, reopen };
    report::print(&figures, output)?;
    if root != expected {
        return Err(Failure::new(format!(
            "the final root is {root}, but computed independently it is {expected}"
        )));
    }
    if reopened != (plan.last_version(), root) {
        let (version, root) = reopened;
        return Err(Failure::new(format!("reopened, the store is at version {version} with root {root}")));
    }
    if wrong > 0 {
        return Err(Failure::new(format!("{wrong} reads differ from the model")));
    }
    Ok(())
}

/// The directory to work in, which must not hold a store yet.
fn directory(asked: Option<&Path>, output: &Output) -> Result<PathBuf, Failure> {
    let fresh = |dir: &Path| match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if let Some(dir) = asked {
        if !fresh(dir) {
            return Err(Failure::new(format!("{} is not an empty directory", dir.display()))
                .hint("`run` makes a new store: give a directory that is not there yet"));
        }
        return Ok(dir.to_owned());
    }
    let numbered = (2..10_000).map(|number| format!("bristlecone-data-{number}"));
    let names = std::iter::once("bristlecone-data".to_owned()).chain(numbered);
    let Some(dir) = names.map(PathBuf::from).find(|dir| fresh(dir)) else {
        return Err(Failure::new("there are thousands of bristlecone-data here").hint("remove some"));
    };
    output.note(&format!("working in ./{} (give a directory to work elsewhere)", dir.display()));
    Ok(dir)
}

/// How the directory grew in the commits after the load.
struct Growth {
    disk: u64,
    grown: u64,
    written: u64,
}

/// Load and commits, with readers beside the latter. `None` if a stop was asked for.
type Committed = (Phase, Phase, Option<Reads>, Growth);

fn commit_all(args: &Args, store: &Store, model: &Model, dir: &Path) -> Result<Option<Committed>, Failure> {
    let plan = model.plan();
    let loads = plan.load_versions();
    let load = committer::commit(store, plan, 0..=loads - 1, args.keys.root_every, "load")?;
    if load.stopped {
        return Ok(None);
    }
    store.flush()?;
    let (disk, written) = (used_bytes(store, dir)?, measure::written_bytes());
    let stop = AtomicBool::new(false);
    let until = Until::Told(&stop);
    let reader =
        |number: usize| readers::executor(store, model, &until, plan.seed.wrapping_add(number as u64));
    let (commits, busy) = thread::scope(|scope| {
        let reader = &reader;
        let readers: Vec<_> =
            (0..args.keys.readers).map(|number| scope.spawn(move || reader(number))).collect();
        let versions = loads..=plan.last_version();
        let commits = committer::commit(store, plan, versions, args.keys.root_every, "commit");
        stop.store(true, Ordering::Relaxed);
        let mut busy: Option<Reads> = None;
        for reader in readers {
            let reads = reader.join().map_err(|_| Failure::new("a reader ended unexpectedly"))??;
            match &mut busy {
                Some(busy) => busy.beside(&reads)?,
                None => busy = Some(reads),
            }
        }
        commits.map(|commits| (commits, busy))
    })?;
    if commits.stopped {
        return Ok(None);
    }
    store.flush()?;
    let now = used_bytes(store, dir)?;
    let growth = Growth {
        disk: now,
        grown: now.saturating_sub(disk),
        written: measure::written_bytes().saturating_sub(written),
    };
    Ok(Some((load, commits, busy, growth)))
}

/// Bytes of the store on disk. Segments count as far as they are filled, and the batch log, which is a ring of fixed
/// size, not at all: both are allocated ahead.
fn used_bytes(store: &Store, dir: &Path) -> Result<u64, Failure> {
    let ahead = ["segments", "log"];
    Ok(measure::allocated_bytes(dir, &ahead)? + store.stats()?.segment_bytes)
}

/// Opens the store again and reads its latest root; the time is that of opening.
fn reopen(args: &Args, dir: &Path) -> Result<(std::time::Duration, (u64, B256)), Failure> {
    let begun = Instant::now();
    let store = args.options().create(false).open(dir)?;
    let took = begun.elapsed();
    let latest = store.latest()?;
    let found = (latest.version(), latest.root()?);
    drop(latest);
    store.close()?;
    Ok((took, found))
}

/// After Ctrl-C: everything committed is made durable, and the person is told.
fn stopped(store: Store, dir: &Path, output: &mut Output) -> Result<(), Failure> {
    let (version, root) = match store.latest_version() {
        Some(version) => (Some(version), Some(store.latest()?.root()?)),
        None => (None, None),
    };
    store.close()?;
    report::interrupted(&Interrupted::new(version, root), output)?;
    let dir = dir.display();
    let message = match version {
        Some(version) => format!("by request; {dir} holds versions 0 to {version}, all durable"),
        None => format!("by request; {dir} holds no version yet"),
    };
    Err(Failure::interrupted(message)
        .hint(format!("`bristlecone versions {dir}` and `check` show what is there")))
}
