//! K1: a room that is in use for long is what it was at the start: memory, threads, descriptors, answers, files.
//!
//! On every push three seconds with 20 clients; at night 20 minutes with 200 (`PACKETBOAT_SOAK_SECONDS`). The goal is a day.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::files::{MIB, UdpEnd, content, fetch_tcp, offered};
use common::{PATIENCE, RawClient, TestServer, by_tier, eventually};
use crossbeam_channel::{Receiver, tick};

/// One client speaks so often: just below what the server takes.
const SPEAK_EVERY: Duration = Duration::from_millis(205);

const CHURN_EVERY: Duration = Duration::from_secs(1);

const TRANSFERS: usize = 10;

/// What is counted while it runs.
#[derive(Default)]
struct Tally {
    is_over: AtomicBool,
    heard: AtomicU64,
    fetched: AtomicU64,
    churned: AtomicU64,
    /// When, since the start, and how long a message took to come back to its speaker.
    delays: Mutex<Vec<(Duration, Duration)>>,
}

/// The server's state at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    rss_kib: u64,
    threads: u64,
    descriptors: usize,
}

/// Waits for the next turn; `false` when it is over.
fn wait(turns: &Receiver<Instant>, tally: &Tally) -> bool {
    let _ = turns.recv_timeout(PATIENCE);
    !tally.is_over.load(Ordering::Relaxed)
}

/// Speaks, and hears everything that anybody says.
fn chat(mut client: RawClient, number: usize, began: Instant, tally: &Tally) {
    let reader: TcpStream = client.stream.try_clone().expect("a descriptor");
    let mine = format!("MSG_client{number} ");
    thread::scope(|scope| {
        scope.spawn(move || {
            for line in BufReader::new(reader).lines() {
                let line = line.expect("a line in time");
                tally.heard.fetch_add(1, Ordering::Relaxed);
                if let Some(said_at) = line.strip_prefix(&mine) {
                    let said_at = Duration::from_micros(said_at.parse().expect("a time"));
                    let now = began.elapsed();
                    tally.delays.lock().expect("no panic").push((now, now.saturating_sub(said_at)));
                }
            }
        });
        let turns = tick(SPEAK_EVERY);
        while wait(&turns, tally) {
            let line = format!("ALL_{}\n", began.elapsed().as_micros());
            client.stream.write_all(line.as_bytes()).expect("written");
        }
        client.send("QUIT\n");
    });
}

/// Fetches the file again and again.
fn fetch(mut client: RawClient, transport: &str, file: &[u8], tally: &Tally) {
    let udp = UdpEnd::new();
    let digest = blake3::hash(file);
    let others = ["MSG_", "JOIN_", "LEAVE_", "DONE_"];
    while !tally.is_over.load(Ordering::Relaxed) {
        client.send(format!("GET_{transport} soak.bin\n"));
        let offer = offered(&client.line_but(&others));
        let server = client.stream.peer_addr().expect("connected");
        // Both verify: the sink its digest, and here the octets.
        let octets = match transport {
            "udp" => udp.fetch((server.ip(), offer.port).into(), &offer, digest),
            _ => fetch_tcp(server, &offer.secret),
        };
        assert!(octets == file, "a damaged file over {transport}");
        client.send(format!("DONE_{} ok\n", offer.id));
        tally.fetched.fetch_add(1, Ordering::Relaxed);
    }
    client.send("QUIT\n");
    client.rest_bytes();
}

fn churn(server: &TestServer, tally: &Tally) {
    let turns = tick(CHURN_EVERY);
    while wait(&turns, tally) {
        let mut passer_by = server.login("passer-by");
        passer_by.send("QUIT\n");
        passer_by.rest_bytes();
        tally.churned.fetch_add(1, Ordering::Relaxed);
    }
}

/// The 99th of 100 delays in this part of the time.
fn p99(delays: &[(Duration, Duration)], from: Duration, to: Duration) -> Duration {
    let mut part: Vec<Duration> =
        delays.iter().filter(|(at, _)| (from..to).contains(at)).map(|&(_, delay)| delay).collect();
    part.sort_unstable();
    part.get(part.len() * 99 / 100).copied().unwrap_or_default()
}

#[test]
fn k1_a_room_in_use_stays_as_it_was() {
    let seconds = std::env::var("PACKETBOAT_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(by_tier(3, 20 * 60)));
    let clients = by_tier(20, 200);
    let file = content(MIB, 1);
    let server =
        TestServer::start_with(&[], |files| fs::write(files.join("soak.bin"), &file).expect("written"));
    let state = |began: Instant| Sample {
        at: began.elapsed(),
        rss_kib: server.status("VmRSS"),
        threads: server.status("Threads"),
        descriptors: server.descriptors(),
    };
    let began = Instant::now();
    let before = state(began);
    let tally = Tally::default();
    let mut samples = Vec::new();
    thread::scope(|scope| {
        let tally = &tally;
        for number in 0..clients {
            let client = server.login(&format!("client{number} quiet"));
            scope.spawn(move || chat(client, number, began, tally));
        }
        for number in 0..TRANSFERS {
            let client = server.login(&format!("fetcher{number} quiet"));
            let (transport, file) = (common::files::TRANSPORTS[number % 2], &file);
            scope.spawn(move || fetch(client, transport, file, tally));
        }
        scope.spawn(|| churn(&server, tally));
        let turns = tick(length / 60);
        while began.elapsed() < length {
            let _ = turns.recv_timeout(PATIENCE);
            samples.push(state(began));
        }
        tally.is_over.store(true, Ordering::Relaxed);
    });
    let delays = tally.delays.into_inner().expect("no panic");
    let (early, late) = (p99(&delays, length / 4, length / 2), p99(&delays, length * 3 / 4, length));
    let most = |from: Duration, to: Duration, of: fn(&Sample) -> u64| {
        samples.iter().filter(|sample| (from..to).contains(&sample.at)).map(of).max().unwrap_or_default()
    };
    let rss = |sample: &Sample| sample.rss_kib;
    let (rss_early, rss_late) = (most(length / 4, length / 2, rss), most(length * 3 / 4, length * 2, rss));
    println!(
        "k1: {length:?}, {clients} clients: {} lines heard, {} MiB fetched, {} came and went; RSS {rss_early} and \
         {rss_late} KiB, p99 {early:?} and {late:?}, threads up to {}",
        tally.heard.load(Ordering::Relaxed),
        tally.fetched.load(Ordering::Relaxed),
        tally.churned.load(Ordering::Relaxed),
        most(Duration::ZERO, length * 2, |sample| sample.threads),
    );
    assert!(tally.fetched.load(Ordering::Relaxed) >= TRANSFERS as u64 && !delays.is_empty());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert!(rss_late <= rss_early + 1_024, "RSS grows: {rss_early} KiB, then {rss_late} KiB");
    eventually("threads and descriptors are as before", || {
        let now = state(began);
        (now.threads, now.descriptors) == (before.threads, before.descriptors)
    });
    let mut last = server.login("last");
    assert_eq!(last.ask("WHO"), "USERS_1 last");
}
