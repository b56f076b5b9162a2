//! Paths that are long, that reorder, that change under way, and that others use too. Goals S10, S11, S13, S17, S18, S20, S21
//! and S39.
//!
//! Runs per story on every push (and at night): S10 3 (20), S11 30 (1,000), S13 5 (50) of each kind, S17 5 (50), S18 2 (20) of
//! each kind, S20 5 (50) of each kind and scheme, S21 2 (20) of two flows and 1 (20) of eight, S39 2 of each (5).
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]
#![allow(clippy::print_stdout, reason = "figures, for whoever asks with --nocapture")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::time::Duration;

use packetboat::rudp::{ArqScheme, Config, ConnectionError, Event, PACKET_LEN_IPV4, PACKET_LEN_MIN};
use packetboat::wire::packet::Kind;
use sim::end::SLICE;
use sim::link::Step;
use sim::{LARGE, Link, Loss, MIB, Random, World, configs, download, ms, secs, seeds};

/// The default link's octets of a file per second.
const LIMIT: f64 = 1_250_000.0 * 1_439.0 / 1_500.0;

fn long_round_trip(seed: u64) -> World {
    let link = Link { delay: ms(750), queue_bytes: 3_000_000, ..Link::default() };
    download(2 * MIB, &link, seed, secs(60))
}

#[test]
fn s10_a_round_trip_of_one_and_a_half_seconds_is_one_transfer() {
    for seed in seeds(3, 20) {
        let world = long_round_trip(seed);
        let syns = world.client().sent(Kind::Syn).packets;
        assert!(syns <= 6, "{syns} SYNs: {}", world.describe());
        let established = |(_, event): &&(Duration, Event)| *event == Event::Established;
        assert_eq!(world.server().events.iter().filter(established).count(), 1, "{}", world.describe());
    }
}

fn absurd_round_trip(seed: u64) -> World {
    let link = Link { delay: secs(10), loss: Loss::random(0.1), queue_bytes: 3_000_000, ..Link::default() };
    let mut world = World::download(64 << 10, &link, seed);
    // The control connection has measured the same path, so that is what the first timer knows.
    world.run(secs(3_600));
    world
}

#[test]
fn s11_a_round_trip_of_twenty_seconds_ends_one_way_or_the_other() {
    let mut whole = 0;
    for seed in seeds(30, 1_000) {
        let world = absurd_round_trip(seed);
        for end in &world.ends {
            assert!(end.is_closed(), "{}", world.describe());
            let closed = end.events.iter().filter(|(_, event)| matches!(event, Event::Closed(_))).count();
            assert_eq!(closed, 1, "{}", world.describe());
        }
        whole += u64::from(world.client().kept.is_complete());
    }
    println!("{whole} of {} arrived whole", seeds(30, 1_000).end);
}

/// A quarter of the packets, both ways, is late by up to so much.
fn reordered(reorder_delay: Duration, seed: u64) -> World {
    let link = Link { reorder: 0.25, reorder_delay, ..Link::default() };
    download(2 * MIB, &link, seed, secs(120))
}

fn spurious_share(world: &World) -> f64 {
    let stats = world.server().connection.stats();
    stats.packets_spurious as f64 / stats.packets_sent as f64
}

#[test]
fn s13_reordering_loses_nothing() {
    for seed in seeds(5, 50) {
        reordered(ms(30), seed);
        reordered(ms(120), seed);
    }
}

#[test]
fn s13_reordering_is_hardly_taken_for_loss() {
    for (reorder_delay, spurious_max) in [(ms(30), 0.05), (ms(120), 0.25)] {
        for seed in seeds(5, 50) {
            let world = reordered(reorder_delay, seed);
            let share = spurious_share(&world);
            assert!(share <= spurious_max, "{share:.3} late by {reorder_delay:?}: {}", world.describe());
        }
    }
}

#[test]
fn s13_reordering_costs_at_most_forty_percent() {
    for seed in seeds(5, 50) {
        let delivered = |world: &World| world.client().time_of(&Event::Delivered).expect("it was");
        let calm = delivered(&download(2 * MIB, &Link::default(), seed, secs(60)));
        let world = reordered(ms(30), seed);
        let share = calm.as_secs_f64() / delivered(&world).as_secs_f64();
        assert!(share >= 0.6, "{share:.2} of the goodput on a calm link: {}", world.describe());
    }
}

