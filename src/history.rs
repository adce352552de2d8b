//! Reading a sealed version, at the end of its run or inside it.

use bristlecone_delta::{Locator, SealedVersion, SegmentView, Stamp};
use bristlecone_trie::page::ACCOUNT_BYTES;
use bristlecone_trie::path::{common_prefix, nibble};
use bristlecone_trie::{B256, Body, Change, Op, Shape};

use crate::batch::Prepared;
use crate::graph::{Found, Graph};
use crate::options::Namespace;
use crate::overlay::Overlay;
use crate::reference::Reference;
use crate::runs::{List, Past};
use crate::{Error, Result};

/// The operations of a commit, by namespace.
pub(crate) type Batches = Vec<(u16, Prepared)>;

impl Past {
    /// What stands at `key` in namespace `space`.
    ///
    /// At the end of a run that is what the stored trie says. Inside it: an entry that is not younger than the version is the
    /// answer; else the run table knows what was overwritten; else the end of the run before.
    pub(crate) fn read(
        &self,
        graph: &Graph,
        shape: Shape,
        space: usize,
        key: &[u8],
    ) -> Result<Option<Found>> {
        let at_end = find(graph, self.run.root(space), key)?;
        if self.is_end() || at_end.as_ref().is_some_and(|found| found.stamp <= self.stamp().word()) {
            return Ok(at_end);
        }
        if let Some(table) = self.run.table(space)
            && let Some(answer) = in_table(&graph.segments.view(), table, shape, self.stamp(), key)?
        {
            return Ok(answer);
        }
        find(graph, self.before.as_ref().and_then(|before| before.root(space)), key)
    }

    /// The trie of namespace `space`: stored pages at the end of a run; inside it those of the run before with the
    /// operations since then applied again, in proportion to their number.
    pub(crate) fn overlay<'g>(
        &self,
        graph: &'g Graph,
        namespace: &Namespace,
        space: usize,
    ) -> Result<Overlay<'g>> {
        let word = |locator: Option<Locator>| locator.map(|locator| Reference::Stored(locator).word());
        if self.is_end() {
            let root = word(self.run.root(space));
            return Ok(Overlay::new(graph, namespace.scheme, namespace.shape, root));
        }
        let before = self.before.as_deref();
        let root = word(before.and_then(|before| before.root(space)));
        let overlay = Overlay::new(graph, namespace.scheme, namespace.shape, root);
        for (stamp, ops) in operations_on(graph, self, space, None)? {
            overlay.apply(&ops.ops(), stamp.word())?;
        }
        Ok(overlay)
    }

    /// The batches that made the versions of the run up to this one, each with what the seal says of its version: all that had an effect.
    pub(crate) fn batches(&self, graph: &Graph, spaces: usize) -> Result<Vec<(&SealedVersion, Batches)>> {
        let versions = self.run.seal.versions.iter().take_while(|sealed| sealed.stamp <= self.stamp());
        let mut out: Vec<_> = versions.map(|sealed| (sealed, Vec::new())).collect();
        for space in 0..spaces {
            for (stamp, ops) in operations_on(graph, self, space, None)? {
                let at = out.binary_search_by_key(&stamp, |(sealed, _)| sealed.stamp);
                let (_, batches) = at.ok().and_then(|at| out.get_mut(at)).ok_or_else(|| Error::Damaged {
                    what: format!("the run up to version {}, with changes of no version,", self.run.last),
                })?;
                batches.push((space as u16, Prepared::from_ops(&ops.ops())));
            }
        }
        Ok(out)
    }

    /// The root of namespace `space` as the seal has it, if the version is the end of its run or its root was computed in time.
    pub(crate) fn root(&self, space: usize) -> Option<B256> {
        let known = self.sealed()?.namespace_roots.get(space).copied().flatten();
        let end = self.is_end().then(|| self.run.seal.namespaces.get(space).map(|n| n.root_node)).flatten();
        known.or(end)
    }
}

fn find(graph: &Graph, root: Option<Locator>, key: &[u8]) -> Result<Option<Found>> {
    match root {
        Some(root) => graph.find_stored(root, key),
        None => Ok(None),
    }
}

