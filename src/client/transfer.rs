//! One transfer: what is wanted, where it stands, and what may follow from an event.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use super::report::{Direction, Finished, Report, percent};
use crate::transfer::sink::{Sink, Target};
use crate::transfer::{Progress, TransferError};
use crate::wire::ErrorCode;
use crate::wire::message::{ClientMessage, Secret, TransferId, Transport};
use crate::wire::name::FileName;

/// A transfer shorter than this needs no word on its way.
const MILESTONES_AFTER: Duration = Duration::from_secs(2);

/// A file that somebody wants here or there.
#[derive(Debug, Clone)]
pub struct Want {
    /// Its name on the shelf.
    pub name: FileName,
    /// Which way, and its place here.
    pub what: What,
    /// How its octets shall travel.
    pub transport: Transport,
    /// Whether TCP will do where no UDP packet comes through.
    pub fall_back: bool,
}

/// Which way a file shall go.
#[derive(Debug, Clone)]
pub enum What {
    /// From the shelf to here.
    Get {
        /// Where it shall lie.
        target: Target,
        /// Whether a person is asked at 40 % if it shall go on.
        asks: bool,
    },
    /// From here to the shelf.
    Put {
        /// Where it lies.
        path: PathBuf,
    },
}

/// What the threads of a transfer tell.
#[derive(Debug)]
pub enum TransferEvent {
    /// The octets of a file are here, or will not come; and when that was.
    Arrived(TransferId, Sink, Result<(), TransferError>, Instant),
    /// The octets of a file are there, or could not be sent; and when that was.
    Sent(TransferId, Result<(), TransferError>, Instant),
    /// A file that is put has been read for its digest.
    Read(TransferId, Result<blake3::Hash, TransferError>),
    /// A file that was fetched lies under its name, or does not.
    Kept(TransferId, Result<PathBuf, TransferError>),
}

/// What follows from an event.
#[derive(Debug)]
pub enum Reaction {
    /// The server must be told.
    Say(ClientMessage),
    /// The person may be told.
    Tell(Report),
    /// The person is to be asked whether this shall go on.
    Ask(View),
    /// A file is where it was wanted.
    Finished(Finished),
    /// A file will not come, or go.
    Failed(Failed),
    /// The server refuses a file.
    Refused {
        /// Its name.
        name: FileName,
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        words: String,
    },
}

/// A transfer that came to nothing.
#[derive(Debug)]
pub struct Failed {
    /// The file's name on the shelf.
    pub name: FileName,
    /// Why.
    pub error: TransferError,
    /// Whether the server had agreed to it.
    pub begun: bool,
}

/// How far a transfer is.
#[derive(Debug)]
pub struct View {
    /// Its number here.
    pub number: u32,
    /// The file.
    pub name: FileName,
    /// Which way it goes.
    pub direction: Direction,
    /// Octets that have arrived.
    pub moved_bytes: u64,
    /// Octets that there are, once that is known.
    pub size: Option<u64>,
    /// Packets that carried octets for a second time.
    pub resent_packets: u64,
    /// The round trip, once it has been measured.
    pub srtt: Option<Duration>,
    /// What is happening with it.
    pub stage: &'static str,
    /// How long it has taken so far.
    pub took: Duration,
}

/// A transfer that somebody has asked for here.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) want: Want,
    /// When its first request was said; until then, when it was asked for.
    pub(super) at: Instant,
    /// When its last request was said.
    pub(super) said_at: Option<Instant>,
    /// Whether others of ours were on their way when its request was said: only then does waiting help against `busy`.
    pub(super) has_company: bool,
    /// How often the server was busy.
    pub(super) busy_count: u32,
    pub(super) cancelled: bool,
    /// The server has agreed to it once.
    pub(super) begun: bool,
    /// What earlier tries have left does not count.
    pub(super) anew: bool,
    pub(super) hand: Hand,
}

/// What we hold for a request that is being answered.
#[derive(Debug)]
pub(super) enum Hand {
    Nothing,
    /// What an earlier try has left of a file that is fetched.
    Leftover(Sink),
    /// A file that is put.
    Source(Source),
}

/// A file to put, open.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: File,
    pub(super) size: u64,
    /// What lets us go on with an earlier try.
    pub(super) resume_token: Option<Secret>,
}

/// A transfer that the server has agreed to.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) asked: Asked,
    pub(super) size: u64,
    /// Where this try began.
    pub(super) start: u64,
    pub(super) moving: Moving,
    pub(super) side: Side,
    /// Why we ended it, where that is more than "cancelled".
    pub(super) failure: Option<TransferError>,
    /// The quarters told.
    pub(super) milestone: u64,
}

