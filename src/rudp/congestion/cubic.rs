//! CUBIC (RFC 9438), counted in octets, with HyStart++ (RFC 9406) for slow start.

use std::time::Instant;

use super::hystart::{CSS_GROWTH_DIVISOR, Hystart, Phase};
use super::{Acked, Controller, INITIAL_WINDOW_PACKETS, Lost, MINIMUM_WINDOW_PACKETS};

/// RFC 9438 (4.1): C, in packets per second cubed.
const C: f64 = 0.4;

/// RFC 9438 (4.6): the window after a loss, as a share of that before.
const BETA: f64 = 0.7;

/// RFC 9438 (4.3): how many packets per round trip the Reno-friendly window grows while it is below its last maximum.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The state that RFC 9438 (4.1.2) names, in octets.
#[derive(Debug)]
pub struct Cubic {
    packet_len: f64,
    cwnd: f64,
    ssthresh: f64,
    w_max: f64,
    cwnd_prior: f64,
    w_est: f64,
    /// Since when the cubic function grows, and its K in seconds.
    epoch: Option<(Instant, f64)>,
    /// Losses of what was sent before are part of the same congestion event (RFC 9002, 7.3.2).
    recovery_start: Option<Instant>,
    hystart: Hystart,
}

impl Cubic {
    /// In slow start, with the initial window.
    pub fn new(packet_len: u64) -> Cubic {
        let packet_len = packet_len as f64;
        Cubic {
            packet_len,
            cwnd: INITIAL_WINDOW_PACKETS as f64 * packet_len,
            ssthresh: f64::INFINITY,
            w_max: 0.0,
            cwnd_prior: 0.0,
            w_est: 0.0,
            epoch: None,
            recovery_start: None,
            hystart: Hystart::default(),
        }
    }

    fn minimum(&self) -> f64 {
        MINIMUM_WINDOW_PACKETS as f64 * self.packet_len
    }

    fn start_slowly(&mut self, acked: &Acked<'_>) {
        let bytes = acked.bytes as f64;
        // Only the first slow start is judged (RFC 9406, 4.2): later ones know where they end.
        if self.ssthresh.is_finite() {
            self.cwnd += bytes;
            return;
        }
        match self.hystart.on_acked(acked.now, acked.sent_at, acked.rtt.latest()) {
            Phase::SlowStart => self.cwnd += bytes,
            Phase::Conservative => self.cwnd += bytes / CSS_GROWTH_DIVISOR,
            Phase::Done => self.ssthresh = self.cwnd,
        }
    }

    fn avoid_congestion(&mut self, acked: &Acked<'_>) {
        let bytes = acked.bytes as f64;
        let (start, k) = *self.epoch.get_or_insert_with(|| {
            self.w_est = self.cwnd;
            self.w_max = self.w_max.max(self.cwnd);
            // RFC 9438 (4.2), figure 2.
            (acked.now, ((self.w_max - self.cwnd) / self.packet_len / C).cbrt())
        });
        let t = acked.now.saturating_duration_since(start).as_secs_f64();
        let w_cubic = |t: f64| C * (t - k).powi(3) * self.packet_len + self.w_max;
        // RFC 9438 (4.3): as fast as Reno until it passes the window of before the loss, then one packet per round trip.
        let alpha = if self.w_est < self.cwnd_prior { ALPHA } else { 1.0 };
        self.w_est += alpha * self.packet_len * bytes / self.cwnd;
        if w_cubic(t) < self.w_est {
            self.cwnd = self.cwnd.max(self.w_est);
        } else {
            // RFC 9438 (4.4, 4.5).
            let target = w_cubic(t + acked.rtt.srtt().as_secs_f64()).clamp(self.cwnd, 1.5 * self.cwnd);
            self.cwnd += (target - self.cwnd) * bytes / self.cwnd;
        }
    }
}

