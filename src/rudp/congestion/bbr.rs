//! A model-based controller in the manner of BBR: it sends as fast as the path delivers, and keeps its queue short.
//!
//! The phases and gains are those of BBR v1 (draft-cardwell-iccrg-bbr-congestion-control-00); the bound on what is in
//! flight after a loss from a full queue follows BBR v2 and v3 (draft-ietf-ccwg-bbr). Ours: the share of loss that
//! stays when less is sent is weather, not congestion (`bbr_model`), start-up learns the bottleneck from the spacing of
//! the first acknowledgements, and a cruising flow keeps a few packets in the queue, as many as every other one: that is
//! what makes flows equal (FAST TCP: Wei, Jin, Low and Hegde 2006).

use std::time::{Duration, Instant};

use super::bbr_model::{LOSS_FLOOR_MAX, Model, Round};
use super::{Acked, Controller, INITIAL_WINDOW_PACKETS, Lost, MINIMUM_WINDOW_PACKETS};

/// BBR v1 (4.3.2.1): 2/ln 2 doubles the rate in each round.
const STARTUP_GAIN: f64 = 2.89;

/// BBR v1 (4.3.3): empties in one round what start-up has queued.
const DRAIN_GAIN: f64 = 1.0 / STARTUP_GAIN;

/// BBR v1 (4.3.4.2): one round asks for more, one gives back what that has queued, six go by.
const PROBE_GAIN: f64 = 1.25;
const GIVE_BACK_GAIN: f64 = 0.75;
const CYCLE_STEPS: usize = 8;

/// FAST TCP's alpha, as large as Vegas' upper bound: so many packets of each flow may stand in the queue while it
/// cruises. Whoever has a larger share of the path has more in its queue, and gives way. Six made eight flows no fairer.
const CRUISE_QUEUE_PACKETS: f64 = 4.0;

/// FAST TCP's gamma: half of what is too much goes in a round trip; all of it would swing, for news is a round old.
const CRUISE_CORRECTION: f64 = 0.5;

/// Ours: less than 0.6 would leave too little to TCP's neighbour; more than a probe is not asked for.
const CRUISE_GAIN_MIN: f64 = 0.6;

/// Ours: who shares the path with others that fill its queue cannot empty it alone.
const DRAIN_RTTS_MAX: u32 = 4;

/// BBR v1 (4.2.3.2): what is in flight may be twice what the path holds, for ACKs come late and in lumps.
const CWND_GAIN: f64 = 2.0;

/// BBR v1 (4.3.2.2): the path is full when three rounds bring less than a quarter more.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;

/// BBR v3 (5.3.5): to measure the round trip, half of what the path holds is in flight.
const PROBE_RTT_GAIN: f64 = 0.5;

/// Ours: one round trip for the queue to run dry, one to measure. BBR's 200 ms are five of those at 40 ms.
const PROBE_RTT_ROUNDS: u32 = 2;

/// Ours: a round that loses this much more than the weather, under a queue, has met its end. BBR v3 takes 2 %; a round of
/// 50 packets is not so precise.
const EXCESS_LOSS: f64 = 0.05;

/// BBR v3 (5.5.10, beta): what was in flight then is too much by this.
const INFLIGHT_BETA: f64 = 0.85;

/// Ours: the first window's ACKs tell of the bottleneck when at least so many came apart.
const TRAIN_ACKS_MIN: u32 = 5;

/// Ours: of the ten packets of the first window, the one that begins the measure and so many more have to come.
const TRAIN_PACKETS_MIN: u64 = 7;

/// Ours: the first window leaves in one piece; what was sent later than this is no part of it.
const TRAIN_SPREAD_MAX: Duration = Duration::from_millis(1);

/// Ours: a queue of a fifth of a round trip is no jitter; most of the train's rate has been seen to arrive by then.
const TRAIN_RTT_GROWTH: f64 = 1.2;

/// Ours: a rate above the train's by this shows that the train was held up.
const TRAIN_TOO_LOW: f64 = 1.1;

/// Ours: when the path has brought all that the train promised, so much more asks whether there is more.
const TRAIN_GAIN: f64 = 1.25;

/// BBR v1 (4.2.3.2): four packets keep the ACKs of a receiver that waits for a second packet coming.
const CWND_MIN_PACKETS: u64 = 4;

/// Windows need room for what waits in batches.
const CWND_SLACK_PACKETS: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Looks for the bandwidth.
    Startup,
    /// Empties the queue that start-up has built.
    Drain,
    /// Cruises, with a probe per cycle.
    ProbeBw { step: usize, since: Instant },
    /// Lets the queue run dry, to measure the round trip.
    ProbeRtt { until: Instant },
}

