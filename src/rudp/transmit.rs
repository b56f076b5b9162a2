//! The connection's mouth: builds the packets that are due, data in batches of equal packets.

use std::array;
use std::io;
use std::ops::Range;
use std::time::Instant;

use super::arq::ArqScheme;
use super::congestion::ControllerKind;
use super::connection::{Connection, Flow};
use super::seal::Role;
use super::sent::{Carried, SentPacket, TRACKED_MAX};
use super::state::State;
use super::trace::TraceEvent;
use super::{ConnectionError, Direction, PACKET_LEN_MIN, split_mix_64};
use crate::wire::packet::{
    Body, DATA_OVERHEAD, DATA_PREFIX_LEN, HEADER_LEN, Header, Kind, Reason, Setup, TAG_LEN, emit_ack,
};

/// The kernel takes at most so many segments in one GSO call (UDP_MAX_SEGMENTS of Linux before 6.9).
pub(super) const BATCH_PACKETS_MAX: usize = 64;

/// RFC 9002 (7.7): pace a little faster than the window per round trip, so that pacing itself does not hold it back.
const PACING_GAIN: (u64, u64) = (5, 4);

/// Fills the buffer with the octets of the file from an offset on.
pub type Source<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

/// What `poll_transmit` has put into the buffer: packets of `segment_len` octets, the last may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Octets in all.
    pub len: usize,
    /// Octets of each packet.
    pub segment_len: usize,
}

/// Ours: numbers are left out no more often than this, or the distances that tell a loss would shrink.
const SKIP_SPAN_MIN: u64 = 8;

/// What has to be said as soon as possible.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) syn: u8,
    /// The low bits of the number of the SYN to answer.
    pub(super) syn_ack: Option<u32>,
    pub(super) ack: bool,
    pub(super) ping: bool,
    pub(super) fin: bool,
    pub(super) probes: u8,
    rst: Option<Reason>,
    /// Copies of the SYN alternate between the size to confirm and the one that every path carries.
    syn_padded: bool,
    skip: Skip,
}

impl Due {
    pub(super) fn new(opens: bool, seed: u64) -> Due {
        let skip = Skip { next: 0, random: seed };
        Due {
            syn: opens.into(),
            syn_ack: None,
            ack: false,
            ping: false,
            fin: false,
            probes: 0,
            rst: None,
            syn_padded: true,
            skip,
        }
    }

    /// Nothing but an RST.
    pub(super) fn rst(reason: Option<Reason>) -> Due {
        Due { rst: reason, ..Due::new(false, 0) }
    }
}

/// Chooses the numbers that are left out: one, by chance, in each half window, so that whoever acknowledges what it
/// has not seen is found out within one (RFC 9000, 21.4).
#[derive(Debug)]
struct Skip {
    next: u64,
    random: u64,
}

impl Skip {
    fn is_due(&mut self, number: u64, window_packets: u64) -> bool {
        let span = (window_packets / 2).clamp(SKIP_SPAN_MIN, TRACKED_MAX / 2);
        // The first packets are few, and the peer's books begin with them.
        if self.next == 0 {
            self.next = 2 + self.random() % span;
        }
        // A window that has shrunk since makes it due sooner.
        self.next = self.next.min(number + 2 * span);
        if number < self.next {
            return false;
        }
        let span_end = (number / span + 1) * span;
        self.next = span_end + self.random() % span;
        true
    }

    fn random(&mut self) -> u64 {
        split_mix_64(&mut self.random)
    }
}

/// A DATA packet that has its number and waits for its octets.
#[derive(Debug, Clone, Default)]
struct Planned {
    number: u64,
    range: Range<u64>,
}