/// The newest commit up to `stamp`, which made `version`, that removed `key` or wiped the storage it lies in, whether anything was
/// there or not. Asks one table after the other, from the run of the version backwards.
pub(crate) fn last_removal(
    runs: &List,
    graph: &Graph,
    shape: Shape,
    space: usize,
    (version, stamp): (u64, Stamp),
    key: &[u8],
) -> Result<Option<Stamp>> {
    for run in runs.back_from(version) {
        if let Some(table) = run.table(space)
            && let Some(removed) = removal_in_table(&graph.segments.view(), table, shape, stamp, key)?
        {
            return Ok(Some(removed));
        }
    }
    Ok(None)
}

/// What the run table says of `key` at `stamp`: `None` if nothing.
fn in_table(
    segments: &SegmentView<'_>,
    table: Locator,
    shape: Shape,
    stamp: Stamp,
    key: &[u8],
) -> Result<Option<Option<Found>>> {
    let newest = segments.find_in_table(table, key, stamp)?;
    let swept = match key.get(..ACCOUNT_BYTES) {
        Some(account) if shape == Shape::Accounts && key.len() > ACCOUNT_BYTES => {
            last_wipe(segments, table, account, stamp)?
        }
        _ => None,
    };
    if swept.is_some_and(|swept| newest.is_none_or(|op| op.stamp < swept)) {
        return Ok(Some(None));
    }
    let found = |value: &[u8], stamp: Stamp| Found { stamp: stamp.word(), value: value.to_vec() };
    let Some(op) = newest else { return Ok(None) };
    Ok(match op.change {
        Change::Put(value) | Change::Account { body: Body::Put(value), .. } => {
            Some(Some(found(value, op.stamp)))
        }
        Change::Delete | Change::Account { body: Body::Delete, .. } => Some(None),
        Change::Account { body: Body::Keep, .. } => body_before(segments, table, key, op.stamp)?,
    })
}

/// A wipe says nothing of the body: what does the table say of it before?
fn body_before(
    segments: &SegmentView<'_>,
    table: Locator,
    key: &[u8],
    stamp: Stamp,
) -> Result<Option<Option<Found>>> {
    let table = segments.table(table)?;
    let mut at = table.lower_bound(key, stamp)?;
    while let Some(before) = at.checked_sub(1) {
        let Some(op) = table.get(before)?.filter(|op| op.key == key) else { break };
        match op.change {
            Change::Account { body: Body::Put(value), .. } => {
                return Ok(Some(Some(Found { stamp: op.stamp.word(), value: value.to_vec() })));
            }
            Change::Account { body: Body::Delete, .. } => return Ok(Some(None)),
            _ => at = before,
        }
    }
    Ok(None)
}

/// The newest wipe or removal of `account` up to `stamp`.
fn last_wipe(
    segments: &SegmentView<'_>,
    table: Locator,
    account: &[u8],
    stamp: Stamp,
) -> Result<Option<Stamp>> {
    newest_where(
        segments,
        table,
        account,
        stamp,
        |change| matches!(change, Change::Account { body, wipe } if *wipe || *body == Body::Delete),
    )
}

/// The newest removal of `key`, or of all that it lies among, up to `stamp`.
fn removal_in_table(
    segments: &SegmentView<'_>,
    table: Locator,
    shape: Shape,
    stamp: Stamp,
    key: &[u8],
) -> Result<Option<Stamp>> {
    let removed = newest_where(segments, table, key, stamp, |change| {
        matches!(change, Change::Delete | Change::Account { body: Body::Delete, .. })
    })?;
    let swept = match key.get(..ACCOUNT_BYTES) {
        Some(account) if shape == Shape::Accounts && key.len() > ACCOUNT_BYTES => {
            last_wipe(segments, table, account, stamp)?
        }
        _ => None,
    };
    Ok(removed.max(swept))
}