impl Controller for Cubic {
    fn on_acked(&mut self, acked: &Acked<'_>) {
        let in_recovery = self.recovery_start.is_some_and(|start| acked.sent_at <= start);
        if in_recovery || !acked.window_limited {
            return;
        }
        if self.cwnd < self.ssthresh {
            self.start_slowly(acked);
        } else {
            self.avoid_congestion(acked);
        }
    }

    fn on_lost(&mut self, lost: &Lost) {
        if self.recovery_start.is_some_and(|start| lost.sent_at <= start) {
            return;
        }
        self.recovery_start = Some(lost.now);
        self.epoch = None;
        self.cwnd_prior = self.cwnd;
        // RFC 9438 (4.7): a flow that did not reach its last maximum makes room for others.
        self.w_max = if self.cwnd < self.w_max { self.cwnd * (1.0 + BETA) / 2.0 } else { self.cwnd };
        self.ssthresh = (self.cwnd * BETA).max(self.minimum());
        self.cwnd = self.ssthresh;
    }

    fn on_persistent_congestion(&mut self) {
        self.ssthresh = (self.cwnd * BETA).max(self.minimum());
        self.cwnd = self.minimum();
        self.epoch = None;
        self.recovery_start = None;
    }

    fn cwnd(&self) -> u64 {
        // A window is far below 2^53 octets.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive and far below 2^53"
        )]
        let cwnd = self.cwnd as u64;
        cwnd
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rudp::rtt::Rtt;
    use std::time::Duration;

    const PACKET: u64 = 1_000;
    const RTT: Duration = Duration::from_millis(100);

    /// A controller whose whole window is acknowledged once per round trip.
    struct Path {
        cubic: Cubic,
        now: Instant,
        rtt: Rtt,
    }

    impl Path {
        fn new() -> Path {
            let mut rtt = Rtt::new(RTT);
            rtt.on_sample(RTT, Duration::ZERO);
            Path { cubic: Cubic::new(PACKET), now: Instant::now(), rtt }
        }

        fn round(&mut self) -> u64 {
            let sent_at = self.now;
            self.now += RTT;
            for _ in 0..self.cubic.cwnd() / PACKET {
                self.cubic.on_acked(&Acked::of(self.now, sent_at, PACKET, &self.rtt));
            }
            self.cubic.cwnd()
        }

        fn lose(&mut self) {
            self.cubic.on_lost(&Lost { now: self.now, sent_at: self.now, bytes: PACKET });
        }
    }

    #[test]
    fn slow_start_doubles_and_a_round_of_losses_counts_once() {
        let mut path = Path::new();
        assert_eq!(path.cubic.cwnd(), 10_000);
        assert_eq!((path.round(), path.round()), (20_000, 40_000));
        path.lose();
        path.lose();
        assert_eq!(path.cubic.cwnd(), 28_000);
    }

    #[test]
    fn the_window_is_back_at_its_maximum_after_k_seconds() {
        let mut path = Path::new();
        while path.round() < 1_000_000 {}
        let before = path.cubic.cwnd() as f64;
        path.lose();
        let k = (before * (1.0 - BETA) / PACKET as f64 / C).cbrt();
        let rounds = k / RTT.as_secs_f64();
        let mut after = 0.0;
        (0..).take_while(|&round| f64::from(round) < rounds).for_each(|_: i32| after = path.round() as f64);
        assert!((0.95..1.05).contains(&(after / before)), "{after} against {before}");
        assert!(path.round() as f64 <= before * 1.06, "flat around the maximum");
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut path = Path::new();
        let acked = Acked { window_limited: false, ..Acked::of(path.now, path.now, PACKET, &path.rtt) };
        path.cubic.on_acked(&acked);
        assert_eq!(path.cubic.cwnd(), 10_000);
    }

    #[test]
    fn the_window_never_falls_below_two_packets() {
        let mut path = Path::new();
        for _ in 0..20 {
            path.now += RTT;
            path.lose();
        }
        assert_eq!(path.cubic.cwnd(), 2 * PACKET);
        path.cubic.on_persistent_congestion();
        assert_eq!(path.cubic.cwnd(), 2 * PACKET);
    }
}
