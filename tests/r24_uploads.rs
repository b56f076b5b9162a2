//! What may be put on the shelf, and how much of it at once: each limit, and one beyond.

mod common;

use std::fs;
use std::io::Read as _;
use std::path::Path;

use common::files::{MIB, TRANSPORTS, UdpEnd, content, names, offered, promise, stream};
use common::{RawClient, TestServer, eventually};

const FULL: &str = "ERR_too-large PUT the shelf has no room for so much";

/// One file that is large enough to be under way for as long as a test wants.
fn with_video(files: &Path) {
    fs::File::create(files.join("video")).and_then(|file| file.set_len(64 << 20)).expect("sparse");
}

/// Offers a file over TCP and takes the offer back; whether it would have been taken.
fn takes(client: &mut RawClient, size: usize) -> bool {
    let answer = client.ask(format!("PUT_tcp {size} - probe"));
    let Some(rest) = answer.strip_prefix("ACCEPT_") else {
        assert_eq!(answer, FULL);
        return false;
    };
    let id = rest.split(' ').next().expect("a number");
    client.send(format!("DONE_{id} cancelled\n"));
    true
}

#[test]
fn r24_a_server_that_takes_no_files() {
    let server = TestServer::start_with(&["--no-uploads"], with_video);
    let mut alice = server.login("alice");
    for transport in TRANSPORTS {
        for name in ["a", "video"] {
            let answer = alice.ask(format!("PUT_{transport} 1 - {name}"));
            assert_eq!(answer, "ERR_no-uploads PUT this server takes no files");
        }
    }
    assert_eq!(alice.ask("FILES"), "FILES_1");
    assert!(alice.line().ends_with(" video"));
    assert_eq!(names(&server.files()), ["video"]);
}

#[test]
fn r24_the_largest_file_and_one_octet_more() {
    let server = TestServer::start(&["--max-upload", "1000", "--no-rate-limit"]);
    let udp = UdpEnd::new();
    let mut alice = server.login("alice");
    for transport in TRANSPORTS {
        let answer = alice.ask(format!("PUT_{transport} 1001 - more"));
        assert_eq!(answer, "ERR_too-large PUT a file may have 1000 bytes at most here");
        assert!(alice.put_whole(&udp, transport, &content(1000, 1), transport).ends_with(" ok"));
        assert_eq!(alice.line(), format!("SHARED_alice 1000 {transport}"));
    }
    assert_eq!(names(&server.files()), ["tcp", "udp"]);
}

#[test]
fn r24_the_shelf_counts_files_leftovers_and_uploads_under_way() {
    let server = TestServer::start_with(&["--max-shelf", "8M", "--no-rate-limit"], |files| {
        fs::write(files.join("one"), content(MIB, 1)).expect("a file");
    });
    let mut alice = server.login("alice quiet");
    let mut bob = server.login("bob quiet");
    let udp = UdpEnd::new();
    assert!(takes(&mut alice, 7 * MIB) && !takes(&mut alice, 7 * MIB + 1), "a file");
    // A leftover of 2 MiB.
    let file = content(3 * MIB, 2);
    let mut cut = bob.put("tcp", file.len(), "half");
    assert!(takes(&mut alice, 4 * MIB) && !takes(&mut alice, 4 * MIB + 1), "an open offer");
    drop(stream(server.addr, &cut.secret, &file[..2 * MIB]));
    assert_eq!(bob.line(), format!("DONE_{} incomplete", cut.id));
    assert!(takes(&mut alice, 5 * MIB) && !takes(&mut alice, 5 * MIB + 1), "a leftover");
    // What is there already of an upload that goes on is not wanted twice.
    fs::write(server.files().join("four"), content(4 * MIB, 1)).expect("a file");
    for transport in TRANSPORTS {
        cut = bob.put_again(transport, file.len(), &cut.resume_token, "half");
        assert_eq!(cut.prefix.map(|prefix| prefix.offset), Some(2 << 20));
        assert!(takes(&mut alice, 0) && !takes(&mut alice, 1), "it is full with that");
        if transport == "tcp" {
            drop(stream(server.addr, &cut.secret, b""));
            assert_eq!(bob.line(), format!("DONE_{} incomplete", cut.id));
        }
    }
    bob.deliver(&udp, "udp", &cut, &file);
    assert_eq!(bob.line(), format!("DONE_{} ok", cut.id));
    assert_eq!(alice.line(), format!("SHARED_bob {} half", file.len()));
    assert!(takes(&mut alice, 0) && !takes(&mut alice, 1), "a full shelf");
    assert_eq!(names(&server.files()), ["four", "half", "one"]);
}

