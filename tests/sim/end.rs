//! One end of a transfer: its connection, its file, and the invariants that every one of its steps must keep. The
//! [module](super) tells which is checked where.

use std::io;
use std::time::{Duration, Instant};

use packetboat::rudp::{
    Config, Connection, ConnectionError, Direction, Event, Receipt, Role, State, Transmit,
};
use packetboat::wire::packet::{DATA_OVERHEAD, Header, Kind};

use super::file::{self, Kept};
use super::secs;

/// Progress is counted in slices of this time.
pub const SLICE: Duration = Duration::from_millis(100);

/// I8: an end with nothing in flight wakes up at most so often in a second.
const IDLE_WAKE_UPS_MAX: u32 = 50;

/// I3: what an end may hold beside the window that a sender has.
const SENDER_MEMORY_LEN_MAX: u64 = 1 << 20;
const RECEIVER_MEMORY_LEN_MAX: u64 = 8 << 20;

/// I9: what an end may hold once it is over.
const CLOSED_MEMORY_LEN_MAX: u64 = 32 << 10;

/// I9: for so long an end that is over is looked at.
const EVER: Duration = secs(100_000);

/// An end that holds the key but not to the rules. It says what it likes and keeps time as it likes.
pub trait Hostile {
    /// A datagram has come; what goes into `out` is sent.
    fn handle(&mut self, now: Duration, datagram: &mut [u8], out: &mut Vec<Vec<u8>>);

    /// The time it asked for has come.
    fn wake(&mut self, _now: Duration, _out: &mut Vec<Vec<u8>>) {}

    /// When it wants to be woken: later than the last time.
    fn wake_at(&self) -> Option<Duration> {
        None
    }
}

/// Packets of one kind that an end has sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub packets: u64,
    pub bytes: u64,
}

pub struct End {
    pub connection: Connection,
    /// Plays this end instead of the connection.
    pub hostile: Option<Box<dyn Hostile>>,
    pub events: Vec<(Duration, Event)>,
    /// The receiver's file.
    pub kept: Kept,
    /// Reading the file fails.
    pub is_unreadable: bool,
    /// Writing it fails.
    pub is_unwritable: bool,
    /// Octets of the file that were kept in each [`SLICE`] since the start of the world.
    pub slices: Vec<u64>,
    /// Datagrams that had a bit flipped on their way to this end.
    pub flips_received: u64,
    /// When it wants to be woken.
    pub(super) deadline: Option<Duration>,
    epoch: Instant,
    packet_len_max: u64,
    direction: Direction,
    /// I2: whether it knows where its peer is. A client is told; a server has to hear of it.
    knows_peer: bool,
    sent: [Sent; 8],
    newest_number: Option<u32>,
    timeouts: u64,
    /// I1: octets that probes may still add beyond the window.
    probe_budget: u64,
    /// I8: the second, and how many idle wake-ups it has had.
    idle_wake_ups: (u64, u32),
}

