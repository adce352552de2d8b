//! Stores whose files were changed anywhere, the catalog among them. The body is in the library, so that its corpus is replayed as an ordinary test.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| bristlecone_fuzz::damaged_store(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this is a fuzz target: run it with cargo-fuzz, or replay its corpus with cargo test");
}
