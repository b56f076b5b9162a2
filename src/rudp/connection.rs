//! The connection's ears: what it makes of datagrams and of time. Its mouth is in [`super::transmit`].

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::congestion::{Acked, Controller, Lost};
use super::pacer::Pacer;
use super::recv_window::{RecvNumbers, RecvWindow};
use super::rtt::{PTO_MAX, Rtt};
use super::seal::{Keys, Role, reconstruct};
use super::send_window::SendWindow;
use super::sent::{Carried, SentPackets};
use super::state::{Input, State};
use super::transmit::Due;
use super::{
    CLOSE_MAX, Config, ConnectionError, Direction, Event, PACKET_LEN_MIN, PACKET_THRESHOLD, PEER_SILENT_MAX,
    PROBES_PER_TIMEOUT, Stats,
};
use crate::wire::packet::{Ack, Body, Header, Kind, Setup};

/// The first timer of the open is three round trips, but never outside these bounds. Ours.
const SYN_TIMER_MIN: Duration = Duration::from_millis(100);
const SYN_TIMER_MAX: Duration = Duration::from_secs(1);

/// Ours: a SYN-ACK answers a SYN, but no offer is worth more of them.
const SYN_ACKS_MAX: u8 = 10;

/// Ours: who hears nothing and waits for nothing asks after this time, or two probe timeouts.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);

/// Ours: a repeated FIN comes within three probe timeouts, or a second.
const TIME_WAIT_MIN: Duration = Duration::from_secs(1);

/// RFC 9002 (7.6.1): nothing has come through for so many probe timeouts.
const PERSISTENT_CONGESTION_PTOS: u32 = 3;

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
}

/// One reliable-UDP connection. See the [module](super) for the order of calls.
#[derive(Debug)]
pub struct Connection {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) keys: Keys,
    peer_keys: Keys,
    pub(super) sent: SentPackets,
    pub(super) received: RecvNumbers,
    pub(super) flow: Flow,
    pub(super) rtt: Rtt,
    pub(super) controller: Box<dyn Controller>,
    pub(super) pacer: Pacer,
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
    syn_acks: u8,
    syn_at: Option<Instant>,
    syn_timer: Duration,
    open_until: Option<Instant>,
    heard_at: Instant,
    loss_at: Option<Instant>,
    probe_at: Option<Instant>,
    /// When TIME-WAIT, or the patience with a close, is over.
    close_at: Option<Instant>,
    /// When the peer last acknowledged something new.
    acked_at: Option<Instant>,
    /// The end of the octets that came from furthest behind in the file.
    rcv_max: u64,
    delivered: bool,
    events: VecDeque<Event>,
}

impl Connection {
    /// A client's connection sends its SYN at the first poll; a server's waits for it.
    pub fn new(config: Config, now: Instant) -> Connection {
        let opens = config.role == Role::Client;
        let flow = match config.direction {
            Direction::Send => Flow::Send(SendWindow::new(config.size)),
            Direction::Receive => Flow::Receive(RecvWindow::new(config.size, config.window_bytes)),
        };
        let syn_timer = (config.rtt_guess * 3).clamp(SYN_TIMER_MIN, SYN_TIMER_MAX);
        Connection {
            state: if opens { State::SynSent } else { State::Listen },
            keys: Keys::new(&config.key.0, config.role),
            peer_keys: Keys::new(&config.key.0, config.role.peer()),
            sent: SentPackets::default(),
            received: RecvNumbers::default(),
            flow,
            rtt: Rtt::new(config.rtt_guess),
            controller: config.controller.start(PACKET_LEN_MIN),
            pacer: Pacer::default(),
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
            rcv_max: 0,
            delivered: false,
            events: VecDeque::new(),
            config,
        }
    }

