//! The simulated network is itself put to the test: a story is only as good as its links.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::time::Duration;

use sim::file::{self, Kept};
use sim::link::{Step, Wire};
use sim::{Link, Loss, World, ms, secs};

/// 1,000 octets on the wire.
const PAYLOAD_LEN: usize = 972;

fn megabyte_per_s() -> Link {
    Link { bytes_per_s: 1_000_000, delay: ms(10), ..Link::default() }
}

/// When each of so many datagrams arrives that enter a millisecond apart.
fn arrivals(link: Link, n: u64) -> Vec<Option<Duration>> {
    let mut wire = Wire::new(link, 1);
    (0..n).map(|i| wire.enter(ms(i), PAYLOAD_LEN).map(|passage| passage.at)).collect()
}

#[test]
fn a_link_serves_at_its_rate_and_then_delays() {
    let mut wire = Wire::new(megabyte_per_s(), 1);
    let at = |wire: &mut Wire, now| wire.enter(now, PAYLOAD_LEN).expect("it fits").at;
    assert_eq!(at(&mut wire, ms(0)), ms(11));
    assert_eq!(at(&mut wire, ms(0)), ms(12), "it waits for the first");
    assert_eq!(at(&mut wire, ms(100)), ms(111));
    assert_eq!(wire.meter.queue_max_bytes, 2_000);
    // 1,000 octets for 1 ms, 1,000 for 2, 1,000 for 1.
    assert_eq!(wire.meter.queue_mean_bytes(ms(4)), 1_000.0);
}

#[test]
fn a_queue_is_counted_in_octets() {
    let mut wire = Wire::new(Link { queue_bytes: 2_500, ..megabyte_per_s() }, 1);
    assert!(wire.enter(ms(0), PAYLOAD_LEN).is_some() && wire.enter(ms(0), PAYLOAD_LEN).is_some());
    assert!(wire.enter(ms(0), PAYLOAD_LEN).is_none(), "3,000 octets do not fit");
    assert!(wire.enter(ms(0), 400).is_some(), "a small one does");
    assert!(wire.enter(ms(1), PAYLOAD_LEN).is_some(), "the first has left");
    assert_eq!(wire.meter.overflowed, 1);
}

#[test]
fn a_step_of_the_rate_takes_effect_in_the_middle_of_a_packet() {
    let steps = vec![Step { at: Duration::from_micros(500), bytes_per_s: 100_000, delay: ms(20) }];
    let mut wire = Wire::new(Link { steps, ..megabyte_per_s() }, 1);
    let passage = wire.enter(ms(0), PAYLOAD_LEN).expect("it fits");
    assert_eq!(passage.at, Duration::from_micros(500) + ms(5) + ms(20));
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let wide = Link { bytes_per_s: 1 << 40, ..megabyte_per_s() };
    let jittery = arrivals(Link { jitter: ms(20), ..wide.clone() }, 1_000);
    assert!(
        jittery.is_sorted() && jittery.iter().zip(0..).any(|(at, i)| at.expect("none lost") > ms(i + 25))
    );
    let reordered = arrivals(Link { reorder: 0.5, reorder_delay: ms(5), ..wide }, 1_000);
    let late = reordered.iter().zip(0..).filter(|(at, i)| at.expect("none lost") > ms(i + 10) + ms(1) / 10);
    assert!((400..600).contains(&late.count()) && !reordered.is_sorted());
    assert!(reordered.iter().zip(0..).all(|(at, i)| at.expect("none lost") <= ms(i + 16)), "bounded");
}

#[test]
fn losses_have_the_rate_and_the_bursts_that_were_asked_for() {
    let n = 200_000;
    let bursts = |loss| {
        let lost: Vec<bool> =
            arrivals(Link { loss, ..megabyte_per_s() }, n).iter().map(Option::is_none).collect();
        let runs: Vec<usize> = lost.chunk_by(|a, b| a == b).filter(|run| run[0]).map(<[bool]>::len).collect();
        let sum: usize = runs.iter().sum();
        let longest = runs.iter().max().copied().unwrap_or(0);
        (sum as f64 / n as f64, sum as f64 / runs.len() as f64, longest)
    };
    let (rate, mean, _) = bursts(Loss::random(0.1));
    assert!((0.097..0.103).contains(&rate) && (1.09..1.13).contains(&mean), "{rate} {mean}");
    let (rate, mean, _) = bursts(Loss::bursts(0.1, 8.0));
    assert!((0.09..0.11).contains(&rate) && (7.5..8.5).contains(&mean), "{rate} {mean}");
    let (_, _, longest) = bursts(Loss::Random { rate: 0.5, burst_max: 3 });
    assert_eq!(longest, 3);
}

#[test]
fn what_is_dark_swallows_and_what_is_long_vanishes() {
    let dark = arrivals(Link { blackouts: vec![ms(10)..ms(20)], ..megabyte_per_s() }, 30);
    assert!(dark.iter().enumerate().all(|(i, at)| at.is_none() == (10..20).contains(&i)));
    let blinking = arrivals(Link { on_off: Some((ms(3), ms(2))), ..megabyte_per_s() }, 30);
    assert!(blinking.iter().enumerate().all(|(i, at)| at.is_none() == (i % 5 >= 3)));
    assert!(arrivals(Link { mtu: PAYLOAD_LEN - 1, ..megabyte_per_s() }, 3).iter().all(Option::is_none));
    let scripted = arrivals(Link { drop: vec![1], late: vec![(2, secs(1))], ..megabyte_per_s() }, 4);
    assert_eq!((scripted[1], scripted[2], scripted[3]), (None, Some(secs(1) + ms(13)), Some(ms(14))));
}

#[test]
fn a_file_is_the_same_however_it_is_cut() {
    let mut whole = [0; 300];
    file::fill(0, &mut whole);
    for start in 0..40 {
        for end in start..80 {
            assert!(file::is_at(start as u64, &whole[start..end]));
        }
    }
    assert!(!file::is_at(1, &whole[..20]));
    let mut kept = Kept::new(300);
    assert_eq!((kept.insert(70..140), kept.insert(0..70), kept.is_complete()), (Ok(()), Ok(()), false));
    assert!(kept.insert(139..141).is_err() && Kept::new(300).insert(299..301).is_err());
}

#[test]
fn the_model_of_tcp_fills_a_link_and_halves_on_loss() {
    let alone = |loss| {
        let link = Link { loss, ..Link::of(10, ms(15)) };
        let mut world = World::new(&link, &link, 1);
        world.add_reno(Duration::ZERO);
        world.run_until(secs(30));
        world.renos[0].slices.iter().sum::<u64>() as f64 / (1_250_000.0 * 30.0)
    };
    let (calm, lossy) = (alone(Loss::None), alone(Loss::random(0.02)));
    assert!((0.85..0.97).contains(&calm), "{calm:.2} of the link");
    // Mathis et al.: 1.22 segments per round trip over the root of the loss, at 2 % and 30 ms: 0.33 of this link.
    assert!((0.2..0.45).contains(&lossy), "{lossy:.2} of the link at 2 % loss");
}
