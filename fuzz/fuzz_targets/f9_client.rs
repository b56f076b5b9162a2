//! F9: a client and a hostile server. `cargo +nightly fuzz run f9_client fuzz/corpus/f9_client tests/fuzz/corpus/f9_client` begins with our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f9_client(data));
