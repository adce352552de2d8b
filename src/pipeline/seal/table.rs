//! What a run's end does not show: its table, and the keys that went.

use bristlecone_delta::{Stamp, TableOp};
use bristlecone_trie::page::ACCOUNT_BYTES;
use bristlecone_trie::{Body, Change, Op, Shape};

use crate::graph::head;

/// What the end of a run does not show of its operations.
#[derive(Debug, Default)]
pub(super) struct Superseded<'a> {
    /// The operations overwritten later in the run, those that end in absence, and every wipe; by key and stamp. They
    /// go into the run table, for reads inside the run.
    pub(super) hidden: Vec<TableOp<'a>>,
    /// The first eight bytes of keys that may be gone since the run before, or have lost what is below them. Ascending.
    pub(super) gone: Vec<u64>,
}

/// One operation of a run, as it is sorted: most keys differ in their first bytes, and comparing those touches no key.
#[derive(Clone, Copy)]
struct Ranked {
    head: u64,
    commit: u32,
    at: u32,
}

/// Sorts out the operations of a run's commits on one namespace, the oldest commit first; each commit's are sorted by key.
pub(super) fn superseded<'a>(commits: &[(Stamp, Vec<Op<'a>>)], shape: Shape) -> Superseded<'a> {
    let op = |ranked: &Ranked| commits.get(ranked.commit as usize)?.1.get(ranked.at as usize);
    let key = |ranked: &Ranked| op(ranked).map_or(&[][..], |op| op.key);
    let ranked = rank(commits, key);
    let mut out = Superseded::default();
    // The account met last, and the last commit that wiped it.
    let mut account: (&[u8], Option<u32>) = (&[], None);
    for same in ranked.chunk_by(|a, b| a.head == b.head && key(a) == key(b)) {
        let Some(first) = same.first() else { continue };
        let name = key(first);
        let newest = |is: fn(&Change<'_>) -> bool| {
            same.iter().rev().find(|ranked| op(ranked).is_some_and(|op| is(&op.change))).map(|r| r.commit)
        };
        let said = newest(says_something);
        let swept = match shape {
            Shape::Accounts if name.len() == ACCOUNT_BYTES => {
                account = (name, newest(is_wipe));
                None
            }
            Shape::Accounts => account.1.filter(|_| name.get(..ACCOUNT_BYTES) == Some(account.0)),
            Shape::Flat => None,
        };
        for ranked in same {
            let (Some(op), Some((stamp, _))) = (op(ranked), commits.get(ranked.commit as usize)) else {
                continue;
            };
            let is_shown = is_shown(&op.change);
            if !is_shown && out.gone.last() != Some(&ranked.head) {
                out.gone.push(ranked.head);
            }
            if !is_shown || said.max(swept).is_some_and(|later| later > ranked.commit) {
                out.hidden.push(TableOp { key: op.key, stamp: *stamp, change: op.change });
            }
        }
    }
    out
}

/// All operations, by key and commit.
fn rank<'a>(commits: &[(Stamp, Vec<Op<'a>>)], key: impl Fn(&Ranked) -> &'a [u8]) -> Vec<Ranked> {
    let mut ranked = Vec::with_capacity(commits.iter().map(|(_, ops)| ops.len()).sum());
    for ((_, ops), commit) in commits.iter().zip(0..) {
        ranked.extend(ops.iter().zip(0..).map(|(op, at)| Ranked { head: head(op.key), commit, at }));
    }
    ranked.sort_unstable_by(|a, b| {
        a.head.cmp(&b.head).then_with(|| key(a).cmp(key(b)).then(a.commit.cmp(&b.commit)))
    });
    ranked
}

/// Whether the entry of the key is, or ceases to be, by this operation.
fn says_something(change: &Change<'_>) -> bool {
    !matches!(change, Change::Account { body: Body::Keep, .. })
}

