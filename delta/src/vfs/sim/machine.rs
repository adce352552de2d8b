//! The one place through which every call of a simulated disk goes: it numbers, records, fails and applies.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::content::{Change, PAGE};
use super::fault::{CallId, Fault, Faults};
use super::op::{OpKind, OpRecord, Outcome, Selector};
use super::rng::Rng;
use super::state::{Effect, FileId, Node, State};

/// The largest file that the simulated disk takes (ext4's bound), in bytes.
pub(super) const MAX_LEN: u64 = (1 << 44) - PAGE;

/// One entry of the history: an operation, or something done from outside, which has no record.
#[derive(Debug)]
struct Step {
    record: Option<OpRecord>,
    effect: Effect,
}

/// What an operation is, before it has a number and an outcome.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) kind: OpKind,
    pub(super) path: Arc<Path>,
    pub(super) to: Option<Arc<Path>>,
    pub(super) effect: Effect,
}

impl Op {
    pub(super) fn new(kind: OpKind, path: &Arc<Path>, effect: Effect) -> Self {
        Self { kind, path: Arc::clone(path), to: None, effect }
    }
}

/// The state after some first part of the history, which can go on.
#[derive(Debug)]
struct Replay {
    state: State,
    steps: usize,
    ops: usize,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) state: State,
    /// What the history starts from.
    start: State,
    history: Vec<Step>,
    ops: usize,
    calls: u64,
    /// Where the last image was taken, so that taking them in order replays the history once.
    replay: Option<Replay>,
    power_cut: Option<usize>,
    power_off: bool,
    pub(super) faults: Faults,
    pub(super) lies: Vec<Selector>,
    /// Pages of the whole disk.
    pub(super) capacity: Option<u64>,
    pub(super) locks: BTreeSet<FileId>,
    /// How many handles each file has: a removed file takes space until the last one is gone.
    handles: BTreeMap<FileId, usize>,
    /// The maps that are alive, by file and number.
    maps: BTreeMap<(FileId, u64), Range<u64>>,
    next_map: u64,
    overwritten_maps: Vec<OpRecord>,
    rng: Rng,
}

impl Machine {
    pub(super) fn new(state: State, seed: u64) -> Self {
        Self {
            start: state.clone(),
            state,
            history: Vec::new(),
            ops: 0,
            calls: 0,
            replay: None,
            power_cut: None,
            power_off: false,
            faults: Faults::default(),
            lies: Vec::new(),
            capacity: None,
            locks: BTreeSet::new(),
            handles: BTreeMap::new(),
            maps: BTreeMap::new(),
            next_map: 0,
            overwritten_maps: Vec::new(),
            rng: Rng::new(seed),
        }
    }

    pub(super) fn op_count(&self) -> usize {
        self.ops
    }

    pub(super) fn call_count(&self) -> u64 {
        self.calls
    }

    pub(super) fn records(&self) -> Vec<OpRecord> {
        self.history.iter().filter_map(|step| step.record.clone()).collect()
    }

    pub(super) fn cut_power_at(&mut self, index: usize) {
        self.power_cut = Some(index);
        self.power_off = self.ops > index;
    }

    pub(super) fn power_is_off(&self) -> bool {
        self.power_off
    }

