//! One way through the chain.

use std::{
    collections::VecDeque,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bristlecone::{B256, Batch, Pending, Snapshot, Store};
use bristlecone_evm::{
    BlockHashes, CodeCache, Executor, StateDb,
    block::Block,
    executor::{Executed, ExecutionStats, Hints},
};

use super::{
    super::measure::Times,
    Profile,
    generate::{self, Plan},
};
use crate::{failure::Failure, interrupt, progress::Progress};

/// How to go.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) profile: Profile,
    /// Threads that execute a block; with one, everything is done in turn.
    pub(super) workers: usize,
    /// Roots that may be awaited.
    pub(super) delay: usize,
    /// From one block to the next.
    pub(super) pace: Option<Duration>,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) took: Duration,
    pub(super) executing: Duration,
    pub(super) committing: Duration,
    pub(super) stats: ExecutionStats,
    pub(super) gas: u64,
    pub(super) reverted: u64,
    /// Blocks that were due before the one before was visible.
    pub(super) late: u64,
    /// Of those versions that have one.
    pub(super) roots: Vec<(u64, B256)>,
    /// Sum and greatest of the blocks executed on top of one before its root was known.
    pub(super) lag: (u64, u64),
}

/// A network of the chain: its accounts are a namespace of the store.
struct Network<'a> {
    namespace: &'static str,
    blocks: &'a [Block],
    executor: Executor,
    hashes: BlockHashes,
}

impl Network<'_> {
    /// Executes the block at `at` on the version before it.
    fn execute(
        &self,
        way: &Way,
        at: usize,
        snapshot: &Snapshot,
        codes: &CodeCache,
    ) -> Result<Executed, Failure> {
        let block = self.blocks.get(at).ok_or_else(|| Failure::new("a network has too few blocks"))?;
        let db = StateDb::new(snapshot.clone(), Arc::new(self.hashes.clone()), codes.clone());
        let db =
            if self.namespace.is_empty() { db } else { db.of_namespace(self.namespace).map_err(read)? };
        let hints = match way.profile {
            Profile::Monad | Profile::Pharos => Hints::senders(block),
            Profile::Megaeth => Hints::access_lists(block),
        };
        Ok(self.executor.execute_unchecked(&db, block, &hints)?)
    }
}

fn read(error: bristlecone_evm::StateError) -> Failure {
    Failure::new(error.to_string())
}

/// The networks, which share the workers: each has its own, or several networks one.
fn networks<'a>(way: &Way, chains: &'a [Vec<Block>]) -> Result<Vec<Network<'a>>, Failure> {
    let names = way.profile.networks();
    let share = way.workers / names.len();
    let networks = names.iter().zip(chains).map(|(namespace, blocks)| {
        let executor = match share {
            0 | 1 => Executor::new(generate::rules()),
            share => Executor::parallel(generate::rules(), share)?,
        };
        let mut hashes = BlockHashes::default();
        hashes.push(0, B256::ZERO);
        Ok(Network { namespace, blocks, executor, hashes })
    });
    networks.collect()
}

/// Executes a block of every network, side by side where there are threads for it.
fn execute(
    way: &Way,
    networks: &[Network<'_>],
    at: usize,
    snapshot: &Snapshot,
    codes: &CodeCache,
) -> Result<Vec<Executed>, Failure> {
    let groups = networks.len().div_ceil(way.workers.min(networks.len()));
    let run = |group: &[Network<'_>]| -> Result<Vec<Executed>, Failure> {
        group.iter().map(|network| network.execute(way, at, snapshot, codes)).collect()
    };
    if groups == networks.len() {
        return run(networks);
    }
    let run = &run;
    let executed = thread::scope(|scope| {
        let threads: Vec<_> = networks.chunks(groups).map(|group| scope.spawn(move || run(group))).collect();
        let ended = threads.into_iter().map(|thread| {
            thread.join().map_err(|_| Failure::new("a thread that executed ended unexpectedly"))?
        });
        ended.collect::<Result<Vec<_>, Failure>>()
    })?;
    Ok(executed.into_iter().flatten().collect())
}

/// Commits the genesis and then all blocks of `chains`, one chain a network, with `delay` of them ahead of the last known root.
pub(super) fn go(
    way: &Way,
    plan: &Plan,
    dir: &Path,
    chains: &[Vec<Block>],
    visible: &mut Times,
) -> Result<(Store, Pass), Failure> {
    let mut networks = networks(way, chains)?;
    let every = way.profile.root_every();
    let store = way.profile.options().open(dir)?;
    let mut genesis = Batch::new();
    for (network, at) in networks.iter().zip(0..) {
        generate::genesis(&plan.of(at)).add_to(&mut genesis, network.namespace);
    }
    store.commit(genesis)?;
    store.flush()?;
    let codes = CodeCache::default();
    let mut pass = Pass::default();
    let mut awaited: VecDeque<(u64, Pending<B256>)> = VecDeque::new();
    let mut progress = Progress::new(if way.workers > 1 { "parallel" } else { "in turn" }, plan.blocks);
    let begun = Instant::now();
    for number in 1..=plan.blocks {
        if interrupt::asked() {
            return Err(Failure::interrupted(format!(
                "by request; {} is whole as far as it goes",
                dir.display()
            )));
        }
        let mut due = Instant::now();
        if let Some(pace) = way.pace {
            // Counted from the beginning, so that one late block does not put all later ones off.
            let wanted = begun + pace * u32::try_from(number - 1).unwrap_or(u32::MAX);
            if wanted < due {
                pass.late += 1;
            }
            thread::sleep(wanted.saturating_duration_since(due));
            due = wanted;
        }
        let executing = Instant::now();
        let executed = execute(way, &networks, number as usize - 1, &store.latest()?, &codes)?;
        let committing = Instant::now();
        let mut batch = Batch::new();
        for (network, executed) in networks.iter().zip(&executed) {
            executed.changes.add_to(&mut batch, network.namespace);
        }
        let commit = store.commit(batch)?;
        visible.record(due.elapsed());
        pass.executing += committing - executing;
        pass.committing += committing.elapsed();
        for (network, executed) in networks.iter_mut().zip(&executed) {
            let hash = network.blocks.get(number as usize - 1).map(|block| block.hash);
            network.hashes.push(number, hash.unwrap_or_default());
            pass.stats += executed.stats;
            pass.gas += executed.gas_used;
            pass.reverted += executed.receipts.iter().filter(|receipt| !receipt.success).count() as u64;
        }
        if number.is_multiple_of(every) || number == plan.blocks {
            awaited.push_back((number, commit.root()));
        }
        settle(&mut awaited, way.delay, number, &mut pass)?;
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
