//! The workloads of the campaigns: what a store is set to, and what is done with it how often.

use bristlecone::{Namespace, RootSchedule, SchemeKind};

use crate::{Config, Rng};

/// One thing to do with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Commit,
    /// Commits of a change or two, one after the other.
    MiniBlocks,
    WaitDurable,
    WaitRoot,
    Flush,
    /// Close and open.
    Reopen,
    Prune,
    Pin,
    Unpin,
    Compact,
    Rollback,
    /// Proposals, one of which is accepted.
    Propose,
    /// Reads an old version, by which pages come into memory.
    Read,
}

/// What kind of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    Small,
    /// Four of ten flat values have records of their own.
    Large,
}

/// A workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub name: &'static str,
    /// What is done, with its weight.
    pub acts: &'static [(Act, usize)],
    /// How many acts.
    pub steps: usize,
    /// Keys, about.
    pub scale: usize,
    /// Changes of a commit, at most.
    pub largest: usize,
    pub values: Values,
    seal_keys: &'static [u64],
    cache_bytes: &'static [u64],
    roots: &'static [RootSchedule],
}

use Act::*;

const PLAIN: Workload = Workload {
    name: "commit",
    acts: &[(Commit, 10), (WaitDurable, 6), (WaitRoot, 3), (Flush, 1)],
    steps: 26,
    scale: 40,
    largest: 16,
    values: Values::Small,
    seal_keys: &[20, 60],
    cache_bytes: &[1 << 30],
    roots: &[RootSchedule::Every(1), RootSchedule::Every(3), RootSchedule::OnDemand],
};

/// All workloads.
pub const ALL: &[Workload] = &[
    PLAIN,
    Workload {
        name: "mini-blocks",
        acts: &[(MiniBlocks, 8), (WaitDurable, 2), (WaitRoot, 1)],
        steps: 10,
        largest: 3,
        roots: &[RootSchedule::Every(10)],
        ..PLAIN
    },
    Workload {
        name: "seal",
        acts: &[(Commit, 10), (WaitDurable, 3), (Flush, 4)],
        steps: 18,
        seal_keys: &[1],
        ..PLAIN
    },
    // Few keys, many runs: deltas, bases, chains that are cut.
    Workload {
        name: "consolidation",
        acts: &[(Commit, 12), (Flush, 12), (WaitDurable, 1)],
        steps: 50,
        scale: 12,
        largest: 6,
        seal_keys: &[1, 5],
        ..PLAIN
    },
    Workload {
        name: "eviction",
        acts: &[(Commit, 10), (Read, 8), (WaitDurable, 3), (Flush, 2)],
        steps: 28,
        scale: 250,
        largest: 60,
        cache_bytes: &[0, 1 << 12],
        ..PLAIN
    },
    Workload {
        name: "prune",
        acts: &[(Commit, 12), (Prune, 4), (WaitDurable, 2), (Flush, 1)],
        steps: 26,
        ..PLAIN
    },
    Workload {
        name: "compaction",
        acts: &[(Commit, 12), (Prune, 2), (Compact, 3), (Flush, 2)],
        steps: 30,
        seal_keys: &[5, 20],
        ..PLAIN
    },
    Workload {
        name: "rollback",
        acts: &[(Commit, 12), (Rollback, 4), (WaitDurable, 2), (WaitRoot, 1)],
        steps: 26,
        ..PLAIN
    },
    Workload {
        name: "pins",
        acts: &[(Commit, 12), (Pin, 4), (Unpin, 2), (Prune, 2), (Rollback, 1), (Compact, 1)],
        steps: 30,
        ..PLAIN
    },
    Workload { name: "reopening", acts: &[(Commit, 10), (Reopen, 4), (WaitDurable, 2)], steps: 24, ..PLAIN },
    Workload {
        name: "large values",
        acts: &[(Commit, 10), (Flush, 3), (Prune, 1), (Compact, 1), (WaitDurable, 2)],
        steps: 22,
        values: Values::Large,
        ..PLAIN
    },
    Workload {
        name: "proposals",
        acts: &[(Propose, 8), (Commit, 4), (WaitDurable, 3), (WaitRoot, 2), (Flush, 1)],
        steps: 20,
        ..PLAIN
    },
    Workload {
        name: "everything",
        acts: &[
            (Commit, 14),
            (MiniBlocks, 1),
            (WaitDurable, 3),
            (WaitRoot, 2),
            (Flush, 2),
            (Reopen, 1),
            (Prune, 2),
            (Pin, 2),
            (Unpin, 1),
            (Compact, 1),
            (Rollback, 2),
            (Propose, 2),
            (Read, 2),
        ],
        steps: 36,
        ..PLAIN
    },
];

impl Workload {
    /// The one with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|workload| workload.name == name)
    }

    /// A way to set a store up for it.
    pub fn config(&self, seed: u64, rng: &mut Rng) -> Config {
        let namespaces = match self.values {
            Values::Large => vec![
                Namespace::flat(SchemeKind::Ethereum),
                Namespace::accounts(SchemeKind::Blake3).named("a"),
            ],
            Values::Small => namespaces(seed),
        };
        Config {
            roots: *rng.pick(self.roots),
            seal_keys: *rng.pick(self.seal_keys),
            cache_bytes: *rng.pick(self.cache_bytes),
            segment_bytes: *rng.pick(&[4 << 10, 32 << 10]),
            log_bytes: *rng.pick(&[4 << 10, 16 << 10]),
            ..Config::small(namespaces)
        }
    }

    /// What to do next.
    pub fn act(&self, rng: &mut Rng) -> Act {
        let sum = self.acts.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.below(sum);
        for (act, weight) in self.acts {
            if at < *weight {
                return *act;
            }
            at -= weight;
        }
        Act::Commit
    }
}

/// Namespaces of either scheme and both shapes.
pub fn namespaces(seed: u64) -> Vec<Namespace> {
    let scheme = if seed.is_multiple_of(2) { SchemeKind::Ethereum } else { SchemeKind::Blake3 };
    match seed % 3 {
        0 => vec![Namespace::accounts(scheme)],
        1 => vec![Namespace::flat(scheme).raw()],
        _ => vec![Namespace::accounts(scheme), Namespace::flat(SchemeKind::Blake3).named("flat")],
    }
}