fn is_wipe(change: &Change<'_>) -> bool {
    matches!(change, Change::Account { body, wipe } if *wipe || *body == Body::Delete)
}

/// Whether the end shows it, if nothing comes after it.
fn is_shown(change: &Change<'_>) -> bool {
    matches!(change, Change::Put(_) | Change::Account { body: Body::Put(_), wipe: false })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// The same by maps of whole keys.
    fn naive<'a>(commits: &[(Stamp, Vec<Op<'a>>)], shape: Shape) -> Superseded<'a> {
        let mut last: BTreeMap<&[u8], Stamp> = BTreeMap::new();
        let mut wiped: BTreeMap<&[u8], Stamp> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for (stamp, op) in commits.iter().flat_map(|(stamp, ops)| ops.iter().map(move |op| (*stamp, op))) {
            if says_something(&op.change) {
                last.insert(op.key, stamp);
            }
            if is_wipe(&op.change) {
                wiped.insert(op.key, stamp);
            }
        }
        let mut hidden = Vec::new();
        for (stamp, op) in commits.iter().flat_map(|(stamp, ops)| ops.iter().map(move |op| (*stamp, op))) {
            let account = op.key.get(..32).filter(|_| shape == Shape::Accounts && op.key.len() == 64);
            let overwritten = last.get(op.key).is_some_and(|last| *last > stamp);
            let swept = account.and_then(|account| wiped.get(account)).is_some_and(|at| *at > stamp);
            if !is_shown(&op.change) {
                gone.insert(head(op.key));
            }
            if overwritten || swept || !is_shown(&op.change) {
                hidden.push(TableOp { key: op.key, stamp, change: op.change });
            }
        }
        hidden.sort_by_key(|op| (op.key, op.stamp));
        Superseded { hidden, gone: gone.into_iter().collect() }
    }

    fn change(rng: &mut ChaCha8Rng, is_account: bool) -> Change<'static> {
        match rng.random_range(0..8) {
            0 if !is_account => Change::Delete,
            _ if !is_account => Change::Put(b"value"),
            0 => Change::Account { body: Body::Delete, wipe: true },
            1 => Change::Account { body: Body::Keep, wipe: true },
            2 => Change::Account { body: Body::Keep, wipe: false },
            3 => Change::Account { body: Body::Put(b"body"), wipe: true },
            _ => Change::Account { body: Body::Put(b"body"), wipe: false },
        }
    }

    #[test]
    fn what_a_run_hides_is_what_maps_of_its_keys_say() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let shape = if seed % 2 == 0 { Shape::Flat } else { Shape::Accounts };
            // Few keys, many with their first bytes in common, some a part of others.
            let keys: BTreeSet<Vec<u8>> = (0..40)
                .map(|_| {
                    let account = vec![rng.random_range(0..4u8); 32];
                    match (shape, rng.random_range(0..3)) {
                        (Shape::Flat, _) => vec![rng.random_range(0..2u8); rng.random_range(0..12)],
                        (Shape::Accounts, 0) => account,
                        (Shape::Accounts, _) => [account, vec![rng.random_range(0..4u8); 32]].concat(),
                    }
                })
                .collect();
            let commits: Vec<(Stamp, Vec<Op<'_>>)> = (1..9)
                .map(|counter| {
                    let chosen: Vec<&Vec<u8>> = keys.iter().filter(|_| rng.random_bool(0.4)).collect();
                    let op = |key: &&'_ Vec<u8>| key.len() == 32 && shape == Shape::Accounts;
                    let ops = chosen
                        .iter()
                        .map(|key| Op { key: key.as_slice(), change: change(&mut rng, op(key)) })
                        .collect();
                    (Stamp::new(1, counter).unwrap(), ops)
                })
                .collect();
            let (found, expected) = (superseded(&commits, shape), naive(&commits, shape));
            assert_eq!(found.hidden, expected.hidden, "seed {seed}");
            assert_eq!(found.gone, expected.gone, "seed {seed}");
        }
    }
}
