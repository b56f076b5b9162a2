//! The conversation of the README, typed by hand.

mod common;

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::TestServer;

/// What is typed, and what comes back.
const TYPED: [&str; 7] = [
    "HELLO_alice",
    "ALL_snake_case stays_whole",
    r"PM_bob_b see you\nat 5",
    "WHO",
    "FILES",
    "nonsense",
    "QUIT",
];
const GOLDEN: &str = "\
WELCOME_alice v=1 max=4096
MSG_alice snake_case stays_whole
USERS_2 alice bob_b
FILES_2
FILE_67739648 2026-11-20T10:00:00Z big video.mp4
FILE_70558 2026-11-20T10:00:00Z lore.txt
ERR_unknown nonsense no such request
BYE_
";

fn fill(files: &Path) {
    // 2026-11-20T10:00:00Z
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_168_800);
    for (name, len) in [("lore.txt", 70_558), ("big video.mp4", 67_739_648)] {
        let file = File::create(files.join(name)).expect("a file");
        file.set_len(len).expect("sparse");
        file.set_modified(mtime).expect("its owner may");
    }
}

#[test]
fn r42_typed_by_hand() {
    let server = TestServer::start_with(&[], fill);
    let mut bob = server.login("bob_b");
    for line_end in ["\n", "\r\n"] {
        let mut alice = server.connect();
        for line in TYPED {
            alice.send(format!("{line}{line_end}"));
        }
        alice.finish();
        let answers = alice.rest_bytes();
        assert_eq!(String::from_utf8_lossy(&answers), GOLDEN, "lines that end with {line_end:?}");
        for heard in
            ["JOIN_alice", "MSG_alice snake_case stays_whole", r"PM_alice see you\nat 5", "LEAVE_alice"]
        {
            assert_eq!(bob.line(), heard);
        }
    }
}

#[test]
fn r42_line_by_line_and_half_closed_without_quit() {
    let server = TestServer::start_with(&[], fill);
    let _bob = server.login("bob_b");
    let mut alice = server.connect();
    let mut golden = GOLDEN.lines();
    for (line, answer_count) in TYPED[..6].iter().zip([1, 1, 0, 1, 3, 1]) {
        alice.send(format!("{line}\n"));
        for _ in 0..answer_count {
            assert_eq!(Some(alice.line().as_str()), golden.next(), "after {line}");
        }
    }
    alice.send("WHO\nPING_last");
    alice.finish();
    assert_eq!(
        alice.rest(),
        ["USERS_2 alice bob_b"],
        "what was whole is answered, although the input has ended"
    );
}

#[test]
fn r42_the_first_line_tells_where_to_go() {
    let server = TestServer::start_with(&[], fill);
    let line = &server.greeting;
    let host = SocketAddr::new(common::host(), 0).to_string();
    let begin =
        format!("packetboat {} listening on {}", env!("CARGO_PKG_VERSION"), host.trim_end_matches('0'));
    let rest = line.strip_prefix(&begin);
    let (port, rest) = rest.and_then(|rest| rest.split_once(" (udp ")).expect(line);
    let (udp, rest) = rest.split_once("), 2 files in ").expect(line);
    assert_eq!(port.parse(), Ok(server.addr.port()));
    assert!(udp.parse::<u16>().is_ok() && rest.ends_with("files\n"), "{line:?}");
}
