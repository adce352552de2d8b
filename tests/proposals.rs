//! Proposals: random trees of them against a map for each, what they do to memory and to the disk, and readers that look on.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bristlecone::vfs::sim::SimVfs;
use bristlecone::{
    Batch, Commit, Error, Key, KeyRange, Namespace, Options, Proposal, RootSchedule, SchemeKind, Since,
    Snapshot, Store,
};
use bristlecone_torture::{
    Change, Check, Config, Depth, Model, Rng, State, Universe, batches, sequences, verify,
};

const DIR: &str = "/store";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    Open,
    Accepted,
    Ended,
}

/// A proposal as it should be.
struct Node {
    changes: Vec<Change>,
    state: State,
    version: u64,
    /// Another node, or the version below this number.
    parent: Option<usize>,
    status: Status,
    proposal: Option<Proposal>,
    snapshot: Option<Snapshot>,
}

struct World {
    config: Config,
    options: Options,
    sim: SimVfs,
    store: Option<Store>,
    model: Model,
    nodes: Vec<Node>,
    rng: Rng,
}

fn namespaces(seed: u64) -> Vec<Namespace> {
    let scheme = if seed.is_multiple_of(2) { SchemeKind::Ethereum } else { SchemeKind::Blake3 };
    match seed % 3 {
        0 => vec![Namespace::accounts(scheme)],
        1 => vec![Namespace::flat(scheme).raw()],
        _ => vec![Namespace::accounts(scheme), Namespace::flat(SchemeKind::Blake3).named("flat")],
    }
}

