//! The tools of a liar who holds the key: packets sealed and opened by hand.

use std::collections::BTreeSet;
use std::time::Duration;

use packetboat::rudp::Config;
use packetboat::rudp::seal::{Keys, reconstruct};
use packetboat::wire::packet::{Body, HEADER_LEN, Header, Kind, Setup, TAG_LEN, emit_ack};

use super::end::Hostile;

/// Seals as one end of a transfer and opens what the other end sends.
pub struct Forger {
    config: Config,
    keys: Keys,
    peer_keys: Keys,
    next_number: u64,
    /// The number that the peer is expected to use next.
    pub expected: u64,
}

/// A packet of the peer.
#[derive(Debug, Clone)]
pub struct Opened {
    pub kind: Kind,
    pub number: u64,
    pub body: Vec<u8>,
}

impl Forger {
    /// Plays the end that has this configuration.
    pub fn new(config: &Config) -> Forger {
        Forger {
            keys: Keys::new(&config.key.0, config.role),
            peer_keys: Keys::new(&config.key.0, config.role.peer()),
            config: config.clone(),
            next_number: 0,
            expected: 0,
        }
    }

    /// The next number, for a second forger who plays the same end.
    pub fn skip_to(&mut self, number: u64) {
        self.next_number = number;
    }

    /// A packet of this kind whose body has these octets, under the next number.
    pub fn seal(&mut self, kind: Kind, body: &[u8]) -> Vec<u8> {
        let number = self.next_number;
        self.next_number += 1;
        let mut packet = vec![0; HEADER_LEN + body.len() + TAG_LEN];
        Header { kind, id: self.config.id, number_low: number as u32 }.emit(&mut packet);
        packet[HEADER_LEN..][..body.len()].copy_from_slice(body);
        self.keys.seal(number, &mut packet);
        packet
    }

    fn body(&mut self, kind: Kind, body: &Body<'_>, padded_len: usize) -> Vec<u8> {
        let mut octets = [0; 2_048];
        let len = body.emit(&mut octets).max(padded_len.saturating_sub(HEADER_LEN + TAG_LEN));
        self.seal(kind, &octets[..len])
    }

    pub fn setup(&self, credit: u64) -> Setup {
        let config = &self.config;
        let (controller, controller_arg) = config.controller.unwrap_or_default().number();
        Setup {
            arq: config.arq.unwrap_or_default().number(),
            controller,
            controller_arg,
            packet_len: config.packet_len_max as u16,
            burst_len: config.burst_len,
            credit,
        }
    }

    /// A SYN, or a SYN-ACK that answers the SYN of this number, padded to the largest packet.
    pub fn open_with(&mut self, echo: Option<u64>, credit: u64) -> Vec<u8> {
        let (setup, padded_len) = (self.setup(credit), self.config.packet_len_max);
        match echo {
            None => self.body(Kind::Syn, &Body::Syn(setup), padded_len),
            Some(number) => self.body(Kind::SynAck, &Body::SynAck { echo: number as u32, setup }, padded_len),
        }
    }

    /// An ACK of exactly these numbers, which are in ascending order and not too far from one another.
    pub fn ack(&mut self, numbers: &[u64], credit: u64) -> Vec<u8> {
        let (first, last) = (numbers[0] / 64, numbers[numbers.len() - 1] / 64);
        let mut words = vec![0u64; (last - first + 1) as usize];
        for number in numbers {
            words[(number / 64 - first) as usize] |= 1 << (number % 64);
        }
        let mut octets = [0; 2_048];
        let len = emit_ack(&mut octets, 0, credit, first as u32, words.into_iter());
        self.seal(Kind::Ack, &octets[..len])
    }

    /// DATA of any octets at any offset.
    pub fn data(&mut self, offset: u64, octets: &[u8]) -> Vec<u8> {
        let back = self.next_number.min(1_000) as u16;
        let mut body = [0; 2_048];
        let prefix_len = Body::Data { back, offset, data: &[] }.emit(&mut body);
        body[prefix_len..][..octets.len()].copy_from_slice(octets);
        self.seal(Kind::Data, &body[..prefix_len + octets.len()])
    }

