//! The table of offers and running transfers, as pure state: whose they are, what they count against, how each is ended.

use std::collections::HashMap;
use std::fs::File;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::limits::Limits;
use crate::chat::room::MemberId;
use crate::transfer::Progress;
use crate::wire::message::{Secret, TransferId};
use crate::wire::name::FileName;

/// How a transfer travels, with what is needed to end it.
#[derive(Debug)]
pub(super) enum Way {
    /// A worker of the pool has it.
    Udp,
    /// It waits for a connection that presents the token.
    Offered(Secret, File),
    /// A connection has presented the token; its thread sends.
    Streaming(Arc<TcpStream>, Arc<AtomicBool>),
}

/// A file on its way to one member.
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
}

impl Transfer {
    /// Whether nobody has taken the offer up yet.
    pub(super) fn is_open(&self) -> bool {
        match self.way {
            Way::Udp => self.progress.moved_bytes() == 0,
            Way::Offered(..) => true,
            Way::Streaming(..) => false,
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
}

/// What a connection with the right token is to send.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) id: TransferId,
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) progress: Arc<Progress>,
    pub(super) cancelled: Arc<AtomicBool>,
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
        self.digests.insert(id, (transfer.owner, Arc::clone(&transfer.digest_unwanted)));
        if let Way::Offered(token, _) = &transfer.way {
            self.by_token.insert(token.clone(), id);
        }
        self.by_id.insert(id, transfer);
        Ok(id)
    }

    /// Takes a transfer out that its owner has ended, even where all was sent and only the digest is not told.
    pub(super) fn remove_of(&mut self, owner: MemberId, id: TransferId) -> Option<Transfer> {
        let is_owner = |found: MemberId| found == owner;
        if self.digests.get(&id).is_some_and(|(found, _)| is_owner(*found)) {
            self.drop_digest(id);
        }
        self.by_id.get(&id).filter(|transfer| is_owner(transfer.owner))?;
        self.remove(id)
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
        let Way::Offered(_, file) = way else { unreachable!("a token names an offer") };
        let progress = Arc::clone(&transfer.progress);
        Some(Claim { id, file, size: transfer.size, progress, cancelled })
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

    /// Takes the offers out that nobody has taken up in time.
    pub(super) fn remove_expired(&mut self, now: Instant, limits: &Limits) -> Vec<(TransferId, Transfer)> {
        self.remove_where(|transfer| transfer.is_open() && transfer.offered_at + limits.offer_lifetime <= now)
    }

    fn remove_where(&mut self, of_interest: impl Fn(&Transfer) -> bool) -> Vec<(TransferId, Transfer)> {
        let found = self.by_id.iter().filter(|(_, transfer)| of_interest(transfer));
        let ids: Vec<TransferId> = found.map(|(&id, _)| id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn transfer(owner: u64, way: Way) -> Transfer {
        Transfer {
            owner: MemberId(owner),
            ip: IP,
            name: FileName::parse("lore.txt").expect("a name"),
            size: 5,
            progress: Arc::default(),
            way,
            offered_at: Instant::now(),
            digest_unwanted: Arc::default(),
        }
    }

    fn insert(transfers: &mut Transfers, transfer: Transfer) -> TransferId {
        transfers.insert(transfer, &Limits::default()).expect("within the limits")
    }

    fn offered(token: u8) -> Way {
        Way::Offered(Secret([token; 32]), tempfile::tempfile().expect("a file"))
    }

    fn stream() -> Arc<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        Arc::new(TcpStream::connect(listener.local_addr().expect("an address")).expect("connected"))
    }

    #[test]
    fn each_limit_holds_one_beyond() {
        let limits = Limits { transfers_max: 9, ..Limits::default() };
        let mut transfers = Transfers::default();
        let mut add_running = |owner| {
            let running = transfer(owner, Way::Udp);
            running.progress.set(1, 0);
            transfers.insert(running, &limits).map(|_| ())
        };
        for number in 1..=8 {
            assert_eq!(add_running(1), Ok(()), "transfer {number}");
        }
        assert_eq!(add_running(1), Err(Busy::Owner));
        assert_eq!(add_running(2), Ok(()));
        assert_eq!(add_running(3), Err(Busy::All));

        let mut transfers = Transfers::default();
        for token in 1..=4 {
            insert(&mut transfers, transfer(1, if token % 2 == 0 { Way::Udp } else { offered(token) }));
        }
        assert_eq!(transfers.admit(MemberId(1), &limits), Err(Busy::Offers));
        assert_eq!(transfers.admit(MemberId(2), &limits), Ok(()));
    }

    #[test]
    fn a_token_is_claimed_once_and_from_its_owners_address_alone() {
        let mut transfers = Transfers::default();
        let id = insert(&mut transfers, transfer(1, offered(7)));
        let (right, wrong) = (Secret([7; 32]), Secret([8; 32]));
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert!(transfers.claim(&wrong, IP, stream()).is_none());
        assert!(transfers.claim(&right, elsewhere, stream()).is_none());
        assert_eq!(transfers.claim(&right, IP, stream()).map(|claim| claim.id), Some(id));
        assert!(transfers.claim(&right, IP, stream()).is_none());
    }

    #[test]
    fn an_offer_ends_with_its_time_or_its_owner() {
        let limits = Limits::default();
        let mut transfers = Transfers::default();
        let now = Instant::now();
        let old = insert(&mut transfers, transfer(1, offered(1)));
        let taken = insert(&mut transfers, transfer(1, offered(2)));
        transfers.claim(&Secret([2; 32]), IP, stream()).expect("a claim");
        assert!(transfers.remove_expired(now + Duration::from_secs(74), &limits).is_empty());
        let expired = transfers.remove_expired(now + Duration::from_secs(76), &limits);
        assert_eq!(expired.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [old]);
        assert!(transfers.claim(&Secret([1; 32]), IP, stream()).is_none());
        let left = transfers.remove_owned(MemberId(1));
        assert_eq!(left.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [taken]);
        assert!(transfers.remove_all().is_empty());
    }

    #[test]
    fn a_digest_is_wanted_until_it_is_told_or_its_transfer_fails_or_its_owner_leaves() {
        let limits = Limits { transfers_per_client: 2, ..Limits::default() };
        let mut transfers = Transfers::default();
        let add = |transfers: &mut Transfers, owner| {
            let transfer = transfer(owner, Way::Udp);
            let unwanted = Arc::clone(&transfer.digest_unwanted);
            (transfers.insert(transfer, &limits).expect("within the limits"), unwanted)
        };
        let is_unwanted = |unwanted: &AtomicBool| unwanted.load(Ordering::Relaxed);
        let (sent, sent_unwanted) = add(&mut transfers, 1);
        let (failed, failed_unwanted) = add(&mut transfers, 1);
        assert!(transfers.remove_sent(sent).is_some());
        assert!(!is_unwanted(&sent_unwanted));
        assert_eq!(transfers.admit(MemberId(1), &limits), Err(Busy::Owner), "its digest is not told");
        assert!(transfers.remove(failed).is_some());
        assert!(is_unwanted(&failed_unwanted));
        assert!(transfers.remove_of(MemberId(2), sent).is_none());
        assert!(!is_unwanted(&sent_unwanted), "somebody else's");
        assert!(transfers.remove_owned(MemberId(1)).is_empty(), "it has been sent");
        assert!(is_unwanted(&sent_unwanted), "but nobody waits for its digest");
        let (told, told_unwanted) = add(&mut transfers, 1);
        transfers.on_digested(told);
        transfers.remove_sent(told);
        let (_, left_unwanted) = add(&mut transfers, 1);
        transfers.remove_all();
        assert!(is_unwanted(&left_unwanted) && !is_unwanted(&told_unwanted));
    }
}
