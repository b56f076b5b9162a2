//! Transfers without a server and without threads: every answer and every end is told by hand.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::client::transfer::{Get, Moving, Put};
use crate::transfer::part::Origin;
use crate::transfer::sink::{Sink, Target};
use crate::wire::message::{FileEntry, Offer, Secret, Transport};
use crate::wire::name::FileName;

const ID: TransferId = TransferId(7);

fn name() -> FileName {
    FileName::parse("a.txt").expect("a name")
}

fn want(folder: &Path, fall_back: bool) -> Want {
    let what = What::Get { target: Target::Folder(folder.into(), name()), asks: false };
    Want { name: name(), what, transport: Transport::Udp, fall_back }
}

/// A client that has asked for the file; `fall_back` as when nobody insisted on UDP.
fn asked(folder: &tempfile::TempDir, fall_back: bool) -> Transfers {
    let server = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut transfers = Transfers::new(server, Duration::from_millis(1), Tuning::default());
    let said = transfers.ask(want(folder.path(), fall_back));
    assert_eq!(lines(&said), ["GET_udp a.txt"]);
    transfers
}

fn offer(size: u64) -> Offer {
    let file = FileEntry { size, mtime: jiff::Timestamp::UNIX_EPOCH, name: name() };
    Offer { id: ID, transport: Transport::Udp, port: 1, secret: Secret([0; 32]), file, digest: None }
}

/// As after an OFFER, with no worker that moves the octets.
fn offered(folder: &tempfile::TempDir, fall_back: bool) -> Transfers {
    let mut transfers = asked(folder, fall_back);
    let asked = transfers.asked.pop_front().expect("asked");
    transfers.under_way.insert(ID, fetching(asked));
    transfers
}

/// A file that is fetched, with no worker that moves its octets.
fn fetching(asked: Asked) -> Transfer {
    let get = Get { offered: None, promised: None, stage: Stage::Moving, gate: Gate::Open };
    Transfer::new(asked, 5, 0, Moving::new(u64::MAX), Side::Get(get))
}

fn sink(folder: &tempfile::TempDir) -> Sink {
    Sink::create(&Target::Folder(folder.path().into(), name()), &Origin::new(5)).expect("a sink")
}

/// What is said, and in `!` how transfers ended.
fn lines(reactions: &[Reaction]) -> Vec<String> {
    let line = |reaction: &Reaction| match reaction {
        Reaction::Say(message) => message.emit().trim_end().to_owned(),
        Reaction::Tell(report) => report.to_string(),
        Reaction::Finished(finished) => format!("! finished {} {}", finished.name, finished.bytes),
        Reaction::Ask(view) => format!("? {}", view.moved_bytes),
        Reaction::Failed(failed) => format!("! {}", failed.error),
        Reaction::Refused { name, code, words } => format!("! {name}: {words} ({code})"),
    };
    reactions.iter().map(line).collect()
}

fn failed(folder: &tempfile::TempDir, error: TransferError) -> TransferEvent {
    TransferEvent::Arrived(ID, sink(folder), Err(error), Instant::now())
}

fn arrived(folder: &tempfile::TempDir) -> TransferEvent {
    let mut sink = sink(folder);
    sink.write(0, b"hello").expect("written");
    TransferEvent::Arrived(ID, sink, Ok(()), Instant::now())
}

/// A file that is put, with no worker that moves its octets.
fn putting(folder: &tempfile::TempDir) -> Transfers {
    let mut transfers = asked(folder, true);
    let mut asked = transfers.asked.pop_front().expect("asked");
    asked.want.what = What::Put { path: folder.path().join("a.txt") };
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"hello").expect("written");
    let put = Put { unread: Some(file), digest: None, sent_at: None, unwanted: Arc::default() };
    let transfer = Transfer::new(asked, 5, 0, Moving::new(u64::MAX), Side::Put(put));
    transfers.under_way.insert(ID, transfer);
    transfers
}

