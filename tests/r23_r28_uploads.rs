//! Files that are put on the shelf: the whole way, the sizes that are lies, and many who want one name.

mod common;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread;

use common::files::{
    MIB, TRANSPORTS, UdpEnd, accepted, content, fast_server, fetch_tcp, names, offered, promise, stream,
};
use common::{PATIENCE, RawClient, TestServer, eventually};
use packetboat::wire::message::{Accept, Secret};

/// Nothing but these names is in the folder; what is being removed may take a moment more.
fn assert_left(server: &TestServer, left: &[&str]) {
    eventually("what is to be removed", || names(&server.files()) == left);
}

#[test]
fn what_is_put_is_told_to_everyone_and_fetched() {
    let server = fast_server();
    let udp = UdpEnd::new();
    let mut alice = server.login("alice");
    let mut elsewhere = server.login("bob");
    assert_eq!(alice.line(), "JOIN_bob");
    let sizes = [0, 1, 1_447, 70_558, MIB - 1, MIB, MIB + 1, 3 * MIB];
    for (number, size) in sizes.into_iter().enumerate() {
        for (up, down) in TRANSPORTS.into_iter().flat_map(|up| TRANSPORTS.map(|down| (up, down))) {
            let name = format!("zwölf Größen, {number} {up} {down} 山.bin");
            let file = content(size, number as u64);
            let accept = alice.put(up, size, &name);
            assert_eq!(accept.prefix, None);
            elsewhere.send("PING_before\n");
            assert_eq!(elsewhere.line(), "PONG_before", "nobody is told before it is there");
            alice.deliver(&udp, up, &accept, &file);
            assert_eq!(alice.line(), format!("DONE_{} ok", accept.id));
            let shared = format!("SHARED_alice {size} {name}");
            // Who has heard of it can have it.
            assert_eq!(elsewhere.line(), shared);
            assert!(elsewhere.get(&udp, down, &name) == file, "{name}");
            assert_eq!(alice.line(), shared, "its owner too");
        }
    }
    for client in [&mut alice, &mut elsewhere] {
        assert_eq!(client.ask("PING_once"), "PONG_once", "nothing is told twice");
    }
    assert_eq!(names(&server.files()).len(), 4 * sizes.len());
}

#[test]
fn r23_a_size_that_is_a_lie_is_refused_before_any_file() {
    let server = fast_server();
    let mut mallory = server.login("mallory");
    for transport in TRANSPORTS {
        for size in ["-1", "+1", "1e9", "00", "01", "", " 1", "0x10", "1.0", "18446744073709551616", "١"] {
            let answer = mallory.ask(format!("PUT_{transport} {size} - a"));
            assert!(answer.starts_with("ERR_bad-request PUT "), "{answer:?} to {size:?}");
        }
        for size in [1 << 63, u64::MAX, (1 << 63) - 1, (1 << 30) + 1] {
            let answer = mallory.ask(format!("PUT_{transport} {size} - a"));
            assert_eq!(answer, "ERR_too-large PUT a file may have 1073741824 bytes at most here", "{size}");
        }
        for token in ["x", "0", "--", &"0".repeat(63), &"g".repeat(64)] {
            let answer = mallory.ask(format!("PUT_{transport} 1 {token} a"));
            assert!(answer.starts_with("ERR_bad-request PUT "), "{answer:?} to {token:?}");
        }
    }
    for bare in ["PUT", "PUT_tcp", "PUT_tcp 1", "PUT_tcp 1 -", "PUT_ftp 1 - a"] {
        assert!(mallory.ask(bare).starts_with("ERR_bad-request PUT "), "{bare}");
    }
    assert_eq!(names(&server.files()), [""; 0]);
}

#[test]
fn r23_more_or_less_over_tcp_than_announced_is_no_file() {
    let server = fast_server();
    let mut mallory = server.login("mallory");
    for (announced, sent) in
        [(0, 1), (1, 2), (MIB, MIB + 1), (3 * MIB, 3 * MIB + 1), (1, 0), (70_000, 69_999), (MIB, MIB - 1)]
    {
        // Behind the token at once, or when it is read for itself.
        for at_once in [true, false] {
            let file = content(sent, 1);
            let accept = mallory.put("tcp", announced, "a");
            let head = if at_once { sent } else { 0 };
            let mut stream = stream(server.addr, &accept.secret, &file[..head]);
            let _ = stream.write_all(&file[head..]);
            let _ = stream.shutdown(Shutdown::Write);
            assert_eq!(mallory.line(), format!("DONE_{} incomplete", accept.id), "{sent} of {announced}");
            // What can be gone on with stays hidden.
            assert!(
                names(&server.files()).iter().all(|name| name.starts_with(".a.")),
                "{sent} of {announced}"
            );
            assert_eq!(mallory.ask("FILES"), "FILES_0");
            // The word that comes too late changes nothing.
            mallory.send(promise(accept.id, &file));
        }
    }
    let mut two = mallory.put_again("tcp", 2 * MIB, &Secret([0; 32]), "b");
    assert_eq!(two.prefix, None, "a token of nothing");
    let file = content(2 * MIB, 1);
    drop(stream(server.addr, &two.secret, &file[..2 * MIB - 1]));
    assert_eq!(mallory.line(), format!("DONE_{} incomplete", two.id));
    two = mallory.put_again("tcp", 2 * MIB, &two.resume_token, "b");
    assert_eq!(two.prefix.map(|prefix| prefix.offset), Some(MIB as u64), "short by one, and resumable");
}