/// The delay of the path, 10 ms each way, is 200 ms for five seconds.
fn delay_steps(seed: u64) -> World {
    let step = |at, delay| Step { at, delay, bytes_per_s: 1_250_000 };
    let steps = vec![step(secs(3), ms(200)), step(secs(8), ms(10))];
    World::download(12 * MIB, &Link { delay: ms(10), jitter: ms(1), steps, ..Link::default() }, seed)
}

#[test]
fn s17_a_step_of_the_round_trip_costs_a_window_at_most() {
    for seed in seeds(5, 50) {
        let mut world = delay_steps(seed);
        for (before, after) in [(ms(2_990), ms(4_500)), (ms(7_990), ms(9_500))] {
            world.run_until(before);
            let spurious = world.server().connection.stats().packets_spurious;
            let window = world.server().connection.in_flight_and_window().1 / PACKET_LEN_IPV4 as u64;
            world.run_until(after);
            let more = world.server().connection.stats().packets_spurious - spurious;
            println!("seed {seed}: {more} spurious, a window is {window} packets");
            assert!(more <= window + 2, "{more} spurious, a window was {window}: {}", world.describe());
        }
        world.run(secs(120));
        world.assert_identical();
    }
}

/// What the path becomes after a second, for two seconds, and how soon its file is to be there.
const CHANGES: [(u64, Duration, Duration); 2] = [
    // 100 Mbit/s, 40 ms: then 10 Mbit/s,
    (1_250_000, ms(20), secs(12)),
    // or 100 Mbit/s and ten times the round trip.
    (12_500_000, ms(100), secs(12)),
];

fn changed_and_back(bytes_per_s: u64, delay: Duration, seed: u64) -> World {
    let before = if bytes_per_s < 12_500_000 { ms(20) } else { ms(10) };
    let link = Link::of(100, before);
    let back = Step { at: secs(3), delay: link.delay, bytes_per_s: link.bytes_per_s };
    let steps = vec![Step { at: secs(1), delay, bytes_per_s }, back];
    World::download(LARGE, &Link { steps, ..link }, seed)
}

#[test]
fn s17_a_path_that_changes_and_changes_back_is_full_again() {
    for (bytes_per_s, delay, limit) in CHANGES {
        for seed in seeds(1, 20) {
            let mut world = changed_and_back(bytes_per_s, delay, seed);
            world.run(secs(120));
            world.assert_identical();
            let delivered = world.client().time_of(&Event::Delivered).expect("it is");
            let last = world.client().goodput(delivered - secs(1), delivered);
            println!("seed {seed}: {delivered:?}, {last:.0} octets/s in the last second");
            assert!(delivered <= limit, "it took {delivered:?}: {}", world.describe());
        }
    }
}

/// A subscriber line: 1 MB/s down, a fifth of it up.
fn subscriber_line(down_queue_bytes: u64, seed: u64) -> World {
    let jitter = ms(2);
    let up = Link { delay: ms(25), jitter, bytes_per_s: 200_000, queue_bytes: 8 << 10, ..Link::default() };
    let down = Link {
        delay: ms(25),
        jitter,
        bytes_per_s: 1_000_000,
        queue_bytes: down_queue_bytes,
        ..Link::default()
    };
    let mut world = World::download_over(10 * MIB, &up, &down, seed);
    world.run(secs(120));
    world.assert_identical();
    world
}

#[test]
fn s18_a_subscriber_line_and_its_bloated_queue() {
    for seed in seeds(2, 20) {
        for queue_bytes in [32 << 10, 1_000_000] {
            let world = subscriber_line(queue_bytes, seed);
            let lost = world.down.meter.overflowed as f64 / world.down.meter.entered as f64;
            let delivered = world.client().time_of(&Event::Delivered).expect("it was");
            let ideal = (10 * MIB) as f64 * 1_500.0 / 1_439.0 / 1_000_000.0;
            let times = delivered.as_secs_f64() / ideal;
            let mean = world.down.meter.queue_mean_bytes(world.now);
            println!("queue {queue_bytes}: {lost:.3} lost, {times:.2} x ideal, mean queue {mean:.0}");
            assert!(lost <= 0.05 && times <= 1.5, "queue {queue_bytes}, {lost:.3} lost, {times:.2} x ideal");
        }
    }
}

