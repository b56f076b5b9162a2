//! A network in virtual time, from a seed: links with faults ([`link`]), the ends of transfers ([`end`]) with the files
//! they carry ([`file`]), TCP's model as a competitor ([`reno`]), liars who hold the key ([`forge`]), the [`world`]
//! that moves datagrams between them, the [`scene`]s that stories begin with, and what comes of them as [`goodput`].
//!
//! After every step the invariants of the goals are checked, as far as they can be seen here:
//!
//! - I1, octets in flight: `End::check_window`, after each batch that is sent
//! - I2, nothing is said to nobody: `End::poll`; a server knows its peer from the first authentic packet on
//! - I3, memory: `End::check_memory`, whenever an end has said all
//! - I4, no number twice: `End::poll`
//! - I5, each octet of the file once, in its place, and right: `End::handle`
//! - I6, delivered means that the receiver has all: `End::settle` for the receiver, `World::drain` for the sender
//! - I7, no reply to what was not sealed: `World::inject_forged`, for whatever a link has flipped and a story has forged
//! - I8, timers lie in the future: `World::wake`; few when nothing is in flight: `End::wake`
//! - I9, the end is the end, and gives its memory back: `End::poll` and `End::settle` at each step, `End::check_over` when
//!   a world has run
//! - I10, no panic: a panic fails the story; `World`'s `Drop` says how to replay it
//!
//! Whatever fails names the seed, and the seed replays it.

pub mod end;
pub mod file;
pub mod forge;
pub mod goodput;
pub mod link;
pub mod reno;
pub mod scene;
pub mod world;

use std::ops::Range;
use std::time::Duration;

use packetboat::rudp::congestion::ControllerKind;
use packetboat::rudp::{ArqScheme, Config, Direction, OFFER_LIFE, PACKET_LEN_IPV4, Role, split_mix_64};
use packetboat::wire::message::{Secret, TransferId};

pub use link::{Link, Loss};
pub use world::World;

/// The largest file of the goals.
pub const LARGE: u64 = 67_739_648;

pub const MIB: u64 = 1 << 20;

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Chance from a seed.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        split_mix_64(&mut self.0)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.unit() < p
    }
}

/// Whether the nightly tier runs (`PACKETBOAT_TIER=N`, see `scripts/nightly`) instead of the one of every push.
pub fn is_night() -> bool {
    std::env::var_os("PACKETBOAT_TIER").is_some_and(|tier| tier == "N")
}

/// What differs between the tiers: `push` on every push, `night` at night.
pub fn by_tier<T>(push: T, night: T) -> T {
    if is_night() { night } else { push }
}

/// The seeds of a story.
pub fn seeds(push: u64, night: u64) -> Range<u64> {
    0..by_tier(push, night)
}

/// What both ends of a download are told: client, server.
pub fn configs(size: u64, rtt_guess: Duration, seed: u64) -> (Config, Config) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_be_bytes());
    let server = Config {
        role: Role::Server,
        direction: Direction::Send,
        id: TransferId(7),
        key: Secret(key),
        size,
        start: 0,
        packet_len_max: PACKET_LEN_IPV4,
        window_bytes: 8 << 20,
        burst_len: 212_992,
        rtt_guess,
        open_max: OFFER_LIFE,
        arq: Some(ArqScheme::default()),
        controller: Some(ControllerKind::default()),
        granted: u64::MAX,
        seed,
    };
    let client = Config {
        role: Role::Client,
        direction: Direction::Receive,
        open_max: Duration::from_secs(60),
        seed: !seed,
        ..server.clone()
    };
    (client, server)
}

/// A story's name and how to run it from a seed.
pub type Story = (&'static str, fn(u64) -> World);

/// S39: one seed is one history, another seed another.
pub fn assert_one_history(stories: &[Story]) {
    for (name, story) in stories {
        for seed in seeds(2, 5) {
            assert_eq!(story(seed).trace(), story(seed).trace(), "{name}, seed {seed}");
        }
        assert_ne!(story(0).trace(), story(1).trace(), "{name}: the seed matters");
    }
}

/// Runs a download to its end and checks it.
pub fn download(size: u64, link: &Link, seed: u64, limit: Duration) -> World {
    let mut world = World::download(size, link, seed);
    world.run(limit);
    world.assert_identical();
    world
}