    /// Where the connection is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its counters.
    pub fn stats(&self) -> Stats {
        self.stats
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
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ends the connection; the peer is told why where that helps.
    pub fn abort(&mut self, error: ConnectionError) {
        if self.advance(Input::Abort) {
            self.due = Due::rst(error.reason());
            self.events.push_back(Event::Closed(if self.delivered { Ok(()) } else { Err(error) }));
        }
    }

    /// Takes one datagram. Octets of the file that are new go to `keep`; they are acknowledged only if it succeeds.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8], keep: &mut Keep<'_>) -> Receipt {
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
        if !matches!(body, Body::Syn(_)) && self.advance(Input::RecvOther) {
            self.on_established();
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
            Body::Syn(setup) => self.on_syn(number, &setup, datagram_len),
            Body::SynAck { echo, setup } => self.on_syn_ack(now, echo, &setup, datagram_len),
            Body::Ack(ack) => self.on_ack(now, &ack),
            Body::Data { back, offset, data } => {
                self.due.ack = true;
                self.received.on_lowest_tracked(number.saturating_sub(back.into()));
                return self.on_data(number >= self.received.expected(), offset, data, keep);
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

    fn on_syn(&mut self, number: u64, setup: &Setup, datagram_len: usize) {
        if self.config.role == Role::Client {
            return self.abort(ConnectionError::Protocol);
        }
        if self.advance(Input::RecvSyn) {
            self.open_until = None;
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

    fn on_syn_ack(&mut self, now: Instant, echo: u32, setup: &Setup, datagram_len: usize) {
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
        self.packet_len = self.packet_len.max(confirmed_len);
        self.peer_burst = setup.burst_len.into();
        if !self.sent.is_any_in_flight() && !self.rtt.is_measured() {
            self.controller = self.config.controller.start(self.packet_len);
        }
        if let Flow::Send(window) = &mut self.flow {
            window.on_credit(setup.credit);
        }
    }

    fn on_established(&mut self) {
        self.open_until = None;
        self.syn_at = None;
        self.due.syn = 0;
        self.events.push_back(Event::Established);
        // An empty file is here as soon as the connection is.
        self.check_delivered();
    }

    fn on_data(&mut self, newest: bool, offset: u64, data: &[u8], keep: &mut Keep<'_>) -> bool {
        let Flow::Receive(window) = &mut self.flow else {
            self.abort(ConnectionError::Protocol);
            return false;
        };
        let range = offset..offset + data.len() as u64;
        if range.end > window.size() {
            self.abort(ConnectionError::Protocol);
            return false;
        }
        if !window.allows(&range) {
            return false;
        }
        let kept_before = window.kept_bytes();
        while let Some(gap) = window.first_gap(range.clone()) {
            let skipped = usize::try_from(gap.start - offset).expect("inside the packet");
            let gap_len = usize::try_from(gap.end - gap.start).expect("inside the packet");
            if keep(gap.start, &data[skipped..][..gap_len]).is_err() {
                self.abort(ConnectionError::File);
                return false;
            }
            window.keep(gap);
        }
        self.stats.packets_duplicate += u64::from(window.kept_bytes() == kept_before);
        // A newer number with older octets: the sender has sent them before.
        self.stats.packets_resent += u64::from(newest && offset < self.rcv_max);
        self.rcv_max = self.rcv_max.max(range.end);
        self.check_delivered();
        true
    }

    fn check_delivered(&mut self) {
        let done = match &self.flow {
            Flow::Send(window) => window.is_delivered(),
            Flow::Receive(window) => window.is_complete(),
        };
        if done && !self.delivered {
            self.delivered = true;
            self.events.push_back(Event::Delivered);
            // The sender closes first: it is the one who knows that nothing has to be sent again.
            self.due.fin = self.config.direction == Direction::Send;
        }
    }

    fn on_fin(&mut self, now: Instant, size: u64) -> bool {
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
            Flow::Send(_) => true,
        };
        if !whole {
            return false;
        }
        // The receiver's FIN answers ours: whoever has all data and closes has seen that we do. So it acknowledges
        // everything, and a lost ACK before it does not matter.
        if self.state == State::FinWait1 {
            self.sent.settle();
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

    fn on_ack(&mut self, now: Instant, ack: &Ack<'_>) {
        let mut fin_acked = false;
        let flow = &mut self.flow;
        let outcome = self.sent.on_ack(ack, |carried| match (carried, &mut *flow) {
            (Carried::Data(range) | Carried::Copied(range), Flow::Send(window)) => _ = window.on_acked(range),
            (Carried::Fin, _) => fin_acked = true,
            _ => {}
        });
        let Ok(outcome) = outcome else { return self.abort(ConnectionError::OptimisticAck) };
        if let Flow::Send(window) = &mut self.flow {
            window.on_credit(ack.credit);
        }
        self.stats.packets_spurious += u64::from(outcome.spurious);
        if let (Some(sent_at), true) = (outcome.newest_sent_at, outcome.is_largest_new) {
            let delay = Duration::from_micros(ack.delay_us.into());
            self.rtt.on_sample(now.saturating_duration_since(sent_at), delay);
        }
        if let Some(sent_at) = outcome.newest_sent_at {
            self.rtt.reset_backoff();
            self.due.probes = 0;
            let window_limited = self.window_limited;
            let bytes = outcome.acked_bytes;
            self.controller.on_acked(&Acked { now, bytes, sent_at, rtt: &self.rtt, window_limited });
            self.set_probe_timer(now);
        }
        self.find_lost(now);
        if outcome.newest_sent_at.is_some() {
            self.acked_at = Some(now);
        }
        self.check_delivered();
        if fin_acked && self.advance(Input::RecvAckOfFin) && self.state == State::TimeWait {
            self.wait(now);
        }
    }

    fn find_lost(&mut self, now: Instant) {
        let (flow, due, stats) = (&mut self.flow, &mut self.due, &mut self.stats);
        let loss_delay = self.rtt.loss_delay();
        let acked_at = self.acked_at;
        let mut newest_lost = None;
        let mut oldest_unanswered = None;
        self.loss_at = self.sent.detect_lost(now, PACKET_THRESHOLD, loss_delay, |packet| {
            stats.packets_lost += 1;
            newest_lost = Some(packet.sent_at);
            if acked_at.is_some_and(|at| at < packet.sent_at) {
                oldest_unanswered.get_or_insert(packet.sent_at);
            }
            match (&packet.carried, &mut *flow) {
                (Carried::Data(range), Flow::Send(window)) => window.on_lost(range),
                (Carried::Fin, _) => due.fin = true,
                _ => {}
            }
        });
        if let Some(sent_at) = newest_lost {
            self.controller.on_lost(&Lost { now, sent_at });
            self.set_probe_timer(now);
            let silence = oldest_unanswered.map(|oldest| sent_at.saturating_duration_since(oldest));
            if silence.is_some_and(|silence| silence > self.rtt.pto() * PERSISTENT_CONGESTION_PTOS) {
                self.controller.on_persistent_congestion();
            }
        }
        // A packet that was only late comes within another round trip.
        if let Some(then) = now.checked_sub(loss_delay * 2) {
            self.sent.forget_lost(then);
        }
    }

    /// RFC 9002 (6.2.1): the probe timer runs from the last packet that wants an ACK.
    pub(super) fn set_probe_timer(&mut self, now: Instant) {
        self.probe_at = self.sent.is_any_in_flight().then(|| now + self.rtt.pto());
    }

    /// Enters a wait from which only its end leads.
    fn wait(&mut self, now: Instant) {
        self.close_at = Some(now + (self.rtt.pto() * 3).max(TIME_WAIT_MIN));
    }

    /// Our FIN has left; the file is delivered, so there is no point in endless patience.
    pub(super) fn on_fin_sent(&mut self, now: Instant) {
        if self.advance(Input::SendFin) {
            self.close_at = Some(now + CLOSE_MAX);
        }
    }

    /// Goes to the next state where the table has one; says so.
    fn advance(&mut self, input: Input) -> bool {
        let Some(next) = self.state.next(input) else { return false };
        log::debug!("transfer {}: {:?} -> {next:?}", self.config.id, self.state);
        self.state = next;
        if next == State::Closed && input != Input::Abort {
            self.events.push_back(Event::Closed(Ok(())));
        }
        true
    }

    /// When the peer, of whom nothing is expected, is asked whether it is there.
    fn keepalive_at(&self) -> Option<Instant> {
        let waits =
            matches!(self.state, State::SynReceived | State::Established) && !self.sent.is_any_in_flight();
        waits.then(|| self.heard_at + (self.rtt.pto() * 2).clamp(KEEPALIVE_MIN, PTO_MAX))
    }

    fn silent_until(&self) -> Option<Instant> {
        let open = !matches!(self.state, State::Listen | State::SynSent | State::Closed);
        open.then(|| self.heard_at + PEER_SILENT_MAX)
    }

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
            self.pacer_deadline(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Acts on every timer due at `now`; calling it too early or twice does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
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
            self.due.probes = PROBES_PER_TIMEOUT;
            self.set_probe_timer(now);
        }
        if is_due(self.keepalive_at()) {
            self.due.ping = true;
        }
    }

    /// How many octets of packets may be in flight.
    pub(super) fn window_bytes(&self) -> u64 {
        let cwnd = self.controller.cwnd();
        let local = self.rtt.is_measured() && self.rtt.min() < RTT_LOCAL;
        if local { cwnd.min(self.peer_burst.max(2 * self.packet_len as u64)) } else { cwnd }
    }
}
