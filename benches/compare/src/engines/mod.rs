//! The engines behind one trait. What is particular to one is in its file, its configuration included.

mod jmt;
mod lmdb;
mod nomt;
mod ours;
mod qmdb;
mod redb;

use std::path::Path;

use serde::Serialize;

use crate::{
    failure::{Failure, Result},
    workload::{Changes, Key, Value},
};

/// A root of any scheme.
pub(crate) type Root = [u8; 32];

/// What stands beside an engine's figures.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Facts {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// The crate, whose version is looked up in `Cargo.lock`.
    #[serde(rename = "crate")]
    pub(crate) crate_name: &'static str,
    /// What the root is a hash of.
    pub(crate) root: &'static str,
    /// What holds of a commit when it counts as done.
    pub(crate) durability: &'static str,
    /// How disk growth is counted.
    pub(crate) growth: &'static str,
    /// Whether it is there again after closing.
    pub(crate) persistent: bool,
    /// What one should know before comparing.
    pub(crate) apart: &'static str,
}

/// What the engines are told alike.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Keys that there will be at most, for what is sized beforehand.
    pub(crate) keys: u64,
    /// Threads for one commit; the engine's own choice, or that of its documentation, if left out.
    pub(crate) threads: Option<usize>,
    /// Every how many versions a root is computed. Only Bristlecone knows such a schedule.
    pub(crate) root_every: u64,
}

/// Memory for pages, for each engine that has such a bound.
pub(crate) const CACHE_BYTES: usize = 1 << 30;

/// An open store of an engine. One thread commits; any may read.
pub(crate) trait Engine: Send + Sync {
    /// Applies `changes` as the next version.
    fn commit(&self, changes: Changes) -> Result<Commit>;

    /// A reader for one thread, on the latest version.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;

    /// A reader of the version `back` commits before the latest; `None` where there is no history.
    fn reader_back(&self, back: u64) -> Result<Option<Box<dyn Reader + '_>>> {
        let _ = back;
        Ok(None)
    }

    /// The root of the latest version; `None` where there is none.
    fn root(&self) -> Result<Option<Root>> {
        Ok(None)
    }

    /// Makes proofs of keys of the latest version; `None` where there are none.
    fn prover(&self) -> Result<Option<Box<dyn Prover + '_>>> {
        Ok(None)
    }

    /// Waits until work left behind by commits is done, so that a phase pays for what it caused.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Bytes of the store on disk, as [`Facts::growth`] says.
    fn disk_bytes(&self, dir: &Path) -> Result<u64> {
        crate::measure::allocated_bytes(dir, &[])
    }

    /// Closes cleanly.
    fn close(self: Box<Self>) -> Result<()>;
}

/// What a commit gave.
pub(crate) enum Commit {
    /// Visible, durable (as far as the engine goes) and with its root.
    Done,
    /// Visible; the rest is awaited.
    Visible(Box<dyn Rest>),
}

/// What is still to come of a commit.
pub(crate) trait Rest: Send {
    /// Waits until it is durable.
    fn durable(&self) -> Result<()>;
    /// Waits for its root.
    fn root(&self) -> Result<Root>;
    /// The same again for another thread.
    fn again(&self) -> Box<dyn Rest>;
}

/// Reads one version.
pub(crate) trait Reader {
    /// Goes on to the latest version.
    fn refresh(&mut self) -> Result<()>;
    /// The value of a key, copied out.
    fn get(&mut self, key: &Key) -> Result<Option<Value>>;
}

/// Makes and verifies proofs.
pub(crate) trait Prover {
    /// A proof of what stands at `key`, ready to be verified.
    fn prove(&mut self, key: &Key) -> Result<Box<dyn Proof>>;
}

/// A proof of one key.
pub(crate) trait Proof {
    /// Its size in bytes, without the key and the value that it is about.
    fn size(&self) -> usize;
    /// Whether it shows that `key` has `value` under the root that the prover's version has.
    fn verify(&self, key: &Key, value: &Value) -> bool;
}

/// 32 bytes out of an engine's buffer.
fn value(bytes: &[u8]) -> Result<Value> {
    Value::try_from(bytes).map_err(|_| Failure::new(format!("a value of {} bytes was read", bytes.len())))
}

/// Sorted by key: what trees like best. Part of the commit's time.
fn sorted(mut changes: Changes) -> Changes {
    changes.sort_unstable_by_key(|(key, _)| *key);
    changes
}

/// All engines, in the order in which they are run and shown.
pub(crate) const ALL: [Facts; 8] = [
    ours::ETHEREUM,
    ours::BLAKE3,
    nomt::FACTS,
    qmdb::ANY,
    qmdb::CURRENT,
    jmt::FACTS,
    redb::FACTS,
    lmdb::FACTS,
];

/// The facts of the engine with this name.
pub(crate) fn facts(name: &str) -> Result<Facts> {
    ALL.into_iter().find(|facts| facts.name == name).ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|facts| facts.name).collect();
        Failure::usage(format!("there is no engine {name:?}; there are {}", names.join(", ")))
    })
}

/// Opens the engine's store in `dir`, which exists, or makes it there.
pub(crate) fn open(name: &str, dir: &Path, setup: &Setup) -> Result<Box<dyn Engine>> {
    Ok(match facts(name)?.name {
        "bristlecone" | "bristlecone-blake3" => Box::new(ours::Ours::open(name, dir, setup)?),
        "nomt" => Box::new(nomt::Nomt::open(dir, setup)?),
        "qmdb" => Box::new(qmdb::Qmdb::<qmdb::Any>::open(dir, setup)?),
        "qmdb-current" => Box::new(qmdb::Qmdb::<qmdb::Current>::open(dir, setup)?),
        "jmt" => Box::new(jmt::Jmt::open()),
        "redb" => Box::new(redb::Redb::open(dir)?),
        "lmdb" => Box::new(lmdb::Lmdb::open(dir, setup)?),
        other => return Err(Failure::new(format!("{other} is listed but not built"))),
    })
}

/// The version of a crate that this program was built with.
pub(crate) fn crate_version(name: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let package = lock.split("[[package]]").find(|package| {
        package
            .lines()
            .any(|line| line.strip_prefix("name = ").is_some_and(|found| found.trim_matches('"') == name))
    });
    let line = package.and_then(|package| package.lines().find_map(|line| line.strip_prefix("version = ")));
    line.map_or("?", |version| version.trim_matches('"'))
}