/// The spacing of the first window's ACKs.
#[derive(Debug, Clone, Copy)]
enum Train {
    Arriving {
        sent_at: Instant,
        since: Instant,
        bytes: u64,
        acks: u32,
    },
    /// Octets per second.
    Measured(f64),
    Useless,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Bbr {
    packet_len: u64,
    phase: Phase,
    model: Model,
    train: Option<Train>,
    cwnd: u64,
    /// What may be in flight without an overflow, as far as losses have shown.
    inflight_hi: f64,
    full_bandwidth: f64,
    full_rounds: u32,
    /// Where the cycle begins: flows that start together shall not probe together.
    first_step: usize,
}

impl Bbr {
    /// For packets of this size.
    pub fn new(packet_len: u64, seed: u64) -> Bbr {
        Bbr {
            packet_len,
            phase: Phase::Startup,
            model: Model::new(packet_len),
            train: None,
            cwnd: INITIAL_WINDOW_PACKETS * packet_len,
            inflight_hi: f64::INFINITY,
            full_bandwidth: 0.0,
            full_rounds: 0,
            // Any step but the second, which would empty a queue that is not there.
            first_step: [0, 2, 3, 4, 5, 6, 7][usize::try_from(seed % 7).expect("below 7")],
        }
    }

    fn is_full(&self) -> bool {
        self.full_rounds >= FULL_ROUNDS
    }

    /// Learns from the first window's ACKs how far apart the bottleneck puts its packets.
    fn watch_train(&mut self, acked: &Acked<'_>) {
        self.train = Some(match self.train {
            None => Train::Arriving { sent_at: acked.sent_at, since: acked.now, bytes: 0, acks: 0 },
            Some(Train::Arriving { sent_at, since, bytes, acks }) => {
                if acked.sent_at > sent_at + TRAIN_SPREAD_MAX {
                    // Its end is lost, and what comes now was sent in another rhythm.
                    Train::Useless
                } else {
                    let (bytes, acks) = (bytes + acked.bytes, acks + 1);
                    let seconds = acked.now.saturating_duration_since(since).as_secs_f64();
                    match (
                        bytes >= TRAIN_PACKETS_MIN * self.packet_len,
                        acks >= TRAIN_ACKS_MIN && seconds > 0.0,
                    ) {
                        (false, _) => Train::Arriving { sent_at, since, bytes, acks },
                        (true, true) => Train::Measured(bytes as f64 / seconds),
                        (true, false) => Train::Useless,
                    }
                }
            }
            // The path has shown more than the train said: the search begins anew.
            Some(Train::Measured(rate)) if self.model.bandwidth() > rate * TRAIN_TOO_LOW => {
                self.full_rounds = 0;
                Train::Useless
            }
            Some(train) => train,
        });
    }

    fn train_rate(&self) -> Option<f64> {
        match self.train {
            Some(Train::Measured(rate)) => Some(rate),
            _ => None,
        }
    }

    /// Sent at the train's rate, a queue grows: the path ends here, the train was a little too fast.
    fn train_queues(&self, acked: &Acked<'_>) -> bool {
        let queued = acked.rtt.srtt() > self.model.min_rtt().mul_f64(TRAIN_RTT_GROWTH);
        queued && self.train_rate().is_some_and(|rate| self.model.bandwidth() > rate / 2.0)
    }

    fn on_round(&mut self, round: &Round) {
        // Who came while the queue was full knows no shorter round trip; more than any weather tells it too.
        let overflowed =
            round.excess_loss > LOSS_FLOOR_MAX || round.queued && round.excess_loss > EXCESS_LOSS;
        if overflowed {
            let held = (round.inflight_max as f64).min(self.inflight_hi);
            self.inflight_hi = (held * INFLIGHT_BETA).max(self.model.bdp());
        }
        if self.phase == Phase::Startup {
            let bandwidth = self.model.delivered_rate() as f64;
            if bandwidth >= self.full_bandwidth * FULL_GROWTH {
                (self.full_bandwidth, self.full_rounds) = (bandwidth, 0);
            } else {
                self.full_rounds += 1;
            }
            if overflowed {
                self.full_rounds = FULL_ROUNDS;
            }
        }
    }

