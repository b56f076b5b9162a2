//! The fuzz targets: each takes any octets and panics when what it watches over does not hold.
//!
//! `tests/fuzz_replay.rs` runs them over the corpus and a seeded mutation loop, `fuzz/` under libFuzzer:
//! `cargo +nightly fuzz run f4_connection fuzz/corpus/f4_connection tests/fuzz/corpus/f4_connection -- -timeout=1
//! -rss_limit_mb=256`.

pub(crate) mod bytes;
pub(crate) mod connection;
mod leftover;
pub(crate) mod packet;
mod ranges;
pub(crate) mod world;

pub(crate) use connection::f4_connection;
pub(crate) use leftover::f10_leftover;
pub(crate) use packet::f3_packet;
pub(crate) use ranges::f7_ranges;

/// A target.
pub(crate) type Target = fn(&[u8]);

/// All targets, by the name of their corpus.
pub(crate) const TARGETS: [(&str, Target); 4] = [
    ("f3_packet", f3_packet),
    ("f4_connection", f4_connection),
    ("f7_ranges", f7_ranges),
    ("f10_leftover", f10_leftover),
];
