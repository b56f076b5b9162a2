//! The pool: N named workers, each with its own UDP socket and port.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;

use super::carried::{Share, Transfer};
use super::fault::Fault;
use super::sink::Sink;
use super::socket::{Path, Socket};
use super::tuning::Tuning;
use super::wake::Waker;
use super::worker::{Command, Probed, WINDOW_BYTES, Worker};
use super::{Progress, TransferError};
use crate::rudp::probe::Echo;
use crate::rudp::{Config, Connection, Direction, OFFER_LIFE, PACKET_LEN_IPV4, PACKET_LEN_IPV6, Role};
use crate::wire::message::{Secret, TransferId};

/// Ours: commands that wait for a worker; whoever brings one more waits with it.
const COMMANDS_MAX: usize = 256;

/// How a pool is set up.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The address its sockets are bound to.
    pub ip: IpAddr,
    /// The port of the first worker, the others follow; 0 lets the system choose each.
    pub base_port: u16,
    /// How many workers.
    pub workers: usize,
    /// How the sockets and connections behave.
    pub tuning: Tuning,
}

/// One file to move over a connection of its own.
pub struct Request {
    /// The transfer's number.
    pub id: TransferId,
    /// The key of its packets.
    pub key: Secret,
    /// Who opens the connection.
    pub opener: Opener,
    /// The file, which way it goes, and whom to tell.
    pub cargo: Cargo,
    /// The round trip of the control session's login, for the first timers.
    pub rtt: Duration,
    /// Where the worker tells how far it is.
    pub progress: Arc<Progress>,
}

/// Who opens a connection.
#[derive(Debug, Clone, Copy)]
pub enum Opener {
    /// The peer, from this address alone: that of its control session.
    Peer(IpAddr),
    /// We do.
    Us {
        /// The server's address with the port of the offer.
        server: SocketAddr,
        /// How long to wait for an answer before [`TransferError::NoAnswer`].
        open_max: Duration,
    },
}

/// What a connection carries. `ended` is called once, on the worker's thread: it must not block.
pub enum Cargo {
    /// From here to the peer.
    Send {
        /// The open file.
        file: File,
        /// Which of its octets: the peer has those before, and the file ends with them.
        wanted: Range<u64>,
        /// Hears `Ok` when the peer has acknowledged every octet.
        ended: Box<dyn FnOnce(Result<(), TransferError>) + Send>,
    },
    /// From the peer to here.
    Receive {
        /// Where the octets go; it knows which are wanted.
        sink: Sink,
        /// Gets the sink back, on `Ok` with every octet written.
        ended: Box<dyn FnOnce(Sink, Result<(), TransferError>) + Send>,
    },
}

/// The handle of all workers. Dropping it is [`Pool::shutdown`].
#[derive(Debug)]
pub struct Pool {
    workers: Mutex<Vec<Handle>>,
    ports: Vec<u16>,
    burst_len: u32,
    tuning: Tuning,
}

#[derive(Debug)]
struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    /// Transfers in its care.
    load: Arc<AtomicUsize>,
    port: u16,
    thread: JoinHandle<()>,
}

impl Pool {
    /// Binds the sockets and starts the threads, named `transfer-0` and up.
    pub fn start(config: &PoolConfig) -> io::Result<Pool> {
        let (mut workers, mut burst_len) = (Vec::new(), u32::MAX);
        for index in 0..config.workers.max(1) {
            let offset = u16::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
            let port = match config.base_port {
                0 => 0,
                base => base.checked_add(offset).ok_or(io::ErrorKind::InvalidInput)?,
            };
            let socket = Socket::bind((config.ip, port).into())?;
            burst_len = burst_len.min(socket.burst_len());
            let fault = config.tuning.simulate.clone().map(|spec| Fault::new(spec, index as u64));
            workers.push(Handle::start(index, socket, fault)?);
        }
        let ports = workers.iter().map(|worker| worker.port).collect();
        Ok(Pool { workers: Mutex::new(workers), ports, burst_len, tuning: config.tuning.clone() })
    }

