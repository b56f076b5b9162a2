//! Offers and their limits, and files over connections of their own, seen from the wire.

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{PATIENCE, RawClient, TestServer};
use packetboat::server::{Limits, Server, ServerConfig};
use packetboat::wire::message::{Offer, ServerMessage};

const LORE_LEN: usize = 70_558;

fn lore() -> Vec<u8> {
    (0..LORE_LEN).map(|at| u8::try_from(at * 7 % 251).expect("below 251")).collect()
}

fn fill(files: &Path) {
    std::fs::write(files.join("lore.txt"), lore()).expect("a file");
    std::fs::write(files.join("empty"), "").expect("a file");
    File::create(files.join("big video.mp4")).and_then(|file| file.set_len(67_739_648)).expect("sparse");
}

fn offer(line: &str) -> Offer {
    match ServerMessage::parse(line.as_bytes()) {
        Ok(ServerMessage::Offer(offer)) => offer,
        other => panic!("{other:?} in {line:?}"),
    }
}

/// The token of an offer as it is on the line.
fn token(line: &str) -> &str {
    line.split(' ').nth(3).expect("a token")
}

/// A connection that presents a token, and what comes back.
fn fetch(server: &TestServer, token: &str) -> Vec<u8> {
    let mut stream = server.connect();
    stream.send(format!("DATA_{token}\n"));
    let mut bytes = Vec::new();
    let _ = stream.stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn a_file_travels_over_its_own_connection() {
    let server = TestServer::start_with(&[], fill);
    let mut alice = server.login("alice");
    for (name, content) in [("lore.txt", lore()), ("empty", Vec::new())] {
        alice.send(format!("GET_tcp {name}\n"));
        let line = alice.line();
        let offered = offer(&line);
        assert_eq!((offered.port, offered.file.size), (server.addr.port(), content.len() as u64));
        assert!(fetch(&server, token(&line)) == content, "{name}");
        let digest = blake3::hash(&content);
        assert_eq!(alice.line(), format!("DONE_{} {} {digest}", offered.id, content.len()));
        alice.send(format!("DONE_{} ok\n", offered.id));
    }
    alice.send("QUIT\n");
    assert_eq!(alice.rest(), ["BYE_"]);
}

#[test]
fn a_token_works_once_and_a_wrong_one_never() {
    let server = TestServer::start_with(&[], fill);
    let mut alice = server.login("alice");
    alice.send("GET_tcp lore.txt\n");
    let line = alice.line();
    let token = token(&line).to_owned();
    assert_eq!(fetch(&server, &"0".repeat(64)), b"", "closed without a word");
    assert_eq!(fetch(&server, &token).len(), LORE_LEN);
    assert_eq!(fetch(&server, &token), b"");
    let mut late = server.connect();
    late.send(format!("DATA_{}\n", &token[..63]));
    assert_eq!(late.rest(), ["ERR_bad-request DATA the fields are wrong: a token is 64 hex digits"]);
    let mut member = server.login("bob");
    member.send(format!("DATA_{token}\nQUIT\n"));
    assert_eq!(member.rest(), ["ERR_bad-request DATA a file has a connection of its own", "BYE_"]);
}

#[test]
fn r24_the_fifth_open_offer_is_refused() {
    let server = TestServer::start_with(&[], fill);
    let mut alice = server.login("alice");
    let mut bob = server.login("bob");
    assert_eq!(alice.line(), "JOIN_bob");
    for number in 1..=4 {
        alice.send(format!("GET_{} lore.txt\n", if number % 2 == 0 { "udp" } else { "tcp" }));
        assert!(alice.line_but(&["DONE_"]).starts_with(&format!("OFFER_{number} ")));
    }
    alice.send("GET_tcp lore.txt\n");
    assert_eq!(alice.line_but(&["DONE_"]), "ERR_busy GET you have offers open that nobody has taken up");
    bob.send("GET_tcp lore.txt\n");
    assert!(bob.line().starts_with("OFFER_5 "), "others are not affected");
    alice.send("DONE_1 cancelled\nGET_tcp lore.txt\n");
    assert!(alice.line_but(&["DONE_"]).starts_with("OFFER_6 "), "a place is free again");
}

#[test]
fn r24_the_ninth_transfer_is_refused() {
    let server = TestServer::start_with(&["--no-rate-limit"], fill);
    let mut alice = server.login("alice");
    let mut streams: Vec<RawClient> = Vec::new();
    for _ in 0..8 {
        alice.send("GET_tcp big video.mp4\n");
        let line = alice.line_but(&["DONE_"]);
        let mut stream = server.connect();
        stream.send(format!("DATA_{}\n", token(&line)));
        stream.stream.read_exact(&mut [0; 1000]).expect("it has begun");
        streams.push(stream);
    }
    alice.send("GET_tcp big video.mp4\n");
    assert_eq!(alice.line_but(&["DONE_"]), "ERR_busy GET you have as many transfers as one may have");
}

#[test]
fn r24_a_client_that_wants_more_than_it_may_have_at_once_gets_all() {
    let server = TestServer::start_with(&[], |files| {
        for number in 0..10 {
            std::fs::write(files.join(format!("file {number}")), lore()).expect("a file");
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let mut client = std::process::Command::new(env!("CARGO_BIN_EXE_client"));
    client.arg(server.addr.to_string()).arg("alice").current_dir(&folder).env_remove("RUST_LOG");
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().expect("the client runs");
    let input: String = (0..10)
        .map(|number| format!("/get file {number}{}\n", if number % 2 == 0 { " --tcp" } else { "" }))
        .collect();
    client.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let output = client.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for number in 0..10 {
        let copy = std::fs::read(folder.path().join(format!("downloads/file {number}")));
        assert!(copy.expect("fetched") == lore(), "file {number}");
    }
}

#[test]
fn an_offer_that_nobody_takes_up_ends() {
    let files = tempfile::tempdir().expect("a folder");
    fill(files.path());
    let server = Server::start(ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        workers: 1,
        files: files.path().to_owned(),
        limits: Limits { offer_lifetime: Duration::from_millis(100), rate: None, ..Limits::default() },
        ..ServerConfig::default()
    })
    .expect("it starts");
    let mut alice = RawClient::connect(server.local_addr());
    alice.send("HELLO_alice\nGET_tcp empty\n");
    assert!(alice.line().starts_with("WELCOME_"));
    let first = alice.line();
    let id = offer(&first).id;
    loop {
        // Each request looks for what has expired; the accept thread does so in its own time.
        alice.send("GET_tcp absent\n");
        let line = alice.line();
        if line == format!("DONE_{id} timeout") {
            break;
        }
        assert!(line.starts_with("ERR_no-file") || line.starts_with(&format!("DONE_{id} 0 ")), "{line}");
    }
    let mut late = RawClient::connect(server.local_addr());
    late.send(format!("DATA_{}\n", token(&first)));
    assert_eq!(late.rest(), [""; 0]);
}

#[test]
fn a_huge_file_that_nobody_fetches_delays_no_digest() {
    let server = TestServer::start_with(&[], |files| {
        fill(files);
        let sparse = File::create(files.join("huge.bin")).and_then(|file| file.set_len(100 << 30));
        sparse.expect("a sparse file");
    });
    let mut mallory = server.login("mallory quiet");
    let mut trudy = server.login("trudy quiet");
    mallory.send("GET_tcp huge.bin\nQUIT\n");
    trudy.send("GET_tcp huge.bin\n");
    assert!(trudy.line().starts_with("OFFER_"), "and she stays");
    assert_eq!(mallory.rest().last().map(String::as_str), Some("BYE_"));
    let mut alice = server.login("alice");
    alice.send("GET_tcp lore.txt\n");
    let id = offer(&alice.line()).id;
    assert_eq!(alice.line(), format!("DONE_{id} {LORE_LEN} {}", blake3::hash(&lore())));
}

#[test]
fn a_transfer_ends_with_its_session() {
    let server = TestServer::start_with(&[], fill);
    let mut alice = server.login("alice");
    alice.send("GET_tcp big video.mp4\n");
    let line = alice.line();
    let mut stream = TcpStream::connect(server.addr).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(format!("DATA_{}\n", token(&line)).as_bytes()).expect("written");
    stream.read_exact(&mut [0; 1000]).expect("it has begun");
    alice.send("QUIT\n");
    alice.rest();
    let mut received_len = 1000;
    let mut buffer = vec![0; 1 << 16];
    // Closed or reset, but not complete.
    while let Ok(read_len @ 1..) = stream.read(&mut buffer) {
        received_len += read_len;
    }
    assert!(received_len < 67_739_648, "all of it arrived");
}
