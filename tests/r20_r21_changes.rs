//! What changes under a transfer: the server is killed and started again, or the file it sends becomes another.

mod common;

use std::fs::{self, File, FileTimes};
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use common::files::{MIB, TRANSPORTS, UdpEnd, content, fast_server, fetch_tcp, names, offered, stream};
use common::{PATIENCE, RawClient, TestServer, by_tier, eventually};
use packetboat::wire::message::Accept;

#[test]
fn r20_kill_9_of_the_server_during_uploads() {
    let mut server = fast_server();
    let file = content(8 * MIB, 1);
    for round in 0..by_tier(2, 20) {
        let mut alice = server.login(&format!("alice{round} quiet"));
        let complete = format!("complete {round}");
        let udp = UdpEnd::new();
        assert!(alice.put_whole(&udp, "tcp", &file[..MIB], &complete).ends_with(" ok"));
        assert_eq!(alice.line(), format!("SHARED_alice{round} {MIB} {complete}"));
        // Three of them are streams that stand still in the middle, two are packets that are under way.
        let slow = UdpEnd::slow();
        let mut uploads: Vec<(String, Accept)> = Vec::new();
        let (mut streams, mut sendings) = (Vec::new(), Vec::new());
        for number in 0..5 {
            let name = format!("upload {round} {number}");
            if number < 3 {
                let accept = alice.put("tcp", file.len(), &name);
                streams.push(stream(server.addr, &accept.secret, &file[..(number * 2 + 2) * MIB]));
                uploads.push((name, accept));
            } else {
                let accept = alice.put("udp", file.len(), &name);
                sendings.push(slow.send(server.addr.ip(), &accept, &file, 0..file.len() as u64));
                uploads.push((name, accept));
            }
        }
        eventually("some of each", || {
            let noted = |(name, _): &(String, Accept)| noted(&server, name) >= MIB as u64;
            uploads.iter().all(noted)
        });
        let killed_at = Instant::now();
        server = server.restart(&["--no-rate-limit"]);
        // R20 allows 2 s; this machine may be busy.
        assert!(killed_at.elapsed() < Duration::from_secs(20), "{:?}", killed_at.elapsed());
        drop((alice, streams, sendings, slow));

        let visible = |name: &&String| !name.starts_with('.');
        let all = names(&server.files());
        assert_eq!(all.iter().filter(visible).count(), round + 1 + 4 * round, "{all:?}");
        let mut alice = server.login(&format!("back{round} quiet"));
        for (number, (name, accept)) in uploads.iter().enumerate() {
            if number == 0 {
                // Whoever shows no token starts anew, beside what is there.
                let anew = alice.put("tcp", file.len(), name);
                assert_eq!(anew.prefix, None);
                alice.send(format!("DONE_{} cancelled\n", anew.id));
                continue;
            }
            let transport = TRANSPORTS[number % 2];
            let again = alice.put_again(transport, file.len(), &accept.resume_token, name);
            let from = again.prefix.map_or(0, |prefix| prefix.offset);
            assert!(from >= MIB as u64, "{name} goes on from {from}");
            alice.deliver(&udp, transport, &again, &file);
            assert_eq!(alice.line(), format!("DONE_{} ok", again.id));
            assert_eq!(alice.line(), format!("SHARED_back{round} {} {name}", file.len()));
            assert!(fs::read(server.files().join(name)).expect("there") == file, "{name}");
        }
    }
}

/// How far the state of an upload says that it is.
fn noted(server: &TestServer, name: &str) -> u64 {
    let text = fs::read_to_string(server.files().join(format!(".{name}.part.state"))).unwrap_or_default();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    state["written"].as_u64().unwrap_or_default()
}

fn set_modified(path: &Path, at: SystemTime) {
    let file = File::options().write(true).open(path).expect("it is there");
    file.set_times(FileTimes::new().set_modified(at)).expect("its owner may");
}

#[test]
fn r20_leftovers_are_removed_after_a_day_and_nothing_else_is() {
    let server = fast_server();
    let mut alice = server.login("alice quiet");
    let file = content(3 * MIB, 1);
    let mut token = None;
    for name in ["old", "young"] {
        let accept = alice.put("tcp", file.len(), name);
        drop(stream(server.addr, &accept.secret, &file[..2 * MIB]));
        assert_eq!(alice.line(), format!("DONE_{} incomplete", accept.id));
        token = Some(accept.resume_token);
    }
    drop(alice);
    let files = server.files();
    let day = Duration::from_secs(24 * 60 * 60);
    for (foreign, text) in [
        (".foreign.part", "no state at all"),
        (".broken.part", "what a crash has left"),
        (".broken.part.state", "{"),
        (".hidden", "not one of ours"),
        (".old.part.backup", "neither"),
        ("old.part", "a file of the shelf"),
    ] {
        fs::write(files.join(foreign), text).expect("a file");
        set_modified(&files.join(foreign), SystemTime::now() - 9 * day);
    }
    fs::create_dir(files.join(".folder.part")).expect("a folder");
    set_modified(&files.join(".old.part"), SystemTime::now() - day - Duration::from_secs(60));
    set_modified(&files.join(".young.part"), SystemTime::now() - day + Duration::from_secs(600));
    let before = names(&files);
    let server = server.restart(&["--no-rate-limit"]);
    let mut expected = before.clone();
    // What has a state beside it was made by a server, be it readable or not: a crash of the machine may cost that.
    let gone = [".old.part", ".old.part.state", ".broken.part", ".broken.part.state"];
    expected.retain(|name| !gone.contains(&name.as_str()));
    assert_eq!(names(&files), expected);
    assert_eq!(before.len(), expected.len() + gone.len());
    let mut bob = server.login("bob quiet");
    assert_eq!(bob.ask("FILES"), "FILES_1");
    assert!(bob.line().ends_with(" old.part"));
    let accept = bob.put_again("tcp", file.len(), &token.expect("set above"), "young");
    assert_eq!(accept.prefix.map(|prefix| prefix.offset), Some(2 << 20));
}

