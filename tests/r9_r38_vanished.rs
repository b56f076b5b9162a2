//! Clients that stand still, vanish or are told good-bye, with what they were moving (R9, R11, R38).
//!
//! On every push a member may be silent for 5 s; at night it is the 150 s of the default, and R9 has its own times.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::files::{MIB, UdpEnd, content, names, stream};
use common::{RawClient, TestServer, by_tier, eventually};
use rustix::process::{Pid, Signal, kill_process};

/// When a silent member is asked, and when it is sent away.
fn silence() -> (Duration, Duration) {
    let seconds = by_tier((1, 5), (90, 150));
    (Duration::from_secs(seconds.0), Duration::from_secs(seconds.1))
}

fn server() -> TestServer {
    let (ping_after, max) = silence();
    TestServer::start(&[
        "--ping-after",
        &ping_after.as_secs().to_string(),
        "--max-silence",
        &max.as_secs().to_string(),
    ])
}

/// Hears lines, and answers each PING, until one of this beginning comes.
fn wait_for(client: &mut RawClient, beginning: &str) -> String {
    client.stream.set_read_timeout(Some(silence().1 * 2 + common::PATIENCE)).expect("a socket");
    loop {
        let line = client.line();
        if line.starts_with("PING_") {
            client.send("PONG_\n");
        } else if line.starts_with(beginning) {
            return line;
        }
    }
}

/// How much of an upload the server has noted.
fn noted(server: &TestServer, name: &str) -> u64 {
    let text = fs::read_to_string(server.files().join(format!(".{name}.part.state"))).unwrap_or_default();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    state["written"].as_u64().unwrap_or_default()
}

#[test]
fn r11_who_has_vanished_is_noticed_and_its_upload_kept() {
    let server = server();
    let (ping_after, silence_max) = silence();
    let mut observer = server.login("observer");
    let mut vanished = server.login("vanished");
    let file = content(4 * MIB, 11);
    let accept = vanished.put("tcp", file.len(), "half.bin");
    // A cable that is cut, a machine that sleeps: neither an end nor a reset ever comes.
    let _stream = stream(server.addr, &accept.secret, &file[..2 * MIB]);
    let silent_since = Instant::now();
    assert_eq!(wait_for(&mut observer, "LEAVE_"), "LEAVE_vanished");
    let gone_after = silent_since.elapsed();
    println!("R11: gone after {gone_after:?}");
    let slack = by_tier(common::PATIENCE, Duration::from_secs(5));
    assert!(
        gone_after + Duration::from_millis(500) > silence_max && gone_after < silence_max + slack,
        "{gone_after:?}"
    );
    let mut rest = vanished.rest();
    // A stream that stands still is given up after a minute.
    rest.retain(|line| !line.starts_with("DONE_"));
    let last = format!("ERR_timeout - nothing was heard for {} s", silence_max.as_secs());
    assert_eq!(rest[0], "PING_", "asked after {ping_after:?}");
    assert!(rest.ends_with(&[last, "BYE_timeout".into()]), "{rest:?}");
    // The nick is free, and so is the upload.
    let mut back = server.login("vanished quiet");
    let again = back.put_again("tcp", file.len(), &accept.resume_token, "half.bin");
    assert_eq!(again.prefix.map(|prefix| prefix.offset), Some(2 * MIB as u64));
    back.deliver(&UdpEnd::new(), "tcp", &again, &file);
    assert_eq!(wait_for(&mut back, "DONE_"), format!("DONE_{} ok", again.id));
    assert_eq!(names(&server.files()), ["half.bin"]);
}

