//! Datagrams that strangers send to a transfer's port, seen from real sockets: nothing is answered, nothing is kept,
//! and what is under way arrives. All of loopback's 127.x.y.z are addresses of this machine.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::files::{MIB, UdpEnd, content, fast_server, names, offered};
use common::{Dice, PATIENCE, RawClient, TestServer, by_tier, eventually};
use packetboat::wire::message::Offer;

const SYN: u8 = 1;

fn shelf_of(size: usize) -> (TestServer, Vec<u8>) {
    let file = content(size, 1);
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        std::fs::write(files.join("a"), &file).expect("a file");
    });
    (server, file)
}

/// An offer of the file over UDP, and its digest.
fn get(client: &mut RawClient) -> (Offer, blake3::Hash) {
    let offer = offered(&client.ask("GET_udp a"));
    let done = client.line();
    let digest = done.split(' ').nth(2).and_then(|hex| blake3::Hash::from_hex(hex).ok());
    (offer, digest.unwrap_or_else(|| panic!("{done}")))
}

/// A socket at an address of loopback that a stranger may have.
fn stranger(number: usize) -> UdpSocket {
    let [high, low] = u16::try_from(number % 60_000 + 2).expect("small").to_be_bytes();
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 1, high, low), 0)).expect("an address");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

/// How many octets have come back.
fn heard(socket: &UdpSocket) -> usize {
    let mut buffer = vec![0; 65_535];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok()).sum()
}

#[test]
fn r15_forged_syns_keep_no_state_and_get_no_answer() {
    let (server, _) = shelf_of(8 * MIB);
    let mut alice = server.login("alice quiet");
    let udp = UdpEnd::at(Ipv4Addr::LOCALHOST, Some("delay=2ms"));
    let (offer, digest) = get(&mut alice);
    let worker: SocketAddr = (server.addr.ip(), offer.port).into();
    let (threads, descriptors) = (server.status("Threads"), server.descriptors());
    let strangers: Vec<UdpSocket> = (0..by_tier(50, 500)).map(stranger).collect();
    let forge = |dice: &mut Dice, round: usize| {
        let mut syn: Vec<u8> = (0..1_472).map(|_| u8::try_from(dice.below(256)).expect("an octet")).collect();
        syn[0] = SYN;
        // The right transfer, one beside it, and any.
        match round % 3 {
            0 => syn[1..5].copy_from_slice(&offer.id.0.to_be_bytes()),
            1 => syn[1..5].copy_from_slice(&(offer.id.0 + 1).to_be_bytes()),
            _ => {}
        }
        syn
    };
    let octets = thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice(15);
            for round in 0..by_tier(5_000, 100_000) {
                let syn = forge(&mut dice, round);
                let _ = strangers[round % strangers.len()].send_to(&syn, worker);
            }
        });
        udp.fetch(server.addr, &offer, digest)
    });
    assert_eq!(octets.len(), 8 * MIB, "and identical, or it would not be here");
    assert_eq!(strangers.iter().map(heard).sum::<usize>(), 0, "octets of answers");
    assert_eq!(server.status("Threads"), threads);
    eventually("as many descriptors as before", || server.descriptors() <= descriptors);
}

#[test]
fn r16_garbage_of_every_size_harms_nobody() {
    let (server, _) = shelf_of(8 * MIB);
    let mut alice = server.login("alice quiet");
    let udp = UdpEnd::at(Ipv4Addr::LOCALHOST, Some("delay=2ms"));
    let (offer, digest) = get(&mut alice);
    let worker: SocketAddr = (server.addr.ip(), offer.port).into();
    let (near, far) = (UdpSocket::bind("127.0.0.1:0").expect("a port"), stranger(1));
    near.set_nonblocking(true).expect("a socket");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice(16);
            let mut garbage = vec![0u8; 65_507];
            garbage.iter_mut().for_each(|octet| *octet = dice.below(256).to_le_bytes()[0]);
            let edges = [0, 1, 8, 9, 24, 25, 1_199, 1_200, 1_472, 1_473, 9_000, 65_506, 65_507];
            let rounds = by_tier(3_000, 1_000_000);
            for round in 0..rounds {
                let len = edges.get(round).copied().unwrap_or_else(|| dice.below(65_508));
                garbage[0] = u8::try_from(round % 9).expect("small");
                if round % 2 == 0 {
                    garbage[1..5].copy_from_slice(&offer.id.0.to_be_bytes());
                }
                let _ = [&near, &far][round % 2].send_to(&garbage[..len], worker);
                if is_over.load(Ordering::Relaxed) && round > 100 {
                    break;
                }
            }
        });
        assert_eq!(udp.fetch(server.addr, &offer, digest).len(), 8 * MIB);
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(heard(&near) + heard(&far), 0, "octets of answers");
    let log = server.log();
    assert!(log.lines().count() < 20, "{log}");
}

