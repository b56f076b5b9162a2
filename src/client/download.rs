//! One download: what is wanted, where it stands, and what may follow from an event.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::report::{Fetched, Report, percent};
use crate::transfer::sink::{Sink, Target};
use crate::transfer::{Progress, TransferError};
use crate::wire::ErrorCode;
use crate::wire::message::{ClientMessage, Offer, TransferId, Transport};
use crate::wire::name::FileName;

/// A download shorter than this needs no word on its way.
const MILESTONES_AFTER: Duration = Duration::from_secs(2);

/// A file that somebody wants.
#[derive(Debug, Clone)]
pub struct Want {
    /// Its name on the shelf.
    pub name: FileName,
    /// Where it shall lie.
    pub target: Target,
    /// How its octets shall travel.
    pub transport: Transport,
    /// Whether TCP will do where no UDP packet comes through.
    pub fall_back: bool,
}

/// What the threads of a transfer tell.
#[derive(Debug)]
pub enum TransferEvent {
    /// The octets are there, or will not come; and when that was.
    Arrived(TransferId, Result<Sink, TransferError>, Instant),
    /// The file lies under its name, or does not.
    Kept(TransferId, Result<PathBuf, TransferError>),
}

/// What follows from an event.
#[derive(Debug)]
pub enum Reaction {
    /// The server must be told.
    Say(ClientMessage),
    /// The person may be told.
    Tell(Report),
    /// A file is there.
    Fetched(Fetched),
    /// A file will not come.
    Failed(Failed),
    /// The server does not offer a file.
    Refused {
        /// Its name.
        name: FileName,
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        words: String,
    },
}

/// A download that came to nothing.
#[derive(Debug)]
pub struct Failed {
    /// The file's name on the shelf.
    pub name: FileName,
    /// Why.
    pub error: TransferError,
    /// Whether the server had offered it.
    pub begun: bool,
}

/// How far a download is.
#[derive(Debug)]
pub struct View {
    /// Its number here.
    pub number: u32,
    /// The file.
    pub name: FileName,
    /// Octets that have arrived.
    pub moved_bytes: u64,
    /// Octets that there are, once the server has told.
    pub size: Option<u64>,
    /// What is happening with it.
    pub stage: &'static str,
}

/// A file that somebody has asked for here.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) want: Want,
    /// When its first GET was said; until then, when it was asked for.
    pub(super) at: Instant,
    /// When its last GET was said.
    pub(super) said_at: Option<Instant>,
    /// Whether others of ours were on their way when its GET was said: only then does waiting help against `busy`.
    pub(super) has_company: bool,
    pub(super) cancelled: bool,
}

/// A file that the server has offered.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) asked: Asked,
    /// The digest as the OFFER brought it; DONE knows better.
    pub(super) offered: Option<blake3::Hash>,
    /// Size and digest as DONE brought them.
    pub(super) promised: Option<(u64, blake3::Hash)>,
    pub(super) size: u64,
    pub(super) moving: Moving,
    pub(super) stage: Stage,
    /// Why we cancelled it, where that is more than "cancelled".
    pub(super) failure: Option<TransferError>,
    /// The quarters told.
    pub(super) milestone: u64,
}

/// What a download shares with the thread that moves its octets.
#[derive(Debug, Clone, Default)]
pub(super) struct Moving {
    pub(super) progress: Arc<Progress>,
    pub(super) cancelled: Arc<AtomicBool>,
}

/// Where a download stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// Octets arrive.
    Moving,
    /// All octets are here; DONE is not.
    Arrived(Sink, Instant),
    /// The disk has it. The digest, and how long it took to get here.
    Keeping(blake3::Hash, Duration),
}

impl Asked {
    /// How far it is: nowhere yet.
    pub(super) fn view(&self, stage: &'static str) -> View {
        View { number: self.number, name: self.want.name.clone(), moved_bytes: 0, size: None, stage }
    }
}

impl Download {
    /// One whose octets begin to move.
    pub(super) fn new(asked: Asked, offer: &Offer, moving: Moving) -> Download {
        Download {
            asked,
            offered: offer.digest,
            promised: None,
            size: offer.file.size,
            moving,
            stage: Stage::Moving,
            failure: None,
            milestone: 0,
        }
    }

    /// Whether the server may still count it among the offers that nobody has taken up.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Moving) && self.moving.progress.moved_bytes() == 0
    }

    /// A word on the way, once for each quarter of a long download.
    pub(super) fn milestone(&mut self, now: Instant) -> Option<Report> {
        let waited = now.saturating_duration_since(self.asked.at);
        if waited < MILESTONES_AFTER || !matches!(self.stage, Stage::Moving) {
            return None;
        }
        let quarter = percent(self.moving.progress.moved_bytes(), self.size) / 25;
        if quarter <= self.milestone || quarter >= 4 {
            return None;
        }
        self.milestone = quarter;
        Some(self.view().report())
    }

    /// How far it is.
    pub(super) fn view(&self) -> View {
        View {
            number: self.asked.number,
            name: self.asked.want.name.clone(),
            moved_bytes: self.moving.progress.moved_bytes(),
            size: Some(self.size),
            stage: match self.stage {
                Stage::Moving => "on its way",
                Stage::Arrived(..) => "waiting for its digest",
                Stage::Keeping(..) => "being verified",
            },
        }
    }
}

impl View {
    /// As it is told.
    pub fn report(&self) -> Report {
        Report::Progress {
            number: self.number,
            name: self.name.to_string(),
            bytes: self.moved_bytes,
            size: self.size,
            stage: self.stage,
        }
    }
}
