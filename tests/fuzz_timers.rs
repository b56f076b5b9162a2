//! Properties of what keeps time: the round trip and its timeout, the patience with late packets, the pacer.

use std::time::{Duration, Instant};

use packetboat::rudp::pacer::Pacer;
use packetboat::rudp::recovery::{PACKET_THRESHOLD, Reordering};
use packetboat::rudp::rtt::{PTO_MAX, Rtt};
use proptest::prelude::*;

/// Samples and ACK delays, in microseconds.
fn samples() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((1u64..10_000_000, 0u64..100_000), 1..60)
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

/// RFC 6298 and RFC 9002 (5.3) in floating-point seconds.
#[derive(Default)]
struct Model {
    min: f64,
    srtt: f64,
    rttvar: f64,
}

impl Model {
    fn on_sample(&mut self, sample: f64, ack_delay: f64, is_first: bool) {
        if is_first {
            *self = Model { min: sample, srtt: sample, rttvar: sample / 2.0 };
            return;
        }
        self.min = self.min.min(sample);
        let adjusted = if sample >= self.min + ack_delay { sample - ack_delay } else { sample };
        self.rttvar = 0.75 * self.rttvar + 0.25 * (self.srtt - adjusted).abs();
        self.srtt = 0.875 * self.srtt + 0.125 * adjusted;
    }
}

proptest! {
    #[test]
    fn the_round_trip_follows_the_model_and_stays_among_its_samples(samples in samples()) {
        let (mut rtt, mut model) = (Rtt::new(us(50_000)), Model::default());
        for (i, &(sample, delay)) in samples.iter().enumerate() {
            rtt.on_sample(us(sample), us(delay));
            model.on_sample(us(sample).as_secs_f64(), us(delay).as_secs_f64(), i == 0);
            prop_assert!((rtt.srtt().as_secs_f64() - model.srtt).abs() < 1e-6, "{:?}, model {}", rtt, model.srtt);
            let seen = &samples[..=i];
            prop_assert_eq!(Some(rtt.min()), seen.iter().map(|&(sample, _)| us(sample)).min());
            let largest = seen.iter().map(|&(sample, _)| us(sample)).max().expect("one at least");
            // Each mean is cut to a nanosecond.
            prop_assert!(rtt.min() <= rtt.srtt() + Duration::from_nanos(10) && rtt.srtt() <= largest);
            let pto = (model.srtt + (4.0 * model.rttvar).max(0.001) + 0.001).min(PTO_MAX.as_secs_f64());
            prop_assert!((rtt.pto().as_secs_f64() - pto).abs() < 1e-5);
        }
    }

    #[test]
    fn the_probe_timeout_only_grows_until_it_is_answered(samples in samples(), timeouts in 1u32..100) {
        let mut rtt = Rtt::new(us(50_000));
        samples.iter().for_each(|&(sample, delay)| rtt.on_sample(us(sample), us(delay)));
        let first = rtt.pto();
        for passed in 1..=timeouts {
            let before = rtt.pto();
            rtt.back_off();
            prop_assert_eq!(rtt.pto(), (before * 2).min(PTO_MAX), "after {} timeouts", passed);
        }
        rtt.reset_backoff();
        prop_assert_eq!(rtt.pto(), first);
    }

    #[test]
    fn patience_grows_with_each_surprise_within_its_bounds(
        samples in samples(),
        gaps in prop::collection::vec(0u64..20_000_000, 0..40),
    ) {
        let mut rtt = Rtt::new(us(50_000));
        samples.iter().for_each(|&(sample, delay)| rtt.on_sample(us(sample), us(delay)));
        let (mut reordering, mut now) = (Reordering::default(), Instant::now());
        let round_trip = rtt.srtt().max(rtt.latest());
        let calm = reordering.loss_delay(&rtt);
        prop_assert_eq!(calm, (round_trip * 9 / 8).max(us(1_000)));
        for gap in gaps {
            let before = reordering.loss_delay(&rtt);
            now += us(gap);
            reordering.on_spurious(now, &rtt);
            prop_assert!(reordering.loss_delay(&rtt) >= before);
            prop_assert!(reordering.loss_delay(&rtt) <= calm.max(round_trip + rtt.srtt()));
            prop_assert_eq!(reordering.packet_threshold(), u64::MAX);
        }
        reordering.on_ack(now + rtt.srtt() * 16 + us(1), &rtt);
        prop_assert_eq!((reordering.loss_delay(&rtt), reordering.packet_threshold()), (calm, PACKET_THRESHOLD));
    }

    #[test]
    fn whatever_the_pacer_lets_go_keeps_to_the_rate(
        rate in 10_000u64..2_000_000_000,
        gaps in prop::collection::vec(0u64..50_000, 1..200),
    ) {
        const PACKET_LEN: u64 = 1_472;
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        pacer.set_rate(rate, us(40_000), PACKET_LEN, u64::MAX);
        let burst = pacer.budget(start);
        prop_assert!(burst >= 2 * PACKET_LEN);
        let (mut now, mut sent) = (start, 0);
        for gap in gaps {
            now += us(gap);
            while pacer.budget(now) > 0 && sent < 1 << 30 {
                pacer.on_sent(now, PACKET_LEN);
                sent += PACKET_LEN;
            }
            prop_assert!(sent >= 1 << 30 || pacer.deadline().is_some_and(|at| at > now), "it says when to come again");
            let allowed = rate as f64 * (now - start).as_secs_f64() + (burst + PACKET_LEN) as f64;
            // What is left of a nanosecond is lost with each packet.
            prop_assert!(sent as f64 <= allowed * 1.01 + PACKET_LEN as f64, "{sent} octets, {allowed} allowed");
        }
    }
}
