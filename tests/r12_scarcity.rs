//! A system that grants little: descriptors, and what is said about it (R12; refused threads, R13, are tested in
//! `server::listener`).

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, RawClient, TestServer, by_tier};

/// A server that may have so many descriptors.
fn with_descriptors(count: u32, args: &[&str]) -> TestServer {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_server")]);
    TestServer::spawn(command, args, |_| {})
}

/// The share of a core that the server uses while these two talk, a line each half second.
fn load_while_talking(server: &TestServer, alice: &mut RawClient, bob: &mut RawClient) -> f64 {
    let (lines, pause) = (by_tier(4, 20), Duration::from_millis(500));
    let (used, began) = (server.processor_time(), Instant::now());
    for number in 0..lines {
        alice.send(format!("ALL_{number}\n"));
        assert_eq!(bob.line_but(&["JOIN_", "LEAVE_"]), format!("MSG_alice {number}"));
        std::thread::sleep(pause);
    }
    let used = server.processor_time() - used;
    used.as_secs_f64() / began.elapsed().as_secs_f64()
}

#[test]
fn r12_what_the_system_allows_is_said_at_the_start() {
    let server = with_descriptors(2048, &["--max-clients", "12000"]);
    let log = server.log();
    let line = log.lines().next().unwrap_or_default();
    assert!(line.contains(" clients, and 12000 are wanted: raise `ulimit -n`"), "{log}");
    let allowed =
        line.split_once("this system allows ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    assert!((1_700..1_800).contains(&allowed.unwrap_or(0)), "{log}");
    let server = TestServer::start(&["--max-clients", "10"]);
    assert!(!server.log().contains("this system allows"), "nothing is scarce: {}", server.log());
}

#[test]
fn r12_few_descriptors_serve_few_people_well() {
    let server = with_descriptors(64, &["--login-timeout", "3600"]);
    let (mut alice, mut bob) = (server.login("alice"), server.login("bob"));
    let strangers: Vec<RawClient> = (0..200).map(|_| server.connect()).collect();
    // They come and go without a word, and there is always a place for who has something to say: not only when they are
    // sent away, after an hour here.
    let asked_at = Instant::now();
    let mut late = server.login("late");
    assert!(asked_at.elapsed() < PATIENCE, "{:?}", asked_at.elapsed());
    late.send("QUIT\n");
    let load = load_while_talking(&server, &mut alice, &mut bob);
    println!("R12: {:.1} % of a core", load * 100.0);
    assert!(load <= 0.05, "{load}");
    // As many as there are descriptors for; the next hears why not.
    let mut members = Vec::new();
    let refusal = loop {
        let mut client = server.connect();
        let line = client.ask(format!("HELLO_n{} quiet", members.len()));
        if !line.starts_with("WELCOME_") {
            break line;
        }
        members.push(client);
    };
    assert_eq!(refusal, "ERR_busy HELLO the room is full");
    assert!((20..60).contains(&members.len()), "{}", members.len());
    assert!(server.log().lines().count() <= 20 + members.len(), "{}", server.log());
    drop(strangers);
}

#[test]
fn r12_descriptors_that_run_out_stop_nobody_who_is_in() {
    let server = TestServer::start(&[]);
    let (mut alice, mut bob) = (server.login("alice"), server.login("bob"));
    let granted = server.limit_descriptors(server.descriptors() as u64 + 2);
    let strangers: Vec<RawClient> = (0..200).map(|_| server.connect()).collect();
    let mut late = server.connect();
    late.send("HELLO_late\n");
    let load = load_while_talking(&server, &mut alice, &mut bob);
    println!("R12: {:.1} % of a core without descriptors", load * 100.0);
    assert!(load <= 0.05, "{load}");
    let log = server.log();
    assert!(log.contains("cannot accept connections for now") && log.contains("raise `ulimit -n`"), "{log}");
    assert!(log.lines().count() <= 20, "{log}");
    server.limit_descriptors(granted);
    let freed_at = Instant::now();
    assert_eq!(late.line(), "WELCOME_late v=1 max=4096");
    println!("R12: a login {:?} after there were descriptors again", freed_at.elapsed());
    assert!(freed_at.elapsed() < by_tier(PATIENCE, Duration::from_secs(1)));
    drop(strangers);
}
