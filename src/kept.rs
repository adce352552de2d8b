//! Which versions are kept: the newest ones from some version on, and pinned ones before it.

use std::sync::Arc;

use bristlecone_delta::{Locator, Pin, Seal, Segments};

use crate::runs::{Past, Run};
use crate::{Error, Result};

/// Which versions a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// All of them.
    All,
    /// At least the last n, which is at least 1: with each seal the oldest kept version moves up to the n-th before the last sealed one. Pinned
    /// versions and those of living snapshots stay.
    Last(u64),
}

/// The longest name of a pin, in bytes.
pub(crate) const MAX_PIN_NAME: usize = bristlecone_delta::format::MAX_PIN_NAME_BYTES;

/// A version that somebody gave a name, so that it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    pub(crate) name: String,
    pub(crate) past: Past,
}

impl Pinned {
    pub(crate) fn version(&self) -> u64 {
        self.past.sealed().map_or(0, |sealed| sealed.version)
    }
}

/// Which versions are kept, at one moment. Every seal says it, so it is as durable as the seal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// All from this one on.
    pub(crate) oldest: u64,
    /// By name.
    pub(crate) pins: Vec<Pinned>,
}

impl Kept {
    /// What `seal` says.
    ///
    /// # Errors
    ///
    /// A run that a pin names cannot be read.
    pub(crate) fn read(segments: &Segments, seal: &Seal) -> Result<Self> {
        let mut pins = Vec::with_capacity(seal.pins.len());
        for pin in &seal.pins {
            let damaged = || Error::Damaged { what: format!("the run that the pin `{}` names", pin.name) };
            let run = Run::new(pin.seal, segments.seal(pin.seal)?)?;
            let before =
                run.seal.previous.map(|before| Run::new(before, segments.seal(before)?)).transpose()?;
            let past = Past::new(Arc::new(run), before.map(Arc::new), pin.version).ok_or_else(damaged)?;
            pins.push(Pinned { name: pin.name.clone(), past });
        }
        Ok(Self { oldest: seal.oldest, pins })
    }

    /// The pins as a seal says them that takes the place of the seal `from`, if of any, and will be at `to`.
    pub(crate) fn to_pins(&self, from: Option<Locator>, to: Locator) -> Vec<Pin> {
        let pin = |pinned: &Pinned| {
            let seal = pinned.past.run.locator;
            let seal = if Some(seal) == from { to } else { seal };
            Pin { name: pinned.name.clone(), version: pinned.version(), seal }
        };
        self.pins.iter().map(pin).collect()
    }

    /// The same where the seal `from` was said again by `run`: pins of that run name the new seal. So that what died in a run lies before all seals
    /// of it, and after all of the run before.
    pub(crate) fn renamed(&self, from: Locator, run: &Arc<Run>) -> Self {
        let renamed = |pin: &Pinned| {
            let past = (pin.past.run.locator == from)
                .then(|| Past::new(run.clone(), pin.past.before.clone(), pin.version()))
                .flatten();
            Pinned { name: pin.name.clone(), past: past.unwrap_or_else(|| pin.past.clone()) }
        };
        Self { oldest: self.oldest, pins: self.pins.iter().map(renamed).collect() }
    }

    /// Whether everything is kept and nothing has a name, as in a store that was never told to forget.
    pub(crate) fn is_all(&self) -> bool {
        self.oldest == 0 && self.pins.is_empty()
    }

    pub(crate) fn pin(&self, name: &str) -> Option<&Pinned> {
        self.pins.iter().find(|pin| pin.name == name)
    }

    /// A version that is kept for its pin.
    pub(crate) fn pinned(&self, version: u64) -> Option<&Past> {
        self.pins.iter().find(|pin| pin.version() == version).map(|pin| &pin.past)
    }

    /// The seals of runs whose roots pins need, in no order.
    pub(crate) fn needed(&self) -> impl Iterator<Item = Locator> {
        let runs = self.pins.iter().flat_map(|pin| [Some(&pin.past.run), pin.past.before.as_ref()]);
        runs.flatten().map(|run| run.locator)
    }

    /// The same from `oldest` on, if that is later.
    pub(crate) fn moved_to(&self, oldest: u64) -> Self {
        Self { oldest: oldest.max(self.oldest), pins: self.pins.clone() }
    }

    /// With a pin more, or at another version.
    pub(crate) fn with(&self, name: &str, past: Past) -> Self {
        let mut next = self.without(name);
        next.pins.push(Pinned { name: name.to_owned(), past });
        next.pins.sort_by(|a, b| a.name.cmp(&b.name));
        next
    }

    /// Without a pin.
    pub(crate) fn without(&self, name: &str) -> Self {
        let pins = self.pins.iter().filter(|pin| pin.name != name).cloned().collect();
        Self { oldest: self.oldest, pins }
    }

    /// What is left of it where versions after `last` are given up.
    pub(crate) fn up_to(&self, last: u64) -> Self {
        let pins = self.pins.iter().filter(|pin| pin.version() <= last).cloned().collect();
        Self { oldest: self.oldest.min(last), pins }
    }
}
