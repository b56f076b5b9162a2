//! Files between real processes: through storms, after kills, around a firewall. Goals R1, R19, R33 and S22.
//!
//! Runs of each way (UDP and TCP, down and up) on every push 1 of 5 MiB; at night 20 of 64.6 MiB.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::TestServer;
use packetboat::rudp::split_mix_64;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// About 2 MB/s: slow enough to be caught in the middle.
const SLOW: [&str; 4] = ["--cc", "fixed:32", "--simulate", "delay=10ms"];

fn is_night() -> bool {
    std::env::var_os("PACKETBOAT_TIER").is_some_and(|tier| tier == "N")
}

fn runs() -> u64 {
    if is_night() { 20 } else { 1 }
}

fn size() -> u64 {
    if is_night() { 67_739_648 } else { 5 * MIB + 12_345 }
}

/// When the client is killed: at nine tenths, at night; on every push in the middle, because the last MiB takes no longer
/// than a busy machine may need to look. The state is noted for each whole MiB.
fn noted_at() -> u64 {
    let at = if is_night() { size() * 9 / 10 } else { size() / 2 };
    at / MIB * MIB
}

/// A file of chance.
fn make_file(path: &Path, size: u64, mut seed: u64) {
    let words = std::iter::repeat_with(|| split_mix_64(&mut seed).to_le_bytes());
    let bytes: Vec<u8> = words.flatten().take(size as usize).collect();
    fs::write(path, bytes).expect("a file");
}

/// A client's folder, and the server it talks to.
struct Scene {
    server: TestServer,
    shelf: PathBuf,
    home: TempDir,
}

impl Scene {
    fn new(size: u64, seed: u64) -> Scene {
        let mut shelf = PathBuf::new();
        let server = TestServer::start_with(&["--no-rate-limit"], |files| {
            make_file(&files.join("big.bin"), size, seed);
            shelf = files.to_owned();
        });
        let home = TempDir::new().expect("a folder");
        make_file(&home.path().join("mine.bin"), size, !seed);
        Scene { server, shelf, home }
    }