/// The newest operation on `key` up to `stamp` that is as `wanted`.
fn newest_where(
    segments: &SegmentView<'_>,
    table: Locator,
    key: &[u8],
    stamp: Stamp,
    wanted: impl Fn(&Change<'_>) -> bool,
) -> Result<Option<Stamp>> {
    let Some(next) = Stamp::new(stamp.opening(), stamp.counter() + 1) else { return Ok(None) };
    let table = segments.table(table)?;
    let mut at = table.lower_bound(key, next)?;
    while let Some(before) = at.checked_sub(1) {
        let Some(op) = table.get(before)?.filter(|op| op.key == key) else { break };
        if wanted(&op.change) {
            return Ok(Some(op.stamp));
        }
        at = before;
    }
    Ok(None)
}

/// An operation with its own bytes.
#[derive(Clone, Debug)]
struct OwnedOp {
    key: Vec<u8>,
    change: OwnedChange,
}

#[derive(Clone, Debug)]
enum OwnedChange {
    Put(Vec<u8>),
    Delete,
    /// Body set, removed (`None` inside) or kept; storage wiped.
    Account(Option<Option<Vec<u8>>>, bool),
}

impl OwnedOp {
    fn of(key: &[u8], change: &Change<'_>) -> Self {
        let change = match *change {
            Change::Put(value) => OwnedChange::Put(value.to_vec()),
            Change::Delete => OwnedChange::Delete,
            Change::Account { body, wipe } => {
                let body = match body {
                    Body::Keep => None,
                    Body::Put(body) => Some(Some(body.to_vec())),
                    Body::Delete => Some(None),
                };
                OwnedChange::Account(body, wipe)
            }
        };
        Self { key: key.to_vec(), change }
    }

    fn borrow(&self) -> Op<'_> {
        let change = match &self.change {
            OwnedChange::Put(value) => Change::Put(value),
            OwnedChange::Delete => Change::Delete,
            OwnedChange::Account(body, wipe) => Change::Account {
                body: match body {
                    None => Body::Keep,
                    Some(None) => Body::Delete,
                    Some(Some(body)) => Body::Put(body),
                },
                wipe: *wipe,
            },
        };
        Op { key: &self.key, change }
    }
}

/// The first two nibbles of some keys, each once: operations elsewhere are of no interest.
pub(crate) struct Ways(Vec<[u8; 2]>);

impl Ways {
    /// `None` where a key is shorter.
    pub(crate) fn new(keys: &[&[u8]]) -> Option<Self> {
        let way = |key: &&[u8]| (!key.is_empty()).then(|| [nibble(key, 0), nibble(key, 1)]);
        let mut ways = keys.iter().map(way).collect::<Option<Vec<_>>>()?;
        ways.sort_unstable();
        ways.dedup();
        Some(Self(ways))
    }

    pub(crate) fn all(&self) -> &[[u8; 2]] {
        &self.0
    }

    /// Whether a path of `end` nibbles lies on or below one of the ways, or above.
    fn touch(&self, path: &[u8], end: usize) -> bool {
        let end = end.min(2);
        self.starts().any(|way| common_prefix(&[way], path, 0, end) == end)
    }

    /// The byte that the keys of each way begin with.
    fn starts(&self) -> impl Iterator<Item = u8> {
        self.0.iter().map(|[first, second]| first << 4 | second)
    }
}

/// The operations of one commit, sorted by key.
pub(crate) struct OwnedOps(Vec<OwnedOp>);

impl OwnedOps {
    pub(crate) fn ops(&self) -> Vec<Op<'_>> {
        self.0.iter().map(OwnedOp::borrow).collect()
    }
}

