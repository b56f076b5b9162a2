//! Who comes back gets the nick that its lost connection still holds; nobody gets the nick of one who is there.

mod common;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::{PATIENCE, RawClient, by_tier, server_with};
use packetboat::server::{Limits, Rate, Server};
use socket2::{Domain, Socket, Type};

const TAKEN: &str = "ERR_nick-taken HELLO somebody here has this nickname";
const WELCOME: &str = "WELCOME_alice v=1 max=4096";

/// A server that waits so long for the answer to a challenge, and reads as fast as it can.
fn server(challenge_after: Duration) -> (Server, tempfile::TempDir) {
    server_with(Limits { challenge_after, rate: None, ..Limits::default() })
}

fn login(server: &Server, nick: &str) -> RawClient {
    let mut client = RawClient::connect(server.local_addr());
    assert_eq!(hello(&mut client, nick), format!("WELCOME_{nick} v=1 max=4096"));
    client
}

fn hello(client: &mut RawClient, nick: &str) -> String {
    client.send(format!("HELLO_{nick}\n"));
    client.line()
}

/// Says HELLO again and again, until it is answered by something else than `ERR_nick-taken`.
fn hello_until_answered(client: &mut RawClient, nick: &str) -> String {
    loop {
        let answer = hello(client, nick);
        if answer != TAKEN {
            return answer;
        }
    }
}

/// Says HELLO until the holder of the nick is asked: one whose last line is still being dealt with is not.
fn challenge(other: &mut RawClient, holder: &mut RawClient) {
    holder.stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    loop {
        assert_eq!(hello(other, "alice"), TAKEN);
        if holder.stream.peek(&mut [0]).is_ok() {
            break;
        }
    }
    holder.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    assert_eq!(holder.line(), "PING_");
}

#[test]
fn r11_who_comes_back_displaces_its_own_silent_connection() {
    for challenge_after in [Duration::from_millis(200), Limits::default().challenge_after] {
        let (server, _files) = server(challenge_after);
        let mut bob = login(&server, "bob");
        let mut half_open = login(&server, "Alice");
        assert_eq!(bob.line(), "JOIN_Alice");
        let mut back = RawClient::connect(server.local_addr());
        let started_at = Instant::now();
        assert_eq!(hello_until_answered(&mut back, "alice"), WELCOME);
        let took = started_at.elapsed();
        // The figure of the goals binds at night, on a machine that does nothing else.
        let took_max = by_tier(PATIENCE, Duration::from_secs(5));
        assert!(took >= challenge_after && took < took_max, "{took:?}");
        assert_eq!((bob.line(), bob.line()), ("LEAVE_Alice".into(), "JOIN_alice".into()));
        assert_eq!(half_open.rest(), ["PING_"], "asked once, then its connection is shut down");
        bob.send("PM_alice hello\n");
        assert_eq!(back.line(), "PM_bob hello");
    }
}

#[test]
fn r11_who_answers_keeps_the_nick() {
    // The second HELLO would displace at once whoever has not answered.
    let (server, _files) = server(Duration::ZERO);
    let mut alice = login(&server, "alice");
    let mut other = RawClient::connect(server.local_addr());
    for sign_of_life in ["PONG_\n", "PONG_\n", "\n", "x"] {
        challenge(&mut other, &mut alice);
        // The answer to what follows tells that the server has read it.
        alice.send(sign_of_life);
        alice.send(if sign_of_life == "x" { "\nWHO\n" } else { "WHO\n" });
        assert_eq!(alice.line_but(&["ERR_unknown"]), "USERS_1 alice");
    }
    assert_eq!(hello(&mut other, "alice"), TAKEN);
}

#[test]
fn r11_a_challenge_takes_its_time_and_is_one() {
    let (server, _files) = server(Duration::from_secs(3_600));
    let mut alice = login(&server, "alice");
    let mut others = [RawClient::connect(server.local_addr()), RawClient::connect(server.local_addr())];
    for _ in 0..10 {
        for other in &mut others {
            assert_eq!(hello(other, "alice"), TAKEN);
        }
    }
    alice.send("WHO\n");
    assert_eq!((alice.line(), alice.line()), ("PING_".into(), "USERS_1 alice".into()));
}

#[test]
fn r11_another_address_does_not_even_ask() {
    let (server, _files) = server(Duration::ZERO);
    let mut alice = login(&server, "alice");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("all of 127/8 is ours");
    socket.connect(&server.local_addr().into()).expect("connected");
    let mut stranger = RawClient::over(TcpStream::from(socket));
    for _ in 0..3 {
        assert_eq!(hello(&mut stranger, "alice"), TAKEN);
    }
    alice.send("WHO\n");
    assert_eq!(alice.line(), "USERS_1 alice", "no PING before it");
}

#[test]
fn r11_who_waits_for_the_rate_is_there() {
    let (server, _files) = server_with(Limits {
        challenge_after: Duration::ZERO,
        rate: Some(Rate { burst: 10, interval: Duration::from_millis(500) }),
        ..Limits::default()
    });
    let mut alice = login(&server, "alice");
    // Read at once, and acted upon in 15 s: meanwhile nothing can be heard of her.
    alice.send("WHO\n".repeat(40));
    assert_eq!(alice.line(), "USERS_1 alice");
    let mut other = RawClient::connect(server.local_addr());
    for _ in 0..5 {
        assert_eq!(hello(&mut other, "alice"), TAKEN);
    }
    for _ in 2..=10 {
        assert_eq!(alice.line(), "USERS_1 alice", "no PING either");
    }
}

#[test]
fn r11_a_full_room_has_a_place_for_who_comes_back() {
    let (server, _files) = server_with(Limits {
        clients_max: 1,
        challenge_after: Duration::from_millis(100),
        ..Limits::default()
    });
    let _half_open = login(&server, "alice");
    // A full room closes; so it is asked anew each time.
    while hello(&mut RawClient::connect(server.local_addr()), "alice") != WELCOME {}
}
