//! Damage to any file of a store gives a typed error or the same answers, and never a panic or a wrong byte.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

mod common;

use std::collections::BTreeMap;

use bristlecone::vfs::sim::SimVfs;
use bristlecone::{Namespace, SchemeKind, Store};
use common::{Check, Config, Depth, Model, Rng, Universe, batches, is_long, sequences, verify};

const DIR: &str = "/store";

/// A store of several segments and log files with two openings in it; some commits at the end are not sealed where it
/// is not `closed`.
fn store(seed: u64, closed: bool) -> (SimVfs, Config, Model) {
    let mut rng = Rng::new(seed);
    let scheme = if seed.is_multiple_of(2) { SchemeKind::Ethereum } else { SchemeKind::Blake3 };
    let namespaces = vec![Namespace::accounts(scheme), Namespace::flat(scheme).raw().named("f")];
    let config =
        Config { seal_keys: 25, segment_bytes: 8 << 10, log_bytes: 4 << 10, ..Config::small(namespaces) };
    let universe = Universe::random(&config.namespaces, 40, &mut rng);
    let mut model = Model::new(config.namespaces.clone(), 0, universe);
    let sim = SimVfs::new(seed);
    for _ in 0..2 {
        let store = config.options(sim.clone()).open(DIR).unwrap();
        for _ in 0..8 {
            let changes = batches::random(&model, 12, false, &mut rng);
            model.commit(&changes);
            store.commit(batches::batch_of(&model.namespaces, &changes)).unwrap();
        }
        store.close().unwrap();
    }
    if closed {
        return (sim, config, model);
    }
    let config = Config { seal_keys: 1000, ..config };
    let store = config.options(sim.clone()).open(DIR).unwrap();
    for _ in 0..4 {
        let changes = batches::random(&model, 6, false, &mut rng);
        model.commit(&changes);
        let commit = store.commit(batches::batch_of(&model.namespaces, &changes)).unwrap();
        commit.durable().wait().unwrap();
    }
    (sim.killed_at(usize::MAX), config, model)
}

/// What came of a damaged store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    Refused,
    ErrorLater,
    SameAnswers,
    /// The end of the log is missing: damage there cannot be told from a write that power cut short.
    Shorter,
}

/// Every answer of the store is right or an error. Reading goes through the library's own errors, so what `verify` reports
/// must be one of those and not a difference.
fn look(store: &Store, model: &Model, rng: &mut Rng) -> Check<bool> {
    let mut errors = false;
    let mut note = |checked: Check| -> Check {
        match checked {
            Ok(()) => Ok(()),
            Err(what) if is_typed(&what) => {
                errors = true;
                Ok(())
            }
            Err(what) => Err(what),
        }
    };
    for version in model.versions() {
        note(verify::version_at(store, model, version, Depth::READS, rng))?;
    }
    for version in model.versions().rev().take(3) {
        note(verify::version_at(store, model, version, Depth { root: true, scans: true, proofs: 1 }, rng))?;
    }
    note(store.check(|_| ()).map(|_| ()).map_err(|error| error.to_string()))?;
    let mut longer = model.clone();
    let changes = batches::random(&longer, 10, false, rng);
    longer.commit(&changes);
    match store.commit(batches::batch_of(&model.namespaces, &changes)) {
        Ok(commit) => {
            let version = commit.version();
            note(verify::version_at(store, &longer, version, Depth::READS, rng))?;
            match commit.root().wait() {
                Ok(root) if root != longer.at(version).root => return Err(format!("a wrong root {root}")),
                Ok(_) => {}
                Err(_) => errors = true,
            }
        }
        Err(_) => errors = true,
    }
    Ok(errors)
}

/// Whether a report of `verify` is an error of the store and not a wrong answer: those say what is there and what should be.
fn is_typed(what: &str) -> bool {
    ["is damaged", "the store is damaged", "takes no more writes", "malformed at byte", "no record"]
        .iter()
        .any(|part| what.contains(part))
}

fn judge(image: &SimVfs, config: &Config, model: &Model, closed: bool, rng: &mut Rng) -> Check<Met> {
    let Ok(store) = config.options(image.clone()).open(DIR) else { return Ok(Met::Refused) };
    let found = store.latest_version();
    if found != model.last_version() {
        if closed || found > model.last_version() {
            return Err(format!("opened with {found:?}, not {:?}", model.last_version()));
        }
        let mut shorter = model.clone();
        shorter.cut(found);
        look(&store, &shorter, rng)?;
        return Ok(Met::Shorter);
    }
    let errors = look(&store, model, rng)?;
    drop(store);
    Ok(if errors { Met::ErrorLater } else { Met::SameAnswers })
}

fn damage(name: &str, closed: bool) {
    let mut counts: BTreeMap<Met, u64> = BTreeMap::new();
    sequences(name, 2, |seed| {
        let (sim, config, model) = store(seed, closed);
        let mut rng = Rng::new(seed);
        for file in sim.files() {
            let len = sim.read_file(&file).unwrap().len() as u64;
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            if len == 0 || name.starts_with("catalog") {
                continue;
            }
            let tries = if is_long() { len } else { 40 };
            for number in 0..tries {
                let image = sim.killed_at(usize::MAX);
                let told = if number % 8 == 7 {
                    let cut = rng.next() % len;
                    image.truncate(&file, cut).unwrap();
                    format!("cut at {cut}")
                } else {
                    // Half of them near the beginning, where the headers are.
                    let byte = if rng.chance(50) { rng.next() % len } else { rng.next() % len.min(2048) };
                    let bit = rng.below(8) as u8;
                    image.flip_bit(&file, byte, bit).unwrap();
                    format!("bit {bit} of byte {byte}")
                };
                match judge(&image, &config, &model, closed, &mut rng) {
                    Ok(met) => *counts.entry(met).or_default() += 1,
                    Err(what) => panic!("seed {seed}, {}, {told}: {what}", file.display()),
                }
            }
        }
        // Files of one kind exchanged.
        for dir in ["segments", "log"] {
            let of_dir = |file: &&std::path::PathBuf| file.parent().unwrap().ends_with(dir);
            let files: Vec<_> = sim.files().iter().filter(of_dir).cloned().collect();
            for pair in files.windows(2) {
                let image = sim.killed_at(usize::MAX);
                let (first, second) = (sim.read_file(&pair[0]).unwrap(), sim.read_file(&pair[1]).unwrap());
                image.write_file(&pair[0], &second).unwrap();
                image.write_file(&pair[1], &first).unwrap();
                match judge(&image, &config, &model, closed, &mut rng) {
                    Ok(met) => *counts.entry(met).or_default() += 1,
                    Err(what) => panic!("seed {seed}, {pair:?} exchanged: {what}"),
                }
            }
        }
    });
    eprintln!("{name}: {counts:?}");
}

#[test]
fn a_damaged_store_that_was_closed_answers_rightly_or_with_an_error() {
    damage("damage to a closed store", true);
}

#[test]
fn a_damaged_store_that_was_killed_answers_rightly_or_with_an_error() {
    damage("damage to a killed store", false);
}
