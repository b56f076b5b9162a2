//! Reliable UDP: one connection that carries one file, as a pure state machine.
//!
//! Bytes and `now` go in, bytes, a deadline and events come out; there is no socket, clock, thread or file in here.
//! The order of calls, after which the caller is done until the next datagram or deadline:
//!
//! 1. [`Connection::handle_datagram`] for what came, [`Connection::handle_timeout`] when the deadline has passed;
//! 2. [`Connection::poll_transmit`] until it gives nothing;
//! 3. [`Connection::poll_event`] until it gives nothing;
//! 4. [`Connection::poll_timeout`] for the next deadline.
//!
//! # Where to read
//!
//! [`state`] is the life of a connection, [`Connection`] its face. What a datagram means is in the files `opening` (SYN,
//! SYN-ACK), `incoming` (DATA, FIN) and `acknowledged` (ACK); `timers` acts on time, and `transmit` says what is due. Each of
//! the modules below keeps one set of books, and can be read alone.
//!
//! # The way of one lost packet
//!
//! 1. [`Connection::poll_transmit`] asks [`SendWindow::next`](send_window::SendWindow::next) for octets of the file, as far as
//!    the [`Controller`](congestion::Controller) and the [`Pacer`](pacer::Pacer) let it go on, and books them with
//!    [`SentPackets::push`](sent::SentPackets::push), which gives the packet its number. [`Keys::seal`](seal::Keys::seal)
//!    closes it. The network drops it.
//! 2. At the peer later numbers come: [`RecvNumbers::insert`](recv_window::RecvNumbers::insert) notes them, and
//!    [`RecvWindow::keep`](recv_window::RecvWindow::keep) their octets. The next ACK is
//!    [a bitmap](recv_window::RecvNumbers::ack_words) in which the lost number is missing.
//! 3. The ACK comes back: [`SentPackets::on_ack`](sent::SentPackets::on_ack) ticks off what it names. When three later numbers
//!    are among that, or [time](recovery::Reordering::loss_delay) has passed,
//!    [`SentPackets::detect_lost`](sent::SentPackets::detect_lost) finds the gap.
//! 4. The controller is told ([`Controller::on_lost`](congestion::Controller::on_lost)), and
//!    [`SendWindow::on_lost`](send_window::SendWindow::on_lost) queues the octets. They go first, under a new number.
//! 5. The old number stays in the books for about two round trips: if an ACK names it after all, the packet was only late, and
//!    [`Reordering`](recovery::Reordering) grows more patient.
//!
//! When nothing comes back at all, the [probe timeout](rtt::Rtt::pto) sends two packets to make the peer speak; the table in
//! [`ArqScheme`] tells what the other schemes do instead.

mod acknowledged;
pub mod arq;
pub mod congestion;
mod connection;
pub mod delivery;
mod incoming;
mod opening;
pub mod pacer;
pub mod probe;
pub mod ranges;
pub mod recovery;
pub mod recv_window;
pub mod rtt;
pub mod seal;
pub mod send_window;
pub mod sent;
pub mod state;
mod timers;
pub mod trace;
mod transmit;

use std::time::Duration;

pub use arq::ArqScheme;
pub use connection::{Connection, Keep, Receipt};
pub use seal::Role;
pub use state::State;
pub use transmit::{Source, Transmit};

use crate::wire::message::{Secret, TransferId};
use crate::wire::packet::{HEADER_LEN, Reason, TAG_LEN};
use congestion::ControllerKind;

/// The UDP payload that every path carries (RFC 9000, 14: 1,200 octets).
pub const PACKET_LEN_MIN: usize = 1_200;

/// The UDP payload of a 1,500-octet IPv4 packet.
pub const PACKET_LEN_IPV4: usize = 1_472;

/// The UDP payload of a 1,500-octet IPv6 packet.
pub const PACKET_LEN_IPV6: usize = 1_452;

/// The longest packet of data, over IPv4 as over IPv6. Ours: of the sizes that were tried, eight flows share a link best
/// so (Jain's index, mean of 40 seeds: 0.986; 0.968 with 1,465 octets, 0.975 with 1,472).
pub const PACKET_LEN_DATA: usize = in_whole_blocks(PACKET_LEN_IPV6);

/// The largest packet within this one whose sealed part is a multiple of the cipher's block. The last block, if it is not
/// whole, takes AES-GCM an eighth of the time of all others (measured with ring 0.17: 264 ns for 1,447 octets, 226 for
/// 1,440).
pub(crate) const fn in_whole_blocks(packet_len: usize) -> usize {
    const BLOCK_LEN: usize = 16;
    let unsealed_len = HEADER_LEN + TAG_LEN;
    unsealed_len + packet_len.saturating_sub(unsealed_len) / BLOCK_LEN * BLOCK_LEN
}