#[test]
fn r23_more_or_less_over_udp_than_announced_is_no_file() {
    let server = fast_server();
    let udp = UdpEnd::new();
    let mut mallory = server.login("mallory");
    for (announced, sent) in [(0, 1), (70_000, 70_001), (1, 0), (70_000, 69_999), (MIB, 5)] {
        let accept = mallory.put("udp", announced, "a");
        let file = content(sent, 1);
        let sending = udp.send(server.addr.ip(), &accept, &file, 0..sent as u64);
        mallory.send(promise(accept.id, &file));
        // Beyond what was announced nothing is granted, so nothing is sent; what did fit is not what was promised.
        let code = if sent > announced { "changed" } else { "incomplete" };
        assert_eq!(mallory.line(), format!("DONE_{} {code}", accept.id), "{sent} of {announced}");
        udp.0.cancel(accept.id);
        // A sender of nothing has sent it.
        let _ = sending.ended.recv_timeout(PATIENCE).expect("an end");
        assert_left(&server, &[]);
    }
}

#[test]
fn r23_what_is_not_what_its_owner_has_read_is_removed() {
    let server = fast_server();
    let udp = UdpEnd::new();
    let mut mallory = server.login("mallory");
    let file = content(2 * MIB + 5, 1);
    let lies = [
        (file.len(), blake3::hash(b"another"), "digest"),
        (file.len() - 1, blake3::hash(&file[..file.len() - 1]), "changed"),
        (file.len() + 1, blake3::hash(&file), "changed"),
        (0, blake3::hash(b""), "changed"),
        (usize::MAX, blake3::hash(&file), "changed"),
    ];
    for transport in TRANSPORTS {
        for (size, digest, code) in &lies {
            for early in [true, false] {
                let accept = mallory.put(transport, file.len(), "a");
                let lie = format!("DONE_{} {size} {digest}\n", accept.id);
                if early {
                    mallory.send(&lie);
                }
                // The truth comes too late when the lie was first.
                let mut other = Vec::new();
                send_octets(&server, &udp, transport, &accept, &file, &mut other);
                mallory.send(if early { promise(accept.id, &file) } else { lie });
                assert_eq!(mallory.line(), format!("DONE_{} {code}", accept.id), "{transport} {size}");
                assert_eq!(names(&server.files()), [""; 0], "gone when it is told");
                assert_eq!(mallory.ask("FILES"), "FILES_0");
            }
        }
    }
    assert_eq!(mallory.put_whole(&udp, "tcp", &file, "a").split(' ').nth(1), Some("ok"));
}

/// All octets of a file, and not a word about them.
fn send_octets(
    server: &TestServer,
    udp: &UdpEnd,
    transport: &str,
    accept: &Accept,
    file: &[u8],
    rest: &mut Vec<u8>,
) {
    if transport == "udp" {
        let sending = udp.send(server.addr.ip(), accept, file, 0..file.len() as u64);
        sending.ended.recv_timeout(PATIENCE).expect("an end").expect("sent");
        return;
    }
    let mut stream = stream(server.addr, &accept.secret, file);
    stream.shutdown(Shutdown::Write).expect("connected");
    let _ = stream.read_to_end(rest);
}

#[test]
fn r23_a_word_about_somebody_elses_upload_means_nothing() {
    let server = fast_server();
    let udp = UdpEnd::new();
    let mut alice = server.login("alice quiet");
    let mut mallory = server.login("mallory quiet");
    let file = content(70_000, 3);
    let accept = alice.put("tcp", file.len(), "a");
    for word in ["ok", "cancelled", "digest", &format!("{} {}", file.len(), blake3::hash(b"no"))] {
        assert_eq!(mallory.ask(format!("DONE_{} {word}\nPING_", accept.id)), "PONG_");
    }
    alice.deliver(&udp, "tcp", &accept, &file);
    assert_eq!(alice.line(), format!("DONE_{} ok", accept.id));
    assert_eq!(names(&server.files()), ["a"]);
}