/// The operations of the run up to the version `past`, by commit: what the run table kept, and of the entries of the stored trie
/// those that the run changed. Together they are all that had an effect. With `ways`, only those below these.
pub(crate) fn operations_on(
    graph: &Graph,
    past: &Past,
    space: usize,
    ways: Option<&Ways>,
) -> Result<Vec<(Stamp, OwnedOps)>> {
    let (run, before, stamp) = (&past.run, past.before.as_deref(), past.stamp());
    let mut ops: Vec<(Stamp, OwnedOp)> = Vec::new();
    if let Some(table) = run.table(space) {
        let view = graph.segments.view();
        let table = view.table(table)?;
        let mut take = |from: usize, start: Option<u8>| -> Result<()> {
            for op in table.iter_from(from) {
                let op = op?;
                if start.is_some() && op.key.first().copied() != start {
                    break;
                }
                if op.stamp <= stamp {
                    ops.push((op.stamp, OwnedOp::of(op.key, &op.change)));
                }
            }
            Ok(())
        };
        match ways {
            None => take(0, None)?,
            Some(ways) => {
                for start in ways.starts() {
                    take(table.lower_bound(&[start], Stamp::from_word(0))?, Some(start))?;
                }
            }
        }
    }
    if let Some(root) = run.root(space) {
        let changed = Changed {
            graph,
            since: before.map_or(0, |before| before.end.word()),
            // A record that is older than the last seal's is part of its trie: nothing below it is new.
            fresh: before.map_or(0, |before| before.locator.word()),
            stamp,
            ways,
        };
        changed.entries(root, &mut Vec::new(), &mut ops)?;
    }
    ops.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
    let mut batches: Vec<(Stamp, OwnedOps)> = Vec::new();
    for (stamp, op) in ops {
        match batches.last_mut() {
            Some((last, batch)) if *last == stamp => match batch.0.last_mut() {
                // The table's word on an account has the wipe; the stored body repeats the rest.
                Some(previous) if previous.key == op.key => merge(previous, op),
                _ => batch.0.push(op),
            },
            _ => batches.push((stamp, OwnedOps(vec![op]))),
        }
    }
    Ok(batches)
}

fn merge(kept: &mut OwnedOp, other: OwnedOp) {
    if let (OwnedChange::Account(body, wipe), OwnedChange::Account(other_body, other_wipe)) =
        (&mut kept.change, other.change)
    {
        *wipe |= other_wipe;
        if body.is_none() {
            *body = other_body;
        }
    }
}

/// What of a stored trie was changed after `since` and up to `stamp`.
struct Changed<'a> {
    graph: &'a Graph,
    since: u64,
    /// Older records have nothing below them that is new.
    fresh: u64,
    stamp: Stamp,
    ways: Option<&'a Ways>,
}

impl Changed<'_> {
    /// Collects the leaves and bodies below the stored page `page`, to which `stem` leads.
    fn entries(&self, page: Locator, stem: &mut Vec<u8>, out: &mut Vec<(Stamp, OwnedOp)>) -> Result<()> {
        use bristlecone_trie::{Item, Page};
        if page.word() <= self.fresh {
            return Ok(());
        }
        let loaded = self.graph.segments.load(page)?;
        let view = Page::new(&loaded.bytes);
        let mut account = stem.get(..ACCOUNT_BYTES).unwrap_or_default().to_vec();
        for entry in view.entries() {
            let start = if entry.below { ACCOUNT_BYTES } else { view.depth() / 2 };
            let above = if entry.below { &account } else { &*stem };
            let mut key = above.get(..start).unwrap_or_default().to_vec();
            key.extend_from_slice(entry.tail);
            let in_run = |at: u64| at > self.since && at <= self.stamp.word();
            let is_asked = self.ways.is_none_or(|ways| ways.touch(&key, entry.end));
            match entry.item {
                Item::Child { reference } if is_asked => {
                    let child = Locator::from_word(reference)
                        .ok_or(Error::Internal("a stored child is no record"))?;
                    self.entries(child, &mut key, out)?;
                }
                Item::Leaf { stamp: at, value } if is_asked && in_run(at) => {
                    let change = OwnedChange::Put(value.to_vec());
                    out.push((Stamp::from_word(at), OwnedOp { key, change }));
                }
                Item::Account { stamp: at, body, .. } => {
                    account.clone_from(&key);
                    if is_asked && in_run(at) {
                        let change = OwnedChange::Account(Some(Some(body.to_vec())), false);
                        out.push((Stamp::from_word(at), OwnedOp { key, change }));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