#[test]
fn a_file_that_is_put_is_read_for_its_digest_when_it_is_sent_or_takes_its_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let sent = |transfers: &mut Transfers, now| transfers.on_transfer(TransferEvent::Sent(ID, Ok(()), now));
    let tick = |transfers: &mut Transfers, now| transfers.on_tick(now);
    for brings in [sent as fn(&mut Transfers, Instant) -> Vec<Reaction>, tick] {
        let mut transfers = putting(&folder);
        assert!(brings(&mut transfers, Instant::now()).is_empty());
        let read = transfers.events().recv_timeout(Duration::from_secs(60)).expect("the disk thread tells");
        let digest = Done::Sent { size: 5, digest: blake3::hash(b"hello") };
        let expected = ClientMessage::Done(ID, digest).emit().trim_end().to_owned();
        assert_eq!(lines(&transfers.on_transfer(read)), [expected]);
        let Some(Transfer { side: Side::Put(put), .. }) = transfers.under_way.get(&ID) else { panic!("put") };
        assert!(put.unread.is_none());
    }
}

#[test]
fn tcp_is_tried_when_udp_gets_no_answer_unless_somebody_insists_on_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = offered(&folder, true);
    assert_eq!(
        lines(&transfers.on_transfer(failed(&folder, TransferError::NoAnswer))),
        [
            "DONE_7 incomplete",
            "* a.txt: no answer over UDP: a firewall may block it; trying TCP",
            "GET_tcp a.txt"
        ]
    );
    assert!(!transfers.is_idle());

    let mut insists = offered(&folder, false);
    let told = insists.on_transfer(failed(&folder, TransferError::NoAnswer));
    assert_eq!(lines(&told)[1], "! no answer over UDP: a firewall may block it");
    let mut broken = offered(&folder, true);
    let told = broken.on_transfer(failed(&folder, TransferError::Lost("silence".into())));
    assert_eq!(lines(&told)[1], "! the connection broke off: silence");
    assert!(insists.is_idle() && broken.is_idle());
}

#[test]
fn a_file_is_kept_when_both_its_octets_and_its_digest_are_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let done =
        |size, content: &[u8]| ServerMessage::Done(ID, Done::Sent { size, digest: blake3::hash(content) });
    for octets_first in [true, false] {
        let mut transfers = offered(&folder, true);
        let events = transfers.events();
        for octets in [octets_first, !octets_first] {
            let reactions = if octets {
                transfers.on_transfer(arrived(&folder))
            } else {
                transfers.on_server(done(5, b"hello")).expect("about a transfer")
            };
            assert!(reactions.is_empty(), "{reactions:?}");
        }
        let kept = events.recv().expect("the disk tells");
        assert_eq!(lines(&transfers.on_transfer(kept)), ["DONE_7 ok", "! finished a.txt 5"]);
    }

    let mut short = offered(&folder, true);
    short.on_transfer(arrived(&folder));
    let told = short.on_server(done(4, b"hell")).expect("about a transfer");
    assert_eq!(lines(&told)[0], "DONE_7 changed");
}

