//! How the client is started: with every form of an address, from the environment, asked at a terminal, never off one.

mod common;

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use common::TestServer;
use common::person::Person;
use common::scripted::*;
use packetboat::server::{Server, ServerConfig};

/// The client with these arguments and variables, off a terminal.
fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
    command.args(arguments).env_remove("PACKETBOAT_SERVER").env_remove("PACKETBOAT_NICK");
    command.envs(variables.iter().copied()).stdin(Stdio::null()).output().expect("it runs")
}

#[test]
fn alone_at_a_terminal_it_asks_for_server_and_nickname() {
    let server = TestServer::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut person = Person::start(folder.path(), &[""; 0], 100);
    person.see_text("server (Enter for 127.0.0.1:55000):");
    person.type_line("no host at all");
    person.see_text("! this is not a host: write HOST, HOST:PORT or [IPV6]:PORT");
    person.type_line(&server.addr.to_string());
    person.see_text("your nickname:");
    person.type_line("alice");
    person.see_text("* you are alice at 127.0.0.1");
    person.type_line("/quit");
    assert_eq!(person.end().0, Some(0));
}

#[test]
fn a_server_that_is_not_there_is_told_before_a_nickname_is_asked_for() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let folder = tempfile::tempdir().expect("a folder");
    let (code, rows) = Person::start(folder.path(), &[closed.to_string()], 120).end();
    assert_eq!(code, Some(3), "{rows:?}");
    assert!(rows[0].starts_with("! cannot connect to"), "{rows:?}");
}

#[test]
fn off_a_terminal_or_without_input_nothing_is_asked() {
    for arguments in [&[][..], &["--no-input"], &["--json"], &["get", "lore.txt"], &["doctor"]] {
        let output = start(arguments, &[]);
        assert_exit(&output, 2, "no server is named: write it first, as in `client 127.0.0.1`");
        assert_eq!(stdout(&output), "");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (code, rows) = Person::start(folder.path(), &["--no-input"], 100).end();
    assert_eq!(code, Some(2), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("no server is named")), "{rows:?}");
    // A nickname neither: who gives none is a guest.
    let server = TestServer::start(&[]);
    let address = server.addr.to_string();
    let mut person = Person::start(folder.path(), &[&address, "--no-input"], 100);
    person.see_text("* you are guest-");
    person.type_line("/quit");
    assert_eq!(person.end().0, Some(0));
}

#[test]
fn a_no_to_the_question_is_exit_8_and_without_input_there_is_no_question() {
    let server = TestServer::start_with(&[], |files| {
        std::fs::write(files.join("a.bin"), vec![7; 3 << 20]).expect("a file");
    });
    let (folder, address) = (tempfile::tempdir().expect("a folder"), server.addr.to_string());
    let fetch =
        |more: &[&str]| Person::start(folder.path(), &[&[&*address, "get", "a.bin"], more].concat(), 120);
    let mut person = fetch(&[]);
    person.see_text("Go on? [Y/n]");
    person.type_line("perhaps");
    person.see("the same question again, of the same rate", |rows| {
        let asked: Vec<_> = rows.iter().filter_map(|row| row.split_once("Go on? [Y/n]")).collect();
        matches!(asked[..], [(first, _), (again, _)] if first == again)
    });
    person.type_line("n");
    let (code, rows) = person.end();
    assert_eq!(code, Some(8), "{rows:?}");
    assert!(!folder.path().join("downloads/a.bin").exists());
    for silent in ["--no-input", "-y", "--json"] {
        let (code, rows) = fetch(&[silent, "-o", &format!("got{silent}")]).end();
        assert_eq!(code, Some(0), "{silent}: {rows:?}");
        assert!(!rows.concat().contains("Go on?"), "{silent}: {rows:?}");
    }
}

#[test]
fn server_and_nick_may_come_from_the_environment() {
    let (address, thread) = server(|peer, _| {
        peer.answer("ALL_hi", &["MSG_alice hi"]);
        peer.answer("PING_said", &["PONG_said"]);
        peer.good_bye();
    });
    let address = address.to_string();
    let variables = [("PACKETBOAT_SERVER", &*address), ("PACKETBOAT_NICK", "alice")];
    assert_exit(&start(&["msg", "hi"], &variables), 0, "");
    thread.join().expect("the script");

    // What is written on the command line counts first, and whoever only looks is a guest.
    let server = TestServer::start(&[]);
    let _alice = server.login("alice");
    let address = server.addr.to_string();
    let variables = [("PACKETBOAT_SERVER", "nowhere.invalid"), ("PACKETBOAT_NICK", "alice")];
    let output = start(&[&address, "who"], &variables);
    assert_exit(&output, 0, "");
    assert_eq!(stdout(&output), "alice\n");
    assert_exit(&start(&[&address, "bob", "msg", "hi"], &variables), 0, "");
    assert_exit(&start(&[&format!("chat://bob@{address}"), "msg", "hi"], &variables), 0, "");
    assert_exit(&start(&[&address, "msg", "hi"], &variables), 4, "choose another nickname");

    let output = start(&["who"], &[("PACKETBOAT_SERVER", "a b")]);
    assert_exit(&output, 2, "PACKETBOAT_SERVER=a b: this is not a host");
    assert_exit(&start(&["who"], &[("PACKETBOAT_SERVER", "")]), 2, "no server is named");
    let variables = [("PACKETBOAT_SERVER", "127.0.0.1")];
    assert_exit(&start(&["alfred.invalid", "who"], &variables), 3, "PACKETBOAT_SERVER was passed over");
    assert_exit(&start(&["who", "--bogus"], &[]), 2, "Usage: client HOST[:PORT] [NICK] who");
}

#[test]
fn r43_an_ipv6_server_is_reached_by_every_form_of_its_address() {
    let files = tempfile::tempdir().expect("a folder");
    std::fs::write(files.path().join("a.txt"), "six").expect("a file");
    let config = ServerConfig {
        listen: "[::1]:0".parse().expect("an address"),
        workers: 1,
        files: files.path().to_owned(),
        ..ServerConfig::default()
    };
    let server = Server::start(config).expect("it starts");
    let port = server.local_addr().port();
    for address in [format!("[::1]:{port}"), format!("chat://[::1]:{port}/")] {
        for way in ["--udp", "--tcp"] {
            let output = start(&[&address, "get", "a.txt", "-o", "-", way], &[]);
            assert_exit(&output, 0, "fetched a.txt");
            assert_eq!(stdout(&output), "six");
        }
    }
    let output = start(&[&format!("[::1]:{port}"), "doctor"], &[]);
    assert_exit(&output, 0, "");
    assert!(stdout(&output).contains("packets of 1452 octets pass both ways"), "{}", told(&output));
}

#[test]
fn help_fits_a_screen_and_begins_with_examples() {
    let output = start(&["--help"], &[]);
    assert_exit(&output, 0, "");
    let help = stdout(&output);
    assert!(help.starts_with("Examples:\n  client"), "{help}");
    assert!(help.lines().count() <= 52 && help.lines().all(|line| line.len() <= 120), "{help}");
    for word in ["PACKETBOAT_SERVER", "PACKETBOAT_NICK", "doctor", "--no-legacy", "Exit codes:"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
