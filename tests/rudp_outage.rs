//! Links that die for a while, in one direction or both, and peers that never speak. Goals S7 to S9, S12, S19 and S39.
//!
//! Runs per story on every push (and at night): S7 20 (200), S8 5 (50) and with a resume 3 (20), S9 5 (100), S12 10 (200), S19 5 (50), S39 2 of each (5).
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::time::Duration;

use packetboat::rudp::congestion::MINIMUM_WINDOW_PACKETS;
use packetboat::rudp::{Config, ConnectionError, Event, PACKET_LEN_DATA, PACKET_LEN_IPV4};
use packetboat::wire::packet::{Kind, Reason};
use sim::{Link, Loss, MIB, Random, World, ms, secs, seeds};

/// Goal S7: the probe timeout is never longer than 3 s, so what was dark for longer is found within that.
const FOUND_WITHIN: Duration = ms(3_100);

fn lights_on_and_off(seed: u64) -> World {
    let link = Link { on_off: Some((secs(5), secs(2))), ..Link::default() };
    let mut world = World::download(10 * MIB, &link, seed);
    let mut returns_at = secs(7);
    while world.run_until(returns_at) && !world.client().kept.is_complete() {
        assert_found_again(&mut world, returns_at);
        returns_at += secs(7);
    }
    world.run(secs(300));
    world
}

/// Octets flow again soon after the link has returned.
fn assert_found_again(world: &mut World, returned_at: Duration) {
    let kept = world.client().kept.bytes;
    world.run_while(|world| world.client().kept.bytes == kept);
    let after = world.now - returned_at;
    assert!(after <= FOUND_WITHIN, "data flow again {after:?} after the link: {}", world.describe());
}

#[test]
fn s7_a_link_that_blinks() {
    for seed in seeds(20, 200) {
        lights_on_and_off(seed).assert_identical();
    }
}

/// The link dies for so long in the middle of a transfer.
fn dark_for(dark: Duration, seed: u64) -> World {
    let dies_at = ms(500) + ms(Random(seed).below(1_000));
    let link = Link { blackouts: vec![dies_at..dies_at + dark], ..Link::default() };
    let mut world = World::download(4 * MIB, &link, seed);
    world.run(secs(120));
    world
}

#[test]
fn s8_half_a_minute_of_darkness_is_survived_and_a_minute_is_not() {
    for seed in seeds(5, 50) {
        dark_for(secs(30), seed).assert_identical();
        let world = dark_for(secs(61) + ms(500), seed);
        for end in &world.ends {
            let closed: Vec<_> = end.events.iter().filter(|(_, e)| matches!(e, Event::Closed(_))).collect();
            assert_eq!(closed.len(), 1, "{}", world.describe());
            assert_eq!(end.failed(), Some(&ConnectionError::PeerLost), "{}", world.describe());
        }
        assert!(world.client().kept.bytes > 0, "what came before is kept: {}", world.describe());
    }
}

#[test]
fn s8_after_a_minute_of_darkness_a_second_connection_brings_only_the_rest() {
    const SIZE: u64 = 6 * MIB + 12_345;
    for seed in seeds(3, 20) {
        let dies_at = secs(2) + ms(Random(seed).below(2_500));
        let link = Link { blackouts: vec![dies_at..dies_at + secs(61) + ms(500)], ..Link::default() };
        let mut world = World::download(SIZE, &link, seed);
        world.run(secs(120));
        for end in &world.ends {
            let closed: Vec<_> = end.events.iter().filter(|(_, e)| matches!(e, Event::Closed(_))).collect();
            assert_eq!(closed.len(), 1, "{}", world.describe());
            assert_eq!(end.failed(), Some(&ConnectionError::PeerLost), "{}", world.describe());
        }
        // What is kept is what the connection says, and the sender knows of no more.
        let prefix = world.client().kept.prefix();
        assert!(prefix >= MIB, "the link died too early to tell anything: {}", world.describe());
        assert!(world.server().connection.moved_bytes() <= world.client().kept.bytes, "{}", world.describe());

        let start = prefix / MIB * MIB;
        let mut rest = World::new(&Link::default(), &Link::default(), !seed);
        let (client, server) = sim::configs(SIZE, ms(30), !seed);
        rest.add(Config { start, ..client }, Config { start, ..server }, Duration::ZERO);
        rest.run(secs(60));
        // No octet before the start comes again (I5 would tell), and none but the rest is sent.
        rest.assert_identical();
        let sent = rest.server().file_bytes_sent();
        let resent = rest.server().connection.stats().packets_resent * PACKET_LEN_IPV4 as u64;
        assert!((SIZE - start..=SIZE - start + resent).contains(&sent), "{sent} sent: {}", rest.describe());
        assert_eq!(rest.client().connection.moved_bytes(), SIZE, "{}", rest.describe());
    }
}

