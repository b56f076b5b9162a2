//! F1: lines. `cargo +nightly fuzz run f1_line fuzz/corpus/f1_line tests/fuzz/corpus/f1_line` begins with our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f1_line(data));
