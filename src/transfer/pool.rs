//! The pool: N named workers, each with its own UDP socket and port.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;

use super::fault::Fault;
use super::sink::Sink;
use super::socket::{Path, Socket};
use super::tuning::Tuning;
use super::wake::Waker;
use super::worker::{Command, End, Transfer, Worker};
use super::{Progress, TransferError};
use crate::rudp::{Config, Connection, Direction, OFFER_LIFE, PACKET_LEN_IPV4, PACKET_LEN_IPV6, Role};
use crate::wire::message::{Secret, TransferId};

/// Ours: how far a sender may be ahead of the first gap. It is a bound on what is in flight, not memory: a receiver
/// writes what it gets straight to its place.
const WINDOW_BYTES: u64 = 8 << 20;

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

/// A file to send to whoever opens the connection with this key.
pub struct SendRequest {
    /// The transfer's number.
    pub id: TransferId,
    /// The key of its packets.
    pub key: Secret,
    /// The only address that may open it: that of the control session.
    pub peer: IpAddr,
    /// The open file.
    pub file: File,
    /// Its size in octets.
    pub size: u64,
    /// The round trip of the control session's login, for the first timers.
    pub rtt: Duration,
    /// Where the worker tells how far it is.
    pub progress: Arc<Progress>,
    /// Called once, on the worker's thread: must not block. `Ok` when the peer has acknowledged every octet.
    pub ended: Box<dyn FnOnce(Result<(), TransferError>) + Send>,
}

/// A file to receive from a server that has offered it.
pub struct ReceiveRequest {
    /// The transfer's number.
    pub id: TransferId,
    /// The key of its packets.
    pub key: Secret,
    /// The server's address with the port of the offer.
    pub server: SocketAddr,
    /// Where the octets go; it knows the size.
    pub sink: Sink,
    /// The round trip of the control session's login, for the first timers.
    pub rtt: Duration,
    /// How long to wait for an answer before [`TransferError::NoAnswer`].
    pub open_max: Duration,
    /// Where the worker tells how far it is.
    pub progress: Arc<Progress>,
    /// Called once, on the worker's thread: must not block. `Ok` gives the sink back with every octet written.
    pub ended: Box<dyn FnOnce(Result<Sink, TransferError>) + Send>,
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

    /// Hands a file to the least loaded worker and gives its port; the worker knows of it before any SYN can come.
    pub fn send(&self, request: SendRequest) -> u16 {
        let peer_ip = request.peer.to_canonical();
        let config = Config {
            role: Role::Server,
            direction: Direction::Send,
            open_max: OFFER_LIFE,
            ..self.config(request.id, request.key, request.size, request.rtt, peer_ip)
        };
        self.start_transfer(Transfer {
            id: request.id,
            connection: Connection::new(config, Instant::now()),
            peer_ip,
            path: None,
            end: End::Source(request.file, request.ended),
            progress: request.progress,
            failure: None,
            deadline: None,
            is_ready: false,
        })
    }

    /// Starts fetching a file.
    pub fn receive(&self, request: ReceiveRequest) {
        let peer_ip = request.server.ip().to_canonical();
        let config = Config {
            role: Role::Client,
            direction: Direction::Receive,
            open_max: request.open_max,
            ..self.config(request.id, request.key, request.sink.size(), request.rtt, peer_ip)
        };
        self.start_transfer(Transfer {
            id: request.id,
            connection: Connection::new(config, Instant::now()),
            peer_ip,
            path: Some(Path { peer: request.server, local: None }),
            end: End::Sink(request.sink, request.ended),
            progress: request.progress,
            failure: None,
            deadline: None,
            is_ready: false,
        });
    }

    /// What both ends have in common.
    fn config(&self, id: TransferId, key: Secret, size: u64, rtt: Duration, peer_ip: IpAddr) -> Config {
        let mut seed = [0; 8];
        // Without the system's randomness the numbers left out can be guessed; the seal holds all the same.
        let _ = getrandom::fill(&mut seed);
        let packet_len_max = if peer_ip.is_ipv4() { PACKET_LEN_IPV4 } else { PACKET_LEN_IPV6 };
        Config {
            role: Role::Client,
            direction: Direction::Receive,
            id,
            key,
            size,
            packet_len_max: self.tuning.packet_len_max.unwrap_or(packet_len_max).min(packet_len_max),
            window_bytes: WINDOW_BYTES,
            burst_len: self.burst_len,
            rtt_guess: rtt,
            open_max: OFFER_LIFE,
            arq: self.tuning.arq,
            controller: self.tuning.controller,
            granted: u64::MAX,
            seed: u64::from_ne_bytes(seed),
        }
    }

    fn start_transfer(&self, mut transfer: Transfer) -> u16 {
        if let Some(trace) = &self.tuning.trace {
            transfer.connection.set_trace(trace.of(transfer.id));
        }
        let least = self
            .workers
            .lock()
            .iter()
            .min_by_key(|worker| worker.load.load(Ordering::Relaxed))
            .map(Handle::line);
        let Some((commands, waker, port)) = least else {
            transfer.finish_unstarted();
            return 0;
        };
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
        let lines: Vec<_> = self.workers.lock().iter().map(Handle::line).collect();
        for (commands, waker, _) in lines {
            // A worker that is gone has no transfers.
            let _ = commands.send(Command::Cancel(id));
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
        let worker = Worker::new(socket, receiver, Arc::clone(&waker), Arc::clone(&load), fault);
        let thread = thread::Builder::new().name(format!("transfer-{index}")).spawn(move || worker.run())?;
        Ok(Handle { commands: sender, waker, load, port, thread })
    }

    /// What it takes to tell the worker something without holding the lock.
    fn line(&self) -> (Sender<Command>, Arc<Waker>, u16) {
        (self.commands.clone(), Arc::clone(&self.waker), self.port)
    }
}
