//! Files to and from a server by hand: the lines, the octets over TCP, and a pool of our own for those over UDP.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use packetboat::rudp::split_mix_64;
use packetboat::transfer::part::Origin;
use packetboat::transfer::pool::{Cargo, Opener, Pool, PoolConfig, Request};
use packetboat::transfer::sink::{Sink, Target};
use packetboat::transfer::tuning::Tuning;
use packetboat::transfer::{Progress, TransferError};
use packetboat::wire::message::{Accept, ClientMessage, Offer, Secret, ServerMessage, TransferId};
use packetboat::wire::name::FileName;

use super::{PATIENCE, RawClient, TestServer, host};

pub(crate) const MIB: usize = 1 << 20;

/// Both ways a file can travel, as the lines name them.
pub(crate) const TRANSPORTS: [&str; 2] = ["tcp", "udp"];

/// So many octets of chance.
pub(crate) fn content(len: usize, mut seed: u64) -> Vec<u8> {
    std::iter::repeat_with(|| split_mix_64(&mut seed).to_le_bytes()).flatten().take(len).collect()
}

/// The names in a folder, hidden ones too, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

pub(crate) fn accepted(line: &str) -> Accept {
    match ServerMessage::parse(line.as_bytes()) {
        Ok(ServerMessage::Accept(accept)) => *accept,
        other => panic!("{other:?} in {line:?}"),
    }
}

pub(crate) fn offered(line: &str) -> Offer {
    match ServerMessage::parse(line.as_bytes()) {
        Ok(ServerMessage::Offer(offer)) => offer,
        other => panic!("{other:?} in {line:?}"),
    }
}

/// The token as it is on a line.
pub(crate) fn hex(secret: &Secret) -> String {
    blake3::Hash::from_bytes(secret.0).to_string()
}

/// What the owner of an upload says once it has read all.
pub(crate) fn promise(id: TransferId, content: &[u8]) -> String {
    format!("DONE_{id} {} {}\n", content.len(), blake3::hash(content))
}

/// The connection of a file: it has presented its token, and carries these octets.
pub(crate) fn stream(server: SocketAddr, token: &Secret, octets: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(ClientMessage::Data(token.clone()).emit().as_bytes()).expect("written");
    // A server that has seen enough closes early.
    let _ = stream.write_all(octets);
    stream
}

/// The octets that come behind a token, until the server closes.
pub(crate) fn fetch_tcp(server: SocketAddr, token: &Secret) -> Vec<u8> {
    let mut octets = Vec::new();
    // A server that ends it early closes, be it with a reset.
    let _ = stream(server, token, b"").read_to_end(&mut octets);
    octets
}

/// A file of ours under way over UDP.
pub(crate) struct Sending {
    pub(crate) ended: Receiver<Result<(), TransferError>>,
    pub(crate) progress: Arc<Progress>,
}

/// An unfinished file as the worker gives it back, and how it went.
pub(crate) type Arrived = (Sink, Result<(), TransferError>);

/// Our side of UDP transfers.
pub(crate) struct UdpEnd(pub(crate) Pool);

impl UdpEnd {
    pub(crate) fn new() -> UdpEnd {
        Self::with(host(), Tuning::default())
    }

    /// With faults at its socket.
    pub(crate) fn simulating(spec: &str) -> UdpEnd {
        Self::with(host(), Tuning { simulate: Some(spec.parse().expect("a spec")), ..Tuning::default() })
    }

    /// At another address of this machine, or with faults at its socket.
    pub(crate) fn at(ip: Ipv4Addr, simulate: Option<&str>) -> UdpEnd {
        let simulate = simulate.map(|spec| spec.parse().expect("a spec"));
        Self::with(ip.into(), Tuning { simulate, ..Tuning::default() })
    }

    /// About 4 MB/s: slow enough to be caught in the middle.
    pub(crate) fn slow() -> UdpEnd {
        let simulate = Some("delay=20ms".parse().expect("a spec"));
        let controller = Some("fixed:128".parse().expect("a controller"));
        Self::with(host(), Tuning { simulate, controller, ..Tuning::default() })
    }

    fn with(ip: IpAddr, tuning: Tuning) -> UdpEnd {
        UdpEnd(Pool::start(&PoolConfig { ip, base_port: 0, workers: 1, tuning }).expect("a port"))
    }

    /// Sends these octets of a file with this content.
    pub(crate) fn send(
        &self,
        server: IpAddr,
        accept: &Accept,
        content: &[u8],
        wanted: Range<u64>,
    ) -> Sending {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        let (told, ended) = bounded(1);
        let ended_box = Box::new(move |outcome| _ = told.send(outcome));
        let progress = Arc::new(Progress::default());
        self.start(
            (server, accept.port).into(),
            (accept.id, accept.secret.clone()),
            Cargo::Send { file, wanted, ended: ended_box },
            &progress,
        );
        Sending { ended, progress }
    }

    /// Receives what is offered into a folder; the outcome comes with the unfinished file.
    pub(crate) fn receive(
        &self,
        server: SocketAddr,
        offer: &Offer,
        folder: &Path,
    ) -> (Receiver<Arrived>, Arc<Progress>) {
        let target = Target::Folder(folder.into(), FileName::parse("received").expect("a name"));
        let sink = Sink::create(&target, &Origin::new(offer.file.size)).expect("a sink");
        self.receive_into(server, offer, sink)
    }

