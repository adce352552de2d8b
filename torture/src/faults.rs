//! A failing call at every index of the workloads, in every way in which it can fail; and a disk that fills up.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use bristlecone::vfs::sim::{CrashPolicy, Fault, FaultRule, OpKind, Selector, SimVfs};

use crate::phase::{Phase, around, beginning, examine, jitter};
use crate::totals::{Totals, share};
use crate::workload::{ALL, Workload};
use crate::{Check, Rng};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seeds: u64,
    pub first_seed: u64,
    /// Every so many calls.
    pub stride: usize,
    /// Every way to fail at each of them, instead of one in turn; and a second fault after the first.
    pub every_way: bool,
    /// This harm alone, so many times: threads do not take turns the same way twice.
    pub only: Option<(Harm, u64)>,
    pub threads: usize,
    pub deadline: Option<Instant>,
}

/// What is done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    Call {
        index: u64,
        fault: Fault,
        forever: bool,
    },
    /// Recorded operations only, so that reads pass.
    Op {
        index: usize,
        fault: Fault,
        forever: bool,
    },
    Two {
        first: u64,
        second: u64,
    },
    /// The sync of the directory of segments that comes after so many of them.
    Names {
        after: u64,
    },
    /// The disk has so many bytes.
    Full {
        bytes: u64,
    },
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let often = |forever: bool| if forever { "forever" } else { "once" };
        match *self {
            Self::Call { index, fault, forever } => write!(f, "call:{index}:{fault:?}:{}", often(forever)),
            Self::Op { index, fault, forever } => write!(f, "op:{index}:{fault:?}:{}", often(forever)),
            Self::Two { first, second } => write!(f, "two:{first}:{second}"),
            Self::Names { after } => write!(f, "names:{after}"),
            Self::Full { bytes } => write!(f, "full:{bytes}"),
        }
    }
}

