//! Peers that hold the key and lie. Goals S27 to S31 and S39: a client that does not tell the truth about what came.
//!
//! Runs on every push (and at night): S27 50 (1,000) and 200 (10,000) honest ones, S28 1,000 (1,000), S29 5 (50), S30 1, S31 3
//! (20).
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::time::Duration;

use packetboat::rudp::{ConnectionError, PACKET_LEN_IPV4};
use packetboat::wire::packet::{DATA_OVERHEAD, Kind};
use sim::end::Hostile;
use sim::forge::{Liar, Opened, Receiver};
use sim::{LARGE, Link, Loss, MIB, Random, World, configs, ms, secs, seeds};

const CREDIT: u64 = 1 << 40;

/// A download whose client is played by somebody else. The way up is wide enough for any number of ACKs.
fn lied_to(size: u64, seed: u64, every: Option<Duration>, lie: impl Lie) -> World {
    lied_to_from(size, CREDIT, seed, every, lie)
}

fn lied_to_from(size: u64, credit: u64, seed: u64, every: Option<Duration>, lie: impl Lie) -> World {
    let up = Link { bytes_per_s: 1_250_000_000, queue_bytes: 1 << 30, ..Link::default() };
    let mut world = World::download_over(size, &up, &Link::default(), seed);
    let (client, _) = configs(size, ms(30), seed);
    world.play(0, Liar::new(&client, credit, every, lie));
    world
}

/// What a liar answers to a packet, or says unasked.
trait Lie: FnMut(&mut Receiver, Duration, Option<&Opened>, &mut Vec<Vec<u8>>) + 'static {}
impl<F: FnMut(&mut Receiver, Duration, Option<&Opened>, &mut Vec<Vec<u8>>) + 'static> Lie for F {}

fn honest(receiver: &mut Receiver, _: Duration, packet: Option<&Opened>, out: &mut Vec<Vec<u8>>) {
    if packet.is_some() {
        out.push(receiver.ack());
    }
}

/// The largest window that the server had until `time`.
fn window_max(world: &mut World, time: Duration) -> u64 {
    let mut max = 0;
    while world.now < time && world.step() {
        max = max.max(world.server().connection.in_flight_and_window().1);
    }
    max
}

/// From `begins` on a liar acknowledges one number each time that a packet needs on a link twice as fast, come or not.
fn hurried(begins: Duration) -> impl Lie {
    let mut claimed = 0;
    move |receiver: &mut Receiver, now: Duration, packet: Option<&Opened>, out: &mut Vec<Vec<u8>>| {
        if now < begins {
            return honest(receiver, now, packet, out);
        }
        if packet.is_none() {
            claimed = receiver.largest().max(claimed) + 1;
            out.push(receiver.ack_all_to(claimed));
        }
    }
}

/// From `begins` on a liar acknowledges all up to the newest that came: it hides what was lost.
fn hiding_losses(begins: Duration) -> impl Lie {
    move |receiver: &mut Receiver, now: Duration, packet: Option<&Opened>, out: &mut Vec<Vec<u8>>| {
        if now < begins {
            return honest(receiver, now, packet, out);
        }
        if packet.is_some() {
            let largest = receiver.largest();
            out.push(receiver.ack_all_to(largest));
        }
    }
}

/// How a server fares under attack: whether it has found out, after how many windows of the attack's beginning, and its
/// largest window in those of its honest twin.
fn attacked(begins: Duration, seed: u64, lie: impl Lie) -> (bool, f64, f64) {
    let mut world = lied_to(LARGE, seed, Some(ms(1_200) / 2_000), lie);
    let mut twin = lied_to(LARGE, seed, None, honest);
    world.run_until(begins);
    let (_, window) = world.server().connection.in_flight_and_window();
    let sent = world.server().sent(Kind::Data).bytes;
    window_max(&mut twin, begins);
    let (mut largest, mut ratio) = (0, 0.0f64);
    let mut twin_largest = window;
    while !world.server().is_closed() && world.now < begins + secs(20) && world.step() {
        largest = largest.max(world.server().connection.in_flight_and_window().1);
        twin_largest = twin_largest.max(window_max(&mut twin, world.now));
        ratio = ratio.max(largest as f64 / twin_largest as f64);
    }
    let found_out = world.server().failed() == Some(&ConnectionError::OptimisticAck);
    let sent = world.server().sent(Kind::Data).bytes - sent;
    (found_out, sent as f64 / window as f64, ratio)
}

fn begins_at(seed: u64) -> Duration {
    ms(100) + ms(Random(seed).below(3_000))
}

