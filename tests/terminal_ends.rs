//! How a terminal is left: by ^C, ^D, ^Z, a signal, a closed window, a panic; and what a plain terminal gets.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::pty::Terminal;
use common::{TestServer, eventually};
use packetboat::client::terminal;
use rustix::process::{Signal, kill_process};

fn server() -> TestServer {
    TestServer::start(&["--no-rate-limit"])
}

fn alice(server: &TestServer, options: &[&str], variables: &[(&str, &str)]) -> Terminal {
    let address = server.addr.to_string();
    let arguments = [&[address.as_str(), "alice"][..], options].concat();
    let terminal = Terminal::start(120, 40, env!("CARGO_BIN_EXE_client"), &arguments, variables);
    terminal.wait_for_last("alice>");
    terminal
}

/// Whether some bytes hold these.
fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn ctrl_c_clears_and_twice_leaves() {
    let server = server();
    let mut terminal = alice(&server, &[], &[]);
    assert!(!terminal.is_cooked());
    terminal.press("half a line\x03");
    terminal.wait_for("* ^C once more leaves");
    terminal.wait_for_last("alice>");
    // Another key in between: the next one is the first again.
    terminal.press("x\x03");
    terminal.wait("the second hint", |rows| rows.iter().filter(|row| row.contains("once more")).count() == 2);
    terminal.press("\x03");
    assert_eq!(terminal.end().code(), Some(130));
    assert!(terminal.is_cooked());
    assert!(holds(&terminal.bytes(), b"\x1b[?2004l"), "pastes are no longer marked");
}

#[test]
fn ctrl_d_leaves_an_empty_line_only() {
    let server = server();
    let mut terminal = alice(&server, &[], &[]);
    terminal.press("ab\x1b[D\x04");
    terminal.wait_for_last("alice> a");
    terminal.press("\x7f\x04");
    assert_eq!(terminal.end().code(), Some(0));
    assert!(terminal.is_cooked());
}

#[test]
fn ctrl_z_stops_the_job_and_fg_goes_on() {
    let server = server();
    let shell = Terminal::start(120, 40, "bash", &["--norc", "-i"], &[("PS1", "$ ")]);
    shell.wait_for_last("$");
    shell.press(&format!("{} {} alice\n", env!("CARGO_BIN_EXE_client"), server.addr));
    shell.wait_for_last("alice>");
    shell.press("half a line\x1a");
    shell.wait_for("Stopped");
    shell.wait_for_last("$");
    shell.press("echo the shell is $((40 + 2))\n");
    shell.wait_for("the shell is 42");
    shell.press("fg\n");
    shell.wait_for_last("alice> half a line");
    shell.press(" goes on\r");
    shell.wait_for("alice> half a line goes on");
    shell.press("\x04");
    shell.wait_for_last("$");
}

#[test]
fn r36_a_signal_or_a_closed_window_ends_it_cleanly() {
    let server = server();
    let mut terminal = alice(&server, &[], &[]);
    terminal.press("half a line");
    terminal.wait_for_last("alice> half a line");
    kill_process(terminal.pid(), Signal::TERM).expect("it runs");
    assert_eq!(terminal.end().code(), Some(143));
    assert!(terminal.is_cooked());

    let mut terminal = alice(&server, &[], &[]);
    terminal.hang_up("x");
    let status = terminal.end();
    assert!(status.code() == Some(129) || status.signal() == Some(1), "{status:?}");
    let mut carol = server.login("carol");
    eventually("alice has left", || carol.ask("WHO") == "USERS_1 carol");
}

#[test]
fn r36_complaints_that_nobody_takes_are_no_panic() {
    let server = server();
    let line = format!("{} {} alice 2>/dev/full\n", env!("CARGO_BIN_EXE_client"), server.addr);
    let shell = Terminal::start(120, 40, "bash", &["--norc", "-i"], &[("PS1", "$ ")]);
    shell.wait_for_last("$");
    shell.press(&line);
    shell.wait_for_last("alice>");
    for line in ["/nonsense", "/get nothing", "still here"] {
        shell.press(&format!("{line}\r"));
        shell.wait_for(&format!("alice> {line}"));
    }
    shell.wait_for("alice> still here");
    shell.press("/quit\r");
    shell.wait_for_last("$");
}

