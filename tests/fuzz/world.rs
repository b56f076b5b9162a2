//! Two real connections and what is between them; every step is watched over.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use packetboat::rudp::seal::{Keys, reconstruct};
use packetboat::rudp::sent::TRACKED_MAX;
use packetboat::rudp::{
    Config, Connection, ConnectionError, Direction, Event, PACKET_LEN_IPV4, Receipt, Role, State,
};
use packetboat::wire::packet::{Body, Header, Kind};

/// A link holds no more; what comes then is lost. Ours: enough for a whole window.
const LINK_MAX: usize = 10_000;

/// Everything but DATA that one event may cause: RST, two SYNs, SYN-ACK, ACK, FIN, PING.
const SMALL_PACKETS_MAX: usize = 8;

/// I3: the books and the ranges of a sender; a receiver holds less yet.
const MEMORY_LEN_MAX: u64 = 1 << 20;

/// Over this time an open connection always ends once the link is perfect: the longest timers, one after another.
const END_MAX: Duration = Duration::from_secs(600);

/// The file that travels: every octet follows from its offset.
pub(crate) fn octet(offset: u64) -> u8 {
    offset.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

/// One end, with its file and what it has said.
pub(crate) struct End {
    pub(crate) connection: Connection,
    pub(crate) config: Config,
    /// The receiver's file: each octet once.
    file: Vec<Option<u8>>,
    /// How many of them are here: counted as they come, for they are many and looked at often.
    file_kept: u64,
    /// I2: whether it knows of its peer.
    knows_peer: bool,
    /// The keys under which it seals, to read along.
    keys: Keys,
    /// The numbers it has used.
    pub(crate) numbers: BTreeSet<u64>,
    pub(crate) established: bool,
    pub(crate) delivered: bool,
    pub(crate) closed: Option<Result<(), ConnectionError>>,
}

impl End {
    fn new(config: Config, now: Instant) -> End {
        let file_len = if config.direction == Direction::Receive { config.size } else { 0 };
        End {
            connection: Connection::new(config.clone(), now),
            file: vec![None; usize::try_from(file_len).expect("a small file")],
            file_kept: 0,
            knows_peer: config.role == Role::Client,
            keys: Keys::new(&config.key.0, config.role),
            numbers: BTreeSet::new(),
            established: false,
            delivered: false,
            closed: None,
            config,
        }
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.last().map_or(0, |number| number + 1)
    }

    fn on_event(&mut self, event: Event) {
        assert_eq!(self.closed, None, "nothing follows the end, but {event:?} did");
        match event {
            Event::Established => {
                assert!(!std::mem::replace(&mut self.established, true), "established twice")
            }
            Event::Delivered => {
                assert!(!std::mem::replace(&mut self.delivered, true), "delivered twice");
                assert!(self.file.iter().all(Option::is_some), "delivered, but not whole");
            }
            Event::Closed(result) => {
                assert!(result.is_err() || self.delivered, "a good end without the file");
                self.closed = Some(result);
            }
        }
    }

    /// Reads along what it sends: well-formed, under a number of its own, with the octets of the file.
    fn check_sent(&mut self, packet: &[u8]) -> Kind {
        let header = Header::parse(packet).expect("a whole header");
        assert_eq!(header.id, self.config.id);
        assert!(packet.len() <= self.config.packet_len_max, "larger than was allowed");
        let number = reconstruct(header.number_low, self.next_number());
        assert!(number >= self.next_number(), "I4: number {number} does not grow");
        self.numbers.insert(number);
        let mut packet = packet.to_vec();
        let body = self.keys.open(number, &mut packet).expect("sealed by this end");
        match Body::parse(header.kind, body).expect("well-formed") {
            Body::Data { offset, data, .. } => {
                assert_eq!(self.config.direction, Direction::Send);
                assert!(offset + data.len() as u64 <= self.config.size && !data.is_empty());
                assert!(
                    (offset..).zip(data).all(|(at, &got)| got == octet(at)),
                    "other octets than the file's"
                );
            }
            Body::Fin { size, .. } => {
                assert_eq!(self.connection.moved_bytes(), self.config.size, "FIN before all has moved");
                assert_eq!(size, self.config.size * u64::from(self.config.direction == Direction::Send));
            }
            _ => {}
        }
        header.kind
    }
}

/// A datagram on its way.
#[derive(Clone)]
pub(crate) struct Flying {
    pub(crate) to: Role,
    pub(crate) octets: Vec<u8>,
}

/// Both ends, the time, and the link.
pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) link: Vec<Flying>,
    buffer: Vec<u8>,
}

impl World {
    pub(crate) fn new(client: Config, server: Config) -> World {
        let now = Instant::now();
        let mut world = World {
            start: now,
            now,
            client: End::new(client, now),
            server: End::new(server, now),
            link: Vec::new(),
            buffer: vec![0; 65_536],
        };
        world.drain();
        world
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn end(&mut self, role: Role) -> &mut End {
        match role {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        }
    }

    /// Time goes on, and the timers that are due fire.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.client.connection.handle_timeout(self.now);
        self.server.connection.handle_timeout(self.now);
        self.drain();
    }

