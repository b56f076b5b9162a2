//! HyStart++ (RFC 9406): leaves slow start when the round trip grows, before the queue overflows.

use std::time::{Duration, Instant};

/// RFC 9406 (4.3): the round trip has to grow by an eighth, within these bounds, to count.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u32 = 8;

/// RFC 9406 (4.3): a round needs so many samples to judge by.
const N_RTT_SAMPLE: u32 = 8;

/// RFC 9406 (4.3): conservative slow start grows at a quarter of the speed,
pub const CSS_GROWTH_DIVISOR: f64 = 4.0;

/// for at most so many rounds.
const CSS_ROUNDS: u32 = 5;

/// Which kind of slow start the flow is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The window doubles per round trip.
    SlowStart,
    /// The round trip has grown: the window grows slowly until that is confirmed or refuted.
    Conservative,
    /// Slow start is over.
    Done,
}

/// The judge of slow start, one per flow.
#[derive(Debug)]
pub struct Hystart {
    phase: Phase,
    /// The round ends with the first ACK of a packet sent after it began.
    round_started: Option<Instant>,
    samples: u32,
    current_min: Option<Duration>,
    last_min: Option<Duration>,
    css_baseline: Duration,
    css_rounds: u32,
}

impl Default for Hystart {
    fn default() -> Self {
        Hystart {
            phase: Phase::SlowStart,
            round_started: None,
            samples: 0,
            current_min: None,
            last_min: None,
            css_baseline: Duration::MAX,
            css_rounds: 0,
        }
    }
}

impl Hystart {
    /// Takes the ACK at `now` of a packet sent at `sent_at` with this RTT sample; tells the phase from here on.
    pub fn on_acked(&mut self, now: Instant, sent_at: Instant, sample: Duration) -> Phase {
        if self.round_started.is_none_or(|started| sent_at >= started) {
            self.start_round(now);
        }
        let current_min = self.current_min.map_or(sample, |min| min.min(sample));
        self.current_min = Some(current_min);
        self.samples += 1;
        if self.samples < N_RTT_SAMPLE {
            return self.phase;
        }
        match (self.phase, self.last_min) {
            (Phase::SlowStart, Some(last_min)) => {
                let thresh = (last_min / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if current_min >= last_min + thresh {
                    self.phase = Phase::Conservative;
                    self.css_baseline = current_min;
                    self.css_rounds = 0;
                }
            }
            // The growth was an accident.
            (Phase::Conservative, _) if current_min < self.css_baseline => self.phase = Phase::SlowStart,
            _ => {}
        }
        self.phase
    }

    fn start_round(&mut self, now: Instant) {
        self.round_started = Some(now);
        self.last_min = self.current_min.take().or(self.last_min);
        self.samples = 0;
        if self.phase == Phase::Conservative {
            self.css_rounds += 1;
            if self.css_rounds >= CSS_ROUNDS {
                self.phase = Phase::Done;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten ACKs per round with these round trips; the phase after each round.
    fn rounds(rtts_ms: &[u64]) -> Vec<Phase> {
        let (mut hystart, mut now) = (Hystart::default(), Instant::now());
        rtts_ms
            .iter()
            .map(|&rtt| {
                let (rtt, sent_at) = (Duration::from_millis(rtt), now);
                now += rtt;
                (0..10).map(|_| hystart.on_acked(now, sent_at, rtt)).last().expect("ten ACKs")
            })
            .collect()
    }

    #[test]
    fn a_growing_round_trip_ends_slow_start_after_five_more_rounds() {
        use Phase::{Conservative, Done, SlowStart};
        assert_eq!(
            rounds(&[40, 41, 44, 50, 50, 50, 50, 50, 50]),
            [
                SlowStart,
                SlowStart,
                SlowStart,
                Conservative,
                Conservative,
                Conservative,
                Conservative,
                Conservative,
                Done
            ]
        );
    }

    #[test]
    fn a_single_slow_round_does_not() {
        use Phase::{Conservative, SlowStart};
        assert_eq!(rounds(&[40, 60, 41, 42]), [SlowStart, Conservative, SlowStart, SlowStart]);
    }
}