/// Run by the next test in a process of its own.
#[test]
#[ignore = "panics, for the next test"]
fn panics_at_a_terminal() {
    let _terminal = terminal::Terminal::open().expect("a terminal");
    panic!("this is meant");
}

#[test]
fn a_panic_leaves_the_terminal_as_it_was() {
    let itself = std::env::current_exe().expect("a path");
    let arguments = ["--exact", "panics_at_a_terminal", "--ignored", "--nocapture"];
    let mut terminal = Terminal::start(120, 40, itself, &arguments, &[]);
    terminal.wait_for("this is meant");
    terminal.end();
    assert!(terminal.is_cooked());
    let bytes = terminal.bytes();
    assert!(holds(&bytes, b"\x1b[?2004h") && holds(&bytes, b"\x1b[?2004l"));
}

#[test]
fn a_plain_terminal_gets_lines_and_nothing_that_moves_its_cursor() {
    let server = server();
    let mut bob = server.login("bob");
    for (options, variables) in
        [(&[][..], &[("TERM", "dumb")][..]), (&["--plain"], &[]), (&[], &[("TERM", "")])]
    {
        let mut terminal = alice(&server, options, variables);
        assert!(terminal.is_cooked());
        bob.send("ALL_hello alice\n");
        terminal.wait_for("<bob> hello alice");
        terminal.press("hello bob\n");
        assert_eq!(bob.line_but(&["JOIN", "LEAVE", "MSG_bob"]), "MSG_alice hello bob");
        terminal.press("/quit\n");
        assert_eq!(terminal.end().code(), Some(0));
        let bytes = terminal.bytes();
        let moves = bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n') && byte.is_ascii_control());
        assert!(!moves, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn colours_are_used_where_they_are_wanted_and_never_needed() {
    let server = server();
    let mut bob = server.login("bob");
    for (options, variables, wanted) in [
        (&[][..], &[][..], true),
        (&[], &[("NO_COLOR", "1")], false),
        (&[], &[("NO_COLOR", "")], true),
        (&["--color", "never"], &[], false),
        (&["--color", "always"], &[("NO_COLOR", "1")], true),
    ] {
        let mut terminal = alice(&server, options, variables);
        bob.send("ALL_hello alice\nPM_alice psst\n");
        terminal.wait_for(">> <bob> hello alice");
        terminal.wait_for("[bob whispers] psst");
        terminal.press("\x04");
        assert_eq!(terminal.end().code(), Some(0));
        let text = String::from_utf8(terminal.bytes()).expect("UTF-8");
        // The end of SGR; no other sequence that we write ends so.
        let styled = text.split('\x1b').skip(1).any(|rest| {
            rest.strip_prefix('[').is_some_and(|rest| {
                rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
            })
        });
        assert_eq!(styled, wanted, "{options:?} {variables:?}: {text:?}");
    }
}

#[test]
fn s23_a_person_in_the_room_is_asked_at_forty_per_cent() {
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        fs::write(files.join("big.bin"), vec![7; 4_000_000]).expect("written");
    });
    let mut terminal = alice(&server, &[], &[]);
    terminal.press("/get big.bin\r");
    let rows = terminal.wait_for("Go on? /yes or /no");
    let asked =
        rows.iter().find(|row| row.contains("? big.bin: 40 % is here (1.6 MB of 4.0 MB, ")).expect("asked");
    assert!(asked.contains("/s). Go on?"), "{asked}");
    // Meanwhile the line is free for anything else.
    terminal.press("/transfers\r");
    terminal.wait_for("waiting for your answer (/yes or /no)");
    terminal.press("/yes\r");
    terminal.wait_for("fetched big.bin: 4.0 MB in ");
    terminal.wait_for("BLAKE3 ok, downloads/big.bin");
    terminal.press("/get big.bin as other.bin\r");
    terminal.wait("asked again", |rows| rows.iter().filter(|row| row.contains("Go on?")).count() == 2);
    terminal.press("/no\r");
    terminal.wait_for("! big.bin: declined");
    terminal.press("\x04");
    assert_eq!(terminal.end().code(), Some(0));
    assert!(!terminal.folder.join("downloads/other.bin").exists());

    for option in ["-y", "--no-input"] {
        let mut terminal = alice(&server, &[option], &[]);
        terminal.press("/get big.bin\r");
        let rows = terminal.wait_for("fetched big.bin: 4.0 MB in ");
        terminal.press("\x1b[200~/quit\nsaid unasked\x1b[201~");
        terminal.wait_for("alice> /quit");
        terminal.wait_for("alice> said unasked");
        assert!(!rows.join("\n").contains("Go on?"), "{rows:#?}");
        terminal.press("\x04");
        assert_eq!(terminal.end().code(), Some(0));
    }
}

/// Somebody who says a line this often, until dropped.
struct Talk(Option<Sender<()>>, Option<JoinHandle<()>>);

impl Talk {
    fn start(server: &TestServer, pause: Duration) -> Talk {
        let (mut bob, (stop, stopped)) = (server.login("bob quiet"), mpsc::channel());
        let talk = move || {
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                bob.send("ALL_and so on\n");
            }
        };
        Talk(Some(stop), Some(thread::spawn(talk)))
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.0 = None;
        self.1.take().map(JoinHandle::join);
    }
}

