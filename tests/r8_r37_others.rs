//! Those who do no harm notice nothing: of a paste, which passes; of a flood, which is slowed and then closed (R31); of one
//! who never reads (R8). Nor does the log (R37).
//!
//! The flood lasts 3 s on every push, and the 30 s of the default at night; R8 takes 2 s, and 20.

mod common;

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::crowd::quantile;
use common::{RawClient, TestServer, by_tier, eventually, server_with};
use packetboat::server::{Limits, Rate};
use socket2::{Domain, Socket, Type};

/// Says so many lines a second until the server has had enough.
fn flood(client: &mut RawClient, lines_per_s: u32, line: &str) {
    let began = Instant::now();
    for number in 0.. {
        let due = began + Duration::from_secs(1) / lines_per_s * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if client.stream.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

/// These take turns in speaking, each below the rate, for so long and until it is over. How long it took until `listener`
/// heard each line.
fn talk(
    speakers: &mut [RawClient],
    listener: &mut RawClient,
    text: &str,
    at_least: Duration,
    is_over: impl Fn() -> bool,
) -> Vec<Duration> {
    let pause = Duration::from_millis(1_000 / 4) / u32::try_from(speakers.len()).expect("few");
    let (began, mut latencies) = (Instant::now(), Vec::new());
    while began.elapsed() < at_least || !is_over() {
        assert!(began.elapsed() < at_least + 2 * common::PATIENCE, "it does not end");
        let (turn, said_at) = (latencies.len(), Instant::now());
        let speaker = turn % speakers.len();
        speakers[speaker].send(format!("ALL_{turn}{text}\n"));
        let expected = format!("MSG_speaker{speaker} {turn}{text}");
        while listener.line() != expected {}
        latencies.push(said_at.elapsed());
        // Nor does a speaker leave unread what was said since its last turn.
        while speakers[speaker].line() != expected {}
        std::thread::sleep(pause.saturating_sub(said_at.elapsed()));
    }
    latencies
}

/// The goals' figure binds at night, on a machine that does nothing else.
fn judge([calm, loud]: [Duration; 2]) {
    let noticed = loud > (calm * 6 / 5).max(calm + Duration::from_millis(1));
    assert!(!noticed || by_tier(true, false), "the others noticed: {calm:?} became {loud:?}");
}

#[test]
fn r8_who_never_reads_is_dropped_and_costs_the_others_nothing() {
    let server = TestServer::start(&[]);
    let mut listener = server.login("listener quiet");
    let mut speakers: Vec<RawClient> =
        (0..50).map(|number| server.login(&format!("speaker{number} quiet"))).collect();
    // 200 lines in a second.
    let text = "x".repeat(1_900);
    let time = Duration::from_secs(by_tier(2, 10));
    let drain = |speakers: &mut [RawClient]| {
        for speaker in speakers {
            speaker.send("PING_drained\n");
            while speaker.line() != "PONG_drained" {}
        }
    };
    let mut calm = talk(&mut speakers, &mut listener, &text, time, || true);
    drain(&mut speakers);
    let (mut loud, mut rss) = (Vec::new(), Vec::new());
    for dropped in 1..=2 {
        // The system itself takes little for this one: small segments, a small buffer.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket");
        socket.set_tcp_mss(536).expect("a socket");
        socket.connect(&server.addr.into()).expect("connected");
        let mut lazy = RawClient::over(socket.into());
        assert_eq!(lazy.ask("HELLO_lazy quiet"), "WELCOME_lazy v=1 max=4096");
        let is_dropped = || server.log().matches("closed, it ").count() == dropped;
        loud.extend(talk(&mut speakers, &mut listener, &text, time, is_dropped));
        drain(&mut speakers);
        rss.push(server.status("VmRSS"));
    }
    // The allocator keeps what the first has cost; the second must find it free.
    assert!(rss[1] <= rss[0] + 128, "grown from {} to {} KiB", rss[0], rss[1]);
    let p99 = [quantile(&mut calm, 0.99), quantile(&mut loud, 0.99)];
    println!("R8: p99 of the others {p99:?} before and during it; RSS {rss:?} KiB after one and two of them");
    judge(p99);
}

#[test]
fn r31_a_paste_of_twenty_lines_passes() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.login("alice"), server.login("bob"));
    assert_eq!(alice.line(), "JOIN_bob");
    alice.send((1..=20).map(|number| format!("ALL_line {number}\n")).collect::<String>());
    for number in 1..=20 {
        let heard = format!("MSG_alice line {number}");
        assert_eq!((alice.line(), bob.line()), (heard.clone(), heard));
    }
}

