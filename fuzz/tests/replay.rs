//! Runs every file of every corpus through its target, on stable Rust.

use std::fs;
use std::path::Path;

#[test]
fn every_input_of_every_corpus_keeps_the_promises() {
    for (target, body) in bristlecone_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{target} has no corpus");
        for path in &files {
            println!("{}", path.display());
            body(&fs::read(path).expect("a file"));
        }
    }
}

#[test]
fn the_seeds_on_disk_are_those_that_are_made() {
    for (target, _) in bristlecone_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        for (number, seed) in bristlecone_fuzz::seeds(target).iter().enumerate() {
            let path = folder.join(format!("seed-{number:02}"));
            assert_eq!(
                fs::read(&path).ok().as_ref(),
                Some(seed),
                "{}: run the example corpus",
                path.display()
            );
        }
    }
}

#[test]
fn random_inputs_keep_the_promises() {
    let rounds =
        if std::env::var("BRISTLECONE_LONG").is_ok_and(|long| long == "1") { 1_000_000 } else { 5_000 };
    let mut state = 0x9e37_79b9u32;
    for round in 0..rounds {
        let mut input = Vec::new();
        for _ in 0..round % 400 {
            // xorshift32
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            input.push(state as u8);
        }
        for (target, body) in bristlecone_fuzz::TARGETS {
            if round % 50 == 49 || !bristlecone_fuzz::SLOW.contains(target) {
                body(&input);
            }
        }
    }
}

#[test]
fn inputs_of_the_corpora_with_bytes_changed_keep_the_promises() {
    let rounds = if std::env::var("BRISTLECONE_LONG").is_ok_and(|long| long == "1") { 10_000 } else { 10 };
    let mut state = 1_u64;
    let mut number = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    for (target, body) in bristlecone_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut files: Vec<_> =
            fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        for path in &files {
            let input = fs::read(path).expect("a file");
            let slow = bristlecone_fuzz::SLOW.contains(target);
            for _ in 0..if slow { (rounds / 10).max(2) } else { rounds } {
                let mut input = input.clone();
                for _ in 0..1 + number(4) {
                    let at = number(input.len());
                    if let Some(byte) = input.get_mut(at) {
                        *byte = number(256) as u8;
                    }
                }
                body(&input);
            }
        }
    }
}
