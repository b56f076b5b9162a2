//! Two connections and the link between them, in virtual time, from a seed.
//!
//! After every step the invariants of the protocol are checked; what fails names the seed, and the seed replays it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::io::{self, IoSliceMut};
use std::time::{Duration, Instant};

use packetboat::rudp::congestion::ControllerKind;
use packetboat::rudp::{
    ArqScheme, Config, Connection, ConnectionError, Direction, Event, OFFER_LIFE, PACKET_LEN_IPV4, Receipt,
    Role, State, split_mix_64,
};
use packetboat::wire::message::{Secret, TransferId};
use packetboat::wire::packet::{DATA_OVERHEAD, Header, Kind};

/// One direction's worth of a link. The default is that of the QUIC interop runner: 15 ms, 10 Mbit/s, 25 packets.
#[derive(Debug, Clone)]
pub struct Link {
    pub delay: Duration,
    pub bytes_per_s: u64,
    pub queue_packets: usize,
    pub loss: f64,
    pub duplicate: f64,
    /// A bit is flipped.
    pub corrupt: f64,
    pub reorder: f64,
    /// A reordered packet is late by up to this.
    pub reorder_delay: Duration,
    /// Drop exactly these packets, counted from 0.
    pub drop: Vec<u64>,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            delay: Duration::from_millis(15),
            bytes_per_s: 1_250_000,
            queue_packets: 25,
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(30),
            drop: Vec::new(),
        }
    }
}

/// Chance from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        split_mix_64(&mut self.0)
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.unit() < p
    }
}

/// The file that travels: every octet follows from its offset.
pub fn octet(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// One end, with its file.
pub struct End {
    pub connection: Connection,
    pub events: Vec<Event>,
    /// The receiver's file: each octet once.
    pub file: Vec<Option<u8>>,
    numbers: HashSet<u32>,
    link: Link,
    sent: u64,
    busy_until: Instant,
    queue: Vec<Instant>,
}

impl End {
    fn new(config: Config, link: Link, now: Instant) -> End {
        let file = if config.direction == Direction::Receive {
            vec![None; config.size as usize]
        } else {
            Vec::new()
        };
        End {
            connection: Connection::new(config, now),
            events: Vec::new(),
            file,
            numbers: HashSet::new(),
            link,
            sent: 0,
            busy_until: now,
            queue: Vec::new(),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.connection.state() == State::Closed
    }

    pub fn failed(&self) -> Option<&ConnectionError> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(Err(error)) => Some(error),
            _ => None,
        })
    }
}

/// A download over a link: the client receives.
pub struct Pair {
    pub seed: u64,
    pub now: Instant,
    pub start: Instant,
    pub client: End,
    pub server: End,
    /// Every datagram that entered the link, by direction (true: from the client).
    pub record: Vec<(bool, Vec<u8>)>,
    pub keep_record: bool,
    on_link: BinaryHeap<Reverse<(Instant, u64)>>,
    datagrams: BTreeMap<u64, (bool, Vec<u8>)>,
    random: Random,
    entered: u64,
    is_cut: bool,
    trace: blake3::Hasher,
}

/// The configuration of both ends for a file of this size.
pub fn configs(size: u64, seed: u64) -> (Config, Config) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_be_bytes());
    let server = Config {
        role: Role::Server,
        direction: Direction::Send,
        id: TransferId(7),
        key: Secret(key),
        size,
        packet_len_max: PACKET_LEN_IPV4,
        window_bytes: 8 << 20,
        burst_len: 212_992,
        rtt_guess: Duration::from_millis(30),
        open_max: OFFER_LIFE,
        arq: Some(ArqScheme::default()),
        controller: Some(ControllerKind::default()),
        granted: u64::MAX,
        seed,
    };
    let client = Config {
        role: Role::Client,
        direction: Direction::Receive,
        open_max: Duration::from_secs(60),
        seed: !seed,
        ..server.clone()
    };
    (client, server)
}

impl Pair {
    /// A download of `size` octets over `link` both ways.
    pub fn new(size: u64, link: &Link, seed: u64) -> Pair {
        let (client, server) = configs(size, seed);
        Pair::with(client, server, link, link, seed)
    }

    pub fn with(client: Config, server: Config, up: &Link, down: &Link, seed: u64) -> Pair {
        let now = Instant::now();
        Pair {
            seed,
            now,
            start: now,
            client: End::new(client, up.clone(), now),
            server: End::new(server, down.clone(), now),
            record: Vec::new(),
            keep_record: false,
            on_link: BinaryHeap::new(),
            datagrams: BTreeMap::new(),
            random: Random(seed),
            entered: 0,
            is_cut: false,
            trace: blake3::Hasher::new(),
        }
    }

    /// Runs until both ends are closed and the link is empty, or `limit` of virtual time has passed.
    pub fn run(&mut self, limit: Duration) {
        while self.elapsed() <= limit && self.step() {}
        assert!(self.elapsed() <= limit, "seed {}: not over after {limit:?}: {}", self.seed, self.describe());
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn describe(&self) -> String {
        let end = |end: &End| {
            let connection = &end.connection;
            format!(
                "{:?} {} bytes {:?} {:?}",
                connection.state(),
                connection.moved_bytes(),
                connection.stats(),
                end.events
            )
        };
        format!("{:?}, client {}, server {}", self.elapsed(), end(&self.client), end(&self.server))
    }

    /// Hash of everything that was on the link, and when.
    pub fn trace(&self) -> blake3::Hash {
        self.trace.finalize()
    }

    /// Asserts that the client has the whole file, and nothing failed.
    pub fn assert_identical(&self) {
        assert_eq!(self.client.failed(), None, "seed {}: {}", self.seed, self.describe());
        assert_eq!(self.server.failed(), None, "seed {}: {}", self.seed, self.describe());
        let wrong = self.client.file.iter().enumerate().find(|(at, got)| **got != Some(octet(*at as u64)));
        assert_eq!(wrong, None, "seed {}: first wrong octet; {}", self.seed, self.describe());
    }

    /// While cut, the link swallows everything.
    pub fn cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
    }

