//! How transfers end: well, broken off and perhaps asked for once more, for a reason of ours, or all together.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Transfers;
use super::link::Link;
use crate::client::report::{Finished, Report, percent};
use crate::client::transfer::{Failed, Reaction, Side, Stage, Transfer, TransferEvent};
use crate::transfer::TransferError;
use crate::wire::ErrorCode;
use crate::wire::message::{ClientMessage, Done, PREFIX_LEN, TransferId, Transport};

/// How long the ends of cancelled transfers are waited for, so that what has come of their files is noted.
const CLOSE_MAX: Duration = Duration::from_millis(700);

impl Transfers {
    /// A transfer has come to its good end.
    pub(super) fn finish(
        &mut self,
        id: TransferId,
        took: Duration,
        digest: blake3::Hash,
        path: String,
    ) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.remove(&id) else { return Vec::new() };
        self.busy_until = None;
        let Transfer { asked, size, start, moving, .. } = transfer;
        vec![Reaction::Finished(Finished {
            name: asked.want.name.to_string(),
            direction: asked.want.direction(),
            bytes: size,
            resumed_from: start,
            seconds: took.as_secs_f64(),
            first_byte_seconds: moving
                .progress
                .first_byte_at()
                .map(|at| at.saturating_duration_since(asked.at).as_secs_f64()),
            transport: asked.want.transport.to_string(),
            resent: moving.progress.resent_packets(),
            digest: digest.to_string(),
            path,
        })]
    }

    /// A transfer has broken off: it is asked for again where that helps, may be resumed, or has failed.
    pub(super) fn fail(&mut self, id: TransferId, error: TransferError) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.remove(&id) else { return Vec::new() };
        self.busy_until = None;
        if let Side::Put(put) = &transfer.side {
            put.unwanted.store(true, Ordering::Relaxed);
        }
        let Transfer { mut asked, start, size, moving, .. } = transfer;
        let moved_bytes = moving.progress.moved_bytes();
        let name = asked.want.name.clone();
        let is_broken =
            matches!(error, TransferError::Lost(_) | TransferError::Refused(ErrorCode::Incomplete));
        // Only the session that it belongs to can be told of its end.
        match self.link {
            Link::Up => {}
            Link::Away | Link::Settling if error.is_resumable() => {
                let text = format!("{name}: broken off, to be asked for again");
                self.waiting.push_back(asked);
                return vec![Reaction::Tell(Report::Notice { text })];
            }
            _ => return vec![Reaction::Failed(Failed { name, error, begun: true })],
        }
        let mut reactions = vec![Reaction::Say(ClientMessage::Done(id, Done::Failed(error.code())))];
        if matches!(error, TransferError::NoAnswer) && asked.want.fall_back {
            asked.want.transport = Transport::Tcp;
            let text = format!("{name}: {}; trying TCP", TransferError::NoAnswer);
            reactions.push(Reaction::Tell(Report::Notice { text }));
            self.waiting.push_front(asked);
        } else if start > 0
            && matches!(error, TransferError::Digest { .. } | TransferError::Refused(ErrorCode::Digest))
        {
            // What the earlier try had left was of another file.
            reactions.push(self.ask_anew(asked));
        } else if is_broken && moved_bytes >= start + PREFIX_LEN {
            let text = format!("{name} broke off at {} %: {error}; going on", percent(moved_bytes, size));
            reactions.push(Reaction::Tell(Report::Notice { text }));
            self.waiting.push_front(asked);
        } else {
            if error.is_resumable() {
                self.paused.push(asked);
            }
            reactions.push(Reaction::Failed(Failed { name, error, begun: true }));
        }
        reactions
    }

    /// Ends a transfer for this reason: at once where nothing moves any more, else when its thread says so.
    pub(super) fn abandon(&mut self, id: TransferId, why: TransferError) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.get_mut(&id) else { return Vec::new() };
        if transfer.is_moving() {
            let code = why.code();
            // Of the server's own word it need not hear.
            let is_ours = !matches!(why, TransferError::Refused(_));
            let is_for_good = is_ours && !why.is_resumable() && matches!(transfer.side, Side::Put(_));
            transfer.failure.get_or_insert(why);
            if is_for_good && self.link == Link::Up {
                // The server shall hear it before it sees us go, or it would keep what has come; it ends the transfer.
                return vec![Reaction::Say(ClientMessage::Done(id, Done::Failed(code)))];
            }
            self.carrier.stop(id, &transfer.moving);
            return Vec::new();
        }
        match &mut transfer.side {
            // All is here and the disk has it: that ends by itself, and well.
            Side::Get(get) if matches!(get.stage, Stage::Keeping(..)) => Vec::new(),
            Side::Get(get) => {
                if let Stage::Arrived(sink, _) = std::mem::replace(&mut get.stage, Stage::Moving)
                    && !why.is_resumable()
                {
                    sink.discard();
                }
                self.fail(id, why)
            }
            Side::Put(_) => self.fail(id, why),
        }
    }

    /// Ends everything, and waits a moment until what has come is noted for a later try.
    pub fn close(&mut self) {
        self.asked.clear();
        self.waiting.clear();
        for transfer in self.under_way.values() {
            transfer.moving.cancelled.store(true, Ordering::Relaxed);
            if let Side::Put(put) = &transfer.side {
                put.unwanted.store(true, Ordering::Relaxed);
            }
        }
        // What nothing moves tells no end.
        self.under_way.retain(|_, transfer| match &transfer.side {
            Side::Get(get) => !matches!(get.stage, Stage::Arrived(..)),
            Side::Put(put) => put.sent_at.is_none(),
        });
        self.carrier.close();
        let deadline = Instant::now() + CLOSE_MAX;
        while !self.under_way.is_empty() {
            match self.events.recv_deadline(deadline) {
                Ok(
                    TransferEvent::Arrived(id, ..) | TransferEvent::Sent(id, ..) | TransferEvent::Kept(id, _),
                ) => _ = self.under_way.remove(&id),
                Ok(TransferEvent::Read(..)) => {}
                Err(_) => return,
            }
        }
    }
}
