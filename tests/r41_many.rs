//! Many transfers at once: fair to each other, none forgotten, none held up by another. Goal R41, and ERR_busy beyond
//! the limits is in `r24_downloads`.
//!
//! On every push 10 downloads and 10 people who talk meanwhile; at night 40 and 50.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

mod common;
mod moves;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::TestServer;
use crossbeam_channel::{Receiver, bounded};
use moves::{MIB, are_identical, by_tier, make_file, transfer};
use packetboat::transfer::part::Origin;
use packetboat::transfer::pool::{Cargo, Opener, Pool, PoolConfig, Request};
use packetboat::transfer::sink::{Sink, Target};
use packetboat::transfer::tuning::Tuning;
use packetboat::transfer::{Progress, TransferError};
use packetboat::wire::message::{Secret, TransferId};
use packetboat::wire::name::FileName;
use rustix::process::{Resource, getrlimit, setrlimit};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(120);

fn pool(workers: usize, simulate: Option<&str>) -> Pool {
    let simulate = simulate.map(|spec| spec.parse().expect("a spec"));
    let tuning = Tuning { simulate, ..Tuning::default() };
    Pool::start(&PoolConfig { ip: LOOPBACK, base_port: 0, workers, tuning }).expect("ports")
}

/// A file on its way from one pool to the other.
struct Moving {
    progress: Arc<Progress>,
    sent: Receiver<Result<(), TransferError>>,
    received: Receiver<(Sink, Result<(), TransferError>)>,
}

/// Begins a download that may go on to `granted`; `on_end` is called by the receiver's worker when it ends.
fn start(
    [server, client]: [&Pool; 2],
    id: u32,
    source: &Path,
    folder: &Path,
    granted: u64,
    on_end: impl FnOnce() + Send + 'static,
) -> Moving {
    let (id, mut key) = (TransferId(id), Secret([7; 32]));
    key.0[..4].copy_from_slice(&id.0.to_be_bytes());
    let file = File::open(source).expect("the source");
    let size = file.metadata().expect("its size").len();
    let name = FileName::parse(&format!("copy-{id}")).expect("a name");
    let sink = Sink::create(&Target::Folder(folder.into(), name), &Origin::new(size)).expect("a sink");
    let rtt = Duration::from_millis(1);
    let (tell, sent) = bounded(1);
    let ended = Box::new(move |outcome| _ = tell.try_send(outcome));
    let cargo = Cargo::Send { file, wanted: 0..size, ended };
    let progress = Arc::default();
    let opener = Opener::Peer(LOOPBACK);
    let port =
        server.start_transfer(Request { id, key: key.clone(), opener, cargo, rtt, progress }, u64::MAX);
    let (tell, received) = bounded(1);
    let ended = Box::new(move |sink, outcome| {
        on_end();
        let _ = tell.try_send((sink, outcome));
    });
    let cargo = Cargo::Receive { sink, ended };
    let progress = Arc::new(Progress::default());
    let opener = Opener::Us { server: (LOOPBACK, port).into(), open_max: PATIENCE };
    client.start_transfer(Request { id, key, opener, cargo, rtt, progress: Arc::clone(&progress) }, granted);
    Moving { progress, sent, received }
}

impl Moving {
    fn arrived(&self) -> Sink {
        let (sink, received) = self.received.recv_timeout(PATIENCE).expect("an end");
        received.expect("received");
        self.sent.recv_timeout(PATIENCE).expect("an end").expect("sent");
        sink
    }

    fn keep(&self, digest: blake3::Hash) {
        self.arrived().keep(digest).expect("identical");
    }
}

/// A file of chance, and its digest.
fn source(folder: &Path, size: u64) -> (std::path::PathBuf, blake3::Hash) {
    let path = folder.join("source");
    make_file(&path, size, size);
    let digest = blake3::hash(&fs::read(&path).expect("it"));
    (path, digest)
}

/// R. Jain: 1 where all have the same, 1/n where one has all.
fn jains_index(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|&share| share as f64).sum();
    let squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
    sum * sum / (shares.len() as f64 * squares)
}

/// Fetches a file 64 times at once, and gives Jain's index of what each has moved when the first of them ends.
fn fairness_of_equal_downloads() -> f64 {
    const DOWNLOADS: u32 = 64;
    let folder = tempfile::tempdir().expect("a folder");
    let (source, digest) = source(folder.path(), by_tier(MIB, 4 * MIB));
    // A round trip in which the last has its leave before the first can make use of its own.
    let (server, client) = (pool(1, Some("delay=10ms")), pool(1, None));
    // The counters are read by the worker that ends the first, at that moment.
    let all: Arc<parking_lot::Mutex<Vec<Arc<Progress>>>> = Arc::default();
    let (tell, shares) = bounded(DOWNLOADS as usize);
    let transfers: Vec<Moving> = (1..=DOWNLOADS)
        .map(|id| {
            let (all, tell) = (Arc::clone(&all), tell.clone());
            let on_end = move || {
                let shares: Vec<u64> = all.lock().iter().map(|progress| progress.moved_bytes()).collect();
                let _ = tell.try_send(shares);
            };
            // One packet each, so that all are open before any goes on.
            start([&server, &client], id, &source, folder.path(), 1_000, on_end)
        })
        .collect();
    all.lock().extend(transfers.iter().map(|transfer| Arc::clone(&transfer.progress)));
    let began = Instant::now();
    while transfers.iter().any(|transfer| transfer.progress.moved_bytes() < 1_000) {
        assert!(began.elapsed() < PATIENCE, "some never begin");
        thread::yield_now();
    }
    (1..=DOWNLOADS).for_each(|id| client.grant(TransferId(id), u64::MAX));
    let shares = shares.recv_timeout(PATIENCE).expect("the first ends");
    transfers.iter().for_each(|transfer| transfer.keep(digest));
    jains_index(&shares)
}

