//! The table of offers and running transfers, as pure state: whose they are, what they count against, how each is ended.

use std::collections::HashMap;
use std::fs::File;
use std::net::{IpAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::limits::Limits;
use crate::chat::room::MemberId;
use crate::transfer::Progress;
use crate::transfer::sink::Sink;
use crate::wire::ErrorCode;
use crate::wire::message::{Secret, TransferId};
use crate::wire::name::FileName;

/// How a transfer travels, with what is needed to end it.
#[derive(Debug)]
pub(super) enum Way {
    /// A worker of the pool has it.
    Udp,
    /// It waits for a connection that presents the token.
    Offered(Secret, Load),
    /// A connection has presented the token; its thread sends or receives.
    Streaming(Arc<TcpStream>, Arc<AtomicBool>),
    /// All of an upload is here, and whoever brought it may go.
    Arrived,
}

/// What it takes to stop whoever moves a file.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody moves it.
    Nobody,
    /// A worker.
    Worker,
    /// The thread of this connection.
    Stream(Arc<TcpStream>, Arc<AtomicBool>),
}

impl Way {
    pub(super) fn stop(&self) -> Stop {
        match self {
            Self::Udp => Stop::Worker,
            Self::Offered(..) | Self::Arrived => Stop::Nobody,
            Self::Streaming(stream, cancelled) => Stop::Stream(Arc::clone(stream), Arc::clone(cancelled)),
        }
    }
}

/// What a connection with the right token is to move.
#[derive(Debug)]
pub(super) enum Load {
    /// These octets of a file, to the member.
    File(File, Range<u64>),
    /// A file, from the member.
    Sink(Sink),
}

/// What is known of a file that comes from a member.
#[derive(Debug)]
pub(super) struct Upload {
    /// The digest of the token that lets its owner go on with it.
    pub(super) token: String,
    /// How far it was when its owner asked for it under another connection.
    pub(super) moved_when_asked: Option<u64>,
    /// All octets are here since then, and nobody has begun to verify them.
    pub(super) arrived: Option<(Sink, Instant)>,
    /// What its owner has read of it.
    pub(super) promised: Option<(u64, blake3::Hash)>,
    /// The disk thread has it. That ends by itself, whatever becomes of its owner.
    pub(super) is_verifying: bool,
    /// Its owner has ended it, and why.
    pub(super) ended: Option<ErrorCode>,
}

/// A file on its way to or from one member.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Whose it is.
    pub(super) owner: MemberId,
    /// The address of the owner's control connection: no other may take the offer up.
    pub(super) ip: IpAddr,
    /// The file.
    pub(super) name: FileName,
    /// Its size in octets.
    pub(super) size: u64,
    /// How far it is.
    pub(super) progress: Arc<Progress>,
    /// How it travels.
    pub(super) way: Way,
    /// When it was offered.
    pub(super) offered_at: Instant,
    /// Set when nobody waits for its digest any more.
    pub(super) digest_unwanted: Arc<AtomicBool>,
    /// For a file that comes from the member.
    pub(super) upload: Option<Upload>,
}

impl Transfer {
    fn is_verifying(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.is_verifying)
    }

    /// Whether nobody has taken the offer up yet.
    pub(super) fn is_open(&self) -> bool {
        match self.way {
            Way::Udp => !self.progress.has_begun(),
            Way::Offered(..) => true,
            Way::Streaming(..) | Way::Arrived => false,
        }
    }
}

/// A limit on transfers is reached; `Display` says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Busy {
    #[error("you have as many transfers as one may have")]
    Owner,
    #[error("you have offers open that nobody has taken up")]
    Offers,
    #[error("the server has as many transfers as it can carry")]
    All,
    #[error("somebody is putting a file of this name there just now")]
    Name,
    #[error("the shelf has no room for so much")]
    Shelf,
}

/// What a connection with the right token is to do.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) id: TransferId,
    pub(super) load: Load,
    pub(super) progress: Arc<Progress>,
    pub(super) cancelled: Arc<AtomicBool>,
}

/// An upload all of which is here, and what it should be.
#[derive(Debug)]
pub(super) struct Complete {
    pub(super) owner: MemberId,
    pub(super) name: FileName,
    pub(super) sink: Sink,
    pub(super) size: u64,
    pub(super) digest: blake3::Hash,
}

/// Every transfer from its offer until its worker or its stream has ended.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    by_id: HashMap<TransferId, Transfer>,
    /// The offers that wait for their TCP connection.
    by_token: HashMap<Secret, TransferId>,
    /// The digests that are not told yet, and whose they are: a file may have been sent before it has been read again.
    digests: HashMap<TransferId, (MemberId, Arc<AtomicBool>)>,
    last_id: u32,
}

