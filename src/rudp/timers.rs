//! The connection's clock: every deadline in one place.

use std::time::{Duration, Instant};

use super::arq::OnTimeout;
use super::connection::{Connection, Flow};
use super::rtt::PTO_MAX;
use super::state::{Input, State};
use super::{ConnectionError, PEER_SILENT_MAX, PROBES_PER_TIMEOUT, SPEED_BYTES_MIN, SPEED_TIME};

/// Ours: who hears nothing and waits for nothing asks after this time, or two probe timeouts.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);

/// Ours: the speed is looked at so many times in [`SPEED_TIME`], so that a stall is seen at most a sixth of it late.
const SPEED_LOOKS: u32 = 6;

impl Connection {
    /// The next time at which [`handle_timeout`](Self::handle_timeout) or [`poll_transmit`](Self::poll_transmit) has
    /// something to do; `None` when only the peer can bring news.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        let timers = [
            self.open_until,
            self.syn_at,
            self.loss_at,
            self.probe_at,
            self.close_at,
            self.keepalive_at(),
            self.silent_until(),
            self.speed_at,
            self.pacer_deadline(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Acts on every timer due at `now`; calling it too early or twice does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tracer.at(now);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.open_until) {
            return self.abort(ConnectionError::NoAnswer);
        }
        if is_due(self.close_at) {
            self.close_at = None;
            if !self.advance(Input::TimeWaitOver) {
                self.abort(ConnectionError::PeerLost);
            }
            return;
        }
        if is_due(self.silent_until()) {
            return self.abort(ConnectionError::PeerLost);
        }
        if is_due(self.syn_at) {
            self.due.syn = PROBES_PER_TIMEOUT;
            self.syn_timer = (self.syn_timer * 2).min(PTO_MAX);
            self.syn_at = Some(now + self.syn_timer);
        }
        if is_due(self.loss_at) {
            self.find_lost(now);
        }
        if is_due(self.probe_at) {
            self.stats.timeouts += 1;
            self.rtt.back_off();
            match self.arq.on_timeout() {
                OnTimeout::Probe => self.due.probes = PROBES_PER_TIMEOUT,
                OnTimeout::GoBack => self.go_back(now),
            }
            self.set_probe_timer(now);
            self.trace_metrics();
        }
        if is_due(self.speed_at) {
            self.look_at_speed(now);
        }
        if is_due(self.keepalive_at()) {
            self.due.ping = true;
            // The ACK with the last credit may be lost; while we ask, the peer has no reason to.
            self.due.ack |= matches!(self.flow, Flow::Receive(_));
        }
    }

    /// When the peer, of whom nothing is expected, is asked whether it is there.
    fn keepalive_at(&self) -> Option<Instant> {
        let waits =
            matches!(self.state, State::SynReceived | State::Established) && !self.sent.is_any_in_flight();
        // A sender waits for credit; a receiver may be the one whose address has changed.
        let patience = match self.flow {
            Flow::Send(_) => PTO_MAX,
            Flow::Receive(_) | Flow::Over { .. } => (self.rtt.pto() * 2).clamp(KEEPALIVE_MIN, PTO_MAX),
        };
        waits.then(|| self.heard_at + patience)
    }

    fn silent_until(&self) -> Option<Instant> {
        let open = !matches!(self.state, State::Listen | State::SynSent | State::Closed);
        open.then(|| self.heard_at + PEER_SILENT_MAX)
    }

    /// RFC 9002 (6.2.1): the probe timer runs from the last packet that wants an ACK.
    pub(super) fn set_probe_timer(&mut self, now: Instant) {
        self.probe_at = self.sent.is_any_in_flight().then(|| now + self.rtt.pto());
    }

    /// Notes what has moved; a peer that takes its file too slowly, for whatever reason, is let go.
    pub(super) fn look_at_speed(&mut self, now: Instant) {
        let moved_bytes = self.moved_bytes();
        self.speed_samples.push_back(moved_bytes);
        if self.speed_samples.len() > SPEED_LOOKS as usize {
            let before = self.speed_samples.pop_front().expect("it is not empty");
            if moved_bytes < before + SPEED_BYTES_MIN && !self.delivered {
                return self.abort(ConnectionError::TooSlow);
            }
        }
        self.speed_at = (!self.delivered).then(|| now + SPEED_TIME / SPEED_LOOKS);
    }
}
