//! Exactly these packets are lost or late, in every combination that matters. Goals S15, S16 and S39.
//!
//! Exhaustive at every tier: S15 delays each of 50 ACKs; S16 drops each of the first and last 40 packets of each direction, and
//! each pair among the first and last six, in a download and in an upload.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use sim::{Link, World, ms, secs};

const SIZE: u64 = 120_000;

/// The default link with a queue that never overflows.
fn calm() -> Link {
    Link { queue_bytes: 200 * 1_500, ..Link::default() }
}

/// A transfer over these two directions.
type Transfer = fn(&Link, &Link) -> World;

const BOTH: [(&str, Transfer); 2] = [
    ("download", |up, down| World::download_over(SIZE, up, down, 16)),
    ("upload", |up, down| World::upload(SIZE, up, down, 16)),
];

/// How many packets each direction has when nothing goes wrong.
fn packets_each_way(transfer: Transfer) -> [u64; 2] {
    let mut world = transfer(&calm(), &calm());
    world.run(secs(10));
    [world.up.meter.entered, world.down.meter.entered]
}

/// The numbers from 0 on of the first and the last `n` of so many packets.
fn first_and_last(packets: u64, n: u64) -> impl Iterator<Item = u64> {
    (0..packets).filter(move |k| *k < n || *k + n >= packets)
}

/// A transfer during which exactly these packets are dropped, upwards and downwards.
fn without(transfer: Transfer, up: &[u64], down: &[u64]) -> World {
    let up = Link { drop: up.to_vec(), ..calm() };
    let down = Link { drop: down.to_vec(), ..calm() };
    let mut world = transfer(&up, &down);
    world.run(secs(60));
    world.assert_identical();
    let timeouts: u64 = world.ends.iter().map(|end| end.connection.stats().timeouts).sum();
    let (up, down) = (up.drop, down.drop);
    assert!(timeouts <= 4, "{timeouts} timeouts without {up:?} up and {down:?} down: {}", world.describe());
    world
}

/// One ACK comes a second late, past a probe timeout.
fn late_ack(k: u64) -> World {
    let up = Link { late: vec![(k, secs(1))], ..calm() };
    let mut world = World::download_over(SIZE, &up, &calm(), 15);
    world.run(secs(60));
    world.assert_identical();
    world
}

#[test]
fn s15_a_late_ack_makes_no_apprentice() {
    let [acks, _] = packets_each_way(BOTH[0].1);
    for k in first_and_last(acks, 25) {
        let world = late_ack(k);
        let doubled = world.client().connection.stats().packets_duplicate;
        assert!(doubled <= 2, "{doubled} packets came twice when ACK {k} was late: {}", world.describe());
    }
}

#[test]
fn s15_a_window_of_late_acks_makes_two_packets_and_no_more() {
    // For 100 ms, about three round trips, every ACK is late by a second; then all is as before.
    for begins in (100..1_000).step_by(50).map(ms) {
        let mut world = World::download(sim::MIB, &calm(), 15);
        world.run_until(begins);
        world.up.link.delay = secs(1);
        world.run_until(begins + ms(100));
        world.up.link.delay = ms(15);
        world.run_until(begins + ms(1_200));
        let doubled = world.client().connection.stats().packets_duplicate;
        let timeouts = world.server().connection.stats().timeouts;
        assert!(doubled <= 2 * timeouts, "{doubled} packets came twice: {}", world.describe());
        world.run(secs(60));
        world.assert_identical();
        let later = world.client().connection.stats().packets_duplicate - doubled;
        assert_eq!(later, 0, "the episode goes on: {}", world.describe());
    }
}

#[test]
fn s16_every_single_drop_is_survived() {
    for (name, transfer) in BOTH {
        println!("{name}");
        let [up, down] = packets_each_way(transfer);
        first_and_last(up, 40).for_each(|k| _ = without(transfer, &[k], &[]));
        first_and_last(down, 40).for_each(|k| _ = without(transfer, &[], &[k]));
    }
}

#[test]
fn s16_every_pair_of_drops_in_open_and_close_is_survived() {
    for (name, transfer) in BOTH {
        println!("{name}");
        let [up, down] = packets_each_way(transfer);
        let up = first_and_last(up, 6).map(|k| (true, k));
        let all: Vec<(bool, u64)> = up.chain(first_and_last(down, 6).map(|k| (false, k))).collect();
        for (i, &first) in all.iter().enumerate() {
            for &second in &all[i + 1..] {
                let of = |up: bool| -> Vec<u64> {
                    [first, second].into_iter().filter(|(is_up, _)| *is_up == up).map(|(_, k)| k).collect()
                };
                without(transfer, &of(true), &of(false));
            }
        }
    }
}

#[test]
fn s39_one_seed_is_one_history() {
    for (_, transfer) in BOTH {
        let trace = || without(transfer, &[0, 2], &[1]).trace();
        assert_eq!(trace(), trace());
    }
    assert_eq!(late_ack(7).trace(), late_ack(7).trace());
    assert_ne!(late_ack(7).trace(), late_ack(8).trace());
}
