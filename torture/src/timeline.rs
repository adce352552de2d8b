//! What may be found on a disk: the states that a store went through, when each was begun and when it was promised.

use std::collections::BTreeMap;

use bristlecone::{Error, Store};

use crate::{Check, Depth, Model, Rng, verify};

/// Which versions a store keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub oldest: u64,
    pub pins: BTreeMap<String, u64>,
}

impl Kept {
    pub fn keeps(&self, version: u64) -> bool {
        version >= self.oldest || self.pins.values().any(|pinned| *pinned == version)
    }

    /// What is left where versions after `last` are given up.
    pub fn up_to(&self, last: u64) -> Self {
        let pins = self.pins.iter().filter(|(_, version)| **version <= last);
        Self { oldest: self.oldest, pins: pins.map(|(name, version)| (name.clone(), *version)).collect() }
    }
}

/// Everything that a store should say.
#[derive(Clone, Debug)]
pub struct Found {
    pub model: Model,
    pub kept: Kept,
}

impl Found {
    /// The versions that are listed.
    pub fn versions(&self) -> Vec<u64> {
        self.model.versions().filter(|version| self.kept.keeps(*version)).collect()
    }

    /// Whether `store` says so: versions, pins, and every key of the newest version.
    pub fn is_shown(&self, store: &Store, rng: &mut Rng) -> Check {
        let listed: Vec<u64> = store.versions().iter().map(|info| info.version).collect();
        let wanted = self.versions();
        if listed != wanted {
            return Err(format!("versions {listed:?}, not {wanted:?}"));
        }
        // A pinned version hides whether it would be kept without its pin.
        let oldest = store.stats().map_err(|error| format!("stats: {error}"))?.forget.oldest;
        if !wanted.is_empty() && oldest != self.kept.oldest {
            return Err(format!("kept from {oldest} on, not from {}", self.kept.oldest));
        }
        let pins: BTreeMap<_, _> = store.pins().into_iter().map(|pin| (pin.name, pin.version)).collect();
        if pins != self.kept.pins {
            return Err(format!("pins {pins:?}, not {:?}", self.kept.pins));
        }
        match listed.last() {
            Some(last) => verify::version_at(store, &self.model, *last, Depth::READS, rng),
            None => Ok(()),
        }
    }

    /// `percent` of a hundred versions, the newest three always: kept ones are as the model has them, others are not kept.
    pub fn look(&self, store: &Store, percent: usize, depth: Depth, rng: &mut Rng) -> Check {
        let count = self.model.versions().count();
        for (at, version) in self.model.versions().enumerate() {
            if at + 3 < count && !rng.chance(percent) {
                continue;
            }
            if self.kept.keeps(version) {
                verify::version_at(store, &self.model, version, depth, rng)?;
            } else if !matches!(store.at(version), Err(Error::VersionNotKept { .. })) {
                return Err(format!("version {version} is kept"));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Step {
    state: Found,
    /// From which number of operations on it may be found.
    begun: usize,
    /// From which number of operations on nothing older may be found.
    promised: Option<usize>,
}

/// The states of one store on one disk, in the order in which they came to be.
#[derive(Clone, Debug)]
pub struct Timeline(Vec<Step>);

impl Timeline {
    /// Begins with one of `states`: the first is promised, the others may be found as well.
    pub fn new(states: Vec<Found>, now: usize) -> Self {
        assert!(!states.is_empty());
        let step = |state| Step { state, begun: now, promised: None };
        let mut steps: Vec<Step> = states.into_iter().map(step).collect();
        steps[0].promised = Some(now);
        Self(steps)
    }

    /// What the store shows while it lives.
    pub fn now(&self) -> &Found {
        &self.0[self.0.len() - 1].state
    }

    /// From here on `state` may be found.
    pub fn begin(&mut self, state: Found, now: usize) {
        self.0.push(Step { state, begun: now, promised: None });
    }

    /// What was begun last did not come to be, for certain.
    pub fn take_back(&mut self) {
        self.0.pop();
    }

    /// From here on what was begun last is promised.
    pub fn promise(&mut self, now: usize) {
        self.promise_at(self.0.len() - 1, now);
    }

    /// From here on the state that is so many before the last is promised.
    pub fn promise_before(&mut self, before: usize, now: usize) {
        self.promise_at(self.0.len() - 1 - before, now);
    }

    /// The version as it stands is promised, and what came before it.
    pub fn promise_version(&mut self, version: u64, now: usize) {
        let (from, to) = self.window(usize::MAX);
        let is_it = |at: &usize| self.0[*at].state.model.last_version() == Some(version);
        if let Some(first) = (from..=to).find(is_it) {
            self.promise_at(first, now);
        }
    }

    fn promise_at(&mut self, at: usize, now: usize) {
        let promised = &mut self.0[at].promised;
        *promised = Some(promised.map_or(now, |since| since.min(now)));
    }

    fn window(&self, boundary: usize) -> (usize, usize) {
        let is_promised = |step: &Step| step.promised.is_some_and(|since| since <= boundary);
        let from = self.0.iter().rposition(is_promised).unwrap_or(0);
        let to = self.0.iter().rposition(|step| step.begun <= boundary).unwrap_or(from).max(from);
        (from, to)
    }

    /// What may be found after a power cut at this boundary, the oldest state first.
    pub fn at(&self, boundary: usize) -> Vec<Found> {
        let (from, to) = self.window(boundary);
        self.0[from..=to].iter().map(|step| step.state.clone()).collect()
    }

    /// Tells the windows of two boundaries apart.
    pub fn key(&self, boundary: usize) -> (usize, usize) {
        self.window(boundary)
    }

    /// The newest state that `store` shows; from here on that one is promised, and nothing newer is known.
    pub fn settle(&mut self, store: &Store, now: usize, rng: &mut Rng) -> Check {
        let (from, to) = self.window(usize::MAX);
        let mut wrong = Vec::new();
        for at in (from..=to).rev() {
            match self.0[at].state.is_shown(store, rng) {
                Ok(()) => {
                    self.0.truncate(at + 1);
                    self.promise(now);
                    return Ok(());
                }
                Err(what) => wrong.push(what),
            }
        }
        wrong.dedup();
        wrong.truncate(4);
        Err(format!("none of the {} states that may be found: {}", to - from + 1, wrong.join("; or: ")))
    }
}
