//! What moves files, whichever way they go: connections that claim them, offers that nobody takes up, and their ends.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{debug, info};

use super::hub::{Hub, Seat};
use super::transfers::{Busy, Claim, Load, Stop, Transfer};
use crate::chat::room::MemberId;
use crate::transfer::{TransferError, stream};
use crate::wire::ErrorCode;
use crate::wire::message::{Done, SECRET_LEN, Secret, ServerMessage, TransferId};

/// What the first timers of a transfer assume. Ours: nothing on the control connection measures the round trip
/// reliably (HELLO follows the handshake at once, or a person types it), and three times this is a patient start.
pub(super) const RTT_GUESS: Duration = Duration::from_millis(100);

/// Files that the disk thread may have beside those of the transfers. Ours: as many as of 1,024 transfers.
const DISK_BACKLOG_MAX: usize = 1_024;

/// A key or token that nobody can guess.
pub(super) fn new_secret() -> Result<Secret, getrandom::Error> {
    let mut secret = [0; SECRET_LEN];
    getrandom::fill(&mut secret)?;
    Ok(Secret(secret))
}

/// A file that the thread of its connection moves: should that panic, nothing of it stays, and its owner hears of it.
struct Moving<'a> {
    hub: &'a Hub,
    id: TransferId,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(transfer) = self.hub.state.lock().transfers.remove(self.id)
        {
            self.hub.tell(transfer.owner, ServerMessage::Done(self.id, Done::Failed(ErrorCode::Incomplete)));
        }
    }
}

/// What a connection does that says `DATA_<token>`: if the token is right it becomes a transfer's, and this moves the
/// file; `read_before` are octets of it. Otherwise nothing happens, and the connection is closed without a word.
pub(super) fn serve(seat: &Seat, token: &Secret, read_before: &[u8]) {
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
    let Some(Claim { id, load, progress, cancelled }) = claim else {
        debug!("connection {}: presented a token that opens nothing", seat.id.0);
        return;
    };
    let _moving = Moving { hub, id };
    // The login's time limit is over; the stream sets its own.
    let ready = seat.stream.set_read_timeout(None).map_err(|error| TransferError::Lost(error.to_string()));
    let (stream, everything) = (&*seat.stream, u64::MAX.into());
    match load {
        Load::File(file, wanted) => {
            hub.pool.tuning().prefer(stream);
            let result = ready.and_then(|()| stream::send(stream, &file, wanted, &progress, &cancelled));
            hub.on_download_ended(id, result);
        }
        Load::Sink(mut sink) => {
            let result = ready.and_then(|()| {
                stream::receive(stream, read_before, &mut sink, &progress, &everything, &cancelled)
            });
            hub.on_upload_ended(id, sink, result);
        }
    }
}

/// Ends the offers that nobody has taken up in time.
pub(super) fn expire(hub: &Hub, now: Instant) {
    let expired = hub.state.lock().transfers.remove_expired(now, &hub.limits);
    let owners: Vec<_> = expired.iter().map(|(id, transfer)| (*id, transfer.owner)).collect();
    // First, so that what they have left can be gone on with by whoever hears of it.
    hub.end_transfers(expired);
    for (id, owner) in owners {
        hub.tell(owner, ServerMessage::Done(id, Done::Failed(ErrorCode::Timeout)));
    }
}

/// What the client is told; the same word whether a worker gives an offer up or the table does.
pub(super) fn code_of(error: &TransferError, is_open: bool) -> ErrorCode {
    if is_open && matches!(error, TransferError::NoAnswer) { ErrorCode::Timeout } else { error.code() }
}

impl Hub {
    /// Whether the disk thread may be given one file more. What it has for transfers that are over goes as soon as it
    /// gets to that; whoever begins and ends transfers faster than that has to wait.
    pub(super) fn admit_to_disk(&self) -> Result<(), Busy> {
        let held_max = self.limits.transfers_max.saturating_add(DISK_BACKLOG_MAX);
        if self.disk.held_count() < held_max { Ok(()) } else { Err(Busy::All) }
    }

    /// The client's part of a transfer is over.
    pub(super) fn on_client_done(&self, owner: MemberId, id: TransferId, failed: Option<ErrorCode>) {
        let Some(code) = failed else {
            debug!("transfer {id}: kept by connection {}", owner.0);
            return;
        };
        info!("transfer {id}: failed at connection {} ({code})", owner.0);
        if self.end_upload(owner, id, code) {
            return;
        }
        let transfer = self.state.lock().transfers.remove_of(owner, id);
        self.end_transfers(transfer.map(|transfer| (id, transfer)));
    }

    /// Ends a transfer for this reason, and tells its client.
    pub(super) fn fail_transfer(&self, id: TransferId, owner: MemberId, code: ErrorCode) {
        let Some(transfer) = self.state.lock().transfers.remove(id) else { return };
        self.tell(owner, ServerMessage::Done(id, Done::Failed(code)));
        self.end_transfers([(id, transfer)]);
    }

    /// Ends whoever carries these transfers, which are out of the table already.
    pub(super) fn end_transfers(&self, transfers: impl IntoIterator<Item = (TransferId, Transfer)>) {
        for (id, transfer) in transfers {
            self.stop(id, transfer.way.stop());
        }
    }

    pub(super) fn stop(&self, id: TransferId, stop: Stop) {
        match stop {
            Stop::Nobody => {}
            Stop::Worker => self.pool.cancel(id),
            Stop::Stream(stream, cancelled) => {
                cancelled.store(true, Ordering::Relaxed);
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}
