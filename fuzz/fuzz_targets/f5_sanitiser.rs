//! F5: texts. `cargo +nightly fuzz run f5_sanitiser fuzz/corpus/f5_sanitiser tests/fuzz/corpus/f5_sanitiser` begins with our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f5_sanitiser(data));
