//! When a packet counts as lost, and how that adapts to a path that reorders.

use std::time::{Duration, Instant};

use super::PACKET_LEN_MIN;
use super::arq::OnTimeout;
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

/// Ours: where only timeouts tell of losses, and each ACK that is lost makes one, three in a row are common on a bad link.
const LARGE_LOST_MAX_GO_BACK: u32 = 6;

/// Finds out that a path has stopped to carry packets above [`PACKET_LEN_MIN`]: large ones are lost in a row, in the order
/// of their numbers, and a small one that was sent after the first of them comes through.
#[derive(Debug, Default)]
pub struct BlackHole {
    /// How many large packets there are in the row, and the number of the first.
    large_lost: u32,
    first_lost: u64,
    /// The largest numbers of packets that came through.
    large_acked: Option<u64>,
    small_acked: Option<u64>,
}

impl BlackHole {
    /// A packet of `len` octets has come through.
    pub fn on_acked(&mut self, number: u64, len: usize) {
        if len <= PACKET_LEN_MIN {
            self.small_acked = self.small_acked.max(Some(number));
            return;
        }
        self.large_acked = self.large_acked.max(Some(number));
        if number > self.first_lost {
            self.large_lost = 0;
        }
    }

    /// A packet of `len` octets is lost.
    pub fn on_lost(&mut self, number: u64, len: usize) {
        if len <= PACKET_LEN_MIN || self.large_acked.is_some_and(|acked| acked > number) {
            return;
        }
        if self.large_lost == 0 {
            self.first_lost = number;
        }
        self.large_lost += 1;
    }

    /// Whether it is time to see if a small packet passes.
    pub fn is_suspected(&self) -> bool {
        self.large_lost >= LARGE_LOST_MAX
    }

    /// Whether large packets vanish.
    pub fn is_found(&self, on_timeout: OnTimeout) -> bool {
        let large_lost_max = match on_timeout {
            OnTimeout::Probe => LARGE_LOST_MAX,
            OnTimeout::GoBack => LARGE_LOST_MAX_GO_BACK,
        };
        self.large_lost >= large_lost_max && self.small_acked.is_some_and(|acked| acked > self.first_lost)
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

    const LARGE: usize = PACKET_LEN_MIN + 1;

    #[test]
    fn large_packets_vanish_when_three_in_a_row_do_and_a_small_one_does_not() {
        let mut hole = BlackHole::default();
        hole.on_acked(0, LARGE);
        hole.on_acked(1, PACKET_LEN_MIN);
        for number in 2..5 {
            assert!(!hole.is_found(OnTimeout::Probe));
            hole.on_lost(number, LARGE);
        }
        assert!(!hole.is_found(OnTimeout::Probe), "the small one had passed before");
        hole.on_acked(5, PACKET_LEN_MIN);
        assert!(hole.is_found(OnTimeout::Probe));
        hole.on_acked(1, LARGE);
        assert!(hole.is_found(OnTimeout::Probe), "it was only late");
        hole.on_acked(6, LARGE);
        assert!(!hole.is_found(OnTimeout::Probe));
    }

    #[test]
    fn a_large_packet_that_passes_in_between_breaks_the_row() {
        let mut hole = BlackHole::default();
        // One ACK names 4, 6 and 8: what it shows to be lost lies between large packets that came.
        [4, 6].into_iter().for_each(|number| hole.on_acked(number, LARGE));
        hole.on_acked(8, PACKET_LEN_MIN);
        [2, 3, 5, 7].into_iter().for_each(|number| hole.on_lost(number, LARGE));
        assert!(!hole.is_found(OnTimeout::Probe));
        [9, 10].into_iter().for_each(|number| hole.on_lost(number, LARGE));
        assert!(hole.is_found(OnTimeout::Probe) && hole.is_suspected());
        assert!(!hole.is_found(OnTimeout::GoBack), "that takes more");
        hole.on_acked(8, LARGE);
        hole.on_lost(11, LARGE);
        assert!(!hole.is_found(OnTimeout::Probe) && !hole.is_suspected());
    }
}
