//! Power cuts at every operation of the workloads, and of the recovery from them.

use std::collections::HashSet;
use std::time::Instant;

use bristlecone::vfs::sim::{CrashPolicy, SimVfs};

use crate::phase::{Phase, around, examine, jitter};
use crate::totals::{Totals, share};
use crate::workload::{ALL, Workload};
use crate::{Check, Rng};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Runs of each workload.
    pub seeds: u64,
    /// The first seed.
    pub first_seed: u64,
    /// Images of each policy that makes choices, at each boundary.
    pub images: u64,
    /// Every so many images.
    pub stride: usize,
    /// Of so many images that are looked at, the recovery of one is cut in its turn.
    pub again: usize,
    pub threads: usize,
    pub deadline: Option<Instant>,
}

/// One run of a workload.
#[derive(Clone, Copy)]
struct Job(&'static Workload, u64);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "crash --workload '{}' --seed {}", self.0.name, self.1)
    }
}

/// The campaign, over `workloads` or all.
pub fn campaign(plan: &Plan, workloads: Option<&'static Workload>) -> Totals {
    let mut jobs = Vec::new();
    for seed in plan.first_seed..plan.first_seed + plan.seeds {
        jobs.extend(
            ALL.iter()
                .filter(|one| workloads.is_none_or(|only| only.name == one.name))
                .map(|one| Job(one, seed)),
        );
    }
    share(&jobs, plan.threads, plan.deadline, |job, totals| one(*job, plan, totals))
}

/// A first store; then one that was killed; then one that lost power: each of them is cut everywhere.
fn one(Job(workload, seed): Job, plan: &Plan, totals: &mut Totals) -> Check {
    let mut rng = Rng::new(seed);
    let first = unfailing(Phase::fresh(SimVfs::new(seed), workload, seed)?)?;
    let goes_on = |sim: SimVfs, before: &Phase, boundary: usize, rng: &mut Rng| -> Check<Phase> {
        let mut next = Phase::new(sim, workload, &before.config, before.timeline.at(boundary), rng);
        next.jitter = jitter(seed);
        next.work(workload.steps / 3)?;
        unfailing(next)
    };
    let second = goes_on(first.sim.killed_at(usize::MAX), &first, usize::MAX, &mut rng)?;
    let boundary = second.sim.op_count().saturating_sub(3);
    let lost = second.sim.image_at(boundary, CrashPolicy::Mix, seed);
    let third = goes_on(lost, &second, boundary, &mut rng)?;
    let mut cutter = Cutter { plan, totals, seen: HashSet::new() };
    for (phase, name) in [(&first, "at first"), (&second, "after a kill"), (&third, "after a power cut")] {
        cutter
            .everywhere(phase, plan.again, plan.stride, &mut rng)
            .map_err(|what| format!("{name}: {what}"))?;
    }
    totals.add(&format!("runs of {}", workload.name), 1);
    Ok(())
}

fn unfailing(phase: Phase) -> Check<Phase> {
    match phase.failure {
        Some(failure) => Err(format!("where no call failed: {failure}")),
        None => Ok(phase),
    }
}

/// The bytes and names of a disk.
fn hash(image: &SimVfs) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for file in image.files() {
        let bytes = image.read_file(&file).unwrap_or_default();
        hasher
            .update(file.as_os_str().as_encoded_bytes())
            .update(&(bytes.len() as u64).to_le_bytes())
            .update(&bytes);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(short)
}

struct Cutter<'a> {
    plan: &'a Plan,
    totals: &'a mut Totals,
    /// Images with what may be found on them, of this phase.
    seen: HashSet<(u128, (usize, usize))>,
}

impl Cutter<'_> {
    /// Looks at the disk after a power cut at every boundary.
    fn everywhere(&mut self, phase: &Phase, again: usize, stride: usize, rng: &mut Rng) -> Check {
        self.seen.clear();
        let mut looked = 0;
        let policies =
            if again == 0 { &[CrashPolicy::KeepNothing, CrashPolicy::Mix][..] } else { &CrashPolicy::EVERY };
        for (index, case) in phase.sim.crash_cases(policies, 0..self.plan.images).enumerate() {
            if index % stride != 0 {
                continue;
            }
            self.totals.add("images", 1);
            let told = |what: String| format!("{case}: {what}\n{}", around(&phase.sim, case.boundary));
            let (image, states) = (hash(&case.image), phase.timeline.at(case.boundary));
            self.totals.images.insert(image);
            if !self.seen.insert((image, phase.timeline.key(case.boundary))) {
                continue;
            }
            looked += 1;
            self.totals.add("recoveries", 1);
            if again == 0 || looked % again != 0 {
                examine(case.image.clone(), phase, states, rng).map_err(told)?;
                continue;
            }
            let mut recovery = Phase::new(case.image.clone(), &phase.workload, &phase.config, states, rng);
            recovery.work(2).map_err(told)?;
            let recovery = unfailing(recovery).map_err(told)?;
            self.totals.add("recoveries cut in their turn", 1);
            let seen = std::mem::take(&mut self.seen);
            self.everywhere(&recovery, 0, 3, rng)
                .map_err(|what| told(format!("in recovery, which did {:?}: {what}", recovery.done)))?;
            self.seen = seen;
        }
        self.kills(phase, stride, rng)
    }

    /// A process that is killed leaves everything it wrote in the page cache, where it reads well and need not be durable.
    fn kills(&mut self, phase: &Phase, stride: usize, rng: &mut Rng) -> Check {
        for boundary in (0..=phase.sim.op_count()).step_by(stride.max(5)) {
            self.totals.add("kills, simulated", 1);
            let told =
                |what: String| format!("killed at {boundary}: {what}\n{}", around(&phase.sim, boundary));
            let states = phase.timeline.at(boundary);
            let mut next =
                Phase::new(phase.sim.killed_at(boundary), &phase.workload, &phase.config, states, rng);
            next.work(1).map_err(told)?;
            let next = unfailing(next).map_err(told)?;
            let image = next.sim.crash_image(CrashPolicy::KeepNothing, 0);
            examine(image, &next, next.timeline.at(usize::MAX), rng).map_err(|what| {
                let (done, ops) = (&next.done, around(&next.sim, next.sim.op_count()));
                told(format!("went on with {done:?}, and then power: {what}\n{ops}--"))
            })?;
        }
        Ok(())
    }
}

/// Looks at a phase whose disk lied about its syncs: what the campaign would say.
pub fn judge(phase: &Phase, stride: usize) -> Check<Totals> {
    let mut totals = Totals::default();
    let plan = Plan { seeds: 1, first_seed: 0, images: 1, stride, again: 0, threads: 1, deadline: None };
    Cutter { plan: &plan, totals: &mut totals, seen: HashSet::new() }.everywhere(
        phase,
        0,
        stride,
        &mut Rng::new(1),
    )?;
    Ok(totals)
}