impl World {
    fn new(seed: u64, config: impl FnOnce(Config) -> Config) -> Self {
        let mut rng = Rng::new(seed);
        let namespaces = namespaces(seed);
        let scale = *rng.pick(&[10, 60, 300]);
        let universe = Universe::random(&namespaces, scale, &mut rng);
        let config = config(Config::random(namespaces.clone(), &mut rng));
        let sim = SimVfs::new(seed);
        let options = config.options(sim.clone());
        let store = options.open(DIR).unwrap();
        let model = Model::new(namespaces, config.first_version, universe);
        let mut this = Self { config, options, sim, store: Some(store), model, nodes: Vec::new(), rng };
        this.commit().unwrap();
        this.store().flush().unwrap();
        this
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn step(&mut self) -> Check {
        match self.rng.below(100) {
            0..45 => self.propose()?,
            45..65 => self.accept()?,
            65..72 => self.commit()?,
            72..82 => self.drop_some(),
            82..86 => self.rebase()?,
            86..89 => self.store().flush().map_err(|error| format!("a flush: {error}"))?,
            89..92 => self.roll_back()?,
            92..95 => self.reopen()?,
            _ => self.ask_roots()?,
        }
        self.look()
    }

    fn commit(&mut self) -> Check {
        let changes = batches::random(&self.model, 12, false, &mut self.rng);
        let version = self.model.commit(&changes).unwrap();
        let batch = batches::batch_of(&self.model.namespaces, &changes);
        let commit = self.store().commit(batch).map_err(|error| format!("commit {version}: {error}"))?;
        self.settle(None);
        if commit.version() == version { Ok(()) } else { Err(format!("{commit:?} is not {version}")) }
    }

    /// Another version is the latest, which was the node `accepted` or none: what does not stand on it ends.
    fn settle(&mut self, accepted: Option<usize>) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].status != Status::Open {
                continue;
            }
            let stands = match self.nodes[at].parent {
                None => false,
                Some(parent) if self.nodes[parent].status == Status::Accepted => Some(parent) == accepted,
                Some(parent) => self.nodes[parent].status == Status::Open,
            };
            if !stands {
                self.nodes[at].status = Status::Ended;
            }
        }
    }

    /// On the latest version, or on any proposal.
    fn propose(&mut self) -> Check {
        let parent = match self.nodes.len() {
            0 => None,
            count => Some(self.rng.below(count)).filter(|_| self.rng.chance(60)),
        };
        let snapshot = match parent {
            None => self.store().latest().unwrap(),
            Some(at) => match &self.nodes[at].snapshot {
                Some(snapshot) => snapshot.clone(),
                None => return Ok(()),
            },
        };
        let state = parent.map_or(self.model.latest(), |at| &self.nodes[at].state).clone();
        let mut on = Model::new(self.model.namespaces.clone(), 0, self.model.universe.clone());
        on.push(state);
        let changes = batches::random(&on, 12, self.rng.chance(10), &mut self.rng);
        let batch = batches::batch_of(&self.model.namespaces, &changes);
        let latest = self.model.last_version().unwrap();
        let may = match parent {
            None => Ok(()),
            Some(at) => match self.nodes[at].status {
                Status::Open => Ok(()),
                Status::Accepted if self.nodes[at].version == latest => Ok(()),
                Status::Accepted => Err("stale"),
                Status::Ended => Err("ended"),
            },
        };
        let after = on.at(0).after(&self.model.namespaces, &changes);
        let made = match (parent, &self.nodes[..]) {
            (Some(at), nodes) if self.rng.chance(50) && nodes[at].proposal.is_some() => {
                nodes[at].proposal.as_ref().unwrap().propose(batch)
            }
            _ => self.store().propose(&snapshot, batch),
        };
        match (may, after, made) {
            (Ok(()), Some(state), Ok(proposal)) => {
                // A child of what was accepted stands on the version.
                let parent = parent.filter(|at| self.nodes[*at].status == Status::Open);
                let base = parent.map_or(latest, |at| self.nodes[at].version);
                self.add(proposal, (state, changes), base + 1, parent)
            }
            (Ok(()), None, Err(Error::SlotWithoutAccount { .. })) => Ok(()),
            (Err("stale"), _, Err(Error::StaleParent { .. } | Error::RolledBack { .. })) => Ok(()),
            (Err("ended"), _, Err(Error::ProposalEnded { .. })) => Ok(()),
            (may, _, made) => Err(format!("a proposal that should be {may:?}: {made:?}")),
        }
    }

    fn add(
        &mut self,
        proposal: Proposal,
        (state, changes): (State, Vec<Change>),
        version: u64,
        parent: Option<usize>,
    ) -> Check {
        if proposal.version() != version {
            return Err(format!("{proposal:?} should be for version {version}"));
        }
        let snapshot = Some(proposal.snapshot());
        let parent = Some(parent.unwrap_or_else(|| self.root_of_latest()));
        let (status, proposal) = (Status::Open, Some(proposal));
        self.nodes.push(Node { changes, state, version, parent, status, proposal, snapshot });
        Ok(())
    }

    /// The node that is the latest version; made where it never was a proposal.
    fn root_of_latest(&mut self) -> usize {
        let latest = self.model.last_version().unwrap();
        let is_latest = |node: &Node| {
            node.status == Status::Accepted
                && node.version == latest
                && node.proposal.is_none()
                && node.snapshot.is_none()
        };
        if let Some(at) = self.nodes.iter().rposition(is_latest) {
            return at;
        }
        let state = self.model.latest().clone();
        let (parent, status) = (None, Status::Accepted);
        let root = Node {
            changes: Vec::new(),
            state,
            version: latest,
            parent,
            status,
            proposal: None,
            snapshot: None,
        };
        self.nodes.push(root);
        self.nodes.len() - 1
    }

    fn accept(&mut self) -> Check {
        let held: Vec<usize> =
            (0..self.nodes.len()).filter(|at| self.nodes[*at].proposal.is_some()).collect();
        if held.is_empty() {
            return Ok(());
        }
        let at = *self.rng.pick(&held);
        let parent =
            self.nodes[at].parent.map(|parent| (self.nodes[parent].status, self.nodes[parent].version));
        let latest = self.model.last_version().unwrap();
        let accepted = self.nodes[at].proposal.as_ref().unwrap().accept();
        match (self.nodes[at].status, parent, accepted) {
            (Status::Open, Some((Status::Accepted, version)), Ok(commit)) if version == latest => {
                self.nodes[at].status = Status::Accepted;
                let version = self.model.push(self.nodes[at].state.clone());
                self.settle(Some(at));
                self.look_at_commit(&commit, version)
            }
            (Status::Open, Some((Status::Open, _)), Err(Error::ParentNotAccepted { .. })) => Ok(()),
            (Status::Ended, _, Err(Error::ProposalEnded { .. })) => Ok(()),
            (Status::Accepted, _, Ok(again)) if again.version() == self.nodes[at].version => Ok(()),
            (status, parent, accepted) => Err(format!("accepting {status:?} on {parent:?}: {accepted:?}")),
        }
    }

    fn look_at_commit(&mut self, commit: &Commit, version: u64) -> Check {
        if commit.version() != version || self.store().latest_version() != Some(version) {
            return Err(format!("{commit:?} should be the latest version, {version}"));
        }
        if self.rng.chance(30) {
            commit.durable().wait().map_err(|error| format!("durable: {error}"))?;
        }
        if self.rng.chance(30) {
            let root = commit.root().wait().map_err(|error| format!("the root: {error}"))?;
            if root != self.model.at(version).root {
                return Err(format!("{commit:?} has the root {root}"));
            }
        }
        Ok(())
    }

    fn drop_some(&mut self) {
        for node in &mut self.nodes {
            if self.rng.chance(30) {
                node.proposal = None;
            }
            if self.rng.chance(30) {
                node.snapshot = None;
            }
        }
    }

    fn rebase(&mut self) -> Check {
        let held: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].proposal.is_some() && self.nodes[*at].status == Status::Ended)
            .collect();
        if held.is_empty() {
            return Ok(());
        }
        let at = *self.rng.pick(&held);
        let changes = self.nodes[at].changes.clone();
        let after = self.model.latest().after(&self.model.namespaces, &changes);
        let next = self.model.last_version().unwrap() + 1;
        match (after, self.nodes[at].proposal.as_ref().unwrap().rebase()) {
            (Some(state), Ok(again)) => self.add(again, (state, changes), next, None),
            (None, Err(Error::SlotWithoutAccount { .. })) => Ok(()),
            (_, other) => Err(format!("rebasing: {other:?}")),
        }
    }

    fn roll_back(&mut self) -> Check {
        let last = self.model.last_version().unwrap();
        let to = last - self.rng.below((last - self.model.first).min(4) as usize + 1) as u64;
        self.store().rollback(to).map_err(|error| format!("rolling back: {error}"))?;
        if to < last {
            self.model.cut(Some(to));
            self.settle(None);
            // Snapshots of what was accepted and is given up are looked at elsewhere.
            for node in &mut self.nodes {
                if node.status == Status::Accepted && node.version > to {
                    (node.proposal, node.snapshot) = (None, None);
                    node.version = u64::MAX;
                }
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Check {
        let durable = self.store().latest_durable();
        if self.rng.chance(50) {
            self.nodes.clear();
            self.store.take().unwrap().close().map_err(|error| format!("close: {error}"))?;
        } else {
            let image = self.sim.killed_at(usize::MAX);
            self.nodes.clear();
            self.store = None;
            self.options = self.config.options(image.clone());
            self.sim = image;
        }
        let store = self.options.open(DIR).map_err(|error| format!("open: {error}"))?;
        let found = store.latest_version();
        if found < durable || found > self.model.last_version() || found.is_none() {
            return Err(format!("opened with {found:?}; {durable:?} was durable"));
        }
        self.model.cut(found);
        verify::store(&store, &self.model, Depth::ROOTS, &mut self.rng)?;
        self.store = Some(store);
        Ok(())
    }

    fn ask_roots(&mut self) -> Check {
        for node in &self.nodes {
            let Some(proposal) = &node.proposal else { continue };
            match (node.status, proposal.root().wait()) {
                (Status::Open | Status::Accepted, Ok(root)) if root == node.state.root => {}
                (Status::Ended, Err(Error::ProposalEnded { .. })) => {}
                (status, root) => return Err(format!("the root of {proposal:?}, {status:?}: {root:?}")),
            }
        }
        Ok(())
    }

    /// Every snapshot that is held is its map, or is over.
    fn look(&mut self) -> Check {
        verify::versions(self.store.as_ref().unwrap(), &self.model)?;
        let ended = |what: &str, error: Option<Error>| match error {
            Some(Error::ProposalEnded { .. }) => Ok(()),
            other => Err(format!("{what} of a proposal that is over: {other:?}")),
        };
        for node in &self.nodes {
            if let Some(proposal) = &node.proposal
                && proposal.is_open() != (node.status == Status::Open)
            {
                return Err(format!("{proposal:?} is not {:?}", node.status));
            }
            let Some(snapshot) = &node.snapshot else { continue };
            if node.status == Status::Ended {
                verify::is_refused(snapshot, &self.model, ended)?;
                continue;
            }
            let depth = Depth {
                root: self.rng.chance(30),
                scans: self.rng.chance(20),
                proofs: usize::from(self.rng.chance(20)),
            };
            verify::state(snapshot, &self.model, &node.state, depth, &mut self.rng)
                .map_err(|what| format!("{snapshot:?}, {:?}: {what}", node.status))?;
        }
        self.look_at_changes()?;
        let latest = self.store().latest().unwrap();
        verify::snapshot(&latest, &self.model, latest.version(), Depth::READS, &mut self.rng)
    }

    /// The states from a version or proposal to a node, if the one is an ancestor of the other.
    fn line(&self, from: Result<usize, u64>, to: usize) -> Option<Vec<&State>> {
        let mut line = Vec::new();
        let mut at = to;
        loop {
            let node = &self.nodes[at];
            if node.status == Status::Accepted {
                // From here on down it is the chain of versions.
                let first = match from {
                    Ok(other) if self.nodes[other].status == Status::Accepted => self.nodes[other].version,
                    Ok(_) => return None,
                    Err(version) => version,
                };
                if first > node.version {
                    return None;
                }
                line.extend((first..=node.version).rev().map(|version| self.model.at(version)));
                break;
            }
            line.push(&node.state);
            if from == Ok(at) {
                break;
            }
            at = node.parent?;
        }
        line.reverse();
        Some(line)
    }

    fn look_at_changes(&mut self) -> Check {
        let held: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].snapshot.is_some() && self.nodes[*at].status != Status::Ended)
            .collect();
        if held.is_empty() {
            return Ok(());
        }
        let newer = *self.rng.pick(&held);
        let older = *self.rng.pick(&held);
        let version = self.model.versions().start + self.rng.below(self.model.versions().count()) as u64;
        let published = self.store().at(version).unwrap();
        let snapshot = |at: usize| self.nodes[at].snapshot.as_ref().unwrap();
        let line = self.line(Ok(older), newer);
        verify::changes_along(&self.model, snapshot(older), snapshot(newer), line.as_deref())?;
        let line = self.line(Err(version), newer);
        verify::changes_along(&self.model, &published, snapshot(newer), line.as_deref())?;
        // The other way round: of a version only what was accepted is an ancestor.
        if self.nodes[older].status == Status::Open {
            verify::is_no_ancestor(snapshot(older), &published, &self.model)?;
        }
        Ok(())
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, |config| config);
    let told = format!("seed {seed}, {:?}", world.config);
    for step in 0..world.rng.within(10, 50) {
        if let Err(what) = world.step() {
            panic!("{told}, step {step}: {what}");
        }
    }
    world.nodes.clear();
    let store = world.store.take().unwrap();
    store.flush().unwrap();
    store.check(|_| ()).unwrap_or_else(|error| panic!("{told}: check: {error}"));
    verify::store(&store, &world.model, Depth::ALL, &mut world.rng)
        .unwrap_or_else(|what| panic!("{told}: {what}"));
    assert_eq!(store.stats().unwrap().proposals, 0, "{told}");
    store.close().unwrap();
}