#[test]
fn what_was_not_asked_for_is_not_fetched() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = asked(&folder, true);
    let mut other = offer(5);
    other.file.name = FileName::parse("b.txt").expect("a name");
    let told = transfers.on_server(ServerMessage::Offer(other)).expect("about a transfer");
    assert_eq!(
        lines(&told),
        ["DONE_7 incomplete", "! the connection broke off: the server offered something else"]
    );
    let told = transfers.on_server(ServerMessage::Offer(offer(5))).expect("about a transfer");
    assert!(told.is_empty(), "a server that reads nothing must not make us collect answers: {told:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_file_that_waits_for_its_digest_is_removed_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = offered(&folder, true);
    transfers.on_transfer(arrived(&folder));
    transfers.close();
    assert!(transfers.is_idle(), "nothing more will be told of it");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_download_can_be_cancelled_at_any_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut early = asked(&folder, true);
    assert!(early.cancel(2).is_none(), "no such number");
    assert!(early.cancel(1).is_some_and(|reactions| reactions.is_empty()));
    let told = early.on_server(ServerMessage::Offer(offer(5))).expect("about a transfer");
    assert_eq!(lines(&told), ["DONE_7 cancelled", "! cancelled"]);

    let mut moving = offered(&folder, true);
    assert!(moving.cancel(1).is_some_and(|reactions| reactions.is_empty()), "its worker has the last word");
    assert_eq!(
        lines(&moving.on_transfer(failed(&folder, TransferError::Cancelled))),
        ["DONE_7 cancelled", "! cancelled"]
    );

    let mut waiting = offered(&folder, true);
    waiting.on_transfer(arrived(&folder));
    assert_eq!(lines(&waiting.cancel(1).expect("there")), ["DONE_7 cancelled", "! cancelled"]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_digest_that_never_comes_is_not_waited_for_forever() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = offered(&folder, true);
    transfers.on_transfer(arrived(&folder));
    assert!(transfers.on_tick(Instant::now()).is_empty());
    let told = transfers.on_tick(Instant::now() + 2 * DIGEST_WAIT_MAX);
    assert_eq!(lines(&told)[0], "DONE_7 incomplete");
    assert!(transfers.is_idle());
}

#[test]
fn long_transfers_say_how_far_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = offered(&folder, true);
    let later = Instant::now() + Duration::from_secs(3);
    transfers.under_way[&ID].moving.progress.set(4, 0);
    assert!(transfers.on_tick(Instant::now()).is_empty(), "too early");
    assert_eq!(lines(&transfers.on_tick(later)), ["* download 1: a.txt, 80 % (4 B of 5 B), on its way"]);
    assert!(transfers.on_tick(later).is_empty(), "told already");
}

#[test]
fn a_full_disk_here_is_never_blamed_on_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = offered(&folder, true);
    let done = ServerMessage::Done(ID, Done::Failed(ErrorCode::Incomplete));
    assert!(transfers.on_server(done).expect("about a transfer").is_empty());
    let source = io::Error::from(io::ErrorKind::StorageFull);
    let told =
        transfers.on_transfer(failed(&folder, TransferError::File { what: "write a.part".into(), source }));
    assert_eq!(lines(&told), ["DONE_7 disk-full", "! cannot write a.part: no storage space"]);
}

#[test]
fn more_files_than_the_server_allows_wait_their_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = asked(&folder, true);
    let want = want(folder.path(), true);
    let gets: Vec<_> = (2..=10).flat_map(|_| transfers.ask(want.clone())).collect();
    assert_eq!(lines(&gets), ["GET_udp a.txt"; 3], "four without an answer, with the first");
    let stages: Vec<_> = transfers.views().iter().map(|view| view.report().to_string()).collect();
    assert_eq!(
        (stages[0].as_str(), stages[9].as_str()),
        ("* download 1: a.txt, asked for", "* download 10: a.txt, waiting")
    );
    let offer_to = |transfers: &mut Transfers, id| {
        let asked = transfers.asked.pop_front().expect("asked");
        transfers.under_way.insert(TransferId(id), fetching(asked));
        transfers.on_tick(Instant::now())
    };
    assert!(offer_to(&mut transfers, 1).is_empty(), "nobody has taken it up");
    transfers.under_way[&TransferId(1)].moving.progress.begin();
    assert_eq!(lines(&transfers.on_tick(Instant::now())), ["GET_udp a.txt"]);
    for id in 2..=8 {
        offer_to(&mut transfers, id);
        transfers.under_way[&TransferId(id)].moving.progress.begin();
        transfers.on_tick(Instant::now());
    }
    assert_eq!((transfers.under_way.len(), transfers.asked.len(), transfers.waiting.len()), (8, 0, 2));
    assert_eq!(lines(&transfers.cancel(10).expect("there")), ["! cancelled"]);
    let ended =
        TransferEvent::Arrived(TransferId(3), sink(&folder), Err(TransferError::Cancelled), Instant::now());
    assert_eq!(lines(&transfers.on_transfer(ended)), ["DONE_3 cancelled", "! cancelled", "GET_udp a.txt"]);
}