impl Connection {
    /// Fills `buffer` with what may be sent now: one packet, or a batch of DATA packets of one size for one GSO call.
    /// Call it until it gives `None`. `buffer` holds at least one packet of the largest size.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        source: &mut Source<'_>,
    ) -> Option<Transmit> {
        self.tracer.at(now);
        if self.state == State::Closed {
            return self.emit_rst(now, buffer);
        }
        if self.due.syn > 0 {
            self.due.syn -= 1;
            return Some(self.emit_syn(now, buffer));
        }
        if let Some(echo) = self.due.syn_ack.take() {
            let setup = self.setup();
            let padded_len = self.confirmed_len;
            return Some(self.emit_padded(now, buffer, padded_len, &Body::SynAck { echo, setup }));
        }
        if std::mem::take(&mut self.due.ack)
            && self.sent.has_room_for_ack()
            && let Some(ack) = self.emit_ack(now, buffer)
        {
            return Some(ack);
        }
        if let Some(batch) = self.emit_data(now, buffer, source) {
            return Some(batch);
        }
        self.probe_without_data();
        if self.due.fin && self.state.may_send_fin() {
            self.due.fin = false;
            let size = if self.config.direction == Direction::Send { self.config.size } else { 0 };
            self.on_fin_sent(now);
            return Some(self.emit(now, buffer, Carried::Fin, |back| Body::Fin { back, size }));
        }
        if std::mem::take(&mut self.due.ping) {
            return Some(self.emit(now, buffer, Carried::Ping, |back| Body::Ping { back }));
        }
        None
    }

    /// A probe that finds no data to repeat repeats the FIN, or asks.
    fn probe_without_data(&mut self) {
        if std::mem::take(&mut self.due.probes) > 0 {
            if self.state.awaits_ack_of_fin() {
                self.due.fin = true;
            } else {
                self.due.ping = true;
            }
        }
    }

    /// The last word of a connection that failed, if it has one.
    fn emit_rst(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        let reason = self.due.rst.take()?;
        Some(self.emit(now, buffer, Carried::Nothing, |_| Body::Rst { reason }))
    }

    fn setup(&self) -> Setup {
        // A client names what it wants, 0 for nothing in particular; a server what it does.
        let (arq, controller) = match self.config.role {
            Role::Client => (self.config.arq, self.config.controller),
            Role::Server => (Some(self.arq), Some(self.controller_kind)),
        };
        let (controller, controller_arg) = controller.map_or((0, 0), ControllerKind::number);
        Setup {
            arq: arq.map_or(0, ArqScheme::number),
            controller,
            controller_arg,
            packet_len: u16::try_from(self.config.packet_len_max).unwrap_or(u16::MAX),
            burst_len: self.config.burst_len,
            credit: self.flow.credit(),
        }
    }

    fn emit_syn(&mut self, now: Instant, buffer: &mut [u8]) -> Transmit {
        let padded_len = if self.due.syn_padded { self.config.packet_len_max } else { PACKET_LEN_MIN };
        self.due.syn_padded = !self.due.syn_padded;
        let setup = self.setup();
        self.emit_padded(now, buffer, padded_len, &Body::Syn(setup))
    }

    fn emit_padded(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        padded_len: usize,
        body: &Body<'_>,
    ) -> Transmit {
        let kind = if matches!(body, Body::Syn(_)) { Kind::Syn } else { Kind::SynAck };
        let number = self.sent.push_unacked(padded_len, now);
        let packet = &mut buffer[..padded_len];
        packet.fill(0);
        body.emit(&mut packet[HEADER_LEN..]);
        self.seal(kind, number, None, packet)
    }

    fn emit_ack(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        let delay_us = now.saturating_duration_since(self.largest_at).as_micros();
        let (first_word, words) = self.received.ack_words()?;
        let delay_us = u32::try_from(delay_us).unwrap_or(u32::MAX);
        let credit = self.flow.credit();
        let body_len = emit_ack(&mut buffer[HEADER_LEN..], delay_us, credit, first_word, words);
        let packet_len = HEADER_LEN + body_len + TAG_LEN;
        let number = self.sent.push_unacked(packet_len, now);
        Some(self.seal(Kind::Ack, number, None, &mut buffer[..packet_len]))
    }

    /// Books, writes and seals a small packet; `body` is told how far back the lowest tracked number is.
    fn emit(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        carried: Carried,
        body: impl FnOnce(u16) -> Body<'static>,
    ) -> Transmit {
        let number = self.sent.next_number();
        let body = body(self.back(number));
        let kind = match body {
            Body::Fin { .. } => Kind::Fin,
            Body::Ping { .. } => Kind::Ping,
            _ => Kind::Rst,
        };
        let packet_len = HEADER_LEN + body.emit(&mut buffer[HEADER_LEN..]) + TAG_LEN;
        self.book(now, carried, packet_len);
        if kind != Kind::Rst {
            self.set_probe_timer(now);
        }
        self.seal(kind, number, None, &mut buffer[..packet_len])
    }

    fn seal(&mut self, kind: Kind, number: u64, offset: Option<u64>, packet: &mut [u8]) -> Transmit {
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits travel")]
        let header = Header { kind, id: self.config.id, number_low: number as u32 };
        header.emit(packet);
        self.keys.seal(number, packet);
        self.stats.packets_sent += 1;
        self.tracer.tell(|| TraceEvent::PacketSent { number, kind, len: packet.len(), offset });
        Transmit { len: packet.len(), segment_len: packet.len() }
    }

    /// How far back from `number` the lowest tracked number is.
    fn back(&self, number: u64) -> u16 {
        u16::try_from(number - self.sent.lowest_tracked().min(number)).unwrap_or(u16::MAX)
    }

    /// A batch of DATA packets: all but the last fill the packet size, so that one GSO call sends them.
    fn emit_data(&mut self, now: Instant, buffer: &mut [u8], source: &mut Source<'_>) -> Option<Transmit> {
        if !self.state.may_send_data() || !matches!(self.flow, Flow::Send(_)) {
            return None;
        }
        let mut plan: [Planned; BATCH_PACKETS_MAX] = array::from_fn(|_| Planned::default());
        let count = self.plan_data(now, buffer.len() / self.packet_len, &mut plan);
        let plan = &plan[..count];
        let last = plan.last()?;
        let segment_len = if count == 1 { packet_len(&last.range) } else { self.packet_len };
        let len = (count - 1) * segment_len + packet_len(&last.range);
        if read_data(&mut buffer[..len], segment_len, plan, source).is_err() {
            self.abort(ConnectionError::File);
            return self.emit_rst(now, buffer);
        }
        for (packet, Planned { number, range }) in buffer[..len].chunks_mut(segment_len).zip(plan) {
            let data = Body::Data { back: self.back(*number), offset: range.start, data: &[] };
            data.emit(&mut packet[HEADER_LEN..]);
            self.seal(Kind::Data, *number, Some(range.start), packet);
        }
        self.set_probe_timer(now);
        Some(Transmit { len, segment_len })
    }

    /// Decides what the next batch carries and books it.
    fn plan_data(&mut self, now: Instant, packets_max: usize, plan: &mut [Planned]) -> usize {
        let payload_max = self.packet_len - DATA_OVERHEAD;
        let rate = self.controller.pacing_rate().unwrap_or_else(|| {
            let srtt_us = u64::try_from(self.rtt.srtt().as_micros().max(1)).unwrap_or(u64::MAX);
            self.window_bytes().saturating_mul(PACING_GAIN.0 * 1_000_000) / PACING_GAIN.1 / srtt_us
        });
        // Where the path is short and yet a round trip long, the time goes by at the two ends: no pace helps.
        let rtt = if self.is_local() { self.rtt.min() } else { self.rtt.srtt() };
        self.pacer.set_rate(rate, rtt, self.packet_len as u64, self.peer_burst);
        let mut budget = self.pacer.budget(now);
        let mut count = 0;
        while count < packets_max.min(plan.len()) && self.sent.make_room() {
            let probing = self.due.probes > 0;
            if !probing && (self.is_window_full() || budget == 0) {
                self.window_limited = true;
                break;
            }
            // One of the two probes is small: it passes where large packets have ceased to.
            let payload_max = if self.due.probes == 1 { PACKET_LEN_MIN - DATA_OVERHEAD } else { payload_max };
            let Some((range, resent)) = self.next_data(payload_max, probing) else {
                self.window_limited = false;
                self.delivery.on_app_limited(self.sent.bytes_in_flight());
                break;
            };
            let window_packets = self.window_bytes() / self.packet_len as u64;
            if self.due.skip.is_due(self.sent.next_number(), window_packets) {
                self.sent.skip(now);
            }
            let sent_len = packet_len(&range);
            let number = self.book(now, Carried::data(&range), sent_len);
            self.stats.packets_resent += u64::from(resent);
            self.due.probes = self.due.probes.saturating_sub(1);
            self.pacer.on_sent(now, sent_len as u64);
            budget = budget.saturating_sub(sent_len as u64);
            plan[count] = Planned { number, range };
            count += 1;
            if sent_len < self.packet_len {
                break;
            }
        }
        count
    }

    /// Books a packet, with what the network has delivered so far.
    fn book(&mut self, now: Instant, carried: Carried, len: usize) -> u64 {
        let idle = !self.sent.is_any_in_flight();
        let snapshot = (carried != Carried::Nothing).then(|| self.delivery.on_sent(now, idle));
        self.sent.push(SentPacket { carried, len, sent_at: now, snapshot })
    }

    /// The next octets to send, and whether they had been sent before.
    fn next_data(&mut self, payload_max: usize, probing: bool) -> Option<(Range<u64>, bool)> {
        let idle = !self.sent.is_any_in_flight();
        let Flow::Send(window) = &mut self.flow else { return None };
        if let Some(range) = window.next(payload_max as u64, idle) {
            let resent = window.on_sent(&range);
            return Some((range, resent));
        }
        if probing { self.sent.copy_oldest_data(payload_max).map(|range| (range, true)) } else { None }
    }

    fn is_window_full(&self) -> bool {
        self.sent.packets_in_flight() >= self.arq.packets_max()
            || self.sent.bytes_in_flight() + self.packet_len as u64 > self.window_bytes()
    }

    /// When the pacer lets go of what the window allows already.
    pub(super) fn pacer_deadline(&self) -> Option<Instant> {
        let Flow::Send(window) = &self.flow else { return None };
        let may_send = self.state.may_send_data()
            && self.sent.has_room()
            && !self.is_window_full()
            && window.next((self.packet_len - DATA_OVERHEAD) as u64, !self.sent.is_any_in_flight()).is_some();
        if may_send { self.pacer.deadline() } else { None }
    }
}

