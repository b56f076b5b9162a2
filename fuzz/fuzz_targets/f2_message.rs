//! F2: messages. `cargo +nightly fuzz run f2_message fuzz/corpus/f2_message tests/fuzz/corpus/f2_message` begins with our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f2_message(data));
