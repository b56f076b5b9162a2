//! One direction of a link: what it does to each datagram, and when that arrives.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::{Random, ms};

/// Octets of IPv4 and UDP before each payload. The link serves and queues them too.
pub const IP_UDP_LEN: u64 = 28;

/// Which datagrams get lost behind the queue.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    None,
    /// Each with this chance, but never more than so many in a row.
    Random {
        rate: f64,
        burst_max: u32,
    },
    /// Gilbert and Elliott's two states: chances, per datagram, of turning bad, of turning good, of loss while bad.
    Bursts {
        good_to_bad: f64,
        bad_to_good: f64,
        loss_in_bad: f64,
    },
}

impl Loss {
    pub fn random(rate: f64) -> Loss {
        Loss::Random { rate, burst_max: u32::MAX }
    }

    /// Bursts of this mean length in which everything is lost, so often that `rate` of all is.
    pub fn bursts(rate: f64, len_mean: f64) -> Loss {
        let bad_to_good = 1.0 / len_mean;
        Loss::Bursts { good_to_bad: bad_to_good * rate / (1.0 - rate), bad_to_good, loss_in_bad: 1.0 }
    }
}

/// From some time on the link has another rate and delay.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub at: Duration,
    pub bytes_per_s: u64,
    pub delay: Duration,
}

/// What a direction of a link is like. The default is that of the QUIC interop runner: 15 ms, 10 Mbit/s, 25 packets.
#[derive(Debug, Clone)]
pub struct Link {
    pub delay: Duration,
    /// Up to so much more delay, by chance; the order is kept.
    pub jitter: Duration,
    pub bytes_per_s: u64,
    /// A datagram that does not fit is dropped. The one being sent counts.
    pub queue_bytes: u64,
    pub loss: Loss,
    pub duplicate: f64,
    /// A bit is flipped.
    pub corrupt: f64,
    pub reorder: f64,
    /// A reordered datagram is late by up to this.
    pub reorder_delay: Duration,
    /// A longer payload vanishes.
    pub mtu: usize,
    /// When everything that enters is swallowed.
    pub blackouts: Vec<Range<Duration>>,
    /// Likewise, again and again: works for the first time, swallows for the second.
    pub on_off: Option<(Duration, Duration)>,
    pub steps: Vec<Step>,
    /// Exactly these are dropped, counted from 0,
    pub drop: Vec<u64>,
    /// and these are late.
    pub late: Vec<(u64, Duration)>,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            delay: ms(15),
            jitter: Duration::ZERO,
            bytes_per_s: 1_250_000,
            queue_bytes: 25 * 1_500,
            loss: Loss::None,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            reorder_delay: ms(30),
            mtu: usize::MAX,
            blackouts: Vec::new(),
            on_off: None,
            steps: Vec::new(),
            drop: Vec::new(),
            late: Vec::new(),
        }
    }
}

impl Link {
    /// A link of this rate (Mbit/s) and delay with a queue of one bandwidth-delay product of the round trip.
    pub fn of(mbit_per_s: u64, delay: Duration) -> Link {
        let bytes_per_s = mbit_per_s * 125_000;
        let link = Link { delay, bytes_per_s, ..Link::default() };
        Link { queue_bytes: link.bdp_bytes(), ..link }
    }

    /// The bandwidth-delay product of a round trip of twice this delay, at least of ten packets.
    pub fn bdp_bytes(&self) -> u64 {
        ((self.bytes_per_s as f64 * 2.0 * self.delay.as_secs_f64()) as u64).max(15_000)
    }

    fn is_out(&self, now: Duration) -> bool {
        let in_period = self.on_off.is_some_and(|(on, off)| {
            let into = Duration::from_nanos((now.as_nanos() % (on + off).as_nanos()) as u64);
            into >= on
        });
        in_period || self.blackouts.iter().any(|out| out.contains(&now))
    }
}

/// What was counted on the way.
#[derive(Debug, Default, Clone, Copy)]
pub struct Meter {
    /// Datagrams that entered, and their octets with IP and UDP.
    pub entered: u64,
    pub entered_bytes: u64,
    pub overflowed: u64,
    /// Lost by chance, by script, in a blackout or for their length.
    pub lost: u64,
    pub flipped: u64,
    /// Octets times the nanoseconds that they spent in the queue.
    queue_area: u128,
    pub queue_max_bytes: u64,
}

impl Meter {
    /// The mean length of the queue over this time.
    pub fn queue_mean_bytes(&self, over: Duration) -> f64 {
        self.queue_area as f64 / over.as_nanos() as f64
    }
}

/// How a datagram gets through.
#[derive(Debug, Clone, Copy)]
pub struct Passage {
    pub at: Duration,
    pub is_doubled: bool,
    /// The bit to flip.
    pub flip: Option<usize>,
}

