//! F10: leftovers. `cargo +nightly fuzz run f10_leftover fuzz/corpus/f10_leftover tests/fuzz/corpus/f10_leftover` begins with
//! our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f10_leftover(data));
