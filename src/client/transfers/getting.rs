//! Files that are fetched: from OFFER to the file under its name.

use std::path::PathBuf;
use std::time::Instant;

use super::{FALL_BACK_AFTER, Link, NO_ANSWER_MAX, Transfers};
use crate::client::carrier::Route;
use crate::client::transfer::{Asked, Gate, Get, Hand, Reaction, Side, Stage, Transfer, What};
use crate::transfer::TransferError;
use crate::transfer::part::Origin;
use crate::transfer::sink::{Sink, Target};
use crate::wire::message::{ClientMessage, Done, Offer, TransferId};

/// A smaller file is here before anybody could answer, so nobody is asked. Ours.
const GATE_SIZE_MIN: u64 = 1 << 20;

/// What an earlier try has left of this file.
pub(super) fn leftover(target: &Target) -> Option<Sink> {
    Sink::leftover(target, |origin| origin.token.is_none())
}

/// GET; or RESUME, where an earlier try has left something.
pub(super) fn request(asked: &mut Asked, target: &Target) -> ClientMessage {
    let (transport, name) = (asked.want.transport, asked.want.name.clone());
    asked.hand = Hand::Nothing;
    if !asked.anew
        && let Some(sink) = leftover(target)
        && let Ok(Some(prefix)) = sink.prefix()
    {
        asked.hand = Hand::Leftover(sink);
        return ClientMessage::Resume(transport, prefix, name);
    }
    ClientMessage::Get(transport, name)
}

impl Transfers {
    pub(super) fn on_offer(&mut self, offer: Offer) -> Vec<Reaction> {
        let id = offer.id;
        let Some(mut asked) = self.asked.pop_front() else {
            // Not answered: it ends by itself, and from a server that does not read, the answers would pile up here.
            log::warn!("transfer {id}: offered unasked");
            return Vec::new();
        };
        let What::Get { target, asks } = asked.want.what.clone() else {
            return self.decline(id, asked, TransferError::Lost("the server offered a file instead".into()));
        };
        let is_answer = offer.file.name == asked.want.name && offer.transport == asked.want.transport;
        if !is_answer || self.under_way.contains_key(&id) {
            return self.decline(id, asked, TransferError::Lost("the server offered something else".into()));
        }
        if asked.cancelled {
            return self.decline(id, asked, TransferError::Cancelled);
        }
        let size = offer.file.size;
        let origin = Origin { size, mtime_s: Some(offer.file.mtime.as_second()), token: None };
        let sink = match std::mem::replace(&mut asked.hand, Hand::Nothing) {
            Hand::Leftover(leftover) if *leftover.origin() == origin => Ok(leftover),
            Hand::Leftover(leftover) => {
                leftover.discard();
                let said = ClientMessage::Done(id, Done::Failed(TransferError::Changed.code()));
                return vec![Reaction::Say(said), self.ask_anew(asked)];
            }
            _ => Sink::create(&target, &origin),
        };
        let sink = match sink {
            Ok(sink) => sink,
            Err(error) => return self.decline(id, asked, error),
        };
        let start = sink.start();
        let gate_at = size.div_ceil(5).saturating_mul(2).min(size);
        let (gate, granted) = match asks && size >= GATE_SIZE_MIN && start < gate_at {
            true => (Gate::At(gate_at), gate_at),
            false => (Gate::Open, u64::MAX),
        };
        let open_max = if asked.want.fall_back { FALL_BACK_AFTER } else { NO_ANSWER_MAX };
        match self.carrier.receive(Route::of_offer(&offer, open_max), sink, granted) {
            Ok(moving) => {
                let get = Get { offered: offer.digest, promised: None, stage: Stage::Moving, gate };
                self.start(id, Transfer::new(asked, size, start, moving, Side::Get(get)))
            }
            Err(error) => self.decline(id, asked, error),
        }
    }

    pub(super) fn on_arrived(
        &mut self,
        id: TransferId,
        sink: Sink,
        arrived: Result<(), TransferError>,
        at: Instant,
    ) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.get_mut(&id) else { return Vec::new() };
        let Side::Get(get) = &mut transfer.side else { return Vec::new() };
        let failure = match (transfer.failure.take(), arrived) {
            (None, Ok(())) => None,
            // The session ended first, but all is here and can be verified.
            (Some(TransferError::Lost(_)), Ok(())) if get.promised.is_some() => None,
            // Our own trouble comes first, whoever told of it first: the other side only saw us go.
            (Some(_), Err(error @ TransferError::File { .. })) => Some(error),
            (Some(failure), _) => Some(failure),
            (None, Err(error)) => Some(error),
        };
        match failure {
            None => {
                get.stage = Stage::Arrived(sink, at);
                self.keep_if_complete(id)
            }
            Some(error) => {
                if !error.is_resumable() {
                    sink.discard();
                } else {
                    drop(sink);
                }
                self.fail(id, error)
            }
        }
    }

    /// Without a session no DONE will come: the digest of the OFFER will do.
    pub(super) fn use_offered_digest(&mut self, id: TransferId) {
        if let Some(Transfer { side: Side::Get(get), size, .. }) = self.under_way.get_mut(&id) {
            get.promised = get.promised.or(get.offered.map(|digest| (*size, digest)));
        }
    }

    pub(super) fn keep_if_complete(&mut self, id: TransferId) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.get_mut(&id) else { return Vec::new() };
        let Side::Get(get) = &mut transfer.side else { return Vec::new() };
        let (Some((size, digest)), Stage::Arrived(_, at)) = (get.promised, &get.stage) else {
            return Vec::new();
        };
        if size != transfer.size {
            return self.abandon(id, TransferError::Changed);
        }
        let took = at.saturating_duration_since(transfer.asked.at);
        if let Stage::Arrived(sink, _) = std::mem::replace(&mut get.stage, Stage::Keeping(digest, took))
            && let Err(error) = self.carrier.keep(id, sink, digest)
        {
            return self.fail(id, error);
        }
        Vec::new()
    }

    pub(super) fn on_kept(&mut self, id: TransferId, kept: Result<PathBuf, TransferError>) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.get(&id) else { return Vec::new() };
        match (kept, &transfer.side) {
            (Ok(path), Side::Get(Get { stage: Stage::Keeping(digest, took), .. })) => {
                let mut reactions = Vec::new();
                if self.link == Link::Up {
                    reactions.push(Reaction::Say(ClientMessage::Done(id, Done::Kept)));
                }
                reactions.extend(self.finish(id, *took, *digest, path.display().to_string()));
                reactions
            }
            (kept, _) => self.fail(id, kept.err().unwrap_or(TransferError::Cancelled)),
        }
    }
}
