//! R11, the client's side: a server that is connected and says nothing more is not waited for without end.
//!
//! It takes the client's own minute, so it runs at night alone.

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use common::by_tier;

#[test]
fn r11_a_pipe_ends_when_the_server_says_nothing_more() {
    if by_tier(true, false) {
        return;
    }
    let listener = TcpListener::bind((common::host(), 0)).expect("a port");
    let addr = listener.local_addr().expect("bound");
    // It lets the client in, takes what it says, and never speaks again.
    let silent = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
        assert_eq!(lines.next().expect("a line").expect("UTF-8"), "HELLO_alice");
        stream.write_all(b"WELCOME_alice v=1 max=4096\n").expect("written");
        lines.map_while(Result::ok).collect::<Vec<_>>()
    });
    let began = Instant::now();
    let mut client = Command::new(env!("CARGO_BIN_EXE_client"))
        .args([&addr.to_string(), "alice", "--reconnect-for", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client starts");
    client.stdin.take().expect("a pipe").write_all(b"hello\n").expect("written");
    let output = client.wait_with_output().expect("it ends");
    let took = began.elapsed();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("nothing more is heard from the server"), "{told}");
    assert!((60..90).contains(&took.as_secs()), "{took:?}");
    assert_eq!(silent.join().expect("no panic"), ["ALL_hello", "QUIT_"]);
}