#[test]
fn s23_a_room_that_talks_does_not_keep_the_question_at_forty_per_cent_away() {
    for pause in [Duration::from_millis(200), Duration::from_millis(50)] {
        let server = TestServer::start_with(&["--no-rate-limit"], |files| {
            fs::write(files.join("big.bin"), vec![7; 4_000_000]).expect("written");
        });
        let address = server.addr.to_string();
        let terminal = alice(&server, &[], &[]);
        let _talk = Talk::start(&server, pause);
        terminal.wait_for("<bob> and so on");
        terminal.press("/get big.bin\r");
        // The talk may have moved it off the screen.
        terminal.wait_for_bytes(b"? big.bin: 40 % is here (1.6 MB of 4.0 MB, ");
        terminal.press("/yes\r");
        terminal.wait_for_bytes(b"fetched big.bin: 4.0 MB in ");
        let one_shot = [address.as_str(), "get", "big.bin"];
        let terminal = Terminal::start(120, 40, env!("CARGO_BIN_EXE_client"), &one_shot, &[]);
        terminal.wait_for("big.bin: 40 % is here (1.6 MB of 4.0 MB, ");
        terminal.press("what?\r");
        terminal.wait("asked again", |rows| rows.iter().filter(|row| row.contains("Go on?")).count() == 2);
        terminal.press("y\r");
        terminal.wait_for("fetched big.bin: 4.0 MB in ");
    }
}

#[test]
fn a_one_shot_download_shows_a_bar_at_a_terminal() {
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        fs::write(files.join("big.bin"), vec![7; 4_000_000]).expect("written");
    });
    let address = server.addr.to_string();
    for columns in [40, 80] {
        let mut terminal =
            Terminal::start(columns, 24, env!("CARGO_BIN_EXE_client"), &[&address, "get", "big.bin"], &[]);
        // The question comes while the bar stands: it must not be written over.
        terminal.wait_for("Go on? [Y/n]");
        terminal.wait_for_bytes(b" % [");
        if columns == 80 {
            terminal.wait_for_bytes(b"srtt ");
        }
        terminal.press("y\n");
        terminal.wait_for("fetched big.bin: 4.0 MB in ");
        assert_eq!(terminal.end().code(), Some(0));
    }
    let mut dumb = Terminal::start(
        80,
        24,
        env!("CARGO_BIN_EXE_client"),
        &[&address, "get", "big.bin", "-y", "-o", "other.bin"],
        &[("TERM", "dumb")],
    );
    dumb.wait_for("fetched big.bin: 4.0 MB in ");
    assert_eq!(dumb.end().code(), Some(0));
    assert!(!dumb.bytes().contains(&0x1b));
}