#[test]
fn an_upload_that_its_owner_ends_leaves_nothing() {
    let server = fast_server();
    let mut alice = server.login("alice");
    let file = content(3 * MIB, 3);
    for (number, sent) in [None, Some(0), Some(2 * MIB), Some(3 * MIB)].into_iter().enumerate() {
        let accept = alice.put("tcp", file.len(), "a");
        let _stream = sent.map(|sent| {
            let mut stream = stream(server.addr, &accept.secret, &file[..sent]);
            if sent == file.len() {
                stream.shutdown(Shutdown::Write).expect("connected");
                assert_eq!(stream.read(&mut [0]).expect("closed when it has all"), 0);
            }
            stream
        });
        alice.send(format!("DONE_{} cancelled\n", accept.id));
        assert_eq!(alice.ask(format!("PING_{number}")), format!("PONG_{number}"));
        assert_left(&server, &[]);
    }
}

/// One of many who want the same name: what was answered, be it at once or at the end.
fn compete(server: &TestServer, round: usize, number: usize, name: &str) -> String {
    let udp = UdpEnd::new();
    let transport = TRANSPORTS[number % 2];
    let file = content(300_000, number as u64);
    let mut client: RawClient = server.login(&format!("nick{number}.{round} quiet"));
    client.send(format!("PUT_{transport} {} - {name}\n", file.len()));
    // Others may be done before.
    let answer = client.line_but(&["SHARED_"]);
    if answer.starts_with("ERR_") {
        return answer;
    }
    client.deliver(&udp, transport, &accepted(&answer), &file);
    client.line_but(&["SHARED_"])
}

#[test]
fn r28_of_sixteen_uploads_of_one_name_one_wins() {
    let server = fast_server();
    let mut watcher = server.login("watcher");
    for round in 0..common::by_tier(5, 100) {
        let name = format!("same {round}");
        let outcomes: Vec<String> = thread::scope(|scope| {
            let name = &name;
            let server = &server;
            let threads: Vec<_> =
                (0..16).map(|number| scope.spawn(move || compete(server, round, number, name))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let winners: Vec<usize> = (0..16).filter(|&number| outcomes[number].ends_with(" ok")).collect();
        let [winner] = winners[..] else { panic!("{outcomes:?}") };
        let is_refused =
            |outcome: &&String| outcome.starts_with("ERR_exists PUT ") || outcome.ends_with(" exists");
        assert_eq!(outcomes.iter().filter(is_refused).count(), 15, "{outcomes:?}");
        let octets = std::fs::read(server.files().join(&name)).expect("it is there");
        assert!(octets == content(300_000, winner as u64), "it is the winner's");
        assert_eq!(watcher.line(), format!("SHARED_nick{winner}.{round} 300000 {name}"));
    }
    assert!(names(&server.files()).iter().all(|name| name.starts_with("same ")), "nothing is left over");
}

#[test]
fn r28_a_name_that_exists_is_never_taken() {
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        std::fs::write(files.join("lore.txt"), "lore").expect("a file");
    });
    let udp = UdpEnd::new();
    let mut alice = server.login("alice quiet");
    const EXISTS: &str = "ERR_exists PUT there is something of this name already";
    for transport in TRANSPORTS {
        assert_eq!(alice.ask(format!("PUT_{transport} 5 - lore.txt")), EXISTS);
        // One after the other, the second while the first is under way, and when it is done.
        let name = format!("first {transport}");
        let accept = alice.put(transport, 5, &name);
        assert_eq!(
            alice.ask(format!("PUT_{transport} 5 - {name}")),
            "ERR_exists PUT somebody is putting a file of this name there just now"
        );
        alice.deliver(&udp, transport, &accept, b"first");
        assert_eq!(alice.line(), format!("DONE_{} ok", accept.id));
        assert_eq!(alice.line(), format!("SHARED_alice 5 {name}"));
        assert_eq!(alice.ask(format!("PUT_{transport} 5 - {name}")), EXISTS);
    }
    // Somebody copies a file to the shelf while another of its name is under way.
    for transport in TRANSPORTS {
        let name = format!("late {transport}");
        let accept = alice.put(transport, 5, &name);
        std::fs::write(server.files().join(&name), "late").expect("a file");
        alice.deliver(&udp, transport, &accept, b"first");
        assert_eq!(alice.line(), format!("DONE_{} exists", accept.id));
        assert_eq!(std::fs::read(server.files().join(&name)).expect("there"), b"late");
        let offer = offered(&alice.ask(format!("GET_tcp {name}")));
        assert_eq!(fetch_tcp(server.addr, &offer.secret), b"late");
        assert!(alice.line().starts_with("DONE_"));
    }
    assert_eq!(names(&server.files()), ["first tcp", "first udp", "late tcp", "late udp", "lore.txt"]);
}