    /// The first check of every call.
    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.power_off { Err(io::Error::other("simulated power is off")) } else { Ok(()) }
    }

    /// Counts a call that changes nothing, and fails it where that is ordered.
    pub(super) fn query(&mut self, kind: OpKind, path: &Path) -> io::Result<()> {
        self.check_power()?;
        let call = CallId { kind, path, call: self.calls, op: None };
        let fault = self.faults.strike(&call);
        self.calls += 1;
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    /// Numbers an operation whose conditions hold, lets it fail, lie or run out of space, records and applies it.
    pub(super) fn run(&mut self, op: Op) -> io::Result<()> {
        self.check_power()?;
        if self.power_cut.is_some_and(|index| self.ops >= index) {
            self.power_off = true;
            return self.check_power();
        }
        let call = CallId { kind: op.kind, path: &op.path, call: self.calls, op: Some(self.ops) };
        let fault = self.faults.strike(&call);
        self.calls += 1;
        if let Some(fault) = fault {
            let effect = self.effect_of_failure(op.effect, fault);
            return self.record_failure(Op { effect, ..op }, fault.error());
        }
        if matches!(op.effect, Effect::Sync { .. } | Effect::SyncDir { .. })
            && self.lies.iter().any(|lie| lie.picks(op.kind, &op.path))
        {
            self.record(Op { effect: Effect::Nothing, ..op }, Outcome::Ignored);
            return Ok(());
        }
        if let Some(effect) = self.shortage(&op.effect) {
            return self.record_failure(Op { effect, ..op }, Fault::NoSpace.error());
        }
        self.record(op, Outcome::Done);
        Ok(())
    }

    fn record_failure(&mut self, op: Op, error: io::Error) -> io::Result<()> {
        self.record(op, Outcome::Failed(error.kind()));
        Err(error)
    }

    fn record(&mut self, op: Op, outcome: Outcome) {
        let (offset, len) = match &op.effect {
            Effect::Change { change: Change::Write { offset, data }, .. } => (*offset, data.len() as u64),
            Effect::Change { change: Change::SetLen { len, .. }, .. } => (0, *len),
            _ => (0, 0),
        };
        let record = OpRecord {
            index: self.ops,
            kind: op.kind,
            path: op.path.to_path_buf(),
            to: op.to.map(|to| to.to_path_buf()),
            offset,
            len,
            outcome,
        };
        self.ops += 1;
        if self.hits_a_map(&op.effect) {
            self.overwritten_maps.push(record.clone());
        }
        self.state.apply(&op.effect);
        self.history.push(Step { record: Some(record), effect: op.effect });
    }

    /// Does something from outside: durable, and not an operation.
    pub(super) fn intervene(&mut self, effect: Effect) {
        self.state.apply(&effect);
        self.history.push(Step { record: None, effect });
    }

    fn effect_of_failure(&mut self, effect: Effect, fault: Fault) -> Effect {
        match (effect, fault) {
            (Effect::Sync { file }, _) => Effect::SyncFailed { file },
            (Effect::SyncDir { path }, _) => Effect::SyncDirFailed { path },
            (Effect::Change { file, change: Change::Write { offset, data } }, Fault::ShortWrite) => {
                let landed = usize::try_from(self.rng.below(data.len() as u64)).unwrap_or_default();
                Effect::Change { file, change: Change::Write { offset, data: data.slice(..landed) } }
            }
            _ => Effect::Nothing,
        }
    }

    /// What happens instead where the disk is too full for `effect`.
    fn shortage(&self, effect: &Effect) -> Option<Effect> {
        let capacity = self.capacity?;
        let Effect::Change { file, change } = effect else { return None };
        let content = &self.state.inodes.get(file)?.live;
        let free = capacity.saturating_sub(self.space());
        match change {
            Change::Write { offset, data } => {
                let wanted = data.len() as u64;
                let fits = content.room_for(*offset, wanted, free);
                let landed = usize::try_from(fits).ok().filter(|_| fits < wanted)?;
                let change = Change::Write { offset: *offset, data: data.slice(..landed) };
                Some(Effect::Change { file: *file, change })
            }
            Change::SetLen { len, reserve: true } if content.space_to_reserve(*len) > free => {
                Some(Effect::Nothing)
            }
            Change::SetLen { .. } => None,
        }
    }

    /// Pages in use, by files that have a name or a handle.
    fn space(&self) -> u64 {
        let named = self.state.names.values().filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Dir => None,
        });
        let files: BTreeSet<&FileId> = named.chain(self.handles.keys()).collect();
        files.iter().filter_map(|file| self.state.inodes.get(file)).map(|inode| inode.live.space()).sum()
    }

    /// Whether `effect` changes bytes of a living map.
    fn hits_a_map(&self, effect: &Effect) -> bool {
        let Effect::Change { file, change } = effect else { return false };
        let hit = match change {
            Change::Write { offset, data } => *offset..offset.saturating_add(data.len() as u64),
            Change::SetLen { len, .. } => *len..u64::MAX,
        };
        let mut maps = self.maps.range((*file, 0)..=(*file, u64::MAX));
        maps.any(|(_, map)| map.start < hit.end && hit.start < map.end)
    }

    /// The operations that changed bytes of a map while it was alive.
    pub(super) fn overwritten_maps(&self) -> Vec<OpRecord> {
        self.overwritten_maps.clone()
    }

    /// Notes a map and gives it a number.
    pub(super) fn map_made(&mut self, file: FileId, range: Range<u64>) -> u64 {
        let number = self.next_map;
        self.next_map += 1;
        self.maps.insert((file, number), range);
        number
    }

    pub(super) fn map_dropped(&mut self, file: FileId, number: u64) {
        self.maps.remove(&(file, number));
    }

    pub(super) fn handle_opened(&mut self, file: FileId) {
        *self.handles.entry(file).or_default() += 1;
    }

    pub(super) fn handle_closed(&mut self, file: FileId) {
        if let Some(count) = self.handles.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&file);
            }
        }
    }

    /// The state just before operation `boundary`, or now where there are no more operations.
    pub(super) fn state_at(&mut self, boundary: usize) -> &State {
        if boundary >= self.ops {
            return &self.state;
        }
        let mut replay = match self.replay.take() {
            Some(replay) if replay.ops <= boundary => replay,
            _ => Replay { state: self.start.clone(), steps: 0, ops: 0 },
        };
        for step in self.history.iter().skip(replay.steps) {
            if step.record.is_some() {
                if replay.ops == boundary {
                    break;
                }
                replay.ops += 1;
            }
            replay.state.apply(&step.effect);
            replay.steps += 1;
        }
        &self.replay.insert(replay).state
    }
}