    fn advance(&mut self, acked: &Acked<'_>) {
        let now = acked.now;
        let bdp = self.model.bdp();
        match self.phase {
            Phase::Startup if self.is_full() || self.train_queues(acked) => {
                self.full_rounds = FULL_ROUNDS;
                self.phase = Phase::Drain;
            }
            Phase::Drain if acked.in_flight as f64 <= bdp => {
                self.phase = Phase::ProbeBw { step: self.first_step, since: now };
            }
            Phase::ProbeBw { step, since } => {
                let in_step = now.saturating_duration_since(since);
                // Giving back takes a whole round, for it is the one whose losses are weather; and it goes on until it is
                // done (BBR v3, 5.3.3.1), or a queue that an estimate a little too high has built would stay for ever.
                let queued = step == 1 && acked.in_flight as f64 > bdp;
                let rounds_max = if queued { DRAIN_RTTS_MAX } else { 1 };
                let over = in_step >= self.model.min_rtt() * rounds_max;
                if over {
                    let step = (step + 1) % CYCLE_STEPS;
                    // A probe that met no end of the queue raises the bound that an earlier one has set.
                    if step == 0 {
                        self.inflight_hi *= PROBE_GAIN;
                    }
                    self.phase = Phase::ProbeBw { step, since: now };
                }
            }
            Phase::ProbeRtt { until } if now >= until => {
                self.model.renew_min_rtt(now, acked.rtt.latest());
                self.phase = Phase::ProbeBw { step: 2, since: now };
            }
            _ => {}
        }
        if self.model.is_min_rtt_old(now) && matches!(self.phase, Phase::ProbeBw { .. }) {
            self.phase = Phase::ProbeRtt { until: now + acked.rtt.srtt() * PROBE_RTT_ROUNDS };
        }
    }

    fn set_cwnd(&mut self, acked_bytes: u64) {
        let bdp = self.model.bdp();
        let target = match self.phase {
            Phase::ProbeRtt { .. } => bdp * PROBE_RTT_GAIN,
            Phase::Startup => {
                bdp.max(self.train_rate().unwrap_or(0.0) * self.model.min_rtt().as_secs_f64()) * STARTUP_GAIN
            }
            _ => (bdp * CWND_GAIN).min(self.inflight_hi),
        };
        let slack = CWND_SLACK_PACKETS * self.packet_len;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive; `as` saturates"
        )]
        let target = (target as u64 + slack).max(CWND_MIN_PACKETS * self.packet_len);
        let grown = if self.train_rate().is_some() && self.phase == Phase::Startup {
            target
        } else {
            self.cwnd + acked_bytes
        };
        self.cwnd =
            if self.is_full() { grown.min(target) } else { grown.max(self.cwnd).min(target.max(self.cwnd)) };
    }

    fn gain(&self) -> f64 {
        match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Drain => DRAIN_GAIN,
            Phase::ProbeBw { step: 0, .. } => PROBE_GAIN,
            Phase::ProbeBw { step: 1, .. } => GIVE_BACK_GAIN,
            // The news is still of the probe.
            Phase::ProbeBw { step: 2, .. } => 1.0,
            Phase::ProbeBw { .. } => self.cruise_gain(),
            Phase::ProbeRtt { .. } => 1.0,
        }
    }

    /// Steers towards the few packets in the queue that each flow may have there.
    fn cruise_gain(&self) -> f64 {
        let too_few = CRUISE_QUEUE_PACKETS * self.packet_len as f64 - self.model.queued_bytes();
        let bdp = self.model.bdp().max(self.packet_len as f64);
        (1.0 + CRUISE_CORRECTION * too_few / bdp).clamp(CRUISE_GAIN_MIN, PROBE_GAIN)
    }
}

impl Controller for Bbr {
    fn on_acked(&mut self, acked: &Acked<'_>) {
        let rtt = acked.rtt.latest();
        let round = self.model.on_acked(acked.now, acked.bytes, acked.in_flight, rtt, acked.rate.as_ref());
        if self.phase == Phase::Startup {
            self.watch_train(acked);
        }
        if let Some(round) = round {
            self.on_round(&round);
        }
        self.advance(acked);
        self.set_cwnd(acked.bytes);
    }

    fn on_lost(&mut self, lost: &Lost) {
        self.model.on_lost(lost.bytes);
    }

    fn on_persistent_congestion(&mut self) {
        self.cwnd = MINIMUM_WINDOW_PACKETS * self.packet_len;
    }

    fn cwnd(&self) -> u64 {
        self.cwnd
    }

    fn pacing_rate(&self) -> Option<u64> {
        let bandwidth = self.model.bandwidth();
        // The first window goes out in one piece: its spacing behind the bottleneck is what we want to see.
        if bandwidth == 0.0 {
            return Some(u64::MAX);
        }
        let rate = match self.train_rate().filter(|_| self.phase == Phase::Startup) {
            Some(train) if self.full_rounds == 0 => train,
            Some(train) => train * TRAIN_GAIN,
            None => bandwidth * self.gain(),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive; `as` saturates"
        )]
        let rate = rate as u64;
        Some(rate)
    }
}
