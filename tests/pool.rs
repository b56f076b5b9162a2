//! Workers with real sockets and real files on loopback.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use packetboat::rudp::split_mix_64;
use packetboat::transfer::part::Origin;
use packetboat::transfer::pool::{Cargo, Opener, Pool, PoolConfig, Request};
use packetboat::transfer::sink::{Sink, Target};
use packetboat::transfer::tuning::Tuning;
use packetboat::transfer::{Progress, TransferError};
use packetboat::wire::message::{Secret, TransferId};
use packetboat::wire::name::FileName;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn pool(workers: usize, simulate: Option<&str>) -> Pool {
    let simulate = simulate.map(|spec| spec.parse().expect("a spec"));
    let tuning = Tuning { simulate, ..Tuning::default() };
    Pool::start(&PoolConfig { ip: LOOPBACK, base_port: 0, workers, tuning }).expect("ports")
}

/// A file of chance, and its digest.
fn make_file(path: &Path, size: usize, mut seed: u64) -> blake3::Hash {
    let bytes: Vec<u8> =
        std::iter::repeat_with(|| split_mix_64(&mut seed).to_le_bytes()).flatten().take(size).collect();
    fs::write(path, &bytes).expect("a file");
    blake3::hash(&bytes)
}

/// A file as the worker gives it back, and how it went.
type Arrived = (Sink, Result<(), TransferError>);

struct Transfer {
    sent: Receiver<Result<(), TransferError>>,
    received: Receiver<Arrived>,
    progress: Arc<Progress>,
}

fn start(server: &Pool, client: &Pool, id: u32, source: &Path, folder: &Path) -> Transfer {
    start_at(server, client, id, source, folder, None)
}

/// The client finds the server at another port, where somebody stands between.
fn start_at(
    server: &Pool,
    client: &Pool,
    id: u32,
    source: &Path,
    folder: &Path,
    relay: Option<u16>,
) -> Transfer {
    let (id, key) = (TransferId(id), Secret([id as u8; 32]));
    let file = File::open(source).expect("the source");
    let size = file.metadata().expect("its size").len();
    let name = FileName::parse(&format!("copy-{id}")).expect("a name");
    let sink = Sink::create(&Target::Folder(folder.into(), name), &Origin::new(size)).expect("a sink");
    let (sent_to, sent) = bounded(1);
    let ended = Box::new(move |outcome| sent_to.send(outcome).expect("the test waits"));
    let request = Request {
        id,
        key: key.clone(),
        opener: Opener::Peer(LOOPBACK),
        cargo: Cargo::Send { file, wanted: 0..size, ended },
        rtt: RTT,
        progress: Arc::default(),
    };
    let port = server.start_transfer(request, u64::MAX);
    let (received, progress) = receive(client, id, key, (LOOPBACK, relay.unwrap_or(port)).into(), sink, LONG);
    Transfer { sent, received, progress }
}

/// Fetches what is offered.
fn receive(
    client: &Pool,
    id: TransferId,
    key: Secret,
    server: SocketAddr,
    sink: Sink,
    open_max: Duration,
) -> (Receiver<Arrived>, Arc<Progress>) {
    let (received_to, received) = bounded(1);
    let progress = Arc::new(Progress::default());
    let ended = Box::new(move |sink, outcome| received_to.send((sink, outcome)).expect("the test waits"));
    let cargo = Cargo::Receive { sink, ended };
    let opener = Opener::Us { server, open_max };
    let request = Request { id, key, opener, cargo, rtt: RTT, progress: Arc::clone(&progress) };
    client.start_transfer(request, u64::MAX);
    (received, progress)
}

const RTT: Duration = Duration::from_millis(1);

const LONG: Duration = Duration::from_secs(120);

impl Transfer {
    fn keep(&self, digest: blake3::Hash) -> std::path::PathBuf {
        let (sink, received) = self.received.recv_timeout(LONG).expect("an end");
        received.expect("received");
        self.sent.recv_timeout(LONG).expect("an end").expect("sent");
        sink.keep(digest).expect("identical")
    }
}

#[test]
fn a_file_arrives_over_loopback() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    for size in [0, 1, 70_000, 5 << 20] {
        let digest = make_file(&source, size, 1);
        let (server, client) = (pool(1, None), pool(1, None));
        let transfer = start(&server, &client, 1, &source, folder.path());
        let copy = transfer.keep(digest);
        assert_eq!(transfer.progress.moved_bytes(), size as u64);
        assert_eq!(fs::read(&copy).expect("the copy"), fs::read(&source).expect("the source"));
    }
}

#[test]
fn s2_faults_at_both_sockets_are_survived() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    let digest = make_file(&source, 2 << 20, 2);
    let spec = "loss=10%,reorder=5%,dup=2%,corrupt=1%,seed=7";
    let (server, client) = (pool(1, Some(spec)), pool(1, Some(spec)));
    let transfer = start(&server, &client, 1, &source, folder.path());
    transfer.keep(digest);
    assert!(transfer.progress.resent_packets() > 100, "{:?}", transfer.progress);
}

