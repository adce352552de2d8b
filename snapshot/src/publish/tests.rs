//! Publication and leases: what readers, committers and forgetting may see of each other.

use super::*;
use std::sync::atomic::{AtomicU64, AtomicUsize};

fn versions<T: Send + Sync>() -> Versions<T> {
    Versions::new(|| Duration::ZERO)
}

#[test]
fn what_is_published_can_be_leased_by_number_and_as_the_latest() {
    let versions = versions();
    assert!(versions.latest().is_none() && versions.lease(0).is_none() && versions.range().is_none());
    for version in 100..5_000 {
        versions.publish(version, version * 2, version.to_string()).unwrap();
        assert_eq!(versions.latest().unwrap().version(), version);
    }
    assert_eq!(versions.range(), Some(100..=4_999));
    let lease = versions.lease(123).unwrap();
    assert_eq!((lease.version(), lease.stamp(), lease.as_str()), (123, 246, "123"));
    assert!(
        versions.lease(99).is_none() && versions.lease(5_000).is_none() && versions.lease(u64::MAX).is_none()
    );
    assert_eq!(versions.published().len(), 4_900);
}

#[test]
fn versions_ascend_and_gaps_cost_nothing() {
    let versions = versions();
    for version in [5, 6, 1 << 40, u64::MAX] {
        versions.publish(version, version / 2, ()).unwrap();
    }
    let latest = u64::MAX;
    assert_eq!(versions.publish(7, 0, ()), Err(Error::NotAscending { version: 7, latest }));
    assert_eq!(versions.publish(latest, 0, ()), Err(Error::NotAscending { version: latest, latest }));
    assert_eq!(versions.unpublish_after(6), 2);
    assert_eq!(versions.publish(7, u64::MAX, ()), Err(Error::ReservedStamp { version: 7 }));
    assert_eq!(versions.published(), [(5, 2), (6, 3)]);
    assert_eq!(versions.unpublish_after(u64::MAX), 0);
}

#[test]
fn a_forgotten_version_is_not_leased_again_and_its_leases_stay_good() {
    let versions = versions();
    for version in 0..10_u64 {
        versions.publish(version, version + 100, vec![version]).unwrap();
    }
    let lease = versions.lease(4).unwrap();
    assert!(versions.forget(4) && !versions.forget(4) && !versions.forget(99));
    assert!(versions.lease(4).is_none());
    assert_eq!((&*lease, lease.is_forgotten()), (&vec![4], true));
    assert_eq!(versions.live_stamps(), [104]);
    let clone = lease.clone();
    drop(lease);
    assert_eq!(versions.live_stamps(), [104]);
    drop(clone);
    assert!(versions.live_stamps().is_empty());
    assert_eq!(versions.range(), Some(0..=9));
    versions.forget(0);
    versions.forget(9);
    assert_eq!(versions.range(), Some(1..=8));
    assert_eq!(versions.latest().unwrap().version(), 8);
}

#[test]
fn a_rollback_takes_later_versions_and_numbers_are_used_again() {
    let versions = versions();
    for version in 0..3_000_u64 {
        versions.publish(version, version, "first").unwrap();
    }
    let old = versions.lease(2_500).unwrap();
    assert_eq!(versions.unpublish_after(1_000), 1_999);
    assert_eq!(versions.latest().unwrap().version(), 1_000);
    assert!(versions.lease(2_500).is_none());
    for version in 1_001..2_600_u64 {
        versions.publish(version, version + 10_000, "second").unwrap();
    }
    let new = versions.lease(2_500).unwrap();
    assert_eq!((*old, old.stamp(), *new, new.stamp()), ("first", 2_500, "second", 12_500));
    assert_eq!(versions.live_stamps(), [2_500, 12_500]);
    while let Some(range) = versions.range() {
        versions.forget(*range.start());
    }
    assert!(versions.latest().is_none());
    assert!(versions.directory(&pin()).chunks.is_empty(), "empty chunks are given back");
    versions.publish(0, 99_999, "third").unwrap();
    assert_eq!(*versions.latest().unwrap(), "third");
}

#[test]
fn a_rollback_publishes_what_it_goes_back_to() {
    let versions = versions();
    versions.publish(9, 90, "latest").unwrap();
    let old = versions.latest().unwrap();
    // What it goes back to is no longer in the table.
    assert_eq!(versions.roll_back(4, 40, "back"), Ok(1));
    assert_eq!((versions.range(), versions.published()), (Some(4..=4), vec![(4, 40)]));
    assert!(old.is_forgotten() && versions.lease(9).is_none());
    versions.publish(5, 95, "next").unwrap();
    versions.publish(6, 96, "after").unwrap();
    // It is, and the oldest is before it.
    let five = versions.lease(5).unwrap();
    assert_eq!(versions.roll_back(5, 95, "again"), Ok(2));
    assert_eq!((*five, five.is_forgotten(), *versions.latest().unwrap()), ("next", true, "again"));
    assert_eq!((versions.range(), versions.live_stamps()), (Some(4..=5), vec![90, 95]));
    assert_eq!(versions.roll_back(1, u64::MAX, ""), Err(Error::ReservedStamp { version: 1 }));
    let empty = self::versions();
    assert_eq!(empty.roll_back(3, 3, ""), Ok(0));
    assert_eq!(empty.range(), Some(3..=3));
}

