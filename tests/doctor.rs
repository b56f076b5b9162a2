//! `client HOST doctor`: what it finds on good ways and bad ones, with the real server and with scripted ones.

mod common;

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::scripted::*;
use common::{PATIENCE, RawClient, TestServer, eventually};
use jiff::Timestamp;
use packetboat::rudp::probe::{Echo, PROBES_MAX, Prober};
use packetboat::wire::message::{Probe, Secret, ServerMessage, TransferId};
use serde_json::Value;

const ID: TransferId = TransferId(7);
const SECRET: Secret = Secret([7; 32]);

fn doctor(server: &TestServer, arguments: &[&str]) -> (Output, Duration) {
    let begin = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
    command.arg(server.addr.to_string()).arg("doctor").args(arguments).stdin(Stdio::null());
    (command.output().expect("it runs"), begin.elapsed())
}

/// The last object of `--json`.
fn diagnosis(output: &Output) -> Value {
    let objects = stdout(output);
    let mut values = objects.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    values.rfind(|value| value["type"] == "diagnosis").unwrap_or_else(|| panic!("{}", told(output)))
}

#[test]
fn a_good_way_is_called_good() {
    let server = TestServer::start(&[]);
    let (output, _) = doctor(&server, &[]);
    assert_exit(&output, 0, "");
    let told = stdout(&output);
    for words in [
        "ok       tcp          connected to 127.0.0.1",
        "ok       udp          packets reach UDP port",
        "ok       packet-size  packets of 1472 octets pass both ways",
        "ok       loss         120 of 120 packets were answered",
        "ok       clock ",
        "* all is well: files travel over UDP in packets of 1472 octets",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("what to do"), "{told}");
}

#[test]
fn loss_is_seen_and_the_way_works_all_the_same() {
    let server = TestServer::start(&[]);
    let (output, _) = doctor(&server, &["--json", "--simulate", "loss=10%,seed=3"]);
    assert_exit(&output, 0, "");
    let found = diagnosis(&output);
    assert_eq!((found["result"].as_str(), found["packet_len"].as_u64()), (Some("warning"), Some(1_472)));
    let count = |name: &str| found[name].as_u64().expect("a number");
    // Of 120 with 10 % lost either way 12 and then 11 are lost; four times fewer or more is no chance.
    let (arrived, returned) = (count("packets_arrived"), count("packets_returned"));
    assert!((80..=117).contains(&arrived) && (60..=arrived - 1).contains(&returned), "{found}");
    assert!(stdout(&output).contains(r#""check":"loss","result":"warning""#), "{}", told(&output));
}

/// A server of this kind: it promises probes at a UDP port, and says how many have come.
fn promise(peer: &mut Peer, port: u16, time: Timestamp, arrived: impl Fn() -> u32) {
    answer_pings(peer, "PROBE_");
    peer.say(ServerMessage::Probe(Probe { id: ID, port, secret: SECRET, time }).emit().trim_end());
    assert_eq!(peer.line(), "PROBE_7");
    peer.say(&format!("PROBED_7 {}", arrived()));
    peer.hang_up();
}

fn answer_pings(peer: &mut Peer, until: &str) {
    loop {
        let line = peer.line();
        match line.strip_prefix("PING_") {
            Some(text) => peer.say(&format!("PONG_{text}")),
            None => return assert_eq!(line, until),
        }
    }
}

fn udp_port() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("bound").port();
    (socket, port)
}

#[test]
fn udp_that_is_blocked_is_exit_1_and_says_which_way() {
    let server = TestServer::start(&[]);
    let (output, _) = doctor(&server, &["--simulate", "loss=100%"]);
    assert_exit(&output, 1, "! files cannot travel over UDP here: --tcp works");
    assert!(stdout(&output).contains("none of 120 packets reached UDP port"), "{}", told(&output));
    for (arrived, words) in [
        (0, "none of 120 packets reached UDP port"),
        (120, "120 of 120 packets reached the server, but no answer comes back"),
    ] {
        // Nobody reads what comes to this port.
        let (_socket, port) = udp_port();
        let begin = Instant::now();
        let (output, _folder) =
            run(&["doctor"], move |peer, _| promise(peer, port, Timestamp::now(), || arrived));
        assert_exit(&output, 1, "! files cannot travel over UDP here: --tcp works");
        assert!(stdout(&output).contains(words), "{}", told(&output));
        assert!(stdout(&output).contains("what to do: "), "{}", told(&output));
        assert!(begin.elapsed() < PATIENCE, "and in time");
    }
}

/// Answers probes as a server does, behind a way that lets no packet above `len_max` through.
fn narrow_way(len_max: usize) -> (u16, Arc<AtomicU32>) {
    let (socket, port) = udp_port();
    let arrived = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&arrived);
    thread::spawn(move || {
        let (mut echo, mut buffer) = (Echo::new(&SECRET, Instant::now()), [0; 2_000]);
        while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            if len <= len_max && echo.answer(Instant::now(), &mut buffer[..len]) {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = socket.send_to(&buffer[..len], peer);
            }
        }
    });
    (port, arrived)
}

