//! The sealing thread: a run of versions becomes part of the stored trie.

pub(crate) mod amend;
pub(crate) mod dead;
pub(crate) mod keep;
mod pages;
mod table;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use bristlecone_delta::{
    GroupWriter, Locator, LogPosition, Seal, Sealed, SealedNamespace, SealedVersion, SegmentWriter, Stamp,
    TableOp, Top,
};
use bristlecone_snapshot::{SlotId, pin};
use bristlecone_trie::Op;

use self::amend::Amendment;
use self::keep::{Failed, Keep};
use self::pages::{Chains, Pages, Written};
use self::table::Superseded;
use super::log::LogMessage;
use super::{Core, add, tops};
use crate::batch::Prepared;
use crate::catalog::Catalog;
use crate::event::Asked;
use crate::runs::Run;
use crate::state::VersionState;
use crate::sync::{Receiver, Sender, lock, receive};
use crate::{Error, Result};

/// So often it is tried to free what was retired.
const RECLAIM_AGAIN: Duration = Duration::from_millis(5);
/// So often, and with such pauses, it is tried where memory is short.
const ROOM_LOOKS: u32 = 10;
const ROOM_PAUSE: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(3600);

/// The operations of a commit, by namespace.
type Batch = (Stamp, Arc<Vec<(u16, Prepared)>>);

/// What was written of a run.
struct Put {
    namespaces: Vec<SealedNamespace>,
    /// The list of what died in it.
    dead: Option<Locator>,
    /// Where pages were written.
    pages: Vec<(SlotId, Locator)>,
}

/// What the sealing thread is told.
pub(crate) enum SealMessage {
    /// Versions to seal, oldest first; the last one has a root.
    Run(Vec<Arc<VersionState>>),
    /// Say again what a seal said.
    Amend(Box<Amendment>),
    /// Keep other versions from now on.
    Keep(Box<Keep>),
    /// Free what no snapshot sees, up to a stamp.
    Reclaim(Stamp),
    /// Say when everything before this is sealed.
    Flush(Asked<()>),
}