impl FromStr for Harm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let number = |part: &str| part.parse::<u64>().map_err(|error| format!("{part}: {error}"));
        let fault = |name: &str| {
            let all = [Fault::Eio, Fault::NoSpace, Fault::Interrupted, Fault::ShortWrite];
            all.into_iter()
                .find(|fault| format!("{fault:?}") == name)
                .ok_or(format!("there is no fault {name}"))
        };
        match parts[..] {
            ["call", index, name, often] => {
                Ok(Self::Call { index: number(index)?, fault: fault(name)?, forever: often == "forever" })
            }
            ["op", index, name, often] => Ok(Self::Op {
                index: number(index)? as usize,
                fault: fault(name)?,
                forever: often == "forever",
            }),
            ["two", first, second] => Ok(Self::Two { first: number(first)?, second: number(second)? }),
            ["names", after] => Ok(Self::Names { after: number(after)? }),
            ["full", bytes] => Ok(Self::Full { bytes: number(bytes)? }),
            _ => {
                Err("as in call:12:Eio:once, op:12:ShortWrite:forever, two:12:3, names:4 or full:40960"
                    .into())
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Job(&'static Workload, u64, Harm);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "errors --workload '{}' --seed {} --harm {} --repeat 50", self.0.name, self.1, self.2)
    }
}

/// The campaign.
pub fn campaign(plan: &Plan, only: Option<&'static Workload>) -> Totals {
    let mut jobs = Vec::new();
    if let (Some((harm, repeat)), Some(workload)) = (plan.only, only) {
        jobs.extend((0..repeat).map(|_| Job(workload, plan.first_seed, harm)));
        return work(&jobs, plan);
    }
    for seed in plan.first_seed..plan.first_seed + plan.seeds {
        for workload in ALL.iter().filter(|one| only.is_none_or(|only| only.name == one.name)) {
            match size(workload, seed) {
                Ok(size) => {
                    jobs.extend(harms(size, plan, seed).into_iter().map(|harm| Job(workload, seed, harm)))
                }
                Err(what) => {
                    let failures =
                        vec![format!("errors --workload '{}' --seed {seed}: {what}", workload.name)];
                    return Totals { failures, ..Totals::default() };
                }
            }
        }
    }
    work(&jobs, plan)
}

fn work(jobs: &[Job], plan: &Plan) -> Totals {
    share(jobs, plan.threads, plan.deadline, |job, totals| {
        let failed = one(job.0, job.1, job.2)?;
        totals.add("faults", 1);
        totals.add(if failed { "met by an error" } else { "passed unnoticed" }, 1);
        if matches!(job.2, Harm::Full { .. }) {
            totals.add("full disks", 1);
        }
        Ok(())
    })
}

/// Calls, operations and bytes of a workload where nothing fails. Threads take turns as they like, so runs differ a little.
fn size(workload: &Workload, seed: u64) -> Check<(u64, usize, u64)> {
    let phase = Phase::fresh(SimVfs::new(seed), workload, seed)?;
    match phase.failure {
        Some(failure) => Err(format!("where no call failed: {failure}")),
        None => Ok((phase.sim.call_count(), phase.sim.op_count(), bytes(&phase.sim))),
    }
}

fn bytes(sim: &SimVfs) -> u64 {
    let len = |file: &std::path::PathBuf| sim.read_file(file).map_or(0, |bytes| bytes.len() as u64);
    sim.files().iter().map(len).sum()
}

/// Every index in turn, with one of the ways to fail, or with all.
fn harms((calls, ops, bytes): (u64, usize, u64), plan: &Plan, seed: u64) -> Vec<Harm> {
    const CALLS: [Fault; 3] = [Fault::Eio, Fault::NoSpace, Fault::Interrupted];
    const OPS: [Fault; 3] = [Fault::ShortWrite, Fault::NoSpace, Fault::Eio];
    // The ways at the `at`th index: over three seeds and two turns all come up.
    let ways = |at: usize, faults: [Fault; 3]| {
        let turn = at + seed as usize;
        let all = (0..6).map(move |way| (faults[way % 3], way / 3 == 1));
        all.enumerate().filter(move |(way, _)| plan.every_way || *way == turn % 6).map(|(_, way)| way)
    };
    let mut out = Vec::new();
    for (at, index) in (seed % plan.stride as u64..calls).step_by(plan.stride).enumerate() {
        out.extend(ways(at, CALLS).map(|(fault, forever)| Harm::Call { index, fault, forever }));
        if plan.every_way && at % 3 == 0 {
            out.push(Harm::Two { first: index, second: 1 + index % 37 });
        }
    }
    for (at, index) in (seed as usize % plan.stride..ops).step_by(plan.stride).enumerate() {
        out.extend(ways(at, OPS).map(|(fault, forever)| Harm::Op { index, fault, forever }));
    }
    let syncs = 12 / plan.stride as u64 + 1;
    out.extend((0..syncs).map(|turn| Harm::Names { after: (turn * 5 + seed) % 12 }));
    let sizes = 40 / plan.stride as u64 + 1;
    out.extend((1..=sizes).map(|part| Harm::Full { bytes: bytes * part / (sizes + 1) }));
    out
}

/// Works through one fault: reopening finds everything that was acknowledged, and so does power loss. Whether anything failed.
pub fn one(workload: &Workload, seed: u64, harm: Harm) -> Check<bool> {
    let sim = SimVfs::new(seed);
    let rule = |rule: FaultRule, forever: bool| if forever { rule.forever() } else { rule };
    match harm {
        Harm::Call { index, fault, forever } => sim.fail(rule(FaultRule::at_call(index, fault), forever)),
        Harm::Op { index, fault, forever } => sim.fail(rule(FaultRule::at_op(index, fault), forever)),
        Harm::Two { first, second } => {
            sim.fail(FaultRule::at_call(first, Fault::Eio));
            sim.fail(FaultRule::at_call(first + second, Fault::NoSpace));
        }
        Harm::Names { after } => {
            let names = Selector::kind(OpKind::SyncDir).ending("segments");
            sim.fail(FaultRule::matching(names, Fault::Eio).after(after));
        }
        Harm::Full { bytes } => sim.set_capacity(Some(bytes)),
    }
    let (config, found, mut rng) = beginning(workload, seed);
    let mut phase = Phase::new(sim, workload, &config, vec![found], &mut rng);
    phase.jitter = jitter(seed);
    phase.work(workload.steps)?;
    let told = |when: &str, what: String| {
        format!("{when} after {:?}: {what}\n{}", phase.failure, around(&phase.sim, phase.sim.op_count()))
    };
    let states = || phase.timeline.at(usize::MAX);
    let image = phase.sim.killed_at(usize::MAX);
    image.set_capacity(None);
    examine(image, &phase, states(), &mut rng).map_err(|what| told("reopening", what))?;
    for policy in [CrashPolicy::KeepNothing, CrashPolicy::KeepAll, CrashPolicy::Mix] {
        let image = phase.sim.crash_image(policy, seed);
        image.set_capacity(None);
        examine(image, &phase, states(), &mut Rng::new(seed))
            .map_err(|what| told(&format!("power loss ({policy:?})"), what))?;
    }
    Ok(phase.failure.is_some())
}