#[test]
fn leases_are_listed_with_count_and_age_of_the_oldest() {
    let now = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&now);
    let versions = Versions::new(move || Duration::from_secs(clock.load(Relaxed)));
    versions.publish(7, 70, ()).unwrap();
    versions.publish(8, 80, ()).unwrap();
    let first = versions.lease(7).unwrap();
    now.store(10, Relaxed);
    let second = versions.lease(7).unwrap();
    let third = second.clone();
    let other = versions.latest().unwrap();
    now.store(15, Relaxed);
    let row = |stamp, version, count, age| LeaseInfo { stamp, version, count, age: Duration::from_secs(age) };
    assert_eq!(versions.leases(), [row(70, 7, 3, 15), row(80, 8, 1, 5)]);
    drop((first, second, other));
    assert_eq!(versions.leases(), [row(70, 7, 1, 5)]);
    drop(third);
    assert!(versions.leases().is_empty());
}

#[test]
fn what_is_held_is_kept_and_listed_and_holds_nothing_of_the_table_back() {
    let versions = versions();
    versions.publish(7, 70, "published").unwrap();
    let published = versions.lease(7).unwrap();
    let held: Lease<u64> = versions.hold(3, 30, 99).unwrap();
    let both = versions.hold(7, 70, ()).unwrap();
    assert_eq!((*held, held.version(), held.stamp(), held.is_forgotten()), (99, 3, 30, false));
    assert_eq!((versions.live_stamps(), versions.kept_stamps()), (vec![70], vec![30, 70]));
    let counts = |versions: &Versions<_>| -> Vec<(u64, u64)> {
        versions.leases().iter().map(|row| (row.stamp, row.count)).collect()
    };
    assert_eq!(counts(&versions), [(30, 1), (70, 2)]);
    let clone = held.clone();
    drop((held, published));
    assert_eq!((versions.live_stamps(), versions.kept_stamps()), (vec![], vec![30, 70]));
    drop((clone, both));
    assert!(versions.kept_stamps().is_empty() && versions.leases().is_empty());
}

/// Counts how many of it are alive.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[test]
fn leases_outlive_the_table_and_nothing_outlives_both() {
    let alive = Arc::new(AtomicUsize::new(0));
    let versions = versions();
    for version in 0..2_000 {
        alive.fetch_add(1, Relaxed);
        versions.publish(version, version, Counted(Arc::clone(&alive))).unwrap();
    }
    let lease = versions.latest().unwrap();
    drop(versions);
    assert_eq!(alive.load(Relaxed), 1);
    let clone = lease.clone();
    drop(lease);
    assert_eq!(alive.load(Relaxed), 1);
    drop(clone);
    assert_eq!(alive.load(Relaxed), 0);
}

#[test]
fn a_lease_goes_anywhere() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<Lease<Vec<u8>>>();
}

/// Each version publishes a cell that the committer spoils once the version is forgotten and no lease is listed.
#[test]
fn nothing_is_spoilt_under_a_lease_while_versions_come_and_go() {
    const SPOILT: u64 = u64::MAX;
    let versions: Versions<Arc<AtomicU64>> = versions();
    let start = std::time::Instant::now();
    let done = AtomicBool::new(false);
    let leases = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for reader in 0..3_u64 {
            let (versions, done, leases) = (&versions, &done, &leases);
            scope.spawn(move || {
                let mut kept = Vec::new();
                let mut last = 0;
                while !done.load(Relaxed) {
                    let Some(range) = versions.range() else { continue };
                    let lease = match reader {
                        0 => versions.latest(),
                        // The oldest is the one about to be forgotten.
                        _ => versions.lease(*range.start()),
                    };
                    let Some(lease) = lease else { continue };
                    assert_eq!(lease.load(Relaxed), lease.version(), "of {range:?}");
                    if reader == 0 {
                        assert!(lease.version() >= last, "versions only grow");
                        last = lease.version();
                    }
                    leases.fetch_add(1, Relaxed);
                    kept.push(lease);
                    if kept.len() > 5 {
                        let lease = kept.swap_remove(leases.load(Relaxed) % 5);
                        assert_eq!(lease.load(Relaxed), lease.version());
                    }
                }
            });
        }
        let mut forgotten: Vec<(u64, Arc<AtomicU64>)> = Vec::new();
        let mut version = 0;
        while start.elapsed() < Duration::from_millis(700) {
            let cell = Arc::new(AtomicU64::new(version));
            versions.publish(version, version + 5, Arc::clone(&cell)).unwrap();
            forgotten.push((version, cell));
            if version >= 3 {
                assert!(versions.forget(version - 3));
            }
            let live = versions.live_stamps();
            forgotten.retain(|(of, cell)| {
                let dead = of + 3 <= version && live.binary_search(&(of + 5)).is_err();
                if dead {
                    cell.store(SPOILT, Relaxed);
                }
                !dead
            });
            version += 1;
        }
        done.store(true, Relaxed);
        println!("{version} versions, {leases:?} leases, {} unspoilt at the end", forgotten.len());
    });
    assert!(versions.live_stamps().is_empty());
}