/// Runs until nobody can tell it anything.
pub(crate) fn run(
    core: &Core,
    mut writer: SegmentWriter,
    mut catalog: Catalog,
    messages: &Receiver<SealMessage>,
    log: &Sender<LogMessage>,
    covered: LogPosition,
) -> Catalog {
    let mut chains = Chains::default();
    // Up to where seals cover the log.
    let mut covered = covered;
    loop {
        // What was retired waits for readers that may be looking at it: a moment, and nobody retires anything meanwhile.
        let waits = core.graph.slots.stats().pending > 0;
        let message = match receive(messages, if waits { RECLAIM_AGAIN } else { NEVER }) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => {
                core.graph.slots.reclaim();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        match message {
            SealMessage::Flush(done) => done.0.set(core.check_alive()),
            SealMessage::Reclaim(stamp) => core.reclaim(stamp.word()),
            SealMessage::Amend(amendment) => {
                let outcome = core
                    .check_alive()
                    .and_then(|()| amend::amend(core, &mut writer, &mut chains, &amendment, covered));
                let outcome = outcome.map_err(|error| core.poison(error)).map(|(sealed, run)| {
                    let _ = log.send(LogMessage::Release(sealed));
                    catalog.replace(&run);
                    run
                });
                amendment.done.0.set(outcome);
            }
            SealMessage::Keep(change) => {
                let outcome = core.check_alive().map_err(Failed::Refused);
                let outcome = outcome.and_then(|()| keep::keep(core, &mut writer, &change, covered));
                change.done.0.set(match outcome {
                    Ok(written) => {
                        if let Some((sealed, run)) = written {
                            let _ = log.send(LogMessage::Release(sealed));
                            catalog.replace(&run);
                        }
                        Ok(())
                    }
                    Err(Failed::Refused(error)) => Err(error),
                    Err(Failed::Write(error)) => Err(core.poison(error)),
                });
            }
            SealMessage::Run(run) => {
                let outcome = core.check_alive().and_then(|()| seal(core, &mut writer, &mut chains, &run));
                let outcome = outcome.map_err(|error| core.poison(error));
                if let Ok((sealed, last)) = &outcome {
                    let _ = log.send(LogMessage::Release(*sealed));
                    catalog.add(last);
                    covered = sealed.log_position();
                }
                for state in &run {
                    if let Err(error) = &outcome {
                        state.root.set(Err(error.clone()));
                    }
                    state.sealed.set(outcome.as_ref().map(|_| ()).map_err(Clone::clone));
                }
                core.counters.sealing_bytes.store(0, Ordering::Relaxed);
                let left = Core::weigh(&run);
                // What is sealed is logged. Where the seal failed the log may be about to write what would be forgotten here, and would write
                // nothing in its place.
                if outcome.is_ok() {
                    for state in &run {
                        state.batch.forget();
                        state.replaced.forget();
                    }
                }
                if let (Ok(_), Some(last)) = (&outcome, run.last()) {
                    // Two more runs may come to the same before this is asked again, with the hashes of their pages.
                    for id in retire(core, last, left.page_bytes * 5 / 2) {
                        chains.forget(id);
                    }
                    core.counters.chain_bytes.store(chains.size() as u64, Ordering::Relaxed);
                    make_room(core);
                }
                core.leave(&left);
            }
        }
    }
    catalog
}

/// Writes a run and makes it readable from the log.
fn seal(
    core: &Core,
    writer: &mut SegmentWriter,
    chains: &mut Chains,
    run: &[Arc<VersionState>],
) -> Result<(Sealed, Arc<Run>)> {
    let started = std::time::Instant::now();
    let last = run.last().ok_or(Error::Internal("an empty run"))?;
    let mut group = writer.begin(last.stamp.opening())?;
    let put = put_run(core, &mut group, chains, run)?;
    // The seal says up to where it covers the log; so the log must be there.
    last.durable.wait()?;
    let log_position =
        *last.logged.get().ok_or(Error::Internal("a durable commit without a place in the log"))?;
    let kept = core.kept_with(last.version);
    let seal = Seal {
        oldest: kept.oldest,
        pins: kept.to_pins(None, group.next()?),
        previous: core.runs.last().map(|run| run.locator),
        opening: last.stamp.opening(),
        versions: run.iter().map(|state| sealed_version(state)).collect(),
        dead: put.dead,
        namespaces: put.namespaces,
        log_position,
    };
    let bytes = group.bytes();
    let sealed = group.finish(&seal)?;
    settle(core, put.pages);
    let run = Arc::new(Run::new(sealed.locator(), seal)?);
    core.runs.put(&run);
    core.latest_sealed.set(last.version);
    core.keep(kept);
    add(&core.counters.seals, 1);
    metrics::histogram!("bristlecone_seal_seconds").record(started.elapsed().as_secs_f64());
    metrics::counter!("bristlecone_sealed_bytes").increment(bytes);
    Ok((sealed, run))
}

/// Writes the pages and the tables of a run, and what died in it.
fn put_run(
    core: &Core,
    group: &mut GroupWriter<'_>,
    chains: &mut Chains,
    run: &[Arc<VersionState>],
) -> Result<Put> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Err(Error::Internal("an empty run"));
    };
    let mut out = Written::default();
    let mut namespaces = Vec::with_capacity(core.namespaces.len());
    let added = added(run);
    let batches: Vec<Batch> = run.iter().map(|state| (state.stamp, state.batch.get())).collect();
    for (at, namespace) in core.namespaces.iter().enumerate() {
        let Some(space) = last.spaces.get(at) else { continue };
        let commits = operations(&batches, at as u16);
        let listed: usize = commits.iter().map(|(_, ops)| ops.capacity() * size_of::<Op<'_>>()).sum();
        core.counters.sealing_bytes.store(listed as u64, Ordering::Relaxed);
        let Superseded { hidden, gone } = table::superseded(&commits, namespace.shape);
        let mut pages = Pages { core, group, chains, since: first.stamp, gone, added: &added, out };
        let root_page = space.root.map(|word| pages.put(word)).transpose()?;
        out = pages.out;
        let tops = tops::of_run(run.iter().map(|state| &**state), at);
        let table = put_table(group, &hidden, &tops)?;
        let root_node = space.hash.get().copied().unwrap_or_default();
        namespaces.push(SealedNamespace { root_page, root_node, table });
    }
    let written = std::mem::take(&mut out.pages);
    let dead = dead::died(core, chains, run, out, group)?;
    let dead = if dead.is_empty() { None } else { Some(group.put_dead(&dead)?) };
    Ok(Put { namespaces, dead, pages: written })
}