/// The client program, listening; killed when dropped.
struct Listening {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Listening {
    fn start(server: &TestServer, nick: &str) -> Listening {
        let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
        command.args([&server.addr.to_string(), nick, "listen", "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut listening = Listening { child, lines };
        listening.event("welcome");
        listening
    }

    /// The next event of this type.
    fn event(&mut self, kind: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("UTF-8") > 0, "it has ended before {kind}");
            let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if event["type"] == kind {
                return event;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn r9_a_client_that_stands_still_for_a_moment_loses_nothing() {
    let server = TestServer::start(&["--no-rate-limit"]);
    let mut listening = Listening::start(&server, "sleepy");
    let mut alice = server.login("alice quiet");
    listening.signal(Signal::STOP);
    let (began, mut said) = (Instant::now(), 0);
    while began.elapsed() < by_tier(Duration::from_secs(1), Duration::from_secs(5)) {
        assert_eq!(alice.ask(format!("ALL_{said}")), format!("MSG_alice {said}"));
        said += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    listening.signal(Signal::CONT);
    for number in 0..said {
        assert_eq!(listening.event("message")["text"], number.to_string());
    }
    println!("R9: {said} lines during {:?} of standstill, none lost", began.elapsed());
}

#[test]
fn r9_a_client_that_stands_still_for_long_is_dropped() {
    let server = server();
    let listening = Listening::start(&server, "sleepy");
    let mut observer = server.login("observer quiet");
    assert_eq!(observer.ask("WHO"), "USERS_2 observer sleepy");
    listening.signal(Signal::STOP);
    let stopped_at = Instant::now();
    // Nobody is told when a quiet one leaves. Asked as fast as one may.
    while observer.ask("WHO") != "USERS_1 observer" {
        assert!(stopped_at.elapsed() < silence().1 + common::PATIENCE, "it is still there");
    }
    let took = stopped_at.elapsed();
    assert!(took + Duration::from_millis(500) > silence().1, "{took:?}: {}", server.log());
    println!("R9: dropped after {took:?} of standstill");
    assert_eq!(server.connect().ask("HELLO_sleepy quiet"), "WELCOME_sleepy v=1 max=4096");
}

#[test]
fn r9_a_server_that_stands_still_loses_nobody() {
    let server = server();
    let file = content(64 * MIB, 9);
    fs::write(server.files().join("large.bin"), &file).expect("a file");
    let mut listening = Listening::start(&server, "listener");
    // One who answers when it is asked, and who would not come back by itself.
    let home = tempfile::tempdir().expect("a folder");
    let mut fetching = Command::new(env!("CARGO_BIN_EXE_client"));
    fetching.args([&server.addr.to_string(), "alice", "get", "large.bin", "--udp", "--reconnect-for", "0"]);
    fetching.args(["-y", "-o", "got.bin"]).current_dir(&home).stdin(Stdio::null());
    let fetching = fetching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // The transfer is under way, or is over on a machine this fast; both must do.
    eventually("the offer is taken up", || server.log().contains("transfer 1"));
    server.signal(Signal::STOP);
    std::thread::sleep(by_tier(Duration::from_secs(6), Duration::from_secs(10)));
    server.signal(Signal::CONT);
    let output = fetching.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    assert!(fs::read(home.path().join("got.bin")).expect("fetched") == file, "identical");
    let mut bob = server.login("bob quiet");
    bob.send("ALL_all here\n");
    assert_eq!(listening.event("message")["text"], "all here");
}

#[test]
fn r38_sigterm_lets_transfers_reach_a_checkpoint() {
    let mut server = TestServer::start(&["--no-rate-limit"]);
    fs::write(server.files().join("large.bin"), content(64 * MIB, 1)).expect("a file");
    let mut bystanders: Vec<RawClient> =
        (0..50).map(|number| server.login(&format!("m{number} quiet"))).collect();
    let mut alice = server.login("alice quiet");
    let file = content(8 * MIB, 38);
    // Three streams that stand still, two that are packets under way, and a download that nobody reads.
    let (slow, mut uploads, mut streams, mut sendings) = (UdpEnd::slow(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..5 {
        let (transport, name) = (if number < 3 { "tcp" } else { "udp" }, format!("upload {number}"));
        let accept = alice.put(transport, file.len(), &name);
        if number < 3 {
            streams.push(stream(server.addr, &accept.secret, &file[..(2 * number + 2) * MIB + 4_321]));
        } else {
            sendings.push(slow.send(server.addr.ip(), &accept, &file, 0..file.len() as u64));
        }
        uploads.push((name, accept));
    }
    let offer = common::files::offered(&alice.ask("GET_tcp large.bin"));
    let _unread = stream(server.addr, &offer.secret, &[]);
    eventually("some of each is here", || {
        let has = |(name, _): &(String, _)| {
            fs::metadata(server.files().join(format!(".{name}.part")))
                .is_ok_and(|part| part.len() >= MIB as u64)
        };
        uploads.iter().all(has)
    });
    let (status, took) = server.terminate();
    println!("R38: ended in {took:?}");
    assert!(
        status.success() && took < by_tier(common::PATIENCE, Duration::from_secs(5)),
        "{status}, {took:?}: {}",
        server.log()
    );
    for member in &mut bystanders {
        assert_eq!(member.rest(), ["SYS_the server closes", "BYE_the server closes"]);
    }
    let log = server.log();
    assert!(!log.contains("did not end in time"), "{log}");
    let visible: Vec<String> =
        names(&server.files()).into_iter().filter(|name| !name.starts_with('.')).collect();
    assert_eq!(visible, ["large.bin"], "nothing incomplete has a name");
    // Every whole MiB that had come is noted.
    let mut checkpoints = Vec::new();
    for (name, _) in &uploads {
        let noted = noted(&server, name);
        assert!(noted >= MIB as u64, "{name}: {noted} octets noted");
        checkpoints.push(noted);
    }
    println!("R38: checkpoints {checkpoints:?}");
    let server = server.restart(&["--no-rate-limit"]);
    let (mut alice, udp) = (server.login("alice quiet"), UdpEnd::new());
    for ((name, accept), noted) in uploads.iter().zip(checkpoints) {
        let again = alice.put_again("tcp", file.len(), &accept.resume_token, name);
        let whole_mib = noted / MIB as u64 * MIB as u64;
        assert_eq!(again.prefix.map(|prefix| prefix.offset), Some(whole_mib), "{name}");
        alice.deliver(&udp, "tcp", &again, &file);
        assert_eq!(alice.line(), format!("DONE_{} ok", again.id));
        assert_eq!(alice.line(), format!("SHARED_alice {} {name}", file.len()));
        assert!(fs::read(server.files().join(name)).expect("there") == file, "{name}");
    }
}
