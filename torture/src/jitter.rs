//! A file system that keeps its callers waiting now and then, so that threads take turns in other orders than they would by themselves. Where
//! shuttle decides about turns, each call asks for one.

use std::fmt;
use std::sync::PoisonError;
use std::time::Duration;

#[cfg(shuttle)]
use shuttle::{sync::Mutex, thread};
#[cfg(not(shuttle))]
use std::{sync::Mutex, thread};

use bristlecone::vfs::Vfs;

use crate::Rng;
use crate::hooked::{Hook, HookedVfs};

/// The longest wait, in microseconds.
const LONGEST: u64 = 400;

/// Makes the pauses.
pub struct Jitter(Mutex<Rng>);

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jitter")
    }
}

impl Jitter {
    /// Before and after a call: mostly nothing, sometimes the turn of somebody else, sometimes a pause.
    fn shake(&self) {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (choice, pause) = (rng.below(12), rng.next_u64() % LONGEST);
        drop(rng);
        match choice {
            0 => thread::sleep(Duration::from_micros(pause)),
            1..=3 => thread::yield_now(),
            _ => {}
        }
    }
}

impl Hook for Jitter {
    fn before(&self, _changes: bool) {
        self.shake();
    }

    fn after(&self, _changes: bool) {
        self.shake();
    }
}

/// Another file system, with pauses.
pub fn jittered(inner: impl Vfs, seed: u64) -> HookedVfs<Jitter> {
    HookedVfs::with(inner, Jitter(Mutex::new(Rng::new(seed)))).0
}