    /// The workers' UDP ports, in order.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// What was chosen for its connections.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Hands a file to the least loaded worker and gives its port; the worker knows of it before any SYN can come.
    ///
    /// A receiver lets the sender go on to `granted`, and then waits for [`grant`](Self::grant).
    pub fn start_transfer(&self, request: Request, granted: u64) -> u16 {
        let Request { id, key, opener, cargo, rtt, progress } = request;
        let (role, peer_ip, path, open_max) = match opener {
            Opener::Peer(ip) => (Role::Server, ip, None, OFFER_LIFE),
            Opener::Us { server, open_max } => {
                (Role::Client, server.ip(), Some(Path { peer: server, local: None }), open_max)
            }
        };
        let (direction, wanted) = match &cargo {
            Cargo::Send { wanted, .. } => (Direction::Send, wanted.clone()),
            Cargo::Receive { sink, .. } => (Direction::Receive, sink.start()..sink.size()),
        };
        let mut seed = [0; 8];
        // Without the system's randomness the numbers left out can be guessed; the seal holds all the same.
        let _ = getrandom::fill(&mut seed);
        let peer_ip = peer_ip.to_canonical();
        let packet_len_max = if peer_ip.is_ipv4() { PACKET_LEN_IPV4 } else { PACKET_LEN_IPV6 };
        let config = Config {
            role,
            direction,
            id,
            key,
            size: wanted.end,
            start: wanted.start,
            packet_len_max: self.tuning.packet_len_max.unwrap_or(packet_len_max).min(packet_len_max),
            window_bytes: WINDOW_BYTES,
            burst_len: self.burst_len,
            rtt_guess: rtt,
            open_max,
            arq: self.tuning.arq,
            controller: self.tuning.controller,
            granted,
            seed: u64::from_ne_bytes(seed),
        };
        let mut connection = Connection::new(config, Instant::now());
        if let Some(trace) = &self.tuning.trace {
            connection.set_trace(trace.of(id));
        }
        self.hand_over(Transfer {
            id,
            connection,
            peer_ip,
            path,
            cargo: Some(cargo),
            progress,
            failure: None,
            deadline: None,
            is_ready: false,
            window_bytes: WINDOW_BYTES,
            share: None,
        })
    }

    /// Lets the least loaded worker answer probes from this address, and gives its port. `arrived` counts them.
    pub fn start_probe(
        &self,
        id: TransferId,
        secret: &Secret,
        peer_ip: IpAddr,
        arrived: Arc<AtomicU32>,
    ) -> u16 {
        let least = {
            let workers = self.workers.lock();
            workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)).map(Handle::line)
        };
        let Some((commands, waker, port)) = least else { return 0 };
        let echo = Echo::new(secret, Instant::now());
        let probed = Probed { echo, peer_ip: peer_ip.to_canonical(), arrived };
        // A worker that is gone answers nothing.
        let _ = commands.send(Command::Probe(id, Box::new(probed)));
        drop(commands);
        waker.wake();
        port
    }

    /// Probes of this number are answered no longer. Unknown numbers are ignored.
    pub fn end_probe(&self, id: TransferId) {
        self.tell_all(|| Command::EndProbe(id));
    }

    fn hand_over(&self, mut transfer: Transfer) -> u16 {
        let least = {
            let workers = self.workers.lock();
            let least = workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
            // Counted here and now, so that the next one goes elsewhere.
            least.map(|worker| (Share::of(&worker.load), worker.line()))
        };
        let Some((share, (commands, waker, port))) = least else {
            transfer.finish_unstarted();
            return 0;
        };
        transfer.share = Some(share);
        if let Err(refused) = commands.send(Command::Start(Box::new(transfer)))
            && let Command::Start(transfer) = refused.into_inner()
        {
            transfer.finish_unstarted();
        }
        // Before the wake-up: a worker that finds the last line gone ends, and nobody would wake it again.
        drop(commands);
        waker.wake();
        port
    }

    /// Ends a transfer early; its `ended` hears [`TransferError::Cancelled`]. Unknown numbers are ignored.
    pub fn cancel(&self, id: TransferId) {
        self.tell_all(|| Command::Cancel(id));
    }

    /// Lets the sender of a file that comes here go on to this offset. Unknown numbers are ignored.
    pub fn grant(&self, id: TransferId, granted: u64) {
        self.tell_all(|| Command::Grant(id, granted));
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        let lines: Vec<_> = self.workers.lock().iter().map(Handle::line).collect();
        for (commands, waker, _) in lines {
            // A worker that is gone has no transfers.
            let _ = commands.send(command());
            // As above.
            drop(commands);
            waker.wake();
        }
    }

    /// Ends every transfer and joins the threads.
    pub fn shutdown(&self) {
        for Handle { commands, waker, thread, .. } in std::mem::take(&mut *self.workers.lock()) {
            drop(commands);
            waker.wake();
            if thread.join().is_err() {
                log::error!("a transfer worker has panicked");
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Handle {
    fn start(index: usize, socket: Socket, fault: Option<Fault>) -> io::Result<Handle> {
        let (sender, receiver) = bounded(COMMANDS_MAX);
        let (waker, load) = (Arc::new(Waker::new()?), Arc::new(AtomicUsize::new(0)));
        let port = socket.port();
        let worker = Worker::new(socket, receiver, Arc::clone(&waker), fault);
        let thread = thread::Builder::new().name(format!("transfer-{index}")).spawn(move || worker.run())?;
        Ok(Handle { commands: sender, waker, load, port, thread })
    }

    /// What it takes to tell the worker something without holding the lock.
    fn line(&self) -> (Sender<Command>, Arc<Waker>, u16) {
        (self.commands.clone(), Arc::clone(&self.waker), self.port)
    }
}
