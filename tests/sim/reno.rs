//! A TCP flow as a model: NewReno with SACK (RFC 5681, RFC 6675), counted in segments, with endless data. It shares links
//! with our flows to see whether both live.

use std::collections::VecDeque;
use std::time::Duration;

use super::ms;

/// A segment of 1,448 octets with TCP's timestamps in 1,500 octets of IP; the link adds IP and UDP to a "payload".
pub const SEGMENT_PAYLOAD_LEN: usize = 1_472;
pub const ACK_PAYLOAD_LEN: usize = 24;
const SEGMENT_FILE_LEN: u64 = 1_448;

const RTO_MIN: Duration = ms(200);
const DUP_ACKS: u64 = 3;

/// A segment or an acknowledgement on its way.
#[derive(Debug, Clone, Copy)]
pub enum Packet {
    /// Every transmission has its own number, as timestamps give it in TCP.
    Segment { number: u64 },
    /// The largest number that came, and which of the 64 below it.
    Ack { largest: u64, below: u64 },
}

#[derive(Debug)]
pub struct Reno {
    cwnd: f64,
    ssthresh: f64,
    /// When each transmission from `base` on was sent; `None` once it is acknowledged or lost.
    sent: VecDeque<Option<Duration>>,
    base: u64,
    in_flight: u64,
    /// Losses below this number are part of the last halving.
    recovery_until: u64,
    srtt: Option<Duration>,
    rttvar: Duration,
    backoff: u32,
    rto_at: Option<Duration>,
    start: Duration,
    received: (u64, u64),
    /// Octets that arrived in each slice of 100 ms.
    pub slices: Vec<u64>,
}

impl Reno {
    pub fn new(start: Duration) -> Reno {
        Reno {
            cwnd: 10.0,
            ssthresh: f64::INFINITY,
            sent: VecDeque::new(),
            base: 0,
            in_flight: 0,
            recovery_until: 0,
            srtt: None,
            rttvar: Duration::ZERO,
            backoff: 0,
            rto_at: None,
            start,
            received: (0, 0),
            slices: Vec::new(),
        }
    }

    pub fn wake_at(&self) -> Option<Duration> {
        if self.base == 0 && self.sent.is_empty() { Some(self.start) } else { self.rto_at }
    }

    /// The start, or a retransmission timeout.
    pub fn wake(&mut self, now: Duration) {
        if self.rto_at.is_some_and(|at| at <= now) {
            self.ssthresh = (self.in_flight as f64 / 2.0).max(2.0);
            self.cwnd = 1.0;
            self.base += self.sent.len() as u64;
            self.sent.clear();
            self.in_flight = 0;
            self.recovery_until = self.base;
            self.backoff += 1;
            self.rto_at = None;
        }
    }

    /// The next segment, while the window is open.
    pub fn poll(&mut self, now: Duration) -> Option<Packet> {
        if now < self.start || self.in_flight as f64 + 1.0 > self.cwnd {
            return None;
        }
        let number = self.base + self.sent.len() as u64;
        self.sent.push_back(Some(now));
        self.in_flight += 1;
        self.rto_at.get_or_insert(now + self.rto());
        Some(Packet::Segment { number })
    }

    fn rto(&self) -> Duration {
        let rto = self.srtt.map_or(ms(1_000), |srtt| (srtt + self.rttvar * 4).max(RTO_MIN));
        rto * (1 << self.backoff.min(6))
    }

    /// At the receiver; gives the acknowledgement.
    pub fn on_segment(&mut self, now: Duration, number: u64) -> Packet {
        let slice = (now.as_millis() / 100) as usize;
        if self.slices.len() <= slice {
            self.slices.resize(slice + 1, 0);
        }
        self.slices[slice] += SEGMENT_FILE_LEN;
        let (largest, below) = self.received;
        self.received = match number.checked_sub(largest) {
            Some(0) => (largest, below),
            Some(ahead) if ahead <= 64 => {
                (number, below.checked_shl(ahead as u32).unwrap_or(0) | 1 << (ahead - 1))
            }
            Some(_) => (number, 0),
            None if largest - number <= 64 => (largest, below | 1 << (largest - number - 1)),
            None => (largest, below),
        };
        Packet::Ack { largest: self.received.0, below: self.received.1 }
    }

    /// At the sender.
    pub fn on_ack(&mut self, now: Duration, largest: u64, below: u64) {
        let mut acked = 0;
        for back in (0..=64).rev() {
            let Some(number) = largest.checked_sub(back) else { continue };
            let named = back == 0 || below & 1 << (back - 1) != 0;
            let index = number.checked_sub(self.base).map(|index| index as usize);
            let place = index.filter(|_| named).and_then(|index| self.sent.get_mut(index));
            if let Some(sent_at) = place.and_then(Option::take) {
                self.in_flight -= 1;
                acked += u64::from(number >= self.recovery_until);
                self.on_sample(now - sent_at);
            }
        }
        self.grow(acked);
        let overtaken = largest.saturating_sub(DUP_ACKS);
        for number in self.base..=overtaken {
            let index = (number - self.base) as usize;
            if self.sent.get_mut(index).and_then(Option::take).is_some() {
                self.in_flight -= 1;
                if number >= self.recovery_until {
                    self.ssthresh = (self.cwnd / 2.0).max(2.0);
                    self.cwnd = self.ssthresh;
                    self.recovery_until = self.base + self.sent.len() as u64;
                }
            }
        }
        while self.sent.front().is_some_and(Option::is_none) {
            self.sent.pop_front();
            self.base += 1;
        }
        self.backoff = 0;
        self.rto_at = (self.in_flight > 0).then(|| now + self.rto());
    }

    fn grow(&mut self, acked: u64) {
        for _ in 0..acked {
            self.cwnd += if self.cwnd < self.ssthresh { 1.0 } else { 1.0 / self.cwnd };
        }
    }

    fn on_sample(&mut self, sample: Duration) {
        let srtt = *self.srtt.get_or_insert(sample);
        self.rttvar = (self.rttvar * 3 + srtt.abs_diff(sample)) / 4;
        self.srtt = Some((srtt * 7 + sample) / 8);
    }
}
