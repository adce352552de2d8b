//! What is kept, said again: the last seal in a group of its own, with another oldest version or other pins. Nothing that is no longer kept goes
//! before that is durable.

use std::sync::Arc;

use bristlecone_delta::{LogPosition, Seal, Sealed, SegmentWriter};

use crate::event::Asked;
use crate::forget::GivenUp;
use crate::kept::Kept;
use crate::pipeline::Core;
use crate::runs::Run;
use crate::{Error, Result};

/// What is to be kept from now on.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// All versions from this one on, but at least the last sealed one.
    Oldest(u64),
    /// A version, under a name.
    Pin(String, u64),
    /// No longer what has this name.
    Unpin(String),
}

/// A change, the opening that makes it, and who waits for it.
pub(crate) struct Keep {
    pub(crate) change: Change,
    pub(crate) opening: u32,
    pub(crate) done: Asked<()>,
}

/// What is kept after `change`; `None` where that is what is kept already.
fn after(core: &Core, change: &Change) -> Result<Option<Kept>> {
    let kept = core.kept.load();
    let last = core.runs.last_version().ok_or(Error::NoVersion)?;
    Ok(match change {
        Change::Oldest(oldest) => {
            Some(kept.moved_to((*oldest).min(last))).filter(|next| next.oldest != kept.oldest)
        }
        Change::Pin(name, version) => {
            let past = core.past(*version).ok_or_else(|| core.not_kept(*version))?;
            let is_there = kept.pin(name).is_some_and(|pin| pin.past.stamp() == past.stamp());
            (!is_there).then(|| kept.with(name, past))
        }
        Change::Unpin(name) => {
            let missing = || Error::NoPin { name: name.clone() };
            Some(kept.pin(name).map(|_| kept.without(name)).ok_or_else(missing)?)
        }
    })
}

/// Why a change was not made.
pub(super) enum Failed {
    /// It makes no sense: nothing happened.
    Refused(Error),
    /// It could not be written.
    Write(Error),
}

/// Makes a change durable, and then lets it hold. `covered` is up to where the log is sealed. `None` where there was nothing to change.
pub(super) fn keep(
    core: &Core,
    writer: &mut SegmentWriter,
    keep: &Keep,
    covered: LogPosition,
) -> Result<Option<(Sealed, Arc<Run>)>, Failed> {
    let Some(next) = after(core, &keep.change).map_err(Failed::Refused)? else { return Ok(None) };
    let last = core.runs.last().ok_or(Failed::Refused(Error::NoVersion))?;
    let mut write = || -> Result<_> {
        let group = writer.begin(keep.opening)?;
        let seal = Seal {
            opening: keep.opening,
            log_position: covered,
            oldest: next.oldest,
            pins: next.to_pins(Some(last.locator), group.next()?),
            ..last.seal.clone()
        };
        let sealed = group.finish(&seal)?;
        Ok((sealed, Arc::new(Run::new(sealed.locator(), seal)?)))
    };
    let (sealed, run) = write().map_err(Failed::Write)?;
    core.runs.put(&run);
    core.keep(next.renamed(last.locator, &run));
    core.forgetting.give_up(GivenUp { records: last.locator..last.locator.next(), seen: None });
    Ok(Some((sealed, run)))
}