#[test]
fn s20_a_path_that_carries_1200_octets_is_enough() {
    for seed in seeds(5, 50) {
        download(MIB, &Link { mtu: PACKET_LEN_MIN, ..Link::default() }, seed, secs(60));
    }
}

#[test]
fn s20_a_path_that_carries_less_is_given_up() {
    // The fallback to TCP after 15 s is its owner's, who sees that nothing was established.
    for seed in seeds(5, 50) {
        let mut world = World::download(MIB, &Link { mtu: PACKET_LEN_MIN - 1, ..Link::default() }, seed);
        world.run(secs(80));
        assert_eq!(world.client().failed(), Some(&ConnectionError::NoAnswer), "{}", world.describe());
        assert_eq!(world.client().time_of(&Event::Established), None, "{}", world.describe());
    }
}

/// A download under a scheme, over a path that has just ceased to carry more than 1,200 octets.
fn shrunk(arq: ArqScheme, size: u64, seed: u64) -> World {
    let mut world = World::new(&Link::default(), &Link::default(), seed);
    let (client, server) = configs(size, ms(30), seed);
    let with = |config| Config { arq: Some(arq), ..config };
    world.add(with(client), with(server), Duration::ZERO);
    world.run_until(ms(500) + ms(Random(seed).below(1_000)));
    (world.up.link.mtu, world.down.link.mtu) = (PACKET_LEN_MIN, PACKET_LEN_MIN);
    world
}

/// A file that is not over when the path shrinks.
fn size_under(arq: ArqScheme) -> u64 {
    if arq == ArqScheme::StopAndWait { MIB } else { 16 * MIB }
}

#[test]
fn s20_a_path_that_shrinks_is_noticed_under_every_scheme() {
    for (arq, seed) in ArqScheme::ALL.into_iter().flat_map(|arq| seeds(5, 50).map(move |seed| (arq, seed))) {
        let mut world = shrunk(arq, size_under(arq), seed);
        let before = world.server().connection.stats().timeouts;
        // What was in the queue still arrives.
        world.run_until(world.now + ms(100));
        let kept = world.client().kept.bytes;
        world.run_while(|world| world.client().kept.bytes == kept);
        let timeouts = world.server().connection.stats().timeouts - before;
        assert!(timeouts <= 3, "{arq}, {timeouts} probe timeouts: {}", world.describe());
        world.run(secs(60));
        world.assert_identical();
    }
}

#[test]
fn s20_a_path_that_has_shrunk_sees_no_large_packet_again_under_any_scheme() {
    for (arq, seed) in ArqScheme::ALL.into_iter().flat_map(|arq| seeds(5, 50).map(move |seed| (arq, seed))) {
        let mut world = shrunk(arq, size_under(arq), seed);
        let before = world.server().connection.stats().timeouts;
        world.run_until(world.now + secs(4));
        let timeouts = world.server().connection.stats().timeouts - before;
        let timeouts_max = if arq == ArqScheme::SelectiveRepeat { 3 } else { 6 };
        assert!(timeouts <= timeouts_max, "{arq}, {timeouts} probe timeouts: {}", world.describe());
        world.record = Some(Vec::new());
        world.run(secs(60));
        let record = world.record.take().expect("it was asked for");
        assert!(record.len() > 20, "{arq}, only {} datagrams are left", record.len());
        assert!(record.iter().all(|datagram| datagram.bytes.len() <= PACKET_LEN_MIN), "{arq}, seed {seed}");
    }
}

/// Nothing gets through for so long that several timeouts pass, whatever its size; then everything does.
#[test]
fn s20_darkness_is_not_taken_for_a_path_that_shrinks() {
    for (arq, seed) in ArqScheme::ALL.into_iter().flat_map(|arq| seeds(5, 50).map(move |seed| (arq, seed))) {
        let dies_at = ms(500) + ms(Random(seed).below(1_000));
        let link = Link { blackouts: vec![dies_at..dies_at + secs(5)], ..Link::default() };
        let mut world = World::new(&link, &link, seed);
        let (client, server) = configs(size_under(arq), ms(30), seed);
        let with = |config| Config { arq: Some(arq), ..config };
        world.add(with(client), with(server), Duration::ZERO);
        world.run_until(dies_at + secs(10));
        world.record = Some(Vec::new());
        world.run(secs(60));
        world.assert_identical();
        let record = world.record.take().expect("it was asked for");
        let large = record.iter().filter(|datagram| datagram.bytes.len() > PACKET_LEN_MIN);
        assert!(large.count() > 0, "{arq}, seed {seed}: small packets for nothing");
    }
}