#[test]
fn trees_of_proposals_are_a_map_for_each() {
    sequences("proposals", 90, run);
}

/// A chain of batches, with proposals beside it or without.
fn chain(seed: u64, with: bool) -> (u64, u64) {
    let keep = |config: Config| Config { cache_bytes: 1 << 30, max_unsealed_keys: 400_000, ..config };
    let mut world = World::new(seed, keep);
    // What else happens must not change which batches come.
    let mut others = Rng::new(seed + 1);
    let mut sides: Vec<(Proposal, Snapshot)> = Vec::new();
    for _ in 0..25 {
        let changes = batches::random(&world.model, 12, false, &mut world.rng);
        let batch = || batches::batch_of(&world.model.namespaces, &changes);
        let version = if with {
            let latest = world.store().latest().unwrap();
            for _ in 0..others.below(4) {
                let changes = batches::random(&world.model, 12, false, &mut others);
                let batch = batches::batch_of(&world.model.namespaces, &changes);
                let open: Vec<&Snapshot> = sides
                    .iter()
                    .filter(|(proposal, _)| proposal.is_open())
                    .map(|(_, snapshot)| snapshot)
                    .collect();
                let parent = if open.is_empty() || others.chance(50) { &latest } else { *others.pick(&open) };
                let made = world.store().propose(parent, batch);
                if let Ok(made) = made {
                    if others.chance(40) {
                        made.root().wait().unwrap();
                    }
                    let snapshot = made.snapshot();
                    sides.push((made, snapshot));
                }
            }
            if others.chance(60) {
                let chosen = world.store().propose(&latest, batch()).unwrap();
                if others.chance(50) {
                    chosen.root().wait().unwrap();
                }
                chosen.accept().unwrap().version()
            } else {
                world.store().commit(batch()).unwrap().version()
            }
        } else {
            world.store().commit(batch()).unwrap().version()
        };
        assert_eq!(world.model.commit(&changes), Some(version));
        if others.chance(20) {
            world.store().flush().unwrap();
        }
        if others.chance(30) {
            sides.clear();
        }
    }
    drop(sides);
    // What leases kept goes with the next seal.
    for _ in 0..2 {
        world.store().commit(Batch::new()).unwrap();
        world.store().flush().unwrap();
    }
    let stats = world.store().stats().unwrap();
    assert_eq!(
        (stats.memory.superseded_pages, stats.memory.leased_bytes, stats.proposals),
        (0, 0, 0),
        "seed {seed}"
    );
    (stats.memory.slots, stats.memory.pages)
}

