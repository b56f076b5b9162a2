//! The client as scripts see it: the command line, exit codes and standard output, against a scripted server.

mod common;

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Instant;

use common::scripted::*;
use common::{PATIENCE, by_tier};

#[test]
fn no_server_is_one_clear_line_and_exit_3() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let folder = tempfile::tempdir().expect("a folder");
    let output = client(folder.path(), closed, &["alice"]).output().expect("it runs");
    assert_exit(&output, 3, "cargo run --bin server");
    assert_eq!(stderr(&output).lines().count(), 1, "{}", told(&output));

    let mut unknown = Command::new(env!("CARGO_BIN_EXE_client"));
    let output = unknown.args(["no-such-host.invalid", "alice", "who"]).output().expect("it runs");
    assert_exit(&output, 3, "the host is unknown");
}

#[test]
fn what_answers_but_is_no_server_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let mut peer = accept(&listener);
        peer.say("HTTP/1.1 400 Bad Request");
        peer.hang_up();
    });
    let folder = tempfile::tempdir().expect("a folder");
    let output = client(folder.path(), address, &["who"]).output().expect("it runs");
    assert_exit(&output, 3, "not a Packetboat server");
    thread.join().expect("served");
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for arguments in
        [&["host:0"][..], &["127.0.0.1", "alice", "get"], &[], &["127.0.0.1", "get", "x", "--udp", "--tcp"]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_client")).args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", told(&output));
    }
    let help = Command::new(env!("CARGO_BIN_EXE_client")).arg("--help").output().expect("it runs");
    assert!(help.status.success() && stdout(&help).starts_with("Examples:"), "{}", told(&help));
}

#[test]
fn a_nick_taken_or_impossible_is_exit_4() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let mut peer = accept(&listener);
        peer.answer("HELLO_alice", &["ERR_nick-taken HELLO somebody here has this nickname"]);
        assert_eq!(peer.line(), "");
    });
    let folder = tempfile::tempdir().expect("a folder");
    let output = client(folder.path(), address, &["alice"]).output().expect("it runs");
    assert_exit(&output, 4, "somebody here has this nickname");
    thread.join().expect("asked once");
    let output = client(folder.path(), address, &["1x"]).output().expect("it runs");
    assert_exit(&output, 4, "begins with a letter");
}

#[test]
fn a_guest_tries_another_name_when_its_own_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let mut first = accept(&listener);
        let hello = first.line();
        assert!(hello.starts_with("HELLO_guest-") && hello.ends_with(" quiet"), "{hello}");
        first.say("ERR_nick-taken HELLO taken");
        let mut second = accept(&listener);
        let hello = second.line();
        let nick =
            hello.strip_prefix("HELLO_").and_then(|rest| rest.strip_suffix(" quiet")).expect("a guest");
        second.say(&format!("WELCOME_{nick} v=1 max=4096"));
        let users = format!("USERS_3 alice {nick}");
        second.answer("WHO_", &["MSG_alice hi", &users, "USERS_3 bob"]);
        second.good_bye();
    });
    let folder = tempfile::tempdir().expect("a folder");
    let output = client(folder.path(), address, &["who"]).output().expect("it runs");
    thread.join().expect("the script");
    assert_exit(&output, 0, "");
    assert_eq!(stdout(&output), "alice\nbob\n");
}

#[test]
fn a_message_is_confirmed_before_the_client_leaves() {
    let (output, _folder) = run(&["alice", "msg", "see you\nat 5"], |peer, _| {
        peer.answer("ALL_see you\\nat 5", &["MSG_alice see you\\nat 5"]);
        peer.answer("PING_said", &["PONG_said"]);
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
    assert_eq!(stdout(&output), "");

    let (output, _folder) = run(&["alice", "msg", "hi", "--to", "bob", "--json"], |peer, _| {
        peer.answer("PM_bob hi", &["ERR_no-user PM nobody here is called bob"]);
    });
    assert_exit(&output, 5, "nobody here is called bob");
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one object");
    assert_eq!((json["type"].as_str(), json["code"].as_str()), (Some("error"), Some("no-user")));
}

#[test]
fn files_come_page_after_page() {
    let (output, _folder) = run(&["files", "--json"], |peer, _| {
        let file = |number: usize| format!("FILE_70558 {MTIME} file {number:03}.txt");
        peer.answer("FILES_", &["FILES_257"]);
        (0..256).for_each(|number| peer.say(&file(number)));
        peer.answer("FILES_file 255.txt", &["FILES_1", &file(256)]);
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one object");
    assert_eq!(json["files"].as_array().expect("a list").len(), 257);
    assert_eq!(json["files"][256]["name"], "file 256.txt");

    let (output, _folder) = run(&["files"], |peer, _| {
        peer.answer("FILES_", &["FILES_1", &format!("FILE_70558 {MTIME} lore.txt")]);
        peer.good_bye();
    });
    assert_eq!(stdout(&output), "  1   70.6 kB  2026-11-20 10:00  lore.txt\n");
}

#[test]
fn a_mistyped_command_word_is_a_nick_with_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    for (nick, hint) in [("fles", "client: you are `fles`; did you mean the command `files`?\n"), ("bob", "")]
    {
        let (address, thread) = server(|peer, _| peer.good_bye());
        let output = client(folder.path(), address, &[nick]).output().expect("it runs");
        thread.join().expect("the script");
        assert_exit(&output, 0, "");
        assert_eq!(stderr(&output), hint);
    }
}

#[test]
fn a_ping_is_answered_and_a_kick_is_exit_10() {
    let (output, _folder) = run(&["listen"], |peer, _| {
        peer.say("PING_are you there");
        assert_eq!(peer.line(), "PONG_are you there");
        peer.say("ERR_strikes ALL too many bad lines");
        peer.say("BYE_too many bad lines");
    });
    assert_exit(&output, 10, "too many bad lines");
    let (output, _folder) =
        run(&["listen", "--reconnect-for", "0"], |peer, _| peer.say("BYE_the server is going down"));
    assert_exit(&output, 3, "the server is going down");
}

/// Half a minute each: at night.
#[test]
fn a_server_that_talks_and_never_answers_a_one_shot_command_is_given_up() {
    if by_tier(true, false) {
        return;
    }
    let commands: [&[&str]; 4] = [&["who"], &["files"], &["msg", "hello"], &["msg", "hello", "--to", "bob"]];
    thread::scope(|scope| {
        for command in commands {
            scope.spawn(move || {
                let begin = Instant::now();
                let (output, _folder) =
                    run(command, |peer, _| while writeln!(peer.writer, "MSG_eve hi").is_ok() {});
                assert_exit(&output, 3, "the server does not answer");
                assert!(begin.elapsed() < PATIENCE, "and in time");
            });
        }
    });
}