/// A direction of a link at work.
#[derive(Debug)]
pub struct Wire {
    pub link: Link,
    /// While cut, the link swallows everything.
    pub is_cut: bool,
    pub meter: Meter,
    random: Random,
    /// When the last one in the queue will have left.
    free_at: Duration,
    queued: VecDeque<(Duration, u64)>,
    queued_bytes: u64,
    is_bad: bool,
    lost_in_row: u32,
    newest_arrival: Duration,
}

impl Wire {
    pub fn new(link: Link, seed: u64) -> Wire {
        Wire {
            link,
            is_cut: false,
            meter: Meter::default(),
            random: Random(seed),
            free_at: Duration::ZERO,
            queued: VecDeque::new(),
            queued_bytes: 0,
            is_bad: false,
            lost_in_row: 0,
            newest_arrival: Duration::ZERO,
        }
    }

    /// A datagram of this payload enters; `None` when it never arrives.
    pub fn enter(&mut self, now: Duration, payload_len: usize) -> Option<Passage> {
        let index = self.meter.entered;
        let wire_len = payload_len as u64 + IP_UDP_LEN;
        self.meter.entered += 1;
        self.meter.entered_bytes += wire_len;
        if self.is_cut || payload_len > self.link.mtu || self.link.is_out(now) {
            self.meter.lost += 1;
            return None;
        }
        let leaves_at = self.queue(now, wire_len)?;
        if self.is_lost() || self.link.drop.contains(&index) {
            self.meter.lost += 1;
            return None;
        }
        let flip = self.random.chance(self.link.corrupt).then(|| self.random.below(payload_len as u64 * 8));
        self.meter.flipped += u64::from(flip.is_some());
        let is_doubled = self.random.chance(self.link.duplicate);
        Some(Passage { at: self.arrival(index, leaves_at), is_doubled, flip: flip.map(|bit| bit as usize) })
    }

    /// Queues so many octets; tells when the last of them leaves.
    fn queue(&mut self, now: Duration, wire_len: u64) -> Option<Duration> {
        while let Some(&(left_at, len)) = self.queued.front().filter(|(left_at, _)| *left_at <= now) {
            debug_assert!(left_at <= self.free_at);
            self.queued_bytes -= len;
            self.queued.pop_front();
        }
        if self.queued_bytes + wire_len > self.link.queue_bytes {
            self.meter.overflowed += 1;
            return None;
        }
        self.free_at = self.served_at(self.free_at.max(now), wire_len);
        self.queued.push_back((self.free_at, wire_len));
        self.queued_bytes += wire_len;
        self.meter.queue_max_bytes = self.meter.queue_max_bytes.max(self.queued_bytes);
        self.meter.queue_area += u128::from(wire_len) * (self.free_at - now).as_nanos();
        Some(self.free_at)
    }

    /// When so many octets have left whose turn comes at `from`.
    fn served_at(&self, from: Duration, wire_len: u64) -> Duration {
        const NANOS: u64 = 1_000_000_000;
        let (mut at, mut left) = (from, wire_len * NANOS);
        loop {
            let (bytes_per_s, _) = self.rate_and_delay(at);
            let until = at + Duration::from_nanos(left / bytes_per_s);
            match self.link.steps.iter().map(|step| step.at).find(|&step| at < step && step < until) {
                Some(step) => {
                    left -= (step - at).as_nanos() as u64 * bytes_per_s;
                    at = step;
                }
                None => return until,
            }
        }
    }

    /// Octets in the queue, the one being sent among them.
    pub fn queued_bytes(&self, now: Duration) -> u64 {
        self.queued.iter().filter(|(leaves_at, _)| *leaves_at > now).map(|(_, len)| len).sum()
    }

    fn rate_and_delay(&self, at: Duration) -> (u64, Duration) {
        let step = self.link.steps.iter().rfind(|step| step.at <= at);
        step.map_or((self.link.bytes_per_s, self.link.delay), |step| (step.bytes_per_s, step.delay))
    }

    fn is_lost(&mut self) -> bool {
        let lost = match self.link.loss {
            Loss::None => false,
            Loss::Random { rate, burst_max } => self.random.chance(rate) && self.lost_in_row < burst_max,
            Loss::Bursts { good_to_bad, bad_to_good, loss_in_bad } => {
                self.is_bad = self.random.chance(if self.is_bad { 1.0 - bad_to_good } else { good_to_bad });
                self.is_bad && self.random.chance(loss_in_bad)
            }
        };
        self.lost_in_row = if lost { self.lost_in_row + 1 } else { 0 };
        lost
    }

    fn arrival(&mut self, index: u64, leaves_at: Duration) -> Duration {
        let (_, delay) = self.rate_and_delay(leaves_at);
        let mut at = leaves_at + delay;
        if !self.link.jitter.is_zero() {
            at = (at + self.link.jitter.mul_f64(self.random.unit())).max(self.newest_arrival);
            self.newest_arrival = at;
        }
        if self.random.chance(self.link.reorder) {
            at += self.link.reorder_delay.mul_f64(self.random.unit());
        }
        let late = self.link.late.iter().find(|(late, _)| *late == index);
        at + late.map_or(Duration::ZERO, |&(_, late)| late)
    }
}