#[test]
fn what_proposals_took_is_given_back() {
    sequences("memory of proposals", 20, |seed| {
        assert_eq!(chain(seed, true), chain(seed, false), "seed {seed}: slots and pages in use");
    });
}

#[test]
fn nothing_of_a_proposal_touches_the_disk_until_it_is_accepted() {
    let mut world =
        World::new(4, |config| Config { cache_bytes: 1 << 30, roots: RootSchedule::Every(1), ..config });
    world.store().flush().unwrap();
    world.store().flush().unwrap();
    let (ops, calls) = (world.sim.op_count(), world.sim.call_count());
    let changes = batches::random(&world.model, 12, false, &mut world.rng);
    let batch = || batches::batch_of(&world.model.namespaces, &changes);
    let latest = world.store().latest().unwrap();
    let one = world.store().propose(&latest, batch()).unwrap();
    let two = one.propose(Batch::new()).unwrap();
    one.root().wait().unwrap();
    two.snapshot().root().unwrap();
    drop(two);
    assert_eq!(world.sim.op_count(), ops, "{:?} calls before", calls);
    one.accept().unwrap().durable().wait().unwrap();
    assert!(world.sim.op_count() > ops);
}

#[test]
fn what_was_awaited_of_a_proposal_ends_with_it() {
    let store = Options::new()
        .namespace(Namespace::flat(SchemeKind::Blake3))
        .roots(RootSchedule::OnDemand)
        .vfs(std::sync::Arc::new(SimVfs::new(1)))
        .open(DIR)
        .unwrap();
    let put = |value: &[u8]| {
        let mut batch = Batch::new();
        batch.put(b"key", value);
        batch
    };
    store.commit(put(b"genesis")).unwrap();
    let genesis = store.latest().unwrap();
    let (one, two) =
        (store.propose(&genesis, put(b"one")).unwrap(), store.propose(&genesis, put(b"two")).unwrap());
    let child = two.propose(put(b"child")).unwrap();
    assert!(matches!(child.accept(), Err(Error::ParentNotAccepted { version: 2 })));
    let snapshot = child.snapshot();
    // Dropped, but its snapshot goes on.
    drop(child);
    assert_eq!(snapshot.get(b"key").unwrap().unwrap(), b"child");
    assert_eq!(snapshot.first().changed_since(Key::Flat(b"key"), &two.snapshot()).unwrap(), Since::Changed);
    assert_eq!(
        snapshot.first().changed_since(Key::Flat(b"key"), &one.snapshot()).unwrap(),
        Since::NotAnAncestor
    );
    let histories = snapshot.history(Key::Flat(b"key")).unwrap().map(|revision| revision.unwrap().version);
    assert_eq!(histories.collect::<Vec<_>>(), [2, 1, 0]);
    let commit = one.accept().unwrap();
    let (root, sealed) = (commit.root(), commit.sealed());
    for error in [
        snapshot.get(b"key").err(),
        snapshot.root().err(),
        two.root().wait().err(),
        two.accept().err(),
        two.propose(put(b"late")).err(),
        store.propose(&snapshot, put(b"late")).err(),
        snapshot.first().iter(KeyRange::all()).err(),
    ] {
        assert!(matches!(error, Some(Error::ProposalEnded { .. })), "{error:?}");
    }
    assert!(matches!(store.propose(&genesis, put(b"late")), Err(Error::StaleParent { version: 0 })));
    let again = two.rebase().unwrap();
    assert_eq!((again.version(), again.snapshot().get(b"key").unwrap().unwrap()), (2, b"two".to_vec()));
    assert!(one.rebase().is_err());
    assert_eq!(again.accept().unwrap().version(), 2);
    store.flush().unwrap();
    root.wait().unwrap();
    sealed.wait().unwrap();
    // A handle that is held ends with a rollback too.
    let open = store.propose(&store.latest().unwrap(), put(b"open")).unwrap();
    let pending = open.root();
    store.rollback(1).unwrap();
    assert!(!open.is_open() && matches!(open.accept(), Err(Error::ProposalEnded { .. })));
    let _ = pending.wait();
    assert!(matches!(again.snapshot().get(b"key"), Err(Error::RolledBack { version: 2, to: 1 })));
    assert_eq!(one.snapshot().get(b"key").unwrap().unwrap(), b"one");
    store.close().unwrap();
}

