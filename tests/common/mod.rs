//! A real `server` process, and a client that is no more than a socket.
//!
//! Nothing here sleeps: whoever waits, waits for a line or the end of a stream, and gives up loudly.
#![allow(dead_code, reason = "each story uses its part")]

pub(crate) mod crowd;
pub(crate) mod files;
pub(crate) mod names;
pub(crate) mod person;
pub(crate) mod pty;
pub(crate) mod scripted;
pub(crate) mod strings;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use packetboat::server::{Limits, Server, ServerConfig};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What differs between the tiers: `push` on every push, `night` at night (`PACKETBOAT_TIER=N`, see `scripts/nightly`).
pub(crate) fn by_tier<T>(push: T, night: T) -> T {
    if std::env::var_os("PACKETBOAT_TIER").is_some_and(|tier| tier == "N") { night } else { push }
}

/// Where servers listen: `PACKETBOAT_TEST_HOST`, such as `::1` (R43), or 127.0.0.1.
pub(crate) fn host() -> IpAddr {
    let wish = std::env::var("PACKETBOAT_TEST_HOST");
    wish.map_or(Ipv4Addr::LOCALHOST.into(), |host| host.parse().expect("an address"))
}

/// Waits until this holds: for what no line tells of.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// A port that no other program gets while servers come and go on it.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    _held: Socket,
}

impl Port {
    pub(crate) fn hold() -> Port {
        let address = SocketAddr::new(host(), 0);
        let held = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        // Then whoever sets the same may listen there, and the system gives the port to nobody by itself.
        held.set_reuse_address(true).expect("a socket");
        held.bind(&address.into()).expect("a port");
        let address = held.local_addr().expect("bound").as_socket().expect("an address");
        Port { address, _held: held }
    }
}

/// A running server with a shelf of its own; killed when dropped.
pub(crate) struct TestServer {
    child: Child,
    pub(crate) addr: SocketAddr,
    /// The first line on stdout.
    pub(crate) greeting: String,
    /// The folder that holds the shelf (`files`) and what the server logs (`log`).
    folder: Option<TempDir>,
}

impl TestServer {
    /// A server on ports of the system's choice, with an empty shelf.
    pub(crate) fn start(args: &[&str]) -> TestServer {
        Self::start_with(args, |_| {})
    }

    /// The same, with files that `fill` puts on the shelf before the start.
    pub(crate) fn start_with(args: &[&str], fill: impl FnOnce(&Path)) -> TestServer {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_server")), args, fill)
    }

    /// The same, by a command of the caller's.
    pub(crate) fn spawn(mut command: Command, args: &[&str], fill: impl FnOnce(&Path)) -> TestServer {
        let folder = TempDir::new().expect("a folder");
        let files = folder.path().join("files");
        std::fs::create_dir(&files).expect("a folder");
        fill(&files);
        command.args(["--listen", &SocketAddr::new(host(), 0).to_string()]).args(args);
        Self::run(command, folder)
    }

    fn run(mut command: Command, folder: TempDir) -> TestServer {
        let log = std::fs::File::options().create(true).append(true).open(folder.path().join("log"));
        let mut child = command
            .args(["--workers", "1", "--files"])
            .arg(folder.path().join("files"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("a file"))
            .spawn()
            .expect("the server starts");
        let mut greeting = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut greeting).expect("a line");
        let addr = greeting.split(' ').nth(4).and_then(|addr| addr.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("no address in {greeting:?}: {}", log_of(&folder)));
        TestServer { child, addr, greeting, folder: Some(folder) }
    }

    /// Kills the server as `kill -9` does, and starts another on its ports and its shelf.
    pub(crate) fn restart(mut self, args: &[&str]) -> TestServer {
        let udp_port = self.udp_port().to_string();
        self.kill();
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        command.args(["--listen", &self.addr.to_string(), "--udp-port", &udp_port]).args(args);
        Self::run(command, self.folder.take().expect("taken here alone"))
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The folder of its shelf.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.as_ref().expect("it runs").path().join("files")
    }

