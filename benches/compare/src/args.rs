//! The command line.

use std::path::PathBuf;

use crate::{
    engines,
    failure::{Failure, Result},
    spec,
    workload::{MAX_KEYS, Skew},
};

/// Bristlecone beside its rivals: the same seeded workload, one engine after the other, each in a process of its own.
///
/// Figures are medians over the repeats, with the least and the most beside them. What each row means, and how each engine is
/// configured, is in docs/compare.md.
#[derive(Debug, clap::Parser)]
#[command(name = "bristlecone-compare", version, args_override_self = true)]
pub(crate) struct Args {
    /// Which engines, in which order (see --list); all if left out.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) engines: Vec<String>,
    /// Keys that the load makes.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = at_least_one())]
    pub(crate) keys: u64,
    /// Commits after the load; shorter phases after that are a quarter of it.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least_one())]
    pub(crate) commits: u64,
    /// Updates a commit; a key that is drawn twice is updated once.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub(crate) updates: u64,
    /// New keys a commit.
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub(crate) inserts: u64,
    /// Keys a commit of the load.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = at_least_one())]
    pub(crate) batch: u64,
    /// Which keys are updated: all alike, or Zipf with exponent 0.99.
    #[arg(long, value_enum, default_value = "uniform")]
    pub(crate) skew: Skew,
    /// Single reads of the latest version.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = at_least_one())]
    pub(crate) reads: u64,
    /// Commits whose root is not known yet, at most; engines that do not return before they have it never have more than one.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = at_least_one())]
    pub(crate) in_flight: u64,
    /// Threads for one commit; Bristlecone's default, and as docs/compare.md says for the others, if left out.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// How often everything is run, the engines in turns.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one())]
    pub(crate) repeat: u64,
    /// Everything made follows from it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// An existing directory on the disk to be measured; temporary ones are made in it. The system's own if left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Figures as JSON on standard output, one object a line: `machine`, then `run`s as they end, then `summary`s.
    #[arg(long)]
    pub(crate) json: bool,
    /// A directory for plots as SVG; it is made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,
    /// Lists the engines, and how durable and how hashed each is.
    #[arg(long)]
    pub(crate) list: bool,

    /// Instead: what a key costs Bristlecone by number of keys, size of commits, and threads.
    #[arg(long, conflicts_with = "mini_blocks")]
    pub(crate) scaling: bool,
    /// With --scaling: numbers of keys.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    pub(crate) scaling_keys: Vec<u64>,
    /// With --scaling: keys a commit.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [100, 1_000, 10_000, 100_000])]
    pub(crate) scaling_batches: Vec<u64>,
    /// With --scaling: numbers of threads.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 2])]
    pub(crate) scaling_threads: Vec<usize>,
    /// With --scaling: keys changed for each size of commits.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub(crate) scaling_changes: u64,

    /// Instead: commits of 50 changes with a root every 100, for --seconds.
    #[arg(long)]
    pub(crate) mini_blocks: bool,
    /// With --mini-blocks: how long.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = at_least_one())]
    pub(crate) seconds: u64,
    /// With --mini-blocks: keys a commit changes.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one())]
    pub(crate) mini_changes: u64,
    /// With --mini-blocks: a root every so many versions.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one())]
    pub(crate) mini_root_every: u64,

    /// One run, as the parent hands it over.
    #[arg(long, hide = true, value_name = "JSON")]
    pub(crate) child: Option<String>,
}

fn at_least_one() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

/// The engines of which the modes about Bristlecone alone choose.
const OURS: &str = "bristlecone";

impl Args {
    /// The engines asked for, each known.
    pub(crate) fn engines(&self) -> Result<Vec<engines::Facts>> {
        let alone = self.scaling || self.mini_blocks;
        if self.engines.is_empty() {
            let ours = |facts: &engines::Facts| !alone || facts.name == OURS;
            return Ok(engines::ALL.into_iter().filter(ours).collect());
        }
        let mut chosen: Vec<engines::Facts> = Vec::new();
        for name in &self.engines {
            let facts = engines::facts(name)?;
            if alone && !name.starts_with(OURS) {
                return Err(Failure::usage(format!("{name} is not Bristlecone, which this mode is about")));
            }
            if chosen.iter().any(|other| other.name == facts.name) {
                return Err(Failure::usage(format!("{name} is given twice")));
            }
            chosen.push(facts);
        }
        Ok(chosen)
    }

    /// The workload, within bounds.
    pub(crate) fn workload(&self) -> Result<spec::Workload> {
        // Main commits, and three shorter phases.
        let inserted = self.commits.checked_mul(2).and_then(|commits| commits.checked_mul(self.inserts));
        let most = inserted.and_then(|inserted| inserted.checked_add(self.keys));
        if most.is_none_or(|most| most > MAX_KEYS) {
            return Err(Failure::usage(format!("more than {MAX_KEYS} keys")));
        }
        if self.updates + self.inserts == 0 {
            return Err(Failure::usage("a commit must change something"));
        }
        if self.threads == Some(0) || self.scaling_threads.contains(&0) {
            return Err(Failure::usage("no threads do no work"));
        }
        if self.scaling_batches.contains(&0) || self.scaling_keys.contains(&0) {
            return Err(Failure::usage("numbers of keys and sizes of commits are at least 1"));
        }
        Ok(spec::Workload {
            keys: self.keys,
            batch: self.batch,
            commits: self.commits,
            updates: self.updates,
            inserts: self.inserts,
            skew: self.skew,
            seed: self.seed,
            reads: self.reads,
            in_flight: self.in_flight,
            threads: self.threads,
        })
    }
}
