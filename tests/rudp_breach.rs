//! Peers that hold the key and break the rules of the open, the data and the close. Goals S32 and S33.
//!
//! Exhaustive at every tier: S32 plays all 64 orders of three out of four moves to each end; S33 its five breaches.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::time::{Duration, Instant};

use packetboat::rudp::{Connection, ConnectionError, Event, PACKET_LEN_IPV4, State};
use sim::file;
use sim::forge::Forger;
use sim::{configs, ms, secs};

/// An honest end without a link: what it is handed comes from a forger, and what it keeps is written down.
struct Victim {
    connection: Connection,
    start: Instant,
    now: Duration,
    size: u64,
    kept: file::Kept,
    /// Every octet that it wrote, with its offset.
    written: Vec<(u64, Vec<u8>)>,
    events: Vec<Event>,
    /// The states it has been in, and since when.
    states: Vec<(Duration, State)>,
}

impl Victim {
    /// An honest client, opened by a server that is not.
    fn client(size: u64) -> (Victim, Forger) {
        let (client, server) = configs(size, ms(30), 32);
        let mut victim = Victim::new(Connection::new(client, Instant::now()), size);
        let mut forger = Forger::new(&server);
        let syn = victim.said().pop().expect("a SYN");
        let number = forger.open(&mut syn.clone()).expect("sealed for us").number;
        victim.hear(forger.open_with(Some(number), 0));
        assert_eq!(victim.connection.state(), State::Established);
        (victim, forger)
    }

    /// An honest server, opened by a client that is not.
    fn server(size: u64) -> (Victim, Forger) {
        let (client, server) = configs(size, ms(30), 32);
        let mut victim = Victim::new(Connection::new(server, Instant::now()), size);
        let mut forger = Forger::new(&client);
        victim.hear(forger.open_with(None, 8 << 20));
        (victim, forger)
    }

    fn new(connection: Connection, size: u64) -> Victim {
        Victim {
            connection,
            start: Instant::now(),
            now: Duration::ZERO,
            size,
            kept: file::Kept::new(size),
            written: Vec::new(),
            events: Vec::new(),
            states: Vec::new(),
        }
    }

    /// Takes a packet.
    fn hear(&mut self, mut packet: Vec<u8>) {
        let (kept, written) = (&mut self.kept, &mut self.written);
        self.connection.handle_datagram(self.start + self.now, &mut packet, &mut |offset, octets| {
            kept.insert(offset..offset + octets.len() as u64)
                .unwrap_or_else(|broken| panic!("{broken} (I5)"));
            written.push((offset, octets.to_vec()));
            Ok(())
        });
        self.settle();
    }

    /// What it has to say.
    fn said(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let mut said = Vec::new();
        while let Some(transmit) =
            self.connection.poll_transmit(self.start + self.now, &mut buffer, &mut file::read)
        {
            said.extend(buffer[..transmit.len].chunks(transmit.segment_len).map(<[u8]>::to_vec));
        }
        self.settle();
        said
    }

    fn settle(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.connection.poll_event()));
        let state = self.connection.state();
        if self.states.last().is_none_or(|(_, last)| *last != state) {
            self.states.push((self.now, state));
        }
    }

    /// Lets time pass; what it says meanwhile is lost.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.connection.poll_timeout().map(|at| at - self.start).filter(|at| *at <= end)
        {
            self.now = self.now.max(at);
            self.connection.handle_timeout(self.start + self.now);
            self.said();
        }
        self.now = end;
    }

    fn closed(&self) -> Vec<&Event> {
        self.events.iter().filter(|event| matches!(event, Event::Closed(_))).collect()
    }

    fn failed(&self) -> Option<&ConnectionError> {
        match self.closed()[..] {
            [Event::Closed(Err(error))] => Some(error),
            _ => None,
        }
    }

    /// How long it was in TIME-WAIT.
    fn time_wait(&self) -> Duration {
        let waits = self.states.windows(2).filter(|pair| pair[0].1 == State::TimeWait);
        waits.map(|pair| pair[1].0 - pair[0].0).sum()
    }
}

/// All orders of three out of four moves, with repetition.
fn orders() -> impl Iterator<Item = [u8; 3]> {
    (0..64).map(|i| [i / 16, i / 4 % 4, i % 4])
}

/// An honest ACK of all that the victim has to say, or a question when that is nothing.
fn answer(victim: &mut Victim, forger: &mut Forger) -> Vec<u8> {
    let said = victim.said();
    let numbers: Vec<u64> =
        said.into_iter().filter_map(|mut s| forger.open(&mut s)).map(|o| o.number).collect();
    if numbers.is_empty() { forger.ping() } else { forger.ack(&numbers, 8 << 20) }
}

const SMALL: u64 = 1_000;

#[test]
fn s32_no_order_of_fins_confuses_a_client() {
    for order in orders() {
        let (mut victim, mut forger) = Victim::client(SMALL);
        let mut octets = [0; SMALL as usize];
        file::fill(0, &mut octets);
        for step in order {
            let packet = match step {
                0 => forger.data(0, &octets),
                1 => forger.fin(SMALL),
                2 => forger.fin(SMALL + 1),
                _ => answer(&mut victim, &mut forger),
            };
            victim.hear(packet);
            victim.wait(ms(50));
        }
        victim.wait(secs(75));
        assert_eq!(victim.connection.state(), State::Closed, "order {order:?}: {:?}", victim.events);
        assert_eq!(victim.closed().len(), 1, "order {order:?}: {:?}", victim.events);
        let is_whole = victim.kept.is_complete();
        let delivered = victim.events.contains(&Event::Delivered);
        assert_eq!(is_whole, delivered, "order {order:?}: {:?}", victim.events);
        assert!(is_whole || victim.failed().is_some(), "order {order:?}: {:?}", victim.events);
        assert!(victim.time_wait() <= secs(10), "order {order:?}: {:?}", victim.states);
    }
}

