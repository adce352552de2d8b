//! Sequences of operations against the model, and a power cut. The body is in the library, so that its corpus is replayed as an ordinary test.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| bristlecone_fuzz::operations(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this is a fuzz target: run it with cargo-fuzz, or replay its corpus with cargo test");
}
