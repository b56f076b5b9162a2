//! What [`bbr`](super::bbr) believes of the path: its bandwidth, its round trip, and which losses are the weather.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::delivery::RateSample;

/// BBR v1 (4.1.2.2 of draft-cardwell-iccrg-bbr-congestion-control-00): the bandwidth is the largest of ten rounds.
const BANDWIDTH_ROUNDS: u64 = 10;

/// The same draft (4.1.3): the round trip is the smallest of ten seconds.
pub(super) const MIN_RTT_LIFE: Duration = Duration::from_secs(10);

/// BBR v3 (draft-ietf-ccwg-bbr, ProbeRTTInterval): it is measured anew after five seconds already,
const MIN_RTT_UNSEEN_MAX: Duration = Duration::from_secs(5);

/// but, ours, not by whoever has seen the queue as good as empty meanwhile, for alone on a path that is the rule.
const MIN_RTT_SEEN: f64 = 1.0 + 1.0 / 64.0;

/// Ours: a round whose smallest round trip is a tenth above the path's had a queue throughout.
const QUEUE_RTT_GROWTH: f64 = 1.1;

/// Ours: on a path within one machine the scheduler, not the wire, decides when an ACK comes; a window for less than
/// this would wait for it. There the peer's socket buffer is the bound ([`super::super::Connection`]).
const RTT_WINDOW_MIN: Duration = Duration::from_millis(1);

/// Ours: as many rounds as one cycle of gains has, so that one of them was sent below the bandwidth.
const LOSS_ROUNDS: usize = 8;

/// Ours: a round of fewer packets says little about a share; it is counted together with the next.
const LOSS_PACKETS_MIN: u64 = 24;

/// Ours: beyond this a loss is not believed to be weather, so that the correction raises the pace by half at most.
pub(super) const LOSS_FLOOR_MAX: f64 = 0.35;

/// The largest of the samples of the last rounds: a queue in which each is larger than all after it.
#[derive(Debug, Default)]
struct MaxFilter(VecDeque<(u64, u64)>);

impl MaxFilter {
    fn insert(&mut self, round: u64, sample: u64) {
        // One of the same round that is larger outlives it.
        if self.0.back().is_some_and(|&(newest, larger)| newest == round && larger >= sample) {
            return;
        }
        while self.0.back().is_some_and(|&(_, smaller)| smaller <= sample) {
            self.0.pop_back();
        }
        self.0.push_back((round, sample));
        while self.0.front().is_some_and(|&(old, _)| old + BANDWIDTH_ROUNDS <= round) {
            self.0.pop_front();
        }
    }

    fn max(&self) -> u64 {
        self.0.front().map_or(0, |&(_, max)| max)
    }
}

/// The share of packets lost per round, and the share that is lost whatever we do.
#[derive(Debug, Default)]
struct LossModel {
    acked_bytes: u64,
    lost_bytes: u64,
    shares: VecDeque<f64>,
}

impl LossModel {
    /// Ends a round; gives its share of loss once enough is counted. What is lost while a queue stands may be its overflow,
    /// whoever fills it: such a round can lower the weather, never raise it.
    fn end_round(&mut self, packet_len: u64, queued: bool) -> Option<f64> {
        let total = self.acked_bytes + self.lost_bytes;
        if total < LOSS_PACKETS_MIN * packet_len {
            return None;
        }
        let share = self.lost_bytes as f64 / total as f64;
        (self.acked_bytes, self.lost_bytes) = (0, 0);
        let is_known = self.shares.len() == LOSS_ROUNDS;
        if queued && (!is_known || share >= self.floor()) {
            return Some(share);
        }
        self.shares.push_back(share);
        if self.shares.len() > LOSS_ROUNDS {
            self.shares.pop_front();
        }
        Some(share)
    }

    /// The smallest share of a whole cycle: what is lost even when we send less than the path takes is not a queue
    /// that overflows. Nothing is known before a cycle is over.
    fn floor(&self) -> f64 {
        if self.shares.len() < LOSS_ROUNDS {
            return 0.0;
        }
        self.shares.iter().copied().fold(LOSS_FLOOR_MAX, f64::min)
    }
}

/// What a finished round showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// The share of its packets that was lost beyond the weather, where enough were counted.
    pub(super) excess_loss: f64,
    /// The most that was in flight in it.
    pub(super) inflight_max: u64,
    /// Whether there was a queue from its beginning to its end.
    pub(super) queued: bool,
}

/// The model of one path.
#[derive(Debug)]
pub(super) struct Model {
    packet_len: u64,
    bandwidth: MaxFilter,
    loss: LossModel,
    min_rtt: Duration,
    min_rtt_at: Option<Instant>,
    /// When a round trip was last as good as the smallest.
    min_rtt_seen_at: Option<Instant>,
    round: u64,
    round_ends_at_bytes: u64,
    round_inflight_max: u64,
    round_rtt_min: Duration,
    /// That of the last round that is over.
    last_rtt_min: Duration,
}

