//! Moves files: the UDP workers and their pool, the TCP streams, the shelf, and what is written to disk.

mod carried;
mod digest;
pub mod disk;
pub mod fault;
pub mod part;
pub mod pool;
pub mod probe;
mod run;
pub mod shelf;
pub mod sink;
pub mod socket;
pub mod stream;
pub mod trace;
pub mod tuning;
pub mod wake;
mod worker;

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use digest::{Followed, digest_before};

use crate::wire::ErrorCode;

/// What a transfer has done so far. Its worker writes, anyone may read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    has_begun: AtomicBool,
    moved_bytes: AtomicU64,
    resent_packets: AtomicU64,
    first_byte_at: OnceLock<Instant>,
    /// In microseconds; 0 is not known.
    srtt_us: AtomicU64,
}

impl Progress {
    /// Octets of the file that have arrived (receiver), or are known to have arrived (sender), at earlier tries too.
    pub fn moved_bytes(&self) -> u64 {
        self.moved_bytes.load(Ordering::Relaxed)
    }

    /// Packets that carried octets for a second time; a receiver counts those that came twice or filled a gap.
    pub fn resent_packets(&self) -> u64 {
        self.resent_packets.load(Ordering::Relaxed)
    }

    /// The smoothed round trip of the UDP connection that carries it, once that has been measured.
    pub fn srtt(&self) -> Option<Duration> {
        Some(self.srtt_us.load(Ordering::Relaxed)).filter(|&us| us > 0).map(Duration::from_micros)
    }

    /// Whether the connection that carries it is open.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// When the first octet of this try came; a sender knows of none.
    pub fn first_byte_at(&self) -> Option<Instant> {
        self.first_byte_at.get().copied()
    }

    /// Octets have come at this time: the first ones, unless some came before.
    pub(crate) fn note_bytes(&self, now: Instant) {
        self.first_byte_at.get_or_init(|| now);
    }

    pub(crate) fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, moved_bytes: u64, resent_packets: u64) {
        self.moved_bytes.store(moved_bytes, Ordering::Relaxed);
        self.resent_packets.store(resent_packets, Ordering::Relaxed);
    }

    pub(crate) fn set_srtt(&self, srtt: Duration) {
        self.srtt_us.store(u64::try_from(srtt.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Why a transfer ended early, in words for the person who waits for it.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file here could not be read or written.
    #[error("cannot {what}: {source}")]
    File {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file exists already and is not to be overwritten.
    #[error("{0} exists already")]
    Exists(String),
    /// The connection to the peer failed.
    #[error("the connection broke off: {0}")]
    Lost(String),
    /// Nothing ever came over UDP.
    #[error("no answer over UDP: a firewall may block it")]
    NoAnswer,
    /// The peer ended the transfer and said why.
    #[error("the other side ended the transfer ({0})")]
    Refused(ErrorCode),
    /// The octets received are not those that were sent.
    #[error("the file arrived damaged: its digest is {actual}, not {expected}")]
    Digest {
        /// What the sender announced.
        expected: blake3::Hash,
        /// What arrived.
        actual: blake3::Hash,
    },
    /// The file that was being sent is another one now.
    #[error("the file has changed meanwhile")]
    Changed,
    /// Somebody here ended it.
    #[error("cancelled")]
    Cancelled,
    /// Somebody here ended it, to go on later.
    #[error("paused")]
    Paused,
    /// Somebody here was asked whether to go on, and did not say yes.
    #[error("declined")]
    Declined,
}

impl TransferError {
    /// What DONE tells the other side.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::File { source, .. } if is_full(source) => ErrorCode::DiskFull,
            Self::File { .. } => ErrorCode::File,
            Self::Exists(_) => ErrorCode::Exists,
            Self::Lost(_) | Self::NoAnswer | Self::Paused => ErrorCode::Incomplete,
            Self::Refused(code) => *code,
            Self::Digest { .. } => ErrorCode::Digest,
            Self::Changed => ErrorCode::Changed,
            Self::Cancelled | Self::Declined => ErrorCode::Cancelled,
        }
    }

    /// Whether what has arrived is worth something to a later try. On a full disk nothing is left lying about.
    pub fn is_resumable(&self) -> bool {
        match self {
            Self::Lost(_) | Self::NoAnswer | Self::Paused => true,
            Self::File { source, .. } => !is_full(source),
            Self::Refused(code) => {
                !matches!(code, ErrorCode::Cancelled | ErrorCode::Changed | ErrorCode::Digest)
            }
            Self::Exists(_) | Self::Digest { .. } | Self::Changed | Self::Cancelled | Self::Declined => false,
        }
    }
}

/// Whether the disk, or this user's part of it, is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