#[test]
fn many_transfers_share_two_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    let digest = make_file(&source, 200_000, 3);
    let (server, client) = (pool(2, None), pool(1, None));
    let transfers: Vec<_> = (0..200).map(|id| start(&server, &client, id, &source, folder.path())).collect();
    for transfer in transfers {
        transfer.keep(digest);
    }
}

#[test]
fn a_cancelled_transfer_tells_both_ends_and_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    make_file(&source, 4 << 20, 4);
    // Slow enough to be caught in the middle.
    let (server, client) = (pool(1, Some("delay=50ms")), pool(1, None));
    let transfer = start(&server, &client, 9, &source, folder.path());
    let began = Instant::now();
    while transfer.progress.moved_bytes() == 0 {
        assert!(began.elapsed() < LONG, "nothing moves");
        std::thread::yield_now();
    }
    client.cancel(TransferId(9));
    let (sink, received) = transfer.received.recv_timeout(LONG).expect("an end");
    assert!(matches!(received, Err(TransferError::Cancelled)), "{received:?}");
    sink.discard();
    let sent = transfer.sent.recv_timeout(LONG).expect("an end");
    assert!(matches!(sent, Err(TransferError::Refused(_))), "{sent:?}");
    drop((client, server));
    let left: Vec<_> = fs::read_dir(folder.path())
        .expect("the folder")
        .map(|entry| entry.expect("one").file_name())
        .collect();
    assert_eq!(left, ["source"]);
}

#[test]
fn strangers_get_no_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    let digest = make_file(&source, 1 << 20, 5);
    let (server, client) = (pool(1, None), pool(1, None));
    let stranger = UdpSocket::bind((LOOPBACK, 0)).expect("a port");
    let transfer = start(&server, &client, 1, &source, folder.path());
    let mut seed = 5;
    for round in 0..5_000u32 {
        let mut forged: Vec<u8> =
            std::iter::repeat_with(|| split_mix_64(&mut seed) as u8).take(1_200).collect();
        forged[..5].copy_from_slice(&[(round % 8) as u8, 0, 0, 0, (round % 3) as u8]);
        stranger.send_to(&forged, (LOOPBACK, server.ports()[0])).expect("sent");
    }
    transfer.keep(digest);
    stranger.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    assert!(stranger.recv(&mut [0; 2_000]).is_err(), "silence");
}

#[test]
fn a_server_that_is_not_there_is_said_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = pool(1, None);
    let silent = UdpSocket::bind((LOOPBACK, 0)).expect("a port");
    let name = FileName::parse("never").expect("a name");
    let sink = Sink::create(&Target::Folder(folder.path().into(), name), &Origin::new(10)).expect("a sink");
    let began = Instant::now();
    let server = silent.local_addr().expect("bound");
    let (received, _) =
        receive(&client, TransferId(1), Secret([0; 32]), server, sink, Duration::from_millis(300));
    let (_, outcome) = received.recv_timeout(LONG).expect("an end");
    assert!(matches!(outcome, Err(TransferError::NoAnswer)), "{outcome:?}");
    assert!(began.elapsed() >= Duration::from_millis(300));
}

/// Stands between a client and a server like a NAT that gives the client a new port after each `lease` datagrams.
fn rebinding_relay(server: u16, lease: usize) -> u16 {
    let inside = UdpSocket::bind((LOOPBACK, 0)).expect("a port");
    let port = inside.local_addr().expect("bound").port();
    let client = Arc::new(Mutex::new(None));
    thread::spawn(move || {
        let mut datagram = [0; 2_000];
        let mut outside: Option<UdpSocket> = None;
        for count in 0.. {
            let Ok((len, from)) = inside.recv_from(&mut datagram) else { return };
            *client.lock().expect("nobody panics") = Some(from);
            if count % lease == 0 {
                let fresh = UdpSocket::bind((LOOPBACK, 0)).expect("a port");
                let (back, inside, client) = (
                    fresh.try_clone().expect("a handle"),
                    inside.try_clone().expect("a handle"),
                    Arc::clone(&client),
                );
                // The first port dies: who goes on answering to it is not heard.
                let dies = count == 0;
                thread::spawn(move || {
                    let mut datagram = [0; 2_000];
                    let mut passed = 0;
                    while let Ok(len) = back.recv(&mut datagram) {
                        passed += 1;
                        if dies && passed > 20 {
                            return;
                        }
                        let to: Option<SocketAddr> = *client.lock().expect("nobody panics");
                        let _ = inside.send_to(&datagram[..len], to.expect("it has spoken"));
                    }
                });
                outside = Some(fresh);
            }
            let outside = outside.as_ref().expect("made for the first datagram");
            let _ = outside.send_to(&datagram[..len], (LOOPBACK, server));
        }
    });
    port
}

#[test]
fn r34_a_transfer_goes_on_when_the_clients_port_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    let digest = make_file(&source, 2 << 20, 6);
    let (server, client) = (pool(1, None), pool(1, None));
    let relay = rebinding_relay(server.ports()[0], 10);
    let transfer = start_at(&server, &client, 1, &source, folder.path(), Some(relay));
    transfer.keep(digest);
}
