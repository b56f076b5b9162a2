//! F4: two connections under a script. `cargo +nightly fuzz run f4_connection fuzz/corpus/f4_connection tests/fuzz/corpus/f4_connection` begins with our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f4_connection(data));