#[test]
fn readers_see_whole_proposals_while_others_are_accepted() {
    const KEYS: u64 = 300;
    let store = Options::new()
        .namespace(Namespace::flat(SchemeKind::Ethereum))
        .seal_keys(500)
        .vfs(std::sync::Arc::new(SimVfs::new(2)))
        .open(DIR)
        .unwrap();
    let all = |value: u64| {
        let mut batch = Batch::new();
        for key in 0..KEYS {
            batch.put(&key.to_le_bytes(), &value.to_le_bytes());
        }
        batch
    };
    store.commit(all(0)).unwrap();
    let current = std::sync::Mutex::new(Vec::<(u64, Snapshot)>::new());
    let (over, read) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (current, over, read) = (&current, &over, &read);
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                while !over.load(Ordering::Relaxed) {
                    let Some((value, snapshot)) = ({
                        let current = current.lock().unwrap();
                        (!current.is_empty()).then(|| current[rng.below(current.len())].clone())
                    }) else {
                        continue;
                    };
                    for _ in 0..20 {
                        match snapshot.get(&(rng.below(KEYS as usize) as u64).to_le_bytes()) {
                            Ok(found) => assert_eq!(found.unwrap(), value.to_le_bytes()),
                            Err(Error::ProposalEnded { .. }) => break,
                            Err(error) => panic!("{error}"),
                        }
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for round in 1..60 {
            let latest = store.latest().unwrap();
            let proposals: Vec<Proposal> =
                (0..3).map(|side| store.propose(&latest, all(round * 10 + side)).unwrap()).collect();
            let grandchild = proposals[1].propose(all(round * 10 + 5)).unwrap();
            *current.lock().unwrap() = (0..)
                .zip(&proposals)
                .map(|(side, proposal)| (round * 10 + side, proposal.snapshot()))
                .chain([(round * 10 + 5, grandchild.snapshot())])
                .collect();
            if round % 2 == 0 {
                proposals[0].root().wait().unwrap();
            }
            proposals[1].accept().unwrap();
            if round % 3 == 0 {
                grandchild.accept().unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    current.lock().unwrap().clear();
    store.flush().unwrap();
    eprintln!("reads of proposals: {}", read.load(Ordering::Relaxed));
    assert!(read.load(Ordering::Relaxed) > 0);
    store.check(|_| ()).unwrap();
}
