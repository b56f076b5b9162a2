//! Files that move between real `client` and `server` processes, which stories kill and start again.
//!
//! Nothing here sleeps: whoever waits, waits for a line, an end, or what a file says.
#![allow(dead_code, reason = "each story uses its part")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use packetboat::rudp::split_mix_64;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;

/// About 2 MB/s: slow enough to be caught in the middle.
pub(crate) const SLOW: [&str; 4] = ["--cc", "fixed:32", "--simulate", "delay=10ms"];

/// Whether the nightly tier runs (`PACKETBOAT_TIER=N`, see `scripts/nightly`) instead of the one of every push.
pub(crate) fn is_night() -> bool {
    std::env::var_os("PACKETBOAT_TIER").is_some_and(|tier| tier == "N")
}

/// What differs between the tiers: `push` on every push, `night` at night.
pub(crate) fn by_tier<T>(push: T, night: T) -> T {
    if is_night() { night } else { push }
}

/// A file of chance.
pub(crate) fn make_file(path: &Path, size: u64, mut seed: u64) {
    let words = std::iter::repeat_with(|| split_mix_64(&mut seed).to_le_bytes());
    let bytes: Vec<u8> = words.flatten().take(size as usize).collect();
    fs::write(path, bytes).expect("a file");
}

pub(crate) fn are_identical(one: &Path, other: &Path) -> bool {
    fs::read(one).expect("a file") == fs::read(other).expect("a file")
}

/// Everything in a folder, hidden or not; nothing where there is none.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("one").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Where the octets of a file lie until it is finished, and where is told how far they are.
pub(crate) fn part_and_state(final_name: &Path) -> [PathBuf; 2] {
    let name = final_name.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    [format!(".{name}.part"), format!(".{name}.part.state")].map(|name| final_name.with_file_name(name))
}

/// How far the state beside a file says that it is.
pub(crate) fn noted(final_name: &Path) -> u64 {
    let [_, state] = part_and_state(final_name);
    let text = fs::read_to_string(state).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    json["written"].as_u64().unwrap_or_default()
}

/// The `transfer` event that a client has printed.
pub(crate) fn transfer(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let events = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let mut transfers = events.filter(|event: &serde_json::Value| event["type"] == "transfer");
    transfers.next().unwrap_or_else(|| panic!("no transfer in {text}"))
}

/// A shelf, a client's folder, and a port that no other program gets while servers come and go on it.
pub(crate) struct Scene {
    pub(crate) address: SocketAddr,
    pub(crate) shelf: TempDir,
    pub(crate) home: TempDir,
    _held: Socket,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        Scene::below(&std::env::temp_dir())
    }

    /// The same with its folders in this one.
    pub(crate) fn below(folder: &Path) -> Scene {
        // `PACKETBOAT_TEST_HOST` such as `::1` is R43's.
        let wish = std::env::var("PACKETBOAT_TEST_HOST");
        let host: IpAddr = wish.map_or(Ipv4Addr::LOCALHOST.into(), |host| host.parse().expect("an address"));
        let address = SocketAddr::new(host, 0);
        let held = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        // Then whoever sets the same may listen there, and the system gives the port to nobody by itself.
        held.set_reuse_address(true).expect("a socket");
        held.bind(&address.into()).expect("a port");
        let address = held.local_addr().expect("bound").as_socket().expect("an address");
        let [shelf, home] = std::array::from_fn(|_| TempDir::new_in(folder).expect("a folder"));
        Scene { address, shelf, home, _held: held }
    }

    /// A server for this port and shelf, started by `command`: the server's own, or one that runs what it is given.
    pub(crate) fn start_by(&self, mut command: Command) -> Server {
        command
            .args(["--listen", &self.address.to_string(), "--udp-port", "0", "--workers", "1"])
            .args(["--no-rate-limit", "--files"])
            .arg(self.shelf.path());
        let log = File::options().create(true).append(true).open(self.home.path().join("log"));
        command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.expect("a file"));
        let mut child = command.spawn().expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut greeting = String::new();
        stdout.read_line(&mut greeting).expect("a line");
        Server { child, _stdout: stdout, greeting }
    }

    pub(crate) fn start(&self) -> Server {
        let server = self.start_by(Command::new(env!("CARGO_BIN_EXE_server")));
        assert!(server.greeting.contains("listening"), "{:?}: {}", server.greeting, self.log());
        server
    }

    /// What its servers have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// A client, started by `command` as above.
    pub(crate) fn client_by(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.arg(self.address.to_string()).args(arguments).arg("--json");
        command.current_dir(self.home.path()).env("XDG_STATE_HOME", self.home.path().join("state"));
        command.env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        self.client_by(Command::new(env!("CARGO_BIN_EXE_client")), arguments)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.client(arguments).output().expect("the client runs")
    }

    /// Where the client puts what it fetches.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.home.path().join("downloads")
    }
}

/// A server process; killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    _stdout: BufReader<ChildStdout>,
    /// Its first line, empty where it has ended before.
    pub(crate) greeting: String,
}

impl Server {
    /// Kills it, without a good-bye.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
