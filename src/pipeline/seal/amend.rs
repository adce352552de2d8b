//! Saying again what a seal said. A group of its own, whose seal takes the place of all seals from its first version on: later ones are no longer
//! reached, and the list of runs goes on from it. It is one durable write, so a crash leaves either state.

use std::sync::Arc;

use bristlecone_delta::{Locator, LogPosition, Seal, Sealed, SegmentWriter};

use super::pages::Chains;
use super::{put_run, sealed_version, settle};
use crate::Result;
use crate::event::Asked;
use crate::forget::GivenUp;
use crate::given_up::Rollback;
use crate::pipeline::Core;
use crate::runs::Run;
use crate::state::VersionState;

/// What is to be said.
pub(crate) struct Amendment {
    pub(crate) what: What,
    /// The opening that says it.
    pub(crate) opening: u32,
    /// The rollback that it makes durable, if it is one.
    pub(crate) rollback: Option<Rollback>,
    /// Told of the run that then is the last.
    pub(crate) done: Asked<Arc<Run>>,
}

/// What the seal says.
pub(crate) enum What {
    /// The same as that of a run.
    Again(Arc<Run>),
    /// The first versions of the run `of`, which were applied anew to the end of the run before; the last one has a root.
    Part { of: Arc<Run>, before: Option<Arc<Run>>, states: Vec<Arc<VersionState>> },
}

/// Writes the amendment, and lets the list of runs end with it. `covered` is up to where the log is sealed: nothing more of it is covered by this.
pub(super) fn amend(
    core: &Core,
    writer: &mut SegmentWriter,
    chains: &mut Chains,
    amendment: &Amendment,
    covered: LogPosition,
) -> Result<(Sealed, Arc<Run>)> {
    let opening = amendment.opening;
    let mut group = writer.begin(opening)?;
    // Nothing that was written since is reached any more, nor is the seal that this one takes the place of.
    let (from, first, seen) = match &amendment.what {
        What::Again(run) => (run.locator, run.locator, None),
        What::Part { of, before, .. } => {
            let first = before.as_ref().map_or(Locator::FIRST, |run| run.locator.next());
            (of.locator, first, Some(of.clone()))
        }
    };
    let given_up = GivenUp { records: first..group.next()?, seen };
    let mut pages = Vec::new();
    let mut seal = match &amendment.what {
        What::Again(run) => Seal { opening, log_position: covered, ..run.seal.clone() },
        What::Part { before, states, .. } => {
            let put = put_run(core, &mut group, chains, states)?;
            pages = put.pages;
            Seal {
                previous: before.as_ref().map(|run| run.locator),
                opening,
                versions: states.iter().map(|state| sealed_version(state)).collect(),
                dead: put.dead,
                namespaces: put.namespaces,
                log_position: covered,
                ..Seal::default()
            }
        }
    };
    let last = seal.versions.last().map_or(0, |last| last.version);
    let kept = core.kept.load().up_to(last);
    (seal.oldest, seal.pins) = (kept.oldest, kept.to_pins(Some(from), group.next()?));
    debug_assert!(
        core.runs.last().is_some_and(|last| last.seal.log_position <= covered),
        "what is sealed stays so"
    );
    let sealed = group.finish(&seal)?;
    settle(core, pages);
    let run = Arc::new(Run::new(sealed.locator(), seal)?);
    if let Some(rollback) = amendment.rollback {
        core.given_up.add(rollback);
    }
    core.runs.put(&run);
    core.forgetting.give_up(given_up);
    core.latest_sealed.set(run.last);
    core.keep(kept.renamed(from, &run));
    Ok((sealed, run))
}
