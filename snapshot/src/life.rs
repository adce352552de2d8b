//! Deferred reclamation by life: what was born with one commit and superseded by another is needed by the stamps in
//! between, and by nothing else.
//!
//! Plain single-threaded bookkeeping, for the committer or whoever reclaims for it. Ids first wait, in buckets by
//! the stamp at which they died. When their turn comes, those that a live stamp still sees are *parked* under the newest such
//! stamp, and looked at again when that stamp is no longer live: a slow reader costs nothing at all while it goes on, and holds
//! back only what it sees.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// A number of ids and the bytes they were said to weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// How many ids.
    pub count: u64,
    /// Their bytes, as given to [`Lives::supersede`].
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: u64) {
        self.count -= 1;
        self.bytes -= bytes;
    }
}

#[derive(Clone, Copy, Debug)]
struct Life<Id> {
    id: Id,
    born: u64,
    died: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Parked<Id> {
    lives: Vec<Life<Id>>,
    tally: Tally,
}

/// Superseded ids that are not yet reclaimed.
#[derive(Debug)]
pub struct Lives<Id> {
    /// By the stamp at which they died.
    waiting: BTreeMap<u64, Vec<Life<Id>>>,
    waiting_tally: Tally,
    /// By the newest live stamp that sees them.
    parked: BTreeMap<u64, Parked<Id>>,
}

impl<Id> Default for Lives<Id> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), waiting_tally: Tally::default(), parked: BTreeMap::new() }
    }
}

impl<Id: Copy> Lives<Id> {
    /// Nothing to reclaim.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `id`, which the commit `born` made, was superseded by the commit `died`: stamps `s` with
    /// `born <= s < died` see it. `bytes` is a weight for the statistics. Costs a push.
    pub fn supersede(&mut self, id: Id, born: u64, died: u64, bytes: u64) {
        self.wait(Life { id, born, died, bytes });
    }

    fn wait(&mut self, life: Life<Id>) {
        self.waiting_tally.add(life.bytes);
        self.waiting.entry(life.died).or_default().push(life);
    }

    /// Removes and returns the ids that died at `up_to` or before and that no stamp of `live` sees. `live` is sorted, as
    /// [`Versions::live_stamps`](crate::Versions::live_stamps) gives it (and is sorted here if it is not), joined by whatever
    /// else the caller keeps readable.
    ///
    /// Each id is touched when its turn comes, and once for each stamp that held it and ended; ids under a stamp
    /// that goes on are not. To bound the work of a call, raise `up_to` in steps.
    pub fn collect(&mut self, live: &[u64], up_to: u64) -> Vec<Id> {
        let live = if live.is_sorted() {
            Cow::Borrowed(live)
        } else {
            let mut sorted = live.to_vec();
            sorted.sort_unstable();
            Cow::Owned(sorted)
        };
        let mut freed = Vec::new();
        let ended: Vec<u64> =
            self.parked.keys().filter(|stamp| live.binary_search(stamp).is_err()).copied().collect();
        for stamp in ended {
            for life in self.parked.remove(&stamp).map(|parked| parked.lives).unwrap_or_default() {
                if life.died > up_to {
                    self.wait(life);
                } else {
                    self.park_or_free(life, newest_before(&live, life.died), &mut freed);
                }
            }
        }
        let later = up_to.checked_add(1).map(|next| self.waiting.split_off(&next)).unwrap_or_default();
        for (died, bucket) in std::mem::replace(&mut self.waiting, later) {
            let newest = newest_before(&live, died);
            for life in bucket {
                self.waiting_tally.remove(life.bytes);
                self.park_or_free(life, newest, &mut freed);
            }
        }
        freed
    }

    fn park_or_free(&mut self, life: Life<Id>, newest: Option<u64>, freed: &mut Vec<Id>) {
        match newest {
            Some(stamp) if stamp >= life.born => {
                let empty = || Parked { lives: Vec::new(), tally: Tally::default() };
                let parked = self.parked.entry(stamp).or_insert_with(empty);
                parked.tally.add(life.bytes);
                parked.lives.push(life);
            }
            _ => freed.push(life.id),
        }
    }

    /// After a rollback to `stamp`: forgets each death after it of an id born at it or before, for such ids are alive
    /// again. Returns how many were forgotten.
    ///
    /// Ids born *and* died after `stamp` stay: their lives lie wholly on the branch that was given up, and they are
    /// collected once no lease on that branch sees them. Ids of that branch which had not died are the caller's to
    /// supersede, at its end. Costs a look at everything that died later or is parked.
    pub fn forget_died_after(&mut self, stamp: u64) -> usize {
        let stays = |life: &Life<Id>| life.died <= stamp || life.born > stamp;
        let mut forgotten = 0;
        let later = stamp.checked_add(1).map(|next| self.waiting.split_off(&next)).unwrap_or_default();
        for life in later.into_values().flatten() {
            self.waiting_tally.remove(life.bytes);
            if stays(&life) {
                self.wait(life);
            } else {
                forgotten += 1;
            }
        }
        for parked in self.parked.values_mut() {
            let tally = &mut parked.tally;
            parked.lives.retain(|life| {
                let stays = stays(life);
                if !stays {
                    tally.remove(life.bytes);
                    forgotten += 1;
                }
                stays
            });
        }
        self.parked.retain(|_, parked| !parked.lives.is_empty());
        forgotten
    }