/// How many of the attacks were found out in time, and the worst figures.
fn assert_all_found_out(name: &str, attack: impl Fn(u64) -> (bool, f64, f64)) {
    let (mut found, mut in_time, mut worst, mut worst_ratio) = (0, 0, 0.0f64, 0.0f64);
    let n = seeds(50, 1_000).end;
    let mut late = Vec::new();
    for seed in 0..n {
        let (found_out, windows, ratio) = attack(seed);
        found += u64::from(found_out);
        if found_out && windows <= 2.0 && ratio <= 2.0 {
            in_time += 1;
        } else {
            late.push(seed);
        }
        (worst, worst_ratio) = (worst.max(windows), worst_ratio.max(ratio));
    }
    assert_eq!(
        in_time, n,
        "{name}: {found} found out, at worst after {worst:.1} windows, window {worst_ratio:.1} x the honest one; seeds {late:?}"
    );
}

#[test]
fn s27_who_acknowledges_faster_than_the_link_is_found_out() {
    assert_all_found_out("hurried", |seed| attacked(begins_at(seed), seed, hurried(begins_at(seed))));
}

#[test]
fn s27_who_hides_losses_is_found_out() {
    assert_all_found_out("hiding", |seed| attacked(begins_at(seed), seed, hiding_losses(begins_at(seed))));
}

#[test]
fn s27_nobody_honest_is_accused() {
    let (rtt, reorder) = (ms(30), 0.1);
    for seed in seeds(200, 10_000) {
        let loss = Loss::random(Random(seed).unit() * 0.2);
        let link = Link { loss, reorder, reorder_delay: rtt * 2, duplicate: 0.05, ..Link::default() };
        sim::download(100_000, &link, seed, secs(300));
    }
}

#[test]
fn s28_who_acknowledges_the_future_is_found_out_at_once() {
    for seed in 0..1_000 {
        let mut random = Random(seed);
        let begins = ms(60) + ms(random.below(400));
        let ahead = 1 + random.below(4_000);
        let mut world = World::download(MIB, &Link::default(), seed);
        let (client, _) = configs(MIB, ms(30), seed);
        world.play(0, Liar::new(&client, CREDIT, None, honest));
        world.run_until(begins);
        // A liar who happens to know how many packets there were.
        let mut forger = sim::forge::Forger::new(&client);
        forger.skip_to(1_000_000);
        let future = world.server().packets_sent() + 70 + ahead;
        let mut ack = forger.ack(&[future], CREDIT);
        world.deliver(1, &mut ack);
        assert_eq!(world.server().failed(), Some(&ConnectionError::OptimisticAck), "{}", world.describe());
    }
}

/// The windows of a server, every 10 ms.
fn windows(mut world: World) -> Vec<u64> {
    (0..200)
        .map(|i| {
            world.run_until(ms(10 * i));
            world.server().connection.in_flight_and_window().1
        })
        .collect()
}

#[test]
fn s29_a_hundred_acks_for_each_packet_gain_nothing() {
    let repeated = |receiver: &mut Receiver, _: Duration, packet: Option<&Opened>, out: &mut Vec<Vec<u8>>| {
        if packet.is_some() {
            out.extend((0..100).map(|_| receiver.ack()));
        }
    };
    // The newest number first; then the others of the last round trips, in a hundred parts.
    let split = |receiver: &mut Receiver, now: Duration, packet: Option<&Opened>, out: &mut Vec<Vec<u8>>| {
        honest(receiver, now, packet, out);
        let came: Vec<u64> = receiver.came.iter().rev().take(200).rev().copied().collect();
        for part in 0..99 {
            let numbers: Vec<u64> = came.iter().copied().filter(|number| number % 99 == part).collect();
            if !numbers.is_empty() && packet.is_some() {
                let credit = receiver.credit;
                out.push(receiver.forger.ack(&numbers, credit));
            }
        }
    };
    for seed in seeds(5, 50) {
        let honest = windows(lied_to(4 * MIB, seed, None, honest));
        for (name, greedy) in [
            ("repeated", windows(lied_to(4 * MIB, seed, None, repeated))),
            ("split", windows(lied_to(4 * MIB, seed, None, split))),
        ] {
            for (i, (greedy, honest)) in greedy.iter().zip(&honest).enumerate() {
                let differs = greedy.abs_diff(*honest);
                assert!(
                    differs <= PACKET_LEN_IPV4 as u64,
                    "seed {seed}, {name}: a window of {greedy} after {i} x 10 ms, {honest} of the honest twin"
                );
            }
        }
    }
}

#[test]
fn s30_a_million_questions_get_one_answer() {
    let mut world = lied_to(MIB, 1, None, honest);
    world.run_until(ms(300));
    let (client, _) = configs(MIB, ms(30), 1);
    let mut forger = sim::forge::Forger::new(&client);
    forger.skip_to(1_000_000);
    let acks = world.server().sent(Kind::Ack).packets;
    let mut pings: Vec<Vec<u8>> = (0..sim::by_tier(10_000, 1_000_000)).map(|_| forger.ping()).collect();
    for ping in &mut pings {
        // All of them come before the server has its turn to speak.
        world.hand_over(1, ping);
    }
    world.drain(1, Vec::new());
    let answers = world.server().sent(Kind::Ack).packets - acks;
    assert!(answers <= 3, "{answers} answers: {}", world.describe());
}