#[test]
fn a_busy_server_is_asked_again_while_others_of_ours_are_under_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let busy = || ServerMessage::Err { code: ErrorCode::Busy, request: "GET".into(), words: "later".into() };
    let mut alone = asked(&folder, true);
    assert_eq!(lines(&alone.on_server(busy()).expect("our GET")), ["! a.txt: later (busy)"]);
    assert!(alone.on_server(busy()).is_err(), "of nothing that we asked");

    let mut transfers = offered(&folder, true);
    let want = want(folder.path(), true);
    assert_eq!(lines(&transfers.ask(want)), ["GET_udp a.txt"]);
    assert!(transfers.on_server(busy()).expect("our GET").is_empty());
    assert!(transfers.on_tick(Instant::now()).is_empty(), "too early");
    assert_eq!(lines(&transfers.on_tick(Instant::now() + BUSY_WAIT)), ["GET_udp a.txt"]);
}

#[test]
fn what_the_loss_of_the_session_ends_is_asked_for_in_the_next_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = offered(&folder, true);
    transfers.under_way.get_mut(&ID).expect("it is").asked.begun = true;
    let server = SocketAddr::from(([127, 0, 0, 1], 2));
    let want = |name: &str| {
        let name = FileName::parse(name).expect("a name");
        let target = Target::Folder(folder.path().into(), name.clone());
        let what = What::Get { target, asks: false };
        Want { name, what, transport: Transport::Tcp, fall_back: false }
    };
    assert_eq!(lines(&transfers.ask(want("asked.txt"))), ["GET_tcp asked.txt"]);
    assert_eq!(lines(&transfers.on_disconnected("gone")), [""; 0]);
    assert_eq!(lines(&transfers.ask(want("later.txt"))), [""; 0]);
    // A number of the last session may mean another file in this one: its transfers have to be gone first.
    assert_eq!(lines(&transfers.on_reconnected(server, Duration::from_millis(2))), [""; 0]);
    assert_eq!(
        lines(&transfers.on_transfer(failed(&folder, TransferError::Cancelled))),
        [
            "* a.txt: broken off, to be asked for again",
            "GET_tcp asked.txt",
            "GET_tcp later.txt",
            "GET_udp a.txt"
        ]
    );
    // Lost again, and this time for good.
    transfers.on_disconnected("gone again");
    let ended = transfers.on_lost("given up");
    assert_eq!(ended.len(), 3, "{ended:?}");
    assert!(transfers.is_idle());
    let begun = ended.iter().map(|end| matches!(end, Reaction::Failed(Failed { begun: true, .. })));
    assert_eq!(begun.collect::<Vec<_>>(), [false, false, true], "that decides about the exit code");
}

#[test]
fn what_is_complete_is_kept_while_the_session_is_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = offered(&folder, true);
    let done = Done::Sent { size: 5, digest: blake3::hash(b"hello") };
    transfers.on_server(ServerMessage::Done(ID, done)).expect("about a transfer");
    transfers.on_disconnected("gone");
    assert_eq!(lines(&transfers.on_transfer(arrived(&folder))), [""; 0]);
    let kept = transfers.events.recv_timeout(Duration::from_secs(30)).expect("kept");
    assert_eq!(lines(&transfers.on_transfer(kept)), ["! finished a.txt 5"]);
}

/// A client to which a file of this size is offered; `asks` as when somebody sits there who has not said `-y`.
fn offered_of(folder: &tempfile::TempDir, size: u64, asks: bool) -> Transfers {
    let server = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut transfers = Transfers::new(server, Duration::from_millis(1), Tuning::default());
    let mut want = want(folder.path(), false);
    want.what = What::Get { target: Target::Folder(folder.path().into(), name()), asks };
    assert_eq!(lines(&transfers.ask(want)), ["GET_udp a.txt"]);
    transfers.on_server(ServerMessage::Offer(offer(size))).expect("about a transfer");
    // Nothing comes, but the worker would tell so: from here on the test tells how far it is.
    transfers.under_way.get_mut(&ID).expect("offered").moving.progress = std::sync::Arc::default();
    transfers
}