    fn client(&self, address: SocketAddr, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
        command.arg(address.to_string()).args(arguments).arg("--json");
        command.current_dir(self.home.path()).env("XDG_STATE_HOME", self.home.path().join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.client(self.server.addr, arguments).output().expect("the client runs")
    }

    fn downloaded(&self) -> PathBuf {
        self.home.path().join("downloads/big.bin")
    }

    fn uploaded(&self) -> PathBuf {
        self.shelf.join("mine.bin")
    }

    /// Everything in the folder where the file will lie, hidden or not.
    fn names(&self, final_name: &Path) -> Vec<String> {
        let entries = fs::read_dir(final_name.parent().expect("a folder")).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("one").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

/// How far the state beside a file says that it is.
fn noted(final_name: &Path) -> u64 {
    let name = final_name.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    let state = final_name.with_file_name(format!(".{name}.part.state"));
    let text = fs::read_to_string(state).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    json["written"].as_u64().unwrap_or_default()
}

/// Waits until so much of a file is noted, then kills the client.
fn kill_at(mut child: Child, final_name: &Path, at: u64) {
    let began = Instant::now();
    while noted(final_name) < at {
        assert!(began.elapsed() < PATIENCE, "{} of {at}", noted(final_name));
        assert!(!final_name.exists(), "it was faster than we are");
        assert!(child.try_wait().expect("a child").is_none(), "it ended by itself");
        thread::yield_now();
    }
    child.kill().expect("it runs");
    child.wait().expect("it ran");
    assert!(!final_name.exists(), "no name before the end");
}

/// The `transfer` event that a client has printed.
fn transfer(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let events = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let mut transfers = events.filter(|event: &serde_json::Value| event["type"] == "transfer");
    transfers.next().unwrap_or_else(|| panic!("no transfer in {text}"))
}

/// The second run has sent at most what was not noted, and a MiB.
fn assert_resumed(event: &serde_json::Value, noted_at_least: u64) {
    let from = event["resumed_from"].as_u64().expect("a number");
    assert!(from + MIB > noted_at_least, "{noted_at_least} were noted, but {event}");
}

/// Passes connections on to the server. Before it is open it holds each connection back, a file's own, that brings more
/// than so many octets, and then ends it; those that come later it lets pass.
fn relay(server: SocketAddr, octets: u64) -> (SocketAddr, Arc<AtomicBool>) {
    // A file's connection goes to the port of the room, so the relay has the same at another address.
    let listener = TcpListener::bind(("127.0.0.2", server.port())).expect("the port");
    let address = listener.local_addr().expect("its address");
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    thread::spawn(move || {
        for (client, server) in listener.incoming().map(|client| (client, TcpStream::connect(server))) {
            let (client, server) = (client.expect("a client"), server.expect("a server"));
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) =
                    (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                let open = Arc::clone(&open);
                thread::spawn(move || {
                    let was_open = open.load(Ordering::Relaxed);
                    let mut buffer = [0; 16_384];
                    let mut passed = 0;
                    while let Ok(len @ 1..) = from.read(&mut buffer) {
                        // No conversation is that long: it is a file.
                        if passed + len as u64 > octets && !was_open {
                            while !open.load(Ordering::Relaxed) {
                                thread::park_timeout(Duration::from_millis(10));
                            }
                            break;
                        }
                        passed += len as u64;
                        if to.write_all(&buffer[..len]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    (address, is_open)
}

#[test]
fn r19_a_killed_download_over_udp_goes_on() {
    for seed in 0..runs() {
        let scene = Scene::new(size(), seed);
        let at = noted_at();
        let get = [&["get", "big.bin"], &SLOW[..]].concat();
        kill_at(scene.client(scene.server.addr, &get).spawn().expect("it starts"), &scene.downloaded(), at);
        let event = transfer(&scene.run(&["get", "big.bin"]));
        assert_resumed(&event, at);
        assert_eq!(
            fs::read(scene.downloaded()).expect("it"),
            fs::read(scene.shelf.join("big.bin")).expect("it")
        );
        assert_eq!(scene.names(&scene.downloaded()), ["big.bin"]);
    }
}

#[test]
fn r19_a_killed_upload_over_udp_goes_on() {
    for seed in 0..runs() {
        let scene = Scene::new(size(), seed);
        let at = noted_at();
        let put = [&["put", "mine.bin"], &SLOW[..]].concat();
        kill_at(scene.client(scene.server.addr, &put).spawn().expect("it starts"), &scene.uploaded(), at);
        let event = transfer(&scene.run(&["put", "mine.bin"]));
        assert_resumed(&event, at);
        let mine = fs::read(scene.home.path().join("mine.bin")).expect("it");
        assert_eq!(fs::read(scene.uploaded()).expect("it"), mine);
        assert_eq!(scene.names(&scene.uploaded()), ["big.bin", "mine.bin"]);
    }
}

#[test]
fn r19_a_killed_download_over_tcp_goes_on() {
    for seed in 0..runs() {
        let scene = Scene::new(size(), seed);
        let (address, _) = relay(scene.server.addr, size() * 9 / 10);
        let child = scene.client(address, &["get", "big.bin", "--tcp"]).spawn().expect("it starts");
        kill_at(child, &scene.downloaded(), noted_at());
        let event = transfer(&scene.run(&["get", "big.bin", "--tcp"]));
        assert_resumed(&event, noted_at());
        assert_eq!(
            fs::read(scene.downloaded()).expect("it"),
            fs::read(scene.shelf.join("big.bin")).expect("it")
        );
    }
}

#[test]
fn r19_a_killed_upload_over_tcp_goes_on() {
    for seed in 0..runs() {
        let scene = Scene::new(size(), seed);
        let (address, is_open) = relay(scene.server.addr, size() * 9 / 10);
        let child = scene.client(address, &["put", "mine.bin", "--tcp"]).spawn().expect("it starts");
        let at = noted_at();
        kill_at(child, &scene.uploaded(), at);
        is_open.store(true, Ordering::Relaxed);
        let output = scene.client(address, &["put", "mine.bin", "--tcp"]).output().expect("it runs");
        let event = transfer(&output);
        assert_resumed(&event, at);
        let mine = fs::read(scene.home.path().join("mine.bin")).expect("it");
        assert_eq!(fs::read(scene.uploaded()).expect("it"), mine);
    }
}

#[test]
fn r1_storms_at_the_sockets_are_survived() {
    let (size, runs) = if is_night() { (67_739_648, 20) } else { (MIB, 1) };
    for (size, storm) in [(size, "loss=5%,reorder=5%,dup=2%"), (size.min(5_000_000), "loss=30%")] {
        for seed in 0..runs {
            let scene = Scene::new(size, seed);
            let storm = format!("{storm},seed={seed}");
            let event = transfer(&scene.run(&["get", "big.bin", "--udp", "--simulate", &storm]));
            assert!(event["resent"].as_u64().is_some_and(|resent| resent > 20), "{event}");
            let first_byte = event["first_byte_seconds"].as_f64();
            assert!(first_byte > Some(0.0) && first_byte < event["seconds"].as_f64(), "{event}");
            let original = fs::read(scene.shelf.join("big.bin")).expect("it");
            assert_eq!(fs::read(scene.downloaded()).expect("it"), original, "seed {seed}");
            transfer(&scene.run(&["put", "mine.bin", "--udp", "--simulate", &storm]));
            let mine = fs::read(scene.home.path().join("mine.bin")).expect("it");
            assert_eq!(fs::read(scene.uploaded()).expect("it"), mine, "seed {seed}");
        }
    }
}

#[test]
fn r33_where_udp_is_blocked_tcp_carries_the_file_and_the_client_says_so() {
    let scene = Scene::new(MIB, 1);
    let output = scene.run(&["get", "big.bin", "--simulate", "loss=99.99%"]);
    let event = transfer(&output);
    assert_eq!(event["transport"], "tcp", "{event}");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(told.contains("no answer over UDP"), "{told}");
    assert_eq!(fs::read(scene.downloaded()).expect("it"), fs::read(scene.shelf.join("big.bin")).expect("it"));
}

#[test]
fn s22_a_client_that_stood_still_goes_on() {
    use rustix::process::{Pid, Signal, kill_process};
    let scene = Scene::new(3 * MIB, 1);
    let get = [&["get", "big.bin"], &SLOW[..]].concat();
    let child = scene.client(scene.server.addr, &get).spawn().expect("it starts");
    let began = Instant::now();
    while noted(&scene.downloaded()) < MIB {
        assert!(began.elapsed() < PATIENCE, "nothing comes");
        thread::yield_now();
    }
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::STOP).expect("it runs");
    let noted_then = noted(&scene.downloaded());
    // Time itself is what is tested: the peer's timers run on while this one stands still.
    thread::sleep(Duration::from_secs(if is_night() { 10 } else { 3 }));
    assert_eq!(noted(&scene.downloaded()), noted_then, "it stands still");
    kill_process(pid, Signal::CONT).expect("it is there");
    let event = transfer(&child.wait_with_output().expect("it ends"));
    assert_eq!(event["resumed_from"], 0, "one transfer, not two: {event}");
    assert_eq!(fs::read(scene.downloaded()).expect("it"), fs::read(scene.shelf.join("big.bin")).expect("it"));
}