impl End {
    pub fn new(config: Config, epoch: Instant, start: Duration) -> End {
        let kept_size = if config.direction == Direction::Receive { config.size } else { 0 };
        let mut kept = Kept::new(kept_size);
        kept.insert(0..config.start.min(kept_size)).expect("within the file");
        End {
            packet_len_max: config.packet_len_max as u64,
            direction: config.direction,
            knows_peer: config.role == Role::Client,
            connection: Connection::new(config, epoch + start),
            hostile: None,
            events: Vec::new(),
            kept,
            is_unreadable: false,
            is_unwritable: false,
            slices: Vec::new(),
            flips_received: 0,
            deadline: Some(start),
            epoch,
            sent: [Sent::default(); 8],
            newest_number: None,
            timeouts: 0,
            probe_budget: 0,
            idle_wake_ups: (0, 0),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.connection.state() == State::Closed
    }

    /// Why it failed, if it did.
    pub fn failed(&self) -> Option<&ConnectionError> {
        self.events.iter().find_map(|(_, event)| match event {
            Event::Closed(Err(error)) => Some(error),
            _ => None,
        })
    }

    /// When the first event of this kind came.
    pub fn time_of(&self, event: &Event) -> Option<Duration> {
        self.events.iter().find(|(_, e)| e == event).map(|(at, _)| *at)
    }

    /// When it was closed, in whatever way.
    pub fn closed_at(&self) -> Option<Duration> {
        self.events.iter().find(|(_, event)| matches!(event, Event::Closed(_))).map(|(at, _)| *at)
    }

    /// What it has sent of a kind, whole packets.
    pub fn sent(&self, kind: Kind) -> Sent {
        self.sent[kind as usize]
    }

    /// Octets of the file that it has sent, every copy counted.
    pub fn file_bytes_sent(&self) -> u64 {
        let data = self.sent(Kind::Data);
        data.bytes - data.packets * DATA_OVERHEAD as u64
    }

    /// Packets of every kind.
    pub fn packets_sent(&self) -> u64 {
        self.sent.iter().map(|sent| sent.packets).sum()
    }

    /// Octets of the file that came between two times, per second.
    pub fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let slice = |at: Duration| (at.as_nanos() / SLICE.as_nanos()) as usize;
        let bytes: u64 = self.slices.iter().take(slice(to)).skip(slice(from)).sum();
        bytes as f64 / (to - from).as_secs_f64()
    }

    /// The longest time without an octet of the file, between two times.
    pub fn longest_stall(&self, from: Duration, to: Duration) -> Duration {
        let slice = |at: Duration| (at.as_nanos() / SLICE.as_nanos()) as usize;
        let (mut longest, mut stall) = (0, 0);
        for at in slice(from)..slice(to) {
            stall = if self.slices.get(at).is_some_and(|&bytes| bytes > 0) { 0 } else { stall + 1 };
            longest = longest.max(stall);
        }
        SLICE * longest
    }

    pub(super) fn wake(&mut self, now: Duration, out: &mut Vec<Vec<u8>>) -> Result<(), String> {
        if let Some(hostile) = &mut self.hostile {
            hostile.wake(now, out);
            return Ok(());
        }
        if self.connection.in_flight_and_window().0 == 0 {
            let (second, count) = &mut self.idle_wake_ups;
            *count = if *second == now.as_secs() { *count + 1 } else { 1 };
            *second = now.as_secs();
            if *count > IDLE_WAKE_UPS_MAX {
                return Err(format!("woken {count} times a second with nothing in flight (I8)"));
            }
        }
        self.connection.handle_timeout(self.epoch + now);
        Ok(())
    }

    pub(super) fn handle(
        &mut self,
        now: Duration,
        datagram: &mut [u8],
        out: &mut Vec<Vec<u8>>,
    ) -> Result<Receipt, String> {
        if let Some(hostile) = &mut self.hostile {
            hostile.handle(now, datagram, out);
            return Ok(Receipt::Accepted { newest: true });
        }
        let before = self.kept.bytes;
        let (kept, is_unwritable, mut fault) = (&mut self.kept, self.is_unwritable, None);
        let receipt = self.connection.handle_datagram(self.epoch + now, datagram, &mut |offset, octets| {
            if is_unwritable {
                return Err(io::Error::other("a broken disk"));
            }
            if !file::is_at(offset, octets) {
                fault = Some(format!("wrong octets at {offset} (I5)"));
            }
            if let Err(what) = kept.insert(offset..offset + octets.len() as u64) {
                fault = Some(format!("{what}, {} at {offset} (I5)", octets.len()));
            }
            Ok(())
        });
        self.knows_peer |= receipt != Receipt::Refused;
        let slice = (now.as_nanos() / SLICE.as_nanos()) as usize;
        if self.kept.bytes > before {
            if self.slices.len() <= slice {
                self.slices.resize(slice + 1, 0);
            }
            self.slices[slice] += self.kept.bytes - before;
        }
        fault.map_or(Ok(receipt), Err)
    }