/// What a transfer shares with the thread that moves its octets.
#[derive(Debug, Clone)]
pub(super) struct Moving {
    pub(super) progress: Arc<Progress>,
    pub(super) cancelled: Arc<AtomicBool>,
    /// How far the sender may go.
    pub(super) granted: Arc<AtomicU64>,
}

/// Where a transfer stands.
#[derive(Debug)]
pub(super) enum Side {
    Get(Get),
    Put(Put),
}

/// Where a file stands that is fetched.
#[derive(Debug)]
pub(super) struct Get {
    /// The digest as the OFFER brought it; DONE knows better.
    pub(super) offered: Option<blake3::Hash>,
    /// Size and digest as DONE brought them.
    pub(super) promised: Option<(u64, blake3::Hash)>,
    pub(super) stage: Stage,
    pub(super) gate: Gate,
}

/// How far the octets of a file are that is fetched.
#[derive(Debug)]
pub(super) enum Stage {
    /// Octets arrive.
    Moving,
    /// All octets are here; DONE is not.
    Arrived(Sink, Instant),
    /// The disk has it. The digest, and how long it took to get here.
    Keeping(blake3::Hash, Duration),
}

/// The question at 40 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// It is not asked, or is answered.
    Open,
    /// It will be asked at this offset.
    At(u64),
    /// It was asked then.
    Asked(Instant),
}

/// Where a file stands that is put.
#[derive(Debug)]
pub(super) struct Put {
    /// The file, until it is being read for its digest.
    pub(super) unread: Option<File>,
    /// Its digest, once it is read and told.
    pub(super) digest: Option<blake3::Hash>,
    /// When the last octet was acknowledged.
    pub(super) sent_at: Option<Instant>,
    /// Stops the reading.
    pub(super) unwanted: Arc<AtomicBool>,
}

impl Want {
    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        match self.what {
            What::Get { .. } => Direction::Get,
            What::Put { .. } => Direction::Put,
        }
    }
}

impl Asked {
    /// How far it is: nowhere yet.
    pub(super) fn view(&self, stage: &'static str) -> View {
        View {
            number: self.number,
            name: self.want.name.clone(),
            direction: self.want.direction(),
            moved_bytes: 0,
            size: None,
            resent_packets: 0,
            srtt: None,
            stage,
            took: self.at.elapsed(),
        }
    }
}

impl Moving {
    pub(super) fn new(granted: u64) -> Moving {
        let granted = Arc::new(granted.into());
        Moving { progress: Arc::default(), cancelled: Arc::default(), granted }
    }
}

impl Transfer {
    /// One whose octets begin to move.
    pub(super) fn new(asked: Asked, size: u64, start: u64, moving: Moving, side: Side) -> Transfer {
        Transfer { asked, size, start, moving, side, failure: None, milestone: 0 }
    }

    /// Whether its octets are on their way.
    pub(super) fn is_moving(&self) -> bool {
        match &self.side {
            Side::Get(get) => matches!(get.stage, Stage::Moving),
            Side::Put(put) => put.sent_at.is_none(),
        }
    }

    /// Whether the server may still count it among the offers that nobody has taken up.
    pub(super) fn is_open(&self) -> bool {
        self.is_moving() && !self.moving.progress.has_begun()
    }

    /// A word on the way, once for each quarter of a long transfer.
    pub(super) fn milestone(&mut self, now: Instant) -> Option<Report> {
        let waited = now.saturating_duration_since(self.asked.at);
        if waited < MILESTONES_AFTER || !self.is_moving() {
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
        let stage = match &self.side {
            Side::Get(Get { gate: Gate::Asked(_), .. }) => "waiting for your answer (/yes or /no)",
            Side::Get(Get { stage: Stage::Moving, .. }) | Side::Put(Put { sent_at: None, .. }) => {
                "on its way"
            }
            Side::Get(Get { stage: Stage::Arrived(..), .. }) => "waiting for its digest",
            Side::Get(Get { stage: Stage::Keeping(..), .. }) => "being verified",
            Side::Put(Put { digest: None, .. }) => "being read for its digest",
            Side::Put(_) => "being verified by the server",
        };
        let progress = &self.moving.progress;
        View {
            moved_bytes: progress.moved_bytes(),
            size: Some(self.size),
            resent_packets: progress.resent_packets(),
            srtt: progress.srtt(),
            ..self.asked.view(stage)
        }
    }
}

impl View {
    /// As it is told.
    pub fn report(&self) -> Report {
        Report::Progress {
            number: self.number,
            name: self.name.to_string(),
            direction: self.direction,
            bytes: self.moved_bytes,
            size: self.size,
            stage: self.stage,
        }
    }
}