/// Gives a file another content, of the same size and with the same time; in its place, or by a rename.
fn change(path: &Path, content: &[u8], in_place: bool) {
    let modified = fs::metadata(path).and_then(|meta| meta.modified()).expect("a time");
    let new = if in_place { path.to_owned() } else { path.with_file_name(".new") };
    if in_place {
        use std::os::unix::fs::FileExt as _;
        let file = File::options().write(true).open(&new).expect("it is there");
        file.write_all_at(content, 0).expect("written");
    } else {
        fs::write(&new, content).expect("written");
    }
    set_modified(&new, modified);
    if !in_place {
        fs::rename(&new, path).expect("renamed");
    }
}

/// The digest of a `DONE_<id> <size> <digest>`.
fn told(done: &str) -> Option<blake3::Hash> {
    blake3::Hash::from_hex(done.split(' ').nth(2)?).ok()
}

#[test]
fn r21_changed_between_break_and_resume() {
    let (old, mut new) = (content(4 * MIB, 1), content(4 * MIB, 2));
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        fs::write(files.join("a"), &old).expect("a file");
    });
    let path = server.files().join("a");
    let mut alice = server.login("alice quiet");
    for round in 0..by_tier(10, 100) {
        change(&path, &old, true);
        let have = &old[..2 * MIB];
        let resume =
            |transport: &str| format!("RESUME_{transport} {} {} a", have.len(), blake3::hash(&have[MIB..]));
        change(&path, &new, round % 2 == 0);
        for transport in TRANSPORTS {
            let answer = alice.ask(resume(transport));
            assert_eq!(answer, "ERR_changed RESUME the file is another one now, fetch it from its start");
        }
        // A change that the last MiB does not show: the digest of the whole does.
        let mut sly = new.clone();
        sly[MIB..2 * MIB].copy_from_slice(&have[MIB..]);
        change(&path, &sly, round % 2 == 0);
        let offer = offered(&alice.ask(resume("tcp")));
        let rest = fetch_tcp(server.addr, &offer.secret);
        let mixed = [have, &rest].concat();
        let digest = told(&alice.line()).expect("a digest");
        assert_eq!(digest, blake3::hash(&sly), "of what lies there now");
        assert_ne!(digest, blake3::hash(&mixed), "a mixed file is never taken for whole");
        new.rotate_left(1);
    }
}

/// Fetches a file that `change`s when a part of it is here; what has arrived, and what the server says of it.
fn fetch_changing(alice: &mut RawClient, server: SocketAddr, change: impl FnOnce()) -> (Vec<u8>, String) {
    let offer = offered(&alice.ask("GET_tcp a"));
    let mut octets = vec![0; MIB];
    let mut stream: TcpStream = stream(server, &offer.secret, b"");
    stream.read_exact(&mut octets).expect("it has begun");
    change();
    // A server that sees it ends the transfer.
    let _ = stream.read_to_end(&mut octets);
    (octets, alice.line())
}

#[test]
fn r21_changed_while_it_is_sent() {
    let (old, new) = (content(8 * MIB, 1), content(8 * MIB, 2));
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        fs::write(files.join("a"), &old).expect("a file");
    });
    let path = server.files().join("a");
    let mut alice = server.login("alice quiet");
    for round in 0..by_tier(20, 100) {
        change(&path, &old, true);
        let in_place = round % 2 == 0;
        let (octets, done) = fetch_changing(&mut alice, server.addr, || change(&path, &new, in_place));
        match told(&done) {
            None => assert!(done.ends_with(" changed"), "{done}"),
            // What is taken for whole is one of both.
            Some(digest) if digest == blake3::hash(&octets) => assert!(octets == old || octets == new),
            Some(_) => assert!(in_place, "who replaces a file leaves the old one to those who read it"),
        }
    }
}

#[test]
fn r21_changed_while_it_is_sent_over_udp() {
    let (old, new) = (content(4 * MIB, 1), content(4 * MIB, 2));
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        fs::write(files.join("a"), &old).expect("a file");
    });
    let path = server.files().join("a");
    let mut alice = server.login("alice quiet");
    let udp = UdpEnd::simulating("delay=5ms");
    for round in 0..by_tier(6, 100) {
        change(&path, &old, true);
        let folder = tempfile::tempdir().expect("a folder");
        let offer = offered(&alice.ask("GET_udp a"));
        let worker = (server.addr.ip(), offer.port).into();
        let (ended, progress) = udp.receive(worker, &offer, folder.path());
        eventually("a part of it", || progress.moved_bytes() > 0);
        change(&path, &new, round % 2 == 0);
        let (sink, outcome) = ended.recv_timeout(PATIENCE).expect("an end");
        let done = alice.line();
        match (outcome, told(&done)) {
            (Ok(()), Some(digest)) => {
                if let Ok(kept) = sink.keep(digest) {
                    let octets = fs::read(kept).expect("kept");
                    assert!(octets == old || octets == new, "a mixed file was taken for whole");
                }
            }
            (_, None) => assert!(done.ends_with(" changed"), "{done}"),
            (Err(error), Some(_)) => panic!("{error} without a reason: {done}"),
        }
    }
}