#[test]
fn s30_who_withholds_acks_is_left_within_seventy_seconds() {
    let mut count = 0;
    let one_in_fifty =
        move |receiver: &mut Receiver, _: Duration, packet: Option<&Opened>, out: &mut Vec<Vec<u8>>| {
            // The third leg, and then one in fifty.
            count += u32::from(packet.is_some());
            if packet.is_some() && count % 50 == 1 {
                let largest = receiver.largest();
                let credit = receiver.credit;
                out.push(receiver.forger.ack(&[largest], credit));
            }
        };
    let mut world = lied_to(LARGE, 30, None, one_in_fifty);
    world.run_until(secs(300));
    let closed = world.server().closed_at();
    assert!(closed.is_some_and(|at| at <= secs(70)), "{}", world.describe());
}

/// A client that answers everything and grants nothing, or so little more with each ACK.
fn granting(credit: u64, more: u64) -> impl Lie {
    let mut granted = credit;
    move |receiver: &mut Receiver, now: Duration, packet: Option<&Opened>, out: &mut Vec<Vec<u8>>| {
        granted += more;
        receiver.credit = granted;
        honest(receiver, now, packet, out);
    }
}

#[test]
fn s31_who_grants_nothing_is_asked_seldom() {
    for seed in seeds(3, 20) {
        let mut world = lied_to_from(MIB, 100_000, seed, None, granting(100_000, 0));
        world.run_until(secs(5));
        let before = world.server().sent(Kind::Ping).packets;
        world.run_until(secs(50));
        let pings = world.server().sent(Kind::Ping).packets - before;
        assert!(pings <= 45 / 3 + 1, "{pings} in 45 s: {}", world.describe());
    }
}

#[test]
fn s31_who_grants_nothing_is_left_after_a_minute() {
    let mut world = lied_to_from(MIB, 100_000, 31, None, granting(100_000, 0));
    world.run_until(secs(300));
    // A minute, and at most a sixth of it until somebody looks; from when the connection was established.
    assert!(world.server().closed_at().is_some_and(|at| at <= secs(71)), "{}", world.describe());
}

#[test]
fn s31_who_grants_an_octet_at_a_time_gets_no_small_packets() {
    for seed in seeds(3, 20) {
        let mut world = World::download(20_000, &Link::default(), seed);
        let (client, _) = configs(20_000, ms(30), seed);
        world.play(
            0,
            Sieve::new(Liar::new(&client, 5_000, Some(ms(10)), |receiver, _, _, out| {
                receiver.credit += 1;
                out.push(receiver.ack());
            })),
        );
        // Not for so long that the rule of minimum speed would end it.
        world.run_until(secs(50));
        let data = world.server().sent(Kind::Data);
        let mean = (data.bytes - data.packets * DATA_OVERHEAD as u64) / data.packets;
        assert!(mean >= 64, "{mean} octets in a packet: {}", world.describe());
    }
}

/// Fails when more than one small DATA packet passes: only the end of the file may be small.
struct Sieve<H> {
    inner: H,
    small: u32,
}

impl<H> Sieve<H> {
    fn new(inner: H) -> Sieve<H> {
        Sieve { inner, small: 0 }
    }
}

impl<H: Hostile> Hostile for Sieve<H> {
    fn handle(&mut self, now: Duration, datagram: &mut [u8], out: &mut Vec<Vec<u8>>) {
        let is_small = datagram[0] == Kind::Data as u8 && datagram.len() < DATA_OVERHEAD + 64;
        self.small += u32::from(is_small);
        assert!(self.small <= 1, "a packet of {} octets, {now:?}", datagram.len());
        self.inner.handle(now, datagram, out);
    }

    fn wake(&mut self, now: Duration, out: &mut Vec<Vec<u8>>) {
        self.inner.wake(now, out);
    }

    fn wake_at(&self) -> Option<Duration> {
        self.inner.wake_at()
    }
}

#[test]
fn s39_one_seed_is_one_history() {
    sim::assert_one_history(&[
        ("hurried", |seed| {
            let mut world = lied_to(LARGE, seed, Some(ms(1)), hurried(begins_at(seed)));
            world.run_until(secs(10));
            world
        }),
        ("granting little", |seed| {
            let mut world = lied_to_from(MIB, 100_000, seed, None, granting(100_000, 100));
            world.run_until(secs(20));
            world
        }),
    ]);
}
