//! Reliable UDP over simulated links: every file arrives whole, whatever the link does to packets. Goals S1 to S39.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, reason = "shared by test crates")]
mod sim;

use std::time::Duration;

use packetboat::rudp::{Config, ConnectionError, Event, Receipt};
use sim::{Link, Pair, Random, file_octets_sent, octet};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Runs a download to its end and checks it.
fn download(size: u64, link: &Link, seed: u64, limit: Duration) -> Pair {
    let mut pair = Pair::new(size, link, seed);
    pair.run(limit);
    pair.assert_identical();
    assert!(pair.client.is_closed() && pair.server.is_closed(), "seed {seed}: {}", pair.describe());
    pair
}

#[test]
fn s1_a_calm_link_fills_and_hardly_anything_is_resent() {
    // CUBIC finds the end of a queue by overflowing it; a link without that loss needs a controller that models it.
    let link = Link { queue_packets: 200, ..Link::default() };
    for seed in 0..5 {
        let pair = download(2 << 20, &link, seed, secs(10));
        let stats = pair.server.connection.stats();
        assert!(stats.packets_resent * 25 <= stats.packets_sent, "seed {seed}: {stats:?}");
        // 2 MiB at 10 Mbit/s take 1.75 s.
        assert!(pair.elapsed() < secs(4), "seed {seed}: {}", pair.describe());
    }
}

#[test]
fn s2_storm() {
    let rtt = Duration::from_millis(30);
    let link = Link { loss: 0.3, reorder: 0.1, reorder_delay: rtt * 4, duplicate: 0.05, ..Link::default() };
    for seed in 0..20 {
        let size = 1 << 20;
        let mut pair = Pair::new(size, &link, seed);
        pair.keep_record = true;
        pair.run(secs(7_200));
        pair.assert_identical();
        let sent = file_octets_sent(&pair);
        assert!(sent as f64 <= 1.79 * size as f64, "seed {seed}: {sent} octets sent, {}", pair.describe());
    }
}

#[test]
fn s3_handshake_loss() {
    let link = Link { loss: 0.3, ..Link::default() };
    for seed in 0..5 {
        let total: Duration =
            (0..50).map(|i| download(1_024, &link, seed * 50 + i, secs(120)).elapsed()).sum();
        assert!(total <= secs(300), "seed {seed}: 50 transfers took {total:?}");
    }
}

#[test]
fn s4_transfer_loss() {
    let link = Link { loss: 0.02, ..Link::default() };
    for seed in 0..50 {
        download(2 << 20, &link, seed, secs(60));
    }
}

#[test]
fn s6_flipped_bits_are_refused_and_nothing_else_is() {
    let link = Link { corrupt: 0.02, ..Link::default() };
    for seed in 0..20 {
        download(1 << 20, &link, seed, secs(60));
    }
}

#[test]
fn s10_a_round_trip_of_one_and_a_half_seconds_is_one_transfer() {
    let link = Link { delay: Duration::from_millis(750), queue_packets: 2_000, ..Link::default() };
    let (client, server) = sim::configs(2 << 20, 1);
    let guess = |config| Config { rtt_guess: Duration::from_millis(1_500), ..config };
    let mut pair = Pair::with(guess(client), guess(server), &link, &link, 1);
    pair.keep_record = true;
    pair.run(secs(60));
    pair.assert_identical();
    let syns = pair.record.iter().filter(|(_, datagram)| datagram[0] == 1).count();
    assert!(syns <= 6, "{syns} SYNs");
    let established = pair.server.events.iter().filter(|event| **event == Event::Established).count();
    assert_eq!(established, 1);
}

#[test]
fn s13_heavy_reordering_loses_nothing() {
    for reorder_delay in [Duration::from_millis(30), Duration::from_millis(120)] {
        let link = Link { reorder: 0.25, reorder_delay, ..Link::default() };
        for seed in 0..5 {
            download(1 << 20, &link, seed, secs(60));
        }
    }
}

#[test]
fn s14_duplicates_make_no_packets() {
    let calm = Link { queue_packets: 200, ..Link::default() };
    let doubled = Link { duplicate: 0.5, ..calm.clone() };
    for seed in 0..5 {
        let sent = |link| download(1 << 20, link, seed, secs(30)).server.connection.stats().packets_sent;
        let (once, twice) = (sent(&calm), sent(&doubled));
        assert!(twice as f64 <= 1.02 * once as f64 + 3.0, "seed {seed}: {twice} packets, {once} without");
    }
}

#[test]
fn s16_every_single_drop_is_survived() {
    let calm = Link { queue_packets: 200, ..Link::default() };
    let size = 120_000;
    let mut whole = Pair::new(size, &calm, 16);
    whole.keep_record = true;
    whole.run(secs(10));
    for from_client in [true, false] {
        let packets = whole.record.iter().filter(|(from, _)| *from == from_client).count() as u64;
        let first_and_last = (0..packets).filter(|k| *k < 40 || *k + 40 >= packets);
        for k in first_and_last {
            let lossy = Link { drop: vec![k], ..calm.clone() };
            let (up, down) = if from_client { (&lossy, &calm) } else { (&calm, &lossy) };
            let (client, server) = sim::configs(size, 16);
            let mut pair = Pair::with(client, server, up, down, 16);
            pair.run(secs(30));
            pair.assert_identical();
            let timeouts = pair.server.connection.stats().timeouts + pair.client.connection.stats().timeouts;
            assert!(timeouts <= 4, "packet {k} dropped, from the client: {from_client}: {}", pair.describe());
        }
    }
}

