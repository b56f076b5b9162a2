//! Files as scripts fetch and put them: exit codes, standard output and the disk, against a scripted server.

mod common;

use std::fs;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener};
use std::process::Command;

use common::scripted::*;

#[test]
fn a_file_over_tcp_is_verified_and_kept() {
    let (output, folder) = run(&["get", "lore.txt", "--tcp", "--json"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hello", b"hello");
        assert_eq!(peer.line(), "DONE_7 ok");
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one object");
    for (key, value) in [("type", "transfer"), ("name", "lore.txt"), ("transport", "tcp")] {
        assert_eq!(json[key], value, "{json}");
    }
    assert_eq!((json["bytes"].as_u64(), json["path"].as_str()), (Some(5), Some("downloads/lore.txt")));
    assert!(json["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{json}");
    assert!(json["first_byte_seconds"].as_f64() <= json["seconds"].as_f64(), "{json}");
    assert!(json["first_byte_seconds"].as_f64() > Some(0.0), "{json}");
    assert_eq!(json["digest"], blake3::hash(b"hello").to_string());
    assert_eq!(fs::read(folder.path().join("downloads/lore.txt")).expect("kept"), b"hello");
    assert_eq!(names(&folder.path().join("downloads")), ["lore.txt"]);
}

#[test]
fn a_file_for_stdout_is_verified_first() {
    let (output, folder) = run(&["get", "lore.txt", "--tcp", "-o", "-"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hello", b"hello");
        assert_eq!(peer.line(), "DONE_7 ok");
        peer.good_bye();
    });
    assert_exit(&output, 0, "fetched lore.txt");
    assert_eq!(output.stdout, b"hello");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));

    let (output, folder) = run(&["get", "lore.txt", "--tcp", "-o", "-"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hellO", b"hello");
        assert_eq!(peer.line(), "DONE_7 digest");
    });
    assert_exit(&output, 7, "damaged");
    assert_eq!(output.stdout, b"");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}

#[test]
fn a_damaged_file_is_exit_7_and_leaves_nothing() {
    let (output, folder) = run(&["get", "lore.txt", "--tcp", "-o", "mine.txt"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hellO", b"hello");
        assert_eq!(peer.line(), "DONE_7 digest");
    });
    assert_exit(&output, 7, "damaged");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}

#[test]
fn a_server_that_vanishes_or_sends_too_much_leaves_nothing() {
    let get_mine = ["get", "lore.txt", "--tcp", "-o", "mine.txt", "--reconnect-for", "0"];
    let (output, folder) = run(&get_mine, |peer, listener| {
        let port = listener.local_addr().expect("an address").port();
        peer.answer("GET_tcp lore.txt", &[&format!("OFFER_7 tcp {port} {TOKEN} 5 {MTIME} - lore.txt")]);
        let mut stream = accept(listener);
        stream.line();
        stream.writer.write_all(b"hel").expect("sent");
    });
    assert_exit(&output, 6, "lore.txt");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));

    let (output, folder) = run(&["get", "lore.txt", "--tcp", "-o", "mine.txt"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hello, and more", b"hello");
        assert_eq!(peer.line(), "DONE_7 incomplete");
    });
    assert_exit(&output, 6, "more than it had announced");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));

    let (output, _folder) = run(&["get", "lore.txt", "--tcp", "--reconnect-for", "0"], |peer, _| {
        assert_eq!(peer.line(), "GET_tcp lore.txt");
    });
    assert_exit(&output, 3, "the connection to the server is lost");
}

#[test]
fn a_complete_file_is_kept_when_the_session_ends_and_the_offer_told_its_digest() {
    let (output, folder) = run(&["get", "lore.txt", "--tcp"], |peer, listener| {
        let port = listener.local_addr().expect("an address").port();
        let digest = blake3::hash(b"hello");
        peer.answer(
            "GET_tcp lore.txt",
            &[&format!("OFFER_7 tcp {port} {TOKEN} 5 {MTIME} {digest} lore.txt")],
        );
        let mut stream = accept(listener);
        stream.line();
        stream.writer.write_all(b"hello").expect("sent");
        stream.writer.shutdown(Shutdown::Write).expect("shut down");
        // The client closes its side once it has everything; only then is the session cut.
        assert_eq!(stream.line(), "");
    });
    assert_exit(&output, 0, "");
    assert_eq!(names(&folder.path().join("downloads")), ["lore.txt"]);
}

