//! The client between other programs: lines from a pipe, a reader that leaves, outputs that are closed or full.

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::scripted::*;
use common::{RawClient, server_with};
use packetboat::server::{Limits, Rate};
use rustix::process::{Pid, Signal, kill_process};

/// `journalctl -f | client HOST logbot`: each line is said as it comes, more than the rate allows wait, none is lost.
#[test]
fn a_log_is_said_line_by_line_as_it_comes() {
    let rate = Some(Rate { burst: 5, interval: Duration::from_millis(20) });
    let (server, _files) = server_with(Limits { rate, ..Limits::default() });
    let mut reader = RawClient::connect(server.local_addr());
    assert!(reader.ask("HELLO_reader").starts_with("WELCOME"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = client(folder.path(), server.local_addr(), &["logbot"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut log = child.stdin.take().expect("a pipe");
    assert_eq!(reader.line(), "JOIN_logbot");
    for number in 0..3 {
        writeln!(log, "line {number}").expect("written");
        assert_eq!(reader.line(), format!("MSG_logbot line {number}"), "before the next is there");
    }
    let burst: String = (3..100).map(|number| format!("line {number}\n")).collect();
    log.write_all(burst.as_bytes()).expect("written");
    log.write_all(b"the last has no end").expect("written");
    drop(log);
    for number in 3..100 {
        assert_eq!(reader.line(), format!("MSG_logbot line {number}"));
    }
    assert_eq!(reader.line(), "MSG_logbot the last has no end");
    assert_eq!(reader.line(), "LEAVE_logbot");
    assert_exit(&child.wait_with_output().expect("it ends"), 0, "");
}

#[test]
fn what_looks_like_a_command_is_said_verbatim_where_that_is_wanted() {
    let input = b"/usr/bin/x: failed\n//\n/quit\ndisconnect\nlast";
    let (output, _folder) = run_pipe_with(&["log", "--verbatim"], input, |peer, _| {
        for line in ["/usr/bin/x: failed", "//", "/quit", "disconnect", "last"] {
            assert_eq!(peer.line(), format!("ALL_{line}"));
        }
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
    assert_eq!(stderr(&output), "");
}

#[test]
fn good_bye_is_said_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tell, said) = channel();
    // It takes its time for the answer, until who leaves is made to hurry.
    let (address, thread) = server(move |peer, _| {
        assert_eq!(peer.line(), "QUIT_");
        tell.send(()).expect("it is waited for");
        assert_eq!(peer.line(), "", "nothing behind it");
    });
    let child = client(folder.path(), address, &["alice"]).spawn().expect("it runs");
    said.recv().expect("its input is empty");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    thread.join().unwrap_or_else(|_| panic!("the script failed; {}", told(&output)));
    assert_exit(&output, 143, "");
}

/// `client HOST listen | head -1`, and the same of every command with more to print.
#[test]
fn r36_a_reader_that_leaves_is_a_quiet_end() {
    for (arguments, input) in [(&["listen"][..], ""), (&["listen", "--json"], ""), (&["alice"], "hi\n")] {
        let folder = tempfile::tempdir().expect("a folder");
        let (address, thread) = server(|peer, _| {
            // Lines until the client has noticed that nobody reads them.
            while writeln!(peer.writer, "MSG_bob hi").is_ok() {}
        });
        let mut child =
            client(folder.path(), address, arguments).stdin(Stdio::piped()).spawn().expect("it runs");
        // Its input stays open: the output alone is what ends it.
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("written");
        let mut head = BufReader::new(child.stdout.take().expect("a pipe"));
        head.read_line(&mut String::new()).expect("a line");
        drop(head);
        let mut told = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut told).expect("UTF-8");
        assert_eq!((child.wait().expect("it ends").code(), &*told), (Some(0), ""), "{arguments:?}");
        drop(stdin);
        thread.join().expect("the script");
    }
}

/// What the shell's `>&-` leaves of an output.
fn run_in_shell(folder: &Path, redirection: &str, address: &str, arguments: &str) -> Option<i32> {
    let client = env!("CARGO_BIN_EXE_client");
    let line = format!("exec {client} {address} {arguments} {redirection}");
    let mut command = Command::new("sh");
    command.args(["-c", &line]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).status().expect("a shell").code()
}

#[test]
fn r36_closed_outputs_and_a_full_disk_harm_nothing() {
    let (server, files) = server_with(Limits::default());
    std::fs::write(files.path().join("a.txt"), "whole").expect("a file");
    let (folder, address) = (tempfile::tempdir().expect("a folder"), server.local_addr().to_string());
    for (number, redirection) in ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"].into_iter().enumerate() {
        let name = format!("got-{number}.txt");
        let code = run_in_shell(folder.path(), redirection, &address, &format!("get a.txt -o {name}"));
        assert_eq!(code, Some(0), "{redirection}");
        assert_eq!(std::fs::read(folder.path().join(name)).expect("kept"), b"whole", "{redirection}");
    }
    for arguments in [&["files"][..], &["files", "--json"], &["get", "a.txt", "-o", "-"]] {
        let full = File::options().write(true).open("/dev/full").expect("Linux");
        let output =
            client(folder.path(), server.local_addr(), arguments).stdout(full).output().expect("it runs");
        assert_exit(&output, 1, "cannot write the output");
        assert_exit(&output, 1, "free some space there");
    }
}