#[test]
fn r41_equal_downloads_have_moved_equally_much_when_the_first_ends() {
    // On every push other tests want the processor too, and what they take is taken from some and not from others.
    let tries = by_tier(3, 1);
    let mut indices = Vec::new();
    while indices.len() < tries && indices.last().is_none_or(|&index| index < 0.95) {
        indices.push(fairness_of_equal_downloads());
    }
    assert!(indices.iter().any(|&index| index >= 0.95), "Jain's index: {indices:?}");
}

#[test]
fn r41_a_thousand_small_files_all_arrive() {
    // The source, the part and its state, the handle of whoever follows it; and some for everything else.
    const DESCRIPTORS_EACH: u64 = 4;
    const DESCRIPTORS_ELSE: u64 = 200;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum");
    let room = limit.maximum.map_or(u64::MAX, |max| max.saturating_sub(DESCRIPTORS_ELSE) / DESCRIPTORS_EACH);
    let count = room.min(1_024) as u32;
    assert!(count >= 64, "this system gives too few descriptors: {limit:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let (source, digest) = source(folder.path(), 64 * 1_024);
    let (server, client) = (pool(2, None), pool(2, None));
    let transfers: Vec<Moving> =
        (1..=count).map(|id| start([&server, &client], id, &source, folder.path(), 1_000, || {})).collect();
    let began = Instant::now();
    while transfers.iter().any(|transfer| transfer.progress.moved_bytes() < 1_000) {
        assert!(began.elapsed() < PATIENCE, "some never begin");
        thread::yield_now();
    }
    // All are under way at this moment.
    (1..=count).for_each(|id| client.grant(TransferId(id), u64::MAX));
    for transfer in transfers {
        // To keep them would be two thousand fsyncs.
        let sink = transfer.arrived();
        assert_eq!(blake3::hash(&fs::read(sink.part_path()).expect("it")), digest);
        sink.discard();
    }
    drop([server, client]);
    assert_eq!(moves::names(folder.path()), ["source"]);
}

#[test]
fn r41_a_slow_receiver_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, digest) = source(folder.path(), 4 * MIB);
    let (server, near) = (pool(1, None), pool(1, None));
    let far = pool(1, Some("delay=300ms,loss=20%,seed=41"));
    let slow = start([&server, &far], 1, &source, folder.path(), u64::MAX, || {});
    let began = Instant::now();
    while slow.progress.moved_bytes() == 0 {
        assert!(began.elapsed() < PATIENCE, "it never begins");
        thread::yield_now();
    }
    for id in 2..=5 {
        let quick = start([&server, &near], id, &source, folder.path(), u64::MAX, || {});
        quick.keep(digest);
    }
    assert!(slow.received.is_empty(), "it was not slow at all");
    far.cancel(TransferId(1));
    let (sink, received) = slow.received.recv_timeout(PATIENCE).expect("an end");
    assert!(matches!(received, Err(TransferError::Cancelled)), "{received:?}");
    sink.discard();
}

#[test]
fn r41_downloads_and_talk_at_once() {
    let (downloads, people) = by_tier((10, 10), (40, 50));
    let size = by_tier(MIB, 16 * MIB);
    let mut original = std::path::PathBuf::new();
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        original = files.join("big.bin");
        make_file(&original, size, 41);
    });
    let homes: Vec<_> = (0..downloads).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let children: Vec<_> = homes
        .iter()
        .enumerate()
        .map(|(number, home)| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
            command.arg(server.addr.to_string()).args(["get", "big.bin", "--json"]);
            command.arg(if number % 2 == 0 { "--udp" } else { "--tcp" });
            command.args(["--cc", "fixed:32", "--simulate", "delay=5ms"]).current_dir(home.path());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("it starts")
        })
        .collect();
    let is_over = AtomicBool::new(false);
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        let talks: Vec<_> = (0..people)
            .map(|number| {
                let (server, is_over) = (&server, &is_over);
                scope.spawn(move || {
                    let nick = format!("talker{number}");
                    // The answers of others who come and go are not looked at.
                    let mut member = server.login(&nick);
                    let mut waits = Vec::new();
                    for round in 0.. {
                        let said_at = Instant::now();
                        member.send(format!("ALL_round {round}\n"));
                        let mine = format!("MSG_{nick} round {round}");
                        while member.line() != mine {}
                        waits.push(said_at.elapsed());
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    waits
                })
            })
            .collect();
        for (child, home) in children.into_iter().zip(&homes) {
            transfer(&child.wait_with_output().expect("it ends"));
            assert!(are_identical(&home.path().join("downloads/big.bin"), &original));
        }
        is_over.store(true, Ordering::Relaxed);
        talks.into_iter().flat_map(|talk| talk.join().expect("all are answered")).collect()
    });
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    assert!(waits.len() >= people, "everybody was answered");
    if moves::is_night() {
        assert!(p99 <= Duration::from_millis(100), "p99 of {} answers: {p99:?}", waits.len());
    }
}