#[test]
fn s19_persistent_congestion_falls_back_to_two_packets() {
    let mut pair = Pair::new(4 << 20, &Link::default(), 19);
    while pair.server.connection.moved_bytes() < 1 << 20 {
        assert!(pair.step(), "the transfer goes on");
    }
    // The link dies for the time in which some probes are sent, then lives again.
    let silent_from = pair.now;
    let moved = pair.server.connection.moved_bytes();
    pair.cut(true);
    while pair.now - silent_from < secs(5) {
        assert!(pair.step(), "probes go on");
    }
    assert!(pair.server.connection.moved_bytes() < moved + 200_000);
    pair.cut(false);
    let mut least = u64::MAX;
    while !pair.client.is_closed() && pair.step() {
        least = least.min(pair.server.connection.in_flight_and_window().1);
    }
    pair.assert_identical();
    assert!(least <= 2 * 1_472, "the window never fell below {least}");
}

#[test]
fn s25_replayed_packets_change_nothing() {
    let link = Link { loss: 0.02, ..Link::default() };
    let mut first = Pair::new(200_000, &link, 25);
    first.keep_record = true;
    first.run(secs(60));
    first.assert_identical();
    let mut recorded = first.record.clone();
    let mut random = Random(25);
    for i in (1..recorded.len()).rev() {
        recorded.swap(i, random.next() as usize % (i + 1));
    }
    // (a) At once, into the same two ends.
    for (from_client, datagram) in &recorded {
        assert_eq!(first.deliver(!from_client, &mut datagram.clone()), Receipt::Refused);
    }
    // (b) Into the next transfer of the same file under the same number, three times, while it runs.
    let mut second = Pair::new(200_000, &link, 26);
    for _ in 0..3 {
        for (from_client, datagram) in &recorded {
            let sent =
                second.client.connection.stats().packets_sent + second.server.connection.stats().packets_sent;
            assert_eq!(second.deliver(!from_client, &mut datagram.clone()), Receipt::Refused);
            let after =
                second.client.connection.stats().packets_sent + second.server.connection.stats().packets_sent;
            assert_eq!(sent, after, "no reply");
            second.step();
        }
    }
    second.run(secs(60));
    second.assert_identical();
}

#[test]
fn s26_what_an_off_path_forger_sends_is_refused() {
    let mut pair = Pair::new(300_000, &Link::default(), 26);
    let mut random = Random(26);
    for round in 0..10_000u32 {
        let kind = (round % 8) as u8;
        let len = 9 + (random.next() % 1_464) as usize;
        let mut forged: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        forged[..5].copy_from_slice(&[kind, 0, 0, 0, 7]);
        forged[5..9].copy_from_slice(&(round / 8).to_be_bytes());
        for to_client in [true, false] {
            assert_eq!(pair.deliver(to_client, &mut forged.clone()), Receipt::Refused, "round {round}");
        }
        if round % 10 == 0 {
            pair.step();
        }
    }
    pair.run(secs(30));
    pair.assert_identical();
}

#[test]
fn s39_one_seed_is_one_history() {
    let link = Link { loss: 0.1, reorder: 0.1, duplicate: 0.05, corrupt: 0.01, ..Link::default() };
    let trace = |seed| download(300_000, &link, seed, secs(600)).trace();
    for seed in 0..5 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(trace(0), trace(1), "the seed matters");
}

#[test]
fn sizes_around_a_packet_arrive() {
    for size in [0, 1, 2, 1_166, 1_167, 1_168, 1_438, 1_439, 1_440, 2_878, 100_000] {
        let pair = download(size, &Link::default(), size, secs(10));
        assert!(pair.client.file.iter().enumerate().all(|(at, got)| *got == Some(octet(at as u64))));
    }
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    let dead = Link { loss: 1.0, ..Link::default() };
    let mut pair = Pair::new(1_000, &dead, 1);
    pair.run(secs(80));
    assert_eq!(pair.client.failed(), Some(&ConnectionError::NoAnswer));
    assert_eq!(pair.server.failed(), Some(&ConnectionError::NoAnswer));
}

#[test]
fn a_peer_that_falls_silent_is_lost_after_a_minute() {
    let mut pair = Pair::new(4 << 20, &Link::default(), 3);
    while pair.client.connection.moved_bytes() < 1 << 20 {
        assert!(pair.step());
    }
    pair.cut(true);
    pair.run(secs(65));
    assert_eq!(pair.client.failed(), Some(&ConnectionError::PeerLost));
    assert_eq!(pair.server.failed(), Some(&ConnectionError::PeerLost));
}

#[test]
fn a_cancelled_transfer_ends_at_both_ends_at_once() {
    let mut pair = Pair::new(4 << 20, &Link::default(), 3);
    while pair.client.connection.moved_bytes() < 1 << 20 {
        assert!(pair.step());
    }
    let cancelled_at = pair.now;
    pair.client.connection.abort(ConnectionError::Cancelled);
    while pair.step() {}
    assert_eq!(pair.client.failed(), Some(&ConnectionError::Cancelled));
    assert!(matches!(pair.server.failed(), Some(ConnectionError::Reset(_))));
    assert!(pair.now - cancelled_at < Duration::from_millis(100));
}
