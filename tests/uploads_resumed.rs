//! What broke off goes on where it was, for whoever shows the token and asks for the same file; else it starts anew.

mod common;

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};

use common::files::{
    MIB, TRANSPORTS, UdpEnd, content, fast_server, fetch_tcp, hex, names, offered, promise, stream,
};
use common::{PATIENCE, RawClient, TestServer, eventually};
use packetboat::wire::message::{Accept, Secret};

/// What of `content` an accepted upload begins behind; the digest that comes with it is right.
fn begins_at(accept: &Accept, content: &[u8]) -> usize {
    let Some(prefix) = accept.prefix else { return 0 };
    let offset = usize::try_from(prefix.offset).expect("small");
    assert!(offset > 0 && offset % MIB == 0, "{offset}");
    assert_eq!(
        prefix.digest,
        blake3::hash(&content[offset - MIB..offset]),
        "of the last MiB before {offset}"
    );
    offset
}

/// Puts the first `sent` octets of a file, then breaks off; gives the token.
fn cut_tcp(server: &TestServer, client: &mut RawClient, content: &[u8], sent: usize, name: &str) -> Secret {
    let accept = client.put("tcp", content.len(), name);
    drop(stream(server.addr, &accept.secret, &content[..sent]));
    assert_eq!(client.line(), format!("DONE_{} incomplete", accept.id));
    accept.resume_token
}

/// Puts some MiB of a file over UDP under this nick, then is gone as a client is whose machine stops; gives the token.
fn cut_udp(server: &TestServer, nick: &str, content: &[u8], name: &str) -> Secret {
    let slow = UdpEnd::slow();
    let mut client = server.login(&format!("{nick} quiet"));
    let accept = client.put("udp", content.len(), name);
    let sending = slow.send(server.addr.ip(), &accept, content, 0..content.len() as u64);
    eventually("some of it", || sending.progress.moved_bytes() > 2 << 20);
    drop(client);
    // The server ends it with its session.
    sending.ended.recv_timeout(PATIENCE).expect("an end").expect_err("not all");
    accept.resume_token
}

#[test]
fn a_cut_upload_goes_on_behind_its_last_whole_mib() {
    let server = fast_server();
    let udp = UdpEnd::new();
    let mut alice = server.login("alice quiet");
    let file = content(8 * MIB + 77, 1);
    for first in TRANSPORTS {
        for second in TRANSPORTS {
            let name = format!("{first} then {second}");
            let token = match first {
                "udp" => cut_udp(&server, &format!("mobile-{second}"), &file, &name),
                _ => cut_tcp(&server, &mut alice, &file, 5 * MIB / 2, &name),
            };
            let accept = alice.put_again(second, file.len(), &token, &name);
            let from = begins_at(&accept, &file);
            match first {
                "tcp" => assert_eq!(from, 2 * MIB),
                _ => assert!((2 * MIB..file.len()).contains(&from), "{from}"),
            }
            assert_eq!(accept.resume_token, token, "the token stays");
            alice.deliver(&udp, second, &accept, &file);
            assert_eq!(alice.line(), format!("DONE_{} ok", accept.id));
            assert_eq!(alice.line(), format!("SHARED_alice {} {name}", file.len()));
            assert!(std::fs::read(server.files().join(&name)).expect("there") == file, "{name}");
        }
    }
    assert_eq!(names(&server.files()).len(), 4, "no leftovers");
}