/// The marks of the keys that came in the run, ascending.
fn added(run: &[Arc<VersionState>]) -> Vec<u64> {
    let mut added: Vec<u64> = run.iter().flat_map(|state| state.replaced.get().added.clone()).collect();
    added.sort_unstable();
    added
}

/// Notes where pages were written; from now on they may leave memory.
fn settle(core: &Core, pages: Vec<(SlotId, Locator)>) {
    // Pinned once for all of them.
    let guard = pin();
    for (id, locator) in &pages {
        core.graph.slots.set_locator(*id, locator.word());
    }
    drop(guard);
    lock(&core.evictable).extend(pages.into_iter().map(|(id, _)| id));
}

/// What the commits of the run did to namespace `at`, in order.
fn operations(batches: &[Batch], at: u16) -> Vec<(Stamp, Vec<Op<'_>>)> {
    let of = batches.iter().map(|(stamp, batch)| (stamp, batch.iter().find(|(space, _)| *space == at)));
    of.filter_map(|(stamp, found)| found.map(|(_, prepared)| (*stamp, prepared.ops()))).collect()
}

fn sealed_version(state: &VersionState) -> SealedVersion {
    SealedVersion {
        version: state.version,
        stamp: state.stamp,
        parent: state.parent,
        root: state.root.get().and_then(Result::ok),
        namespace_roots: state.spaces.iter().map(|space| space.hash.get().copied()).collect(),
    }
}

/// Writes the table of the run, if it has one.
fn put_table(
    group: &mut GroupWriter<'_>,
    hidden: &[TableOp<'_>],
    tops: &[Top<'_>],
) -> Result<Option<Locator>> {
    let is_empty = hidden.is_empty() && tops.is_empty();
    if is_empty { Ok(None) } else { Ok(Some(group.put_table(hidden, tops)?)) }
}

/// Waits a little for what was retired to be freed, where it is much for the cache: whoever waits to commit would take as much again.
fn make_room(core: &Core) {
    for _ in 0..ROOM_LOOKS {
        core.graph.slots.reclaim();
        if core.graph.slots.stats().pending_bytes <= core.cache_bytes / 16 {
            break;
        }
        std::thread::sleep(ROOM_PAUSE);
    }
}

/// Lets go of what only unsealed versions needed: readers of the past go to the log from now on. Says which pages were evicted.
/// `coming` is as for [`evict`](super::evict::evict).
fn retire(core: &Core, last: &VersionState, coming: u64) -> Vec<SlotId> {
    for (version, stamp) in core.versions.published() {
        let is_latest = core.versions.range().is_none_or(|range| *range.end() == version);
        if stamp <= last.stamp.word() && !is_latest {
            core.versions.forget(version);
        }
    }
    core.reclaim(last.stamp.word());
    super::evict::evict(core, coming)
}

#[cfg(test)]
mod tests {
    use crate::vfs::sim::SimVfs;
    use crate::{Batch, Error, Namespace, Options, SchemeKind};

    #[test]
    fn a_commit_whose_seal_failed_keeps_its_operations_for_the_log() {
        let namespace = Namespace::flat(SchemeKind::Blake3).raw();
        let vfs = std::sync::Arc::new(SimVfs::new(1));
        let store = Options::new().namespace(namespace).vfs(vfs).open("/store").unwrap();
        let mut batch = Batch::new();
        batch.put(b"key", b"value");
        let version = store.commit(batch).unwrap().version();
        let core = &store.inner.core;
        let state = core.versions.lease(version).unwrap();
        core.poison(Error::Internal("a failure by order"));
        assert!(matches!(store.flush(), Err(Error::Poisoned(_))));
        assert!(matches!(state.sealed.wait(), Err(Error::Poisoned(_))));
        assert_eq!(state.batch.get().len(), 1);
    }
}