    /// One event: whatever comes next, a datagram or a timer. `false` when nothing will come.
    pub fn step(&mut self) -> bool {
        self.drain(true);
        self.drain(false);
        let arrival = self.on_link.peek().map(|Reverse((at, _))| *at);
        let timer =
            [&self.client, &self.server].into_iter().filter_map(|end| end.connection.poll_timeout()).min();
        let Some(next) = arrival.into_iter().chain(timer).min() else { return false };
        assert!(
            timer.is_none_or(|at| at > self.now),
            "seed {}: a timer that is due is not acted on (I8)",
            self.seed,
        );
        self.now = next.max(self.now);
        if arrival == Some(next) {
            let Reverse((_, index)) = self.on_link.pop().expect("it was peeked at");
            let (from_client, mut datagram) = self.datagrams.remove(&index).expect("on the link");
            self.deliver(!from_client, &mut datagram);
        }
        if timer.is_some_and(|at| at <= self.now) {
            self.client.connection.handle_timeout(self.now);
            self.server.connection.handle_timeout(self.now);
        }
        true
    }

    /// Hands a datagram to one end, as if the link had delivered it.
    pub fn deliver(&mut self, to_client: bool, datagram: &mut [u8]) -> Receipt {
        let end = if to_client { &mut self.client } else { &mut self.server };
        let (seed, file) = (self.seed, &mut end.file);
        end.connection.handle_datagram(self.now, datagram, &mut |offset, data| {
            for (at, &got) in (offset..).zip(data) {
                let place =
                    file.get_mut(at as usize).unwrap_or_else(|| panic!("seed {seed}: outside the file (I5)"));
                assert!(place.replace(got).is_none(), "seed {seed}: octet {at} was kept twice (I5)");
            }
            Ok(())
        })
    }

    fn drain(&mut self, client: bool) {
        let mut buffer = vec![0; 65_536];
        loop {
            let end = if client { &mut self.client } else { &mut self.server };
            let transmit = end.connection.poll_transmit(self.now, &mut buffer, &mut read_octets);
            end.events.extend(std::iter::from_fn(|| end.connection.poll_event()));
            let (in_flight, window) = end.connection.in_flight_and_window();
            // A window that has just shrunk is not exceeded by what was sent before.
            let Some(transmit) = transmit else { break };
            let grew =
                in_flight <= window + 2 * PACKET_LEN_IPV4 as u64 || transmit.len < 2 * PACKET_LEN_IPV4 + 1;
            assert!(grew, "seed {}: {in_flight} octets in flight, window {window} (I1)", self.seed);
            for packet in buffer[..transmit.len].chunks(transmit.segment_len) {
                self.enter(client, packet.to_vec());
            }
        }
    }

    /// A datagram enters the link.
    fn enter(&mut self, from_client: bool, mut datagram: Vec<u8>) {
        let end = if from_client { &mut self.client } else { &mut self.server };
        let header = Header::parse(&datagram).expect("we sent it");
        assert!(end.numbers.insert(header.number_low), "seed {}: a number was used twice (I4)", self.seed);
        self.trace.update(&(self.now - self.start).as_nanos().to_be_bytes());
        self.trace.update(&datagram);
        if self.keep_record {
            self.record.push((from_client, datagram.clone()));
        }
        let index = end.sent;
        end.sent += 1;
        end.queue.retain(|&leaves| leaves > self.now);
        if end.queue.len() >= end.link.queue_packets {
            return;
        }
        // 28 octets of IP and UDP.
        let wire_ns = (datagram.len() as u64 + 28) * 1_000_000_000 / end.link.bytes_per_s;
        end.busy_until = end.busy_until.max(self.now) + Duration::from_nanos(wire_ns);
        end.queue.push(end.busy_until);
        let (link, random) = (&end.link, &mut self.random);
        if self.is_cut || random.chance(link.loss) || link.drop.contains(&index) {
            return;
        }
        if random.chance(link.corrupt) {
            let bit = random.next() as usize % (datagram.len() * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        let mut at = end.busy_until + link.delay;
        if random.chance(link.reorder) {
            at += link.reorder_delay.mul_f64(random.unit());
        }
        let copies = 1 + u64::from(random.chance(link.duplicate));
        for _ in 0..copies {
            self.entered += 1;
            self.on_link.push(Reverse((at, self.entered)));
            self.datagrams.insert(self.entered, (from_client, datagram.clone()));
        }
    }
}

fn read_octets(offset: u64, slices: &mut [IoSliceMut<'_>]) -> io::Result<()> {
    let octets = slices.iter_mut().flat_map(|slice| slice.iter_mut());
    (offset..).zip(octets).for_each(|(at, place)| *place = octet(at));
    Ok(())
}

/// Octets of the file that the server sent, all copies counted.
pub fn file_octets_sent(pair: &Pair) -> usize {
    let is_data = |datagram: &[u8]| Header::parse(datagram).is_ok_and(|header| header.kind == Kind::Data);
    pair.record
        .iter()
        .filter(|(from_client, datagram)| !from_client && is_data(datagram))
        .map(|(_, datagram)| datagram.len() - DATA_OVERHEAD)
        .sum()
}
