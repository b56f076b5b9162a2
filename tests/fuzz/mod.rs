//! The fuzz targets: each takes any octets and panics when what it watches over does not hold.
//!
//! `tests/fuzz_replay.rs` runs them over the corpus and a seeded mutation loop, `fuzz/` under libFuzzer:
//! `cargo +nightly fuzz run f4_connection fuzz/corpus/f4_connection tests/fuzz/corpus/f4_connection -- -timeout=1
//! -rss_limit_mb=256`.

pub(crate) mod bytes;
pub(crate) mod connection;
pub(crate) mod hostile;
mod leftover;
mod line;
mod message;
mod name;
pub(crate) mod packet;
mod ranges;
mod room;
mod screen;
pub(crate) mod world;

pub(crate) use connection::f4_connection;
pub(crate) use hostile::f9_client;
pub(crate) use leftover::f10_leftover;
pub(crate) use line::f1_line;
pub(crate) use message::f2_message;
pub(crate) use name::f6_name;
pub(crate) use packet::f3_packet;
pub(crate) use ranges::f7_ranges;
pub(crate) use room::f8_session;
pub(crate) use screen::f5_sanitiser;

/// A target.
pub(crate) type Target = fn(&[u8]);

/// All targets, by the name of their corpus.
pub(crate) const TARGETS: [(&str, Target); 10] = [
    ("f1_line", f1_line),
    ("f2_message", f2_message),
    ("f3_packet", f3_packet),
    ("f4_connection", f4_connection),
    ("f5_sanitiser", f5_sanitiser),
    ("f6_name", f6_name),
    ("f7_ranges", f7_ranges),
    ("f8_session", f8_session),
    ("f9_client", f9_client),
    ("f10_leftover", f10_leftover),
];
