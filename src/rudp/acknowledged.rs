//! What the peer's ACKs tell: what arrived, what is lost, and how the path is.

use std::time::{Duration, Instant};

use super::congestion::{Acked, Lost};
use super::connection::{Connection, Flow};
use super::recovery::Losses;
use super::sent::{AckOutcome, Carried};
use super::state::{Input, State};
use super::trace::TraceEvent;
use super::{ConnectionError, PACKET_LEN_MIN};
use crate::wire::packet::Ack;

/// RFC 9002 (7.6.1): nothing has come through for so many probe timeouts.
const PERSISTENT_CONGESTION_PTOS: u32 = 3;

impl Connection {
    pub(super) fn on_ack(&mut self, now: Instant, ack: &Ack<'_>) {
        let mut fin_acked = false;
        let (flow, delivery, black_hole) = (&mut self.flow, &mut self.delivery, &mut self.black_hole);
        let outcome = self.sent.on_ack(ack, |number, packet, was_lost| {
            fin_acked |= packet.carried == Carried::Fin;
            if let (Some(octets), Flow::Send(window)) = (packet.carried.octets(), &mut *flow) {
                window.on_acked(&octets);
            }
            black_hole.on_acked(number, packet.len);
            if let (Some(snapshot), false) = (&packet.snapshot, was_lost) {
                delivery.on_acked(packet.sent_at, snapshot, packet.len as u64);
            }
        });
        let Ok(outcome) = outcome else { return self.abort(ConnectionError::OptimisticAck) };
        if let Flow::Send(window) = &mut self.flow {
            window.on_credit(ack.credit);
        }
        self.learn_from_ack(now, ack, &outcome);
        self.check_delivered(now);
        if fin_acked && self.advance(Input::RecvAckOfFin) && self.state == State::TimeWait {
            self.wait(now);
        }
    }

    /// What the ACK says of the path: its round trip, its losses, its rate.
    fn learn_from_ack(&mut self, now: Instant, ack: &Ack<'_>, outcome: &AckOutcome) {
        if let (Some(sent_at), true) = (outcome.newest_sent_at, outcome.is_largest_new) {
            let delay = Duration::from_micros(ack.delay_us.into());
            self.rtt.on_sample(now.saturating_duration_since(sent_at), delay);
        }
        if outcome.spurious > 0 {
            self.stats.packets_spurious += u64::from(outcome.spurious);
            self.reordering.on_spurious(now, &self.rtt);
        }
        if outcome.newest_sent_at.is_some() {
            self.rtt.reset_backoff();
        }
        self.find_lost(now);
        let Some(sent_at) = outcome.newest_sent_at else { return };
        self.reordering.on_ack(now, &self.rtt);
        self.due.probes = 0;
        self.controller.on_acked(&Acked {
            now,
            bytes: outcome.acked_bytes,
            in_flight: self.sent.bytes_in_flight(),
            sent_at,
            rtt: &self.rtt,
            rate: self.delivery.sample(now),
            window_limited: self.window_limited,
        });
        // Last, so that what this ACK brings does not open the window again.
        if std::mem::take(&mut self.path_was_dead) {
            self.controller.on_persistent_congestion();
        }
        self.acked_at = Some(now);
        self.set_probe_timer(now);
        let snd_una = match &self.flow {
            Flow::Send(window) => Some(window.snd_una()),
            Flow::Receive(_) | Flow::Over { .. } => None,
        };
        self.tracer.tell(|| TraceEvent::PacketsAcked { bytes: outcome.acked_bytes, snd_una });
        self.trace_metrics();
    }

    pub(super) fn find_lost(&mut self, now: Instant) {
        let loss_delay = self.reordering.loss_delay(&self.rtt);
        let threshold = self.reordering.packet_threshold();
        let mut losses = Losses::new(self.acked_at);
        let (flow, due, black_hole) = (&mut self.flow, &mut self.due, &mut self.black_hole);
        let tracer = &mut self.tracer;
        self.loss_at = self.sent.detect_lost(now, threshold, loss_delay, |number, packet| {
            tracer.tell(|| TraceEvent::PacketLost { number });
            losses.add(packet);
            black_hole.on_lost(number, packet.len);
            match (packet.carried, &mut *flow) {
                (Carried::Data { offset, len }, Flow::Send(window)) => {
                    window.on_lost(&(offset..offset + u64::from(len)));
                }
                (Carried::Fin, _) => due.fin = true,
                _ => {}
            }
        });
        self.on_losses(now, &losses);
        self.look_for_black_hole();
        // A packet that was only late comes within another round trip.
        if let Some(then) = now.checked_sub(loss_delay * 2) {
            self.sent.forget_lost(then);
        }
    }

    fn look_for_black_hole(&mut self) {
        if self.packet_len > PACKET_LEN_MIN && self.black_hole.is_found(self.arq.on_timeout()) {
            log::debug!("transfer {}: large packets vanish, going on with small ones", self.config.id);
            self.packet_len = PACKET_LEN_MIN;
        }
    }

    fn on_losses(&mut self, now: Instant, losses: &Losses) {
        let Some(sent_at) = losses.newest else { return };
        self.stats.packets_lost += losses.packets;
        self.delivery.on_lost(losses.bytes);
        self.controller.on_lost(&Lost { now, sent_at, bytes: losses.bytes });
        self.set_probe_timer(now);
        let silence = losses.oldest_unanswered.map(|oldest| sent_at.saturating_duration_since(oldest));
        self.path_was_dead =
            silence.is_some_and(|silence| silence > self.rtt.pto() * PERSISTENT_CONGESTION_PTOS);
    }

    /// Stop-and-wait and go-back-N: after a timeout everything in flight is sent again.
    pub(super) fn go_back(&mut self, now: Instant) {
        let mut losses = Losses::new(self.acked_at);
        let (tracer, black_hole) = (&mut self.tracer, &mut self.black_hole);
        self.sent.lose_all(|number, packet| {
            tracer.tell(|| TraceEvent::PacketLost { number });
            // Those behind the first may have arrived: the receiver has thrown them away.
            if losses.packets == 0 {
                black_hole.on_lost(number, packet.len);
            }
            losses.add(packet);
        });
        self.look_for_black_hole();
        // The first to be sent again is small, for nothing that follows it can be told from what is lost.
        self.due.probes = u8::from(self.packet_len > PACKET_LEN_MIN && self.black_hole.is_suspected());
        if let Flow::Send(window) = &mut self.flow {
            window.go_back();
        }
        self.due.fin |= self.state.awaits_ack_of_fin();
        self.on_losses(now, &losses);
    }
}