#[test]
fn r31_a_flood_is_slowed_then_closed_and_nobody_notices() {
    let pressure_s = by_tier(3, 30);
    let server = TestServer::start(&["--max-pressure", &pressure_s.to_string()]);
    let mut listener = server.login("listener quiet");
    let mut speakers: Vec<RawClient> =
        (0..20).map(|number| server.login(&format!("speaker{number} quiet"))).collect();
    let mut flooder = server.login("flooder quiet");
    let mut witness = server.login("witness quiet");
    let time = Duration::from_secs(pressure_s);
    let mut calm = talk(&mut speakers, &mut listener, "", time, || true);
    let (over, began) = (AtomicBool::new(false), Instant::now());
    let (mut loud, took, said) = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            flood(&mut flooder, 1_000, "ALL_buy now\n");
            over.store(true, Ordering::Relaxed);
            (began.elapsed(), flooder.rest())
        });
        let loud = talk(&mut speakers, &mut listener, "", time, || over.load(Ordering::Relaxed));
        let (took, said) = flooding.join().expect("no panic");
        (loud, took, said)
    });
    let end: Vec<&str> = said.iter().rev().take(2).rev().map(String::as_str).collect();
    assert_eq!(end, ["ERR_too-fast - more lines than may be said, for too long", "BYE_too many lines"]);
    assert!(took >= time && took < time + common::PATIENCE, "{took:?}");
    // Twenty at once, HELLO among them, then five a second.
    witness.send("PING_end\n");
    let mut heard = 0;
    loop {
        let line = witness.line();
        match line.as_str() {
            "PONG_end" => break,
            "MSG_flooder buy now" => heard += 1,
            _ => assert!(line.starts_with("MSG_speaker"), "{line}"),
        }
    }
    let allowed = 20 + 5 * (took.as_secs() + 1);
    assert!((19 + 5 * pressure_s / 2..=allowed).contains(&heard), "{heard} of {allowed} lines in {took:?}");
    let p99 = [quantile(&mut calm, 0.99), quantile(&mut loud, 0.99)];
    println!(
        "R31: closed after {took:?}, {heard} lines heard; p99 of the others {p99:?} before and during it"
    );
    println!("R31: {} and {} lines of the others", calm.len(), loud.len());
    judge(p99);
}

#[test]
fn r31_who_waits_for_each_answer_is_slowed_and_never_closed() {
    let (server, _files) = server_with(Limits {
        rate: Some(Rate { burst: 1, interval: Duration::from_millis(20) }),
        pressure_max: Duration::from_millis(200),
        ..Limits::default()
    });
    let mut patient = RawClient::connect(server.local_addr());
    assert_eq!(patient.ask("HELLO_patient"), "WELCOME_patient v=1 max=4096");
    let began = Instant::now();
    for number in 0..50 {
        assert_eq!(patient.ask(format!("PING_{number}")), format!("PONG_{number}"));
    }
    assert!(began.elapsed() > Duration::from_millis(800), "each of them had to wait");
}

#[test]
fn r31_a_long_text_from_a_pipe_is_said_whole() {
    const LINES: usize = 150;
    // It takes 2.6 s, and pressure ends after half a second.
    let server = TestServer::start(&["--rate", "50", "--max-pressure", "0.5"]);
    let mut listener = server.login("listener quiet");
    let text: String = (1..=LINES).map(|number| format!("line {number}\n")).collect();
    let mut client = Command::new(env!("CARGO_BIN_EXE_client"));
    client.args([&server.addr.to_string(), "reader", "--reconnect-for", "0"]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    client.stdin.take().expect("piped").write_all(text.as_bytes()).expect("a pipe holds it");
    assert_eq!(listener.line(), "JOIN_reader");
    for number in 1..=LINES {
        assert_eq!(listener.line(), format!("MSG_reader line {number}"));
    }
    assert!(client.wait().expect("a child").success());
}

#[test]
fn r31_a_paste_that_fits_a_buffer_is_never_a_flood() {
    // Three seconds of lines in one write, and pressure ends after half a second.
    let server = TestServer::start(&["--rate", "100", "--max-pressure", "0.5"]);
    let mut alice = server.login("alice");
    alice.send((0..300).map(|number| format!("PING_{number}\n")).collect::<String>());
    for number in 0..300 {
        assert_eq!(alice.line(), format!("PONG_{number}"));
    }
}

#[test]
fn r31_no_requests_are_cheaper_than_lines() {
    let server = TestServer::start(&["--max-pressure", "0.5"]);
    let judge = &|(number, line): (usize, &str)| {
        let mut flooder = server.login(&format!("flooder{number} quiet"));
        flood(&mut flooder, 1_000, line);
        let rest = flooder.rest();
        assert_eq!(rest.last().map(String::as_str), Some("BYE_too many lines"), "{line:?}: {rest:?}");
        assert!(rest.len() <= 20 + 5 * 10, "{} answers to {line:?}", rest.len());
    };
    let lines = ["WHO\n", "FILES\n", "PM_nobody psst\n", "nonsense\n", "GET_tcp nothing\n", "\n"];
    std::thread::scope(|scope| {
        let judges: Vec<_> =
            lines.into_iter().enumerate().map(|line| scope.spawn(move || judge(line))).collect();
        judges.into_iter().for_each(|judge| judge.join().expect("each of them ends"));
    });
}

#[test]
fn r37_floods_do_not_fill_the_log() {
    let syns = by_tier(5_000, 100_000);
    let server = TestServer::start(&["--max-pressure", "2"]);
    let mut victim = server.login("victim");
    let before = server.log().lines().count();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
            let mut syn = [0; 1_472];
            syn[0] = 1;
            for number in 0..syns {
                syn[1..5].copy_from_slice(&u32::to_be_bytes(number));
                let _ = socket.send_to(&syn, ("127.0.0.1", server.udp_port()));
            }
        });
        for (number, line) in
            ["ALL_spam\n", "nonsense\n", "GET_udp ../x\n", "PM_victim spam\n"].iter().enumerate()
        {
            let mut flooder = server.login(&format!("flooder{number}"));
            scope.spawn(move || flood(&mut flooder, 1_000, line));
        }
    });
    eventually("they have gone", || victim.ask("WHO") == "USERS_1 victim" || began.elapsed().is_zero());
    let lines = server.log().lines().count() - before;
    println!("R37: {lines} lines of log in {:?}", began.elapsed());
    // Four came and went, and each was sent away.
    assert!(lines <= 12 + 10, "{}", server.log());
}