fn granted(transfers: &Transfers) -> u64 {
    transfers.under_way[&ID].moving.granted.load(Ordering::Relaxed)
}

/// So many octets have come; gives what follows.
fn come(transfers: &mut Transfers, moved_bytes: u64, now: Instant) -> Vec<String> {
    transfers.under_way[&ID].moving.progress.set(moved_bytes, 0);
    lines(&transfers.on_tick(now))
}

/// The end of a transfer that was stopped, as its worker tells it.
fn stopped(transfers: &mut Transfers) -> Vec<String> {
    let ended = transfers.events.recv_timeout(Duration::from_secs(30)).expect("the worker tells");
    lines(&transfers.on_transfer(ended))
}

#[test]
fn s23_a_person_is_asked_once_at_forty_per_cent() {
    const SIZE: u64 = (1 << 20) + 3;
    const FORTY_PER_CENT: u64 = (SIZE * 2).div_ceil(5);
    let now = Instant::now();
    for (number, goes_on) in [(None, true), (Some(1), true), (None, false), (Some(1), false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut transfers = offered_of(&folder, SIZE, true);
        assert_eq!(granted(&transfers), FORTY_PER_CENT, "no more may come before the answer");
        assert!(transfers.answer(None, true).is_none(), "nobody was asked");
        assert_eq!(come(&mut transfers, FORTY_PER_CENT - 1, now), [""; 0]);
        assert_eq!(come(&mut transfers, FORTY_PER_CENT, now), [format!("? {FORTY_PER_CENT}")]);
        assert_eq!(come(&mut transfers, FORTY_PER_CENT, now), [""; 0], "once");
        assert_eq!(granted(&transfers), FORTY_PER_CENT, "a question is not an answer");
        assert!(transfers.answer(Some(2), goes_on).is_none(), "about another transfer");
        let answered = transfers.answer(number, goes_on).expect("it was asked");
        assert_eq!(lines(&answered), [""; 0]);
        if goes_on {
            assert_eq!(granted(&transfers), u64::MAX);
            assert_eq!(come(&mut transfers, SIZE, now), [""; 0], "not asked again");
            assert!(transfers.answer(None, true).is_none(), "it is answered");
        } else {
            assert_eq!(stopped(&mut transfers), ["DONE_7 cancelled", "! declined"]);
            assert_eq!(folder.path().read_dir().expect("a folder").count(), 0, "what has come is removed");
            assert!(transfers.is_idle());
        }
    }
}

#[test]
fn s23_no_answer_within_a_minute_declines() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut transfers = offered_of(&folder, 10 << 20, true);
    let now = Instant::now();
    assert_eq!(come(&mut transfers, 4 << 20, now), ["? 4194304"]);
    let told = come(&mut transfers, 4 << 20, now + ANSWER_MAX);
    assert!(told.iter().all(|line| line.starts_with("* ")), "just in time: {told:?}");
    assert_eq!(granted(&transfers), 4 << 20);
    assert_eq!(come(&mut transfers, 4 << 20, now + ANSWER_MAX + Duration::from_millis(1)), [""; 0]);
    assert_eq!(stopped(&mut transfers), ["DONE_7 cancelled", "! declined"]);
    assert_eq!(folder.path().read_dir().expect("a folder").count(), 0, "what has come is removed");
}

#[test]
fn s23_nobody_is_asked_about_small_files_or_who_has_said_yes() {
    for (size, asks) in
        [(0, true), (1, true), (5, true), ((1 << 20) - 1, true), (1 << 20, false), (10 << 20, false)]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let mut transfers = offered_of(&folder, size, asks);
        assert_eq!(granted(&transfers), u64::MAX, "{size}");
        for moved_bytes in [size * 2 / 5, size / 2, size] {
            assert_eq!(come(&mut transfers, moved_bytes, Instant::now()), [""; 0], "{size}");
        }
        assert!(transfers.answer(None, false).is_none(), "{size}");
    }
}