const SHARED_FOR: Duration = secs(60);

/// Octets per second of two flows after a minute, the first five seconds left out, and the longest stall of either.
fn shares(slices: [&[u64]; 2]) -> ([f64; 2], Duration) {
    let count = |time: Duration| (time.as_nanos() / SLICE.as_nanos()) as usize;
    let (from, to) = (count(secs(5)), count(SHARED_FOR));
    let goodputs = slices.map(|slices| slices.iter().take(to).skip(from).sum::<u64>() as f64);
    let mut longest = 0;
    for slices in slices {
        let mut stall = 0;
        for at in from..to {
            stall = if slices.get(at).is_some_and(|&bytes| bytes > 0) { 0 } else { stall + 1 };
            longest = longest.max(stall);
        }
    }
    let all: f64 = goodputs.iter().sum();
    (goodputs.map(|goodput| goodput / all), SLICE * longest)
}

fn two_of_ours(seed: u64) -> World {
    let mut world = World::download(200 * MIB, &Link::of(10, ms(15)), seed);
    world.add_download(200 * MIB, ms(Random(seed).below(1_000)));
    world.run_until(SHARED_FOR);
    world
}

fn ours_against_tcp(seed: u64) -> World {
    let mut world = World::download(200 * MIB, &Link::of(10, ms(15)), seed);
    world.add_reno(ms(Random(seed).below(1_000)));
    world.run_until(SHARED_FOR);
    world
}

fn assert_shared(world: &World, slices: [&[u64]; 2]) {
    let ([a, b], stall) = shares(slices);
    let rate = world.client().goodput(secs(5), SHARED_FOR) / LIMIT;
    println!(
        "seed {}: shares {a:.2} and {b:.2}, longest stall {stall:?}, ours {rate:.2} of the link",
        world.seed
    );
    assert!(a.min(b) >= 0.25, "shares {a:.2} and {b:.2}: {}", world.describe());
    assert!(stall <= secs(2), "a flow stood still for {stall:?}: {}", world.describe());
}

#[test]
fn s21_two_flows_of_ours_share_a_link() {
    for seed in seeds(2, 20) {
        let world = two_of_ours(seed);
        assert_shared(&world, [&world.ends[0].slices, &world.ends[2].slices]);
    }
}

#[test]
fn s21_a_flow_of_ours_and_one_of_tcp_share_a_link() {
    for seed in seeds(2, 20) {
        let world = ours_against_tcp(seed);
        assert_shared(&world, [&world.ends[0].slices, &world.renos[0].slices]);
    }
}

/// Jain's index of eight flows that join within two seconds, over a minute from the tenth second on.
fn fairness_of_eight(seed: u64) -> f64 {
    let mut world = World::download(200 * MIB, &Link::of(100, ms(20)), seed);
    let mut random = Random(seed);
    for _ in 1..8 {
        world.add_download(200 * MIB, ms(random.below(2_000)));
    }
    world.run_until(secs(70));
    let goodputs: Vec<f64> =
        world.ends.iter().step_by(2).map(|end| end.goodput(secs(10), secs(70))).collect();
    let (sum, squares) = goodputs.iter().fold((0.0, 0.0), |(sum, squares), g| (sum + g, squares + g * g));
    println!("seed {seed}: {goodputs:.0?} octets per second");
    sum * sum / (8.0 * squares)
}

#[test]
fn s21_eight_flows_share_fairly() {
    for seed in seeds(1, 20) {
        let fairness = fairness_of_eight(seed);
        assert!(fairness >= 0.95, "seed {seed}: Jain's index {fairness:.3}");
    }
}

#[test]
fn s39_one_seed_is_one_history() {
    sim::assert_one_history(&[
        ("long round trip", long_round_trip),
        ("absurd round trip", absurd_round_trip),
        ("reordered", |seed| reordered(ms(120), seed)),
        ("delay steps", |seed| {
            let mut world = delay_steps(seed);
            world.run(secs(120));
            world
        }),
        ("subscriber line", |seed| subscriber_line(32 << 10, seed)),
        ("two of ours", two_of_ours),
        ("ours against TCP", ours_against_tcp),
    ]);
}
