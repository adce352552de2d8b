//! The sealing thread: a run of versions becomes part of the stored trie.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use bristlecone_delta::{
    ChildEntry, GroupWriter, Locator, Seal, SealedNamespace, SealedVersion, SegmentWriter, Stamp, TableOp,
};
use bristlecone_snapshot::{Lookup, SlotId, pin};
use bristlecone_trie::{Body, Change, Item, NodeRef, Op, Page, Shape};

use super::log::LogMessage;
use super::{Core, add, lock};
use crate::catalog::Catalog;
use crate::event::Asked;
use crate::history::Run;
use crate::reference::Reference;
use crate::state::VersionState;
use crate::{Error, Result};

/// What the sealing thread is told.
pub(crate) enum SealMessage {
    /// Versions to seal, oldest first; the last one has a root.
    Run(Vec<Arc<VersionState>>),
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
) -> Catalog {
    while let Ok(message) = messages.recv() {
        match message {
            SealMessage::Flush(done) => done.0.set(core.check_alive()),
            SealMessage::Run(run) => {
                let outcome = core.check_alive().and_then(|()| seal(core, &mut writer, &run));
                let outcome = outcome.map_err(|error| core.poison(error));
                if let Ok(sealed) = &outcome {
                    let _ = log.send(LogMessage::Release(*sealed));
                    if let Some(last) = core.runs.last() {
                        catalog.add(last);
                    }
                }
                for state in &run {
                    if let Err(error) = &outcome {
                        state.root.set(Err(error.clone()));
                    }
                    state.sealed.set(outcome.as_ref().map(|_| ()).map_err(Clone::clone));
                }
                core.leave(&run);
                if let (Ok(_), Some(last)) = (&outcome, run.last()) {
                    retire(core, last);
                }
            }
        }
    }
    catalog
}

