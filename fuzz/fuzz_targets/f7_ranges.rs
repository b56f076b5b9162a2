//! F7: ranges, windows and books. `cargo +nightly fuzz run f7_ranges fuzz/corpus/f7_ranges tests/fuzz/corpus/f7_ranges` begins with our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f7_ranges(data));