#[test]
fn an_absent_file_is_exit_5_and_an_existing_target_exit_9() {
    let (output, folder) = run(&["get", "nothing.txt"], |peer, _| {
        peer.answer("GET_udp nothing.txt", &["ERR_no-file GET no such file"]);
    });
    assert_exit(&output, 5, "nothing.txt: no such file");
    assert!(names(folder.path()).is_empty());
    let (output, _folder) = run(&["get", "nothing.txt", "--json"], |peer, _| {
        peer.answer("GET_udp nothing.txt", &["ERR_no-file GET no such file"]);
    });
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one object");
    assert_eq!((json["code"].as_str(), json["name"].as_str()), (Some("no-file"), Some("nothing.txt")));

    // Nobody listens at this port: neither case may need a server.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    for bad in ["../etc/passwd", "/etc/passwd", ".hidden", "a\nb"] {
        let output = client(folder.path(), closed, &["get", bad]).output().expect("it runs");
        assert_exit(&output, 5, "no shared file can be called so; the command `files` lists");
    }
    fs::write(folder.path().join("mine.txt"), "precious").expect("written");
    let output =
        client(folder.path(), closed, &["get", "lore.txt", "-o", "mine.txt"]).output().expect("it runs");
    assert_exit(&output, 9, "exists already");
    assert_eq!(fs::read(folder.path().join("mine.txt")).expect("there"), b"precious");
}

#[test]
fn an_existing_download_gets_a_number_and_talk_goes_on_meanwhile() {
    let (output, folder) =
        run_pipe(b"/get lore.txt --tcp\ndownload_file lore.txt --tcp\nhello\n", |peer, listener| {
            let port = listener.local_addr().expect("an address").port();
            assert_eq!(peer.line(), "GET_tcp lore.txt");
            assert_eq!(peer.line(), "GET_tcp lore.txt");
            peer.answer("ALL_hello", &["MSG_alice hello"]);
            let token = |id: u32| format!("{id:064x}");
            for id in [7, 8] {
                peer.say(&format!("OFFER_{id} tcp {port} {} 5 {MTIME} - lore.txt", token(id)));
            }
            for _ in [7, 8] {
                let mut stream = accept(listener);
                let first = stream.line() == format!("DATA_{}", token(7));
                stream.writer.write_all(if first { b"first" } else { b"other" }).expect("sent");
            }
            peer.say(&format!("DONE_7 5 {}", blake3::hash(b"first")));
            peer.say(&format!("DONE_8 5 {}", blake3::hash(b"other")));
            let mut done = [peer.line(), peer.line()];
            done.sort();
            assert_eq!(done, ["DONE_7 ok", "DONE_8 ok"]);
            peer.good_bye();
        });
    assert_exit(&output, 0, "");
    assert!(stdout(&output).contains("<alice> hello"), "{}", told(&output));
    let kept = names(&folder.path().join("downloads"));
    assert_eq!(kept, ["lore (1).txt", "lore.txt"]);
}

#[test]
fn a_signal_ends_cleanly_with_its_code_and_removes_what_is_unfinished() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (begun, wait_begun) = std::sync::mpsc::channel();
        let (address, thread) = server(move |peer, listener| {
            let port = listener.local_addr().expect("an address").port();
            peer.answer("GET_tcp lore.txt", &[&format!("OFFER_7 tcp {port} {TOKEN} 5 {MTIME} - lore.txt")]);
            let mut stream = accept(listener);
            stream.line();
            stream.writer.write_all(b"hel").expect("sent");
            begun.send(()).expect("heard");
            assert_eq!(peer.line(), "QUIT_");
        });
        let child = client(folder.path(), address, &["get", "lore.txt", "--tcp"]).spawn().expect("it runs");
        wait_begun.recv().expect("begun");
        let killed = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(killed.expect("kill runs").success());
        let output = child.wait_with_output().expect("it ends");
        thread.join().expect("the script");
        assert_exit(&output, code, "");
        let left = names(&folder.path().join("downloads"));
        assert!(left.is_empty(), "{left:?}");
    }
}
