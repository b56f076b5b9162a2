//! Uploads: which files are taken, how they are verified, and who is told of them.

use std::sync::Arc;
use std::time::Instant;

use log::{debug, info};

use super::hub::{Hub, Seat};
use super::moves::{self, RTT_GUESS};
use super::transfers::{Busy, Complete, Load, Transfer, Upload, Way};
use crate::chat::room::{Audience, Delivery, MemberId};
use crate::transfer::part::Origin;
use crate::transfer::pool::{Cargo, Opener, Request};
use crate::transfer::sink::Sink;
use crate::transfer::{Progress, TransferError};
use crate::wire::ErrorCode;
use crate::wire::message::{Accept, Done, Secret, ServerMessage, TransferId, Transport};
use crate::wire::name::{FileName, Nick};

/// Why a file is not taken, in words for the one who offers it.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("this server takes no files")]
    NoUploads,
    #[error("a file may have {0} bytes at most here")]
    TooLarge(u64),
    #[error("there is something of this name already")]
    Exists,
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("your earlier upload of it is being ended, try again")]
    Ending,
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    // Where the shelf lies is nobody's business.
    #[error("the server cannot write to its shelf")]
    File(TransferError),
}

impl NotTaken {
    /// The code of the ERR line.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::NoUploads => ErrorCode::NoUploads,
            Self::TooLarge(_) | Self::Busy(Busy::Shelf) => ErrorCode::TooLarge,
            Self::Exists | Self::Busy(Busy::Name) => ErrorCode::Exists,
            Self::Busy(_) | Self::Ending | Self::Random(_) => ErrorCode::Busy,
            Self::File(error) => error.code(),
        }
    }
}

impl From<TransferError> for NotTaken {
    fn from(error: TransferError) -> Self {
        if matches!(error, TransferError::Exists(_)) { Self::Exists } else { Self::File(error) }
    }
}

/// Answers PUT: whoever will receive the file knows of it before the ACCEPT line is queued.
pub(super) fn accept(
    seat: &Seat,
    transport: Transport,
    size: u64,
    name: &FileName,
    resume_token: Option<Secret>,
) -> Result<(), NotTaken> {
    let hub = &seat.hub;
    let limits = &hub.limits;
    moves::expire(hub, Instant::now());
    if !limits.uploads {
        return Err(NotTaken::NoUploads);
    }
    if size > limits.upload_max {
        return Err(NotTaken::TooLarge(limits.upload_max));
    }
    if hub.shelf.has(name) {
        return Err(NotTaken::Exists);
    }
    hub.admit_to_disk()?;
    let earlier = resume_token.map(|token| (digest_of(&token), token));
    {
        // Asked before anything is made; others may be faster, so the insertion asks again.
        let mut state = hub.state.lock();
        let running = earlier.as_ref().and_then(|(digest, _)| state.transfers.running_upload(name, digest));
        if let Some(ended) = running {
            drop(state);
            if let Some((id, transfer)) = ended {
                hub.tell(transfer.owner, ServerMessage::Done(id, Done::Failed(ErrorCode::Incomplete)));
                hub.end_transfers([(id, transfer)]);
            }
            return Err(NotTaken::Ending);
        }
        state.transfers.admit(seat.id, limits)?;
    }
    let shelf_bytes = hub.shelf.used_bytes().map_err(unreadable)?;
    let (sink, resume_token, token) = open_sink(hub, name, size, earlier)?;
    let prefix = sink.prefix().map_err(unreadable)?;
    let secret = moves::new_secret()?;
    let progress = Arc::new(Progress::default());
    // What is there already needs no more room on the shelf.
    progress.set(sink.start(), 0);
    let transfer = |way| Transfer {
        owner: seat.id,
        ip: seat.peer.ip().to_canonical(),
        name: name.clone(),
        size,
        progress: Arc::clone(&progress),
        way,
        offered_at: Instant::now(),
        digest_unwanted: Arc::default(),
        upload: Some(Upload {
            token,
            moved_when_asked: None,
            arrived: None,
            promised: None,
            is_verifying: false,
            ended: None,
        }),
    };
    let insert = |transfer: Transfer| {
        // A refused one is dropped, with its file, after the lock.
        let mut state = hub.state.lock();
        match state.transfers.admit_upload(&transfer, shelf_bytes, limits) {
            Ok(()) => state.transfers.insert(transfer, limits),
            Err(busy) => {
                drop(state);
                Err(busy)
            }
        }
    };
    let followed = sink.followed();
    let (id, port) = match transport {
        Transport::Tcp => {
            let offered = transfer(Way::Offered(secret.clone(), Load::Sink(sink)));
            (insert(offered)?, hub.tcp_port)
        }
        Transport::Udp => {
            let id = insert(transfer(Way::Udp))?;
            let weak = Arc::downgrade(hub);
            let ended = Box::new(move |sink, result| {
                if let Some(hub) = weak.upgrade() {
                    hub.on_upload_ended(id, sink, result);
                }
            });
            let (key, opener) = (secret.clone(), Opener::Peer(seat.peer.ip()));
            let cargo = Cargo::Receive { sink, ended };
            let request = Request { id, key, opener, cargo, rtt: RTT_GUESS, progress: Arc::clone(&progress) };
            (id, hub.pool.start_transfer(request, u64::MAX))
        }
    };
    hub.disk.follow(followed);
    let from = prefix.map_or(0, |prefix| prefix.offset);
    debug!("transfer {id}: {name} is taken from connection {} over {transport}, from {from}", seat.id.0);
    let name = name.clone();
    let accept = Accept { id, transport, port, secret, prefix, resume_token, name };
    seat.tell([ServerMessage::Accept(accept.into())]);
    Ok(())
}

