//! The batch log's thread: what waits is written together and synced once.

use std::sync::Arc;

use bristlecone_delta::{Log, Sealed, Stamp, encode_ops};
use bristlecone_trie::B256;

use super::Core;
use crate::state::VersionState;
use crate::sync::Receiver;
use crate::{Error, Result};

/// So many commits, or bytes of them, share one sync at most: commits that keep coming must not put it off.
const GROUP_COMMITS: usize = 128;
const GROUP_BYTES: usize = 1 << 20;

/// What the log is told.
pub(crate) enum LogMessage {
    /// A commit to make durable.
    Commit(Arc<VersionState>),
    /// A root that was computed; it rides on the next sync.
    Root(Stamp, B256),
    /// What a durable seal covers may be overwritten.
    Release(Sealed),
    /// Nothing comes after this: mark a clean end.
    Close,
}

/// Runs until it is told to close or nobody can tell it anything.
pub(crate) fn run(core: &Core, mut log: Log, messages: &Receiver<LogMessage>) -> Result<()> {
    let mut waiting: Vec<Arc<VersionState>> = Vec::new();
    let mut payload = Vec::new();
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        let mut outcome = core.check_alive();
        let mut bytes = 0;
        while let Some(message) = next {
            match message {
                LogMessage::Close => {
                    finish(core, &mut log, &mut waiting, outcome);
                    return core.check_alive().and_then(|()| Ok(log.close()?));
                }
                LogMessage::Commit(state) => {
                    outcome = outcome.and_then(|()| append(&mut log, &state, &mut payload));
                    bytes += payload.len();
                    waiting.push(state);
                }
                LogMessage::Root(stamp, root) => {
                    outcome = outcome.and_then(|()| Ok(log.append_root(stamp, root).map(|_| ())?));
                }
                LogMessage::Release(sealed) => outcome = outcome.and_then(|()| Ok(log.release(&sealed)?)),
            }
            let is_full = waiting.len() >= GROUP_COMMITS || bytes >= GROUP_BYTES;
            next = if is_full { None } else { messages.try_recv().ok() };
        }
        finish(core, &mut log, &mut waiting, outcome);
    }
    Ok(())
}

fn append(log: &mut Log, state: &VersionState, payload: &mut Vec<u8>) -> Result<()> {
    payload.clear();
    encode_ops(state.batch.get().iter().map(|(at, prepared)| (*at, prepared.ops())), payload)?;
    let position = log.append_batch(state.version, state.stamp, state.parent, payload)?;
    let _ = state.logged.set(position);
    Ok(())
}

/// Syncs once for all that waits, and tells each what came of it.
fn finish(core: &Core, log: &mut Log, waiting: &mut Vec<Arc<VersionState>>, outcome: Result<()>) {
    let outcome = match outcome {
        Ok(()) if waiting.is_empty() => Ok(()),
        Ok(()) => log.sync().map_err(Error::from),
        Err(error) => Err(error),
    };
    let outcome = outcome.map_err(|error| core.poison(error));
    for state in waiting.drain(..) {
        if outcome.is_ok() {
            core.latest_durable.set(state.version);
        }
        state.durable.set(outcome.clone());
    }
}