    /// Time goes on to the next timer; `false` when there is none.
    pub(crate) fn advance_to_timer(&mut self) -> bool {
        let timers = [&self.client, &self.server].map(|end| end.connection.poll_timeout());
        let Some(next) = timers.into_iter().flatten().min() else { return false };
        self.advance(next.saturating_duration_since(self.now));
        true
    }

    /// Hands a datagram to one end. What is refused has no effect whatever (I7).
    pub(crate) fn deliver(&mut self, mut flying: Flying, is_forged: bool) -> Receipt {
        let now = self.now;
        let end = self.end(flying.to);
        let (timeout, moved) = (end.connection.poll_timeout(), end.connection.moved_bytes());
        let (file, file_kept) = (&mut end.file, &mut end.file_kept);
        let receipt = end.connection.handle_datagram(now, &mut flying.octets, &mut |offset, data| {
            for (at, &got) in (offset..).zip(data) {
                let place =
                    usize::try_from(at).ok().and_then(|at| file.get_mut(at)).expect("I5: inside the file");
                assert!(is_forged || got == octet(at), "I5: octet {at} is wrong");
                assert_eq!(place.replace(got), None, "I5: octet {at} was kept before");
            }
            *file_kept += data.len() as u64;
            Ok(())
        });
        end.knows_peer |= receipt != Receipt::Refused;
        if receipt == Receipt::Refused {
            assert_eq!((timeout, moved), (end.connection.poll_timeout(), end.connection.moved_bytes()));
            assert_eq!(self.drain(), 0, "I7: something was said to what was refused");
        } else {
            self.drain();
        }
        receipt
    }

    /// Everything that both ends have to say enters the link; gives how many datagrams that were.
    pub(crate) fn drain(&mut self) -> usize {
        self.drain_end(Role::Client) + self.drain_end(Role::Server)
    }

    fn drain_end(&mut self, role: Role) -> usize {
        let mut buffer = std::mem::take(&mut self.buffer);
        let now = self.now;
        let end = self.end(role);
        let (in_flight_before, _) = end.connection.in_flight_and_window();
        let (mut said, mut small) = (Vec::new(), 0);
        while let Some(transmit) = end.connection.poll_transmit(now, &mut buffer, &mut read) {
            let (in_flight, window) = end.connection.in_flight_and_window();
            let allowed = window.max(in_flight_before) + 2 * PACKET_LEN_IPV4 as u64 + 100;
            assert!(
                in_flight <= allowed,
                "I1: {in_flight} octets in flight, window {window}, before {in_flight_before}"
            );
            for packet in buffer[..transmit.len].chunks(transmit.segment_len) {
                small += usize::from(end.check_sent(packet) != Kind::Data);
                said.push(Flying { to: role.peer(), octets: packet.to_vec() });
            }
            assert!(
                small <= SMALL_PACKETS_MAX && said.len() as u64 <= TRACKED_MAX,
                "it does not stop talking"
            );
        }
        assert!(end.knows_peer || said.is_empty(), "I2: something was said to nobody");
        let (held, (_, window)) = (end.connection.memory_len() as u64, end.connection.in_flight_and_window());
        assert!(held <= MEMORY_LEN_MAX + window, "I3: {held} octets held, window {window}");
        while let Some(event) = end.connection.poll_event() {
            end.on_event(event);
        }
        let timeout = end.connection.poll_timeout();
        assert!(timeout.is_none_or(|at| at > now), "I8: a timer that is due is not acted on");
        assert_eq!(end.connection.state() == State::Closed, end.closed.is_some());
        assert!(end.closed.is_none() || timeout.is_none(), "who is closed waits for nothing");
        if end.config.direction == Direction::Receive {
            assert_eq!(end.connection.moved_bytes(), end.file_kept, "it knows what it has");
        }
        self.buffer = buffer;
        let count = said.len();
        self.link.extend(said);
        self.link.truncate(LINK_MAX);
        count
    }

    /// From now on the link is perfect, and nobody withholds anything: both connections end.
    pub(crate) fn finish(&mut self) {
        let (deadline, mut idle_since, mut idle_wakes) = (self.now + END_MAX, self.now, 0);
        while self.now < deadline && (self.client.closed.is_none() || self.server.closed.is_none()) {
            if self.link.is_empty() {
                assert!(self.advance_to_timer(), "an open connection waits for nothing");
                let quiet = [&self.client, &self.server]
                    .iter()
                    .all(|end| end.connection.in_flight_and_window().0 == 0);
                (idle_since, idle_wakes) = if quiet { (idle_since, idle_wakes + 1) } else { (self.now, 0) };
                let seconds = (self.now - idle_since).as_secs();
                assert!(idle_wakes <= 50 * (seconds + 1), "I8: {idle_wakes} wake-ups in {seconds} s");
                continue;
            }
            self.advance(Duration::from_millis(1));
            for flying in std::mem::take(&mut self.link) {
                self.deliver(flying, false);
            }
        }
        for end in [&self.client, &self.server] {
            assert!(
                end.closed.is_some(),
                "{:?} is still {:?} after {END_MAX:?}, {} octets of {}: {:?}",
                end.config.role,
                end.connection.state(),
                end.connection.moved_bytes(),
                end.config.size,
                end.connection.stats()
            );
        }
    }
}

fn read(offset: u64, octets: &mut [u8]) -> io::Result<()> {
    (offset..).zip(octets).for_each(|(at, place)| *place = octet(at));
    Ok(())
}
