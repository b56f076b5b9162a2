//! Crowds: strangers that say nothing, resets, people who come and go by the thousand, a full room that is asked for.
//!
//! Run on every push (and at night): R7 500 connections (10,000 from 1,000 addresses, three times), R10 2,000 resets
//! (30 s of 5,000/s), R14 2,000 logins (100,000) and 200 who leave at once (500).

#![allow(clippy::print_stdout, reason = "figures, for whoever asks with --nocapture")]

mod common;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::crowd::{connect_from, quantile, reset};
use common::{RawClient, TestServer, by_tier, eventually};
use packetboat::server::raise_descriptor_limit;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

/// Logs in and out, and gives how long the login took.
fn visit(server: &TestServer) -> Duration {
    let asked_at = Instant::now();
    let mut honest = server.login("honest quiet");
    let took = asked_at.elapsed();
    honest.send("QUIT\n");
    honest.rest();
    took
}

/// Prints the 99th percentile; the goals' figure binds at night, on a machine that does nothing else.
fn judge(what: &str, logins: &mut [Duration], night_max: Duration) {
    let p99 = quantile(logins, 0.99);
    println!("{what}: login p99 {p99:?} of {}", logins.len());
    assert!(p99 <= by_tier(Duration::from_secs(10), night_max), "{what}: {p99:?}");
}

#[test]
fn r7_a_crowd_that_was_kept_waiting_comes_in() {
    let server = TestServer::start(&[]);
    // All have connected and spoken before the first is accepted.
    server.signal(Signal::STOP);
    let mut crowd: Vec<RawClient> = (0..500).map(|_| server.connect()).collect();
    for (number, client) in crowd.iter_mut().enumerate() {
        client.send(format!("HELLO_n{number} quiet\n"));
    }
    server.signal(Signal::CONT);
    for (number, client) in crowd.iter_mut().enumerate() {
        assert_eq!(client.line(), format!("WELCOME_n{number} v=1 max=4096"));
    }
}

#[test]
fn r7_slowloris_from_a_thousand_addresses() {
    raise_descriptor_limit();
    let (connections, rounds) = by_tier((500, 1), (10_000, 3));
    let server = TestServer::start(&[]);
    visit(&server);
    let (rss_before, threads_before) = (server.status("VmRSS"), server.status("Threads"));
    let mut strangers: Vec<TcpStream> = Vec::new();
    let (mut logins, mut threads_max, mut rss_max) = (Vec::new(), 0, 0);
    for round in 0..rounds {
        for number in 0..connections {
            // Who was sent away comes back.
            if round == 0 {
                strangers.push(connect_from(number, server.addr));
            } else if strangers[number].write_all(b"E").is_err() {
                strangers[number] = connect_from(number, server.addr);
            }
            let _ = strangers[number].write_all(b"H");
            if number % 50 == 0 {
                logins.push(visit(&server));
                threads_max = threads_max.max(server.status("Threads"));
                rss_max = rss_max.max(server.status("VmRSS"));
            }
        }
    }
    judge("R7", &mut logins, Duration::from_millis(250));
    let grown_kib = rss_max.saturating_sub(rss_before);
    println!("R7: {connections} x {rounds} strangers, RSS +{grown_kib} KiB, {threads_max} threads");
    assert!(grown_kib <= 64 * 1024 && threads_max <= 4096 + 16);
    eventually("64 strangers are left", || server.status("Threads") <= threads_before + 64);
}

#[test]
fn r10_a_flood_of_resets_leaves_nothing_behind() {
    const PER_S: u32 = 5_000;
    let total = by_tier(2_000, 30 * PER_S);
    let server = TestServer::start(&[]);
    let (threads, descriptors) = (server.status("Threads"), server.descriptors());
    let (addr, over) = (server.addr, AtomicBool::new(false));
    let (mut logins, took) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let began = Instant::now();
            for number in 0..total {
                let due = began + Duration::from_secs(1) / PER_S * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                reset(TcpStream::connect(addr).expect("connected"));
            }
            over.store(true, Ordering::Relaxed);
            began.elapsed()
        });
        let mut logins = Vec::new();
        while !over.load(Ordering::Relaxed) {
            logins.push(visit(&server));
        }
        (logins, flood.join().expect("no panic"))
    });
    judge("R10", &mut logins, Duration::from_millis(500));
    let ended_at = Instant::now();
    eventually("as before", || server.status("Threads") <= threads && server.descriptors() <= descriptors);
    println!("R10: {total} resets in {took:?}, as before after {:?}", ended_at.elapsed());
    assert!(ended_at.elapsed() < by_tier(common::PATIENCE, Duration::from_secs(5)));
}