#[test]
fn an_upload_that_is_cut_again_and_again_is_whole_at_the_end() {
    let server = fast_server();
    let mut alice = server.login("alice quiet");
    let file = content(6 * MIB, 9);
    let mut token = cut_tcp(&server, &mut alice, &file, MIB - 1, "a");
    assert_eq!(names(&server.files()), [""; 0], "less than a MiB is not kept");
    let mut from = 0;
    for sent in [MIB, MIB + 1, 2 * MIB, 3 * MIB - 1, 6 * MIB - 1, 6 * MIB] {
        let accept = alice.put_again("tcp", file.len(), &token, "a");
        assert_eq!(begins_at(&accept, &file), from);
        let all = stream(server.addr, &accept.secret, &file[from..sent]);
        if sent == file.len() {
            all.shutdown(Shutdown::Write).expect("connected");
            alice.send(promise(accept.id, &file));
            assert_eq!(alice.line(), format!("DONE_{} ok", accept.id));
        } else {
            drop(all);
            assert_eq!(alice.line(), format!("DONE_{} incomplete", accept.id));
        }
        (from, token) = (sent / MIB * MIB, accept.resume_token);
    }
    assert_eq!(names(&server.files()), ["a"]);
    assert!(std::fs::read(server.files().join("a")).expect("there") == file);
}

#[test]
fn a_token_opens_its_own_file_alone() {
    let server = fast_server();
    let mut alice = server.login("alice quiet");
    let mut mallory = server.login("mallory quiet");
    let file = content(3 * MIB, 1);
    let token = cut_tcp(&server, &mut alice, &file, 2 * MIB, "a");
    for (size, token, name) in [
        (file.len(), &Secret([7; 32]), "a"),
        (file.len() + 1, &token, "a"),
        (2 * MIB, &token, "a"),
        (0, &token, "a"),
        (file.len(), &token, "b"),
        (file.len(), &token, "a.1"),
    ] {
        for transport in TRANSPORTS {
            let accept = mallory.put_again(transport, size, token, name);
            assert_eq!(accept.prefix, None, "{size} {name}");
            assert_ne!(&accept.resume_token, token, "a new one");
            mallory.send(format!("DONE_{} cancelled\n", accept.id));
            // Over UDP the name is free again when the worker has heard of it.
            eventually("its end", || names(&server.files()) == [".a.part", ".a.part.state"]);
        }
    }
    let state = std::fs::read_to_string(server.files().join(".a.part.state")).expect("readable by its owner");
    assert!(!state.contains(&hex(&token)), "the token itself is written nowhere");
    let accept = alice.put_again("tcp", file.len(), &token, "a");
    assert_eq!(begins_at(&accept, &file), 2 * MIB, "it is still there for its owner");
}

#[test]
fn who_comes_back_ends_the_upload_of_the_lost_connection() {
    let server = fast_server();
    let udp = UdpEnd::new();
    let file = content(8 * MIB, 1);
    for first in TRANSPORTS {
        let name = format!("over {first}");
        let mut lost = server.login(&format!("lost-{first} quiet"));
        let accept = lost.put(first, file.len(), &name);
        let slow = UdpEnd::slow();
        let (mut half, mut sending) = (None, None);
        match first {
            "udp" => {
                let under_way = slow.send(server.addr.ip(), &accept, &file, 0..file.len() as u64);
                eventually("some of it", || under_way.progress.moved_bytes() > 2 << 20);
                sending = Some(under_way);
            }
            _ => half = Some(stream(server.addr, &accept.secret, &file[..5 * MIB / 2])),
        }
        let mut back = server.login(&format!("back-{first} quiet"));
        let request = format!("PUT_udp {} {} {name}", file.len(), hex(&accept.resume_token));
        // Whoever has no token does not end it.
        let stranger = back.ask(format!("PUT_udp {} - {name}", file.len()));
        assert_eq!(stranger, "ERR_exists PUT somebody is putting a file of this name there just now");
        let busy = "ERR_busy PUT your earlier upload of it is being ended, try again";
        assert_eq!(back.ask(&request), busy);
        let again = back.put_again("udp", file.len(), &accept.resume_token, &name);
        let from = begins_at(&again, &file);
        assert!(from >= MIB || first == "tcp", "{from}");
        let heard = lost.line_but(&["SHARED"]);
        assert_eq!(heard, format!("DONE_{} incomplete", accept.id), "should it still be there");
        back.deliver(&udp, "udp", &again, &file);
        assert_eq!(back.line(), format!("DONE_{} ok", again.id));
        assert!(std::fs::read(server.files().join(&name)).expect("there") == file);
        drop((half, sending));
    }
    assert_eq!(names(&server.files()), ["over tcp", "over udp"]);
}