#[test]
fn a_narrow_way_and_another_clock_are_told() {
    let (port, arrived) = narrow_way(1_300);
    let yesterday = Timestamp::now() - Duration::from_secs(90_000);
    let (output, _folder) = run(&["doctor"], move |peer, _| {
        promise(peer, port, yesterday, || arrived.load(Ordering::Relaxed));
    });
    assert_exit(&output, 0, "");
    for words in [
        "warning  packet-size  packets of 1472 octets do not pass, those of 1200 do",
        "ok       loss         110 of 110 packets were answered",
        "warning  clock        the server's clock is 25 h behind this one",
    ] {
        assert!(stdout(&output).contains(words), "{words}: {}", told(&output));
    }

    let (port, arrived) = narrow_way(1_000);
    let (output, _folder) = run(&["doctor", "--json"], move |peer, _| {
        promise(peer, port, Timestamp::now(), || arrived.load(Ordering::Relaxed));
    });
    assert_exit(&output, 1, "cannot travel over UDP");
    let found = diagnosis(&output);
    assert_eq!((found["result"].as_str(), found["packet_len"].as_u64()), (Some("failed"), Some(200)));
}

#[test]
fn a_server_that_is_too_old_is_said_to_be() {
    let (output, _folder) = run(&["doctor"], |peer, _| {
        answer_pings(peer, "PROBE_");
        peer.say("ERR_unknown PROBE no such request");
        peer.hang_up();
    });
    assert_exit(&output, 1, "is not known");
    let words = "unknown  udp          the server is older than this client";
    assert!(stdout(&output).contains(words), "{}", told(&output));
}

#[test]
fn a_server_that_talks_and_never_answers_is_given_up() {
    let begin = Instant::now();
    let (output, _folder) = run(&["doctor"], |peer, _| while writeln!(peer.writer, "MSG_eve hi").is_ok() {});
    assert_exit(&output, 3, "the server does not answer");
    assert!(begin.elapsed() < PATIENCE, "and in time");
}

/// Asks for a probe by hand.
fn ask(client: &mut RawClient) -> Probe {
    let line = client.ask("PROBE");
    match ServerMessage::parse(line.as_bytes()) {
        Ok(ServerMessage::Probe(probe)) => probe,
        other => panic!("{other:?} in {line:?}"),
    }
}

#[test]
fn probes_are_answered_once_to_their_owners_address_alone_and_never_by_more_than_came() {
    let server = TestServer::start(&[]);
    let mut alice = server.login("alice quiet");
    let mut mallory = server.login("mallory quiet");
    let Probe { id, port, secret, .. } = ask(&mut alice);
    assert!(mallory.ask(format!("PROBE_{id}")).starts_with("ERR_bad-request PROBE"), "somebody else's");
    let mut prober = Prober::new(id, &secret);
    let socket = |ip: &str| {
        let socket = UdpSocket::bind((ip, 0)).expect("an address of loopback");
        socket.set_nonblocking(true).expect("a socket");
        socket
    };
    let (ours, strangers) = (socket("127.0.0.1"), socket("127.0.0.2"));
    let mut buffer = [0; 2_000];
    let (mut sent_bytes, mut heard_bytes, mut heard) = (0, 0, 0);
    for number in 0..PROBES_MAX + 8 {
        let probe = prober.probe(Instant::now(), 100);
        strangers.send_to(&probe, (server.addr.ip(), port)).expect("sent");
        for _ in 0..2 {
            sent_bytes += ours.send_to(&probe, (server.addr.ip(), port)).expect("sent");
        }
        // Some at a time: a probe lives for ten seconds, and a busy machine takes its time for each answer.
        if number % 32 == 31 {
            eventually("the answers", || {
                while let Ok(len) = ours.recv(&mut buffer) {
                    prober.handle_datagram(Instant::now(), &mut buffer[..len]);
                    heard += 1;
                    heard_bytes += len;
                }
                heard > number.min(PROBES_MAX - 1)
            });
        }
    }
    assert!(prober.probes()[..256].iter().all(|probe| probe.rtt.is_some()));
    // The worker has read all that when the server has counted, and this socket has all that it will have.
    assert_eq!(alice.ask(format!("PROBE_{id}")), format!("PROBED_{id} {PROBES_MAX}"));
    assert!(ours.recv(&mut buffer).is_err() && strangers.recv(&mut buffer).is_err(), "no answer more");
    assert!(heard == 256 && heard_bytes * 2 <= sent_bytes, "{heard_bytes} for {sent_bytes}");
    assert!(alice.ask(format!("PROBE_{id}")).starts_with("ERR_bad-request PROBE"), "it is over");
    // Another probe has another key: what belonged to the first opens nothing.
    let again = ask(&mut alice);
    assert!(again.id != id && again.secret != secret);
    let mut foreign = Prober::new(again.id, &secret);
    ours.send_to(&foreign.probe(Instant::now(), 100), (server.addr.ip(), again.port)).expect("sent");
    let mut own = Prober::new(again.id, &again.secret);
    ours.send_to(&own.probe(Instant::now(), 100), (server.addr.ip(), again.port)).expect("sent");
    eventually("the right one's answer", || ours.recv(&mut buffer).is_ok());
    assert_eq!(alice.ask(format!("PROBE_{}", again.id)), format!("PROBED_{} 1", again.id));
}
