//! Ctrl-C and termination: work stops at the next commit or the next few reads, and directories are removed.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, Result};

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on a signal sets the flag instead of ending the process.
pub(crate) fn install() -> Result<()> {
    ctrlc::set_handler(|| ASKED.store(true, Ordering::Relaxed))
        .map_err(|error| Failure::new(format!("cannot listen for Ctrl-C: {error}")))
}

pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// An error once a stop was asked for.
pub(crate) fn check() -> Result<()> {
    if asked() { Err(Failure::stopped()) } else { Ok(()) }
}