/// What an earlier try with this token has left, or a new file with a new token; and the token's digest.
fn open_sink(
    hub: &Hub,
    name: &FileName,
    size: u64,
    earlier: Option<(String, Secret)>,
) -> Result<(Sink, Secret, String), NotTaken> {
    let target = hub.shelf.place(name);
    if let Some((digest, token)) = earlier {
        let is_ours = |origin: &Origin| origin.size == size && origin.token.as_ref() == Some(&digest);
        if let Some(sink) = Sink::leftover(&target, is_ours) {
            return Ok((sink, token, digest));
        }
        if Sink::is_in_use(&target, is_ours) {
            return Err(NotTaken::Ending);
        }
    }
    let token = moves::new_secret()?;
    let digest = digest_of(&token);
    let origin = Origin { size, mtime_s: None, token: Some(digest.clone()) };
    Ok((Sink::create(&target, &origin)?, token, digest))
}

/// Leaves what a later try can go on with, and nothing else. Done before anybody is told: who hears that an upload has
/// failed may try again at once.
fn give_up(sink: Sink, error: &TransferError) {
    if !error.is_resumable() {
        sink.discard();
    }
}

/// Only the digest of a token is kept, so that whoever reads the shelf's folder cannot go on with an upload.
fn digest_of(token: &Secret) -> String {
    blake3::hash(&token.0).to_string()
}

fn unreadable(source: std::io::Error) -> NotTaken {
    NotTaken::File(TransferError::File { what: "read the shelf".into(), source })
}

impl Hub {
    /// A worker or a stream has ended.
    pub(super) fn on_upload_ended(
        self: &Arc<Self>,
        id: TransferId,
        sink: Sink,
        result: Result<(), TransferError>,
    ) {
        let (sink, error) = match result {
            Err(error) => (sink, error),
            Ok(()) => {
                let arrived = self.state.lock().transfers.on_arrived(id, sink, Instant::now());
                let Err(sink) = arrived else {
                    // Its owner reads its digest meanwhile.
                    self.disk.look();
                    return self.keep_if_complete(id);
                };
                // Its owner has ended it, or is gone.
                (sink, TransferError::Cancelled)
            }
        };
        let Some(mut transfer) = self.state.lock().transfers.remove(id) else { return };
        let is_open = transfer.is_open();
        let ended_by_owner = transfer.upload.take().and_then(|upload| upload.ended);
        let Transfer { owner, name, .. } = transfer;
        info!("transfer {id}: {name} from connection {} failed: {error}", owner.0);
        let code = ended_by_owner.unwrap_or_else(|| moves::code_of(&error, is_open));
        // The owner's word decides what is kept for a later try, and our own end costs it nothing.
        let error = match (ended_by_owner, error) {
            (Some(code), _) => TransferError::Refused(code),
            (None, TransferError::Cancelled) => TransferError::Paused,
            (None, error) => error,
        };
        give_up(sink, &error);
        if ended_by_owner.is_none() {
            self.tell(owner, ServerMessage::Done(id, Done::Failed(code)));
        }
    }

    /// The owner of an upload tells what it has read.
    pub(super) fn on_upload_read(
        self: &Arc<Self>,
        owner: MemberId,
        id: TransferId,
        size: u64,
        digest: blake3::Hash,
    ) {
        self.state.lock().transfers.on_promised(owner, id, size, digest);
        self.keep_if_complete(id);
    }

    /// The owner of an upload ends it; `false` when there is no such upload.
    pub(super) fn end_upload(&self, owner: MemberId, id: TransferId, code: ErrorCode) -> bool {
        let Some((stop, sink)) = self.state.lock().transfers.end_upload(owner, id, code) else {
            return false;
        };
        self.stop(id, stop);
        if let Some(sink) = sink {
            give_up(sink, &TransferError::Refused(code));
        }
        true
    }

    fn keep_if_complete(self: &Arc<Self>, id: TransferId) {
        let (complete, nick) = {
            let mut state = self.state.lock();
            let Some(complete) = state.transfers.take_complete(id) else { return };
            let nick = state.nick(complete.owner);
            (complete, nick)
        };
        let Complete { owner, name, sink, size, digest } = complete;
        if size != sink.size() {
            give_up(sink, &TransferError::Changed);
            return self.fail_transfer(id, owner, ErrorCode::Changed);
        }
        let weak = Arc::downgrade(self);
        self.disk.keep(sink, digest, move |kept| {
            if let Some(hub) = weak.upgrade() {
                hub.on_kept(id, owner, nick, &name, size, kept.map(|_| ()));
            }
        });
    }

    fn on_kept(
        &self,
        id: TransferId,
        owner: MemberId,
        nick: Option<Nick>,
        name: &FileName,
        size: u64,
        kept: Result<(), TransferError>,
    ) {
        self.state.lock().transfers.remove(id);
        match kept {
            Ok(()) => {
                info!("transfer {id}: {name} put on the shelf by connection {}, {size} bytes", owner.0);
                self.tell(owner, ServerMessage::Done(id, Done::Kept));
                if let Some(nick) = nick {
                    let message = ServerMessage::Shared(nick, size, name.clone());
                    self.in_room(|_| vec![Delivery { to: Audience::All, message }]);
                }
            }
            Err(error) => {
                info!("transfer {id}: {name} from connection {} cannot be kept: {error}", owner.0);
                self.tell(owner, ServerMessage::Done(id, Done::Failed(error.code())));
            }
        }
    }
}
