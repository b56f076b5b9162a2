//! One file over an emulated link: by our programs, by kernel TCP, or by uftp; and what that took.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use packetboat::rudp::PACKET_LEN_DATA;
use serde::Serialize;
use serde_json::Value;

use crate::emulator::{Counters, Emulator, Link, Outcome, Ready, SERVER_IP};
use crate::kernel_tcp;

const SERVER: &str = env!("CARGO_BIN_EXE_server");
const CLIENT: &str = env!("CARGO_BIN_EXE_client");

/// Where servers listen: the namespaces have nobody else.
pub const PORT: u16 = 55_000;

/// Who listens here is ready, which for our server means that it knows the file's digest.
const READY_PORT: u16 = 55_010;
pub const READY: Ready = Ready::Tcp(READY_PORT);

/// Ours, for whoever is not bounded otherwise: something is broken.
pub const PATIENCE_S: u64 = 300;

/// uftp: where its receiver listens.
const UFTP_PORT: u16 = 1_044;

/// Octets of the file in a full packet of ours.
pub const PAYLOAD_LEN: u64 = (PACKET_LEN_DATA - packetboat::wire::packet::DATA_OVERHEAD) as u64;

/// That packet as the link sees it: with its headers of UDP and IPv4.
pub const PACKET_IP_LEN: f64 = (PACKET_LEN_DATA + 28) as f64;

/// Who moves the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Our programs; the client is given these options.
    Ours(Vec<String>),
    /// The kernel's TCP with this congestion control. What came within the limit counts.
    Tcp { congestion: &'static str, limit_s: u64 },
    /// Told to send at this rate, which a person has to know.
    Uftp { kbit_per_s: u64 },
}

impl Peer {
    pub fn name(&self) -> String {
        match self {
            Self::Ours(options) if options.is_empty() => "packetboat".into(),
            Self::Ours(options) => format!("packetboat {}", options.join(" ")),
            Self::Tcp { congestion, .. } => format!("tcp {congestion}"),
            Self::Uftp { .. } => "uftp".into(),
        }
    }
}

/// A folder with one file of random octets, `f0`, and a place for what comes of it.
pub struct Shelf {
    folder: tempfile::TempDir,
    pub len: u64,
    digest: blake3::Hash,
}

impl Shelf {
    pub fn new(len: u64) -> Shelf {
        let folder = tempfile::tempdir().expect("a folder");
        let mut content = vec![0; usize::try_from(len).expect("it fits the memory")];
        getrandom::fill(&mut content).expect("randomness");
        for name in ["shelf", "target"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        fs::write(folder.path().join("shelf/f0"), &content).expect("written");
        rustix::fs::sync();
        // A server keeps the digest of a file only once that has lain still for two seconds.
        std::thread::sleep(Duration::from_secs(3));
        Shelf { folder, len, digest: blake3::hash(&content) }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Whether all of the file has come, in which case it is right; and the place is empty again.
    pub fn take(&self) -> bool {
        self.take_from("target/f0")
    }

    fn take_from(&self, name: &str) -> bool {
        let path = self.folder.path().join(name);
        let content = fs::read(&path).unwrap_or_default();
        let is_complete = content.len() as u64 == self.len;
        assert!(!is_complete || blake3::hash(&content) == self.digest, "the file has changed on its way");
        let _ = fs::remove_file(path);
        is_complete
    }
}

/// What one run has shown.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    pub peer: String,
    pub seed: u64,
    pub is_complete: bool,
    /// Octets of the file that came.
    pub bytes: u64,
    /// By the peer's own clock: from the request (TCP: from `connect`) to the last octet written.
    pub seconds: f64,
    /// The receiving program from its start to its end.
    pub wall_seconds: f64,
    pub first_byte_seconds: Option<f64>,
    /// Packets and octets, with IP, that entered the link in the direction of the file.
    pub wire_packets: u64,
    pub wire_bytes: u64,
    /// Packets that were lost on it, at random or in the queue.
    pub lost_packets: u64,
    pub queue_mean_bytes: f64,
    /// Why the run should not be trusted.
    pub trouble: Option<String>,
}

impl Sample {
    pub fn mbit_per_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.seconds
    }

