//! How fast the network delivers: delivery-rate samples (draft-cheng-iccrg-delivery-rate-estimation-02).
//!
//! Each packet remembers what had been delivered when it was sent; its acknowledgement then spans an interval of both
//! sending and acknowledging, and the longer of the two bounds the rate from above.

use std::time::{Duration, Instant};

/// What a packet remembers of the moment it was sent. There is one for each packet in the books, so it is kept small: a
/// number of nanoseconds takes half of what an [`Instant`] takes.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    delivered_bytes: u64,
    delivered_at_ns: u64,
    first_sent_at_ns: u64,
    lost_bytes: u64,
    app_limited: bool,
}

/// One estimate of the path's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSample {
    /// Octets of packets delivered in the interval.
    pub delivered_bytes: u64,
    /// Octets of packets found lost in the interval.
    pub lost_bytes: u64,
    /// The interval.
    pub interval: Duration,
    /// Whether the sender had nothing to send in it: then the path may be faster.
    pub app_limited: bool,
    /// What had been delivered in all when the interval's last packet was sent: tells rounds apart.
    pub prior_delivered_bytes: u64,
}

impl RateSample {
    /// Octets per second.
    pub fn bytes_per_s(&self) -> u64 {
        let nanos = self.interval.as_nanos().max(1);
        u64::try_from(u128::from(self.delivered_bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
    }
}

/// The connection's books of delivery.
#[derive(Debug, Default)]
pub struct Delivery {
    delivered_bytes: u64,
    lost_bytes: u64,
    /// When the first packet was sent: times in nanoseconds count from here.
    began_at: Option<Instant>,
    delivered_at_ns: u64,
    first_sent_at_ns: u64,
    /// Until so much is delivered, samples are of a sender that had nothing to send.
    app_limited_until: Option<u64>,
    newest: Option<(Instant, Snapshot)>,
}

impl Delivery {
    /// A packet is sent; `idle` when nothing else is in flight, so that intervals do not span the pause before.
    pub fn on_sent(&mut self, now: Instant, idle: bool) -> Snapshot {
        if idle {
            self.delivered_at_ns = self.nanos(now);
            self.first_sent_at_ns = self.delivered_at_ns;
        }
        Snapshot {
            delivered_bytes: self.delivered_bytes,
            delivered_at_ns: self.delivered_at_ns,
            first_sent_at_ns: self.first_sent_at_ns,
            lost_bytes: self.lost_bytes,
            app_limited: self.app_limited_until.is_some(),
        }
    }

    /// The sender has nothing to send while the window would allow it.
    pub fn on_app_limited(&mut self, bytes_in_flight: u64) {
        self.app_limited_until = Some(self.delivered_bytes + bytes_in_flight.max(1));
    }

    /// A packet of `len` octets, sent at `sent_at`, is acknowledged for the first time. A [sample](Self::sample) follows.
    pub fn on_acked(&mut self, sent_at: Instant, snapshot: &Snapshot, len: u64) {
        self.delivered_bytes += len;
        if self.newest.is_none_or(|(_, newest)| snapshot.delivered_bytes >= newest.delivered_bytes) {
            self.newest = Some((sent_at, *snapshot));
        }
        if self.app_limited_until.is_some_and(|until| self.delivered_bytes > until) {
            self.app_limited_until = None;
        }
    }

    /// Packets of `len` octets in all are found lost.
    pub fn on_lost(&mut self, len: u64) {
        self.lost_bytes += len;
    }

    /// The sample of what was acknowledged since the last call.
    pub fn sample(&mut self, now: Instant) -> Option<RateSample> {
        let (sent_at, newest) = self.newest.take()?;
        (self.first_sent_at_ns, self.delivered_at_ns) = (self.nanos(sent_at), self.nanos(now));
        let send_elapsed = self.first_sent_at_ns.saturating_sub(newest.first_sent_at_ns);
        let ack_elapsed = self.delivered_at_ns.saturating_sub(newest.delivered_at_ns);
        let interval = Duration::from_nanos(send_elapsed.max(ack_elapsed));
        (!interval.is_zero()).then_some(RateSample {
            delivered_bytes: self.delivered_bytes - newest.delivered_bytes,
            lost_bytes: self.lost_bytes - newest.lost_bytes,
            interval,
            app_limited: newest.app_limited,
            prior_delivered_bytes: newest.delivered_bytes,
        })
    }

    fn nanos(&mut self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(*self.began_at.get_or_insert(at));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn the_rate_is_that_of_the_slower_of_sending_and_acknowledging() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Ten packets sent in 10 ms over 50 ms of path; the bottleneck lets one go per 5 ms, and each ACK sends another.
        let mut delivery = Delivery::default();
        let mut sent: VecDeque<_> = (0..10).map(|i| (at(i), delivery.on_sent(at(i), i == 0))).collect();
        let mut rates = Vec::new();
        for i in 0..30 {
            let now = at(50 + 5 * i);
            let (sent_at, snapshot) = sent.pop_front().expect("ten are on their way");
            delivery.on_acked(sent_at, &snapshot, 1_000);
            rates.extend(delivery.sample(now).map(|sample| sample.bytes_per_s()));
            sent.push_back((now, delivery.on_sent(now, false)));
        }
        assert_eq!(rates.first(), Some(&20_000), "1,000 octets in 50 ms");
        assert_eq!(rates.last(), Some(&200_000), "1,000 octets in 5 ms");
        assert!(rates.iter().all(|&rate| rate <= 200_000), "{rates:?}");
    }

    #[test]
    fn a_sender_without_data_marks_its_samples() {
        let (start, mut delivery) = (Instant::now(), Delivery::default());
        let later = start + Duration::from_millis(10);
        let first = delivery.on_sent(start, true);
        delivery.on_app_limited(1_000);
        let second = delivery.on_sent(start, false);
        delivery.on_acked(start, &first, 1_000);
        assert!(!delivery.sample(later).expect("a sample").app_limited);
        delivery.on_acked(start, &second, 1_000);
        assert!(delivery.sample(later).expect("a sample").app_limited);
        let third = delivery.on_sent(later, true);
        delivery.on_acked(later, &third, 1_000);
        assert!(!delivery.sample(later + Duration::from_millis(10)).expect("a sample").app_limited);
    }
}
