//! The connection's state and its face: datagrams come in here and are told apart.
//!
//! What they mean is in `opening` (SYN, SYN-ACK), `incoming` (DATA, FIN) and `acknowledged` (ACK); `timers` acts on
//! time, and `transmit` says what is due.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::arq::ArqScheme;
use super::congestion::{Controller, ControllerKind};
use super::delivery::Delivery;
use super::pacer::Pacer;
use super::recovery::{BlackHole, Reordering};
use super::recv_window::{RecvNumbers, RecvWindow};
use super::rtt::Rtt;
use super::seal::{Keys, Role, reconstruct};
use super::send_window::SendWindow;
use super::sent::SentPackets;
use super::state::{Input, State};
use super::trace::{Trace, TraceEvent, Tracer};
use super::transmit::Due;
use super::{Config, ConnectionError, Direction, Event, PACKET_LEN_MIN, Stats};
use crate::wire::packet::{Body, Header, Kind};

/// The first timer of the open is three round trips, but never outside these bounds. Ours.
const SYN_TIMER_MIN: Duration = Duration::from_millis(100);
const SYN_TIMER_MAX: Duration = Duration::from_secs(1);

/// Below this round trip the peer's socket buffer bounds the window: nothing drains it but the peer's own thread.
const RTT_LOCAL: Duration = Duration::from_millis(1);

/// Writes octets of the file at an offset.
pub type Keep<'a> = dyn FnMut(u64, &[u8]) -> io::Result<()> + 'a;

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// Dropped in silence: not the peer's, seen before, or of no meaning now.
    Refused,
    /// The peer's.
    Accepted {
        /// Whether its number is the largest so far: its source address is where the peer is now.
        newest: bool,
    },
}

/// The file, from this end.
#[derive(Debug)]
pub(super) enum Flow {
    Send(SendWindow),
    Receive(RecvWindow),
    /// The connection is over; so much had moved.
    Over {
        moved_bytes: u64,
    },
}

impl Flow {
    /// The offset up to which the peer may send: nothing where the file is here.
    pub(super) fn credit(&self) -> u64 {
        match self {
            Flow::Send(_) | Flow::Over { .. } => 0,
            Flow::Receive(window) => window.credit(),
        }
    }

    fn memory_len(&self) -> usize {
        match self {
            Flow::Send(window) => window.memory_len(),
            Flow::Receive(window) => window.memory_len(),
            Flow::Over { .. } => 0,
        }
    }
}

/// One reliable-UDP connection. See the [module](super) for the order of calls.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) keys: Keys,
    pub(super) peer_keys: Keys,
    pub(super) sent: SentPackets,
    pub(super) received: RecvNumbers,
    pub(super) flow: Flow,
    pub(super) rtt: Rtt,
    pub(super) arq: ArqScheme,
    pub(super) controller_kind: ControllerKind,
    pub(super) controller: Box<dyn Controller>,
    pub(super) tracer: Tracer,
    pub(super) delivery: Delivery,
    pub(super) reordering: Reordering,
    pub(super) pacer: Pacer,
    /// The UDP payload that is known to pass.
    pub(super) confirmed_len: usize,
    /// The UDP payload in use.
    pub(super) packet_len: usize,
    /// What the peer's socket holds at once, in octets.
    pub(super) peer_burst: u64,
    pub(super) due: Due,
    /// Whether the window (or the pacer) was what stopped the last sending.
    pub(super) window_limited: bool,
    pub(super) stats: Stats,
    /// When the largest number came.
    pub(super) largest_at: Instant,
    pub(super) syn_acks: u8,
    pub(super) syn_at: Option<Instant>,
    pub(super) syn_timer: Duration,
    pub(super) open_until: Option<Instant>,
    pub(super) heard_at: Instant,
    pub(super) loss_at: Option<Instant>,
    pub(super) probe_at: Option<Instant>,
    /// When TIME-WAIT, or the patience with a close, is over: a receiver's begins with the last octet.
    pub(super) close_at: Option<Instant>,
    /// When the peer last acknowledged something new.
    pub(super) acked_at: Option<Instant>,
    /// When the peer's speed is looked at next, and what had moved at the last times.
    pub(super) speed_at: Option<Instant>,
    pub(super) speed_samples: VecDeque<u64>,
    pub(super) black_hole: BlackHole,
    /// Nothing came through for so long that the path must have changed.
    pub(super) path_was_dead: bool,
    /// The end of the octets that came from furthest behind in the file.
    pub(super) rcv_max: u64,
    pub(super) delivered: bool,
    pub(super) events: VecDeque<Event>,
}

