//! Places, addresses and nicks, with real sockets and without conversations.

use super::*;
use crate::server::transfers::Busy;
use crate::transfer::part::Origin;
use crate::transfer::pool::PoolConfig;
use crate::transfer::sink::{Sink, Target};
use crate::transfer::tuning::Tuning;
use crate::wire::name::FileName;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A hub, and a source of connected sockets.
pub(in crate::server) fn hub() -> (Arc<Hub>, TcpListener) {
    let folder = tempfile::tempdir().expect("a folder");
    let shelf = Shelf::open(folder.path()).expect("a shelf");
    let pool = Pool::start(&PoolConfig { ip: LOCAL, base_port: 0, workers: 1, tuning: Tuning::default() });
    let limits = Limits::default();
    let writers = Writers::start(&limits, 1).expect("a thread");
    let hub = Hub::new(limits, writers, shelf, pool.expect("a pool"), Disk::start().expect("a thread"), 0);
    (Arc::new(hub), TcpListener::bind((LOCAL, 0)).expect("bound"))
}

/// A connection that pretends to come from `ip`.
fn admit(
    hub: &Arc<Hub>,
    listener: &TcpListener,
    ip: impl Into<IpAddr>,
) -> Result<(Seat, TcpStream), NotAdmitted> {
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    Ok((hub.admit(Arc::new(server), SocketAddr::new(ip.into(), 1))?, client))
}

#[test]
fn r24_one_address_has_sixteen_connections() {
    let (hub, listener) = hub();
    let (one, other) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let admit = |ip: IpAddr| admit(&hub, &listener, ip);
    let mut seats: Vec<_> = (0..16).map(|_| admit(one.into()).expect("there is room")).collect();
    assert_eq!(admit(one.into()).map(|_| ()), Err(NotAdmitted::Address));
    assert_eq!(admit(one.to_ipv6_mapped().into()).map(|_| ()), Err(NotAdmitted::Address), "the same address");
    assert!(admit(other.into()).is_ok());
    seats.pop();
    assert!(admit(one.into()).is_ok(), "a place is free again");
    let loopback: Vec<_> = (0..40).map(|_| admit(LOCAL)).collect();
    assert!(loopback.iter().all(Result::is_ok), "there everybody has the same address");
}

#[test]
fn a_place_and_its_nick_are_free_even_after_a_panic() {
    let (hub, listener) = hub();
    let nick = Nick::parse("alice").expect("a nick");
    let (seat, mut client) = admit(&hub, &listener, LOCAL).expect("there is room");
    hub.join(&seat, &nick, false).expect("a free nick");
    let panicked = std::thread::spawn(move || {
        let _seat = seat;
        panic!("on purpose");
    })
    .join();
    assert!(panicked.is_err());
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("closed in order");
    assert_eq!(heard, "WELCOME_alice v=1 max=4096\n");
    let (again, _client) = admit(&hub, &listener, LOCAL).expect("there is room");
    assert_eq!(hub.join(&again, &nick, false), Ok(()));
}

#[test]
fn r7_who_has_said_something_is_not_evicted_for_a_busy_reader() {
    let (hub, listener) = hub();
    let admit = || {
        let (seat, client) = admit(&hub, &listener, LOCAL).expect("there is room");
        // As its reader does, which never gets the processor here.
        seat.pulse.listen();
        (seat, client)
    };
    let speak = |(seat, client): &mut (Seat, TcpStream)| {
        client.write_all(b"HELLO_").expect("connected");
        // Until the system has delivered it.
        while seat.stream.peek(&mut [0; 6]).expect("connected") < 6 {}
    };
    let is_evicted = |(_, client): &mut (Seat, TcpStream)| {
        client.set_nonblocking(true).expect("a socket");
        matches!(client.read(&mut [0]), Ok(0))
    };
    let mut strangers: Vec<_> = (0..64).map(|_| admit()).collect();
    strangers[..63].iter_mut().for_each(speak);
    strangers.push(admit());
    let evicted: Vec<bool> = strangers.iter_mut().map(is_evicted).collect();
    assert_eq!(evicted.iter().position(|&evicted| evicted), Some(63), "the only one with nothing to say");
    assert_eq!(evicted.iter().filter(|&&evicted| evicted).count(), 1);
    // All have something to say, and none is served: then the oldest goes after all.
    speak(&mut strangers[64]);
    strangers.push(admit());
    assert!(is_evicted(&mut strangers[0]) && !is_evicted(&mut strangers[64]));
}

#[test]
fn r7_who_was_refused_makes_room_however_much_it_says() {
    let (hub, listener) = hub();
    let admit = || admit(&hub, &listener, LOCAL).expect("there is room");
    let nick = Nick::parse("alice").expect("a nick");
    let (alice, _client) = admit();
    hub.join(&alice, &nick, false).expect("a free nick");
    let mut strangers: Vec<_> = (0..64).map(|_| admit()).collect();
    // Their readers are at work, which is not to be silent: all are spared, but for one whose first line was in vain.
    assert!(matches!(hub.join(&strangers[9].0, &nick, false), Err(NotAdmitted::Nick(_))));
    strangers.push(admit());
    let is_evicted = |(_, client): &mut (Seat, TcpStream)| {
        client.set_nonblocking(true).expect("a socket");
        matches!(client.read(&mut [0]), Ok(0))
    };
    let evicted: Vec<usize> = (0..65).filter(|&number| is_evicted(&mut strangers[number])).collect();
    assert_eq!(evicted, [9]);
}

#[test]
fn r8_who_asks_in_the_same_room_shares_the_answer() {
    let (hub, listener) = hub();
    let seats: Vec<_> = ["alice", "bob"]
        .map(|name| {
            let (seat, client) = admit(&hub, &listener, LOCAL).expect("there is room");
            hub.join(&seat, &Nick::parse(name).expect("a nick"), false).expect("a free nick");
            (seat, client)
        })
        .into();
    let who = || hub.state.lock().who();
    let kept = who();
    assert_eq!(&*kept[0], b"USERS_2 alice bob\n");
    assert!(Arc::ptr_eq(&kept, &who()), "one copy for all");
    hub.in_room(|room| room.rename(seats[0].0.id, Nick::parse("carol").expect("a nick")));
    assert_eq!(&*who()[0], b"USERS_2 bob carol\n");
    hub.leave(seats[1].0.id, None);
    assert_eq!(&*who()[0], b"USERS_1 carol\n");
    assert_eq!(&*kept[0], b"USERS_2 alice bob\n", "as it was when it was asked for");
}

#[test]
fn r40_no_transfer_begins_while_the_disk_thread_is_far_behind() {
    let (hub, _) = hub();
    let (folder, name) = (tempfile::tempdir().expect("a folder"), FileName::parse("a").expect("a name"));
    let sink = Sink::create(&Target::Folder(folder.path().into(), name), &Origin::new(0)).expect("a sink");
    let followed_max = 2 * Limits::default().transfers_max;
    for count in 0..followed_max {
        hub.admit_to_disk().unwrap_or_else(|error| panic!("{count}: {error}"));
        hub.disk.follow(sink.followed());
    }
    assert_eq!(hub.admit_to_disk(), Err(Busy::All));
    drop(sink);
    let until = Instant::now() + Duration::from_secs(60);
    while hub.admit_to_disk().is_err() {
        assert!(Instant::now() < until, "what is over is given up");
        std::thread::yield_now();
    }
}