/// What a client really says to an offer: its SYNs, caught at a port of ours.
fn caught_syn(offer: &Offer) -> Vec<u8> {
    let trap = UdpSocket::bind("127.0.0.1:0").expect("a port");
    trap.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let udp = UdpEnd::new();
    let folder = tempfile::tempdir().expect("a folder");
    let _receiving = udp.receive(trap.local_addr().expect("bound"), offer, folder.path());
    let mut syn = vec![0; 2_000];
    let len = trap.recv(&mut syn).expect("a SYN");
    syn.truncate(len);
    assert_eq!((syn[0], syn[1..5].to_vec()), (SYN, offer.id.0.to_be_bytes().to_vec()));
    syn
}

#[test]
fn r17_r35_a_right_syn_from_another_address_gets_nothing() {
    let (server, _) = shelf_of(2 * MIB);
    let mut mallory = server.login("mallory quiet");
    let (offer, digest) = get(&mut mallory);
    let syn = caught_syn(&offer);
    let worker: SocketAddr = (server.addr.ip(), offer.port).into();
    let strangers: Vec<UdpSocket> = (0..10).map(stranger).collect();
    for round in 0..by_tier(1_000, 10_000) {
        let _ = strangers[round % 10].send_to(&syn, worker);
    }
    // A whole client there, with the right key, gets no further.
    let elsewhere = UdpEnd::at(Ipv4Addr::new(127, 0, 0, 2), None);
    let folder = tempfile::tempdir().expect("a folder");
    let (_ended, progress) = elsewhere.receive(worker, &offer, folder.path());
    // The worker has read all of that when the right address has been served by it.
    assert_eq!(UdpEnd::new().fetch(server.addr, &offer, digest).len(), 2 * MIB);
    assert_eq!(
        strangers.iter().map(heard).sum::<usize>(),
        0,
        "octets to addresses that are not the session's"
    );
    assert!(!progress.has_begun() && progress.moved_bytes() == 0);
    // The same over TCP: the token is good from the session's address alone.
    let offer = offered(&mallory.ask("GET_tcp a"));
    let from = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    from.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("an address");
    from.connect(&server.addr.into()).expect("connected");
    let mut foreign = RawClient::over(from.into());
    foreign.send(format!("DATA_{}\n", common::files::hex(&offer.secret)));
    assert_eq!(foreign.rest_bytes(), b"", "closed without a word");
    assert_eq!(common::files::fetch_tcp(server.addr, &offer.secret).len(), 2 * MIB, "and still good");
}

#[test]
fn r17_an_offer_answers_ten_syns_and_one_twice_never() {
    let (server, _) = shelf_of(2 * MIB);
    let mut mallory = server.login("mallory quiet");
    let (offer, _) = get(&mut mallory);
    let syn = caught_syn(&offer);
    let worker: SocketAddr = (server.addr.ip(), offer.port).into();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    for _ in 0..100 {
        socket.send_to(&syn, worker).expect("sent");
    }
    let mut buffer = [0; 2_000];
    let len = socket.recv(&mut buffer).expect("a SYN-ACK");
    assert!(buffer[0] == 2 && len <= syn.len(), "{len} for {}", syn.len());
    // Another port has said nothing that is new, so it hears nothing, whatever is sent again meanwhile.
    let other = UdpSocket::bind("127.0.0.1:0").expect("a port");
    other.set_nonblocking(true).expect("a socket");
    for _ in 0..100 {
        other.send_to(&syn, worker).expect("sent");
    }
    socket.recv(&mut buffer).expect("it goes on where it began");
    assert_eq!(heard(&other), 0);
}

#[test]
fn r18_what_one_server_says_gets_no_answer_from_another() {
    let (a, b) = (shelf_of(MIB).0, fast_server());
    let mut alice = a.login("alice quiet");
    let mut bob = b.login("bob quiet");
    let (offer, _) = get(&mut alice);
    // An upload to the other server is open under the same number.
    let accept = bob.put("udp", MIB, "b");
    assert_eq!(accept.id, offer.id);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket.send_to(&caught_syn(&offer), (IpAddr::V4(Ipv4Addr::LOCALHOST), offer.port)).expect("sent");
    // Real packets of server A go to B, and back to A itself: neither answers, so there is no loop.
    let mirror = UdpSocket::bind("127.0.0.1:0").expect("a port");
    mirror.set_nonblocking(true).expect("a socket");
    let mut packet = [0; 2_000];
    for _ in 0..8 {
        let len = socket.recv(&mut packet).expect("a packet of A");
        for port in [a.udp_port(), b.udp_port()] {
            for _ in 0..100 {
                mirror.send_to(&packet[..len], (Ipv4Addr::LOCALHOST, port)).expect("sent");
            }
        }
    }
    // Both workers have read all that when they have served somebody.
    let udp = UdpEnd::new();
    assert!(!alice.get(&udp, "udp", "a").is_empty());
    let done = bob.put_whole(&UdpEnd::new(), "udp", b"after", "after");
    assert!(done.ends_with(" ok"), "{done}");
    assert_eq!(heard(&mirror), 0, "octets of answers");
    assert_eq!(names(&b.files()), [".b.part", ".b.part.state", "after"]);
}