    /// What waits for its turn.
    pub fn waiting(&self) -> Tally {
        self.waiting_tally
    }

    /// What live stamps held back when [`collect`](Self::collect) was last called.
    pub fn held(&self) -> Tally {
        self.held_by().fold(Tally::default(), |sum, (_, tally)| Tally {
            count: sum.count + tally.count,
            bytes: sum.bytes + tally.bytes,
        })
    }

    /// The ids that wait for their turn, and those that live stamps hold back.
    pub fn ids(&self) -> (Vec<Id>, Vec<Id>) {
        let of = |lives: &Vec<Life<Id>>| lives.iter().map(|life| life.id).collect::<Vec<_>>();
        let held = self.parked.values().map(|parked| &parked.lives);
        (self.waiting.values().flat_map(of).collect(), held.flat_map(of).collect())
    }

    /// Memory that the bookkeeping itself takes, in bytes.
    pub fn size(&self) -> usize {
        let lists = self.waiting.values().chain(self.parked.values().map(|parked| &parked.lives));
        lists.map(|lives| lives.capacity() * size_of::<Life<Id>>() + size_of::<Parked<Id>>()).sum()
    }

    /// The same by stamp, ascending; each id counts for the newest stamp that sees it.
    pub fn held_by(&self) -> impl Iterator<Item = (u64, Tally)> {
        self.parked.iter().map(|(stamp, parked)| (*stamp, parked.tally))
    }
}