    pub fn whole_mbit_per_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.wall_seconds
    }

    pub fn wire_per_byte(&self) -> f64 {
        self.wire_bytes as f64 / self.bytes as f64
    }

    /// Of ours: packets sent in vain or again, for each that was lost. The few that carry no file count as sent again.
    pub fn resent_per_lost(&self) -> f64 {
        let again = self.wire_packets.saturating_sub(self.bytes.div_ceil(PAYLOAD_LEN));
        again as f64 / self.lost_packets.max(1) as f64
    }

    fn new(peer: &Peer, seed: u64, outcome: &Outcome, counters: &Counters) -> Sample {
        let wall_seconds = outcome.report.clients[0].wall_s;
        Sample {
            peer: peer.name(),
            seed,
            is_complete: true,
            bytes: 0,
            seconds: wall_seconds,
            wall_seconds,
            first_byte_seconds: None,
            wire_packets: counters.packets_in,
            wire_bytes: counters.bytes_in,
            lost_packets: counters.drop_queue + counters.drop_loss,
            queue_mean_bytes: counters.mean_queue_bytes,
            trouble: outcome.trouble(),
        }
    }
}

/// The words of a command.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn this_program() -> String {
    std::env::current_exe().expect("this program").display().to_string()
}

/// The command of our server over this shelf.
pub fn our_server(shelf: &Shelf) -> Vec<String> {
    words(&[&this_program(), "serve", &shelf.path("shelf")])
}

/// The command of our client that fetches the file.
pub fn our_client(shelf: &Shelf, options: &[String]) -> Vec<String> {
    let address = format!("{SERVER_IP}:{PORT}");
    let mut command =
        words(&[CLIENT, &address, "get", "f0", "-o", &shelf.path("target/f0"), "--udp", "--json"]);
    command.extend_from_slice(options);
    command
}

/// The commands of a TCP that sends the file (or, with its own folder, another) and of one that receives it.
pub fn tcp(source: &Path, target: &Path, congestion: &str, port: u16, limit_s: u64) -> [Vec<String>; 2] {
    let (source, target) = (source.display().to_string(), target.display().to_string());
    let (bind, to) = (format!("0.0.0.0:{port}"), format!("{SERVER_IP}:{port}"));
    [
        words(&[&this_program(), "tcp-send", "listen", &bind, "1", &source, congestion]),
        words(&[
            &this_program(),
            "tcp-receive",
            "connect",
            &to,
            "1",
            &target,
            congestion,
            &limit_s.to_string(),
        ]),
    ]
}

/// What our client has told of the file, among what everybody said.
pub fn fetched(outcome: &Outcome) -> Value {
    let events = outcome.lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.into_iter().find(|event| event["type"] == "transfer").expect("a finished transfer")
}

/// What the TCP that receives has told, likewise.
pub fn moved(outcome: &Outcome) -> kernel_tcp::Moved {
    let mut lines = outcome.lines.iter().filter_map(|line| serde_json::from_str(line).ok());
    lines.next().expect("what it has moved")
}

/// Moves the file once.
pub fn run(emulator: &Emulator, link: &Link, shelf: &Shelf, peer: &Peer, seed: u64) -> Sample {
    match peer {
        Peer::Ours(options) => {
            let clients = [our_client(shelf, options)];
            let outcome =
                emulator.run(link, seed, READY, PATIENCE_S, &our_server(shelf), &clients).expect_good();
            let event = fetched(&outcome);
            assert!(shelf.take(), "what is finished is complete");
            Sample {
                bytes: shelf.len,
                seconds: event["seconds"].as_f64().expect("a number"),
                first_byte_seconds: event["first_byte_seconds"].as_f64(),
                ..Sample::new(peer, seed, &outcome, &outcome.report.down)
            }
        }
        Peer::Tcp { congestion, limit_s } => {
            let folder = |name| PathBuf::from(shelf.path(name));
            let [server, client] = tcp(&folder("shelf"), &folder("target"), congestion, PORT, *limit_s);
            let outcome =
                emulator.run(link, seed, Ready::Tcp(PORT), PATIENCE_S, &server, &[client]).expect_good();
            let moved = moved(&outcome);
            Sample {
                is_complete: shelf.take(),
                bytes: moved.bytes,
                seconds: moved.seconds,
                first_byte_seconds: moved.first_byte_seconds,
                ..Sample::new(peer, seed, &outcome, &outcome.report.down)
            }
        }
        Peer::Uftp { kbit_per_s } => uftp(emulator, link, shelf, peer, *kbit_per_s, seed),
    }
}

