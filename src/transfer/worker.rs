//! One worker: an event loop over many transfers on one UDP socket. It never blocks but in `ppoll`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::TransferError;
use super::carried::Transfer;
use super::fault::{Fault, OnPath, Way};
use super::run::Run;
use super::socket::{DATAGRAM_LEN_MAX, Path, Socket};
use super::wake::Waker;
use crate::rudp::probe::Echo;
use crate::rudp::{ConnectionError, PACKET_LEN_IPV4, Receipt, State};
use crate::wire::message::TransferId;
use crate::wire::packet::{Header, Kind};

/// Ours: receive calls in one turn. With GRO each brings up to 64 packets; then the ACKs have to go out.
const RECEIVES_PER_TURN: usize = 4;

/// Ours: where each call brings one packet, so many make a turn. An ACK for every four would cost both ends more than the
/// packets do, and a receiver that has fallen behind would never catch up.
const PACKETS_PER_TURN: usize = 64;

/// Ours: batches that one transfer may send in one turn, so that a thousand others get theirs.
const BATCHES_PER_TURN: usize = 4;

/// How long a worker that has panicked stays away. Ours: one that does it again at once must not take a whole core.
const PANIC_PAUSE: Duration = Duration::from_millis(100);

/// What the pool tells a worker.
pub(super) enum Command {
    Start(Box<Transfer>),
    Cancel(TransferId),
    Grant(TransferId, u64),
    Probe(TransferId, Box<Probed>),
    EndProbe(TransferId),
}

/// Probes to be answered.
pub(super) struct Probed {
    pub(super) echo: Echo,
    /// Only from this address are they taken.
    pub(super) peer_ip: IpAddr,
    /// How many have come.
    pub(super) arrived: Arc<AtomicU32>,
}

/// A batch that the socket had no room for.
struct Blocked {
    path: Path,
    packets: Vec<u8>,
    segment_len: usize,
}

/// Ours: how far all senders of one worker together may be ahead of their first gaps. It is a bound on what is in flight,
/// not memory: a receiver writes what it gets straight to its place.
pub(super) const WINDOW_BYTES: u64 = 8 << 20;

/// However many transfers there are, each has room for two packets.
const WINDOW_BYTES_MIN: u64 = 2 * PACKET_LEN_IPV4 as u64;

/// The state of one worker's thread.
pub(super) struct Worker {
    socket: Socket,
    commands: Receiver<Command>,
    waker: Arc<Waker>,
    fault: Option<Fault>,
    transfers: HashMap<TransferId, Transfer>,
    probed: HashMap<TransferId, Probed>,
    /// How many of them share the window.
    receiving: usize,
    deadlines: BTreeSet<(Instant, TransferId)>,
    ready: VecDeque<TransferId>,
    blocked: Option<Blocked>,
    send_buffer: Vec<u8>,
    /// What has come of a file in this turn, and for which transfer.
    run: Run,
    joining: Option<TransferId>,
}

impl Worker {
    pub(super) fn new(
        socket: Socket,
        commands: Receiver<Command>,
        waker: Arc<Waker>,
        fault: Option<Fault>,
    ) -> Worker {
        Worker {
            socket,
            commands,
            waker,
            fault,
            transfers: HashMap::new(),
            probed: HashMap::new(),
            receiving: 0,
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            blocked: None,
            send_buffer: vec![0; DATAGRAM_LEN_MAX],
            run: Run::new(),
            joining: None,
        }
    }