/// Writes a run and makes it readable from the log.
fn seal(
    core: &Core,
    writer: &mut SegmentWriter,
    run: &[Arc<VersionState>],
) -> Result<bristlecone_delta::Sealed> {
    let Some(last) = run.last() else { return Err(Error::Internal("an empty run")) };
    let started = std::time::Instant::now();
    let mut written = Vec::new();
    let mut group = writer.begin(last.stamp.opening())?;
    let mut namespaces = Vec::with_capacity(core.namespaces.len());
    for (at, namespace) in core.namespaces.iter().enumerate() {
        let Some(space) = last.spaces.get(at) else { continue };
        let root_page = match space.root {
            None => None,
            Some(word) => Some(put_page(core, &mut group, word, &mut written)?),
        };
        let ops = superseded(run, at as u16, namespace.shape);
        let ops: Vec<TableOp<'_>> = ops.iter().flat_map(|(batch, picks)| pick(batch, picks)).collect();
        let table = put_table(&mut group, ops)?;
        let root_node = space.hash.get().copied().unwrap_or_default();
        namespaces.push(SealedNamespace { root_page, root_node, table });
    }
    // The seal says up to where it covers the log; so the log must be there.
    last.durable.wait()?;
    let log_position =
        *last.logged.get().ok_or(Error::Internal("a durable commit without a place in the log"))?;
    let seal = Seal {
        previous: core.runs.last().map(|run| run.locator),
        opening: last.stamp.opening(),
        versions: run.iter().map(|state| sealed_version(state)).collect(),
        namespaces,
        log_position,
    };
    let bytes = group.bytes();
    let sealed = group.finish(&seal)?;
    for (id, locator) in &written {
        core.graph.slots.set_locator(*id, locator.word());
    }
    lock(&core.evictable).extend(written.into_iter().map(|(id, _)| id));
    core.runs.push(Run::new(sealed.locator(), seal)?);
    core.latest_sealed.set(last.version);
    add(&core.counters.seals, 1);
    metrics::histogram!("bristlecone_seal_seconds").record(started.elapsed().as_secs_f64());
    metrics::counter!("bristlecone_sealed_bytes").increment(bytes);
    Ok(sealed)
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

/// Writes the page that `word` names and all below it that are not stored yet.
fn put_page(
    core: &Core,
    group: &mut GroupWriter<'_>,
    word: u64,
    written: &mut Vec<(SlotId, Locator)>,
) -> Result<Locator> {
    if let Some(locator) = core.locator(word) {
        return Ok(locator);
    }
    let Some(Reference::Slot(id)) = Reference::from_word(word) else {
        return Err(Error::Internal("a page to be sealed is in no slot"));
    };
    let (bytes, nodes) = {
        let guard = pin();
        let Lookup::Block(bytes) = core.graph.slots.get(id, &guard) else {
            return Err(Error::Internal("a page to be sealed is gone"));
        };
        let Some(refs) = core.graph.slots.companion(id, &guard) else {
            return Err(Error::Internal("a page to be sealed has no hashes"));
        };
        let nodes: Vec<NodeRef> = refs.to_vec();
        (bytes.to_vec(), nodes)
    };
    let page = Page::new(&bytes);
    let mut children = Vec::new();
    for (entry, node) in page.entries().zip(nodes) {
        if let Item::Child { reference } = entry.item {
            children.push(ChildEntry { locator: put_page(core, group, reference, written)?, node });
        }
    }
    let locator = group.put_page(stored_ancestor(core, page), page, &children)?;
    written.push((id, locator));
    Ok(locator)
}

/// The newest record of the page that `page` took the place of, under the same stem.
fn stored_ancestor(core: &Core, page: Page<'_>) -> Option<Locator> {
    let guard = pin();
    let depth = page.depth();
    let mut at = page;
    loop {
        let next = at.sources().find_map(|source| {
            let Some(Reference::Slot(id)) = Reference::from_word(source.page) else { return None };
            match core.graph.slots.get(id, &guard) {
                Lookup::Block(bytes) => Some((id, Page::new(bytes))).filter(|(_, old)| old.depth() == depth),
                Lookup::Located(_) | Lookup::Gone => None,
            }
        });
        let (id, old) = next?;
        if let Some(locator) = core.graph.slots.locator(id).and_then(Locator::from_word) {
            return Some(locator);
        }
        at = old;
    }
}

type Picks = Vec<(usize, Stamp)>;

/// Which operations of the run on namespace `at` its end does not show: those overwritten later in the run, those that end
/// in absence, and every wipe. They go into the run table, for reads inside the run.
fn superseded(run: &[Arc<VersionState>], at: u16, shape: Shape) -> Vec<(Vec<Op<'_>>, Picks)> {
    let mut batches: Vec<(Vec<Op<'_>>, Picks)> = Vec::new();
    let mut stamps = Vec::new();
    for state in run {
        if let Some((_, prepared)) = state.batch.iter().find(|(space, _)| *space == at) {
            batches.push((prepared.ops(), Vec::new()));
            stamps.push(state.stamp);
        }
    }
    let mut last: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut wiped: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (index, (ops, _)) in batches.iter().enumerate() {
        for op in ops {
            if is_wipe(&op.change) {
                wiped.insert(op.key, index);
            }
            if !matches!(op.change, Change::Account { body: Body::Keep, .. }) {
                last.insert(op.key, index);
            }
        }
    }
    let mut picks: Vec<Picks> = vec![Picks::new(); batches.len()];
    for ((index, (ops, _)), picks) in batches.iter().enumerate().zip(&mut picks) {
        for (position, op) in ops.iter().enumerate() {
            let account = op.key.get(..32).filter(|_| shape == Shape::Accounts && op.key.len() == 64);
            let overwritten = last.get(op.key).is_some_and(|last| *last > index);
            let swept = account.and_then(|account| wiped.get(account)).is_some_and(|at| *at > index);
            let shown =
                matches!(op.change, Change::Put(_) | Change::Account { body: Body::Put(_), wipe: false });
            if overwritten || swept || !shown {
                picks.push((position, stamps.get(index).copied().unwrap_or_default()));
            }
        }
    }
    batches.into_iter().zip(picks).map(|((ops, _), picks)| (ops, picks)).collect()
}

fn is_wipe(change: &Change<'_>) -> bool {
    matches!(change, Change::Account { body, wipe } if *wipe || *body == Body::Delete)
}

fn pick<'a>(ops: &[Op<'a>], picks: &Picks) -> Vec<TableOp<'a>> {
    let op = |(position, stamp): &(usize, Stamp)| {
        let op = ops.get(*position)?;
        Some(TableOp { key: op.key, stamp: *stamp, change: op.change })
    };
    picks.iter().filter_map(op).collect()
}

fn put_table(group: &mut GroupWriter<'_>, mut ops: Vec<TableOp<'_>>) -> Result<Option<Locator>> {
    if ops.is_empty() {
        return Ok(None);
    }
    ops.sort_by(|a, b| a.key.cmp(b.key).then(a.stamp.cmp(&b.stamp)));
    Ok(Some(group.put_table(&ops)?))
}

/// Lets go of what only unsealed versions needed: readers of the past go to the log from now on.
fn retire(core: &Core, last: &VersionState) {
    for (version, stamp) in core.versions.published() {
        let is_latest = core.versions.range().is_none_or(|range| *range.end() == version);
        if stamp <= last.stamp.word() && !is_latest {
            core.versions.forget(version);
        }
    }
    core.reclaim(last.stamp.word());
    super::evict::evict(core);
}
