//! Pacing: spreads the window over the round trip instead of sending it in one burst.

use std::time::{Duration, Instant};

/// Ours: what may leave at once is what the rate carries in this time. Timers are late by a tenth of it.
const BURST: Duration = Duration::from_millis(1);

/// A burst has at least two packets, so that one is not alone when it is lost,
const BURST_PACKETS_MIN: u64 = 2;

/// and at most as many as one GSO batch of 64 KB holds, because a short queue on the path must hold it,
const BURST_PACKETS_MAX: u64 = 44;

/// but never less than this time is worth: on a path as fast as the machine a timer is as late as that.
const BURST_MIN: Duration = Duration::from_micros(250);

/// Below this round trip the window alone is finer than any timer.
const RTT_PACED_MIN: Duration = Duration::from_millis(1);

/// A schedule for octets. Being late is made up for, up to one burst; the *scheduled* time goes on from itself.
#[derive(Debug, Default)]
pub struct Pacer {
    next_at: Option<Instant>,
    /// Octets per second; `None`: not paced.
    rate: Option<u64>,
    burst_bytes: u64,
    /// A burst is a whole batch: more than half a Gbit/s.
    is_fast: bool,
}

impl Pacer {
    /// Sets the rate in octets per second for a path of this round trip, for packets of this size.
    pub fn set_rate(&mut self, bytes_per_s: u64, srtt: Duration, packet_len: u64, burst_bytes_max: u64) {
        if srtt < RTT_PACED_MIN {
            self.rate = None;
            return;
        }
        let rate = bytes_per_s.max(1);
        self.rate = Some(rate);
        let worth = |time: Duration| {
            u64::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(u64::MAX)
        };
        self.burst_bytes = worth(BURST)
            .clamp(BURST_PACKETS_MIN * packet_len, BURST_PACKETS_MAX * packet_len)
            .max(worth(BURST_MIN))
            .min(burst_bytes_max.max(BURST_PACKETS_MIN * packet_len));
        self.is_fast = self.burst_bytes >= BURST_PACKETS_MAX * packet_len;
    }

    /// How many octets may leave now. On a fast path nothing before [`deadline`](Self::deadline), because batches are cheap
    /// and single packets dear, and whoever asks often enough would get single packets.
    pub fn budget(&self, now: Instant) -> u64 {
        let (Some(rate), Some(next_at)) = (self.rate, self.next_at) else { return self.full_burst() };
        if self.is_fast && self.deadline().is_some_and(|deadline| now < deadline) {
            return 0;
        }
        let earned = |time: Duration| {
            u64::try_from(u128::from(rate) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
        };
        match now.checked_duration_since(next_at) {
            Some(late) => self.burst_bytes.min(earned(late).saturating_add(1)),
            None => 0,
        }
    }

    fn full_burst(&self) -> u64 {
        if self.rate.is_some() { self.burst_bytes } else { u64::MAX }
    }

    /// So many octets left at `now`.
    pub fn on_sent(&mut self, now: Instant, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let time = |bytes: u64| {
            Duration::from_nanos(
                u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX),
            )
        };
        // Whoever was idle starts with one burst, not with all that was not sent meanwhile.
        let earliest = now.checked_sub(time(self.burst_bytes)).unwrap_or(now);
        self.next_at = Some(self.next_at.map_or(earliest, |at| at.max(earliest)) + time(bytes));
    }

    /// When at least half a burst may leave again.
    pub fn deadline(&self) -> Option<Instant> {
        let rate = self.rate?;
        let half = Duration::from_nanos(
            u64::try_from(u128::from(self.burst_bytes / 2) * 1_000_000_000 / u128::from(rate)).ok()?,
        );
        self.next_at.map(|at| at + half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_however_late_the_timer_fires() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        let rate = 12_500_000;
        pacer.set_rate(rate, Duration::from_millis(40), 1_472, u64::MAX);
        let (mut now, mut sent) = (start, 0);
        for turn in 0..1_000 {
            let packets = pacer.budget(now).div_ceil(1_472);
            pacer.on_sent(now, packets * 1_472);
            sent += packets * 1_472;
            now = pacer.deadline().expect("paced") + Duration::from_micros(turn % 120);
        }
        let allowed = rate as f64 * (now - start).as_secs_f64();
        assert!((0.98..1.02).contains(&(sent as f64 / allowed)), "{sent} octets, {allowed} by the rate");
    }

    #[test]
    fn whoever_asks_all_the_time_gets_half_bursts_and_no_single_packets() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        pacer.set_rate(1_000_000_000, Duration::from_millis(40), 1_472, u64::MAX);
        pacer.on_sent(start, pacer.budget(start));
        for microsecond in 1..2_000 {
            let now = start + Duration::from_micros(microsecond);
            let budget = pacer.budget(now);
            assert_eq!(budget > 0, pacer.deadline().is_some_and(|at| at <= now), "after {microsecond} us");
            assert!(budget == 0 || budget >= 125_000, "{budget} octets after {microsecond} us");
            if budget > 0 {
                pacer.on_sent(now, budget);
            }
        }
    }

    #[test]
    fn an_idle_sender_earns_one_burst() {
        let start = Instant::now();
        let mut pacer = Pacer::default();
        pacer.set_rate(1_000_000, Duration::from_millis(40), 1_000, u64::MAX);
        assert_eq!(pacer.budget(start), 2_000);
        pacer.on_sent(start, 2_000);
        assert_eq!(pacer.budget(start + Duration::from_secs(9)), 2_000);
        pacer.on_sent(start + Duration::from_secs(9), 2_000);
        assert!(pacer.budget(start + Duration::from_secs(9)) <= 1);
    }

    #[test]
    fn a_short_path_is_not_paced() {
        let mut pacer = Pacer::default();
        pacer.set_rate(1_000, Duration::from_micros(100), 1_000, u64::MAX);
        pacer.on_sent(Instant::now(), 1 << 30);
        assert_eq!((pacer.budget(Instant::now()), pacer.deadline()), (u64::MAX, None));
    }
}