    /// Works until the pool is gone, then ends every transfer. An error of ours costs those in its care at that moment,
    /// not the worker: their owners hear of it, and its socket and its queue stay.
    pub(super) fn run(mut self) {
        while catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            log::error!("a transfer worker has panicked: its {} transfers end", self.transfers.len());
            self.begin_anew();
            thread::sleep(PANIC_PAUSE);
        }
    }

    /// Nothing of what the panic has interrupted is trusted.
    fn begin_anew(&mut self) {
        for transfer in std::mem::take(&mut self.transfers).into_values() {
            // Telling its owner may be what panics.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(transfer)));
        }
        self.receiving = 0;
        self.deadlines.clear();
        self.ready.clear();
        self.blocked = None;
        self.send_buffer = vec![0; DATAGRAM_LEN_MAX];
        self.run.clear();
        self.joining = None;
        // What the interrupted turn was woken for may still wait in the channel: a command, or the end.
        self.waker.wake();
    }

    fn work(&mut self) {
        let mut receive_buffer = vec![0; DATAGRAM_LEN_MAX];
        loop {
            self.wait();
            self.waker.clear();
            if !self.take_commands() {
                break;
            }
            self.receive(&mut receive_buffer);
            self.pass_faults();
            self.write_run();
            self.fire_timers();
            self.serve();
        }
        for mut transfer in std::mem::take(&mut self.transfers).into_values() {
            transfer.connection.abort(ConnectionError::Cancelled);
            self.transmit(&mut transfer);
            transfer.poll_events();
        }
    }

    /// Waits for the socket, for the pool, or for the earliest deadline.
    fn wait(&mut self) {
        let deadline = self.deadlines.first().map(|&(at, _)| at);
        let deadline = deadline.into_iter().chain(self.fault.as_ref().and_then(Fault::poll_timeout)).min();
        let timeout = if self.ready.is_empty() || self.blocked.is_some() {
            deadline.map(|at| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let writable = if self.blocked.is_some() { PollFlags::OUT } else { PollFlags::empty() };
        let mut fds =
            [PollFd::new(&self.socket, PollFlags::IN | writable), PollFd::new(&*self.waker, PollFlags::IN)];
        // An interrupted wait is one that was short.
        let _ = poll(&mut fds, timeout.as_ref());
        if fds[0].revents().contains(PollFlags::OUT)
            && let Some(Blocked { path, packets, segment_len }) = self.blocked.take()
        {
            self.send(path, &packets, segment_len);
        }
    }

    /// `false` when the pool is gone.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Start(transfer)) => self.start(*transfer),
                Ok(Command::Cancel(id)) => self.cancel(id),
                Ok(Command::Grant(id, granted)) => self.grant(id, granted),
                Ok(Command::Probe(id, probed)) => _ = self.probed.insert(id, *probed),
                Ok(Command::EndProbe(id)) => _ = self.probed.remove(&id),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn start(&mut self, mut transfer: Transfer) {
        if self.transfers.contains_key(&transfer.id) {
            log::warn!("transfer {}: its number is in use", transfer.id);
            transfer.finish(Err(TransferError::Lost("its number is in use".into())));
            return;
        }
        let id = transfer.id;
        self.receiving += usize::from(transfer.is_receiving());
        self.transfers.insert(id, transfer);
        self.make_ready(id);
    }

    fn grant(&mut self, id: TransferId, granted: u64) {
        if let Some(transfer) = self.transfers.get_mut(&id) {
            transfer.connection.grant(granted);
            self.make_ready(id);
        }
    }

    fn cancel(&mut self, id: TransferId) {
        if let Some(transfer) = self.transfers.get_mut(&id) {
            transfer.connection.abort(ConnectionError::Cancelled);
            self.make_ready(id);
        }
    }

    fn make_ready(&mut self, id: TransferId) {
        if let Some(transfer) = self.transfers.get_mut(&id)
            && !std::mem::replace(&mut transfer.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        let (mut receives, mut packets) = (0, 0);
        while receives < RECEIVES_PER_TURN || packets < PACKETS_PER_TURN {
            let Some(received) = self.socket.recv(buffer) else { return };
            let now = Instant::now();
            receives += 1;
            packets += received.len.div_ceil(received.segment_len);
            for packet in buffer[..received.len].chunks_mut(received.segment_len) {
                match &mut self.fault {
                    Some(fault) => fault.enter(now, Way::In, received.path, packet),
                    None => self.handle_datagram(now, received.path, packet),
                }
            }
        }
    }

    /// Lets go of what has been on the simulated path long enough.
    fn pass_faults(&mut self) {
        let now = Instant::now();
        while let Some(OnPath { way, path, mut datagram }) =
            self.fault.as_mut().and_then(|fault| fault.leave(now))
        {
            match way {
                Way::In => self.handle_datagram(now, path, &mut datagram),
                // What does not fit the socket's buffer is one more loss.
                Way::Out => _ = self.socket.send(path, &datagram, datagram.len()),
            }
        }
    }

    fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &mut [u8]) {
        let Ok(header) = Header::parse(datagram) else { return };
        if header.kind == Kind::Probe {
            return self.answer_probe(now, path, header.id, datagram);
        }
        // What goes on with the file at hand, as most packets do, is looked up once.
        if self.joining != Some(header.id) && !self.make_way(&header, path) {
            return;
        }
        let Some(transfer) = self.transfers.get_mut(&header.id).filter(|transfer| transfer.is_from(path))
        else {
            return;
        };
        if transfer.handle_datagram(now, datagram, &mut self.run) == (Receipt::Accepted { newest: true }) {
            transfer.path = Some(path);
        }
        if !std::mem::replace(&mut transfer.is_ready, true) {
            self.ready.push_back(header.id);
        }
    }

    /// Ends the run of another file where this packet is one of a file that comes here; `false` where it is nobody's.
    fn make_way(&mut self, header: &Header, path: Path) -> bool {
        let receives = |worker: &Worker| {
            let transfer = worker.transfers.get(&header.id).filter(|transfer| transfer.is_from(path))?;
            Some(transfer.is_receiving())
        };
        // The SYN may be faster than the command that tells of its offer.
        let receives = receives(self).or_else(|| {
            self.take_commands();
            receives(self)
        });
        if receives == Some(true) {
            self.write_run();
            self.joining = Some(header.id);
        }
        receives.is_some()
    }

    /// Hands what has come of a file to the system, before another is gone on with or anything is acknowledged.
    fn write_run(&mut self) {
        if let Some(transfer) = self.joining.take().and_then(|id| self.transfers.get_mut(&id)) {
            transfer.write_run(&mut self.run);
        }
        // Whatever happens, none of it may get into another file.
        self.run.clear();
    }

    fn answer_probe(&mut self, now: Instant, path: Path, id: TransferId, datagram: &mut [u8]) {
        if !self.probed.contains_key(&id) {
            self.take_commands();
        }
        let Some(probed) = self.probed.get_mut(&id) else { return };
        if path.peer.ip().to_canonical() != probed.peer_ip || !probed.echo.answer(now, datagram) {
            return;
        }
        probed.arrived.fetch_add(1, Ordering::Relaxed);
        // What the socket has no room for is lost, as on any path.
        if self.blocked.is_none() {
            self.send(path, datagram, datagram.len());
        }
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(transfer) = self.transfers.get_mut(&id) {
                transfer.deadline = None;
                transfer.connection.handle_timeout(now);
            }
            self.make_ready(id);
        }
    }

    /// Gives every transfer that has something to do its turn.
    fn serve(&mut self) {
        for _ in 0..self.ready.len() {
            if self.blocked.is_some() {
                return;
            }
            let Some(id) = self.ready.pop_front() else { return };
            let Some(mut transfer) = self.transfers.remove(&id) else { continue };
            transfer.is_ready = false;
            self.share_window(&mut transfer);
            let wants_more = self.transmit(&mut transfer);
            self.poll_events(&mut transfer);
            let deadline = transfer.connection.poll_timeout();
            self.set_deadline(&mut transfer, deadline);
            if transfer.connection.state() == State::Closed && !wants_more {
                log::debug!("transfer {id}: closed, {:?}", transfer.connection.stats());
                continue;
            }
            self.transfers.insert(id, transfer);
            if wants_more {
                self.make_ready(id);
            }
        }
    }

    /// Gives a transfer its part of the window: as much as every other has.
    fn share_window(&self, transfer: &mut Transfer) {
        let window_bytes = (WINDOW_BYTES / self.receiving.max(1) as u64).max(WINDOW_BYTES_MIN);
        if transfer.window_bytes != window_bytes && transfer.is_receiving() {
            transfer.window_bytes = window_bytes;
            transfer.connection.set_window(window_bytes);
        }
    }

    fn poll_events(&mut self, transfer: &mut Transfer) {
        let was_receiving = transfer.is_receiving();
        transfer.poll_events();
        self.receiving -= usize::from(was_receiving && !transfer.is_receiving());
    }

    /// Sends what a transfer has to send; tells whether there may be more.
    fn transmit(&mut self, transfer: &mut Transfer) -> bool {
        // The buffer is lent out so that `send` may borrow the rest of the worker.
        let mut buffer = std::mem::take(&mut self.send_buffer);
        let mut batches = 0;
        let wants_more = loop {
            if batches == BATCHES_PER_TURN || self.blocked.is_some() {
                break true;
            }
            let Some((len, segment_len)) =
                transfer.poll_transmit(&mut buffer, self.socket.batch_packets_max())
            else {
                break false;
            };
            batches += 1;
            // Without an address nothing was heard of the peer, and nothing is to be said to it.
            if let Some(path) = transfer.path {
                self.send(path, &buffer[..len], segment_len);
            }
        };
        self.send_buffer = buffer;
        wants_more
    }

    fn send(&mut self, path: Path, packets: &[u8], segment_len: usize) {
        if let Some(fault) = &mut self.fault {
            let now = Instant::now();
            packets.chunks(segment_len).for_each(|packet| fault.enter(now, Way::Out, path, packet));
        } else if !self.socket.send(path, packets, segment_len) {
            self.blocked = Some(Blocked { path, packets: packets.to_vec(), segment_len });
        }
    }

    fn set_deadline(&mut self, transfer: &mut Transfer, deadline: Option<Instant>) {
        if transfer.deadline == deadline {
            return;
        }
        if let Some(old) = transfer.deadline.take() {
            self.deadlines.remove(&(old, transfer.id));
        }
        if let Some(at) = deadline {
            self.deadlines.insert((at, transfer.id));
        }
        transfer.deadline = deadline;
    }
}
