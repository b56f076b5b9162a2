//! When a packet counts as lost, and how that adapts to a path that reorders.

use std::time::{Duration, Instant};

use super::PACKET_LEN_MIN;
use super::rtt::{GRANULARITY, Rtt};
use super::sent::SentPacket;

/// RFC 9002 (6.1.1): a packet is lost once three sent after it are acknowledged.
pub const PACKET_THRESHOLD: u64 = 3;

/// RFC 9002 (6.1.2): or when one sent later is acknowledged and 9/8 of a round trip have passed.
const TIME_THRESHOLD: (u32, u32) = (9, 8);

/// RFC 8985 (6.2, step 4): the reordering window grows by a quarter of the round trip,
const WINDOW_STEPS_PER_RTT: u32 = 4;

/// and is forgotten after so many round trips without a reason (there: 16 recoveries).
const QUIET_ROUNDS: u32 = 16;

/// What is known of the path's reordering. It begins with none, and learns from each packet that was given up too early.
#[derive(Debug, Default)]
pub struct Reordering {
    steps: u32,
    seen_at: Option<Instant>,
}

impl Reordering {
    /// A packet that counted as lost has come after all.
    pub fn on_spurious(&mut self, now: Instant, rtt: &Rtt) {
        // Once per round trip: what it brings at once has one cause.
        if self.seen_at.is_none_or(|at| now.saturating_duration_since(at) >= rtt.srtt()) {
            self.steps += 1;
            self.seen_at = Some(now);
        }
    }

    /// Forgets what has not shown for long.
    pub fn on_ack(&mut self, now: Instant, rtt: &Rtt) {
        if self.seen_at.is_some_and(|at| now.saturating_duration_since(at) > rtt.srtt() * QUIET_ROUNDS) {
            *self = Reordering::default();
        }
    }

    /// How many later packets have to be acknowledged. On a path that reorders, time alone decides (RFC 8985, 6.2).
    pub fn packet_threshold(&self) -> u64 {
        if self.steps == 0 { PACKET_THRESHOLD } else { u64::MAX }
    }

    /// How long after its sending a packet that was overtaken counts as lost.
    pub fn loss_delay(&self, rtt: &Rtt) -> Duration {
        let round_trip = rtt.srtt().max(rtt.latest());
        let (by, of) = TIME_THRESHOLD;
        let window = (rtt.min() * self.steps / WINDOW_STEPS_PER_RTT).min(rtt.srtt());
        (round_trip * by / of).max(round_trip + window).max(GRANULARITY)
    }
}

/// What one look at the books has found lost.
#[derive(Debug)]
pub struct Losses {
    /// How many packets.
    pub packets: u64,
    /// Their octets.
    pub bytes: u64,
    /// When the newest of them was sent.
    pub newest: Option<Instant>,
    /// When the oldest of those was sent that were sent after the peer's last word.
    pub oldest_unanswered: Option<Instant>,
    acked_at: Option<Instant>,
}

impl Losses {
    /// Nothing yet; the peer last acknowledged something new at `acked_at`.
    pub fn new(acked_at: Option<Instant>) -> Losses {
        Losses { packets: 0, bytes: 0, newest: None, oldest_unanswered: None, acked_at }
    }

    /// Adds a packet; they come in the order of their numbers.
    pub fn add(&mut self, packet: &SentPacket) {
        self.packets += 1;
        self.bytes += packet.len as u64;
        self.newest = Some(packet.sent_at);
        if self.acked_at.is_some_and(|at| at < packet.sent_at) {
            self.oldest_unanswered.get_or_insert(packet.sent_at);
        }
    }
}

/// Ours: so many large packets lost in a row, while a small one passes, are no accident (RFC 8899, 4.3).
const LARGE_LOST_MAX: u32 = 3;

/// Finds out that a path has stopped to carry packets above [`PACKET_LEN_MIN`].
#[derive(Debug, Default)]
pub struct BlackHole {
    large_lost: u32,
    small_passed: bool,
}

impl BlackHole {
    /// A packet of `len` octets has come through.
    pub fn on_acked(&mut self, len: usize) {
        if len > PACKET_LEN_MIN {
            *self = BlackHole::default();
        } else {
            self.small_passed |= self.large_lost > 0;
        }
    }

    /// A packet of `len` octets is lost.
    pub fn on_lost(&mut self, len: usize) {
        self.large_lost += u32::from(len > PACKET_LEN_MIN);
    }

    /// Whether large packets vanish.
    pub fn is_found(&self) -> bool {
        self.small_passed && self.large_lost >= LARGE_LOST_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_reordering_and_goes_with_it() {
        let ms = Duration::from_millis;
        let (start, mut rtt, mut reordering) = (Instant::now(), Rtt::new(ms(80)), Reordering::default());
        rtt.on_sample(ms(80), Duration::ZERO);
        assert_eq!((reordering.packet_threshold(), reordering.loss_delay(&rtt)), (3, ms(90)));
        for round in 0..8 {
            reordering.on_spurious(start + ms(80) * round, &rtt);
            reordering.on_spurious(start + ms(80) * round, &rtt);
        }
        assert_eq!((reordering.packet_threshold(), reordering.loss_delay(&rtt)), (u64::MAX, ms(160)));
        reordering.on_ack(start + ms(80) * 23, &rtt);
        assert_eq!(reordering.packet_threshold(), u64::MAX);
        reordering.on_ack(start + ms(80) * 24, &rtt);
        assert_eq!((reordering.packet_threshold(), reordering.loss_delay(&rtt)), (3, ms(90)));
    }
}