    pub fn fin(&mut self, size: u64) -> Vec<u8> {
        self.body(Kind::Fin, &Body::Fin { back: 0, size }, 0)
    }

    pub fn ping(&mut self) -> Vec<u8> {
        self.body(Kind::Ping, &Body::Ping { back: 0 }, 0)
    }

    /// Opens what the peer has sent.
    pub fn open(&mut self, datagram: &mut [u8]) -> Option<Opened> {
        let header = Header::parse(datagram).ok()?;
        let number = reconstruct(header.number_low, self.expected);
        let body = self.peer_keys.open(number, datagram)?.to_vec();
        self.expected = self.expected.max(number + 1);
        Some(Opened { kind: header.kind, number, body })
    }
}

/// What a liar knows when it decides what to say.
pub struct Receiver {
    pub forger: Forger,
    /// The numbers that came.
    pub came: BTreeSet<u64>,
    pub credit: u64,
    /// When the SYN-ACK came.
    pub opened_at: Option<Duration>,
}

impl Receiver {
    /// An honest ACK of what came lately.
    pub fn ack(&mut self) -> Vec<u8> {
        let largest = self.came.last().copied().unwrap_or(0);
        let numbers: Vec<u64> = self.came.range(largest.saturating_sub(ACKED_BACK)..).copied().collect();
        self.forger.ack(&numbers, self.credit)
    }

    /// A false ACK of everything up to a number, whether it came or not.
    pub fn ack_all_to(&mut self, number: u64) -> Vec<u8> {
        let numbers: Vec<u64> = (number.saturating_sub(ACKED_BACK)..=number).collect();
        self.forger.ack(&numbers, self.credit)
    }

    /// The largest number that came.
    pub fn largest(&self) -> u64 {
        self.came.last().copied().unwrap_or(0)
    }
}

/// More numbers than are ever in flight on the links of these tests.
const ACKED_BACK: u64 = 3_000;

/// A client that opens a download as the rules have it and then answers each packet, and the passing of time (`None`), as
/// `answer` likes.
pub struct Liar<F> {
    receiver: Receiver,
    answer: F,
    wake_at: Option<Duration>,
    every: Option<Duration>,
}

impl<F> Liar<F>
where
    F: FnMut(&mut Receiver, Duration, Option<&Opened>, &mut Vec<Vec<u8>>),
{
    /// Plays the client of this configuration; grants so much, and is also asked `every` so often.
    pub fn new(config: &Config, credit: u64, every: Option<Duration>, answer: F) -> Liar<F> {
        let forger = Forger::new(config);
        let receiver = Receiver { forger, came: BTreeSet::new(), credit, opened_at: None };
        Liar { receiver, answer, wake_at: Some(Duration::ZERO), every }
    }
}

impl<F> Hostile for Liar<F>
where
    F: FnMut(&mut Receiver, Duration, Option<&Opened>, &mut Vec<Vec<u8>>),
{
    fn handle(&mut self, now: Duration, datagram: &mut [u8], out: &mut Vec<Vec<u8>>) {
        let Some(opened) = self.receiver.forger.open(datagram) else { return };
        self.receiver.came.insert(opened.number);
        self.receiver.opened_at.get_or_insert(now);
        if matches!(opened.kind, Kind::Ack | Kind::Rst) {
            return;
        }
        (self.answer)(&mut self.receiver, now, Some(&opened), out);
    }

    fn wake(&mut self, now: Duration, out: &mut Vec<Vec<u8>>) {
        if now.is_zero() {
            let credit = self.receiver.credit;
            out.push(self.receiver.forger.open_with(None, credit));
        } else if self.receiver.opened_at.is_some() {
            (self.answer)(&mut self.receiver, now, None, out);
        }
        self.wake_at = self.every.map(|every| now + every);
    }

    fn wake_at(&self) -> Option<Duration> {
        self.wake_at
    }
}
