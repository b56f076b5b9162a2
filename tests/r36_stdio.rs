//! R36: standard input, output and error may be closed, broken or full; the server serves all the same.

mod common;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use common::{Port, RawClient, eventually};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A server started by a shell, which sets its descriptors up.
struct Shelled {
    child: Child,
    addr: SocketAddr,
    _port: Port,
    _files: TempDir,
}

impl Shelled {
    /// `redirections` are the shell's; the server must find a port that nobody tells us of.
    fn start(redirections: &str) -> Shelled {
        let files = TempDir::new().expect("a folder");
        let port = Port::hold();
        let addr = port.address;
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!(r#"exec "$0" -v --listen {addr} --udp-port 0 --files "$1" {redirections}"#))
            .arg(env!("CARGO_BIN_EXE_server"))
            .arg(files.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        Shelled { child, addr, _port: port, _files: files }
    }

    /// Everything that makes the server say something.
    fn serves(&mut self) {
        eventually("it listens", || std::net::TcpStream::connect(self.addr).is_ok());
        for round in 0..20 {
            let mut client = RawClient::connect(self.addr);
            client.send(format!("HELLO_client{round}\nALL_hello\nGET_tcp absent\nnonsense\nQUIT\n"));
            let answers = client.rest();
            assert_eq!(answers.len(), 5, "{answers:?}");
            assert_eq!(answers[1], format!("MSG_client{round} hello"));
        }
    }

    /// Ends in order: a panic of the main thread would show in its exit code.
    fn ends(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let status = self.child.wait().expect("a child");
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Shelled {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn r36_whoever_reads_the_first_line_may_go() {
    for redirections in ["", "2>&1"] {
        let mut server = Shelled::start(redirections);
        let mut first = String::new();
        let mut out = BufReader::new(server.child.stdout.take().expect("piped"));
        out.read_line(&mut first).expect("a line");
        assert!(first.contains("packetboat"), "{first:?}");
        drop(out);
        drop(server.child.stderr.take());
        server.serves();
        server.ends();
    }
}

#[test]
fn r36_closed_full_and_broken_descriptors_do_not_matter() {
    for redirections in
        ["<&-", "<&- >&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full"]
    {
        let mut server = Shelled::start(redirections);
        // Nobody reads what it says.
        drop((server.child.stdout.take(), server.child.stderr.take()));
        server.serves();
        server.ends();
    }
}

#[test]
fn r36_nothing_panics_where_it_can_be_seen() {
    let mut server = Shelled::start(">/dev/full <&-");
    server.serves();
    let told = server.child.stderr.take().expect("piped");
    server.ends();
    let told: Vec<String> = BufReader::new(told).lines().map(|line| line.expect("UTF-8")).collect();
    assert!(!told.is_empty() && !told.iter().any(|line| line.contains("panicked")), "{told:#?}");
}
