//! Congestion control: how much may be in flight, and how fast it may leave.

mod cubic;
pub mod hystart;

use std::fmt::Debug;
use std::time::Instant;

pub use cubic::Cubic;

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
    /// When the newest of the packets was sent.
    pub sent_at: Instant,
    /// The path's round trip, this ACK's sample included.
    pub rtt: &'a Rtt,
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
}

/// A congestion controller: told of facts, asked for a window.
pub trait Controller: Debug + Send {
    /// Packets were acknowledged.
    fn on_acked(&mut self, acked: &Acked<'_>);

    /// Packets were lost.
    fn on_lost(&mut self, lost: &Lost);

    /// Nothing was heard for so long that the path must have changed (RFC 9002, 7.6).
    fn on_persistent_congestion(&mut self);

    /// Octets of packets that may be in flight.
    fn cwnd(&self) -> u64;
}

/// The controllers to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ControllerKind {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
}

impl ControllerKind {
    /// The number that SYN and SYN-ACK carry.
    pub fn number(self) -> u8 {
        match self {
            Self::Cubic => 3,
        }
    }

    /// A new controller for packets of this size.
    pub fn start(self, packet_len: usize) -> Box<dyn Controller> {
        match self {
            Self::Cubic => Box::new(Cubic::new(packet_len as u64)),
        }
    }
}
