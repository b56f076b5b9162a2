//! Downloads: offers of files, the connections that claim them, and how they end.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{debug, info};

use super::hub::{Hub, Seat};
use super::transfers::{Busy, Transfer, Way};
use crate::chat::room::MemberId;
use crate::transfer::pool::SendRequest;
use crate::transfer::shelf::ShelfError;
use crate::transfer::{Progress, TransferError, stream};
use crate::wire::ErrorCode;
use crate::wire::message::{
    Done, FILES_PER_PAGE, FileEntry, Offer, SECRET_LEN, Secret, ServerMessage, TransferId, Transport,
};
use crate::wire::name::FileName;

/// What the first timers of a transfer assume. Ours: nothing on the control connection measures the round trip
/// reliably (HELLO follows the handshake at once, or a person types it), and three times this is a patient start.
const RTT_GUESS: Duration = Duration::from_millis(100);

/// Why a file is not offered, in words for the one who asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOffered {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
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
            Self::Busy(_) | Self::Random(_) | Self::System(_) => ErrorCode::Busy,
        }
    }
}

/// Answers GET: whoever will send the file knows of it before the OFFER line is queued.
pub(super) fn offer(seat: &Seat, transport: Transport, name: &FileName) -> Result<(), NotOffered> {
    let hub = &seat.hub;
    expire(hub, Instant::now());
    // Asked before anything is opened; others may be faster, so the insertion asks again.
    hub.state.lock().transfers.admit(seat.id, &hub.limits)?;
    let (file, entry) = hub.shelf.open_file(name)?;
    let digested = file.try_clone()?;
    let mut secret = [0; SECRET_LEN];
    getrandom::fill(&mut secret)?;
    let secret = Secret(secret);
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
    };
    let (id, port) = match transport {
        Transport::Tcp => {
            let offered = transfer(Way::Offered(secret.clone(), file));
            (hub.state.lock().transfers.insert(offered, &hub.limits)?, hub.tcp_port)
        }
        Transport::Udp => {
            let transfer = transfer(Way::Udp);
            let progress = Arc::clone(&transfer.progress);
            let id = hub.state.lock().transfers.insert(transfer, &hub.limits)?;
            (id, hub.pool.send(send_request(seat, id, &secret, file, entry.size, progress)))
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
                info!("transfer {id}: cannot be read: {error}");
                hub.fail_transfer(id, owner, ErrorCode::File);
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
    size: u64,
    progress: Arc<Progress>,
) -> SendRequest {
    let hub = Arc::downgrade(&seat.hub);
    let ended = Box::new(move |result| {
        if let Some(hub) = hub.upgrade() {
            hub.on_transfer_ended(id, result);
        }
    });
    SendRequest { id, key: key.clone(), peer: seat.peer.ip(), file, size, rtt: RTT_GUESS, progress, ended }
}

/// What a connection does that says `DATA_<token>`: if the token is right it becomes a transfer's, and this sends the
/// file. Otherwise nothing happens, and the connection is closed without a word.
pub(super) fn serve(seat: &Seat, token: &Secret) {
    let hub = &seat.hub;
    let claim = {
        let mut state = hub.state.lock();
        let ip = seat.peer.ip().to_canonical();
        let claim = state.transfers.claim(token, ip, Arc::clone(&seat.stream));
        if claim.is_some() {
            hub.on_data(&mut state, seat.id);
        }
        claim
    };
    let Some(claim) = claim else {
        debug!("connection {}: presented a token that opens nothing", seat.id.0);
        return;
    };
    // The login's time limit is over; the stream sets its own.
    let result = match seat.stream.set_read_timeout(None) {
        Ok(()) => stream::send(&seat.stream, &claim.file, claim.size, &claim.progress, &claim.cancelled),
        Err(error) => Err(TransferError::Lost(error.to_string())),
    };
    hub.on_transfer_ended(claim.id, result);
}

/// Ends the offers that nobody has taken up in time.
pub(super) fn expire(hub: &Hub, now: Instant) {
    let expired = hub.state.lock().transfers.remove_expired(now, &hub.limits);
    for (id, transfer) in &expired {
        hub.tell(transfer.owner, ServerMessage::Done(*id, Done::Failed(ErrorCode::Timeout)));
    }
    hub.end_transfers(expired);
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
    /// The client's part of a transfer is over.
    pub(super) fn on_client_done(&self, owner: MemberId, id: TransferId, failed: Option<ErrorCode>) {
        let Some(code) = failed else {
            debug!("transfer {id}: kept by connection {}", owner.0);
            return;
        };
        let transfer = self.state.lock().transfers.remove_of(owner, id);
        info!("transfer {id}: failed at connection {} ({code})", owner.0);
        self.end_transfers(transfer.map(|transfer| (id, transfer)));
    }

    /// A worker or a stream has ended; its client is told of a failure that is news to it.
    fn on_transfer_ended(&self, id: TransferId, result: Result<(), TransferError>) {
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
                // The same word whether a worker gives an offer up or the table does.
                let nobody_came = is_open && matches!(error, TransferError::NoAnswer);
                let code = if nobody_came { ErrorCode::Timeout } else { error.code() };
                self.tell(owner, ServerMessage::Done(id, Done::Failed(code)));
            }
        }
    }

    fn fail_transfer(&self, id: TransferId, owner: MemberId, code: ErrorCode) {
        let Some(transfer) = self.state.lock().transfers.remove(id) else { return };
        self.tell(owner, ServerMessage::Done(id, Done::Failed(code)));
        self.end_transfers([(id, transfer)]);
    }

    /// Ends whoever carries these transfers, which are out of the table already.
    pub(super) fn end_transfers(&self, transfers: impl IntoIterator<Item = (TransferId, Transfer)>) {
        for (id, transfer) in transfers {
            match transfer.way {
                Way::Udp => self.pool.cancel(id),
                Way::Offered(..) => {}
                Way::Streaming(stream, cancelled) => {
                    cancelled.store(true, Ordering::Relaxed);
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
        }
    }
}