impl Connection {
    /// A client's connection sends its SYN at the first poll; a server's waits for it.
    pub fn new(config: Config, now: Instant) -> Connection {
        let opens = config.role == Role::Client;
        let flow = match config.direction {
            Direction::Send => Flow::Send(SendWindow::new(config.start, config.size)),
            Direction::Receive => {
                Flow::Receive(RecvWindow::new(config.start..config.size, config.window_bytes, config.granted))
            }
        };
        let syn_timer = (config.rtt_guess * 3).clamp(SYN_TIMER_MIN, SYN_TIMER_MAX);
        let kind = config.controller.unwrap_or_default();
        Connection {
            state: if opens { State::SynSent } else { State::Listen },
            keys: Keys::new(&config.key.0, config.role),
            peer_keys: Keys::new(&config.key.0, config.role.peer()),
            sent: SentPackets::default(),
            received: RecvNumbers::default(),
            flow,
            rtt: Rtt::new(config.rtt_guess),
            arq: config.arq.unwrap_or_default(),
            controller_kind: kind,
            tracer: Tracer::new(now),
            controller: kind.start(PACKET_LEN_MIN, config.seed),
            delivery: Delivery::default(),
            reordering: Reordering::default(),
            pacer: Pacer::default(),
            confirmed_len: PACKET_LEN_MIN,
            packet_len: PACKET_LEN_MIN,
            peer_burst: u64::MAX,
            due: Due::new(opens, config.seed),
            window_limited: false,
            stats: Stats::default(),
            largest_at: now,
            syn_acks: 0,
            syn_at: opens.then_some(now + syn_timer),
            syn_timer,
            open_until: Some(now + config.open_max),
            heard_at: now,
            loss_at: None,
            probe_at: None,
            close_at: None,
            acked_at: None,
            speed_at: None,
            speed_samples: VecDeque::new(),
            black_hole: BlackHole::default(),
            path_was_dead: false,
            rcv_max: config.start,
            delivered: false,
            events: VecDeque::new(),
            config,
        }
    }

    /// Tells what happens from now on to `trace`.
    pub fn set_trace(&mut self, trace: Trace) {
        self.tracer.set_sink(trace);
    }