#[test]
fn s32_no_order_of_fins_confuses_a_server() {
    for order in orders() {
        let (mut victim, mut forger) = Victim::server(SMALL);
        for step in order {
            let packet = match step {
                0 => answer(&mut victim, &mut forger),
                1 => forger.fin(0),
                2 => forger.fin(5),
                _ => forger.data(0, &[1; 100]),
            };
            victim.hear(packet);
            victim.wait(ms(50));
        }
        victim.wait(secs(75));
        assert_eq!(victim.connection.state(), State::Closed, "order {order:?}: {:?}", victim.events);
        assert_eq!(victim.closed().len(), 1, "order {order:?}: {:?}", victim.events);
        assert!(victim.time_wait() <= secs(10), "order {order:?}: {:?}", victim.states);
    }
}

#[test]
fn s32_a_close_cut_short_anywhere_ends_within_ten_seconds() {
    // The server has said FIN; of the three legs that follow only the first few come.
    for legs in 0..3 {
        let (mut victim, mut forger) = Victim::server(SMALL);
        let ack_of_data = answer(&mut victim, &mut forger);
        victim.hear(ack_of_data);
        let ack_of_fin = answer(&mut victim, &mut forger);
        if legs > 0 {
            victim.hear(ack_of_fin);
        }
        if legs > 1 {
            victim.hear(forger.fin(0));
        }
        assert!(victim.events.contains(&Event::Delivered), "{legs} legs: {:?}", victim.events);
        victim.wait(secs(11));
        assert_eq!(victim.closed(), [&Event::Closed(Ok(()))], "{legs} legs: {:?}", victim.events);
    }
}

const LARGER: u64 = 10 << 20;

fn assert_nothing_outside(victim: &Victim) {
    assert!(victim.kept.bytes <= victim.size);
    assert!(victim.written.iter().all(|(offset, octets)| offset + octets.len() as u64 <= victim.size));
}

#[test]
fn s33_octets_outside_the_file_end_it() {
    for offset in [LARGER, LARGER - 1, LARGER + 1, 1 << 32, (1 << 48) - 1_000, (1 << 48) - 1] {
        let (mut victim, mut forger) = Victim::client(LARGER);
        victim.hear(forger.data(offset, &[1; 1_000]));
        assert_eq!(victim.failed(), Some(&ConnectionError::Protocol), "offset {offset}");
        assert_nothing_outside(&victim);
        assert_eq!(victim.kept.bytes, 0);
    }
}

#[test]
fn s33_octets_beyond_the_credit_are_not_kept() {
    let (mut victim, mut forger) = Victim::client(LARGER);
    victim.hear(forger.data(8 << 20, &[1; 1_000]));
    assert_eq!((victim.kept.bytes, victim.failed()), (0, None));
}

#[test]
fn s33_other_octets_for_what_is_kept_change_nothing() {
    let (mut victim, mut forger) = Victim::client(LARGER);
    victim.hear(forger.data(1_000, &[1; 1_000]));
    // Around, inside, before and behind what is there; the victim itself panics if it keeps an octet twice.
    for (offset, len) in [(500, 1_400), (1_000, 1_000), (1_200, 100), (0, 1_001), (1_999, 1_400)] {
        victim.hear(forger.data(offset, &vec![2; len]));
    }
    let first = victim.written.iter().filter(|(_, octets)| octets[0] == 1).count();
    assert_eq!((first, victim.kept.bytes, victim.failed()), (1, 3_399, None));
}

#[test]
fn s33_a_size_that_changes_ends_it() {
    for size in [0, 1, LARGER - 1, LARGER + 1, u64::MAX] {
        let (mut victim, mut forger) = Victim::client(LARGER);
        victim.hear(forger.data(0, &[1; 1_000]));
        victim.hear(forger.fin(size));
        assert_eq!(victim.failed(), Some(&ConnectionError::Protocol), "size {size}");
    }
}

#[test]
fn s33_holes_and_single_octets_are_bounded() {
    let (mut victim, mut forger) = Victim::client(LARGER);
    for offset in (1..200_000).step_by(2) {
        victim.hear(forger.data(offset, &[1]));
        // One ACK answers it, at most one packet's worth.
        let said: usize = victim.said().iter().map(Vec::len).sum();
        assert!(said <= PACKET_LEN_IPV4, "{said} octets for one");
    }
    // So many pieces are kept; whoever leaves more gaps is not acknowledged.
    assert_eq!(victim.kept.bytes, 8_192);
    assert_nothing_outside(&victim);
}

#[test]
fn s33_a_receiver_that_sends_data_and_other_nonsense_ends_it() {
    let (mut victim, mut forger) = Victim::server(LARGER);
    victim.hear(forger.data(0, &[1; 100]));
    assert_eq!(victim.failed(), Some(&ConnectionError::Protocol));
    let (mut victim, mut forger) = Victim::client(LARGER);
    victim.hear(forger.open_with(None, 0));
    assert_eq!(victim.failed(), Some(&ConnectionError::Protocol), "a SYN from the server");
    let (mut victim, mut forger) = Victim::server(LARGER);
    victim.hear(forger.open_with(Some(0), 0));
    assert_eq!(victim.failed(), Some(&ConnectionError::Protocol), "a SYN-ACK from the client");
}
