//! Round-trip time and the probe timeout (RFC 6298, RFC 9002).

use std::time::Duration;

/// RFC 9002 (6.1.2): the precision we may expect of timers.
pub(super) const GRANULARITY: Duration = Duration::from_millis(1);

/// Ours: a receiver acknowledges as soon as its socket is drained, so only the scheduler holds an ACK up.
const MAX_ACK_DELAY: Duration = Duration::from_millis(1);

/// Ours: a probe round at 30 % loss each way succeeds with 0.49; uncapped doubling gives up too early.
pub const PTO_MAX: Duration = Duration::from_secs(3);

/// The estimator of one path.
#[derive(Debug, Clone)]
pub struct Rtt {
    latest: Duration,
    min: Option<Duration>,
    srtt: Duration,
    rttvar: Duration,
    backoff: u32,
}

impl Rtt {
    /// Before the first sample, a guess stands for it; half of it is the variation (RFC 9002, 5.3).
    pub fn new(guess: Duration) -> Rtt {
        Rtt { latest: guess, min: None, srtt: guess, rttvar: guess / 2, backoff: 0 }
    }

    /// Takes a sample: from sending a packet to its first acknowledgement, which says how long the peer held it back.
    pub fn on_sample(&mut self, sample: Duration, ack_delay: Duration) {
        self.latest = sample;
        let Some(min) = self.min else {
            // RFC 6298 (2.2).
            (self.min, self.srtt, self.rttvar) = (Some(sample), sample, sample / 2);
            return;
        };
        let min = min.min(sample);
        self.min = Some(min);
        // RFC 9002 (5.3): the peer's word is believed only as far as it leaves the smallest round trip seen.
        let adjusted = if sample >= min + ack_delay { sample - ack_delay } else { sample };
        // RFC 6298 (2.3): alpha is 1/8, beta is 1/4.
        self.rttvar = (self.rttvar * 3 + self.srtt.abs_diff(adjusted)) / 4;
        self.srtt = (self.srtt * 7 + adjusted) / 8;
    }

    /// The smoothed round trip.
    pub fn srtt(&self) -> Duration {
        self.srtt
    }

    /// The smallest round trip seen; the guess before the first sample.
    pub fn min(&self) -> Duration {
        self.min.unwrap_or(self.srtt)
    }

    /// The last sample.
    pub fn latest(&self) -> Duration {
        self.latest
    }

    /// Whether a sample was taken.
    pub fn is_measured(&self) -> bool {
        self.min.is_some()
    }

    /// The probe timeout, doubled for each that has passed without an answer (RFC 9002, 6.2.1), capped.
    pub fn pto(&self) -> Duration {
        let base = self.srtt + (self.rttvar * 4).max(GRANULARITY) + MAX_ACK_DELAY;
        base.saturating_mul(1 << self.backoff.min(16)).min(PTO_MAX)
    }

    /// A probe timeout has passed.
    pub fn back_off(&mut self) {
        self.backoff += 1;
    }

    /// The peer acknowledged something new.
    pub fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn follows_the_formulas_of_rfc_6298() {
        let mut rtt = Rtt::new(ms(333));
        rtt.on_sample(ms(100), ms(50));
        assert_eq!(
            (rtt.srtt(), rtt.rttvar, rtt.min()),
            (ms(100), ms(50), ms(100)),
            "the first sample is taken whole"
        );
        rtt.on_sample(ms(180), Duration::ZERO);
        assert_eq!((rtt.srtt(), rtt.rttvar), (ms(110), Duration::from_micros(57_500)));
        rtt.on_sample(ms(190), ms(80));
        assert_eq!(rtt.srtt(), ms(110), "the ack delay is taken off");
        rtt.on_sample(ms(110), ms(80));
        assert_eq!(rtt.min(), ms(100));
        assert_eq!(rtt.srtt(), ms(110), "but never below the smallest round trip");
    }

    #[test]
    fn the_probe_timeout_doubles_to_its_cap() {
        let mut rtt = Rtt::new(ms(100));
        let ptos: Vec<_> = (0..7)
            .map(|_| {
                let pto = rtt.pto();
                rtt.back_off();
                pto
            })
            .collect();
        assert_eq!(ptos[..5], [ms(301), ms(602), ms(1204), ms(2408), PTO_MAX]);
        assert_eq!(ptos[6], PTO_MAX);
        rtt.reset_backoff();
        assert_eq!(rtt.pto(), ms(301));
    }
}
