//! The table of transfers by itself.

use super::*;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use crate::transfer::part::Origin;
use crate::transfer::sink::Target;

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
        upload: None,
    }
}

fn insert(transfers: &mut Transfers, transfer: Transfer) -> TransferId {
    transfers.insert(transfer, &Limits::default()).expect("within the limits")
}

fn offered(token: u8) -> Way {
    Way::Offered(Secret([token; 32]), Load::File(tempfile::tempfile().expect("a file"), 0..5))
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
        running.progress.begin();
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

#[test]
fn an_upload_that_its_owner_has_ended_does_not_arrive() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = |name: &str| {
        let target = Target::Path(folder.path().join(name));
        Sink::create(&target, &Origin::new(5)).expect("a sink")
    };
    let upload = || Upload {
        token: String::new(),
        moved_when_asked: None,
        arrived: None,
        promised: None,
        is_verifying: false,
        ended: None,
    };
    let mut transfers = Transfers::default();
    let add = |transfers: &mut Transfers, way| {
        insert(transfers, Transfer { upload: Some(upload()), ..transfer(1, way) })
    };
    let digest = blake3::hash(b"five.");
    // Its last octet was on the way when the owner ended it.
    let late = add(&mut transfers, Way::Udp);
    transfers.on_promised(MemberId(1), late, 5, digest);
    assert!(transfers.end_upload(MemberId(2), late, ErrorCode::Cancelled).is_none(), "somebody else's");
    let ended = transfers.end_upload(MemberId(1), late, ErrorCode::Cancelled);
    assert!(matches!(ended, Some((Stop::Worker, None))), "{ended:?}");
    assert!(transfers.on_arrived(late, sink("late"), Instant::now()).is_err());
    assert!(transfers.take_complete(late).is_none());
    // All of it was here, and not yet its digest.
    let early = add(&mut transfers, Way::Streaming(stream(), Arc::default()));
    assert!(transfers.on_arrived(early, sink("early"), Instant::now()).is_ok());
    assert!(transfers.take_complete(early).is_none(), "nothing is promised");
    let ended = transfers.end_upload(MemberId(1), early, ErrorCode::Cancelled);
    assert!(matches!(ended, Some((Stop::Nobody, Some(_)))), "{ended:?}");
    assert!(transfers.end_upload(MemberId(1), early, ErrorCode::Cancelled).is_none(), "it is gone");
    // It is being verified: that ends by itself.
    let verified = add(&mut transfers, Way::Udp);
    transfers.on_promised(MemberId(1), verified, 5, digest);
    transfers.on_promised(MemberId(1), verified, 6, digest);
    assert!(transfers.on_arrived(verified, sink("verified"), Instant::now()).is_ok());
    let complete = transfers.take_complete(verified).expect("complete");
    assert_eq!((complete.size, complete.digest), (5, digest), "the first word counts");
    assert!(transfers.take_complete(verified).is_none(), "once");
    assert!(transfers.end_upload(MemberId(1), verified, ErrorCode::Cancelled).is_none());
    assert!(transfers.remove_owned(MemberId(1)).iter().all(|&(id, _)| id == late), "its owner may leave");
    assert!(transfers.remove(verified).is_some());
}
