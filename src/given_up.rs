//! What was rolled back since the store was opened: readers of it are told so.
//!
//! Stamps rise, and a rollback takes one for itself: what it gave up are the stamps between that of the version it went back to and its own.
//! A reader remembers how many rollbacks it has looked at. So reading costs one look at a number that hardly ever changes.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bristlecone_delta::Stamp;

use crate::sync::{AtomicU64, Mutex, lock};
use crate::{Error, Result};

/// One rollback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rollback {
    /// The version it went back to.
    pub(crate) version: u64,
    /// The stamp of that version.
    pub(crate) stamp: Stamp,
    /// The stamp it took for itself.
    pub(crate) own: Stamp,
}

/// All rollbacks of this opening.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    count: AtomicU64,
    rollbacks: Mutex<Vec<Rollback>>,
}

impl GivenUp {
    pub(crate) fn add(&self, rollback: Rollback) {
        let mut rollbacks = lock(&self.rollbacks);
        rollbacks.push(rollback);
        self.count.store(rollbacks.len() as u64, Release);
    }

    /// An error where the commit `stamp`, which made `version`, was given up.
    pub(crate) fn check(&self, version: u64, stamp: Stamp) -> Result<()> {
        let rollbacks = lock(&self.rollbacks);
        match rollbacks.iter().find(|rollback| rollback.stamp < stamp && stamp < rollback.own) {
            Some(rollback) => Err(Error::RolledBack { version, to: rollback.version }),
            None => Ok(()),
        }
    }
}

/// How many rollbacks a reader has looked at.
#[derive(Debug)]
pub(crate) struct Seen(AtomicU64);

impl Seen {
    /// All so far: to be asked *before* what is to be read is looked up.
    pub(crate) fn now(given_up: &GivenUp) -> Self {
        Self(AtomicU64::new(given_up.count.load(Acquire)))
    }

    /// None: for what was found at some time before.
    pub(crate) fn nothing() -> Self {
        Self(AtomicU64::new(0))
    }

    /// An error where the commit that `of` names, with its version, was given up.
    #[inline]
    pub(crate) fn check(&self, given_up: &GivenUp, of: impl FnOnce() -> (u64, Stamp)) -> Result<()> {
        let now = given_up.count.load(Acquire);
        if self.0.load(Relaxed) == now { Ok(()) } else { self.look(given_up, now, of()) }
    }

    #[cold]
    fn look(&self, given_up: &GivenUp, now: u64, (version, stamp): (u64, Stamp)) -> Result<()> {
        given_up.check(version, stamp)?;
        self.0.store(now, Relaxed);
        Ok(())
    }
}

impl Clone for Seen {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_a_rollback_and_where_it_went_back_to_is_given_up() {
        let stamp = |counter| Stamp::new(1, counter).unwrap();
        let given_up = GivenUp::default();
        let seen = [5, 8].map(|counter| (Seen::now(&given_up), stamp(counter)));
        given_up.add(Rollback { version: 4, stamp: stamp(5), own: stamp(10) });
        let check = |(seen, stamp): &(Seen, Stamp)| seen.check(&given_up, || (7, *stamp));
        assert!(check(&seen[0]).is_ok() && check(&seen[0]).is_ok());
        for _ in 0..2 {
            assert!(matches!(check(&seen[1]), Err(Error::RolledBack { version: 7, to: 4 })));
        }
        // Later stamps stand, until a later rollback.
        assert!(given_up.check(5, stamp(11)).is_ok());
        given_up.add(Rollback { version: 2, stamp: stamp(3), own: stamp(12) });
        assert!(matches!(check(&seen[0]), Err(Error::RolledBack { version: 7, to: 2 })));
        assert!(given_up.check(5, stamp(11)).is_err() && given_up.check(2, stamp(3)).is_ok());
    }
}
