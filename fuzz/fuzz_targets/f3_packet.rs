//! F3: datagrams. `cargo +nightly fuzz run f3_packet fuzz/corpus/f3_packet tests/fuzz/corpus/f3_packet` begins with our corpus.
#![no_main]

#[path = "../../tests/fuzz/mod.rs"]
#[allow(dead_code)]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::f3_packet(data));
