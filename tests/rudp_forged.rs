//! Packets that the peer has not sealed for this transfer: replays, forgeries, SYNs for show. Goals S25, S26 and S38.
//!
//! Runs on every push (and at night): S25 5 (50), S26 8 x 10,000 (8 x 1,000,000) to each end, S38 20 (200).
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use packetboat::rudp::PACKET_LEN_IPV4;
use packetboat::rudp::congestion::INITIAL_WINDOW_PACKETS;
use packetboat::wire::packet::Kind;
use sim::forge::Forger;
use sim::world::Recorded;
use sim::{Link, Loss, Random, World, by_tier, configs, ms, secs, seeds};

const SIZE: u64 = 200_000;

fn recorded(seed: u64) -> World {
    let link = Link { loss: Loss::random(0.02), ..Link::default() };
    let mut world = World::download(SIZE, &link, seed);
    world.record = Some(Vec::new());
    world
}

/// Every packet so far to the end it was meant for, shuffled: each is refused and answered by nothing.
fn replay(world: &mut World, record: &[Recorded], random: &mut Random) {
    let mut shuffled: Vec<&Recorded> = record.iter().collect();
    for i in (1..shuffled.len()).rev() {
        shuffled.swap(i, random.below(i as u64 + 1) as usize);
    }
    let kept = world.client().kept.bytes;
    for recorded in shuffled {
        world.inject_forged(usize::from(recorded.from_client), &mut recorded.bytes.clone());
    }
    assert_eq!(world.client().kept.bytes, kept, "{}", world.describe());
}

#[test]
fn s25_replayed_packets_change_nothing() {
    for seed in seeds(5, 50) {
        let mut random = Random(seed);
        let mut first = recorded(seed);
        first.run(secs(60));
        first.assert_identical();
        let record = first.record.take().expect("it was recorded");
        // At once, into the same two ends.
        replay(&mut first, &record, &mut random);
        // Into the next transfer of the same file under the same number, three times, while it runs.
        let mut second = World::download(SIZE, &Link::default(), seed + 1_000_000);
        for at in [40, 80, 120].map(ms) {
            second.run_until(at);
            replay(&mut second, &record, &mut random);
        }
        second.run(secs(60));
        second.assert_identical();
    }
}

#[test]
fn s25_what_came_once_does_not_come_again() {
    for seed in seeds(5, 50) {
        let link = Link { queue_bytes: 200 * 1_500, ..Link::default() };
        let mut world = World::download(SIZE, &link, seed);
        world.record = Some(Vec::new());
        world.run_until(ms(30) + ms(Random(seed).below(150)));
        // All that is on the way arrives, all that is sent from now on is lost: the first ones are what arrived.
        world.cut(true);
        world.run_until(world.now + ms(300));
        let record = world.record.clone().expect("it was recorded");
        let arrived = |from_client: bool| {
            let meter = if from_client { &world.up.meter } else { &world.down.meter };
            assert_eq!(meter.overflowed, 0, "{}", world.describe());
            let count = (meter.entered - meter.lost) as usize;
            record.iter().filter(move |r| r.from_client == from_client).take(count).cloned()
        };
        let arrived: Vec<Recorded> = arrived(true).chain(arrived(false)).collect();
        replay(&mut world, &arrived, &mut Random(seed));
        world.cut(false);
        world.run(secs(60));
        world.assert_identical();
    }
}

#[test]
fn s26_what_an_off_path_forger_sends_is_refused() {
    let mut random = Random(26);
    let mut world = World::download(4 << 20, &Link::default(), 26);
    let per_kind = by_tier(10_000, 1_000_000);
    for round in 0..8 * per_kind {
        // Seven kinds, and 0, which is none. Every hundredth has a header and nothing else.
        let kind = (round % 8) as u8;
        let len = if round % 100 == 0 { 9 } else { 9 + random.below(1_464) };
        let mut forged: Vec<u8> = vec![0; len as usize];
        forged
            .chunks_mut(8)
            .for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]));
        forged[..5].copy_from_slice(&[kind, 0, 0, 0, 7]);
        forged[5..9].copy_from_slice(&((round / 8 % 1_000) as u32).to_be_bytes());
        for to in [0, 1] {
            world.inject_forged(to, &mut forged);
        }
        // The transfer lives through nearly all of it.
        if round % (per_kind / 200) == 0 {
            world.step();
        }
    }
    assert!(!world.client().is_closed(), "the forger had a live victim: {}", world.describe());
    world.run(secs(30));
    world.assert_identical();
}

#[test]
fn s26_a_genuine_packet_with_another_header_is_refused() {
    for seed in seeds(5, 50) {
        let mut first = recorded(seed);
        first.run(secs(60));
        let record = first.record.take().expect("it was recorded");
        let mut random = Random(seed);
        let mut world = World::download(SIZE, &Link::default(), seed);
        for recorded in record {
            world.step();
            let mut altered = recorded.bytes;
            // The first octet is the kind, the last four of the header are the number.
            let place = [0, 5, 6, 7, 8][random.below(5) as usize];
            altered[place] ^= 1 << random.below(8);
            world.inject_forged(random.below(2) as usize, &mut altered);
        }
        world.run(secs(60));
        world.assert_identical();
    }
}

/// Whoever holds an offer can have SYNs sent from any address; the address is its owner's matter, which compares it with the
/// session's. Here: how much one offer is worth.
#[test]
fn s38_an_offer_is_worth_ten_syn_acks_and_one_window() {
    for seed in seeds(20, 200) {
        let mut random = Random(seed);
        let mut world = World::download(10 << 20, &Link::default(), seed);
        let (client, _) = configs(10 << 20, ms(30), seed);
        world.play(0, Mute);
        let mut forger = Forger::new(&client);
        let (mut received, mut syns) = (0, Vec::new());
        for _ in 0..100 {
            let mut syn = forger.open_with(None, 8 << 20);
            received += syn.len() as u64;
            world.deliver(1, &mut syn.clone());
            world.inject_forged(1, &mut syn);
            syns.push(syn);
            world.run_until(world.now + ms(random.below(50)));
        }
        let syn_acks = world.server().sent(Kind::SynAck);
        assert!(syn_acks.packets <= 10, "{}", world.describe());
        assert!(syn_acks.bytes <= received, "{}", world.describe());
        world.run(secs(120));
        // Nobody answers: the first window, two packets each probe timeout, and never more.
        let timeouts = world.server().connection.stats().timeouts;
        let data = world.server().sent(Kind::Data);
        assert!(data.packets <= INITIAL_WINDOW_PACKETS + 2 * timeouts, "{}", world.describe());
        assert!(timeouts <= 30 && world.server().is_closed(), "{}", world.describe());
        let sent = data.bytes + syn_acks.bytes;
        println!("seed {seed}: {sent} octets for {received}, {} for the first SYN", PACKET_LEN_IPV4);
    }
}

/// An end that says nothing.
struct Mute;

impl sim::end::Hostile for Mute {
    fn handle(&mut self, _: std::time::Duration, _: &mut [u8], _: &mut Vec<Vec<u8>>) {}
}
