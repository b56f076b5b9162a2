//! What carries the file: octets that come, the moment when all are here, and the peer's FIN.

use std::time::{Duration, Instant};

use super::connection::{Connection, Flow, Keep};
use super::state::{Input, State};
use super::{CLOSE_MAX, ConnectionError, Direction, Event, FIN_MAX};

/// Ours: a repeated FIN comes within three probe timeouts, or a second.
const TIME_WAIT_MIN: Duration = Duration::from_secs(1);

impl Connection {
    pub(super) fn on_data(
        &mut self,
        now: Instant,
        newest: bool,
        offset: u64,
        data: &[u8],
        keep: &mut Keep<'_>,
    ) -> bool {
        let Flow::Receive(window) = &mut self.flow else {
            self.abort(ConnectionError::Protocol);
            return false;
        };
        let range = offset..offset + data.len() as u64;
        if range.end > window.size() {
            self.abort(ConnectionError::Protocol);
            return false;
        }
        let continues = offset <= window.rcv_nxt();
        if !window.allows(&range) || !(continues || self.arq.keeps_out_of_order()) {
            return false;
        }
        let kept_before = window.kept_bytes();
        let mut rest = range.clone();
        while let Some(gap) = window.first_gap(rest.clone()) {
            let skipped = usize::try_from(gap.start - offset).expect("inside the packet");
            let gap_len = usize::try_from(gap.end - gap.start).expect("inside the packet");
            if keep(gap.start, &data[skipped..][..gap_len]).is_err() {
                self.abort(ConnectionError::File);
                return false;
            }
            rest.start = gap.end;
            window.keep(gap);
        }
        self.stats.packets_duplicate += u64::from(window.kept_bytes() == kept_before);
        // A newer number with older octets: the sender has sent them before.
        self.stats.packets_resent += u64::from(newest && offset < self.rcv_max);
        self.rcv_max = self.rcv_max.max(range.end);
        self.check_delivered(now);
        true
    }

    pub(super) fn check_delivered(&mut self, now: Instant) {
        let done = match &self.flow {
            Flow::Send(window) => window.is_delivered(),
            Flow::Receive(window) => window.is_complete(),
            Flow::Over { .. } => return,
        };
        if done && !self.delivered {
            self.delivered = true;
            self.events.push_back(Event::Delivered);
            // The sender closes first: it is the one who knows that nothing has to be sent again.
            match self.config.direction {
                Direction::Send => self.due.fin = true,
                Direction::Receive => self.close_at = Some(now + FIN_MAX),
            }
        }
    }

    pub(super) fn on_fin(&mut self, now: Instant, size: u64) -> bool {
        let whole = match &self.flow {
            Flow::Receive(window) if size != window.size() => {
                self.abort(ConnectionError::Protocol);
                return false;
            }
            Flow::Receive(window) => window.is_complete(),
            Flow::Send(window) if !window.is_delivered() => {
                self.abort(ConnectionError::Protocol);
                return false;
            }
            Flow::Send(_) | Flow::Over { .. } => true,
        };
        if !whole {
            return false;
        }
        // The receiver's FIN answers ours: whoever has all data and closes has seen that we do. So it acknowledges
        // everything, and a lost ACK before it does not matter.
        if self.state == State::FinWait1 {
            self.advance(Input::RecvAckOfFin);
        }
        if self.advance(Input::RecvFin) {
            match self.state {
                State::CloseWait => self.due.fin = true,
                State::TimeWait => self.wait(now),
                _ => {}
            }
        }
        true
    }

    /// Our FIN has left; the file is delivered, so there is no point in endless patience.
    pub(super) fn on_fin_sent(&mut self, now: Instant) {
        if self.advance(Input::SendFin) {
            self.close_at = Some(now + CLOSE_MAX);
        }
    }

    /// Enters a wait from which only its end leads.
    pub(super) fn wait(&mut self, now: Instant) {
        // The peer may be gone already: what is in flight is not asked for.
        self.sent.settle();
        self.set_probe_timer(now);
        self.close_at = Some(now + (self.rtt.pto() * 3).max(TIME_WAIT_MIN));
    }
}