impl Transfers {
    /// Whether `owner` may have one more. A file that is sent counts until its digest is told.
    pub(super) fn admit(&self, owner: MemberId, limits: &Limits) -> Result<(), Busy> {
        let mine = || self.by_id.values().filter(|transfer| transfer.owner == owner);
        let digests = || self.digests.iter().filter(|(id, _)| !self.by_id.contains_key(id));
        let my_digests = digests().filter(|(_, (digest_owner, _))| *digest_owner == owner);
        if self.by_id.len() + digests().count() >= limits.transfers_max {
            Err(Busy::All)
        } else if mine().count() + my_digests.count() >= limits.transfers_per_client {
            Err(Busy::Owner)
        } else if mine().filter(|transfer| transfer.is_open()).count() >= limits.offers_per_client {
            Err(Busy::Offers)
        } else {
            Ok(())
        }
    }

    /// Adds a transfer where its owner may have one more, and gives it a number that no other has now.
    pub(super) fn insert(&mut self, transfer: Transfer, limits: &Limits) -> Result<TransferId, Busy> {
        self.admit(transfer.owner, limits)?;
        let id = loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            let id = TransferId(self.last_id);
            if !self.by_id.contains_key(&id) && !self.digests.contains_key(&id) {
                break id;
            }
        };
        if transfer.upload.is_none() {
            self.digests.insert(id, (transfer.owner, Arc::clone(&transfer.digest_unwanted)));
        }
        if let Way::Offered(token, _) = &transfer.way {
            self.by_token.insert(token.clone(), id);
        }
        self.by_id.insert(id, transfer);
        Ok(id)
    }

    /// Whether there is room for an upload beside what is on the shelf and what is on its way there.
    pub(super) fn admit_upload(&self, new: &Transfer, shelf_bytes: u64, limits: &Limits) -> Result<(), Busy> {
        // One that is ended has nothing more to say about its name.
        let is_coming =
            |transfer: &&Transfer| matches!(&transfer.upload, Some(upload) if upload.ended.is_none());
        let coming = || self.by_id.values().filter(is_coming);
        if coming().any(|other| other.name == new.name) {
            return Err(Busy::Name);
        }
        let rest = |transfer: &Transfer| transfer.size.saturating_sub(transfer.progress.moved_bytes());
        let coming_bytes = coming().map(rest).fold(rest(new), u64::saturating_add);
        if shelf_bytes.saturating_add(coming_bytes) > limits.shelf_max {
            return Err(Busy::Shelf);
        }
        self.admit(new.owner, limits)
    }

    /// Whether an upload of this name that this token began still runs. One that has not moved since this was asked
    /// last is dead, and does not know it yet: it is taken out.
    pub(super) fn running_upload(
        &mut self,
        name: &FileName,
        token: &str,
    ) -> Option<Option<(TransferId, Transfer)>> {
        let is_it = |transfer: &Transfer| {
            transfer.name == *name && transfer.upload.as_ref().is_some_and(|upload| upload.token == token)
        };
        let (&id, transfer) = self.by_id.iter_mut().find(|(_, transfer)| is_it(transfer))?;
        let moved_bytes = transfer.progress.moved_bytes();
        let before = transfer.upload.as_mut()?.moved_when_asked.replace(moved_bytes);
        Some((before == Some(moved_bytes)).then(|| self.remove_unless_verifying(id)).flatten())
    }

    /// All octets of an upload are here; gives them back when nobody waits for them any more.
    pub(super) fn on_arrived(&mut self, id: TransferId, sink: Sink, now: Instant) -> Result<(), Sink> {
        let Some(transfer) = self.by_id.get_mut(&id) else { return Err(sink) };
        match &mut transfer.upload {
            Some(upload) if upload.ended.is_none() => upload.arrived = Some((sink, now)),
            _ => return Err(sink),
        }
        // Over TCP this closes the connection, which tells the client that everything is here.
        transfer.way = Way::Arrived;
        Ok(())
    }

    /// The owner of an upload tells what it has read of the file.
    pub(super) fn on_promised(&mut self, owner: MemberId, id: TransferId, size: u64, digest: blake3::Hash) {
        let transfer = self.by_id.get_mut(&id).filter(|transfer| transfer.owner == owner);
        if let Some(upload) = transfer.and_then(|transfer| transfer.upload.as_mut()) {
            upload.promised.get_or_insert((size, digest));
        }
    }

    /// An upload that is complete and can be verified, once; with the size and digest that its owner told.
    pub(super) fn take_complete(&mut self, id: TransferId) -> Option<Complete> {
        let transfer = self.by_id.get_mut(&id)?;
        let upload = transfer.upload.as_mut()?;
        let (size, digest) = upload.promised?;
        let (sink, _) = upload.arrived.take()?;
        upload.is_verifying = true;
        Some(Complete { owner: transfer.owner, name: transfer.name.clone(), sink, size, digest })
    }

    /// Takes a transfer out that its owner has ended, even where all was sent and only the digest is not told.
    pub(super) fn remove_of(&mut self, owner: MemberId, id: TransferId) -> Option<Transfer> {
        let is_owner = |found: MemberId| found == owner;
        if self.digests.get(&id).is_some_and(|(found, _)| is_owner(*found)) {
            self.drop_digest(id);
        }
        self.by_id.get(&id).filter(|transfer| is_owner(transfer.owner))?;
        self.remove_unless_verifying(id).map(|(_, transfer)| transfer)
    }

    /// A digest has been told, or cannot be had.
    pub(super) fn on_digested(&mut self, id: TransferId) {
        self.digests.remove(&id);
    }

    fn drop_digest(&mut self, id: TransferId) {
        if let Some((_, unwanted)) = self.digests.remove(&id) {
            unwanted.store(true, Ordering::Relaxed);
        }
    }

    /// Hands an offer to the connection that presents its token from its owner's address.
    pub(super) fn claim(&mut self, token: &Secret, ip: IpAddr, stream: Arc<TcpStream>) -> Option<Claim> {
        let id = *self.by_token.get(token)?;
        let transfer = self.by_id.get_mut(&id).filter(|transfer| transfer.ip == ip)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let way = std::mem::replace(&mut transfer.way, Way::Streaming(stream, Arc::clone(&cancelled)));
        self.by_token.remove(token);
        let Way::Offered(_, load) = way else { unreachable!("a token names an offer") };
        let progress = Arc::clone(&transfer.progress);
        progress.begin();
        Some(Claim { id, load, progress, cancelled })
    }

    /// Takes a transfer out that has failed.
    pub(super) fn remove(&mut self, id: TransferId) -> Option<Transfer> {
        self.drop_digest(id);
        self.remove_sent(id)
    }

    /// Takes a transfer out whose worker or stream has sent all; its digest is still to be told.
    pub(super) fn remove_sent(&mut self, id: TransferId) -> Option<Transfer> {
        let transfer = self.by_id.remove(&id)?;
        if let Way::Offered(token, _) = &transfer.way {
            self.by_token.remove(token);
        }
        Some(transfer)
    }

    /// Takes everything out that belongs to this member.
    pub(super) fn remove_owned(&mut self, owner: MemberId) -> Vec<(TransferId, Transfer)> {
        let mine = |(digest_owner, _): &(MemberId, _)| *digest_owner == owner;
        let digests = self.digests.iter().filter(|(_, digest)| mine(digest)).map(|(&id, _)| id);
        for id in digests.collect::<Vec<_>>() {
            self.drop_digest(id);
        }
        self.remove_where(|transfer| transfer.owner == owner)
    }

    /// Takes everything out.
    pub(super) fn remove_all(&mut self) -> Vec<(TransferId, Transfer)> {
        for (_, (_, unwanted)) in self.digests.drain() {
            unwanted.store(true, Ordering::Relaxed);
        }
        self.remove_where(|_| true)
    }

    /// Takes out the offers that nobody has taken up in time, and the uploads whose digest was not told in time.
    pub(super) fn remove_expired(&mut self, now: Instant, limits: &Limits) -> Vec<(TransferId, Transfer)> {
        self.remove_where(|transfer| {
            let arrived = transfer.upload.as_ref().and_then(|upload| upload.arrived.as_ref());
            transfer.is_open() && transfer.offered_at + limits.offer_lifetime <= now
                || arrived.is_some_and(|&(_, at)| at + limits.digest_wait <= now)
        })
    }

    /// The owner of an upload ends it. Whoever moves it is to be stopped, and gives it back then; what nobody moves is
    /// taken out.
    pub(super) fn end_upload(
        &mut self,
        owner: MemberId,
        id: TransferId,
        code: ErrorCode,
    ) -> Option<(Stop, Option<Sink>)> {
        let transfer = self.by_id.get_mut(&id).filter(|transfer| transfer.owner == owner)?;
        let upload = transfer.upload.as_mut().filter(|upload| !upload.is_verifying)?;
        upload.ended = Some(code);
        let arrived = upload.arrived.take().map(|(sink, _)| sink);
        let stop = transfer.way.stop();
        if !matches!(stop, Stop::Nobody) {
            return Some((stop, None));
        }
        let waiting = match self.remove(id)?.way {
            Way::Offered(_, Load::Sink(sink)) => Some(sink),
            _ => None,
        };
        Some((stop, arrived.or(waiting)))
    }

    /// Takes a transfer out that can be ended.
    pub(super) fn remove_unless_verifying(&mut self, id: TransferId) -> Option<(TransferId, Transfer)> {
        self.by_id.get(&id).filter(|transfer| !transfer.is_verifying())?;
        Some((id, self.remove(id)?))
    }

    fn remove_where(&mut self, of_interest: impl Fn(&Transfer) -> bool) -> Vec<(TransferId, Transfer)> {
        let found = self.by_id.iter().filter(|(_, transfer)| of_interest(transfer));
        let ids: Vec<TransferId> = found.map(|(&id, _)| id).collect();
        ids.into_iter().filter_map(|id| self.remove_unless_verifying(id)).collect()
    }
}

#[cfg(test)]
mod tests;