    /// The next packets to send, checked.
    pub(super) fn poll(&mut self, now: Duration, buffer: &mut [u8]) -> Result<Option<Transmit>, String> {
        let (in_flight_before, _) = self.connection.in_flight_and_window();
        let is_unreadable = self.is_unreadable;
        let transmit = self.connection.poll_transmit(self.epoch + now, buffer, &mut |offset, slices| {
            if is_unreadable { Err(io::Error::other("a broken disk")) } else { file::read(offset, slices) }
        });
        let Some(transmit) = transmit else { return Ok(None) };
        if !self.knows_peer {
            return Err("something was said to nobody (I2)".to_owned());
        }
        if self.closed_at().is_some() {
            return Err("something was said after the end (I9)".to_owned());
        }
        for packet in buffer[..transmit.len].chunks(transmit.segment_len) {
            let header = Header::parse(packet).map_err(|_| "sent what is no packet".to_owned())?;
            // I4, and more: numbers grow in the order of sending.
            if self.newest_number.is_some_and(|newest| header.number_low <= newest) {
                return Err(format!("number {} after {:?} (I4)", header.number_low, self.newest_number));
            }
            self.newest_number = Some(header.number_low);
            let sent = &mut self.sent[header.kind as usize];
            sent.packets += 1;
            sent.bytes += packet.len() as u64;
        }
        self.check_window(in_flight_before, transmit)?;
        Ok(Some(transmit))
    }

    /// I1. A window that has shrunk is not exceeded by what was sent before, only by what is sent now.
    fn check_window(&mut self, before: u64, transmit: Transmit) -> Result<(), String> {
        let (in_flight, window) = self.connection.in_flight_and_window();
        let timeouts = self.connection.stats().timeouts;
        let two_probes = 2 * self.packet_len_max;
        if timeouts > self.timeouts {
            self.timeouts = timeouts;
            self.probe_budget = two_probes;
        }
        let is_control = transmit.len < 64;
        if in_flight <= window.max(before) || is_control {
            return Ok(());
        }
        let beyond = in_flight - window.max(before);
        if beyond > self.probe_budget {
            return Err(format!("{in_flight} octets in flight, {before} before, window {window} (I1)"));
        }
        self.probe_budget -= beyond;
        Ok(())
    }

    /// After everything was said: takes the events and the next deadline, and looks at what is held.
    pub(super) fn settle(&mut self, now: Duration) -> Result<usize, String> {
        let known = self.events.len();
        if let Some(hostile) = &self.hostile {
            self.deadline = hostile.wake_at();
            return Ok(known);
        }
        while let Some(event) = self.connection.poll_event() {
            if event == Event::Delivered && !self.kept.is_complete() {
                return Err(format!("delivered with {} octets (I6)", self.kept.bytes));
            }
            if self.closed_at().is_some() {
                return Err(format!("{event:?} after the end (I9)"));
            }
            self.events.push((now, event));
        }
        self.deadline = self.connection.poll_timeout().map(|at| at.saturating_duration_since(self.epoch));
        self.check_memory()?;
        Ok(known)
    }

    /// I3, and what I9 says of memory.
    fn check_memory(&self) -> Result<(), String> {
        let (_, window) = self.connection.in_flight_and_window();
        let (allowed, which) = match self.direction {
            _ if self.is_closed() => (CLOSED_MEMORY_LEN_MAX, "I9"),
            Direction::Send => (SENDER_MEMORY_LEN_MAX + window, "I3"),
            Direction::Receive => (RECEIVER_MEMORY_LEN_MAX, "I3"),
        };
        let held = self.connection.memory_len() as u64;
        if held > allowed {
            return Err(format!("{held} octets held, {allowed} allowed ({which})"));
        }
        Ok(())
    }

    /// I9: an end that is over stays so, whatever the time, and an end that is not waits for something.
    pub(super) fn check_over(&mut self, now: Duration) -> Result<(), String> {
        if self.hostile.is_some() {
            return Ok(());
        }
        if !self.is_closed() || self.closed_at().is_none() {
            return Err("an open connection waits for nothing (I9)".to_owned());
        }
        for later in [now, now + EVER] {
            self.connection.handle_timeout(self.epoch + later);
            if self.poll(later, &mut [0; 2_048])?.is_some() || self.connection.poll_timeout().is_some() {
                return Err("the end is not the end (I9)".to_owned());
            }
            self.settle(later)?;
        }
        Ok(())
    }
}