/// Fetches the file by our programs, once; `false` when it broke off. It never leaves a wrong file behind.
pub fn get(emulator: &Emulator, link: &Link, shelf: &Shelf, seed: u64) -> bool {
    let clients = [our_client(shelf, &[])];
    let outcome = emulator.run(link, seed, READY, PATIENCE_S, &our_server(shelf), &clients);
    is_kept(&outcome, shelf, "target/f0")
}

/// Puts the file back under another name, likewise.
pub fn put(emulator: &Emulator, link: &Link, shelf: &Shelf, seed: u64) -> bool {
    let address = format!("{SERVER_IP}:{PORT}");
    let file = shelf.path("shelf/f0");
    let client = words(&[CLIENT, &address, "put", &file, "--as", "back", "--udp", "--json"]);
    let outcome = emulator.run(link, seed, READY, PATIENCE_S, &our_server(shelf), &[client]);
    is_kept(&outcome, shelf, "shelf/back")
}

/// Whoever says that it is done has it whole. A file that lies there is a whole one, whatever was said.
fn is_kept(outcome: &Outcome, shelf: &Shelf, name: &str) -> bool {
    let (is_there, is_whole) = (shelf.folder.path().join(name).exists(), shelf.take_from(name));
    assert_eq!(is_there, is_whole, "{name} is not what it should be: {}", outcome.complaints);
    assert!(is_there || !outcome.is_good(), "{name} is not there: {:?}", outcome.lines);
    is_there
}

/// uftp's sender is the one that ends, so it is the client, and the file goes up.
fn uftp(emulator: &Emulator, link: &Link, shelf: &Shelf, peer: &Peer, kbit_per_s: u64, seed: u64) -> Sample {
    let (rate, port) = (kbit_per_s.to_string(), UFTP_PORT.to_string());
    let receiver = words(&["uftpd", "-d", "-p", &port, "-B", "4000000", "-D", &shelf.path("target")]);
    let sender =
        words(&["uftp", "-M", SERVER_IP, "-P", SERVER_IP, "-p", &port, "-R", &rate, "-B", "4000000"]);
    let sender = [sender, vec![shelf.path("shelf/f0")]].concat();
    let ready = Ready::Udp(UFTP_PORT);
    let outcome = emulator.run(link, seed, ready, PATIENCE_S, &receiver, &[sender]).expect_good();
    assert!(shelf.take(), "what is finished is complete");
    let told = outcome.lines.iter().map(String::as_str).chain(outcome.complaints.lines());
    let seconds = told
        .filter_map(|line| line.strip_prefix("Total elapsed time:")?.trim().strip_suffix(" seconds"))
        .find_map(|seconds| seconds.parse().ok())
        .expect("uftp tells how long it took");
    Sample { bytes: shelf.len, seconds, ..Sample::new(peer, seed, &outcome, &outcome.report.up) }
}

/// The part that the emulator starts this program in, if any; tells whether that was all.
pub fn play_role(arguments: &[String]) -> bool {
    match arguments.first().map(String::as_str) {
        Some("tcp-send" | "tcp-receive") => kernel_tcp::run(arguments).expect("files move over TCP"),
        Some("serve") => serve(&arguments[1], &arguments[2..]),
        _ => return false,
    }
    true
}

/// `serve FOLDER [ROLE ...]`: our server, and beside it this program in another role. It is said to be ready once it has
/// sent the file to this host: then it knows the digest, as a server does that has run for a while.
fn serve(folder: &str, other: &[String]) {
    let mut other = (!other.is_empty())
        .then(|| Command::new(this_program()).args(other).spawn().expect("this program starts"));
    let mut server = Command::new(SERVER);
    server.args(["--listen", &format!("0.0.0.0:{PORT}"), "--files", folder, "--no-rate-limit", "--quiet"]);
    let mut server = server.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(server.stdout.take().expect("piped")).lines();
    said.next().expect("that it listens").expect("UTF-8");
    let mut client = Command::new(CLIENT);
    client
        .args([&format!("127.0.0.1:{PORT}"), "get", "f0", "-o", "-"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(client.status().expect("it starts").success(), "the file has come");
    let _ready = TcpListener::bind(("0.0.0.0", READY_PORT)).expect("a port");
    server.wait().expect("a child of ours");
    other.as_mut().map(|other| other.kill());
}