/// Ours: two probes per timeout, because one gets through 30 % loss each way with 0.49 only.
pub const PROBES_PER_TIMEOUT: u8 = 2;

/// Ours: 24 probe timeouts at their cap; who is silent for so long is gone.
pub const PEER_SILENT_MAX: Duration = Duration::from_secs(60);

/// Ours: an offer is dead when its SYN has not come by then.
pub const OFFER_LIFE: Duration = Duration::from_secs(75);

/// Ours: a peer that takes less than [`SPEED_BYTES_MIN`] in this time is not worth a transfer.
pub const SPEED_TIME: Duration = Duration::from_secs(60);

/// Ours: 1 KiB/s.
pub const SPEED_BYTES_MIN: u64 = 60 * 1024;

/// Ours: on a close that the peer does not answer no more time is spent; the file is delivered.
pub const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Ours: a sender that is told that everything is here says FIN within its own patience, [`PEER_SILENT_MAX`]. Whoever goes on
/// asking instead would keep the receiver for ever.
pub const FIN_MAX: Duration = Duration::from_secs(60);

/// Whether this end sends the file or receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The file is here.
    Send,
    /// The file comes from the peer.
    Receive,
}

/// Everything a connection is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which end of the open this is.
    pub role: Role,
    /// Which end of the file this is.
    pub direction: Direction,
    /// The transfer's number, in every header.
    pub id: TransferId,
    /// The secret of the offer.
    pub key: Secret,
    /// The file's size in octets, known to both from the offer.
    pub size: u64,
    /// The receiver has everything before this offset from an earlier connection; both know it from the offer.
    pub start: u64,
    /// The largest UDP payload to send, at least [`PACKET_LEN_MIN`].
    pub packet_len_max: usize,
    /// How far the peer may be ahead of the first gap, in octets.
    pub window_bytes: u64,
    /// What our socket can hold at once, in octets: told to the peer.
    pub burst_len: u32,
    /// The round trip measured elsewhere (the control connection's login), for the first timers.
    pub rtt_guess: Duration,
    /// How long to wait for the peer's first authentic packet.
    pub open_max: Duration,
    /// How losses shall be repaired. A client that asks for a scheme gets it; else the server's wish counts, else the default.
    pub arq: Option<ArqScheme>,
    /// Who shall control congestion; likewise.
    pub controller: Option<ControllerKind>,
    /// A receiver's: the sender may not go beyond this offset before [`Connection::grant`].
    pub granted: u64,
    /// Where the connection's chance comes from.
    pub seed: u64,
}

/// What a connection has to tell its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The open is complete.
    Established,
    /// Every octet of the file is at the receiver.
    Delivered,
    /// The connection is over; when `Delivered` came before, in whatever way.
    Closed(Result<(), ConnectionError>),
}

/// Why a connection failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// No authentic packet has ever come.
    #[error("no answer over UDP")]
    NoAnswer,
    /// The peer has fallen silent.
    #[error("the other side has fallen silent")]
    PeerLost,
    /// The peer takes less than the smallest speed that is worth it.
    #[error("the other side takes less than 1 KiB/s")]
    TooSlow,
    /// The peer sent RST.
    #[error("the other side ended the transfer: {0:?}")]
    Reset(Reason),
    /// The peer acknowledged what it cannot have received.
    #[error("the other side acknowledged packets that were never sent")]
    OptimisticAck,
    /// The peer broke the protocol in another way.
    #[error("the other side broke the protocol")]
    Protocol,
    /// The file here could not be read or written.
    #[error("the file cannot be read or written here")]
    File,
    /// The owner ended it.
    #[error("cancelled")]
    Cancelled,
}

impl ConnectionError {
    /// What the peer is told, if anything.
    fn reason(&self) -> Option<Reason> {
        match self {
            Self::NoAnswer | Self::PeerLost | Self::Reset(_) => None,
            Self::OptimisticAck | Self::Protocol => Some(Reason::Protocol),
            Self::File => Some(Reason::File),
            Self::Cancelled | Self::TooSlow => Some(Reason::Cancelled),
        }
    }
}

/// Counters of one connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Packets sent, of every kind.
    pub packets_sent: u64,
    /// DATA packets whose octets had been sent before; a receiver counts those that came.
    pub packets_resent: u64,
    /// DATA packets that brought nothing new.
    pub packets_duplicate: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Packets declared lost that had only been late.
    pub packets_spurious: u64,
    /// Probe timeouts.
    pub timeouts: u64,
    /// Datagrams dropped because they did not open, or had been seen.
    pub datagrams_refused: u64,
}

/// SplitMix64 (Steele, Lea, Flood 2014): chance that follows from a seed. Not for secrets.
pub fn split_mix_64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
