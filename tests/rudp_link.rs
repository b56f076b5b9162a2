//! Files over links that lose, flip and repeat packets: every one arrives whole. Goals S1 to S6, S14 and S39.
//!
//! Runs per story on every push (and at night): S1 5 of 2 MiB (20 of 64.6), S2 20 of 1 MiB each way (200 of 64.6), S3 5 x 50 (100 x 50),
//! S4 50 and 20 in bursts (500), S5 1 x 50 (100 x 50), S6 50 (500, and one of 64.6 MiB), S14 5 (50), S39 2 of each (5).
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::time::{Duration, Instant};

use packetboat::rudp::congestion::ControllerKind;
use packetboat::rudp::{ArqScheme, Config};
use sim::{LARGE, Link, Loss, MIB, World, by_tier, download, ms, secs, seeds};

fn calm(seed: u64) -> World {
    download(by_tier(2 * MIB, LARGE), &Link::default(), seed, secs(200))
}

fn stormy() -> Link {
    let (loss, reorder_delay) = (Loss::random(0.3), ms(4 * 30));
    Link { loss, reorder: 0.1, reorder_delay, duplicate: 0.05, ..Link::default() }
}

fn storm(seed: u64) -> World {
    download(by_tier(MIB, LARGE), &stormy(), seed, secs(7_200))
}

/// 50 transfers of 1 KiB in a row; gives the last, and how long all took.
fn fifty_in_a_row(link: &Link, seed: u64) -> (World, Duration) {
    let mut total = Duration::ZERO;
    let mut last = None;
    for i in 0..50 {
        let world = download(1_024, link, seed * 50 + i, secs(120));
        total += world.now;
        last = Some(world);
    }
    (last.expect("fifty"), total)
}

fn handshake_loss(seed: u64) -> (World, Duration) {
    fifty_in_a_row(&Link { loss: Loss::Random { rate: 0.3, burst_max: 3 }, ..Link::default() }, seed)
}

fn handshake_corruption(seed: u64) -> (World, Duration) {
    fifty_in_a_row(&Link { corrupt: 0.3, ..Link::default() }, seed)
}

fn transfer_loss(seed: u64) -> World {
    let link = Link { loss: Loss::Random { rate: 0.02, burst_max: 3 }, ..Link::default() };
    download(2 * MIB, &link, seed, secs(60))
}

fn transfer_corruption(size: u64, corrupt: f64, seed: u64) -> World {
    download(size, &Link { corrupt, ..Link::default() }, seed, secs(60 + size / 50_000))
}

fn doubled(seed: u64) -> World {
    let link = Link { duplicate: 0.5, queue_bytes: 200 * 1_500, ..Link::default() };
    download(MIB, &link, seed, secs(30))
}

#[test]
fn s1_a_calm_link_fills_and_hardly_anything_is_resent() {
    for seed in seeds(5, 20) {
        let world = calm(seed);
        let stats = world.server().connection.stats();
        let share_max = by_tier(0.01, 0.001);
        let share = stats.packets_resent as f64 / stats.packets_sent as f64;
        assert!(share <= share_max, "{share:.4} of all packets were sent again: {}", world.describe());
        // 2 MiB at 10 Mbit/s take 1.75 s.
        assert!(world.now < by_tier(secs(4), secs(70)), "{}", world.describe());
    }
}

#[test]
fn s2_storm() {
    for seed in seeds(20, 200) {
        let world = storm(seed);
        let (sent, size) = (world.server().file_bytes_sent(), world.client().kept.bytes);
        assert!(sent as f64 <= 1.79 * size as f64, "{sent} octets sent for {size}: {}", world.describe());
    }
}

#[test]
fn s2_storm_over_an_upload() {
    for seed in seeds(20, 200) {
        let mut world = World::upload(MIB, &stormy(), &stormy(), seed);
        world.run(secs(7_200));
        world.assert_identical();
        let sent = world.client().file_bytes_sent();
        assert!(sent as f64 <= 1.79 * MIB as f64, "{sent} octets sent: {}", world.describe());
    }
}

#[test]
fn s3_handshake_loss() {
    for seed in seeds(5, 100) {
        let (_, total) = handshake_loss(seed);
        assert!(total <= secs(300), "seed {seed}: 50 transfers took {total:?}");
    }
}

#[test]
fn s4_transfer_loss() {
    for seed in seeds(50, 500) {
        transfer_loss(seed);
    }
}

#[test]
fn s4_losses_in_bursts() {
    // A burst of this model lasts for so many packets, not for a time. One of forty, which a mean of ten gives once in
    // hundreds of transfers, would outlast a sender who has but two probes every three seconds.
    let link = Link { loss: Loss::bursts(0.05, 5.0), ..Link::default() };
    for seed in seeds(20, 500) {
        download(MIB, &link, seed, secs(300));
    }
}

