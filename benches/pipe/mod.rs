//! Two connections, memory to memory, over a link without loss in virtual time; shared with `tests/allocations.rs`.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use packetboat::rudp::congestion::ControllerKind;
use packetboat::rudp::{
    ArqScheme, Config, Connection, Direction, Keep, PACKET_LEN_IPV4, Role, Source, Transmit,
};
use packetboat::wire::message::{Secret, TransferId};

/// One GSO call: as many packets as fit 64 KB.
pub(crate) const BATCH_LEN: usize = 44 * PACKET_LEN_IPV4;

/// How long and how fast the link is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    pub(crate) bytes_per_s: u64,
    /// What both sockets hold at once.
    pub(crate) burst_len: u32,
    /// One packet of so many is lost.
    pub(crate) lost_one_in: u64,
}

/// Within one machine: the round trip is below the pacer's resolution, and the window is what a socket of Linux's default
/// size holds, so that what is on its way stays in the cache.
pub(crate) const NEAR: Link = Link {
    delay: Duration::from_micros(50),
    bytes_per_s: 4_000_000_000,
    burst_len: 212_992,
    lost_one_in: u64::MAX,
};

/// 8 MiB are on their way at once, paced.
pub(crate) const FAR: Link = Link {
    delay: Duration::from_millis(5),
    bytes_per_s: 840_000_000,
    burst_len: 4 << 20,
    lost_one_in: u64::MAX,
};

/// A worker's turn: what arrives meanwhile is drained at once, and acknowledged once.
const TURN: Duration = Duration::from_micros(20);

/// The secret of both ends.
pub(crate) const KEY: [u8; 32] = [7; 32];

/// What both ends are told; `direction` is the server's.
pub(crate) fn configs(size: u64, link: Link) -> (Config, Config) {
    let sender = Config {
        role: Role::Server,
        direction: Direction::Send,
        id: TransferId(7),
        key: Secret(KEY),
        size,
        start: 0,
        packet_len_max: PACKET_LEN_IPV4,
        window_bytes: 32 << 20,
        burst_len: link.burst_len,
        rtt_guess: Duration::from_millis(1),
        open_max: Duration::from_secs(60),
        arq: Some(ArqScheme::default()),
        controller: Some(ControllerKind::default()),
        granted: u64::MAX,
        seed: 7,
    };
    let receiver = Config { role: Role::Client, direction: Direction::Receive, seed: 8, ..sender.clone() };
    (sender, receiver)
}

/// Packets of one length, as one GSO call sends and one GRO call receives them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) arrives_at: Instant,
    pub(crate) transmit: Transmit,
    /// A whole buffer, of which the batch fills the beginning.
    pub(crate) octets: Vec<u8>,
}

/// One direction of the link.
#[derive(Debug)]
struct Way {
    link: Link,
    free_at: Instant,
    delivered: u64,
    batches: VecDeque<Batch>,
}

impl Way {
    fn new(link: Link, now: Instant) -> Way {
        Way { link, free_at: now, delivered: 0, batches: VecDeque::with_capacity(1_024) }
    }

    fn enter(&mut self, now: Instant, transmit: Transmit, octets: Vec<u8>) {
        let busy = Duration::from_nanos(transmit.len as u64 * 1_000_000_000 / self.link.bytes_per_s);
        self.free_at = self.free_at.max(now) + busy;
        self.batches.push_back(Batch { arrives_at: self.free_at + self.link.delay, transmit, octets });
    }
}

/// A download: the server sends, the client receives into `file`; `spare` keeps buffers for the next one.
pub(crate) struct Pipe<'a> {
    pub(crate) now: Instant,
    pub(crate) sender: Connection,
    pub(crate) receiver: Connection,
    source: &'a [u8],
    file: &'a mut [u8],
    down: Way,
    up: Way,
    spare: &'a mut Vec<Vec<u8>>,
}

