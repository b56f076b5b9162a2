//! `--simulate`: seeded loss, delay, reordering, duplication and corruption at this process's own UDP sockets.
//!
//! Every datagram that a socket sends **or receives** passes through here, so one end alone simulates a whole path.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::socket::Path;

/// A reordered datagram is held back by up to this where the path has no delay of its own. Ours: long against a
/// loopback round trip.
const REORDER_DELAY_MIN: Duration = Duration::from_millis(2);

/// Datagrams that wait for their time; more are dropped, as a queue would. Ours: 1 Gbit/s for 100 ms.
const WAITING_MAX: usize = 10_000;

/// What `--simulate loss=10%,delay=20ms,jitter=5ms,reorder=5%,dup=1%,corrupt=1%,seed=7` asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultSpec {
    /// The share of datagrams that vanish.
    pub loss: f64,
    /// Every datagram is late by this,
    pub delay: Duration,
    /// and by up to this (keeping their order).
    pub jitter: Duration,
    /// The share that is overtaken by others.
    pub reorder: f64,
    /// The share that comes twice.
    pub dup: f64,
    /// The share that has a bit flipped.
    pub corrupt: f64,
    /// Where the chance comes from: the same seed treats the same sequence of datagrams alike.
    pub seed: u64,
}

impl Default for FaultSpec {
    fn default() -> Self {
        FaultSpec {
            loss: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: 0.0,
            dup: 0.0,
            corrupt: 0.0,
            seed: 1,
        }
    }
}

impl FromStr for FaultSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<FaultSpec, String> {
        let mut spec = FaultSpec::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("'{part}' is not NAME=VALUE"))?;
            match name {
                "loss" => spec.loss = share(value)?,
                "delay" => spec.delay = duration(value)?,
                "jitter" => spec.jitter = duration(value)?,
                "reorder" => spec.reorder = share(value)?,
                "dup" => spec.dup = share(value)?,
                "corrupt" => spec.corrupt = share(value)?,
                "seed" => {
                    spec.seed = value.parse().map_err(|_| format!("'{value}' is not a seed (a number)"))?
                }
                _ => {
                    return Err(format!(
                        "'{name}' is none of loss, delay, jitter, reorder, dup, corrupt, seed"
                    ));
                }
            }
        }
        Ok(spec)
    }
}

fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let share = percent.map(|percent| percent / 100.0).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("'{text}' is not a share such as 10% (at most 100%)"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let seconds = units
        .iter()
        .find_map(|(unit, seconds)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * seconds));
    let seconds = seconds.filter(|seconds| (0.0..=60.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("'{text}' is not a time such as 20ms (at most 60s)"))
}

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From our socket to the network.
    Out,
    /// From the network to us.
    In,
}

/// A datagram on the simulated path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnPath {
    /// Which way.
    pub way: Way,
    /// Whence or whither.
    pub path: Path,
    /// Its octets.
    pub datagram: Vec<u8>,
}

/// The simulated path of one socket.
#[derive(Debug)]
pub struct Fault {
    spec: FaultSpec,
    random: u64,
    entered: u64,
    waiting: BTreeMap<(Instant, u64), OnPath>,
    /// Jitter keeps the order: nothing leaves before what entered the same way earlier.
    latest: [Option<Instant>; 2],
}

impl Fault {
    /// A path with these faults; `worker` makes the chance of several sockets differ.
    pub fn new(spec: FaultSpec, worker: u64) -> Fault {
        let random = spec.seed ^ worker.rotate_left(32);
        Fault { spec, random, entered: 0, waiting: BTreeMap::new(), latest: [None; 2] }
    }

    /// A datagram enters the path.
    pub fn enter(&mut self, now: Instant, way: Way, path: Path, datagram: &[u8]) {
        if self.chance(self.spec.loss) {
            return;
        }
        let copies = 1 + usize::from(self.chance(self.spec.dup));
        let mut datagram = datagram.to_vec();
        if self.chance(self.spec.corrupt) && !datagram.is_empty() {
            let bit = self.random();
            let at = usize::try_from(bit >> 3).unwrap_or(0) % datagram.len();
            datagram[at] ^= 1 << (bit & 7);
        }
        let leaves_at = self.leaves_at(now, way);
        for _ in 0..copies {
            if self.waiting.len() < WAITING_MAX {
                self.entered += 1;
                let on_path = OnPath { way, path, datagram: datagram.clone() };
                self.waiting.insert((leaves_at, self.entered), on_path);
            }
        }
    }