#[test]
fn s9_when_only_acks_die_the_sender_does_not_go_on() {
    for seed in seeds(5, 100) {
        let dies_at = ms(500) + ms(Random(seed).below(1_000));
        let up = Link { blackouts: vec![dies_at..dies_at + secs(10)], ..Link::default() };
        let mut world = World::download_over(4 * MIB, &up, &Link::default(), seed);
        // The last ACKs that got through are heard 15 ms later.
        world.run_until(dies_at + ms(16));
        let (sent, timeouts) = (world.server().sent(Kind::Data), world.server().connection.stats().timeouts);
        let (_, cwnd) = world.server().connection.in_flight_and_window();
        world.run_until(dies_at + secs(10));
        let timeouts = world.server().connection.stats().timeouts - timeouts;
        let bytes = world.server().sent(Kind::Data).bytes - sent.bytes;
        let allowed = cwnd + timeouts * 2 * PACKET_LEN_IPV4 as u64;
        assert!(bytes <= allowed, "{bytes} octets sent, {allowed} allowed: {}", world.describe());
        world.run(secs(60));
        world.assert_identical();
    }
}

/// Half of everything is lost for 20 s; then the link is clean.
fn heavy_loss_then_clean(seed: u64, limit: Duration) -> World {
    let link = Link { loss: Loss::random(0.5), ..Link::default() };
    let mut world = World::download(40 * MIB, &link, seed);
    world.run_until(secs(20));
    (world.up.link.loss, world.down.link.loss) = (Loss::None, Loss::None);
    world.run(limit);
    world
}

#[test]
fn s12_heavy_loss_ends() {
    for seed in seeds(10, 200) {
        heavy_loss_then_clean(seed, secs(200)).assert_identical();
    }
}

#[test]
fn s12_the_full_rate_is_back_within_five_seconds() {
    for seed in seeds(10, 200) {
        let world = heavy_loss_then_clean(seed, secs(200));
        // The octets of the file in the link's rate.
        let limit = 1_250_000.0 * 1_439.0 / 1_500.0;
        let share = world.client().goodput(secs(25), secs(30)) / limit;
        assert!(share >= 0.8, "{share:.2} of the link: {}", world.describe());
    }
}

fn dead_for_five_seconds(seed: u64) -> World {
    let mut world = World::download(4 * MIB, &Link::default(), seed);
    world.run_while(|world| world.server().connection.moved_bytes() < MIB);
    world.cut(true);
    world.run_until(world.now + secs(5));
    world.cut(false);
    world
}

#[test]
fn s19_persistent_congestion_falls_back_to_two_packets() {
    for seed in seeds(5, 50) {
        let mut world = dead_for_five_seconds(seed);
        let moved = world.server().connection.moved_bytes();
        world.run_while(|world| world.server().connection.moved_bytes() == moved);
        let (_, window) = world.server().connection.in_flight_and_window();
        let two = MINIMUM_WINDOW_PACKETS * PACKET_LEN_DATA as u64;
        assert_eq!(window, two, "after the first ACK: {}", world.describe());
        world.run(secs(60));
        world.assert_identical();
    }
}

#[test]
fn s39_one_seed_is_one_history() {
    sim::assert_one_history(&[
        ("lights on and off", lights_on_and_off),
        ("dark", |seed| dark_for(secs(30), seed)),
        ("heavy loss", |seed| heavy_loss_then_clean(seed, secs(200))),
        ("dead for five seconds", |seed| {
            let mut world = dead_for_five_seconds(seed);
            world.run(secs(60));
            world
        }),
    ]);
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    let mut world = World::download(1_000, &Link { loss: Loss::random(1.0), ..Link::default() }, 1);
    world.run(secs(80));
    assert_eq!(world.client().failed(), Some(&ConnectionError::NoAnswer));
    assert_eq!(world.server().failed(), Some(&ConnectionError::NoAnswer));
}

#[test]
fn a_cancelled_transfer_ends_at_both_ends_at_once() {
    let mut world = World::download(4 * MIB, &Link::default(), 3);
    world.run_while(|world| world.client().connection.moved_bytes() < MIB);
    let cancelled_at = world.now;
    world.ends[0].connection.abort(ConnectionError::Cancelled);
    world.drain(0, Vec::new());
    while world.step() {}
    assert_eq!(world.client().failed(), Some(&ConnectionError::Cancelled));
    assert!(matches!(world.server().failed(), Some(ConnectionError::Reset(_))));
    assert!(world.now - cancelled_at < ms(100));
}

#[test]
fn a_file_that_cannot_be_read_any_more_ends_the_transfer_at_both_ends_at_once() {
    let mut world = World::download(4 * MIB, &Link::default(), 3);
    world.run_while(|world| world.client().connection.moved_bytes() < MIB);
    let failed_at = world.now;
    world.ends[1].is_unreadable = true;
    world.run(secs(60));
    assert_eq!(world.server().failed(), Some(&ConnectionError::File));
    assert_eq!(world.client().failed(), Some(&ConnectionError::Reset(Reason::File)));
    assert!(world.now - failed_at < ms(200), "{}", world.describe());
}

#[test]
fn i2_an_offer_that_is_cancelled_before_anybody_came_says_nothing() {
    let mut world = World::download(1_000, &Link { loss: Loss::random(1.0), ..Link::default() }, 1);
    world.run_until(secs(1));
    world.ends[1].connection.abort(ConnectionError::Cancelled);
    world.drain(1, Vec::new());
    assert_eq!(world.server().failed(), Some(&ConnectionError::Cancelled));
    assert_eq!(world.server().packets_sent(), 0);
}
