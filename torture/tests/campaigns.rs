//! A small part of each campaign; the command `bristlecone-torture` runs them whole.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may stop at what it did not expect"
)]

use std::time::Duration;

use bristlecone_torture::{corruption, crash, faults, is_long, kill, soak};

const THREADS: usize = 2;

fn stride(quick: usize) -> usize {
    if is_long() { 1 } else { quick }
}

#[test]
fn recovery_finds_a_prefix_with_everything_acknowledged_after_every_power_cut() {
    let plan = crash::Plan {
        seeds: 1,
        first_seed: 11,
        images: 1,
        stride: stride(7),
        again: 60,
        threads: THREADS,
        deadline: None,
    };
    let totals = crash::campaign(&plan, None);
    totals.unwrap();
    eprintln!("power cuts: {} images, {} differ", totals.count("images"), totals.images.len());
    assert!(totals.count("images") > 3_000 && totals.count("recoveries cut in their turn") > 5, "{totals:?}");
}

#[test]
fn no_failing_call_leads_to_a_false_acknowledgement() {
    let plan = faults::Plan {
        seeds: 1,
        first_seed: 11,
        stride: stride(20),
        every_way: is_long(),
        only: None,
        threads: THREADS,
        deadline: None,
    };
    let totals = faults::campaign(&plan, None);
    totals.unwrap();
    eprintln!("failing calls: {:?}", totals.counts);
    assert!(totals.count("met by an error") > 100 && totals.count("full disks") > 10, "{totals:?}");
}

#[test]
fn a_damaged_store_answers_rightly_or_with_an_error() {
    let plan = corruption::Plan {
        seeds: 1,
        first_seed: 11,
        stride: stride(101) as u64,
        all_bits: is_long(),
        threads: THREADS,
        deadline: None,
    };
    let totals = corruption::campaign(&plan);
    totals.unwrap();
    eprintln!("damage: {:?}", totals.counts);
    for met in [
        "refused to open",
        "a typed error later",
        "the same answers",
        "an unsealed end missing",
        "two damages",
        "repaired, nothing lost",
        "repaired by giving newer versions up",
        "recoveries from cut repairs",
    ] {
        assert!(totals.count(met) > 0, "{met}: {totals:?}");
    }
}

#[test]
fn nothing_acknowledged_is_missing_after_a_kill() {
    let plan = kill::Plan {
        program: env!("CARGO_BIN_EXE_bristlecone-torture").into(),
        kills: if is_long() { 1000 } else { 16 },
        of_one: 8,
        first_seed: 10,
        threads: THREADS,
        deadline: None,
    };
    let totals = kill::campaign(&plan);
    totals.unwrap();
    eprintln!("kills: {:?}", totals.counts);
    assert!(totals.count("versions") > 0, "{totals:?}");
}

#[test]
fn nothing_grows_while_a_store_is_used() {
    for stalled in [false, true] {
        let plan = soak::Plan { time: Duration::from_secs(6), keys: 3_000, seed: 3, stalled };
        let totals = soak::campaign(&plan);
        totals.unwrap();
        eprintln!("soak: {:?}", totals.counts);
        assert!(totals.count("reads judged") > 1_000, "{totals:?}");
    }
}