/// Asks for the rest of `name` behind these octets.
fn resume(client: &mut RawClient, transport: &str, have: &[u8], name: &str) -> String {
    let digest = blake3::hash(&have[have.len().saturating_sub(MIB)..]);
    client.ask(format!("RESUME_{transport} {} {digest} {name}", have.len()))
}

#[test]
fn the_rest_of_a_file_is_offered_to_whoever_has_its_beginning() {
    let file = content(4 * MIB + 5, 4);
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        std::fs::write(files.join("a"), &file).expect("a file");
        std::fs::write(files.join("even"), &file[..2 * MIB]).expect("a file");
    });
    let mut alice = server.login("alice quiet");
    let udp = UdpEnd::new();
    let whole = format!("{} {}", file.len(), blake3::hash(&file));
    for have in [MIB, 4 * MIB] {
        let offer = offered(&resume(&mut alice, "tcp", &file[..have], "a"));
        assert_eq!(offer.file.size, file.len() as u64, "of the whole");
        assert!(fetch_tcp(server.addr, &offer.secret) == file[have..]);
        assert_eq!(alice.line(), format!("DONE_{} {whole}", offer.id), "of the whole too");
        let offer = offered(&resume(&mut alice, "udp", &file[..have], "a"));
        assert_eq!(alice.line(), format!("DONE_{} {whole}", offer.id));
        let rest = udp.fetch_rest(server.addr, &offer, &file[..have]);
        assert!(rest == file, "from {have}");
    }
    let offer = offered(&resume(&mut alice, "tcp", &file[..2 * MIB], "even"));
    assert_eq!(fetch_tcp(server.addr, &offer.secret), b"", "there is nothing more");
    assert!(alice.line().starts_with("DONE_"));
    for transport in TRANSPORTS {
        const CHANGED: &str = "ERR_changed RESUME the file is another one now, fetch it from its start";
        assert_eq!(resume(&mut alice, transport, &content(MIB, 5), "a"), CHANGED);
        assert_eq!(resume(&mut alice, transport, &file[..4 * MIB], "even"), CHANGED, "it is shorter");
        let digest = blake3::hash(b"");
        for offset in ["5", "1048575", "1048577", "0", "-1048576", "1e6", "01048576", "18446744073709551616"]
        {
            let answer = alice.ask(format!("RESUME_{transport} {offset} {digest} a"));
            assert!(answer.starts_with("ERR_bad-request RESUME "), "{answer:?} to {offset}");
        }
        let answer = alice.ask(format!("RESUME_{transport} {} {digest} a", u64::MAX - MIB as u64 + 1));
        assert_eq!(answer, CHANGED, "far beyond the end");
        assert_eq!(resume(&mut alice, transport, &file[..MIB], "no"), "ERR_no-file RESUME no such file");
    }
}

#[test]
fn octets_of_an_earlier_connection_that_come_late_go_nowhere() {
    let server = fast_server();
    let mut alice = server.login("alice quiet");
    let file = content(3 * MIB, 1);
    let accept = alice.put("tcp", file.len(), "a");
    let mut old: TcpStream = stream(server.addr, &accept.secret, &file[..2 * MIB]);
    let mut back = server.login("back quiet");
    let again = back.put_again("tcp", file.len(), &accept.resume_token, "a");
    let from = begins_at(&again, &file);
    let _ = old.write_all(&[0xee; MIB]);
    let new = stream(server.addr, &again.secret, &file[from..]);
    new.shutdown(Shutdown::Write).expect("connected");
    back.send(promise(again.id, &file));
    assert_eq!(back.line(), format!("DONE_{} ok", again.id));
    assert!(std::fs::read(server.files().join("a")).expect("there") == file);
}
