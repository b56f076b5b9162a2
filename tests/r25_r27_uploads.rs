//! Names and odd files again, as the side sees them that puts files on the shelf or goes on with one.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::files::{MIB, TRANSPORTS, UdpEnd, content, fetch_tcp, names, offered, stream};
use common::names::hostile_names;
use common::{RawClient, TestServer, by_tier};
use packetboat::wire::message::ServerMessage;
use rustix::fs::{CWD, FileType, Mode, mknodat};

const SECRET: &str = "what lies outside";

/// What tells that an entry was not touched: its number, its names, its kind and mode, and what it holds.
type Untouched = (u64, u64, u32, Option<Vec<u8>>);

/// Everything below a folder that is not a folder itself.
fn census(folder: &Path) -> BTreeMap<PathBuf, Untouched> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let meta = fs::symlink_metadata(&path).expect("it is there");
        if meta.is_dir() {
            found.extend(census(&path));
        } else if !path.ends_with("log") {
            let octets = meta.is_file().then(|| fs::read(&path).expect("readable"));
            found.insert(path, (meta.ino(), meta.nlink(), meta.mode(), octets));
        }
    }
    found
}

#[test]
fn r25_path_corpus_of_uploads() {
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        fs::write(files.join("inside.txt"), "inside").expect("a file");
        fs::write(files.parent().expect("a folder").join("secret"), SECRET).expect("a file");
    });
    let files = server.files();
    let home = files.parent().expect("a folder");
    let before = census(home);
    let mut mallory = server.login("mallory");
    let hex = "0".repeat(64);
    let mut count = 0;
    for name in hostile_names() {
        for transport in TRANSPORTS {
            for request in [
                format!("PUT_{transport} 5 - {name}"),
                format!("PUT_{transport} 5 {hex} {name}"),
                format!("RESUME_{transport} 1048576 {hex} {name}"),
            ] {
                let answer = mallory.ask(&request);
                let protocol = request.split('_').next().expect("a protocol");
                assert!(
                    answer.starts_with(&format!("ERR_bad-name {protocol} ")),
                    "{answer:?} to {request:?}"
                );
                count += 1;
            }
        }
    }
    assert!(count >= 6 * 300, "{count}");
    for control in ["\0", "\x1b", "\r", "\u{85}", "\u{7f}"] {
        let mut client = server.login("mallory2 quiet");
        client.send(format!("PUT_tcp 5 - in{control}side.txt\nQUIT\n"));
        let answers = client.rest();
        assert!(answers[0].starts_with("ERR_bad-text PUT "), "{answers:?}");
    }
    assert_eq!(census(home), before, "nothing was written, inside or outside");
}

#[test]
fn r26_odd_files_are_not_uploaded_over() {
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        let secret = files.parent().expect("a folder").join("secret");
        fs::write(&secret, SECRET).expect("a file");
        symlink(&secret, files.join("symlink")).expect("a link");
        symlink("nowhere", files.join("dangling")).expect("a link");
        symlink("loop", files.join("loop")).expect("a link");
        symlink("..", files.join("up")).expect("a link");
        fs::hard_link(&secret, files.join("hardlink")).expect("a link");
        fs::create_dir(files.join("folder")).expect("a folder");
        mknodat(CWD, files.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("a FIFO");
        drop(std::os::unix::net::UnixListener::bind(files.join("socket")).expect("a socket"));
        fs::write(files.join("plain"), "plain").expect("a file");
    });
    let files = server.files();
    let home = files.parent().expect("a folder");
    let before = census(home);
    let mut alice = server.login("alice");
    for odd in ["symlink", "dangling", "loop", "up", "hardlink", "folder", "fifo", "socket", "plain"] {
        for transport in TRANSPORTS {
            let answer = alice.ask(format!("PUT_{transport} 5 - {odd}"));
            assert_eq!(answer, "ERR_exists PUT there is something of this name already", "{odd}");
        }
    }
    assert_eq!(census(home), before);
    assert!(!home.join("nowhere").exists() && !files.join("nowhere").exists());
}