impl Model {
    pub(super) fn new(packet_len: u64) -> Model {
        Model {
            packet_len,
            bandwidth: MaxFilter::default(),
            loss: LossModel::default(),
            min_rtt: Duration::MAX,
            min_rtt_at: None,
            min_rtt_seen_at: None,
            round: 0,
            round_ends_at_bytes: 0,
            round_inflight_max: 0,
            round_rtt_min: Duration::MAX,
            last_rtt_min: Duration::ZERO,
        }
    }

    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.loss.lost_bytes += bytes;
    }

    /// Takes what an ACK shows; gives the round that it ended.
    pub(super) fn on_acked(
        &mut self,
        now: Instant,
        bytes: u64,
        in_flight: u64,
        rtt: Duration,
        rate: Option<&RateSample>,
    ) -> Option<Round> {
        self.loss.acked_bytes += bytes;
        self.round_inflight_max = self.round_inflight_max.max(in_flight + bytes);
        self.round_rtt_min = self.round_rtt_min.min(rtt);
        if rtt <= self.min_rtt {
            self.renew_min_rtt(now, rtt);
        } else if rtt <= self.min_rtt.mul_f64(MIN_RTT_SEEN) {
            self.min_rtt_seen_at = Some(now);
        }
        let rate = rate?;
        let ended = (rate.prior_delivered_bytes >= self.round_ends_at_bytes).then(|| self.end_round(rate));
        // A sender without data shows how much it had, not how much the path takes; but never too much.
        let sample = rate.bytes_per_s();
        if rate.interval >= self.min_rtt && (!rate.app_limited || sample > self.bandwidth.max()) {
            self.bandwidth.insert(self.round, sample);
        }
        ended
    }

    fn end_round(&mut self, rate: &RateSample) -> Round {
        self.round += 1;
        self.round_ends_at_bytes = rate.prior_delivered_bytes + rate.delivered_bytes;
        let weather = self.loss.floor();
        let queued = self.round_rtt_min > self.min_rtt.mul_f64(QUEUE_RTT_GROWTH);
        let share = self.loss.end_round(self.packet_len, queued).unwrap_or(0.0);
        let ended =
            Round { excess_loss: (share - weather).max(0.0), inflight_max: self.round_inflight_max, queued };
        self.last_rtt_min = self.round_rtt_min;
        (self.round_inflight_max, self.round_rtt_min) = (0, Duration::MAX);
        ended
    }

    /// What reaches the other end, octets per second; 0 when nothing is known.
    pub(super) fn delivered_rate(&self) -> u64 {
        self.bandwidth.max()
    }

    /// What the bottleneck passes on: the weather takes its share only behind it.
    pub(super) fn bandwidth(&self) -> f64 {
        self.bandwidth.max() as f64 / (1.0 - self.loss.floor())
    }

    /// The round trip without a queue; `MAX` before the first sample.
    pub(super) fn min_rtt(&self) -> Duration {
        self.min_rtt
    }

    /// Whether the round trip has to be measured again without a queue.
    pub(super) fn is_min_rtt_old(&self, now: Instant) -> bool {
        let older = |at: Option<Instant>, life| at.is_some_and(|at| now.saturating_duration_since(at) > life);
        older(self.min_rtt_at, MIN_RTT_LIFE) || older(self.min_rtt_seen_at, MIN_RTT_UNSEEN_MAX)
    }

    /// Takes a new round trip for the smallest, though it is larger.
    pub(super) fn renew_min_rtt(&mut self, now: Instant, rtt: Duration) {
        (self.min_rtt, self.min_rtt_at, self.min_rtt_seen_at) = (rtt, Some(now), Some(now));
    }

    /// Octets of ours that stood in the queue throughout the last round (Vegas' `diff`).
    pub(super) fn queued_bytes(&self) -> f64 {
        self.bandwidth() * self.last_rtt_min.saturating_sub(self.min_rtt).as_secs_f64()
    }

    /// Octets that fill the path and not its queue.
    pub(super) fn bdp(&self) -> f64 {
        if self.min_rtt == Duration::MAX {
            0.0
        } else {
            self.bandwidth() * self.min_rtt.max(RTT_WINDOW_MIN).as_secs_f64()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(model: &mut LossModel, lost: u64, queued: bool) -> Option<f64> {
        model.acked_bytes += (100 - lost) * 1_000;
        model.lost_bytes += lost * 1_000;
        model.end_round(1_000, queued)
    }

    #[test]
    fn only_what_is_lost_in_every_round_of_a_cycle_is_weather() {
        let mut model = LossModel::default();
        for lost in [20, 22, 19, 21, 20, 18, 23] {
            share(&mut model, lost, false);
        }
        assert_eq!(model.floor(), 0.0, "not before the cycle is over");
        share(&mut model, 30, false);
        assert_eq!(model.floor(), 0.18);
        // A queue that overflows does not when less is sent.
        share(&mut model, 0, false);
        assert_eq!(model.floor(), 0.0);
    }

    #[test]
    fn what_a_standing_queue_loses_is_never_weather() {
        let mut model = LossModel::default();
        for _ in 0..2 * LOSS_ROUNDS {
            assert_eq!(share(&mut model, 30, true), Some(0.3));
        }
        assert_eq!(model.floor(), 0.0, "others may overflow the queue however little we send");
        for _ in 0..LOSS_ROUNDS {
            share(&mut model, 10, false);
        }
        for lost in [30, 4] {
            share(&mut model, lost, true);
        }
        assert_eq!(model.floor(), 0.04, "but a fair round under a queue shows that the weather is better");
    }

    #[test]
    fn a_bandwidth_lives_for_ten_rounds() {
        let mut filter = MaxFilter::default();
        for (round, sample) in [(0, 5), (1, 9), (2, 3), (5, 7)] {
            filter.insert(round, sample);
        }
        assert_eq!(filter.max(), 9);
        filter.insert(11, 1);
        assert_eq!(filter.max(), 7);
        filter.insert(15, 2);
        assert_eq!(filter.max(), 2, "the one of 11 is hidden behind it");
    }
}
