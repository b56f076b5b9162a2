//! The open, seen from the ear: the legs of the handshake, and what both ends agree on in them.

use std::time::{Duration, Instant};

use super::arq::ArqScheme;
use super::congestion::ControllerKind;
use super::connection::{Connection, Flow};
use super::seal::Role;
use super::state::{Input, State};
use super::{ConnectionError, Direction, Event, PACKET_LEN_DATA, in_whole_blocks};
use crate::wire::packet::Setup;

/// Ours: a SYN-ACK answers a SYN, but no offer is worth more of them.
const SYN_ACKS_MAX: u8 = 10;

impl Connection {
    pub(super) fn on_syn(&mut self, now: Instant, number: u64, setup: &Setup, datagram_len: usize) {
        if self.config.role == Role::Client {
            return self.abort(ConnectionError::Protocol);
        }
        if self.advance(Input::RecvSyn) {
            self.open_until = None;
            // Data may follow at once, so from now on a peer that takes none is looked at.
            self.start_speed_looks(now);
        }
        if self.state != State::SynReceived {
            return;
        }
        self.on_setup(setup, datagram_len);
        if self.syn_acks < SYN_ACKS_MAX {
            self.syn_acks += 1;
            self.due.syn_ack = u32::try_from(number & 0xffff_ffff).ok();
        }
    }

    pub(super) fn on_syn_ack(&mut self, now: Instant, echo: u32, setup: &Setup, datagram_len: usize) {
        if self.config.role == Role::Server {
            return self.abort(ConnectionError::Protocol);
        }
        self.on_setup(setup, datagram_len);
        if !self.rtt.is_measured()
            && let Some(sent_at) = self.sent.sent_at(echo.into())
        {
            self.rtt.on_sample(now.saturating_duration_since(sent_at), Duration::ZERO);
        }
        // The third leg.
        self.due.ack = true;
    }

    /// What arrives in a larger packet confirms that size for the path; a small copy takes nothing back.
    fn on_setup(&mut self, setup: &Setup, datagram_len: usize) {
        let confirmed_len = datagram_len.min(self.config.packet_len_max).min(setup.packet_len.into());
        self.confirmed_len = self.confirmed_len.max(confirmed_len);
        self.packet_len = self.packet_len.max(in_whole_blocks(confirmed_len).min(PACKET_LEN_DATA));
        self.peer_burst = setup.burst_len.into();
        if !self.sent.is_any_in_flight() && !self.rtt.is_measured() {
            let kind = ControllerKind::from_number(setup.controller, setup.controller_arg);
            self.arq = ArqScheme::from_number(setup.arq).or(self.config.arq).unwrap_or_default();
            self.controller_kind = kind.or(self.config.controller).unwrap_or_default();
            self.controller = self.controller_kind.start(self.packet_len, self.config.seed);
        }
        if let Flow::Send(window) = &mut self.flow {
            window.on_credit(setup.credit);
        }
    }

    fn start_speed_looks(&mut self, now: Instant) {
        // A server is a sender, or it gives its disk and a place among few to one; a client may wait as long as it likes.
        let looks = self.config.direction == Direction::Send || self.config.role == Role::Server;
        if looks && self.speed_at.is_none() {
            self.look_at_speed(now);
        }
    }

    pub(super) fn on_established(&mut self, now: Instant) {
        self.start_speed_looks(now);
        self.open_until = None;
        self.syn_at = None;
        self.due.syn = 0;
        self.events.push_back(Event::Established);
        // An empty file is here as soon as the connection is.
        self.check_delivered(now);
    }
}