/// The newest live stamp below `died`.
fn newest_before(live: &[u64], died: u64) -> Option<u64> {
    live.partition_point(|stamp| *stamp < died).checked_sub(1).and_then(|at| live.get(at)).copied()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, TryRng, rngs::SysRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn a_life_ends_before_the_stamp_that_superseded_it() {
        let mut lives = Lives::new();
        lives.supersede('a', 3, 5, 10);
        assert_eq!(lives.collect(&[], 4), []);
        assert_eq!(lives.collect(&[3], 5), []);
        assert_eq!(lives.held_by().collect::<Vec<_>>(), [(3, Tally { count: 1, bytes: 10 })]);
        assert_eq!(lives.collect(&[4], 5), []);
        assert_eq!(lives.collect(&[2, 5], 5), ['a']);
        assert_eq!((lives.waiting(), lives.held()), Default::default());
    }

    #[test]
    fn nobody_sees_an_empty_life() {
        let mut lives = Lives::new();
        lives.supersede(1, 7, 7, 0);
        assert_eq!(lives.collect(&[6, 7, 8], u64::MAX), [1]);
    }

    #[test]
    fn a_slow_lease_holds_back_only_what_it_sees() {
        let mut lives = Lives::new();
        let mut freed = 0;
        // Each stamp supersedes an id of the one before, and stamp 10 is leased throughout.
        for stamp in 1..1_000_u64 {
            lives.supersede(stamp, stamp - 1, stamp, 1);
            freed += lives.collect(&[10], stamp).len();
        }
        assert_eq!(lives.held(), Tally { count: 1, bytes: 1 });
        assert_eq!(freed, 998);
        assert_eq!(lives.collect(&[], 1_000), [11]);
    }

    #[test]
    fn unsorted_stamps_hold_all_the_same() {
        let mut lives = Lives::new();
        lives.supersede((), 3, 5, 0);
        assert!(lives.collect(&[9, 4, 1], 10).is_empty());
    }

    #[test]
    fn a_rollback_revives_what_it_had_superseded_and_keeps_what_it_abandoned() {
        let mut lives = Lives::new();
        lives.supersede("alive again", 1, 4, 1);
        lives.supersede("alive again, leased", 1, 3, 1);
        lives.supersede("abandoned", 3, 4, 1);
        lives.supersede("dead anyway", 0, 1, 1);
        lives.supersede("dead anyway, leased", 1, 2, 1);
        assert_eq!(lives.collect(&[1], 1), ["dead anyway"]);
        assert!(lives.collect(&[1], 3).is_empty());
        assert_eq!(lives.forget_died_after(2), 2);
        assert_eq!(lives.collect(&[], 100), ["dead anyway, leased", "abandoned"]);
        assert_eq!((lives.waiting(), lives.held()), Default::default());
    }

    /// A chain of commits over a map of cells: each version is the set of ids it reaches. Reachability from the
    /// leased versions is the oracle; rollbacks make branches.
    #[test]
    fn exactly_what_no_kept_version_reaches_is_freed() {
        use std::collections::{BTreeMap, BTreeSet};
        // SEED=n replays one run.
        let given: Option<u64> = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        for _ in 0..if given.is_some() { 1 } else { 60 } {
            let seed = given.unwrap_or_else(|| SysRng.try_next_u64().unwrap());
            println!("seed {seed}");
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut lives = Lives::new();
            // Stamp to (cell to (id, born)), of every stamp that was ever committed.
            let mut reach: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
            let mut chain = vec![0_u64];
            let mut next_id = 8;
            let mut stamp = 0;
            reach.insert(0, (0..8).map(|id| (id, 0)).collect());
            let mut leases: BTreeSet<u64> = BTreeSet::new();
            let mut freed: BTreeSet<u64> = BTreeSet::new();
            for _ in 0..300 {
                let tip = *chain.last().unwrap();
                match rng.random_range(0..10) {
                    0..5 => {
                        stamp += rng.random_range(1..3);
                        let mut cells = reach[&tip].clone();
                        for cell in &mut cells {
                            if rng.random_bool(0.4) {
                                lives.supersede(cell.0, cell.1, stamp, 1);
                                *cell = (next_id, stamp);
                                next_id += 1;
                            }
                        }
                        reach.insert(stamp, cells);
                        chain.push(stamp);
                    }
                    5 => drop(leases.insert(chain[rng.random_range(chain.len() / 2..chain.len())])),
                    6 | 7 => {
                        let at = rng.random_range(0..leases.len().max(1));
                        let gone = leases.iter().nth(at).copied();
                        gone.map(|gone| leases.remove(&gone));
                    }
                    8 if chain.len() > 1 => {
                        // Roll back to a stamp that nothing was freed of: the tip is always kept.
                        let keep =
                            chain.len() - rng.random_range(1..chain.len().min(4) + 1).min(chain.len() - 1);
                        let to = chain[keep - 1];
                        if !reach[&to].iter().any(|(id, _)| freed.contains(id)) {
                            let abandoned: Vec<_> =
                                reach[&tip].iter().filter(|(_, born)| *born > to).copied().collect();
                            lives.forget_died_after(to);
                            stamp += 1;
                            for (id, born) in abandoned {
                                lives.supersede(id, born, stamp, 1);
                            }
                            chain.truncate(keep);
                        }
                    }
                    _ => {
                        let up_to = stamp.saturating_sub(rng.random_range(0..5));
                        let mut live: Vec<u64> = leases.iter().copied().collect();
                        live.push(*chain.last().unwrap());
                        live.sort_unstable();
                        for id in lives.collect(&live, up_to) {
                            assert!(freed.insert(id), "seed {seed}: {id} freed twice");
                        }
                        for leased in &live {
                            for (id, _) in &reach[leased] {
                                assert!(!freed.contains(id), "seed {seed}: {id} freed under {leased}");
                            }
                        }
                    }
                }
                // Leases only on what can still be read.
                leases.retain(|leased| !reach[leased].iter().any(|(id, _)| freed.contains(id)));
            }
            // At the end, with the tip alone alive, all else goes, and nothing waits.
            let tip = *chain.last().unwrap();
            freed.extend(lives.collect(&[tip], u64::MAX));
            let alive: BTreeSet<u64> = reach[&tip].iter().map(|(id, _)| *id).collect();
            assert!(alive.is_disjoint(&freed), "seed {seed}");
            let all: BTreeSet<u64> = (0..next_id).collect();
            let kept: BTreeSet<u64> = all.difference(&freed).copied().collect();
            assert_eq!(kept, alive, "seed {seed}: exactly the reachable stays");
            assert_eq!((lives.waiting(), lives.held()), Default::default());
        }
    }

    #[test]
    fn hundreds_of_thousands_of_lives_under_leases_cost_milliseconds() {
        let mut lives = Lives::new();
        for stamp in 1..=300_u64 {
            for id in 0..1_000 {
                lives.supersede(stamp * 1_000 + id, stamp.saturating_sub(id % 50), stamp, 64);
            }
        }
        let leases = [10, 100, 200];
        let first = lives.collect(&leases, u64::MAX).len() as u64;
        let held = lives.held();
        assert_eq!(first + held.count, 300_000);
        // Nothing that is parked is looked at again while its stamp is live.
        let start = std::time::Instant::now();
        for _ in 0..10_000 {
            assert!(lives.collect(&leases, u64::MAX).is_empty());
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(1));
        assert_eq!(lives.collect(&[], u64::MAX).len() as u64, held.count);
    }
}