    /// Where the connection is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The smoothed round trip, once one has been measured.
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.is_measured().then(|| self.rtt.srtt())
    }

    /// Octets of packets in flight, and how many may be.
    pub fn in_flight_and_window(&self) -> (u64, u64) {
        (self.sent.bytes_in_flight(), self.window_bytes())
    }

    /// Octets of the file that the receiver has: by its own knowledge, or as far as the sender knows.
    pub fn moved_bytes(&self) -> u64 {
        match &self.flow {
            Flow::Send(window) => window.acked_bytes(),
            Flow::Receive(window) => window.kept_bytes(),
            Flow::Over { moved_bytes } => *moved_bytes,
        }
    }

    /// Octets of memory that it holds: itself, the books of both directions and of the file, the controller. Not counted
    /// are the few hundred that a controller's filters hold, and the trace's own. A connection that is over holds little.
    pub fn memory_len(&self) -> usize {
        size_of::<Connection>()
            + size_of_val(self.controller.as_ref())
            + self.sent.memory_len()
            + self.received.memory_len()
            + self.flow.memory_len()
            + self.speed_samples.capacity() * size_of::<u64>()
            + self.events.capacity() * size_of::<Event>()
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Lets the sender go on to this offset of the file: the receiver's person has agreed.
    pub fn grant(&mut self, granted: u64) {
        if let Flow::Receive(window) = &mut self.flow {
            window.grant(granted);
            self.due.ack = true;
        }
    }

    /// How far ahead of the first gap the peer may be from now on, in octets: what others share with this connection.
    pub fn set_window(&mut self, window_bytes: u64) {
        if let Flow::Receive(window) = &mut self.flow {
            window.set_window(window_bytes);
        }
    }

    /// Ends the connection; the peer is told why where that helps.
    pub fn abort(&mut self, error: ConnectionError) {
        // Who has not heard of a peer has nobody to tell.
        let reason = if self.state == State::Listen { None } else { error.reason() };
        if self.advance(Input::Abort) {
            self.due = Due::rst(reason);
            self.events.push_back(Event::Closed(if self.delivered { Ok(()) } else { Err(error) }));
        }
    }

    /// Takes one datagram. Octets of the file that are new go to `keep`; they are acknowledged only if it succeeds.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8], keep: &mut Keep<'_>) -> Receipt {
        self.tracer.at(now);
        let receipt = self.handle_packet(now, datagram, keep);
        if receipt == Receipt::Refused {
            self.stats.datagrams_refused += 1;
        }
        receipt
    }

    fn handle_packet(&mut self, now: Instant, datagram: &mut [u8], keep: &mut Keep<'_>) -> Receipt {
        let Ok(header) = Header::parse(datagram) else { return Receipt::Refused };
        let number = reconstruct(header.number_low, self.received.expected());
        let expected_kind = self.state != State::Listen || header.kind == Kind::Syn;
        if header.id != self.config.id
            || self.state == State::Closed
            || !expected_kind
            || !self.received.is_new(number)
        {
            return Receipt::Refused;
        }
        let datagram_len = datagram.len();
        let Some(body) = self.peer_keys.open(number, datagram) else { return Receipt::Refused };
        let Ok(body) = Body::parse(header.kind, body) else {
            self.abort(ConnectionError::Protocol);
            return Receipt::Accepted { newest: false };
        };
        self.heard_at = now;
        self.tracer.tell(|| TraceEvent::PacketReceived { number, kind: header.kind, len: datagram_len });
        if !matches!(body, Body::Syn(_)) && self.advance(Input::RecvOther) {
            self.on_established(now);
        }
        if !self.handle_body(now, number, body, datagram_len, keep) {
            return Receipt::Accepted { newest: false };
        }
        let newest = self.received.insert(number);
        if newest {
            self.largest_at = now;
        }
        Receipt::Accepted { newest }
    }

    /// Acts on an authentic packet; `false` when it was not kept and must not be acknowledged.
    fn handle_body(
        &mut self,
        now: Instant,
        number: u64,
        body: Body<'_>,
        datagram_len: usize,
        keep: &mut Keep<'_>,
    ) -> bool {
        match body {
            Body::Syn(setup) => self.on_syn(now, number, &setup, datagram_len),
            Body::SynAck { echo, setup } => self.on_syn_ack(now, echo, &setup, datagram_len),
            Body::Ack(ack) => self.on_ack(now, &ack),
            Body::Data { back, offset, data } => {
                self.due.ack = true;
                self.received.on_lowest_tracked(number.saturating_sub(back.into()));
                let newest = number >= self.received.expected();
                return self.on_data(now, newest, offset, data, keep);
            }
            Body::Fin { back, size } => {
                self.due.ack = true;
                self.received.on_lowest_tracked(number.saturating_sub(back.into()));
                return self.on_fin(now, size);
            }
            Body::Ping { back } => {
                self.due.ack = true;
                self.received.on_lowest_tracked(number.saturating_sub(back.into()));
            }
            Body::Rst { reason } => {
                self.abort(ConnectionError::Reset(reason));
            }
        }
        true
    }

    /// Goes to the next state where the table has one; says so.
    pub(super) fn advance(&mut self, input: Input) -> bool {
        let Some(next) = self.state.next(input) else { return false };
        let old = std::mem::replace(&mut self.state, next);
        log::debug!("transfer {}: {old:?} -> {next:?}", self.config.id);
        self.tracer.tell(|| TraceEvent::State { old, new: next });
        if next == State::Closed {
            // An RST may follow, and its owner's questions; neither needs the books.
            self.sent.give_back();
            self.flow = Flow::Over { moved_bytes: self.moved_bytes() };
        }
        if next == State::Closed && input != Input::Abort {
            self.events.push_back(Event::Closed(Ok(())));
        }
        true
    }

    /// Tells how the path is.
    pub(super) fn trace_metrics(&mut self) {
        let (cwnd, bytes_in_flight) = (self.window_bytes(), self.sent.bytes_in_flight());
        let (rtt, controller) = (&self.rtt, &self.controller);
        self.tracer.tell(|| TraceEvent::Metrics {
            cwnd,
            bytes_in_flight,
            srtt: rtt.srtt(),
            min_rtt: rtt.min(),
            pacing_rate: controller.pacing_rate(),
        });
    }

    /// How many octets of packets may be in flight: one packet at least, for the size that the path carries may be
    /// confirmed after the controller has begun with a smaller one.
    pub(super) fn window_bytes(&self) -> u64 {
        let cwnd = self.controller.cwnd().max(self.packet_len as u64);
        if self.is_local() { cwnd.min(self.peer_burst.max(2 * self.packet_len as u64)) } else { cwnd }
    }

    /// Whether the path is shorter than any timer, on this host or to the next.
    pub(super) fn is_local(&self) -> bool {
        self.rtt.is_measured() && self.rtt.min() < RTT_LOCAL
    }
}