#[test]
fn r14_nothing_is_left_of_those_who_have_left() {
    const AT_ONCE: usize = 200;
    let (logins, crowd) = by_tier((2_000, 200), (100_000, 500));
    let server = TestServer::start(&["-q"]);
    let mut observer = server.login("observer quiet");
    let mut come_and_go = |logins: usize| {
        let mut members = std::collections::VecDeque::new();
        for number in 0..logins {
            members.push_back(server.login(&format!("n{number} quiet")));
            if members.len() <= AT_ONCE {
                continue;
            }
            let mut leaving = members.pop_front().expect("200 of them");
            match number % 3 {
                0 => leaving.send("QUIT\n"),
                1 => reset(leaving.stream.try_clone().expect("a descriptor")),
                _ => {}
            }
        }
        drop(members);
        let all = (0..crowd).map(|number| server.login(&format!("c{number} quiet"))).collect::<Vec<_>>();
        drop(all);
        // Asked as fast as one may.
        eventually("all have left", || observer.ask("WHO").starts_with("USERS_1 "));
        eventually("their threads too", || server.status("Threads") <= 6 && server.descriptors() <= 20);
        (server.status("Threads"), server.descriptors(), server.status("VmRSS"))
    };
    let (threads, descriptors, rss) = come_and_go(AT_ONCE * 2);
    let after = come_and_go(logins);
    println!(
        "R14: {logins} logins; threads, descriptors, RSS: {threads}, {descriptors}, {rss} KiB, then {after:?}"
    );
    // The last of them may still have been ending when they were counted.
    eventually("no more than at first", || {
        server.status("Threads") <= threads && server.descriptors() <= descriptors
    });
    assert!(after.2 <= rss + 4 * 1024, "grown from {rss} to {} KiB", after.2);
}

#[test]
fn r14_a_member_costs_little_memory() {
    const MEMBERS: usize = 300;
    let server = TestServer::start(&["-q"]);
    let come = |from: usize| -> Vec<RawClient> {
        let mut members: Vec<RawClient> =
            (from..from + MEMBERS).map(|number| server.login(&format!("n{number} quiet"))).collect();
        for (number, member) in (from..).zip(&mut members) {
            // A long line too, whose memory is not kept.
            let text = "x".repeat(1_500);
            assert_eq!(member.ask(format!("PM_n{number} {text}")), format!("PM_n{number} {text}"));
            assert_eq!(member.ask("PING_x"), "PONG_x");
        }
        members
    };
    // The first also fill what is there for all.
    let first = come(0);
    let before = server.anonymous_kib();
    let second = come(MEMBERS);
    let bytes = (server.anonymous_kib() - before) * 1024 / MEMBERS as u64;
    println!("R14: {bytes} octets of memory for each member");
    // Two pages of stack, a short buffer for lines and what names it: 10,000 members are to fit into 150 MB.
    let bytes_max = 2 * 1024 * server.page_kib() + 6 * 1024;
    assert!(bytes <= bytes_max, "{bytes} of {bytes_max}: a page of stack more, or another kilobyte or two");
    drop((first, second));
}

#[test]
fn r8_who_is_answered_whole_in_a_room_of_long_nicks() {
    raise_descriptor_limit();
    // Letters of four octets: the nicks of 1,000 are 97 KB, and a queue here holds 16.
    let members = by_tier(1_000, 4_000);
    let server = TestServer::start(&["--max-outbox", "16K"]);
    let nick = |number: usize| -> String {
        let digits: Vec<usize> = (0..24).map(|place| number / 16_usize.pow(place.min(6)) % 16).collect();
        digits
            .into_iter()
            .map(|digit| char::from_u32(0x10330 + u32::try_from(digit).expect("a digit")).expect("Gothic"))
            .collect()
    };
    let room: Vec<RawClient> =
        (0..members).map(|number| server.login(&format!("{} quiet", nick(number)))).collect();
    // The system itself takes little for this one: small segments, a small buffer.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket");
    socket.set_tcp_mss(536).expect("a socket");
    socket.connect(&server.addr.into()).expect("connected");
    let mut curious = RawClient::over(socket.into());
    assert_eq!(curious.ask("HELLO_curious quiet"), "WELCOME_curious v=1 max=4096");
    curious.send("WHO\nWHO\nPING_end\n");
    for _ in 0..2 {
        let mut named = 0;
        while named < members + 1 {
            let line = curious.line();
            let mut fields = line.split(' ');
            assert_eq!(fields.next(), Some(format!("USERS_{}", members + 1).as_str()), "{line}");
            named += fields.count();
        }
    }
    assert_eq!(curious.line(), "PONG_end");
    drop(room);
}
