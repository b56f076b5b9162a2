//! F6: names. `cargo +nightly fuzz run f6_name fuzz/corpus/f6_name tests/fuzz/corpus/f6_name` begins with our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f6_name(data));
