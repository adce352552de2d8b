//! A file system whose writes and syncs can be held back.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bristlecone::vfs::Vfs;

use crate::hooked::{Hook, HookedVfs};

#[derive(Debug, Default)]
struct State {
    closed: bool,
    held: usize,
}

/// Holds calls back while it is closed.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    pub fn close(&self) {
        self.state.lock().unwrap().closed = true;
    }

    pub fn open(&self) {
        self.state.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    /// Waits until so many calls are held back.
    pub fn wait_until_held(&self, calls: usize) {
        let state = self.state.lock().unwrap();
        let limit = Duration::from_secs(60);
        let (state, timeout) =
            self.changed.wait_timeout_while(state, limit, |state| state.held < calls).unwrap();
        assert!(!timeout.timed_out(), "{} calls are held, not {calls}", state.held);
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.held += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |state| state.closed).unwrap();
        state.held -= 1;
    }
}

impl Hook for Gate {
    fn before(&self, changes: bool) {
        if changes {
            self.pass();
        }
    }
}

/// Another file system, with every change of a file or a directory behind a gate, which is open.
pub fn gated(inner: impl Vfs) -> (HookedVfs<Gate>, Arc<Gate>) {
    HookedVfs::with(inner, Gate::default())
}