    /// The port of its only worker.
    pub(crate) fn udp_port(&self) -> u16 {
        let port = self.greeting.split_once("(udp ").and_then(|(_, rest)| rest.split_once(')'));
        port.and_then(|(port, _)| port.parse().ok()).expect("the greeting tells it")
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("Linux").count()
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connect(&self) -> RawClient {
        RawClient::connect(self.addr)
    }

    /// A member of the room.
    pub(crate) fn login(&self, nick: &str) -> RawClient {
        let mut client = self.connect();
        client.send(format!("HELLO_{nick}\n"));
        let nick = nick.split(' ').next().expect("a nick");
        assert_eq!(client.line(), format!("WELCOME_{nick} v=1 max=4096"));
        client
    }

    /// Asks the server to end, and gives how it did and how long it took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let asked_at = Instant::now();
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it runs");
        loop {
            // The exit itself is what is waited for, and std has no wait with a time limit.
            if let Some(status) = self.child.try_wait().expect("a child") {
                return (status, asked_at.elapsed());
            }
            assert!(asked_at.elapsed() < PATIENCE, "it does not end: {}", self.log());
            std::thread::yield_now();
        }
    }

    /// What the server has logged so far.
    pub(crate) fn log(&self) -> String {
        self.folder.as_ref().map(log_of).unwrap_or_default()
    }

    /// A number of `/proc/PID/status`, in its unit.
    pub(crate) fn status(&self, field: &str) -> u64 {
        self.number("status", field)
    }

    /// Memory that is no file's, counted page by page: what `status` tells of it may be some pages late for each core.
    pub(crate) fn anonymous_kib(&self) -> u64 {
        self.number("smaps_rollup", "Anonymous:")
    }

    /// The size of its pages.
    pub(crate) fn page_kib(&self) -> u64 {
        self.number("smaps", "KernelPageSize:")
    }

    fn number(&self, file: &str, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("Linux");
        let line = text.lines().find(|line| line.starts_with(field)).expect("a field");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn log_of(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}

/// A server inside this process, for limits that no option sets.
pub(crate) fn server_with(limits: Limits) -> (Server, TempDir) {
    let files = TempDir::new().expect("a folder");
    let config = ServerConfig {
        listen: SocketAddr::new(host(), 0),
        workers: 1,
        files: files.path().to_owned(),
        limits,
        ..ServerConfig::default()
    };
    (Server::start(config).expect("it starts"), files)
}

/// One TCP connection, written to and read from by hand.
pub(crate) struct RawClient {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl RawClient {
    pub(crate) fn connect(addr: SocketAddr) -> RawClient {
        Self::over(TcpStream::connect(addr).expect("connected"))
    }

    /// The same over a connection of the caller's.
    pub(crate) fn over(stream: TcpStream) -> RawClient {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        RawClient { stream, reader }
    }

    /// Writes bytes in one call.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("written");
    }

    /// The same, for a peer that may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Ends the own half, as `nc -N` does when its input ends.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("connected");
    }

    /// The next line, without its LF; every line the server writes ends with one.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line in time");
        line.strip_suffix('\n').unwrap_or_else(|| panic!("the stream ended: {line:?}")).to_owned()
    }

    /// Says one line, and hears the next.
    pub(crate) fn ask(&mut self, request: impl std::fmt::Display) -> String {
        self.send(format!("{request}\n"));
        self.line()
    }

    /// The next line that does not begin with one of these protocol names.
    pub(crate) fn line_but(&mut self, ignored: &[&str]) -> String {
        loop {
            let line = self.line();
            if !ignored.iter().any(|name| line.starts_with(name)) {
                return line;
            }
        }
    }

    /// The next line that begins with one of these; `None` when the server closes before.
    pub(crate) fn line_or_end(&mut self, wanted: &[&str]) -> Option<String> {
        loop {
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error} instead of {wanted:?}"),
            }
            if wanted.iter().any(|name| line.starts_with(name)) {
                return Some(line.trim_end_matches('\n').to_owned());
            }
        }
    }

    /// Every line until the server closes.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let text = String::from_utf8(self.rest_bytes()).expect("UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole: {text:?}");
        text.lines().map(str::to_owned).collect()
    }

    /// Every byte until the server closes.
    pub(crate) fn rest_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Ok(_) => {}
            // Closed while we had sent more than it wanted to read.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error} after {bytes:?}"),
        }
        bytes
    }
}

/// Small, fast and good enough to choose cuts (xorshift64*); a failing test prints its seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % end
    }
}
