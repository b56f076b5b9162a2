//! F8: a server and three clients. `cargo +nightly fuzz run f8_session fuzz/corpus/f8_session tests/fuzz/corpus/f8_session` begins with our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f8_session(data));
