//! The client binary against a scripted server: what scripts see of it, with every line of the server in our hands.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

pub(crate) const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub(crate) const MTIME: &str = "2026-11-20T10:00:00Z";

/// The server's end of one control connection.
pub(crate) struct Peer {
    pub(crate) reader: BufReader<TcpStream>,
    pub(crate) writer: TcpStream,
}

impl Peer {
    /// The next line without its LF; empty at the end of the stream.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line.trim_end_matches('\n').to_owned()
    }

    pub(crate) fn say(&mut self, line: &str) {
        // The client may be gone already, in the scripts where it is meant to.
        let _ = writeln!(self.writer, "{line}");
    }

    /// Hears `asked` and answers.
    pub(crate) fn answer(&mut self, asked: &str, answers: &[&str]) {
        assert_eq!(self.line(), asked);
        answers.iter().for_each(|answer| self.say(answer));
    }

    /// Closes; what the client still says is read, because a socket closed with unread octets is reset.
    pub(crate) fn hang_up(&mut self) {
        let _ = self.writer.shutdown(Shutdown::Write);
        let _ = io::copy(&mut self.reader, &mut io::sink());
    }

    pub(crate) fn good_bye(&mut self) {
        self.answer("QUIT_", &["BYE_"]);
        assert_eq!(self.line(), "", "nothing after QUIT");
    }
}

/// Plays a server: logs in whoever comes under the nick asked for, then follows the script.
pub(crate) fn server(
    script: impl FnOnce(&mut Peer, &TcpListener) + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let mut peer = accept(&listener);
        let hello = peer.line();
        let nick = hello.strip_prefix("HELLO_").expect("HELLO first").trim_end_matches(" quiet");
        let welcome = format!("WELCOME_{nick} v=1 max=4096");
        peer.say(&welcome);
        script(&mut peer, &listener);
        peer.hang_up();
    });
    (address, thread)
}

pub(crate) fn accept(listener: &TcpListener) -> Peer {
    let (stream, _) = listener.accept().expect("a client");
    Peer { reader: BufReader::new(stream.try_clone().expect("a handle")), writer: stream }
}

pub(crate) fn client(folder: &Path, address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
    command.arg(address.to_string()).args(arguments).current_dir(folder).env("TMPDIR", folder);
    // What whoever runs the tests may have set.
    for name in ["PACKETBOAT_NICK", "PACKETBOAT_SERVER", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the client against a script in an empty folder.
pub(crate) fn run(
    arguments: &[&str],
    script: impl FnOnce(&mut Peer, &TcpListener) + Send + 'static,
) -> (Output, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, thread) = server(script);
    let output = client(folder.path(), address, arguments).output().expect("the client runs");
    thread.join().unwrap_or_else(|_| panic!("the script failed; {}", told(&output)));
    (output, folder)
}

/// Runs the client as alice with this input on a pipe.
pub(crate) fn run_pipe(
    input: &[u8],
    script: impl FnOnce(&mut Peer, &TcpListener) + Send + 'static,
) -> (Output, TempDir) {
    run_pipe_with(&["alice"], input, script)
}

/// The same with arguments of the caller's.
pub(crate) fn run_pipe_with(
    arguments: &[&str],
    input: &[u8],
    script: impl FnOnce(&mut Peer, &TcpListener) + Send + 'static,
) -> (Output, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, thread) = server(script);
    let mut child =
        client(folder.path(), address, arguments).stdin(Stdio::piped()).spawn().expect("the client runs");
    child.stdin.take().expect("a pipe").write_all(input).expect("written");
    let output = child.wait_with_output().expect("it ends");
    thread.join().unwrap_or_else(|_| panic!("the script failed; {}", told(&output)));
    (output, folder)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

pub(crate) fn told(output: &Output) -> String {
    format!("{:?}, stdout: {}, stderr: {}", output.status, stdout(output), stderr(output))
}

pub(crate) fn assert_exit(output: &Output, code: i32, words: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
    assert!(stderr(output).contains(words), "{}", told(output));
    assert!(!stderr(output).contains("panicked"), "{}", told(output));
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Offers `size` octets of `name` over TCP, sends `content`, and tells the digest of `digest_of`.
pub(crate) fn serve_file(
    peer: &mut Peer,
    listener: &TcpListener,
    name: &str,
    size: usize,
    content: &[u8],
    digest_of: &[u8],
) {
    let port = listener.local_addr().expect("an address").port();
    let offer = format!("OFFER_7 tcp {port} {TOKEN} {size} {MTIME} - {name}");
    peer.answer(&format!("GET_tcp {name}"), &[&offer]);
    let mut stream = accept(listener);
    assert_eq!(stream.line(), format!("DATA_{TOKEN}"));
    // A client that has seen enough closes early.
    let _ = stream.writer.write_all(content);
    let _ = stream.writer.shutdown(Shutdown::Write);
    peer.say(&format!("DONE_7 {size} {}", blake3::hash(digest_of)));
}
