//! The confirm gate: the receiver grants 40 % of the file, and the rest when a person has agreed. Goal S23. And who waits
//! for how long (S30).
//!
//! Runs on every push and at night alike: nine sizes, with answers yes, none and lost.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::time::Duration;

use packetboat::rudp::{Config, ConnectionError};
use sim::forge::{Liar, Opened, Receiver};
use sim::{Link, World, ms, secs};

const SIZES: [u64; 9] = [0, 1, 2, 3, 5, 1_438, 1_439, 1_440, 10_000_000];

/// 40 % of the file, rounded up.
fn gate(size: u64) -> u64 {
    (size * 2).div_ceil(5)
}

fn gated(size: u64, link: &Link) -> World {
    let mut world = World::new(link, link, size + 1);
    let (client, server) = sim::configs(size, ms(30), size + 1);
    world.add(Config { granted: gate(size), ..client }, server, Duration::ZERO);
    world
}

#[test]
fn s23_nothing_beyond_the_gate_is_sent_before_yes_and_everything_after() {
    for size in SIZES {
        let mut world = gated(size, &Link::default());
        world.run_until(secs(20));
        let kept = world.client().connection.moved_bytes();
        assert!(kept <= gate(size), "{size}: {}", world.describe());
        // A part of a packet is worth sending from 64 octets on.
        assert!(gate(size) < 64 || size == 0 || kept == gate(size), "{size}: {kept} of {}", gate(size));
        let sent = world.server().file_bytes_sent();
        world.client_mut().connection.grant(u64::MAX);
        world.run(secs(80));
        world.assert_identical();
        assert!(sent <= gate(size) + 1_439, "{size}: {sent} octets sent, probes included");
    }
}

#[test]
fn s23_a_lost_grant_does_not_stop_the_transfer() {
    for size in [3, 1_440, 200_000] {
        let mut world = gated(size, &Link::default());
        world.run_until(secs(5));
        world.cut(true);
        world.client_mut().connection.grant(u64::MAX);
        world.run_until(secs(12));
        world.cut(false);
        world.run(secs(80));
        world.assert_identical();
    }
}

#[test]
fn s23_without_an_answer_the_transfer_ends_after_a_minute() {
    let mut world = gated(200_000, &Link::default());
    world.run(secs(100));
    assert_eq!(world.server().failed(), Some(&ConnectionError::TooSlow), "{}", world.describe());
    assert!(world.server().closed_at().is_some_and(|at| at <= secs(71)), "{}", world.describe());
}

#[test]
fn s30_a_server_leaves_who_puts_a_file_and_only_asks() {
    let mut world = World::new(&Link::default(), &Link::default(), 1);
    let (mut client, mut server) = sim::configs(200_000, ms(30), 1);
    std::mem::swap(&mut client.direction, &mut server.direction);
    world.add(client.clone(), server, Duration::ZERO);
    let only_asks = |liar: &mut Receiver, _: Duration, _: Option<&Opened>, out: &mut Vec<Vec<u8>>| {
        out.push(liar.forger.ping());
    };
    world.play(0, Liar::new(&client, 0, Some(secs(1)), only_asks));
    world.run_until(secs(100));
    assert_eq!(world.server().failed(), Some(&ConnectionError::TooSlow), "{}", world.describe());
    assert!(world.server().closed_at().is_some_and(|at| at <= secs(71)), "{}", world.describe());
}
