//! What a connection tells of itself while it works, for pictures and for debugging: one callback, nothing when unset.

use std::fmt;
use std::time::{Duration, Instant};

use super::state::State;
use crate::wire::packet::Kind;

/// One thing that happened. The vocabulary is that of qlog (draft-ietf-quic-qlog-quic-events) where it fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceEvent {
    /// A packet was sealed and handed out.
    PacketSent {
        /// Its number.
        number: u64,
        /// What it is.
        kind: Kind,
        /// Its UDP payload in octets.
        len: usize,
        /// DATA: where in the file its octets begin.
        offset: Option<u64>,
    },
    /// An authentic packet of the peer.
    PacketReceived {
        /// Its number.
        number: u64,
        /// What it is.
        kind: Kind,
        /// Its UDP payload in octets.
        len: usize,
    },
    /// Packets were acknowledged.
    PacketsAcked {
        /// Octets of packets that left the network.
        bytes: u64,
        /// The lowest octet of the file that is not acknowledged; the receiver's side has none.
        snd_una: Option<u64>,
    },
    /// A packet counts as lost.
    PacketLost {
        /// Its number.
        number: u64,
    },
    /// How the path is, after each ACK and each timeout.
    Metrics {
        /// Octets of packets that may be in flight.
        cwnd: u64,
        /// Octets of packets in flight.
        bytes_in_flight: u64,
        /// The smoothed round trip.
        srtt: Duration,
        /// The smallest round trip.
        min_rtt: Duration,
        /// Octets per second, where the controller sets a rate.
        pacing_rate: Option<u64>,
    },
    /// The connection went from one state to another.
    State {
        /// From here
        old: State,
        /// to here.
        new: State,
    },
}

/// Takes the events as they happen.
pub type Trace = Box<dyn FnMut(Instant, &TraceEvent) + Send>;

/// Where events go, if anywhere, and the time of the call that the connection is in.
pub(super) struct Tracer {
    sink: Option<Trace>,
    now: Instant,
}

impl Tracer {
    pub(super) fn new(now: Instant) -> Tracer {
        Tracer { sink: None, now }
    }

    pub(super) fn set_sink(&mut self, sink: Trace) {
        self.sink = Some(sink);
    }

    /// The connection is called at this time.
    pub(super) fn at(&mut self, now: Instant) {
        self.now = now;
    }

    /// Tells an event; it is made only when somebody listens.
    pub(super) fn tell(&mut self, event: impl FnOnce() -> TraceEvent) {
        if let Some(sink) = &mut self.sink {
            sink(self.now, &event());
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("is_set", &self.sink.is_some()).finish()
    }
}