#[test]
fn s5_handshake_corruption() {
    for seed in seeds(1, 100) {
        let (_, total) = handshake_corruption(seed);
        assert!(total <= secs(300), "seed {seed}: 50 transfers took {total:?}");
    }
}

/// Nothing but what was flipped is refused: no duplicates on this link, so nothing comes twice.
fn assert_flips_refused(world: &World) {
    for end in &world.ends {
        let refused = end.connection.stats().datagrams_refused;
        assert_eq!(refused, end.flips_received, "{}", world.describe());
    }
}

#[test]
fn s6_flipped_bits_are_refused_and_nothing_else_is() {
    for seed in seeds(50, 500) {
        assert_flips_refused(&transfer_corruption(2 * MIB, 0.02, seed));
    }
    if sim::is_night() {
        assert_flips_refused(&transfer_corruption(LARGE, 0.01, 1));
    }
}

#[test]
fn s14_duplicates_make_no_packets() {
    let calm = Link { queue_bytes: 200 * 1_500, ..Link::default() };
    for seed in seeds(5, 50) {
        let once = download(MIB, &calm, seed, secs(30)).server().packets_sent();
        let twice = doubled(seed).server().packets_sent();
        assert!(twice as f64 <= 1.02 * once as f64 + 3.0, "seed {seed}: {twice} packets, {once} without");
    }
}

#[test]
fn s39_one_seed_is_one_history() {
    sim::assert_one_history(&[
        ("calm", calm),
        ("storm", storm),
        ("handshake loss", |seed| handshake_loss(seed).0),
        ("handshake corruption", |seed| handshake_corruption(seed).0),
        ("transfer loss", transfer_loss),
        ("transfer corruption", |seed| transfer_corruption(2 * MIB, 0.02, seed)),
        ("doubled", doubled),
    ]);
}

#[test]
fn every_scheme_and_every_controller_delivers() {
    let lossy =
        Link { loss: Loss::random(0.1), reorder: 0.1, duplicate: 0.05, corrupt: 0.01, ..Link::default() };
    let controllers =
        [ControllerKind::Fixed(16), ControllerKind::Aimd, ControllerKind::Cubic, ControllerKind::Bbr];
    for arq in [ArqScheme::StopAndWait, ArqScheme::GoBackN, ArqScheme::SelectiveRepeat] {
        for controller in controllers {
            for seed in seeds(5, 100) {
                let mut world = World::new(&lossy, &lossy, seed);
                let (client, server) = sim::configs(300_000, ms(30), seed);
                let choose = |config| Config { arq: Some(arq), controller: Some(controller), ..config };
                world.add(choose(client), choose(server), Duration::ZERO);
                world.run(secs(600));
                world.assert_identical();
            }
        }
    }
}

#[test]
fn sizes_around_a_packet_arrive() {
    for size in [0, 1, 2, 1_166, 1_167, 1_168, 1_438, 1_439, 1_440, 2_878, 100_000] {
        download(size, &Link::default(), size, secs(10));
    }
}

/// Prints how much faster than the simulated time the simulation is (`cargo test --release speed -- --nocapture`).
#[test]
fn simulation_speed() {
    let began = Instant::now();
    let world = download(
        by_tier(4 * MIB, LARGE),
        &Link { queue_bytes: 200 * 1_500, ..Link::default() },
        1,
        secs(200),
    );
    let factor = world.now.as_secs_f64() / began.elapsed().as_secs_f64();
    println!("{} octets: {:?} simulated, {factor:.0} times as fast", world.client().kept.bytes, world.now);
}

#[test]
fn r19_a_resumed_transfer_sends_only_the_rest() {
    for seed in seeds(5, 50) {
        let link = Link { loss: Loss::random(0.05), ..Link::default() };
        for is_upload in [false, true] {
            let mut world = World::new(&link, &link, seed);
            let (mut client, mut server) = sim::configs(2 * MIB, ms(30), seed);
            (client.start, server.start) = (MIB + seed, MIB + seed);
            if is_upload {
                std::mem::swap(&mut client.direction, &mut server.direction);
            }
            world.add(client, server, Duration::ZERO);
            world.run(secs(60));
            world.assert_identical();
            let sender = if is_upload { world.client() } else { world.server() };
            let sent = sender.file_bytes_sent();
            let rest = MIB - seed;
            assert!((rest..rest * 5 / 4).contains(&sent), "{sent} octets sent: {}", world.describe());
        }
    }
}
