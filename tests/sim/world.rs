//! The world: virtual time, the datagrams under way, and the ends of all transfers that share one link.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use packetboat::rudp::{Config, Event, Receipt, split_mix_64};

use super::end::{End, Hostile};
use super::link::{Link, Wire};
use super::reno::{self, Packet, Reno};
use super::secs;

/// What is under way, ordered by the time and then the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Duration,
    order: u64,
    cargo: usize,
}

#[derive(Debug, Clone, Copy)]
enum Cargo {
    /// For an end of ours; the octets lie in a buffer.
    Datagram { to: usize, buffer: usize, is_flipped: bool },
    /// Of a TCP flow.
    Tcp { flow: usize, packet: Packet },
}

/// A datagram as it entered the link.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub flow: usize,
    pub from_client: bool,
    pub bytes: Vec<u8>,
}

/// Everything there is. The ends of flow `f` are the client `2 f` and the server `2 f + 1`.
pub struct World {
    pub seed: u64,
    pub now: Duration,
    /// From clients to servers.
    pub up: Wire,
    /// From servers to clients.
    pub down: Wire,
    pub ends: Vec<End>,
    pub renos: Vec<Reno>,
    /// Every datagram of ours that entered the link, when asked for.
    pub record: Option<Vec<Recorded>>,
    epoch: Instant,
    arrivals: BinaryHeap<Reverse<Arrival>>,
    cargoes: Vec<Cargo>,
    free_cargoes: Vec<usize>,
    buffers: Vec<Vec<u8>>,
    free_buffers: Vec<usize>,
    batch: Vec<u8>,
    order: u64,
    trace: u64,
}

impl World {
    /// A link without flows.
    pub fn new(up: &Link, down: &Link, seed: u64) -> World {
        let mut chance = seed;
        World {
            seed,
            now: Duration::ZERO,
            up: Wire::new(up.clone(), split_mix_64(&mut chance)),
            down: Wire::new(down.clone(), split_mix_64(&mut chance)),
            ends: Vec::new(),
            renos: Vec::new(),
            record: None,
            epoch: Instant::now(),
            arrivals: BinaryHeap::new(),
            cargoes: Vec::new(),
            free_cargoes: Vec::new(),
            buffers: Vec::new(),
            free_buffers: Vec::new(),
            batch: vec![0; 65_536],
            order: 0,
            trace: 0,
        }
    }

    /// Another transfer; gives the number of its flow.
    pub fn add(&mut self, client: Config, server: Config, start: Duration) -> usize {
        self.ends.push(End::new(client, self.epoch, start));
        self.ends.push(End::new(server, self.epoch, start));
        self.ends.len() / 2 - 1
    }

    /// A TCP flow from server to client, without end; gives its number.
    pub fn add_reno(&mut self, start: Duration) -> usize {
        self.renos.push(Reno::new(start));
        self.renos.len() - 1
    }

    /// Somebody else plays an end from now on.
    pub fn play(&mut self, end: usize, hostile: impl Hostile + 'static) {
        self.ends[end].deadline = hostile.wake_at();
        self.ends[end].hostile = Some(Box::new(hostile));
    }

    /// The client of flow 0.
    pub fn client(&self) -> &End {
        &self.ends[0]
    }

    /// The server of flow 0.
    pub fn server(&self) -> &End {
        &self.ends[1]
    }

    /// The client of the first connection, to do something to it.
    pub fn client_mut(&mut self) -> &mut End {
        &mut self.ends[0]
    }

    /// While cut, the link swallows everything, both ways.
    pub fn cut(&mut self, is_cut: bool) {
        (self.up.is_cut, self.down.is_cut) = (is_cut, is_cut);
    }

