//! Congestion control: how much may be in flight, and how fast it may leave. `docs/CONGESTION.md` tells what and why.

pub mod aimd;
pub mod bbr;
mod bbr_model;
pub mod cubic;
pub mod fixed;
pub mod hystart;

use std::fmt::{self, Debug};
use std::str::FromStr;
use std::time::Instant;

use super::delivery::RateSample;
use super::rtt::Rtt;

/// RFC 6928 (2): ten packets may be in flight before anything is known of the path.
pub const INITIAL_WINDOW_PACKETS: u64 = 10;

/// RFC 9002 (7.2): never fewer than two packets, so that one can be overtaken.
pub const MINIMUM_WINDOW_PACKETS: u64 = 2;

/// What an ACK tells a controller. Octets of packets, each counted once.
#[derive(Debug)]
pub struct Acked<'a> {
    /// When the ACK came.
    pub now: Instant,
    /// Octets that were in flight and are now acknowledged.
    pub bytes: u64,
    /// Octets still in flight.
    pub in_flight: u64,
    /// When the newest of the packets was sent.
    pub sent_at: Instant,
    /// The path's round trip, this ACK's sample included.
    pub rtt: &'a Rtt,
    /// How fast the path delivered them.
    pub rate: Option<RateSample>,
    /// Whether the window kept the sender from sending; a window that was not used must not grow (RFC 9002, 7.8).
    pub window_limited: bool,
}

/// What the loss of packets tells a controller.
#[derive(Debug)]
pub struct Lost {
    /// When it was found out.
    pub now: Instant,
    /// When the newest lost packet was sent.
    pub sent_at: Instant,
    /// Octets of packets.
    pub bytes: u64,
}

/// A congestion controller: told of facts, asked for a window and a rate.
pub trait Controller: Debug + Send {
    /// Packets were acknowledged. Losses that the same ACK reveals are told first.
    fn on_acked(&mut self, acked: &Acked<'_>);

    /// Packets were lost.
    fn on_lost(&mut self, lost: &Lost);

    /// Nothing was heard for so long that the path must have changed (RFC 9002, 7.6).
    fn on_persistent_congestion(&mut self);

    /// Octets of packets that may be in flight.
    fn cwnd(&self) -> u64;

    /// Octets of packets per second that may leave; `None`: the window is spread over the round trip.
    fn pacing_rate(&self) -> Option<u64> {
        None
    }
}

/// The controllers to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ControllerKind {
    /// A window of so many packets.
    Fixed(u16),
    /// Doubling and halving.
    Aimd,
    /// CUBIC (RFC 9438).
    Cubic,
    /// A model of bandwidth and round trip.
    #[default]
    Bbr,
}

/// Ours: the window of `fixed` without a number; 64 packets are what a socket buffer of the smallest default holds.
const FIXED_PACKETS: u16 = 64;

impl ControllerKind {
    /// The number and the argument that SYN and SYN-ACK carry.
    pub fn number(self) -> (u8, u16) {
        match self {
            Self::Fixed(packets) => (1, packets),
            Self::Aimd => (2, 0),
            Self::Cubic => (3, 0),
            Self::Bbr => (4, 0),
        }
    }

    /// The controller of this number.
    pub fn from_number(number: u8, argument: u16) -> Option<ControllerKind> {
        Some(match number {
            1 => Self::Fixed(argument.max(1)),
            2 => Self::Aimd,
            3 => Self::Cubic,
            4 => Self::Bbr,
            _ => return None,
        })
    }

    /// A new controller for packets of this size; `seed` keeps flows that start together from acting together.
    pub fn start(self, packet_len: usize, seed: u64) -> Box<dyn Controller> {
        let packet_len = packet_len as u64;
        match self {
            Self::Fixed(packets) => Box::new(fixed::Fixed::new(packets, packet_len)),
            Self::Aimd => Box::new(aimd::Aimd::new(packet_len)),
            Self::Cubic => Box::new(cubic::Cubic::new(packet_len)),
            Self::Bbr => Box::new(bbr::Bbr::new(packet_len, seed)),
        }
    }
}

impl fmt::Display for ControllerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(packets) => write!(f, "fixed:{packets}"),
            Self::Aimd => f.pad("aimd"),
            Self::Cubic => f.pad("cubic"),
            Self::Bbr => f.pad("bbr"),
        }
    }
}

impl FromStr for ControllerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<ControllerKind, String> {
        let packets =
            text.strip_prefix("fixed:").map(|packets| packets.parse().ok().filter(|&packets| packets > 0));
        match (text, packets) {
            (_, Some(Some(packets))) => Ok(Self::Fixed(packets)),
            ("fixed", _) => Ok(Self::Fixed(FIXED_PACKETS)),
            ("aimd", _) => Ok(Self::Aimd),
            ("cubic", _) => Ok(Self::Cubic),
            ("bbr", _) => Ok(Self::Bbr),
            _ => Err(format!("'{text}' is none of fixed, fixed:PACKETS, aimd, cubic, bbr")),
        }
    }
}

#[cfg(test)]
impl Acked<'_> {
    /// What the tests of the controllers say most: a full window, no rate.
    pub(crate) fn of(now: Instant, sent_at: Instant, bytes: u64, rtt: &Rtt) -> Acked<'_> {
        Acked { now, bytes, in_flight: 0, sent_at, rtt, rate: None, window_limited: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back() {
        for kind in
            [ControllerKind::Fixed(5), ControllerKind::Aimd, ControllerKind::Cubic, ControllerKind::Bbr]
        {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            let (number, argument) = kind.number();
            assert_eq!(ControllerKind::from_number(number, argument), Some(kind));
        }
        for bad in ["", "fixed:0", "fixed:x", "fixed:70000", "reno", "BBR"] {
            assert!(bad.parse::<ControllerKind>().is_err(), "{bad}");
        }
    }
}
