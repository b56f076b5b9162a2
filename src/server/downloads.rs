//! Downloads: what the shelf offers, and to whom.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info};

use super::hub::{Hub, Seat};
use super::moves::{self, RTT_GUESS};
use super::transfers::{Busy, Load, Transfer, Way};
use crate::transfer::pool::{Cargo, Opener, Request};
use crate::transfer::shelf::ShelfError;
use crate::transfer::{Progress, TransferError, digest_before};
use crate::wire::ErrorCode;
use crate::wire::message::{
    Done, FILES_PER_PAGE, FileEntry, Offer, PREFIX_LEN, Prefix, Secret, ServerMessage, TransferId, Transport,
};
use crate::wire::name::FileName;

/// Why a file is not offered, in words for the one who asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOffered {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("the file is another one now, fetch it from its start")]
    Changed,
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

impl NotOffered {
    /// The code of the ERR line.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::Shelf(ShelfError::NoFile) => ErrorCode::NoFile,
            Self::Shelf(ShelfError::Io(_)) => ErrorCode::File,
            Self::Changed => ErrorCode::Changed,
            Self::Busy(_) | Self::Random(_) | Self::System(_) => ErrorCode::Busy,
        }
    }
}

/// Answers GET, and RESUME with what the client has: whoever will send the file knows of it before the OFFER line is
/// queued.
pub(super) fn offer(
    seat: &Seat,
    transport: Transport,
    name: &FileName,
    prefix: Option<Prefix>,
) -> Result<(), NotOffered> {
    let hub = &seat.hub;
    moves::expire(hub, Instant::now());
    // Asked before anything is opened; others may be faster, so the insertion asks again.
    hub.admit_to_disk()?;
    hub.state.lock().transfers.admit(seat.id, &hub.limits)?;
    let (file, entry) = hub.shelf.open_file(name)?;
    let wanted = prefix.map_or(0, |prefix| prefix.offset)..entry.size;
    if let Some(Prefix { offset, digest }) = prefix
        && (offset > entry.size || digest_before(&file, offset, PREFIX_LEN)? != digest)
    {
        return Err(NotOffered::Changed);
    }
    let digested = file.try_clone()?;
    let secret = moves::new_secret()?;
    let digest_unwanted = Arc::default();
    let transfer = |way| Transfer {
        owner: seat.id,
        ip: seat.peer.ip().to_canonical(),
        name: name.clone(),
        size: entry.size,
        progress: Arc::default(),
        way,
        offered_at: Instant::now(),
        digest_unwanted: Arc::clone(&digest_unwanted),
        upload: None,
    };
    let (id, port) = match transport {
        Transport::Tcp => {
            let offered = transfer(Way::Offered(secret.clone(), Load::File(file, wanted)));
            (hub.state.lock().transfers.insert(offered, &hub.limits)?, hub.tcp_port)
        }
        Transport::Udp => {
            let transfer = transfer(Way::Udp);
            let progress = Arc::clone(&transfer.progress);
            let id = hub.state.lock().transfers.insert(transfer, &hub.limits)?;
            let request = send_request(seat, id, &secret, file, wanted, progress);
            (id, hub.pool.start_transfer(request, u64::MAX))
        }
    };
    debug!("transfer {id}: {name} offered to connection {} over {transport}", seat.id.0);
    let size = entry.size;
    seat.tell([ServerMessage::Offer(Offer { id, transport, port, secret, file: entry, digest: None })]);
    let (weak, owner) = (Arc::downgrade(hub), seat.id);
    hub.disk.digest(digested, size, digest_unwanted, move |digest| {
        let Some(hub) = weak.upgrade() else { return };
        hub.state.lock().transfers.on_digested(id);
        match digest {
            Ok(digest) => hub.tell(owner, ServerMessage::Done(id, Done::Sent { size, digest })),
            Err(error) => {
                info!("transfer {id}: {error}");
                hub.fail_transfer(id, owner, error.code());
            }
        }
    });
    Ok(())
}

fn send_request(
    seat: &Seat,
    id: TransferId,
    key: &Secret,
    file: File,
    wanted: Range<u64>,
    progress: Arc<Progress>,
) -> Request {
    let hub = Arc::downgrade(&seat.hub);
    let ended = Box::new(move |result| {
        if let Some(hub) = hub.upgrade() {
            hub.on_download_ended(id, result);
        }
    });
    let cargo = Cargo::Send { file, wanted, ended };
    Request { id, key: key.clone(), opener: Opener::Peer(seat.peer.ip()), cargo, rtt: RTT_GUESS, progress }
}

/// What the shelf holds after a name, as the lines that answer FILES.
pub(super) fn list(hub: &Hub, after: Option<&FileName>) -> io::Result<Vec<ServerMessage>> {
    let mut files: Vec<FileEntry> = hub.shelf.list()?;
    if let Some(after) = after {
        files.retain(|file| file.name > *after);
    }
    let count = ServerMessage::Files(files.len());
    let page = files.into_iter().take(FILES_PER_PAGE).map(ServerMessage::File);
    Ok(std::iter::once(count).chain(page).collect())
}

impl Hub {
    /// A worker or a stream has ended; its client is told of a failure that is news to it.
    pub(super) fn on_download_ended(&self, id: TransferId, result: Result<(), TransferError>) {
        let transfer = {
            let transfers = &mut self.state.lock().transfers;
            if result.is_ok() { transfers.remove_sent(id) } else { transfers.remove(id) }
        };
        let Some(transfer) = transfer else { return };
        let is_open = transfer.is_open();
        let Transfer { owner, name, size, .. } = transfer;
        match result {
            Ok(()) => info!("transfer {id}: {name} sent to connection {}, {size} bytes", owner.0),
            Err(error) => {
                info!("transfer {id}: {name} to connection {} failed: {error}", owner.0);
                self.tell(owner, ServerMessage::Done(id, Done::Failed(moves::code_of(&error, is_open))));
            }
        }
    }
}