    fn receive_into(
        &self,
        server: SocketAddr,
        offer: &Offer,
        sink: Sink,
    ) -> (Receiver<Arrived>, Arc<Progress>) {
        let (told, ended) = bounded(1);
        let ended_box = Box::new(move |sink, outcome| _ = told.send((sink, outcome)));
        let progress = Arc::new(Progress::default());
        let key = (offer.id, offer.secret.clone());
        self.start(server, key, Cargo::Receive { sink, ended: ended_box }, &progress);
        (ended, progress)
    }

    fn start(
        &self,
        server: SocketAddr,
        (id, key): (TransferId, Secret),
        cargo: Cargo,
        progress: &Arc<Progress>,
    ) {
        let opener = Opener::Us { server, open_max: PATIENCE };
        let rtt = Duration::from_millis(1);
        self.0.start_transfer(
            Request { id, key, opener, cargo, rtt, progress: Arc::clone(progress) },
            u64::MAX,
        );
    }

    /// The whole of a file, of which `have` was there and the rest is offered.
    pub(crate) fn fetch_rest(&self, server: SocketAddr, offer: &Offer, have: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::Folder(folder.path().into(), FileName::parse("received").expect("a name"));
        let mut first = Sink::create(&target, &Origin::new(offer.file.size)).expect("a sink");
        first.write(0, have).expect("written");
        drop(first);
        let sink = Sink::leftover(&target, |_| true).expect("a leftover");
        let server = (server.ip(), offer.port).into();
        let (sink, received) =
            self.receive_into(server, offer, sink).0.recv_timeout(PATIENCE).expect("an end");
        received.expect("all of it");
        fs::read(sink.part_path()).expect("there")
    }

    /// The octets of what is offered.
    pub(crate) fn fetch(&self, server: SocketAddr, offer: &Offer, digest: blake3::Hash) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let server = (server.ip(), offer.port).into();
        let (sink, received) =
            self.receive(server, offer, folder.path()).0.recv_timeout(PATIENCE).expect("an end");
        received.expect("all of it");
        fs::read(sink.keep(digest).expect("identical")).expect("kept")
    }
}

impl RawClient {
    /// Asks for a file to be taken.
    pub(crate) fn put(&mut self, transport: &str, size: usize, name: &str) -> Accept {
        accepted(&self.ask(format!("PUT_{transport} {size} - {name}")))
    }

    /// The same, to go on with an earlier upload; the old one may still be ending.
    pub(crate) fn put_again(&mut self, transport: &str, size: usize, token: &Secret, name: &str) -> Accept {
        let request = format!("PUT_{transport} {size} {} {name}", hex(token));
        loop {
            let answer = self.ask(&request);
            if !answer.starts_with("ERR_busy PUT your earlier upload of it is being ended") {
                return accepted(&answer);
            }
        }
    }

    /// Puts a file whole; gives what the server says at its end.
    pub(crate) fn put_whole(&mut self, udp: &UdpEnd, transport: &str, content: &[u8], name: &str) -> String {
        let accept = self.put(transport, content.len(), name);
        self.deliver(udp, transport, &accept, content);
        self.line()
    }

    /// Sends what is wanted of an accepted file, and tells its digest.
    pub(crate) fn deliver(&mut self, udp: &UdpEnd, transport: &str, accept: &Accept, content: &[u8]) {
        let from = accept.prefix.map_or(0, |prefix| prefix.offset);
        let server = self.stream.peer_addr().expect("connected");
        if transport == "udp" {
            let sending = udp.send(server.ip(), accept, content, from..content.len() as u64);
            sending.ended.recv_timeout(PATIENCE).expect("an end").expect("sent");
        } else {
            let rest = &content[usize::try_from(from).expect("small")..];
            let mut stream = stream(server, &accept.secret, rest);
            stream.shutdown(Shutdown::Write).expect("connected");
            assert_eq!(stream.read(&mut [0]).expect("closed when it has all"), 0);
        }
        self.send(promise(accept.id, content));
    }

    /// Fetches a file whole.
    pub(crate) fn get(&mut self, udp: &UdpEnd, transport: &str, name: &str) -> Vec<u8> {
        let offer = offered(&self.ask(format!("GET_{transport} {name}")));
        // A large file may take longer to read than one may be silent.
        let done = self.line_but(&["PING_"]);
        let digest = done.split(' ').nth(2).and_then(|hex| blake3::Hash::from_hex(hex).ok());
        let digest = digest.unwrap_or_else(|| panic!("no digest in {done:?}"));
        let server = self.stream.peer_addr().expect("connected");
        let octets = match transport {
            "udp" => udp.fetch(server, &offer, digest),
            _ => fetch_tcp(server, &offer.secret),
        };
        assert_eq!((octets.len() as u64, blake3::hash(&octets)), (offer.file.size, digest), "{name}");
        octets
    }
}

/// A server that lets everybody ask as fast as they can, with an empty shelf.
pub(crate) fn fast_server() -> TestServer {
    TestServer::start(&["--no-rate-limit"])
}