    /// Hash of everything that was on the link, and when, and of all events.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    pub fn describe(&self) -> String {
        let mut text = format!("seed {}, {:?}", self.seed, self.now);
        for (i, end) in self.ends.iter().enumerate() {
            let connection = &end.connection;
            let who = if i % 2 == 0 { "client" } else { "server" };
            text += &format!(
                "\n  flow {} {who}: {:?}, {} octets, in flight and window {:?}, {:?}, {:?}",
                i / 2,
                connection.state(),
                connection.moved_bytes(),
                connection.in_flight_and_window(),
                connection.stats(),
                end.events
            );
        }
        text
    }

    /// Runs until nothing will happen any more; that must be within `limit`, and everybody's end.
    pub fn run(&mut self, limit: Duration) {
        while self.step() {
            assert!(self.now <= limit, "not over after {limit:?}: {}", self.describe());
        }
        for end in 0..self.ends.len() {
            let over = self.ends[end].check_over(self.now);
            self.check(over);
        }
    }

    /// Runs until `time`, or until nothing will happen any more; tells whether something will.
    pub fn run_until(&mut self, time: Duration) -> bool {
        while self.next_time().is_some_and(|next| next <= time) {
            self.step();
        }
        self.now = self.now.max(time);
        self.next_time().is_some()
    }

    /// Runs until the world is as wanted; that must happen.
    pub fn run_while(&mut self, mut unwanted: impl FnMut(&World) -> bool) {
        while unwanted(self) {
            assert!(self.step() && self.now < secs(100_000), "it never happens: {}", self.describe());
        }
    }

    /// Asserts that the client of every flow has its whole file, and nothing failed.
    pub fn assert_identical(&self) {
        for (i, end) in self.ends.iter().enumerate() {
            assert!(end.failed().is_none() && end.kept.is_complete(), "end {i}: {}", self.describe());
            assert!(end.is_closed(), "end {i}: {}", self.describe());
        }
    }

    fn check<T>(&self, result: Result<T, String>) -> T {
        result.unwrap_or_else(|broken| panic!("{broken}: {}", self.describe()))
    }

    fn next_timer(&self) -> Option<(Duration, usize)> {
        let ends = self.ends.iter().map(|end| end.deadline);
        let timers = ends.chain(self.renos.iter().map(Reno::wake_at)).enumerate();
        timers.filter_map(|(who, at)| Some((at?, who))).min()
    }

    fn next_time(&self) -> Option<Duration> {
        let arrival = self.arrivals.peek().map(|Reverse(arrival)| arrival.at);
        arrival.into_iter().chain(self.next_timer().map(|(at, _)| at)).min()
    }

    /// Whatever comes next, a datagram or a timer. `false` when nothing will come.
    pub fn step(&mut self) -> bool {
        let arrival = self.arrivals.peek().map(|Reverse(arrival)| arrival.at);
        match (arrival, self.next_timer()) {
            (None, None) => return false,
            (Some(arrival), timer) if timer.is_none_or(|(at, _)| arrival <= at) => {
                self.now = self.now.max(arrival);
                self.arrive();
            }
            (_, None) => unreachable!("an arrival without a timer was dealt with"),
            (_, Some((at, who))) => {
                self.now = self.now.max(at);
                self.wake(who);
            }
        }
        true
    }

    fn arrive(&mut self) {
        let Some(Reverse(arrival)) = self.arrivals.pop() else { return };
        let cargo = self.cargoes[arrival.cargo];
        self.free_cargoes.push(arrival.cargo);
        match cargo {
            Cargo::Datagram { to, buffer, is_flipped } => {
                let mut datagram = std::mem::take(&mut self.buffers[buffer]);
                if is_flipped {
                    self.ends[to].flips_received += 1;
                    self.inject_forged(to, &mut datagram);
                } else {
                    self.deliver(to, &mut datagram);
                }
                self.buffers[buffer] = datagram;
                self.free_buffers.push(buffer);
            }
            Cargo::Tcp { flow, packet: Packet::Segment { number } } => {
                let ack = self.renos[flow].on_segment(self.now, number);
                self.enter_tcp(flow, ack);
            }
            Cargo::Tcp { flow, packet: Packet::Ack { largest, below } } => {
                self.renos[flow].on_ack(self.now, largest, below);
                self.drain_tcp(flow);
            }
        }
    }

    fn wake(&mut self, who: usize) {
        if let Some(flow) = who.checked_sub(self.ends.len()) {
            self.renos[flow].wake(self.now);
            return self.drain_tcp(flow);
        }
        let mut out = Vec::new();
        let woken = self.ends[who].wake(self.now, &mut out);
        self.check(woken);
        self.drain(who, out);
        let deadline = self.ends[who].deadline;
        assert!(
            deadline.is_none_or(|at| at > self.now),
            "end {who} wants to be woken at {deadline:?}, which is not in the future (I8): {}",
            self.describe()
        );
    }

    /// Hands a datagram to an end, as if the link had delivered it.
    pub fn deliver(&mut self, to: usize, datagram: &mut [u8]) -> Receipt {
        let mut out = Vec::new();
        let handled = self.ends[to].handle(self.now, datagram, &mut out);
        let receipt = self.check(handled);
        self.drain(to, out);
        receipt
    }

    /// Hands a datagram to an end that has no turn to speak before the next [`drain`](Self::drain).
    pub fn hand_over(&mut self, to: usize, datagram: &mut [u8]) -> Receipt {
        let handled = self.ends[to].handle(self.now, datagram, &mut Vec::new());
        self.check(handled)
    }

    /// Hands an end what the peer has not sealed: it must be refused, answered by nothing, and change no timer (I7).
    pub fn inject_forged(&mut self, to: usize, datagram: &mut [u8]) {
        self.drain(to, Vec::new());
        let (sent, deadline) = (self.ends[to].packets_sent(), self.ends[to].deadline);
        let receipt = self.deliver(to, datagram);
        let end = &self.ends[to];
        let was_ignored = (receipt, end.packets_sent(), end.deadline) == (Receipt::Refused, sent, deadline);
        assert!(
            was_ignored || end.hostile.is_some(),
            "end {to} took a forged packet (I7): {}",
            self.describe()
        );
    }

    /// Lets an end of ours say what it has to say.
    pub fn drain(&mut self, from: usize, out: Vec<Vec<u8>>) {
        for datagram in out {
            self.enter(from, &datagram);
        }
        let mut batch = std::mem::take(&mut self.batch);
        while self.ends[from].hostile.is_none() {
            let polled = self.ends[from].poll(self.now, &mut batch);
            let Some(transmit) = self.check(polled) else { break };
            for packet in batch[..transmit.len].chunks(transmit.segment_len) {
                self.enter(from, packet);
            }
        }
        self.batch = batch;
        let settled = self.ends[from].settle(self.now);
        let known = self.check(settled);
        for i in known..self.ends[from].events.len() {
            let (_, event) = &self.ends[from].events[i];
            let peer = &self.ends[from ^ 1];
            let arrived = *event != Event::Delivered || peer.kept.is_complete() || peer.hostile.is_some();
            assert!(arrived, "end {from} delivered what has not arrived (I6): {}", self.describe());
            let word = match event {
                Event::Established => 1,
                Event::Delivered => 2,
                Event::Closed(Ok(())) => 3,
                Event::Closed(Err(_)) => 4,
            };
            self.note(from as u64, word);
        }
    }

    fn note(&mut self, who: u64, what: u64) {
        let mut state = self.trace ^ self.now.as_nanos() as u64 ^ (who << 56);
        self.trace = split_mix_64(&mut state) ^ what;
    }

    /// A datagram of ours enters the link.
    fn enter(&mut self, from: usize, datagram: &[u8]) {
        let tail = datagram.last_chunk::<8>().map_or(0, |tag| u64::from_be_bytes(*tag));
        self.note(from as u64, tail ^ datagram.len() as u64);
        let from_client = from.is_multiple_of(2);
        if let Some(record) = &mut self.record {
            record.push(Recorded { flow: from / 2, from_client, bytes: datagram.to_vec() });
        }
        let wire = if from_client { &mut self.up } else { &mut self.down };
        let Some(passage) = wire.enter(self.now, datagram.len()) else { return };
        for _ in 0..1 + u8::from(passage.is_doubled) {
            let buffer = self.free_buffers.pop().unwrap_or_else(|| {
                self.buffers.push(Vec::new());
                self.buffers.len() - 1
            });
            self.buffers[buffer].clear();
            self.buffers[buffer].extend_from_slice(datagram);
            if let Some(bit) = passage.flip {
                self.buffers[buffer][bit / 8] ^= 1 << (bit % 8);
            }
            let is_flipped = passage.flip.is_some();
            self.send(passage.at, Cargo::Datagram { to: from ^ 1, buffer, is_flipped });
        }
    }

    fn drain_tcp(&mut self, flow: usize) {
        while let Some(segment) = self.renos[flow].poll(self.now) {
            self.enter_tcp(flow, segment);
        }
    }

    fn enter_tcp(&mut self, flow: usize, packet: Packet) {
        let passage = match packet {
            Packet::Segment { .. } => self.down.enter(self.now, reno::SEGMENT_PAYLOAD_LEN),
            Packet::Ack { .. } => self.up.enter(self.now, reno::ACK_PAYLOAD_LEN),
        };
        // A flipped bit is a lost segment.
        if let Some(passage) = passage.filter(|passage| passage.flip.is_none()) {
            self.send(passage.at, Cargo::Tcp { flow, packet });
        }
    }

    fn send(&mut self, at: Duration, cargo: Cargo) {
        let index = self.free_cargoes.pop().unwrap_or(self.cargoes.len());
        if index == self.cargoes.len() {
            self.cargoes.push(cargo);
        } else {
            self.cargoes[index] = cargo;
        }
        self.order += 1;
        self.arrivals.push(Reverse(Arrival { at, order: self.order, cargo: index }));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Also what panics inside a connection (I10) says how to replay it.
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "next to the panic's own words")]
            {
                eprintln!("the world that fell had seed {}, at {:?}", self.seed, self.now);
            }
        }
    }
}