impl<'a> Pipe<'a> {
    pub(crate) fn new(
        source: &'a [u8],
        file: &'a mut [u8],
        link: Link,
        spare: &'a mut Vec<Vec<u8>>,
        now: Instant,
    ) -> Pipe<'a> {
        let (sender, receiver) = configs(source.len() as u64, link);
        Pipe {
            now,
            sender: Connection::new(sender, now),
            receiver: Connection::new(receiver, now),
            source,
            file,
            down: Way::new(link, now),
            up: Way::new(link, now),
            spare,
        }
    }

    /// Runs until the receiver has so many octets.
    pub(crate) fn run(&mut self, until_bytes: u64) {
        while self.receiver.moved_bytes() < until_bytes {
            self.step();
        }
    }

    /// What is due leaves, and the next thing happens: a batch arrives or a timer fires.
    fn step(&mut self) {
        let source = self.source;
        let mut read = |offset, octets: &mut [u8]| copy_from(source, offset, octets);
        send_all(&mut self.sender, &mut self.down, self.now, self.spare, &mut read);
        send_all(&mut self.receiver, &mut self.up, self.now, self.spare, &mut read);
        let arrivals = [&self.down, &self.up].map(|way| way.batches.front().map(|batch| batch.arrives_at));
        let timers = [self.sender.poll_timeout(), self.receiver.poll_timeout()];
        let next = arrivals.into_iter().chain(timers).flatten().min();
        self.now = (self.now + TURN).max(next.expect("an open connection waits for something"));
        if timers[0].is_some_and(|at| at <= self.now) {
            self.sender.handle_timeout(self.now);
        }
        if timers[1].is_some_and(|at| at <= self.now) {
            self.receiver.handle_timeout(self.now);
        }
        let file = &mut *self.file;
        let mut keep = |offset, octets: &[u8]| copy_to(file, offset, octets);
        receive_all(&mut self.receiver, &mut self.down, self.now, self.spare, &mut keep);
        receive_all(&mut self.sender, &mut self.up, self.now, self.spare, &mut keep);
    }
}

impl Drop for Pipe<'_> {
    fn drop(&mut self) {
        for way in [&mut self.down, &mut self.up] {
            self.spare.extend(way.batches.drain(..).map(|batch| batch.octets));
        }
    }
}

/// Reads octets of a file in memory.
pub(crate) fn copy_from(file: &[u8], offset: u64, octets: &mut [u8]) -> io::Result<()> {
    let offset = usize::try_from(offset).expect("inside the file");
    octets.copy_from_slice(&file[offset..offset + octets.len()]);
    Ok(())
}

/// Writes octets of a file in memory.
pub(crate) fn copy_to(file: &mut [u8], offset: u64, octets: &[u8]) -> io::Result<()> {
    file[usize::try_from(offset).expect("inside the file")..][..octets.len()].copy_from_slice(octets);
    Ok(())
}

fn send_all(
    end: &mut Connection,
    way: &mut Way,
    now: Instant,
    spare: &mut Vec<Vec<u8>>,
    read: &mut Source<'_>,
) {
    loop {
        let mut octets = spare.pop().unwrap_or_else(|| vec![0; BATCH_LEN]);
        let Some(transmit) = end.poll_transmit(now, &mut octets, read) else {
            spare.push(octets);
            break;
        };
        way.enter(now, transmit, octets);
    }
    while end.poll_event().is_some() {}
}

fn receive_all(
    end: &mut Connection,
    way: &mut Way,
    now: Instant,
    spare: &mut Vec<Vec<u8>>,
    keep: &mut Keep<'_>,
) {
    while let Some(mut batch) = way.batches.pop_front_if(|batch| batch.arrives_at <= now) {
        for datagram in batch.octets[..batch.transmit.len].chunks_mut(batch.transmit.segment_len) {
            way.delivered += 1;
            if !way.delivered.is_multiple_of(way.link.lost_one_in) {
                end.handle_datagram(now, datagram, keep);
            }
        }
        spare.push(batch.octets);
    }
}