fn packet_len(range: &Range<u64>) -> usize {
    DATA_OVERHEAD + usize::try_from(range.end - range.start).expect("shorter than a packet")
}

/// Reads the octets of all planned packets into their places, one read for each contiguous run: to the end of the run's
/// packets first, then each packet's part moves forward to where it belongs. (Measured: one read of 63 kB and the moves cost a
/// sixth less than one that scatters over 44 gaps.)
fn read_data(
    batch: &mut [u8],
    segment_len: usize,
    plan: &[Planned],
    source: &mut Source<'_>,
) -> io::Result<()> {
    let mut rest = batch;
    for run in plan.chunk_by(|a, b| a.range.end == b.range.start) {
        let run_len = rest.len().min(run.len() * segment_len);
        let (packets, behind) = rest.split_at_mut(run_len);
        rest = behind;
        // What moves never overtakes what is still to move: each packet's gap lies before the parts that follow it.
        let mut from = run.len() * DATA_OVERHEAD;
        source(run[0].range.start, &mut packets[from..])?;
        for (index, Planned { range, .. }) in run.iter().enumerate() {
            let until = from + (packet_len(range) - DATA_OVERHEAD);
            packets.copy_within(from..until, index * segment_len + HEADER_LEN + DATA_PREFIX_LEN);
            from = until;
        }
    }
    Ok(())
}
