//! Which core a thread runs on: a reader on one, all the rest of the process on another.

use std::fs;

use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};

use crate::failure::{Failure, Result};

/// While it lives, the thread that made it has a core to itself as far as this process goes.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// This thread on the last core that the process may use, all others (and those that they start) on the first.
    pub(crate) fn reader() -> Result<Self> {
        let before = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| before.is_set(*core));
        let (Some(first), Some(last)) = (cores.next(), cores.next_back()) else {
            return Err(Failure::new("there is only one core"));
        };
        let pinned = Self { before };
        set_all(&only(first))?;
        sched_setaffinity(Some(gettid()), &only(last))?;
        Ok(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Nothing can be done where it fails, and later phases would only be slower.
        let _ = set_all(&self.before);
    }
}

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

/// For each thread of this process. One that ends meanwhile needs nothing.
fn set_all(cores: &CpuSet) -> Result<()> {
    for entry in fs::read_dir("/proc/self/task")? {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        match sched_setaffinity(id, cores) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