#[test]
fn r26_odd_files_in_the_place_of_an_unfinished_one_are_not_touched() {
    type Make = fn(&Path, &Path);
    let kinds: [Make; 6] = [
        |place, secret| symlink(secret, place).expect("a link"),
        |place, _| symlink("nowhere", place).expect("a link"),
        |place, secret| fs::hard_link(secret, place).expect("a link"),
        |place, _| mknodat(CWD, place, FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("a FIFO"),
        |place, _| drop(std::os::unix::net::UnixListener::bind(place).expect("a socket")),
        |place, _| fs::write(place, "somebody else's").expect("a file"),
    ];
    for (number, make) in kinds.into_iter().enumerate() {
        for suffix in [".part", ".part.state"] {
            let server = TestServer::start_with(&["--no-rate-limit"], |files| {
                let secret = files.parent().expect("a folder").join("secret");
                fs::write(&secret, SECRET).expect("a file");
                make(&files.join(format!(".a{suffix}")), &secret);
            });
            let files = server.files();
            let before = census(files.parent().expect("a folder"));
            let (udp, mut alice) = (UdpEnd::new(), server.login("alice"));
            let file = content(2 * MIB, 1);
            let what = alice.put_whole(&udp, TRANSPORTS[number % 2], &file, "a");
            assert!(what.ends_with(" ok"), "{what}: kind {number} at {suffix}");
            assert!(alice.line().starts_with("SHARED_"));
            assert_eq!(fs::read(files.join("a")).expect("kept"), file);
            let mut after = census(files.parent().expect("a folder"));
            assert!(after.remove(&files.join("a")).is_some());
            assert_eq!(after, before, "kind {number} at {suffix}");
        }
    }
}

#[test]
fn r26_what_is_unfinished_is_neither_listed_nor_served_nor_named() {
    let server = common::files::fast_server();
    let mut alice = server.login("alice");
    let accept = alice.put("tcp", 2 * MIB, "a");
    let _half = stream(server.addr, &accept.secret, &content(MIB, 1));
    assert_eq!(names(&server.files()), [".a.part", ".a.part.state"]);
    assert_eq!(alice.ask("FILES"), "FILES_0");
    for request in ["GET_tcp", "GET_udp", "PUT_tcp 5 -", &format!("RESUME_tcp 1048576 {}", "0".repeat(64))] {
        for name in [".a.part", ".a.part.state"] {
            assert!(alice.ask(format!("{request} {name}")).starts_with("ERR_bad-name "), "{request} {name}");
        }
    }
    assert_eq!(alice.ask("GET_tcp a"), "ERR_no-file GET no such file");
}

/// The answer to one request, and to nothing that others have done meanwhile.
fn answer(client: &mut RawClient, request: &str) -> String {
    client.send(format!("{request}\n"));
    client.line_but(&["DONE_", "SHARED_"])
}

/// Set when dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn r27_a_name_that_is_swapped_with_a_link_leaks_nothing() {
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        let home = files.parent().expect("a folder");
        fs::write(home.join("secret"), SECRET.repeat(10)).expect("a file");
        fs::write(files.join("plain"), "plain").expect("a file");
        fs::write(home.join("plain"), "plain").expect("a file");
        symlink(home.join("secret"), home.join("link")).expect("a link");
    });
    let files = server.files();
    let home = files.parent().expect("a folder").to_owned();
    let is_over = AtomicBool::new(false);
    let swaps = thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut swaps = 0;
            // The name is never absent: the link and the file change places.
            while !is_over.load(Ordering::Relaxed) || swaps < by_tier(200, 10_000) {
                rustix::fs::renameat_with(
                    CWD,
                    home.join("link"),
                    CWD,
                    files.join("plain"),
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .expect("exchanged");
                swaps += 1;
            }
            swaps
        });
        let over = Over(&is_over);
        let mut whole = 0;
        let mut alice = server.login("alice");
        for _ in 0..by_tier(200, 10_000) {
            match answer(&mut alice, "FILES").as_str() {
                "FILES_0" => {}
                "FILES_1" => {
                    let line = alice.line_but(&["DONE_", "SHARED_"]);
                    assert!(line.starts_with("FILE_5 ") && line.ends_with(" plain"), "{line}");
                }
                other => panic!("{other}"),
            }
            let got = answer(&mut alice, "GET_tcp plain");
            if let Ok(ServerMessage::Offer(_)) = ServerMessage::parse(got.as_bytes()) {
                // A swap is a change of the file, which may end what is under way.
                let octets = fetch_tcp(server.addr, &offered(&got).secret);
                assert!(octets == b"plain" || octets.is_empty(), "{octets:?}");
                whole += usize::from(octets == b"plain");
            } else {
                // Busy: the last ones are not over yet.
                assert!(got == "ERR_no-file GET no such file" || got.starts_with("ERR_busy GET "), "{got}");
            }
            let put = answer(&mut alice, "PUT_tcp 5 - plain");
            assert_eq!(put, "ERR_exists PUT there is something of this name already");
        }
        drop(over);
        assert!(whole > 0, "it was never there");
        swapper.join().expect("no panic")
    });
    assert!(swaps >= 200, "{swaps}");
    assert_eq!(fs::read(home.join("secret")).expect("there"), SECRET.repeat(10).as_bytes());
    assert_eq!(names(&files), ["plain"]);
}