#[test]
fn r24_offers_of_both_directions_are_counted_together() {
    let server = TestServer::start_with(&["--no-rate-limit"], with_video);
    let mut alice = server.login("alice quiet");
    let mut bob = server.login("bob quiet");
    for (number, transport) in [(1, "tcp"), (2, "udp")] {
        assert!(alice.line_after_done(format!("GET_{transport} video")).starts_with("OFFER_"));
        assert!(alice.line_after_done(format!("PUT_{transport} 9 - mine {number}")).starts_with("ACCEPT_"));
    }
    for transport in TRANSPORTS {
        let words = "you have offers open that nobody has taken up";
        let refused = alice.line_after_done(format!("PUT_{transport} 9 - mine 3"));
        assert_eq!(refused, format!("ERR_busy PUT {words}"));
        let refused = alice.line_after_done(format!("GET_{transport} video"));
        assert_eq!(refused, format!("ERR_busy GET {words}"));
    }
    let accept = bob.put("tcp", 4, "bob's");
    let udp = UdpEnd::new();
    bob.deliver(&udp, "tcp", &accept, b"four");
    assert_eq!(bob.line(), format!("DONE_{} ok", accept.id), "others are not affected");
    alice.send("QUIT\n");
    alice.rest();
    eventually("nothing left of hers", || names(&server.files()) == ["bob's", "video"]);
}

#[test]
fn r24_transfers_of_both_directions_are_counted_together() {
    let server = TestServer::start_with(&["--no-rate-limit"], with_video);
    let mut alice = server.login("alice quiet");
    let mut streams = Vec::new();
    let mut uploads = Vec::new();
    for number in 0..4 {
        let offer = offered(&alice.line_after_done("GET_tcp video".into()));
        let mut download = stream(server.addr, &offer.secret, b"");
        download.read_exact(&mut [0; 1000]).expect("it has begun");
        streams.push(download);
        let line = alice.line_after_done(format!("PUT_tcp 4 - mine {number}"));
        let accept = common::files::accepted(&line);
        uploads.push((stream(server.addr, &accept.secret, b"fou"), accept));
    }
    let words = "you have as many transfers as one may have";
    // An offer counts as one while its connection has not been seen.
    eventually("the ninth is one too many", || {
        let refused = alice.line_after_done("PUT_udp 4 - mine 9".into());
        assert!(refused.starts_with("ERR_busy PUT "), "{refused}");
        refused == format!("ERR_busy PUT {words}")
    });
    assert_eq!(alice.line_after_done("GET_udp video".into()), format!("ERR_busy GET {words}"));
    for (mut upload, accept) in uploads {
        std::io::Write::write_all(&mut upload, b"r").expect("written");
        upload.shutdown(std::net::Shutdown::Write).expect("connected");
        alice.send(promise(accept.id, b"four"));
        let done = alice.line_but(&["SHARED_", "DONE_1 ", "DONE_3 ", "DONE_5 ", "DONE_7 "]);
        assert_eq!(done, format!("DONE_{} ok", accept.id), "those under way go on");
    }
    assert_eq!(names(&server.files()), ["mine 0", "mine 1", "mine 2", "mine 3", "video"]);
}

impl RawClient {
    /// The answer to a request, whatever digest or file is told of before it.
    fn line_after_done(&mut self, request: String) -> String {
        self.send(request + "\n");
        self.line_but(&["DONE_", "SHARED_"])
    }
}