    fn leaves_at(&mut self, now: Instant, way: Way) -> Instant {
        let jitter = self.spec.jitter.mul_f64(self.unit());
        let on_time = now + self.spec.delay + jitter;
        if self.chance(self.spec.reorder) {
            let held_back = (self.spec.delay * 2).max(REORDER_DELAY_MIN).mul_f64(self.unit());
            return on_time + held_back;
        }
        let latest = &mut self.latest[way as usize];
        let in_order = latest.map_or(on_time, |latest| latest.max(on_time));
        *latest = Some(in_order);
        in_order
    }

    /// The next datagram whose time has come.
    pub fn leave(&mut self, now: Instant) -> Option<OnPath> {
        let entry = self.waiting.first_entry()?;
        let &(leaves_at, _) = entry.key();
        (leaves_at <= now).then(|| entry.remove())
    }

    /// When the next datagram leaves.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(&(leaves_at, _), _)| leaves_at)
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.unit() < share
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn random(&mut self) -> u64 {
        crate::rudp::split_mix_64(&mut self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Path {
        Path { peer: ([127, 0, 0, 1], 9).into(), local: None }
    }

    /// What comes out, and when (ms), of 10,000 datagrams that enter one per millisecond.
    fn pass(spec: &str) -> Vec<(u64, Vec<u8>)> {
        let start = Instant::now();
        let mut fault = Fault::new(spec.parse().expect("a spec"), 0);
        let mut out = Vec::new();
        for ms in 0..11_000u32 {
            let now = start + Duration::from_millis(ms.into());
            if ms < 10_000 {
                fault.enter(now, Way::Out, path(), &ms.to_be_bytes());
            }
            out.extend(
                std::iter::from_fn(|| fault.leave(now)).map(|on_path| (u64::from(ms), on_path.datagram)),
            );
        }
        assert_eq!(fault.poll_timeout(), None, "everything has left");
        out
    }

    #[test]
    fn the_shares_are_kept() {
        assert!((8_800..9_200).contains(&pass("loss=10%").len()));
        assert!(pass("loss=100%").is_empty());
        assert!((10_400..10_600).contains(&pass("dup=5%").len()));
        let sent = |(i, datagram): (usize, &[u8])| datagram != u32::try_from(i).expect("small").to_be_bytes();
        let whole = pass("corrupt=20%,seed=3");
        let damaged =
            whole.iter().map(|(_, datagram)| &datagram[..]).enumerate().filter(|&x| sent(x)).count();
        assert!((1_850..2_150).contains(&damaged), "{damaged}");
    }

    #[test]
    fn delay_and_jitter_keep_the_order_and_reordering_does_not() {
        let late = pass("delay=20ms,jitter=5ms");
        assert_eq!(late.len(), 10_000);
        assert!(late.windows(2).all(|pair| pair[0].1 < pair[1].1));
        assert!(late.iter().enumerate().all(|(i, (ms, _))| (20..=26).contains(&(ms - i as u64))));
        let overtaken = pass("delay=20ms,reorder=5%").windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
        assert!((300..700).contains(&overtaken), "{overtaken}");
    }

    #[test]
    fn a_seed_repeats_itself() {
        let spec = "loss=10%,reorder=5%,dup=2%,seed=7";
        assert_eq!(pass(spec), pass(spec));
        assert_ne!(pass(spec), pass("loss=10%,reorder=5%,dup=2%,seed=8"));
    }

    #[test]
    fn what_is_wrong_with_a_spec_is_said() {
        for (bad, words) in [
            ("loss", "not NAME=VALUE"),
            ("loss=10", "such as 10%"),
            ("loss=101%", "at most 100%"),
            ("delay=20", "such as 20ms"),
            ("delay=-1s", "such as 20ms"),
            ("speed=9", "none of loss"),
            ("seed=x", "not a seed"),
        ] {
            let error = bad.parse::<FaultSpec>().expect_err(bad);
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
