//! Doubling and halving, once per round trip: what a textbook draws, and what one of the Python projects did.

use std::time::Instant;

use super::{Acked, Controller, Lost};

/// The window begins with one packet, doubles after each round trip without a loss, and halves after one with.
#[derive(Debug)]
pub struct Aimd {
    packet_len: u64,
    cwnd: u64,
    /// The round ends with the first ACK of a packet sent after it began.
    round_started: Option<Instant>,
    lost_in_round: bool,
}

/// Ours: far beyond what one ACK can tell of, so that doubling cannot overflow.
const CWND_MAX: u64 = 1 << 30;

impl Aimd {
    /// For packets of this size.
    pub fn new(packet_len: u64) -> Aimd {
        Aimd { packet_len, cwnd: packet_len, round_started: None, lost_in_round: false }
    }
}

impl Controller for Aimd {
    fn on_acked(&mut self, acked: &Acked<'_>) {
        if self.round_started.is_some_and(|started| acked.sent_at < started) {
            return;
        }
        self.round_started = Some(acked.now);
        if !std::mem::take(&mut self.lost_in_round) && acked.window_limited {
            self.cwnd = (self.cwnd * 2).min(CWND_MAX);
        }
    }

    fn on_lost(&mut self, lost: &Lost) {
        if self.lost_in_round {
            return;
        }
        self.lost_in_round = true;
        self.round_started = Some(lost.now);
        self.cwnd = (self.cwnd / 2).max(self.packet_len);
    }

    fn on_persistent_congestion(&mut self) {
        self.cwnd = self.packet_len;
    }

    fn cwnd(&self) -> u64 {
        self.cwnd
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rudp::rtt::Rtt;
    use std::time::Duration;

    #[test]
    fn the_window_doubles_per_round_and_halves_once_per_loss() {
        let (mut aimd, mut now) = (Aimd::new(1_000), Instant::now());
        let rtt = Rtt::new(Duration::from_millis(10));
        let mut windows = Vec::new();
        for round in 0..6 {
            let sent_at = now;
            now += Duration::from_millis(10);
            if round == 4 {
                aimd.on_lost(&Lost { now, sent_at, bytes: 1_000 });
                aimd.on_lost(&Lost { now, sent_at, bytes: 1_000 });
            }
            for _ in 0..aimd.cwnd() / 1_000 {
                aimd.on_acked(&Acked::of(now, sent_at, 1_000, &rtt));
            }
            windows.push(aimd.cwnd() / 1_000);
        }
        assert_eq!(windows, [2, 4, 8, 16, 8, 8], "the round of the loss does not double");
    }
}
